package flow_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/flow"
)

// slow is a Memory behind a network.
type slow struct {
	flow.Memory
	swaps atomic.Int64
}

func (s *slow) Swap(ctx context.Context, sink, receiver string, w flow.Swap) (flow.Swapped, error) {
	s.swaps.Add(1)
	time.Sleep(5 * time.Millisecond)
	return s.Memory.Swap(ctx, sink, receiver, w)
}

// A batch whose deliveries fail together is shared in a few calls, and nothing of it is lost
// because its deliveries get into each other's way.
func TestABatchThatFailsIsSharedInFewCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slow{}
		g := &flow.Gate{Store: store}
		var batch sync.WaitGroup
		leaves := make([]flow.Leave, 50)
		for i := range leaves {
			leaves[i] = g.Ask(t.Context(), try(fmt.Sprint(i)))
		}
		for i, l := range leaves {
			batch.Go(func() {
				g.Tell(t.Context(), l, flow.Told{Result: flow.Bad, Error: "HTTP 503"})
				g.Lost(t.Context(), try(fmt.Sprint(i)), "HTTP 503")
			})
		}
		batch.Wait()
		if n := store.swaps.Load(); n > 4 {
			t.Errorf("%d calls for one batch, want a few", n)
		}
		all, err := g.Receivers(t.Context(), "ops", flow.Policy{})
		if err != nil || all[0].Status != flow.ReceiverFailing {
			t.Errorf("after 50 failures %+v, %v; want it failing", all, err)
		}
	})
}

// With the breaker off nothing is counted, and nothing is asked or shared but holds.
func TestABreakerThatIsOffCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slow{}
		g := &flow.Gate{Store: store}
		for i := range 50 {
			one := try(fmt.Sprint(i))
			one.Policy.Breaker.Off = true
			l := g.Ask(t.Context(), one)
			if l.Verdict != flow.Go {
				t.Fatalf("after %d failures %+v", i, l)
			}
			g.Tell(t.Context(), l, flow.Told{Result: flow.Bad, Error: "HTTP 503"})
			g.Lost(t.Context(), one, "HTTP 503")
		}
		if n := store.swaps.Load(); n != 0 {
			t.Errorf("%d calls", n)
		}
	})
}
