package notify_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/client"

	"example.org/team/producer/notify"
)

// The answers of the API, by the id that they are for.
var answers = map[string]struct {
	status int // 0: the connection is cut
	header map[string]string
	body   string // a problem's code in quotes; empty: the gateway's

	again bool
	after time.Duration
	safe  bool
}{
	"delivered": {status: 200, body: `{"status":"delivered","delivery_id":"delivered","attempts":1}`, safe: true},
	"before":    {status: 200, body: `{"status":"delivered","delivery_id":"before","attempts":1,"duplicate":true}`, safe: true},
	"kept":      {status: 202, body: `{"status":"dead_lettered","delivery_id":"kept","item_id":"orders~1-1","reason":"exhausted"}`, safe: true},

	"cut":      {again: true},
	"full":     {status: 503, header: map[string]string{"Retry-After": "7"}, body: `"SINK_DLQ_OVERFLOW"`, again: true, after: 7 * time.Second},
	"under":    {status: 409, body: `"DELIVERY_IN_PROGRESS"`, again: true},
	"busy":     {status: 429, again: true},
	"timeout":  {status: 504, again: true},
	"unknown":  {status: 404, body: `"SINK_NOT_FOUND"`},
	"reused":   {status: 409, body: `"ID_REUSED"`},
	"invalid":  {status: 400, body: `"INVALID_ARGUMENT"`},
	"unsigned": {status: 403},
}

// api answers as the API, or for some ids as the gateway in front of it, does.
func api(t *testing.T) *client.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m client.SendRequest
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || r.Method+r.URL.Path != "POST/v1/messages" {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
		a := answers[m.ID]
		for name, value := range a.header {
			w.Header().Set(name, value)
		}
		switch {
		case a.status == 0:
			panic(http.ErrAbortHandler)
		case strings.HasPrefix(a.body, `"`):
			w.Header().Set("Content-Type", "application/problem+json")
			a.body = fmt.Sprintf(`{"type":"x","title":"x","status":%d,"code":%s}`, a.status, a.body)
		case a.body == "":
			w.Header().Set("Content-Type", "application/json")
			a.body = `{"message":"the gateway's"}`
		default:
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.body)
	}))
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, &client.Options{Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestOnlyWhatTheAPIDidNotTakeIsHandedBack(t *testing.T) {
	var log lines
	a := &notify.API{Client: api(t), Log: slog.New(slog.NewTextHandler(&log, nil))}
	var all []client.SendRequest
	for id := range answers {
		all = append(all, client.SendRequest{ID: id, Sink: "orders", Message: client.SendMessage{Body: "x"}})
	}
	back := map[string]notify.HandedBack{}
	for _, h := range a.Send(t.Context(), all...) {
		if h.Err == nil {
			t.Errorf("%s: handed back without a reason", h.Message.ID)
		}
		back[h.Message.ID] = h
	}
	for id, want := range answers {
		got, handedBack := back[id]
		if handedBack == want.safe {
			t.Errorf("%s: handed back %v (%v), want %v", id, handedBack, got.Err, !want.safe)
		}
		if got.Again != want.again || got.After != want.after {
			t.Errorf("%s: again %v after %s, want %v after %s (%v)", id, got.Again, got.After, want.again, want.after, got.Err)
		}
	}
	if text := log.String(); !strings.Contains(text, "id=kept sink=orders item=orders~1-1 reason=exhausted") {
		t.Errorf("the dead letter is not in the log: %s", text)
	}
}

// lines is a log that several goroutines write.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
