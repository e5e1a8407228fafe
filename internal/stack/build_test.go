package stack_test

import (
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// maxSize is what a function may weigh, in bytes: its size is part of each cold start.
const maxSize = 15_000_000

// As `sam build` does: the project in a scratch folder, without what is ignored, and
// `make build-<LogicalId>` with ARTIFACTS_DIR there.
func TestEachFunctionBuildsFromACopyAndIsSmall(t *testing.T) {
	t.Parallel()
	scratch := t.TempDir()
	copyProject(t, filepath.Join("..", ".."), scratch)
	for _, id := range []string{"SendFunction", "ReplayFunction", "DlqApiFunction"} { // QueueFunction is SendFunction's target
		artifacts := t.TempDir()
		cmd := exec.CommandContext(t.Context(), "make", "-s", "build-"+id, "ARTIFACTS_DIR="+artifacts)
		cmd.Dir = scratch
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", id, err, out)
		}
		path := filepath.Join(artifacts, "bootstrap")
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
		libs, err := f.ImportedLibraries()
		if err != nil || f.Machine != elf.EM_AARCH64 || len(libs) != 0 {
			t.Errorf("%s: for %v with libraries %v, %v; want a static one for arm64", id, f.Machine, libs, err)
		}
		f.Close()
		t.Logf("%s: %.1f MB", id, float64(info.Size())/1e6)
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
