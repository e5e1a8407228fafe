// Package fcm delivers messages to devices, topics and conditions through Firebase Cloud Messaging
// (HTTP v1).
//
// Importing the package makes the kind known to configurations. In code, start with New and
// Config. A message's Recipient is a device's registration token, a topic or a condition; a sink
// may have a default.
//
// Subject and body become the notification's title and body; a message without both is a data
// message, which the app itself handles. Metadata becomes data: the key "data" holds a JSON object
// of texts, and every other key is one of them. The data always holds the delivery's ID as
// "delivery_id".
//
// A second copy of a message replaces the first on the device: both have one notification tag
// (Android, web) and one apns-collapse-id, made of the delivery's ID. A data message says its
// delivery_id. There is no collapse_key: FCM ignores it for notifications, and keeps no more than
// four of them for a device that is offline.
//
// A 200 that names the message is a delivery. UNREGISTERED says that the device is gone. 408, 425,
// 429 (after a minute where the answer names no time), 5xx, and 403 and 413 with a Retry-After are
// transient, and so is a 401 whose access token was not fresh: the next attempt has another. Any
// other answer is terminal, with FCM's own word. A 200 that names no message is ambiguous. A failure
// to get an access token is never ambiguous, and says "token endpoint".
package fcm

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"sync"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
	"backstop/lib/sinks/internal/tokens"
)

// Kind is the name of this kind in configurations.
const Kind = "fcm"

const (
	// host is where FCM is.
	host = "https://fcm.googleapis.com"
	// scope is what an access token is asked for.
	scope = "https://www.googleapis.com/auth/firebase.messaging"
	// minute is how long to wait after a 429 that does not say: FCM's quotas are per minute, and
	// its guide (https://firebase.google.com/docs/cloud-messaging/scale-fcm, read 2026-11-27) asks
	// for that.
	minute = "60"
)

func init() { sinks.RegisterFactory(Kind, Factory(nil)) }

// Config is the configuration of an FCM sink.
type Config struct {
	// ServiceAccount is the JSON key file of a service account that may send messages. Required.
	ServiceAccount sinks.Secret `json:"service_account"`
	// ProjectID is the Firebase project. Empty: the service account's.
	ProjectID string `json:"project_id,omitempty"`
	// Token is the device for messages without a recipient.
	Token sinks.Secret `json:"token,omitempty"`
	// Topic is the topic for messages without a recipient. At most one of Token and Topic is given.
	Topic string `json:"topic,omitempty"`
	// BaseURL is where the API is. Empty: https://fcm.googleapis.com. The token endpoint is the key
	// file's token_uri.
	BaseURL string `json:"base_url,omitempty"`
}

// Options are settings that a configuration cannot express. The zero value, and a nil pointer,
// connect directly and trust the system's certificate authorities.
type Options struct {
	// Proxy selects the proxy of a request, as http.Transport.Proxy does. Nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	// RootCAs are the certificate authorities to trust. Nil: the system's.
	RootCAs *x509.CertPool
}

// Factory returns the kind's factory. To give every FCM sink a proxy, register it again:
// sinks.RegisterFactory(fcm.Kind, fcm.Factory(&fcm.Options{...})).
func Factory(o *Options) sinks.Factory {
	return func(name string, raw map[string]any) (sinks.Sink, error) {
		return sinks.Configure(raw, func(c Config) (*Sink, error) { return New(name, c, o) })
	}
}

// Sink sends messages to the devices of one Firebase project. It is safe for concurrent use.
type Sink struct {
	name   string
	url    *url.URL
	label  string
	to     Recipient // the default
	client *httpsend.Client
	tokens *tokens.Cache
}

var (
	_ sinks.Sink             = (*Sink)(nil)
	_ sinks.RecipientDecoder = (*Sink)(nil)
	_ sinks.Validator        = (*Sink)(nil)
	_ sinks.Deduplicator     = (*Sink)(nil)
	_ sinks.EndsWithContext  = (*Sink)(nil)
	_ sinks.Previewer        = (*Sink)(nil)
)

