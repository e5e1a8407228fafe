package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"backstop/lib/sinks"
)

// Document says how a kind talks to its provider: the configuration of a sink of kind http, and what
// a preset is. Strings may hold placeholders, $(path).
type Document struct {
	// About says in a line what is sent, and through what.
	About string `json:"about,omitempty"`
	// Source is what its facts were read from.
	Source Source `json:"source,omitempty"`
	// Notes are limits and their scope, duplicates, and what could not be confirmed.
	Notes []string `json:"notes,omitempty"`

	// Parameters are keys of the sink's own, beside those here.
	Parameters map[string]Parameter `json:"parameters,omitempty"`
	// Recipient holds the fields of a recipient. Empty: the sink takes none.
	Recipient map[string]Field `json:"recipient,omitempty"`

	// Method is POST (default) or PUT.
	Method string `json:"method,omitempty" jsonschema:"enum=POST,enum=PUT,default=POST"`
	// URL is where the request goes: http or https. Placeholders are path segments or query
	// values, but for a parameter of type url at its beginning. "$(recipient.url)" as a whole goes
	// where the recipient says, within what the address guard allows.
	URL sinks.Secret `json:"url"`
	// Headers are added to the request.
	Headers map[string]sinks.Secret `json:"headers,omitempty"`
	// Content is how the body is encoded: json (default), form or text.
	Content string `json:"content,omitempty" jsonschema:"enum=json,enum=form,enum=text,default=json"`
	// ContentType replaces the media type that Content implies.
	ContentType string `json:"content_type,omitempty"`
	// Body is a mapping for json and form, and a text for text. Default: for text, "$(body)".
	Body Body `json:"body,omitempty"`
	// Auth says who sends.
	Auth Auth `json:"auth,omitempty"`

	// Limits are what the provider takes at most. More is refused before it is sent.
	Limits []Limit `json:"limits,omitempty"`
	// RateBy is what the provider's rate is counted by, such as "$(recipient.chat_id)". Empty: the
	// sink as a whole.
	RateBy sinks.Secret `json:"rate_by,omitempty"`
	// Dedup is for how long the receiver recognises what $(id), $(id.hash) or $(id.uuid) makes
	// unique, such as 24h; "forever". Empty: never.
	Dedup string `json:"dedup,omitempty"`

	// Outcomes decide what an answer means: the first line all of whose conditions hold. Where
	// none does, 2xx is a delivery (unless a line says what a delivery looks like: then it is
	// ambiguous), 408, 421, 425, 429 and 5xx are transient, and the rest is terminal.
	Outcomes []Outcome `json:"outcomes,omitempty"`
	// RetryAfter is where an answer says when to come again, beside the header Retry-After. The
	// longer counts.
	RetryAfter *RetryAfter `json:"retry_after,omitempty"`
	// Answer is what is shown of an answer: numbers, and up to 64 of the characters A-Z, a-z, 0-9, _,
	// . and -.
	Answer Answer `json:"answer,omitempty"`

	// AllowPrivateRecipients lets recipients' URLs lead to loopback and private addresses.
	AllowPrivateRecipients bool `json:"allow_private_recipients,omitempty"`
	// AllowedHosts narrows the hosts of recipients' URLs: names and addresses, or "*.example.org".
	AllowedHosts []string `json:"allowed_hosts,omitempty"`
}

// Source is a page, and the day on which it was read.
type Source struct {
	// Page is its address.
	Page string `json:"page,omitempty"`
	// Read is the day, as 2026-01-31.
	Read string `json:"read,omitempty"`
}

// Parameter is a key of the sink's own.
type Parameter struct {
	// Type is text (default), secret, url (http or https, shown as scheme and host alone), int or bool.
	Type string `json:"type,omitempty" jsonschema:"enum=text,enum=secret,enum=url,enum=int,enum=bool,default=text"`
	// Required parameters must be given.
	Required bool `json:"required,omitempty"`
	// Default is the value where none is given. That of a url may hold placeholders of other parameters.
	Default Scalar `json:"default,omitempty"`
	// Pattern is what the whole value must match (RE2).
	Pattern string `json:"pattern,omitempty"`
	// About says what it is.
	About string `json:"about,omitempty"`
	// Example is a value for samples, which is no real one.
	Example Scalar `json:"example,omitempty"`
}

