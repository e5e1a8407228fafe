package dlq

import (
	"context"
	"log/slog"
	"time"

	"backstop/internal/attempt"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// replay is DLQ.Replay over any store. id is a public id.
func replay(ctx context.Context, s Store, lookup RegistryLookup, id ID) error {
	if lookup == nil {
		return &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "no registry lookup is set: Replay cannot find sinks"}
	}
	sink, ok := lookup(id.Sink)
	if !ok {
		return &fault.Error{Code: fault.CodeSinkNotFound, Msg: "sink " + id.Sink + " is not configured"}
	}
	ttl := replayLease
	if deadline, ok := ctx.Deadline(); ok {
		ttl = max(time.Until(deadline), 0) + replayLeaseMargin
	}
	var again string  // the dead letter that the replay became
	var unknown error // why nobody knows what became of the message
	err := Single{
		Store: s, ID: id, Lease: ttl,
		Refuse: func(it Item) error {
			switch {
			case it.DecodeError != "":
				return invalid("item %s cannot be replayed: %s", id, it.DecodeError)
			case !it.DeliveredAt.IsZero():
				return invalid("item %s was delivered at %s", id, it.DeliveredAt.Format(time.RFC3339))
			case it.Expired(time.Now()):
				return invalid("item %s expired%s: it is of no use any more", id, since(it))
			case it.SupersededBy != "":
				return supersededError(id, it.Heir())
			}
			return nil
		},
		Send: func(ctx context.Context, l Leased) (Settlement, error) {
			pushed := replays.begin(l.Token)
			defer replays.end(l.Token)
			ctx, cancel := context.WithDeadline(withOrigin(ctx, originOf(l.Item), l.Token), l.SendUntil())
			defer cancel()
			settlement := Settlement{Lease: l.Lease, Action: ActionKeep, Charge: true}
			switch err := l.Send(ctx, sink, once(sink)); {
			case sinks.IsAmbiguous(err) && !sinks.Retries(sink):
				// The sink may be at work still: the schedule must not send beside it.
				settlement.Action, settlement.Error, settlement.Unanswered, unknown = ActionHold, err.Error(), 1, err
				return settlement, nil
			case err != nil:
				return Settlement{}, coded(err)
			}
			if again = pushed(); again != "" {
				settlement.Action, settlement.Error = ActionHold, "dead-lettered again as "+again
			}
			return settlement, nil
		},
		After: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.WithoutCancel(ctx), SettleTime)
		},
	}.Replay(ctx)
	if err == nil && unknown != nil {
		return coded(unknown)
	}
	if err == nil && again != "" {
		return &fault.Error{Code: fault.CodeDeadLettered, Msg: "item " + id.String() + " was dead-lettered again as " + again}
	}
	return err
}

// since says when an expired item did.
func since(it Item) string {
	at := it.ExpiresAt
	if at.IsZero() {
		at = it.ExpiredAt
	}
	if at.IsZero() {
		return "" // what others wrote may tell the reason alone
	}
	return " at " + at.Format(time.RFC3339)
}

// grace is how long a sink without a Retrier may take to return after its context ended.
const grace = 250 * time.Millisecond

// once returns the Send of a sink that comes back whatever the sink does. A Retrier's does.
func once(sink sinks.Sink) func(context.Context, sinks.Recipient, sinks.Message) error {
	if sinks.Retries(sink) {
		return sink.Send
	}
	return func(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
		return attempt.Send(ctx, slog.Default(), grace, sink, to, m)
	}
}

// coded gives a sink's error without a code one.
func coded(err error) error {
	if fault.CodeOf(err) != "" {
		return err
	}
	return &fault.Error{Code: fault.CodeSinkUnavailable, Msg: "replay", Cause: err}
}

func originOf(it Item) Origin {
	return Origin{ItemID: it.ID, FirstFailedAt: it.FirstAttempt(), Generation: it.Replays + 1, Unanswered: it.Unanswered, Trace: it.Trace}
}
