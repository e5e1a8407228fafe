package replay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/retry"
)

// expires gives items an expiry.
func expires(in time.Duration) func(*dlq.Item) {
	at := time.Now().Add(in)
	return func(it *dlq.Item) { it.ExpiresAt = at }
}

// An item that expires between the attempts of its replay gets no further one, and what may have
// arrived by then is counted.
func TestNoAttemptOfAReplayBeginsOnceItsItemHasExpired(t *testing.T) {
	for name, tt := range map[string]struct {
		err        error
		state      dlq.State // after the run
		replays    int
		unanswered int
	}{
		"failed attempts are not charged":       {errDown, dlq.StateExpired, 0, 0},
		"what may have arrived counts for more": {errMaybe, dlq.StateExpired, 1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// Its attempts begin after 0 s, 1.1 s and 3.2 s: the fourth would after 7.3 s.
				sink := &receiver{name: "a", dedup: true, answer: takes(100*time.Millisecond, tt.err)}
				store, seen, told := dlq.NewMemory(), &counter{}, &records{}
				id := push(t, store, "a", "m", 1, expires(7*time.Second+300*time.Millisecond))[0]
				at := get(t, store, id).ExpiresAt
				to := configured(replay.Policy{Attempts: 5}, sink)
				target := to["a"]
				target.Retry = retry.Config{NoJitter: true}
				to["a"] = target
				e := engine(store, to)
				e.Observer, e.Records = seen, told
				s := run(t, e, replay.Request{})
				if n := len(sink.calls()); n != 3 {
					t.Errorf("%d attempts, want 3", n)
				}
				time.Sleep(time.Until(at))
				again := run(t, e, replay.Request{})
				if got := s.Expired + again.Expired; got != 1 || seen.expired != 1 {
					t.Errorf("counted %d times in summaries, %d by the observer; want once", got, seen.expired)
				}
				it := get(t, store, id)
				if it.State(time.Now()) != tt.state || it.ExpiredAt.IsZero() || it.Replays != tt.replays || it.Unanswered != tt.unanswered {
					t.Errorf("%s, marked at %s, %d replays, %d unanswered; want %+v", it.State(time.Now()), it.ExpiredAt, it.Replays, it.Unanswered, tt)
				}
				if got := told.set[delivery.Key{Sink: "a", ID: "m0"}]; got != delivery.StatusExpired {
					t.Errorf("the record says %q, want expired", got)
				}
			})
		})
	}
}

// asked is a Gate that writes down when it was asked.
type asked struct {
	replay.Gate
	mu    sync.Mutex
	at    []time.Time // Ask
	slots []time.Time
}

func (g *asked) Ask(ctx context.Context, t flow.Try) flow.Leave {
	g.mu.Lock()
	g.at = append(g.at, time.Now())
	g.mu.Unlock()
	return g.Gate.Ask(ctx, t)
}

func (g *asked) Slot(ctx context.Context, sink, name string, r flow.Rate, latest time.Time) (time.Time, bool) {
	g.mu.Lock()
	g.slots = append(g.slots, time.Now())
	g.mu.Unlock()
	return g.Gate.Slot(ctx, sink, name, r, latest)
}

// What has expired by its turn takes no slot, and nobody is asked whether it may go.
func TestWhatExpiresBeforeItsTurnAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		push(t, store, "a", "m", 8, expires(2500*time.Millisecond))
		e := engine(store, configured(replay.Policy{Rate: 1, Concurrency: 10}, sink))
		gate := &asked{Gate: &flow.Gate{Store: &flow.Memory{}, Log: e.Log}}
		e.Gate = gate
		began := time.Now()
		s := run(t, e, replay.Request{})
		if s.Delivered != 3 || s.Expired != 5 || s.Claimed != 8 || len(sink.calls()) != 3 {
			t.Errorf("summary %+v, %d sends; want 3 delivered, after 0, 1 and 2 s, and 5 expired", s.Counts, len(sink.calls()))
		}
		if len(gate.slots) != 4 || len(gate.at) != 3 { // one waits for its slot when it expires
			t.Errorf("asked for %d slots, and %d times for leave; want 4 and 3", len(gate.slots), len(gate.at))
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("the run took %s, want no wait for what expired", took)
		}
	})
}

