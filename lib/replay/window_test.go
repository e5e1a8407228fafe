package replay_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// windowed is a receiver that recognises a message for a while.
type windowed struct {
	*receiver
	window time.Duration
}

func (w windowed) DedupWindow() time.Duration { return w.window }

// maybe is for a letter that may have arrived, whose first attempt was so long ago.
func maybe(ago time.Duration) func(*dlq.Item) {
	return func(it *dlq.Item) { it.Unanswered, it.FirstFailedAt = 1, time.Now().Add(-ago).UTC() }
}

// What may have arrived is not sent by itself once its receiver may have forgotten it, to the nanosecond: it
// waits for an operator then, as what was ambiguous does, and is charged nothing.
func TestWhatIsRecognisedNoMoreIsLeftToAnOperator(t *testing.T) {
	const window = 10 * time.Minute // less a minute
	for name, c := range map[string]struct {
		window time.Duration
		policy retry.AmbiguousPolicy
		change func(*dlq.Item)
		sent   bool
	}{
		"a nanosecond before":     {window: window, change: maybe(9*time.Minute - 1), sent: true},
		"at the end":              {window: window, change: maybe(9 * time.Minute)},
		"long after":              {window: window, change: maybe(1000 * time.Hour)},
		"it never arrived":        {window: window, change: func(it *dlq.Item) { maybe(time.Hour)(it); it.Unanswered = 0 }, sent: true},
		"recognised for ever":     {window: -1, change: maybe(1000 * time.Hour), sent: true},
		"a replayer died with it": {change: maybe(1000 * time.Hour), sent: true}, // of a receiver that recognises nothing: at least once
		"resent by policy":        {window: window, policy: retry.AmbiguousResend, change: maybe(time.Hour), sent: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			store, sink, seen := dlq.NewMemory(), windowed{&receiver{name: "a"}, c.window}, &counter{}
			id := push(t, store, "a", "m", 1, c.change)[0]
			e := engine(store, targets{"a": {Sink: sink, Retry: retry.Config{OnAmbiguous: c.policy}}})
			e.Observer = seen
			s := run(t, e, replay.Request{})
			if got := len(sink.calls()) == 1; got != c.sent {
				t.Errorf("%s: sent %v, want %v (%+v)", name, got, c.sent, s)
			}
			if c.sent {
				return
			}
			if want := (replay.Counts{Claimed: 1, Skipped: 1}); s.Counts != want || *seen != (counter{}) {
				t.Errorf("%s: %+v, %d failures observed; want %+v, and none", name, s.Counts, seen.failed, want)
			}
			it := get(t, store, id)
			if it.State(time.Now()) != dlq.StateWaiting || it.Replays != 0 || len(it.History) != 1 || !strings.Contains(it.History[0].Error, "may not recognise it after") {
				t.Errorf("%s: %s, %d replays, %+v; want it waiting, and told why", name, it.State(time.Now()), it.Replays, it.History)
			}
			time.Sleep(time.Hour)
			if s := run(t, e, replay.Request{}); s.Claimed != 0 {
				t.Errorf("%s: the next tick: %+v", name, s.Counts)
			}
			if r, err := e.ReplayOne(t.Context(), id, replay.OneOptions{}); err != nil || r.Status != replay.StatusDelivered {
				t.Errorf("%s: an operator's replay: %+v, %v", name, r, err)
			}
		})
	}
}

// A bulk replay is not an operator's word on each of its members: those that are recognised no more fail,
// and stay what they were.
func TestABulkReplaySendsNothingThatIsRecognisedNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), windowed{&receiver{name: "a"}, 10 * time.Minute}
		unknown := func(it *dlq.Item) { it.Reason = dlq.ReasonAmbiguous }
		old := push(t, store, "a", "old", 3, unknown, maybe(9*time.Minute))
		push(t, store, "a", "new", 3, unknown, maybe(9*time.Minute-1))
		push(t, store, "a", "other", 3)
		leased, err := store.Claim(t.Context(), dlq.Claim{Sink: "a", IDs: old[:1], TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionPark}}); err != nil {
			t.Fatal(err)
		}
		e := engine(store, targets{"a": {Sink: sink}})
		op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, All: true})
		run(t, e, replay.Request{Operation: op.ID})
		got := progress(t, e, op.ID)
		if want := counts(9, 6, 3, 0, 0); got.Status != replay.OperationCompleted || got.OperationCounts != want {
			t.Errorf("%s %+v, want completed %+v", got.Status, got.OperationCounts, want)
		}
		if n := sink.counts(); len(n) != 6 || n["old0"]+n["old1"]+n["old2"] != 0 {
			t.Errorf("sent %v", n)
		}
		for i, id := range old {
			want := dlq.StateWaiting
			if i == 0 {
				want = dlq.StateParked
			}
			if it := get(t, store, id); it.State(time.Now()) != want || it.Replays != 0 || it.Unanswered != 1 {
				t.Errorf("%s: %s, %d replays, %d unanswered; want %s, uncharged", id, it.State(time.Now()), it.Replays, it.Unanswered, want)
			}
		}
	})
}

