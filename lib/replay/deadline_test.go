package replay_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// P2: it stops in time, and what it claimed and did not send is due as before.
func TestARunEndsBeforeItsDeadlineAndGivesBackTheRest(t *testing.T) {
	for _, timeout := range []time.Duration{2 * time.Second, 10 * time.Second, 29 * time.Second, time.Minute} {
		t.Run(timeout.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink := dlq.NewMemory(), &receiver{name: "a", answer: takes(300*time.Millisecond, nil)}
				push(t, store, "a", "m", 2000)
				e := engine(store, configured(replay.Policy{Concurrency: 3}, sink))
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				start := time.Now()
				s, err := e.Run(ctx, replay.Request{})
				if err != nil || time.Since(start) >= timeout {
					t.Fatalf("ended after %s with %v, want before %s", time.Since(start), err, timeout)
				}
				if s.Delivered == 0 || s.Failed+s.Parked != 0 || s.Delivered != int64(len(sink.calls())) {
					t.Errorf("summary %+v with %d sends, want all of them delivered", s, len(sink.calls()))
				}
				if s.Delivered+s.Remaining != 2000 {
					t.Errorf("delivered %d and remaining %d, want 2000 together", s.Delivered, s.Remaining)
				}
				left := 0
				for { // an answer is bounded
					leased, err := store.Claim(t.Context(), dlq.Claim{Sink: "a", Limit: 1000, TTL: time.Hour})
					if err != nil {
						t.Fatal(err)
					}
					if len(leased) == 0 {
						break
					}
					left += len(leased)
				}
				if int64(left) != s.Remaining {
					t.Errorf("%d items are claimable, want all %d: nothing may stay leased", left, s.Remaining)
				}
			})
		})
	}
}

func TestAHangingSinkDoesNotHoldUpTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		sink := &receiver{name: "a", answer: func(context.Context, sinks.Message) error { time.Sleep(time.Hour); return nil }}
		id := push(t, store, "a", "m", 5)[0]
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		s, err := engine(store, configured(replay.Policy{}, sink)).Run(ctx, replay.Request{})
		if err != nil || time.Since(start) >= 10*time.Second {
			t.Fatalf("ended after %s with %v", time.Since(start), err)
		}
		if s.Failed != 1 || get(t, store, id).Replays != 1 {
			t.Errorf("summary %+v, item %+v; want the failure settled", s, get(t, store, id))
		}
		time.Sleep(time.Hour) // the sink's goroutine ends within the test
	})
}

func TestACanceledRunSettlesWhatItSentAndChargesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		ids := push(t, store, "a", "m", 30)
		sink.answer = func(ctx context.Context, m sinks.Message) error {
			if len(sink.calls()) > 5 {
				return takes(time.Minute, nil)(ctx, m)
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		s, err := engine(store, configured(replay.Policy{Concurrency: 4}, sink)).Run(ctx, replay.Request{})
		if err != nil || s.Delivered != 5 {
			t.Errorf("summary %+v, %v; want 5 delivered", s, err)
		}
		left := 0
		for _, id := range ids {
			it, err := store.Get(t.Context(), id)
			if fault.CodeOf(err) == fault.CodeDLQNotFound {
				continue
			}
			left++
			if it.Replays != 0 || !it.State(time.Now()).Scheduled() {
				t.Errorf("item %+v, want due and not charged", it)
			}
		}
		if left != 25 {
			t.Errorf("%d items are left, want 25", left)
		}
	})
}

// A lease that cannot cover another send is given back: the fence protects the item,
// only this protects the receiver.
func TestNoSendStartsUnderALeaseThatMayEndBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Without a deadline leases last 15 minutes and 5 seconds. The first send of the
		// batch of two takes 9 of them.
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		sink.answer = func(ctx context.Context, m sinks.Message) error {
			if len(sink.calls()) == 1 {
				return nil
			}
			return takes(9*time.Minute, nil)(ctx, m)
		}
		push(t, store, "a", "m", 3)
		e := engine(store, targets{"a": {
			Sink: sink, Retry: retry.Config{AttemptTimeout: 10 * time.Minute}, Replay: replay.Policy{Concurrency: 1},
		}})
		s := run(t, e, replay.Request{})
		if s.Delivered != 2 || s.Skipped != 1 || s.Remaining != 1 {
			t.Errorf("summary %+v, want 2 delivered and the third given back", s)
		}
		if s := run(t, e, replay.Request{}); s.Delivered != 1 {
			t.Errorf("summary %+v, want the third delivered under a lease of its own", s)
		}
	})
}

// The attempts of a replay end in time for settling under its lease, however many its
// policy allows: another replayer may send the item when the lease is over.
func TestNoAttemptOutlastsItsLease(t *testing.T) {
	for name, replayed := range map[string]func(t *testing.T, e *replay.Engine, id string) error{
		"the schedule": func(t *testing.T, e *replay.Engine, _ string) error {
			t.Helper()
			_, err := e.Run(t.Context(), replay.Request{})
			return err
		},
		"an operator": func(t *testing.T, e *replay.Engine, id string) error {
			t.Helper()
			_, err := e.ReplayOne(t.Context(), id, replay.OneOptions{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Without a deadline a lease lasts 15 minutes and 5 seconds; three attempts of 9
				// minutes do not fit.
				const lease = 15*time.Minute + 5*time.Second
				store, sink := dlq.NewMemory(), &receiver{name: "a", answer: takes(9*time.Minute, errDown)}
				id := push(t, store, "a", "m", 1)[0]
				e := engine(store, targets{"a": {Sink: sink, Retry: retry.Config{AttemptTimeout: 10 * time.Minute}, Replay: replay.Policy{Attempts: 3}}})
				start := time.Now()
				if err := replayed(t, e, id); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start); took >= lease || len(sink.calls()) != 2 {
					t.Errorf("%d attempts ended after %s, want two within a lease of %s", len(sink.calls()), took, lease)
				}
				if it := get(t, store, id); it.Replays != 1 || it.Deaths != 0 {
					t.Errorf("item %+v, want it charged once, and settled under its lease", it)
				}
			})
		})
	}
}

