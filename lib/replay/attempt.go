package replay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"backstop/internal/delay"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Status is the outcome of one replay.
type Status string

// The statuses.
const (
	StatusDelivered Status = "delivered" // the sink accepted it
	StatusFailed    Status = "failed"    // the sink did not; the dead letter stays
	StatusParked    Status = "parked"    // failed too often: the schedule leaves it alone

	statusDropped  Status = "discarded" // by a bulk operation, unsent
	statusExpired  Status = "expired"   // its time was over before it was delivered
	statusCanceled Status = "canceled"  // its delivery was, and it is removed
	statusPutOff   Status = "put_off"   // its receiver is left alone
	statusHeld     Status = "held"      // it may have arrived, and its receiver recognises it no more
)

// attempt is what one replay of a leased item is made with.
type attempt struct {
	target    delivery.Target
	budget    retry.Budget
	onSuccess OnSuccess
	operation string // the bulk operation's round that it belongs to; empty: none
	elsewhere bool   // target is not the item's own sink: it was redirected in bulk
	force     bool   // the gate is told, and not asked; and it is sent although it may have arrived
	late      bool   // it is sent although its time is over
	gate      Gate   // asked instead of the engine's; nil: that one
}

// replayed is the outcome of a replay, before it is settled.
type replayed struct {
	leased     dlq.Leased
	settlement dlq.Settlement
	status     Status // empty: nothing was sent, the item is given back
	reason     dlq.Reason
	attempts   int
	err        error
	receipt    string
	elapsed    time.Duration
	// sinkFailed: the failure says something of the sink, not of this message alone.
	sinkFailed bool
	// refused: the gate let nothing go, and may do so at notBefore. keyed: it is the item's rate key alone that
	// waits until then, which says nothing of the sink.
	refused   bool
	keyed     bool
	notBefore time.Time
}

// replay sends a leased item and decides how to settle it.
func (e *Engine) replay(ctx context.Context, a attempt, l dlq.Leased) replayed {
	start := time.Now()
	if rep, decided := unsendable(a, l); decided {
		return rep
	}
	rep := replayed{leased: l, settlement: dlq.Settlement{Lease: l.Lease, Operation: a.operation}}
	if done := e.succeeds(ctx, a, &rep); !done {
		return rep
	}
	send := retry.Delivery{Budget: withinLease(a.budget, l.Lease), Force: a.force, Unanswered: l.Item.Unanswered}
	if a.elsewhere {
		send.Unanswered = 0 // another receiver has got none of them
	}
	if !a.late {
		send.ExpiresAt = l.Item.ExpiresAt
	}
	retrier := retry.NewRetrier(a.target.Sink, a.target.Retry, nil)
	retrier.Reserve, retrier.Logger, retrier.Gate, retrier.Flow = e.Reserve, e.log(), e.gate(a.gate), a.target.Flow
	retrier.SlotWait = slotWait
	var out retry.Outcome
	err := l.Send(ctx, a.target.Sink, func(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
		send.To, send.Message = to, m
		out = retrier.Carry(ctx, send)
		return nil
	})
	if err != nil {
		rep.reason, rep.err = dlq.ReasonInvalid, err
		e.failed(a, &rep, time.Time{})
		return rep
	}
	rep.attempts, rep.reason, rep.err, rep.elapsed = out.Attempts, out.Reason, out.Err, time.Since(start)
	rep.settlement.Unanswered, rep.receipt = out.Unanswered, out.Receipt
	switch {
	case out.Status == retry.StatusDelivered:
		rep.status, rep.settlement.Action = StatusDelivered, dlq.ActionDiscard
		if a.onSuccess == OnSuccessKeep {
			rep.settlement.Action = dlq.ActionKeep
		}
	case out.Reason == dlq.ReasonExpired:
		rep.expire()
		rep.sinkFailed = out.Attempts > 0 // and might have been tried again
	case refused(out):
		rep.refused, rep.notBefore = true, out.NotBefore
		rep.keyed = out.Reason == dlq.ReasonThrottled && sinks.RateKeyOf(a.target.Sink, send.To) != ""
		if a.operation == "" && (rep.keyed || sinks.HasReceivers(a.target.Sink)) {
			e.putOff(&rep, out, sinks.ReceiverOf(a.target.Sink, send.To))
		}
	case out.Attempts > 0:
		e.failed(a, &rep, out.NotBefore)
		if sinks.HoldOf(out.Err) > 0 && sinks.RateKeyOf(a.target.Sink, send.To) != "" {
			rep.keyed, rep.sinkFailed, rep.notBefore = true, false, out.NotBefore
		}
	case out.Reason == dlq.ReasonAmbiguous:
		rep.hold(a, out.Err)
	}
	return rep
}

