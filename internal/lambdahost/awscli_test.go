//go:build full

package lambdahost_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"backstop/internal/lambdahost"
)

func TestTheAWSCLIInvokes(t *testing.T) {
	t.Parallel()
	cli, err := exec.LookPath("aws")
	if err != nil {
		t.Fatal("the AWS CLI is missing: install it with `pip install awscli` (the tests never skip)")
	}
	_, url := serveInvokeAPI(t, lambdahost.Options{}, lambdahost.Function{Name: "probe"})
	event, out := filepath.Join(t.TempDir(), "event.json"), filepath.Join(t.TempDir(), "out.json")
	if err := os.WriteFile(event, []byte(`{"do":"error"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), cli, "lambda", "invoke", "--endpoint-url", url, "--region", "us-east-1",
		"--function-name", "probe", "--log-type", "Tail", "--payload", "fileb://"+event, out)
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var meta struct {
		StatusCode                                int
		FunctionError, ExecutedVersion, LogResult string
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	tail, _ := base64.StdEncoding.DecodeString(meta.LogResult)
	if meta.StatusCode != 200 || meta.FunctionError != "Unhandled" || meta.ExecutedVersion != "$LATEST" || !strings.Contains(string(tail), "START RequestId") {
		t.Errorf("%+v, log %q", meta, tail)
	}
	if payload, err := os.ReadFile(out); err != nil || !strings.Contains(string(payload), `"errorType":"Refused"`) {
		t.Errorf("payload %s, %v", payload, err)
	}
}
