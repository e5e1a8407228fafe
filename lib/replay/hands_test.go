package replay_test

import (
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
)

// hands are what an operator does with a dead letter that was read before, each from the id and what was read.
var hands = map[string]func(t *testing.T, e *replay.Engine, it dlq.Item){
	"none": func(*testing.T, *replay.Engine, dlq.Item) {},
	"discard": func(t *testing.T, e *replay.Engine, it dlq.Item) {
		t.Helper()
		if err := e.Discard(t.Context(), it); err != nil {
			t.Error(err)
		}
	},
	"replay": func(t *testing.T, e *replay.Engine, it dlq.Item) {
		t.Helper()
		if _, err := e.ReplayOne(t.Context(), it.ID, replay.OneOptions{}); err != nil {
			t.Error(err)
		}
	},
	"replay in bulk": func(t *testing.T, e *replay.Engine, it dlq.Item) {
		t.Helper()
		if _, err := e.CreateOperation(t.Context(), replay.OperationRequest{Action: replay.OperationReplay, IDs: []string{it.ID}}); err != nil {
			t.Error(err)
		}
		run(t, e, replay.Request{})
	},
	"discard in bulk": func(t *testing.T, e *replay.Engine, it dlq.Item) {
		t.Helper()
		if _, err := e.CreateOperation(t.Context(), replay.OperationRequest{Action: replay.OperationDiscard, IDs: []string{it.ID}}); err != nil {
			t.Error(err)
		}
		run(t, e, replay.Request{})
	},
	"unpark": func(t *testing.T, e *replay.Engine, it dlq.Item) {
		t.Helper()
		s, ok := e.Store.(*dlq.Memory)
		if !ok {
			t.Fatalf("the store is a %T", e.Store)
		}
		if err := s.Unpark(t.Context(), it.ID); err != nil {
			t.Error(err)
		}
	},
	"edit": func(t *testing.T, e *replay.Engine, it dlq.Item) {
		t.Helper()
		if _, err := e.ReplayOne(t.Context(), it.ID, repaired("good")); err != nil {
			t.Error(err)
		}
	},
	"through another sink": func(t *testing.T, e *replay.Engine, it dlq.Item) {
		t.Helper()
		if _, err := e.ReplayOne(t.Context(), it.ID, replay.OneOptions{Sink: "b"}); err != nil {
			t.Error(err)
		}
	},
}

// pasts are what became of a dead letter since it was read: an attempt of it may have arrived. Nil: whoever leased it has died.
var pasts = map[string]func(t *testing.T, s dlq.Store, l dlq.Leased){
	"its replayer died": nil,
	"it was replayed, and not answered": func(t *testing.T, s dlq.Store, l dlq.Leased) {
		t.Helper()
		if _, err := s.Settle(t.Context(), []dlq.Settlement{{Lease: l.Lease, Action: dlq.ActionHold, Unanswered: 1, Charge: true, Error: "no answer"}}); err != nil {
			t.Error(err)
		}
	},
}

// Whatever an operator does with a dead letter, it is not forgotten that an attempt of it may have arrived: who
// cancels its delivery then is told so.
func TestNoHandForgetsThatItMayHaveArrived(t *testing.T) {
	for hand, act := range hands {
		for past, happens := range pasts {
			for _, parked := range []bool{true, false} {
				t.Run(hand+", "+past+map[bool]string{true: ", parked"}[parked], func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						store, records := dlq.NewMemory(), delivery.NewMemory(0)
						down := takes(0, errors.New("HTTP 503"))
						a, b := &receiver{name: "a", answer: down}, &receiver{name: "b", answer: down}
						e := engine(store, configured(replay.Policy{}, a, b))
						e.Records = records
						id := push(t, store, "a", "m", 1)[0]
						if parked {
							l := claimOne(t, store, id)
							if _, err := store.Settle(t.Context(), []dlq.Settlement{{Lease: l.Lease, Action: dlq.ActionPark}}); err != nil {
								t.Fatal(err)
							}
						}
						it := get(t, store, id)
						if _, err := records.Update(t.Context(), delivery.ChangeOf(it, delivery.StatusDeadLettered)); err != nil {
							t.Fatal(err)
						}
						if l := claimOne(t, store, id); happens != nil {
							happens(t, store, l)
						} else {
							time.Sleep(2 * time.Minute)
						}
						act(t, e, it)
						done, err := (&delivery.Canceler{Records: records, Letters: store, Log: slog.New(slog.DiscardHandler)}).Cancel(t.Context(), delivery.Key{Sink: "a", ID: "m0"})
						if err != nil || done.Status != delivery.StatusCanceled || !done.MayHaveArrived {
							t.Errorf("canceled: %+v, %v; want that it may have arrived", done, err)
						}
					})
				})
			}
		}
	}
}

func claimOne(t *testing.T, s dlq.Store, id string) dlq.Leased {
	t.Helper()
	leased, err := s.Claim(t.Context(), dlq.Claim{Sink: "a", IDs: []string{id}, TTL: time.Minute})
	if err != nil || len(leased) != 1 {
		t.Fatalf("Claim = %d items, %v", len(leased), err)
	}
	return leased[0]
}
