package replay

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/google/uuid"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
)

// MessageEdit is what an operator changes of a message. Nil fields stay as they are.
type MessageEdit struct {
	Subject  *string           `json:"subject,omitempty"`
	Body     *string           `json:"body,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"` // all of it, where it is given
}

// edits reports whether the options make another dead letter.
func (o OneOptions) edits() bool { return o.Sink != "" || o.Message != nil || o.Recipient != nil }

// successor is the dead letter that supersedes it. What the attempts of it met at their receiver counts on in
// its own sink alone.
func (o OneOptions) successor(it dlq.Item) dlq.Item {
	by := it
	by.ID, by.Journal, by.At, by.NotBefore = "", "", time.Time{}, time.Time{}
	by.Origin, by.Sink = it.ID, cmp.Or(o.Sink, it.Sink)
	if by.Sink != it.Sink {
		by.Unanswered = 0
	}
	if it.Of == nil {
		by.Of = &dlq.Of{Sink: it.Sink, Fingerprint: delivery.FingerprintOf(it)}
	}
	by.Message.Metadata = maps.Clone(it.Message.Metadata)
	if m := o.Message; m != nil {
		if m.Subject != nil {
			by.Message.Subject = *m.Subject
		}
		if m.Body != nil {
			by.Message.Body = *m.Body
		}
		if m.Metadata != nil {
			by.Message.Metadata = maps.Clone(m.Metadata)
		}
	}
	if o.Recipient != nil {
		by.Recipient = bytes.Clone(o.Recipient)
		if string(bytes.TrimSpace(o.Recipient)) == "null" {
			by.Recipient = nil
		}
	}
	return by
}

// content is ContentFingerprint of an item.
func content(it dlq.Item) string {
	return dlq.ContentFingerprint(it.Recipient, it.Message.Subject, it.Message.Body, it.Message.Metadata)
}

// supersede makes another dead letter of an item, which waits from then on, and sends that one.
func (e *Engine) supersede(ctx context.Context, it dlq.Item, o OneOptions) (Result, error) {
	by := o.successor(it)
	if by.Sink == it.Sink && content(by) == content(it) {
		return Result{}, invalid("item %s has this message and this recipient, and is in this sink: there is nothing to change", it.ID)
	}
	target, err := e.target(ctx, by.Sink)
	if err != nil {
		return Result{}, err
	}
	request := delivery.Request{ID: by.DeliveryID, Sink: by.Sink, Recipient: json.RawMessage(by.Recipient), Message: by.Message}
	if err := request.Check(target.Sink, e.MaxBytes); err != nil {
		return Result{}, err
	}
	budget := o.budget(ctx, e.Reserve)
	l, err := e.take(ctx, it, budget, o.Force)
	if err != nil {
		return Result{}, err
	}
	heir, err := dlq.FinishSuperseding(ctx, e.Store, l.Item)
	token := ""
	switch {
	case err != nil:
	case heir == "":
		by = o.successor(l.Item)
		if by, err = dlq.Prepare(ctx, by); err != nil {
			break
		}
		var leased dlq.Leased
		if leased, err = e.Store.Supersede(ctx, dlq.Succession{Lease: l.Lease, By: by, TTL: budget.Lease()}); err == nil {
			heir, token = leased.ID, leased.Token
			e.log().InfoContext(ctx, "superseded", "delivery_id", it.DeliveryID, "item_id", it.ID, "sink", it.Sink, "superseded_by", heir, "to", by.Sink)
		}
	case l.Item.SupersededAs.Content != content(by) || sinkOf(heir) != by.Sink:
		err = superseded(l.Item, heir)
	}
	if token == "" { // else it is over
		e.release(ctx, budget, []dlq.Lease{l.Lease})
	}
	if err != nil {
		return Result{}, err
	}
	result, err := e.finish(ctx, it, heir, token, target, o, budget)
	if err != nil {
		return Result{}, fmt.Errorf("item %s is superseded by %s: %w", it.ID, heir, err)
	}
	result.SupersededBy = heir
	return result, nil
}