// A slot that comes too late is one too late, too.
func TestASlotBeyondTheWindowIsNotUsed(t *testing.T) {
	for name, c := range map[string]struct {
		ago  time.Duration
		sent int
	}{
		"a nanosecond before": {9*time.Minute - 10*time.Second - 1, 2},
		"at the end":          {9*time.Minute - 10*time.Second, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			store, sink := dlq.NewMemory(), windowed{&receiver{name: "a"}, 10 * time.Minute}
			push(t, store, "a", "first", 1)
			id := push(t, store, "a", "second", 1, maybe(c.ago))[0]
			e := engine(store, targets{"a": {Sink: sink, Flow: flow.Policy{Rate: flow.Rate{PerSecond: 0.1}}}})
			e.Gate = &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
			s := run(t, e, replay.Request{})
			if n := len(sink.calls()); n != c.sent || s.Delivered != int64(c.sent) || s.Skipped != int64(2-c.sent) {
				t.Errorf("%s: %d sent, want %d (%+v)", name, n, c.sent, s.Counts)
			}
			if c.sent < 2 && get(t, store, id).State(time.Now()) != dlq.StateWaiting {
				t.Errorf("%s: %s", name, get(t, store, id).State(time.Now()))
			}
		})
	}
}

// What is left to an operator takes no slot from others, and tells nothing of its receiver: the next one is the
// canary still.
func TestWhatIsRecognisedNoMoreIsNoCanary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), windowed{&receiver{name: "a"}, 10 * time.Minute}
		push(t, store, "a", "old", 20, maybe(time.Hour))
		push(t, store, "a", "new", 1)
		began := time.Now()
		e := engine(store, targets{"a": {Sink: sink, Replay: replay.Policy{Rate: 0.1}}})
		s := run(t, e, replay.Request{})
		if calls := sink.calls(); len(calls) != 1 || calls[0].at.After(began) || s.Skipped != 20 {
			t.Errorf("sent %+v, want the new one at once (%+v)", calls, s.Counts)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), windowed{&receiver{name: "a", answer: fails(errDown)}, 10 * time.Minute}
		push(t, store, "a", "late", 1, maybe(9*time.Minute-5*time.Second))
		push(t, store, "a", "new", 10)
		p := flow.Policy{Rate: flow.Rate{PerSecond: 0.1}}
		e := engine(store, targets{"a": {Sink: sink, Flow: p}})
		gate := &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
		gate.Ask(t.Context(), flow.Try{Sink: "a", Delivery: "another", Policy: p})
		e.Gate = gate
		s := run(t, e, replay.Request{})
		if n := sink.counts(); len(n) != 1 || n["late0"] != 0 || s.Failed != 1 || s.Skipped != 1 {
			t.Errorf("sent %v, want one of the new ones alone (%+v)", n, s.Counts)
		}
	})
}

// The whole way of a delivery whose receiver never answers: the Sender sends it, then the schedule, and
// nobody once it may be forgotten. An attempt that failed in between changes nothing.
func TestNothingIsSentBeyondItsWindowOnItsWholeWay(t *testing.T) {
	for _, answers := range [][]error{{errMaybe}, {errMaybe, errDown}, {errMaybe, errDown, errDown, errDown, errDown, errDown, errDown}} {
		for _, window := range []time.Duration{time.Second, 90 * time.Second, 10 * time.Minute, 24 * time.Hour} {
			synctest.Test(t, func(t *testing.T) {
				store, sink := dlq.NewMemory(), windowed{&receiver{name: "a"}, window}
				target := delivery.Target{Sink: sink, Retry: retry.Config{MaxAttempts: 3}, Replay: replay.Policy{MaxReplays: 100, MaxDelay: time.Hour}}
				began := time.Now()
				end := began.Add(max(window-time.Minute, window/2))
				e := engine(store, targets{"a": target})
				sender := &delivery.Sender{Targets: e.Targets, Queue: store, Records: delivery.NewMemory(0), Log: e.Log}
				turn := func() {
					sink.set(takes(300*time.Millisecond, answers[len(sink.calls())%len(answers)]))
				}
				turn()
				if _, err := sender.Deliver(t.Context(), delivery.Request{ID: "d", Sink: "a", Message: sinks.Message{Body: "x"}}); err != nil {
					t.Fatal(err)
				}
				for range 26 * 60 {
					turn()
					run(t, e, replay.Request{})
					time.Sleep(time.Minute)
				}
				for _, s := range sink.calls() {
					if !s.at.Before(end) {
						t.Errorf("%v, %s: sent %s after the end of the window", answers, window, s.at.Sub(end))
					}
				}
				items, err := store.Items(t.Context(), "a", 0)
				if err != nil || len(items) != 1 || items[0].State(time.Now()) != dlq.StateWaiting {
					t.Errorf("%v, %s: %+v, %v; want one letter that waits", answers, window, items, err)
				}
				if window > time.Hour && len(sink.calls()) < 8 {
					t.Errorf("%v, %s: only %d sends: the schedule gave up early", answers, window, len(sink.calls()))
				}
			})
		}
	}
}
