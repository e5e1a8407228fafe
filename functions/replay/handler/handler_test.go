package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/internal/app"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/sinks"
)

// buffer is a log or an output.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newHandler returns the function over a queue in memory, with two sinks: known, and down, which has one receiver.
func newHandler(t *testing.T) (h *handler, out, log *buffer) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "known.yaml"), []byte("kind: webhook\nurl: https://receiver.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "down.yaml"), []byte("kind: slack\nwebhook_url: https://hooks.slack.com/services/T0/B0/x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BACKSTOP_SINKS", "file:"+dir)
	t.Setenv("BACKSTOP_LOCAL", "true")
	t.Setenv("BACKSTOP_REDIS_URL", "")
	a, err := app.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	out, log = &buffer{}, &buffer{}
	a.Log = slog.New(slog.NewJSONHandler(log, nil))
	a.Engine.Log = a.Log
	a.Out = out
	return newReplay(a, nil), out, log
}

// partly is a queue of which some sinks cannot be read.
type partly struct {
	dlq.Store
	unreadable func(ctx context.Context, sink string) error
}

func (p partly) Stats(ctx context.Context, sink string) (dlq.Stats, error) {
	if err := p.unreadable(ctx, sink); err != nil {
		return dlq.Stats{}, err
	}
	return p.Store.Stats(ctx, sink)
}

func TestAQueueThatCannotBeReadKeepsNoOtherFromBeingMeasured(t *testing.T) {
	unavailable := &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "the slot moves"}
	for name, fault := range map[string]func(ctx context.Context) error{
		"it is refused": func(context.Context) error { return unavailable },
		"it is not answered": func(ctx context.Context) error {
			<-ctx.Done()
			return unavailable
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, out, log := newHandler(t)
			for _, sink := range []string{"a", "b", "c", "d"} {
				it := dlq.Item{Sink: sink, DeliveryID: sink, Reason: dlq.ReasonTerminal, LastError: "x", Message: sinks.Message{ID: sink, Body: "x"}}
				if _, err := h.app.Queue.Add(t.Context(), it); err != nil {
					t.Fatal(err)
				}
			}
			h.queues = partly{h.app.Queue, func(ctx context.Context, sink string) error {
				if sink == "a" || sink == "c" {
					return fault(ctx)
				}
				return nil
			}}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := h.Invoke(ctx, []byte(`{}`)); err != nil {
				t.Fatal(err)
			}
			if ctx.Err() != nil {
				t.Error("the deadline passed before the answer")
			}
			measured := map[string]bool{}
			for line := range strings.Lines(out.String()) {
				var doc struct {
					Sink     string
					DLQDepth *float64
				}
				if err := json.Unmarshal([]byte(line), &doc); err != nil {
					t.Fatal(err)
				}
				if doc.Sink != "" && doc.DLQDepth != nil {
					measured[doc.Sink] = true
				}
			}
			if measured["a"] || !measured["b"] || measured["c"] || !measured["d"] {
				t.Errorf("measured %v, want b and d:\n%s", measured, out)
			}
			for _, sink := range []string{"a", "c"} {
				if !strings.Contains(log.String(), `"queue not measured","sink":"`+sink+`"`) {
					t.Errorf("nothing is said of %s: %s", sink, log)
				}
			}
		})
	}
}

// Nobody reads the schedule's summary: what it says of a sink is in the log.
func TestWhatASummarySaysOfASinkIsLogged(t *testing.T) {
	h, _, log := newHandler(t)
	answer, err := h.Invoke(t.Context(), []byte(`{"sinks":["known","typo"]}`))
	if err != nil || !strings.Contains(string(answer), `"typo":{`) {
		t.Fatalf("got %s, %v; want the unknown sink named", answer, err)
	}
	if !strings.Contains(log.String(), `"sink":"typo"`) || !strings.Contains(log.String(), "SINK_NOT_FOUND") || strings.Contains(log.String(), `"sink":"known"`) {
		t.Errorf("the log says %s", log)
	}
}

// A run that leaves a sink alone says so, why and until when: it is not the schedule that does
// not work.
func TestASinkThatIsLeftAloneIsLogged(t *testing.T) {
	h, _, log := newHandler(t)
	it := dlq.Item{Sink: "down", DeliveryID: "d", Reason: dlq.ReasonExhausted, LastError: "x", Message: sinks.Message{ID: "d", Body: "x"}}
	if _, err := h.app.Queue.Add(t.Context(), it); err != nil {
		t.Fatal(err)
	}
	seen, err := h.app.Gate.Store.Look(t.Context(), "down")
	if err != nil {
		t.Fatal(err)
	}
	next := time.UnixMilli(seen.Now + 60_000)
	state, err := json.Marshal(flow.State{Status: flow.Open, Since: seen.Now, Next: next.UnixMilli(), Error: "HTTP 503"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.app.Gate.Store.Swap(t.Context(), "down", "sink", flow.Swap{New: string(state), At: seen.Now}); err != nil {
		t.Fatal(err)
	}
	answer, err := h.Invoke(t.Context(), []byte(`{}`))
	if err != nil || !strings.Contains(string(answer), `"held_back":"the receiver is left alone since it failed: HTTP 503"`) {
		t.Fatalf("got %s, %v", answer, err)
	}
	want := `"level":"INFO","msg":"sink left alone","sink":"down","why":"the receiver is left alone since it failed: HTTP 503","next_probe":"` + next.UTC().Format("2006-01-02T15:04")
	if !strings.Contains(log.String(), want) {
		t.Errorf("the log lacks %s: %s", want, log)
	}
}
