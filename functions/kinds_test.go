package functions_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.yaml.in/yaml/v3"

	"backstop/internal/inbox"
	"backstop/lib/sinks"
	_ "backstop/lib/sinks/apns"
	_ "backstop/lib/sinks/email"
	_ "backstop/lib/sinks/fcm"
	httpkind "backstop/lib/sinks/http"
	_ "backstop/lib/sinks/slack"
	_ "backstop/lib/sinks/webhook"
	_ "backstop/lib/sinks/webpush"
)

// provider is somebody's API on loopback.
type provider struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string // method and path
}

func (p *provider) got() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// newProvider answers everything with a status and a body; requests for a token with one.
func newProvider(t *testing.T, tls bool, status int, body string) *provider {
	t.Helper()
	p := &provider{}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		if r.URL.Path == "/token" {
			_, _ = io.WriteString(w, `{"access_token":"t0ken","token_type":"Bearer","expires_in":3600}`)
			return
		}
		p.mu.Lock()
		p.requests = append(p.requests, r.Method+" "+r.URL.RequestURI())
		p.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	if tls {
		p.EnableHTTP2 = true
		p.StartTLS()
	} else {
		p.Start()
	}
	t.Cleanup(p.Close)
	return p
}

// target is a sink of one kind, and what is sent through it.
type target struct {
	config    map[string]any
	recipient any
	metadata  map[string]string
	group     string
	provider  *provider // nil: the stack's own inbox
	wants     string    // the request; empty: any
}

// presetTarget makes a preset's sink as testdata/answers of its package plays it.
func presetTarget(t *testing.T, kind string) target {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "lib", "sinks", "http", "testdata", "answers", kind+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var played struct {
		Parameters map[string]any
		Recipient  map[string]string
		Message    struct{ Metadata map[string]string }
		Group      string
		Answers    []struct {
			Status int
			Body   any
		}
	}
	if err := yaml.Unmarshal(text, &played); err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	first := played.Answers[0]
	body, isText := first.Body.(string)
	if !isText && first.Body != nil {
		b, err := json.Marshal(first.Body)
		if err != nil {
			t.Fatal(err)
		}
		body = string(b)
	}
	p := newProvider(t, false, first.Status, body)
	_, doc, err := httpkind.Preset(kind)
	if err != nil {
		t.Fatal(err)
	}
	config := map[string]any{"kind": kind}
	if _, ok := doc.Parameters["base_url"]; ok {
		config["base_url"] = p.URL
	}
	for name, value := range played.Parameters {
		if s, ok := value.(string); ok {
			value = strings.ReplaceAll(s, "$(server)", p.URL)
		}
		config[name] = value
	}
	out := target{config: config, metadata: played.Message.Metadata, group: played.Group, provider: p}
	if played.Recipient != nil {
		out.recipient = played.Recipient
	}
	return out
}

