//go:build full

package console_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// fakeAPI answers everything with what answer says.
func fakeAPI(t *testing.T, answer *atomic.Value) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f, ok := answer.Load().(func(http.ResponseWriter, *http.Request))
		if !ok {
			t.Error("no answer set")
			return
		}
		f(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Errors show title, detail and code, and offer another try. The last view stays.
func TestErrorsAreShownAsTheyAre(t *testing.T) {
	var answer atomic.Value
	down := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "5")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"type":"urn:backstop:problem:SINK_DLQ_UNAVAILABLE","title":"The dead-letter queue cannot be reached","status":503,"detail":"stats: connection refused","code":"SINK_DLQ_UNAVAILABLE"}`)
	}
	forbidden := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"message":"Forbidden"}`)
	}
	up := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/v1/sinks":
			_, _ = io.WriteString(w, `{"config_age_seconds":-1,"config_error":"file:sinks: no such folder","sinks":[{"name":"broken","configured":true,"config_error":"broken.yaml:3: url: missing","depth":7,"due":-1,"parked":2,"kept":1,"trimmed":4,"paused":true,"oldest_at":"2026-01-01T00:00:00Z","oldest_age_seconds":90}]}`)
		case "/v1/dlq/histogram":
			_, _ = io.WriteString(w, noHistogram)
		case "/v1/dlq/groups":
			_, _ = io.WriteString(w, `{"groups":[{"sink":"broken","reason":"","fingerprint":"(other)","count":7}],"next_cursor":null,"complete":false,"scanned":0}`)
		default:
			_, _ = io.WriteString(w, `{"items":[],"next_cursor":"x","complete":false,"scanned":500}`)
		}
	}
	answer.Store(up)
	p := newTab(t, start(t, fakeAPI(t, &answer)).URL)
	p.says("The sinks' configuration could not be read.", "file:sinks: no such folder", "broken is misconfigured.", "broken.yaml:3: url: missing",
		"misconfigured", "paused", "1 kept", "4 lost", "in no group of their own", "There are more groups", "There is no sink configuration.")
	if eval[bool](p, "Boolean("+named("button", "Replay…")+")") {
		t.Error("a group that no filter selects has actions")
	}
	p.goTo("#/items?q=needle")
	p.says("Nothing found so far.", "2,500 entries were searched.", "The search stopped by its budget: there may be older ones.", "Search further")

	p.goTo("#/")
	answer.Store(down)
	p.click("button", "Refresh")
	p.says("The dead-letter queue cannot be reached", "stats: connection refused", "SINK_DLQ_UNAVAILABLE", "try again after 5 s", "Below is what was seen last.", "broken is misconfigured.")
	answer.Store(up)
	p.click("button", "Try again")
	p.wait("the error gone", `!document.body.innerText.includes("SINK_DLQ_UNAVAILABLE")`)

	answer.Store(forbidden)
	p.goTo("#/operations")
	p.says("Forbidden", "HTTP 403", "Check which credentials the console was started with.")
	p.accessible("an error")
}

// routes answers by "METHOD path"; a route that is missing is nothing and nowhere.
type routes map[string]func(w http.ResponseWriter, r *http.Request, body string)

func (m routes) serve(t *testing.T) string {
	t.Helper()
	var answer atomic.Value
	answer.Store(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		f, ok := m[r.Method+" "+r.URL.Path]
		if !ok {
			t.Errorf("%s %s was not expected", r.Method, r.URL)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		f(w, r, string(b))
	})
	return fakeAPI(t, &answer)
}

func says(body string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) { _, _ = io.WriteString(w, body) }
}

func unavailable(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, `{"type":"urn:x","title":"The dead-letter queue cannot be reached","status":503,"code":"SINK_DLQ_UNAVAILABLE"}`)
}

const (
	aSink  = `{"config_age_seconds":1,"sinks":[{"name":"hook","kind":"webhook","configured":true,"depth":3,"due":3,"parked":0,"kept":0,"trimmed":0,"paused":false,"oldest_at":"2026-01-01T00:00:00Z","oldest_age_seconds":90}]}`
	noCare = `{"groups":[],"next_cursor":null,"complete":true,"scanned":0}`
	// noHistogram is one in which nothing came.
	noHistogram = `{"by":"sink","interval":"1h","since":"2026-01-01T00:00:00Z","until":"2026-01-01T02:00:00Z","buckets":["2026-01-01T00:00:00Z","2026-01-01T01:00:00Z"],"series":[],"count":0,"arrived_total":0}`
	dry         = `{"dry_run":true,"action":"replay","count":2,"complete":true,"scanned":2,"sample":[]}`
)

func aLetter(id, at string) string {
	return `{"id":"hook~` + id + `","sink":"hook","at":"` + at + `","message":{"subject":"S ` + id + `","body_bytes":1,"body_preview":"x"},"attempts":1,"last_error":"e","reason":"terminal"}`
}

func list(next string, letters ...string) string {
	return `{"items":[` + strings.Join(letters, ",") + `],"next_cursor":` + next + `,"complete":true,"scanned":0}`
}

