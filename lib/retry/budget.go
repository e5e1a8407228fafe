package retry

import (
	"context"
	"time"
)

// DefaultReserve is the time kept at the end of an invocation for the dead-letter
// write and the answer.
const DefaultReserve = time.Second

// minAttempt is the shortest attempt worth starting, when there is time enough.
const minAttempt = 250 * time.Millisecond

// The times of P3 and of what is finished although the caller left, side by side: a lease
// outlives its invocation by leaseMargin (and the last attempt under it by dlq.SettleTime).
const (
	leaseMargin = 5 * time.Second
	// longestInvocation is the platform's bound: a lease's length without a deadline.
	longestInvocation = 15 * time.Minute
	// longestSettle bounds settling without a deadline.
	longestSettle = 30 * time.Second
	// leastStore and leastSettle are the times that a dead-letter write and a settlement get
	// after their end: where no platform has stopped the process, storing late beats losing.
	leastStore  = 100 * time.Millisecond
	leastSettle = 100 * time.Millisecond
)

// Budget divides the time until a deadline. The platform stops the process at the
// deadline without a margin, so the last part, the reserve, is kept free of attempts:
//
//	now ........ attempts ........ | grace | dead-letter write, twice | answer |
//	                            Attempts                                   Deadline
//
// The grace and the answer are a quarter of the reserve each. The zero value is no budget:
// who is given it divides the time of its context (see NewBudget).
type Budget struct {
	// Deadline is when the answer must have been given. Zero: no deadline.
	Deadline time.Time
	// Attempts is when the last attempt must have ended. Zero: no deadline.
	Attempts time.Time
	// Reserve is the time between Attempts and the deadline; without a deadline, the
	// time that a dead-letter write may take.
	Reserve time.Duration
	// Least is the shortest attempt worth starting.
	Least time.Duration
}

// NewBudget divides the time that ctx has left. The reserve is never more than a
// quarter of it; <= 0 means DefaultReserve. Where ctx has no deadline, the budget has none.
func NewBudget(ctx context.Context, reserve time.Duration) Budget {
	if reserve <= 0 {
		reserve = DefaultReserve
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		return Budget{Reserve: reserve, Least: minAttempt}
	}
	whole := max(time.Until(deadline), 0)
	reserve = min(reserve, whole/4)
	return Budget{
		Deadline: deadline,
		Attempts: deadline.Add(-reserve),
		Reserve:  reserve,
		Least:    min(minAttempt, whole/8),
	}
}

// IsZero reports whether b is the zero value, no budget at all.
func (b Budget) IsZero() bool { return b == Budget{} }

// Share returns b with its time for attempts cut to an nth, counted from now: what one
// of n deliveries that follow each other may spend. n < 2 returns b.
func (b Budget) Share(n int) Budget {
	if b.Attempts.IsZero() || n < 2 {
		return b
	}
	now := time.Now()
	b.Attempts = now.Add(max(b.Attempts.Sub(now), 0) / time.Duration(n))
	return b
}

// Fits reports whether an attempt that starts after wait can still be useful.
func (b Budget) Fits(wait time.Duration) bool {
	return b.Attempts.IsZero() || time.Until(b.Attempts)-wait >= b.Least
}

// latest is when an attempt must begin at the latest, where none waits longer than longest.
func (b Budget) latest(longest time.Duration) time.Time {
	end := time.Now().Add(longest)
	if last := b.Attempts.Add(-b.Least); !b.Attempts.IsZero() && last.Before(end) {
		return last
	}
	return end
}

// attemptDeadline is when an attempt that starts now must end.
func (b Budget) attemptDeadline(timeout time.Duration) time.Time {
	end := time.Now().Add(timeout)
	if !b.Attempts.IsZero() && b.Attempts.Before(end) {
		return b.Attempts
	}
	return end
}

// grace is how long a sink may take to return after its attempt's context ended.
func (b Budget) grace() time.Duration { return b.Reserve / 4 }

// storeContext returns the context of a dead-letter write. Neither a spent budget nor
// a caller that went away cancels it: a write always has its chance, even when a
// careless sink used up the reserve. It takes twice the reserve at most: a store that is away
// for longer makes the caller keep the message, and does not cost what is left of the invocation.
func (b Budget) storeContext(ctx context.Context) (context.Context, context.CancelFunc) {
	now := time.Now()
	end := now.Add(b.Reserve)
	if !b.Deadline.IsZero() {
		end = now.Add(2 * b.Reserve)
		if last := b.Deadline.Add(-b.Reserve / 4); last.Before(end) {
			end = last
		}
		if late := now.Add(b.Reserve / 4); late.After(end) {
			end = late
		}
		if !now.Before(b.Deadline) {
			end = now.Add(leastStore)
		}
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}

// SettleContext returns the context in which outcomes of replays are recorded. Neither a
// spent budget nor a caller that went away ends it: a message that was sent must not be
// taken for unsent. It leaves time for the answer.
func (b Budget) SettleContext(ctx context.Context) (context.Context, context.CancelFunc) {
	now := time.Now()
	end := now.Add(longestSettle)
	if !b.Deadline.IsZero() {
		end = b.Deadline.Add(-b.Reserve / 4)
		if soonest := now.Add(leastSettle); end.Before(soonest) {
			end = soonest
		}
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}

// AnswerContext returns the context for what is left to note after the outcome is
// safe. It outlives the caller and a spent budget, and ends before the deadline.
func (b Budget) AnswerContext(ctx context.Context) (context.Context, context.CancelFunc) {
	end := time.Now().Add(b.Reserve / 4)
	if last := b.Deadline.Add(-b.Reserve / 8); !b.Deadline.IsZero() && last.Before(end) {
		end = last
	}
	return context.WithDeadline(context.WithoutCancel(ctx), end)
}

// Aside returns the budget, and the context, of a delivery that is made beside this one, once this
// one is safe and before it is answered: one attempt that ends with b's own, or the reserve if that
// is sooner, and as much for keeping it. Neither a spent budget nor a caller that went away ends it.
func (b Budget) Aside(ctx context.Context) (context.Context, context.CancelFunc, Budget) {
	now := time.Now()
	end := now.Add(2 * b.Reserve)
	if last := b.Deadline.Add(-b.Reserve / 8); !b.Deadline.IsZero() && last.Before(end) {
		end = last
	}
	whole := max(end.Sub(now), 0)
	aside := Budget{Deadline: end, Attempts: end.Add(-min(b.Reserve, whole/2)), Least: b.Least}
	if !b.Attempts.IsZero() && b.Attempts.Before(aside.Attempts) {
		aside.Attempts = b.Attempts
	}
	aside.Reserve = min(b.Reserve, whole, end.Sub(aside.Attempts))
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), end)
	return ctx, cancel, aside
}

// Lease is the length of a lease that outlives the invocation: the time to the
// deadline and a margin, or longer than any invocation when there is none.
func (b Budget) Lease() time.Duration {
	if b.Deadline.IsZero() {
		return longestInvocation + leaseMargin
	}
	return max(time.Until(b.Deadline), 0) + leaseMargin
}
