package fcm_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/sinks"
	"backstop/lib/sinks/fcm"
	"backstop/lib/sinks/sinktest"
)

const (
	accessToken = "ya29.acc3ss-token"
	deviceToken = "c0ffee:APA91b-d3vice_token"
)

// keyPEM is the key of all service accounts here.
var keyPEM = sync.OnceValues(func() (string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), err
})

// account is a key file whose tokens come from tokenURI.
func account(tb testing.TB, tokenURI string) sinks.Secret {
	tb.Helper()
	key, err := keyPEM()
	if err != nil {
		tb.Fatal(err)
	}
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "shop-1", "private_key_id": "k3y-id", "private_key": key,
		"client_email": "push@shop-1.iam.example", "token_uri": tokenURI,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return sinks.Secret(b)
}

// issuer is a token endpoint. Its tokens are numbered.
func issuer(tb testing.TB) string {
	tb.Helper()
	var mu sync.Mutex
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		n++
		_, _ = fmt.Fprintf(w, `{"access_token":"%s-%d","expires_in":3599}`, accessToken, n)
	}))
	tb.Cleanup(server.Close)
	return server.URL
}

func newSink(tb testing.TB, c fcm.Config) *fcm.Sink {
	tb.Helper()
	s, err := fcm.New("push", c, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// refusal is an answer of FCM's, which quotes the request.
func refusal(code int, status, errorCode string, header ...string) http.HandlerFunc {
	details := ""
	if errorCode != "" {
		details = `,"details":[{"@type":"type.googleapis.com/google.rpc.QuotaFailure","violations":[{"subject":"` + deviceToken + `"}]},` +
			`{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"` + errorCode + `"}]`
	}
	return answer(code, fmt.Sprintf(`{"error":{"code":%d,"message":"token %s, key %s","status":%q%s}}`, code, deviceToken, accessToken, status, details), header...)
}

func answer(code int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// The answers are composed from https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode and
// https://firebase.google.com/docs/cloud-messaging/error-codes, read 2026-11-27.
func TestConformance(t *testing.T) {
	answers := map[sinktest.Behaviour]http.HandlerFunc{}
	var rows []sinktest.Row
	add := func(b sinktest.Behaviour, h http.HandlerFunc, want sinktest.Outcome, text string, wait time.Duration) {
		answers[b] = h
		rows = append(rows, sinktest.Row{Does: b, Want: want, Text: text, RetryAfter: wait})
	}
	add("unregistered", refusal(404, "NOT_FOUND", "UNREGISTERED"), sinktest.Terminal, "HTTP 404 Not Found: UNREGISTERED", 0)
	add("no such project", refusal(404, "NOT_FOUND", ""), sinktest.Terminal, "HTTP 404 Not Found: NOT_FOUND", 0)
	add("invalid argument", refusal(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), sinktest.Terminal, "HTTP 400 Bad Request: INVALID_ARGUMENT", 0)
	add("invalid value", refusal(400, "INVALID_ARGUMENT", ""), sinktest.Terminal, "HTTP 400 Bad Request: INVALID_ARGUMENT", 0)
	add("another sender", refusal(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", "Retry-After", "5"), sinktest.Terminal, "HTTP 403 Forbidden: SENDER_ID_MISMATCH", 0)
	add("API not enabled", refusal(403, "PERMISSION_DENIED", ""), sinktest.Terminal, "HTTP 403 Forbidden: PERMISSION_DENIED", 0)
	add("bad APNs key", refusal(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), sinktest.Terminal, "HTTP 401 Unauthorized: THIRD_PARTY_AUTH_ERROR", 0)
	add("token refused", refusal(401, "UNAUTHENTICATED", ""), sinktest.Transient, "HTTP 401 Unauthorized: UNAUTHENTICATED", 0)
	add("over quota", refusal(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Retry-After", "7"), sinktest.Transient, "QUOTA_EXCEEDED (retry after 7s)", 7*time.Second)
	add("over quota, no time", refusal(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), sinktest.Transient, "QUOTA_EXCEEDED (retry after 1m0s)", time.Minute)
	add("429 with a page", answer(429, "<html>"), sinktest.Transient, "HTTP 429 Too Many Requests (retry after 1m0s)", time.Minute)
	add("unavailable", refusal(503, "UNAVAILABLE", "UNAVAILABLE", "Retry-After", "30"), sinktest.Transient, "UNAVAILABLE (retry after 30s)", 30*time.Second)
	add("internal", refusal(500, "INTERNAL", "INTERNAL"), sinktest.Transient, "HTTP 500 Internal Server Error: INTERNAL", 0)
	add("502 with a page", answer(502, "<html>"+deviceToken), sinktest.Transient, "HTTP 502 Bad Gateway", 0)
	add("unknown word", refusal(400, deviceToken, deviceToken), sinktest.Terminal, "HTTP 400 Bad Request", 0)
	add("404 with a page", answer(404, "<html>"+deviceToken), sinktest.Terminal, "HTTP 404 Not Found", 0)
	add("302", answer(302, "", "Location", "/login"), sinktest.Terminal, "HTTP 302", 0)
	for name, body := range map[string]string{"a page": "<html>" + deviceToken, "nothing": "", "another object": `{"ok":true}`, "a number for a name": `{"name":5}`, "an empty name": `{"name":""}`} {
		add(sinktest.Behaviour("200 with "+name), answer(200, body), sinktest.Ambiguous, "HTTP 200 OK, but the answer names no message", 0)
	}
	add("200 with a name and no end", answer(200, `{"name":"projects/shop-1/messages/0:1"}`+strings.Repeat(" ", 70<<10)), sinktest.Ambiguous, "the answer broke off", 0)
	rows = append(rows, []sinktest.Row{
		{Does: sinktest.Accept, Want: sinktest.Delivered},
		{Does: sinktest.Refuse, Want: sinktest.Transient, Text: "connection refused"},
		{Does: sinktest.ResetEarly, Want: sinktest.Transient},
		{Does: sinktest.ResetLate, Want: sinktest.Ambiguous, Text: "sent and not answered"},
		{Does: sinktest.HangEarly, Want: sinktest.Ended},
		{Does: sinktest.HangLate, Want: sinktest.Ambiguous, Text: "timed out"},
		{Does: sinktest.Garbage, Want: sinktest.Ambiguous},
		{Does: sinktest.Drip, Want: sinktest.Delivered},
		{Does: sinktest.Endless, Want: sinktest.Ambiguous, Text: "the answer broke off"},
		{Does: sinktest.Huge, Want: sinktest.Ambiguous, Text: "the answer broke off"},
		{Does: sinktest.Compressed, Want: sinktest.Ambiguous, Text: "names no message"},
		{Does: sinktest.HangHandshake, Want: sinktest.Ended},
		{Does: sinktest.Switch, Want: sinktest.Terminal, Text: "HTTP 101"},
		{Does: sinktest.EndlessHead, Want: sinktest.Ambiguous},
		{Does: sinktest.EndlessInterim, Want: sinktest.Ambiguous},
	}...)
	tokens := issuer(t)
	key, err := keyPEM()
	if err != nil {
		t.Fatal(err)
	}
	sinktest.Run(t, sinktest.Harness{
		Name: "push",
		Open: func(tb testing.TB, b sinktest.Behaviour) *sinktest.Destination {
			tb.Helper()
			server := sinktest.NewHTTPServer(tb, b, `{"name":"projects/shop-1/messages/0:1"}`, answers)
			return server.Destination(newSink(tb, fcm.Config{ServiceAccount: account(tb, tokens+"/t0ken-path"), BaseURL: server.URL + "/b4se"}))
		},
		Recipient: fcm.Recipient{Token: deviceToken},
		Message:   func(marker string) sinks.Message { return sinks.Message{Subject: "Order", Body: "late " + marker} },
		Rows:      rows,
		Reuses:    true,
		Secrets:   []string{accessToken, deviceToken, "t0ken-path", "b4se", "k3y-id", strings.Split(key, "\n")[1]},
	})
}

// receiver answers each request with the next of answers, and keeps what came.
type receiver struct {
	answers []http.HandlerFunc
	paths   []string
	auth    []string
	bodies  []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.paths = append(r.paths, req.Method+" "+req.URL.Path)
	r.auth = append(r.auth, req.Header.Get("Authorization"))
	r.bodies = append(r.bodies, string(b))
	if len(r.answers) == 0 {
		answer(200, `{"name":"projects/p/messages/1"}`)(w, req)
		return
	}
	r.answers[0](w, req)
	r.answers = r.answers[1:]
}

// open returns a sink that sends to r.
func open(t *testing.T, r *receiver, c fcm.Config) *fcm.Sink {
	t.Helper()
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	c.ServiceAccount, c.BaseURL = account(t, issuer(t)), server.URL
	return newSink(t, c)
}

func TestWhatFCMIsSent(t *testing.T) {
	const tag = "Nk2Gvj1CvGHkV9iS_Dk2q1echa3OFd5P" // of sink push and id order-1
	for name, c := range map[string]struct {
		to   sinks.Recipient
		m    sinks.Message
		want string
	}{
		"a notification with data": {
			fcm.Recipient{Token: "abc"},
			sinks.Message{ID: "order-1", Subject: "Order <1>", Body: "b & c", Metadata: map[string]string{"screen": "orders", "data": `{"n":"5"}`}},
			`{"message":{"token":"abc","notification":{"title":"Order <1>","body":"b & c"},"data":{"delivery_id":"order-1","n":"5","screen":"orders"},` +
				`"android":{"notification":{"tag":"` + tag + `"}},"webpush":{"headers":{"Topic":"` + tag + `"},"notification":{"tag":"` + tag + `"}},` +
				`"apns":{"headers":{"apns-collapse-id":"` + tag + `"}}}}`,
		},
		"a data message": {
			fcm.Recipient{Condition: "'a' in topics || 'b' in topics"},
			sinks.Message{ID: "order-1", Metadata: map[string]string{"x": "y"}},
			`{"message":{"condition":"'a' in topics || 'b' in topics","data":{"delivery_id":"order-1","x":"y"},` +
				`"webpush":{"headers":{"Topic":"` + tag + `"}},"apns":{"headers":{"apns-collapse-id":"` + tag + `"}}}}`,
		},
		"without an id, to the default": {
			nil,
			sinks.Message{Body: "b"},
			`{"message":{"topic":"news","notification":{"body":"b"}}}`,
		},
	} {
		r := &receiver{}
		s := open(t, r, fcm.Config{Topic: "news"})
		if err := s.Send(t.Context(), c.to, c.m); err != nil {
			t.Fatalf("%s: Send: %v", name, err)
		}
		if diff := cmp.Diff([]string{c.want + "\n"}, r.bodies); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff([]string{"POST /v1/projects/shop-1/messages:send", "Bearer " + accessToken + "-1"}, []string{r.paths[0], r.auth[0]}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// The platforms forget a message when it is of no use any more.
func TestAMessageEndsWhenItsDeliveryDoes(t *testing.T) {
	for left, ttl := range map[time.Duration]string{time.Hour + 500*time.Millisecond: "3600", 100 * 24 * time.Hour: "2419200", -time.Hour: "0"} {
		for name, m := range map[string]sinks.Message{"a notification": {ID: "1", Body: "b"}, "without an id": {Body: "b"}} {
			r := &receiver{}
			s := open(t, r, fcm.Config{Topic: "news", ProjectID: "example.com:other"})
			at := time.Now().Add(left)
			if err := s.Send(sinks.WithDelivery(t.Context(), sinks.Delivery{ExpiresAt: at}), nil, m); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				`"ttl":"` + ttl + `s"`, `"TTL":"` + ttl + `"`, fmt.Sprintf(`"apns-expiration":"%d"`, at.Unix()),
			} {
				if !strings.Contains(r.bodies[0], want) {
					t.Errorf("%s that ends in %s: %s, want %s", name, left, r.bodies[0], want)
				}
			}
			if r.paths[0] != "POST /v1/projects/example.com:other/messages:send" {
				t.Errorf("%s, want the configured project", r.paths[0])
			}
		}
	}
}

func TestAnUnregisteredDeviceIsGone(t *testing.T) {
	s := open(t, &receiver{answers: []http.HandlerFunc{
		refusal(404, "NOT_FOUND", "UNREGISTERED"), refusal(404, "NOT_FOUND", ""), refusal(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
		refusal(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"),
	}}, fcm.Config{Topic: "news"})
	for _, gone := range []bool{true, false, false} {
		if err := s.Send(t.Context(), nil, sinks.Message{Body: "b"}); sinks.IsGone(err) != gone || sinks.IsTransient(err) {
			t.Errorf("%v: gone %v, want %v, terminal", err, sinks.IsGone(err), gone)
		}
	}
	if err := s.Send(t.Context(), nil, sinks.Message{Body: "b"}); sinks.HoldOf(err) != time.Minute {
		t.Errorf("%v holds everybody for %s, want a minute", err, sinks.HoldOf(err))
	}
}

// A token that is refused may have been revoked: another one is tried, once.
func TestARefusedAccessTokenIsReplacedOnce(t *testing.T) {
	r := &receiver{answers: []http.HandlerFunc{refusal(401, "UNAUTHENTICATED", ""), answer(401, ""), answer(401, "")}}
	s := open(t, r, fcm.Config{Topic: "news"})
	for i, transient := range []bool{true, false, false} {
		if err := s.Send(t.Context(), nil, sinks.Message{Body: "b"}); sinks.IsTransient(err) != transient || err == nil {
			t.Errorf("attempt %d: %v, want transient: %v", i+1, err, transient)
		}
	}
	if err := s.Send(t.Context(), nil, sinks.Message{Body: "b"}); err != nil {
		t.Errorf("when the token is taken: %v", err)
	}
	var want []string
	for i := range 4 {
		want = append(want, fmt.Sprintf("Bearer %s-%d", accessToken, i+1))
	}
	if diff := cmp.Diff(want, r.auth); diff != "" {
		t.Errorf("the tokens (-want +got):\n%s", diff)
	}
}

// Where there is no access token, nothing reaches FCM.
func TestWithoutAnAccessTokenNothingIsSent(t *testing.T) {
	for b, want := range map[sinktest.Behaviour]func(error) bool{
		sinktest.Refuse: sinks.IsTransient, sinktest.ResetLate: sinks.IsTransient, sinktest.Garbage: sinks.IsTransient, "page": sinks.IsTransient, "refusal": sinks.IsUnreached,
	} {
		endpoint := sinktest.NewHTTPServer(t, b, "", map[sinktest.Behaviour]http.HandlerFunc{
			"page": answer(200, "<html>"), "refusal": answer(400, `{"error":"invalid_grant","error_description":"`+deviceToken+`"}`),
		})
		r := &receiver{}
		server := httptest.NewServer(r)
		s := newSink(t, fcm.Config{ServiceAccount: account(t, endpoint.URL), BaseURL: server.URL, Topic: "news"})
		err := s.Send(t.Context(), nil, sinks.Message{Body: "b"})
		server.Close()
		if !want(err) || sinks.IsAmbiguous(err) || !strings.Contains(err.Error(), "token endpoint") || strings.Contains(err.Error(), deviceToken) {
			t.Errorf("a token endpoint that does %q: %v", b, err)
		}
		if len(r.paths) != 0 {
			t.Errorf("a token endpoint that does %q: FCM was sent %q", b, r.bodies)
		}
	}
}

// A token endpoint that does not answer holds an attempt until its own end, and nothing was sent.
func TestATokenEndpointThatHangsEndsWithTheAttempt(t *testing.T) {
	endpoint := sinktest.NewHTTPServer(t, sinktest.HangLate, "", nil)
	r := &receiver{}
	server := httptest.NewServer(r)
	defer server.Close()
	s := newSink(t, fcm.Config{ServiceAccount: account(t, endpoint.URL), BaseURL: server.URL, Topic: "news"})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err := s.Send(ctx, nil, sinks.Message{Body: "b"})
	if !errors.Is(err, context.DeadlineExceeded) || sinks.IsAmbiguous(err) || sinks.IsTransient(err) || len(r.paths) != 0 {
		t.Errorf("Send = %v, want the context's end, not marked; FCM was sent %q", err, r.bodies)
	}
}

func TestValidateRefusesWhatFCMCannotTake(t *testing.T) {
	s := newSink(t, fcm.Config{ServiceAccount: account(t, "https://tokens.example")})
	device := fcm.Recipient{Token: "abc"}
	meta := func(key, value string) sinks.Message {
		return sinks.Message{Body: "b", Metadata: map[string]string{key: value}}
	}
	type row struct {
		to    sinks.Recipient
		m     sinks.Message
		field string
	}
	for name, c := range map[string]row{
		"nothing":              {device, sinks.Message{ID: "1"}, "message.body"},
		"no data":              {device, sinks.Message{ID: "1", Metadata: map[string]string{"data": "{}"}}, "message.body"},
		"invalid id":           {device, sinks.Message{ID: "\xff", Body: "b"}, "message.id"},
		"invalid subject":      {device, sinks.Message{Subject: "\xff"}, "message.subject"},
		"invalid body":         {device, sinks.Message{Body: "\xff"}, "message.body"},
		"invalid value":        {device, meta("x", "\xff"), `message.metadata["x"]`},
		"4097 bytes":           {device, sinks.Message{Subject: "x", Body: strings.Repeat("x", 4096)}, "message.body"},
		"4097 with an id":      {device, sinks.Message{ID: "12345", Body: strings.Repeat("x", 4081)}, "message.body"},
		"2049 bytes, a topic":  {fcm.Recipient{Topic: "news"}, sinks.Message{Body: strings.Repeat("x", 2049)}, "message.body"},
		"2049, a condition":    {fcm.Recipient{Condition: "'a' in topics"}, sinks.Message{Body: strings.Repeat("x", 2049)}, "message.body"},
		"4097 bytes of data":   {device, meta("x", strings.Repeat("x", 4096)), `message.metadata["x"]`},
		"from":                 {device, meta("from", "x"), `message.metadata["from"]`},
		"message_type":         {device, meta("message_type", "x"), `message.metadata["message_type"]`},
		"google":               {device, meta("google.c", "x"), `message.metadata["google.c"]`},
		"gcm":                  {device, meta("gcm.n.e", "x"), `message.metadata["gcm.n.e"]`},
		"a key of nothing":     {device, meta("", "x"), `message.metadata[""]`},
		"delivery_id":          {device, meta("delivery_id", "x"), `message.metadata["delivery_id"]`},
		"data, not JSON":       {device, meta("data", "{"), "message.metadata.data"},
		"data, a list":         {device, meta("data", "[]"), "message.metadata.data"},
		"data, null":           {device, meta("data", "null"), "message.metadata.data"},
		"data with a number":   {device, meta("data", `{"n":5}`), "message.metadata.data"},
		"data with null":       {device, meta("data", `{"n":null}`), "message.metadata.data"},
		"data with from":       {device, meta("data", `{"from":"x"}`), `message.metadata.data["from"]`},
		"data given twice":     {device, sinks.Message{Metadata: map[string]string{"n": "1", "data": `{"n":"1"}`}}, `message.metadata.data["n"]`},
		"no recipient":         {nil, sinks.Message{Body: "b"}, "recipient"},
		"another recipient":    {"abc", sinks.Message{Body: "b"}, "recipient"},
		"an empty recipient":   {fcm.Recipient{}, sinks.Message{Body: "b"}, "recipient"},
		"two recipients":       {fcm.Recipient{Token: "a", Topic: "b"}, sinks.Message{Body: "b"}, "recipient"},
		"a topic with a slash": {fcm.Recipient{Topic: "/topics/a"}, sinks.Message{Body: "b"}, "recipient.topic"},
		"no topic's name":      {fcm.Recipient{Topic: "a b"}, sinks.Message{Body: "b"}, "recipient.topic"},
		"no token":             {fcm.Recipient{Token: "a\nb"}, sinks.Message{Body: "b"}, "recipient.token"},
		"a huge condition":     {fcm.Recipient{Condition: strings.Repeat("x", 5000)}, sinks.Message{Body: "b"}, "recipient.condition"},
	} {
		if err := s.Validate(c.to, c.m); sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.HasPrefix(err.Error(), "INVALID_ARGUMENT: "+c.field+": ") && !strings.HasPrefix(err.Error(), c.field+": ") {
			t.Errorf("%s: %v, want %s naming %s", name, err, sinks.CodeInvalidArgument, c.field)
		}
	}
	for name, c := range map[string]row{
		"4096 bytes":         {to: device, m: sinks.Message{Body: strings.Repeat("x", 4096)}},
		"2048 bytes":         {to: fcm.Recipient{Topic: "news"}, m: sinks.Message{Body: strings.Repeat("x", 2048)}},
		"only data":          {to: device, m: sinks.Message{Metadata: map[string]string{"fromage": "x"}}},
		"NUL and line ends":  {to: device, m: sinks.Message{Subject: "a\nb", Body: "\x00"}},
		"collapse_key":       {to: device, m: meta("collapse_key", "x")},
		"data of texts":      {to: device, m: meta("data", `{"n":"5","m":""}`)},
		"a usual token":      {to: fcm.Recipient{Token: deviceToken}, m: sinks.Message{Body: "b"}},
		"an escaped topic":   {to: fcm.Recipient{Topic: "a-b_c.d~e%20"}, m: sinks.Message{Body: "b"}},
		"a subject, no body": {to: device, m: sinks.Message{Subject: "s"}},
	} {
		if err := s.Validate(c.to, c.m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecipientsAreOneOfThree(t *testing.T) {
	s := newSink(t, fcm.Config{ServiceAccount: account(t, "https://tokens.example")})
	for raw, want := range map[string]sinks.Recipient{
		`{"token":"abc"}`: fcm.Recipient{Token: "abc"}, `{"topic":"news"}`: fcm.Recipient{Topic: "news"},
		`{"condition":"'a' in topics"}`: fcm.Recipient{Condition: "'a' in topics"}, "null": nil, "": nil,
	} {
		if got, err := s.DecodeRecipient([]byte(raw)); err != nil || got != want {
			t.Errorf("DecodeRecipient(%s) = %v, %v, want %v", raw, got, err, want)
		}
	}
	for raw, field := range map[string]string{
		"{}": "recipient", `{"token":"a","topic":"b"}`: "recipient", `{"token":5}`: "recipient.token", `{"device":"a"}`: "recipient.device", `{"token":"a b"}`: "recipient.token",
		`{"topic":"/topics/a"}`: "recipient.topic", "5": "recipient", `"` + deviceToken + `"`: "recipient", `{"token":null}`: "recipient",
	} {
		_, err := s.DecodeRecipient([]byte(raw))
		if sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), field+": ") || strings.Contains(err.Error(), deviceToken) {
			t.Errorf("DecodeRecipient(%s): %v, want %s naming %s", raw, err, sinks.CodeInvalidArgument, field)
		}
	}
	for _, r := range []fcm.Recipient{{Token: deviceToken}, {Topic: "news"}, {Condition: "c"}} {
		if text := fmt.Sprintf("%v %+v %#v %s", r, r, r, r); strings.Contains(text, deviceToken) {
			t.Errorf("a recipient prints as %s", text)
		}
	}
	if !sinks.Deduplicates(s) {
		t.Error("Deduplicates = false")
	}
}

func TestConfigFaultsNameTheKeyAndNoSecret(t *testing.T) {
	file := account(t, "https://tokens.example").Reveal()
	without := strings.Replace(file, `"shop-1"`, `""`, 1)
	for name, c := range map[string]struct {
		raw map[string]any
		key string
	}{
		"missing":        {nil, "service_account"},
		"not a key file": {map[string]any{"service_account": deviceToken}, "service_account"},
		"no project":     {map[string]any{"service_account": without}, "project_id"},
		"no project's":   {map[string]any{"service_account": file, "project_id": "a/" + deviceToken}, "project_id"},
		"not a URL":      {map[string]any{"service_account": file, "base_url": "ftp://" + deviceToken}, "base_url"},
		"a query":        {map[string]any{"service_account": file, "base_url": "https://a.example?k=" + accessToken}, "base_url"},
		"two defaults":   {map[string]any{"service_account": file, "token": "a", "topic": "b"}, "topic"},
		"no token":       {map[string]any{"service_account": file, "token": deviceToken + "\n"}, "token"},
		"no topic":       {map[string]any{"service_account": file, "topic": "a b"}, "topic"},
		"unknown key":    {map[string]any{"service_account": file, "key": deviceToken}, "key"},
	} {
		_, err := sinks.BuildSink("fcm", "push", c.raw)
		if diff := cmp.Diff([]string{c.key}, sinktest.FaultyKeys(err)); diff != "" || sinks.CodeOf(err) != sinks.CodeSinkConfigInvalid ||
			strings.Contains(err.Error(), deviceToken) || strings.Contains(err.Error(), accessToken) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	s, err := sinks.BuildSink("fcm", "push", map[string]any{"service_account": file, "token": deviceToken})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v %#v", s, s); got != "fcm sink push fcm sink push" {
		t.Errorf("a sink prints as %q", got)
	}
}