// late delays settlements, as a frozen process does.
type late struct {
	dlq.Store
	by time.Duration
}

func (s late) Settle(ctx context.Context, settlements []dlq.Settlement) ([]dlq.SettleResult, error) {
	time.Sleep(s.by)
	return s.Store.Settle(context.WithoutCancel(ctx), settlements)
}

func TestALateHolderChangesNothingAndReportsIt(t *testing.T) {
	tests := []struct {
		name        string
		late, other func(context.Context, sinks.Message) error
	}{
		{"a late success does not discard what another one failed to deliver", nil, fails(errDown)},
		{"a late failure does not make due what another one delivered", fails(errDown), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := dlq.NewMemory()
				first, second := &receiver{name: "a", answer: tt.late}, &receiver{name: "a", answer: tt.other}
				id := push(t, store, "a", "m", 1)[0]
				keep := replay.Policy{OnSuccess: replay.OnSuccessKeep, BaseDelay: time.Hour}
				frozen := engine(late{store, 20 * time.Minute}, configured(keep, first))
				seen := &counter{}
				frozen.Observer = seen
				log := logged(frozen)
				var late replay.Summary
				var all sync.WaitGroup
				all.Go(func() { late = run(t, frozen, replay.Request{}) })
				time.Sleep(16 * time.Minute) // its lease is over
				if s := run(t, engine(store, configured(keep, second)), replay.Request{}); s.Claimed != 1 {
					t.Fatalf("the item of a dead holder was not taken over: %+v", s)
				}
				before := get(t, store, id)
				all.Wait()
				after := get(t, store, id)
				if b, a := asJSON(t, before), asJSON(t, after); a != b {
					t.Errorf("the late holder changed the item:\n%s\nto\n%s", b, a)
				}
				if late.Skipped != 1 || late.Delivered+late.Failed != 0 || *seen != (counter{}) {
					t.Errorf("summary %+v, observed %d and %d; want 1 skipped", late, seen.delivered, seen.failed)
				}
				if !strings.Contains(log.String(), "not recorded") {
					t.Errorf("nothing in the log: %s", log)
				}
			})
		})
	}
}

// vague is a store that settles, and does not say so.
type vague struct{ dlq.Store }

func (s vague) Settle(ctx context.Context, settlements []dlq.Settlement) ([]dlq.SettleResult, error) {
	_, err := s.Store.Settle(ctx, settlements)
	return make([]dlq.SettleResult, len(settlements)), err
}

func TestAnOutcomeIsRecordedOnlyWhereTheStoreSaysSo(t *testing.T) {
	store, sink := dlq.NewMemory(), &receiver{name: "a"}
	ids := push(t, store, "a", "m", 2)
	e := engine(vague{store}, configured(replay.Policy{}, sink))
	log := logged(e)
	if _, err := e.ReplayOne(t.Context(), ids[0], replay.OneOptions{}); err == nil {
		t.Error("an operator's replay counts as recorded")
	}
	if s, err := e.Run(t.Context(), replay.Request{}); fault.CodeOf(err) != fault.CodeInternal || s.Skipped != 1 || s.Delivered != 0 {
		t.Errorf("%+v, %v; want 1 skipped, and INTERNAL", s, err)
	}
	if !strings.Contains(log.String(), "not recorded") {
		t.Errorf("nothing in the log: %s", log)
	}
}

func asJSON(tb testing.TB, v any) string {
	tb.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

func TestACrashedReplayersItemsComeBackWhenItsLeaseEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		push(t, store, "a", "m", 5)
		// A process with a deadline in 10 s claimed three and died.
		if _, err := store.Claim(t.Context(), dlq.Claim{Sink: "a", Limit: 3, TTL: 15 * time.Second}); err != nil {
			t.Fatal(err)
		}
		e := engine(store, configured(replay.Policy{}, sink))
		if s := run(t, e, replay.Request{}); s.Delivered != 2 || s.Remaining != 3 {
			t.Errorf("while it may live: %+v, want the other 2", s)
		}
		time.Sleep(15 * time.Second)
		if s := run(t, e, replay.Request{}); s.Delivered != 3 || s.Remaining != 0 {
			t.Errorf("after its lease: %+v, want its 3", s)
		}
	})
}

// down is a store that cannot be reached, for some calls.
type down struct {
	dlq.Store
	all    bool
	settle *int // fails so often
}

var errRedis = &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "connection refused"}

func (s down) Sinks(ctx context.Context) ([]string, error) {
	if s.all {
		return nil, errRedis
	}
	return s.Store.Sinks(ctx)
}

func (s down) Settle(ctx context.Context, settlements []dlq.Settlement) ([]dlq.SettleResult, error) {
	if *s.settle > 0 {
		*s.settle--
		return nil, errRedis
	}
	return s.Store.Settle(ctx, settlements)
}
