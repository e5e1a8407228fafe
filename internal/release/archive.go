package main

import (
	"archive/zip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// entry is a file of an archive.
type entry struct {
	name string // in the archive
	path string // on disk
	mode fs.FileMode
}

// pack writes a zip whose bytes depend on the entries' names, modes and contents and on at
// alone: nothing of the machine, the user or the hour is in it.
func pack(path string, at time.Time, entries ...entry) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // below, where it counts
	w := zip.NewWriter(f)
	for _, e := range entries {
		head := &zip.FileHeader{Name: e.name, Method: zip.Deflate, Modified: at.UTC()}
		head.SetMode(e.mode)
		into, err := w.CreateHeader(head)
		if err != nil {
			return err
		}
		if err := copyFile(into, e.path); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return f.Close()
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// checksums writes SHA256SUMS over a folder's files, as `sha256sum -c` reads it.
func checksums(dir string) error {
	files, err := os.ReadDir(dir) // sorted
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, f := range files {
		h := sha256.New()
		if err := copyFile(h, filepath.Join(dir, f.Name())); err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", h.Sum(nil), f.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644) //nolint:gosec // for everybody
}
