package journal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"backstop/lib/journal"
	"backstop/lib/journal/journaltest"
)

// countFolder makes the test's own binary a process that counts in a folder.
const countFolder = "BACKSTOP_TEST_COUNT_FOLDER"

const counts = 40

func TestMain(m *testing.M) {
	if dir := os.Getenv(countFolder); dir != "" {
		if err := count(context.Background(), journal.NewFolder(dir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// count adds to a number, and makes the folder of other objects come and go.
func count(ctx context.Context, b *journal.Folder) error {
	for i := 0; i < counts; {
		name := fmt.Sprintf("others/%d/%d", i%3, os.Getpid())
		if err := b.Put(ctx, name, []byte("x")); err != nil {
			return err
		}
		o, err := b.Get(ctx, "number")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(string(o.Body))
		if err != nil {
			return err
		}
		switch err = b.Replace(ctx, "number", o.Tag, []byte(strconv.Itoa(n+1))); {
		case err == nil:
			i++
		case !errors.Is(err, journal.ErrChanged):
			return err
		}
		if err := b.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func TestAFolderKeepsTheContract(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journal.Bucket {
		return journal.NewFolder(filepath.Join(t.TempDir(), "new", "journal"))
	})
}

func folder(t *testing.T) (*journal.Folder, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "journal")
	return journal.NewFolder(dir), dir
}

func put(t *testing.T, b journal.Bucket, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := b.Put(t.Context(), name, []byte("body of "+name)); err != nil {
			t.Fatal(err)
		}
	}
}

func names(t *testing.T, b journal.Bucket, prefix, after string, limit int) []string {
	t.Helper()
	page, _, err := b.List(t.Context(), prefix, after, limit)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range page {
		names = append(names, o.Name)
	}
	return names
}

func TestProcessesShareAFolder(t *testing.T) {
	b, dir := folder(t)
	if err := b.Put(t.Context(), "number", []byte("0")); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const processes = 4
	var running []*exec.Cmd
	var output [processes]bytes.Buffer
	for i := range processes {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Env = append(os.Environ(), countFolder+"="+dir)
		cmd.Stdout, cmd.Stderr = &output[i], &output[i]
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		running = append(running, cmd)
	}
	for i, cmd := range running {
		if err := cmd.Wait(); err != nil {
			t.Errorf("process %d: %v\n%s", i, err, &output[i])
		}
	}
	o, err := b.Get(t.Context(), "number")
	if want := strconv.Itoa(processes * counts); err != nil || string(o.Body) != want {
		t.Errorf("counted %s, %v, want %s", o.Body, err, want)
	}
	if got := names(t, b, "", "", 0); !slices.Equal(got, []string{"number"}) {
		t.Errorf("left %q", got)
	}
}

func TestAFolderKeepsNothingTemporaryAndNoEmptyFolder(t *testing.T) {
	b, dir := folder(t)
	put(t, b, "a/b/c/d", "a/b/e", "f")
	if err := b.Put(t.Context(), "f", nil); !errors.Is(err, journal.ErrExists) {
		t.Fatal(err)
	}
	o, err := b.Get(t.Context(), "f")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Replace(t.Context(), "f", o.Tag, []byte("g")); err != nil {
		t.Fatal(err)
	}
	if err := b.Replace(t.Context(), "f", o.Tag, []byte("h")); !errors.Is(err, journal.ErrChanged) {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "a/b/c/d"); err != nil {
		t.Fatal(err)
	}
	if got, want := tree(t, dir), []string{".backstop/lock", "a/b/e", "f"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if _, err := os.Stat(filepath.Join(dir, "a/b/c")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty folder: %v, want it gone", err)
	}
	if err := b.Delete(t.Context(), "a/b/e", "f"); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left %v, %v, want .backstop alone", entries, err)
	}
}

// tree returns all files below dir.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, relErr := filepath.Rel(dir, path)
			files, err = append(files, rel), relErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestNobodyElseReadsAFolder(t *testing.T) {
	b, dir := folder(t)
	put(t, b, "a/b")
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "a"): 0o700, filepath.Join(dir, "a/b"): 0o600, filepath.Join(dir, ".backstop"): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v, want %v", path, info.Mode().Perm(), err, want)
		}
	}
}

func TestOldTemporaryFilesOfKilledProcessesAreRemoved(t *testing.T) {
	_, dir := folder(t)
	own := filepath.Join(dir, ".backstop")
	if err := os.MkdirAll(own, 0o700); err != nil {
		t.Fatal(err)
	}
	old, young := filepath.Join(own, "temp-OLD"), filepath.Join(own, "temp-YOUNG")
	for _, path := range []string{old, young} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*time.Hour)); err != nil {
		t.Fatal(err)
	}
	b := journal.NewFolder(dir)
	put(t, b, "a")
	if got, want := tree(t, dir), []string{".backstop/temp-YOUNG", "a"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if got := names(t, b, "", "", 0); !slices.Equal(got, []string{"a"}) {
		t.Errorf("listed %q", got)
	}
}

