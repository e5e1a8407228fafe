package inbox

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// The services of others that a Receiver stands for. What comes to their paths is checked as they
// do, and answered in their words:
//
//   - Telegram: https://core.telegram.org/bots/api#sendmessage
//   - PagerDuty: https://developer.pagerduty.com/docs/events-api-v2-overview
//   - Firebase Cloud Messaging: https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send,
//     its token endpoint https://developers.google.com/identity/protocols/oauth2/service-account
//
// read on 2026-11-27.
const (
	// TelegramToken is the one bot's token that is known, and PathTelegram where it sends messages.
	TelegramToken = "123456:demo"
	PathTelegram  = "/bot" + TelegramToken + "/sendMessage"
	// PathPagerDuty takes events.
	PathPagerDuty = "/v2/enqueue"
	// PathGoogleToken gives access tokens to the service account of FirebaseProject (see
	// Inbox.ServiceAccount), whose messages PathFCM takes.
	PathGoogleToken = "/token"
	FirebaseProject = "backstop-demo"
	PathFCM         = "/v1/projects/" + FirebaseProject + "/messages:send"
)

// PagerDutyKey is the one routing key that is known.
const PagerDutyKey = "0123456789abcdef0123456789abcdef"

const (
	accountEmail = "sender@" + FirebaseProject + ".iam.gserviceaccount.com"
	accountKeyID = "demo"
	fcmScope     = "https://www.googleapis.com/auth/firebase.messaging"
)

// accountKey is made when it is first asked for.
var accountKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// ServiceAccount returns the key file of the service account that may send to FirebaseProject.
func (in *Inbox) ServiceAccount() (string, error) {
	key, err := accountKey()
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": FirebaseProject, "private_key_id": accountKeyID, "client_email": accountEmail,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   in.URL + PathGoogleToken,
	})
	return string(b), err
}

// providers is what the services know from one request to the next.
type providers struct {
	count atomic.Int64 // names what was taken

	mu     sync.Mutex
	tokens map[string]bool // Google's
}

// reply is the answer of the service that a request's path belongs to; the zero Reply where it
// belongs to none. host is what the request was sent to.
func (p *providers) reply(a Arrival, host string) Reply {
	var status int
	var answer any
	switch {
	case strings.HasPrefix(a.Path, "/bot") && strings.Count(a.Path, "/") == 2:
		status, answer = p.telegram(a)
	case a.Path == PathPagerDuty:
		status, answer = p.pagerDuty(a)
	case a.Path == PathGoogleToken:
		status, answer = p.googleToken(a, host)
	case strings.HasPrefix(a.Path, "/v1/projects/"):
		status, answer = p.fcm(a)
	default:
		return Reply{}
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return Reply{Status: http.StatusInternalServerError, Body: err.Error()}
	}
	return Reply{Status: status, Body: string(body), ContentType: "application/json"}
}

type object = map[string]any

func (p *providers) telegram(a Arrival) (int, any) {
	no := func(status int, why string) (int, any) {
		return status, object{"ok": false, "error_code": status, "description": why}
	}
	token, method, _ := strings.Cut(strings.TrimPrefix(a.Path, "/bot"), "/")
	var m struct {
		ChatID any    `json:"chat_id"`
		Text   string `json:"text"`
	}
	switch {
	case token != TelegramToken:
		return no(http.StatusUnauthorized, "Unauthorized")
	case method != "sendMessage":
		return no(http.StatusNotFound, "Not Found")
	case a.Method != http.MethodPost || json.Unmarshal([]byte(a.Body), &m) != nil:
		return no(http.StatusBadRequest, "Bad Request: can't parse JSON object")
	case m.ChatID == nil || m.ChatID == "":
		return no(http.StatusBadRequest, "Bad Request: chat_id is empty")
	case strings.TrimSpace(m.Text) == "":
		return no(http.StatusBadRequest, "Bad Request: message text is empty")
	case utf8.RuneCountInString(m.Text) > 4096:
		return no(http.StatusBadRequest, "Bad Request: message is too long")
	}
	return http.StatusOK, object{"ok": true, "result": object{
		"message_id": p.count.Add(1), "date": a.At.Unix(), "chat": object{"id": m.ChatID}, "text": m.Text,
	}}
}

