package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func readAll(t *testing.T, files ...string) string {
	t.Helper()
	var all strings.Builder
	for _, file := range files {
		all.WriteString(read(t, file))
	}
	return all.String()
}

// What the page shows is compiled and tested in the example.
func TestEmbeddingShowsTheExamplesCode(t *testing.T) {
	code := readAll(t, "../examples/embedded/main.go", "../examples/embedded/hub/hub.go")
	blocks := strings.Split(read(t, "embedding.md"), "```go\n")[1:]
	if len(blocks) < 4 {
		t.Errorf("the page shows %d blocks of code", len(blocks))
	}
	for _, block := range blocks {
		if block, _, _ = strings.Cut(block, "\n```"); !strings.Contains(code, block) {
			t.Errorf("not in the example:\n%s", block)
		}
	}
}

// exported returns the names of a package: Name, and Type.Member for fields and methods.
func exported(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(files), err)
	}
	names := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names[receiver(d)+d.Name.Name] = true
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					note(names, spec)
				}
			}
		}
	}
	return names
}

// receiver returns "Type." for a method.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	of := d.Recv.List[0].Type
	if p, ok := of.(*ast.StarExpr); ok {
		of = p.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}

func note(names map[string]bool, spec ast.Spec) {
	var members *ast.FieldList
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		for _, name := range spec.Names {
			names[name.Name] = true
		}
	case *ast.TypeSpec:
		names[spec.Name.Name] = true
		switch of := spec.Type.(type) {
		case *ast.StructType:
			members = of.Fields
		case *ast.InterfaceType:
			members = of.Methods
		}
		if members == nil {
			return
		}
		for _, field := range members.List {
			for _, name := range field.Names {
				names[spec.Name.Name+"."+name.Name] = true
			}
		}
	}
}

// The table says where parsec's names live now: in packages that have them.
func TestTheNamesThatComeFromParsecExist(t *testing.T) {
	_, table, _ := strings.Cut(read(t, "embedding.md"), "| in parsec | here |")
	table, _, _ = strings.Cut(table, "\n\n")
	packages := map[string]map[string]bool{}
	for pkg, dir := range map[string]string{
		"sinks": "sinks", "fault": "fault", "retry": "retry", "dlq": "dlq", "replay": "replay",
		"email": "sinks/email", "slack": "sinks/slack", "webhook": "sinks/webhook",
	} {
		packages[pkg] = exported(t, filepath.Join("../lib", dir))
	}
	members := regexp.MustCompile("`([A-Z]\\w+\\.[A-Z]\\w+)`")
	qualified := regexp.MustCompile("`(" + strings.Join([]string{"sinks", "fault", "retry", "dlq", "replay", "email", "slack", "webhook"}, "|") + `)\.([A-Z]\w*)`)
	found := 0
	for row := range strings.Lines(table) {
		cells := strings.Split(row, " | ")
		if len(cells) < 3 {
			continue
		}
		here := strings.Join(cells[1:], " | ")
		for _, m := range qualified.FindAllStringSubmatch(here, -1) {
			found++
			if !packages[m[1]][m[2]] {
				t.Errorf("lib has no %s.%s", m[1], m[2])
			}
		}
		for _, m := range members.FindAllStringSubmatch(here, -1) {
			found++
			known := false
			for _, names := range packages {
				known = known || names[m[1]]
			}
			if !known {
				t.Errorf("lib has no %s", m[1])
			}
		}
	}
	if found < 40 {
		t.Errorf("%d names were found: the table is written in another way", found)
	}
}

var spaces = regexp.MustCompile(` +`)

// Each statement of the walk names tests that exist.
func TestTheTestsThatTheWalkNamesExist(t *testing.T) {
	walk := read(t, "../examples/embedded/contract/walk.md")
	sources := map[string]string{}
	rows := 0
	for line := range strings.Lines(walk) {
		cells := strings.Split(line, " | ")
		if len(cells) != 2 || !strings.Contains(cells[1], "`") {
			continue
		}
		rows++
		for _, m := range regexp.MustCompile("`([a-z/]+)` ([^;|]+)").FindAllStringSubmatch(cells[1], -1) {
			if sources[m[1]] == "" {
				files, err := filepath.Glob(filepath.Join("..", m[1], "*.go"))
				if err != nil || len(files) == 0 {
					t.Fatalf("%s: %d files, %v", m[1], len(files), err)
				}
				sources[m[1]] = readAll(t, files...)
			}
			names := strings.Split(strings.TrimSpace(m[2]), ", ")
			if strings.HasPrefix(m[2], `"`) { // a case of a suite
				names = []string{strings.TrimSpace(m[2])}
			}
			for _, name := range names {
				where := "func " + name + "("
				if strings.HasPrefix(name, `"`) {
					where = "Name: " + name + ","
				}
				if !strings.Contains(spaces.ReplaceAllString(sources[m[1]], " "), where) {
					t.Errorf("%s has no %s", m[1], name)
				}
			}
		}
	}
	if rows < 30 {
		t.Errorf("%d statements were found: the walk is written in another way", rows)
	}
}
