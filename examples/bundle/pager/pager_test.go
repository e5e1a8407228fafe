package pager_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/sinktest"

	"example.org/team/bundle/pager"
)

const token = "t0ken-of-the-example"

func TestConformance(t *testing.T) {
	status := func(code int, retryAfter string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", retryAfter)
			w.WriteHeader(code)
			_, _ = w.Write([]byte(r.Header.Get("Authorization"))) // a service that says the token back
		}
	}
	sinktest.Run(t, sinktest.Harness{
		Name: "on-call",
		Open: func(tb testing.TB, b sinktest.Behaviour) *sinktest.Destination {
			tb.Helper()
			server := sinktest.NewHTTPServer(tb, b, "ok", map[sinktest.Behaviour]http.HandlerFunc{
				"202": status(202, ""), "302": status(302, ""), "401": status(401, ""), "429": status(429, "7"), "503": status(503, "soon"),
			})
			s, err := pager.New("on-call", pager.Config{URL: server.URL + "/page", Token: token, Team: "payments"})
			if err != nil {
				tb.Fatal(err)
			}
			return server.Destination(s)
		},
		Recipient: pager.Recipient{Team: "search"},
		Message:   func(marker string) sinks.Message { return sinks.Message{Subject: "Disk full", Body: marker} },
		Rows: []sinktest.Row{
			{Does: sinktest.Accept, Want: sinktest.Delivered},
			{Does: sinktest.Refuse, Want: sinktest.Transient},
			{Does: sinktest.ResetEarly, Want: sinktest.Transient},
			{Does: sinktest.ResetLate, Want: sinktest.Ambiguous},
			{Does: sinktest.HangEarly, Want: sinktest.Ended},
			{Does: sinktest.HangLate, Want: sinktest.Ambiguous},
			{Does: sinktest.Garbage, Want: sinktest.Ambiguous},
			{Does: sinktest.Drip, Want: sinktest.Delivered},
			{Does: sinktest.Endless, Want: sinktest.Delivered},
			{Does: sinktest.Huge, Want: sinktest.Delivered},
			{Does: sinktest.Compressed, Want: sinktest.Delivered},
			{Does: sinktest.HangHandshake, Want: sinktest.Ended},
			{Does: sinktest.Switch, Want: sinktest.Terminal, Text: "HTTP 101"},
			{Does: sinktest.EndlessHead, Want: sinktest.Ambiguous},
			{Does: sinktest.EndlessInterim, Want: sinktest.Ambiguous},
			{Does: "202", Want: sinktest.Delivered},
			{Does: "302", Want: sinktest.Terminal, Text: "HTTP 302"},
			{Does: "401", Want: sinktest.Terminal, Text: "HTTP 401"},
			{Does: "429", Want: sinktest.Transient, Text: "HTTP 429", RetryAfter: 7 * time.Second},
			{Does: "503", Want: sinktest.Transient, Text: "HTTP 503"},
		},
		Reuses:  true,
		Secrets: []string{token},
	})
}

func TestTheFactoryReportsEveryFault(t *testing.T) {
	for _, c := range []struct {
		raw  map[string]any
		want string // "": none
	}{
		{map[string]any{"url": "https://pager.example/v1", "token": token, "team": "payments"}, ""},
		{map[string]any{}, "url: want an http or https URL without credentials and query\ntoken: required\nteam: required"},
		{map[string]any{"url": "https://pager.example/v1?t=" + token, "token": 5}, "token: want a text, got a number; put it in quotes\nurl: want an http or https URL without credentials and query\nteam: required"},
		{map[string]any{"url": "https://pager.example/v1", "token": token, "teams": "x"}, "teams: unknown key; known: team, token, url\nteam: required"},
	} {
		s, err := sinks.BuildSink(pager.Kind, "on-call", c.raw)
		switch {
		case c.want == "" && (err != nil || s.Name() != "on-call"):
			t.Errorf("%v: got %v, %v", c.raw, s, err)
		case c.want != "" && (err == nil || !strings.HasSuffix(err.Error(), c.want) || strings.Contains(err.Error(), token)):
			t.Errorf("%v: got %v, want %s", c.raw, err, c.want)
		}
	}
}

// The page shows the code that is compiled and tested here.
func TestThePageShowsThisCode(t *testing.T) {
	var code strings.Builder
	for _, file := range []string{"pager.go", "pager_test.go", "../kinds/kinds.go", "../kinds/kinds_test.go", "../functions/send/main.go"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(b)
	}
	page, err := os.ReadFile("../../../docs/custom-sinks.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	if len(blocks) < 7 {
		t.Errorf("the page shows %d blocks of code", len(blocks))
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "\n```")
		for _, part := range strings.Split(block, "\n// ...\n") { // what the page leaves out
			if !strings.Contains(code.String(), strings.Trim(part, "\n")) {
				t.Errorf("not in the example:\n%s", part)
			}
		}
	}
}
