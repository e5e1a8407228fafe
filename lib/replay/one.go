package replay

import (
	"context"
	"fmt"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
)

// ErrAlreadyDelivered is what ReplayOne returns for an item that a replay delivered
// before and that was kept, unless it is forced. Its code is INVALID_ARGUMENT.
var ErrAlreadyDelivered error = &fault.Error{
	Code: fault.CodeInvalidArgument, Msg: "the item was delivered already; with force it is sent again",
}

// OneOptions are the choices of ReplayOne. The zero value sends the item through its
// own sink and discards it when it was delivered.
type OneOptions struct {
	// OnSuccess is what becomes of the item when it was delivered. Default: discard.
	OnSuccess OnSuccess
	// Force sends an item again that was delivered already.
	Force bool
	// Sink is another configured sink to send through. A failure there leaves the
	// item as it was, but for its history.
	Sink string
	// Budget is the time for it. Zero: what the context has left, less Engine.Reserve.
	Budget retry.Budget
}

// Result is the outcome of ReplayOne.
type Result struct {
	Status     Status `json:"status"`
	ID         string `json:"id"`
	DeliveryID string `json:"delivery_id"`
	Sink       string `json:"sink"` // through which it was sent
	Attempts   int    `json:"attempts"`
	Error      string `json:"error,omitempty"`
	// NextReplayAt is when the schedule tries again. Zero: never, or it was delivered.
	NextReplayAt time.Time `json:"next_replay_at,omitzero"`
	// Replays is the number of replays charged to the item, this one included.
	Replays int `json:"replays"`
}

// ReplayOne sends one dead letter now, due or not, parked too. A failed send is a
// Result, not an error. Errors: SINK_DLQ_NOT_FOUND; ITEM_LEASED while another replay
// holds the item, or if it took it over; ErrAlreadyDelivered; INVALID_ARGUMENT for an
// item that cannot be decoded; NOT_ATTEMPTED when no time is left; those of Targets;
// SINK_DLQ_UNAVAILABLE, which after the send leaves the item leased until its lease
// runs out.
func (e *Engine) ReplayOne(ctx context.Context, id string, o OneOptions) (Result, error) {
	if err := checkOnSuccess(o.OnSuccess); err != nil {
		return Result{}, err
	}
	it, err := e.replayable(ctx, id, o.Force)
	if err != nil {
		return Result{}, err
	}
	name := it.Sink
	if o.Sink != "" {
		name = o.Sink
	}
	target, err := e.target(ctx, name)
	if err != nil {
		return Result{}, err
	}
	budget := o.Budget
	if budget.IsZero() {
		budget = retry.NewBudget(ctx, e.Reserve)
	}
	leased, err := e.Store.Claim(ctx, dlq.Claim{Sink: it.Sink, IDs: []string{it.ID}, Force: o.Force, TTL: budget.Lease()})
	if err != nil {
		return Result{}, err
	}
	if len(leased) == 0 {
		if _, err := e.replayable(ctx, it.ID, o.Force); err != nil {
			return Result{}, err
		}
		return Result{}, &fault.Error{Code: fault.CodeItemLeased, Msg: fmt.Sprintf("item %s is held by a replay", it.ID)}
	}
	if held, err := e.begin(ctx, leased[0]); err != nil || !held {
		e.release(ctx, budget, leased)
		if err == nil {
			err = &fault.Error{Code: fault.CodeItemLeased, Msg: fmt.Sprintf("item %s: its lease was lost before it was sent", it.ID)}
		}
		return Result{}, err
	}
	a := attempt{target: target, budget: budget, onSuccess: o.OnSuccess, elsewhere: name != it.Sink}
	rep := e.replay(ctx, a, leased[0])
	if rep.status == "" {
		e.release(ctx, budget, leased)
		return Result{}, rep.err
	}
	return e.settleOne(ctx, budget, name, rep)
}

// replayable returns the item, or why it cannot be replayed.
func (e *Engine) replayable(ctx context.Context, id string, force bool) (dlq.Item, error) {
	it, err := e.Store.Get(ctx, id)
	switch {
	case err != nil:
		return it, err
	case it.DecodeError != "":
		return it, invalid("item %s cannot be replayed, for it cannot be decoded: %s", it.ID, it.DecodeError)
	case !it.DeliveredAt.IsZero() && !force:
		return it, fmt.Errorf("item %s: %w", it.ID, ErrAlreadyDelivered)
	}
	return it, nil
}

func (e *Engine) settleOne(ctx context.Context, b retry.Budget, through string, rep replayed) (Result, error) {
	it := rep.leased.Item
	ctx, cancel := settleContext(ctx, b)
	defer cancel()
	if recordStatus(rep) == delivery.StatusDelivered {
		e.noteDelivered(ctx, it)
	}
	results, err := e.settle(ctx, []dlq.Settlement{rep.settlement})
	if err == nil && results[0] == dlq.SettleFenced {
		err = &fault.Error{Code: fault.CodeItemLeased, Msg: fmt.Sprintf("item %s: the replay ended (%s)", it.ID, rep.status), Cause: errFenced}
	}
	e.settled(ctx, rep, err)
	if err != nil {
		return Result{}, err
	}
	out := Result{
		Status: rep.status, ID: it.ID, DeliveryID: it.DeliveryID, Sink: through,
		Attempts: rep.attempts, Replays: it.Replays,
	}
	if rep.err != nil {
		out.Error = rep.err.Error()
	}
	if rep.settlement.Charge {
		out.Replays++
	}
	if rep.settlement.Action == dlq.ActionRetry && it.DeliveredAt.IsZero() {
		out.NextReplayAt = time.Now().UTC().Add(rep.settlement.Delay)
	}
	return out, nil
}