// The types of parameters.
const (
	typeText   = "text"
	typeSecret = "secret"
	typeURL    = "url"
	typeInt    = "int"
	typeBool   = "bool"
)

// Field is one of a recipient's.
type Field struct {
	// Required fields must be given.
	Required bool `json:"required,omitempty"`
	// Default is the value where none is given.
	Default string `json:"default,omitempty"`
	// Pattern is what the whole value must match (RE2).
	Pattern string `json:"pattern,omitempty"`
	// About says what it is.
	About string `json:"about,omitempty"`
	// Example is a value for samples.
	Example string `json:"example,omitempty"`
}

// Scalar is a text, a number or a boolean, as a text. It may be a secret.
type Scalar struct{ sinks.Secret }

// UnmarshalJSON implements json.Unmarshaler.
func (s *Scalar) UnmarshalJSON(b []byte) error {
	text, err := scalar(b)
	if err != nil {
		return &sinks.ConfigError{Hint: "want a text, a number or a boolean"}
	}
	s.Secret = sinks.Secret(text)
	return nil
}

// scalar returns a JSON text, number or boolean as a text, a number as it is written.
func scalar(b []byte) (string, error) {
	var v any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return "", err
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", errors.New("not a scalar")
}

// Body is the body of a request, as it is written in YAML.
type Body struct{ tree any }

// UnmarshalJSON implements json.Unmarshaler.
func (b *Body) UnmarshalJSON(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(&b.tree)
}

// MarshalJSON implements json.Marshaler. What is in it may be a secret.
func (Body) MarshalJSON() ([]byte, error) { return json.Marshal(sinks.Secret("")) }

// Auth says who sends: at most one of its parts.
type Auth struct {
	// Basic is HTTP's basic authentication.
	Basic *Basic `json:"basic,omitempty"`
	// Bearer is a token in the header Authorization.
	Bearer sinks.Secret `json:"bearer,omitempty"`
	// SigV4 signs for AWS, with the role of whoever runs.
	SigV4 *SigV4 `json:"sigv4,omitempty"`
	// OAuth2 gets a token by client credentials.
	OAuth2 *OAuth2 `json:"oauth2,omitempty"`
	// Google gets a token for a service account.
	Google *Google `json:"google,omitempty"`
}

// Basic is HTTP's basic authentication (RFC 7617).
type Basic struct {
	Username sinks.Secret `json:"username"`
	Password sinks.Secret `json:"password,omitempty"`
}

// SigV4 signs requests as AWS wants it.
type SigV4 struct {
	// Service is the name by which it is signed, such as ses.
	Service string `json:"service"`
	// Region is that of the endpoint.
	Region string `json:"region"`
}

// OAuth2 is the client credentials grant (RFC 6749, section 4.4).
type OAuth2 struct {
	TokenURL     sinks.Secret `json:"token_url"`
	ClientID     sinks.Secret `json:"client_id"`
	ClientSecret sinks.Secret `json:"client_secret"`
	// Scope is what is asked for, separated by spaces.
	Scope string `json:"scope,omitempty"`
	// Audience is sent where it is not empty, as Auth0 and others want it.
	Audience string `json:"audience,omitempty"`
	// SecretInBody sends id and secret as fields of the form instead of by basic authentication.
	SecretInBody bool `json:"secret_in_body,omitempty"`
}

// Google is a service account's key (RFC 7523).
type Google struct {
	// Credentials is the JSON key file.
	Credentials sinks.Secret `json:"credentials"`
	Scope       string       `json:"scope"`
	// TokenURL replaces the one of the key file.
	TokenURL sinks.Secret `json:"token_url,omitempty"`
}

// Limit is what a provider takes at most.
type Limit struct {
	// Of is what is measured, a text with placeholders. Empty: the encoded body.
	Of string `json:"of,omitempty"`
	// Characters is the most characters (Unicode code points), Bytes the most bytes. 0: no bound.
	Characters int `json:"characters,omitempty"`
	Bytes      int `json:"bytes,omitempty"`
}

