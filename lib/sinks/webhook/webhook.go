// Package webhook delivers messages as HTTP POST requests, by the Standard Webhooks
// conventions (https://www.standardwebhooks.com): the headers webhook-id, which is
// the same in every attempt and replay, webhook-timestamp and webhook-signature.
//
// Importing the package makes the kind known to configurations. In code, start with New and
// Config; a message that is sent with a Recipient goes to its URL instead of the sink's own.
// There is no method but POST, and no body but JSON.
//
// Any 2xx answer is a delivery. 408, 421, 425, 429 and 5xx are transient, and so are 403
// and 413 with a Retry-After; every other answer is terminal, 101 and other 1xx as the
// last word too. Redirects are not followed.
package webhook

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"backstop/lib/fault"
	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/guard"
	"backstop/lib/sinks/internal/httpsend"
	"backstop/lib/sinks/internal/recipient"
)

// Kind is the name of this kind in configurations.
const Kind = "webhook"

func init() { sinks.RegisterFactory(Kind, Factory(nil)) }

// Options are settings that a configuration cannot express. The zero value, and a nil pointer,
// connect directly and trust the system's certificate authorities.
type Options struct {
	// Proxy selects the proxy for requests to the sink's own URL, as
	// http.Transport.Proxy does. Nil: none. Recipients' URLs never use a proxy, so
	// that the address guard sees the address that is really connected to.
	Proxy func(*http.Request) (*url.URL, error)
	// RootCAs are the certificate authorities to trust. Nil: the system's.
	RootCAs *x509.CertPool
}

// Factory returns the kind's factory. To give every webhook sink a proxy, register it
// again: sinks.RegisterFactory(webhook.Kind, webhook.Factory(&webhook.Options{...})).
func Factory(o *Options) sinks.Factory {
	return func(name string, raw map[string]any) (sinks.Sink, error) {
		return sinks.Configure(raw, func(c Config) (*Sink, error) { return New(name, c, o) })
	}
}

// Recipient is where one message goes instead of the sink's own URL.
type Recipient struct {
	// URL must be http or https, without credentials, on port 80, 443 or at least
	// 1024, and lead to a public address, unless the sink allows private ones. Empty:
	// the sink's own URL.
	URL string `json:"url,omitempty"`
}

// Sink posts messages. It is safe for concurrent use.
type Sink struct {
	name    string
	url     *url.URL
	label   string      // url in errors
	headers http.Header // the operator's, for url's origin only
	keys    [][]byte
	raw     bool
	guard   guard.Guard
	own     *httpsend.Client // to url
	guarded *httpsend.Client // to recipients' URLs
}

var (
	_ sinks.Sink             = (*Sink)(nil)
	_ sinks.RecipientDecoder = (*Sink)(nil)
	_ sinks.Validator        = (*Sink)(nil)
	_ sinks.Deduplicator     = (*Sink)(nil)
	_ sinks.EndsWithContext  = (*Sink)(nil)
	_ sinks.Previewer        = (*Sink)(nil)
)

// New returns the sink called name. All faults of c are reported together, as
// *sinks.ConfigError values. It does no I/O.
func New(name string, c Config, o *Options) (*Sink, error) {
	if o == nil {
		o = &Options{}
	}
	s := &Sink{name: name}
	if err := c.parse(s); err != nil {
		return nil, err
	}
	s.label = sinks.SafeURL(s.url.String())
	s.own = httpsend.NewClient(&httpsend.Options{Proxy: o.Proxy, RootCAs: o.RootCAs})
	s.guarded = httpsend.NewClient(&httpsend.Options{Guard: s.guard.Addresses(), RootCAs: o.RootCAs})
	return s, nil
}

// Name returns the sink's name.
func (s *Sink) Name() string { return s.name }

// Deduplicates returns true: receivers recognise a message by its webhook-id.
func (*Sink) Deduplicates() bool { return true }

// EndsWithContext returns true for s itself: net/http gives a request up as soon as its context
// ends.
func (s *Sink) EndsWithContext(called sinks.Sink) bool { return called == sinks.Sink(s) }

// Format keeps the sink's secrets out of any formatted output.
func (s *Sink) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Kind+" sink "+s.name) }

// DecodeRecipient decodes {"url": "..."} into a Recipient, and an absent one into
// nil. Errors are INVALID_ARGUMENT and name the field.
func (s *Sink) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	url, given, err := recipient.Decode(raw, "url")
	if err != nil || !given {
		return nil, err
	}
	r := Recipient{URL: url}
	if _, err := s.target(r); err != nil {
		return nil, err
	}
	return r, nil
}

// Receiver names the origin of a recipient's own URL, scheme and host alone; empty for the
// sink's.
func (s *Sink) Receiver(to sinks.Recipient) string {
	t, err := s.target(to)
	if err != nil || t.url.Scheme == s.url.Scheme && t.url.Host == s.url.Host {
		return ""
	}
	return t.label
}

