package http

import (
	"context"
	"maps"
	"net/url"
	"strconv"
	"strings"

	"backstop/lib/sinks"
)

// Preview returns what Send would send of m under ctx, without I/O: what auth adds is a header
// Authorization that shows nothing. Hidden are the parameters that were given (but for booleans), and of
// a document that is a configuration also its own texts and numbers. Errors are those of Validate.
func (s *Sink) Preview(ctx context.Context, to sinks.Recipient, m sinks.Message) (sinks.Preview, error) {
	real, err := s.Render(ctx, to, m)
	if err != nil {
		return sinks.Preview{}, err
	}
	r, err := s.hidden().Render(ctx, to, m)
	if err != nil {
		return sinks.Preview{}, err
	}
	p := sinks.Preview{Method: r.Method, URL: unescaped(r.URL.String()), Header: map[string]string{}, Body: string(r.Body)}
	if given, err := recipient(to); err == nil && real.recipients && given["url"] == "" { // the document's default
		p.URL = sinks.RedactedURL(real.URL.String())
	}
	for name := range r.Header {
		p.Header[name] = r.Header.Get(name)
	}
	if s.auth.header != nil {
		p.Header["Authorization"] = sinks.Redacted
	}
	if s.content == contentForm {
		p.Body = unescaped(p.Body)
	}
	return p, nil
}

// unescaped makes what is hidden readable again.
func unescaped(s string) string {
	return strings.ReplaceAll(s, url.QueryEscape(sinks.Redacted), sinks.Redacted)
}

// hidden returns a sink that makes the requests of s with sinks.Redacted in the place of what is
// configured. It sends nothing.
func (s *Sink) hidden() *Sink {
	h := *s
	h.preview = true
	h.own, h.guarded, h.auth, h.limits = nil, nil, auth{}, nil
	h.parameters = maps.Clone(s.parameters)
	for name := range s.given {
		if h.parameters[name] != "" && s.given[name] != typeBool {
			h.parameters[name] = sinks.Redacted
		}
		if s.given[name] == typeURL && strings.HasPrefix(s.parameters[name], s.address.base) {
			h.address = s.address.withoutBase()
		}
	}
	if s.kind != Kind {
		return &h
	}
	h.address = s.address.hidden()
	h.fields = maps.Clone(s.fields)
	for name, f := range h.fields {
		if f.Default != "" && name != "url" {
			f.Default = sinks.Redacted
			h.fields[name] = f
		}
	}
	h.headers = nil
	for _, header := range s.headers {
		header.value = header.value.hidden()
		h.headers = append(h.headers, header)
	}
	known := false
	for _, media := range mediaTypes {
		known = known || media == s.contentType
	}
	if !known {
		h.contentType = sinks.Redacted
	}
	h.body = s.body.hidden()
	return &h
}

// withoutBase returns the address with its base, and what stands in the query, hidden.
func (a address) withoutBase() address {
	if a.base != "" {
		a.base = sinks.RedactedURL(a.base)
	}
	query := make([]line, len(a.query))
	for i, pair := range a.query {
		query[i] = pair.hidden()
	}
	a.query = query
	return a
}

// hidden returns the address without what is written of it.
func (a address) hidden() address {
	a = a.withoutBase()
	a.path = a.path.hidden()
	if len(a.path) > 0 && a.path[0].paths == nil {
		a.path[0].literal = "/" + a.path[0].literal
	}
	return a
}

func (t text) hidden() text {
	lines := make([]line, len(t.lines))
	for i, l := range t.lines {
		lines[i] = l.hidden()
	}
	return text{lines: lines}
}

// hidden returns l with each literal hidden that says something.
func (l line) hidden() line {
	out := make(line, len(l))
	for i, p := range l {
		if p.paths == nil && strings.TrimSpace(p.literal) != "" {
			p.literal = sinks.Redacted
		}
		out[i] = p
	}
	return out
}

func (n node) hidden() node {
	switch n.kind {
	case nodeText:
		t := n.text.hidden()
		n.text = &t
	case nodeMapping:
		entries := make([]entry, len(n.entries))
		for i, e := range n.entries {
			entries[i] = entry{e.name, e.node.hidden()}
		}
		n.entries = entries
	case nodeList:
		items := make([]node, len(n.items))
		for i, item := range n.items {
			items[i] = item.hidden()
		}
		n.items = items
	case nodeFixed:
		if b := string(n.fixed); b != "true" && b != "false" && b != "null" {
			n.fixed = hiddenJSON
		}
	}
	return n
}

// hiddenJSON is sinks.Redacted as JSON.
var hiddenJSON = []byte(strconv.Quote(sinks.Redacted))