// shut is a Gate that lets nothing of a sink go.
type shut struct{ replay.Gate }

func (shut) Shut(context.Context, flow.Try) (flow.Leave, bool) {
	return flow.Leave{Verdict: flow.Refused, Why: "down", At: time.Now().Add(time.Hour)}, true
}

// A tick marks what is overdue, whatever its sink and it are like, and counts it once.
func TestEachRunMarksWhatIsOverdue(t *testing.T) {
	park := func(store dlq.Store, id string, a dlq.Action) error {
		name, _, _ := strings.Cut(id, "~")
		leased, err := store.Claim(context.Background(), dlq.Claim{Sink: name, IDs: []string{id}, TTL: time.Second})
		if err == nil && len(leased) == 1 {
			_, err = store.Settle(context.Background(), []dlq.Settlement{{Lease: leased[0].Lease, Action: a, Delay: 3 * time.Hour, Error: "HTTP 503"}})
		}
		return err
	}
	for name, open := range map[string]func(store dlq.Store, e *replay.Engine, sink *receiver) error{
		"configured": func(dlq.Store, *replay.Engine, *receiver) error { return nil },
		"paused": func(store dlq.Store, _ *replay.Engine, _ *receiver) error {
			return store.Pause(context.Background(), "a", true)
		},
		"not configured": func(_ dlq.Store, e *replay.Engine, _ *receiver) error { e.Targets = targets{}; return nil },
		"misconfigured": func(_ dlq.Store, e *replay.Engine, sink *receiver) error {
			e.Targets = targets{"a": {Sink: sink, ConfigErr: errors.New("no url")}}
			return nil
		},
		"left alone": func(_ dlq.Store, e *replay.Engine, _ *receiver) error { e.Gate = shut{}; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink, seen, told := dlq.NewMemory(), &receiver{name: "a"}, &counter{}, &records{}
				over := expires(time.Hour)
				ids := push(t, store, "a", "due", 120, over)
				ids = append(ids, push(t, store, "a", "waiting", 1, over, idle)...)
				for _, a := range []dlq.Action{dlq.ActionRetry, dlq.ActionPark, dlq.ActionHold} {
					id := push(t, store, "a", string(a), 1, over)[0]
					if err := park(store, id, a); err != nil {
						t.Fatal(err)
					}
					ids = append(ids, id)
				}
				live := push(t, store, "a", "live", 1, idle, expires(3*time.Hour))[0]
				marked := push(t, store, "a", "marked", 1, over, func(it *dlq.Item) { it.Reason = dlq.ReasonExpired })[0]
				e := engine(store, configured(replay.Policy{}, sink))
				e.Observer, e.Records = seen, told
				log := logged(e)
				if err := open(store, e, sink); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for i, want := range []int64{int64(len(ids)), 0} {
					if s, err := e.Run(ctx, replay.Request{}); err != nil || s.Expired != want || s.Claimed != want || s.Skipped != 0 || s.Remaining != 0 {
						t.Errorf("run %d: %+v, %v; want %d claimed and expired, and nothing else", i, s.Counts, err, want)
					}
				}
				for _, id := range ids {
					it := get(t, store, id)
					if it.State(time.Now()) != dlq.StateExpired || it.ExpiredAt.IsZero() || it.Replays != 0 || it.Deaths != 0 {
						t.Errorf("%+v, want it marked, and not charged", it)
					}
					if got := told.set[delivery.Key{Sink: "a", ID: it.DeliveryID}]; got != delivery.StatusExpired {
						t.Errorf("the record of %s says %q, want expired", it.DeliveryID, got)
					}
				}
				if n := len(ids); seen.expired != n || strings.Count(log.String(), `"msg":"expired"`) != n || len(told.set) != n || len(sink.calls()) != 0 {
					t.Errorf("observed %d, logged %d, told %d records, sent %d; want %d, and nothing sent",
						seen.expired, strings.Count(log.String(), `"msg":"expired"`), len(told.set), len(sink.calls()), n)
				}
				if it := get(t, store, live); it.State(time.Now()) != dlq.StateWaiting || !get(t, store, marked).ExpiredAt.Before(time.Now().Add(-time.Minute)) {
					t.Errorf("%+v, want the others as they were", it)
				}
				if st, err := store.Stats(t.Context(), "a"); err != nil || st.States[dlq.StateExpired] != int64(len(ids)+1) || st.Overdue != 0 {
					t.Errorf("stats %+v, %v; want %d expired", st, err, len(ids)+1)
				}
			})
		})
	}
}

