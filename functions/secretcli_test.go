package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"backstop/internal/local"
)

// The exit codes that the sweep meets, as `backstop --help` lists them.
const (
	exitDone         = 0
	exitFailed       = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitUnavailable  = 5
	exitUnauthorized = 6
)

// command builds the CLI, once.
var command = sync.OnceValues(func() (string, error) {
	return filepath.Join(binaries, "backstop"), local.BuildCLI(context.Background(), "..", binaries)
})

// operator runs the real CLI with secrets in its environment; all that it says goes to
// the sweep.
type operator struct {
	*sweep
	path string
	env  map[string]string
}

func newOperator(t *testing.T, sw *sweep, env ...string) operator {
	t.Helper()
	path, err := command()
	if err != nil {
		t.Fatal(err)
	}
	o := operator{sweep: sw, path: path, env: map[string]string{
		"PATH": os.Getenv("PATH"), "HOME": t.TempDir(),
		"AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1",
		"AWS_ACCESS_KEY_ID": "AKIDSWEEP", "AWS_SECRET_ACCESS_KEY": planted["AWS secret key"], "AWS_SESSION_TOKEN": planted["AWS session"],
	}}
	return o.with(env...)
}

// with returns an operator with more variables.
func (o operator) with(env ...string) operator {
	all := make(map[string]string, len(o.env)+len(env)/2)
	for k, v := range o.env {
		all[k] = v
	}
	for i := 0; i < len(env); i += 2 {
		all[env[i]] = env[i+1]
	}
	o.env = all
	return o
}

// run runs a command, wants its exit code and returns its standard output. The output of
// "dlq show" and "dlq export" may show what a caller sent: a dead letter in full.
func (o operator) run(t *testing.T, code int, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), o.path, args...)
	for k, v := range o.env {
		c.Env = append(c.Env, k+"="+v)
	}
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("backstop %q: %v", args, err)
	}
	if got := c.ProcessState.ExitCode(); got != code {
		t.Errorf("backstop %q: exit code %d, want %d\n%s%s", args, got, code, &out, &errs)
	}
	where := fmt.Sprintf("backstop %q", args)
	if full := args[0] == "dlq" && (args[1] == "show" || args[1] == "export"); full {
		where = "kept: " + where
	}
	o.add(where, out.String()+errs.String())
	return out.String()
}

// operate runs every command of the CLI that calls the API.
func (s swept) operate(t *testing.T, sinks []string) {
	t.Helper()
	// The token is for an authorizer that a local stack does not have.
	o := newOperator(t, s.sweep, "BACKSTOP_API", s.APIURL, "BACKSTOP_TOKEN", planted["API token"])
	for _, format := range []string{"table", "json"} {
		both := func(code int, args ...string) string { return o.run(t, code, append(args, "-o", format)...) }
		both(exitDone, "sinks")
		both(exitDone, "dlq", "list", "--limit", "200")
		both(exitDone, "dlq", "list", "--q", "webhook", "--reason", "terminal")
		both(exitDone, "dlq", "groups")
		both(exitDone, "dlq", "count")
		both(exitDone, "dlq", "operations")
		both(exitNotFound, "dlq", "show", "webhook-404~1-1")
		both(exitNotFound, "delivery", "webhook-404", "nobody-knows")
		both(exitNotFound, "send", "--sink", "nobody", "--body", "x")
		for _, sink := range []string{"webhook-401", "webhook-bad-certificate", "slack-404", "email-starttls", "faulty-04"} {
			args := []string{"send", "--sink", sink, "--id", "cli-" + format + "-" + sink, "--body", "x"}
			if strings.HasPrefix(sink, "email") {
				args = append(args, "--to", "c@d.example")
			}
			both(exitDone, args...) // dead-lettered: safe
			both(exitDone, "delivery", sink, "cli-"+format+"-"+sink)
		}
		both(exitUsage, "send", "--sink", "webhook-404", "--to", "http://u:"+callerToken+"@receiver.example/"+callerToken, "--body", "x")
	}
	o.run(t, exitDone, "dlq", "export")
	var list struct {
		Items []struct{ ID, Sink string }
	}
	if err := json.Unmarshal([]byte(o.run(t, exitDone, "dlq", "list", "--limit", "500", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, item := range list.Items {
		kind := strings.TrimRight(item.Sink, "0123456789")
		if seen[kind] {
			continue // one of each way to fail is enough
		}
		seen[kind] = true
		o.run(t, exitDone, "dlq", "show", item.ID)
		o.run(t, exitDone, "dlq", "show", item.ID, "-o", "json")
	}
	if len(seen) < 40 {
		t.Errorf("only %d kinds of dead letters were shown", len(seen))
	}
	for sink, code := range map[string]int{"webhook-404": exitFailed, "faulty-04": exitUnavailable} {
		i := slices.IndexFunc(list.Items, func(x struct{ ID, Sink string }) bool { return x.Sink == sink })
		o.run(t, code, "dlq", "replay", list.Items[i].ID)
	}
	o.run(t, exitDone, "sinks", "pause", sinks[0])
	o.run(t, exitDone, "sinks", "resume", sinks[0])
	o.run(t, exitDone, "dlq", "replay", "--sink", "webhook-404", "--dry-run")
	o.run(t, exitUsage, "dlq", "discard", "--sink", "webhook-404") // nobody to confirm it
	o.run(t, exitUsage, "sinks", "--api", "http://u:"+planted["API password"]+"@"+strings.TrimPrefix(s.APIURL, "http://"))
	o.run(t, exitUsage, "sinks", "--sign", "--token", planted["API token"])
}

// quote refuses as AWS services do that quote a request: API Gateway shows the headers
// that it expected to be signed, the session's token among them, and others the value
// that they cannot take.
func quote(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var headers bytes.Buffer
	_ = r.Header.Write(&headers)
	said := fmt.Sprintf("The request signature we calculated does not match. The Canonical String should have been '%s\n%s\n%s\n%s'", r.Method, r.URL, &headers, body)
	var in struct{ Value string }
	if json.Unmarshal(body, &in) == nil && in.Value != "" {
		said = "1 validation error detected: Value '" + in.Value + "' at 'value' failed to satisfy constraint"
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(http.StatusForbidden)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": "InvalidSignatureException", "message": said})
}
