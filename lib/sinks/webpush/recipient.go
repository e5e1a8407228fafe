package webpush

import (
	"bytes"
	"crypto/ecdh"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"backstop/internal/strictjson"
	"backstop/lib/sinks"
)

// Recipient is a browser's subscription: what PushSubscription.toJSON() returns there.
type Recipient struct {
	// Endpoint is the subscription's URL at its push service, and all that protects it: it is shown
	// as scheme and host alone. It must be https, without credentials, on port 443 or at least 1024,
	// and lead to a public address, unless the sink allows private ones.
	Endpoint string `json:"endpoint"`
	// Keys are the browser's.
	Keys Keys `json:"keys"`
}

// Keys are what a message to a browser is encrypted with.
type Keys struct {
	// P256DH is the browser's public key: 65 bytes in base64url.
	P256DH string `json:"p256dh"`
	// Auth is the secret that the browser shares with the application: 16 bytes in base64url.
	Auth string `json:"auth"`
}

// Format keeps the endpoint and the keys out of any formatted output.
func (r Recipient) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, sinks.SafeURL(r.Endpoint)) }

// Format keeps the keys out of any formatted output.
func (Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "[redacted]") }

// authBytes is the length of a subscription's shared secret.
const authBytes = 16

// subscription is a recipient that can be sent to.
type subscription struct {
	url    *url.URL
	origin string
	key    *ecdh.PublicKey
	auth   []byte
}

// DecodeRecipient decodes a PushSubscription as browsers write it, {"endpoint", "expirationTime",
// "keys": {"p256dh", "auth"}}, into a Recipient; the expirationTime counts for nothing, since the
// push service knows better. An absent one is nil, which Send and Validate refuse. Errors are
// INVALID_ARGUMENT and name the field.
func (s *Sink) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	if text := bytes.TrimSpace(raw); len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	var in struct {
		Recipient
		ExpirationTime any `json:"expirationTime"`
	}
	if err := strictjson.Decode(raw, &in); err != nil {
		if fault, ok := errors.AsType[*strictjson.Error](err); ok && fault.Field != "" {
			return nil, invalid("recipient."+fault.Field, fault.Msg)
		}
		return nil, invalid("recipient", `want {"endpoint": "...", "keys": {"p256dh": "...", "auth": "..."}}`)
	}
	if _, err := s.subscription(in.Recipient); err != nil {
		return nil, err
	}
	return in.Recipient, nil
}

// subscription reads a Recipient.
func (s *Sink) subscription(to sinks.Recipient) (subscription, error) {
	r, ok := to.(Recipient)
	switch {
	case to == nil:
		return subscription{}, invalid("recipient", "required: a browser's PushSubscription")
	case !ok:
		return subscription{}, invalid("recipient", fmt.Sprintf("want a webpush.Recipient, got %T", to))
	case r.Endpoint == "":
		return subscription{}, invalid("recipient.endpoint", "required")
	}
	u, err := s.guard.CheckURL(r.Endpoint)
	if err != nil {
		return subscription{}, err
	}
	if u.Scheme != "https" && !s.plain {
		return subscription{}, invalid("recipient.endpoint", "the scheme must be https")
	}
	u.Fragment, u.RawFragment = "", ""
	point, err := decode64(r.Keys.P256DH)
	if err != nil {
		return subscription{}, invalid("recipient.keys.p256dh", "want 65 bytes in base64url")
	}
	key, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return subscription{}, invalid("recipient.keys.p256dh", "not a public key on the curve P-256")
	}
	auth, err := decode64(r.Keys.Auth)
	if err != nil || len(auth) != authBytes {
		return subscription{}, invalid("recipient.keys.auth", fmt.Sprintf("want %d bytes in base64url", authBytes))
	}
	return subscription{u, origin(u), key, auth}, nil
}

// origin is a URL's origin as browsers write it (RFC 6454): it is what a VAPID token is for, and what
// is shown of an endpoint.
func origin(u *url.URL) string {
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "https":
		host = strings.TrimSuffix(host, ":443")
	case "http":
		host = strings.TrimSuffix(host, ":80")
	}
	return u.Scheme + "://" + host
}

// decode64 reads base64url, and takes base64 and padding too: libraries differ in what they store.
func decode64(text string) ([]byte, error) {
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	return base64.RawURLEncoding.DecodeString(text)
}
