// Package pager is an example of a sink kind of one's own: it pages a team through an
// imaginary on-call service. Backstop's docs/custom-sinks.md walks through it.
package pager

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// Kind is the name of this kind in configurations.
const Kind = "pager"

//nolint:gochecknoinits // a kind's one call
func init() { sinks.RegisterFactory(Kind, factory) }

// Config is the configuration of a pager sink.
type Config struct {
	// URL is the service's endpoint, http or https, without credentials. Required.
	URL string `json:"url"`
	// Token authenticates. Required.
	Token sinks.Secret `json:"token"`
	// Team is paged when a message names no other. Required.
	Team string `json:"team"`
}

func factory(name string, raw map[string]any) (sinks.Sink, error) {
	return sinks.Configure(raw, func(c Config) (*Sink, error) { return New(name, c) })
}

// Recipient is who is paged.
type Recipient struct {
	Team string `json:"team,omitempty"` // empty: the sink's team
}

// Sink pages teams. It is safe for concurrent use.
type Sink struct {
	name   string
	config Config
	label  string // of the destination, for errors
	client *http.Client
}

// New returns the sink called name. All faults of c are reported together, as
// *sinks.ConfigError values. It does no I/O.
func New(name string, c Config) (*Sink, error) {
	var faults []error
	u, err := url.Parse(c.URL)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		faults = append(faults, &sinks.ConfigError{Key: "url", Msg: "want an http or https URL without credentials and query"})
	}
	if c.Token == "" {
		faults = append(faults, &sinks.ConfigError{Key: "token", Msg: "required"})
	}
	if c.Team == "" {
		faults = append(faults, &sinks.ConfigError{Key: "team", Msg: "required"})
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return &Sink{name: name, config: c, label: sinks.SafeURL(c.URL), client: &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 3 * time.Second, // which goes on when its request was given up
			DisableCompression:  true,            // never inflate an answer that nobody reads
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     30 * time.Second,
		},
		// A redirect would carry the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Name returns the sink's name.
func (s *Sink) Name() string { return s.name }

// Format keeps the token out of formatted output: fmt does not call the methods of
// unexported fields.
func (s *Sink) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Kind+" sink "+s.name) }

// Deduplicates returns true: the service opens one page for a dedupe_key.
func (*Sink) Deduplicates() bool { return true }

// DecodeRecipient decodes {"team": "..."}, and an absent recipient into nil.
func (*Sink) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var r Recipient
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || d.More() {
		return nil, invalid("recipient", `want {"team": "..."}`)
	}
	return r, nil
}

// Validate reports whether m can be sent to to at all.
func (s *Sink) Validate(to sinks.Recipient, m sinks.Message) error {
	_, err := s.body(to, m)
	return err
}

// body builds the request's body. It fails exactly when m can never be sent.
func (s *Sink) body(to sinks.Recipient, m sinks.Message) ([]byte, error) {
	team := s.config.Team
	switch r := to.(type) {
	case nil:
	case Recipient:
		if r.Team != "" {
			team = r.Team
		}
	default:
		return nil, invalid("recipient", fmt.Sprintf("want a pager.Recipient, got %T", to))
	}
	if m.ID != "" {
		if err := fault.CheckID(m.ID); err != nil {
			return nil, sinks.Terminal(err)
		}
	}
	if !utf8.ValidString(m.Subject) || !utf8.ValidString(m.Body) {
		return nil, invalid("message", "not valid UTF-8")
	}
	return json.Marshal(map[string]any{
		"team": team, "dedupe_key": m.ID, "title": m.Subject, "text": m.Body, "details": m.Metadata,
	})
}

// Send pages once.
func (s *Sink) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	body, err := s.body(to, m)
	if err != nil {
		return err
	}
	var written atomic.Bool // whether the service may have the message
	sending, stop := context.WithCancel(ctx)
	defer stop()
	traced := httptrace.WithClientTrace(sending, &httptrace.ClientTrace{
		GotConn:      func(httptrace.GotConnInfo) { written.Store(false) },
		WroteRequest: func(i httptrace.WroteRequestInfo) { written.Store(i.Err == nil) },
	})
	req, err := http.NewRequestWithContext(traced, http.MethodPost, s.config.URL, bytes.NewReader(body))
	if err != nil {
		return sinks.Terminal(s.unavailable("not a request that can be sent"))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.config.Token.Reveal())

	resp, err := s.client.Do(req)
	if err != nil {
		return s.failure(ctx, err, written.Load())
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return s.answer(resp) // the body is the connection itself, and no context ends a read of it
	}
	slow := time.AfterFunc(2*time.Second, stop) // an answer that never ends must not hold the sender
	defer slow.Stop()
	_, _ = io.CopyN(io.Discard, resp.Body, 4096) // to its end, so that the connection is used again
	return s.answer(resp)
}

// answer classifies the service's answer.
func (s *Sink) answer(resp *http.Response) error {
	err := s.unavailable(fmt.Sprintf("HTTP %d", resp.StatusCode))
	switch code := resp.StatusCode; {
	case code >= 200 && code <= 299:
		return nil
	case code == http.StatusTooManyRequests || code >= 500:
		if wait, e := strconv.Atoi(resp.Header.Get("Retry-After")); e == nil {
			return sinks.RetryAfter(err, time.Duration(min(wait, 86400))*time.Second)
		}
		return sinks.Transient(err)
	default:
		return sinks.Terminal(err)
	}
}

// failure classifies an attempt without an answer. The cause's text is left out: it may
// hold what the peer sent.
func (s *Sink) failure(ctx context.Context, err error, written bool) error {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return sinks.Unreached(s.unavailable("the certificate is not valid"))
	case written:
		return sinks.Ambiguous(s.unavailable("the request was sent and not answered"))
	case ctx.Err() != nil: // the attempt's time is over; whoever ended it says what that means
		return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: s.label + ": ended before the request was sent", Cause: ctx.Err()}
	default:
		return sinks.Transient(s.unavailable("no connection"))
	}
}

func (s *Sink) unavailable(why string) error {
	return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: s.label + ": " + why}
}

func invalid(field, why string) error {
	return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: field + ": " + why})
}
