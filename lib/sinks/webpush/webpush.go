// Package webpush delivers messages to browsers by Web Push (RFC 8030): encrypted for the browser
// alone (RFC 8291), and signed for its push service by the application's VAPID key (RFC 8292).
//
// Importing the package makes the kind known to configurations. In code, start with New and
// Config. A message's Recipient is the PushSubscription that the browser made: its endpoint names
// the push service, so the address guard applies, and nothing goes through a proxy.
//
// A 2xx says that the push service took the message. 404 and 410 say that the subscription is gone.
// 408, 421, 425, 429, 5xx, 403 and 413 with a Retry-After, and the 406 by which Windows throttles,
// are transient; every other answer is terminal, and so is a 2xx of Windows that says "dropped". The
// header Topic is made of the delivery id: while the first copy of a message waits for its browser,
// a second one replaces it.
package webpush

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"backstop/lib/fault"
	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/collapse"
	"backstop/lib/sinks/internal/guard"
	"backstop/lib/sinks/internal/httpsend"
)

// Kind is the name of this kind in configurations.
const Kind = "webpush"

// The formats of what a service worker gets.
const (
	// FormatNotification sends {"id","title","body","tag","data"}: the title is the subject, data
	// the metadata, and tag is the Topic. It is what showNotification(m.title, m) takes.
	FormatNotification = "notification"
	// FormatRaw sends the message's body itself, byte for byte.
	FormatRaw = "raw"
)

// maxTTL is for how long a push service is asked to keep a message, in seconds: four weeks, the most
// that all of them take.
const maxTTL = 28 * 24 * 60 * 60

func init() { sinks.RegisterFactory(Kind, Factory(nil)) }

// Config is the configuration of a webpush sink.
type Config struct {
	// VAPIDPublicKey is the key that browsers subscribe with (applicationServerKey): 65 bytes in
	// base64url. Required.
	VAPIDPublicKey string `json:"vapid_public_key"`
	// VAPIDPrivateKey belongs to VAPIDPublicKey: 32 bytes in base64url. Required.
	VAPIDPrivateKey sinks.Secret `json:"vapid_private_key"`
	// Subscriber is how a push service reaches the operator: mailto:ops@example.org, or an https
	// URL. Required.
	Subscriber string `json:"subscriber"`
	// Urgency is very-low, low, normal or high: whether a browser that saves its battery gets the
	// message now. Empty: the push service's default, which is normal.
	Urgency string `json:"urgency,omitempty"`
	// Format is FormatNotification (default) or FormatRaw.
	Format string `json:"format,omitempty"`
	// AllowPrivateRecipients lets endpoints lead to loopback and private addresses, also over plain
	// http. Link-local and metadata addresses are refused in any case.
	AllowPrivateRecipients bool `json:"allow_private_recipients,omitempty"`
	// AllowedHosts narrows the hosts of endpoints: names and addresses, or "*.example.org" for
	// every name below example.org. Empty: any public host.
	AllowedHosts []string `json:"allowed_hosts,omitempty"`
}

// Options are settings that a configuration cannot express. The zero value, and a nil pointer,
// trust the system's certificate authorities.
type Options struct {
	// RootCAs are the certificate authorities to trust. Nil: the system's.
	RootCAs *x509.CertPool
}

// Factory returns the kind's factory. To give every webpush sink certificate authorities of its
// own, register it again: sinks.RegisterFactory(webpush.Kind, webpush.Factory(&webpush.Options{...})).
func Factory(o *Options) sinks.Factory {
	return func(name string, raw map[string]any) (sinks.Sink, error) {
		return sinks.Configure(raw, func(c Config) (*Sink, error) { return New(name, c, o) })
	}
}

// Sink pushes messages to browsers. It is safe for concurrent use.
type Sink struct {
	name    string
	vapid   *vapid
	urgency string
	raw     bool
	plain   bool // http is allowed
	guard   guard.Guard
	client  *httpsend.Client
}

var (
	_ sinks.Sink             = (*Sink)(nil)
	_ sinks.RecipientDecoder = (*Sink)(nil)
	_ sinks.Validator        = (*Sink)(nil)
	_ sinks.Deduplicator     = (*Sink)(nil)
	_ sinks.Receivers        = (*Sink)(nil)
	_ sinks.EndsWithContext  = (*Sink)(nil)
	_ sinks.Adviser          = (*Sink)(nil)
	_ sinks.Previewer        = (*Sink)(nil)
)

