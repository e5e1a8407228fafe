package slack_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/sinks"
	"backstop/lib/sinks/sinktest"
	"backstop/lib/sinks/slack"
)

// secret is the part of an incoming webhook's URL that protects the channel.
const secret = "T00000000/B00000000/XXXXsecretXXXX"

func answer(code int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

func TestConformance(t *testing.T) {
	answers := map[sinktest.Behaviour]http.HandlerFunc{}
	var rows []sinktest.Row
	add := func(b sinktest.Behaviour, h http.HandlerFunc, want sinktest.Outcome, text string, wait time.Duration) {
		answers[b] = h
		rows = append(rows, sinktest.Row{Does: b, Want: want, Text: text, RetryAfter: wait})
	}
	for word, code := range map[string]int{
		"invalid_payload": 400, "no_text": 400, "invalid_blocks": 400, "user_not_found": 400,
		"action_prohibited": 403, "invalid_token": 403, "posting_to_general_channel_denied": 403,
		"channel_not_found": 404, "no_service": 404, "no_team": 404, "channel_is_archived": 410,
	} {
		add(sinktest.Behaviour(fmt.Sprint(code, " ", word)), answer(code, word), sinktest.Terminal, ": "+word, 0)
	}
	add("429", answer(429, ""), sinktest.Transient, "HTTP 429", 0)
	add("429 with a wait", answer(429, "rate_limited", "Retry-After", "30"), sinktest.Transient, "rate_limited (retry after 30s)", 30*time.Second)
	add("500 rollup_error", answer(500, "rollup_error"), sinktest.Transient, "rollup_error", 0)
	add("503 with a wait", answer(503, "", "Retry-After", "1"), sinktest.Transient, "HTTP 503", time.Second)
	add("502 with a page", answer(502, "<html>"+secret), sinktest.Transient, "HTTP 502 Bad Gateway", 0)
	add("404 with an unknown word", answer(404, secret), sinktest.Terminal, "HTTP 404 Not Found", 0)
	add("408", answer(408, ""), sinktest.Transient, "HTTP 408", 0)
	add("413 with a wait", answer(413, "", "Retry-After", "30"), sinktest.Transient, "HTTP 413", 30*time.Second)
	add("403 with a wait", answer(403, "<html>", "Retry-After", "30"), sinktest.Transient, "HTTP 403", 30*time.Second)
	add("403 with a word and a wait", answer(403, "invalid_token", "Retry-After", "30"), sinktest.Terminal, "HTTP 403 Forbidden: invalid_token", 0)
	add("302", answer(302, "", "Location", "/login"), sinktest.Terminal, "HTTP 302", 0)
	add("400 with ok", answer(400, "ok"), sinktest.Terminal, "HTTP 400", 0)
	add("404 in JSON", answer(404, `{"ok":false,"error":"channel_not_found"}`), sinktest.Terminal, "HTTP 404 Not Found: channel_not_found", 0)
	for name, body := range map[string]string{
		"a line end": "ok\n", "ok in JSON": `{"ok":true}`, "more in JSON": " {\"ok\": true, \"warning\": \"x\"}\n",
	} {
		add(sinktest.Behaviour("200 with "+name), answer(200, body), sinktest.Delivered, "", 0)
	}
	add("201 with ok in JSON", answer(201, `{"ok":true}`), sinktest.Delivered, "", 0)
	for name, c := range map[string]struct{ body, want string }{
		"no_text":         {"no_text", ": no_text"},
		"an error":        {`{"ok":false,"error":"invalid_blocks"}`, ": invalid_blocks"},
		"an unknown word": {`{"ok":false,"error":"` + secret + `"}`, "says that it is not ok"},
		"not ok":          {`{"ok":false}`, "says that it is not ok"},
		"a nested error":  {`{"ok":false,"error":{"x":1}}`, "says that it is not ok"},
	} {
		add(sinktest.Behaviour("200 that says no, "+name), answer(200, c.body), sinktest.Terminal, c.want, 0)
	}
	for name, body := range map[string]string{
		"a page": "<html>" + secret, "nothing": "", "another object": `{"success":true}`, "a text for ok": `{"ok":"true"}`, "null for ok": `{"ok":null}`,
		"a list": `[{"ok":true}]`, "an unknown word": secret, "two objects": `{"ok":true}{"ok":true}`,
	} {
		add(sinktest.Behaviour("200 with "+name), answer(200, body), sinktest.Ambiguous, "HTTP 200 OK, but the answer says neither ok nor an error", 0)
	}
	add("204", answer(204, ""), sinktest.Ambiguous, "HTTP 204", 0)
	add("202 and nothing", answer(202, ""), sinktest.Ambiguous, "HTTP 202", 0)
	add("a head of 1 MiB", answer(200, "ok", "X-Long", strings.Repeat("x", 1<<20)), sinktest.Ambiguous, "its answer could not be read", 0)
	add("200 and a broken answer", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "o")
	}, sinktest.Ambiguous, "broke off", 0)

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
		{Does: sinktest.Compressed, Want: sinktest.Ambiguous, Text: "says neither ok nor an error"},
		{Does: sinktest.HangHandshake, Want: sinktest.Ended},
		{Does: sinktest.Switch, Want: sinktest.Terminal, Text: "HTTP 101"},
		{Does: sinktest.EndlessHead, Want: sinktest.Ambiguous},
		{Does: sinktest.EndlessInterim, Want: sinktest.Ambiguous},
	}...)
	sinktest.Run(t, sinktest.Harness{
		Name: "alerts",
		Open: func(tb testing.TB, b sinktest.Behaviour) *sinktest.Destination {
			tb.Helper()
			server := sinktest.NewHTTPServer(tb, b, "ok", answers)
			s, err := slack.New("alerts", slack.Config{WebhookURL: sinks.Secret(server.URL + "/services/" + secret)}, nil)
			if err != nil {
				tb.Fatal(err)
			}
			return server.Destination(s)
		},
		Message: func(marker string) sinks.Message { return sinks.Message{Subject: "Alert", Body: "*late* " + marker} },
		Rows:    rows,
		Reuses:  true,
		Secrets: []string{secret},
	})
}

