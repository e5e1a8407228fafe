// Package delay says how long to wait between tries, and waits. It imports nothing of
// ours: sinks, retries, replays, the CLI and the local host wait through it.
package delay

import (
	"context"
	"math"
	"time"
)

// Exponential is a wait that doubles from one try to the next.
type Exponential struct {
	// Base is the first wait.
	Base time.Duration
	// Max caps the wait before jitter.
	Max time.Duration
	// Jitter j spreads each wait evenly over [1-j, 1+j) times its length. 0: waits are exact.
	Jitter float64
}

// Wait returns the nth wait, counted from 0. random returns numbers in [0, 1); it is not
// called without Jitter. The wait never overflows, and Wait advances nothing.
func (e Exponential) Wait(n int, random func() float64) time.Duration {
	wait := min(e.Base, e.Max)
	for range n {
		if wait > e.Max/2 {
			wait = e.Max
			break
		}
		wait *= 2
	}
	if e.Jitter == 0 {
		return wait
	}
	return times(wait, 1+e.Jitter*(2*random()-1))
}

// Longest is the longest that Wait can return.
func (e Exponential) Longest() time.Duration { return times(e.Max, 1+e.Jitter) }

func times(d time.Duration, factor float64) time.Duration {
	product := float64(d) * factor
	if product >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(product)
}

// Sleep waits for d. It returns ctx's error when ctx ends first, or has ended already.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
