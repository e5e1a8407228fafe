package replay

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// An item whose replayer died is a suspect (dlq.Item.Deaths): the process may have died
// under it. It is sent alone in its sink, after all others, and as the only suspect of the
// run, so that the next death is charged to nobody else; and no more once its replayers
// died too often.
const (
	// maxDeaths is how often in a row processes may die under an item.
	maxDeaths = 3
	// maxSuspects is how many of them a lane holds while it sends others.
	maxSuspects = 50
)

var errDeadly = errors.New("given up: the process died three times in a row while it replayed this item")

// begin notes that a suspect's replay begins. False means that it must not: its lease is
// lost, or nobody knows.
func (e *Engine) begin(ctx context.Context, lease dlq.Lease) (held bool, err error) {
	return e.Store.Begin(ctx, lease)
}

// screen returns the items that may be sent with others. Suspects are kept for later, those
// that killed too many processes are parked, and what must not be sent is settled.
func (l *lane) screen(leased []dlq.Leased) (sound []dlq.Leased) {
	for _, item := range l.sift(leased) {
		switch {
		case item.Item.Deaths == 0:
			sound = append(sound, item)
		case item.Item.Deaths < maxDeaths:
			l.suspects = append(l.suspects, item)
		default:
			l.sends.Add(1)
			l.settler.in <- replayed{
				leased: item, status: StatusParked, reason: item.Item.Reason, err: errDeadly,
				settlement: dlq.Settlement{
					Lease: item.Lease, Action: dlq.ActionPark, Operation: l.attempt.operation, Error: markedBy(l.attempt.operation, errDeadly),
				},
			}
		}
	}
	return sound
}

// sendSuspects sends the suspects, each alone, those last that outlived more processes. It
// reports whether all were sent.
func (l *lane) sendSuspects(ctx context.Context) bool {
	slices.SortStableFunc(l.suspects, func(a, b dlq.Leased) int { return cmp.Compare(a.Item.Deaths, b.Item.Deaths) })
	l.wait()
	for len(l.suspects) > 0 {
		if _, ok := l.sendAlone(ctx, l.suspects[0]); !ok {
			return false
		}
		l.suspects = l.suspects[1:]
	}
	return true
}

// sendAlone sends a suspect and waits until its outcome is recorded; false when it could
// not be started.
func (l *lane) sendAlone(ctx context.Context, item dlq.Leased) (replayed, bool) {
	if rep, spared := l.spare(item); spared {
		return rep, true
	}
	if !l.run.alone.take(ctx) {
		return replayed{}, false
	}
	defer l.run.alone.give()
	if !l.start(ctx, item) {
		return replayed{}, false
	}
	held, err := l.run.begin(ctx, item.Lease)
	if err != nil {
		l.run.tally.fail(l.sink, err)
	}
	if !held {
		l.run.slots.give()
		l.sends.Done()
		return replayed{}, false
	}
	rep := l.send(ctx, item)
	l.wait()
	return rep, true
}

// guarded is a sink as the Retrier may trust it: it makes no promises. A sink that says it
// says EndsWithContext and hangs would keep a whole run from its end, tick after tick.
type guarded struct{ sinks.Sink }

// Unwrap returns the sink.
func (g guarded) Unwrap() sinks.Sink { return g.Sink }
