package dlq

import (
	"context"
	"time"

	"github.com/google/uuid"

	"backstop/lib/sinks"
)

// Lease of a single replay: until the context's end and a margin, or this long when it
// has none.
const (
	replayLease       = 5 * time.Minute
	replayLeaseMargin = 30 * time.Second
	settleTimeout     = 2 * time.Second
)

// replay is DLQ.Replay over any store. id is a public id.
func replay(ctx context.Context, s Store, lookup RegistryLookup, id ID) error {
	if lookup == nil {
		return &sinks.Error{Code: sinks.CodeSinkConfigInvalid, Msg: "no registry lookup is set: Replay cannot find sinks"}
	}
	sink, ok := lookup(id.Sink)
	if !ok {
		return &sinks.Error{Code: sinks.CodeSinkNotFound, Msg: "sink " + id.Sink + " is not configured"}
	}
	ttl := replayLease
	if deadline, ok := ctx.Deadline(); ok {
		ttl = max(time.Until(deadline), 0) + replayLeaseMargin
	}
	leased, err := s.Claim(ctx, Claim{Sink: id.Sink, IDs: []string{id.String()}, Token: uuid.NewString(), TTL: ttl})
	if err != nil {
		return err
	}
	if len(leased) == 0 {
		return whyNotLeased(ctx, s, id)
	}
	lease, it := leased[0].Lease, leased[0].Item

	// What follows a send must be recorded even if the caller is gone.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), ttl)
	defer cancel()
	release := func(cause error) error {
		ctx, cancel := context.WithTimeout(after, settleTimeout)
		defer cancel()
		if err := s.Release(ctx, []Lease{lease}); err != nil {
			return err // the lease runs out by itself
		}
		return cause
	}
	if it.DecodeError != "" {
		return release(invalid("item %s cannot be replayed: %s", id, it.DecodeError))
	}
	to, err := sinks.DecodeStoredRecipient(sink, it.Recipient)
	if err != nil {
		return release(err)
	}
	if it.Deaths > 0 {
		held, err := s.Begin(ctx, lease)
		if err == nil && !held {
			err = leasedError(id)
		}
		if err != nil {
			return release(err)
		}
	}
	ctx = sinks.WithFirstAttempt(WithOrigin(ctx, originOf(it)), it.FirstAttempt())
	if err := sink.Send(ctx, to, it.Message); err != nil {
		return release(err)
	}
	settlement := Settlement{Lease: lease, Action: ActionKeep, Charge: true}
	again, dead := DeadLetteredAgain(ctx)
	if dead {
		settlement.Action, settlement.Error = ActionHold, "dead-lettered again as "+again
	}
	ctx, cancelSettle := context.WithTimeout(after, settleTimeout)
	defer cancelSettle()
	if _, err := s.Settle(ctx, []Settlement{settlement}); err != nil {
		return err
	}
	if dead {
		return &sinks.Error{Code: sinks.CodeDeadLettered, Msg: "item " + id.String() + " was dead-lettered again as " + again}
	}
	return nil
}

func originOf(it Item) Origin {
	return Origin{ItemID: it.ID, FirstFailedAt: it.FirstAttempt(), Generation: it.Replays + 1, Trace: it.Trace}
}

// whyNotLeased finds out why a claim by id came back empty.
func whyNotLeased(ctx context.Context, s Store, id ID) error {
	it, err := s.Get(ctx, id.String())
	if err != nil {
		return err
	}
	if !it.DeliveredAt.IsZero() {
		return invalid("item %s was delivered at %s", id, it.DeliveredAt.Format(time.RFC3339))
	}
	return leasedError(id)
}
