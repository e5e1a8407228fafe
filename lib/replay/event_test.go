package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/delivery/fate"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// listening is an engine whose sink "a" has its fates told through "audit".
type listening struct {
	*replay.Engine
	store   *dlq.Memory
	records *delivery.Memory
	sink    *receiver
	audit   *receiver
	sender  *delivery.Sender
	targets targets

	mu    sync.Mutex
	heard []heard
	// during is called while an event is sent. Nil: nothing happens.
	during func(heard)
}

// heard is what tests look at of an event.
type heard struct {
	ID   string
	Data struct {
		Fate, Reason, Error string
		DeliveryID          string `json:"delivery_id"`
		ItemID              string `json:"item_id"`
		Attempts            int
		RecipientGone       bool `json:"recipient_gone"`
		Cause               struct {
			ID, Fingerprint string
			FirstSeen       time.Time `json:"first_seen"`
		}
		Count int
	}
}

func listen(p replay.Policy) *listening {
	l := &listening{store: dlq.NewMemory(), records: delivery.NewMemory(0), sink: &receiver{name: "a"}}
	l.audit = &receiver{name: "audit", answer: l.hear}
	l.targets = configured(p, l.sink, l.audit)
	a := l.targets["a"]
	// New causes have a test of their own.
	a.Events = delivery.Events{To: "audit", On: slices.DeleteFunc(slices.Clone(fate.All), func(f delivery.Fate) bool { return f == delivery.FateNewCause })}
	l.targets["a"] = a
	l.sender = &delivery.Sender{Targets: l.targets, Queue: l.store, Records: l.records, Log: slog.New(slog.DiscardHandler)}
	l.Engine = engine(l.store, l.targets)
	l.Records, l.Events = l.records, &delivery.Eventer{Sender: l.sender}
	l.sender.Events = l.Events
	return l
}

func (l *listening) hear(_ context.Context, m sinks.Message) error {
	var h heard
	if err := json.Unmarshal([]byte(m.Body), &h); err != nil {
		return sinks.Terminal(err)
	}
	if l.during != nil {
		l.during(h)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, h)
	return nil
}

func (l *listening) fates() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var fates []string
	for _, h := range l.heard {
		fates = append(fates, h.Data.Fate+" "+h.Data.DeliveryID)
	}
	slices.Sort(fates)
	return fates
}

// Each fate that a dead letter meets is told while it is there still.
func TestAFateIsToldBeforeItsDeadLetterGoes(t *testing.T) {
	ctx := t.Context()
	gone := sinks.Gone(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 410"})
	operation := func(a replay.OperationAction) func(*testing.T, *listening, string) {
		return func(t *testing.T, l *listening, id string) {
			t.Helper()
			if _, err := l.CreateOperation(ctx, replay.OperationRequest{Action: a, IDs: []string{id}}); err != nil {
				t.Fatal(err)
			}
			run(t, l.Engine, replay.Request{Sinks: []string{"audit"}})
		}
	}
	for name, c := range map[string]struct {
		answer func(context.Context, sinks.Message) error
		change func(*dlq.Item)
		do     func(t *testing.T, l *listening, id string)
		want   string // the fate; empty: none
		reason string
		tries  int
		gone   bool
	}{
		"the schedule delivers it": {
			do: func(t *testing.T, l *listening, _ string) { run(t, l.Engine, replay.Request{}) }, want: "delivered_by_replay", tries: 6,
		},
		"an operator replays it": {do: func(t *testing.T, l *listening, id string) {
			if _, err := l.ReplayOne(ctx, id, replay.OneOptions{}); err != nil {
				t.Error(err)
			}
		}, want: "delivered_by_replay", tries: 6},
		"an operator replays it, and keeps it": {do: func(t *testing.T, l *listening, id string) {
			if _, err := l.ReplayOne(ctx, id, replay.OneOptions{OnSuccess: replay.OnSuccessKeep}); err != nil {
				t.Error(err)
			}
		}, want: "delivered_by_replay", tries: 6},
		"a bulk operation replays it": {do: operation(replay.OperationReplay), want: "delivered_by_replay", tries: 6},
		"it fails, and may pass": {
			answer: fails(errDown), do: func(t *testing.T, l *listening, _ string) { run(t, l.Engine, replay.Request{}) },
		},
		"it fails too often": {
			answer: fails(gone), change: func(it *dlq.Item) { it.Replays = 9 },
			do: func(t *testing.T, l *listening, _ string) { run(t, l.Engine, replay.Request{}) }, want: "parked", reason: "terminal", tries: 6, gone: true,
		},
		"its time is over": {
			change: func(it *dlq.Item) { it.ExpiresAt = time.Now().Add(-time.Second) },
			do:     func(t *testing.T, l *listening, _ string) { run(t, l.Engine, replay.Request{}) }, want: "expired", reason: "expired", tries: 5,
		},
		"an operator discards it": {do: func(t *testing.T, l *listening, id string) {
			if err := l.Discard(ctx, get(t, l.store, id)); err != nil {
				t.Error(err)
			}
		}, want: "discarded", reason: "exhausted", tries: 5},
		"a bulk operation discards it": {do: operation(replay.OperationDiscard), want: "discarded", reason: "exhausted", tries: 5},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(replay.Policy{})
			if c.answer != nil {
				l.sink.set(c.answer)
			}
			change := c.change
			if change == nil {
				change = func(*dlq.Item) {}
			}
			id := push(t, l.store, "a", "m", 1, change)[0]
			before := get(t, l.store, id)
			l.during = func(heard) {
				if now := get(t, l.store, id); now.Parked != before.Parked || !now.ExpiredAt.IsZero() || !now.DeliveredAt.IsZero() {
					t.Errorf("it was settled before it was told: %+v", now)
				}
				if rec, known, err := l.records.Get(ctx, delivery.Key{Sink: "a", ID: "m0"}); known || err != nil {
					t.Errorf("it was noted before it was told: %+v, %v", rec, err)
				}
			}
			c.do(t, l, id)
			if c.want == "" {
				if len(l.heard) > 0 {
					t.Errorf("told %+v", l.heard)
				}
				return
			}
			if len(l.heard) != 1 {
				t.Fatalf("told %+v, want %s", l.heard, c.want)
			}
			if d := l.heard[0].Data; d.Fate != c.want || d.DeliveryID != "m0" || d.ItemID != id || d.Attempts != c.tries || d.Reason != c.reason || d.RecipientGone != c.gone {
				t.Errorf("told %+v", d)
			}
		})
	}
}

