package dlq

import (
	"context"
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/fault"
)

// ClaimDelivery implements Store.
func (r *Redis) ClaimDelivery(ctx context.Context, c DeliveryClaim) ([]Leased, error) {
	c, err := checkDeliveryClaim(c)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	keys := r.conn.Keys.Queue(c.Sink, r.conn.Keys.Claim(c.Sink, c.Token))
	answer, err := r.conn.Eval(ctx, "claim delivery", deliveryScript, keys, c.Token, c.TTL.Milliseconds(), 0,
		firstKey(c.DeliveryID), ceilMilliseconds(max(c.Note, 0)), maxDelivery)
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
	answer, err := r.conn.Eval(ctx, "canceled", canceledScript, r.conn.Keys.Queue(sink), firstKey(deliveryID))
	return answer == int64(1), err
}

// Uncancel implements Store.
func (r *Redis) Uncancel(ctx context.Context, sink, deliveryID string) error {
	if err := checkDelivery(sink, deliveryID); err != nil {
		return err
	}
	return r.conn.Do(ctx, "uncancel", func(ctx context.Context) error {
		return r.conn.Client.ZRem(ctx, r.conn.Keys.Companion(sink, "canceled"), firstKey(deliveryID)).Err()
	})
}

// PruneCanceled implements Store.
func (r *Redis) PruneCanceled(ctx context.Context, sink string) (int64, error) {
	if err := fault.CheckName(sink); err != nil {
		return 0, err
	}
	answer, err := r.conn.Eval(ctx, "prune canceled", pruneScript, r.conn.Keys.Queue(sink), pruneNotes)
	return number(answer), err
}
