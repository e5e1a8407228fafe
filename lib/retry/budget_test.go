package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/retry"
)

func TestABudgetDividesTheTime(t *testing.T) {
	tests := []struct {
		whole, reserve     time.Duration
		attempts, reserved time.Duration
	}{
		{29 * time.Second, 0, 28 * time.Second, time.Second},
		{29 * time.Second, 3 * time.Second, 26 * time.Second, 3 * time.Second},
		{2 * time.Second, 0, 1500 * time.Millisecond, 500 * time.Millisecond},
		{100 * time.Millisecond, time.Second, 75 * time.Millisecond, 25 * time.Millisecond},
		{0, 0, 0, 0},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), tt.whole)
			defer cancel()
			b := retry.NewBudget(ctx, tt.reserve)
			if got := time.Until(b.Attempts); got != tt.attempts || b.Reserve != tt.reserved {
				t.Errorf("of %s: %s for attempts and a reserve of %s, want %s and %s", tt.whole, got, b.Reserve, tt.attempts, tt.reserved)
			}
			if b.Lease() <= tt.whole {
				t.Errorf("a lease of %s ends within the invocation of %s", b.Lease(), tt.whole)
			}
		})
	}
}

func TestDeliveriesThatFollowEachOtherShareTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 41*time.Second)
		defer cancel()
		b := retry.NewBudget(ctx, time.Second)
		for n, want := range map[int]time.Duration{0: 40 * time.Second, 1: 40 * time.Second, 4: 10 * time.Second} {
			share := b.Share(n)
			if got := time.Until(share.Attempts); got != want || share.Deadline != b.Deadline || share.Reserve != b.Reserve {
				t.Errorf("one of %d has %s, want %s and the same reserve", n, got, want)
			}
		}
		time.Sleep(time.Minute)
		if got := b.Share(2); time.Until(got.Attempts) > 0 {
			t.Errorf("a share of a spent budget has %s", time.Until(got.Attempts))
		}
	})
}

func TestWithoutADeadlineALeaseOutlivesAnyInvocation(t *testing.T) {
	b := retry.NewBudget(context.Background(), 0)
	if !b.Attempts.IsZero() || !b.Fits(time.Hour) || b.Lease() <= 15*time.Minute {
		t.Errorf("got %+v with a lease of %s", b, b.Lease())
	}
}

func TestTheContextOfAnAnswerOutlivesItsCallerAndEndsBeforeTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		b := retry.NewBudget(ctx, time.Second)
		cancel()
		time.Sleep(9800 * time.Millisecond)
		actx, stop := b.AnswerContext(ctx)
		defer stop()
		end, _ := actx.Deadline()
		if actx.Err() != nil || !end.Before(b.Deadline) {
			t.Errorf("the context is %v and ends %s before the deadline", actx.Err(), b.Deadline.Sub(end))
		}
	})
}
