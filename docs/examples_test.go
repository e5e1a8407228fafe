package docs_test

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// notRun names the examples that cannot be run, and why; all others end in an output that is
// compared.
var notRun = map[string]string{
	"bundle.Example":                  "the functions serve the platform and do not return",
	"lib/dlq/dlqtest.Example":         "the suite needs a *testing.T; TestTheExample runs it with what the example shows",
	"lib/journal/journaltest.Example": "the suite needs a *testing.T; TestTheExample runs it with what the example shows",
	"lib/sinks/sinktest.Example":      "the suite needs a *testing.T; TestTheExample runs it with what the example shows",
}

// What others import says what it is and where to start, and shows a use of it.
func TestEveryPublicPackageIsDescribedAndShown(t *testing.T) {
	packages := publicPackages(t)
	notRun := maps.Clone(notRun)
	for dir, p := range packages {
		if len(p.examples) == 0 {
			t.Errorf("%s has no Example", dir)
		}
		for _, fault := range p.faults() {
			t.Errorf("%s: %s", dir, fault)
		}
		for _, e := range p.examples {
			name := "Example" + e.Name
			if runs := e.Output != "" || e.EmptyOutput; runs == (notRun[dir+"."+name] != "") {
				t.Errorf("%s: %s is run: %v; notRun says otherwise", dir, name, runs)
			}
			delete(notRun, dir+"."+name)
		}
	}
	for name := range notRun {
		t.Errorf("notRun names %s, which does not exist", name)
	}
	if len(packages) < 14 {
		t.Errorf("only %d packages were found: %v", len(packages), slices.Sorted(maps.Keys(packages)))
	}
}

// public is a package that others can import.
type public struct {
	name     string
	comments []string // one for each file that has one
	examples []*doc.Example
}

// publicPackages reads the packages below lib, client and bundle that others can import: not the
// internal ones, and no commands.
func publicPackages(t *testing.T) map[string]*public {
	t.Helper()
	sources, tests := map[string][]*ast.File{}, map[string][]*ast.File{}
	set := token.NewFileSet()
	for _, root := range []string{"lib", "client", "bundle"} {
		err := filepath.WalkDir(filepath.Join("..", root), func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && entry.Name() == "internal":
				return fs.SkipDir
			case filepath.Ext(path) != ".go":
				return nil
			}
			file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			if err != nil {
				return err
			}
			dir, err := filepath.Rel("..", filepath.Dir(path))
			if err != nil {
				return err
			}
			dir = filepath.ToSlash(dir)
			if strings.HasSuffix(path, "_test.go") {
				tests[dir] = append(tests[dir], file)
			} else {
				sources[dir] = append(sources[dir], file)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	found := map[string]*public{}
	for dir, files := range sources {
		if files[0].Name.Name == "main" {
			continue
		}
		p := &public{name: files[0].Name.Name, examples: doc.Examples(tests[dir]...)}
		for _, file := range files {
			if file.Doc != nil {
				p.comments = append(p.comments, file.Doc.Text())
			}
		}
		found[dir] = p
	}
	return found
}

// faults says what a reader of the package's documentation would miss.
func (p *public) faults() []string {
	var out []string
	switch {
	case len(p.comments) != 1:
		out = append(out, "no file has the package's comment, or several have one")
	case !strings.HasPrefix(p.comments[0], "Package "+p.name+" ") || !strings.HasSuffix(new(doc.Package).Synopsis(p.comments[0]), "."):
		out = append(out, "the comment does not begin with a sentence on Package "+p.name)
	}
	for _, e := range p.examples {
		if e.Doc == "" {
			out = append(out, "Example"+e.Name+" does not say what it shows")
		}
		// Play is the program that a reader can copy.
		if e.Play == nil {
			out = append(out, "Example"+e.Name+" uses what another file declares: its reader cannot copy it")
		}
	}
	return out
}
