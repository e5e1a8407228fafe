package delivery_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// windowed is the bench's sink, whose receiver recognises a message for a while.
type windowed struct {
	*fakeSink
	window time.Duration
}

func (s windowed) DedupWindow() time.Duration { return s.window }

// recognisesFor gives the bench's receiver a window.
func (b *bench) recognisesFor(window time.Duration) {
	b.configure(func(t *delivery.Target) { t.Sink = windowed{b.sink, window} })
}

// overfull is a queue that takes nothing.
type overfull struct {
	dlq.Store
	err error
}

func (q overfull) Add(_ context.Context, it dlq.Item) (dlq.Item, error) { return it, q.err }

// Whoever takes a delivery over goes by the first attempt of all, as its record tells it. What the sender
// that died may have sent is not sent again once its receiver may have forgotten it.
func TestATakeoverKeepsToTheWindow(t *testing.T) {
	for name, c := range map[string]struct {
		window, after time.Duration
		queued        bool
		sent          int
	}{
		"a nanosecond before":          {10 * time.Minute, 9*time.Minute - 1, false, 1},
		"at the end":                   {10 * time.Minute, 9 * time.Minute, false, 0},
		"out of the queue, before":     {10 * time.Minute, 9*time.Minute - 1, true, 1},
		"out of the queue, at the end": {10 * time.Minute, 9 * time.Minute, true, 0},
		"for ever":                     {-1, 20 * time.Hour, false, 1},
		"never: at least once":         {0, 20 * time.Hour, false, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(nil)
			b.recognisesFor(c.window)
			first := time.Now()
			b.starts(t, false, time.Second)
			time.Sleep(c.after)
			r := ask(key.ID, "x")
			if c.queued {
				r = arrived(first)
			}
			a, err := b.Deliver(t.Context(), r)
			if err != nil || b.sink.sent != c.sent {
				t.Errorf("%s: %+v, %v after %d sends; want %d", name, a, err, b.sink.sent, c.sent)
			}
			if c.sent > 0 {
				return
			}
			it, err := b.queue.Get(t.Context(), a.ItemID)
			if err != nil || a.Reason != dlq.ReasonAmbiguous || it.Unanswered != 1 || it.Attempts != 0 || !it.FirstAttempt().Equal(first) {
				t.Errorf("%s: %+v, and the dead letter %+v, %v; want it ambiguous, first attempted at %s", name, a, it, err, first)
			}
			// The caller's second copy is answered, not sent.
			if a, err := b.Deliver(t.Context(), r); err != nil || a.Reason != dlq.ReasonAmbiguous || !a.Duplicate || b.sink.sent != 0 {
				t.Errorf("%s, again: %+v, %v after %d sends", name, a, err, b.sink.sent)
			}
		})
	}
}

// A message that a queue hands out again, as often as its dead letter cannot be stored, keeps its first
// attempt, and is sent no more in the end.
func TestWhatIsHandedBackKeepsToTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(sinks.Ambiguous(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no answer"}))
		b.recognisesFor(10 * time.Minute)
		full := &fault.Error{Code: fault.CodeDLQOverflow, Msg: "full"}
		b.Queue = overfull{b.queue, full}
		first := time.Now()
		end := first.Add(9 * time.Minute)
		b.sink.during = func() {
			if now := time.Now(); !now.Before(end) {
				t.Errorf("sent %s after the end of the window", now.Sub(end))
			}
		}
		for range 5 {
			if _, err := b.Deliver(t.Context(), arrived(first)); !errors.Is(err, full) {
				t.Fatalf("got %v, want it handed back", err)
			}
			time.Sleep(3 * time.Minute)
		}
		if b.sink.sent < 4 {
			t.Errorf("%d sends, want it sent while it is recognised", b.sink.sent)
		}
		b.Queue = b.queue
		a, err := b.Deliver(t.Context(), arrived(first))
		if err != nil || a.Reason != dlq.ReasonAmbiguous || a.Attempts != 0 {
			t.Errorf("in the end: %+v, %v; want it ambiguous, without another attempt", a, err)
		}
		if it, err := b.queue.Get(t.Context(), a.ItemID); err != nil || !it.FirstAttempt().Equal(first) || it.Unanswered != b.sink.sent {
			t.Errorf("dead letter %+v, %v; want its first attempt at %s, and %d unanswered", it, err, first, b.sink.sent)
		}
	})
}

// The same on Redis, whose record is JSON: its time is the first attempt's, exactly.
func TestARecordOfRedisKeepsTheFirstAttempt(t *testing.T) {
	b := newBench(nil)
	b.recognisesFor(time.Nanosecond)
	b.Records = delivery.NewRedis(redistest.Shared(t).Client(t), redistest.Prefix(), 0)
	b.starts(t, false, 0)
	began := b.status(t).BeganAt
	a, err := b.Deliver(t.Context(), ask(key.ID, "x"))
	if err != nil || a.Reason != dlq.ReasonAmbiguous || b.sink.sent != 0 {
		t.Fatalf("%+v, %v after %d sends", a, err, b.sink.sent)
	}
	if it, err := b.queue.Get(t.Context(), a.ItemID); err != nil || it.FirstAttempt().IsZero() || !it.FirstAttempt().Equal(began) {
		t.Errorf("first attempted at %s, %v; want %s", it.FirstAttempt(), err, began)
	}
}
