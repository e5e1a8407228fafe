package replay_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// One receiver that is down holds up no other of its sink.
func TestReceiversOfOneSinkAreProbedApart(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			sink := &receiver{name: "a"}
			sink.set(func(_ context.Context, m sinks.Message) error {
				if strings.HasPrefix(m.ID, "bad") {
					return errDown
				}
				return nil
			})
			push(t, store, "a", "well", 60, idle, toReceiver("well.example"))
			push(t, store, "a", "bad", 130, idle, toReceiver("bad.example"))
			push(t, store, "a", "more", 60, idle, toReceiver("more.example"))
			e := engine(store, hubs(replay.Policy{BaseDelay: 10 * time.Hour}, sink))
			e.Operations = ops
			op := start(t, e, replayAll())
			run(t, e, replay.Request{})
			got := progress(t, e, op.ID)
			if got.Status != replay.OperationStopped || got.OperationCounts != counts(125, 120, 5, 0, 0) {
				t.Errorf("operation %+v, want 120 delivered and 5 failed", got)
			}
			if want := "sink a: receiver bad.example stopped after 5 failures in a row: SINK_UNAVAILABLE: HTTP 503"; got.Error != want {
				t.Errorf("error %q, want %q", got.Error, want)
			}
			sink.set(nil)
			if _, err := e.ResumeOperation(t.Context(), op.ID); err != nil {
				t.Fatal(err)
			}
			run(t, e, replay.Request{})
			if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(250, 250, 0, 0, 0) {
				t.Errorf("resumed: %+v, want all delivered", got)
			}
		})
	}
}

// What waits for one receiver is gone through once more when the others are done; what failed
// is not tried twice by that.
func TestOtherReceiversGoWhileOneIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		until := time.Now().Add(5 * time.Minute)
		sink := &receiver{name: "a", answer: func(_ context.Context, m sinks.Message) error {
			switch left := time.Until(until); {
			case strings.HasPrefix(m.ID, "held") && left > 0:
				return sinks.Hold(errDown, left)
			case strings.HasSuffix(m.ID, "7"):
				return errGone
			}
			return nil
		}}
		push(t, store, "a", "well", 230, idle, toReceiver("well.example"))
		push(t, store, "a", "held", 130, idle, toReceiver("held.example"))
		e := engine(store, hubs(replay.Policy{BaseDelay: 10 * time.Hour, MaxDelay: 10 * time.Hour}, sink))
		e.Gate = &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
		op := start(t, e, replayAll())
		for range 4 {
			run(t, e, replay.Request{})
			got := progress(t, e, op.ID)
			if got.Status != replay.OperationRunning || got.OperationCounts != counts(231, 207, 24, 0, 0) || got.Waiting != 129 || got.WaitingUntil.Before(until) {
				t.Fatalf("operation %+v, want all of well.example done, and 129 waiting", got)
			}
			time.Sleep(time.Minute)
		}
		for range 6 {
			time.Sleep(time.Minute)
			run(t, e, replay.Request{})
		}
		got := progress(t, e, op.ID)
		if got.Status != replay.OperationCompleted || got.Settled != 360 || len(sink.calls()) != 360 || len(sink.counts()) != 360 {
			t.Errorf("%d sends, operation %+v; want each member once", len(sink.calls()), got)
		}
	})
}

// A Run does not read a long queue through for receivers that are left alone.
func TestARunReadsLittleForReceiversThatAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Memory: dlq.NewMemory()}
		sink := &receiver{name: "a", answer: func(context.Context, sinks.Message) error { return sinks.Hold(errDown, time.Hour) }}
		push(t, store, "a", "held", 20_000, idle, toReceiver("held.example"))
		push(t, store, "a", "new", 10, idle, toReceiver("held.example"))
		e := engine(store, hubs(replay.Policy{BaseDelay: 10 * time.Hour, MaxDelay: 10 * time.Hour}, sink))
		e.Gate = &flow.Gate{Store: &flow.Memory{}, Log: e.Log}
		op := start(t, e, replayAll())
		store.pages.Store(0)
		run(t, e, replay.Request{Operation: op.ID})
		if n := store.pages.Load(); n > 60 || n < 10 {
			t.Errorf("%d pages of 100 read; want some 50", n)
		}
		if got := progress(t, e, op.ID); got.Settled != 1 || got.Waiting < 4000 {
			t.Errorf("operation %+v, want one tried and what was read waiting", got)
		}
	})
}

// Of more receivers than a record holds, those that are well are forgotten first.
func TestThousandsOfReceivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		sink := &receiver{name: "a"}
		for i := range 600 {
			push(t, store, "a", fmt.Sprintf("r%d-", i), 7, idle, toReceiver(fmt.Sprintf("r%d.example", i)))
		}
		e := engine(store, hubs(replay.Policy{Concurrency: 50}, sink))
		op := start(t, e, replayAll())
		run(t, e, replay.Request{})
		got := progress(t, e, op.ID)
		if got.Status != replay.OperationCompleted || got.OperationCounts != counts(4200, 4200, 0, 0, 0) {
			t.Errorf("operation %+v, want all delivered", got.OperationCounts)
		}
		if n := len(got.Sinks["a"].Receivers); n > 200 {
			t.Errorf("%d receivers in the record", n)
		}
	})
}

// Those that are not well are kept, as long as there is room, and the rest counts together.
func TestThousandsOfReceiversThatAreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		sink := &receiver{name: "a", answer: fails(errDown)}
		for i := range 300 {
			push(t, store, "a", fmt.Sprintf("r%d-", i), 2, idle, toReceiver(fmt.Sprintf("r%d.example", i)))
		}
		e := engine(store, hubs(replay.Policy{Concurrency: 1, BaseDelay: 10 * time.Hour, MaxDelay: 10 * time.Hour}, sink))
		op := start(t, e, replayAll())
		run(t, e, replay.Request{})
		got := progress(t, e, op.ID)
		if n := len(got.Sinks["a"].Receivers); n != 201 || got.Status != replay.OperationStopped {
			t.Errorf("%s with %d receivers in the record, want it stopped with 200 and the rest", got.Status, n)
		}
		if want := "sink a: receiver (others) stopped after 5 failures in a row: SINK_UNAVAILABLE: HTTP 503"; got.Error != want || got.Failed != 405 {
			t.Errorf("%d failed, error %q; want two of each and five of the rest, %q", got.Failed, got.Error, want)
		}
	})
}
