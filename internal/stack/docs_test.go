package stack_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
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

// runBy says which test runs a command that stands outside the two pages whose commands
// are all run in TestTheDeployedStackWorks, or that CI runs it.
var runBy = map[string]string{
	"make demo":     "ci",
	"make bench":    "ci", // some of it
	"make test":     "ci",
	"make template": "ci", // in make test-full
	"make rename MODULE=example.org/team/backstop":                              "TestARenamedTreeBuilds",
	"make smoke-aws STACK=backstop-dev":                                         "TestTheSmokeTestSaysWhatItNeeds",
	"go build -o backstop ./cmd/backstop":                                       "TestTheDeployedStackWorks",
	"export BACKSTOP_API=https://abc123.execute-api.eu-central-1.amazonaws.com": "TestTheDeployedStackWorks",
}

// Every command of the README and of docs is run by a test, or is marked as needing AWS.
func TestEveryCommandIsRunOrNeedsAWS(t *testing.T) {
	tests := definedTests(t)
	ci := read(t, ".ci", "run") + read(t, "Makefile")
	for line, by := range runBy {
		target, _ := strings.CutPrefix(line, "make ")
		if by == "ci" && !regexp.MustCompile(`(?m)^(step make|test-full:.*) `+target+`\b`).MatchString(ci) || by != "ci" && !tests[by] {
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
			case filepath.Join("docs", "producing.md"):
				by = true // TestTheProducersOfThePageWork knows each
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
	files, err := filepath.Glob(filepath.Join("..", "*", "*_test.go"))
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

// read returns a file of the project.
func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// anchor is how the repository's page names a heading.
func anchor(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(heading)) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}
