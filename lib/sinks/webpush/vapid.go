package webpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"
)

const (
	// tokenLife is how long a token is good for. Push services refuse one of more than 24 hours, by
	// their clock.
	tokenLife = 12 * time.Hour
	// tokenRest is what must be left of a token that is used again.
	tokenRest = tokenLife / 2
	// maxTokens is how many push services' tokens are kept. There are a handful of them, but
	// recipients bring their names.
	maxTokens = 256
)

// vapid identifies the application to push services (RFC 8292).
type vapid struct {
	key        *ecdsa.PrivateKey
	public     string // base64url
	subscriber string

	mu     sync.Mutex
	tokens map[string]token // by origin
}

// token is a signed token for one push service.
type token struct {
	header  string
	expires int64 // seconds since 1970: a process that is frozen does not stop the wall clock
}

// newVAPID reads the keys of c, and hands what is wrong to fault.
func newVAPID(c Config, fault func(key, why string)) *vapid {
	v := &vapid{subscriber: c.Subscriber, tokens: map[string]token{}}
	public, err := decode64(c.VAPIDPublicKey)
	var known *ecdsa.PublicKey
	if err == nil {
		known, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), public)
	}
	switch {
	case c.VAPIDPublicKey == "":
		fault("vapid_public_key", "required")
	case err != nil:
		fault("vapid_public_key", "not a public key: want 65 bytes in base64url, a point on the curve P-256")
	}
	v.public = base64.RawURLEncoding.EncodeToString(public)
	private, err := decode64(c.VAPIDPrivateKey.Reveal())
	if err == nil {
		v.key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), private)
	}
	switch {
	case c.VAPIDPrivateKey == "":
		fault("vapid_private_key", "required")
	case err != nil: // nothing of it: it is secret
		fault("vapid_private_key", "not a private key: want 32 bytes in base64url")
	case known != nil && !known.Equal(v.key.Public()):
		fault("vapid_private_key", "does not belong to vapid_public_key")
	}
	switch {
	case c.Subscriber == "":
		fault("subscriber", "required")
	case !contact(c.Subscriber):
		fault("subscriber", "want mailto: and an address, or an https URL")
	}
	return v
}

// contact reports whether text is a way to reach somebody, as push services want it.
func contact(text string) bool {
	u, err := url.Parse(text)
	if err != nil || strings.ContainsAny(text, " \t\r\n") {
		return false
	}
	if u.Scheme == "mailto" {
		name, host, ok := strings.Cut(u.Opaque, "@")
		return ok && name != "" && host != ""
	}
	return u.Scheme == "https" && u.Hostname() != ""
}

// local reports whether a subscriber's host is this machine's.
func local(subscriber string) bool {
	u, err := url.Parse(subscriber)
	if err != nil {
		return false
	}
	host := u.Hostname()
	if u.Scheme == "mailto" {
		_, host, _ = strings.Cut(u.Opaque, "@")
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// authorization returns the header that identifies the application to the push service at origin.
func (v *vapid) authorization(origin string, now time.Time) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	kept := v.tokens[origin]
	// The clock may have been set back: a token from ahead would be good for too long.
	if left := kept.expires - now.Unix(); left > int64(tokenRest/time.Second) && left <= int64(tokenLife/time.Second) {
		return kept.header, nil
	}
	t := token{expires: now.Add(tokenLife).Unix()}
	signed, err := v.sign(origin, t.expires)
	if err != nil {
		return "", err
	}
	t.header = "vapid t=" + signed + ", k=" + v.public
	if len(v.tokens) >= maxTokens {
		clear(v.tokens)
	}
	v.tokens[origin] = t
	return t.header, nil
}

// sign returns a JSON Web Token (RFC 7515, ES256).
func (v *vapid) sign(audience string, expires int64) (string, error) {
	claims, err := json.Marshal(struct {
		Audience string `json:"aud"`
		Expires  int64  `json:"exp"`
		Subject  string `json:"sub"`
	}{audience, expires, v.subscriber})
	if err != nil {
		return "", fmt.Errorf("encoding the token: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"typ":"JWT","alg":"ES256"}`)) + "." + encode(claims)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, v.key, sum[:])
	if err != nil {
		return "", fmt.Errorf("signing the token: %w", err)
	}
	signature := make([]byte, 64)
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return text + "." + encode(signature), nil
}
