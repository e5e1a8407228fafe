package webhook_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"backstop/lib/sinks"
	"backstop/lib/sinks/sinktest"
	"backstop/lib/sinks/webhook"
)

// request is what a receiver saw.
type request struct {
	path   string
	header http.Header
	body   []byte
}

// receiver records requests and answers 200.
func receiver(t *testing.T) (*httptest.Server, func() []request) {
	t.Helper()
	seen := make(chan request, 100)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading a request: %v", err)
		}
		seen <- request{r.URL.String(), r.Header, body}
	}))
	t.Cleanup(server.Close)
	return server, func() []request {
		var all []request
		for len(seen) > 0 {
			all = append(all, <-seen)
		}
		return all
	}
}

func build(t *testing.T, c webhook.Config, o *webhook.Options) *webhook.Sink {
	t.Helper()
	s, err := webhook.New("hooks", c, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// one sends m and returns the one request that arrived.
func one(t *testing.T, s *webhook.Sink, to sinks.Recipient, m sinks.Message, seen func() []request) request {
	t.Helper()
	if err := s.Send(t.Context(), to, m); err != nil {
		t.Fatalf("Send: %v", err)
	}
	got := seen()
	if len(got) != 1 {
		t.Fatalf("%d requests arrived, want 1", len(got))
	}
	return got[0]
}

func TestEnvelopePostsTheMessage(t *testing.T) {
	server, seen := receiver(t)
	s := build(t, webhook.Config{URL: sinks.Secret(server.URL + "/in?token=t")}, nil)
	got := one(t, s, nil, sinks.Message{
		ID: "d-1", Subject: "Überfällig <1>", Body: "line\n\"two\"\u2028", Metadata: map[string]string{"x-order": "42 & more"},
	}, seen)
	want := `{"subject":"Überfällig <1>","body":"line\n\"two\"\u2028","metadata":{"x-order":"42 & more"}}`
	if string(got.body) != want {
		t.Errorf("body %s\nwant %s", got.body, want)
	}
	if got.path != "/in?token=t" {
		t.Errorf("path %q, want that of the sink's URL", got.path)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/json", "X-Order": "42 & more", "Webhook-Id": "d-1", "Webhook-Signature": "", "Accept-Encoding": "",
	} {
		if v := got.header.Get(name); v != want {
			t.Errorf("header %s = %q, want %q", name, v, want)
		}
	}
}

func TestEnvelopeAlwaysHasItsThreeFields(t *testing.T) {
	server, seen := receiver(t)
	s := build(t, webhook.Config{URL: sinks.Secret(server.URL)}, nil)
	if got, want := string(one(t, s, nil, sinks.Message{ID: "d"}, seen).body), `{"subject":"","body":"","metadata":{}}`; got != want {
		t.Errorf("body %s, want %s", got, want)
	}
}

func TestRawPostsTheBodyByteForByte(t *testing.T) {
	server, seen := receiver(t)
	s := build(t, webhook.Config{URL: sinks.Secret(server.URL), Format: webhook.FormatRaw}, nil)
	body := "{ \"a\" : 1.0,\n\"b\":\"<\\u0041>\" }\n"
	if got := string(one(t, s, nil, sinks.Message{ID: "d", Subject: "ignored", Body: body}, seen).body); got != body {
		t.Errorf("body %q, want %q", got, body)
	}
	for _, bad := range []string{"", "hello", "{", `{"a":1}{"b":2}`} {
		if err := s.Validate(nil, sinks.Message{Body: bad}); sinks.CodeOf(err) != sinks.CodeInvalidArgument {
			t.Errorf("Validate(body %q) = %v, want %s", bad, err, sinks.CodeInvalidArgument)
		}
	}
}

func TestSignaturesVerifyWithEverySecret(t *testing.T) {
	server, seen := receiver(t)
	secrets := []sinks.Secret{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "bmV3LXNlY3JldC1vZi10d2VudHktZm91cg=="}
	s := build(t, webhook.Config{URL: sinks.Secret(server.URL), SigningSecrets: secrets}, nil)
	got := one(t, s, nil, sinks.Message{ID: "d-1:a/b", Body: "hello"}, seen)
	for i, secret := range secrets {
		verifier, err := standardwebhooks.NewWebhook(secret.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		if err := verifier.Verify(got.body, got.header); err != nil {
			t.Errorf("secret %d: %v", i, err)
		}
		if err := verifier.Verify(append(got.body, ' '), got.header); err == nil {
			t.Errorf("secret %d verifies another body", i)
		}
	}
	stranger, err := standardwebhooks.NewWebhook("whsec_c3RyYW5nZXI=")
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Verify(got.body, got.header); err == nil {
		t.Error("a secret that the sink does not have verifies")
	}
}

func TestMessageKeepsItsIDAndOneWithoutGetsAFreshOne(t *testing.T) {
	server, seen := receiver(t)
	s := build(t, webhook.Config{URL: sinks.Secret(server.URL)}, nil)
	var ids []string
	for _, id := range []string{"same", "same", "", ""} {
		ids = append(ids, one(t, s, nil, sinks.Message{ID: id, Body: "x"}, seen).header.Get("webhook-id"))
	}
	if ids[0] != "same" || ids[1] != "same" {
		t.Errorf("ids %q, want the message's own in each attempt", ids[:2])
	}
	for _, id := range ids[2:] {
		if u, err := uuid.Parse(id); err != nil || u.Version() != 7 {
			t.Errorf("id %q is not a UUIDv7", id)
		}
	}
	if ids[2] == ids[3] {
		t.Errorf("two messages without an id got the same one, %s", ids[2])
	}
	if !sinks.Deduplicates(s) {
		t.Error("Deduplicates = false: receivers recognise a message by its webhook-id")
	}
}

func TestHeadersThatMetadataCannotSet(t *testing.T) {
	server, _ := receiver(t)
	s := build(t, webhook.Config{URL: sinks.Secret(server.URL), Headers: map[string]sinks.Secret{"X-Api-Key": "k"}}, nil)
	for _, name := range []string{
		"Host", "host", "Connection", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding",
		"Upgrade", "Expect", "Accept-Encoding", "Content-Type", "content-length", "Content-Encoding", "Content-Anything",
		"Authorization", "Cookie", "Set-Cookie", "X-Forwarded-For", "Forwarded", "Via", "X-Real-IP",
		"webhook-id", "Webhook-Timestamp", "WEBHOOK-SIGNATURE", "webhook-anything", "x-api-key", "HTTP2-Settings",
		"", "a b", "a:b", "a\r\nb", "ü", "a\x00",
	} {
		err := s.Validate(nil, sinks.Message{Body: "x", Metadata: map[string]string{name: "v"}})
		if sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), fmt.Sprintf("message.metadata[%q]", name)) {
			t.Errorf("metadata %q: %v, want %s naming the key", name, err, sinks.CodeInvalidArgument)
		}
	}
	for _, value := range []string{"a\r\nb", "a\nb", "a\x00b", "a\x7f", " a", "a ", "a\xff"} {
		if err := s.Validate(nil, sinks.Message{Body: "x", Metadata: map[string]string{"x-note": value}}); sinks.CodeOf(err) != sinks.CodeInvalidArgument {
			t.Errorf("value %q: %v, want %s", value, err, sinks.CodeInvalidArgument)
		}
	}
	for _, m := range []map[string]string{
		{"x-note": strings.Repeat("x", 17<<10)},
		{"x-a": strings.Repeat("x", 9<<10), "x-b": strings.Repeat("x", 9<<10)},
	} {
		if err := s.Validate(nil, sinks.Message{Body: "x", Metadata: m}); err == nil || !strings.Contains(err.Error(), "message.metadata: ") {
			t.Errorf("metadata beyond 16 KiB: %.100v, want an error", err)
		}
	}
}

func TestMetadataIsAttachedVerbatim(t *testing.T) {
	server, seen := receiver(t)
	s := build(t, webhook.Config{URL: sinks.Secret(server.URL)}, nil)
	want := map[string]string{"x-note": `a "b"; c=<d>, é`, "Idempotency-Key": "i-1", "traceparent": "00-1-2-01", "X-Empty": ""}
	got := one(t, s, nil, sinks.Message{ID: "d", Body: "x", Metadata: want}, seen)
	for name, value := range want {
		if v, ok := got.header[http.CanonicalHeaderKey(name)]; !ok || v[0] != value {
			t.Errorf("header %s = %q, want %q", name, v, value)
		}
	}
	var body struct{ Metadata map[string]string }
	if err := json.Unmarshal(got.body, &body); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, body.Metadata); diff != "" {
		t.Errorf("metadata in the envelope (-want +got):\n%s", diff)
	}
}

