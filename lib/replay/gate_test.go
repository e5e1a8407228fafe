package replay_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

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

// What has waited for its receiver's hold is put off by as much, uncharged.
func TestAHoldPutsOffTheScheduleToo(t *testing.T) {
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
		for range 9 {
			run(t, e, replay.Request{})
			time.Sleep(time.Minute)
		}
		if n := len(sink.calls()); n != 1 {
			t.Errorf("%d attempts during the hold, want the first alone", n)
		}
		off, charged := 0, 0
		for _, id := range ids {
			it, err := store.Get(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			charged += it.Replays
			if !it.NextReplayAt.Before(until) {
				off++
			}
		}
		if off != 9 || charged != 1 {
			t.Errorf("%d put off until the hold is over, %d charged; want one each tick, and the first charged", off, charged)
		}
		for range 5 {
			time.Sleep(2 * time.Minute)
			run(t, e, replay.Request{})
		}
		if n, err := store.Count(t.Context(), "a"); err != nil || n != 0 {
			t.Errorf("%d left, %v", n, err)
		}
	})
}
