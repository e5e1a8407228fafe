// Package apns delivers notifications to Apple's devices through the Apple Push Notification service,
// over HTTP/2 and with a provider token.
//
// Importing the package makes the kind known to configurations. In code, start with New and Config.
// A message's Recipient is one device's token.
//
// With the push type alert, subject and body are the alert's title and body; with any other, which no
// one sees, they are the payload's "title" and "body". Metadata becomes the payload: the key "aps"
// holds a JSON object of what else belongs to aps (badge, sound, category), "data" one of the
// payload's own names, and every other key is one of these. "delivery_id" is always there.
//
// A second copy of a message replaces the first on the device: both have one apns-collapse-id, made
// of the delivery's ID.
//
// A 200 is a delivery. BadDeviceToken, Unregistered and ExpiredToken say that the device is gone.
// 408, 425, 429, 5xx, IdleTimeout, and 403 and 413 with a Retry-After are transient; so is
// ExpiredProviderToken, after which the next attempt has another token, unless that was refused too.
// Any other answer is terminal, with Apple's own word.
package apns

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/collapse"
	"backstop/lib/sinks/internal/httpsend"
	"backstop/lib/sinks/internal/recipient"
)

// Kind is the name of this kind in configurations.
const Kind = "apns"

// The environments: a device's token is of the one that its app was built for.
const (
	Production  = "production"
	Development = "development"
)

// hosts are where APNs is.
var hosts = map[string]string{
	Production:  "https://api.push.apple.com",
	Development: "https://api.sandbox.push.apple.com",
}

// The push types that have a meaning here, and all that Apple knows
// (https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns,
// read 2026-11-27).
const (
	typeAlert      = "alert"
	typeBackground = "background"
	typeVoIP       = "voip"
)

var pushTypes = []string{
	typeAlert, typeBackground, "complication", "controls", "fileprovider", "liveactivity", "location", "mdm", "pushtotalk", typeVoIP, "widgets",
}

func init() { sinks.RegisterFactory(Kind, Factory(nil)) }

// Config is the configuration of an APNs sink.
type Config struct {
	// KeyID names the key in the developer account: 10 characters. Required.
	KeyID string `json:"key_id"`
	// TeamID names the developer account: 10 characters. Required.
	TeamID string `json:"team_id"`
	// PrivateKey is the key's .p8 file. Required.
	PrivateKey sinks.Secret `json:"private_key"`
	// Topic is the app's bundle id, with what the push type adds to it (".voip"). Required.
	Topic string `json:"topic"`
	// Environment is production (default) or development: what the devices' app was built for.
	Environment string `json:"environment,omitempty"`
	// PushType is alert (default), background, or another of Apple's.
	PushType string `json:"push_type,omitempty"`
	// BaseURL is where the API is. Empty: Apple's host of the environment.
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

// Factory returns the kind's factory. To give every APNs sink a proxy, register it again:
// sinks.RegisterFactory(apns.Kind, apns.Factory(&apns.Options{...})).
func Factory(o *Options) sinks.Factory {
	return func(name string, raw map[string]any) (sinks.Sink, error) {
		return sinks.Configure(raw, func(c Config) (*Sink, error) { return New(name, c, o) })
	}
}

// Sink sends notifications to the devices of one app. It is safe for concurrent use.
type Sink struct {
	name     string
	url      *url.URL
	label    string
	topic    string
	pushType string
	client   *httpsend.Client
	provider *provider
}

var (
	_ sinks.Sink             = (*Sink)(nil)
	_ sinks.RecipientDecoder = (*Sink)(nil)
	_ sinks.Validator        = (*Sink)(nil)
	_ sinks.Deduplicator     = (*Sink)(nil)
	_ sinks.EndsWithContext  = (*Sink)(nil)
	_ sinks.Previewer        = (*Sink)(nil)
)

var (
	identifier = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Z0-9]{10}$`) })
	bundle     = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`) })
)

