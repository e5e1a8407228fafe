// Package slack delivers messages through a Slack incoming webhook.
//
// Importing the package makes the kind known to configurations. In code, start with New and
// Config. The webhook's URL decides the channel: a message has no recipient, and there are no
// threads, edits or files.
//
// A message's subject becomes a bold first line and its body, which is mrkdwn, the
// text below. Metadata can carry one thing, under the key "blocks": a JSON array of
// Block Kit blocks, which Slack shows instead of the text (the text remains the
// notification). Other metadata has no place in a Slack message and is left out.
//
// A 2xx with the body "ok", or with a JSON object that has "ok": true, as Workflow Builder
// and compatible servers answer, is a delivery. 408, 421, 425, 429, 5xx, and 403 and 413
// with a Retry-After are transient. A known error word, "ok": false and any other status
// are terminal. A 2xx that says neither is ambiguous: the message may be there. Slack
// cannot recognise a message that arrives twice.
package slack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
)

// Kind is the name of this kind in configurations.
const Kind = "slack"

// Slack's limits: it refuses longer texts and more blocks.
const (
	maxText   = 40_000 // characters
	maxBlocks = 50
)

func init() { sinks.RegisterFactory(Kind, Factory(nil)) }

// Config is the configuration of a Slack sink.
type Config struct {
	// WebhookURL is the incoming webhook's URL, which is all that protects the
	// channel. Required.
	WebhookURL sinks.Secret `json:"webhook_url"`
}

// Options are settings that a configuration cannot express. The zero value, and a nil pointer,
// connect directly and trust the system's certificate authorities.
type Options struct {
	// Proxy selects the proxy of a request, as http.Transport.Proxy does. Nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	// RootCAs are the certificate authorities to trust. Nil: the system's.
	RootCAs *x509.CertPool
}

// Factory returns the kind's factory. To give every Slack sink a proxy, register it
// again: sinks.RegisterFactory(slack.Kind, slack.Factory(&slack.Options{...})).
func Factory(o *Options) sinks.Factory {
	return func(name string, raw map[string]any) (sinks.Sink, error) {
		return sinks.Configure(raw, func(c Config) (*Sink, error) { return New(name, c, o) })
	}
}

// Sink posts messages to one Slack channel. It is safe for concurrent use.
type Sink struct {
	name   string
	url    *url.URL
	label  string
	client *httpsend.Client
}

var (
	_ sinks.Sink             = (*Sink)(nil)
	_ sinks.RecipientDecoder = (*Sink)(nil)
	_ sinks.Validator        = (*Sink)(nil)
	_ sinks.EndsWithContext  = (*Sink)(nil)
	_ sinks.Previewer        = (*Sink)(nil)
)

// New returns the sink called name. A fault of c is a *sinks.ConfigError. It does no
// I/O.
func New(name string, c Config, o *Options) (*Sink, error) {
	if o == nil {
		o = &Options{}
	}
	u, err := url.Parse(c.WebhookURL.Reveal())
	switch {
	case c.WebhookURL == "":
		return nil, &sinks.ConfigError{Key: "webhook_url", Hint: "required"}
	case err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https":
		return nil, &sinks.ConfigError{Key: "webhook_url", Hint: "not an http or https URL"} // nothing of it: it is secret
	}
	return &Sink{
		name:   name,
		url:    u,
		label:  sinks.SafeURL(u.String()),
		client: httpsend.NewClient(&httpsend.Options{Proxy: o.Proxy, RootCAs: o.RootCAs}),
	}, nil
}

// Name returns the sink's name.
func (s *Sink) Name() string { return s.name }

// EndsWithContext returns true for s itself: net/http gives a request up as soon as its context
// ends.
func (s *Sink) EndsWithContext(called sinks.Sink) bool { return called == sinks.Sink(s) }

// Format keeps the sink's secrets out of any formatted output.
func (s *Sink) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Kind+" sink "+s.name) }

// DecodeRecipient returns nil, nil for anything: the webhook's URL decides the
// channel.
func (*Sink) DecodeRecipient([]byte) (sinks.Recipient, error) { return nil, nil }

// Validate returns nil when m can be sent. Errors are INVALID_ARGUMENT and name the field.
func (s *Sink) Validate(_ sinks.Recipient, m sinks.Message) error {
	_, err := read(m)
	return err
}

// controls are the characters that Slack gives a meaning of its own; the body is
// mrkdwn and may use them, the subject is plain text.
var controls = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r\n", " ", "\n", " ", "\r", " ")

// content is what a message says in Slack's words.
type content struct {
	Text   string            `json:"text,omitempty"`
	Blocks []json.RawMessage `json:"blocks,omitempty"`
}

// read returns a message's content, or why it cannot be sent.
func read(m sinks.Message) (content, error) {
	if !utf8.ValidString(m.Subject) {
		return content{}, invalid("message.subject", "not valid UTF-8")
	}
	if !utf8.ValidString(m.Body) {
		return content{}, invalid("message.body", "not valid UTF-8")
	}
	text := m.Body
	if m.Subject != "" {
		text = strings.TrimSuffix("*"+controls.Replace(m.Subject)+"*\n"+m.Body, "\n")
	}
	if n := utf8.RuneCountInString(text); n > maxText {
		return content{}, invalid("message.body", fmt.Sprintf("%d characters with the subject, Slack takes %d", n, maxText))
	}
	blocks, err := decodeBlocks(m.Metadata["blocks"])
	if err != nil {
		return content{}, invalid("message.metadata.blocks", err.Error())
	}
	if text == "" && blocks == nil {
		return content{}, invalid("message.body", "empty, and there are no subject and no blocks")
	}
	return content{text, blocks}, nil
}