// New returns the sink called name. All faults of c are reported together, as
// *sinks.ConfigError values. It does no I/O.
func New(name string, c Config, o *Options) (*Sink, error) {
	if o == nil {
		o = &Options{}
	}
	s := &Sink{name: name, urgency: c.Urgency, raw: c.Format == FormatRaw, plain: c.AllowPrivateRecipients}
	var faults []error
	fault := func(key, why string) { faults = append(faults, &sinks.ConfigError{Key: key, Hint: why}) }
	s.vapid = newVAPID(c, fault)
	switch c.Urgency {
	case "", "very-low", "low", "normal", "high":
	default:
		fault("urgency", "want very-low, low, normal or high")
	}
	switch c.Format {
	case "", FormatNotification, FormatRaw:
	default:
		fault("format", "want "+FormatNotification+" or "+FormatRaw)
	}
	var err error
	if s.guard, err = guard.New(c.AllowPrivateRecipients, c.AllowedHosts); err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	s.guard.Field = "recipient.endpoint"
	s.client = httpsend.NewClient(&httpsend.Options{Guard: s.guard.Addresses(), RootCAs: o.RootCAs})
	return s, nil
}

// Name returns the sink's name.
func (s *Sink) Name() string { return s.name }

// Deduplicates returns true: a second copy has the Topic of the first, which it replaces while that
// waits, and its tag, by which a browser replaces a notification that it shows.
func (*Sink) Deduplicates() bool { return true }

// EndsWithContext returns true for s itself: net/http gives a request up as soon as its context
// ends.
func (s *Sink) EndsWithContext(called sinks.Sink) bool { return called == sinks.Sink(s) }

// Format keeps the sink's secrets out of any formatted output.
func (s *Sink) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Kind+" sink "+s.name) }

// Advice names a subscriber that Apple's push service refuses.
func (s *Sink) Advice() []*sinks.ConfigError {
	if local(s.vapid.subscriber) {
		return []*sinks.ConfigError{{Key: "subscriber", Hint: "Apple refuses messages of a subscriber at a local name"}}
	}
	return nil
}

// Receiver names the push service of a recipient by its origin, scheme and host alone.
func (s *Sink) Receiver(to sinks.Recipient) string {
	sub, err := s.subscription(to)
	if err != nil {
		return ""
	}
	return sub.origin
}

// Validate returns nil when m can be sent to to. Errors are INVALID_ARGUMENT and name the
// field.
func (s *Sink) Validate(to sinks.Recipient, m sinks.Message) error {
	if _, err := s.subscription(to); err != nil {
		return err
	}
	_, err := s.payload(m)
	return err
}

