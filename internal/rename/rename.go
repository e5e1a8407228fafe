package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/format"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// rename gives the module in folder the path to, and returns the former path and the
// number of files that it changed. A path that no module can be downloaded by is refused, and
// nothing is changed. The root's go.mod, which tells the former path, is written last: when
// rename is interrupted, the same call completes it.
func rename(folder, to string) (from string, files int, err error) {
	if err := module.CheckPath(to); err != nil {
		return "", 0, fmt.Errorf("%w; want one such as example.org/team/backstop", err)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	mod, err := root.ReadFile("go.mod")
	if err != nil {
		return "", 0, fmt.Errorf("run this in the module's root: %w", err)
	}
	if from = modfile.ModulePath(mod); from == "" {
		return "", 0, errors.New("go.mod names no module")
	}
	if from == to {
		return from, 0, nil
	}
	names, err := tree(root.FS())
	if err != nil {
		return from, 0, err
	}
	changes, err := plan(root, names, newRenamer(names, from, to))
	if err != nil {
		return from, 0, err
	}
	for _, c := range changes {
		if err := root.WriteFile(c.name, c.content, c.mode); err != nil {
			return from, files, fmt.Errorf("%w; some files are changed: the same call completes them", err)
		}
		files++
	}
	return from, files, nil
}

// change is a file's new content.
type change struct {
	name    string
	mode    fs.FileMode
	content []byte
}

// plan returns what has to be written, the root's go.mod last.
func plan(root *os.Root, names []string, r *renamer) (changes []change, err error) {
	var last []change
	for _, name := range names {
		info, err := root.Stat(name)
		if err != nil {
			return nil, err
		}
		before, err := root.ReadFile(name)
		if err != nil {
			return nil, err
		}
		if !utf8.Valid(before) || bytes.IndexByte(before, 0) >= 0 {
			continue // no text
		}
		after, err := r.file(name, before)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if bytes.Equal(before, after) {
			continue
		}
		c := change{name: name, mode: info.Mode().Perm(), content: after}
		if name == "go.mod" {
			last = append(last, c)
		} else {
			changes = append(changes, c)
		}
	}
	return append(changes, last...), nil
}

// tree lists the files in root, but for what was built or fetched.
func tree(root fs.FS) (names []string, err error) {
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "vendor" || name == "build" || name == ".aws-sam"):
			return fs.SkipDir
		case d.Type().IsRegular():
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// renamer replaces one path by another.
type renamer struct {
	from, to string
	folders  map[string]bool // at the root, with Go code in them
	// What matches the module's own path, without a package's: in a go.mod file, in the
	// linter's configuration, and in whatever shows a line of a go.mod file.
	directive, rule, shown *regexp.Regexp
}

func newRenamer(names []string, from, to string) *renamer {
	r := &renamer{from: from, to: to, folders: map[string]bool{"...": true}}
	for _, name := range names {
		if folder, _, ok := strings.Cut(name, "/"); ok && strings.HasSuffix(name, ".go") {
			r.folders[folder] = true
		}
	}
	quoted := regexp.QuoteMeta(from)
	r.directive = regexp.MustCompile(`(?m)^(\s*(?:(?:module|require|replace|exclude)\s+)?)` + quoted + `([\s/]|$)`)
	r.rule = regexp.MustCompile(`(\b(?:pkg|module-path):\s*)` + quoted + `([\s,}]|$)`)
	r.shown = regexp.MustCompile(`((?:require|replace) )` + quoted + `( =>| v[0-9]|=)`)
	return r
}

// file returns the new content of a file.
func (r *renamer) file(name string, content []byte) ([]byte, error) {
	text := r.packages(string(content))
	alone := "${1}" + strings.ReplaceAll(r.to, "$", "$$") + "${2}"
	switch base := path.Base(name); {
	case base == "go.mod":
		text = r.directive.ReplaceAllString(text, alone)
	case strings.HasPrefix(base, ".golangci."):
		text = r.rule.ReplaceAllString(text, alone)
	default:
		text = r.shown.ReplaceAllString(text, alone)
	}
	if text == string(content) || !strings.HasSuffix(name, ".go") {
		return []byte(text), nil
	}
	return format.Source([]byte(text)) // the order of the imports is another
}

// packages replaces the path where a folder of the module's code follows it.
func (r *renamer) packages(text string) string {
	var out strings.Builder
	end := 0
	for {
		i := strings.Index(text[end:], r.from+"/")
		if i < 0 {
			out.WriteString(text[end:])
			return out.String()
		}
		start := end + i
		rest := text[start+len(r.from)+1:]
		out.WriteString(text[end:start])
		if (start == 0 || !inPath(text[start-1])) && r.folders[rest[:folderEnd(rest)]] {
			out.WriteString(r.to)
		} else {
			out.WriteString(r.from)
		}
		end = start + len(r.from)
	}
}

// folderEnd returns where the first element of a path ends. A full stop that ends a sentence
// does not belong to it.
func folderEnd(s string) int {
	if strings.HasPrefix(s, "...") {
		return 3
	}
	for i := range len(s) {
		if !inPath(s[i]) || s[i] == '/' || s[i] == '.' {
			return i
		}
	}
	return len(s)
}

// inPath reports whether b may stand in a path before the module's, which is then a part
// of another: build/backstop, ssm:/backstop, my-backstop.
func inPath(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || strings.IndexByte("_-~./", b) >= 0 || b >= utf8.RuneSelf
}
