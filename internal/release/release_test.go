package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository is a copy of a project that can be released: what a release reads, with small
// programs. It is committed.
func repository(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write := func(content string, path ...string) {
		t.Helper()
		name := filepath.Join(append([]string{root}, path...)...)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copied := []string{"Makefile", "LICENSE", ".gitignore", "go.mod", "go.sum"}
	for _, name := range []string{"main.go", "release.go", "changelog.go", "archive.go"} { // what its make release runs
		copied = append(copied, filepath.Join("internal", "release", name))
	}
	for _, name := range copied {
		b, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		write(string(b), name)
	}
	write("# Changelog\n\n## Unreleased\n\n- A thing.\n", "CHANGELOG.md")
	for _, name := range []string{"functions/send", "functions/replay", "functions/dlq-api", "cmd/backstop"} {
		write("package main\n\nfunc main() {}\n", name, "main.go")
	}
	git(t, root, "init", "--quiet", "--initial-branch=main")
	git(t, root, "config", "user.name", "Somebody")
	git(t, root, "config", "user.email", "somebody@example.org")
	git(t, root, "add", "--all")
	git(t, root, "commit", "--quiet", "--message", "All of it")
	return root
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// makeRelease runs a release and returns what it said.
func makeRelease(t *testing.T, root, version string, dry bool) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := (&release{
		root: root, version: version, dry: dry, today: today, out: &out, architectures: allArchitectures, platforms: allPlatforms,
	}).run(t.Context())
	return out.String(), err
}

// state is what a release that is refused must not change.
func state(t *testing.T, root string) string {
	t.Helper()
	return git(t, root, "rev-parse", "HEAD") + git(t, root, "status", "--porcelain") + git(t, root, "tag", "--list")
}

func TestWhatCannotBeReleasedIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, version string
		prepare       func(t *testing.T, root string)
		err           string
	}{
		{"no version", "", nil, "want a semantic version"},
		{"no v", "1.2.3", nil, "want a semantic version"},
		{"half a version", "v1.2", nil, "want a semantic version"},
		{"a leading zero", "v1.02.3", nil, "want a semantic version"},
		{"build metadata, which Go leaves out", "v1.2.3+linux", nil, "want a semantic version"},
		{"an option", "-v1.2.3", nil, "want a semantic version"},
		{"another major version than the module path", "v2.0.0", nil, "module path in go.mod"},
		{"a changed file", "v1.2.3", func(t *testing.T, root string) {
			t.Helper()
			addTo(t, root, "CHANGELOG.md", "- Another.\n")
		}, "not committed:\nM CHANGELOG.md"},
		{"a file that git does not know", "v1.2.3", func(t *testing.T, root string) {
			t.Helper()
			addTo(t, root, "new.go", "package main\n")
		}, "not committed:\n?? new.go"},
		{"a tag that exists", "v1.2.3", func(t *testing.T, root string) {
			t.Helper()
			git(t, root, "tag", "v1.2.3")
		}, "the tag v1.2.3 exists"},
		{"nothing new", "v1.2.3", func(t *testing.T, root string) {
			t.Helper()
			addTo(t, root, "CHANGELOG.md", "\n## v1.0.0 - 2026-01-01\n\n- Old.\n")
			git(t, root, "commit", "--quiet", "--all", "--message", "Old")
			replace(t, root, "CHANGELOG.md", "- A thing.\n", "")
			git(t, root, "commit", "--quiet", "--all", "--message", "Nothing")
		}, "nothing to release"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			root := repository(t)
			if c.prepare != nil {
				c.prepare(t, root)
			}
			before := state(t, root)
			if _, err := makeRelease(t, root, c.version, false); err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if after := state(t, root); after != before {
				t.Errorf("the repository is\n%s, was\n%s", after, before)
			}
		})
	}
}

func TestAReleaseThatDoesNotBuildLeavesNothing(t *testing.T) {
	root := repository(t)
	addTo(t, root, "functions/send/main.go", "\nvar x int = \"no number\"\n")
	git(t, root, "commit", "--quiet", "--all", "--message", "A fault")
	before := state(t, root)
	if _, err := makeRelease(t, root, "v1.2.3", false); err == nil || !strings.Contains(err.Error(), "no number") {
		t.Errorf("error %v, want the compiler's", err)
	}
	if after := state(t, root); after != before {
		t.Errorf("the repository is\n%s, was\n%s", after, before)
	}
}

func addTo(t *testing.T, root, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(root, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func replace(t *testing.T, root, name, old, new string) {
	t.Helper()
	path := filepath.Join(root, name)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s has no %q", name, old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}
