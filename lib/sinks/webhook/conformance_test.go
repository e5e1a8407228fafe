package webhook_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/sinktest"
	"backstop/lib/sinks/webhook"
)

const (
	tokenSecret   = "tok3n-in-the-url"
	querySecret   = "s3cret-in-the-query"
	headerSecret  = "Bearer h3ader-secret"
	signingSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
)

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		// A receiver that answers with what it was sent.
		_, _ = w.Write([]byte(r.URL.String() + r.Header.Get("Authorization")))
	}
}

var answers = map[sinktest.Behaviour]http.HandlerFunc{
	"200": status(200), "201": status(201), "202": status(202), "204": status(204),
	"301": status(301, "Location", "/elsewhere"), "302": status(302, "Location", "/elsewhere"),
	"307": status(307, "Location", "/elsewhere"), "308": status(308, "Location", "/elsewhere"), "304": status(304),
	"400": status(400), "401": status(401), "403": status(403), "404": status(404), "409": status(409),
	"410": status(410), "413": status(413), "422": status(422), "451": status(451),
	"408": status(408), "421": status(421), "425": status(425), "429": status(429), "500": status(500), "501": status(501), "502": status(502),
	"503": status(503), "504": status(504), "599": status(599), "600": status(600),
	"429 retry after 7 s":         status(429, "Retry-After", "7"),
	"503 retry after 2 m":         status(503, "Retry-After", "120"),
	"503 retry after -5":          status(503, "Retry-After", "-5"),
	"503 retry after a huge time": status(503, "Retry-After", "99999999999999999999999"),
	"503 retry after nonsense":    status(503, "Retry-After", "soon"),
	"a head of 1 MiB":             status(200, "X-Long", strings.Repeat("x", 1<<20)),
	"404 retry after 7 s":         status(404, "Retry-After", "7"),
	"302 retry after 7 s":         status(302, "Retry-After", "7"),
	"403 retry after 7 s":         status(403, "Retry-After", "7"),
	"413 retry after 0.5 s":       status(413, "Retry-After", "0.5"),
	"413 retry after nonsense":    status(413, "Retry-After", "soon"),
	"413 retry after -5":          status(413, "Retry-After", "-5"),
	"413 retry after nothing":     status(413, "Retry-After", ""),
	"429 retry after 1.5 s":       status(429, "Retry-After", "1.5"),
	"429 retry after both": func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Retry-After"] = []string{"2", "9", "5"}
		w.WriteHeader(http.StatusTooManyRequests)
	},
	"503 retry after a past date":  status(503, "Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT"),
	"503 retry after a far date":   status(503, "Retry-After", "Wed, 21 Oct 2099 07:28:00 GMT"),
	"503 retry after a wrong date": status(503, "Retry-After", "Wed, 99 Oct 2099 07:28:00 GMT"),
}

func TestConformance(t *testing.T) {
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
		{Does: "429 retry after 7 s", Want: sinktest.Transient, Text: "HTTP 429 Too Many Requests (retry after 7s)", RetryAfter: 7 * time.Second},
		{Does: "503 retry after 2 m", Want: sinktest.Transient, Text: "HTTP 503", RetryAfter: 2 * time.Minute},
		{Does: "503 retry after -5", Want: sinktest.Transient, Text: "HTTP 503"},
		{Does: "503 retry after a huge time", Want: sinktest.Transient, Text: "HTTP 503", RetryAfter: sinks.MaxRetryAfter},
		{Does: "503 retry after nonsense", Want: sinktest.Transient, Text: "HTTP 503"},
		{Does: "503 retry after a past date", Want: sinktest.Transient, Text: "HTTP 503"},
		{Does: "503 retry after a far date", Want: sinktest.Transient, Text: "HTTP 503", RetryAfter: sinks.MaxRetryAfter},
		{Does: "503 retry after a wrong date", Want: sinktest.Transient, Text: "HTTP 503"},
		{Does: "302 retry after 7 s", Want: sinktest.Terminal, Text: "HTTP 302"},
		{Does: "403 retry after 7 s", Want: sinktest.Transient, Text: "HTTP 403 Forbidden (retry after 7s)", RetryAfter: 7 * time.Second},
		{Does: "413 retry after 0.5 s", Want: sinktest.Transient, Text: "HTTP 413", RetryAfter: time.Second},
		{Does: "413 retry after nonsense", Want: sinktest.Transient, Text: "HTTP 413"},
		{Does: "413 retry after -5", Want: sinktest.Transient, Text: "HTTP 413"},
		{Does: "413 retry after nothing", Want: sinktest.Terminal, Text: "HTTP 413"},
		{Does: "429 retry after 1.5 s", Want: sinktest.Transient, Text: "HTTP 429", RetryAfter: 2 * time.Second},
		{Does: "429 retry after both", Want: sinktest.Transient, Text: "HTTP 429", RetryAfter: 9 * time.Second},
		{Does: "a head of 1 MiB", Want: sinktest.Ambiguous, Text: "its answer could not be read"},
		{Does: "404 retry after 7 s", Want: sinktest.Terminal, Text: "HTTP 404 Not Found"},
	}
	for _, b := range []sinktest.Behaviour{"200", "201", "202", "204"} {
		rows = append(rows, sinktest.Row{Does: b, Want: sinktest.Delivered})
	}
	for _, b := range []sinktest.Behaviour{"408", "421", "425", "429", "500", "501", "502", "503", "504", "599", "600"} {
		rows = append(rows, sinktest.Row{Does: b, Want: sinktest.Transient, Text: "HTTP " + string(b)})
	}
	for _, b := range []sinktest.Behaviour{
		"301", "302", "304", "307", "308", "400", "401", "403", "404", "409", "410", "413", "422", "451",
	} {
		rows = append(rows, sinktest.Row{Does: b, Want: sinktest.Terminal, Text: "HTTP " + string(b)})
	}
	for name, c := range map[string]webhook.Config{
		"envelope": {},
		"raw":      {Format: webhook.FormatRaw},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sinktest.Run(t, sinktest.Harness{
				Name: "orders",
				Open: func(tb testing.TB, b sinktest.Behaviour) *sinktest.Destination {
					tb.Helper()
					server := sinktest.NewHTTPServer(tb, b, "thank you", answers)
					c := c
					c.URL = sinks.Secret(server.URL + "/" + tokenSecret + "?key=" + querySecret)
					c.Headers = map[string]sinks.Secret{"Authorization": headerSecret}
					c.SigningSecrets = []sinks.Secret{signingSecret}
					s, err := webhook.New("orders", c, nil)
					if err != nil {
						tb.Fatal(err)
					}
					return server.Destination(s)
				},
				Message: func(marker string) sinks.Message {
					return sinks.Message{
						Subject: "Order", Body: `{"marker":"` + marker + `"}`, Metadata: map[string]string{"x-order": "42"},
					}
				},
				Rows:    rows,
				Reuses:  true,
				Secrets: []string{tokenSecret, querySecret, headerSecret, signingSecret},
			})
		})
	}
}
