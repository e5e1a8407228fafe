package dlq

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"backstop/lib/sinks"
)

// pushKey makes a push idempotent, and leads from a delivery to its entry. It differs
// for each generation of a delivery.
func pushKey(deliveryID string, replays int, origin string) string {
	return hash(16, deliveryID, strconv.Itoa(replays), origin)
}

func noneOf(sink, deliveryID, fingerprint string) error {
	if fingerprint != "" {
		return &sinks.Error{Code: sinks.CodeDLQNotFound, Msg: fmt.Sprintf("sink %q has no dead letter of delivery %.140q with this content", sink, deliveryID)}
	}
	return &sinks.Error{Code: sinks.CodeDLQNotFound, Msg: fmt.Sprintf("sink %q has no dead letter of delivery %.140q", sink, deliveryID)}
}

// Find implements Store.
func (r *Redis) Find(ctx context.Context, sink, deliveryID, fingerprint string) (Item, error) {
	if err := sinks.CheckName(sink); err != nil {
		return Item{}, err
	}
	var native string
	err := r.call(ctx, "find", func(ctx context.Context) error {
		var err error
		native, err = r.client.HGet(ctx, r.keys.companion(sink, "ids"), pushKey(deliveryID, 0, "")).Result()
		if errors.Is(err, redis.Nil) {
			native, err = "", nil
		}
		return err
	})
	if err != nil {
		return Item{}, err
	}
	if native == "" {
		return Item{}, noneOf(sink, deliveryID, fingerprint)
	}
	it, err := r.Get(ctx, ID{Sink: sink, Native: native}.String())
	if err == nil && (!it.DeliveredAt.IsZero() || fingerprint != "" && contentOf(it) != fingerprint) {
		return Item{}, noneOf(sink, deliveryID, fingerprint)
	}
	return it, err
}

// Find implements Store.
func (m *Memory) Find(ctx context.Context, sink, deliveryID, fingerprint string) (Item, error) {
	if err := sinks.CheckName(sink); err != nil {
		return Item{}, err
	}
	m.mu.Lock()
	e := m.queue(sink).ids[pushKey(deliveryID, 0, "")]
	m.mu.Unlock()
	if e == nil {
		return Item{}, noneOf(sink, deliveryID, fingerprint)
	}
	it, err := m.Get(ctx, e.id().String())
	if err == nil && (!it.DeliveredAt.IsZero() || fingerprint != "" && contentOf(it) != fingerprint) {
		return Item{}, noneOf(sink, deliveryID, fingerprint)
	}
	return it, err
}
