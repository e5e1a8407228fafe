package handler

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backstop/docs/docstest"
	"backstop/internal/app"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// fixture is the API in this process, with a receiver of webhooks.
type fixture struct {
	app    *app.App
	api    http.Handler
	doc    *docstest.Document
	status atomic.Int64 // of the receiver's answers
	got    atomic.Int64 // requests that the receiver got
}

// read makes the API read another queue.
func (f *fixture) read(tb testing.TB, q queue) {
	tb.Helper()
	h, ok := f.api.(*api)
	if !ok {
		tb.Fatalf("the API is a %T", f.api)
	}
	h.queue = q
}

var document = sync.OnceValues(func() (*docstest.Document, error) { return docstest.Load(context.Background()) })

func newFixture(tb testing.TB) *fixture {
	tb.Helper()
	return newFixtureOn(tb, "")
}

// backends open a fixture over each of the queues.
var backends = map[string]func(*testing.T) *fixture{
	"memory": func(t *testing.T) *fixture { t.Helper(); return newFixture(t) },
	"redis": func(t *testing.T) *fixture {
		t.Helper()
		server, _ := redistest.Mini(t)
		return newFixtureOn(t, "redis://"+server.Addr())
	},
}

// newFixtureOn returns a fixture over Redis, or memory where redisURL is empty.
func newFixtureOn(tb testing.TB, redisURL string) *fixture {
	tb.Helper()
	f := &fixture{}
	f.status.Store(http.StatusOK)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		f.got.Add(1)
		w.WriteHeader(int(f.status.Load()))
	}))
	tb.Cleanup(receiver.Close)
	dir := tb.TempDir()
	for _, name := range []string{"hook", "spare"} {
		text := "kind: webhook\nurl: " + receiver.URL + "\nretry: {max_attempts: 1}\n"
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	tb.Setenv("BACKSTOP_SINKS", "file:"+dir)
	tb.Setenv("BACKSTOP_LOCAL", "true")
	tb.Setenv("BACKSTOP_REDIS_URL", redisURL)
	a, err := app.New(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(a.Close)
	a.Log = slog.New(slog.DiscardHandler)
	a.Engine.Log = a.Log
	a.Out = io.Discard
	f.app, f.api = a, newAPI(a, nil, nil)
	if f.doc, err = document(); err != nil {
		tb.Fatal(err)
	}
	return f
}

// item is a dead letter that the schedule would replay.
func item(n int) dlq.Item {
	id := fmt.Sprintf("d%d", n)
	return dlq.Item{
		DeliveryID: id, Sink: "hook", Message: sinks.Message{ID: id, Subject: "subject", Body: "body of " + id},
		Attempts: 1, LastError: "SINK_UNAVAILABLE: HTTP 503", Reason: dlq.ReasonExhausted,
	}
}

func (f *fixture) add(tb testing.TB, it dlq.Item) dlq.Item {
	tb.Helper()
	stored, err := f.app.Queue.Add(context.Background(), it)
	if err != nil {
		tb.Fatal(err)
	}
	return stored
}

// reply is an answer of the API.
type reply struct {
	*httptest.ResponseRecorder
	tb   testing.TB
	what string
}

// ask sends one request and checks the answer against the document.
func (f *fixture) ask(tb testing.TB, method, target, body string, headers ...string) reply {
	tb.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.api.ServeHTTP(w, r)
	out := reply{w, tb, method + " " + target}
	if err := f.doc.Answer(context.Background(), method, target, w.Code, w.Header(), w.Body.Bytes()); err != nil {
		tb.Errorf("%s: the answer is not as documented: %v\n%d %.1000s", out.what, err, w.Code, w.Body)
	}
	return out
}

// want checks the status, and the code where it is a problem.
func (r reply) want(status int, code string) reply {
	r.tb.Helper()
	var p struct {
		Code string `json:"code"`
	}
	if status >= 400 && r.Body.Len() > 0 {
		if err := json.Unmarshal(r.Body.Bytes(), &p); err != nil {
			r.tb.Errorf("%s: %v: %s", r.what, err, r.Body)
		}
	}
	if r.Code != status || p.Code != code {
		r.tb.Errorf("%s: got %d %.300s, want %d %s", r.what, r.Code, r.Body, status, code)
	}
	return r
}

// into decodes the answer.
func (r reply) into(v any) {
	r.tb.Helper()
	if err := json.Unmarshal(r.Body.Bytes(), v); err != nil {
		r.tb.Fatalf("%s: %v: %.300s", r.what, err, r.Body)
	}
}

func TestRoutesTakeTheirMethodsAndNothingElse(t *testing.T) {
	f := newFixture(t)
	id := f.add(t, item(1)).ID
	for route := range f.doc.Routes() {
		method, path, _ := strings.Cut(route, " ")
		if path == "/v1/messages" { // another function's
			if allow := f.ask(t, http.MethodGet, path, "").want(405, "METHOD_NOT_ALLOWED").Header().Get("Allow"); allow != http.MethodPost {
				t.Errorf("Allow %q, want POST", allow)
			}
			f.ask(t, http.MethodPost, path, "").want(404, "NOT_FOUND")
			continue
		}
		target := strings.NewReplacer("{id}", id, "{name}", "hook", "{op}", "op-"+strings.Repeat("0", 32)).Replace(path)
		f.ask(t, http.MethodPatch, target, "").want(405, "METHOD_NOT_ALLOWED")
		f.ask(t, http.MethodOptions, target, "").want(204, "")
		if method == http.MethodGet {
			get, head := f.ask(t, http.MethodGet, target, ""), f.ask(t, http.MethodHead, target, "")
			if get.Code != head.Code || get.Header().Get("Content-Type") != head.Header().Get("Content-Type") || get.Header().Get("ETag") != head.Header().Get("ETag") {
				t.Errorf("HEAD %s: %d %v, GET: %d %v", target, head.Code, head.Header(), get.Code, get.Header())
			}
		}
		for _, other := range []string{target + "/", "/" + target, target + "/x/y", strings.ToUpper(target)} {
			f.ask(t, method, other, "").want(404, "NOT_FOUND")
		}
	}
	f.ask(t, http.MethodGet, "/", "").want(404, "NOT_FOUND")
	f.ask(t, http.MethodGet, "/v1/dlq/items/../count", "").want(404, "NOT_FOUND")
	if origin := f.ask(t, http.MethodGet, "/v1/sinks", "", "Origin", "https://elsewhere.example").Header().Get("Access-Control-Allow-Origin"); origin != "" {
		t.Errorf("another origin %q is let in", origin)
	}
}

func TestBadRequestsAreRefusedByName(t *testing.T) {
	f := newFixture(t)
	id := f.add(t, item(1)).ID
	long := strings.Repeat("ä", 1001)
	tests := []struct {
		method, target, body string
		status               int
		code, names          string
	}{
		{"GET", "/v1/dlq/items?limit=1001", "", 400, "INVALID_ARGUMENT", "limit"},
		{"GET", "/v1/dlq/items?limit=x", "", 400, "INVALID_ARGUMENT", "limit"},
		{"GET", "/v1/dlq/items?limit=1&limit=2", "", 400, "INVALID_ARGUMENT", "limit"},
		{"GET", "/v1/dlq/items?q=" + long, "", 400, "INVALID_ARGUMENT", "q"},
		{"GET", "/v1/dlq/items?until=2026", "", 400, "INVALID_ARGUMENT", "until"},
		{"GET", "/v1/dlq/items?state=held", "", 400, "INVALID_ARGUMENT", "state: "},
		{"GET", "/v1/dlq/groups?cursor=x", "", 400, "INVALID_ARGUMENT", "cursor"},
		{"POST", "/v1/dlq/operations", `{"action":"replay","filter":{"state":"due"}}`, 400, "INVALID_ARGUMENT", "filter.state: a state changes"},
		{"GET", "/v1/dlq/items?sink=A", "", 400, "INVALID_ARGUMENT", "sink"},
		{"GET", "/v1/dlq/items?cursor=aaaa", "", 400, "INVALID_ARGUMENT", "cursor"},
		{"GET", "/v1/dlq/export?cursor=~", "", 400, "INVALID_ARGUMENT", "cursor"},
		{"GET", "/v1/dlq/export?foo=1", "", 400, "INVALID_ARGUMENT", "foo"},
		{"GET", "/v1/dlq/operations?limit=101", "", 400, "INVALID_ARGUMENT", "limit"},
		{"GET", "/v1/dlq/operations/x", "", 400, "INVALID_ARGUMENT", "operation"},
		{"GET", "/v1/dlq/operations/op-" + strings.Repeat("0", 32), "", 404, "SINK_DLQ_NOT_FOUND", "operation"},
		{"POST", "/v1/dlq/operations/op-" + strings.Repeat("0", 32) + "/cancel", "", 404, "SINK_DLQ_NOT_FOUND", "operation"},
		{"POST", "/v1/dlq/operations/op-" + strings.Repeat("0", 32) + "/resume", "", 404, "SINK_DLQ_NOT_FOUND", "operation"},
		{"POST", "/v1/dlq/operations/x/resume", "", 400, "INVALID_ARGUMENT", "operation"},
		{"POST", "/v1/dlq/operations", `{"action":"replay","all":true,"stop_after":-1}`, 400, "INVALID_ARGUMENT", "stop_after: want 0 (never) or more, got -1"},
		{"POST", "/v1/dlq/operations", `{"action":"discard","all":true,"stop_after":2}`, 400, "INVALID_ARGUMENT", "stop_after: a discard sends nothing"},
		{"POST", "/v1/dlq/operations", `{"action":"replay","all":true,"stop_after":1.5}`, 400, "INVALID_ARGUMENT", "stop_after"},
		{"POST", "/v1/dlq/operations", ``, 400, "INVALID_ARGUMENT", "action"},
		{"POST", "/v1/dlq/operations", `[]`, 400, "INVALID_ARGUMENT", "request body"},
		{"POST", "/v1/dlq/operations", `{"action":"replay","filter":{}}`, 400, "INVALID_ARGUMENT", "filter"},
		{"POST", "/v1/dlq/operations", `{"action":"replay","filter":{"snk":"hook"}}`, 400, "INVALID_ARGUMENT", "snk"},
		{"POST", "/v1/dlq/operations", `{"action":"replay","filter":{"since":"now"}}`, 400, "INVALID_ARGUMENT", "filter.since: want a time"},
		{"POST", "/v1/dlq/operations", `{"action":"discard","ids":[],"filter":{"sink":"hook"}}`, 400, "INVALID_ARGUMENT", "ids"},
		{"POST", "/v1/dlq/operations", `{"action":"discard","ids":["x"]}`, 400, "INVALID_ARGUMENT", "ids[0]"},
		{"POST", "/v1/dlq/operations", `{"action":"replay","all":true,"reason":"` + long + `"}`, 400, "INVALID_ARGUMENT", "reason"},
		{"POST", "/v1/dlq/operations", `{"action":"replay","filter":{"fingerprint":"` + long + `"}}`, 400, "INVALID_ARGUMENT", "filter.fingerprint"},
		{"POST", "/v1/dlq/operations", `{"reason":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "BODY_TOO_LARGE", "1048576"},
		{"POST", "/v1/dlq/items/" + id + "/replay", `{"sink":"A"}`, 400, "INVALID_ARGUMENT", "sink"},
		{"POST", "/v1/dlq/items/" + id + "/replay", `{"sink":"nobody"}`, 404, "SINK_NOT_FOUND", "nobody"},
		{"POST", "/v1/dlq/items/hook~1-1/unpark", ``, 404, "SINK_DLQ_NOT_FOUND", "hook~1-1"},
		{"POST", "/v1/dlq/items/x/unpark", ``, 400, "INVALID_ARGUMENT", "x"},
		{"POST", "/v1/sinks/nobody/pause", ``, 404, "SINK_NOT_FOUND", "nobody"},
	}
	for _, tt := range tests {
		if r := f.ask(t, tt.method, tt.target, tt.body).want(tt.status, tt.code); !strings.Contains(r.Body.String(), tt.names) {
			t.Errorf("%s %.80s: the problem does not name %q: %s", tt.method, tt.target, tt.names, r.Body)
		}
	}
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"replay","all":true}`, "Idempotency-Key", "a b").want(400, "INVALID_ARGUMENT")
	if n := f.got.Load(); n != 0 {
		t.Errorf("%d messages were sent for what was refused", n)
	}
}

func TestAnItemsTagGuardsIt(t *testing.T) {
	f := newFixture(t)
	url := "/v1/dlq/items/" + strings.Replace(f.add(t, item(1)).ID, "~", "%7E", 1)
	old := f.ask(t, "GET", url, "").want(200, "").Header().Get("ETag")
	for header, status := range map[string]int{
		old: 304, "*": 304, "W/" + old: 304, `"other", ` + old: 304, `"other"`: 200, "": 200, "nonsense": 200,
	} {
		r := f.ask(t, "GET", url, "", "If-None-Match", header).want(status, "")
		if r.Header().Get("ETag") != old || status == 304 && r.Body.Len() > 0 {
			t.Errorf("If-None-Match %q: ETag %s, body %s", header, r.Header().Get("ETag"), r.Body)
		}
	}

	f.status.Store(503)
	f.ask(t, "POST", url+"/replay", "", "If-Match", old).want(200, "")
	now := f.ask(t, "GET", url, "", "If-None-Match", old).want(200, "").Header().Get("ETag")
	for _, action := range []struct{ method, suffix string }{{"POST", "/replay"}, {"POST", "/unpark"}, {"DELETE", ""}} {
		for _, header := range []string{old, "W/" + now, `"other"`} {
			r := f.ask(t, action.method, url+action.suffix, "", "If-Match", header).want(412, "PRECONDITION_FAILED")
			if !strings.Contains(r.Body.String(), strings.Trim(now, `"`)) {
				t.Errorf("%s%s: the problem does not say the ETag: %s", action.method, action.suffix, r.Body)
			}
		}
	}
	if n := f.got.Load(); n != 1 {
		t.Errorf("%d messages were sent, want one: the others were refused", n)
	}
	f.ask(t, "POST", url+"/unpark", "", "If-Match", now).want(200, "")
	f.ask(t, "DELETE", url, "", "If-Match", "*").want(204, "")
	f.ask(t, "DELETE", url, "", "If-Match", old).want(204, "")
	f.ask(t, "POST", url+"/replay", "", "If-Match", old).want(404, "SINK_DLQ_NOT_FOUND")

	document := f.ask(t, "GET", "/v1/openapi.yaml", "").want(200, "")
	f.ask(t, "GET", "/v1/openapi.yaml", "", "If-None-Match", document.Header().Get("ETag")).want(304, "")
}

func TestAReplayCanGoToAnotherSinkAndUnparkMakesDue(t *testing.T) {
	f := newFixture(t)
	it := item(1)
	it.Reason = dlq.ReasonTerminal
	url := "/v1/dlq/items/" + f.add(t, it).ID
	var got dlq.Item
	f.ask(t, "POST", url+"/unpark", "").want(200, "").into(&got)
	if got.NextReplayAt.IsZero() || !got.State(time.Now()).Scheduled() {
		t.Errorf("after unpark: %+v, want it due", got)
	}
	var res struct {
		Status, Sink, ID string
		SupersededBy     string `json:"superseded_by"`
	}
	f.ask(t, "POST", url+"/replay", `{"sink":"spare","on_success":"keep"}`).want(200, "").into(&res)
	if res.Status != "delivered" || res.Sink != "spare" || res.SupersededBy == "" || res.ID != res.SupersededBy {
		t.Errorf("got %+v, want it delivered through spare", res)
	}
	heir := "/v1/dlq/items/" + res.ID
	f.ask(t, "POST", heir+"/replay", "").want(409, "ALREADY_DELIVERED")
	f.ask(t, "POST", url+"/replay", `{"sink":"spare","on_success":"keep"}`).want(409, "ALREADY_DELIVERED")
	f.ask(t, "POST", heir+"/replay", `{"force":true}`).want(200, "")
	f.ask(t, "POST", heir+"/replay", "").want(404, "SINK_DLQ_NOT_FOUND")
	for _, of := range []string{"/replay", "/unpark"} {
		if text := f.ask(t, "POST", url+of, "").want(400, "INVALID_ARGUMENT").Body.String(); !strings.Contains(text, res.ID) {
			t.Errorf("%s: %s; want what supersedes it", of, text)
		}
	}
	f.ask(t, "GET", url, "").want(200, "").into(&got)
	if got.SupersededBy != res.ID || got.State(time.Now()) != dlq.StateWaiting {
		t.Errorf("the old one: %+v, want it to wait", got)
	}
	f.ask(t, "POST", url+"/replay", `{"force":true}`).want(200, "")
}

func TestAReplayCanSendAnotherMessage(t *testing.T) {
	f := newFixture(t)
	it := item(1)
	it.Message.Metadata = map[string]string{"tenant": "t3"}
	url := "/v1/dlq/items/" + f.add(t, it).ID
	f.status.Store(http.StatusServiceUnavailable)
	for body, code := range map[string]string{
		`{"message":{}}`:           "INVALID_ARGUMENT",
		`{"message":{"body":""}}`:  "INVALID_ARGUMENT",
		`{"message":{"text":"x"}}`: "INVALID_ARGUMENT",
		`{"recipient":{"url":1}}`:  "INVALID_ARGUMENT",
		`{"message":{"body":"` + strings.Repeat("x", 300<<10) + `"}}`: "BODY_TOO_LARGE",
	} {
		f.ask(t, "POST", url+"/replay", body).want(map[string]int{"BODY_TOO_LARGE": 413}[code]+map[string]int{"INVALID_ARGUMENT": 400}[code], code)
	}
	var res struct {
		Status       string
		SupersededBy string `json:"superseded_by"`
	}
	f.ask(t, "POST", url+"/replay", `{"message":{"body":"repaired","subject":"new"}}`).want(200, "").into(&res)
	if res.Status != "failed" {
		t.Errorf("got %+v, want failed", res)
	}
	var got dlq.Item
	f.ask(t, "GET", "/v1/dlq/items/"+res.SupersededBy, "").want(200, "").into(&got)
	if m := got.Message; m.Body != "repaired" || m.Subject != "new" || m.Metadata["tenant"] != "t3" || m.ID != it.Message.ID || got.Origin == "" {
		t.Errorf("the new one: %+v", got)
	}
	f.ask(t, "POST", url+"/replay", `{"message":{"body":"otherwise"}}`).want(400, "INVALID_ARGUMENT")
	f.status.Store(http.StatusOK)
	f.ask(t, "POST", url+"/replay", `{"message":{"body":"repaired","subject":"new"}}`).want(200, "").into(&res)
	if res.Status != "delivered" {
		t.Errorf("repeated: %+v, want delivered", res)
	}
}

func TestAnExpiredItemIsReplayedByForceOnly(t *testing.T) {
	f := newFixture(t)
	it := item(1)
	it.ExpiresAt = time.Now().Add(-time.Hour)
	url := "/v1/dlq/items/" + f.add(t, it).ID
	refused := f.ask(t, "POST", url+"/replay", "").want(400, "INVALID_ARGUMENT").Body.String()
	if at := it.ExpiresAt.UTC().Format(time.RFC3339); !strings.Contains(refused, "expired at "+at) || !strings.Contains(refused, "with force it is sent") {
		t.Errorf("%s; want when it expired, and what sends it", refused)
	}
	var dry struct{ Count, Expired int }
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"replay","all":true,"dry_run":true}`).want(200, "").into(&dry)
	if dry.Count != 1 || dry.Expired != 1 {
		t.Errorf("dry run %+v, want one, expired", dry)
	}
	var res struct{ Status string }
	f.ask(t, "POST", url+"/replay", `{"force":true}`).want(200, "").into(&res)
	if res.Status != "delivered" {
		t.Errorf("forced: %+v, want it delivered", res)
	}
}

func TestALeasedItemIsLeftAlone(t *testing.T) {
	f := newFixture(t)
	it := f.add(t, item(1))
	if _, err := f.app.Queue.Claim(t.Context(), dlq.Claim{Sink: it.Sink, IDs: []string{it.ID}, TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	url := "/v1/dlq/items/" + it.ID
	f.ask(t, "DELETE", url, "").want(409, "ITEM_LEASED")
	f.ask(t, "POST", url+"/replay", "").want(409, "ITEM_LEASED")
	f.ask(t, "POST", url+"/unpark", "").want(409, "ITEM_LEASED")
	f.ask(t, "GET", url, "").want(200, "")
}

// The platform carries 6 MB, and what is escaped on the way grows up to six times.
func TestEveryAnswerFitsThePlatform(t *testing.T) {
	const platform = 6 * 1024 * 1024
	f := newFixture(t)
	hostile := map[string]string{"markup": "<", "quotes": `"`, "control characters": "\x01", "newlines": "\n", "separators": "\u2028"}
	n := 0
	for _, unit := range hostile {
		for range 3 {
			n++
			it := item(n)
			it.Message.Body = strings.Repeat(unit, (256<<10)/len(unit))
			it.Message.Subject = strings.Repeat(unit, 2000)
			it.LastError = strings.Repeat(unit, 2000)
			f.add(t, it)
		}
	}
	n++
	large := item(n)
	large.Message.Body = strings.Repeat("<", 2<<20)
	f.add(t, large)
	huge := item(n + 1)
	huge.Message.Body = strings.Repeat("x", 5<<20)
	tooLarge := f.add(t, huge)
	handler := newEvents(f.api)
	get := func(target, query string) (int, http.Header, []byte) {
		out, err := handler.Invoke(t.Context(), event(t, func(e map[string]any) { e["rawPath"], e["rawQueryString"] = target, query }))
		if err != nil {
			t.Fatal(err)
		}
		if len(out) > platform {
			t.Errorf("GET %s?%s: %d bytes", target, query, len(out))
		}
		status, header, body := respond(t, out)
		if err := f.doc.Answer(t.Context(), "GET", target, status, header, body); err != nil {
			t.Errorf("GET %s?%s: %v", target, query, err)
		}
		return status, header, body
	}

	lines, cursor := map[string]bool{}, ""
	for {
		_, header, body := get("/v1/dlq/export", "limit=1000&cursor="+cursor)
		for line := range bytes.Lines(body) {
			var it struct {
				ID          string
				DecodeError string `json:"decode_error"`
			}
			if err := json.Unmarshal(line, &it); err != nil {
				t.Fatal(err)
			}
			lines[it.ID] = it.DecodeError == ""
		}
		if cursor = header.Get("Backstop-Next-Cursor"); cursor == "" {
			break
		}
	}
	if len(lines) != n+1 || lines[tooLarge.ID] {
		t.Errorf("%d items exported, want %d, of which one only by name", len(lines), n+1)
	}
	shown := 0
	for cursor = ""; ; {
		var page struct {
			Items      []json.RawMessage `json:"items"`
			NextCursor *string           `json:"next_cursor"`
		}
		_, _, body := get("/v1/dlq/items", "limit=1000&cursor="+cursor)
		if err := json.Unmarshal(body, &page); err != nil {
			t.Fatal(err)
		}
		if shown += len(page.Items); page.NextCursor == nil {
			break
		}
		cursor = *page.NextCursor
	}
	if shown != n+1 {
		t.Errorf("%d items listed, want %d", shown, n+1)
	}
	for id, fits := range lines {
		if status, _, body := get("/v1/dlq/items/"+id, ""); fits != (status == 200) {
			t.Errorf("%s: %d %.200s", id, status, body)
		}
	}
}

// event is an HTTP API event, changed by change.
func event(t *testing.T, change func(map[string]any)) []byte {
	t.Helper()
	e := map[string]any{
		"version": "2.0", "routeKey": "ANY /v1/{proxy+}", "rawPath": "/v1/sinks", "rawQueryString": "",
		"headers": map[string]string{"host": "api.example"}, "isBase64Encoded": false,
		"requestContext": map[string]any{"stage": "$default", "http": map[string]any{"method": "GET"}},
	}
	change(e)
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// respond reads a function's answer as API Gateway does.
func respond(t *testing.T, payload []byte) (int, http.Header, []byte) {
	t.Helper()
	var out struct {
		StatusCode      int
		Headers         map[string]string
		Body            string
		IsBase64Encoded bool
	}
	if err := json.Unmarshal(payload, &out); err != nil {
		t.Fatal(err)
	}
	header := http.Header{}
	for k, v := range out.Headers {
		header.Set(k, v)
	}
	body := io.Reader(strings.NewReader(out.Body))
	if out.IsBase64Encoded {
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return out.StatusCode, header, b
}

func TestAGroupsIDTellsItFromEveryOther(t *testing.T) {
	ids := map[string]dlq.Group{}
	for _, g := range []dlq.Group{
		{Sink: "hook", Reason: dlq.ReasonExhausted, Fingerprint: "HTTP 503"},
		{Sink: "spare", Reason: dlq.ReasonExhausted, Fingerprint: "HTTP 503"},
		{Sink: "hook", Reason: dlq.ReasonTerminal, Fingerprint: "HTTP 503"},
		{Sink: "hook", Reason: dlq.ReasonExhausted, Fingerprint: "HTTP 502"},
		{Sink: "hook", Fingerprint: dlq.FingerprintOther},
	} {
		id := g.ID()
		if other, taken := ids[id]; taken {
			t.Errorf("%+v and %+v are both %s", g, other, id)
		}
		ids[id] = g
		g.Count = 812
		if again := g.ID(); again != id {
			t.Errorf("%+v is %s with another count, want %s", g, again, id)
		}
	}
}

// halfUnreadable is a queue of which one sink, or none, can be read.
type halfUnreadable struct {
	dlq.Store
	readable string
}

func (q halfUnreadable) StatsOf(context.Context, []string) ([]dlq.Stats, error) {
	return nil, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "some queue"}
}

func (q halfUnreadable) Stats(ctx context.Context, sink string) (dlq.Stats, error) {
	if sink == q.readable {
		return q.Store.Stats(ctx, sink)
	}
	return dlq.Stats{}, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "its slot moves"}
}

func TestAQueueThatCannotBeReadHidesNoOther(t *testing.T) {
	f := newFixture(t)
	f.add(t, item(1))
	all := f.app.Queue
	f.read(t, halfUnreadable{all, "hook"})
	var got struct {
		Sinks []struct {
			Name       string
			Depth, Due int64
			QueueError string `json:"queue_error"`
		}
	}
	f.ask(t, "GET", "/v1/sinks", "").want(200, "").into(&got)
	for _, s := range got.Sinks {
		unknown := s.Name != "hook"
		if (s.Depth == -1) != unknown || (s.Due == -1) != unknown || strings.Contains(s.QueueError, "its slot moves") != unknown || !unknown && s.Depth != 1 {
			t.Errorf("%s: %+v", s.Name, s)
		}
	}
	if len(got.Sinks) != 2 {
		t.Errorf("%d sinks, want 2", len(got.Sinks))
	}
	f.read(t, halfUnreadable{all, ""})
	f.ask(t, "GET", "/v1/sinks", "").want(503, "SINK_DLQ_UNAVAILABLE")
}

func TestMetadataIsSearched(t *testing.T) {
	f := newFixture(t)
	for i, tenant := range []string{"t3", "t30", "t3"} {
		it := item(i)
		it.Message.Metadata = map[string]string{"tenant": tenant, "n": strconv.Itoa(i)}
		f.add(t, it)
	}
	var p struct {
		Items, Groups []struct{ Count int }
		Count         int
	}
	f.ask(t, "GET", "/v1/dlq/items?meta=tenant%3Dt3", "").want(200, "").into(&p)
	if len(p.Items) != 2 {
		t.Errorf("%d items of t3, want 2", len(p.Items))
	}
	f.ask(t, "GET", "/v1/dlq/items?meta=tenant=t3&meta=n=2", "").want(200, "").into(&p)
	if len(p.Items) != 1 {
		t.Errorf("%d items of t3 with n=2, want 1", len(p.Items))
	}
	f.ask(t, "GET", "/v1/dlq/groups?meta=tenant=t3", "").want(200, "").into(&p)
	if len(p.Groups) != 1 || p.Groups[0].Count != 2 {
		t.Errorf("groups of t3: %+v, want one of 2", p.Groups)
	}
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"replay","dry_run":true,"filter":{"meta":{"tenant":"t3"}}}`).want(200, "").into(&p)
	if p.Count != 2 {
		t.Errorf("a dry run of t3 counts %d, want 2", p.Count)
	}
	key := []string{"Idempotency-Key", "one"}
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"discard","filter":{"meta":{"tenant":"t3"}}}`, key...).want(202, "")
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"discard","filter":{"meta":{"tenant":"t3"}}}`, key...).want(202, "")
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"discard","filter":{"meta":{"tenant":"t30"}}}`, key...).want(422, "ID_REUSED")
	many := "&meta=a=b"
	for i := range 16 {
		many += fmt.Sprintf("&meta=k%d=v", i)
	}
	for _, bad := range []string{"meta=tenant", "meta==t3", "meta=a=1&meta=a=2", "meta=a=" + strings.Repeat("x", 1001), many[1:]} {
		f.ask(t, "GET", "/v1/dlq/items?"+bad, "").want(400, "INVALID_ARGUMENT")
	}
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"discard","filter":{"meta":{}}}`).want(400, "INVALID_ARGUMENT")
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"discard","filter":{"meta":{"":"x"}}}`).want(400, "INVALID_ARGUMENT")
}
