//go:build full

package stack_test

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"backstop/internal/inbox"
	"backstop/internal/local"
)

// commands returns the commands of a page that need no AWS account.
func commands(t *testing.T, page ...string) []string {
	t.Helper()
	var out []string
	for _, c := range documentedCommands(t, page...) {
		if !c.aws {
			out = append(out, c.line)
		}
	}
	return out
}

// buildCLI returns a folder with the CLI in it.
func buildCLI(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := local.BuildCLI(t.Context(), filepath.Join("..", ".."), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// shell runs a line of a page from the project's folder.
func shell(t *testing.T, line string, env ...string) string {
	t.Helper()
	out, err := typed(t, line, env)
	if err != nil {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
	return out
}

// refused is shell for a line that is refused as want says.
func refused(t *testing.T, line, want string, env ...string) {
	t.Helper()
	if out, err := typed(t, line, env); err == nil || !strings.Contains(out, want) {
		t.Errorf("%s: %v\n%s\nwant it refused: %s", line, err, out, want)
	}
}

func typed(t *testing.T, line string, env []string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// operator is the environment of an operator of the world.
func (w *world) operator(cli string) []string {
	return []string{
		"PATH=" + cli + ":" + os.Getenv("PATH"), "BACKSTOP_API=" + w.api, "AWS_ENDPOINT_URL_SQS=" + w.moto, "AWS_ENDPOINT_URL_SSM=" + w.moto, "AWS_REGION=" + region,
		"AWS_ACCESS_KEY_ID=operator", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true",
		"REDRIVE=" + w.queue("Redrive"), "QUEUE=" + w.queue("Messages"),
		"VISUAL=", "EDITOR=true", // who looks, and changes nothing
	}
}

// operating runs what a page tells an operator to type, on three dead letters of the
// sink "gone": those of one shipping. Where the operator would say yes, it does.
func (w *world) operating(t *testing.T, cli, shipping string, page ...string) {
	t.Helper()
	w.inbox.HTTP.Set("/gone", inbox.Always(inbox.Reply{Status: http.StatusNotFound}))
	ids := []string{"order-1001:" + shipping, "order-1002:" + shipping, "order-1003:" + shipping}
	for _, id := range ids {
		if status, out := w.http(t, "POST", "/v1/messages", message(id, "gone")); status != 202 {
			t.Fatalf("%d %v", status, out)
		}
	}
	w.inbox.HTTP.Heal("/gone")
	_, answer := w.http(t, "GET", "/v1/dlq/items?sink=gone", "")
	items, _ := answer["items"].(list)
	_, answer = w.http(t, "GET", "/v1/dlq/groups?sink=gone", "")
	groups, _ := answer["groups"].(list)
	if len(items) != 3 || len(groups) != 1 {
		t.Fatalf("items %v, groups %v, want three and one", items, groups)
	}
	operation := func() string {
		_, answer := w.http(t, "GET", "/v1/dlq/operations", "")
		all, _ := answer["operations"].(list)
		if len(all) == 0 {
			return "none"
		}
		return text(obj(all[0])["id"])
	}
	asks := regexp.MustCompile(`^backstop (dlq (replay --|discard|restore|erase)|config push|redrive send)`)
	ran := 0
	for _, line := range commands(t, page...) {
		if !strings.HasPrefix(line, "backstop ") {
			continue // TestEveryCommandIsRunOrNeedsAWS knows who runs it
		}
		ran++
		if asks.MatchString(line) && !strings.Contains(line, "--dry-run") {
			line += " --yes"
		}
		line = strings.NewReplacer(
			"ops-slack~1795449913008-0", text(obj(items[0])["id"]), "2f6a54c1d001", text(obj(groups[0])["id"]), "ops-slack", "gone", "ops-mail", "gone", "op-...", operation(),
			"sink test ops-slack --sinks sinks/", "sink test orders --sinks "+ownSinks(t),
			"push sinks/ ssm:/backstop/prod/sinks", "push "+ownSinks(t)+" ssm:/operating/sinks", "/backstop/prod/sinks", runParameters["SinksPath"],
		).Replace(line)
		if strings.HasPrefix(line, "backstop dlq operations resume ") {
			// Nothing stopped here; tests of the CLI resume what did.
			refused(t, line, "only a stopped operation is resumed", w.operator(cli)...)
			continue
		}
		shell(t, line, w.operator(cli)...)
	}
	if ran == 0 {
		t.Errorf("%v has no commands any more", page)
	}
	for _, id := range ids {
		if n := w.arrived(id); n != 1 {
			t.Errorf("%s arrived %d times after the replays, want once", id, n)
		}
	}
}

// ownSinks makes a folder of sinks as somebody has it, without a placeholder.
func ownSinks(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	sink := []byte("kind: webhook\nurl: https://hooks.acme-shipping.com/orders\n")
	if err := os.WriteFile(filepath.Join(dir, "orders.yaml"), sink, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The commands that the README says to try on this machine work.
func TestTheCommandsOfTheReadmeWork(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if err := local.Build(t.Context(), filepath.Join("..", ".."), bin); err != nil {
		t.Fatal(err)
	}
	s, err := local.Start(context.Background(), local.Options{Bin: bin, Samples: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	cli, out := buildCLI(t), filepath.Join(t.TempDir(), "out.json")
	fill := strings.NewReplacer("http://127.0.0.1:3000", s.APIURL, "http://127.0.0.1:3001", s.InvokeURL, "build/backstop", filepath.Join(cli, "backstop")+" ", "out.json", out)
	ran := 0
	for _, line := range commands(t, "README.md") {
		if !regexp.MustCompile(`^(curl|build/backstop|aws lambda)\b`).MatchString(line) {
			continue
		}
		ran++
		line = fill.Replace(line)
		if strings.Contains(line, "backstop  invoke") {
			line = strings.Replace(line, "invoke", "invoke --bin "+bin, 1)
		}
		got := shell(t, strings.Replace(line, "curl ", "curl -f ", 1), "AWS_DEFAULT_REGION="+region, "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_PAGER=")
		if strings.Contains(got, "FunctionError") {
			t.Errorf("%s: %s", line, got)
		}
	}
	if ran != 6 {
		t.Errorf("%d commands, want 6", ran)
	}
}

// runbook runs what the runbook tells its reader to run, on the one dead letter of the
// sink "dead".
func (w *world) runbook(t *testing.T, cli string) {
	t.Helper()
	_, page := w.http(t, "GET", "/v1/dlq/items?sink=dead", "")
	items, _ := page["items"].(list)
	if len(items) != 1 {
		t.Fatalf("dead letters of the sink: %v, want one", page)
	}
	fill := strings.NewReplacer("REDRIVE_QUEUE_URL", w.queue("Redrive"), "QUEUE_URL", w.queue("Messages"), "SINK", "dead", "ID", text(obj(items[0])["id"]))
	lines := commands(t, "docs", "runbook.md")
	if len(lines) < 15 {
		t.Errorf("only %d commands: %q", len(lines), lines)
	}
	for _, line := range lines {
		words := strings.Fields(fill.Replace(line))
		if words[0] != "backstop" {
			t.Errorf("%s: nothing runs this", line)
			continue
		}
		shell(t, strings.Join(words, " "), w.operator(cli)...)
	}
}

// Every parameter and output that a page names exists.
func TestPagesNameOnlyParametersAndOutputsThatExist(t *testing.T) {
	doc, err := transformed()
	if err != nil {
		t.Fatal(err)
	}
	parameter := regexp.MustCompile("`([A-Z][A-Za-z]*[a-z][A-Za-z]*)(?:=[^`]*)?`")
	known := func(name string) bool {
		for _, part := range []string{"Parameters", "Outputs", "Resources"} {
			if obj(doc[part])[name] != nil {
				return true
			}
		}
		ofOthers := []string{"MessageGroupId", "MessageId", "SendMessage", "SendMessageBatch", "Location"} // SQS, HTTP
		return slices.Contains(ofOthers, name) ||
			strings.Contains(read(t, "docs", "metrics.md"), "| `"+name+"` |")
	}
	for _, page := range []string{"deploy.md", "runbook.md"} {
		for _, m := range parameter.FindAllStringSubmatch(read(t, "docs", page), -1) {
			if !known(m[1]) {
				t.Errorf("docs/%s names %s, which is no parameter, output, resource or metric", page, m[1])
			}
		}
	}
}

// Without a stack or credentials it says so at once, and touches nothing.
func TestTheSmokeTestSaysWhatItNeeds(t *testing.T) {
	read(t, "scripts", "smoke-aws.sh") // which makes a result that the go command keeps one of this script
	for _, c := range []struct{ stack, want string }{
		{"", "make smoke-aws STACK=name"},
		{"backstop-dev", "no AWS credentials"},
	} {
		cmd := exec.CommandContext(t.Context(), filepath.Join("..", "..", "scripts", "smoke-aws.sh"), c.stack)
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AWS_EC2_METADATA_DISABLED=true", "AWS_REGION=" + region,
			"PYENV_VERSION=" + os.Getenv("PYENV_VERSION"), "PYENV_ROOT=" + os.Getenv("PYENV_ROOT"),
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("stack %q: %v, %q; want it to fail with %q", c.stack, err, out, c.want)
		}
	}
}
