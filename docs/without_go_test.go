package docs_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"backstop/lib/config"
	"backstop/lib/sinks"

	_ "backstop/lib/sinks/http"
)

// The provider without Go that the page shows takes less than 15 lines, is valid, and does what the page says.
func TestTheProviderWithoutGoWorks(t *testing.T) {
	_, chapter, _ := strings.Cut(read(t, "custom-sinks.md"), "## A provider of your own without Go\n")
	_, block, _ := strings.Cut(chapter, "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	if n := strings.Count(block, "\n"); n < 10 || n >= 15 {
		t.Errorf("it has %d lines", n)
	}
	answer := struct {
		status int
		body   string
	}{}
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+string(b))
		w.WriteHeader(answer.status)
		_, _ = io.WriteString(w, answer.body)
	}))
	defer server.Close()
	const host, secret = "https://pager.example.org", "{ssm: /backstop/prod/secrets/pager-token}"
	if !strings.Contains(block, host) || !strings.Contains(block, secret) {
		t.Fatalf("the page shows\n%s", block)
	}
	file := filepath.Join(t.TempDir(), "pager.yaml")
	if err := os.WriteFile(file, []byte(strings.NewReplacer(host, server.URL, secret, "hush").Replace(block)), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := config.ParseSource("file:" + filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	configured, err := config.NewCache(source, config.Options{}).Sink(t.Context(), "pager")
	if err != nil {
		t.Fatal(err)
	}
	if configured.Err != nil {
		t.Fatal(configured.Err)
	}
	pager := configured.Sink
	if got := sinks.DedupWindow(pager); got != 24*time.Hour {
		t.Errorf("the receiver recognises a message for %s", got)
	}

	send := func(recipient string, m sinks.Message) error {
		to, err := sinks.DecodeRecipient(pager, []byte(recipient))
		if err != nil {
			t.Fatal(err)
		}
		return pager.Send(t.Context(), to, m)
	}
	m := sinks.Message{ID: "order-42", Subject: "Disk full", Body: `db-1 has "2%" left`}
	for _, c := range []struct {
		status int
		body   string
		want   func(error) bool
	}{
		{202, `{"state":"triggered"}`, func(err error) bool { return err == nil }},
		{200, `{"state":"open"}`, func(err error) bool { return err == nil }},
		{200, `{"state":"suppressed"}`, sinks.IsAmbiguous},
		{404, `{"error":{"code":"no_such_team"}}`, sinks.IsGone},
		{404, `{"error":{"code":"no_such_page"}}`, func(err error) bool {
			return err != nil && !sinks.IsTransient(err) && !sinks.IsGone(err) && !sinks.IsAmbiguous(err)
		}},
		{429, `{"error":{"retry_after":7}}`, func(err error) bool { return sinks.IsTransient(err) && sinks.RetryAfterOf(err) == 7*time.Second }},
		{503, `<html>`, sinks.IsTransient},
	} {
		answer.status, answer.body = c.status, c.body
		if err := send(`{"team":"core"}`, m); !c.want(err) {
			t.Errorf("%d %s is taken for %v", c.status, c.body, err)
		}
	}

	rest, ok := strings.CutPrefix(asked[0], "POST /v1/pages Bearer hush ")
	var body map[string]string
	if err := json.Unmarshal([]byte(rest), &body); !ok || err != nil {
		t.Fatalf("it asked %s: %v", asked[0], err)
	}
	if body["team"] != "core" || body["title"] != m.Subject || body["text"] != m.Body || len(body["dedupe_key"]) != 36 || len(body) != 4 {
		t.Errorf("it posted %v", body)
	}
	if asked[1] != asked[0] {
		t.Errorf("another attempt posts %s, want %s", asked[1], asked[0])
	}
	if err := send("", sinks.Message{Body: "x"}); err == nil || strings.Contains(asked[len(asked)-1], "title") || !strings.Contains(asked[len(asked)-1], `"team":"payments"`) {
		t.Errorf("without a recipient and a subject it posted %s (%v)", asked[len(asked)-1], err)
	}
	before := len(asked)
	if err := send("", sinks.Message{Body: strings.Repeat("ü", 1001)}); sinks.CodeOf(err) != sinks.CodeInvalidArgument || len(asked) != before {
		t.Errorf("a long body: %v, %d requests", err, len(asked)-before)
	}
	if a, b := sinks.RateKeyOf(pager, nil), sinks.RateKeyOf(pager, mustDecode(t, pager, `{"team":"core"}`)); a != "payments" || b != "core" {
		t.Errorf("the rate is counted by %q and %q", a, b)
	}
}

func mustDecode(t *testing.T, s sinks.Sink, recipient string) sinks.Recipient {
	t.Helper()
	to, err := sinks.DecodeRecipient(s, []byte(recipient))
	if err != nil {
		t.Fatal(err)
	}
	return to
}