// payload returns what the service worker gets, or why m cannot be sent.
func (s *Sink) payload(m sinks.Message) ([]byte, error) {
	if m.ID != "" {
		if err := fault.CheckID(m.ID); err != nil {
			return nil, sinks.Terminal(err)
		}
	}
	if !utf8.ValidString(m.Body) {
		return nil, invalid("message.body", "not valid UTF-8")
	}
	if s.raw {
		return checkSize([]byte(m.Body), len(m.Body))
	}
	size := len(m.Subject) + len(m.Body)
	if size == 0 {
		return nil, invalid("message.body", "empty, and there is no subject")
	}
	if !utf8.ValidString(m.Subject) {
		return nil, invalid("message.subject", "not valid UTF-8")
	}
	for key, value := range m.Metadata {
		size += len(key) + len(value)
		if !utf8.ValidString(key) || !utf8.ValidString(value) {
			return nil, invalid(fmt.Sprintf("message.metadata[%.80q]", key), "not valid UTF-8")
		}
	}
	if size > maxPlain { // nor is it encoded: JSON does not make it shorter
		return checkSize(nil, size)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(struct {
		ID    string            `json:"id,omitempty"`
		Title string            `json:"title"`
		Body  string            `json:"body"`
		Tag   string            `json:"tag,omitempty"`
		Data  map[string]string `json:"data,omitempty"`
	}{m.ID, m.Subject, m.Body, collapse.Key(s.name, m.ID), m.Metadata})
	if err != nil {
		return nil, sinks.Terminal(&sinks.Error{Code: sinks.CodeInternal, Msg: "the message cannot be encoded", Cause: err})
	}
	plain := bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	return checkSize(plain, len(plain))
}

// checkSize returns plain, which has size bytes at least, when a push service takes it.
func checkSize(plain []byte, size int) ([]byte, error) {
	switch {
	case size > maxPlain:
		return nil, invalid("message.body", fmt.Sprintf("%d bytes with what goes beside it, push services take %d", size, maxPlain))
	case size == 0:
		return nil, invalid("message.body", "empty")
	}
	return plain, nil
}

// header returns the headers of a message, without who sends it.
func (s *Sink) header(ctx context.Context, sub subscription, id string, now time.Time) http.Header {
	ttl := timeToLive(sinks.DeliveryOf(ctx).ExpiresAt, now)
	h := http.Header{
		"Content-Encoding": {"aes128gcm"},
		"Content-Type":     {"application/octet-stream"},
		"Ttl":              {strconv.Itoa(ttl)},
		"User-Agent":       {"backstop"},
	}
	if topic := collapse.Key(s.name, id); topic != "" {
		h["Topic"] = []string{topic}
	}
	if s.urgency != "" {
		h["Urgency"] = []string{s.urgency}
	}
	if ttl == 0 && windows(sub.url) {
		h["X-Wns-Cache-Policy"] = []string{"no-cache"} // or it finds fault with a TTL of 0
	}
	return h
}

// Preview returns what Send would post, with the body as the browser decrypts it, and without the
// signature and what the sink's urgency is. Errors are those of Validate.
func (s *Sink) Preview(ctx context.Context, to sinks.Recipient, m sinks.Message) (sinks.Preview, error) {
	sub, err := s.subscription(to)
	if err != nil {
		return sinks.Preview{}, err
	}
	plain, err := s.payload(m)
	if err != nil {
		return sinks.Preview{}, err
	}
	h := s.header(ctx, sub, m.ID, time.Now())
	p := sinks.Preview{Method: http.MethodPost, URL: sub.url.String(), Header: map[string]string{"Authorization": sinks.Redacted}, Body: string(plain)}
	for name := range h {
		p.Header[name] = h.Get(name)
	}
	if s.urgency != "" {
		p.Header["Urgency"] = sinks.Redacted
	}
	return p, nil
}

// Send pushes m once to the subscription to, a Recipient. The push service keeps it until it expires
// (sinks.Delivery), at most for four weeks. Errors are INVALID_ARGUMENT, as Validate's, and
// SINK_UNAVAILABLE with the mark that the package's comment names, or around ctx's error when
// ctx ended before the message was sent.
func (s *Sink) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	sub, err := s.subscription(to)
	if err != nil {
		return err
	}
	plain, err := s.payload(m)
	if err != nil {
		return err
	}
	body, err := encryptFor(sub, plain)
	if err != nil {
		return sinks.Terminal(&sinks.Error{Code: sinks.CodeInternal, Msg: "the message cannot be encrypted", Cause: err})
	}
	now := time.Now()
	authorization, err := s.vapid.authorization(sub.origin, now)
	if err != nil {
		return sinks.Terminal(&sinks.Error{Code: sinks.CodeInternal, Msg: "the request cannot be signed", Cause: err})
	}
	h := s.header(ctx, sub, m.ID, now)
	h.Set("Authorization", authorization)
	resp, err := s.client.Post(ctx, httpsend.Request{URL: sub.url, Label: sub.origin, Header: h, Body: body})
	if err != nil {
		return err
	}
	if resp.Forwarded {
		return resp.Developer(sub.origin)
	}
	return verdict(resp, sub.origin)
}

// timeToLive is how many seconds are left until a message expires. 0: it is for a browser that is
// there now.
func timeToLive(expires, now time.Time) int {
	if expires.IsZero() {
		return maxTTL
	}
	return int(min(max(expires.Sub(now)/time.Second, 0), maxTTL))
}

// windows reports whether an endpoint is one of the Windows Push Notification Services.
func windows(endpoint *url.URL) bool {
	return strings.HasSuffix(strings.ToLower(endpoint.Hostname()), ".notify.windows.com")
}

func invalid(field, why string) error {
	return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: field + ": " + why})
}