// Outcome is a line of Document.Outcomes.
type Outcome struct {
	// Status is a status, a class such as 4xx, or a list of these. Empty: any.
	Status Statuses `json:"status,omitempty"`
	// Header and JSON are what headers, and values at JSON paths (RFC 9535), must be. JSON finds
	// nothing in an answer that is no JSON, longer than 64 KiB or cut.
	Header map[string]Match `json:"header,omitempty"`
	JSON   map[string]Match `json:"json,omitempty"`
	// Then is delivered, transient, terminal, gone (terminal, and nothing will ever arrive there)
	// or ambiguous.
	Then string `json:"then" jsonschema:"enum=delivered,enum=transient,enum=terminal,enum=gone,enum=ambiguous"`
}

// What an answer means.
const (
	delivered = "delivered"
	transient = "transient"
	terminal  = "terminal"
	gone      = "gone"
	ambiguous = "ambiguous"
)

var meanings = []string{ambiguous, delivered, gone, terminal, transient}

// Statuses are HTTP statuses and classes of them.
type Statuses []statuses

// statuses are those from first to last.
type statuses struct{ first, last int }

// UnmarshalJSON implements json.Unmarshaler.
func (s *Statuses) UnmarshalJSON(b []byte) error {
	var list []json.RawMessage
	if json.Unmarshal(b, &list) != nil {
		list = []json.RawMessage{b}
	}
	*s = Statuses{}
	for _, item := range list {
		text, err := scalar(item)
		first, isClass := strings.CutSuffix(text, "xx")
		n, bad := strconv.Atoi(first)
		switch {
		case err != nil || bad != nil || isClass && (n < 1 || n > 5) || !isClass && (n < 100 || n > 999):
			return &sinks.ConfigError{Hint: "want a status from 100 to 999, a class such as 4xx, or a list of these"}
		case isClass:
			*s = append(*s, statuses{100 * n, 100*n + 99})
		default:
			*s = append(*s, statuses{n, n})
		}
	}
	return nil
}

// String lists statuses and classes, as they are written.
func (s Statuses) String() string {
	all := make([]string, len(s))
	for i, of := range s {
		if all[i] = strconv.Itoa(of.first); of.first != of.last {
			all[i] = strconv.Itoa(of.first/100) + "xx"
		}
	}
	return strings.Join(all, ", ")
}

// Match is what a value must be: one of several, or just there.
type Match struct {
	present bool
	values  []any
}

// present is the word for a value that is just there.
const present = "present"

// UnmarshalJSON implements json.Unmarshaler.
func (m *Match) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return err
	}
	list, isList := v.([]any)
	switch {
	case v == present:
		m.present = true
		return nil
	case !isList:
		list = []any{v}
	case len(list) == 0:
		return errors.New("an empty list holds for nothing")
	}
	for _, v := range list {
		switch v.(type) {
		case map[string]any, []any:
			return fmt.Errorf("want a value, a list of values, or %s", present)
		}
	}
	m.values = list
	return nil
}

// String says it in words, values as JSON has them.
func (m Match) String() string {
	if m.present {
		return "there"
	}
	all := make([]string, len(m.values))
	for i, v := range m.values {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return err.Error()
		}
		all[i] = "`" + strings.TrimSpace(b.String()) + "`"
	}
	return strings.Join(all, " or ")
}

// RetryAfter is where an answer says when to come again: a header or a JSON path, and its unit.
type RetryAfter struct {
	Header string `json:"header,omitempty"`
	JSON   string `json:"json,omitempty"`
	// Unit is s (seconds, the default), ms, or epoch (a Unix time in seconds).
	Unit string `json:"unit,omitempty" jsonschema:"enum=s,enum=ms,enum=epoch,default=s"`
}

// Answer holds JSON paths to what is shown of an answer.
type Answer struct {
	// ID is the provider's for the message.
	ID string `json:"id,omitempty"`
	// Code is its word or number for what went wrong.
	Code string `json:"code,omitempty"`
}

// forever is the window of a receiver that never forgets.
const forever = "forever"

// window returns for how long receivers recognise a message (see sinks.DedupWindow).
func (d *Document) window() (time.Duration, error) {
	switch d.Dedup {
	case "":
		return 0, nil
	case forever:
		return -1, nil
	}
	w, err := time.ParseDuration(d.Dedup)
	if err != nil || w <= 0 {
		return 0, &sinks.ConfigError{Hint: "want a duration such as 30m or 24h, or forever"}
	}
	return w, nil
}
