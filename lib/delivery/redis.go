package delivery

import (
	"cmp"
	"context"
	_ "embed" // the scripts
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
)

//go:embed begin.lua
var beginLua string

//go:embed finish.lua
var finishLua string

//go:embed update.lua
var updateLua string

var (
	beginScript  = redis.NewScript(beginLua)
	finishScript = redis.NewScript(finishLua)
	updateScript = redis.NewScript(updateLua)
)

// Redis is a Store on Redis or Valkey: strings with a time to live (the key stands in
// internal/redisconn). Every script touches one key. It is safe for concurrent use, across
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

// owned is a record as it is stored: with its owner.
type owned struct {
	Record
	Token   string `json:"token,omitempty"`
	UntilMS int64  `json:"until_ms,omitempty"`
}

// run runs a script on the record of k.
func (s *Redis) run(ctx context.Context, op string, script *redis.Script, k Key, args ...any) (any, error) {
	return s.conn.Eval(ctx, op, script, []string{s.key(k)}, args...)
}

func (s *Redis) key(k Key) string { return s.conn.Keys.Record(k.Sink, k.ID) }

// Begin implements Store.
func (s *Redis) Begin(ctx context.Context, k Key, fingerprint, token string, lease time.Duration) (State, Record, error) {
	return s.begin(ctx, k, fingerprint, token, lease, "0", "")
}

// Reopen implements Store.
func (s *Redis) Reopen(ctx context.Context, k Key, fingerprint, token string, lease time.Duration, found Record) (State, Record, error) {
	return s.begin(ctx, k, fingerprint, token, lease, "1", found.ItemID)
}

func (s *Redis) begin(ctx context.Context, k Key, fingerprint, token string, lease time.Duration, reopen, item string) (State, Record, error) {
	fresh, err := json.Marshal(Record{Sink: k.Sink, ID: k.ID, Status: StatusInProgress, UpdatedAt: time.Now().UTC(), Fingerprint: fingerprint})
	if err != nil {
		return "", Record{}, err
	}
	const op = "begin delivery"
	answer, err := s.run(ctx, op, beginScript, k, token, fingerprint, lease.Milliseconds(),
		max(s.ttl, lease).Milliseconds(), fresh, reopen, item)
	if err != nil {
		return "", Record{}, err
	}
	state, found, err := wordAndRecord(op, answer)
	return State(state), found, err
}

// Finish implements Store.
func (s *Redis) Finish(ctx context.Context, k Key, token string, r Record) (Record, bool, error) {
	b, err := json.Marshal(owned{Record: r, Token: token})
	if err != nil {
		return Record{}, false, err
	}
	const op = "finish delivery"
	answer, err := s.run(ctx, op, finishScript, k, token, b, s.ttl.Milliseconds())
	if err != nil {
		return Record{}, false, err
	}
	written, found, err := wordAndRecord(op, answer)
	return found, written == "1", err
}

// wordAndRecord reads the answer of a script that answers with a word and a record.
func wordAndRecord(op string, answer any) (string, Record, error) {
	a, _ := answer.([]any)
	if len(a) != 2 {
		return "", Record{}, redisconn.Unexpected(op, answer)
	}
	word, isWord := a[0].(string)
	text, isText := a[1].(string)
	if !isWord || !isText {
		return "", Record{}, redisconn.Unexpected(op, answer)
	}
	found, err := decodeRecord(op, text)
	return word, found, err
}

// decodeRecord reads a record; the zero one from an empty text.
func decodeRecord(op, text string) (Record, error) {
	var found owned
	if text == "" {
		return found.Record, nil
	}
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return Record{}, fmt.Errorf("%s: record: %w", op, err)
	}
	return found.Record, nil
}

// Release implements Store.
func (s *Redis) Release(ctx context.Context, k Key, token string) error {
	_, err := s.run(ctx, "release delivery", finishScript, k, token, "", 0)
	return err
}

// Update implements Store, in one round trip unless there are very many changes.
func (s *Redis) Update(ctx context.Context, changes ...Change) ([]Status, error) {
	now := time.Now().UTC()
	calls := make([]redisconn.Call, len(changes))
	for i, c := range changes {
		record, err := json.Marshal(Record{
			Sink: c.Sink, ID: c.ID, Status: c.Status, ItemID: c.ItemID, UpdatedAt: now, Fingerprint: c.Fingerprint,
		})
		if err != nil {
			return nil, err
		}
		calls[i] = redisconn.Call{Keys: []string{s.key(c.Key)}, Args: []any{record, s.ttl.Milliseconds()}}
	}
	const op = "update deliveries"
	answers, err := s.conn.EvalAll(ctx, op, updateScript, calls)
	if err != nil {
		return nil, err
	}
	statuses := make([]Status, len(changes))
	for i, a := range answers {
		status, ok := a.(string)
		if !ok {
			return nil, redisconn.Unexpected(op, a)
		}
		statuses[i] = Status(status)
	}
	return statuses, nil
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
	return found, err == nil, err
}
