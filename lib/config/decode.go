package config

import (
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// Bounds of one block, and of all. Real ones are far below; they stop aliases that
// multiply.
const (
	maxDepth    = 20
	maxNodes    = 10_000
	maxAllNodes = 500_000
	maxSinks    = 10_000
)

// reference matches what {ssm: ...} may name: a full path, with a version or label.
var reference = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^/[A-Za-z0-9_./-]+(:[A-Za-z0-9_.-]+)?$`) })

// parse reads a document as one YAML document and returns its mapping.
func parse(from Document) (root *yaml.Node, fault *Finding) {
	source := from.Source
	if from.size > maxDocument {
		return nil, &Finding{Source: source, Message: fmt.Sprintf("is %d bytes long; the most is %d (1 MiB)", from.size, maxDocument)}
	}
	defer func() {
		if recover() != nil { // a defect of the parser must stay with the one document
			root, fault = nil, &Finding{Source: source, Message: "not readable as YAML"}
		}
	}()
	d := yaml.NewDecoder(strings.NewReader(from.Text.Reveal()))
	var doc yaml.Node
	if err := d.Decode(&doc); err != nil {
		if tab := tabFault(source, from.Text.Reveal(), err); tab != nil {
			return nil, tab
		}
		return nil, syntaxFault(source, err)
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, syntaxFault(source, err)
		}
		return nil, &Finding{Source: source, Message: "want one YAML document, found more (---)"}
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		f := Finding{Source: source, Message: "want a mapping of keys to values"}
		if len(doc.Content) == 1 {
			f.Line, f.Column = doc.Content[0].Line, doc.Content[0].Column
		}
		return nil, &f
	}
	return doc.Content[0], nil
}

// tabFault is where a tab stands in the indentation of a text that cannot be read for it; nil: the parser met something else.
// Tabs may stand in texts, so that the first one need not be at fault. What the parser says of a tab has the line that it was read
// for, which is that of the tab or the last one with something before it.
func tabFault(source, text string, err error) *Finding {
	msg, from := strings.TrimPrefix(err.Error(), "yaml: "), 1 // the first line is not told
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		number, _, _ := strings.Cut(rest, ":")
		from, _ = strconv.Atoi(number)
	}
	onIt := strings.Contains(msg, "cannot start any token") // and that need not be a tab
	if !onIt && !strings.Contains(msg, "tab character") {
		return nil
	}
	line := 0
	for l := range strings.Lines(text) {
		line++
		indent := l[:len(l)-len(strings.TrimLeft(l, " \t"))]
		column := strings.IndexByte(indent, '\t')
		if line < from || column < 0 || onIt && line > from {
			continue
		}
		return &Finding{Source: source, Line: line, Column: column + 1, Message: "a tab: YAML is indented with spaces"}
	}
	return nil
}

// syntaxFault tells what the parser said, without the one message that quotes the
// document. The column is not known.
func syntaxFault(source string, err error) *Finding {
	f := Finding{Source: source, Line: 1}
	if errors.Is(err, io.EOF) {
		return &Finding{Source: source, Message: "is empty"}
	}
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(msg, "line "); ok {
		number, rest, _ := strings.Cut(rest, ": ")
		if line, err := strconv.Atoi(number); err == nil {
			f.Line, msg = line, rest
			if countsFromZero().MatchString(msg) {
				f.Line++
			}
		}
	}
	if strings.HasPrefix(msg, "unknown anchor") {
		f.Line = 0 // not told
		msg = "an alias names an unknown anchor; a text that begins with * must be quoted"
	}
	f.Message = "not readable as YAML: " + msg
	return &f
}

// countsFromZero matches the messages of the library's parser, whose lines begin at 0;
// those of its scanner begin at 1.
var countsFromZero = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^did not find expected (key|node content|'-'|',' or|<document start>)`)
})

// decoder turns the node of one block into plain values, and remembers where each
// key was.
type decoder struct {
	source, sink string
	// resolve returns the value of a parameter.
	resolve func(name string) (string, error)

	root      position
	at        map[string]position // by dotted path
	findings  []Finding
	notes     []Finding
	secrets   redactor
	nodes     int
	all       *int // nodes of all blocks
	tooLarge  bool
	unsettled bool // a reference could not be read now, which says nothing about the block
}

type position struct{ line, column int }

func where(n *yaml.Node) position { return position{n.Line, n.Column} }

func newDecoder(b block, all *int, resolve func(string) (string, error)) *decoder {
	d := &decoder{source: b.source, sink: b.name, all: all, resolve: resolve, at: map[string]position{}}
	if b.node != nil {
		d.root = where(b.node)
	}
	return d
}

// fault records a fault at a position.
func (d *decoder) fault(p position, key, format string, args ...any) {
	d.findings = append(d.findings, Finding{
		Source: d.source, Line: p.line, Column: p.column, Sink: d.sink, Key: key,
		Message: fmt.Sprintf(format, args...),
	})
}

// refuse records a fault that the decoder itself found.
func (d *decoder) refuse(p position, path, format string, args ...any) {
	d.fault(p, named(path), format, args...)
}