func pkcs8(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func p256(t *testing.T) (*ecdsa.PrivateKey, *ecdh.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := key.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	return key, curve
}

// ownTargets are the kinds that are Go.
func ownTargets(t *testing.T, smtp string) (targets map[string]target, certificate string) {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	signer, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	apnsKey, _ := p256(t)
	_, vapid := p256(t)
	_, browser := p256(t)
	plain := func(status int, body string) *provider { return newProvider(t, false, status, body) }
	slack, webhook, described, push := plain(200, "ok"), plain(200, ""), plain(202, `{"id":"x1"}`), plain(201, "")
	firebase := plain(200, `{"name":"projects/demo/messages/1"}`)
	apple := newProvider(t, true, 200, "")
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "demo", "client_email": "sender@demo.example", "private_key_id": "k1",
		"private_key": pkcs8(t, signer), "token_uri": firebase.URL + "/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	device := strings.Repeat("ab", 32)
	return map[string]target{
		"email":   {config: map[string]any{"kind": "email", "smtp_addr": smtp, "from": "ops@example.org", "tls": "none"}, recipient: map[string]string{"address": "ann@example.org"}},
		"slack":   {config: map[string]any{"kind": "slack", "webhook_url": slack.URL + "/services/T/B/s3cret"}, provider: slack, wants: "POST /services/T/B/s3cret"},
		"webhook": {config: map[string]any{"kind": "webhook", "url": webhook.URL + "/hook"}, provider: webhook, wants: "POST /hook"},
		"http": {config: map[string]any{
			"kind": "http", "method": "PUT", "url": described.URL + "/send/$(id)", "body": map[string]any{"text": "$(body)"},
			"outcomes": []any{map[string]any{"status": 202, "json": map[string]any{"$.id": "present"}, "then": "delivered"}},
		}, provider: described, wants: "PUT /send/kind-http"},
		"fcm": {
			config:    map[string]any{"kind": "fcm", "service_account": string(account), "base_url": firebase.URL},
			recipient: map[string]string{"token": "device-token-1"}, provider: firebase, wants: "POST /v1/projects/demo/messages:send",
		},
		"apns": {
			config:    map[string]any{"kind": "apns", "key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", "private_key": pkcs8(t, apnsKey), "topic": "org.example.app", "base_url": apple.URL},
			recipient: map[string]string{"device_token": device}, provider: apple, wants: "POST /3/device/" + device,
		},
		"webpush": {
			config: map[string]any{
				"kind": "webpush", "vapid_public_key": b64(vapid.PublicKey().Bytes()), "vapid_private_key": b64(vapid.Bytes()),
				"subscriber": "mailto:ops@example.org", "allow_private_recipients": true,
			},
			recipient: map[string]any{"endpoint": push.URL + "/push/1", "keys": map[string]string{"p256dh": b64(browser.PublicKey().Bytes()), "auth": b64(make([]byte, 16))}},
			provider:  push, wants: "POST /push/1",
		},
	}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: apple.Certificate().Raw}))
}

// Through a sink of every kind that there is one message is sent by the real function, to
// providers on loopback.
func TestASinkOfEveryKindIsSentTo(t *testing.T) {
	t.Parallel()
	mail, err := inbox.StartMail(t.Context(), "127.0.0.1:0", inbox.MailOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mail.Close() })
	targets, certificate := ownTargets(t, mail.Addr)
	for _, kind := range httpkind.Presets() {
		targets[kind] = presetTarget(t, kind)
	}
	for _, kind := range sinks.FactoryKinds() {
		if _, ok := targets[kind]; !ok {
			t.Errorf("nothing is sent through a sink of kind %s", kind)
		}
	}
	dir := t.TempDir()
	for kind, s := range targets {
		b, err := yaml.Marshal(s.config)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "to-"+kind+".yaml"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	o := onRedis(t)
	o.Sinks = "file:" + dir
	for name, value := range map[string]string{
		"SSL_CERT_FILE": ca, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "AWS_REGION": "eu-west-1",
	} {
		o.Env[name] = value
	}
	s := start(t, o)
	for kind, to := range targets {
		body, err := json.Marshal(map[string]any{
			"id": "kind-" + kind, "sink": "to-" + kind, "recipient": to.recipient,
			"message": map[string]any{"subject": "Order", "body": "hello", "metadata": to.metadata},
		})
		if err != nil {
			t.Fatal(err)
		}
		if to.group != "" {
			body = []byte(strings.Replace(string(body), `"id"`, fmt.Sprintf(`"group":%q,"id"`, to.group), 1))
		}
		if a := call(t, s, "POST", "/v1/messages", string(body)); a.status != http.StatusOK || a.text("status") != "delivered" {
			t.Errorf("%s: %d %s", kind, a.status, a.raw)
			continue
		}
		if to.provider == nil {
			if got := len(mail.Mails()); got != 1 {
				t.Errorf("%s: %d mails arrived", kind, got)
			}
			continue
		}
		if got := to.provider.got(); len(got) != 1 || to.wants != "" && got[0] != to.wants {
			t.Errorf("%s: its provider got %q, want one request %s", kind, got, to.wants)
		}
	}
}