func TestTheLineOfAnExpiredItemTellsItsStory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		id := push(t, store, "a", "m", 1, expires(time.Hour), func(it *dlq.Item) { it.Unanswered = 2 })[0]
		e := engine(store, targets{})
		log := logged(e)
		time.Sleep(time.Hour)
		run(t, e, replay.Request{})
		for _, want := range []string{`"msg":"expired"`, `"delivery_id":"m0"`, `"item_id":"` + id + `"`, `"sink":"a"`, `"attempts":5`, `"unanswered":2`} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%s is missing in %s", want, log)
			}
		}
	})
}

// A tick that has no time for all marks what it can, and leaves its lane the most.
func TestMarkingTakesAQuarterOfTheTimeAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		push(t, store, "a", "over", 3000, idle, expires(time.Hour))
		push(t, store, "a", "due", 20)
		time.Sleep(time.Hour)
		e := engine(slowSettle{store, 300 * time.Millisecond}, configured(replay.Policy{}, sink))
		var all int64
		for tick := range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			s, err := e.Run(ctx, replay.Request{})
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if all += s.Expired; tick == 0 && (s.Expired == 0 || s.Expired == 3000 || s.Delivered != 20) {
				t.Errorf("the first run: %+v; want some marked, and what is due delivered", s.Counts)
			}
		}
		if all != 3000 {
			t.Errorf("%d counted, want 3000", all)
		}
	})
}

// slowSettle is a store that settles slowly.
type slowSettle struct {
	dlq.Store
	by time.Duration
}

func (s slowSettle) Settle(ctx context.Context, settlements []dlq.Settlement) ([]dlq.SettleResult, error) {
	time.Sleep(s.by)
	return s.Store.Settle(ctx, settlements)
}

// forgetful is a store whose reply to a settlement is lost now and then, and which dies with some.
type forgetful struct {
	dlq.Store
	calls     *int
	lost      func(call int) bool // it was recorded
	abandoned func(call int) bool // it was not, and its process died
}

func (s forgetful) Settle(ctx context.Context, settlements []dlq.Settlement) ([]dlq.SettleResult, error) {
	*s.calls++
	if call := *s.calls; s.abandoned(call) {
		return nil, errDead
	} else if r, err := s.Store.Settle(ctx, settlements); !s.lost(call) {
		return r, err
	}
	return nil, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "no reply"}
}

// Replies that are lost, and processes that die between the record and the mark, count nothing twice.
func TestWhatExpiredIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 500
		store, seen, told, calls := dlq.NewMemory(), &counter{}, &records{}, 0
		push(t, store, "a", "m", n, expires(time.Hour))
		time.Sleep(time.Hour)
		e := engine(forgetful{store, &calls, func(call int) bool { return call%3 == 0 }, func(call int) bool { return call%7 == 5 }}, targets{})
		e.Observer, e.Records = seen, told
		var all int64
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			s, err := e.Run(ctx, replay.Request{})
			cancel()
			if err != nil && !errors.Is(err, errDead) {
				t.Fatal(err)
			}
			all += s.Expired
			if st, err := store.Stats(t.Context(), "a"); err != nil || st.States[dlq.StateExpired] != all || st.Overdue+all != n {
				t.Fatalf("stats %+v, %v, after %d were counted", st, err, all)
			}
			time.Sleep(time.Minute)
		}
		if all != n || seen.expired != n || calls < 12 {
			t.Errorf("%d in summaries, %d observed, in %d calls; want %d", all, seen.expired, calls, n)
		}
		page, err := store.Page(t.Context(), dlq.Query{Sink: "a", Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range page.Items {
			if it.Replays+it.Unanswered+len(it.History) != 0 || told.set[delivery.Key{Sink: "a", ID: it.DeliveryID}] != delivery.StatusExpired {
				t.Fatalf("%+v, want it charged with nobody's death, and its record told", it)
			}
		}
	})
}

func TestABulkReplayMarksWhatHasExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink, seen, told := dlq.NewMemory(), &receiver{name: "a"}, &counter{}, &records{}
		e := engine(store, configured(replay.Policy{}, sink))
		e.Observer, e.Records = seen, told
		push(t, store, "a", "before", 30, idle, expires(time.Minute))
		time.Sleep(time.Minute)
		run(t, e, replay.Request{}) // which marks them
		push(t, store, "a", "over", 250, idle, expires(time.Minute))
		push(t, store, "a", "live", 20, idle, expires(time.Hour))
		time.Sleep(time.Minute)
		all := replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal()}
		for _, r := range []replay.OperationRequest{all, {Action: all.Action, All: true}} {
			if p, err := e.Preview(t.Context(), r); err != nil || p.Count != 300 || p.Expired != 280 {
				t.Errorf("preview %+v, %v; want 300, 280 of them expired", p, err)
			}
		}
		op := start(t, e, all)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := e.Run(ctx, replay.Request{Operation: op.ID}); err != nil {
			t.Fatal(err)
		}
		want := counts(270, 20, 0, 0, 30)
		want.Expired = 250
		if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != want || got.Total != 300 {
			t.Errorf("operation %+v, want %+v of 300", got, want)
		}
		if len(sink.calls()) != 20 || seen.expired != 280 || told.set[delivery.Key{Sink: "a", ID: "over0"}] != delivery.StatusExpired {
			t.Errorf("%d sent, %d observed as expired; want 20 and 280", len(sink.calls()), seen.expired)
		}
		op = start(t, e, replay.OperationRequest{Action: replay.OperationDiscard, Filter: terminal()})
		run(t, e, replay.Request{})
		if got := progress(t, e, op.ID); got.OperationCounts != counts(280, 0, 0, 280, 0) || depth(t, store, "a") != 0 {
			t.Errorf("discard %+v, want 280 removed, expired or not", got)
		}
	})
}

// What a tick marks between an operation's visits is settled by others, and what expires in a
// slice that is visited twice is counted once.
func TestAnOperationsCountersStayTrueWhereItsProcessDies(t *testing.T) {
	for _, life := range []int64{2, 3, 5, 8, 12} {
		t.Run(fmt.Sprintf("after %d calls", life), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, ops, sink := dlq.NewMemory(), replay.NewMemoryOperations(), &receiver{name: "a"}
				push(t, store, "a", "over", 150, idle, expires(time.Minute))
				push(t, store, "a", "live", 50, idle)
				time.Sleep(time.Minute)
				healthy := engine(store, configured(replay.Policy{}, sink))
				healthy.Operations = ops
				op := start(t, healthy, replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal()})
				time.Sleep(time.Second)
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				m := mortal{Store: store, OperationStore: ops, life: lives(life), kill: cancel, last: true}
				e := engine(m, configured(replay.Policy{}, sink))
				e.Operations = mortalOperations{m}
				_, _ = e.Run(ctx, replay.Request{Operation: op.ID}) // a dead process has no answer
				cancel()
				for range 5 {
					time.Sleep(20 * time.Minute)
					if _, err := healthy.Run(t.Context(), replay.Request{Operation: op.ID}); err != nil {
						t.Fatal(err)
					}
				}
				want := counts(200, 50, 0, 0, 0)
				want.Expired = 150
				if got := progress(t, healthy, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != want {
					t.Errorf("operation %+v, want %+v", got, want)
				}
			})
		})
	}
}

// lives is a number of calls.
func lives(n int64) *atomic.Int64 {
	life := &atomic.Int64{}
	life.Store(n)
	return life
}

