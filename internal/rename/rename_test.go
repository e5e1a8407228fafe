package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A tree of a module that is called as its product is, in which everything stands that
// must change, and everything that must not.
var product = map[string]string{
	"go.mod": "module catcher // catcher\n\ngo 1.26.0\n\nrequire example.net/catcher v1.0.0\n",
	"bench/go.mod": "module catcher/bench\n\nrequire (\n\tcatcher v0.0.0 // catcher of the tree\n\tcatcher/lib/x v0.0.0\n\texample.net/catcher v1.0.0\n)\n\n" +
		"replace catcher => ../\n\nreplace example.net/catcher => ../catcher\n",
	"examples/own/go.mod": "module example.net/own\n\nrequire catcher v0.0.0\n\nreplace catcher => ../..\n",
	".golangci.yml": "module-path: catcher\nallow: [catcher/bundle, catcher/lib]\n- {pkg: catcher, desc: catcher imports nothing}\n" +
		"- {pkg: catcher/lib/replay$, desc: x}\n- pkg: catcher\n- {path: ^cmd/catcher/}\n",
	"bundle/bundle.go": "package bundle\n\nimport (\n\t\"fmt\"\n\n\tc \"catcher/client\"\n\t\"catcher/lib\"\n\t\"catcher/lib/x\"\n\t\"example.net/mid\"\n)\n\n" +
		"// Name is catcher's; see catcher/lib.\nconst Name = \"catcher\"\n\nvar all = fmt.Sprint(c.X, lib.X, x.X, mid.X, \"catcher/lib/x.Config\", \"catcher/1.0\", \"/catcher/lib\", \"catcher:dlq:lib\")\n",
	"client/client.go":         "package client\n\nconst X, Agent = 1, \"catcher/\" + \"2\"\n",
	"cmd/catcher/main.go":      "package main\n\nfunc main() {}\n",
	"lib/lib.go":               "package lib\n\nconst X = 2\n",
	"config/sinks/a.yaml":      "token: {ssm: /catcher/prod/token}\n",
	"scripts/x.sh":             "go build -o build/catcher catcher/cmd/catcher ./cmd/catcher && go vet catcher/... && CATCHER_HOME=~/catcher/lib build/catcher\n",
	"template.yaml":            "Default: catcher\nNamespace: Catcher\nName: /catcher/dev/sinks\n",
	"README.md":                "# Catcher\n\ncatcher catches; `catcher demo`, catcher/library, catcher/config, the-catcher/lib, lib/catcher/lib; import catcher/lib.\n\n    replace catcher => ../catcher\n    go mod edit -replace catcher=../catcher\n",
	"docs/image.png":           "\x89PNG\xff\"catcher/lib\"",
	"build/out.go":             "package out // catcher/lib\n",
	".git/config":              "catcher/lib\n",
	"examples/own/vendor/a.go": "package a // catcher/lib\n",
}

// renamed is what the module example.org/team/catcher has instead.
var renamed = map[string]string{
	"go.mod": "module example.org/team/catcher // catcher\n\ngo 1.26.0\n\nrequire example.net/catcher v1.0.0\n",
	"bench/go.mod": "module example.org/team/catcher/bench\n\nrequire (\n\texample.org/team/catcher v0.0.0 // catcher of the tree\n\texample.org/team/catcher/lib/x v0.0.0\n\texample.net/catcher v1.0.0\n)\n\n" +
		"replace example.org/team/catcher => ../\n\nreplace example.net/catcher => ../catcher\n",
	"examples/own/go.mod": "module example.net/own\n\nrequire example.org/team/catcher v0.0.0\n\nreplace example.org/team/catcher => ../..\n",
	".golangci.yml": "module-path: example.org/team/catcher\nallow: [example.org/team/catcher/bundle, example.org/team/catcher/lib]\n- {pkg: example.org/team/catcher, desc: catcher imports nothing}\n" +
		"- {pkg: example.org/team/catcher/lib/replay$, desc: x}\n- pkg: example.org/team/catcher\n- {path: ^cmd/catcher/}\n",
	"bundle/bundle.go": "package bundle\n\nimport (\n\t\"fmt\"\n\n\t\"example.net/mid\"\n\tc \"example.org/team/catcher/client\"\n\t\"example.org/team/catcher/lib\"\n\t\"example.org/team/catcher/lib/x\"\n)\n\n" +
		"// Name is catcher's; see example.org/team/catcher/lib.\nconst Name = \"catcher\"\n\nvar all = fmt.Sprint(c.X, lib.X, x.X, mid.X, \"example.org/team/catcher/lib/x.Config\", \"catcher/1.0\", \"/catcher/lib\", \"catcher:dlq:lib\")\n",
	"scripts/x.sh": "go build -o build/catcher example.org/team/catcher/cmd/catcher ./cmd/catcher && go vet example.org/team/catcher/... && CATCHER_HOME=~/catcher/lib build/catcher\n",
	"README.md":    "# Catcher\n\ncatcher catches; `catcher demo`, catcher/library, catcher/config, the-catcher/lib, lib/catcher/lib; import example.org/team/catcher/lib.\n\n    replace example.org/team/catcher => ../catcher\n    go mod edit -replace example.org/team/catcher=../catcher\n",
}

