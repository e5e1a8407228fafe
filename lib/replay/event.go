package replay

import (
	"context"
	"time"

	"github.com/google/uuid"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// fateOf is what a settlement makes of the delivery, as an event tells it; empty: nothing.
func fateOf(rep replayed) delivery.Fate {
	switch recordStatus(rep) {
	case delivery.StatusDelivered:
		return delivery.FateDeliveredByReplay
	case delivery.StatusExpired:
		return delivery.FateExpired
	case delivery.StatusDiscarded:
		return delivery.FateDiscarded
	}
	if rep.status == StatusParked {
		return delivery.FateParked
	}
	return ""
}

// notice tells of an outcome; false where nobody is told of it.
func (rep replayed) notice(now time.Time) (delivery.Notice, bool) {
	it := rep.leased.Item
	f := fateOf(rep)
	if f == "" || it.DeliveryID == "" || it.DecodeError != "" {
		return delivery.Notice{}, false
	}
	n := delivery.NoticeOf(it, f, now)
	n.Attempts += rep.attempts
	switch f {
	case delivery.FateDeliveredByReplay:
		n.Reason, n.Error = "", ""
	case delivery.FateParked:
		n.Reason, n.Time = rep.reason, it.Replays
	case delivery.FateExpired:
		n.Reason = dlq.ReasonExpired
	}
	if rep.err != nil {
		n.Error, n.RecipientGone = rep.err.Error(), sinks.IsGone(rep.err)
	}
	return n, true
}

// tell tells outcomes before they are settled. An outcome with an error must not be: its event
// could be neither sent nor kept.
func (e *Engine) tell(ctx context.Context, b retry.Budget, group ...replayed) []error {
	errs := make([]error, len(group))
	if e.Events == nil {
		return errs
	}
	var notices []delivery.Notice
	var of []int
	now := time.Now()
	for i, rep := range group {
		if n, ok := rep.notice(now); ok {
			notices, of = append(notices, n), append(of, i)
		}
	}
	for i, err := range e.Events.Tell(ctx, b, notices...) {
		errs[of[i]] = err
	}
	return errs
}

// discardTold is Discard for a sink that has discards told: under a lease, so that what is told
// is true.
func (e *Engine) discardTold(ctx context.Context, it dlq.Item) error {
	id, err := dlq.ParseID(it.ID)
	if err != nil {
		return err
	}
	budget := retry.NewBudget(ctx, e.Reserve)
	leased, err := e.Store.Claim(ctx, dlq.Claim{Sink: id.Sink, IDs: []string{it.ID}, Limit: 1, Force: true, Token: uuid.NewString(), TTL: budget.Lease()})
	if err != nil {
		return err
	}
	if len(leased) == 0 {
		if _, err := e.Store.Get(ctx, it.ID); fault.CodeOf(err) == fault.CodeDLQNotFound {
			return nil
		} else if err != nil {
			return err
		}
		return &fault.Error{Code: fault.CodeItemLeased, Msg: "item " + it.ID + ": a replay holds it"}
	}
	l := leased[0]
	rep := replayed{leased: l, status: statusDropped, settlement: dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDrop}}
	if err := e.tell(ctx, budget, rep)[0]; err != nil {
		e.release(ctx, budget, []dlq.Lease{l.Lease})
		return err
	}
	sctx, cancel := budget.SettleContext(ctx)
	defer cancel()
	results, err := e.settle(sctx, []dlq.Settlement{rep.settlement})
	switch {
	case err != nil:
		e.release(ctx, budget, []dlq.Lease{l.Lease})
		return err
	case results[0] != dlq.SettleApplied:
		return &fault.Error{Code: fault.CodeItemLeased, Msg: "item " + it.ID + ": its lease was lost before it was removed"}
	}
	if recordStatus(rep) == delivery.StatusDiscarded {
		e.note(sctx, fate{l.Item, delivery.StatusDiscarded})
	}
	return nil
}

// settleOwed sends the events that are owed, if any sink has events: for a quarter of the time, and
// there is a next tick.
func (r *run) settleOwed(ctx context.Context, names []string) {
	if r.Events == nil {
		return
	}
	for _, name := range names {
		t, err := r.Targets.Target(ctx, name)
		if err != nil || t.Events.To == "" {
			continue
		}
		if n, err := r.Events.Settle(ctx, r.budget.Share(4)); err != nil && ctx.Err() == nil {
			r.log().WarnContext(ctx, "owed events not settled", "settled", n, "error", err.Error())
		}
		return
	}
}
