package inbox_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"backstop/internal/inbox"
)

// ask sends a request and returns its status, its JSON and its text.
func ask(t *testing.T, method, url, body, authorization string) (int, map[string]any, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if strings.HasPrefix(body, "grant_type") {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil || res.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%s answered %d, %q (%s), want JSON", url, res.StatusCode, text, res.Header.Get("Content-Type"))
	}
	return res.StatusCode, object, string(text)
}

func TestTelegramAndPagerDutyAnswerAsTheyDo(t *testing.T) {
	t.Parallel()
	in := start(t, inbox.Options{})
	event := func(key, action, summary, severity string) string {
		return `{"routing_key":"` + key + `","event_action":"` + action + `","dedup_key":"order-42","payload":{"summary":"` + summary + `","source":"x","severity":"` + severity + `"}}`
	}
	const pagerDutyKey = inbox.PagerDutyKey
	for _, c := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"Telegram", inbox.PathTelegram, `{"chat_id":"77","text":"hello"}`, 200, `"ok":true`},
		{"Telegram, a number", inbox.PathTelegram, `{"chat_id":77,"text":"hello"}`, 200, `"chat":{"id":77}`},
		{"Telegram, another bot", "/bot1:x/sendMessage", `{"chat_id":"77","text":"hello"}`, 401, `"description":"Unauthorized"`},
		{"Telegram, another method", "/bot" + inbox.TelegramToken + "/getMe", ``, 404, `"ok":false`},
		{"Telegram, no chat", inbox.PathTelegram, `{"text":"hello"}`, 400, "chat_id is empty"},
		{"Telegram, no text", inbox.PathTelegram, `{"chat_id":"77","text":" \n"}`, 400, "message text is empty"},
		{"Telegram, the longest text", inbox.PathTelegram, `{"chat_id":"77","text":"` + strings.Repeat("ü", 4096) + `"}`, 200, `"ok":true`},
		{"Telegram, too long", inbox.PathTelegram, `{"chat_id":"77","text":"` + strings.Repeat("ü", 4097) + `"}`, 400, "message is too long"},
		{"Telegram, no JSON", inbox.PathTelegram, `chat_id=77`, 400, "can't parse"},
		{"PagerDuty", inbox.PathPagerDuty, event(pagerDutyKey, "trigger", "Disk full", "error"), 202, `"dedup_key":"order-42"`},
		{"PagerDuty, resolved", inbox.PathPagerDuty, event(pagerDutyKey, "resolve", "", ""), 202, `"status":"success"`},
		{"PagerDuty, another key", inbox.PathPagerDuty, event("x", "trigger", "Disk full", "error"), 400, "Invalid routing key"},
		{"PagerDuty, no action", inbox.PathPagerDuty, event(pagerDutyKey, "", "Disk full", "error"), 400, "event_action"},
		{"PagerDuty, no summary", inbox.PathPagerDuty, event(pagerDutyKey, "trigger", "", "error"), 400, "payload.summary"},
		{"PagerDuty, no severity", inbox.PathPagerDuty, event(pagerDutyKey, "trigger", "Disk full", "bad"), 400, "payload.severity"},
		{"PagerDuty, no JSON", inbox.PathPagerDuty, "{", 400, `"status":"invalid event"`},
	} {
		status, _, text := ask(t, http.MethodPost, in.URL+c.path, c.body, "")
		if status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %s, want %d and %s", c.name, status, text, c.status, c.says)
		}
		got := in.HTTP.Arrivals()
		if last := got[len(got)-1]; last.Path != c.path || last.Status != c.status || last.Accepted() != (c.status < 300) {
			t.Errorf("%s is recorded as %s, %d", c.name, last.Path, last.Status)
		}
	}
	// A script comes before, and what it leaves to success is the service's own again.
	in.HTTP.Set(inbox.PathPagerDuty, inbox.Times(1, inbox.Reply{Status: 429, RetryAfter: "7", Body: `{"status":"throttled"}`, ContentType: "application/json"}))
	for _, want := range []int{429, 202} {
		if status, _, text := ask(t, http.MethodPost, in.URL+inbox.PathPagerDuty, event(pagerDutyKey, "trigger", "Disk full", "error"), ""); status != want {
			t.Errorf("scripted: %d %s, want %d", status, text, want)
		}
	}
}

// account is a service account's key file, as far as it is needed to sign with it.
type account struct {
	ProjectID string `json:"project_id"`
	KeyID     string `json:"private_key_id"`
	Key       string `json:"private_key"`
	Email     string `json:"client_email"`
	TokenURI  string `json:"token_uri"`
}