func TestConfiguredHeadersGoToTheSinksOwnOriginOnly(t *testing.T) {
	own, ownSeen := receiver(t)
	other, otherSeen := receiver(t)
	s := build(t, webhook.Config{
		URL: sinks.Secret(own.URL + "/in"), Headers: map[string]sinks.Secret{"authorization": "Bearer s"}, AllowPrivateRecipients: true,
	}, nil)
	m := sinks.Message{ID: "d", Body: "x"}
	for _, c := range []struct {
		to   sinks.Recipient
		seen func() []request
		want string
	}{
		{nil, ownSeen, "Bearer s"},
		{webhook.Recipient{}, ownSeen, "Bearer s"},
		{webhook.Recipient{URL: own.URL + "/elsewhere"}, ownSeen, "Bearer s"},
		{webhook.Recipient{URL: other.URL}, otherSeen, ""},
	} {
		if got := one(t, s, c.to, m, c.seen).header.Get("Authorization"); got != c.want {
			t.Errorf("to %v: Authorization %q, want %q", c.to, got, c.want)
		}
	}
}

// The same host and port without TLS is another origin: the operator's credentials would
// go over the wire in the clear.
func TestConfiguredHeadersNeedTheScheme(t *testing.T) {
	server, seen := receiver(t)
	s := build(t, webhook.Config{
		URL:     sinks.Secret(strings.Replace(server.URL, "http:", "https:", 1) + "/in"),
		Headers: map[string]sinks.Secret{"authorization": "Bearer s"}, AllowPrivateRecipients: true,
	}, nil)
	got := one(t, s, webhook.Recipient{URL: server.URL + "/in"}, sinks.Message{ID: "d", Body: "x"}, seen)
	if v, ok := got.header["Authorization"]; ok {
		t.Errorf("over plain HTTP, Authorization is %q, want none", v)
	}
}