// posted sends m and returns what Slack received.
func posted(t *testing.T, m sinks.Message) map[string]any {
	t.Helper()
	var got map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
			t.Errorf("the request is not JSON: %v", err)
		}
		if ct := r.Header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("Content-Type %q", ct)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	defer server.Close()
	s, err := slack.New("alerts", slack.Config{WebhookURL: sinks.Secret(server.URL)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), nil, m); err != nil {
		t.Fatalf("Send: %v", err)
	}
	return got
}

func TestTextIsMadeOfSubjectAndBody(t *testing.T) {
	for _, c := range []struct {
		subject, body, want string
	}{
		{"Late", "order *42* <https://x.example|see>", "*Late*\norder *42* <https://x.example|see>"},
		{"", "only & body", "only & body"},
		{"Only subject", "", "*Only subject*"},
		{"<!channel> & co", "b", "*&lt;!channel&gt; &amp; co*\nb"},
		{"two\r\nlines\nhere", "b", "*two lines here*\nb"},
	} {
		got := posted(t, sinks.Message{Subject: c.subject, Body: c.body, Metadata: map[string]string{"x-order": "left out"}})
		if diff := cmp.Diff(map[string]any{"text": c.want}, got); diff != "" {
			t.Errorf("subject %q, body %q (-want +got):\n%s", c.subject, c.body, diff)
		}
	}
}

func TestBlocksComeFromMetadata(t *testing.T) {
	const blocks = `[{"type":"divider"},{"type":"section","text":{"type":"mrkdwn","text":"a <b>"}}]`
	got := posted(t, sinks.Message{Body: "fallback", Metadata: map[string]string{"blocks": blocks}})
	var want []any
	if err := json.Unmarshal([]byte(blocks), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"text": "fallback", "blocks": want}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got = posted(t, sinks.Message{Metadata: map[string]string{"blocks": blocks}})
	if diff := cmp.Diff(map[string]any{"blocks": want}, got); diff != "" {
		t.Errorf("without text (-want +got):\n%s", diff)
	}
}

