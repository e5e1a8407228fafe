package stack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a fenced block of commands. Those marked "sh aws" need an AWS account.
var block = regexp.MustCompile("(?ms)^```sh( aws)?\n(.*?)^```$")

// commands returns the commands of a page that need no AWS account.
func commands(t *testing.T, page string) []string {
	t.Helper()
	var out []string
	for _, b := range block.FindAllStringSubmatch(read(t, "docs", page), -1) {
		if b[1] != "" {
			continue
		}
		for line := range strings.Lines(b[2]) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				out = append(out, line)
			}
		}
	}
	return out
}

// runbook runs what the runbook tells its reader to run, on the one dead letter of the
// sink "dead".
func (w *world) runbook(t *testing.T) {
	t.Helper()
	cli := filepath.Join(t.TempDir(), "backstop")
	build := exec.Command("go", "build", "-o", cli, "./cmd/backstop")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, page := w.http(t, "GET", "/v1/dlq/items?sink=dead", "")
	items, _ := page["items"].(list)
	if len(items) != 1 {
		t.Fatalf("dead letters of the sink: %v, want one", page)
	}
	fill := strings.NewReplacer("REDRIVE_QUEUE_URL", w.queue("Redrive"), "QUEUE_URL", w.queue("Messages"), "SINK", "dead", "ID", text(obj(items[0])["id"]))
	lines := commands(t, "runbook.md")
	if len(lines) < 15 {
		t.Errorf("only %d commands: %q", len(lines), lines)
	}
	for _, line := range lines {
		words := strings.Fields(fill.Replace(line))
		if words[0] != "backstop" {
			t.Errorf("%s: nothing runs this", line)
			continue
		}
		cmd := exec.CommandContext(t.Context(), cli, words[1:]...)
		cmd.Dir = filepath.Join("..", "..")
		cmd.Env = append(os.Environ(), "BACKSTOP_API="+w.api, "AWS_ENDPOINT_URL_SQS="+w.moto, "AWS_REGION="+region,
			"AWS_ACCESS_KEY_ID=operator", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}
}

// Every other command of the deployment's pages needs AWS, and says so.
func TestCommandsOfTheDeploymentPagesAreRunOrMarked(t *testing.T) {
	ran := map[string]bool{ // by the tests named
		"make template":                       true, // CI's lint
		"make smoke-aws STACK=backstop-dev":   true, // TestTheSmokeTestSaysWhatItNeeds
		"go build -o backstop ./cmd/backstop": true, // runbook
	}
	for _, page := range []string{"deploy.md", "verified-on-aws.md", "architecture.md", "metrics.md"} {
		for _, line := range commands(t, page) {
			if !ran[line] {
				t.Errorf("docs/%s: %q is run by no test; mark its block \"sh aws\" if it needs an account", page, line)
			}
		}
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
		return strings.Contains(read(t, "docs", "metrics.md"), "| `"+name+"` |")
	}
	for _, page := range []string{"deploy.md", "runbook.md"} {
		for _, m := range parameter.FindAllStringSubmatch(read(t, "docs", page), -1) {
			if !known(m[1]) {
				t.Errorf("docs/%s names %s, which is no parameter, output, resource or metric", page, m[1])
			}
		}
	}
}

// Links between the pages lead somewhere.
func TestLinksOfThePagesLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]*)(#[\w-]+)?\)`)
	for _, page := range []string{"deploy.md", "runbook.md", "architecture.md", "metrics.md", "verified-on-aws.md"} {
		for _, m := range link.FindAllStringSubmatch(read(t, "docs", page), -1) {
			target := page
			if m[1] != "" {
				target = m[1]
			}
			b, err := os.ReadFile(filepath.Join("..", "..", "docs", target))
			if info, serr := os.Stat(filepath.Join("..", "..", "docs", target)); err != nil && (serr != nil || !info.IsDir()) {
				t.Errorf("docs/%s: %s: %v", page, m[0], err)
				continue
			}
			if m[2] == "" {
				continue
			}
			found := false
			for line := range strings.Lines(string(b)) {
				found = found || strings.HasPrefix(line, "#") && "#"+anchor(strings.TrimLeft(line, "# ")) == m[2]
			}
			if !found {
				t.Errorf("docs/%s: %s has no heading %s", page, target, m[2])
			}
		}
	}
}

// Without a stack or credentials it says so at once, and touches nothing.
func TestTheSmokeTestSaysWhatItNeeds(t *testing.T) {
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
