package await

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// asleep are the functions of tests that may sleep although no bubble is to be seen around
// them, as "file: function", and why.
var asleep = map[string]string{
	"bench/config_test.go: BenchmarkConfig":                                          "look-ups come at a pace",
	"bench/later_test.go: marking":                                                   "dead letters whose time must be over",
	"bench/later_test.go: newRequestQueue":                                           "a queue that takes its time is what is measured",
	"bench/outage_test.go: BenchmarkRate":                                            "senders and replayers that come at a pace",
	"bench/outage_test.go: BenchmarkRecovery":                                        "a schedule's ticks",
	"bench/outage_test.go: newPatient":                                               "a receiver that takes its time is what is measured",
	"bench/receiver_test.go: newReceiver":                                            "a receiver that takes its time is what is measured",
	"internal/lambdahost/host_test.go: hostToBeKilled":                               "a process that waits to be killed",
	"lib/config/fake_test.go: begin":                                                 "in bubbles, through an interface",
	"lib/dlq/batcher_test.go: AddBatch":                                              "in a bubble, through an interface",
	"lib/journal/keeper_world_test.go: later":                                        "in bubbles, of inBubble",
	"lib/flow/key_test.go: Take":                                                     "in bubbles, through an interface",
	"lib/flow/share_test.go: Swap":                                                   "in bubbles, through an interface",
	"lib/replay/concurrent_test.go: TestRunsCanceledAtAnyMomentLoseAndRepeatNothing": "sends of random length, so that runs end at any moment",
	"lib/replay/death_test.go: tick":                                                 "in bubbles, as a method whose name others have too",
	"lib/replay/journal_world_test.go: operate":                                      "in bubbles, as a method",
	"lib/replay/expire_test.go: Claim":                                               "in bubbles, through an interface",
	"lib/replay/expire_test.go: Settle":                                              "in bubbles, through an interface",
	"lib/replay/cancel_test.go: Update":                                              "in bubbles, through an interface",
	"lib/retry/expiry_test.go: Ask":                                                  "in bubbles, through an interface",
	"lib/retry/expiry_test.go: takes":                                                "in bubbles, through an interface",
	"lib/replay/deadline_test.go: Settle":                                            "in bubbles, through an interface",
	"lib/sinks/email/conformance_test.go: message":                                   "a server that answers slowly",
}

