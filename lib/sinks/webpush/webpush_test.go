package webpush_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/guard/guardtest"
	"backstop/lib/sinks/webpush"
)

// serve starts a push service in front of b, and returns its URL and what it took.
func serve(t *testing.T, b browser) (string, *[]push) {
	t.Helper()
	var got []push
	server := httptest.NewServer(b.handler(t, http.StatusCreated, func(p push) { got = append(got, p) }))
	t.Cleanup(server.Close)
	return server.URL, &got
}

func open(t *testing.T, c webpush.Config) *webpush.Sink {
	t.Helper()
	s, err := webpush.New("browsers", c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// What a service worker reads is what showNotification takes: a title, and options beside it.
func TestANotificationIsWhatShowNotificationTakes(t *testing.T) {
	b := newBrowser(t)
	url, got := serve(t, b)
	m := sinks.Message{ID: "order-42", Subject: "Shipped <today>", Body: `"42" & more ` + "\u2028", Metadata: map[string]string{"url": "/orders/42"}}
	if err := open(t, config()).Send(t.Context(), b.subscribe(url), m); err != nil {
		t.Fatal(err)
	}
	p := (*got)[0]
	var n map[string]any
	if err := json.Unmarshal([]byte(p.plain), &n); err != nil {
		t.Fatalf("%v: %s", err, p.plain)
	}
	want := map[string]any{
		"id": "order-42", "title": "Shipped <today>", "body": `"42" & more ` + "\u2028", "tag": p.header.Get("Topic"),
		"data": map[string]any{"url": "/orders/42"},
	}
	if diff := cmp.Diff(want, n); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/octet-stream", "Content-Encoding": "aes128gcm", "TTL": "2419200", "Urgency": "", "X-Wns-Cache-Policy": "",
	} {
		if got := p.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestARawMessageArrivesAsItIs(t *testing.T) {
	b := newBrowser(t)
	url, got := serve(t, b)
	c := config()
	c.Format, c.Urgency = webpush.FormatRaw, "high"
	const body = ` {"web_push": 8030, "notification": {"title": "Shipped"}} `
	if err := open(t, c).Send(t.Context(), b.subscribe(url), sinks.Message{ID: "order-42", Subject: "left out", Body: body}); err != nil {
		t.Fatal(err)
	}
	if p := (*got)[0]; p.plain != body || p.header.Get("Urgency") != "high" {
		t.Errorf("%q arrived, with urgency %q, want %q and high", p.plain, p.header.Get("Urgency"), body)
	}
}

// A second copy of a message has the first one's Topic, and nothing else has it.
func TestATopicIsOneDeliverys(t *testing.T) {
	b := newBrowser(t)
	url, got := serve(t, b)
	other, err := webpush.New("other", config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	first := open(t, config())
	for _, send := range []struct {
		sink *webpush.Sink
		id   string
	}{{first, "order-42"}, {open(t, config()), "order-42"}, {first, "order-43"}, {other, "order-42"}, {first, ""}} {
		if err := send.sink.Send(t.Context(), b.subscribe(url), sinks.Message{ID: send.id, Subject: "Shipped"}); err != nil {
			t.Fatal(err)
		}
	}
	var topics []string
	for _, p := range *got {
		topics = append(topics, p.header.Get("Topic"))
	}
	if topics[0] != topics[1] || topics[0] == topics[2] || topics[0] == topics[3] || topics[2] == topics[3] {
		t.Errorf("topics of one delivery twice, another one, and another sink's: %q", topics)
	}
	for _, topic := range topics[:4] {
		if !regexp.MustCompile(`^[A-Za-z0-9_-]{32}$`).MatchString(topic) {
			t.Errorf("the topic %q is not 32 characters of base64url", topic)
		}
	}
	if p := (*got)[4]; topics[4] != "" || strings.Contains(p.plain, "tag") || p.header.Values("Topic") != nil {
		t.Errorf("a message without an ID has the topic %q, and is %s", topics[4], p.plain)
	}
	if !first.Deduplicates() {
		t.Error("a message whose outcome is unknown is not sent again")
	}
}

// What is left of a message's time is how long the push service keeps it.
func TestTheTTLIsWhatTheDeliveryHasLeft(t *testing.T) {
	b := newBrowser(t)
	url, got := serve(t, b)
	ctx := sinks.WithDelivery(t.Context(), sinks.Delivery{ExpiresAt: time.Now().Add(90*time.Second + 900*time.Millisecond)})
	if err := open(t, config()).Send(ctx, b.subscribe(url), sinks.Message{ID: "d", Body: "x"}); err != nil {
		t.Fatal(err)
	}
	// Not a second more; a test that was held up sees less.
	if ttl := (*got)[0].header.Get("TTL"); ttl != "90" && ttl != "89" && ttl != "88" {
		t.Errorf("TTL: %s, want 90", ttl)
	}
}

func TestWhatIsTooLongIsRefusedBeforeItIsSent(t *testing.T) {
	b := newBrowser(t)
	url, got := serve(t, b)
	raw := config()
	raw.Format = webpush.FormatRaw
	frame := len(`{"id":"d","title":"","body":"","tag":"` + strings.Repeat("x", 32) + `"}`)
	for _, c := range []struct {
		name    string
		config  webpush.Config
		message sinks.Message
		fits    bool
	}{
		{"raw, the longest", raw, sinks.Message{ID: "d", Body: strings.Repeat("x", 3993)}, true},
		{"raw, a byte more", raw, sinks.Message{ID: "d", Body: strings.Repeat("x", 3994)}, false},
		{"a notification, the longest", config(), sinks.Message{ID: "d", Body: strings.Repeat("x", 3993-frame)}, true},
		{"a notification, a byte more", config(), sinks.Message{ID: "d", Body: strings.Repeat("x", 3994-frame)}, false},
		{"a notification whose JSON is longer", config(), sinks.Message{ID: "d", Body: strings.Repeat(`"`, 2000)}, false},
		{"metadata", config(), sinks.Message{ID: "d", Body: "x", Metadata: map[string]string{"x": strings.Repeat("x", 3990)}}, false},
		{"10 MB", config(), sinks.Message{ID: "d", Body: strings.Repeat("x", 10<<20)}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			*got = nil
			s := open(t, c.config)
			err := s.Send(t.Context(), b.subscribe(url), c.message)
			valid := s.Validate(b.subscribe(url), c.message)
			if c.fits {
				if err != nil || valid != nil || len(*got) != 1 {
					t.Errorf("Send = %v, Validate = %v, %d arrived, want one", err, valid, len(*got))
				}
				return
			}
			for _, err := range []error{err, valid} {
				if sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), "message.body: ") || !strings.Contains(err.Error(), "push services take 3993") {
					t.Errorf("got %v, want %s of message.body", err, sinks.CodeInvalidArgument)
				}
			}
			if len(*got) != 0 {
				t.Error("it was sent")
			}
		})
	}
}

func TestNothingIsNoMessage(t *testing.T) {
	b := newBrowser(t)
	raw := config()
	raw.Format = webpush.FormatRaw
	for name, c := range map[string]webpush.Config{"notification": config(), "raw": raw} {
		if err := open(t, c).Validate(b.subscribe("https://push.example.org"), sinks.Message{ID: "d"}); sinks.CodeOf(err) != sinks.CodeInvalidArgument {
			t.Errorf("%s: Validate of an empty message = %v, want %s", name, err, sinks.CodeInvalidArgument)
		}
	}
}

// Browsers write a subscription in one way, and libraries store its keys in several.
func TestASubscriptionIsReadAsBrowsersWriteIt(t *testing.T) {
	const p256dh, auth = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4", "BTBZMqHH6r4Tts7J_aSIgg"
	const endpoint = "https://fcm.googleapis.com/fcm/send/abc:def"
	s := open(t, webpush.Config{VAPIDPublicKey: publicKey, VAPIDPrivateKey: sinks.Secret(privateKey), Subscriber: subscriber})
	subscription := func(endpoint, p256dh, auth, more string) string {
		return fmt.Sprintf(`{"endpoint":%q,%s"keys":{"p256dh":%q,"auth":%q}}`, endpoint, more, p256dh, auth)
	}
	std := strings.NewReplacer("-", "+", "_", "/")
	for name, raw := range map[string]string{
		"as toJSON writes it":        subscription(endpoint, p256dh, auth, `"expirationTime":null,`),
		"with a time":                subscription(endpoint, p256dh, auth, `"expirationTime":1780000000000.5,`),
		"without one":                subscription(endpoint, p256dh, auth, ""),
		"with keys in padded base64": subscription(endpoint, std.Replace(p256dh)+"=", std.Replace(auth)+"==", ""),
	} {
		to, err := s.DecodeRecipient([]byte(raw))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r, ok := to.(webpush.Recipient); !ok || r.Endpoint != endpoint {
			t.Errorf("%s: got %#v", name, to)
		}
		if err := s.Validate(to, sinks.Message{Body: "x"}); err != nil {
			t.Errorf("%s: Validate: %v", name, err)
		}
	}
	for _, c := range []struct{ name, raw, field string }{
		{"no object", `[]`, "recipient: want {"},
		{"nothing in it", `{}`, "recipient.endpoint: required"},
		{"an unknown field", subscription(endpoint, p256dh, auth, `"contentEncoding":"aesgcm",`), "recipient.contentEncoding: "},
		{"an unknown key", `{"endpoint":"` + endpoint + `","keys":{"p256dh":"` + p256dh + `","auth":"` + auth + `","hmac":""}}`, "recipient.keys.hmac: "},
		{"keys that are a list", `{"endpoint":"` + endpoint + `","keys":[]}`, "recipient.keys: "},
		{"a number for a key", `{"endpoint":"` + endpoint + `","keys":{"p256dh":1,"auth":"x"}}`, "recipient.keys.p256dh: "},
		{"no keys", `{"endpoint":"` + endpoint + `"}`, "recipient.keys.p256dh: "},
		{"no shared secret", subscription(endpoint, p256dh, "", ""), "recipient.keys.auth: want 16 bytes"},
		{"a shared secret of 17 bytes", subscription(endpoint, p256dh, auth+"A", ""), "recipient.keys.auth: want 16 bytes"},
		{"a key that is no base64", subscription(endpoint, "~"+p256dh[1:], auth, ""), "recipient.keys.p256dh: want 65 bytes"},
		{"a compressed key", subscription(endpoint, "AyVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcx", auth, ""), "recipient.keys.p256dh: not a public key"},
		{"a key off the curve", subscription(endpoint, p256dh[:len(p256dh)-2]+"w8", auth, ""), "recipient.keys.p256dh: not a public key"},
		{"plain http", subscription("http://fcm.googleapis.com/x", p256dh, auth, ""), "recipient.endpoint: the scheme must be https"},
		{"no URL", subscription("fcm", p256dh, auth, ""), "recipient.endpoint: "},
		{"an address inside", subscription("https://10.0.0.1/x", p256dh, auth, ""), "recipient.endpoint: the address is not public"},
		{"twice", `{"endpoint":"` + endpoint + `","endpoint":"` + endpoint + `"}`, "recipient.endpoint: "},
	} {
		_, err := s.DecodeRecipient([]byte(c.raw))
		if sinks.CodeOf(err) != sinks.CodeInvalidArgument || sinks.IsTransient(err) || !strings.HasPrefix(err.Error(), string(sinks.CodeInvalidArgument)+": "+c.field) {
			t.Errorf("%s: got %v, want %s: %s", c.name, err, sinks.CodeInvalidArgument, c.field)
		}
		if err != nil && (strings.Contains(err.Error(), "abc:def") || strings.Contains(err.Error(), p256dh)) {
			t.Errorf("%s: the error shows the subscription: %v", c.name, err)
		}
	}
	if err := s.Validate(nil, sinks.Message{Body: "x"}); sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), "recipient: required") {
		t.Errorf("Validate without a recipient = %v, want recipient: required", err)
	}
}

