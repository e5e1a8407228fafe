package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/client"
)

const delivered = `{"status":"delivered","delivery_id":"$id","attempts":1}`

func TestSendMakesTheRequest(t *testing.T) {
	file := filepath.Join(t.TempDir(), "body.html")
	if err := os.WriteFile(file, []byte("<p>A & B</p>"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, stdin, want string
		args              []string
	}{
		{name: "text", args: []string{"--body", "hello", "--subject", "s"}, want: `{"id":"d1","sink":"x","message":{"subject":"s","body":"hello"}}`},
		{name: "a file, not HTML-escaped", args: []string{"--body", "@" + file}, want: `{"id":"d1","sink":"x","message":{"body":"<p>A & B</p>"}}`},
		{name: "standard input", stdin: "from stdin\n", args: []string{"--body", "-"}, want: `{"id":"d1","sink":"x","message":{"body":"from stdin\n"}}`},
		{name: "an address", args: []string{"--body", "b", "--to", "ann@example.com"}, want: `{"id":"d1","sink":"x","recipient":{"address":"ann@example.com"},"message":{"body":"b"}}`},
		{name: "a URL", args: []string{"--body", "b", "--to", "https://u@example.com/h"}, want: `{"id":"d1","sink":"x","recipient":{"url":"https://u@example.com/h"},"message":{"body":"b"}}`},
		{name: "any recipient", args: []string{"--body", "b", "--recipient", `{"room":7}`}, want: `{"id":"d1","sink":"x","recipient":{"room":7},"message":{"body":"b"}}`},
		{name: "later, and in time", args: []string{"--body", "b", "--after", "90s", "--expires-at", "2099-01-31T18:00:00+01:00", "--group", "user:1"}, want: `{"id":"d1","sink":"x","message":{"body":"b"},"expires_at":"2099-01-31T18:00:00+01:00","send_after":"1m30s","group":"user:1"}`},
		{name: "metadata", args: []string{"--body", "b", "--metadata", "X-A=1=2", "--metadata", "X-B="}, want: `{"id":"d1","sink":"x","message":{"body":"b","metadata":{"X-A":"1=2","X-B":""}}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPI(t, ok(delivered))
			r := runWith(t, t.Context(), strings.NewReader(c.stdin), &bytes.Buffer{}, append([]string{"send", "--sink", "x", "--id", "d1"}, c.args...)...)
			r.want(t, 0, "status    delivered", "delivery d1\n")
			if got, want := api.asked(), []string{"POST /v1/messages " + c.want}; !slices.Equal(got, want) {
				t.Errorf("calls %q, want %q", got, want)
			}
		})
	}
}

func TestSendMakesTheIDAndKeepsItOverItsTries(t *testing.T) {
	api := newAPI(t, problem(409, "DELIVERY_IN_PROGRESS"), reply{status: 504, body: `{"message":"Endpoint request timed out"}`}, ok(delivered))
	r := run(t, "send", "--sink", "x", "--body", "b", "-o", "json")
	r.want(t, 0, `{"status":"delivered","delivery_id":"`, "sending the same id again in ")
	id := regexp.MustCompile(`^delivery ([0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f-]{21})\n`).FindStringSubmatch(r.err)
	if id == nil {
		t.Fatalf("standard error does not begin with the delivery id:\n%s", r.err)
	}
	calls := api.asked()
	if len(calls) != 3 {
		t.Errorf("%d tries, want 3", len(calls))
	}
	for _, call := range calls {
		if !strings.Contains(call, `"id":"`+id[1]+`"`) {
			t.Errorf("call %s has not the id %s", call, id[1])
		}
	}
}

func TestSendEndsAsTheMessageDid(t *testing.T) {
	for _, c := range []struct {
		name     string
		replies  []reply
		args     []string
		code     int
		out, err string
		calls    int
	}{
		{
			name: "dead-lettered is safe", replies: []reply{{status: 202, body: `{"status":"dead_lettered","delivery_id":"d1","item_id":"x~1-0","reason":"exhausted","attempts":5,"error":"HTTP 503"}`}},
			out: "dead letter  x~1-0\nreason       exhausted\nerror        HTTP 503", calls: 1,
		},
		{
			name: "spilled is safe", replies: []reply{{status: 202, body: `{"status":"dead_lettered","delivery_id":"d1","spilled":true,"reason":"exhausted","attempts":5,"error":"HTTP 503"}`}},
			out: "dead letter  waits in the journal for room in the queue\nreason       exhausted", calls: 1,
		},
		{name: "a duplicate", replies: []reply{ok(`{"status":"delivered","delivery_id":"d1","attempts":1,"duplicate":true}`)}, out: "nothing was sent", calls: 1},
		{name: "refused", replies: []reply{problem(404, "SINK_NOT_FOUND")}, code: 3, err: "SINK_NOT_FOUND", calls: 1},
		{name: "invalid", replies: []reply{problem(400, "INVALID_ARGUMENT")}, code: 2, err: "the detail", calls: 1},
		{name: "too large", replies: []reply{problem(413, "BODY_TOO_LARGE")}, code: 1, calls: 1},
		{name: "the id is another message's", replies: []reply{problem(422, "ID_REUSED")}, code: 4, calls: 1},
		{
			name: "accepted", replies: []reply{{status: 202, body: `{"status":"accepted","delivery_id":"d1","attempts":0,"not_before":"2099-01-01T00:00:30Z"}`}}, args: []string{"--after", "30s"},
			out: "delivery    d1\nnot before  2099-01-01 00:00:30Z (in ", err: "\n  backstop delivery show x d1\n  backstop delivery cancel x d1\n", calls: 1,
		},
		{
			name: "canceled before", replies: []reply{ok(`{"status":"canceled","delivery_id":"d1","attempts":0,"duplicate":true}`)}, out: "status     canceled", calls: 1,
		},
		{name: "the queue is away to the end", replies: []reply{problem(503, "QUEUE_UNAVAILABLE")}, args: []string{"--tries", "1", "--async"}, code: 5, err: "The message is still yours", calls: 1},
		{
			name: "handed back to the end", replies: []reply{problem(503, "NOT_ATTEMPTED")}, args: []string{"--tries", "2"}, code: 5,
			err: "Send it again, safely, with --id d1; whether it arrived after all says\n  backstop delivery show x d1\n", calls: 2,
		},
		{name: "under way to the end", replies: []reply{problem(409, "DELIVERY_IN_PROGRESS")}, args: []string{"--tries", "1"}, code: 4, err: "--id d1", calls: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPI(t, c.replies...)
			r := run(t, append([]string{"send", "--sink", "x", "--id", "d1", "--body", "b"}, c.args...)...)
			r.want(t, c.code, c.out, c.err)
			if got := len(api.asked()); got != c.calls {
				t.Errorf("%d tries, want %d", got, c.calls)
			}
		})
	}
}

func TestCallsThatCanBeRepeatedWait(t *testing.T) {
	away := &client.UnreachableError{Err: errors.New("refused")}
	asked := func(d time.Duration) error {
		return &client.ProblemError{Status: 503, RetryAfter: d}
	}
	for _, c := range []struct {
		name  string
		tries int
		errs  []error // one for each try; then it is done
		took  time.Duration
		fails bool
	}{
		{name: "doubling from half a second", tries: 7, errs: slices.Repeat([]error{away}, 6), took: 30*time.Second + 500*time.Millisecond},
		{name: "as long as the API asks for", tries: 3, errs: []error{asked(3 * time.Second), asked(maxPause)}, took: 18 * time.Second},
		{name: "not longer than somebody waits", tries: 3, errs: []error{asked(time.Hour)}, fails: true},
		{name: "not after the last", tries: 1, errs: []error{away}, fails: true},
		{name: "not after a refusal", tries: 5, errs: []error{&client.ProblemError{Status: http.StatusNotFound}}, fails: true},
		{name: "not without credentials", tries: 5, errs: []error{&client.CredentialsError{Err: errors.New("expired")}}, fails: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			start := time.Now()
			_, err := repeating(t.Context(), c.tries, func() (int, error) {
				n++
				if n <= len(c.errs) {
					return 0, c.errs[n-1]
				}
				return n, nil
			})
			if took := time.Since(start); (err != nil) != c.fails || took != c.took || c.fails && n != 1 {
				t.Errorf("%s: %v after %d tries and %s; want failure %v, %s", c.name, err, n, took, c.fails, c.took)
			}
		})
	}
}

// imported answers an import with what became of its lines, in their order.
func imported(t *testing.T, lines ...client.ImportLine) reply {
	t.Helper()
	counts := map[client.ImportStatus]int{}
	for i := range lines {
		lines[i].Line = i + 1
		counts[lines[i].Status]++
	}
	b, err := json.Marshal(map[string]any{
		"stored": counts[client.ImportStored], "exists": counts[client.ImportExists], "skipped": counts[client.ImportSkipped],
		"rejected": counts[client.ImportRejected], "failed": counts[client.ImportFailed], "results": lines,
	})
	if err != nil {
		t.Fatal(err)
	}
	return ok(string(b))
}

func TestImportSendsChunksAndNamesLines(t *testing.T) {
	stored := client.ImportLine{Status: client.ImportStored}
	var lines []string
	for n := range 1003 {
		b, _ := json.Marshal(map[string]int{"n": n})
		lines = append(lines, string(b))
	}
	file := filepath.Join(t.TempDir(), "dead.ndjson")
	// An empty line in front, and no line end after the last.
	if err := os.WriteFile(file, []byte("\n"+strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	api := newAPI(t,
		problem(503, "SINK_DLQ_UNAVAILABLE"),
		imported(t, append(slices.Repeat([]client.ImportLine{stored}, 999), client.ImportLine{Status: client.ImportExists})...),
		imported(t, client.ImportLine{Status: client.ImportSkipped},
			client.ImportLine{Status: client.ImportRejected, Code: "INVALID_ARGUMENT", Error: "sink: missing"},
			client.ImportLine{Status: client.ImportFailed, Code: "SINK_DLQ_OVERFLOW", Error: "full"}),
	)
	r := run(t, "dlq", "import", file)
	r.want(t, 1, "999     1              1                    1         1", "line 1003: rejected: sink: missing (INVALID_ARGUMENT)\nline 1004: failed: full (SINK_DLQ_OVERFLOW)\nbackstop: 2 lines not imported\n")
	calls := api.asked()
	if len(calls) != 3 || calls[0] != calls[1] || strings.Count(calls[1], "\n") != 999 || strings.Count(calls[2], "\n") != 2 {
		t.Errorf("%d calls, want the first chunk of 1000 lines twice, then 3 lines", len(calls))
	}
	if got := api.headers[0].Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("content type %q", got)
	}

	t.Run("oldest first, from a file or from standard input", func(t *testing.T) {
		exported := `{"id":"ops~20-1","n":4}` + "\n" + `{"id":"mail~9-2","n":2}` + "\n\n" + `{"id":"ops~9-1","n":1}` + "\n" + `{"at":"1970-01-01T00:00:00.010Z","n":3}`
		file := filepath.Join(t.TempDir(), "dead.ndjson")
		if err := os.WriteFile(file, []byte(exported), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, from := range []string{file, "-"} {
			api := newAPI(t, imported(t, client.ImportLine{Status: client.ImportRejected, Code: "INVALID_ARGUMENT", Error: "bad"}, stored, stored, stored))
			r := runWith(t, t.Context(), strings.NewReader(exported), &bytes.Buffer{}, "dlq", "import", from)
			r.want(t, 1, "3 ", "line 4: rejected: bad")
			var order []string
			for line := range strings.Lines(api.asked()[0]) {
				if _, n, ok := strings.Cut(line, `"n":`); ok {
					order = append(order, n[:1])
				}
			}
			if !slices.Equal(order, []string{"1", "2", "3", "4"}) {
				t.Errorf("from %s: sent in the order %v", from, order)
			}
		}
	})

	t.Run("by size, and without what is too large", func(t *testing.T) {
		api := newAPI(t, imported(t, stored))
		big := fmt.Sprintf("{%q:1}\n", strings.Repeat("x", 2<<20))
		in := strings.NewReader(big + fmt.Sprintf("%q\n", strings.Repeat("y", 5<<20)) + big)
		r := runWith(t, t.Context(), in, &bytes.Buffer{}, "dlq", "import", "-")
		r.want(t, 1, "2       0", "line 2: rejected: ")
		if n := len(api.asked()); n != 2 {
			t.Errorf("%d calls, want 2", n)
		}
	})
}

// --expires-in is made a time once, so that a repetition has the same; --async is a preference.
func TestSendSaysWhenTheMessageIsWorthless(t *testing.T) {
	api := newAPI(t, problem(503, "NOT_ATTEMPTED"), ok(delivered))
	before := time.Now()
	run(t, "send", "--sink", "x", "--id", "d1", "--body", "b", "--expires-in", "5m", "--async").want(t, 0, "delivered", "")
	var ends []time.Time
	for _, call := range api.asked() {
		var sent struct {
			ExpiresAt time.Time `json:"expires_at"`
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(call, "POST /v1/messages ")), &sent); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, sent.ExpiresAt)
	}
	if len(ends) != 2 || !ends[0].Equal(ends[1]) || ends[0].Before(before.Add(5*time.Minute)) || ends[0].After(time.Now().Add(5*time.Minute)) {
		t.Errorf("expires at %v, want twice the same time, 5 minutes after %s", ends, before)
	}
}
