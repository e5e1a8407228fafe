package replay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// While a receiver is left alone the schedule sends it nothing but probes, and charges nothing
// to what it puts off; an operator's replay goes, and what it delivers lets the others follow.
func TestTheScheduleLeavesAReceiverAloneThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		var down atomic.Bool
		down.Store(true)
		sink := &receiver{name: "a", answer: func(context.Context, sinks.Message) error {
			if down.Load() {
				return errDown
			}
			return nil
		}}
		ids := push(t, store, "a", "a", 100)
		e := engine(store, configured(replay.Policy{BaseDelay: time.Second, MaxDelay: time.Second, MaxReplays: 1000, Concurrency: 50}, sink))
		e.Gate = &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
		for range 120 { // ten minutes
			run(t, e, replay.Request{})
			time.Sleep(5 * time.Second)
		}
		for before := len(sink.calls()); len(sink.calls()) == before; time.Sleep(time.Second) {
			run(t, e, replay.Request{})
		}
		made := len(sink.calls()) // the last one just now
		charged := 0
		for _, id := range ids {
			it, err := store.Get(t.Context(), id)
			if err != nil || it.Parked || it.Held {
				t.Fatalf("%+v, %v; want it due again", it, err)
			}
			charged += it.Replays
		}
		if charged != made || made > 40 {
			t.Errorf("%d attempts in ten minutes, %d charged; want few, and each charged once", made, charged)
		}
		down.Store(false)
		if r, err := e.ReplayOne(t.Context(), ids[0], replay.OneOptions{}); err != nil || r.Status != replay.StatusDelivered {
			t.Fatalf("an operator's replay: %+v, %v", r, err)
		}
		for range 3 {
			time.Sleep(2 * time.Minute)
			run(t, e, replay.Request{})
		}
		if n, err := store.Count(t.Context(), "a"); err != nil || n != 0 {
			t.Errorf("%d left, %v; want all delivered after the operator's", n, err)
		}
	})
}

// What a receiver's hold keeps back is not touched while it lasts.
func TestAHoldKeepsTheScheduleAwayToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		until := time.Now().Add(10 * time.Minute)
		sink := &receiver{name: "a", answer: func(context.Context, sinks.Message) error {
			if left := time.Until(until); left > 0 {
				return sinks.Hold(errDown, left)
			}
			return nil
		}}
		ids := push(t, store, "a", "a", 20)
		e := engine(store, configured(replay.Policy{BaseDelay: time.Second, MaxDelay: time.Second}, sink))
		e.Gate = &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
		for i := range 9 {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
			s, err := e.Run(ctx, replay.Request{})
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Sinks["a"]; i > 0 && (got.Claimed != 0 || got.Skipped != 20 || got.HeldBack != "the receiver asked everybody to wait" || got.NextProbe.IsZero()) {
				t.Errorf("tick %d: %+v, want nothing touched, and why", i, got)
			}
			time.Sleep(time.Minute)
		}
		if n := len(sink.calls()); n != 1 {
			t.Errorf("%d attempts during the hold, want the first alone", n)
		}
		charged := 0
		for _, id := range ids {
			it, err := store.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			charged += len(it.History)
		}
		if charged != 1 {
			t.Errorf("%d replays in the histories, want the first alone", charged)
		}
		for range 3 {
			time.Sleep(2 * time.Minute)
			run(t, e, replay.Request{})
		}
		if n, err := store.Count(t.Context(), "a"); err != nil || n != 0 {
			t.Errorf("%d left, %v", n, err)
		}
	})
}

// open makes the breaker of a receiver open, as three processes would.
func open(t *testing.T, store flow.Store, sink, name string) {
	t.Helper()
	for i := range 20 {
		one := flow.Try{Sink: sink, Receiver: name, Delivery: fmt.Sprint("failing", i), End: time.Now().Add(10 * time.Second)}
		for range 3 {
			g := &flow.Gate{Store: store, Log: slog.New(slog.DiscardHandler)}
			if l := g.Ask(t.Context(), one); l.Verdict == flow.Go {
				g.Tell(t.Context(), l, flow.Told{Result: flow.Bad, Error: "HTTP 503"})
				g.Lost(t.Context(), one, "HTTP 503")
			}
		}
	}
	g := &flow.Gate{Store: store}
	if l, shut := g.Shut(t.Context(), flow.Try{Sink: sink, Receiver: name}); !shut {
		t.Fatalf("not open: %+v", l)
	}
}

// A receiver that is back gets its backlog in the run whose probe finds that: the steps by
// which the breaker closes are waited for, under the lease.
func TestTheRunThatFindsAReceiverBackDrainsItsBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, shared := dlq.NewMemory(), &flow.Memory{}
		sink := &receiver{name: "a", answer: takes(100*time.Millisecond, nil)}
		push(t, store, "a", "a", 500)
		open(t, shared, "a", "")
		e := engine(store, configured(replay.Policy{Concurrency: 20}, sink))
		seen := &counter{}
		e.Gate, e.Observer = &flow.Gate{Store: shared, Log: e.Log}, seen
		time.Sleep(5 * time.Second) // the next probe may go
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		s, err := e.Run(ctx, replay.Request{})
		if err != nil || s.Delivered != 500 {
			t.Errorf("%+v, %v; want all delivered", s, err)
		}
		// 500 at 20 at once are 2.5 s; the steps may cost some.
		if took := time.Since(start); took > 8*time.Second {
			t.Errorf("took %s", took)
		}
		calls := sink.calls()
		for i := range 2 { // the probe, and the first step
			if calls[i+1].at.Sub(calls[i].at) < 100*time.Millisecond {
				t.Error("two at once while the breaker closes")
			}
		}
	})
}

