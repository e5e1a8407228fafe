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

// Commands stand in fenced blocks ("sh aws" ones need an AWS account) and in indented ones.
var (
	fence   = regexp.MustCompile("^ *```(.*)$")
	program = regexp.MustCompile(`^(export \w+=|\w+=\S+ |\./|build/|scripts/|(make|go|backstop|curl|aws|sam|docker|pip|jq|redis-cli|git|npm|python3?|sudo|apt-get|cd|source)\b)`)
)

// documented is a command of a page.
type documented struct {
	line string // without a comment at its end
	aws  bool
}

// documentedCommands returns the commands of a page. In a block of shell every line is
// one; in a block of no language, what begins like one.
func documentedCommands(t *testing.T, page ...string) []documented {
	t.Helper()
	var out []documented
	language, inside := "", false
	for line := range strings.Lines(read(t, page...)) {
		line = strings.TrimRight(line, "\n")
		if m := fence.FindStringSubmatch(line); m != nil {
			language, inside = m[1], !inside
			continue
		}
		text, indented := strings.CutPrefix(line, "    ")
		if !inside && !indented {
			continue
		}
		command, _, _ := strings.Cut(text, "  #")
		command = strings.TrimSpace(strings.TrimPrefix(command, "$ "))
		shell := inside && strings.HasPrefix(language, "sh")
		if command == "" || strings.HasPrefix(command, "#") || !shell && (inside && language != "" || !program.MatchString(command)) {
			continue
		}
		out = append(out, documented{command, shell && language == "sh aws"})
	}
	return out
}

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
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "backstop"), "./cmd/backstop")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// shell runs a line of a page from the project's folder.
func shell(t *testing.T, line string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// operator is the environment of an operator of the world.
func (w *world) operator(cli string) []string {
	return []string{
		"PATH=" + cli + ":" + os.Getenv("PATH"), "BACKSTOP_API=" + w.api, "AWS_ENDPOINT_URL_SQS=" + w.moto, "AWS_ENDPOINT_URL_SSM=" + w.moto, "AWS_REGION=" + region,
		"AWS_ACCESS_KEY_ID=operator", "AWS_SECRET_ACCESS_KEY=secret", "AWS_EC2_METADATA_DISABLED=true",
		"REDRIVE=" + w.queue("Redrive"), "QUEUE=" + w.queue("Messages"),
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
	asks := regexp.MustCompile(`^backstop (dlq (replay --|discard)|config push|redrive send)`)
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
			"ops-slack~1795449913008-0", text(obj(items[0])["id"]), "2f6a54c1d001", text(obj(groups[0])["id"]), "ops-slack", "gone", "op-...", operation(),
			"push sinks/ ssm:/backstop/prod/sinks", "push config/sinks ssm:/operating/sinks", "/backstop/prod/sinks", runParameters["SinksPath"],
		).Replace(line)
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

// runBy says which test runs a command that stands outside the two pages whose commands
// are all run in TestTheDeployedStackWorks, or that CI runs it.
var runBy = map[string]string{
	"make demo":                           "ci",
	"make bench":                          "ci", // some of it
	"make test":                           "ci",
	"make template":                       "ci", // in make lint
	"make smoke-aws STACK=backstop-dev":   "TestTheSmokeTestSaysWhatItNeeds",
	"go build -o backstop ./cmd/backstop": "TestTheDeployedStackWorks",
	"export BACKSTOP_API=https://abc123.execute-api.eu-central-1.amazonaws.com": "TestTheDeployedStackWorks",
}

// Every command of the README and of docs is run by a test, or is marked as needing AWS.
func TestEveryCommandIsRunOrNeedsAWS(t *testing.T) {
	tests := definedTests(t)
	ci := read(t, ".ci", "run") + read(t, "Makefile")
	for line, by := range runBy {
		target, _ := strings.CutPrefix(line, "make ")
		if by == "ci" && !regexp.MustCompile(`(?m)(^make|^lint:.*) `+target+`\b`).MatchString(ci) || by != "ci" && !tests[by] {
			t.Errorf("%s: nothing is called %s", line, by)
		}
	}
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, path := range append(pages, filepath.Join("..", "..", "README.md")) {
		page, err := filepath.Rel(filepath.Join("..", ".."), path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range documentedCommands(t, page) {
			seen++
			if c.aws || runBy[c.line] != "" {
				continue
			}
			var by bool
			switch page {
			case filepath.Join("docs", "runbook.md"), filepath.Join("docs", "operating.md"):
				by = strings.HasPrefix(c.line, "backstop ")
			case "README.md":
				by = regexp.MustCompile(`^(backstop|curl|build/backstop|aws lambda invoke --endpoint-url) `).MatchString(c.line)
			}
			if !by {
				t.Errorf("%s: %q is run by no test; mark its block \"sh aws\" if it needs an account", page, c.line)
			}
		}
	}
	if seen < 70 {
		t.Errorf("only %d commands seen", seen)
	}
}

// The check sees commands wherever a page may have them.
func TestCommandsAreSeenInEveryKindOfBlock(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	body := "```sh\none --flag  # why\n# no\n```\n```sh aws\ntwo\n```\n```\n$ curl x\noutput of it\n```\n\n    make three   # why\n    prose\n\n```yaml\nmake: four\n```\n"
	if err := os.WriteFile(page, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	rel, err := filepath.Rel(root, page)
	if err != nil {
		t.Fatal(err)
	}
	want := []documented{{"one --flag", false}, {"two", true}, {"curl x", false}, {"make three", false}}
	if got := documentedCommands(t, rel); !slices.Equal(got, want) {
		t.Errorf("commands %v, want %v", got, want)
	}
}

// definedTests returns the names of this package's tests.
func definedTests(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range files {
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllStringSubmatch(read(t, "internal", "stack", f), -1) {
			found[m[1]] = true
		}
	}
	return found
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
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("pages %v, error %v", pages, err)
	}
	for _, path := range pages {
		page := filepath.Base(path)
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
