package journal

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ownFolder is what a Folder keeps for itself beside its objects.
const ownFolder = ".backstop"

// strayAge is how old a temporary file gets before it counts as left behind by a process that was
// killed. No call takes as long.
const strayAge = time.Hour

// Folder is a Bucket in a folder of a file system: one file for each object, below folders named
// as its name. What Put and Replace were said to have stored is on the disk. It is made by the
// first Put; while it is missing, it is empty.
//
// It is safe for concurrent use by several processes of one machine (or of several, where their
// common file system keeps locks and hard links). Its file system must have hard links. A name
// cannot be an object and a folder of others at once, and no part of it longer than 255 bytes. What is no plain file
// is no object. It keeps no versions.
type Folder struct {
	dir string
	// turn has one token: those of this process that want the lock wait here.
	turn  chan struct{}
	stray sync.Once
}

// NewFolder returns the Bucket in a folder, which need not be there yet. It does no I/O.
func NewFolder(dir string) *Folder {
	f := &Folder{dir: filepath.Clean(dir), turn: make(chan struct{}, 1)}
	f.turn <- struct{}{}
	return f
}

var _ Bucket = (*Folder)(nil)

// String names it in logs, as Open takes it.
func (f *Folder) String() string { return "file:" + f.dir }

// wrap says where an error is from.
func (f *Folder) wrap(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w: this process may not do that there; check the folder's owner and mode", err)
	case errors.Is(err, syscall.EROFS):
		err = fmt.Errorf("%w: mount it writable", err)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		err = fmt.Errorf("%w: a file stands where a folder belongs, or the other way round", err)
	}
	return fmt.Errorf("journal %s: %s: %w", f, op, err)
}

// ended is what a call in the file system returns with.
type ended[T any] struct {
	answer T
	err    error
}

