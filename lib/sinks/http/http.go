// Package http delivers messages to services that take an HTTP request, without code for each: a
// Document says how. It is the kind http, whose document is the sink's configuration, and a kind for
// each preset: a document that comes with the package (see Presets).
//
// Importing the package makes the kinds known to configurations. In code, start with New and
// Document, or with Preset.
//
// A document is data: placeholders, no functions, no conditions. Values are escaped where they stand
// and never leave their place. What an answer means is decided by a list of outcomes; what was sent
// and not answered is ambiguous in any case.
package http

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	nethttp "net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"backstop/internal/strictjson"
	"backstop/lib/fault"
	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/guard"
	"backstop/lib/sinks/internal/httpsend"
)

// Kind is the name of the kind whose document is its configuration.
const Kind = "http"

func init() {
	sinks.RegisterFactory(Kind, Factory(nil))
	for _, kind := range Presets() { // none is read
		sinks.RegisterFactory(kind, PresetFactory(kind, nil))
	}
}

// defaults are the options where none are given.
var defaults atomic.Pointer[Options]

// SetDefaults sets the options of all sinks that are built from now on without any: those of the
// kinds that importing the package has made known. Nil: the zero value.
func SetDefaults(o *Options) { defaults.Store(o) }

// Options are settings that a configuration cannot express. The zero value, and a nil pointer,
// connect directly, trust the system's certificate authorities, and sign nothing.
type Options struct {
	// Proxy selects the proxy of a request, as http.Transport.Proxy does. Nil: none. Recipients'
	// URLs never use a proxy, so that the address guard sees the address that is really connected to.
	Proxy func(*nethttp.Request) (*url.URL, error)
	// RootCAs are the certificate authorities to trust. Nil: the system's.
	RootCAs *x509.CertPool
	// Sign signs a request for AWS (auth.sigv4), by headers that it adds. An error of it is
	// returned by Send as it is: it must be coded and marked. Nil: such sinks cannot send.
	Sign func(ctx context.Context, r *nethttp.Request, body []byte, service, region string) error
}

// Factory returns the factory of the kind http. Nil: with the defaults.
func Factory(o *Options) sinks.Factory {
	return func(name string, raw map[string]any) (sinks.Sink, error) {
		own, given := map[string]any{}, map[string]any{}
		declared, _ := raw["parameters"].(map[string]any)
		for key, value := range raw {
			if _, ok := declared[key]; ok {
				given[key] = value
			} else {
				own[key] = value
			}
		}
		if declared != nil { // "token: {ssm: ...}" is a secret with that value
			own["parameters"] = short(declared)
		}
		return sinks.Configure(own, func(d Document) (*Sink, error) { return build(Kind, name, &d, given, o) })
	}
}

// short replaces a value that stands in the place of a parameter's declaration.
func short(declared map[string]any) map[string]any {
	out := make(map[string]any, len(declared))
	for name, p := range declared {
		if _, isBlock := p.(map[string]any); !isBlock {
			p = map[string]any{"type": typeSecret, "default": p}
		}
		out[name] = p
	}
	return out
}

// New returns the sink called name that d describes, with the values of its parameters. All faults
// are reported together, as *sinks.ConfigError values. It does no I/O.
func New(name string, d Document, parameters map[string]any, o *Options) (*Sink, error) {
	return build(Kind, name, &d, parameters, o)
}

// Recipient holds the fields of one message's recipient, by name.
type Recipient map[string]string

// Sink sends messages as its document says. It is safe for concurrent use.
type Sink struct {
	name, kind  string
	parameters  map[string]string
	fields      map[string]Field
	patterns    map[string]*regexp.Regexp
	method      string
	address     address
	headers     []header
	content     string
	contentType string
	body        node
	auth        auth
	limits      []limit
	rate        *text
	window      time.Duration
	verdict     verdict
	guard       guard.Guard
	given       map[string]string // the types of the parameters that were given
	preview     bool              // it shows, and does not send (see Preview)
	examples    []string          // parameters that have the document's example for a value
	own         *httpsend.Client
	guarded     *httpsend.Client
}