// An endpoint protects its subscription: nothing shows more of it than where it leads.
func TestASubscriptionIsShownByItsHostAlone(t *testing.T) {
	r := newBrowser(t).subscribe("https://updates.push.services.mozilla.com")
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		for _, v := range []any{r, &r, struct{ To any }{r}, r.Keys} {
			text := fmt.Sprintf(format, v)
			for _, secret := range []string{capability, r.Keys.P256DH, r.Keys.Auth} {
				if strings.Contains(text, secret) {
					t.Errorf("printed with %s: %s", format, text)
				}
			}
		}
	}
	if got := fmt.Sprint(r); got != "https://updates.push.services.mozilla.com" {
		t.Errorf("printed as %s, want its origin", got)
	}
}

// A push service is a receiver of its own: one that is down holds up no other's messages.
func TestAReceiverIsAPushServicesOrigin(t *testing.T) {
	s := open(t, config())
	b := newBrowser(t)
	for service, want := range map[string]string{
		"https://fcm.googleapis.com":         "https://fcm.googleapis.com",
		"https://FCM.googleapis.com:443":     "https://fcm.googleapis.com",
		"https://push.example.org:8443":      "https://push.example.org:8443",
		"http://push.example.org:80":         "http://push.example.org",
		"https://user:pass@push.example.org": "",
	} {
		if got := sinks.ReceiverOf(s, b.subscribe(service)); got != want {
			t.Errorf("the receiver of %s is %q, want %q", service, got, want)
		}
	}
}

