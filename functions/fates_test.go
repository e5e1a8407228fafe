package functions_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"backstop/internal/local"
)

// ear is a receiver of events that looks at the signature and form of each.
type ear struct {
	t      *testing.T
	key    []byte
	status atomic.Int64
	mu     sync.Mutex
	heard  []string // fate, sink and delivery
}

func (e *ear) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		e.t.Error(err)
	}
	id := r.Header.Get("webhook-id")
	mac := hmac.New(sha256.New, e.key)
	mac.Write(fmt.Appendf(nil, "%s.%s.%s", id, r.Header.Get("webhook-timestamp"), body))
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); r.Header.Get("webhook-signature") != want {
		e.t.Errorf("event %s is not signed", id)
	}
	var ce cloudevents.Event
	var data struct {
		Sink, Fate string
		DeliveryID string `json:"delivery_id"`
	}
	if err := json.Unmarshal(body, &ce); err != nil {
		e.t.Errorf("no CloudEvent: %v: %s", err, body)
		return
	}
	if err := ce.Validate(); err != nil || ce.ID() != id {
		e.t.Errorf("event %s under the webhook-id %s: %v", ce.ID(), id, err)
	}
	if err := ce.DataAs(&data); err != nil || ce.Type() != "backstop.delivery."+data.Fate+".v1" || ce.Subject() != data.DeliveryID {
		e.t.Errorf("event %s, %v", body, err)
	}
	if strings.Contains(string(body), "a body of its own") {
		e.t.Errorf("event tells too much: %s", body)
	}
	status := int(e.status.Load())
	if status < 300 {
		e.mu.Lock()
		e.heard = append(e.heard, data.Fate+" "+data.Sink+" "+data.DeliveryID)
		e.mu.Unlock()
	}
	w.WriteHeader(status)
}

func (e *ear) has(event string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.heard, event)
}

// Whatever is answered was told before: by an event that arrived, valid and signed, or that is a dead
// letter of its own.
func TestEachFateIsToldBeforeItIsAnswered(t *testing.T) {
	t.Parallel()
	audit := &ear{t: t, key: []byte("a key of the events' receiver 32")}
	audit.status.Store(http.StatusNoContent)
	events := httptest.NewServer(audit)
	defer events.Close()
	var broken atomic.Bool
	broken.Store(true)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" && broken.Load() {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer receiver.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"good":  "kind: webhook\nurl: " + receiver.URL + "/good\nevents: {to: audit}\n",
		"bad":   "kind: webhook\nurl: " + receiver.URL + "/bad\nevents:\n  to: audit\n",
		"audit": "kind: webhook\nformat: raw\nurl: " + events.URL + "\nsigning_secrets: [whsec_" + base64.StdEncoding.EncodeToString(audit.key) + "]\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := onRedis(t)
	o.Sinks = "file:" + dir
	s := start(t, o)
	told := func(event string) {
		t.Helper()
		if !audit.has(event) {
			t.Errorf("answered, and not told: %s; heard %v", event, audit.heard)
		}
	}
	want := func(a answer, status int) answer {
		t.Helper()
		if a.status != status {
			t.Fatalf("%d %s, want %d", a.status, a.raw, status)
		}
		return a
	}
	const body = "a body of its own"
	deliveries := func(sink, id string) string {
		return "/v1/deliveries?" + url.Values{"sink": {sink}, "id": {id}}.Encode()
	}

	want(send(t, s, "good", "g1", body), http.StatusOK)
	told("delivered good g1")
	first := want(send(t, s, "bad", "b1", body), http.StatusAccepted)
	told("dead_lettered bad b1")
	second := want(send(t, s, "bad", "b2", body), http.StatusAccepted)
	want(send(t, s, "bad", "b3", body), http.StatusAccepted)

	for _, sink := range []string{"good", "bad"} {
		res := invoke(t, s, local.Queue, batch(sink, "q1", "q2", "q3"))
		if !strings.Contains(string(res.Payload), `"batchItemFailures":[]`) {
			t.Fatalf("batch: %s", res.Payload)
		}
		for _, id := range []string{"q1", "q2", "q3"} {
			told(map[string]string{"good": "delivered", "bad": "dead_lettered"}[sink] + " " + sink + " " + id)
		}
	}

	want(call(t, s, http.MethodDelete, "/v1/dlq/items/"+first.text("item_id"), ""), http.StatusNoContent)
	told("discarded bad b1")
	want(call(t, s, http.MethodDelete, deliveries("bad", "b3"), ""), http.StatusOK)
	told("canceled bad b3")
	broken.Store(false)
	want(call(t, s, http.MethodPost, "/v1/dlq/items/"+second.text("item_id")+"/replay", "{}"), http.StatusOK)
	told("delivered_by_replay bad b2")

	// The events' receiver is away: each is a dead letter by the time of the answer, and the schedule
	// brings it.
	audit.status.Store(http.StatusServiceUnavailable)
	want(send(t, s, "good", "g2", body), http.StatusOK)
	if a := want(call(t, s, http.MethodGet, "/v1/dlq/count?sink=audit", ""), http.StatusOK); a.number("count") != 1 {
		t.Errorf("answered, and its event is nowhere: %s", a.raw)
	}
	if a := want(call(t, s, http.MethodGet, deliveries("good", "g2"), ""), http.StatusOK); a.body["event"] != nil {
		t.Errorf("its event is pending: %s", a.raw)
	}
	audit.status.Store(http.StatusOK)
	if res := invoke(t, s, "replay", []byte(`{"sinks":["audit"]}`)); res.FunctionError != "" {
		t.Fatalf("replay: %s", res.Payload)
	}
	told("delivered good g2")
	if a := want(call(t, s, http.MethodGet, "/v1/dlq/count?sink=audit", ""), http.StatusOK); a.number("count") != 0 {
		t.Errorf("events are left: %s", a.raw)
	}
	audit.mu.Lock()
	defer audit.mu.Unlock()
	if n := len(audit.heard); n != 14 {
		t.Errorf("%d events, want each of 14 once: %v", n, audit.heard)
	}
}
