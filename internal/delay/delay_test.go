package delay_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/delay"
)

func TestTheWaitIsThisTable(t *testing.T) {
	for _, tt := range []struct {
		name   string
		e      delay.Exponential
		n      int
		random float64
		want   time.Duration
	}{
		{"the first", delay.Exponential{Base: 3, Max: 100}, 0, 0.9, 3},
		{"a negative count is the first", delay.Exponential{Base: 3, Max: 100}, -1, 0.9, 3},
		{"it doubles", delay.Exponential{Base: 3, Max: 100}, 4, 0.9, 48},
		{"capped", delay.Exponential{Base: 3, Max: 100}, 6, 0.9, 100},
		{"capped for good", delay.Exponential{Base: 3, Max: 100}, math.MaxInt, 0.9, 100},
		{"a base above its cap", delay.Exponential{Base: 300, Max: 100}, 0, 0.9, 100},
		{"at the low end of its jitter", delay.Exponential{Base: 100, Max: 100, Jitter: 0.5}, 0, 0, 50},
		{"in the middle of its jitter", delay.Exponential{Base: 100, Max: 100, Jitter: 0.5}, 0, 0.5, 100},
		{"jitter goes beyond the cap", delay.Exponential{Base: 100, Max: 100, Jitter: 0.5}, 9, 0.75, 125},
		{"it never overflows", delay.Exponential{Base: math.MaxInt64/2 + 1, Max: math.MaxInt64, Jitter: 1}, 1, 0.9, math.MaxInt64},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.e.Wait(tt.n, func() float64 { return tt.random }); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestNoWaitIsLongerThanTheLongest(t *testing.T) {
	for _, e := range []delay.Exponential{
		{Base: 1, Max: 100}, {Base: 1, Max: 100, Jitter: 0.2}, {Base: 1, Max: math.MaxInt64, Jitter: 1},
	} {
		for n := range 100 {
			if got := e.Wait(n, func() float64 { return 0.999999 }); got > e.Longest() || got <= 0 {
				t.Fatalf("%+v: wait %d is %d, the longest %d", e, n, got, e.Longest())
			}
		}
	}
}

func TestASleepEndsInTimeOrWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := delay.Sleep(t.Context(), time.Minute); err != nil || time.Since(start) != time.Minute {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if err := delay.Sleep(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("with a context of 1 s, after %s: %v", time.Since(start), err)
		}
		for _, d := range []time.Duration{0, -1} {
			if err := delay.Sleep(t.Context(), d); err != nil {
				t.Errorf("no wait at all: %v", err)
			}
			if err := delay.Sleep(ctx, d); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("no wait at all, under an ended context: %v", err)
			}
		}
	})
}
