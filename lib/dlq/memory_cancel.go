package dlq

import (
	"context"
	"time"

	"backstop/lib/fault"
)

// pruneNotes is the most notes of canceled deliveries that one call removes.
const pruneNotes = 1000

// ClaimDelivery implements Store.
func (m *Memory) ClaimDelivery(ctx context.Context, c DeliveryClaim) ([]Leased, error) {
	c, err := checkDeliveryClaim(c)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, unavailable("claim delivery", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q, now, key := m.queue(c.Sink), time.Now(), firstKey(c.DeliveryID)
	all, repeated := q.again(c.Token, now)
	if !repeated {
		var found []*memoryEntry
		for _, e := range q.entries {
			if deliveryKey(e.pushKey) != key || e.state.DeliveredAt > 0 {
				continue
			}
			if e.leased(now) {
				return nil, leasedError(e.id())
			}
			if found = append(found, e); len(found) > maxDelivery {
				return nil, manyError(c.Sink, c.DeliveryID)
			}
		}
		for _, e := range found {
			all = append(all, q.lease(e, c.Token, c.TTL, true, now))
		}
	}
	if c.Note > 0 {
		if until := now.Add(c.Note); until.After(q.canceled[key]) {
			q.canceled[key] = until
		}
		for i := range all {
			all[i].Canceled = true
		}
	}
	return all, nil
}

// isCanceled reports whether a note of a delivery, by its key, holds.
func (q *memoryQueue) isCanceled(key string, now time.Time) bool { return now.Before(q.canceled[key]) }

// Canceled implements Store.
func (m *Memory) Canceled(ctx context.Context, sink, deliveryID string) (bool, error) {
	q, unlock, err := m.notes(ctx, sink, deliveryID)
	if err != nil {
		return false, err
	}
	defer unlock()
	return q.isCanceled(firstKey(deliveryID), time.Now()), nil
}

// Uncancel implements Store.
func (m *Memory) Uncancel(ctx context.Context, sink, deliveryID string) error {
	q, unlock, err := m.notes(ctx, sink, deliveryID)
	if err != nil {
		return err
	}
	defer unlock()
	delete(q.canceled, firstKey(deliveryID))
	return nil
}

// notes locks the queue that has the notes of a delivery.
func (m *Memory) notes(ctx context.Context, sink, deliveryID string) (*memoryQueue, func(), error) {
	if err := checkDelivery(sink, deliveryID); err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, unavailable("canceled", err)
	}
	m.mu.Lock()
	return m.queue(sink), m.mu.Unlock, nil
}

// PruneCanceled implements Store.
func (m *Memory) PruneCanceled(ctx context.Context, sink string) (n int64, err error) {
	if err := fault.CheckName(sink); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, unavailable("prune canceled", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q, now := m.queue(sink), time.Now()
	for key, until := range q.canceled {
		if n == pruneNotes {
			break
		}
		if !now.Before(until) {
			delete(q.canceled, key)
			n++
		}
	}
	return n, nil
}
