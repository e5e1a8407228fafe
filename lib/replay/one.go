package replay

import (
	"cmp"
	"context"
	"encoding/json"
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

// ErrExpired is what ReplayOne returns for an item whose time is over, unless it is forced. Its
// code is INVALID_ARGUMENT.
var ErrExpired error = &fault.Error{
	Code: fault.CodeInvalidArgument, Msg: "its time is over; with force it is sent all the same",
}

// OneOptions are the choices of ReplayOne. The zero value sends the item as it is and discards it when it was delivered.
type OneOptions struct {
	// OnSuccess is what becomes of the item when it was delivered. Default: discard.
	OnSuccess OnSuccess
	// Force sends an item again that was delivered already, or is superseded, and one whose time is over.
	Force bool
	// Message, Recipient and Sink make another dead letter of the item, of the same delivery, and send that
	// one: with what is given of the message, another recipient (JSON; null: the sink's own), in another
	// sink. The item waits from then on, superseded (dlq.Item.SupersededBy), whatever becomes of the
	// other. Repeated, the call sends what it made before, and makes none.
	Message   *MessageEdit
	Recipient json.RawMessage
	Sink      string
	// Budget is the time for it. Zero: what the context has left, less Engine.Reserve.
	Budget retry.Budget
}

// Result is the outcome of ReplayOne.
type Result struct {
	Status     Status `json:"status"`
	ID         string `json:"id"` // of what was sent
	DeliveryID string `json:"delivery_id"`
	Sink       string `json:"sink"` // through which it was sent
	Attempts   int    `json:"attempts"`
	Error      string `json:"error,omitempty"`
	// NextReplayAt is when the schedule tries again. Zero: never, or it was delivered.
	NextReplayAt time.Time `json:"next_replay_at,omitzero"`
	// Replays is the number of replays charged to the item, this one included.
	Replays int `json:"replays"`
	// SupersededBy is the public id of the dead letter that was made of the item and sent. Empty: none was.
	SupersededBy string `json:"superseded_by,omitempty"`
}

// ReplayOne sends one dead letter now, due or not, parked too. A failed send is a
// Result, not an error. Errors: SINK_DLQ_NOT_FOUND; ITEM_LEASED while another replay
// holds the item, or if it took it over; ErrAlreadyDelivered; ErrExpired; ErrSuperseded; INVALID_ARGUMENT for
// what the sink can never send, an item that cannot be decoded, or whose delivery was canceled; NOT_ATTEMPTED when no time is left; those of Targets;
// SINK_DLQ_UNAVAILABLE, which after the send leaves the item leased until its lease
// runs out, as does an event that could be neither sent nor kept.
func (e *Engine) ReplayOne(ctx context.Context, id string, o OneOptions) (Result, error) {
	if err := checkOnSuccess(o.OnSuccess); err != nil {
		return Result{}, err
	}
	it, err := e.Store.Get(ctx, id)
	switch {
	case err != nil:
	case o.edits():
		if err = refuseEdit(it, o.Force); err == nil {
			return e.supersede(ctx, it, o)
		}
	default:
		err = refuse(it, o.Force)
	}
	if err != nil {
		return Result{}, err
	}
	target, err := e.target(ctx, it.Sink)
	if err != nil {
		return Result{}, err
	}
	return e.replayLeased(ctx, it, target, "", o, o.budget(ctx, e.Reserve))
}

// budget returns the time for it.
func (o OneOptions) budget(ctx context.Context, reserve time.Duration) retry.Budget {
	if o.Budget.IsZero() {
		return retry.NewBudget(ctx, reserve)
	}
	return o.Budget
}

// replayLeased sends an item under its lease: that of the token, or a new one.
func (e *Engine) replayLeased(ctx context.Context, it dlq.Item, target delivery.Target, token string, o OneOptions, budget retry.Budget) (Result, error) {
	item, err := dlq.ParseID(it.ID)
	if err != nil {
		return Result{}, err
	}
	var rep replayed
	err = dlq.Single{
		Store: patient{e.Store, e, budget}, ID: item, Force: o.Force, Lease: budget.Lease(), Token: token,
		Refuse: func(it dlq.Item) error { return refuse(it, o.Force) },
		Send: func(ctx context.Context, l dlq.Leased) (dlq.Settlement, error) {
			rep = e.replay(ctx, attempt{target: target, budget: budget, onSuccess: o.OnSuccess, force: true, late: o.Force}, l)
			return rep.settlement, rep.err
		},
		After: budget.SettleContext,
		BeforeSettle: func(ctx context.Context, _ dlq.Leased, _ dlq.Settlement) error {
			if err := e.tell(ctx, budget, rep)[0]; err != nil {
				return err
			}
			e.noteBefore(ctx, rep)
			return nil
		},
	}.Replay(ctx)
	if rep.status == "" {
		return Result{}, err
	}
	if fault.CodeOf(err) == fault.CodeItemLeased {
		err = fmt.Errorf("the replay ended (%s): %w", rep.status, err)
	}
	e.settled(ctx, rep, err)
	if err == nil && !rep.learned() {
		err = rep.err
		if rep.status == statusExpired { // on the way to its sink
			err = expired(rep.leased.Item)
		}
	}
	if err != nil {
		return Result{}, err
	}
	return rep.result(it.Sink), nil
}

// refuse says why the item cannot be replayed; nil when it can.
func refuse(it dlq.Item, force bool) error {
	switch {
	case it.DecodeError != "":
		return invalid("item %s cannot be replayed, for it cannot be decoded: %s", it.ID, it.DecodeError)
	case !it.DeliveredAt.IsZero() && !force:
		return fmt.Errorf("item %s: %w", it.ID, ErrAlreadyDelivered)
	case it.DeliveredAt.IsZero() && it.Expired(time.Now()) && !force:
		return expired(it)
	case it.SupersededBy != "" && !force:
		return superseded(it, "")
	}
	return nil
}

// expired says when the item's time was over.
func expired(it dlq.Item) error {
	at := cmp.Or(it.ExpiresAt, it.ExpiredAt, it.At)
	return fmt.Errorf("item %s expired at %s: %w", it.ID, at.UTC().Format(time.RFC3339), ErrExpired)
}

// result is what a replay through a sink is told as, once it is settled.
func (rep replayed) result(through string) Result {
	it := rep.leased.Item
	out := Result{
		Status: rep.status, ID: it.ID, DeliveryID: it.DeliveryID, Sink: through,
		Attempts: rep.attempts, Replays: it.Replays,
	}
	if rep.err != nil {
		out.Error = rep.err.Error()
	}
	if rep.status == statusExpired { // after an attempt that failed
		out.Status = StatusFailed
	}
	if rep.settlement.Charge {
		out.Replays++
	}
	if rep.settlement.Action == dlq.ActionRetry && it.DeliveredAt.IsZero() {
		out.NextReplayAt = time.Now().UTC().Add(rep.settlement.Delay)
	}
	return out
}

// patient is the engine's store for one replay: a settlement is repeated until the time of
// the invocation ends.
type patient struct {
	Store
	engine *Engine
	budget retry.Budget
}

// Settle implements dlq.Leases.
func (p patient) Settle(ctx context.Context, s []dlq.Settlement) ([]dlq.SettleResult, error) {
	return p.engine.settle(ctx, s)
}

// Release never fails: leases that are not given back run out by themselves.
func (p patient) Release(ctx context.Context, l []dlq.Lease) error {
	p.engine.release(ctx, p.budget, l)
	return nil
}
