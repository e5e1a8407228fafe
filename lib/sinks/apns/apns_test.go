package apns_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"backstop/lib/sinks"
	"backstop/lib/sinks/apns"
	"backstop/lib/sinks/sinktest"
)

const deviceToken = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0"

// signer is the key of all sinks here.
var signer = sync.OnceValues(func() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })

func encoded(tb testing.TB, key crypto.PrivateKey) sinks.Secret {
	tb.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return sinks.Secret(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func key(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	k, err := signer()
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// newSink fills in what c leaves out.
func newSink(tb testing.TB, c apns.Config, o *apns.Options) *apns.Sink {
	tb.Helper()
	c.KeyID, c.PrivateKey, c.Topic = "ABC123DEFG", encoded(tb, key(tb)), "org.example.shop"
	if c.TeamID == "" {
		c.TeamID = "DEF123GHIJ"
	}
	s, err := apns.New("push", c, o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

var device = apns.Recipient{DeviceToken: deviceToken}

func answer(code int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func refusal(code int, reason string, header ...string) http.HandlerFunc {
	return answer(code, fmt.Sprintf(`{"reason":%q,"timestamp":1795764000000}`, reason), header...)
}

// The answers are Apple's table
// (https://developer.apple.com/documentation/usernotifications/handling-notification-responses-from-apns,
// read 2026-11-27).
func TestConformance(t *testing.T) {
	answers := map[sinktest.Behaviour]http.HandlerFunc{}
	var rows []sinktest.Row
	add := func(b sinktest.Behaviour, h http.HandlerFunc, want sinktest.Outcome, text string, wait time.Duration) {
		answers[b] = h
		rows = append(rows, sinktest.Row{Does: b, Want: want, Text: text, RetryAfter: wait})
	}
	for code, table := range map[int]map[string]sinktest.Outcome{
		400: {
			"BadCollapseId": sinktest.Terminal, "BadDeviceToken": sinktest.Terminal, "BadExpirationDate": sinktest.Terminal, "BadMessageId": sinktest.Terminal,
			"BadPriority": sinktest.Terminal, "BadTopic": sinktest.Terminal, "DeviceTokenNotForTopic": sinktest.Terminal, "DuplicateHeaders": sinktest.Terminal,
			"IdleTimeout": sinktest.Transient, "InvalidPushType": sinktest.Terminal, "MissingDeviceToken": sinktest.Terminal, "MissingTopic": sinktest.Terminal,
			"PayloadEmpty": sinktest.Terminal, "TopicDisallowed": sinktest.Terminal,
		},
		403: {
			"BadCertificate": sinktest.Terminal, "BadCertificateEnvironment": sinktest.Terminal, "ExpiredProviderToken": sinktest.Transient, "Forbidden": sinktest.Terminal,
			"InvalidProviderToken": sinktest.Terminal, "MissingProviderToken": sinktest.Terminal, "UnrelatedKeyIdInToken": sinktest.Terminal, "BadEnvironmentKeyIdInToken": sinktest.Terminal,
		},
		404: {"BadPath": sinktest.Terminal},
		405: {"MethodNotAllowed": sinktest.Terminal},
		410: {"ExpiredToken": sinktest.Terminal, "Unregistered": sinktest.Terminal},
		413: {"PayloadTooLarge": sinktest.Terminal},
		429: {"TooManyProviderTokenUpdates": sinktest.Transient, "TooManyRequests": sinktest.Transient},
		500: {"InternalServerError": sinktest.Transient},
		503: {"ServiceUnavailable": sinktest.Transient, "Shutdown": sinktest.Transient},
	} {
		for reason, want := range table {
			add(sinktest.Behaviour(fmt.Sprint(code, " ", reason)), refusal(code, reason), want, fmt.Sprintf("HTTP %d %s: %s", code, http.StatusText(code), reason), 0)
		}
	}
	add("a device's limit, with a wait", refusal(429, "TooManyRequests", "Retry-After", "7"), sinktest.Transient, "TooManyRequests (retry after 7s)", 7*time.Second)
	add("shutdown, with a wait", refusal(503, "Shutdown", "Retry-After", "30"), sinktest.Transient, "Shutdown (retry after 30s)", 30*time.Second)
	add("403 with a wait", refusal(403, "InvalidProviderToken", "Retry-After", "30"), sinktest.Terminal, "InvalidProviderToken", 0)
	add("an unknown reason", refusal(400, "token "+deviceToken), sinktest.Terminal, "HTTP 400 Bad Request", 0)
	add("502 with a page", answer(502, "<html>"+deviceToken), sinktest.Transient, "HTTP 502 Bad Gateway", 0)
	add("404 with a page", answer(404, "<html>"+deviceToken), sinktest.Terminal, "HTTP 404 Not Found", 0)
	add("302", answer(302, "", "Location", "/login"), sinktest.Terminal, "HTTP 302", 0)
	add("204", answer(204, ""), sinktest.Ambiguous, "HTTP 204 No Content, which is no answer of APNs", 0)
	rows = append(rows, []sinktest.Row{
		{Does: sinktest.Accept, Want: sinktest.Delivered},
		{Does: sinktest.Refuse, Want: sinktest.Transient, Text: "connection refused"},
		{Does: sinktest.ResetEarly, Want: sinktest.Transient},
		{Does: sinktest.ResetLate, Want: sinktest.Ambiguous, Text: "sent and not answered"},
		{Does: sinktest.HangEarly, Want: sinktest.Ended},
		{Does: sinktest.HangLate, Want: sinktest.Ambiguous, Text: "timed out"},
		{Does: sinktest.Garbage, Want: sinktest.Ambiguous},
		{Does: sinktest.Drip, Want: sinktest.Delivered},
		{Does: sinktest.Endless, Want: sinktest.Delivered},
		{Does: sinktest.Huge, Want: sinktest.Delivered},
		{Does: sinktest.Compressed, Want: sinktest.Delivered},
		{Does: sinktest.HangHandshake, Want: sinktest.Ended},
		{Does: sinktest.Switch, Want: sinktest.Terminal, Text: "HTTP 101"},
		{Does: sinktest.EndlessHead, Want: sinktest.Ambiguous},
		{Does: sinktest.EndlessInterim, Want: sinktest.Ambiguous},
	}...)
	sinktest.Run(t, sinktest.Harness{
		Name: "push",
		Open: func(tb testing.TB, b sinktest.Behaviour) *sinktest.Destination {
			tb.Helper()
			server := sinktest.NewHTTPServer(tb, b, "", answers)
			return server.Destination(newSink(tb, apns.Config{BaseURL: server.URL + "/b4se"}, nil))
		},
		Recipient: device,
		Message:   func(marker string) sinks.Message { return sinks.Message{Subject: "Order", Body: "late " + marker} },
		Rows:      rows,
		Reuses:    true,
		Secrets:   []string{deviceToken, "b4se", strings.Split(encoded(t, key(t)).Reveal(), "\n")[1]},
	})
}

// receiver is APNs over HTTP/2. It answers each request with the next of answers, and keeps what came.
type receiver struct {
	mu      sync.Mutex
	answers []http.HandlerFunc
	heads   []http.Header
	lines   []string
	bodies  []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heads = append(r.heads, req.Header)
	r.lines = append(r.lines, req.Proto+" "+req.Method+" "+req.URL.Path)
	r.bodies = append(r.bodies, string(b))
	if len(r.answers) > 0 {
		r.answers[0](w, req)
		r.answers = r.answers[1:]
	}
}

// open starts r, and returns where it is and how it is trusted.
func open(t *testing.T, r *receiver) (url string, o *apns.Options) {
	t.Helper()
	server := httptest.NewUnstartedServer(r)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server.URL, &apns.Options{RootCAs: roots}
}

func TestWhatAPNsIsSent(t *testing.T) {
	const (
		id       = "9eb50de2-c95d-5a15-8d25-980e825f1203" // of sink push and id order-1
		collapse = "Nk2Gvj1CvGHkV9iS_Dk2q1echa3OFd5P"
	)
	at := time.Now().Add(time.Hour)
	for name, c := range map[string]struct {
		config apns.Config
		m      sinks.Message
		head   map[string]string
		body   string
	}{
		"an alert": {
			apns.Config{},
			sinks.Message{ID: "order-1", Subject: "Order <1>", Body: "b & c", Metadata: map[string]string{"screen": "orders", "aps": `{"badge": 5, "sound": "default"}`, "data": `{"n": [1, 2]}`}},
			map[string]string{
				"Apns-Id": id, "Apns-Collapse-Id": collapse, "Apns-Topic": "org.example.shop", "Apns-Push-Type": "alert", "Apns-Priority": "10",
				"Apns-Expiration": fmt.Sprint(at.Unix()), "Content-Type": "application/json",
			},
			`{"aps":{"alert":{"body":"b & c","title":"Order <1>"},"badge":5,"sound":"default"},"delivery_id":"order-1","n":[1,2],"screen":"orders"}`,
		},
		"an alert of one's own, without an id": {
			apns.Config{},
			sinks.Message{Metadata: map[string]string{"aps": `{"alert":{"loc-key":"ON_ITS_WAY"}}`}},
			map[string]string{"Apns-Id": "", "Apns-Collapse-Id": "", "Apns-Priority": "10"},
			`{"aps":{"alert":{"loc-key":"ON_ITS_WAY"}}}`,
		},
		"background": {
			apns.Config{PushType: "background"},
			sinks.Message{ID: "order-1", Subject: "s", Body: "b", Metadata: map[string]string{"x": "y"}},
			map[string]string{"Apns-Push-Type": "background", "Apns-Priority": "5"},
			`{"aps":{"content-available":1},"body":"b","delivery_id":"order-1","title":"s","x":"y"}`,
		},
		"voip": {
			apns.Config{PushType: "voip"},
			sinks.Message{ID: "order-1", Body: "b"},
			map[string]string{"Apns-Push-Type": "voip", "Apns-Priority": "10"},
			`{"aps":{},"body":"b","delivery_id":"order-1"}`,
		},
	} {
		r := &receiver{}
		url, o := open(t, r)
		c.config.BaseURL = url
		if err := newSink(t, c.config, o).Send(sinks.WithDelivery(t.Context(), sinks.Delivery{ExpiresAt: at}), device, c.m); err != nil {
			t.Fatalf("%s: Send: %v", name, err)
		}
		if diff := cmp.Diff([]string{"HTTP/2.0 POST /3/device/" + deviceToken, c.body}, append(r.lines, r.bodies...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for header, want := range c.head {
			if got := r.heads[0].Get(header); got != want {
				t.Errorf("%s: %s: %q, want %q", name, header, got, want)
			}
		}
	}
	r := &receiver{}
	url, o := open(t, r)
	if err := newSink(t, apns.Config{BaseURL: url}, o).Send(t.Context(), device, sinks.Message{Body: "b"}); err != nil {
		t.Fatal(err)
	}
	if got, given := r.heads[0]["Apns-Expiration"]; given {
		t.Errorf("a message that never expires has Apns-Expiration %q", got)
	}
}

// issued checks the token that a request brought and returns when it was issued.
func issued(t *testing.T, head http.Header) time.Time {
	t.Helper()
	token, ok := strings.CutPrefix(head.Get("Authorization"), "bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		t.Fatalf("Authorization: %q", head.Get("Authorization"))
	}
	var raw [3][]byte
	for i, part := range parts {
		b, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			t.Fatal(err)
		}
		raw[i] = b
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if len(raw[2]) != 64 || !ecdsa.Verify(&key(t).PublicKey, digest[:], new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])) {
		t.Error("the signature is not valid")
	}
	if diff := cmp.Diff(`{"alg":"ES256","typ":"JWT","kid":"ABC123DEFG"}`, string(raw[0])); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	var claims struct {
		Issuer string `json:"iss"`
		At     int64  `json:"iat"`
	}
	if err := json.Unmarshal(raw[1], &claims); err != nil || claims.Issuer != "DEF123GHIJ" {
		t.Errorf("claims %s, %v", raw[1], err)
	}
	return time.Unix(claims.At, 0)
}

// What one process sends and what another does show the same token, or Apple finds that tokens change
// too often.
func TestAllSinksOfAKeyHaveOneToken(t *testing.T) {
	r := &receiver{}
	url, o := open(t, r)
	for range 2 {
		if err := newSink(t, apns.Config{BaseURL: url}, o).Send(t.Context(), device, sinks.Message{Body: "b"}); err != nil {
			t.Fatal(err)
		}
	}
	if one, other := r.heads[0].Get("Authorization"), r.heads[1].Get("Authorization"); one != other {
		t.Errorf("two sinks show %q and %q, want one token", one, other)
	}
	if age := time.Since(issued(t, r.heads[0])); age < 5*time.Minute || age > 45*time.Minute+time.Second {
		t.Errorf("the token is %s old, want 5 to 45 minutes", age)
	}
}

// A token that Apple finds too old is replaced by one of this very time, once.
func TestAnExpiredTokenIsReplacedOnce(t *testing.T) {
	expired := refusal(403, "ExpiredProviderToken")
	r := &receiver{answers: []http.HandlerFunc{expired, expired, answer(200, "")}}
	url, o := open(t, r)
	s := newSink(t, apns.Config{BaseURL: url}, o)
	for i, transient := range []bool{true, false} {
		if err := s.Send(t.Context(), device, sinks.Message{Body: "b"}); err == nil || sinks.IsTransient(err) != transient || !strings.Contains(err.Error(), ": ExpiredProviderToken") {
			t.Errorf("attempt %d: %v, want transient: %v", i+1, err, transient)
		}
	}
	if err := s.Send(t.Context(), device, sinks.Message{Body: "b"}); err != nil {
		t.Error(err)
	}
	if age := time.Since(issued(t, r.heads[1])); age < 0 || age > time.Minute {
		t.Errorf("the second token is %s old, want a fresh one", age)
	}
	if second, third := r.heads[1].Get("Authorization"), r.heads[2].Get("Authorization"); second != third {
		t.Error("the token changed again at once, which Apple refuses")
	}
}

func TestADeadDeviceIsGone(t *testing.T) {
	for reason, gone := range map[string]bool{
		"BadDeviceToken": true, "Unregistered": true, "ExpiredToken": true, "DeviceTokenNotForTopic": false, "TopicDisallowed": false, "PayloadTooLarge": false,
	} {
		url, o := open(t, &receiver{answers: []http.HandlerFunc{refusal(410, reason)}})
		if err := newSink(t, apns.Config{BaseURL: url}, o).Send(t.Context(), device, sinks.Message{Body: "b"}); sinks.IsGone(err) != gone || sinks.IsTransient(err) {
			t.Errorf("%s: %v, gone %v, want %v, terminal", reason, err, sinks.IsGone(err), gone)
		}
	}
}

// One device's limit holds nobody else back.
func TestOnlyWhatConcernsAllHoldsAll(t *testing.T) {
	for reason, hold := range map[string]time.Duration{"TooManyRequests": 0, "TooManyProviderTokenUpdates": 7 * time.Second} {
		url, o := open(t, &receiver{answers: []http.HandlerFunc{refusal(429, reason, "Retry-After", "7")}})
		err := newSink(t, apns.Config{BaseURL: url}, o).Send(t.Context(), device, sinks.Message{Body: "b"})
		if sinks.HoldOf(err) != hold || sinks.RetryAfterOf(err) != 7*time.Second {
			t.Errorf("%s: %v holds all for %s, want %s; waits %s, want 7s", reason, err, sinks.HoldOf(err), hold, sinks.RetryAfterOf(err))
		}
	}
}

// Apple takes one team's tokens on a connection.
func TestTeamsShareNoConnection(t *testing.T) {
	var mu sync.Mutex
	connections := 0
	server := httptest.NewUnstartedServer(&receiver{})
	server.EnableHTTP2 = true
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			mu.Lock()
			defer mu.Unlock()
			connections++
		}
	}
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for i, team := range []string{"AAAAAAAAAA", "AAAAAAAAAA", "BBBBBBBBBB"} {
		s := newSink(t, apns.Config{BaseURL: server.URL, TeamID: team}, &apns.Options{RootCAs: roots})
		if err := s.Send(t.Context(), device, sinks.Message{Body: "b"}); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if want := 1 + i/2; connections != want {
			t.Errorf("%d connections after message %d, want %d", connections, i+1, want)
		}
		mu.Unlock()
	}
}

// What HTTP/2 declines was not taken: it is transient, and shows nothing of what came with it.
func TestAStreamThatIsDeclinedWasNotTaken(t *testing.T) {
	for name, c := range map[string]struct {
		decline func(f *http2.Framer, stream uint32)
		want    func(error) bool
	}{
		"REFUSED_STREAM": {func(f *http2.Framer, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeRefusedStream) }, sinks.IsTransient},
		"GOAWAY below the stream": {
			func(f *http2.Framer, _ uint32) {
				_ = f.WriteGoAway(0, http2.ErrCodeNo, []byte(`{"reason":"Shutdown"}`))
			}, sinks.IsTransient,
		},
		"GOAWAY above the stream": {func(f *http2.Framer, s uint32) {
			_ = f.WriteGoAway(s, http2.ErrCodeNo, []byte(`{"reason":"`+deviceToken+`"}`))
			_ = f.WriteRSTStream(s, http2.ErrCodeCancel)
		}, sinks.IsAmbiguous},
	} {
		certificate := httptest.NewUnstartedServer(nil)
		certificate.StartTLS()
		l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificate.TLS.Certificates, NextProtos: []string{"h2"}}) //nolint:gosec // the client decides
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
				return
			}
			f := http2.NewFramer(conn, conn)
			_ = f.WriteSettings()
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					return
				}
				if d, ok := frame.(*http2.DataFrame); ok && d.StreamEnded() {
					c.decline(f, d.StreamID)
				}
			}
		}()
		roots := x509.NewCertPool()
		roots.AddCert(certificate.Certificate())
		s := newSink(t, apns.Config{BaseURL: "https://" + l.Addr().String()}, &apns.Options{RootCAs: roots})
		err = s.Send(t.Context(), device, sinks.Message{Body: "b"})
		if !c.want(err) || strings.Contains(fmt.Sprint(err), deviceToken) {
			t.Errorf("%s: %v", name, err)
		}
		l.Close()
		certificate.Close()
	}
}

