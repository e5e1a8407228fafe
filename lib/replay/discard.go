package replay

import (
	"context"

	"github.com/google/uuid"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
)

// Discard removes a dead letter that was read before, and notes that its delivery was given up: under a lease, so that what
// is told of it is true by now. One that is gone counts as removed. ITEM_LEASED while a replay holds it. Where its sink has
// that told, it is removed once its event is safe.
func (e *Engine) Discard(ctx context.Context, it dlq.Item) error {
	id, err := dlq.ParseID(it.ID)
	if err != nil {
		return err
	}
	budget := retry.NewBudget(ctx, e.Reserve)
	leased, err := e.Store.Claim(ctx, dlq.Claim{Sink: id.Sink, IDs: []string{it.ID}, Limit: 1, Force: true, Quiet: true, Token: uuid.NewString(), TTL: budget.Lease()})
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
