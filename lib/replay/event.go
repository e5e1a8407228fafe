package replay

import (
	"context"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
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