// target is a URL that a message goes to.
type target struct {
	url     *url.URL
	label   string
	client  *httpsend.Client
	headers http.Header
}

// target finds out where a message to r goes.
func (s *Sink) target(to sinks.Recipient) (target, error) {
	own := target{url: s.url, label: s.label, client: s.own, headers: s.headers}
	switch r := to.(type) {
	case nil:
		return own, nil
	case Recipient:
		if r.URL == "" {
			return own, nil
		}
		u, err := s.guard.CheckURL(r.URL)
		if err != nil {
			return target{}, err
		}
		t := target{url: u, label: sinks.SafeURL(r.URL), client: s.guarded}
		if u.Scheme == s.url.Scheme && u.Host == s.url.Host {
			t.headers = s.headers
		}
		return t, nil
	default:
		return target{}, invalid("recipient", fmt.Sprintf("want a webhook.Recipient, got %T", to))
	}
}

// Validate returns nil when m can be sent to to. Errors are INVALID_ARGUMENT and name the
// field.
func (s *Sink) Validate(to sinks.Recipient, m sinks.Message) error {
	if _, err := s.target(to); err != nil {
		return err
	}
	_, err := s.header(m)
	return err
}

// header returns the headers that come from m, or why m cannot be sent. Nothing is encoded
// yet: a large body costs more to encode than to send.
func (s *Sink) header(m sinks.Message) (http.Header, error) {
	if m.ID != "" {
		if err := fault.CheckID(m.ID); err != nil {
			return nil, sinks.Terminal(err)
		}
	}
	h, err := s.metadataHeader(m.Metadata)
	switch {
	case err != nil:
		return nil, err
	case !utf8.ValidString(m.Body):
		return nil, invalid("message.body", "not valid UTF-8")
	case s.raw && !json.Valid([]byte(m.Body)):
		return nil, invalid("message.body", "not JSON, which the format raw posts")
	case !s.raw && !utf8.ValidString(m.Subject):
		return nil, invalid("message.subject", "not valid UTF-8")
	}
	return h, nil
}

// body encodes a message that can be sent.
func (s *Sink) body(m sinks.Message) []byte {
	if s.raw {
		return []byte(m.Body)
	}
	return envelope(m)
}

// The headers that are the same in every request; read only.
var (
	contentType = []string{"application/json"}
	userAgent   = []string{"backstop"}
)

// request returns what is posted, and where to.
func (s *Sink) request(to sinks.Recipient, m sinks.Message) (t target, h http.Header, body []byte, err error) {
	if t, err = s.target(to); err != nil {
		return target{}, nil, nil, err
	}
	if h, err = s.header(m); err != nil {
		return target{}, nil, nil, err
	}
	body = s.body(m)
	for name, values := range t.headers {
		h[name] = values
	}
	id := m.ID
	if id == "" {
		id = uuid.Must(uuid.NewV7()).String()
	}
	now := time.Now().Unix()
	h["Content-Type"] = contentType
	h["Webhook-Id"] = []string{id}
	h["Webhook-Timestamp"] = []string{strconv.FormatInt(now, 10)}
	if len(s.keys) > 0 {
		h["Webhook-Signature"] = []string{signature(s.keys, id, now, body)}
	}
	if h["User-Agent"] == nil {
		h["User-Agent"] = userAgent
	}
	return t, h, body, nil
}

// Preview returns what Send would post, without the path and query of the sink's URL, its headers and
// the signature. Errors are those of Validate.
func (s *Sink) Preview(_ context.Context, to sinks.Recipient, m sinks.Message) (sinks.Preview, error) {
	t, h, body, err := s.request(to, m)
	if err != nil {
		return sinks.Preview{}, err
	}
	p := sinks.Preview{Method: http.MethodPost, URL: t.url.String(), Header: map[string]string{}, Body: string(body)}
	if t.url == s.url {
		p.URL = sinks.RedactedURL(p.URL)
	}
	for name := range h {
		p.Header[name] = h.Get(name)
		if t.headers[name] != nil || name == "Webhook-Signature" {
			p.Header[name] = sinks.Redacted
		}
	}
	return p, nil
}

// Send posts m once, to the sink's own URL or that of to, a Recipient. A message without an
// ID gets a fresh one for this attempt. Errors are INVALID_ARGUMENT, as Validate's, and
// SINK_UNAVAILABLE with the mark that the package's comment names, or around ctx's error
// when ctx ended before the message was sent.
func (s *Sink) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	t, h, body, err := s.request(to, m)
	if err != nil {
		return err
	}
	resp, err := t.client.Post(ctx, httpsend.Request{URL: t.url, Label: t.label, Header: h, Body: body})
	if err != nil {
		return err
	}
	if resp.Status >= 200 && resp.Status <= 299 {
		return nil
	}
	return resp.Error(t.label, "", resp.Passing())
}
