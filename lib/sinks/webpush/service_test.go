package webpush_test

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/webpush"
)

// The keys of RFC 8291's example, used as the application's.
const (
	publicKey  = "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8"
	privateKey = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
	subscriber = "mailto:ops@example.org"
	// capability is the part of an endpoint that protects it.
	capability = "fcm/send/dK3capability:APA91bSECRET"
)

func config() webpush.Config {
	return webpush.Config{
		VAPIDPublicKey: publicKey, VAPIDPrivateKey: sinks.Secret(privateKey), Subscriber: subscriber, AllowPrivateRecipients: true,
	}
}

// browser is the other end: it has the keys that messages are encrypted for.
type browser struct {
	key  *ecdh.PrivateKey
	auth []byte
}

func newBrowser(tb testing.TB) browser {
	tb.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	auth := make([]byte, 16)
	_, _ = rand.Read(auth)
	return browser{key, auth}
}

// subscribe returns what the browser gives to the application.
func (b browser) subscribe(service string) webpush.Recipient {
	return webpush.Recipient{Endpoint: service + "/" + capability, Keys: webpush.Keys{
		P256DH: base64.RawURLEncoding.EncodeToString(b.key.PublicKey().Bytes()),
		Auth:   base64.RawURLEncoding.EncodeToString(b.auth),
	}}
}

// decrypt opens a push message as RFC 8291 and RFC 8188 tell browsers to.
func (b browser) decrypt(body []byte) ([]byte, error) {
	if len(body) < 21 || len(body) < 21+int(body[20]) {
		return nil, errors.New("no header")
	}
	salt, size, sender, sealed := body[:16], binary.BigEndian.Uint32(body[16:20]), body[21:21+int(body[20])], body[21+int(body[20]):]
	if int64(len(sealed)) > int64(size) {
		return nil, errors.New("more than one record")
	}
	from, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		return nil, err
	}
	shared, err := b.key.ECDH(from)
	if err != nil {
		return nil, err
	}
	// Extract and expand by hand, where the sink derives in one step.
	derive := func(secret, salt []byte, info string, n int) []byte {
		prk, err := hkdf.Extract(sha256.New, secret, salt)
		if err != nil {
			panic(err)
		}
		out, err := hkdf.Expand(sha256.New, prk, info, n)
		if err != nil {
			panic(err)
		}
		return out
	}
	ikm := derive(shared, b.auth, "WebPush: info\x00"+string(b.key.PublicKey().Bytes())+string(sender), 32)
	block, err := aes.NewCipher(derive(ikm, salt, "Content-Encoding: aes128gcm\x00", 16))
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	padded, err := aead.Open(nil, derive(ikm, salt, "Content-Encoding: nonce\x00", 12), sealed, nil)
	if err != nil {
		return nil, err
	}
	plain := strings.TrimRight(string(padded), "\x00")
	text, ok := strings.CutSuffix(plain, "\x02")
	if !ok {
		return nil, errors.New("not the last record")
	}
	return []byte(text), nil
}

// claims are a VAPID token's.
type claims struct {
	Audience string `json:"aud"`
	Expires  int64  `json:"exp"`
	Subject  string `json:"sub"`
}

// identify verifies a VAPID header as RFC 8292 tells push services to, and returns its claims and
// public key.
func identify(header string) (claims, string, error) {
	fields, ok := strings.CutPrefix(header, "vapid ")
	if !ok {
		return claims{}, "", errors.New("not the scheme vapid")
	}
	values := map[string]string{}
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		values[name] = value
	}
	point, err := base64.RawURLEncoding.DecodeString(values["k"])
	if err != nil {
		return claims{}, "", err
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return claims{}, "", err
	}
	parts := strings.Split(values["t"], ".")
	if len(parts) != 3 {
		return claims{}, "", errors.New("no token")
	}
	var head struct{ Typ, Alg string }
	var c claims
	for i, into := range []any{&head, &c} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(text, into)
		}
		if err != nil {
			return claims{}, "", err
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return claims{}, "", err
	}
	if len(signature) != 64 || head.Typ != "JWT" || head.Alg != "ES256" {
		return claims{}, "", fmt.Errorf("not signed with ES256: %v, %d bytes", head, len(signature))
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		return claims{}, "", errors.New("the signature is not the key's")
	}
	return c, values["k"], nil
}

// push is a push message as it arrives at the browser, and what the push service saw of it.
type push struct {
	header http.Header
	plain  string
}

// take is a push service and the browser behind it: what either refuses is an error.
func (b browser) take(service string, header http.Header, body []byte) (push, error) {
	c, key, err := identify(header.Get("Authorization"))
	switch now := time.Now(); {
	case err != nil:
		return push{}, fmt.Errorf("authorization: %w", err)
	case key != publicKey:
		return push{}, errors.New("another key than the one that the browser subscribed with")
	case c.Audience != service || c.Subject != subscriber:
		return push{}, fmt.Errorf("the token is for %s, of %s", c.Audience, c.Subject)
	case c.Expires <= now.Unix() || c.Expires > now.Add(24*time.Hour).Unix():
		return push{}, fmt.Errorf("the token expires at %d", c.Expires)
	case header.Get("Content-Encoding") != "aes128gcm" || header.Get("TTL") == "" || len(body) > 4096:
		return push{}, fmt.Errorf("%v, %d bytes", header, len(body))
	}
	plain, err := b.decrypt(body)
	return push{header, string(plain)}, err
}

// read is take for a request as it came over the wire.
func (b browser) read(service, wire string) (push, error) {
	head, body, _ := strings.Cut(wire, "\r\n\r\n")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n\r\n")))
	if err != nil {
		return push{}, err
	}
	return b.take(service, r.Header, []byte(body))
}

// handler is a push service that answers with status; it hands what it took to got.
func (b browser) handler(tb testing.TB, status int, got func(push)) http.HandlerFunc {
	tb.Helper()
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			tb.Errorf("reading the request: %v", err)
			return
		}
		p, err := b.take("http://"+r.Host, r.Header, body)
		if err != nil {
			tb.Errorf("the push service refuses the message: %v", err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		got(p)
		w.WriteHeader(status)
	}
}

// The push service of these tests reads the token of RFC 8292's own example (section 2.4), and no
// token that was changed.
func TestThePushServiceOfTheseTestsKnowsTheRFCsToken(t *testing.T) {
	const token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA"
	const key = "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs"
	got, k, err := identify("vapid t=" + token + ", k=" + key)
	if want := (claims{"https://push.example.net", 1453523768, "mailto:push@example.com"}); err != nil || got != want || k != key {
		t.Errorf("identify = %v, %s, %v, want %v", got, k, err, want)
	}
	if _, _, err := identify("vapid t=" + strings.Replace(token, "i3CY", "i3CZ", 1) + ", k=" + key); err == nil {
		t.Error("a changed signature is taken")
	}
}
