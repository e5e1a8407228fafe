package dlq

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
)

// Beat implements Store.
func (r *Redis) Beat(ctx context.Context) error {
	return r.conn.Do(ctx, "beat", func(ctx context.Context) error {
		return r.conn.Client.Set(ctx, r.conn.Keys.Ticked(), time.Now().UnixMilli(), 0).Err()
	})
}

// LastBeat implements Store.
func (r *Redis) LastBeat(ctx context.Context) (time.Time, error) {
	const op = "last beat"
	s, err := redisconn.Ask(ctx, r.conn, op, func(ctx context.Context) (string, error) {
		s, err := r.conn.Client.Get(ctx, r.conn.Keys.Ticked()).Result()
		if errors.Is(err, redis.Nil) {
			return "", nil
		}
		return s, err
	})
	if err != nil || s == "" {
		return time.Time{}, err
	}
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, redisconn.Unexpected(op, s)
	}
	return unixMilli(ms), nil
}

// Beat implements Store.
func (m *Memory) Beat(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return unavailable("beat", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.beat = time.Now().UTC().Truncate(time.Millisecond)
	return nil
}

// LastBeat implements Store.
func (m *Memory) LastBeat(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, unavailable("last beat", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.beat, nil
}