func TestValidateRefusesWhatAPNsCannotTake(t *testing.T) {
	alert, background, voip := newSink(t, apns.Config{}, nil), newSink(t, apns.Config{PushType: "background"}, nil), newSink(t, apns.Config{PushType: "voip"}, nil)
	meta := func(key, value string) sinks.Message {
		return sinks.Message{Body: "b", Metadata: map[string]string{key: value}}
	}
	// full is a body that makes a payload of n bytes.
	full := func(n int) sinks.Message {
		return sinks.Message{Body: strings.Repeat("x", n-len(`{"aps":{"alert":{"body":""}}}`))}
	}
	type row struct {
		s     *apns.Sink
		to    sinks.Recipient
		m     sinks.Message
		field string
	}
	for name, c := range map[string]row{
		"nothing":              {alert, device, sinks.Message{ID: "1"}, "message.body"},
		"4097 bytes":           {alert, device, full(4097), "message.body"},
		"escaped":              {alert, device, sinks.Message{Body: strings.Repeat("\x00", 800)}, "message.body"},
		"5121 bytes":           {voip, device, sinks.Message{Body: strings.Repeat("x", 5121-len(`{"aps":{},"body":""}`))}, "message.body"},
		"invalid id":           {alert, device, sinks.Message{ID: "\xff", Body: "b"}, "message.id"},
		"invalid subject":      {alert, device, sinks.Message{Subject: "\xff"}, "message.subject"},
		"invalid body":         {alert, device, sinks.Message{Body: "\xff"}, "message.body"},
		"invalid value":        {alert, device, meta("x", "\xff"), `message.metadata["x"]`},
		"aps, not JSON":        {alert, device, meta("aps", "{"), "message.metadata.aps"},
		"aps, a list":          {alert, device, meta("aps", "[]"), "message.metadata.aps"},
		"aps, null":            {alert, device, meta("aps", "null"), "message.metadata.aps"},
		"two alerts":           {alert, device, meta("aps", `{"alert":"x"}`), "message.metadata.aps.alert"},
		"data, a text":         {alert, device, meta("data", `"x"`), "message.metadata.data"},
		"aps in data":          {alert, device, meta("data", `{"aps":{}}`), "message.metadata.data.aps"},
		"delivery_id in data":  {alert, device, meta("data", `{"delivery_id":"1"}`), "message.metadata.data.delivery_id"},
		"delivery_id":          {alert, device, meta("delivery_id", "1"), "message.metadata.delivery_id"},
		"no name":              {alert, device, meta("", "1"), `message.metadata[""]`},
		"given twice":          {alert, device, sinks.Message{Metadata: map[string]string{"n": "1", "data": `{"n":1}`}}, `message.metadata["n"]`},
		"two titles":           {background, device, sinks.Message{Subject: "s", Metadata: map[string]string{"title": "t"}}, "message.metadata.title"},
		"no recipient":         {alert, nil, sinks.Message{Body: "b"}, "recipient"},
		"another recipient":    {alert, deviceToken, sinks.Message{Body: "b"}, "recipient"},
		"an empty token":       {alert, apns.Recipient{}, sinks.Message{Body: "b"}, "recipient.device_token"},
		"no token":             {alert, apns.Recipient{DeviceToken: "../../3/device/" + deviceToken}, sinks.Message{Body: "b"}, "recipient.device_token"},
		"half a byte too much": {alert, apns.Recipient{DeviceToken: deviceToken + "0"}, sinks.Message{Body: "b"}, "recipient.device_token"},
	} {
		err := c.s.Validate(c.to, c.m)
		if sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), c.field+": ") || strings.Contains(err.Error(), deviceToken) {
			t.Errorf("%s: %v, want %s naming %s", name, err, sinks.CodeInvalidArgument, c.field)
		}
	}
	for name, c := range map[string]row{
		"4096 bytes":           {s: alert, m: full(4096)},
		"white space":          {s: alert, m: sinks.Message{Metadata: map[string]string{"aps": "{" + strings.Repeat(" ", 5000) + "}", "x": "y"}}},
		"only a title":         {s: alert, m: sinks.Message{Subject: "s"}},
		"a title of one's own": {s: alert, m: sinks.Message{Subject: "s", Metadata: map[string]string{"title": "t"}}},
		"title without text":   {s: background, m: sinks.Message{Body: "b", Metadata: map[string]string{"title": "t"}}},
		"5120 bytes, voip":     {s: voip, m: sinks.Message{Body: strings.Repeat("x", 5120-len(`{"aps":{},"body":""}`))}},
		"only a badge":         {s: alert, m: sinks.Message{Metadata: map[string]string{"aps": `{"badge":0}`}}},
	} {
		if err := c.s.Validate(device, c.m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRecipientsAreDevices(t *testing.T) {
	s := newSink(t, apns.Config{}, nil)
	to, err := s.DecodeRecipient([]byte(`{"device_token":"` + deviceToken + `"}`))
	if to != sinks.Recipient(device) || err != nil {
		t.Errorf("DecodeRecipient = %v, %v", to, err)
	}
	for raw, field := range map[string]string{"{}": "recipient.device_token", `{"device_token":"xyz"}`: "recipient.device_token", `{"token":"` + deviceToken + `"}`: "recipient.token", "5": "recipient"} {
		if _, err := s.DecodeRecipient([]byte(raw)); sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), field+": ") {
			t.Errorf("DecodeRecipient(%s): %v, want %s naming %s", raw, err, sinks.CodeInvalidArgument, field)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", device, device, device, &device); strings.Contains(text, deviceToken) {
		t.Errorf("a recipient prints as %s", text)
	}
	if !sinks.Deduplicates(s) {
		t.Error("Deduplicates = false")
	}
}

func TestConfigFaultsNameTheKeyAndNoSecret(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	file := encoded(t, key(t)).Reveal()
	for name, c := range map[string]struct {
		key   string
		value any
	}{
		"no key id":           {"key_id", ""},
		"a key id in small":   {"key_id", "abc123defg"},
		"a long team id":      {"team_id", "DEF123GHIJK"},
		"no key":              {"private_key", ""},
		"not a key":           {"private_key", "s3cret"},
		"another curve":       {"private_key", encoded(t, other).Reveal()},
		"RSA":                 {"private_key", encoded(t, wrong).Reveal()},
		"no topic":            {"topic", ""},
		"a topic with a line": {"topic", "org.example\r\nX: y"},
		"environment":         {"environment", "sandbox"},
		"push type":           {"push_type", "silent"},
		"base URL":            {"base_url", "ftp://s3cret"},
		"unknown key":         {"token", "s3cret"},
	} {
		raw := map[string]any{"key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", "private_key": file, "topic": "org.example.shop"}
		raw[c.key] = c.value
		_, err := sinks.BuildSink("apns", "push", raw)
		if diff := cmp.Diff([]string{c.key}, sinktest.FaultyKeys(err)); diff != "" || sinks.CodeOf(err) != sinks.CodeSinkConfigInvalid || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
	_, err = sinks.BuildSink("apns", "push", nil)
	if diff := cmp.Diff([]string{"key_id", "private_key", "team_id", "topic"}, sinktest.FaultyKeys(err)); diff != "" {
		t.Errorf("an empty block: %v (-want +got):\n%s", err, diff)
	}
	raw := map[string]any{"key_id": "ABC123DEFG", "team_id": "DEF123GHIJ", "private_key": file, "topic": "org.example.shop.voip", "environment": "development"}
	s, err := sinks.BuildSink("apns", "push", raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v %#v", s, s); got != "apns sink push apns sink push" {
		t.Errorf("a sink prints as %q", got)
	}
	raw["base_url"] = "https://push.example.org"
	if _, err := sinks.BuildSink("apns", "push", raw); !cmp.Equal(sinktest.FaultyKeys(err), []string{"environment"}) {
		t.Errorf("environment beside base_url: %v", err)
	}
}
