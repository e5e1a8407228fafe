package functions_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"backstop/internal/inbox"
	"backstop/internal/local"
	"backstop/internal/redistest"
)

// Dead letters that another program wrote from structs without tags replay through the
// real sinks: by the schedule, and by an operator.
func TestDeadLettersThatOthersWroteAreReplayed(t *testing.T) {
	t.Parallel()
	in, err := inbox.Start(t.Context(), inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	dir := t.TempDir()
	for name, text := range map[string]string{
		"mail":  "kind: email\nsmtp_addr: " + in.SMTPAddr + "\nfrom: shop@example.com\ntls: none\n",
		"hook":  "kind: webhook\nurl: " + in.URL + "/own\nallow_private_recipients: true\n",
		"slack": "kind: slack\nwebhook_url: " + in.URL + "/slack\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := onRedis(t)
	o.Sinks = "file:" + dir
	s := start(t, o)

	client := redis.NewClient(redistest.Shared(t).Options().Simple())
	t.Cleanup(func() { _ = client.Close() })
	add := func(id, sink, recipient string) {
		t.Helper()
		key := o.Env["BACKSTOP_KEY_PREFIX"] + ":dlq:" + sink
		item := fmt.Sprintf(`{"Sink":%q,"At":"2026-01-01T00:00:00Z","Recipient":%s,"Message":{"ID":%q,"Subject":"s","Body":"b"},"Attempts":3,"LastError":"HTTP 503"}`, sink, recipient, id)
		if err := client.XAdd(t.Context(), &redis.XAddArgs{Stream: key, Values: []string{"item", item}}).Err(); err != nil {
			t.Fatal(err)
		}
		if err := client.SAdd(t.Context(), o.Env["BACKSTOP_KEY_PREFIX"]+":sinks", sink).Err(); err != nil {
			t.Fatal(err)
		}
	}
	delivered := func() []string {
		var ids []string
		for _, a := range in.HTTP.Arrivals() {
			ids = append(ids, strings.TrimSpace(a.Path+" "+a.ID()))
		}
		for _, m := range in.Mail.Mails() {
			ids = append(ids, strings.Join(m.To, ","))
		}
		slices.Sort(ids)
		return ids
	}

	add("m1", "mail", `{"Address":"ann@example.org"}`)
	add("m2", "mail", `{"address":"bob@example.org","ADDRESS":"eve@example.org"}`) // whose is it? nobody may guess
	add("h1", "hook", `{"URL":""}`)
	add("h2", "hook", fmt.Sprintf(`{"URL":%q}`, in.URL+"/theirs"))
	add("h3", "hook", `null`)
	add("s1", "slack", `{"Channel":"c"}`)
	for range 3 { // one at a time first, and then the rest
		if res := invoke(t, s, local.Replay, []byte(`{}`)); res.FunctionError != "" {
			t.Fatalf("replay: %s", res.Payload)
		}
	}
	want := []string{"/own h1", "/own h3", "/slack", "/theirs h2", "ann@example.org"}
	if got := delivered(); !slices.Equal(got, want) {
		t.Errorf("delivered were %q, want %q", got, want)
	}
	list := call(t, s, http.MethodGet, "/v1/dlq/items", "")
	if items, _ := list.body["items"].([]any); len(items) != 1 || !strings.Contains(list.raw, "m2") {
		t.Errorf("dead letters %s, want the ambiguous one alone", list.raw)
	}
	// What comes in from callers is as strict as ever.
	a := call(t, s, http.MethodPost, "/v1/messages", `{"sink":"mail","recipient":{"Address":"ann@example.org"},"message":{"body":"x"}}`)
	wantProblem(t, "a caller's recipient in another case", a, 400, "INVALID_ARGUMENT")
}
