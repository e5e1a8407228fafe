package flow_test

import (
	"context"
	"errors"
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

// mute is a Memory that takes no change while it is set.
type mute struct {
	flow.Memory
	set atomic.Bool
}

func (m *mute) Swap(ctx context.Context, sink, receiver string, w flow.Swap) (flow.Swapped, error) {
	if m.set.Load() {
		return flow.Swapped{}, errors.New("others change it all the time")
	}
	return m.Memory.Swap(ctx, sink, receiver, w)
}

// Who cannot find out whether he is the one that goes first after a hold waits: the breaker is
// closed, and refuses nobody.
func TestWhoCannotAskForTheProbeAfterAHoldWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &mute{}
		g := &flow.Gate{Store: store}
		g.Tell(t.Context(), g.Ask(t.Context(), try("a")), flow.Told{Result: flow.Bad, Hold: time.Minute})
		time.Sleep(61 * time.Second)
		store.set.Store(true)
		if l := g.Ask(t.Context(), try("b")); l.Verdict != flow.Wait || time.Until(l.At) != time.Second {
			t.Errorf("%+v, want a wait of a second", l)
		}
		store.set.Store(false)
		if l := g.Ask(t.Context(), try("b")); l.Verdict != flow.Go || !l.Probe {
			t.Errorf("%+v, want the probe", l)
		}
	})
}