func TestOnlyThePathChanges(t *testing.T) {
	root := write(t, product)
	from, files, err := rename(root, "example.org/team/catcher")
	if err != nil || from != "catcher" || files != len(renamed) {
		t.Errorf("got %q, %d files, %v; want catcher, %d", from, files, err, len(renamed))
	}
	same(t, read(t, root), wanted())
	if from, files, err = rename(root, "example.org/team/catcher"); err != nil || from != "example.org/team/catcher" || files != 0 {
		t.Errorf("once more: got %q, %d files, %v; want no change", from, files, err)
	}
}

func wanted() map[string]string {
	all := maps.Clone(product)
	maps.Copy(all, renamed)
	return all
}

func TestARenameThatWasInterruptedIsCompleted(t *testing.T) {
	want := wanted()
	for n := range len(renamed) { // the files that were not reached, with go.mod among them
		half := maps.Clone(want)
		for _, name := range slices.Sorted(maps.Keys(renamed))[n:] {
			half[name] = product[name]
		}
		half["go.mod"] = product["go.mod"]
		root := write(t, half)
		if _, _, err := rename(root, "example.org/team/catcher"); err != nil {
			t.Fatal(err)
		}
		same(t, read(t, root), want)
	}
}

func TestAFileThatCannotBeReadChangesNothing(t *testing.T) {
	broken := maps.Clone(product)
	broken["lib/broken.go"] = "package lib\n\nimport \"catcher/lib/x\n"
	root := write(t, broken)
	if _, _, err := rename(root, "example.org/team/catcher"); err == nil || !strings.Contains(err.Error(), "lib/broken.go: 3:8: ") {
		t.Errorf("got %v, want the file and the line", err)
	}
	same(t, read(t, root), broken)
}

func TestAPathThatNobodyCanDownloadIsRefused(t *testing.T) {
	root := write(t, product)
	for path, want := range map[string]string{
		"":                             "empty string",
		"backstop":                     "missing dot in first path element",
		"team/backstop":                "missing dot in first path element",
		"https://example.org/backstop": "double slash",
		"git@example.org:backstop":     "invalid char '@'",
		"example.org/team/backstop/":   "trailing slash",
		"/example.org/backstop":        "empty path element", // the leading one
		"example.org//backstop":        "double slash",
		"example.org/team/../backstop": "invalid path element",
		"example.org/my team/backstop": "invalid char ' '",
		"example.org/$1/backstop":      "invalid char '$'",
		"example.org/backstop/v1":      "invalid version",
	} {
		_, _, err := rename(root, path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "want one such as example.org/team/") {
			t.Errorf("%q: got %v, want %s", path, err, want)
		}
	}
	same(t, read(t, root), product)
	if _, _, err := rename(t.TempDir(), "example.org/team/catcher"); err == nil || !strings.Contains(err.Error(), "run this in the module's root") {
		t.Errorf("in another folder: %v", err)
	}
	if err := run(nil); err == nil || !strings.Contains(err.Error(), "make rename MODULE=") {
		t.Errorf("without a path: %v", err)
	}
}

// What is lost at one rename would be missing after the next.
func TestThisTreeKeepsWhatIsNoPath(t *testing.T) {
	const first, second = "first.example/a/" + "catcher", "second.example/b/c/" + "thrower" // which nothing here is called
	direct, twice := copied(t), copied(t)
	before := read(t, direct)
	from := one(t, direct, second)
	one(t, twice, first)
	one(t, twice, second)
	after := read(t, direct)
	same(t, read(t, twice), after)

	changed := 0
	for name, text := range after {
		if text != before[name] {
			changed++
		}
		// Imports have another order.
		if got, want := sorted(strings.ReplaceAll(text, second, from)), sorted(before[name]); got != want {
			t.Errorf("%s: something else changed", name)
		}
	}
	if changed < 100 {
		t.Errorf("%d files changed", changed)
	}
}

func one(t *testing.T, root, path string) (from string) {
	t.Helper()
	from, _, err := rename(root, path)
	if err != nil {
		t.Fatal(err)
	}
	return from
}

func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// copied returns a copy of this tree.
func copied(t *testing.T) (root string) {
	t.Helper()
	const here = "../.."
	names, err := tree(os.DirFS(here))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(here, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(b)
	}
	return write(t, files)
}

func write(t *testing.T, files map[string]string) (root string) {
	t.Helper()
	root = t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func read(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		name, e := filepath.Rel(root, path)
		files[filepath.ToSlash(name)] = string(b)
		if err == nil {
			err = e
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %d files, want %d", len(got), len(want))
	}
}