// An object of a gigabyte takes no memory, and none is read of it.
func TestATooLargeFileIsRefusedByItsSize(t *testing.T) {
	b, dir := folder(t)
	put(t, b, "a")
	for name, size := range map[string]int64{"huge": 1 << 30, "over": journal.MaxObject + 1, "full": journal.MaxObject} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		o, err := b.Get(t.Context(), name)
		if size == journal.MaxObject {
			if err != nil || int64(len(o.Body)) != size {
				t.Errorf("%s: %d bytes, %v", name, len(o.Body), err)
			}
			continue
		}
		if !errors.Is(err, journal.ErrTooLarge) || !strings.Contains(err.Error(), strconv.FormatInt(size, 10)) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want ErrTooLarge with name and size", name, err)
		}
		// It can be removed, but not replaced by what was made from something else.
		if err := b.Replace(t.Context(), name, "tag", nil); !errors.Is(err, journal.ErrTooLarge) {
			t.Errorf("Replace of %s: %v", name, err)
		}
	}
	if err := b.Delete(t.Context(), "huge", "over", "full"); err != nil {
		t.Error(err)
	}
}

// What is no plain file is no object, and stops nothing.
func TestForeignThingsInAFolderAreNoObjects(t *testing.T) {
	b, dir := folder(t)
	put(t, b, "a/b", "z")
	if err := errors.Join(
		os.Symlink(filepath.Join(dir, "a/b"), filepath.Join(dir, "link")), os.Symlink(filepath.Join(dir, "a"), filepath.Join(dir, "loop")),
		os.Symlink(dir, filepath.Join(dir, "a", "up")), syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.MkdirAll(filepath.Join(dir, "empty/empty"), 0o700),
		os.WriteFile(filepath.Join(dir, "new\nline"), nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, b, "", "", 0), []string{"a/b", "new\nline", "z"}; !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
	for _, name := range []string{"link", "loop", "pipe", "empty", "empty/empty"} {
		if _, err := b.Get(t.Context(), name); !errors.Is(err, journal.ErrNotFound) {
			t.Errorf("Get(%s): %v, want ErrNotFound", name, err)
		}
	}
	if got, err := b.Folders(t.Context(), ""); err != nil || !slices.Equal(got, []string{"a/"}) {
		t.Errorf("folders %q, %v", got, err)
	}
	if err := b.Put(t.Context(), "a/b/c", nil); err == nil || !strings.Contains(err.Error(), "a file stands where a folder belongs") {
		t.Errorf("Put below an object: %v", err)
	}
	if err := b.Put(t.Context(), "empty", nil); !errors.Is(err, journal.ErrExists) {
		t.Errorf("Put over a folder: %v", err)
	}
}

// Names are made of few letters, so that files and folders stand close to each other.
func TestAListIsInOrderWhateverTheNames(t *testing.T) {
	b, dir := folder(t)
	const seed = 5
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	var want []string
	for len(want) < 300 {
		parts := make([]string, 1+rng.IntN(4))
		for i := range parts {
			for range 1 + rng.IntN(2) {
				parts[i] += string("!-.0a~"[rng.IntN(6)])
			}
		}
		name := strings.Join(parts, "/")
		if strings.Contains("/"+name+"/", "/./") || strings.Contains("/"+name+"/", "/../") {
			continue
		}
		path := filepath.Join(dir, name)
		if os.MkdirAll(filepath.Dir(path), 0o700) != nil {
			continue // a file stands there
		}
		if f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); err == nil {
			f.Close()
			want = append(want, name)
		}
	}
	slices.Sort(want)
	for range 300 {
		prefix := want[rng.IntN(len(want))]
		prefix = prefix[:rng.IntN(min(3, len(prefix))+1)]
		limit := 1 + rng.IntN(40)
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page := names(t, b, prefix, after, limit)
			got = append(got, page...)
			if len(page) < limit {
				break
			}
		}
		expected := slices.DeleteFunc(slices.Clone(want), func(s string) bool { return !strings.HasPrefix(s, prefix) })
		if !slices.Equal(got, expected) {
			t.Fatalf("prefix %q, pages of %d:\n%q, want\n%q", prefix, limit, got, expected)
		}
	}
}

func TestFaultsOfAFolderSayWhatToDo(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for where, want := range map[string]string{path: "a file stands where a folder belongs", "/sys": "check the folder's owner and mode"} { // not even root may write there
		b := journal.NewFolder(filepath.Join(where, "journal"))
		if err := b.Put(t.Context(), "a", nil); err == nil || !strings.Contains(err.Error(), "file:"+where+"/journal: put a: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("Put below %s: %v, want %q", where, err, want)
		}
	}
}

// A disk that hangs holds up nobody for longer than his context: here a lock that is never given.
func TestACallEndsWithItsContextAlthoughTheLockIsHeld(t *testing.T) {
	b, dir := folder(t)
	put(t, b, "a")
	if err := b.Delete(t.Context(), "never"); err != nil { // makes the lock
		t.Fatal(err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".backstop/lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := b.Delete(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Delete: %v, want the context's end", err)
	}
	// Put, Get and List need no lock.
	put(t, b, "b")
	if got := names(t, b, "", "", 0); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("listed %q", got)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), "a"); err != nil {
		t.Errorf("Delete when the lock is free: %v", err)
	}
}
