package webpush_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/sinktest"
	"backstop/lib/sinks/webpush"
)

// answer is one that a push service documents, or was seen to give, and what it means.
type answer struct {
	name   string
	code   int
	body   string
	header []string
	want   sinktest.Outcome
	text   string
	wait   time.Duration
	gone   bool
	hold   time.Duration // for everybody
}

func (a answer) handler() http.HandlerFunc { return status(a.code, a.body, a.header...) }

// documented are composed from what the push services document:
//
//   - Mozilla: https://mozilla-services.github.io/autopush-rs/errors.html
//   - Apple: https://developer.apple.com/documentation/usernotifications/sending-web-push-notifications-in-web-apps-and-browsers
//   - Windows: https://learn.microsoft.com/windows/apps/develop/notifications/push-notifications/push-request-response-headers
//   - Chrome (FCM): https://web.dev/articles/push-notifications-web-push-protocol, its texts as their users report them
//
// read on 2026-11-27. ECHO stands for the request's own secrets.
var documented = []answer{
	{name: "FCM takes it", code: 201, want: sinktest.Delivered},
	{
		name: "FCM knows another key", code: 403, want: sinktest.Terminal, text: "HTTP 403 Forbidden",
		body: "the VAPID credentials in the authorization header do not correspond to the credentials used to create the subscriptions. ECHO\n",
	},
	{name: "FCM lost the subscription", code: 410, body: "push subscription has unsubscribed or expired.\n", want: sinktest.Terminal, text: "HTTP 410 Gone", gone: true},
	{name: "FCM lost it long ago", code: 410, body: "<HTML><TITLE>NotRegistered</TITLE></HTML>", want: sinktest.Terminal, text: "HTTP 410 Gone", gone: true},
	{name: "FCM throttles", code: 429, header: []string{"Retry-After", "60"}, want: sinktest.Transient, text: "retry after 1m0s", wait: time.Minute},

	{name: "Mozilla takes it", code: 201, body: `{"message-id":"ECHO"}`, want: sinktest.Delivered},
	{
		name: "Mozilla knows another key", code: 401, want: sinktest.Terminal, text: "HTTP 401 Unauthorized: errno 109",
		body: `{"code":401,"errno":109,"error":"Unauthorized","message":"VAPID public key mismatch ECHO"}`,
	},
	{name: "Mozilla does not know the URL", code: 404, body: `{"code":404,"errno":102,"error":"Not Found","message":"ECHO"}`, want: sinktest.Terminal, text: "errno 102", gone: true},
	{name: "Mozilla lost the subscription", code: 410, body: `{"code":410,"errno":106,"error":"","message":"No such subscription"}`, want: sinktest.Terminal, text: "errno 106", gone: true},
	{name: "Mozilla finds it too long", code: 413, body: `{"code":413,"errno":104,"error":"Payload Too Large"}`, want: sinktest.Terminal, text: "errno 104"},
	{name: "Mozilla throttles", code: 429, body: `{"code":429,"errno":201}`, header: []string{"Retry-After", "117"}, want: sinktest.Transient, text: "errno 201", wait: 117 * time.Second},
	{name: "Mozilla's bridge fails", code: 502, body: `{"code":502,"errno":902}`, want: sinktest.Transient, text: "errno 902"},
	{name: "Mozilla rests", code: 503, body: `{"code":503,"errno":201}`, header: []string{"Retry-After", "30"}, want: sinktest.Transient, text: "errno 201", wait: 30 * time.Second, hold: 30 * time.Second},

	{name: "Apple takes it", code: 201, header: []string{"Apns-Id", "EC1BF194-B3B2-424A-89A9-5A918A6E6B5B"}, want: sinktest.Delivered},
	{name: "Apple refuses the token", code: 403, body: `{"reason":"BadJwtToken"}`, want: sinktest.Terminal, text: "HTTP 403 Forbidden: BadJwtToken"},
	{name: "Apple knows another key", code: 400, body: `{"reason":"VapidPkHashMismatch"}`, want: sinktest.Terminal, text: "HTTP 400 Bad Request: VapidPkHashMismatch"},
	{name: "Apple refuses the topic", code: 400, body: `{"reason":"BadWebPushTopic"}`, want: sinktest.Terminal, text: "BadWebPushTopic"},
	{name: "Apple lost the subscription", code: 410, body: `{"reason":"Unregistered"}`, want: sinktest.Terminal, text: "HTTP 410 Gone: Unregistered", gone: true},
	{name: "Apple finds it too long", code: 413, body: `{"reason":"PayloadTooLarge"}`, want: sinktest.Terminal, text: "PayloadTooLarge"},
	{name: "Apple throttles the device", code: 429, body: `{"reason":"TooManyRequests"}`, want: sinktest.Transient, text: "TooManyRequests"},
	{name: "Apple shuts down", code: 503, body: `{"reason":"Shutdown"}`, want: sinktest.Transient, text: "Shutdown"},
	{name: "an unknown word", code: 400, body: `{"reason":"ECHO"}`, want: sinktest.Terminal, text: "HTTP 400 Bad Request"},
	{name: "a reason of another kind", code: 400, body: `{"reason":["ECHO"],"errno":"ECHO"}`, want: sinktest.Terminal, text: "HTTP 400 Bad Request"},

	{name: "Windows takes it", code: 201, header: []string{"X-Wns-Status", "received", "X-Wns-Notificationstatus", "received"}, want: sinktest.Delivered},
	{name: "Windows drops what it takes", code: 201, header: []string{"X-Wns-Status", "dropped"}, want: sinktest.Terminal, text: "HTTP 201 Created: the push service dropped the message"},
	{name: "Windows throttles the channel", code: 200, header: []string{"X-Wns-Notificationstatus", "channelthrottled"}, want: sinktest.Transient, text: "channelthrottled"},
	{name: "Windows throttles the application", code: 406, header: []string{"Retry-After", "900", "X-Wns-Status", "appthrottled"}, want: sinktest.Transient, text: "HTTP 406 Not Acceptable: appthrottled", wait: 15 * time.Minute, hold: 15 * time.Minute},
	{name: "Windows refuses a header", code: 400, header: []string{"X-Wns-Status", "dropped", "X-Wns-Error-Description", "Ttl value conflicts with X-WNS-Cache-Policy."}, want: sinktest.Terminal, text: "HTTP 400"},
	{name: "Windows lost the channel", code: 410, want: sinktest.Terminal, text: "HTTP 410 Gone", gone: true},
	{name: "Windows fails", code: 500, header: []string{"X-Wns-Status", "dropped"}, want: sinktest.Transient, text: "HTTP 500"},
}

// Who is gone, and who has to wait for a push service that asked for it: all that go there, or the
// one subscription that got too many.
func TestWhatAnAnswerSaysOfOthers(t *testing.T) {
	b := newBrowser(t)
	s, err := webpush.New("browsers", config(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range documented {
		t.Run(a.name, func(t *testing.T) {
			server := httptest.NewServer(a.handler())
			defer server.Close()
			err := s.Send(t.Context(), b.subscribe(server.URL), sinks.Message{ID: "d", Body: "x"})
			if got := sinks.IsGone(err); got != a.gone {
				t.Errorf("IsGone(%v) = %t, want %t", err, got, a.gone)
			}
			if got := sinks.HoldOf(err); got != a.hold {
				t.Errorf("HoldOf(%v) = %s, want %s", err, got, a.hold)
			}
		})
	}
}
