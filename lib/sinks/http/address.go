package http

import (
	"net/url"
	"slices"
	"strings"

	"backstop/lib/sinks"
)

// address is where requests go.
type address struct {
	base  string // up to where the first placeholder may stand
	path  line
	query []line // pairs, joined by &

	// recipient: the whole URL is the recipient's, or, where the recipient has none, base.
	recipient bool
}

// address compiles the document's url.
func (c *compiler) address() address {
	raw := c.doc.URL.Reveal()
	t := c.text("url", raw)
	switch {
	case raw == "":
		c.own("url", "required")
		return address{}
	case len(t.lines) != 1 || len(t.lines[0]) == 0:
		c.own("url", "want one line")
		return address{}
	}
	if p := t.only(); p != nil && p.paths[0] == (path{"recipient", "url"}) {
		return c.recipients(p)
	}
	var a address
	rest := t.lines[0]
	if p := rest[0]; p.paths != nil {
		if !c.urls(p.paths) {
			c.quoting("url", p.source, ": only a parameter of type url, or $(recipient.url) as a whole, can stand at the beginning")
			return a
		}
		a.base = c.first(p.paths)
		rest = rest[1:]
	} else {
		base, literal, ok := origin(p.literal, len(rest) == 1)
		if !ok {
			c.own("url", "want an http or https URL, with no placeholder in its host; a parameter of type url may stand at its beginning")
			return a
		}
		a.base, rest = base, append(line{{literal: literal}}, rest[1:]...)
	}
	for _, p := range rest {
		if strings.ContainsAny(p.literal, " \t#") {
			c.own("url", "holds white space or a fragment (#...)")
			return a
		}
		if p.paths != nil && c.urls(p.paths) {
			c.quoting("url", p.source, ": a parameter of type url can stand at the beginning only")
			return a
		}
	}
	c.split(&a, rest)
	if a.base != "" {
		if _, err := webURL(a.base); err != nil {
			c.within("url", err)
		}
	}
	return a
}

// recipients is the address of a sink whose recipients bring their URLs.
func (c *compiler) recipients(p *part) address {
	a := address{recipient: true}
	if more := p.paths[1:]; len(more) > 0 {
		if !c.urls(more) {
			c.quoting("url", p.source, ": beside $(recipient.url) only parameters of type url can stand")
		}
		a.base = c.first(more)
	}
	if len(c.doc.AllowedHosts) == 0 && (c.doc.Auth != (Auth{}) || c.sendsSecrets()) {
		c.quoting("url", p.source, " would let a recipient choose who gets the sink's secrets: name the hosts in allowed_hosts")
	}
	return a
}

// sendsSecrets reports whether a header or the body holds a parameter of type secret.
func (c *compiler) sendsSecrets() bool {
	for name := range c.doc.Headers {
		if t, err := c.names.parse(c.doc.Headers[name].Reveal()); err == nil && c.secretIn(t) != "" {
			return true
		}
	}
	found := false
	walk(c.doc.Body.tree, func(s string) {
		if t, err := c.names.parse(s); err == nil && c.secretIn(t) != "" {
			found = true
		}
	})
	return found
}

// urls reports whether all paths are parameters of type url.
func (c *compiler) urls(paths []path) bool {
	return !slices.ContainsFunc(paths, func(p path) bool { return c.doc.Parameters[p.root].Type != typeURL })
}

// first returns the first value of parameters that there is.
func (c *compiler) first(paths []path) string {
	for _, p := range paths {
		if v := c.values[p.root]; v != "" {
			return v
		}
	}
	return ""
}

// origin cuts a literal into scheme and host, and the rest. Where whole is false, more follows: then
// the host must have ended.
func origin(s string, whole bool) (base, rest string, ok bool) {
	_, after, found := strings.Cut(s, "://")
	if !found {
		return "", "", false
	}
	end := strings.IndexAny(after, "/?")
	if end < 0 {
		return s, "", whole
	}
	end += len(s) - len(after)
	return s[:end], s[end:], true
}

// split cuts what follows the base into a path and the pairs of a query.
func (c *compiler) split(a *address, rest line) {
	base, pairs, inQuery := strings.Cut(a.base, "?")
	slash := len(rest) > 0 && strings.HasPrefix(rest[0].literal, "/")
	switch {
	case inQuery && len(rest) > 0 && !strings.HasPrefix(rest[0].literal, "?"):
		c.own("url", "the base has a query (?...): no path can follow it")
	case slash:
		base = strings.TrimRight(base, "/")
	}
	a.base = base
	if inQuery {
		for pair := range strings.SplitSeq(pairs, "&") {
			a.query = append(a.query, line{{literal: pair}})
		}
		inQuery = false
	}
	for _, p := range rest {
		if p.paths != nil {
			if inQuery {
				last := len(a.query) - 1
				a.query[last] = append(a.query[last], p)
				continue
			}
			if p.opt {
				c.quoting("url", p.source, ": a part of the path cannot be left out")
			}
			a.path = append(a.path, p)
			continue
		}
		literal := p.literal
		if !inQuery {
			var before string
			if before, literal, inQuery = strings.Cut(literal, "?"); before != "" {
				a.path = append(a.path, part{literal: before})
			}
			if !inQuery {
				continue
			}
			a.query = append(a.query, nil)
		}
		for i, piece := range strings.Split(literal, "&") {
			if i > 0 {
				a.query = append(a.query, nil)
			}
			if last := len(a.query) - 1; piece != "" {
				a.query[last] = append(a.query[last], part{literal: piece})
			}
		}
	}
}

// expand returns the URL of a message, and whether it is the recipient's.
func (a address) expand(v *values) (u *url.URL, recipients bool, err error) {
	if a.recipient {
		if raw := v.field("url"); raw != "" {
			return nil, true, nil
		}
		if a.base == "" {
			return nil, false, invalid("recipient.url", "missing or empty, and the request needs it")
		}
	}
	way, _, err := a.path.expand(v, url.PathEscape)
	if err != nil {
		return nil, false, err
	}
	for segment := range strings.SplitSeq(way, "/") {
		if segment == "." || segment == ".." {
			return nil, false, invalid(fieldsOf(text{lines: []line{a.path}}), "a dot, or two, would change the request's path")
		}
	}
	var query []string
	for _, pair := range a.query {
		s, kept, err := pair.expand(v, url.QueryEscape)
		if err != nil {
			return nil, false, err
		}
		if kept && s != "" {
			query = append(query, s)
		}
	}
	s := a.base + way
	if len(query) > 0 {
		s += "?" + strings.Join(query, "&")
	}
	if u, err = url.Parse(s); err != nil {
		return nil, false, sinks.Terminal(&sinks.Error{Code: sinks.CodeSinkConfigInvalid, Msg: "url: not a URL with its values in it"}) // the cause would quote it
	}
	return u, false, nil
}
