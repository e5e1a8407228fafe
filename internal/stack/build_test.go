//go:build full

package stack_test

import (
	"debug/buildinfo"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// maxSize is what a function may weigh, in bytes: its size is part of each cold start.
const maxSize = 20_500_000

// As `sam build` does: the project in a scratch folder, without what is ignored (or, with
// --build-in-source, in place), and `make build-<LogicalId>` with ARTIFACTS_DIR in the
// environment. Neither folder's name nor what else stands there changes what is made.
func TestEachFunctionBuildsForItsPlatformWhereverItIsBuilt(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	scratch := filepath.Join(t.TempDir(), "a scratch folder")
	copyProject(t, root, scratch)
	for name, mode := range map[string]struct {
		dir string
		env []string
	}{
		"in a copy": {scratch, nil},
		"in source": {root, nil},
		"in a copy, on a developer's machine": {scratch, []string{
			"ARCH=amd64", "GOARCH=386", "GOOS=darwin", "GOARM64=v9.5", "CGO_ENABLED=1", "OUT=/nowhere", "FUNCTIONS=none",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, id := range []string{"SendFunction", "ReplayFunction", "DlqApiFunction"} { // QueueFunction is SendFunction's target
				artifacts := filepath.Join(t.TempDir(), `it's "the" $HOME of artifacts`)
				if err := os.Mkdir(artifacts, 0o755); err != nil {
					t.Fatal(err)
				}
				cmd := exec.CommandContext(t.Context(), "make", "-s", "build-"+id)
				cmd.Dir = mode.dir
				cmd.Env = append(append(os.Environ(), mode.env...), "ARTIFACTS_DIR="+artifacts)
				if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
					t.Fatalf("%s: %v\n%s", id, err, out)
				}
				checkBootstrap(t, id, filepath.Join(artifacts, "bootstrap"))
			}
		})
	}
}

// A target that is not told where to put its artifact must not put it anywhere.
func TestABuildWithoutArtifactsDirFails(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "make", "-s", "build-SendFunction")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "ARTIFACTS_DIR=") })
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "ARTIFACTS_DIR") {
		t.Errorf("%v\n%s", err, out)
	}
}

// checkBootstrap: small, static, executable, and for arm64 as every Graviton has it.
func checkBootstrap(t *testing.T, id, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() >= maxSize || info.Mode()&0o111 == 0 {
		t.Errorf("%s: %d bytes, mode %v; want less than %d, and executable", id, info.Size(), info.Mode(), maxSize)
	}
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libs, err := f.ImportedLibraries()
	if err != nil || f.Machine != elf.EM_AARCH64 || len(libs) != 0 {
		t.Errorf("%s: for %v with libraries %v, %v; want a static one for arm64", id, f.Machine, libs, err)
	}
	built, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range built.Settings {
		if s.Key == "GOARM64" && s.Value != "v8.0" {
			t.Errorf("%s needs a processor of %s", id, s.Value)
		}
	}
}

func copyProject(t *testing.T, from, to string) {
	t.Helper()
	ignored := []string{".git", ".aws-sam", "build", "tools", "docs/console.png"}
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if slices.Contains(ignored, rel) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if info, err := d.Info(); err != nil || info.Size() > 1<<20 || !info.Mode().IsRegular() {
			return err // no source is that large
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