func (p *providers) pagerDuty(a Arrival) (int, any) {
	var e struct {
		RoutingKey  string `json:"routing_key"`
		EventAction string `json:"event_action"`
		DedupKey    string `json:"dedup_key"`
		Payload     struct {
			Summary  string `json:"summary"`
			Source   string `json:"source"`
			Severity string `json:"severity"`
		} `json:"payload"`
	}
	var faults []string
	if a.Method != http.MethodPost || json.Unmarshal([]byte(a.Body), &e) != nil {
		faults = append(faults, "JSON cannot be parsed")
	} else {
		if e.RoutingKey != PagerDutyKey {
			faults = append(faults, "Invalid routing key")
		}
		if !slices.Contains([]string{"trigger", "acknowledge", "resolve"}, e.EventAction) {
			faults = append(faults, "'event_action' is missing or invalid")
		}
		if e.EventAction == "trigger" {
			if e.Payload.Summary == "" {
				faults = append(faults, "'payload.summary' is missing or blank")
			}
			if e.Payload.Source == "" {
				faults = append(faults, "'payload.source' is missing or blank")
			}
			if !slices.Contains([]string{"critical", "error", "warning", "info"}, e.Payload.Severity) {
				faults = append(faults, "'payload.severity' is missing or invalid")
			}
		}
	}
	if len(faults) > 0 {
		return http.StatusBadRequest, object{"status": "invalid event", "message": "Event object is invalid", "errors": faults}
	}
	return http.StatusAccepted, object{
		"status": "success", "message": "Event processed", "dedup_key": cmp.Or(e.DedupKey, fmt.Sprintf("event-%d", p.count.Add(1))),
	}
}

// googleToken gives an access token for an assertion that the service account has signed.
func (p *providers) googleToken(a Arrival, host string) (int, any) {
	no := func(word, why string) (int, any) {
		return http.StatusBadRequest, object{"error": word, "error_description": why}
	}
	form, err := url.ParseQuery(a.Body)
	if err != nil || a.Method != http.MethodPost || form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return no("unsupported_grant_type", "Invalid grant_type")
	}
	if why := checkAssertion(form.Get("assertion"), "http://"+host+PathGoogleToken, a.At); why != "" {
		return no("invalid_grant", why)
	}
	token := "ya29." + rand.Text()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tokens == nil {
		p.tokens = map[string]bool{}
	}
	p.tokens[token] = true
	return http.StatusOK, object{"access_token": token, "expires_in": 3599, "token_type": "Bearer"}
}

// checkAssertion says what is wrong with a signed JSON Web Token; empty: nothing.
func checkAssertion(assertion, audience string, now time.Time) string {
	var head struct{ Alg, Kid string }
	var claims struct {
		Issuer   string `json:"iss"`
		Scope    string `json:"scope"`
		Audience string `json:"aud"`
		Issued   int64  `json:"iat"`
		Expires  int64  `json:"exp"`
	}
	parts := strings.Split(assertion, ".")
	if len(parts) != 3 {
		return "Bad Request"
	}
	for i, into := range []any{&head, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(text, into) != nil {
			return "Bad Request"
		}
	}
	key, err := accountKey()
	if err != nil {
		return err.Error()
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	at := now.Unix()
	switch {
	case err != nil || head.Alg != "RS256" || head.Kid != accountKeyID || rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], signature) != nil:
		return "Invalid JWT Signature."
	case claims.Issuer != accountEmail:
		return "Invalid grant: account not found"
	case claims.Audience != audience:
		return "Invalid JWT: Failed audience check."
	case claims.Issued > at+60 || claims.Expires <= at || claims.Expires-claims.Issued > 3600:
		return "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
	case !slices.Contains(strings.Fields(claims.Scope), fcmScope):
		return "Invalid OAuth scope or ID token audience provided."
	}
	return ""
}

func (p *providers) fcm(a Arrival) (int, any) {
	no := func(status int, word, why string, details ...any) (int, any) {
		e := object{"code": status, "message": why, "status": word}
		if len(details) > 0 {
			e["details"] = details
		}
		return status, object{"error": e}
	}
	var m struct {
		Message struct {
			Token, Topic, Condition string
			Notification            *struct{ Title, Body string }
			Data                    map[string]string
		}
	}
	to := &m.Message
	given := 0
	err := json.Unmarshal([]byte(a.Body), &m)
	for _, v := range []string{to.Token, to.Topic, to.Condition} {
		if v != "" {
			given++
		}
	}
	switch {
	case a.Path != PathFCM:
		return no(http.StatusForbidden, "PERMISSION_DENIED", "Permission 'cloudmessaging.messages.create' denied")
	case !p.bearer(a.Header.Get("Authorization")):
		return no(http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
	case a.Method != http.MethodPost || err != nil:
		return no(http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid JSON payload received.", object{"@type": "type.googleapis.com/google.rpc.BadRequest"})
	case given != 1:
		return no(http.StatusBadRequest, "INVALID_ARGUMENT", "Recipient of the message is not set.",
			object{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "INVALID_ARGUMENT"})
	}
	return http.StatusOK, object{"name": fmt.Sprintf("projects/%s/messages/0:%d", FirebaseProject, p.count.Add(1))}
}

// bearer reports whether a header has a token that was given.
func (p *providers) bearer(header string) bool {
	token, ok := strings.CutPrefix(header, "Bearer ")
	p.mu.Lock()
	defer p.mu.Unlock()
	return ok && p.tokens[token]
}
