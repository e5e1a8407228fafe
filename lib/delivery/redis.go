package delivery

import (
	"cmp"
	"context"
	_ "embed" // the script
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
)

// The scripts: record.lua, and their own text.
var (
	//go:embed record.lua
	recordLua string
	//go:embed move.lua
	moveLua string
	//go:embed get.lua
	getLua string

	moveScript = redisconn.NewScript(func() string { return rows() + recordLua + moveLua })
	getScript  = redisconn.NewScript(func() string { return recordLua + getLua })
)

// Redis is a Store on Redis or Valkey (the keys stand in internal/redisconn). A record has a time to live; that of
// a delivery that was delivered at once is one of many in a bucket, takes some 50 bytes, and lives for the time to live and up to as
// long again. Its scripts touch the keys of one delivery. It is safe for concurrent use, across processes too.
//
// Every call can be repeated after a lost reply, and repeats itself until its context ends,
// as dlq.Redis does. Its errors have no code, but for a bad prefix (INVALID_ARGUMENT): a
// record in doubt is no fault of the queue.
type Redis struct {
	conn   *redisconn.Conn
	moves  *redisconn.Shared
	ttl    time.Duration
	levels atomic.Pointer[string] // the deeper levels of buckets that are in use as far as is known, as record.lua takes them; nil: none
}

// NewRedis returns a store on client. An empty prefix means "backstop", a ttl <= 0
// DefaultTTL. It does no I/O.
func NewRedis(client redis.UniversalClient, prefix string, ttl time.Duration) *Redis {
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	conn := redisconn.New(client, cmp.Or(prefix, redisconn.DefaultPrefix), "")
	return &Redis{conn: conn, moves: redisconn.NewShared(conn, moveScript), ttl: ttl}
}

// Retention implements Store.
func (s *Redis) Retention() time.Duration { return max(s.ttl, LongestWait) }

// call is a call of a script that begins with record.lua.
func (s *Redis) call(k Key, args ...any) redisconn.Call {
	levels := ""
	if known := s.levels.Load(); known != nil {
		levels = *known
	}
	keys, field := s.conn.Keys.Record(k.Sink, k.ID, s.ttl, levels)
	return redisconn.Call{Keys: keys, Args: append([]any{field, redisconn.Turn(s.ttl).Milliseconds(), s.ttl.Milliseconds(), levels}, args...)}
}

// learn reports whether an answer is no answer yet: the script needs levels that the call did not have. From then on all have them.
func (s *Redis) learn(answer any) bool {
	needed, _ := answer.(int64)
	if needed >= 0 {
		return false
	}
	for {
		known, levels := s.levels.Load(), strconv.FormatInt(-needed, 10)
		if known != nil {
			levels += *known
		}
		sorted := []byte(levels)
		slices.Sort(sorted)
		levels = string(slices.Compact(sorted))
		if s.levels.CompareAndSwap(known, &levels) {
			return true
		}
	}
}

// caller calls a script.
type caller func(ctx context.Context, op string, c redisconn.Call) (any, error)

// alone calls a script by itself.
func (s *Redis) alone(script redisconn.Script) caller {
	return func(ctx context.Context, op string, c redisconn.Call) (any, error) {
		return s.conn.Eval(ctx, op, script, c.Keys, c.Args...)
	}
}

// eval calls a script that begins with record.lua: once more where it needs other levels, which no script does twice for the same.
func (s *Redis) eval(ctx context.Context, op string, script caller, k Key, args ...any) (any, error) {
	for {
		answer, err := script(ctx, op, s.call(k, args...))
		if err != nil || !s.learn(answer) {
			return answer, err
		}
	}
}

// move is one call of the script.
type move struct {
	event              event
	token, fingerprint string
	new                *Record       // nil: nothing new
	lease              time.Duration // negative: none
	untrue             *Record
}

const noLease = -1

// args are those of the script, after record.lua's.
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
	return []any{string(m.event), m.token, m.fingerprint, record, s.Retention().Milliseconds(), lease, untrue, gone}, nil
}

func (s *Redis) move(ctx context.Context, op string, k Key, m move) (moved, error) {
	args, err := s.args(m)
	if err != nil {
		return moved{}, err
	}
	answer, err := s.eval(ctx, op, s.moves.Eval, k, args...)
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

// record reads a record of k; the zero one from an empty text.
func (k Key) record(op, text string) (Record, error) {
	var found Record
	if text == "" {
		return found, nil
	}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return Record{}, fmt.Errorf("%s: record: %w", op, err)
	}
	found.Sink, found.ID = k.Sink, k.ID // a bucket does not keep them
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
	now, err := b.record(op, moved.now)
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
	found, err := k.record(op, moved.found)
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

// Update implements Store, in one round trip unless there are very many changes, or levels are new to this store.
func (s *Redis) Update(ctx context.Context, changes ...Change) ([]Status, error) {
	const op = "update deliveries"
	now := time.Now().UTC()
	args, left := make([][]any, len(changes)), make([]int, len(changes))
	for i, c := range changes {
		r := c.record(now)
		var err error
		if args[i], err = s.args(move{event: c.event(), fingerprint: c.Fingerprint, new: &r, lease: noLease}); err != nil {
			return nil, err
		}
		left[i] = i
	}
	statuses := make([]Status, len(changes))
	for len(left) > 0 {
		calls := make([]redisconn.Call, len(left))
		for n, i := range left {
			calls[n] = s.call(changes[i].Key, args[i]...)
		}
		answers, err := s.conn.EvalAll(ctx, op, moveScript, calls)
		if err != nil {
			return nil, err
		}
		var again []int
		for n, i := range left {
			if s.learn(answers[n]) {
				again = append(again, i)
				continue
			}
			moved, err := readMove(op, answers[n])
			if err != nil {
				return nil, err
			}
			found, err := changes[i].Key.record(op, moved.found)
			if err != nil {
				return nil, err
			}
			statuses[i] = changes[i].after(moved.verdict, found)
		}
		left = again
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
	now, err := k.record(op, moved.now)
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
	answer, err := s.eval(ctx, op, s.alone(getScript), k)
	if err != nil {
		return Record{}, false, err
	}
	text, ok := answer.(string)
	switch {
	case !ok:
		return Record{}, false, redisconn.Unexpected(op, answer)
	case text == "":
		return Record{}, false, nil
	}
	found, err := k.record(op, text)
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
