package webpush_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/sinktest"
	"backstop/lib/sinks/webpush"
)

// status answers as a push service that echoes what it was sent.
func status(code int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = w.Write([]byte(strings.ReplaceAll(body, "ECHO", r.URL.String()+r.Header.Get("Authorization"))))
	}
}

func TestConformance(t *testing.T) {
	answers := map[sinktest.Behaviour]http.HandlerFunc{}
	rows := []sinktest.Row{
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
	}
	add := func(b sinktest.Behaviour, h http.HandlerFunc, want sinktest.Outcome, text string, wait time.Duration) {
		answers[b] = h
		rows = append(rows, sinktest.Row{Does: b, Want: want, Text: text, RetryAfter: wait})
	}
	for _, code := range []int{200, 201, 202, 204} {
		add(sinktest.Behaviour(fmt.Sprint(code)), status(code, ""), sinktest.Delivered, "", 0)
	}
	for _, code := range []int{301, 307, 400, 401, 402, 403, 404, 405, 406, 410, 411, 413, 415, 422} {
		add(sinktest.Behaviour(fmt.Sprint(code)), status(code, "ECHO"), sinktest.Terminal, fmt.Sprint("HTTP ", code, " "), 0)
	}
	for _, code := range []int{408, 421, 425, 429, 500, 502, 503, 504} {
		add(sinktest.Behaviour(fmt.Sprint(code)), status(code, "ECHO"), sinktest.Transient, fmt.Sprint("HTTP ", code, " "), 0)
	}
	add("404 with a wait", status(404, "", "Retry-After", "7"), sinktest.Terminal, "HTTP 404 Not Found", 0)
	add("413 with a wait", status(413, "", "Retry-After", "7"), sinktest.Transient, "HTTP 413", 7*time.Second)
	for _, a := range documented {
		add(sinktest.Behaviour(a.name), a.handler(), a.want, a.text, a.wait)
	}
	for _, format := range []string{webpush.FormatNotification, webpush.FormatRaw} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t)
			keys := b.subscribe("").Keys
			sinktest.Run(t, sinktest.Harness{
				Name: "browsers",
				Open: func(tb testing.TB, does sinktest.Behaviour) *sinktest.Destination {
					tb.Helper()
					server := sinktest.NewHTTPServer(tb, does, "", answers)
					c := config()
					c.Format = format
					s, err := webpush.New("browsers", c, nil)
					if err != nil {
						tb.Fatal(err)
					}
					d := server.Destination(s)
					d.Recipient = b.subscribe(server.URL)
					d.Accepted = func() []string {
						var out []string
						for _, wire := range server.Accepted() {
							p, err := b.read(server.URL, wire)
							if err != nil {
								tb.Errorf("the push service refuses a message: %v", err)
							}
							head, _, _ := strings.Cut(wire, "\r\n\r\n")
							out = append(out, head+"\r\n\r\n"+p.plain)
						}
						return out
					}
					return d
				},
				Message: func(marker string) sinks.Message {
					return sinks.Message{Subject: "Order", Body: "shipped: " + marker, Metadata: map[string]string{"url": "/orders/42"}}
				},
				Rows:    rows,
				Reuses:  true,
				Secrets: []string{privateKey, capability, keys.P256DH, keys.Auth},
			})
		})
	}
}
