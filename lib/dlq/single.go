package dlq

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// The times that keep two replays apart; those of an invocation stand in
// lib/retry/budget.go.
const (
	// SettleTime is how long before a lease's end the last attempt under it must have
	// ended: the time to settle.
	SettleTime = 2 * time.Second

	// DLQ.Replay's lease lasts until its context's end and a margin, or this long when the
	// context has none.
	replayLease       = 5 * time.Minute
	replayLeaseMargin = 30 * time.Second
)

// SendUntil is when the last attempt under the lease must have ended. Fencing protects the
// item from a late holder; only this protects the receiver.
func (l Lease) SendUntil() time.Time { return l.Expires.Add(-SettleTime) }

// Send hands the item's recipient and message to send, under a context that knows the
// delivery (sinks.DeliveryOf). A recipient that sink cannot decode is the error, and
// nothing is sent. What others wrote may have no delivery id: then the message has the
// item's, spelled as an id, the same in every replay.
func (l Leased) Send(ctx context.Context, sink sinks.Sink, send func(context.Context, sinks.Recipient, sinks.Message) error) error {
	to, err := sinks.DecodeStoredRecipient(sink, l.Item.Recipient)
	if err != nil {
		return err
	}
	m := l.Item.Message
	m.ID = cmp.Or(m.ID, l.Item.DeliveryID, strings.NewReplacer("~", ":", ".", "_").Replace(l.Item.ID))
	it := l.Item
	return send(sinks.WithDelivery(ctx, sinks.Delivery{
		FirstAttempt: it.FirstAttempt(), AcceptedAt: it.AcceptedAt, ExpiresAt: it.ExpiresAt, Group: it.Group, Trace: it.Trace,
	}), to, m)
}

// Single is the replay of one dead letter: lease it, send it under the lease, settle it.
// DLQ.Replay and the replay engine differ in its hooks.
type Single struct {
	Store interface {
		Leases
		Get(ctx context.Context, id string) (Item, error)
	}
	// ID is the item's public id.
	ID ID
	// Force leases an item that was delivered already, too.
	Force bool
	// Lease is the length of the lease.
	Lease time.Duration
	// Token is that of a lease that the caller has already. Empty: another one.
	Token string
	// Refuse says why an item cannot be replayed; nil when it can.
	Refuse func(Item) error
	// Send sends the item and says how to settle it. Without an Action the item is given
	// back as it was, and the error is Replay's. Otherwise the error is not used.
	Send func(context.Context, Leased) (Settlement, error)
	// After returns the context in which is recorded what came of it. It outlives the
	// caller: what was sent must not be taken for unsent.
	After func(context.Context) (context.Context, context.CancelFunc)
	// BeforeSettle is called before the outcome is recorded. An error is Replay's: the outcome is not
	// recorded, and the lease runs out. Nil: nothing is called.
	BeforeSettle func(context.Context, Leased, Settlement) error
}

// Replay replays the item. ITEM_LEASED: another replay holds it, or took it over.
func (s Single) Replay(ctx context.Context) error {
	leased, err := s.Store.Claim(ctx, Claim{Sink: s.ID.Sink, IDs: []string{s.ID.String()}, Force: s.Force, Token: cmp.Or(s.Token, uuid.NewString()), TTL: s.Lease})
	if err != nil {
		return err
	}
	if len(leased) == 0 {
		it, err := s.Store.Get(ctx, s.ID.String())
		if err == nil {
			err = s.Refuse(it)
		}
		return cmp.Or(err, leasedError(s.ID))
	}
	l := leased[0]
	settlement, err := s.send(ctx, l)
	after, cancel := s.After(ctx)
	defer cancel()
	if settlement.Action == "" {
		if unreleased := s.Store.Release(after, []Lease{l.Lease}); unreleased != nil { // the lease runs out by itself
			return errors.Join(err, unreleased)
		}
		return err
	}
	if s.BeforeSettle != nil {
		if err := s.BeforeSettle(after, l, settlement); err != nil {
			return err
		}
	}
	results, err := s.Store.Settle(after, []Settlement{settlement})
	if err == nil && (len(results) != 1 || results[0] != SettleApplied) {
		err = lostError(s.ID, "the replay was recorded")
	}
	return err
}

// send sends the item unless that is refused, or its delivery was canceled. An item that outlived a replayer is noted
// first (see Leases.Begin).
func (s Single) send(ctx context.Context, l Leased) (Settlement, error) {
	if l.Canceled {
		return Settlement{}, invalid("item %s: its delivery was canceled", s.ID)
	}
	if err := s.Refuse(l.Item); err != nil {
		return Settlement{}, err
	}
	if l.Item.Deaths > 0 {
		if held, err := s.Store.Begin(ctx, l.Lease); err != nil {
			return Settlement{}, err
		} else if !held {
			return Settlement{}, lostError(s.ID, "it was sent")
		}
	}
	return s.Send(ctx, l)
}

func lostError(id ID, before string) error {
	return &fault.Error{Code: fault.CodeItemLeased, Msg: "item " + id.String() + ": its lease was lost before " + before}
}
