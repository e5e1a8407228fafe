package dlq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"backstop/lib/fault"

	"github.com/redis/go-redis/v9"
)

// pushKey leads from a delivery to its entries, one for each content. It differs for each
// generation of a delivery; after the first it also tells the first one's, to which all
// belong: "<own>,<first>".
func pushKey(deliveryID string, replays int, origin string) string {
	first := firstKey(deliveryID)
	if replays == 0 && origin == "" {
		return first
	}
	return hash(16, deliveryID, strconv.Itoa(replays), origin) + "," + first
}

// firstKey is the push key of the first generation: the key of the delivery.
func firstKey(deliveryID string) string { return hash(16, deliveryID, "0", "") }

// deliveryKey is the firstKey that a push key tells.
func deliveryKey(pushKey string) string {
	return pushKey[strings.IndexByte(pushKey, ',')+1:]
}

func noneOf(sink, deliveryID, fingerprint string) error {
	if fingerprint != "" {
		return &fault.Error{Code: fault.CodeDLQNotFound, Msg: fmt.Sprintf("sink %q has no dead letter of delivery %.140q with this content", sink, deliveryID)}
	}
	return &fault.Error{Code: fault.CodeDLQNotFound, Msg: fmt.Sprintf("sink %q has no dead letter of delivery %.140q", sink, deliveryID)}
}

// waits reports whether e is what Find looks for.
func (e entry) waits(fingerprint string) bool {
	return e.state.DeliveredAt == 0 && (fingerprint == "" || e.fingerprint() == fingerprint)
}

// Find implements Store.
func (r *Redis) Find(ctx context.Context, sink, deliveryID, fingerprint string) (Item, error) {
	if err := fault.CheckName(sink); err != nil {
		return Item{}, err
	}
	queues, err := r.places(ctx, sink, firstKey(deliveryID))
	if err != nil {
		return Item{}, err
	}
	found := make([]*redis.StringCmd, len(queues))
	err = r.conn.DoAll(ctx, "find", len(queues), func(ctx context.Context) error {
		p := r.conn.Client.Pipeline()
		for i, queue := range queues {
			found[i] = p.HGet(ctx, r.conn.Keys.Companion(queue, "ids"), firstKey(deliveryID))
		}
		_, _ = p.Exec(ctx) // the first error of its commands, one of which may be that there is nothing
		for _, f := range found {
			if err := f.Err(); err != nil && !errors.Is(err, redis.Nil) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return Item{}, err
	}
	var pairs []string // the newest of the likeliest queue last
	for _, f := range found {
		pairs = append(pairs, strings.Fields(f.Val())...)
	}
	for _, pair := range slices.Backward(pairs) {
		content, native, told := strings.Cut(pair, ":")
		if !told {
			native = pair
		} else if fingerprint != "" && content != fingerprint {
			continue
		}
		e, err := r.entry(ctx, ID{Sink: sink, Native: native})
		if fault.CodeOf(err) == fault.CodeDLQNotFound {
			continue // others removed it, or it is being settled
		}
		if err != nil {
			return Item{}, err
		}
		if e.waits(fingerprint) {
			return e.decode(), nil
		}
	}
	return Item{}, noneOf(sink, deliveryID, fingerprint)
}

// Find implements Store.
func (m *Memory) Find(ctx context.Context, sink, deliveryID, fingerprint string) (Item, error) {
	if err := fault.CheckName(sink); err != nil {
		return Item{}, err
	}
	if err := ctx.Err(); err != nil {
		return Item{}, unavailable("find", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range slices.Backward(m.queue(sink).ids[pushKey(deliveryID, 0, "")]) {
		if e.waits(fingerprint) {
			return e.decode(), nil
		}
	}
	return Item{}, noneOf(sink, deliveryID, fingerprint)
}