func TestAnOperatorsReplayOfAnExpiredItemMustBeForced(t *testing.T) {
	for _, marked := range []bool{false, true} {
		t.Run(fmt.Sprintf("marked %t", marked), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink, told := dlq.NewMemory(), &receiver{name: "a", answer: fails(errDown)}, &records{}
				id := push(t, store, "a", "m", 1, expires(time.Hour))[0]
				e := engine(store, configured(replay.Policy{MaxReplays: 2}, sink))
				e.Records = told
				time.Sleep(2 * time.Hour)
				if marked {
					run(t, e, replay.Request{})
				}
				at := get(t, store, id).ExpiresAt.UTC().Format(time.RFC3339)
				_, err := e.ReplayOne(t.Context(), id, replay.OneOptions{})
				if fault.CodeOf(err) != fault.CodeInvalidArgument || !errors.Is(err, replay.ErrExpired) || !strings.Contains(err.Error(), "expired at "+at) || !strings.Contains(err.Error(), "force") {
					t.Errorf("got %v, want INVALID_ARGUMENT with its time, and a way", err)
				}
				if n := len(sink.calls()); n != 0 {
					t.Fatalf("it was sent %d times", n)
				}
				for replays := 1; replays <= 3; replays++ {
					r, err := e.ReplayOne(t.Context(), id, replay.OneOptions{Force: true})
					if err != nil || r.Status != replay.StatusFailed || !r.NextReplayAt.IsZero() || r.Replays != replays {
						t.Errorf("forced: %+v, %v; want it failed, never due, %d replays", r, err, replays)
					}
					run(t, e, replay.Request{})
					if it := get(t, store, id); it.State(time.Now()) != dlq.StateExpired || it.Replays != replays || len(it.History) != replays || it.Parked {
						t.Errorf("%+v, want it expired still, with %d replays in its history", it, replays)
					}
				}
				if n := len(sink.calls()); n != 3 {
					t.Errorf("%d sends, want those that were forced", n)
				}
				sink.set(nil)
				if r, err := e.ReplayOne(t.Context(), id, replay.OneOptions{Force: true}); err != nil || r.Status != replay.StatusDelivered {
					t.Errorf("forced: %+v, %v; want it delivered", r, err)
				}
				if told.set[delivery.Key{Sink: "a", ID: "m0"}] != delivery.StatusDelivered || depth(t, store, "a") != 0 {
					t.Error("the item is left, or its record does not say delivered")
				}
			})
		})
	}
}

// What expires between an operator's attempts is no success, and what expires on the way to its
// sink is refused.
func TestAnOperatorsReplayEndsWithItsItemsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: fails(errDown)}
		id := push(t, store, "a", "m", 1, expires(500*time.Millisecond))[0]
		e := engine(store, configured(replay.Policy{Attempts: 5}, sink))
		r, err := e.ReplayOne(t.Context(), id, replay.OneOptions{})
		if err != nil || r.Status != replay.StatusFailed || r.Attempts != 1 || !strings.Contains(r.Error, "503") || !r.NextReplayAt.IsZero() {
			t.Errorf("%+v, %v; want it failed after one attempt, and never due", r, err)
		}
		if it := get(t, store, id); it.ExpiredAt.IsZero() {
			t.Errorf("%+v, want it marked", it)
		}
		id = push(t, store, "a", "late", 1, expires(time.Second))[0]
		e.Store = slowClaim{store, time.Second}
		if _, err := e.ReplayOne(t.Context(), id, replay.OneOptions{}); !errors.Is(err, replay.ErrExpired) || len(sink.calls()) != 1 {
			t.Errorf("got %v, %d sends; want it refused", err, len(sink.calls()))
		}
	})
}

// slowClaim is a store that answers claims slowly.
type slowClaim struct {
	dlq.Store
	by time.Duration
}

func (s slowClaim) Claim(ctx context.Context, c dlq.Claim) ([]dlq.Leased, error) {
	defer time.Sleep(s.by)
	return s.Store.Claim(ctx, c)
}