var (
	_ sinks.Sink                 = (*Sink)(nil)
	_ sinks.RecipientDecoder     = (*Sink)(nil)
	_ sinks.Validator            = (*Sink)(nil)
	_ sinks.WindowedDeduplicator = (*Sink)(nil)
	_ sinks.Rated                = (*Sink)(nil)
	_ sinks.Receivers            = (*Sink)(nil)
	_ sinks.EndsWithContext      = (*Sink)(nil)
	_ sinks.Adviser              = (*Sink)(nil)
	_ sinks.Previewer            = (*Sink)(nil)
)

// documentKeys are the keys of a document.
var documentKeys = sync.OnceValue(func() []string {
	var keys []string
	for f := range reflect.TypeFor[Document]().Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		keys = append(keys, name)
	}
	return keys
})

// build makes the sink. given are the values of the document's parameters.
func build(kind, name string, d *Document, given map[string]any, o *Options) (*Sink, error) {
	if o == nil {
		if o = defaults.Load(); o == nil {
			o = &Options{}
		}
	}
	c := &compiler{doc: d, options: o, preset: kind != Kind, values: map[string]string{}, names: names{parameters: d.Parameters, recipient: d.Recipient}}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if _, ok := d.Parameters[key]; !ok {
			known := slices.Sorted(maps.Keys(d.Parameters))
			c.faults = append(c.faults, &sinks.ConfigError{Key: key, Hint: "unknown key; known: " + strings.Join(known, ", "), Known: known})
		}
	}
	c.declared(given)
	s := &Sink{name: name, kind: kind, parameters: c.values, fields: d.Recipient, patterns: map[string]*regexp.Regexp{}, content: d.Content}
	for name, f := range d.Recipient {
		s.patterns[name], _ = compile(f.Pattern) // declared has judged it
	}
	switch d.Method {
	case "":
		s.method = nethttp.MethodPost
	case nethttp.MethodPost, nethttp.MethodPut:
		s.method = d.Method
	default:
		c.word("method", "want POST or PUT", d.Method, []string{nethttp.MethodPost, nethttp.MethodPut})
	}
	s.address, s.headers, s.body = c.address(), c.headers(), c.body()
	if s.contentType = d.ContentType; s.contentType == "" {
		s.contentType = mediaTypes[d.Content]
		if d.Content == "" {
			s.contentType = mediaTypes[contentJSON]
		}
	} else if !headerValue(s.contentType) {
		c.own("content_type", "not a media type")
	}
	s.auth, s.limits, s.rate = c.authorization(d.Auth), c.limits(), c.rate()
	var err error
	if s.window, err = d.window(); err != nil {
		c.within("dedup", err)
	} else if s.window != 0 && !c.identified() {
		c.own("dedup", "nothing of the request holds $(id), $(id.hash) or $(id.uuid): the receiver recognises nothing")
	}
	s.verdict = d.reading(&c.faults)
	if s.guard, err = guard.New(d.AllowPrivateRecipients, d.AllowedHosts); err != nil {
		c.faults = append(c.faults, err)
	}
	if err := errors.Join(c.faults...); err != nil {
		return nil, err
	}
	s.examples, s.given = c.examples(given), map[string]string{}
	for name := range given {
		s.given[name] = d.Parameters[name].Type
	}
	s.own = httpsend.NewClient(&httpsend.Options{Proxy: o.Proxy, RootCAs: o.RootCAs})
	if s.address.recipient {
		s.guarded = httpsend.NewClient(&httpsend.Options{Guard: s.guard.Addresses(), RootCAs: o.RootCAs})
	}
	return s, nil
}

// identified reports whether an id stands in the request.
func (c *compiler) identified() bool {
	found := false
	look := func(s string) {
		t, err := c.names.parse(s)
		for _, p := range t.placeholders() {
			found = found || err == nil && slices.ContainsFunc(p.paths, func(at path) bool { return at.root == "id" })
		}
	}
	look(c.doc.URL.Reveal())
	for _, value := range c.doc.Headers {
		look(value.Reveal())
	}
	walk(c.doc.Body.tree, look)
	return found
}

// Name returns the sink's name.
func (s *Sink) Name() string { return s.name }

// EndsWithContext returns true for s itself: net/http gives a request up as soon as its context
// ends.
func (s *Sink) EndsWithContext(called sinks.Sink) bool { return called == sinks.Sink(s) }

// DedupWindow returns for how long the receiver recognises a message (Document.Dedup).
func (s *Sink) DedupWindow() time.Duration { return s.window }

