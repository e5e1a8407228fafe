package delivery

import (
	"context"
	_ "embed" // the scripts
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
)

//go:embed pending.lua
var pendingLua string

var pendingScript = redisconn.NewScript(func() string { return recordLua + pendingLua })

// paidScript takes a delivery off the list of those whose events are owed (KEYS[1]): the member ARGV[1], unless
// its time is not ARGV[2] any more.
var paidScript = redisconn.Source(`
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or -1) == tonumber(ARGV[2]) then
  return redis.call('ZREM', KEYS[1], ARGV[1])
end
return 0`)

// member is a delivery in the list. Names of sinks have no spaces.
func (k Key) member() string { return k.Sink + " " + k.ID }

// Told implements Outbox.
func (s *Redis) Told(ctx context.Context, k Key, events ...string) error {
	args := []any{"told"}
	for _, id := range events {
		args = append(args, id)
	}
	_, err := s.eval(ctx, "forget events", s.alone(pendingScript), k, args...)
	return err
}

// Owe implements Outbox: the record first, for what is listed without one is lost. It is kept for as long as the
// longest outage that a message survives in a queue.
func (s *Redis) Owe(ctx context.Context, r Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	const op = "owe events"
	if _, err := s.eval(ctx, op, s.alone(pendingScript), r.key(), "owe", b, s.Retention().Milliseconds()); err != nil {
		return err
	}
	return s.conn.Do(ctx, op, func(ctx context.Context) error {
		return s.conn.Client.ZAdd(ctx, s.conn.Keys.OwedEvents(), redis.Z{Score: float64(time.Now().UnixMilli()), Member: r.key().member()}).Err()
	})
}

// Owed implements Outbox.
func (s *Redis) Owed(ctx context.Context, limit int) ([]Owed, error) {
	const op = "owed events"
	list, err := redisconn.Ask(ctx, s.conn, op, func(ctx context.Context) ([]redis.Z, error) {
		return s.conn.Client.ZRangeWithScores(ctx, s.conn.Keys.OwedEvents(), 0, int64(limit)-1).Result()
	})
	if err != nil {
		return nil, err
	}
	all := make([]Owed, 0, len(list))
	for _, z := range list {
		member, _ := z.Member.(string)
		sink, id, ok := strings.Cut(member, " ")
		if !ok {
			return nil, errors.Join(errMember, redisconn.Unexpected(op, z.Member))
		}
		all = append(all, Owed{Key{Sink: sink, ID: id}, time.UnixMilli(int64(z.Score)).UTC()})
	}
	return all, nil
}

var errMember = errors.New("no sink and delivery id")

// Paid implements Outbox.
func (s *Redis) Paid(ctx context.Context, o Owed) error {
	_, err := s.conn.Eval(ctx, "pay events", paidScript, []string{s.conn.Keys.OwedEvents()}, o.member(), strconv.FormatInt(o.Since.UnixMilli(), 10))
	return err
}
