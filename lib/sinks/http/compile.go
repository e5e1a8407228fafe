package http

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	nethttp "net/http"
	"net/textproto"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"backstop/lib/sinks"
)

// faults are the keys of a configuration that are wrong.
type faults []error

// add records a fault in words that hold a configured value, or may.
func (f *faults) add(key, format string, args ...any) {
	*f = append(*f, &sinks.ConfigError{Key: key, Msg: fmt.Sprintf(format, args...)})
}

// quoting records a fault of a configured text, in words that go on behind it.
func (f *faults) quoting(key, configured, why string) {
	*f = append(*f, &sinks.ConfigError{Key: key, Msg: configured, Hint: why})
}

// own records a fault in the words of the code alone.
func (f *faults) own(key, why string) { *f = append(*f, &sinks.ConfigError{Key: key, Hint: why}) }

// word records a word that is none of the known ones.
func (f *faults) word(key, why, word string, known []string) {
	*f = append(*f, &sinks.ConfigError{Key: key, Hint: why, Word: word, Known: known})
}

func list(words []string) string {
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// compiler makes a Sink of a document and the values of its parameters.
type compiler struct {
	faults
	doc     *Document
	names   names
	options *Options
	preset  bool              // the document is the code's own
	values  map[string]string // of the parameters
}

// quoting records a fault of a text of the document. One of a preset is the code's own.
func (c *compiler) quoting(key, text, why string) {
	if c.preset {
		c.own(key, text+why)
	} else {
		c.faults.quoting(key, text, why)
	}
}

// reserved are the keys of sinks of every kind, which no parameter can have.
var reserved = []string{
	"breaker", "concurrency", "events", "fifo", "kind", "max_age", "max_hold", "on_ambiguous", "rate", "replay", "retention", "retry", "shards",
}

var nameForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`) })

// declared checks what the document declares, and reads the values of its parameters out of given.
func (c *compiler) declared(given map[string]any) {
	d := c.doc
	for _, name := range slices.Sorted(maps.Keys(d.Parameters)) {
		p, key := d.Parameters[name], "parameters."+name
		switch {
		case !nameForm().MatchString(name):
			c.own(key, "want a name of a-z, 0-9 and _, up to 40 characters, that begins with a letter")
		case slices.Contains(roots, name), slices.Contains(reserved, name), slices.Contains(documentKeys(), name):
			c.own(key, "this name has another meaning; take a different one")
		}
		pattern, err := compile(p.Pattern)
		if err != nil {
			c.own(key+".pattern", "not a regular expression (RE2)")
		}
		types := []string{typeBool, typeInt, typeSecret, typeText, typeURL}
		if p.Type != "" && !slices.Contains(types, p.Type) {
			c.word(key+".type", "want "+list(types), p.Type, types)
			continue
		}
		value, written := given[name]
		if !written {
			c.values[name] = p.Default.Reveal()
			if p.Required && p.Default.Secret == "" {
				c.own(name, "required: "+about(p))
			}
			continue
		}
		c.values[name] = c.read(name, p, pattern, value)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Recipient)) {
		key := "recipient." + name
		if !nameForm().MatchString(name) {
			c.own(key, "want a name of a-z, 0-9 and _, up to 40 characters, that begins with a letter")
		}
		if _, err := compile(d.Recipient[name].Pattern); err != nil {
			c.own(key+".pattern", "not a regular expression (RE2)")
		}
	}
	// Defaults may name other parameters, once all of these are known.
	for _, name := range slices.Sorted(maps.Keys(d.Parameters)) {
		p := d.Parameters[name]
		if _, written := given[name]; written || p.Default.Secret == "" {
			continue
		}
		if p.Type == typeURL {
			c.values[name] = c.origin(name, p)
		}
	}
}

func about(p Parameter) string {
	if p.About != "" {
		return p.About
	}
	return "the kind needs it"
}

// read returns the value of a parameter as a text.
func (c *compiler) read(name string, p Parameter, pattern *regexp.Regexp, value any) string {
	text, isText := value.(string)
	number, isNumber := value.(json.Number)
	switch n := value.(type) {
	case int64:
		number, isNumber = json.Number(strconv.FormatInt(n, 10)), true
	case int:
		number, isNumber = json.Number(strconv.Itoa(n)), true
	case uint64:
		number, isNumber = json.Number(strconv.FormatUint(n, 10)), true
	}
	truth, isBool := value.(bool)
	want := func(what string) string {
		c.own(name, "want "+what)
		return ""
	}
	switch p.Type {
	case typeInt:
		if isText {
			number = json.Number(text)
		}
		if _, err := number.Int64(); err != nil || !isText && !isNumber {
			return want("a whole number")
		}
		text = number.String()
	case typeBool:
		switch {
		case isBool:
			text = strconv.FormatBool(truth)
		case text != "true" && text != "false":
			return want("true or false")
		}
	default:
		if isNumber && p.Type != typeSecret && p.Type != typeURL && pattern != nil && pattern.MatchString(number.String()) {
			// A number would lose its form: a plus sign, zeros in front. The pattern knows better.
			text, isText = number.String(), true
		}
		switch {
		case isNumber && !isText || isBool:
			return want("a text; put it in quotes")
		case !isText:
			return want("a text")
		case text == "" && p.Required:
			return want("a text that is not empty")
		}
	}
	switch {
	case text == "":
		return ""
	case !utf8.ValidString(text) || strings.ContainsAny(text, "\x00\r"):
		c.own(name, "holds characters that no value has")
	case !matches(pattern, text):
		c.quoting(name, "does not match "+p.Pattern, "")
	case p.Type == typeURL:
		if u, err := webURL(text); err != nil {
			c.within(name, err)
		} else {
			text = u
		}
	}
	return text
}

// webURL checks an http or https URL. Its errors are *sinks.ConfigError without a key.
func webURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(s, " \t\n") {
		return "", &sinks.ConfigError{Hint: "not an http or https URL"} // nothing of it: it may be secret
	}
	if u.Fragment != "" || strings.HasSuffix(s, "#") {
		return "", &sinks.ConfigError{Hint: "a URL with a fragment (#...)"}
	}
	return s, nil
}

// origin is the default of a url parameter, with the values of others in it.
func (c *compiler) origin(name string, p Parameter) string {
	key := "parameters." + name + ".default"
	t, err := names{parameters: c.doc.Parameters}.parse(p.Default.Reveal())
	c.within(key, err)
	for _, ph := range t.placeholders() {
		for _, at := range ph.paths {
			other, ok := c.doc.Parameters[at.root]
			if !ok || other.Type == typeURL || other.Type == typeSecret || other.Pattern == "" {
				c.quoting(key, ph.source, ": a URL's default may name texts and numbers alone that have a pattern")
				return ""
			}
		}
	}
	s, _, err := t.expand(&values{parameters: c.values, lenient: true, left: maxRequest}, url.PathEscape)
	if err == nil && !slices.ContainsFunc(t.placeholders(), func(p part) bool { return c.values[p.paths[0].root] == "" }) {
		if s, err = webURL(s); err != nil {
			c.within(key, err)
		}
	}
	return s
}

// within records the faults of a text under its key.
func (c *compiler) within(key string, err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the tree is walked here, level by level
		for _, e := range joined.Unwrap() {
			c.within(key, e)
		}
		return
	}
	if fault, ok := errors.AsType[*sinks.ConfigError](err); ok {
		fault.Key = key
		c.faults = append(c.faults, fault)
		return
	}
	c.add(key, "%v", err)
}

// text compiles a text that is no body: nothing is grafted into it.
func (c *compiler) text(key, s string) text {
	t, err := c.names.parse(s)
	c.within(key, err)
	for _, p := range t.placeholders() {
		if p.json {
			c.quoting(key, p.source, ": only a value of a JSON body can be grafted")
		}
		c.filled(key, p)
	}
	return t
}

// filled checks that a placeholder of parameters alone has a value.
func (c *compiler) filled(key string, p part) {
	for _, at := range p.paths {
		declared, parameter := c.doc.Parameters[at.root]
		if !parameter || c.values[at.root] != "" || p.opt || declared.Required {
			return
		}
	}
	if len(p.paths) > 0 {
		c.quoting(key, p.source, " has no value; give the parameter one, or write :opt")
	}
}

// static compiles a text of parameters alone, and returns it with their values.
func (c *compiler) static(key string, s sinks.Secret) string {
	t := c.text(key, s.Reveal())
	for _, p := range t.placeholders() {
		for _, at := range p.paths {
			if _, ok := c.doc.Parameters[at.root]; !ok {
				c.quoting(key, p.source, ": only parameters can stand here")
				return ""
			}
		}
	}
	out, _, err := t.expand(&values{parameters: c.values, lenient: true, left: maxRequest}, nil)
	c.within(key, err)
	return out
}

func (c *compiler) need(key, value string) {
	if value == "" {
		c.own(key, "required")
	}
}

// secretIn returns the first placeholder of t that shows a secret parameter; empty: none does.
func (c *compiler) secretIn(t text) string {
	for _, p := range t.placeholders() {
		for _, at := range p.paths {
			if c.doc.Parameters[at.root].Type == typeSecret {
				return p.source
			}
		}
	}
	return ""
}

// header is one that is sent.
type header struct {
	name  string
	value text
}

func (c *compiler) headers() []header {
	var out []header
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.doc.Headers)) {
		key, canonical := "headers."+name, nethttp.CanonicalHeaderKey(name)
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			c.own(key, "not a header name")
			continue
		case canonical == "Content-Type":
			c.own(key, "write it as content_type")
		case ownHeader(canonical):
			c.own(key, "this header is set by the sink or by HTTP itself")
		case canonical == "Authorization" && c.doc.Auth != (Auth{}):
			c.own(key, "auth sets this header")
		case seen[canonical]:
			c.own(key, "given twice in different capitalization")
		}
		seen[canonical] = true
		t := c.text(key, c.doc.Headers[name].Reveal())
		if len(t.lines) > 1 || !headerValue(c.literal(t)) {
			c.own(key, "the value holds a control character, or white space at an end")
		}
		out = append(out, header{canonical, t})
	}
	return out
}

// literal is t with something harmless for each placeholder.
func (c *compiler) literal(t text) string {
	var b strings.Builder
	for _, l := range t.lines {
		for _, p := range l {
			if p.paths != nil {
				b.WriteByte('x')
			}
			b.WriteString(p.literal)
		}
	}
	return b.String()
}

// headerValue also refuses what net/http would trim.
func headerValue(s string) bool {
	return httpguts.ValidHeaderFieldValue(s) && s == textproto.TrimString(s) && utf8.ValidString(s)
}

// ownHeader reports whether a header, in canonical form, belongs to HTTP.
func ownHeader(name string) bool {
	switch name {
	case "Accept-Encoding", "Connection", "Content-Encoding", "Content-Length", "Expect", "Host", "Http2-Settings", "Keep-Alive", "Te",
		"Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return strings.HasPrefix(name, "Proxy-")
}

// limit is a Limit that is ready to be asked.
type limit struct {
	of                *text // nil: the encoded body
	source            string
	characters, bytes int
}

func (c *compiler) limits() []limit {
	var out []limit
	for i, l := range c.doc.Limits {
		key := fmt.Sprintf("limits[%d]", i)
		if l.Characters < 0 || l.Bytes < 0 || l.Characters == 0 && l.Bytes == 0 {
			c.own(key, "want characters or bytes, more than 0")
		}
		compiled := limit{source: "the request's body", characters: l.Characters, bytes: l.Bytes}
		if l.Of != "" {
			t, err := c.names.parse(l.Of)
			c.within(key+".of", err)
			compiled.of, compiled.source = &t, fieldsOf(t)
		}
		out = append(out, compiled)
	}
	return out
}

// fieldsOf names what a text is made of.
func fieldsOf(t text) string {
	var all []string
	for _, p := range t.placeholders() {
		for _, at := range p.paths {
			if f := at.field(); !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
	}
	if len(all) == 0 {
		return "the message"
	}
	return strings.Join(all, " with ")
}

// rate compiles what the rate is counted by.
func (c *compiler) rate() *text {
	if c.doc.RateBy == "" {
		return nil
	}
	t, err := c.names.parse(c.doc.RateBy.Reveal())
	c.within("rate_by", err)
	for _, p := range t.placeholders() {
		for _, at := range p.paths {
			if _, parameter := c.doc.Parameters[at.root]; !parameter && at.root != "recipient" {
				c.quoting("rate_by", p.source, ": only recipient fields and parameters can stand here")
			}
		}
	}
	if len(t.placeholders()) == 0 {
		c.own("rate_by", "names no value, such as $(recipient.to)")
	}
	return &t
}