// Format keeps the sink's secrets out of any formatted output.
func (s *Sink) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.kind+" sink "+s.name) }

// DecodeRecipient decodes an object of the document's recipient fields into a Recipient, texts and
// numbers as they are written, and an absent one into nil. Errors are INVALID_ARGUMENT and name the
// field.
func (s *Sink) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	var object map[string]json.RawMessage
	if err := strictjson.DecodePart(raw, &object); err != nil {
		if f, ok := errors.AsType[*strictjson.Error](err); ok && f.Field != "" {
			return nil, invalid("recipient."+f.Field, f.Msg)
		}
		return nil, invalid("recipient", "want an object of its fields")
	}
	if object == nil {
		return nil, nil
	}
	to := Recipient{}
	known := slices.Sorted(maps.Keys(s.fields))
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if _, ok := s.fields[name]; !ok {
			if len(known) == 0 {
				return nil, invalid("recipient", "the sink takes none")
			}
			return nil, invalid(fmt.Sprintf("recipient.%.40q", name), "unknown field; known: "+strings.Join(known, ", "))
		}
		value := object[name]
		if string(value) == "null" {
			continue
		}
		text, err := scalar(value)
		if err != nil || value[0] == 't' || value[0] == 'f' {
			return nil, invalid("recipient."+name, "want a text")
		}
		to[name] = text
	}
	if err := s.judge(to); err != nil {
		return nil, err
	}
	if len(to) == 0 {
		return nil, nil
	}
	return to, nil
}

// judge checks the fields that a recipient has, and that it has those that it must.
func (s *Sink) judge(to Recipient) error {
	for _, name := range slices.Sorted(maps.Keys(s.fields)) {
		value, f := to[name], s.fields[name]
		switch {
		case value == "" && f.Required && f.Default == "":
			return invalid("recipient."+name, "missing or empty")
		case value == "":
		case !utf8.ValidString(value):
			return invalid("recipient."+name, "not valid UTF-8")
		case !matches(s.patterns[name], value):
			return invalid("recipient."+name, "does not match "+f.Pattern)
		}
	}
	if s.address.recipient && to["url"] != "" {
		_, err := s.guard.CheckURL(to["url"])
		return err
	}
	return nil
}

// recipient returns the Recipient that to is.
func recipient(to sinks.Recipient) (Recipient, error) {
	switch to := to.(type) {
	case nil:
		return nil, nil
	case Recipient:
		return to, nil
	}
	return nil, invalid("recipient", fmt.Sprintf("want an http.Recipient, got %T", to))
}

// RateKey returns what the rate is counted by for a recipient (Document.RateBy).
func (s *Sink) RateKey(to sinks.Recipient) string {
	r, err := recipient(to)
	if s.rate == nil || err != nil {
		return ""
	}
	key, _, err := s.rate.expand(&values{parameters: s.parameters, fields: s.fields, to: r, lenient: true, left: maxRequest}, nil)
	if err != nil {
		return ""
	}
	return key
}

// Receiver names the origin of a recipient's own URL, scheme and host alone; empty for the sink's.
func (s *Sink) Receiver(to sinks.Recipient) string {
	r, err := recipient(to)
	if err != nil || !s.address.recipient || r["url"] == "" {
		return ""
	}
	return sinks.SafeURL(r["url"])
}

// Request is a message as it is sent, without what auth adds.
type Request struct {
	Method string
	URL    *url.URL
	Header nethttp.Header
	Body   []byte

	label      string
	recipients bool // the URL is the recipient's
}

// Validate returns nil when m can be sent to to. Errors are INVALID_ARGUMENT and name the field.
// What only the delivery knows ($(ttl), $(group)) is taken to be there.
func (s *Sink) Validate(to sinks.Recipient, m sinks.Message) error {
	_, err := s.render(to, m, &values{judged: true})
	return err
}

// Render returns the request that m would make under ctx, without what auth adds: it may hold the
// sink's secrets.
func (s *Sink) Render(ctx context.Context, to sinks.Recipient, m sinks.Message) (*Request, error) {
	return s.render(to, m, &values{d: sinks.DeliveryOf(ctx)})
}

