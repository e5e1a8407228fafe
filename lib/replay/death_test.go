package replay_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// process is a replayer that dies when it is killed: no call of its reaches a store from
// then on, and its sends never end within its time.
type process struct {
	dlq.Store
	operations replay.OperationStore
	dead       atomic.Bool
	end        context.CancelFunc
}

func (p *process) kill() {
	p.dead.Store(true)
	p.end()
}

func alive[T any](p *process, call func() (T, error)) (T, error) {
	if p.dead.Load() {
		var zero T
		return zero, errDead
	}
	return call()
}

func (p *process) Claim(ctx context.Context, c dlq.Claim) ([]dlq.Leased, error) {
	return alive(p, func() ([]dlq.Leased, error) { return p.Store.Claim(ctx, c) })
}

func (p *process) Settle(ctx context.Context, s []dlq.Settlement) ([]dlq.SettleResult, error) {
	return alive(p, func() ([]dlq.SettleResult, error) { return p.Store.Settle(ctx, s) })
}

func (p *process) Begin(ctx context.Context, l dlq.Lease) (bool, error) {
	return alive(p, func() (bool, error) { return p.Store.Begin(ctx, l) })
}

func (p *process) Release(ctx context.Context, l []dlq.Lease) error {
	_, err := alive(p, func() (any, error) { return nil, p.Store.Release(ctx, l) })
	return err
}

func (p *process) Ungate(ctx context.Context, sink, token string) error {
	_, err := alive(p, func() (any, error) { return nil, p.Store.Ungate(ctx, sink, token) })
	return err
}

// processOperations is a process as an OperationStore.
type processOperations struct {
	replay.OperationStore
	*process
}

func (p processOperations) Get(ctx context.Context, id string) (replay.Operation, error) {
	return p.OperationStore.Get(ctx, id)
}

func (p processOperations) Save(ctx context.Context, id, owner string, c replay.OperationChange) (replay.OperationStatus, error) {
	return alive(p.process, func() (replay.OperationStatus, error) { return p.OperationStore.Save(ctx, id, owner, c) })
}

// deadly is a world in which messages named so kill the process that sends them.
type deadly struct {
	store      dlq.Store
	operations replay.OperationStore
	now        atomic.Pointer[process]
	kills      int
}

func newDeadly() *deadly {
	return &deadly{store: dlq.NewMemory(), operations: replay.NewMemoryOperations()}
}

// sink returns a receiver whose killers kill at once; all others take some time.
func (w *deadly) sink(name string) *receiver {
	return &receiver{name: name, answer: func(ctx context.Context, m sinks.Message) error {
		if strings.HasPrefix(m.ID, "killer") {
			w.now.Load().kill()
			return ctx.Err()
		}
		return takes(20*time.Millisecond, nil)(ctx, m)
	}}
}

// tick runs a process of its own, whether it dies or not, and waits for the next minute.
func (w *deadly) tick(t *testing.T, to delivery.Targets) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	p := &process{Store: w.store, operations: w.operations, end: cancel}
	w.now.Store(p)
	e := engine(p, to)
	e.Operations = processOperations{w.operations, p}
	if _, err := e.Run(ctx, replay.Request{}); err != nil && !p.dead.Load() {
		t.Errorf("Run: %v", err)
	}
	cancel()
	if p.dead.Load() {
		w.kills++
	}
	time.Sleep(time.Minute - time.Since(began))
}

func (w *deadly) wantParked(t *testing.T, id string) {
	t.Helper()
	it := get(t, w.store, id)
	if !it.Parked || it.State(time.Now()).Scheduled() || len(it.History) != 4 || !strings.Contains(it.History[3].Error, "died three times") {
		t.Errorf("%+v, want it parked, with a history that says why", it)
	}
	if it.Replays != 3 || it.LastError != "HTTP 503" && it.LastError != "HTTP 404" {
		t.Errorf("%d replays charged, last error %q; want 3, and its own failure kept", it.Replays, it.LastError)
	}
}

