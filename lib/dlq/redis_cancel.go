package dlq

import (
	"context"
	"errors"
	"slices"
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/fault"
)

// ClaimDelivery implements Store. Of several queues it leases in one after the other, gives all back where that fails, and
// notes the cancellation at last.
func (r *Redis) ClaimDelivery(ctx context.Context, c DeliveryClaim) ([]Leased, error) {
	c, err := checkDeliveryClaim(c)
	if err != nil {
		return nil, err
	}
	queues, err := r.places(ctx, c.Sink, firstKey(c.DeliveryID))
	if err != nil {
		return nil, err
	}
	if len(queues) == 1 {
		return r.claimDelivery(ctx, c, queues[0], c.Note)
	}
	before, err := r.noted(ctx, queues, c.DeliveryID)
	if err != nil {
		return nil, err
	}
	var all, held []Leased
	passes := []time.Duration{0}
	if c.Note > 0 {
		passes = append(passes, c.Note) // under the same token: what is leased stays so
	}
	for _, note := range passes {
		all = nil
		for _, queue := range queues {
			leased, err := r.claimDelivery(ctx, c, queue, note)
			if err == nil && len(all)+len(leased) > maxDelivery {
				err = manyError(c.Sink, c.DeliveryID)
			}
			all, held = append(all, leased...), append(held, leased...)
			if err != nil {
				return nil, joined(err, r.undoClaim(ctx, c, held, queues, before))
			}
		}
	}
	return all, nil
}

// undoClaim gives leases back, and takes back the notes that were not there before.
func (r *Redis) undoClaim(ctx context.Context, c DeliveryClaim, leased []Leased, queues []string, before []bool) error {
	leases := make([]Lease, len(leased))
	for i, l := range leased {
		leases[i] = l.Lease
	}
	err := r.Release(ctx, leases)
	var fresh []string
	for i, queue := range queues {
		if !before[i] {
			fresh = append(fresh, queue)
		}
	}
	return errors.Join(err, r.uncancel(ctx, fresh, c.DeliveryID))
}

// claimDelivery is ClaimDelivery in one queue.
func (r *Redis) claimDelivery(ctx context.Context, c DeliveryClaim, queue string, note time.Duration) ([]Leased, error) {
	start := time.Now()
	keys := r.conn.Keys.Queue(queue, r.conn.Keys.Claim(queue, c.Token))
	answer, err := r.conn.Eval(ctx, "claim delivery", deliveryScript, keys, c.Token, c.TTL.Milliseconds(), 0,
		firstKey(c.DeliveryID), ceilMilliseconds(max(note, 0)), maxDelivery)
	if err != nil {
		return nil, err
	}
	a, ok := answer.([]any)
	if !ok || len(a) != 3 {
		return nil, redisconn.Unexpected("claim delivery", answer)
	}
	switch a[0] {
	case int64(-1):
		return nil, leasedError(ID{Sink: c.Sink, Native: text(a[1])})
	case int64(-2):
		return nil, manyError(c.Sink, c.DeliveryID)
	}
	rows, _, err := r.rowsOf(ctx, c.Sink, answer)
	if err != nil {
		return nil, err
	}
	return leasedAll(Claim{Sink: c.Sink, Token: c.Token}, rows, start), nil
}

// Canceled implements Store.
func (r *Redis) Canceled(ctx context.Context, sink, deliveryID string) (bool, error) {
	if err := checkDelivery(sink, deliveryID); err != nil {
		return false, err
	}
	queues, err := r.places(ctx, sink, firstKey(deliveryID))
	if err != nil {
		return false, err
	}
	noted, err := r.noted(ctx, queues, deliveryID)
	return slices.Contains(noted, true), err
}

// noted reports for each queue whether it notes that the delivery is canceled.
func (r *Redis) noted(ctx context.Context, queues []string, deliveryID string) ([]bool, error) {
	calls := make([]redisconn.Call, len(queues))
	for i, queue := range queues {
		calls[i] = redisconn.Call{Keys: r.conn.Keys.Queue(queue), Args: []any{firstKey(deliveryID)}}
	}
	answers, err := r.conn.EvalAll(ctx, "canceled", canceledScript, calls)
	if err != nil {
		return nil, err
	}
	noted := make([]bool, len(queues))
	for i, answer := range answers {
		noted[i] = answer == int64(1)
	}
	return noted, nil
}

// Uncancel implements Store.
func (r *Redis) Uncancel(ctx context.Context, sink, deliveryID string) error {
	if err := checkDelivery(sink, deliveryID); err != nil {
		return err
	}
	queues, err := r.places(ctx, sink, firstKey(deliveryID))
	if err != nil {
		return err
	}
	return r.uncancel(ctx, queues, deliveryID)
}

func (r *Redis) uncancel(ctx context.Context, queues []string, deliveryID string) error {
	if len(queues) == 0 {
		return nil
	}
	return r.conn.DoAll(ctx, "uncancel", len(queues), func(ctx context.Context) error {
		p := r.conn.Client.Pipeline()
		for _, queue := range queues {
			p.ZRem(ctx, r.conn.Keys.Companion(queue, "canceled"), firstKey(deliveryID))
		}
		_, err := p.Exec(ctx)
		return err
	})
}

// PruneCanceled implements Store. A delivery is noted in each queue that may have a dead letter of it, and in shard 0 in any case.
func (r *Redis) PruneCanceled(ctx context.Context, sink string) (int64, error) {
	if err := fault.CheckName(sink); err != nil {
		return 0, err
	}
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return 0, err
	}
	pruned := make([]int64, len(queues))
	err = each(queues, func(i int, queue string) error {
		answer, err := r.conn.Eval(ctx, "prune canceled", pruneScript, r.conn.Keys.Queue(queue), pruneNotes)
		pruned[i] = number(answer)
		return err
	})
	return slices.Max(pruned), err
}