// An operation whose answer was lost is sent again with the same key; while its progress
// cannot be seen the dialog says so, and goes on looking.
func TestAnOperationSurvivesAnOutage(t *testing.T) {
	const op = `{"id":"op-00000000000000000000000000000001","action":"replay","all":true,"created_at":"2026-01-01T00:00:00Z","total":2,"total_complete":true,"discarded":0,"failed":0,"skipped":0,"sinks":{},`
	var mu sync.Mutex
	var keys []string
	looked := 0
	p := newTab(t, start(t, routes{
		"GET /v1/sinks":         says(aSink),
		"GET /v1/dlq/groups":    says(noCare),
		"GET /v1/dlq/histogram": says(noHistogram),
		"GET /v1/dlq/items":     says(list("null", aLetter("1-0", "2026-01-01T00:00:00Z"))),
		"POST /v1/dlq/operations": func(w http.ResponseWriter, r *http.Request, body string) {
			mu.Lock()
			defer mu.Unlock()
			if strings.Contains(body, `"dry_run":true`) {
				_, _ = io.WriteString(w, dry)
				return
			}
			keys = append(keys, r.Header.Get("Idempotency-Key"))
			if len(keys) == 1 {
				unavailable(w)
				return
			}
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, op+`"status":"running","settled":1,"delivered":1}`)
		},
		"GET /v1/dlq/operations/op-00000000000000000000000000000001": func(w http.ResponseWriter, _ *http.Request, _ string) {
			mu.Lock()
			defer mu.Unlock()
			if looked++; looked == 1 {
				unavailable(w)
				return
			}
			_, _ = io.WriteString(w, op+`"status":"completed","settled":2,"delivered":2}`)
		},
	}.serve(t)).URL)
	p.goTo("#/items")
	p.click("button", "Replay all…")
	p.says("This is every dead letter in every sink.")
	p.click("button", "Replay 2")
	p.says("SINK_DLQ_UNAVAILABLE")
	p.click("button", "Try again")
	p.says("Running: 1 of 2.", "Its progress cannot be seen just now", "The operation goes on without this page")
	p.says("Completed: 2 delivered, 0 failed.")
	mu.Lock()
	defer mu.Unlock()
	if len(keys) != 2 || keys[0] == "" || keys[0] != keys[1] {
		t.Errorf("the keys are %q, want one, twice", keys)
	}
}

// What waits for its receiver is shown with its time, in the operation and by sink; a refused
// resumption is a problem on the page.
func TestWhatAnOperationWaitsFor(t *testing.T) {
	const op = `{"id":"op-00000000000000000000000000000001","action":"replay","all":true,"created_at":"2026-01-01T00:00:00Z","total":9,"total_complete":true,"discarded":0,"skipped":0,"settled":5,"delivered":4,"failed":1,"stop_after":0,"round":1,`
	waits := `"waiting":4,"waiting_until":"2026-01-01T02:03:04Z"`
	var resumed atomic.Bool
	p := newTab(t, start(t, routes{
		"GET /v1/sinks":         says(aSink),
		"GET /v1/dlq/groups":    says(noCare),
		"GET /v1/dlq/histogram": says(noHistogram),
		"GET /v1/dlq/items":     says(list("null", aLetter("1-0", "2026-01-01T00:00:00Z"))),
		"GET /v1/dlq/operations/op-00000000000000000000000000000001": func(w http.ResponseWriter, _ *http.Request, _ string) {
			if resumed.Load() {
				_, _ = io.WriteString(w, op+`"status":"stopped","waiting":0,"error":"sink hook: stopped after 3 failures in a row: HTTP 503","sinks":{"hook":{"done":false,"stopped":true,"settled":5,"delivered":4,"failed":1,"discarded":0,"skipped":0,"waiting":0,"error":"stopped after 3"}}}`)
				return
			}
			_, _ = io.WriteString(w, op+`"status":"running",`+waits+`,"sinks":{"hook":{"done":false,"settled":5,"delivered":4,"failed":1,"discarded":0,"skipped":0,`+waits+`}}}`)
		},
		"POST /v1/dlq/operations/op-00000000000000000000000000000001/resume": func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"title":"The request is invalid","status":400,"detail":"only a stopped operation is resumed","code":"INVALID_ARGUMENT"}`)
		},
	}.serve(t)).URL)
	p.goTo("#/operations/op-00000000000000000000000000000001")
	p.says("Running: 5 of 9.", "4 items waiting: their receiver is left alone or asked to wait, until ", "4 waiting until ", "Stops after")
	p.says("never")
	resumed.Store(true)
	p.says("Stopped: 4 delivered, 1 failed.", "sink hook: stopped after 3 failures in a row: HTTP 503")
	p.click("button", "Resume the operation")
	p.says("only a stopped operation is resumed")
}

// Work that the page does one by one stops when the API as a whole does not answer, and
// says how far it came; a single failure does not stop the others.
func TestOneByOneStopsAtAnOutage(t *testing.T) {
	p := newTab(t, start(t, routes{
		"GET /v1/sinks":           says(aSink),
		"GET /v1/dlq/groups":      says(noCare),
		"GET /v1/dlq/histogram":   says(noHistogram),
		"GET /v1/dlq/items":       says(list("null", aLetter("3-0", "2026-01-03T00:00:00Z"), aLetter("2-0", "2026-01-02T00:00:00Z"), aLetter("1-0", "2026-01-01T00:00:00Z"))),
		"POST /v1/dlq/operations": says(strings.Replace(dry, `"count":2`, `"count":3`, 1)),
		"POST /v1/dlq/items/hook~3-0/unpark": func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"title":"A replay holds the dead letter","status":409,"detail":"held","code":"ITEM_LEASED"}`)
		},
		"POST /v1/dlq/items/hook~2-0/unpark": says(`{}`),
		"POST /v1/dlq/items/hook~1-0/unpark": func(w http.ResponseWriter, _ *http.Request, _ string) { unavailable(w) },
	}.serve(t)).URL)
	p.goTo("#/items")
	p.click("button", "Unpark all…")
	p.click("button", "Unpark 3")
	p.says("Stopped: 1 done, 1 gone or held by a replay.", "SINK_DLQ_UNAVAILABLE", "A replay holds the dead letter: held (ITEM_LEASED)")
}