// Of a kept letter that was delivered, one that is leased, and one that is gone, nothing is told by a
// discard.
func TestADiscardTellsOnlyWhatIsTrue(t *testing.T) {
	ctx := t.Context()
	l := listen(replay.Policy{})
	ids := push(t, l.store, "a", "m", 3)
	items := []dlq.Item{get(t, l.store, ids[0]), get(t, l.store, ids[1]), {}}
	leased, err := l.store.Claim(ctx, dlq.Claim{Sink: "a", IDs: ids[:1], Limit: 1, Token: "t", TTL: time.Minute})
	if err != nil || len(leased) != 1 {
		t.Fatal(leased, err)
	}
	if err := l.Discard(ctx, items[0]); fault.CodeOf(err) != fault.CodeItemLeased {
		t.Errorf("leased: %v", err)
	}
	if err := l.store.Discard(ctx, ids[1]); err != nil {
		t.Fatal(err)
	}
	if err := l.Discard(ctx, items[1]); err != nil {
		t.Errorf("gone: %v", err)
	}
	if _, err := l.ReplayOne(ctx, ids[2], replay.OneOptions{OnSuccess: replay.OnSuccessKeep}); err != nil {
		t.Fatal(err)
	}
	if err := l.Discard(ctx, get(t, l.store, ids[2])); err != nil || depth(t, l.store, "a") != 1 {
		t.Errorf("kept: %v, %d left", err, depth(t, l.store, "a"))
	}
	if got := l.fates(); !slices.Equal(got, []string{"delivered_by_replay m2"}) {
		t.Errorf("told %v", got)
	}
}

// noRoom takes no dead letters of events, and no records of what is owed.
type noRoom struct {
	dlq.Store
	away bool
}

func (q *noRoom) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	if q.away && it.Sink == "audit" {
		return dlq.Item{}, &fault.Error{Code: fault.CodeDLQOverflow, Msg: "full"}
	}
	return q.Store.Add(ctx, it)
}

type noOwing struct {
	delivery.Store
	away bool
}

func (r *noOwing) Owe(ctx context.Context, rec delivery.Record) error {
	if r.away {
		return errors.New("nobody answers")
	}
	return r.Store.Owe(ctx, rec)
}

// An event that can be neither sent nor kept keeps its dead letter from being settled; once there
// is a place for it, all goes on.
func TestADeadLetterWhoseFateCannotBeToldStays(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*dlq.Item)
		do     func(ctx context.Context, l *listening, id string) error
		want   string
	}{
		"the schedule delivers it": {
			do: func(ctx context.Context, l *listening, _ string) error {
				_, err := l.Run(ctx, replay.Request{})
				return err
			}, want: "delivered_by_replay m0",
		},
		"its time is over": {
			change: func(it *dlq.Item) { it.ExpiresAt = time.Now().Add(-time.Second) },
			do: func(ctx context.Context, l *listening, _ string) error {
				_, err := l.Run(ctx, replay.Request{})
				return err
			}, want: "expired m0",
		},
		"an operator replays it": {do: func(ctx context.Context, l *listening, id string) error {
			_, err := l.ReplayOne(ctx, id, replay.OneOptions{})
			return err
		}, want: "delivered_by_replay m0"},
		"an operator discards it": {do: func(ctx context.Context, l *listening, id string) error {
			it, err := l.store.Get(ctx, id)
			if err != nil {
				return err
			}
			return l.Discard(ctx, it)
		}, want: "discarded m0"},
		"a bulk operation discards it": {do: func(ctx context.Context, l *listening, id string) error {
			if _, err := l.CreateOperation(ctx, replay.OperationRequest{Action: replay.OperationDiscard, IDs: []string{id}, IdempotencyKey: "k"}); err != nil {
				return err
			}
			_, err := l.Run(ctx, replay.Request{Sinks: []string{"audit"}})
			return err
		}, want: "discarded m0"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := listen(replay.Policy{})
				queue, records := &noRoom{l.store, true}, &noOwing{l.records, true}
				l.sender.Queue, l.sender.Records = queue, records
				l.audit.set(fails(errDown))
				change := c.change
				if change == nil {
					change = func(*dlq.Item) {}
				}
				id := push(t, l.store, "a", "m", 1, change)[0]
				do := func() error {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					defer cancel()
					return c.do(ctx, l, id)
				}
				if err := do(); fault.CodeOf(err) == "" {
					t.Errorf("it was settled: %v", err)
				}
				if it := get(t, l.store, id); !it.ExpiredAt.IsZero() || !it.DeliveredAt.IsZero() {
					t.Fatalf("it was settled: %+v", it)
				}
				l.audit.set(l.hear)
				time.Sleep(20 * time.Minute) // its lease is over
				if err := do(); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				if got := l.fates(); !slices.Equal(got, []string{c.want}) {
					t.Errorf("told %v, want %s", got, c.want)
				}
				if it, err := l.store.Get(t.Context(), id); err == nil && it.ExpiredAt.IsZero() {
					t.Errorf("it stays: %+v", it)
				}
			})
		})
	}
}