func TestEndpointsArePublicHosts(t *testing.T) {
	b := newBrowser(t)
	c := config()
	c.AllowPrivateRecipients = false
	s := open(t, c)
	guardtest.Refuses(t, "recipient.endpoint", func(url string) error {
		to := b.subscribe("")
		to.Endpoint = url
		return s.Validate(to, sinks.Message{Body: "x"})
	})
	c.AllowedHosts = []string{"*.push.apple.com"}
	s = open(t, c)
	for service, allowed := range map[string]bool{"https://web.push.apple.com": true, "https://push.apple.com.example.org": false} {
		if err := s.Validate(b.subscribe(service), sinks.Message{Body: "x"}); (err == nil) != allowed {
			t.Errorf("Validate of %s = %v, want allowed: %t", service, err, allowed)
		}
	}
}

func TestAConfigurationsFaultsAreReportedTogether(t *testing.T) {
	ok := func() map[string]any {
		return map[string]any{"vapid_public_key": publicKey, "vapid_private_key": privateKey, "subscriber": subscriber}
	}
	for _, c := range []struct {
		name   string
		change map[string]any
		want   []string
	}{
		{"nothing", map[string]any{"vapid_public_key": "", "vapid_private_key": "", "subscriber": ""}, []string{
			"vapid_public_key: required", "vapid_private_key: required", "subscriber: required",
		}},
		{"all wrong", map[string]any{
			"vapid_public_key": "BCVx", "vapid_private_key": "hunter2hunter2", "subscriber": "ops@example.org",
			"urgency": "urgent", "format": "json", "allowed_hosts": []any{"https://example.org"},
		}, []string{
			"vapid_public_key: not a public key", "vapid_private_key: not a private key", "subscriber: want mailto:",
			"urgency: want very-low, low, normal or high", "format: want notification or raw", "allowed_hosts[0]: want a host name",
		}},
		{"another pair's key", map[string]any{"vapid_private_key": "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"}, []string{"vapid_private_key: does not belong to vapid_public_key"}},
		{"the keys swapped", map[string]any{"vapid_public_key": privateKey, "vapid_private_key": publicKey}, []string{"vapid_public_key: not a public key", "vapid_private_key: not a private key"}},
		{"a private key of 0", map[string]any{"vapid_private_key": strings.Repeat("A", 43)}, []string{"vapid_private_key: not a private key"}},
		{"an http subscriber", map[string]any{"subscriber": "http://example.org"}, []string{"subscriber: want"}},
		{"a subscriber without a host", map[string]any{"subscriber": "mailto:ops@"}, []string{"subscriber: want"}},
		{"a subscriber with a line end", map[string]any{"subscriber": "mailto:ops@example.org\r\nX: y"}, []string{"subscriber: want"}},
		{"an unknown key", map[string]any{"ttl": "1h"}, []string{"ttl: "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := ok()
			for key, value := range c.change {
				raw[key] = value
			}
			_, err := webpush.Factory(nil)("browsers", raw)
			if err == nil {
				t.Fatal("the configuration is taken")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(c.want) {
				t.Fatalf("faults %q, want %q", lines, c.want)
			}
			for i, want := range c.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("fault %q, want %q", lines[i], want)
				}
			}
			for _, secret := range []string{"hunter2hunter2", privateKey} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("a fault shows the private key: %v", err)
				}
			}
			if _, found := errors.AsType[*sinks.ConfigError](err); !found {
				t.Errorf("%v is no ConfigError", err)
			}
		})
	}
	for name, change := range map[string]map[string]any{
		"as it is": nil, "an https subscriber": {"subscriber": "https://example.org/contact"}, "padded keys": {"vapid_public_key": publicKey + "=", "vapid_private_key": privateKey + "="},
		"all else": {"urgency": "very-low", "format": "raw", "allow_private_recipients": true, "allowed_hosts": []any{"*.push.apple.com"}},
	} {
		raw := ok()
		for key, value := range change {
			raw[key] = value
		}
		if _, err := webpush.Factory(nil)("browsers", raw); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASubscriberThatAppleRefusesIsNoted(t *testing.T) {
	for who, noted := range map[string]bool{
		"mailto:ops@localhost": true, "https://localhost:3000": true, "https://app.localhost/contact": true,
		"mailto:ops@example.org": false, "https://example.org": false,
	} {
		c := config()
		c.Subscriber = who
		advice := sinks.Advice(open(t, c))
		if got := len(advice) == 1 && advice[0].Key == "subscriber"; got != noted {
			t.Errorf("the advice on %s is %v, want any: %t", who, advice, noted)
		}
	}
}

// Whatever a caller gives as a subscription is read or refused as INVALID_ARGUMENT, shows nothing of
// itself, and stays the same when it is stored and read again.
func FuzzSubscription(f *testing.F) {
	const keys = `"keys":{"p256dh":"BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4","auth":"BTBZMqHH6r4Tts7J_aSIgg"}`
	for _, endpoint := range []string{"https://fcm.googleapis.com/fcm/send/abc:def", "https://web.push.apple.com:443/x#y", "http://127.0.0.1/", "https://[::1]:8443/"} {
		f.Add([]byte(`{"endpoint":"` + endpoint + `","expirationTime":null,` + keys + `}`))
	}
	f.Add([]byte(`{"endpoint":1,"keys":[]}`))
	c := config()
	c.AllowPrivateRecipients = false
	s, err := webpush.New("browsers", c, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		to, err := s.DecodeRecipient(raw)
		if err != nil {
			if sinks.CodeOf(err) != sinks.CodeInvalidArgument || sinks.IsTransient(err) || len(err.Error()) > 500 {
				t.Errorf("%q: %v", raw, err)
			}
			return
		}
		if to == nil {
			return
		}
		receiver := s.Receiver(to)
		if !strings.HasPrefix(receiver, "https://") || strings.ContainsAny(strings.TrimPrefix(receiver, "https://"), "/?#@ ") {
			t.Errorf("%q goes to %q, want an origin", raw, receiver)
		}
		stored, err := json.Marshal(to)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		if again, err := s.DecodeRecipient(stored); err != nil || again != to {
			t.Errorf("%q, stored as %s, is read as %v, %v", raw, stored, again, err)
		}
	})
}
