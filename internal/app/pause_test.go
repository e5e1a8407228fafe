package app

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
)

// asked answers Stats and counts.
type asked struct {
	n      atomic.Int64
	paused atomic.Bool
	err    error
	takes  time.Duration
}

func (a *asked) Stats(ctx context.Context, _ string) (dlq.Stats, error) {
	a.n.Add(1)
	select {
	case <-time.After(a.takes):
	case <-ctx.Done():
		return dlq.Stats{}, ctx.Err()
	}
	return dlq.Stats{Paused: a.paused.Load()}, a.err
}

func TestAPauseIsAskedForOnceInTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asked{takes: time.Millisecond}
		a.paused.Store(true)
		p := &pauses{stats: a}
		var wg sync.WaitGroup
		for range 50 { // a cold process with a batch
			wg.Go(func() {
				if !p.paused(t.Context(), "ops") {
					t.Error("a paused sink counts as running")
				}
			})
		}
		wg.Wait()
		if n := a.n.Load(); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
		a.paused.Store(false)
		if !p.paused(t.Context(), "ops") {
			t.Error("the answer was not kept for two seconds")
		}
		time.Sleep(pauseAge)
		if p.paused(t.Context(), "ops") {
			t.Error("the resume was not seen after two seconds")
		}
	})
}

func TestARedisThatIsAwayPausesNothingAndCostsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pauses{stats: &asked{takes: time.Hour}}
		start := time.Now()
		if p.paused(t.Context(), "ops") {
			t.Error("a sink is paused by an unreachable Redis")
		}
		if took := time.Since(start); took != pauseWait {
			t.Errorf("waited %s, want %s", took, pauseWait)
		}
		if p.paused(t.Context(), "ops"); time.Since(start) != pauseWait {
			t.Error("asked again within two seconds")
		}
		p.stats = &asked{err: errors.New("away")}
		p.known["ops"] = pause{paused: true}
		if !p.paused(t.Context(), "ops") {
			t.Error("a pause was forgotten because Redis went away")
		}
	})
}

// The question of a caller without time left is no answer, and stands for nobody else's.
func TestAQuestionThatItsOwnCallerEndedIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &asked{takes: 100 * time.Millisecond}
		a.paused.Store(true)
		p := &pauses{stats: a}
		var wg sync.WaitGroup
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			defer cancel()
			p.paused(ctx, "ops")
		})
		synctest.Wait()
		for range 10 { // of other invocations, which share the question
			wg.Go(func() {
				if !p.paused(t.Context(), "ops") {
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