// mostPutOff is the longest that an item whose receiver is left alone is put off.
const mostPutOff = time.Hour

// putOff decides how an item is settled whose own receiver is left alone, or whose rate key is held or has
// no slot, while others of its sink may be well: out of the way, uncharged, and for the longer the longer it has waited, so
// that a backlog of one receiver does not keep the schedule busy. What belongs to the sink's
// own receiver comes back with the next probe; what a receiver that is back did not get yet,
// with the next step; and what this process alone holds back, when it tries again.
func (e *Engine) putOff(rep *replayed, out retry.Outcome, receiver string) {
	rep.status = statusPutOff
	s := &rep.settlement
	s.Action, s.Delay = dlq.ActionRetry, max(time.Until(rep.notBefore), 0)
	if it := rep.leased.Item; out.Down && receiver != "" {
		spread := 0.8 + 0.4*e.rand()
		s.Delay = max(s.Delay, min(mostPutOff, time.Duration(spread*float64(time.Since(it.At)/8))))
	}
}

// refused reports whether the gate let nothing go.
func refused(out retry.Outcome) bool {
	return out.Attempts == 0 && (out.Reason == dlq.ReasonOpen || out.Reason == dlq.ReasonThrottled)
}

// withinLease returns b with its attempts ended in time for settling under the lease.
func withinLease(b retry.Budget, l dlq.Lease) retry.Budget {
	if end := l.SendUntil(); b.Attempts.IsZero() || end.Before(b.Attempts) {
		b.Attempts = end
	}
	return b
}

// failed decides how a failure is settled.
func (e *Engine) failed(a attempt, rep *replayed, notBefore time.Time) {
	it, p, s := rep.leased.Item, a.target.Replay, &rep.settlement
	s.Error = markedBy(a.operation, rep.err)
	s.Delay = p.Delay(it.Replays, e.rand)
	rep.status = StatusFailed
	final := rep.reason == dlq.ReasonTerminal || rep.reason == dlq.ReasonInvalid
	rep.sinkFailed = !final
	if ours(rep.reason) || rep.attempts == 0 && !final || sinks.IsOurs(rep.err) || a.elsewhere {
		// It says nothing of the item, or of its own sink: it stays as it was.
		s.Action = before(it)
		s.Delay = p.Delay(0, e.rand)
	} else {
		s.Charge = true
		over := it.Expired(time.Now())
		switch {
		case over && a.late:
			s.Action = dlq.ActionHold
		case over && !final && rep.reason != dlq.ReasonAmbiguous: // during the attempt
			s.Charge = false
			rep.expire()
		case it.Replays+1 >= p.MaxReplays:
			s.Action, rep.status = dlq.ActionPark, StatusParked
		case final || rep.reason == dlq.ReasonAmbiguous || it.SupersededBy != "":
			s.Action = dlq.ActionHold
		default:
			s.Action = dlq.ActionRetry
		}
	}
	if s.Action != dlq.ActionRetry {
		s.Delay = 0
		return
	}
	for _, t := range []time.Time{notBefore, it.NotBefore} {
		s.Delay = max(s.Delay, time.Until(t))
	}
}

// ours reports whether the failure is not the item's or its receiver's: the sink's
// configuration, or our own end. (Attempts mark what this process lacked: sinks.IsOurs.)
func ours(r dlq.Reason) bool { return r == dlq.ReasonConfig || r == dlq.ReasonCanceled }

// before is the action that leaves an item as due as it was before its claim.
func before(it dlq.Item) dlq.Action {
	switch state := it.State(time.Now()); {
	case state == dlq.StateParked:
		return dlq.ActionPark
	case state.Scheduled():
		return dlq.ActionRetry
	}
	return dlq.ActionHold
}

// errFenced is the outcome of a replay whose lease somebody else held by the time it
// was settled.
var errFenced = errors.New("another replayer holds the item by now: nothing was recorded")