// What is owed is sent by the schedule.
func TestATickSendsWhatIsOwed(t *testing.T) {
	l := listen(replay.Policy{})
	l.sender.Queue = &noRoom{l.store, true}
	l.audit.set(fails(errDown))
	push(t, l.store, "a", "m", 2)
	run(t, l.Engine, replay.Request{})
	if owed, err := l.records.Owed(t.Context(), 10); err != nil || len(owed) != 2 || depth(t, l.store, "a") != 0 {
		t.Fatalf("owed %v, %v; %d letters left", owed, err, depth(t, l.store, "a"))
	}
	for _, id := range []string{"m0", "m1"} { // what is delivered, and what is owed of it, are both noted
		rec, _, err := l.records.Get(t.Context(), delivery.Key{Sink: "a", ID: id})
		if err != nil || rec.Status != delivery.StatusDelivered || len(rec.Pending) != 1 {
			t.Errorf("record %+v, %v", rec, err)
		}
	}
	l.audit.set(l.hear)
	run(t, l.Engine, replay.Request{})
	if got := l.fates(); !slices.Equal(got, []string{"delivered_by_replay m0", "delivered_by_replay m1"}) {
		t.Errorf("told %v", got)
	}
	if owed, err := l.records.Owed(t.Context(), 10); err != nil || len(owed) != 0 {
		t.Errorf("still owed %v, %v", owed, err)
	}
}

// The dead letters of events are replayed as any other, and nothing is told of them.
func TestAReplayedEventIsNotToldAgain(t *testing.T) {
	l := listen(replay.Policy{})
	l.audit.set(fails(errDown))
	audit := l.targets["audit"]
	audit.Events = delivery.Events{To: "a", On: l.targets["a"].Events.On} // which a configuration refuses
	l.targets["audit"] = audit
	push(t, l.store, "a", "m", 1)
	run(t, l.Engine, replay.Request{Sinks: []string{"a"}})
	if depth(t, l.store, "audit") != 1 || depth(t, l.store, "a") != 0 {
		t.Fatalf("%d events and %d letters kept", depth(t, l.store, "audit"), depth(t, l.store, "a"))
	}
	l.audit.set(l.hear)
	run(t, l.Engine, replay.Request{})
	if got := l.fates(); !slices.Equal(got, []string{"delivered_by_replay m0"}) || len(l.sink.calls()) != 1 {
		t.Errorf("told %v, and %d sent", got, len(l.sink.calls()))
	}
}

// counted counts what is asked of records: changes, not calls, for whatever is settled at the same time goes
// together.
type counted struct {
	delivery.Store
	calls int
}

func (c *counted) Update(ctx context.Context, changes ...delivery.Change) ([]delivery.Status, error) {
	c.calls += len(changes)
	return c.Store.Update(ctx, changes...)
}

func (c *counted) Owed(ctx context.Context, limit int) ([]delivery.Owed, error) {
	c.calls++
	return c.Store.Owed(ctx, limit)
}

func TestAReplayOfASinkWithoutEventsMakesNoMoreCalls(t *testing.T) {
	count := func(with bool) int {
		l := listen(replay.Policy{})
		l.targets["a"] = delivery.Target{Sink: l.sink}
		c := &counted{Store: l.records}
		l.Records, l.sender.Records = c, c
		if !with {
			l.Events = nil
		}
		id := push(t, l.store, "a", "m", 3)[0]
		if err := l.Discard(t.Context(), get(t, l.store, id)); err != nil {
			t.Fatal(err)
		}
		run(t, l.Engine, replay.Request{})
		return c.calls
	}
	if with, without := count(true), count(false); with != without || without == 0 {
		t.Errorf("%d questions and changes with an Eventer, %d without", with, without)
	}
}
