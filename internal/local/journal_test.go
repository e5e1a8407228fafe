package local_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"backstop/internal/local"
)

// A folder that somebody named outlives the stack; one that nobody named does not.
func TestTheJournalsFolder(t *testing.T) {
	bin := deadFunctions(t)
	named := filepath.Join(t.TempDir(), "not", "there", "yet")
	for _, c := range []struct {
		journal string
		kept    bool
	}{{named, true}, {local.TemporaryJournal, false}} {
		s, err := local.Start(t.Context(), local.Options{Bin: bin, Journal: c.journal})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(s.Journal)
		if err != nil || info.Mode().Perm() != 0o700 || c.kept && s.Journal != named {
			t.Errorf("%s: the folder %s is %v, %v", c.journal, s.Journal, info, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.Journal); c.kept && err != nil || !c.kept && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s, after the stack was closed: %v; kept is to be %v", c.journal, err, c.kept)
		}
	}
	if err := os.WriteFile(filepath.Join(bin, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Start(t.Context(), local.Options{Bin: bin, Journal: filepath.Join(bin, "file", "x")}); err == nil {
		t.Error("a journal in a file was taken")
	}
}