// settled tells everybody concerned what became of a replay. err is why the outcome
// could not be recorded, nil when it was.
func (e *Engine) settled(ctx context.Context, rep replayed, err error) {
	it := rep.leased.Item
	attrs := []any{
		"delivery_id", it.DeliveryID, "item_id", it.ID, "sink", it.Sink, "status", string(rep.status),
		"reason", string(rep.reason), "attempts", rep.attempts, "elapsed_ms", rep.elapsed.Milliseconds(), "replays", it.Replays,
	}
	if rep.status == statusExpired { // the whole story: nothing follows
		attrs = []any{
			"delivery_id", it.DeliveryID, "item_id", it.ID, "sink", it.Sink, "attempts", it.Attempts + rep.attempts,
			"unanswered", it.Unanswered + rep.settlement.Unanswered, "replays", it.Replays,
		}
	}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, key, value)
		}
	}
	add("code", string(fault.CodeOf(rep.err)))
	add("receipt", rep.receipt)
	add("operation", rep.settlement.Operation)
	add("trace", it.Trace)
	if err != nil {
		e.log().WarnContext(ctx, "replay not recorded", append(attrs, "error", err.Error())...)
		return
	}
	switch rep.status {
	case statusDropped:
		e.log().InfoContext(ctx, "discarded", attrs...)
		return
	case statusCanceled:
		e.log().InfoContext(ctx, "canceled", attrs...)
		return
	case statusExpired:
		e.log().InfoContext(ctx, "expired", attrs...)
		if o := e.Observer; o != nil {
			o.ReplayExpired(ctx, it.Sink)
		}
		return
	case statusHeld:
		e.log().InfoContext(ctx, "held", attrs...)
		return
	case statusPutOff:
		e.log().DebugContext(ctx, "replay put off", attrs...) // there may be a thousand; the summary says why
		return
	}
	e.log().InfoContext(ctx, "replay", attrs...)
	if o := e.Observer; o != nil {
		switch rep.status {
		case StatusDelivered:
			o.ReplayDelivered(ctx, it.Sink)
		case StatusParked:
			o.Parked(ctx, it.Sink)
			o.ReplayFailed(ctx, it.Sink)
		case StatusFailed:
			o.ReplayFailed(ctx, it.Sink)
		}
	}
}

// fate is what became of a dead letter, for the record of its delivery.
type fate struct {
	item   dlq.Item
	status delivery.Status
}

// note tells the records of deliveries what became of their dead letters, and returns the
// record's status for each: empty where there is none, or none that is known. What happens to
// the items does not depend on whether that works.
func (e *Engine) note(ctx context.Context, fates ...fate) []delivery.Status {
	statuses := make([]delivery.Status, len(fates))
	changes, of := make([]delivery.Change, 0, len(fates)), make([]int, 0, len(fates))
	for i, f := range fates {
		if f.item.DeliveryID != "" && f.item.DecodeError == "" {
			changes, of = append(changes, delivery.ChangeOf(f.item, f.status)), append(of, i)
		}
	}
	if e.Records == nil || len(changes) == 0 {
		return statuses
	}
	noted, err := e.Records.Update(ctx, changes...)
	if err != nil {
		e.log().WarnContext(ctx, "delivery records not updated", "deliveries", len(changes), "delivery_id", changes[0].ID, "sink", changes[0].Sink, "error", err.Error())
		return statuses
	}
	for i, status := range noted {
		statuses[of[i]] = status
	}
	return statuses
}

// noteBefore tells the records what is true before the items are settled: a receiver has them, or
// their time is over. A process that ends between the two has the delivered ones sent again, and
// the others marked by the next tick; the other way round, nobody would tell any more: what is
// gone or marked is not met again, and a resend of its delivery or an import would start it anew.
// It leaves most of the time for settling.
func (e *Engine) noteBefore(ctx context.Context, group ...replayed) {
	var fates []fate
	for _, rep := range group {
		if s := recordStatus(rep); s == delivery.StatusDelivered || s == delivery.StatusExpired {
			fates = append(fates, fate{rep.leased.Item, s})
		}
	}
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/4)
		defer cancel()
	}
	e.note(ctx, fates...)
}

// settle records outcomes. It asks again until ctx ends, after the store has given up: an
// outcome that is not recorded is a message that is sent twice.
func (e *Engine) settle(ctx context.Context, s []dlq.Settlement) (results []dlq.SettleResult, err error) {
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		results, err = e.Store.Settle(ctx, s)
		if fault.CodeOf(err) != fault.CodeDLQUnavailable || delay.Sleep(ctx, wait) != nil {
			break
		}
	}
	if err == nil && len(results) != len(s) {
		err = &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("settle: %d results for %d items", len(results), len(s))}
	}
	for _, r := range results {
		if err == nil && r != dlq.SettleApplied && r != dlq.SettleFenced {
			err = &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("settle: unknown result %q", r)}
		}
	}
	return results, err
}

// release gives leases back. When that fails they run out by themselves.
func (e *Engine) release(ctx context.Context, b retry.Budget, leases []dlq.Lease) {
	ctx, cancel := b.SettleContext(ctx)
	defer cancel()
	if err := e.Store.Release(ctx, leases); err != nil {
		e.log().WarnContext(ctx, "leases not given back", "items", len(leases), "error", err.Error())
	}
}