// encode returns what is posted.
func (c content) encode() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(c)
	return b.Bytes(), err
}

func decodeBlocks(raw string) ([]json.RawMessage, error) {
	if raw == "" {
		return nil, nil
	}
	var blocks []json.RawMessage
	if err := json.Unmarshal([]byte(raw), &blocks); err != nil || !utf8.ValidString(raw) {
		return nil, errors.New("not a JSON array of blocks")
	}
	if len(blocks) == 0 || len(blocks) > maxBlocks {
		return nil, fmt.Errorf("%d blocks, Slack takes 1 to %d", len(blocks), maxBlocks)
	}
	for i, b := range blocks {
		var block struct {
			Type string `json:"type"`
		}
		if err := json.Unmarshal(b, &block); err != nil || block.Type == "" {
			return nil, fmt.Errorf("block %d is not an object with a type", i+1)
		}
	}
	return blocks, nil
}

// words are the answers that Slack's incoming webhooks are known to give. Any other
// text of an answer is not shown: it may hold what was sent.
var words = map[string]bool{
	"action_prohibited": true, "as_user_not_supported": true, "channel_is_archived": true, "channel_not_found": true,
	"invalid_blocks": true, "invalid_blocks_format": true, "invalid_payload": true, "invalid_token": true,
	"message_limit_exceeded": true, "missing_text_or_fallback_or_attachments": true, "msg_too_long": true,
	"no_active_hooks": true, "no_service": true, "no_service_id": true, "no_team": true, "no_text": true,
	"posting_to_general_channel_denied": true, "rate_limited": true, "ratelimited": true, "rollup_error": true,
	"team_disabled": true, "too_many_attachments": true, "user_not_found": true,
}

// Preview returns what Send would post, without the webhook's path. Errors are those of Validate.
func (s *Sink) Preview(_ context.Context, _ sinks.Recipient, m sinks.Message) (sinks.Preview, error) {
	c, err := read(m)
	if err != nil {
		return sinks.Preview{}, err
	}
	body, err := c.encode()
	return sinks.Preview{
		Method: http.MethodPost, URL: sinks.RedactedURL(s.url.String()), Header: map[string]string{"Content-Type": "application/json", "User-Agent": "backstop"},
		Body: string(bytes.TrimSuffix(body, []byte("\n"))),
	}, err
}

// Send posts m once; the recipient is not looked at. Errors are INVALID_ARGUMENT, as
// Validate's, and SINK_UNAVAILABLE with the mark that the package's comment names, or around
// ctx's error when ctx ended before the message was sent.
func (s *Sink) Send(ctx context.Context, _ sinks.Recipient, m sinks.Message) error {
	c, err := read(m)
	if err != nil {
		return err
	}
	body, err := c.encode()
	if err != nil {
		return err
	}
	header := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"backstop"}}
	resp, err := s.client.Post(ctx, httpsend.Request{URL: s.url, Label: s.label, Header: header, Body: body})
	if err != nil {
		return err
	}
	if resp.Forwarded {
		return resp.Developer(s.label)
	}
	said, word := verdict(resp.Body)
	success := resp.Status >= 200 && resp.Status <= 299
	switch {
	case success && said == yes && resp.Whole:
		return nil
	case success && said != no:
		// The status is the one of a delivery.
		why := "but the answer says neither ok nor an error"
		if !resp.Whole {
			why = "but the answer broke off"
		}
		return sinks.Ambiguous(&sinks.Error{
			Code: sinks.CodeSinkUnavailable,
			Msg:  fmt.Sprintf("POST %s: HTTP %d %s, %s", s.label, resp.Status, http.StatusText(resp.Status), why),
		})
	case success:
		return resp.Error(s.label, cmp.Or(word, "the answer says that it is not ok"), false)
	case resp.Status == http.StatusForbidden && word != "": // for good, whatever the header says
		return resp.Error(s.label, word, false)
	default:
		return resp.Error(s.label, word, resp.Passing())
	}
}

// The verdicts of an answer's body.
const (
	nothing = iota
	yes
	no
)

// verdict reads the body of an answer: "ok", a known error word, or a JSON object with
// "ok", and maybe "error". word is the error word, when it is a known one.
func verdict(body []byte) (said int, word string) {
	text := string(bytes.TrimSpace(body))
	switch {
	case text == "ok":
		return yes, ""
	case words[text]:
		return no, text
	}
	var object struct {
		OK    *bool `json:"ok"`
		Error any   `json:"error"`
	}
	if err := json.Unmarshal(body, &object); err != nil || object.OK == nil {
		return nothing, ""
	}
	if *object.OK {
		return yes, ""
	}
	if name, _ := object.Error.(string); words[name] {
		word = name
	}
	return no, word
}

func invalid(field, why string) error {
	return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: field + ": " + why})
}