func TestValidateRefusesWhatSlackCannotTake(t *testing.T) {
	s, err := slack.New("alerts", slack.Config{WebhookURL: "https://hooks.slack.example/x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	blocks := func(b string) sinks.Message {
		return sinks.Message{Body: "x", Metadata: map[string]string{"blocks": b}}
	}
	for name, c := range map[string]struct {
		m     sinks.Message
		field string
	}{
		"empty":              {sinks.Message{}, "message.body"},
		"40,001 characters":  {sinks.Message{Body: strings.Repeat("ü", 40_001)}, "message.body"},
		"invalid body":       {sinks.Message{Body: "\xff"}, "message.body"},
		"invalid subject":    {sinks.Message{Subject: "\xff", Body: "x"}, "message.subject"},
		"blocks, not JSON":   {blocks("[{]"), "message.metadata.blocks"},
		"blocks, an object":  {blocks(`{"type":"divider"}`), "message.metadata.blocks"},
		"blocks, none":       {blocks(`[]`), "message.metadata.blocks"},
		"blocks, null":       {blocks(`null`), "message.metadata.blocks"},
		"blocks, of strings": {blocks(`["divider"]`), "message.metadata.blocks"},
		"blocks, no type":    {blocks(`[{"type":"divider"},{}]`), "message.metadata.blocks"},
		"blocks, 51":         {blocks("[" + strings.Repeat(`{"type":"divider"},`, 50) + `{"type":"divider"}]`), "message.metadata.blocks"},
	} {
		if err := s.Validate(nil, c.m); sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), c.field+": ") {
			t.Errorf("%s: %v, want %s naming %s", name, err, sinks.CodeInvalidArgument, c.field)
		}
	}
	for name, m := range map[string]sinks.Message{
		"40,000 characters": {Body: strings.Repeat("ü", 40_000)},
		"50 blocks":         blocks("[" + strings.Repeat(`{"type":"divider"},`, 49) + `{"type":"divider"}]`),
	} {
		if err := s.Validate(nil, m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSlackTakesNoRecipientAndDoesNotDeduplicate(t *testing.T) {
	s, err := slack.New("alerts", slack.Config{WebhookURL: "https://hooks.slack.example/x"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{"", "null", "{}", `{"channel":"#a"}`, "{"} {
		if to, err := sinks.DecodeRecipient(s, []byte(raw)); to != nil || err != nil {
			t.Errorf("DecodeRecipient(%q) = %v, %v, want nil, nil", raw, to, err)
		}
	}
	if sinks.Deduplicates(s) {
		t.Error("Deduplicates = true")
	}
}

func TestConfigFaultsNameTheKeyAndNoSecret(t *testing.T) {
	for name, c := range map[string]struct {
		raw map[string]any
		key string
	}{
		"missing":     {nil, "webhook_url"},
		"unknown key": {map[string]any{"webhook_url": "https://x.example", "url": secret}, "url"},
		"wrong type":  {map[string]any{"webhook_url": 5}, "webhook_url"},
		"not a URL":   {map[string]any{"webhook_url": "https://x.example:port/" + secret}, "webhook_url"},
		"no scheme":   {map[string]any{"webhook_url": secret}, "webhook_url"},
	} {
		_, err := sinks.BuildSink("slack", "alerts", c.raw)
		fault, ok := errors.AsType[*sinks.ConfigError](err)
		if !ok || fault.Key != c.key || sinks.CodeOf(err) != sinks.CodeSinkConfigInvalid || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v, want a fault of %s", name, err, c.key)
		}
	}
	s, err := sinks.BuildSink("slack", "alerts", map[string]any{"webhook_url": "https://hooks.slack.example/" + secret})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v %#v", s, s); got != "slack sink alerts slack sink alerts" {
		t.Errorf("a sink prints as %q", got)
	}
}