func TestProxyServesTheSinksOwnURLAndNeverRecipients(t *testing.T) {
	proxy, proxied := receiver(t)
	direct, seen := receiver(t)
	u, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	s := build(t, webhook.Config{URL: "http://hooks.example.com/in", AllowPrivateRecipients: true}, &webhook.Options{Proxy: http.ProxyURL(u)})
	m := sinks.Message{ID: "d", Body: "x"}
	if got := one(t, s, nil, m, proxied).path; got != "http://hooks.example.com/in" {
		t.Errorf("the proxy was asked for %q", got)
	}
	one(t, s, webhook.Recipient{URL: direct.URL}, m, seen)
	if got := proxied(); len(got) != 0 {
		t.Errorf("a recipient's URL went through the proxy: %v", got)
	}
}

func TestCertificatesAreVerified(t *testing.T) {
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // handshakes fail on purpose
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ErrorLog = quiet
	server.StartTLS()
	defer server.Close()
	plain, _ := receiver(t)
	trust := x509.NewCertPool()
	trust.AddCert(server.Certificate())
	old := httptest.NewUnstartedServer(nil)
	old.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} //nolint:gosec // a server that is too old
	old.Config.ErrorLog = quiet
	old.StartTLS()
	defer old.Close()

	m := sinks.Message{ID: "d", Body: "x"}
	for name, c := range map[string]struct {
		url   string
		roots *x509.CertPool
		want  string // part of the error; "" for a delivery
		again bool
	}{
		"trusted":                {server.URL, trust, "", false},
		"unknown authority":      {server.URL, nil, "certificate signed by an unknown authority", false},
		"another host":           {strings.Replace(server.URL, "127.0.0.1", "localhost", 1), trust, "certificate is for another host", false},
		"plain HTTP behind TLS":  {strings.Replace(plain.URL, "http:", "https:", 1), nil, "does not speak TLS", false},
		"TLS 1.1 is not offered": {old.URL, trust, "TLS", true},
	} {
		t.Run(name, func(t *testing.T) {
			err := build(t, webhook.Config{URL: sinks.Secret(c.url)}, &webhook.Options{RootCAs: c.roots}).Send(t.Context(), nil, m)
			if c.want == "" {
				if err != nil {
					t.Errorf("Send: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || sinks.IsTransient(err) != c.again || sinks.IsAmbiguous(err) {
				t.Errorf("Send = %v, want %q, transient %v", err, c.want, c.again)
			}
			if sinks.IsUnreached(err) == c.again {
				t.Errorf("Send = %v counts as an answer: %v", err, !sinks.IsUnreached(err))
			}
		})
	}
}

func TestDecodeRecipient(t *testing.T) {
	s := build(t, webhook.Config{URL: "https://own.example.com/"}, nil)
	for raw, want := range map[string]sinks.Recipient{
		"": nil, "null": nil, "{}": webhook.Recipient{}, `{"url":""}`: webhook.Recipient{},
		`{"url":"https://hooks.example.com/a?b"}`: webhook.Recipient{URL: "https://hooks.example.com/a?b"},
	} {
		if got, err := s.DecodeRecipient([]byte(raw)); err != nil || got != want {
			t.Errorf("DecodeRecipient(%q) = %v, %v, want %v", raw, got, err, want)
		}
	}
	for raw, field := range map[string]string{
		`{"url":1}`: "recipient.url:", `{"url":null}`: "recipient.url:", `{"url":"ftp://x.example"}`: "recipient.url:",
		`{"url":"http://127.0.0.1/"}`: "recipient.url:", `{"URL":"https://x.example"}`: "recipient.URL:", `{"uri":"x"}`: "recipient.uri:",
		`{"url":"https://x.example","to":1}`: "recipient.to:", `"https://x.example"`: "recipient:", `[]`: "recipient:", `{`: "recipient:",
	} {
		got, err := s.DecodeRecipient([]byte(raw))
		if sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), field) {
			t.Errorf("DecodeRecipient(%q) = %v, %v, want %s naming %s", raw, got, err, sinks.CodeInvalidArgument, field)
		}
	}
}

