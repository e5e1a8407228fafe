package flow

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// answering answers Look and counts.
type answering struct {
	Memory
	n      atomic.Int64
	paused atomic.Bool
	err    error
	takes  time.Duration
}

func (a *answering) Look(ctx context.Context, _ string) (Seen, error) {
	a.n.Add(1)
	select {
	case <-time.After(a.takes):
	case <-ctx.Done():
		return Seen{}, ctx.Err()
	}
	return Seen{Paused: a.paused.Load(), Now: time.Now().UnixMilli()}, a.err
}

func TestAPauseIsAskedForOnceInTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answering{takes: time.Millisecond}
		a.paused.Store(true)
		g := &Gate{Store: a}
		var wg sync.WaitGroup
		for range 50 { // a cold process with a batch
			wg.Go(func() {
				if !g.Paused(t.Context(), "ops") {
					t.Error("a paused sink counts as running")
				}
			})
		}
		wg.Wait()
		if n := a.n.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		a.paused.Store(false)
		if !g.Paused(t.Context(), "ops") {
			t.Error("the answer was not kept for two seconds")
		}
		time.Sleep(viewAge)
		if g.Paused(t.Context(), "ops") {
			t.Error("the resume was not seen after two seconds")
		}
	})
}

func TestARedisThatIsAwayPausesNothingAndCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &Gate{Store: &answering{takes: time.Hour}}
		start := time.Now()
		if g.Paused(t.Context(), "ops") {
			t.Error("a sink is paused by an unreachable Redis")
		}
		if took := time.Since(start); took != lookWait {
			t.Errorf("waited %s, want %s", took, lookWait)
		}
		if g.Paused(t.Context(), "ops"); time.Since(start) != lookWait {
			t.Error("asked again within two seconds")
		}
		g = &Gate{Store: &answering{err: errors.New("away")}, sinks: map[string]view{"ops": {paused: true}}}
		if !g.Paused(t.Context(), "ops") {
			t.Error("a pause was forgotten because Redis went away")
		}
	})
}

// The question of a caller without time left is no answer, and stands for nobody else's.
func TestAQuestionThatItsOwnCallerEndedIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answering{takes: 100 * time.Millisecond}
		a.paused.Store(true)
		g := &Gate{Store: a}
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			g.Paused(ctx, "ops")
		})
		synctest.Wait()
		for range 10 { // of other invocations, which share the question
			wg.Go(func() {
				if !g.Paused(t.Context(), "ops") {
					t.Error("a paused sink counts as running, because somebody else had no time to ask")
				}
			})
		}
		wg.Wait()
		if n := a.n.Load(); n != 2 {
			t.Errorf("asked %d times, want twice", n)
		}
	})
}
