package dlq

import (
	"context"
	"slices"
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/fault"
)

// Bounds of one call of retire.lua.
const (
	retireLooks = 100
	retireBytes = 256 << 10
)

// Retire implements Journaling. After a lost reply, only Stats.Retired counts what was removed.
func (r *Redis) Retire(ctx context.Context, sink string, until time.Time) (retired int64, more bool, err error) {
	if err := fault.CheckName(sink); err != nil {
		return 0, false, err
	}
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return 0, false, err
	}
	counts, goesOn := make([]int64, len(queues)), make([]bool, len(queues))
	err = each(queues, func(i int, queue string) (err error) {
		counts[i], goesOn[i], err = r.retire(ctx, queue, until, maxRetire/int64(len(queues)))
		return err
	})
	for i, queue := range queues {
		more = more || goesOn[i]
		if err == nil && slices.Contains(goesOn, true) && !goesOn[i] {
			err = r.retireNoMore(ctx, queue) // until the others are at their end too
		}
	}
	return sum(counts), more || err != nil, err
}

// retireNoMore makes the next call of retire begin at a queue's end.
func (r *Redis) retireNoMore(ctx context.Context, queue string) error {
	return r.conn.Do(ctx, "retire", func(ctx context.Context) error {
		return r.conn.Client.HSet(ctx, r.conn.Keys.Companion(queue, "meta"), "retire_at", before(maxNative)).Err()
	})
}

// retire is Retire in one queue, up to so many looks.
func (r *Redis) retire(ctx context.Context, queue string, until time.Time, left int64) (retired int64, more bool, err error) {
	for left > 0 {
		answer, err := r.conn.Eval(ctx, "retire", retireScript, r.conn.Keys.Queue(queue), max(ceilUnix(until), 0), min(left, retireLooks), retireBytes)
		if err != nil {
			return retired, true, err
		}
		a, ok := answer.([]any)
		if !ok || len(a) != 3 {
			return retired, true, redisconn.Unexpected("retire", answer)
		}
		retired += number(a[0])
		left -= number(a[1])
		if more = a[2] == int64(1); !more {
			break
		}
	}
	return retired, more, nil
}
