package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// planted is in every configured value: no output may have it.
const planted = "s3cr3t-value"

func hook(n string) string {
	return "kind: webhook\nurl: https://hooks.acme.test/" + planted + "/" + n + "\n"
}

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// noSecret checks that nothing configured is shown.
func (r result) noSecret(t *testing.T) {
	t.Helper()
	if strings.Contains(r.out+r.err, planted) {
		t.Errorf("a configured value is shown:\n%s%s", r.out, r.err)
	}
}

func TestConfigCheckNamesPlaceAndKey(t *testing.T) {
	good := folder(t, map[string]string{"ops.yaml": hook("1")})
	run(t, "config", "check", good).want(t, 0, "no faults", "")
	run(t, "config", "check", "file:"+good).want(t, 0, "no faults", "")

	bad := folder(t, map[string]string{"ops.yaml": "kind: webhook\nurll: https://" + planted + ".acme.test\n", "fine.yaml": hook("2")})
	r := run(t, "config", "check", bad)
	r.noSecret(t)
	r.want(t, 1, filepath.Join(bad, "ops.yaml")+":2:1: ops: urll: ", "2 faults found")
	if !strings.Contains(r.out, `did you mean "url"?`) {
		t.Errorf("no suggestion: %s", r.out)
	}

	r = run(t, "config", "check", bad, "-o", "json")
	r.noSecret(t)
	var got struct {
		Findings []struct {
			Sink, Key, Suggestion string
			Line                  int
		}
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || r.code != 1 || len(got.Findings) != 2 || got.Findings[0].Key != "urll" || got.Findings[0].Line != 2 || got.Findings[0].Suggestion != "url" {
		t.Errorf("exit code %d, JSON %s (%v)", r.code, r.out, err)
	}
	run(t, "config", "check", good, "-o", "json").want(t, 0, `{"findings":[]}`, "")
	run(t, "config", "check", filepath.Join(good, "nowhere")).want(t, 1, "", "no such file")
}

// A note says that a value may not be meant, and ends nothing.
func TestConfigCheckTellsNotesFromFaults(t *testing.T) {
	mail := "kind: email\nsmtp_addr: mx.acme.test:465\nfrom: a@acme.test\n"
	noted := folder(t, map[string]string{"mail.yaml": mail})
	run(t, "config", "check", noted).want(t, 0, filepath.Join(noted, "mail.yaml")+":1:1: note: mail: tls: ", "")
	run(t, "config", "check", noted).want(t, 0, "no faults", "")
	run(t, "config", "check", noted, "-o", "json").want(t, 0, `"note":true`, "")
	both := folder(t, map[string]string{"mail.yaml": mail, "ops.yaml": "kind: webhook\n"})
	run(t, "config", "check", both).want(t, 1, "note: mail: tls: ", "1 fault found")
	t.Setenv("AWS_REGION", "eu-west-1")
	run(t, "config", "push", noted, "ssm:/prod/sinks").want(t, exitUnauthorized, "note: mail: tls: ", "no AWS credentials were found") // it got that far
}

func TestConfigCheckNeedsCredentialsOnlyForParameters(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	dir := folder(t, map[string]string{"ops.yaml": "kind: webhook\nurl: {ssm: /prod/url}\n"})
	run(t, "config", "check", dir).want(t, exitUnauthorized, "", "no AWS credentials were found")
	run(t, "config", "check", "ssm:/prod/sinks").want(t, exitUnauthorized, "", "no AWS credentials were found")
}

func TestAServiceThatRepeatsTheValueIsNotQuoted(t *testing.T) {
	err := withoutValue(&types.ParameterPatternMismatchException{Message: aws.String("value '" + planted + "' is wrong")}, planted)
	if err == nil || strings.Contains(err.Error(), planted) || !strings.Contains(err.Error(), "[redacted]") {
		t.Errorf("got %v", err)
	}
}