// project matches project ids, also those of a domain ("example.com:shop").
var project = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9.:-]*$`) })

// New returns the sink called name. Faults of c are joined *sinks.ConfigError values. It does no
// I/O.
func New(name string, c Config, o *Options) (*Sink, error) {
	if o == nil {
		o = &Options{}
	}
	var faults []error
	fault := func(key, why string) { faults = append(faults, &sinks.ConfigError{Key: key, Hint: why}) }
	s := &Sink{name: name, client: httpsend.NewClient(&httpsend.Options{Proxy: o.Proxy, RootCAs: o.RootCAs})}
	var err error
	if s.tokens, err = tokens.ServiceAccount(s.client, c.ServiceAccount, scope, nil); err != nil {
		fault("service_account", err.Error())
	}
	id := cmp.Or(c.ProjectID, tokens.ProjectID(c.ServiceAccount))
	switch {
	case id == "" && err == nil:
		fault("project_id", "required: the service account names none")
	case id != "" && !project().MatchString(id):
		fault("project_id", "not a project's id")
	}
	if s.url, err = base(cmp.Or(c.BaseURL, host)); err != nil {
		fault("base_url", err.Error())
	} else {
		s.url = s.url.JoinPath("v1", "projects", id, "messages:send")
		s.label = sinks.SafeURL(s.url.String())
	}
	s.to = Recipient{Token: c.Token.Reveal(), Topic: c.Topic}
	switch {
	case c.Token != "" && c.Topic != "":
		fault("topic", "not beside token: one message goes to one of them")
	case s.to != Recipient{}:
		if field, why := s.to.fault(); why != "" {
			fault(field, why)
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return s, nil
}

func base(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("not an http or https URL")
	}
	u.Path = cmp.Or(u.Path, "/") // what is joined to none has no slash
	return u, nil
}

// Name returns the sink's name.
func (s *Sink) Name() string { return s.name }

// Deduplicates returns true: a second copy replaces the first on the device.
func (*Sink) Deduplicates() bool { return true }

// EndsWithContext returns true for s itself: net/http gives a request up as soon as its context
// ends, and nobody waits longer for an access token.
func (s *Sink) EndsWithContext(called sinks.Sink) bool { return called == sinks.Sink(s) }

// Format keeps the sink's secrets out of any formatted output.
func (s *Sink) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Kind+" sink "+s.name) }

// Preview returns what Send would post, without the project's id, the sink's default recipient and the
// access token, which it does not get. Errors are those of Validate.
func (s *Sink) Preview(ctx context.Context, to sinks.Recipient, m sinks.Message) (sinks.Preview, error) {
	out, err := s.compose(to, m)
	if err != nil {
		return sinks.Preview{}, err
	}
	out.expire(sinks.DeliveryOf(ctx).ExpiresAt)
	if to == nil {
		out.Recipient = hidden(out.Recipient)
	}
	body, err := out.encode()
	return sinks.Preview{
		Method: http.MethodPost, URL: s.label + "/" + sinks.Redacted + "/messages:send",
		Header: map[string]string{"Authorization": sinks.Redacted, "Content-Type": "application/json", "User-Agent": "backstop"},
		Body:   string(body),
	}, err
}

// hidden returns r with its value hidden.
func hidden(r Recipient) Recipient {
	for _, v := range []*string{&r.Token, &r.Topic, &r.Condition} {
		if *v != "" {
			*v = sinks.Redacted
		}
	}
	return r
}

// Send sends m once to a Recipient, or to the sink's default. FCM keeps it for a device that is
// offline until it expires (sinks.Delivery), at most for four weeks. Errors are INVALID_ARGUMENT, as
// Validate's, and SINK_UNAVAILABLE with the mark that the package's comment names, or around ctx's
// error when ctx ended before the message was sent.
func (s *Sink) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	out, err := s.compose(to, m)
	if err != nil {
		return err
	}
	out.expire(sinks.DeliveryOf(ctx).ExpiresAt)
	body, err := out.encode()
	if err != nil {
		return err
	}
	token, err := s.tokens.Get(ctx)
	if err != nil {
		return err
	}
	header := http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "User-Agent": {"backstop"}}
	resp, err := s.client.Post(ctx, httpsend.Request{URL: s.url, Label: s.label, Header: header, Body: body})
	if err != nil {
		return err
	}
	if resp.Forwarded {
		return resp.Developer(s.label)
	}
	return s.judge(resp, token)
}

// words are FCM's errors (https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode, read
// 2026-11-27), and the canonical ones of Google's APIs, which stand in an answer's status. Nothing
// else of an answer is shown: it quotes what was sent. True: they are for good, whatever comes with
// them.
var words = map[string]bool{
	"UNREGISTERED": true, "INVALID_ARGUMENT": true, "SENDER_ID_MISMATCH": true, "THIRD_PARTY_AUTH_ERROR": true,
	"QUOTA_EXCEEDED": false, "UNAVAILABLE": false, "INTERNAL": false, "UNSPECIFIED_ERROR": false,
	"UNAUTHENTICATED": false, "PERMISSION_DENIED": false, "NOT_FOUND": false, "RESOURCE_EXHAUSTED": false, "FAILED_PRECONDITION": false,
	"DEADLINE_EXCEEDED": false, "ABORTED": false, "CANCELLED": false, "UNIMPLEMENTED": false, "UNKNOWN": false,
}

// said is an answer, as far as it is read.
type said struct {
	Name  string `json:"name"`
	Error struct {
		Status  string `json:"status"`
		Details []struct {
			ErrorCode string `json:"errorCode"`
		} `json:"details"`
	} `json:"error"`
}

// word returns the word of an error; empty where it is not known.
func (a *said) word() string {
	for _, d := range a.Error.Details {
		if _, known := words[d.ErrorCode]; known {
			return d.ErrorCode
		}
	}
	if _, known := words[a.Error.Status]; known {
		return a.Error.Status
	}
	return ""
}

// judge returns nil for a delivery, and what an answer says otherwise.
func (s *Sink) judge(resp *httpsend.Response, token string) error {
	var a said
	if resp.Whole {
		_ = json.Unmarshal(resp.Body, &a) // what cannot be read says nothing
	}
	word := a.word()
	switch {
	case resp.Status >= 200 && resp.Status <= 299:
		if a.Name != "" {
			return nil
		}
		// The status is the one of a delivery.
		why := "but the answer names no message"
		if !resp.Whole {
			why = "but the answer broke off"
		}
		return sinks.Ambiguous(&sinks.Error{
			Code: sinks.CodeSinkUnavailable,
			Msg:  fmt.Sprintf("POST %s: HTTP %d %s, %s", s.label, resp.Status, http.StatusText(resp.Status), why),
		})
	case word == "UNREGISTERED":
		return sinks.Gone(resp.Error(s.label, word, false))
	case words[word]:
		return resp.Error(s.label, word, false)
	case resp.Status == http.StatusUnauthorized:
		return resp.Error(s.label, word, s.tokens.Drop(token))
	case resp.Status == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "":
		resp.Header.Set("Retry-After", minute)
	}
	return resp.Error(s.label, word, resp.Passing())
}

func invalid(field, why string) error {
	return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: field + ": " + why})
}