func openAccount(t *testing.T, in *inbox.Inbox) (account, *rsa.PrivateKey) {
	t.Helper()
	file, err := in.ServiceAccount()
	if err != nil {
		t.Fatal(err)
	}
	var a account
	if err := json.Unmarshal([]byte(file), &a); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(a.Key))
	if block == nil {
		t.Fatal("the key file has no key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, ok := key.(*rsa.PrivateKey)
	if !ok {
		t.Fatalf("the key is a %T", key)
	}
	return a, rsaKey
}

func assertion(t *testing.T, key *rsa.PrivateKey, kid string, claims map[string]any) string {
	t.Helper()
	var parts []string
	for _, v := range []any{map[string]string{"alg": "RS256", "typ": "JWT", "kid": kid}, claims} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, base64.RawURLEncoding.EncodeToString(b))
	}
	sum := sha256.Sum256([]byte(strings.Join(parts, ".")))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(parts, base64.RawURLEncoding.EncodeToString(signature)), ".")
}

// FCM takes messages for the access token that Google's endpoint gives for the account's assertion,
// and for no other.
func TestFCMAsksForATokenOfTheAccount(t *testing.T) {
	t.Parallel()
	in := start(t, inbox.Options{})
	a, key := openAccount(t, in)
	now := time.Now().Unix()
	claims := func(name string, value any) map[string]any {
		c := map[string]any{
			"iss": a.Email, "aud": a.TokenURI, "iat": now, "exp": now + 3600, "scope": "https://www.googleapis.com/auth/firebase.messaging",
		}
		if name != "" {
			c[name] = value
		}
		return c
	}
	grant := func(assertion string) string {
		return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion}}.Encode()
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	good := assertion(t, key, a.KeyID, claims("", nil))
	for name, body := range map[string]string{
		"another key":        grant(assertion(t, other, a.KeyID, claims("", nil))),
		"another key's name": grant(assertion(t, key, "x", claims("", nil))),
		"another account":    grant(assertion(t, key, a.KeyID, claims("iss", "x@example.org"))),
		"another audience":   grant(assertion(t, key, a.KeyID, claims("aud", "https://oauth2.googleapis.com/token"))),
		"no scope":           grant(assertion(t, key, a.KeyID, claims("scope", ""))),
		"expired":            grant(assertion(t, key, a.KeyID, claims("exp", now-1))),
		"good for too long":  grant(assertion(t, key, a.KeyID, claims("exp", now+7200))),
		"from ahead":         grant(assertion(t, key, a.KeyID, claims("iat", now+300))),
		"changed":            grant(strings.Replace(good, ".", ".e30", 1)),
		"no assertion":       grant(""),
		"another grant":      "grant_type=client_credentials&assertion=" + good,
	} {
		if status, object, text := ask(t, http.MethodPost, a.TokenURI, body, ""); status != http.StatusBadRequest || object["error"] == nil || object["access_token"] != nil {
			t.Errorf("%s: %d %s, want it refused", name, status, text)
		}
	}
	status, object, text := ask(t, http.MethodPost, a.TokenURI, grant(good), "")
	token, ok := object["access_token"].(string)
	if status != http.StatusOK || !ok || token == "" || object["token_type"] != "Bearer" || object["expires_in"] != 3599.0 {
		t.Fatalf("the token endpoint answered %d %s", status, text)
	}
	const message = `{"message":{"token":"device","notification":{"title":"Shipped"}}}`
	for _, c := range []struct {
		name, path, body, authorization string
		status                          int
		says                            string
	}{
		{"FCM", inbox.PathFCM, message, "Bearer " + token, 200, `"name":"projects/` + a.ProjectID + `/messages/`},
		{"FCM, a topic", inbox.PathFCM, `{"message":{"topic":"news","data":{"a":"b"}}}`, "Bearer " + token, 200, `"name"`},
		{"FCM, no token", inbox.PathFCM, message, "", 401, `"UNAUTHENTICATED"`},
		{"FCM, another token", inbox.PathFCM, message, "Bearer ya29.x", 401, `"UNAUTHENTICATED"`},
		{"FCM, another project", "/v1/projects/other/messages:send", message, "Bearer " + token, 403, `"PERMISSION_DENIED"`},
		{"FCM, nowhere to go", inbox.PathFCM, `{"message":{"notification":{"title":"x"}}}`, "Bearer " + token, 400, `"errorCode":"INVALID_ARGUMENT"`},
		{"FCM, two ways to go", inbox.PathFCM, `{"message":{"token":"a","topic":"b"}}`, "Bearer " + token, 400, `"INVALID_ARGUMENT"`},
		{"FCM, data that is no text", inbox.PathFCM, `{"message":{"token":"a","data":{"a":1}}}`, "Bearer " + token, 400, `"INVALID_ARGUMENT"`},
	} {
		if status, _, text := ask(t, http.MethodPost, in.URL+c.path, c.body, c.authorization); status != c.status || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %s, want %d and %s", c.name, status, text, c.status, c.says)
		}
	}
}
