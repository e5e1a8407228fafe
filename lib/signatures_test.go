// Package lib_test holds what is true of all packages that others import.
package lib_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// A signature that names an internal type cannot be written down by those who import it. So
// no exported identifier of the packages for others may have one: not in a parameter, result,
// field, method, embedded type, constraint or alias, nor behind a type that is not exported.
func TestNoExportedSignatureNamesAnInternalType(t *testing.T) {
	t.Parallel()
	packages, err := load("../lib/...", "../client/...", "../bundle/...")
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) < 10 {
		t.Fatalf("%d packages were found", len(packages))
	}
	for _, p := range packages {
		for _, found := range exposed(p) {
			t.Errorf("%s", found)
		}
	}
}

// The check itself must bite.
func TestInternalTypesAreFoundWhereverTheyHide(t *testing.T) {
	t.Parallel()
	inner := check(t, nil, "example.org/x/internal/inner", `package inner
		type T struct{}
		type I interface{ M() }
		type G[E any] struct{}
	`)
	outer := check(t, inner, "example.org/x/outer", `package outer
		import "example.org/x/internal/inner"

		type unexported struct{ inner.T; Deep *hidden }
		type hidden struct{ X inner.T; y inner.T }
		type Fine struct{ t inner.T; f func(inner.T) }
		func (Fine) m(inner.T) {}
		func fine(inner.T) {}
		var unseen inner.T
		func Local() { var _ inner.T }

		func Parameter(inner.T) {}
		func Result() (int, *inner.T) { return 0, nil }
		func Variadic(...inner.T) {}
		func Behind() unexported { panic(0) }
		func Map(map[string][]inner.T) {}
		func Channel(chan func(inner.T)) {}
		func Constraint[E inner.I]() {}
		func Instance(inner.G[int]) {}
		func Argument(Generic[inner.T]) {}
		type Generic[E any] struct{ E E }
		type Field struct{ F inner.T }
		type Embedded struct{ inner.T }
		type Method struct{}
		func (*Method) M(inner.T) {}
		type Interface interface{ M(inner.T) }
		type Wide interface{ inner.I }
		type Alias = inner.T
		type List = []inner.T
		type Named []inner.T
		var Variable inner.T
		type embedding struct{ Embeds }
		type Embeds struct{ unexported }
	`)
	want := []string{
		"Alias", "Argument", "Behind", "Channel", "Constraint", "Embedded", "Embeds", "Field", "Instance", "Interface", "List",
		"Map", "Method", "Named", "Parameter", "Result", "Variable", "Variadic", "Wide",
	}
	var got []string
	for _, found := range exposed(outer) {
		name, _, _ := strings.Cut(strings.TrimPrefix(found, "example.org/x/outer."), " ")
		got = append(got, name)
		if !strings.Contains(found, "example.org/x/internal/inner.") {
			t.Errorf("%q does not name the type", found)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}

// load type-checks the packages that the patterns name, from what the compiler exported of
// them, internal ones left out.
func load(patterns ...string) ([]*types.Package, error) {
	var out, problems bytes.Buffer
	list := exec.Command("go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Export,DepOnly,Name"}, patterns...)...)
	list.Stdout, list.Stderr = &out, &problems
	if err := list.Run(); err != nil {
		return nil, fmt.Errorf("go list: %w: %s", err, problems.String())
	}
	exports := map[string]string{}
	var paths []string
	for d := json.NewDecoder(&out); ; {
		var p struct {
			ImportPath, Export, Name string
			DepOnly                  bool
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		if !p.DepOnly && !internal(p.ImportPath) && p.Export != "" { // a folder of tests alone exports nothing
			paths = append(paths, p.ImportPath)
		}
	}
	from := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	var packages []*types.Package
	for _, path := range paths {
		p, err := from.Import(path)
		if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
	return packages, nil
}

func internal(path string) bool { return slices.Contains(strings.Split(path, "/"), "internal") }

// exposed returns a line for each exported identifier of p that leads to an internal type.
func exposed(p *types.Package) []string {
	var lines []string
	for _, name := range p.Scope().Names() {
		o := p.Scope().Lookup(name)
		if !o.Exported() {
			continue
		}
		w := walk{home: p, seen: map[types.Type]bool{}}
		if t, ok := o.(*types.TypeName); ok && !t.IsAlias() {
			w.declared(o.Type())
		} else {
			w.visit(o.Type())
		}
		if w.found != nil {
			lines = append(lines, fmt.Sprintf("%s.%s names %s", p.Path(), name, w.found))
		}
	}
	return lines
}

// walk follows what one identifier of a package says.
type walk struct {
	home  *types.Package
	seen  map[types.Type]bool
	found *types.TypeName // the first internal type
}

// name looks at a type's name: an internal one is found, and one that home does not export
// is followed, since what is said with it is said by home.
func (w *walk) name(o *types.TypeName, follow func()) {
	switch {
	case o.Pkg() == nil: // error, any, comparable
	case internal(o.Pkg().Path()):
		if w.found == nil {
			w.found = o
		}
	case o.Pkg() == w.home && !o.Exported():
		follow()
	}
}

// declared looks at all that a type of home offers: what it is made of, and its methods.
func (w *walk) declared(t types.Type) {
	n, ok := t.(*types.Named)
	if !ok {
		w.visit(t)
		return
	}
	w.parameters(n.TypeParams())
	w.visit(n.Underlying())
	for m := range n.Methods() {
		if m.Exported() {
			w.visit(m.Type())
		}
	}
}

func (w *walk) parameters(list *types.TypeParamList) {
	for p := range list.TypeParams() {
		w.visit(p.Constraint())
	}
}

func (w *walk) visit(t types.Type) {
	if w.seen[t] {
		return
	}
	w.seen[t] = true
	switch t := t.(type) {
	case *types.Alias:
		w.name(t.Obj(), func() {})
		w.visit(t.Rhs())
		w.arguments(t.TypeArgs())
	case *types.Named:
		w.name(t.Obj(), func() { w.declared(t) })
		w.arguments(t.TypeArgs())
	case *types.Pointer:
		w.visit(t.Elem())
	case *types.Slice:
		w.visit(t.Elem())
	case *types.Array:
		w.visit(t.Elem())
	case *types.Chan:
		w.visit(t.Elem())
	case *types.Map:
		w.visit(t.Key())
		w.visit(t.Elem())
	case *types.Signature:
		w.parameters(t.TypeParams())
		w.visit(t.Params())
		w.visit(t.Results())
	case *types.Tuple:
		for v := range t.Variables() {
			w.visit(v.Type())
		}
	case *types.Struct:
		for f := range t.Fields() {
			if f.Exported() || f.Embedded() { // whose own fields and methods are the struct's
				w.visit(f.Type())
			}
		}
	case *types.Interface:
		for m := range t.ExplicitMethods() {
			if m.Exported() {
				w.visit(m.Type())
			}
		}
		for e := range t.EmbeddedTypes() {
			w.visit(e)
		}
	case *types.Union:
		for term := range t.Terms() {
			w.visit(term.Type())
		}
	}
}

func (w *walk) arguments(list *types.TypeList) {
	for t := range list.Types() {
		w.visit(t)
	}
}

// only is an importer that knows one package.
type only struct{ p *types.Package }

func (o only) Import(path string) (*types.Package, error) {
	if o.p == nil || o.p.Path() != path {
		return nil, fmt.Errorf("no package %s", path)
	}
	return o.p, nil
}

func check(t *testing.T, known *types.Package, path, source string) *types.Package {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "source.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := (&types.Config{Importer: only{known}}).Check(path, fset, []*ast.File{f}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
