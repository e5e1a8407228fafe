package sinktest_test

import (
	"net/http"
	"testing"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/sinktest"
	"backstop/lib/sinks/webhook"
)

const token = "t0p-s3cret"

// harness describes a kind that posts over HTTP to the suite. Here it is webhook, for one of
// your own.
func harness() sinktest.Harness {
	busy := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	gone := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusGone) }
	return sinktest.Harness{
		Name: "orders",
		Open: func(tb testing.TB, b sinktest.Behaviour) *sinktest.Destination {
			tb.Helper()
			server := sinktest.NewHTTPServer(tb, b, "ok", map[sinktest.Behaviour]http.HandlerFunc{"429": busy, "410": gone})
			sink, err := webhook.New("orders", webhook.Config{URL: sinks.Secret(server.URL + "/" + token)}, nil)
			if err != nil {
				tb.Fatal(err)
			}
			return server.Destination(sink)
		},
		Message: func(marker string) sinks.Message { return sinks.Message{Subject: "An order", Body: marker} },
		Rows: []sinktest.Row{
			// What every kind must say of a destination that misbehaves.
			{Does: sinktest.Accept, Want: sinktest.Delivered},
			{Does: sinktest.Refuse, Want: sinktest.Transient},
			{Does: sinktest.ResetEarly, Want: sinktest.Transient},
			{Does: sinktest.ResetLate, Want: sinktest.Ambiguous},
			{Does: sinktest.HangEarly, Want: sinktest.Ended},
			{Does: sinktest.HangLate, Want: sinktest.Ambiguous},
			{Does: sinktest.HangHandshake, Want: sinktest.Ended},
			{Does: sinktest.EndlessHead, Want: sinktest.Ambiguous},
			{Does: sinktest.EndlessInterim, Want: sinktest.Ambiguous},
			{Does: sinktest.Switch, Want: sinktest.Terminal},
			// What the kind decides: this one looks at the status alone.
			{Does: sinktest.Garbage, Want: sinktest.Ambiguous},
			{Does: sinktest.Drip, Want: sinktest.Delivered},
			{Does: sinktest.Endless, Want: sinktest.Delivered},
			{Does: sinktest.Huge, Want: sinktest.Delivered},
			{Does: sinktest.Compressed, Want: sinktest.Delivered},
			// The answers that its protocol knows.
			{Does: "429", Want: sinktest.Transient, Text: "HTTP 429", RetryAfter: 7 * time.Second},
			{Does: "410", Want: sinktest.Terminal, Text: "HTTP 410"},
		},
		Reuses:  true,
		Secrets: []string{token},
	}
}

// A kind's conformance test is one call, and the table of what its destination can do and the
// sink must say then.
func Example() {
	var t *testing.T // that of func TestConformance(t *testing.T), in the kind's own tests
	sinktest.Run(t, harness())
}