// The tokens of Slack, Discord and others are the path: of a caller's URL scheme and host
// alone are shown, whatever went wrong.
func TestErrorsShowSchemeAndHostOfACallersURLAlone(t *testing.T) {
	const token = "T0K3N"
	closed := httptest.NewServer(nil)
	closed.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code, err := strconv.Atoi(r.URL.Query().Get("do")); err == nil {
			w.Header().Set("Location", r.URL.String())
			w.WriteHeader(code)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Errorf("Hijack: %v", err)
			return
		}
		_, _ = io.WriteString(conn, r.URL.String()+"\r\n\r\n")
		conn.Close()
	}))
	defer server.Close()
	s := build(t, webhook.Config{URL: "https://own.example.com/", AllowPrivateRecipients: true}, nil)
	guarded := build(t, webhook.Config{URL: "https://own.example.com/", AllowedHosts: []string{"x.example"}}, nil)
	path := "/services/" + token + "/" + token
	for name, c := range map[string]struct {
		sink *webhook.Sink
		url  string
		want string
	}{
		"a status":           {s, server.URL + path + "?do=404&key=" + token, "SINK_UNAVAILABLE: POST " + server.URL + ": HTTP 404 Not Found"},
		"a redirect":         {s, server.URL + path + "?do=302", "SINK_UNAVAILABLE: POST " + server.URL + ": HTTP 302 Found"},
		"no answer to read":  {s, server.URL + path + "?do=nothing", server.URL + ": "},
		"refused":            {s, closed.URL + path, closed.URL + ": connection refused"},
		"no TLS":             {s, strings.Replace(server.URL, "http:", "https:", 1) + path, "does not speak TLS"},
		"no such host":       {s, "http://" + "nosuch.invalid" + path, "http://nosuch.invalid: "},
		"private":            {guarded, server.URL + path, "recipient.url: "},
		"another host":       {guarded, "https://hooks.example.com" + path, "recipient.url: "},
		"a scheme":           {s, "ftp://hooks.example.com" + path, "recipient.url: "},
		"credentials":        {s, "https://u:" + token + "@hooks.example.com" + path, "recipient.url: "},
		"a port":             {s, "https://hooks.example.com:22" + path, "recipient.url: "},
		"what is not parsed": {s, "https://hooks.example.com:port" + path, "recipient.url: "},
		"a bad escape":       {s, "https://hooks.example.com/%zz" + path, "recipient.url: "},
		"a number":           {s, "https://127.1" + path, "recipient.url: "},
	} {
		to := webhook.Recipient{URL: c.url}
		errs := []error{c.sink.Send(t.Context(), to, sinks.Message{ID: "d", Body: "x"})}
		if raw, err := json.Marshal(to); err != nil {
			t.Fatal(err)
		} else if _, err := sinks.DecodeRecipient(c.sink, raw); err != nil {
			errs = append(errs, err)
		}
		for _, err := range errs {
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want an error that says %q", name, err, c.want)
			}
			for ; err != nil; err = errors.Unwrap(err) {
				if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, token) {
					t.Errorf("%s: the error shows the path: %s", name, text)
				}
			}
		}
	}
}

