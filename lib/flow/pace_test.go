package flow_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Eight processes that send and two that replay stay under the rate together, use all of it,
// and neither side starves the other: what was refused comes back spaced, and takes a slot like
// anybody.
func TestSendsAndReplaysShareARate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, burst, seconds = 5, 3, 60
		r := &receiver{took: 30 * time.Millisecond, answer: answers(nil)}
		store := &flow.Memory{}
		var mu sync.Mutex
		var waiting []retry.Outcome
		fresh, replayed := 0, 0
		paced := func() *retry.Retrier {
			one := retry.NewRetrier(r, retry.Config{MaxWait: time.Second}, dlq.NewMemory())
			one.Gate = &flow.Gate{Store: store, Log: slog.New(slog.DiscardHandler)}
			one.Flow.Rate = flow.Rate{PerSecond: perSecond, Burst: burst}
			return one
		}
		try := func(one *retry.Retrier, id string, count *int) {
			ctx, cancel := context.WithTimeout(t.Context(), 29*time.Second)
			defer cancel()
			out := one.Deliver(ctx, nil, sinks.Message{ID: id, Body: "x"})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case out.Status == retry.StatusDelivered:
				*count++
			case out.Status == retry.StatusDeadLettered && out.Reason == dlq.ReasonThrottled && out.Attempts == 0:
				waiting = append(waiting, out)
			default:
				t.Errorf("%+v, want it delivered or throttled", out)
			}
		}
		start := time.Now()
		var all sync.WaitGroup
		for p := range 8 {
			one := paced()
			all.Go(func() {
				for i := 0; time.Since(start) < seconds*time.Second; i++ {
					all.Go(func() { try(one, fmt.Sprint("fresh-", p, "-", i), &fresh) }) // whatever the others wait for
					time.Sleep(time.Second)
				}
			})
		}
		for range 2 {
			one := paced()
			all.Go(func() {
				for time.Since(start) < seconds*time.Second {
					mu.Lock()
					i := slices.IndexFunc(waiting, func(o retry.Outcome) bool { return !time.Now().Before(o.NotBefore) })
					var due retry.Outcome
					if i >= 0 {
						due = waiting[i]
						waiting = slices.Delete(waiting, i, i+1)
					}
					mu.Unlock()
					if i < 0 {
						time.Sleep(50 * time.Millisecond)
						continue
					}
					try(one, due.DeliveryID, &replayed)
				}
			})
		}
		all.Wait()
		took := time.Since(start)
		t.Logf("%d attempts in %s: %d fresh, %d replayed, %d wait", r.n.Load(), took, fresh, replayed, len(waiting))
		if got, most := float64(r.n.Load()), perSecond*took.Seconds()+burst; got > most || got < 0.95*perSecond*seconds {
			t.Errorf("%g attempts, want 95%% to 100%% of %g", got, most)
		}
		for i, from := range r.at {
			for j, to := range r.at[i:] {
				if most := perSecond*to.Sub(from).Seconds() + burst + 1e-6; float64(j+1) > most+1 {
					t.Fatalf("%d attempts within %s, want at most %g", j+1, to.Sub(from), most)
				}
			}
		}
		if fresh < 60 || replayed < 20 {
			t.Errorf("%d fresh and %d replayed: one side starves", fresh, replayed)
		}
	})
}

// A batch asks for its slots together.
func TestABatchTakesItsSlotsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &counting{Store: &flow.Memory{}}
		one := process(store, &receiver{answer: answers(nil)}, dlq.NewMemory())
		one.Flow.Rate = flow.Rate{PerSecond: 100}
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if out := deliver(one, fmt.Sprint("m", i)); out.Status != retry.StatusDelivered {
					t.Errorf("%+v", out)
				}
			})
		}
		wg.Wait()
		if store.takes > 2 || store.slots != 50 {
			t.Errorf("%d questions for %d slots, want two for 50", store.takes, store.slots)
		}
	})
}

// counting counts the questions for slots; each takes a moment.
type counting struct {
	flow.Store
	mu           sync.Mutex
	takes, slots int
}

func (c *counting) Take(ctx context.Context, sink, receiver string, s flow.Slots) ([]flow.Granted, error) {
	select {
	case <-time.After(time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	c.takes, c.slots = c.takes+1, c.slots+len(s.Latest)
	c.mu.Unlock()
	return c.Store.Take(ctx, sink, receiver, s)
}

// While the store is away a process keeps the rate by itself.
func TestAProcessKeepsTheRateByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: answers(nil)}
		one := process(away{}, r, dlq.NewMemory())
		one.Flow.Rate = flow.Rate{PerSecond: 2}
		one.SlotWait = 10 * time.Second
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 21 {
			wg.Go(func() { deliver(one, fmt.Sprint("m", i)) })
		}
		wg.Wait()
		if took := time.Since(start); r.n.Load() != 21 || took < 10*time.Second || took > 12*time.Second {
			t.Errorf("%d attempts in %s, want 21 in 10 s", r.n.Load(), took)
		}
	})
}