// within runs f, and returns when ctx ends although a disk hangs: f goes on then, alone. f looks at
// ctx between its steps.
func within[T any](ctx context.Context, f func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, context.Cause(ctx)
	}
	done := make(chan ended[T], 1)
	go func() {
		answer, err := f()
		done <- ended[T]{answer, err}
	}()
	select {
	case e := <-done:
		return e.answer, e.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// doWithin is within for what has no answer.
func doWithin(ctx context.Context, f func() error) error {
	_, err := within(ctx, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

// path is where an object's file is.
func (f *Folder) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// Put implements Bucket: the file is complete and on the disk before it has its name.
func (f *Folder) Put(ctx context.Context, name string, body []byte) error {
	if err := checkName(name); err != nil {
		return f.wrap("put", err)
	}
	body = slices.Clone(body) // f may go on when the caller does
	return f.wrap("put "+name, doWithin(ctx, func() error {
		temp, err := f.temporary(body)
		if err != nil {
			return err
		}
		defer func() { _ = os.Remove(temp) }() // the object's own link stays; a stray goes later
		path := f.path(name)
		for {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			switch err := os.Link(temp, path); {
			case errors.Is(err, fs.ErrExist):
				// Whoever linked it may not have come to this yet.
				if err := f.keepName(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
				return ErrExists
			case errors.Is(err, fs.ErrNotExist):
				// The folder was removed as an empty one since. Nothing else can be missing: unless
				// the temporary file was taken away.
				if _, err := os.Lstat(temp); err != nil {
					return err
				}
			case err != nil:
				return err
			default:
				return f.keepName(path)
			}
		}
	}))
}

// temporary writes body to a new file in the bucket's file system, and to the disk.
func (f *Folder) temporary(body []byte) (path string, err error) {
	dir, err := f.own()
	if err != nil {
		return "", err
	}
	f.stray.Do(func() { removeStrays(dir) })
	path = filepath.Join(dir, "temp-"+rand.Text())
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // a name of our own
	if err != nil {
		return "", err
	}
	_, err = file.Write(body)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return path, nil
}

// own returns what the bucket keeps for itself, and makes both, on the disk, where they are missing.
func (f *Folder) own() (string, error) {
	own := filepath.Join(f.dir, ownFolder)
	var made []string
	for dir := own; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			break
		}
		made = append(made, dir)
	}
	if len(made) == 0 {
		return own, nil
	}
	if err := os.MkdirAll(own, 0o700); err != nil {
		return "", err
	}
	for _, dir := range made {
		if err := syncFolder(filepath.Dir(dir)); err != nil {
			return "", err
		}
	}
	return own, nil
}

// removeStrays removes temporary files of processes that were killed. One that cannot be removed
// harms nothing but the space that it takes.
func removeStrays(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "temp-") {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > strayAge {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// keepName writes to the disk that path has its name, and so its folders up to the bucket's: any of
// them may have been made just now, by another process too. While the file is there, none of
// them can be removed.
func (f *Folder) keepName(path string) error {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if err := syncFolder(dir); err != nil {
			return err
		}
		if dir == f.dir {
			return nil
		}
	}
}

func syncFolder(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // a folder of the bucket
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Get implements Bucket.
func (f *Folder) Get(ctx context.Context, name string) (Object, error) {
	if err := checkName(name); err != nil {
		return Object{}, f.wrap("get", err)
	}
	o, err := within(ctx, func() (Object, error) { return f.read(name) })
	return o, f.wrap("get "+name, err)
}

func (f *Folder) read(name string) (Object, error) {
	path := f.path(name)
	info, err := os.Lstat(path) // first: to open a pipe would wait for its other end
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), err == nil && !info.Mode().IsRegular():
		return Object{}, ErrNotFound
	case err != nil:
		return Object{}, err
	case info.Size() > MaxObject:
		return Object{}, tooLarge(info.Size())
	}
	file, err := os.Open(path) //nolint:gosec // a name that was checked
	if errors.Is(err, fs.ErrNotExist) {
		return Object{}, ErrNotFound
	}
	if err != nil {
		return Object{}, err
	}
	defer file.Close()
	body := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	n, err := body.ReadFrom(io.LimitReader(file, MaxObject+1))
	if err != nil {
		return Object{}, err
	}
	if n > MaxObject {
		return Object{}, tooLarge(n)
	}
	return Object{Body: body.Bytes(), Tag: tagOf(body.Bytes())}, nil
}

func tooLarge(size int64) error {
	return fmt.Errorf("%w: %d bytes; at most %d are read", ErrTooLarge, size, MaxObject)
}

func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Replace implements Bucket. It waits for its turn: one process at a time replaces or deletes.
func (f *Folder) Replace(ctx context.Context, name, tag string, body []byte) error {
	if err := checkName(name); err != nil {
		return f.wrap("replace", err)
	}
	body = slices.Clone(body)
	return f.wrap("replace "+name, doWithin(ctx, func() error {
		if _, err := os.Lstat(f.path(name)); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
			return ErrChanged // and an empty bucket stays unmade
		}
		temp, err := f.temporary(body)
		if err != nil {
			return err
		}
		defer func() { _ = os.Remove(temp) }() // gone when it was renamed
		return f.locked(ctx, func() error {
			switch old, err := f.read(name); {
			case errors.Is(err, ErrNotFound), err == nil && old.Tag != tag:
				return ErrChanged
			case err != nil:
				return err
			}
			path := f.path(name)
			if err := os.Rename(temp, path); err != nil {
				return err
			}
			return f.keepName(path)
		})
	}))
}

// Delete implements Bucket. It removes folders that became empty.
func (f *Folder) Delete(ctx context.Context, names ...string) error {
	if err := checkNames(names); err != nil {
		return f.wrap("delete", err)
	}
	if len(names) == 0 {
		return nil
	}
	names = slices.Clone(names)
	return f.wrap(fmt.Sprintf("delete %s (%d in all)", names[0], len(names)), doWithin(ctx, func() error {
		if _, err := os.Lstat(f.dir); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return f.locked(ctx, func() error { return f.remove(ctx, names) })
	}))
}

// remove removes files, as many as it can, and then empty folders.
func (f *Folder) remove(ctx context.Context, names []string) error {
	var errs []error
	folders := map[string]bool{}
	for _, name := range names {
		if ctx.Err() != nil {
			errs = append(errs, context.Cause(ctx))
			break
		}
		path := f.path(name)
		info, err := os.Lstat(path)
		if err == nil && info.IsDir() {
			continue // no object; os.Remove would take an empty one
		}
		if err == nil {
			err = os.Remove(path)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		case err != nil:
			errs = append(errs, err)
		default:
			folders[filepath.Dir(path)] = true
		}
	}
	for dir := range folders {
		// An object that was said to be gone must not come back with the machine.
		if err := syncFolder(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for dir := range folders {
		// The system removes no folder with anything in it, so that a Put which is about to link a
		// file into this one finds it missing at most, and makes it again.
		for ; dir != f.dir; dir = filepath.Dir(dir) {
			if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// locked runs do while no other Folder of this bucket replaces or deletes.
func (f *Folder) locked(ctx context.Context, do func() error) error {
	select {
	case <-f.turn:
		defer func() { f.turn <- struct{}{} }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	own, err := f.own()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(own, "lock"), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // a name of our own
	if err != nil {
		return err
	}
	defer file.Close() // which unlocks it
	wait := time.NewTicker(2 * time.Millisecond)
	defer wait.Stop()
	for {
		ok, err := tryLock(file)
		if err != nil {
			return err
		}
		if ok {
			return do()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("another process holds its lock: %w", context.Cause(ctx))
		case <-wait.C:
		}
	}
}

// Purge implements Bucket: a folder keeps no versions.
func (f *Folder) Purge(ctx context.Context, _, _ string, _ func(string, []byte) bool) (int, string, error) {
	return 0, "", ctx.Err()
}
