//go:build full

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Whoever publishes this tree under a path of their own has a tree that works.
func TestARenamedTreeBuilds(t *testing.T) {
	root := copied(t)
	const path = "zones.example/team/" + "backstop" // after the imports of other modules, where "backstop" is before them
	from := one(t, root, path)

	listed := command(t, root, "go", "list", "-deps", "-test", "./...")
	if !slices.Contains(strings.Fields(listed), path+"/lib/dlq") {
		t.Errorf("no package %s/lib/dlq in %d bytes of packages", path, len(listed))
	}
	for _, name := range strings.Fields(listed) {
		if strings.HasPrefix(name, from+"/") {
			t.Errorf("%s is still imported", name)
		}
	}
	command(t, root, "go", "build", "./...")
	command(t, root, "go", "vet", "./bundle", "./client", "./internal/rename", "./lib/fault")
	// What reads the module's own source, or shows it.
	command(t, root, "go", "test", "./docs", "./lib/config/schemagen")

	modules, err := filepath.Glob(filepath.Join(root, "examples", "*", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if len(modules) < 2 {
		t.Fatalf("the examples' modules: %q", modules)
	}
	for _, mod := range append(modules, filepath.Join(root, "bench", "go.mod")) {
		command(t, filepath.Dir(mod), "go", "vet", "./...")
	}
	command(t, filepath.Join(root, "examples", "bundle"), "go", "test", "-run", "TestThePageShowsThisCode", "./pager")
}

// command runs a command in a folder and returns what it prints.
func command(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), "GOFLAGS=") // not those of the run that this test is a part of
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s in %s: %v\n%s", name, strings.Join(args, " "), dir, err, out)
	}
	return string(out)
}
