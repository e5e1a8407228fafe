package dlq

import (
	"context"
	"time"

	"backstop/lib/fault"
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
	var again string // the dead letter that the replay became
	err := Single{
		Store: s, ID: id, Lease: ttl,
		Refuse: func(it Item) error {
			switch {
			case it.DecodeError != "":
				return invalid("item %s cannot be replayed: %s", id, it.DecodeError)
			case !it.DeliveredAt.IsZero():
				return invalid("item %s was delivered at %s", id, it.DeliveredAt.Format(time.RFC3339))
			}
			return nil
		},
		Send: func(ctx context.Context, l Leased) (Settlement, error) {
			pushed := replays.begin(l.Token)
			defer replays.end(l.Token)
			ctx, cancel := context.WithDeadline(withOrigin(ctx, originOf(l.Item), l.Token), l.SendUntil())
			defer cancel()
			if err := l.Send(ctx, sink, sink.Send); err != nil {
				return Settlement{}, err
			}
			settlement := Settlement{Lease: l.Lease, Action: ActionKeep, Charge: true}
			if again = pushed(); again != "" {
				settlement.Action, settlement.Error = ActionHold, "dead-lettered again as "+again
			}
			return settlement, nil
		},
		After: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.WithoutCancel(ctx), SettleTime)
		},
	}.Replay(ctx)
	if err == nil && again != "" {
		return &fault.Error{Code: fault.CodeDeadLettered, Msg: "item " + id.String() + " was dead-lettered again as " + again}
	}
	return err
}

func originOf(it Item) Origin {
	return Origin{ItemID: it.ID, FirstFailedAt: it.FirstAttempt(), Generation: it.Replays + 1, Trace: it.Trace}
}