// New returns the sink called name. Faults of c are joined *sinks.ConfigError values. It does no
// I/O.
func New(name string, c Config, o *Options) (*Sink, error) {
	if o == nil {
		o = &Options{}
	}
	var faults []error
	fault := func(key, why string) { faults = append(faults, &sinks.ConfigError{Key: key, Hint: why}) }
	for _, x := range []struct{ key, value string }{{"key_id", c.KeyID}, {"team_id", c.TeamID}} {
		if !identifier().MatchString(x.value) {
			fault(x.key, "want 10 capitals and digits")
		}
	}
	key, err := readKey(c.PrivateKey)
	if err != nil {
		fault("private_key", err.Error())
	}
	if !bundle().MatchString(c.Topic) {
		faults = append(faults, &sinks.ConfigError{Key: "topic", Hint: "want a bundle id, such as org.example.shop"})
	}
	pushType := cmp.Or(c.PushType, typeAlert)
	if !slices.Contains(pushTypes, pushType) {
		faults = append(faults, &sinks.ConfigError{Key: "push_type", Hint: "want one of " + strings.Join(pushTypes, ", ")})
	}
	host, known := hosts[cmp.Or(c.Environment, Production)]
	switch {
	case !known:
		fault("environment", "want production or development")
	case c.Environment != "" && c.BaseURL != "":
		fault("environment", "not beside base_url, which says where APNs is")
	}
	u, err := url.Parse(cmp.Or(c.BaseURL, host))
	if err != nil || known && (u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "") {
		fault("base_url", "not an http or https URL")
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	u.Path = cmp.Or(u.Path, "/") // what is joined to none has no slash
	return &Sink{
		name: name, url: u, label: sinks.SafeURL(u.String()), topic: c.Topic, pushType: pushType,
		// Apple takes the tokens of one team and key on a connection.
		client:   httpsend.NewClient(&httpsend.Options{Proxy: o.Proxy, RootCAs: o.RootCAs, Pool: "apns " + c.TeamID + " " + c.KeyID}),
		provider: &provider{key: key, keyID: c.KeyID, team: c.TeamID},
	}, nil
}

func readKey(file sinks.Secret) (*ecdsa.PrivateKey, error) {
	if file == "" {
		return nil, errors.New("required")
	}
	block, _ := pem.Decode([]byte(file.Reveal()))
	if block == nil {
		return nil, errors.New("not a PEM block: want the .p8 file as it is")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if key, ok := parsed.(*ecdsa.PrivateKey); ok && err == nil && key.Curve == elliptic.P256() {
		return key, nil
	}
	return nil, errors.New("not a key on the curve P-256")
}

// Name returns the sink's name.
func (s *Sink) Name() string { return s.name }

// Deduplicates returns true: a second copy replaces the first on the device.
func (*Sink) Deduplicates() bool { return true }

// EndsWithContext returns true for s itself: net/http gives a request up as soon as its context
// ends.
func (s *Sink) EndsWithContext(called sinks.Sink) bool { return called == sinks.Sink(s) }

// Format keeps the sink's secrets out of any formatted output.
func (s *Sink) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Kind+" sink "+s.name) }

// Recipient is one device.
type Recipient struct {
	// DeviceToken is the token that the device's app got from APNs, in hexadecimal.
	DeviceToken string `json:"device_token"`
}

// Format keeps the device's token out of any formatted output.
func (Recipient) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "a device") }