// A test that sleeps hopes. It may where testing/synctest holds the clock; elsewhere a
// channel, or this package, waits for the fact. (The linter sees to all that is no test.)
func TestTestsSleepInBubblesOnly(t *testing.T) {
	folders := map[string][]*ast.File{}
	fset := token.NewFileSet()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && path != root && (strings.HasPrefix(e.Name(), ".") || e.Name() == "build" || e.Name() == "node_modules"):
			return filepath.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg := filepath.Dir(path) + " " + f.Name.Name
		f.Name.Name = filepath.ToSlash(name) // what sleeps is reported by its file
		folders[pkg] = append(folders[pkg], f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(folders) < 20 {
		t.Fatalf("%d folders with tests: they are not all of them", len(folders))
	}
	unused := maps.Clone(asleep)
	for _, files := range folders {
		for _, s := range sleepers(files) {
			if _, ok := asleep[s]; !ok {
				t.Errorf("%s sleeps in real time: wait for what it needs (package await), or use testing/synctest", s)
			}
			delete(unused, s)
		}
	}
	for s := range unused {
		t.Errorf("%s sleeps no longer: take it off the list", s)
	}
}

// sleepers returns the functions of a folder's tests, as "file: function", that call
// time.Sleep where no bubble is to be seen. One is seen around a function literal that is
// given to synctest.Test, around the other literals of a function that calls it, and
// around functions that are named only in bubbles.
func sleepers(files []*ast.File) []string {
	var all []*function
	for _, f := range files {
		for _, d := range f.Decls {
			fn := &function{file: f.Name.Name, named: map[string]bool{}}
			if d, ok := d.(*ast.FuncDecl); ok {
				fn.name = d.Name.Name
			}
			fn.read(d)
			if strings.HasPrefix(path.Base(fn.file), "example") {
				clear(fn.named) // what examples call is the library's, of the same name at most
			}
			all = append(all, fn)
		}
	}
	for settled := false; !settled; {
		settled = true
		for _, fn := range all {
			if !fn.bubbled && fn.onlyInBubbles(all) {
				fn.bubbled, settled = true, false
			}
		}
	}
	var out []string
	for _, fn := range all {
		if !fn.bubbled && (fn.sleeps || fn.sleepsLater && !fn.opens) {
			out = append(out, fmt.Sprintf("%s: %s", fn.file, fn.name))
		}
	}
	slices.Sort(out)
	return out
}

// function is a declaration.
type function struct {
	file, name  string
	sleeps      bool            // outside of bubbles and literals
	sleepsLater bool            // in a literal that is given to something else
	opens       bool            // a bubble
	named       map[string]bool // what it names, and whether it does so in bubbles only
	bubbled     bool            // it is named in bubbles only
}

func (fn *function) onlyInBubbles(all []*function) bool {
	named := false
	for _, other := range all {
		inBubble, ok := other.named[fn.name]
		if !ok || other == fn {
			continue
		}
		if !inBubble && !other.bubbled {
			return false
		}
		named = true
	}
	return named
}

func (fn *function) read(d ast.Decl) {
	bubbles := map[ast.Node]bool{}
	var within []ast.Node
	ast.Inspect(d, func(n ast.Node) bool {
		if n == nil {
			within = within[:len(within)-1]
			return true
		}
		within = append(within, n)
		bubble := slices.ContainsFunc(within, func(n ast.Node) bool { return bubbles[n] })
		switch n := n.(type) {
		case *ast.CallExpr:
			switch callee(n) {
			case "synctest.Test":
				fn.opens = true
				for _, a := range n.Args {
					bubbles[a] = true
				}
			case "time.Sleep":
				later := slices.ContainsFunc(within, func(n ast.Node) bool { _, ok := n.(*ast.FuncLit); return ok })
				fn.sleeps = fn.sleeps || !bubble && !later
				fn.sleepsLater = fn.sleepsLater || !bubble && later
			}
		case *ast.Ident:
			if f, ok := d.(*ast.FuncDecl); ok && n == f.Name {
				break
			}
			only, ok := fn.named[n.Name]
			fn.named[n.Name] = bubble && (only || !ok)
		}
		return true
	})
}

// callee is the function that is called, as package.name.
func callee(c *ast.CallExpr) string {
	s, ok := c.Fun.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	pkg, ok := s.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return pkg.Name + "." + s.Sel.Name
}

func TestASleepIsSeen(t *testing.T) {
	for name, tt := range map[string]struct {
		source string
		want   []string
	}{
		"in a test":                             {`func TestA(t *testing.T) { time.Sleep(1) }`, []string{"x: TestA"}},
		"in a bubble":                           {`func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { time.Sleep(1) }) }`, nil},
		"beside a bubble":                       {`func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) {}); time.Sleep(1) }`, []string{"x: TestA"}},
		"in a fake's function for a bubble":     {`func TestA(t *testing.T) { f := func() { time.Sleep(1) }; synctest.Test(t, func(t *testing.T) { f() }) }`, nil},
		"in a fake's function without a bubble": {`func TestA(t *testing.T) { f := func() { time.Sleep(1) }; f() }`, []string{"x: TestA"}},
		"in a function of bubbles": {`func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { rest() }) }
			func rest() { deep() }; func deep() { time.Sleep(1) }`, nil},
		"in a function that is a bubble": {`func TestA(t *testing.T) { synctest.Test(t, rest) }; func rest(t *testing.T) { time.Sleep(1) }`, nil},
		"in a function that is called elsewhere too": {`func TestA(t *testing.T) { synctest.Test(t, func(t *testing.T) { rest() }) }
			func TestB(t *testing.T) { rest() }; func rest() { time.Sleep(1) }`, []string{"x: rest"}},
		"in a method that nobody names": {`func (f *fake) Send() { time.Sleep(1) }`, []string{"x: Send"}},
		"in a variable's function":      {`var rest = func() { time.Sleep(1) }`, []string{"x: "}},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := parser.ParseFile(token.NewFileSet(), "", "package x\n"+tt.source, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			if got := sleepers([]*ast.File{f}); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
