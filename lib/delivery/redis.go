package delivery

import (
	"context"
	_ "embed" // the scripts
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
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

// Redis keeps records as strings "<prefix>:delivery:<hash of sink and id>" with a time
// to live. Every script touches one key.
type Redis struct {
	client redis.UniversalClient
	prefix string
	ttl    time.Duration
}

// NewRedis returns a store on client. An empty prefix means "backstop", a ttl <= 0
// DefaultTTL.
func NewRedis(client redis.UniversalClient, prefix string, ttl time.Duration) *Redis {
	if prefix == "" {
		prefix = "backstop"
	}
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	return &Redis{client: client, prefix: prefix, ttl: ttl}
}

// owned is a record as it is stored: with its owner.
type owned struct {
	Record
	Token   string `json:"token,omitempty"`
	UntilMS int64  `json:"until_ms,omitempty"`
}

func (s *Redis) key(k Key) string { return s.prefix + ":delivery:" + k.hash() }

// twice runs f, and again when it got no answer in half of the time that ctx has left: a
// connection may be dead without anybody knowing, and a second try gets a new one. What f
// does can be repeated.
func twice(ctx context.Context, f func(context.Context) error) error {
	end, ok := ctx.Deadline()
	if !ok {
		return f(ctx)
	}
	half, cancel := context.WithTimeout(ctx, time.Until(end)/2)
	defer cancel()
	if err := f(half); half.Err() == nil || ctx.Err() != nil || err == nil {
		return err
	}
	return f(ctx)
}

// run runs a script on the record of k.
func (s *Redis) run(ctx context.Context, script *redis.Script, k Key, args ...any) (cmd *redis.Cmd) {
	_ = twice(ctx, func(ctx context.Context) error { // the command has its error
		cmd = script.Run(ctx, s.client, []string{s.key(k)}, args...)
		return cmd.Err()
	})
	return cmd
}

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
	state, found, err := wordAndRecord(s.run(ctx, beginScript, k, token, fingerprint, lease.Milliseconds(),
		max(s.ttl, lease).Milliseconds(), fresh, reopen, item))
	if err != nil {
		return "", Record{}, fmt.Errorf("begin delivery: %w", err)
	}
	return State(state), found, nil
}

// Finish implements Store.
func (s *Redis) Finish(ctx context.Context, k Key, token string, r Record) (Record, bool, error) {
	b, err := json.Marshal(owned{Record: r, Token: token})
	if err != nil {
		return Record{}, false, err
	}
	written, found, err := wordAndRecord(s.run(ctx, finishScript, k, token, b, s.ttl.Milliseconds()))
	if err != nil {
		return Record{}, false, fmt.Errorf("finish delivery: %w", err)
	}
	return found, written == "1", nil
}

// wordAndRecord reads the answer of a script that answers with a word and a record.
func wordAndRecord(cmd *redis.Cmd) (string, Record, error) {
	reply, err := cmd.StringSlice()
	if err != nil {
		return "", Record{}, err
	}
	if len(reply) != 2 {
		return "", Record{}, fmt.Errorf("%d values in the answer", len(reply))
	}
	var found owned
	if reply[1] != "" {
		if err := json.Unmarshal([]byte(reply[1]), &found); err != nil {
			return "", Record{}, fmt.Errorf("record: %w", err)
		}
	}
	return reply[0], found.Record, nil
}

// Release implements Store.
func (s *Redis) Release(ctx context.Context, k Key, token string) error {
	if err := s.run(ctx, finishScript, k, token, "", 0).Err(); err != nil {
		return fmt.Errorf("release delivery: %w", err)
	}
	return nil
}

// Update implements Store, in one round trip.
func (s *Redis) Update(ctx context.Context, changes ...Change) ([]Status, error) {
	now := time.Now().UTC()
	records := make([][]byte, len(changes))
	for i, c := range changes {
		var err error
		records[i], err = json.Marshal(Record{
			Sink: c.Sink, ID: c.ID, Status: c.Status, ItemID: c.ItemID, UpdatedAt: now, Fingerprint: c.Fingerprint,
		})
		if err != nil {
			return nil, err
		}
	}
	answers := make([]*redis.Cmd, len(changes))
	update := func(ctx context.Context, run func(context.Context, redis.Scripter, []string, ...any) *redis.Cmd) error {
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, c := range changes {
				answers[i] = run(ctx, p, []string{s.key(c.Key)}, records[i], s.ttl.Milliseconds())
			}
			return nil
		})
		return err
	}
	err := twice(ctx, func(ctx context.Context) error {
		err := update(ctx, updateScript.EvalSha)
		if err != nil && redis.HasErrorPrefix(err, "NOSCRIPT") {
			err = update(ctx, updateScript.Eval)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("update deliveries: %w", err)
	}
	statuses := make([]Status, len(changes))
	for i, a := range answers {
		text, err := a.Text()
		if err != nil {
			return nil, fmt.Errorf("update deliveries: %w", err)
		}
		statuses[i] = Status(text)
	}
	return statuses, nil
}

// Get implements Store.
func (s *Redis) Get(ctx context.Context, k Key) (Record, bool, error) {
	var b []byte
	err := twice(ctx, func(ctx context.Context) (err error) {
		b, err = s.client.Get(ctx, s.key(k)).Bytes()
		return err
	})
	if errors.Is(err, redis.Nil) {
		return Record{}, false, nil
	}
	if err != nil {
		return Record{}, false, fmt.Errorf("get delivery: %w", err)
	}
	var found owned
	if err := json.Unmarshal(b, &found); err != nil {
		return Record{}, false, fmt.Errorf("get delivery: record: %w", err)
	}
	return found.Record, true, nil
}
