package http

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"backstop/internal/strictjson"
	"backstop/lib/sinks"
)

// The contents of requests.
const (
	contentJSON = "json"
	contentForm = "form"
	contentText = "text"
)

var mediaTypes = map[string]string{
	contentJSON: "application/json", contentForm: "application/x-www-form-urlencoded", contentText: "text/plain; charset=utf-8",
}

// node is a part of a body: a fixed value, a text with placeholders, a mapping or a list.
type node struct {
	fixed   []byte // encoded
	text    *text
	graft   *part // parsed JSON takes its place
	entries []entry
	items   []node
	kind    kindOfNode
}

type kindOfNode int

const (
	nodeFixed kindOfNode = iota
	nodeText
	nodeGraft
	nodeMapping
	nodeList
)

type entry struct {
	name string
	node node
}

// body compiles the document's body.
func (c *compiler) body() node {
	tree := c.doc.Body.tree
	content := c.doc.Content
	mapping, isMapping := tree.(map[string]any)
	text, isText := tree.(string)
	switch content {
	case "", contentJSON:
		graft := false
		if isText {
			t, err := c.names.parse(text)
			p := t.only()
			graft = err != nil || p != nil && p.json
		}
		if _, isList := tree.([]any); !isMapping && !isList && !graft {
			c.own("body", `cannot be JSON: want a mapping, a list, or one grafted value such as "$(body:json)"`)
			return node{}
		}
	case contentForm:
		if !isMapping {
			c.own("body", "want a mapping of names to texts, for a form")
			return node{}
		}
		for _, name := range slices.Sorted(maps.Keys(mapping)) {
			c.flat("body."+name, mapping[name])
		}
	case contentText:
		if tree == nil {
			tree, isText = "$(body)", true
		}
		if !isText {
			c.own("body", "want a text")
			return node{}
		}
	default:
		known := slices.Sorted(maps.Keys(mediaTypes))
		c.word("content", "want "+list(known), content, known)
		return node{}
	}
	return c.node("body", tree, content)
}

// flat checks a value of a form.
func (c *compiler) flat(key string, v any) {
	items, isList := v.([]any)
	if !isList {
		items = []any{v}
	}
	for _, item := range items {
		switch item.(type) {
		case map[string]any, []any:
			c.own(key, "want a text, or a list of texts: a form has no more")
			return
		}
	}
}

func (c *compiler) node(key string, tree any, content string) node {
	switch v := tree.(type) {
	case map[string]any:
		n := node{kind: nodeMapping}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if strings.Contains(name, "$(") {
				c.own(key, "a name holds a placeholder: only values can")
			}
			n.entries = append(n.entries, entry{name, c.node(key+"."+name, v[name], content)})
		}
		return n
	case []any:
		n := node{kind: nodeList}
		for i, item := range v {
			n.items = append(n.items, c.node(fmt.Sprintf("%s[%d]", key, i), item, content))
		}
		return n
	case string:
		t, err := c.names.parse(v)
		c.within(key, err)
		grafted := slices.ContainsFunc(t.placeholders(), func(p part) bool { return p.json })
		for _, p := range t.placeholders() {
			c.filled(key, p)
		}
		only := t.only()
		switch {
		case !grafted:
			return node{kind: nodeText, text: &t}
		case only == nil || content != "" && content != contentJSON:
			c.quoting(key, v, ": only a whole value of a JSON body can be grafted")
			return node{}
		}
		return node{kind: nodeGraft, graft: only}
	}
	b, err := json.Marshal(tree)
	if err != nil {
		c.own(key, "cannot be JSON")
	}
	return node{kind: nodeFixed, fixed: b}
}

// appendJSON appends n with values in it. kept is false for what :opt drops.
func (n node) appendJSON(b *bytes.Buffer, v *values) (kept bool, err error) {
	switch n.kind {
	case nodeText:
		s, kept, err := n.text.expand(v, nil)
		if err != nil || !kept {
			return false, err
		}
		return true, appendString(b, s)
	case nodeGraft:
		s, err := v.of(*n.graft)
		if err != nil || s == "" {
			return false, err
		}
		return true, graft(b, v, *n.graft, s)
	case nodeMapping:
		b.WriteByte('{')
		first := true
		for _, e := range n.entries {
			at := b.Len()
			if !first {
				b.WriteByte(',')
			}
			if err := appendString(b, e.name); err != nil {
				return false, err
			}
			b.WriteByte(':')
			kept, err := e.node.appendJSON(b, v)
			if err != nil {
				return false, err
			}
			if !kept {
				b.Truncate(at)
				continue
			}
			first = false
		}
		b.WriteByte('}')
	case nodeList:
		b.WriteByte('[')
		first := true
		for _, item := range n.items {
			at := b.Len()
			if !first {
				b.WriteByte(',')
			}
			kept, err := item.appendJSON(b, v)
			if err != nil {
				return false, err
			}
			if !kept {
				b.Truncate(at)
				continue
			}
			first = false
		}
		b.WriteByte(']')
	default:
		b.Write(n.fixed)
	}
	return true, nil
}

// graft appends a value that is JSON already.
func graft(b *bytes.Buffer, v *values, p part, s string) error {
	if err := v.spend(len(s)); err != nil {
		return err
	}
	if v.preview && s == sinks.Redacted {
		b.Write(hiddenJSON)
		return nil
	}
	var any any
	if err := strictjson.DecodePart([]byte(s), &any); err != nil {
		return invalid(v.place(p), "not JSON, and the request grafts it")
	}
	return json.Compact(b, []byte(s))
}

func appendString(b *bytes.Buffer, s string) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1) // its line end
	return nil
}

// encode returns the body of a message.
func (s *Sink) encode(v *values) ([]byte, error) {
	var b bytes.Buffer
	switch s.content {
	case contentForm:
		form := url.Values{}
		for _, e := range s.body.entries {
			items := e.node.items
			if e.node.kind != nodeList {
				items = []node{e.node}
			}
			for _, item := range items {
				value, kept, err := item.formValue(v)
				if err != nil {
					return nil, err
				}
				if kept {
					form.Add(e.name, value)
				}
			}
		}
		b.WriteString(form.Encode())
	case contentText:
		text, _, err := s.body.text.expand(v, nil)
		if err != nil {
			return nil, err
		}
		b.WriteString(text)
	default:
		kept, err := s.body.appendJSON(&b, v)
		if err != nil {
			return nil, err
		}
		if !kept {
			return nil, invalid("message", "nothing is left of the request's body")
		}
	}
	if b.Len() > maxRequest {
		return nil, v.spend(maxRequest + 1)
	}
	return b.Bytes(), nil
}

// formValue is a value of a form.
func (n node) formValue(v *values) (value string, kept bool, err error) {
	if n.kind == nodeText {
		return n.text.expand(v, nil)
	}
	return strings.Trim(string(n.fixed), `"`), true, nil
}

// walk calls f with every text of a body.
func walk(tree any, f func(string)) {
	switch v := tree.(type) {
	case map[string]any:
		for _, item := range v {
			walk(item, f)
		}
	case []any:
		for _, item := range v {
			walk(item, f)
		}
	case string:
		f(v)
	}
}