// device matches tokens. Apple says of their length that it may change: 32 bytes now.
var device = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^([0-9A-Fa-f]{2}){8,256}$`) })

// DecodeRecipient decodes {"device_token": "..."} into a Recipient. An absent one is nil, which Send
// refuses. Errors are INVALID_ARGUMENT and name the field.
func (*Sink) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	token, given, err := recipient.Decode(raw, "device_token")
	if err != nil || !given {
		return nil, err
	}
	to := Recipient{token}
	if err := to.check(); err != nil {
		return nil, err
	}
	return to, nil
}

func (r Recipient) check() error {
	if !device().MatchString(r.DeviceToken) {
		return invalid("recipient.device_token", "want a device's token in hexadecimal")
	}
	return nil
}

// Validate returns nil when m can be sent to to. Errors are INVALID_ARGUMENT and name the field.
func (s *Sink) Validate(to sinks.Recipient, m sinks.Message) error {
	_, _, err := s.compose(to, m)
	return err
}

// namespace is that of ids as version 5 UUIDs (RFC 9562).
var namespace = uuid.NewSHA1(uuid.NameSpaceURL, []byte("urn:backstop:delivery"))

// header returns the headers of a message, without who sends it.
func (s *Sink) header(ctx context.Context, id string) http.Header {
	priority := "10"
	if s.pushType == typeBackground {
		priority = "5" // Apple refuses another one
	}
	header := http.Header{
		"Content-Type": {"application/json"}, "User-Agent": {"backstop"},
		"Apns-Topic": {s.topic}, "Apns-Push-Type": {s.pushType}, "Apns-Priority": {priority},
	}
	if id != "" {
		header.Set("Apns-Id", uuid.NewSHA1(namespace, []byte(s.name+"\x00"+id)).String())
		header.Set("Apns-Collapse-Id", collapse.Key(s.name, id))
	}
	if at := sinks.DeliveryOf(ctx).ExpiresAt; !at.IsZero() {
		header.Set("Apns-Expiration", strconv.FormatInt(at.Unix(), 10))
	}
	return header
}

// Preview returns what Send would post, without the topic, a push type of the sink's own and the provider's
// token. Errors are those of
// Validate.
func (s *Sink) Preview(ctx context.Context, to sinks.Recipient, m sinks.Message) (sinks.Preview, error) {
	r, payload, err := s.compose(to, m)
	if err != nil {
		return sinks.Preview{}, err
	}
	p := sinks.Preview{
		Method: http.MethodPost, URL: s.label + "/3/device/" + r.DeviceToken, Header: map[string]string{"Authorization": sinks.Redacted}, Body: string(payload),
	}
	if len(s.url.Path) > 1 {
		p.URL = s.label + "/" + sinks.Redacted + "/3/device/" + r.DeviceToken
	}
	h := s.header(ctx, m.ID)
	for name := range h {
		p.Header[name] = h.Get(name)
	}
	p.Header["Apns-Topic"] = sinks.Redacted
	if s.pushType != typeAlert {
		p.Header["Apns-Push-Type"] = sinks.Redacted
	}
	return p, nil
}

// Send sends m once to a Recipient. APNs keeps it for a device that is offline until it expires
// (sinks.Delivery), or as long as it likes. Errors are INVALID_ARGUMENT, as Validate's, and
// SINK_UNAVAILABLE with the mark that the package's comment names, or around ctx's error when ctx
// ended before the message was sent.
func (s *Sink) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	r, payload, err := s.compose(to, m)
	if err != nil {
		return err
	}
	token, err := s.provider.token()
	if err != nil {
		return err
	}
	header := s.header(ctx, m.ID)
	header.Set("Authorization", "bearer "+token)
	resp, err := s.client.Post(ctx, httpsend.Request{URL: s.url.JoinPath("3", "device", r.DeviceToken), Label: s.label, Header: header, Body: payload})
	if err != nil {
		return err
	}
	if resp.Forwarded {
		return resp.Developer(s.label)
	}
	return s.judge(resp, token)
}

// verdict is what a reason says of a message.
type verdict int

const (
	unknown verdict = iota
	terminal
	gone
	passing
	stale // the provider's token is
)

// reasons are Apple's
// (https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns,
// read 2026-11-27). Nothing else of an answer is shown.
var reasons = map[string]verdict{
	"BadCollapseId": terminal, "BadDeviceToken": gone, "BadExpirationDate": terminal, "BadMessageId": terminal, "BadPriority": terminal,
	"BadTopic": terminal, "DeviceTokenNotForTopic": terminal, "DuplicateHeaders": terminal, "IdleTimeout": passing, "InvalidPushType": terminal,
	"MissingDeviceToken": terminal, "MissingTopic": terminal, "PayloadEmpty": terminal, "TopicDisallowed": terminal,
	"BadCertificate": terminal, "BadCertificateEnvironment": terminal, "ExpiredProviderToken": stale, "Forbidden": terminal,
	"InvalidProviderToken": terminal, "MissingProviderToken": terminal, "UnrelatedKeyIdInToken": terminal, "BadEnvironmentKeyIdInToken": terminal,
	"BadPath": terminal, "MethodNotAllowed": terminal, "ExpiredToken": gone, "Unregistered": gone, "PayloadTooLarge": terminal,
	"TooManyProviderTokenUpdates": passing, "TooManyRequests": passing,
	"InternalServerError": passing, "ServiceUnavailable": passing, "Shutdown": passing,
}

// judge returns nil for a delivery, and what an answer says otherwise.
func (s *Sink) judge(resp *httpsend.Response, token string) error {
	if resp.Status == http.StatusOK {
		return nil
	}
	if resp.Status > 200 && resp.Status <= 299 {
		return sinks.Ambiguous(&sinks.Error{
			Code: sinks.CodeSinkUnavailable, Msg: fmt.Sprintf("POST %s: HTTP %d %s, which is no answer of APNs", s.label, resp.Status, http.StatusText(resp.Status)),
		})
	}
	var said struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(resp.Body, &said) // what cannot be read says nothing
	reason, v := said.Reason, reasons[said.Reason]
	if v == unknown {
		reason = ""
	}
	switch v {
	case gone:
		return sinks.Gone(resp.Error(s.label, reason, false))
	case terminal:
		return resp.Error(s.label, reason, false)
	case stale:
		return resp.Error(s.label, reason, s.provider.renew(token))
	case passing:
		err := resp.Error(s.label, reason, true)
		if reason == "TooManyRequests" && sinks.HoldOf(err) > 0 { // of this device
			return sinks.RetryAfter(err, sinks.HoldOf(err))
		}
		return err
	}
	return resp.Error(s.label, reason, resp.Passing())
}

func invalid(field, why string) error {
	return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: field + ": " + why})
}
