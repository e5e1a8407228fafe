package journal

import (
	"container/heap"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// readAtOnce is how many entries of a folder are read at a time.
const readAtOnce = 1024

// List implements Bucket. It holds a page in memory, and for each level of folders another, however many
// files there are; each page reads the names in the folders that it passes.
func (f *Folder) List(ctx context.Context, prefix, after string, limit int) ([]Listed, bool, error) {
	limit = pageLimit(limit)
	objects, err := within(ctx, func() ([]Listed, error) { return f.list(ctx, prefix, after, limit+1) })
	if err != nil {
		return nil, false, f.wrap("list "+prefix, err)
	}
	if len(objects) > limit {
		return objects[:limit], true, nil
	}
	return objects, false, nil
}

func pageLimit(limit int) int {
	if limit <= 0 || limit > pageSize {
		return pageSize
	}
	return limit
}

func (f *Folder) list(ctx context.Context, prefix, after string, limit int) ([]Listed, error) {
	w := folderWalk{ctx: ctx, root: f.dir, prefix: prefix, after: after, limit: limit}
	// The walk begins in the folder that the prefix names, if that is one.
	folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
	var err error
	if checkFolder(folder) == nil { // else no object can have such a name
		err = w.walk(folder)
	}
	return w.found, err
}

// folderWalk collects the first objects after a name.
type folderWalk struct {
	ctx           context.Context //nolint:containedctx // of one call
	root          string
	prefix, after string
	limit         int
	found         []Listed
}

// walk visits a folder, "" or one whose name ends in a slash.
func (w *folderWalk) walk(folder string) error {
	for last := ""; len(w.found) < w.limit; {
		entries, more, err := w.next(folder, last)
		if err != nil {
			return err
		}
		for _, name := range entries {
			if len(w.found) == w.limit {
				return nil
			}
			if err := w.visit(folder + name); err != nil {
				return err
			}
			last = name
		}
		if !more {
			return nil
		}
	}
	return nil
}

// visit goes into a folder, or adds an object.
func (w *folderWalk) visit(name string) error {
	if strings.HasSuffix(name, "/") {
		return w.walk(name)
	}
	info, err := os.Lstat(filepath.Join(w.root, filepath.FromSlash(name)))
	switch {
	case missing(err), err == nil && !info.Mode().IsRegular():
		return nil
	case err != nil:
		return err
	}
	w.found = append(w.found, Listed{Name: name, Size: info.Size(), At: info.ModTime()})
	return nil
}

// missing reports whether what was looked for is not there, or no longer.
func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// next returns the first entries of a folder that come after last and may lead to objects looked
// for, in the order of the objects' names: a folder's name ends in a slash there, which sorts after
// a dot and before a digit. more: there are others.
func (w *folderWalk) next(folder, last string) (entries []string, more bool, err error) {
	dir, err := os.Open(filepath.Join(w.root, filepath.FromSlash(folder))) //nolint:gosec // a folder of the bucket
	if missing(err) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer dir.Close()
	var first greatestFirst
	for {
		if w.ctx.Err() != nil {
			return nil, false, context.Cause(w.ctx)
		}
		read, err := dir.ReadDir(readAtOnce)
		for _, e := range read {
			name := e.Name()
			switch {
			case e.IsDir():
				name += "/"
			case !e.Type().IsRegular():
				continue
			}
			if name <= last || !w.wanted(folder+name) {
				continue
			}
			if len(first) == w.limit {
				more = true
				if name > first[0] {
					continue
				}
				heap.Pop(&first)
			}
			heap.Push(&first, name)
		}
		if errors.Is(err, io.EOF) || missing(err) {
			slices.Sort(first)
			return first, more, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}

// wanted reports whether an object is looked for, or what may be in a folder.
func (w *folderWalk) wanted(name string) bool {
	if name == ownFolder+"/" {
		return false
	}
	if strings.HasSuffix(name, "/") {
		return (strings.HasPrefix(name, w.prefix) || strings.HasPrefix(w.prefix, name)) &&
			(name > w.after || strings.HasPrefix(w.after, name))
	}
	return strings.HasPrefix(name, w.prefix) && name > w.after
}

// greatestFirst is a heap of names.
type greatestFirst []string

func (h greatestFirst) Len() int           { return len(h) }
func (h greatestFirst) Less(i, j int) bool { return h[i] > h[j] }
func (h greatestFirst) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *greatestFirst) Push(x any)        { *h = append(*h, x.(string)) } //nolint:errcheck // the heap's own
func (h *greatestFirst) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// Folders implements Bucket. A folder without objects is none.
func (f *Folder) Folders(ctx context.Context, prefix string) ([]string, error) {
	if err := checkFolder(prefix); err != nil {
		return nil, f.wrap("list folders", err)
	}
	folders, err := within(ctx, func() ([]string, error) {
		entries, err := os.ReadDir(filepath.Join(f.dir, filepath.FromSlash(prefix)))
		if missing(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		var folders []string
		for _, e := range entries {
			name := prefix + e.Name() + "/"
			if !e.IsDir() || name == ownFolder+"/" {
				continue
			}
			switch first, err := f.list(ctx, name, "", 1); {
			case err != nil:
				return nil, err
			case len(first) > 0:
				folders = append(folders, name)
			}
		}
		slices.Sort(folders)
		return folders, nil
	})
	return folders, f.wrap("list folders of "+prefix, err)
}
