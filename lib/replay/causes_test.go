package replay_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// causeCounter counts new causes by sink.
type causeCounter struct {
	replay.Observer

	mu   sync.Mutex
	seen map[string]int
}

func (c *causeCounter) NewCauses(_ context.Context, sink string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[sink] += n
}

// failed puts dead letters that the schedule leaves alone into the queue of a sink.
func failed(t *testing.T, s dlq.Store, sink, text string, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, err := s.Add(t.Context(), dlq.Item{
			Sink: sink, DeliveryID: id, Message: sinks.Message{ID: id, Body: "b"}, Reason: dlq.ReasonTerminal, LastError: text,
		}); err != nil {
			t.Fatal(err)
		}
	}
}

func listenForCauses(on ...delivery.Fate) (*listening, *causeCounter) {
	l := listen(replay.Policy{})
	a := l.targets["a"]
	a.Events = delivery.Events{To: "audit", On: on}
	l.targets["a"] = a
	c := &causeCounter{seen: map[string]int{}}
	l.Observer = c
	return l, c
}

// A new way to fail is told once, however many dead letters have it; and again only where it was not heard.
func TestANewCauseIsTold(t *testing.T) {
	l, c := listenForCauses(delivery.FateNewCause)
	tick := func(want ...string) {
		t.Helper()
		run(t, l.Engine, replay.Request{})
		got := []string{}
		for _, h := range l.heard {
			got = append(got, h.Data.Fate+" "+h.Data.Reason+" "+h.Data.Cause.Fingerprint)
		}
		if !slices.Equal(got, want) {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	failed(t, l.store, "a", "HTTP 410", "1", "2", "3")
	failed(t, l.store, "other", "HTTP 410", "1") // not configured: nobody is told, and it is counted
	tick("new_cause terminal HTTP 410")
	tick("new_cause terminal HTTP 410")
	failed(t, l.store, "a", "HTTP 410", "4")
	tick("new_cause terminal HTTP 410")
	failed(t, l.store, "a", "HTTP 422", "5")
	tick("new_cause terminal HTTP 410", "new_cause terminal HTTP 422")
	if c.seen["a"] != 2 || c.seen["other"] != 1 {
		t.Errorf("counted %v, want 2 of a and 1 of other", c.seen)
	}
	h := l.heard[0]
	groups, err := l.store.Groups(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(groups, func(g dlq.Group) bool { return g.ID() == h.Data.Cause.ID && g.FirstSeen.Equal(h.Data.Cause.FirstSeen) }) ||
		!strings.HasPrefix(h.Data.ItemID, "a~") || h.Data.Count != 3 || !strings.HasPrefix(h.ID, "event:") || l.heard[1].ID == h.ID {
		t.Errorf("the event says %+v, of %+v", h, groups)
	}
}

// An event that can be neither sent nor dead-lettered is sent at a later tick: the same.
func TestANewCauseThatWasNotToldIsToldLater(t *testing.T) {
	l, c := listenForCauses(delivery.FateNewCause)
	broken := errors.New("away")
	queue := &fullFor{Memory: l.store, sink: "audit", err: &fault.Error{Code: fault.CodeDLQUnavailable, Cause: broken}}
	l.sender.Queue = queue
	l.audit.answer = func(context.Context, sinks.Message) error { return sinks.Transient(broken) }
	failed(t, l.store, "a", "HTTP 410", "1")
	run(t, l.Engine, replay.Request{})
	if len(l.heard) != 0 || c.seen["a"] != 0 {
		t.Fatalf("heard %d, counted %v; want neither", len(l.heard), c.seen)
	}
	l.audit.answer = l.hear
	for range 2 {
		run(t, l.Engine, replay.Request{})
	}
	if len(l.heard) != 1 || c.seen["a"] != 1 {
		t.Errorf("heard %d, counted %v; want one each", len(l.heard), c.seen)
	}
}

// A dead letter of the event is as good as the event: the schedule replays it.
func TestANewCauseWhoseEventIsDeadLetteredIsTold(t *testing.T) {
	l, c := listenForCauses(delivery.FateNewCause)
	l.audit.answer = func(context.Context, sinks.Message) error { return sinks.Terminal(errors.New("no")) }
	failed(t, l.store, "a", "HTTP 410", "1")
	for range 2 {
		run(t, l.Engine, replay.Request{})
	}
	if n, err := l.store.Count(t.Context(), "audit"); err != nil || n != 1 || c.seen["a"] != 1 {
		t.Errorf("%d dead letters of audit (%v), counted %v; want one each", n, err, c.seen)
	}
}

// A sink that has other fates told, or none, has its new causes counted all the same.
func TestANewCauseThatIsNotAskedForIsCounted(t *testing.T) {
	l, c := listenForCauses(delivery.FateDelivered)
	failed(t, l.store, "a", "HTTP 410", "1")
	for range 2 {
		run(t, l.Engine, replay.Request{})
	}
	if len(l.heard) != 0 || c.seen["a"] != 1 {
		t.Errorf("heard %d, counted %v; want none, and one", len(l.heard), c.seen)
	}
}

// fullFor refuses the dead letters of one sink.
type fullFor struct {
	*dlq.Memory
	sink string
	err  error
}

func (f *fullFor) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	if it.Sink == f.sink {
		return dlq.Item{}, f.err
	}
	return f.Memory.Add(ctx, it)
}
