package delivery

import (
	"cmp"
	"context"
	_ "embed" // the script
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
)

//go:embed move.lua
var moveLua string

var moveScript = redis.NewScript(rows() + moveLua)

// Redis is a Store on Redis or Valkey: strings with a time to live (the key stands in
// internal/redisconn). Its one script touches one key. It is safe for concurrent use, across
// processes too.
//
// Every call can be repeated after a lost reply, and repeats itself until its context ends,
// as dlq.Redis does. Its errors have no code, but for a bad prefix (INVALID_ARGUMENT): a
// record in doubt is no fault of the queue.
type Redis struct {
	conn *redisconn.Conn
	ttl  time.Duration
}

// NewRedis returns a store on client. An empty prefix means "backstop", a ttl <= 0
// DefaultTTL. It does no I/O.
func NewRedis(client redis.UniversalClient, prefix string, ttl time.Duration) *Redis {
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	return &Redis{conn: redisconn.New(client, cmp.Or(prefix, redisconn.DefaultPrefix), ""), ttl: ttl}
}

// Retention implements Store.
func (s *Redis) Retention() time.Duration { return max(s.ttl, LongestWait) }

func (s *Redis) key(k Key) string { return s.conn.Keys.Record(k.Sink, k.ID) }

// move is one call of the script.
type move struct {
	event              event
	token, fingerprint string
	new                *Record       // nil: nothing new
	lease              time.Duration // negative: none
	untrue             *Record
}

const noLease = -1

func (s *Redis) args(m move) ([]any, error) {
	var record []byte
	if m.new != nil {
		var err error
		if record, err = json.Marshal(m.new); err != nil {
			return nil, err
		}
	}
	lease, untrue, gone := any(""), "0", ""
	if m.lease >= 0 {
		lease = m.lease.Milliseconds()
	}
	if m.untrue != nil {
		untrue, gone = "1", m.untrue.ItemID
	}
	return []any{string(m.event), m.token, m.fingerprint, record, s.ttl.Milliseconds(), s.Retention().Milliseconds(), lease, untrue, gone}, nil
}

func (s *Redis) move(ctx context.Context, op string, k Key, m move) (moved, error) {
	args, err := s.args(m)
	if err != nil {
		return moved{}, err
	}
	answer, err := s.conn.Eval(ctx, op, moveScript, []string{s.key(k)}, args...)
	if err != nil {
		return moved{}, err
	}
	return readMove(op, answer)
}

// moved is the script's answer: its verdict, and the record that was found and as it is now, in
// JSON. Nobody wants both.
type moved struct {
	verdict    State
	found, now string
}

// readMove reads the script's answer.
func readMove(op string, answer any) (moved, error) {
	a, _ := answer.([]any)
	if len(a) != 3 {
		return moved{}, redisconn.Unexpected(op, answer)
	}
	var texts [3]string
	for i, v := range a {
		s, ok := v.(string)
		if !ok {
			return moved{}, redisconn.Unexpected(op, answer)
		}
		texts[i] = s
	}
	return moved{State(texts[0]), texts[1], texts[2]}, nil
}

// decodeRecord reads a record; the zero one from an empty text.
func decodeRecord(op, text string) (Record, error) {
	var found Record
	if text == "" {
		return found, nil
	}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return Record{}, fmt.Errorf("%s: record: %w", op, err)
	}
	return found, nil
}

// Begin implements Store.
func (s *Redis) Begin(ctx context.Context, b Begin) (State, Record, error) {
	fresh := b.fresh(time.Now().UTC())
	m := move{event: b.event(), token: b.Token, fingerprint: b.Fingerprint, new: &fresh, lease: max(b.Lease, 0), untrue: b.Untrue}
	const op = "begin delivery"
	moved, err := s.move(ctx, op, b.Key, m)
	if err != nil {
		return "", Record{}, err
	}
	now, err := decodeRecord(op, moved.now)
	return moved.verdict, now, err
}

// Finish implements Store.
func (s *Redis) Finish(ctx context.Context, k Key, token string, r Record) (Record, bool, error) {
	m := move{event: event(r.Status), token: token, fingerprint: r.Fingerprint, new: &r, lease: noLease}
	const op = "finish delivery"
	moved, err := s.move(ctx, op, k, m)
	if err != nil {
		return Record{}, false, err
	}
	found, err := decodeRecord(op, moved.found)
	return found, moved.verdict == written, err
}

// HandBack implements Store.
func (s *Redis) HandBack(ctx context.Context, k Key, token string, how Back, r Record) error {
	m := move{event: event(how), token: token, fingerprint: r.Fingerprint, new: &r, lease: noLease}
	if how == BackLeave {
		m.lease = 0
	}
	_, err := s.move(ctx, "hand back delivery", k, m)
	return err
}

// Update implements Store, in one round trip unless there are very many changes.
func (s *Redis) Update(ctx context.Context, changes ...Change) ([]Status, error) {
	now := time.Now().UTC()
	calls := make([]redisconn.Call, len(changes))
	for i, c := range changes {
		r := c.record(now)
		args, err := s.args(move{event: c.event(), fingerprint: c.Fingerprint, new: &r, lease: noLease})
		if err != nil {
			return nil, err
		}
		calls[i] = redisconn.Call{Keys: []string{s.key(c.Key)}, Args: args}
	}
	const op = "update deliveries"
	answers, err := s.conn.EvalAll(ctx, op, moveScript, calls)
	if err != nil {
		return nil, err
	}
	statuses := make([]Status, len(changes))
	for i, a := range answers {
		moved, err := readMove(op, a)
		if err != nil {
			return nil, err
		}
		found, err := decodeRecord(op, moved.found)
		if err != nil {
			return nil, err
		}
		statuses[i] = changes[i].after(moved.verdict, found)
	}
	return statuses, nil
}

// Cancel implements Store.
func (s *Redis) Cancel(ctx context.Context, k Key, token string, seen Record) (State, Record, error) {
	r := k.canceled(seen)
	const op = "cancel delivery"
	moved, err := s.move(ctx, op, k, move{event: cancelEvent(seen), token: token, new: &r, lease: noLease})
	if err != nil {
		return "", Record{}, err
	}
	now, err := decodeRecord(op, moved.now)
	return moved.verdict, now, err
}

// Uncancel implements Store.
func (s *Redis) Uncancel(ctx context.Context, k Key, token string) error {
	_, err := s.move(ctx, "uncancel delivery", k, move{event: onUncancel, token: token, lease: noLease})
	return err
}

// Get implements Store.
func (s *Redis) Get(ctx context.Context, k Key) (Record, bool, error) {
	const op = "get delivery"
	text, err := redisconn.Ask(ctx, s.conn, op, func(ctx context.Context) (string, error) {
		text, err := s.conn.Client.Get(ctx, s.key(k)).Result()
		if errors.Is(err, redis.Nil) {
			return "", nil
		}
		return text, err
	})
	if err != nil || text == "" {
		return Record{}, false, err
	}
	found, err := decodeRecord(op, text)
	var held struct {
		Until int64 `json:"until_ms"`
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &held)
	}
	if held.Until > 0 {
		found.LeasedUntil = time.UnixMilli(held.Until).UTC()
	}
	return found, err == nil, err
}