// take leases an item that is to be superseded: nothing is sent under the lease.
func (e *Engine) take(ctx context.Context, it dlq.Item, b retry.Budget, force bool) (dlq.Leased, error) {
	leased, err := e.Store.Claim(ctx, dlq.Claim{Sink: it.Sink, IDs: []string{it.ID}, Quiet: true, Token: uuid.NewString(), TTL: b.Lease()})
	if err != nil {
		return dlq.Leased{}, err
	}
	if len(leased) == 0 {
		now, err := e.Store.Get(ctx, it.ID)
		if err == nil {
			err = refuseEdit(now, force)
		}
		return dlq.Leased{}, cmp.Or(err, error(&fault.Error{Code: fault.CodeItemLeased, Msg: "item " + it.ID + " is held by a replay"}))
	}
	l := leased[0]
	if err = refuseEdit(l.Item, force); err == nil && l.Canceled {
		err = invalid("item %s: its delivery was canceled", it.ID)
	}
	if err != nil {
		e.release(ctx, b, []dlq.Lease{l.Lease})
	}
	return l, err
}

// finish sends what superseded an item. It may be gone where the request is repeated.
func (e *Engine) finish(ctx context.Context, it dlq.Item, heir, token string, t delivery.Target, o OneOptions, b retry.Budget) (Result, error) {
	by, err := e.Store.Get(ctx, heir)
	if fault.CodeOf(err) == fault.CodeDLQNotFound {
		if rec, same := e.recordOf(ctx, it); same && rec.Status == delivery.StatusDelivered {
			return Result{}, fmt.Errorf("it was delivered at %s: %w", rec.UpdatedAt.UTC().Format(time.RFC3339), ErrAlreadyDelivered)
		}
		return Result{}, &fault.Error{Code: fault.CodeDLQNotFound, Msg: "that one is gone: it was delivered or removed"}
	}
	if err == nil {
		err = refuse(by, o.Force)
	}
	if err != nil {
		return Result{}, err
	}
	return e.replayLeased(ctx, by, t, token, o, b)
}

// refuseEdit says why an item cannot be superseded; nil when it can.
func refuseEdit(it dlq.Item, force bool) error {
	if !it.DeliveredAt.IsZero() {
		return fmt.Errorf("item %s: %w", it.ID, ErrAlreadyDelivered)
	}
	it.SupersededBy = "" // a request that is repeated
	return refuse(it, force)
}

func sinkOf(id string) string {
	parsed, err := dlq.ParseID(id)
	if err != nil {
		return ""
	}
	return parsed.Sink
}

// ErrSuperseded is what ReplayOne returns for an item that another dead letter supersedes, unless it is forced,
// and where it was superseded with other content or in another sink than asked for. Its code is
// INVALID_ARGUMENT.
var ErrSuperseded = dlq.ErrSuperseded

// superseded says by what an item is.
func superseded(it dlq.Item, heir string) error {
	by := cmp.Or(heir, it.SupersededBy)
	return fmt.Errorf("item %s is superseded by %s: replay or change that one (with force, %s is sent as it is, too): %w", it.ID, by, it.ID, ErrSuperseded)
}

// succeeds has it noted, before an item is sent that came from another sink, that it supersedes the one there:
// whoever moved it may have died before that. False: it must not be sent now.
func (e *Engine) succeeds(ctx context.Context, a attempt, rep *replayed) bool {
	it := rep.leased.Item
	if from := sinkOf(it.Origin); from == "" || from == it.Sink {
		return true
	}
	noted, err := e.Store.NoteSuperseded(ctx, it)
	if err != nil {
		rep.err = err
		return false
	}
	if !noted {
		rep.hold(a, invalid("item %s does not supersede %s: something else became of that one", it.ID, it.Origin))
	}
	return noted
}
