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

// What is made beside a delivery ends before its answer, however late that is.
func TestWhatIsMadeBesideADeliveryEndsBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, whole := range []time.Duration{time.Second, 3 * time.Second, 29 * time.Second} {
			ctx, cancel := context.WithTimeout(t.Context(), whole)
			b := retry.NewBudget(ctx, time.Second)
			cancel() // the caller went away
			last := b.Deadline.Add(-b.Reserve / 8)
			for time.Now().Before(b.Deadline.Add(time.Second)) {
				actx, cancel, aside := b.Aside(ctx)
				end, _ := actx.Deadline()
				left := time.Until(end)
				if end.After(last) || !aside.Deadline.Equal(end) || left > 2*b.Reserve || left > 0 && actx.Err() != nil {
					t.Fatalf("%s before the deadline it ends at %s (%v)", time.Until(b.Deadline), time.Until(end), actx.Err())
				}
				if aside.Attempts.After(b.Attempts) || aside.Attempts.After(time.Now().Add(b.Reserve)) || aside.Reserve > max(left, 0) {
					t.Fatalf("%s before the deadline: %+v of %+v", time.Until(b.Deadline), aside, b)
				}
				if fits := time.Until(b.Attempts) >= b.Least; aside.Fits(0) != fits {
					t.Fatalf("%s before the last attempt ends, one fits: %v", time.Until(b.Attempts), aside.Fits(0))
				}
				cancel()
				time.Sleep(whole / 64)
			}
		}
		ctx, cancel, aside := retry.NewBudget(t.Context(), time.Second).Aside(t.Context())
		defer cancel()
		if end, ok := ctx.Deadline(); !ok || time.Until(end) != 2*time.Second || !aside.Fits(0) {
			t.Errorf("without a deadline: %+v", aside)
		}
	})
}
