package replay

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"backstop/lib/dlq"
	"backstop/lib/retry"
)

// expireBatch is how many items whose time is over are marked in one step: the most that one
// claim leases.
const expireBatch = 50

// unsendable decides about an item that must not be sent, whatever its receiver is like: its
// delivery was canceled, its time is over, or it may have arrived and its receiver recognises it no
// more. False: it may be sent.
func unsendable(a attempt, l dlq.Leased) (rep replayed, decided bool) {
	rep = replayed{leased: l, settlement: dlq.Settlement{Lease: l.Lease, Operation: a.operation}}
	switch {
	case l.Canceled:
		rep.status, rep.reason, rep.settlement.Action = statusCanceled, l.Item.Reason, dlq.ActionDrop
	case !a.late && l.Item.Expired(time.Now()):
		rep.expire()
	default:
		end := a.recognises(l.Item)
		if end.IsZero() || time.Now().Before(end) {
			return replayed{}, false
		}
		rep.hold(a, retry.Unrecognised(end))
	}
	return rep, true
}

// recognises is until when an item that may have arrived may be sent: then its receiver may not recognise
// it any more, and an operator decides. Zero: there is no such time.
func (a attempt) recognises(it dlq.Item) time.Time {
	if it.Unanswered <= 0 || a.force || a.elsewhere || a.target.Sink == nil {
		return time.Time{}
	}
	return a.target.Retry.RecognisedUntil(a.target.Sink, it.FirstAttempt())
}

// hold settles it as one that may have arrived: the schedule leaves it alone. Nothing was sent, and
// nothing is charged.
func (rep *replayed) hold(a attempt, why error) {
	rep.status, rep.reason, rep.err = statusHeld, dlq.ReasonAmbiguous, why
	rep.settlement.Action, rep.settlement.Error = dlq.ActionHold, markedBy(a.operation, why)
	if rep.leased.Item.State(time.Now()) == dlq.StateParked {
		rep.settlement.Action = dlq.ActionPark
	}
}

// expire settles it as expired. Attempts that failed before are not charged: charges decide when an
// item is parked, and this one is replayed no more. What of them may have arrived is counted.
func (rep *replayed) expire() {
	rep.status, rep.reason, rep.settlement.Action = statusExpired, dlq.ReasonExpired, dlq.ActionExpire
}

// learned reports whether a replay says anything of its receiver.
func (rep replayed) learned() bool {
	return rep.attempts > 0 || rep.status != statusExpired && rep.status != statusCanceled && rep.status != statusHeld
}

// spare settles an item that must not be sent; it asks for no slot, and nobody whether it may go.
// False: it may be sent.
func (l *lane) spare(item dlq.Leased) (replayed, bool) {
	rep, decided := unsendable(l.attempt, item)
	if decided {
		l.sends.Add(1)
		l.settler.in <- rep
	}
	return rep, decided
}

// sift returns the items that may be sent, and settles the others.
func (l *lane) sift(leased []dlq.Leased) (left []dlq.Leased) {
	for _, item := range leased {
		if _, spared := l.spare(item); !spared {
			left = append(left, item)
		}
	}
	return left
}

// markExpired marks what is overdue in a sink, whatever else keeps the sink from being worked on,
// and reports whether it marked anything. It takes a quarter of the time at most: there is a next tick.
func (r *run) markExpired(ctx context.Context, name string) (marked bool) {
	share := r.budget.Share(4)
	failed := false
	s := &settler{engine: r.Engine, ctx: ctx, budget: r.budget, settled: func(rep replayed, err error) {
		r.settled(ctx, rep, err)
		r.tallied(name, rep, err)
		marked = marked || err == nil
		failed = failed || err != nil && !errors.Is(err, errFenced)
	}}
	for !failed && share.Fits(0) && ctx.Err() == nil {
		if n := r.markBatch(ctx, s, name); n == 0 {
			break
		}
	}
	return marked
}

// markBatch marks one batch, and returns how many items it had.
func (r *run) markBatch(ctx context.Context, s *settler, name string) int {
	if !r.batches.take(ctx) {
		return 0
	}
	defer r.batches.give()
	leased, err := r.lease(ctx, dlq.Claim{Sink: name, Expired: true, Limit: expireBatch, Token: uuid.NewString()})
	if err != nil && ctx.Err() == nil {
		r.tally.fail(name, err)
	}
	group := make([]replayed, len(leased))
	for i, l := range leased {
		rep, decided := unsendable(attempt{}, l)
		if !decided { // the store's clock is ahead of ours, and it is the one that counts items
			rep = replayed{leased: l, settlement: dlq.Settlement{Lease: l.Lease}}
			rep.expire()
		}
		group[i] = rep
	}
	if len(group) > 0 {
		s.settle(group)
	}
	return len(group)
}

// pruneCanceled forgets the notes of canceled deliveries that are over. There is time for the rest
// at the next tick.
func (r *run) pruneCanceled(ctx context.Context, name string) {
	if _, err := r.Store.PruneCanceled(ctx, name); err != nil && ctx.Err() == nil {
		r.log().WarnContext(ctx, "notes of canceled deliveries not pruned", "sink", name, "error", err.Error())
	}
}
