package hub_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"

	"example.org/realtime/hub"
)

// phones is a carrier that counts what it takes.
type phones struct {
	down  bool
	taken []string
}

func (p *phones) take(_ context.Context, phone, text string) error {
	if p.down {
		return errors.New("no route to " + phone)
	}
	p.taken = append(p.taken, phone+" "+text)
	return nil
}

var once = retry.Config{MaxAttempts: 1}

// open returns a hub with SMS.
func open(queue dlq.Store) (*hub.Hub, *phones) {
	p := &phones{}
	h := hub.New(queue)
	h.Register(hub.SMS{Carrier: p.take}, once)
	return h, p
}

func publish(t *testing.T, h *hub.Hub, sink string) (hub.Route, error) {
	t.Helper()
	return h.PublishOrSink(t.Context(), "ada", []byte("live"), sink, hub.Phone{Number: "1"}, sinks.Message{ID: "m", Body: "text"})
}

func count(t *testing.T, queue dlq.DLQ) int64 {
	t.Helper()
	n, err := queue.Count(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestWhoListensHearsItAndNoSinkIsAsked(t *testing.T) {
	h, p := open(dlq.NewMemory())
	heard, stop := h.Subscribe("ada")
	defer stop()
	if route, err := publish(t, h, "sms"); route != hub.Live || err != nil {
		t.Fatalf("got %s, %v", route, err)
	}
	if got := string(<-heard); got != "live" || len(p.taken) != 0 {
		t.Errorf("heard %q, and the carrier took %q", got, p.taken)
	}
}

func TestWhatNobodyTakesGoesOutOfBand(t *testing.T) {
	h, p := open(dlq.NewMemory())
	_, stop := h.Subscribe("ada")
	stop()
	_, stopOther := h.Subscribe("bob")
	defer stopOther()
	if route, err := publish(t, h, "sms"); route != hub.OutOfBand || err != nil || len(p.taken) != 1 || p.taken[0] != "1 text" {
		t.Errorf("got %s, %v, and the carrier took %q", route, err, p.taken)
	}
	// A listener that does not keep up has not heard it.
	_, stop = h.Subscribe("ada")
	defer stop()
	for range 16 {
		if route, err := publish(t, h, "sms"); route != hub.Live || err != nil {
			t.Fatalf("got %s, %v", route, err)
		}
	}
	if route, err := publish(t, h, "sms"); route != hub.OutOfBand || err != nil || len(p.taken) != 2 {
		t.Errorf("got %s, %v, and the carrier took %q", route, err, p.taken)
	}
}

func TestAMessageInTheQueueIsSafeAndOneThatIsNotIsTheCallers(t *testing.T) {
	queue := dlq.NewMemory(dlq.WithMaxLen(1), dlq.WithOverflow(dlq.OverflowReject))
	h, p := open(queue)
	p.down = true
	if route, err := publish(t, h, "sms"); route != hub.OutOfBand || err != nil || count(t, queue) != 1 {
		t.Errorf("got %s, %v, and %d kept; want it kept without an error", route, err, count(t, queue))
	}
	_, err := h.PublishOrSink(t.Context(), "ada", nil, "sms", hub.Phone{Number: "1"}, sinks.Message{ID: "n", Body: "text"})
	if fault.CodeOf(err) != fault.CodeDLQOverflow {
		t.Errorf("a full queue: %v, want %s", err, fault.CodeDLQOverflow)
	}
	if _, err := publish(t, h, "fax"); fault.CodeOf(err) != fault.CodeSinkNotFound {
		t.Errorf("an unknown sink: %v, want %s", err, fault.CodeSinkNotFound)
	}
	if _, err := h.PublishOrSink(t.Context(), "ada", nil, "sms", nil, sinks.Message{ID: "o", Body: "text"}); fault.CodeOf(err) != fault.CodeDLQOverflow {
		t.Errorf("no phone: %v, want it refused by the full queue", err)
	}
}

func TestWhatIsKeptIsReplayed(t *testing.T) {
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(slog.New(slog.DiscardHandler))
	synctest.Test(t, func(t *testing.T) {
		queue := dlq.NewMemory()
		h, p := open(queue)
		p.down = true
		if _, err := publish(t, h, "sms"); err != nil {
			t.Fatal(err)
		}
		if s, err := h.ReplayDue(t.Context()); err != nil || s.Failed != 1 || count(t, queue) != 1 {
			t.Errorf("while it is down: %+v, %v, %d kept", s, err, count(t, queue))
		}
		p.down = false
		time.Sleep(2 * time.Minute) // due again after about one
		s, err := h.ReplayDue(t.Context())
		if err != nil || s.Delivered != 1 || count(t, queue) != 0 || len(p.taken) != 1 || p.taken[0] != "1 text" {
			t.Errorf("when it is back: %+v, %v, %d kept, the carrier took %q", s, err, count(t, queue), p.taken)
		}
	})
}

// retrying retries by itself: the hub leaves it as it is.
type retrying struct{ sinks.Sink }

func (retrying) IsRetrier() bool { return true }

func TestASinkThatRetriesByItselfIsNotWrapped(t *testing.T) {
	queue := dlq.NewMemory()
	h := hub.New(queue)
	h.Register(retrying{hub.SMS{Carrier: (&phones{down: true}).take}}, once)
	if _, err := publish(t, h, "sms"); fault.CodeOf(err) != fault.CodeSinkUnavailable || count(t, queue) != 0 {
		t.Errorf("got %v and %d kept, want the sink's own error", err, count(t, queue))
	}
}
