package replay_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"backstop/internal/await"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

func redisStore(tb testing.TB) dlq.Store {
	tb.Helper()
	return dlq.NewRedis(redistest.Shared(tb).Client(tb), dlq.WithKeyPrefix(redistest.Prefix()))
}

func TestManyReplayersDeliverEachDueItemOnce(t *testing.T) {
	store := redisStore(t)
	a, b := &receiver{name: "a"}, &receiver{name: "b"}
	push(t, store, "a", "a", 300)
	push(t, store, "b", "b", 100)
	var all sync.WaitGroup
	var mu sync.Mutex
	var delivered int64
	for range 6 {
		all.Go(func() {
			// Every process has an engine and connections of its own.
			s, err := engine(store, configured(replay.Policy{Concurrency: 4}, a, b)).Run(t.Context(), replay.Request{})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			delivered += s.Delivered
		})
	}
	all.Wait()
	if delivered != 400 || depth(t, store, "") != 0 {
		t.Errorf("%d delivered and %d left, want 400 and 0", delivered, depth(t, store, ""))
	}
	if len(a.calls()) != 300 || len(a.counts()) != 300 || len(b.calls()) != 100 || len(b.counts()) != 100 {
		t.Errorf("%d sends of %d messages and %d of %d, want each once", len(a.calls()), len(a.counts()), len(b.calls()), len(b.counts()))
	}
}

// Runs that are canceled at any moment settle what they sent and give back the rest.
func TestRunsCanceledAtAnyMomentLoseAndRepeatNothing(t *testing.T) {
	store := redisStore(t)
	sink := &receiver{name: "a", answer: func(context.Context, sinks.Message) error {
		time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // does not heed its context: it arrives
		return nil
	}}
	push(t, store, "a", "m", 300)
	end := time.Now().Add(30 * time.Second)
	for depth(t, store, "a") > 0 {
		if time.Now().After(end) {
			t.Fatalf("%d items are stranded", depth(t, store, "a"))
		}
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(time.Duration(rand.IntN(20))*time.Millisecond, cancel)
				defer cancel()
				// An error says that the run was canceled before it began.
				_, _ = engine(store, configured(replay.Policy{Concurrency: 5}, sink)).Run(ctx, replay.Request{})
			})
		}
		all.Wait()
	}
	if len(sink.calls()) != 300 || len(sink.counts()) != 300 || sink.double {
		t.Errorf("%d sends of %d messages, want each once", len(sink.calls()), len(sink.counts()))
	}
}

func TestAnAbandonedItemIsReplayedAndItsLateHolderFenced(t *testing.T) {
	store, sink := redisStore(t), &receiver{name: "a"}
	id := push(t, store, "a", "m", 1)[0]
	leased, err := store.Claim(t.Context(), dlq.Claim{Sink: "a", TTL: 20 * time.Millisecond})
	if err != nil || len(leased) != 1 {
		t.Fatalf("claimed %v, %v", leased, err)
	}
	e := engine(store, configured(replay.Policy{OnSuccess: replay.OnSuccessKeep}, sink))
	await.True(t, "the item is replayed when its lease ends", func() bool {
		run(t, e, replay.Request{})
		return len(sink.calls()) > 0
	})
	before := get(t, store, id)
	results, err := store.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionDiscard}})
	if err != nil || results[0] != dlq.SettleFenced {
		t.Errorf("the late holder was told %v, %v; want fenced", results, err)
	}
	if after := get(t, store, id); asJSON(t, after) != asJSON(t, before) || after.DeliveredAt.IsZero() {
		t.Errorf("item %+v, want it delivered and untouched", after)
	}
}