func TestConfigFaultsAreReportedTogetherWithoutSecrets(t *testing.T) {
	const secret = "very-secret"
	factory, ok := sinks.LookupFactory(webhook.Kind)
	if !ok {
		t.Fatal("importing the package did not register its kind")
	}
	for name, c := range map[string]struct {
		raw  map[string]any
		keys []string
	}{
		"nothing":      {nil, []string{"url"}},
		"unknown keys": {map[string]any{"url": "https://x.example", "ulr": 1, "header": 2}, []string{"header", "ulr"}},
		"wrong types":  {map[string]any{"url": 5, "headers": []any{1}, "allow_private_recipients": "yes"}, []string{"allow_private_recipients", "headers", "url"}},
		"everything": {map[string]any{
			"url":             "ftp://" + secret,
			"headers":         map[string]any{"a b": secret, "Content-Type": secret, "X-A": secret, "x-a": secret, "X-B": secret + "\r\n"},
			"signing_secrets": []any{"whsec_" + secret + "!", "c2VjcmV0", ""},
			"format":          "xml",
			"allowed_hosts":   []any{"x.example", "*", "https://x.example", "x.example:443", "*.x.example", "::1"},
		}, []string{
			"allowed_hosts[1]", "allowed_hosts[2]", "allowed_hosts[3]", "format", "headers.Content-Type", "headers.X-B", "headers.a b",
			"headers.x-a", "signing_secrets[0]", "signing_secrets[2]", "url",
		}},
		"not a URL": {map[string]any{"url": "https://user:" + secret + "@x.example:port/"}, []string{"url"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := factory("hooks", c.raw)
			if got := sinktest.FaultyKeys(err); !slices.Equal(got, c.keys) {
				t.Errorf("faults in %q, want %q: %v", got, c.keys, err)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func TestFactoryBuildsFromConfiguration(t *testing.T) {
	s, err := sinks.BuildSink("webhook", "hooks", map[string]any{
		"url": "https://x.example/in", "headers": map[string]any{"Authorization": "Bearer s"}, "signing_secrets": []any{"c2VjcmV0"},
		"format": "raw", "allow_private_recipients": true, "allowed_hosts": []any{"*.x.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%d"} {
		if got := fmt.Sprintf(format, s); got != "webhook sink hooks" {
			t.Errorf("%s prints %q", format, got)
		}
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(webhook.Config{URL: "https://x.example/secret", SigningSecrets: []sinks.Secret{"secret"}}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "secret\"") || strings.Contains(b.String(), "x.example") {
		t.Errorf("a Config encodes its secrets: %s", &b)
	}
}