// several is a sink with a receiver for each subject.
type several struct{ *receiver }

func (several) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	var name string
	err := json.Unmarshal(raw, &name)
	return name, err
}

func (several) Receiver(to sinks.Recipient) string { return fmt.Sprint(to) }

// Of a sink with several receivers those that are well get theirs, and what belongs to the
// one that is down is put off: uncharged, unnoted, and for longer when it has waited longer.
func TestOneReceiverThatIsDownHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, shared := dlq.NewMemory(), &flow.Memory{}
		sink := &receiver{name: "a"}
		to := func(name string) func(*dlq.Item) {
			return func(it *dlq.Item) { it.Recipient = json.RawMessage(strconv.Quote(name)) }
		}
		down := push(t, store, "a", "down", 1500, to("down"))
		push(t, store, "a", "well", 40, to("well"))
		e := engine(store, targets{"a": delivery.Target{Sink: several{sink}}})
		seen := &counter{}
		e.Gate, e.Observer = &flow.Gate{Store: shared, Log: e.Log}, seen
		time.Sleep(80 * time.Minute)
		open(t, shared, "a", "down")
		start := time.Now()
		for i := range 2 {
			s := run(t, e, replay.Request{})
			if i == 0 && s.Sinks["a"].HeldBack == "" {
				t.Errorf("a run that put off a thousand does not say why: %+v", s)
			}
		}
		if n := depth(t, store, "a"); n != 1500 || len(sink.calls()) != 40 {
			t.Errorf("%d left, %d sent; want those of the receiver that is well delivered", n, len(sink.calls()))
		}
		if seen.refused < 1500 || seen.failed != 0 {
			t.Errorf("%d refused, %d failed; want all of the others refused, and none failed", seen.refused, seen.failed)
		}
		for _, id := range down {
			it, err := store.Get(t.Context(), id)
			if err != nil || it.Replays != 0 || len(it.History) != 0 || it.LastError != "HTTP 503" {
				t.Fatalf("%+v, %v; want it as it was", it, err)
			}
			// 80 minutes, an eighth of it, give or take a fifth.
			if off := it.NextReplayAt.Sub(start); off < 7*time.Minute || off > 13*time.Minute {
				t.Fatalf("put off by %s", off)
			}
		}
		time.Sleep(15 * time.Minute)
		for range 2 { // what came too early for a step of the closing breaker is put off by a second
			run(t, e, replay.Request{})
			time.Sleep(2 * time.Second)
		}
		if n := depth(t, store, "a"); n != 0 {
			t.Errorf("%d left after the receiver is back", n)
		}
	})
}

// What this process alone holds back, since five in a row failed it, is not put off by its age:
// the next one may be through soon.
func TestAProcesssOwnStopPutsOffByItsOwnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		sink := &receiver{name: "a"}
		ids := push(t, store, "a", "a", 20, func(it *dlq.Item) { it.Recipient = json.RawMessage(`"one"`) })
		e := engine(store, targets{"a": delivery.Target{Sink: several{sink}}})
		gate := &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
		e.Gate = gate
		time.Sleep(8 * time.Hour)
		for i := range 5 {
			l := gate.Ask(t.Context(), flow.Try{Sink: "a", Receiver: "one", Delivery: fmt.Sprint(i), End: time.Now().Add(time.Second)})
			gate.Tell(t.Context(), l, flow.Told{Result: flow.Bad, Error: "HTTP 503"})
		}
		start := time.Now()
		run(t, e, replay.Request{})
		if n := len(sink.calls()); n != 0 {
			t.Fatalf("%d sent by a process that had stopped", n)
		}
		for _, id := range ids {
			it, err := store.Get(t.Context(), id)
			if off := it.NextReplayAt.Sub(start); err != nil || off > 5*time.Second {
				t.Fatalf("put off by %s, %v; want it back when the process tries again", off, err)
			}
		}
	})
}

// Two replayers share the rate of replays.
func TestTheRateOfReplaysIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, shared := dlq.NewMemory(), &flow.Memory{}
		sink := &receiver{name: "a"}
		push(t, store, "a", "a", 60)
		var runs sync.WaitGroup
		for range 2 {
			runs.Go(func() {
				e := engine(store, configured(replay.Policy{Rate: 5}, sink))
				e.Gate = &flow.Gate{Store: shared, Log: e.Log}
				for range 30 {
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					if _, err := e.Run(ctx, replay.Request{}); err != nil {
						t.Error(err)
					}
					cancel()
				}
			})
		}
		runs.Wait()
		calls := sink.calls()
		if len(calls) != 60 {
			t.Fatalf("%d sends, want 60", len(calls))
		}
		for i := 1; i < len(calls); i++ {
			if gap := calls[i].at.Sub(calls[i-1].at); gap < 199*time.Millisecond {
				t.Errorf("%s between two sends, want 200ms", gap)
			}
		}
		// A slot that a replayer took for an item that the other had is lost: at most one each.
		if took := calls[59].at.Sub(calls[0].at); took > 14*time.Second {
			t.Errorf("60 at 5 per second took %s", took)
		}
	})
}
