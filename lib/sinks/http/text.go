package http

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"backstop/lib/sinks"
)

// text is a string of a document with its placeholders found.
type text struct {
	lines []line // more than one where :opt drops lines
}

type line []part

// part is a literal text, or a placeholder.
type part struct {
	literal string
	paths   []path // nil: a literal
	opt     bool
	json    bool
	source  string // the placeholder as it is written, for errors
}

// path names a value.
type path struct{ root, key string }

func (p path) String() string {
	if p.key == "" {
		return p.root
	}
	return p.root + "." + p.key
}

// The roots of paths, beside the parameters.
var roots = []string{"body", "group", "id", "metadata", "recipient", "subject", "time", "ttl"}

// names are what placeholders of a document may name.
type names struct {
	parameters map[string]Parameter
	recipient  map[string]Field
}

// parse finds the placeholders of a text. A *sinks.ConfigError of it has no key yet.
func (n names) parse(s string) (text, error) {
	var t text
	var faults []error
	for l := range strings.SplitSeq(s, "\n") {
		parsed, err := n.line(l)
		faults = append(faults, err)
		t.lines = append(t.lines, parsed)
	}
	return t, errors.Join(faults...)
}

func (n names) line(s string) (line, error) {
	var l line
	literal := func(s string) {
		if last := len(l) - 1; last >= 0 && l[last].paths == nil {
			l[last].literal += s
		} else if s != "" {
			l = append(l, part{literal: s})
		}
	}
	var faults []error
	for s != "" {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			i = len(s)
		}
		literal(s[:i])
		switch s = s[i:]; {
		case s == "":
		case strings.HasPrefix(s, "$$"):
			literal("$")
			s = s[2:]
		case !strings.HasPrefix(s, "$("):
			literal("$")
			s = s[1:]
		default:
			end := strings.IndexByte(s, ')')
			if end < 0 {
				return nil, &sinks.ConfigError{Hint: "a placeholder does not end; write $$( for the text itself"}
			}
			p, err := n.placeholder(s[:end+1])
			faults = append(faults, err)
			l = append(l, p)
			s = s[end+1:]
		}
	}
	return l, errors.Join(faults...)
}

// placeholder reads $(a|b:opt:json).
func (n names) placeholder(source string) (part, error) {
	inner, flags, flagged := strings.Cut(source[2:len(source)-1], ":")
	p := part{source: source}
	for flag := range strings.SplitSeq(flags, ":") {
		switch {
		case !flagged:
		case flag == "opt" && !p.opt:
			p.opt = true
		case flag == "json" && !p.json:
			p.json = true
		default:
			return part{}, &sinks.ConfigError{
				Msg: fmt.Sprintf("%.60q", source), Hint: ": unknown flag; known: opt (may be empty), json (grafts parsed JSON)", Word: flag, Known: []string{"opt", "json"},
			}
		}
	}
	for name := range strings.SplitSeq(inner, "|") {
		at, err := n.path(name)
		if err != nil {
			return part{}, err
		}
		p.paths = append(p.paths, at)
	}
	return p, nil
}

// path checks that a name stands for something.
func (n names) path(name string) (path, error) {
	root, key, nested := strings.Cut(name, ".")
	unknown := func(what string, known []string) (path, error) {
		word := root
		if nested {
			word = key
		}
		return path{}, &sinks.ConfigError{Msg: fmt.Sprintf("$(%.60s)", name), Hint: ": " + what + "; known: " + strings.Join(known, ", "), Word: word, Known: known}
	}
	switch _, parameter := n.parameters[root]; {
	case root == "id" && nested:
		if key != "hash" && key != "uuid" {
			return unknown("an id has no such form", []string{"hash", "uuid"})
		}
	case root == "metadata":
		if key == "" {
			return path{}, &sinks.ConfigError{Hint: "$(metadata) names no key; write $(metadata.<key>)"}
		}
	case root == "recipient":
		if _, ok := n.recipient[key]; !ok {
			return unknown("the recipient has no such field", slices.Sorted(maps.Keys(n.recipient)))
		}
	case nested:
		return path{}, &sinks.ConfigError{Msg: fmt.Sprintf("$(%.60s): %.40q", name, root), Hint: " has no parts; only id, metadata and recipient have"}
	case !parameter && !slices.Contains(roots, root):
		return unknown("no such value", slices.Sorted(slices.Values(slices.Concat(roots, slices.Collect(maps.Keys(n.parameters))))))
	}
	return path{root, key}, nil
}

// only returns the placeholder that t is as a whole; nil when it is more, or none.
func (t text) only() *part {
	if len(t.lines) == 1 && len(t.lines[0]) == 1 && t.lines[0][0].paths != nil {
		return &t.lines[0][0]
	}
	return nil
}

// placeholders returns those of t, in order.
func (t text) placeholders() []part {
	var all []part
	for _, l := range t.lines {
		for _, p := range l {
			if p.paths != nil {
				all = append(all, p)
			}
		}
	}
	return all
}

// expand puts values in. kept is false for what :opt drops: in a text of several lines the line, and
// the whole where no line is left. encode makes a value safe where it stands; nil: it is taken as it is.
func (t text) expand(v *values, encode func(string) string) (s string, kept bool, err error) {
	var lines []string
	for _, l := range t.lines {
		s, kept, err := l.expand(v, encode)
		if err != nil {
			return "", false, err
		}
		if kept {
			lines = append(lines, s)
		}
	}
	if len(lines) == 0 {
		return "", false, nil
	}
	return strings.Join(lines, "\n"), true, nil
}

func (l line) expand(v *values, encode func(string) string) (s string, kept bool, err error) {
	var b strings.Builder
	for _, p := range l {
		value := p.literal
		if p.paths != nil {
			if value, err = v.of(p); err != nil || value == "" && p.opt {
				return "", false, err
			}
			if encode != nil {
				value = encode(value)
			}
		}
		if err := v.spend(len(value)); err != nil {
			return "", false, err
		}
		b.WriteString(value)
	}
	return b.String(), true, nil
}