func (s *Sink) render(to sinks.Recipient, m sinks.Message, v *values) (*Request, error) {
	r, err := recipient(to)
	if err != nil {
		return nil, err
	}
	if m.ID == "" {
		m.ID = uuid.Must(uuid.NewV7()).String()
	}
	if err := fault.CheckID(m.ID); err != nil {
		return nil, sinks.Terminal(err)
	}
	if err := s.judge(r); err != nil {
		return nil, err
	}
	v.preview = s.preview
	v.sink, v.parameters, v.fields, v.to, v.m, v.left = s.name, s.parameters, s.fields, r, m, maxRequest
	for _, l := range s.limits {
		if err := l.checkText(v); err != nil {
			return nil, err
		}
	}
	v.left = maxRequest
	out := &Request{Method: s.method, Header: nethttp.Header{"Content-Type": {s.contentType}, "User-Agent": {"backstop"}}}
	if out.URL, out.recipients, err = s.address.expand(v); err != nil {
		return nil, err
	}
	if out.recipients {
		if out.URL, err = s.guard.CheckURL(v.field("url")); err != nil {
			return nil, err
		}
	}
	out.label = sinks.SafeURL(out.URL.String())
	for _, h := range s.headers {
		value, kept, err := h.value.expand(v, nil)
		switch {
		case err != nil:
			return nil, err
		case !kept:
			continue
		case !headerValue(value):
			return nil, invalid(fieldsOf(h.value), "cannot be a header: it holds a control character, or white space at an end")
		}
		out.Header[h.name] = []string{value}
	}
	if out.Body, err = s.encode(v); err != nil {
		return nil, err
	}
	for _, l := range s.limits {
		if n := len(out.Body); l.of == nil && l.bytes > 0 && n > l.bytes {
			return nil, invalid("message", fmt.Sprintf("%s has %d bytes; %d are taken", l.source, n, l.bytes))
		} else if l.of == nil && l.characters > 0 && utf8.RuneCount(out.Body) > l.characters {
			return nil, invalid("message", fmt.Sprintf("%s has %d characters; %d are taken", l.source, utf8.RuneCount(out.Body), l.characters))
		}
	}
	return out, nil
}

// checkText measures a text of the message.
func (l limit) checkText(v *values) error {
	if l.of == nil {
		return nil
	}
	lenient := *v
	lenient.lenient = true
	s, _, err := l.of.expand(&lenient, nil)
	if err != nil {
		return err
	}
	n, most, unit := utf8.RuneCountInString(s), l.characters, "characters"
	if l.bytes > 0 && len(s) > l.bytes {
		n, most, unit = len(s), l.bytes, "bytes"
	}
	if most > 0 && n > most {
		return invalid(l.source, fmt.Sprintf("%d %s; %d are taken", n, unit, most))
	}
	return nil
}

// Send makes one request. Errors are INVALID_ARGUMENT, as Validate's, SINK_CONFIG_INVALID for what
// only shows when it is sent, and SINK_UNAVAILABLE with the mark that the document's outcomes give
// it, or around ctx's error when ctx ended before the message was sent.
func (s *Sink) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	r, err := s.Render(ctx, to, m)
	if err != nil {
		return err
	}
	if s.auth.header != nil && sinks.ForwardOf(ctx) == nil {
		h, err := s.auth.header(ctx, &signable{method: r.Method, url: r.URL, header: r.Header, body: r.Body})
		if err != nil {
			return err
		}
		for name, values := range h {
			r.Header[name] = values
		}
	}
	client := s.own
	if r.recipients {
		client = s.guarded
	}
	resp, err := client.Post(ctx, httpsend.Request{Method: r.Method, URL: r.URL, Label: r.label, Header: r.Header, Body: r.Body})
	if err != nil {
		return err
	}
	if resp.Forwarded {
		return resp.Developer(r.label)
	}
	a := read(resp)
	err = s.verdict.err(r.label, a)
	if id := shown(a.at(s.verdict.id)); err == nil && id != "" {
		sinks.NoteReceipt(ctx, id)
	}
	if _, decided := s.verdict.meaning(a); err != nil && resp.Status == nethttp.StatusUnauthorized && s.auth.refused(r.Header) && !decided {
		return sinks.Transient(resp.Unavailable(r.label, shown(a.at(s.verdict.code)))) // the next token is fresh
	}
	return err
}