// note records what is no fault.
func (d *decoder) note(p position, key, message string) {
	d.notes = append(d.notes, Finding{Note: true, Source: d.source, Line: p.line, Column: p.column, Sink: d.sink, Key: key, Message: message})
}

// named returns a path as the decoder may name it. A key within another one may be a
// value that slid into a key's place ("auth_pass: {hunter2}"), so only the common blocks'
// keys are named that deep; the position leads to the others.
func named(path string) string {
	if first, _, nested := strings.Cut(path, "."); nested && (!slices.Contains(commonKeys, first) || !commonPath().MatchString(path)) {
		return first
	}
	return path
}

var commonPath = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z_.]+$`) })

// position returns where a key, or the nearest known key around it, is.
func (d *decoder) position(key string) position {
	for key != "" {
		if p, ok := d.at[key]; ok {
			return p
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return d.root
}

// value converts a node. path is its dotted path, "" for the block itself; at is
// where faults are reported: the node's key where there is one.
func (d *decoder) value(n *yaml.Node, path string, at position, depth int) any {
	if d.nodes++; d.tooLarge {
		return nil
	}
	*d.all++
	if d.nodes > maxNodes || depth > maxDepth || *d.all > maxAllNodes {
		d.tooLarge = true
		d.refuse(at, path, "too large or too deeply nested")
		return nil
	}
	switch n.Kind {
	case yaml.MappingNode:
		if n.ShortTag() != "!!map" {
			d.refuse(at, path, "YAML tags are not supported")
			return nil
		}
		if path != "" && len(n.Content) == 2 && n.Content[0].Value == "ssm" {
			return d.referred(n.Content[1], path, at)
		}
		return d.mapping(n, path, depth)
	case yaml.SequenceNode:
		if n.ShortTag() != "!!seq" {
			d.refuse(at, path, "YAML tags are not supported")
			return nil
		}
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			itemPath := path + "[" + strconv.Itoa(i) + "]"
			d.at[itemPath] = where(item)
			list[i] = d.value(item, itemPath, where(item), depth+1)
		}
		return list
	case yaml.AliasNode:
		if n.Alias == nil {
			return nil
		}
		return d.value(n.Alias, path, at, depth+1)
	case yaml.ScalarNode:
		return d.scalar(n, path, at)
	}
	d.refuse(at, path, "not a value")
	return nil
}

func (d *decoder) mapping(n *yaml.Node, path string, depth int) map[string]any {
	out := make(map[string]any, len(n.Content)/2)
	first := map[string]position{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := where(key)
		switch {
		case key.Kind != yaml.ScalarNode:
			d.refuse(at, path, "want a plain text as a key")
			continue
		case key.ShortTag() == "!!merge":
			d.refuse(at, path, "merge keys (<<) are not supported")
			continue
		}
		keyPath := showKey(key.Value)
		if path != "" {
			keyPath = path + "." + keyPath
		}
		if p, ok := first[key.Value]; ok {
			d.refuse(at, keyPath, "duplicate key, first on line %d", p.line)
			continue
		}
		first[key.Value] = at
		d.at[keyPath] = at
		out[key.Value] = d.value(value, keyPath, at, depth+1)
	}
	return out
}

func (d *decoder) scalar(n *yaml.Node, path string, at position) any {
	var out any
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		if !slices.Contains(commonKeys, firstKey(path)) {
			d.secrets.add(n.Value, shortestLiteral)
		}
		if line, ok := strings.CutSuffix(n.Value, "\n"); ok && !strings.Contains(line, "\n") {
			d.note(at, named(path), "one line with a line end at its end; write |- for one without")
		}
		return n.Value
	case "!!null":
		d.refuse(at, path, "has no value; give it one or remove the key")
		return nil
	case "!!bool":
		var b bool
		if n.Decode(&b) == nil {
			out = b
		}
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
			out = i
		}
	case "!!float":
		var f float64
		if n.Decode(&f) == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			out = f
		}
	default:
		d.refuse(at, path, "YAML tags are not supported")
		return nil
	}
	if out == nil {
		d.refuse(at, path, "not a %s in range; a text that looks like one must be quoted", strings.TrimPrefix(n.ShortTag(), "!!"))
	}
	return out
}

// lineEnds end a value that "echo" or an editor wrote, and are part of none.
const lineEnds = "\r\n"

// referred returns the value of the parameter that {ssm: ...} names.
func (d *decoder) referred(n *yaml.Node, path string, at position) any {
	if n.Kind != yaml.ScalarNode || !reference().MatchString(n.Value) {
		d.refuse(at, path, "want {ssm: /path/of/a/parameter}")
		return nil
	}
	value, err := d.resolve(n.Value)
	if err != nil {
		d.refuse(at, path, "parameter %s: %s", n.Value, err)
		d.unsettled = d.unsettled || !errors.Is(err, errNoParameter)
		return nil
	}
	if end := strings.TrimRight(value, lineEnds); end != value {
		d.note(at, named(path), "parameter "+n.Value+" ends in a line end, which is left out")
		value = end
	}
	d.secrets.add(value, shortestReferred)
	return value
}
