package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// Bounds of a source, because YAML takes up to a hundred times its length when it is
// parsed, and a function has little memory. SSM's parameters have 8 KB at most.
const (
	maxDocument = 1 << 20 // one file or parameter
	maxSource   = 4 << 20 // all documents together
)

// Source is a place that configuration is read from. The zero value is not usable;
// see ParseSource.
type Source struct {
	scheme string // "file" or "ssm"
	path   string
	all    bool // ssm: every parameter directly under path
}

// isPath reports whether a parameter's name is a full one: (/[A-Za-z0-9_.-]+)+
func isPath(name string) bool {
	rest, ok := strings.CutPrefix(name, "/")
	for part := range strings.SplitSeq(rest, "/") {
		ok = ok && fault.IsMadeOf(part, len(name), fault.Alphanumeric+"_.-")
	}
	return ok
}

// ParseSource reads the name of a source:
//
//	file:config/sinks           every *.yaml and *.yml file of a folder, one sink each
//	file:sinks.yaml             one document, "sinks: {name: {...}}"
//	ssm:/backstop/prod/sinks/*  every parameter directly under a path, one sink each
//	ssm:/backstop/prod/sinks    one parameter with such a document
//
// In the forms with one sink each, the file's name without its extension, or the last
// part of the parameter's name, is the sink's name. Nothing is read yet.
func ParseSource(spec string) (Source, error) {
	scheme, rest, ok := strings.Cut(spec, ":")
	switch {
	case ok && scheme == "file":
		if rest == "" {
			return Source{}, fmt.Errorf("source %q: want file:PATH of a folder or a file", spec)
		}
		return Source{scheme: scheme, path: filepath.Clean(rest)}, nil
	case ok && scheme == "ssm":
		name, all := strings.CutSuffix(rest, "/*")
		if strings.HasSuffix(name, "/") {
			return Source{}, fmt.Errorf("source %q: write ssm:%s/* for every parameter under a path", spec, strings.TrimRight(name, "/"))
		}
		if !isPath(name) {
			return Source{}, fmt.Errorf("source %q: want ssm:/path/* or ssm:/path, with full parameter names", spec)
		}
		return Source{scheme: scheme, path: name, all: all}, nil
	}
	return Source{}, fmt.Errorf("source %q: want file:PATH, ssm:/PATH/* or ssm:/PATH", spec)
}

// String returns the source as it was named.
func (s Source) String() string {
	if s.all {
		return s.scheme + ":" + s.path + "/*"
	}
	return s.scheme + ":" + s.path
}

// SSM reports whether the source itself is read from SSM Parameter Store. References
// ({ssm: /path}) may make any source need a client.
func (s Source) SSM() bool { return s.scheme == "ssm" }

// Document is one file or parameter as it was read.
type Document struct {
	Source string // file, or ssm: and the parameter
	// Name is the name of the document's one sink; empty for a document of several.
	Name string
	// Text is the YAML text, which may contain secrets.
	Text sinks.Secret

	size int64 // in bytes; a text beyond maxDocument is not kept
}

// document returns a document, without its text where it is too large.
func document(source, name, text string, size int64) Document {
	if size = max(size, int64(len(text))); size > maxDocument {
		text = ""
	}
	return Document{Source: source, Name: name, Text: sinks.Secret(text), size: size}
}

// Documents reads the source. A source with no documents is an error, and so is one
// that needs a client when client is nil, or that is larger than 4 MiB as a whole. A
// single document larger than 1 MiB has no text. References are not resolved.
func (s Source) Documents(ctx context.Context, client SSM) ([]Document, error) {
	var docs []Document
	var err error
	switch {
	case !s.SSM():
		docs, err = s.files()
	case client == nil:
		err = errNoClient
	case s.all:
		docs, err = s.parameters(ctx, client)
	default:
		docs, err = s.parameter(ctx, client)
	}
	if err == nil {
		err = bounded(docs)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s, err)
	}
	return docs, nil
}

// bounded refuses documents that are too large together.
func bounded(docs []Document) error {
	whole := 0
	for _, d := range docs {
		whole += len(d.Text)
	}
	if whole > maxSource {
		return fmt.Errorf("the documents are more than %d bytes (4 MiB) together", maxSource)
	}
	return nil
}

// files reads a folder or one file.
func (s Source) files() ([]Document, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		text, size, err := readFile(os.DirFS(filepath.Dir(s.path)), filepath.Base(s.path))
		return []Document{document(s.path, "", text, size)}, err
	}
	dir := os.DirFS(s.path)
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, err
	}
	var docs []Document
	for _, e := range entries {
		ext := path.Ext(e.Name())
		if ext != ".yaml" && ext != ".yml" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		text, size, err := readFile(dir, e.Name())
		if err != nil {
			return nil, err
		}
		docs = append(docs, document(filepath.Join(s.path, e.Name()), strings.TrimSuffix(e.Name(), ext), text, size))
		if err := bounded(docs); err != nil {
			return nil, err
		}
	}
	if len(docs) == 0 {
		return nil, fmt.Errorf("no *.yaml files in %s", s.path)
	}
	return docs, nil
}

// readFile reads no more of a file than shows that it is too large, and returns its size.
func readFile(dir fs.FS, name string) (text string, size int64, err error) {
	f, err := dir.Open(name)
	if err != nil {
		return "", 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return "", 0, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	return string(b), info.Size(), err
}