// An item that kills every process that sends it costs three of them. What was leased or
// being sent at the same time is delivered all the same.
func TestAnItemThatKillsItsReplayersIsParked(t *testing.T) {
	for name, killers := range map[string]int{"one": 1, "several": 3} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newDeadly()
				a, b := w.sink("a"), w.sink("b")
				push(t, w.store, "a", "first", 15)
				ids := push(t, w.store, "a", "killer", killers)
				push(t, w.store, "a", "last", 45)
				push(t, w.store, "b", "other", 20)
				to := configured(replay.Policy{}, a, b)
				for range 4 * killers {
					w.tick(t, to)
				}
				for _, id := range ids {
					w.wantParked(t, id)
				}
				if got := depth(t, w.store, ""); got != int64(killers) {
					t.Errorf("%d items are left, want the %d parked ones", got, killers)
				}
				if w.kills > 3*killers {
					t.Errorf("%d processes died, want at most three for each of %d", w.kills, killers)
				}
				for id, n := range a.counts() {
					if strings.HasPrefix(id, "killer") && n > 3 {
						t.Errorf("%s was sent %d times, want at most 3", id, n)
					}
				}
			})
		})
	}
}

// The schedule has its time whatever a bulk operation does: one that never gets on is
// worked on last.
func TestABulkReplayThatKillsItsProcessesHoldsUpNoSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDeadly()
		a, b := w.sink("a"), w.sink("b")
		killers := push(t, w.store, "a", "killer", 4, idle)
		push(t, w.store, "a", "sound", 150, idle)
		to := configured(replay.Policy{}, a, b)
		e := engine(w.store, to)
		e.Operations = w.operations
		op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal()})
		// It gets on in the first tick, and in neither of the next two.
		for tick := range 16 {
			push(t, w.store, "b", "due"+string(rune('a'+tick)), 3)
			w.tick(t, to)
			if left := depth(t, w.store, "b"); tick > 2 && left != 0 {
				t.Errorf("tick %d left %d due items of another sink", tick, left)
			}
		}
		for _, id := range killers {
			w.wantParked(t, id)
		}
		got := progress(t, e, op.ID)
		if got.Status != replay.OperationCompleted || got.OperationCounts != counts(154, 150, 4, 0, 0) {
			t.Errorf("operation %+v, want it completed, 150 delivered and 4 failed", got)
		}
	})
}

// An operator may replay such an item all the same, and another outcome clears it.
func TestAnOperatorReplaysAnItemThatKilledItsReplayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newDeadly()
		a := w.sink("a")
		id := push(t, w.store, "a", "killer", 1)[0]
		to := configured(replay.Policy{}, a)
		for range 4 {
			w.tick(t, to)
		}
		w.wantParked(t, id)
		a.set(fails(errDown))
		e := engine(w.store, to)
		if r, err := e.ReplayOne(t.Context(), id, replay.OneOptions{}); err != nil || r.Status != replay.StatusFailed {
			t.Errorf("got %+v, %v; want an ordinary failure", r, err)
		}
		if it := get(t, w.store, id); it.Deaths != 0 || it.Parked || !it.State(time.Now()).Scheduled() {
			t.Errorf("%+v, want it due again", it)
		}
	})
}

// boaster says that it heeds the end of its attempts, and does not.
type boaster struct{ *receiver }

func (b boaster) EndsWithContext(sinks.Sink) bool { return true }

func TestASinkThatSaysItEndsWithItsContextAndHangsHoldsUpNoReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		hangs := &receiver{name: "hangs", dedup: true, answer: func(context.Context, sinks.Message) error { time.Sleep(time.Hour); return nil }}
		sound := &receiver{name: "sound"}
		to := configured(replay.Policy{}, sound)
		to["hangs"] = delivery.Target{Sink: boaster{hangs}}
		e := engine(store, to)
		id := push(t, store, "hangs", "m", 1)[0]
		other := push(t, store, "hangs", "never", 1, idle)[0]
		push(t, store, "sound", "m", 5)
		op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal()})
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		s, err := e.Run(ctx, replay.Request{})
		if err != nil || time.Since(began) >= 30*time.Second {
			t.Fatalf("ended after %s with %v", time.Since(began), err)
		}
		if s.Sinks["sound"].Delivered != 5 || get(t, store, id).Replays != 1 || get(t, store, other).Replays != 1 {
			t.Errorf("summary %+v, want the other sink replayed, and both hanging ones charged", s)
		}
		if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.Failed != 1 {
			t.Errorf("operation %+v, want it completed with a failure", got)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if r, err := e.ReplayOne(ctx, id, replay.OneOptions{}); err != nil || r.Status != replay.StatusFailed || ctx.Err() != nil {
			t.Errorf("an operator's replay: %+v, %v; want it failed in time", r, err)
		}
		time.Sleep(2 * time.Hour) // the sink's goroutines end within the test
	})
}