// The same on every backend: what is over is marked once, and what is canceled goes.
func TestExpiryAndCancellationOnEveryBackend(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			sink, seen, told := &receiver{name: "a"}, &counter{}, &records{}
			e := engine(store, configured(replay.Policy{}, sink))
			e.Operations, e.Observer, e.Records = ops, seen, told
			past := expires(-time.Minute)
			ids := push(t, store, "a", "over", 130, past)
			push(t, store, "a", "waiting", 10, past, idle)
			push(t, store, "a", "marked", 1, past, func(it *dlq.Item) { it.Reason = dlq.ReasonExpired })
			push(t, store, "b", "over", 3, past) // a sink that is not configured
			noted(t, store, "a", "dropped0", "dropped1")
			push(t, store, "a", "dropped", 2)
			push(t, store, "a", "live", 3, expires(time.Hour))
			if err := store.Pause(t.Context(), "b", true); err != nil {
				t.Fatal(err)
			}
			for i, want := range []replay.Counts{{Claimed: 148, Delivered: 3, Expired: 143, Skipped: 2}, {}} {
				if s := run(t, e, replay.Request{}); s.Counts != want {
					t.Errorf("run %d: %+v, want %+v", i, s.Counts, want)
				}
			}
			st, err := store.Stats(t.Context(), "a")
			if err != nil || st.Depth != 141 || st.States[dlq.StateExpired] != 141 || st.Overdue != 0 || st.Remaining != 0 {
				t.Errorf("stats %+v, %v; want 141 marked, and nothing else", st, err)
			}
			if len(sink.calls()) != 3 || seen.expired != 143 || len(told.set) != 146 || told.set[delivery.Key{Sink: "a", ID: "over0"}] != delivery.StatusExpired {
				t.Errorf("sent %v, observed %d, told %d records; want the live ones sent, 143 and 146", sink.counts(), seen.expired, len(told.set))
			}
			if _, err := e.ReplayOne(t.Context(), ids[0], replay.OneOptions{}); !errors.Is(err, replay.ErrExpired) {
				t.Errorf("an operator's replay: %v, want it refused", err)
			}
			sink.set(fails(errMaybe))
			if r, err := e.ReplayOne(t.Context(), ids[0], replay.OneOptions{Force: true}); err != nil || r.Status != replay.StatusFailed {
				t.Errorf("forced: %+v, %v; want it failed", r, err)
			}
			if it := get(t, store, ids[0]); it.State(time.Now()) != dlq.StateExpired || it.Replays != 1 || it.Unanswered != 1 {
				t.Errorf("%+v, want it expired still, and charged with an attempt that may have arrived", it)
			}
			push(t, store, "a", "fresh", 7, past, idle)
			op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, Filter: &replay.Filter{Sink: "a", Reason: dlq.ReasonTerminal}})
			if _, err := e.Run(t.Context(), replay.Request{Operation: op.ID}); err != nil {
				t.Fatal(err)
			}
			want := counts(7, 0, 0, 0, 10)
			want.Expired = 7
			if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != want || len(sink.calls()) != 4 {
				t.Errorf("operation %+v, want %+v", got, want)
			}
		})
	}
}

// mortallySettled is a store whose process dies once it has settled.
type mortallySettled struct{ dlq.Store }

func (s mortallySettled) Settle(ctx context.Context, settlements []dlq.Settlement) ([]dlq.SettleResult, error) {
	if _, err := s.Store.Settle(ctx, settlements); err != nil {
		return nil, err
	}
	return nil, errDead
}

func TestTheRecordIsToldBeforeTheMark(t *testing.T) {
	store, told := dlq.NewMemory(), &records{}
	id := push(t, store, "a", "m", 1, expires(-time.Minute))[0]
	e := engine(mortallySettled{store}, targets{})
	e.Records = told
	if _, err := e.Run(t.Context(), replay.Request{}); !errors.Is(err, errDead) {
		t.Fatalf("got %v, want the process dead", err)
	}
	if it := get(t, store, id); it.ExpiredAt.IsZero() || told.set[delivery.Key{Sink: "a", ID: "m0"}] != delivery.StatusExpired {
		t.Errorf("%+v is marked, and its record says %q", it, told.set[delivery.Key{Sink: "a", ID: "m0"}])
	}
}

// lateSlots is a Gate whose first slot is late.
type lateSlots struct {
	replay.Gate
	by *time.Duration
}

func (g lateSlots) Slot(context.Context, string, string, flow.Rate, time.Time) (time.Time, bool) {
	at := time.Now().Add(*g.by)
	*g.by = 0
	return at, true
}

// What expires while it waits to be tried alone says nothing of its sink: the next is tried alone.
func TestAnItemThatExpiresIsNoCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: takes(time.Second, errDown)}
		push(t, store, "a", "over", 1, expires(time.Second))
		push(t, store, "a", "m", 10)
		e := engine(store, configured(replay.Policy{Rate: 100}, sink))
		by := 2 * time.Second
		e.Gate = lateSlots{&flow.Gate{Store: &flow.Memory{}, Log: e.Log}, &by}
		if s := run(t, e, replay.Request{}); s.Expired != 1 || s.Failed != 1 || len(sink.calls()) != 1 {
			t.Errorf("summary %+v, %d sends; want one expired, and one tried alone", s.Counts, len(sink.calls()))
		}
	})
}
