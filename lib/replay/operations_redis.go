package replay

import (
	"cmp"
	"context"
	_ "embed" // the scripts
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"backstop/internal/redisconn"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

//go:embed operation_create.lua
var createLua string

//go:embed operation_take.lua
var takeLua string

//go:embed operation_save.lua
var saveLua string

//go:embed operation_cancel.lua
var cancelLua string

//go:embed operation_resume.lua
var resumeLua string

var (
	createScript = redisconn.Source(createLua)
	takeScript   = redisconn.Source(takeLua)
	saveScript   = redisconn.Source(saveLua)
	cancelScript = redisconn.Source(cancelLua)
	resumeScript = redisconn.Source(resumeLua)
)

// RedisOperations is an OperationStore on Redis or Valkey (the keys stand in
// internal/redisconn). Each script touches one key. It is safe for concurrent use, across
// processes too.
//
// Every call can be repeated after a lost reply, and repeats itself until its context ends,
// as dlq.Redis does.
type RedisOperations struct{ conn *redisconn.Conn }

// NewRedisOperations returns a store on client. An empty prefix means "backstop". It does no
// I/O.
func NewRedisOperations(client redis.UniversalClient, prefix string) *RedisOperations {
	return &RedisOperations{redisconn.New(client, cmp.Or(prefix, redisconn.DefaultPrefix), fault.CodeDLQUnavailable)}
}

var _ OperationStore = (*RedisOperations)(nil)

const sinkField = "sink:"

// orphanAge is how old an id in ops:open must be to be dropped when its operation does
// not exist: its creator is surely not at it any more.
const orphanAge = time.Hour

// run runs a script on an operation and returns the word that it answers with.
func (s *RedisOperations) run(ctx context.Context, what string, script redisconn.Script, id string, args ...any) (string, error) {
	what = "operations: " + what
	answer, err := s.conn.Eval(ctx, what, script, []string{s.conn.Keys.Operation(id)}, args...)
	if err != nil {
		return "", err
	}
	word, ok := answer.(string)
	if !ok {
		return "", redisconn.Unexpected(what, answer)
	}
	return word, nil
}

// Create implements OperationStore.
func (s *RedisOperations) Create(ctx context.Context, op Operation) (Operation, error) {
	doc, err := json.Marshal(op)
	if err != nil {
		return Operation{}, err
	}
	recipient := []byte{}
	if op.Recipient != nil {
		if recipient, err = json.Marshal(op.Recipient); err != nil {
			return Operation{}, err
		}
	}
	z := redis.Z{Score: float64(op.CreatedAt.UnixMilli()), Member: op.ID}
	c := s.conn.Client
	err = s.conn.Do(ctx, "operations: create", func(ctx context.Context) error {
		if err := c.ZAddNX(ctx, s.conn.Keys.OpenOperations(), z).Err(); err != nil {
			return err
		}
		if err := createScript().Run(ctx, c, []string{s.conn.Keys.Operation(op.ID)}, doc, recipient).Err(); err != nil {
			return err
		}
		return c.ZAddNX(ctx, s.conn.Keys.Operations(), z).Err()
	})
	if err != nil {
		return Operation{}, err
	}
	if err := s.forgetOld(ctx); err != nil {
		return Operation{}, err
	}
	return s.Get(ctx, op.ID)
}

// forgetOld takes operations off the list that are over and past their retention.
func (s *RedisOperations) forgetOld(ctx context.Context) error {
	before := strconv.FormatInt(time.Now().Add(-dlq.OperationRetention).UnixMilli(), 10)
	old, err := redisconn.Ask(ctx, s.conn, "operations: forget", func(ctx context.Context) ([]string, error) {
		return s.conn.Client.ZRangeByScore(ctx, s.conn.Keys.Operations(), &redis.ZRangeBy{Min: "-inf", Max: "(" + before, Count: 100}).Result()
	})
	if err != nil || len(old) == 0 {
		return err
	}
	unfinished, err := s.Unfinished(ctx)
	if err != nil {
		return err
	}
	var over []any
	for _, id := range old {
		if !slices.Contains(unfinished, id) {
			over = append(over, id)
		}
	}
	if len(over) == 0 {
		return nil
	}
	return s.conn.Do(ctx, "operations: forget", func(ctx context.Context) error {
		return s.conn.Client.ZRem(ctx, s.conn.Keys.Operations(), over...).Err()
	})
}

// Get implements OperationStore.
func (s *RedisOperations) Get(ctx context.Context, id string) (Operation, error) {
	fields, err := redisconn.Ask(ctx, s.conn, "operations: get", func(ctx context.Context) (map[string]string, error) {
		return s.conn.Client.HGetAll(ctx, s.conn.Keys.Operation(id)).Result()
	})
	if err != nil {
		return Operation{}, err
	}
	return decodeOperation(id, fields)
}

func decodeOperation(id string, fields map[string]string) (Operation, error) {
	if len(fields) == 0 {
		return Operation{}, operationNotFound(id)
	}
	op := Operation{StopAfter: DefaultStopAfter, Round: 1} // of earlier versions, which had none
	if err := json.Unmarshal([]byte(fields["doc"]), &op); err != nil {
		return Operation{}, fmt.Errorf("operation %s: %w", id, err)
	}
	if round, err := strconv.Atoi(fields["round"]); err == nil { // absent until it is resumed
		op.Round = round
	}
	op.Status, op.Error = OperationStatus(fields["status"]), fields["error"]
	op.Stalled, _ = strconv.Atoi(fields["stalled"]) // absent: 0
	op.StartedAt, op.FinishedAt = unixMilli(fields["started"]), unixMilli(fields["finished"])
	if text := fields["recipient"]; text != "" {
		if err := json.Unmarshal([]byte(text), &op.Recipient); err != nil {
			return Operation{}, fmt.Errorf("operation %s: recipient: %w", id, err)
		}
	}
	if op.Sinks == nil {
		op.Sinks = map[string]SinkProgress{}
	}
	for field, value := range fields {
		name, ok := strings.CutPrefix(field, sinkField)
		if !ok {
			continue
		}
		var p SinkProgress
		if err := json.Unmarshal([]byte(value), &p); err != nil {
			return Operation{}, fmt.Errorf("operation %s: sink %s: %w", id, name, err)
		}
		op.Sinks[name] = p
	}
	op.sum()
	return op, nil
}

// unixMilli reads a time; the zero one when there is none.
func unixMilli(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// List implements OperationStore.
func (s *RedisOperations) List(ctx context.Context, limit int) ([]Operation, error) {
	ids, err := redisconn.Ask(ctx, s.conn, "operations: list", func(ctx context.Context) ([]string, error) {
		return s.conn.Client.ZRevRange(ctx, s.conn.Keys.Operations(), 0, int64(limit)-1).Result()
	})
	if err != nil {
		return nil, err
	}
	ops := make([]Operation, 0, len(ids))
	for _, id := range ids {
		op, err := s.Get(ctx, id)
		if fault.CodeOf(err) == fault.CodeDLQNotFound {
			continue // it expired
		}
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// Unfinished implements OperationStore.
func (s *RedisOperations) Unfinished(ctx context.Context) ([]string, error) {
	return redisconn.Ask(ctx, s.conn, "operations: unfinished", func(ctx context.Context) ([]string, error) {
		return s.conn.Client.ZRange(ctx, s.conn.Keys.OpenOperations(), 0, -1).Result()
	})
}

// Take implements OperationStore.
func (s *RedisOperations) Take(ctx context.Context, id, owner string, ttl time.Duration) (Operation, bool, error) {
	answer, err := s.run(ctx, "take", takeScript, id, owner, ttl.Milliseconds())
	switch {
	case err != nil:
	case answer == "final":
		err = s.close(ctx, id)
	case answer == "missing":
		err = s.dropOrphan(ctx, id)
	}
	if err != nil {
		return Operation{}, false, err
	}
	op, err := s.Get(ctx, id)
	return op, answer == "taken", err
}

func (s *RedisOperations) dropOrphan(ctx context.Context, id string) error {
	created, err := redisconn.Ask(ctx, s.conn, "operations: take", func(ctx context.Context) (float64, error) {
		at, err := s.conn.Client.ZScore(ctx, s.conn.Keys.OpenOperations(), id).Result()
		if errors.Is(err, redis.Nil) {
			return math.Inf(1), nil // gone already
		}
		return at, err
	})
	if err != nil || created > float64(time.Now().Add(-orphanAge).UnixMilli()) {
		return err
	}
	return s.close(ctx, id)
}

// Save implements OperationStore.
func (s *RedisOperations) Save(ctx context.Context, id, owner string, c OperationChange) (OperationStatus, error) {
	field, progress := "", []byte{}
	if c.Sink != "" {
		var err error
		if progress, err = json.Marshal(c.Progress); err != nil {
			return "", err
		}
		field = sinkField + c.Sink
	}
	moved := "0"
	if c.moved() {
		moved = "1"
	}
	answer, err := s.run(ctx, "save", saveScript, id, dlq.OperationRetention.Milliseconds(), owner,
		max(c.TTL, 0).Milliseconds(), field, progress, moved, string(c.Status), c.Error)
	switch {
	case err != nil:
		return "", err
	case answer == "missing":
		return "", operationNotFound(id)
	case answer == "lost":
		return "", ErrOperationTaken
	}
	return OperationStatus(answer), s.closed(ctx, id, OperationStatus(answer))
}

// Cancel implements OperationStore.
func (s *RedisOperations) Cancel(ctx context.Context, id string) (Operation, error) {
	answer, err := s.run(ctx, "cancel", cancelScript, id, dlq.OperationRetention.Milliseconds())
	if err != nil {
		return Operation{}, err
	}
	if answer == "missing" {
		return Operation{}, operationNotFound(id)
	}
	if err := s.closed(ctx, id, OperationStatus(answer)); err != nil {
		return Operation{}, err
	}
	return s.Get(ctx, id)
}

// Resume implements OperationStore. It is in both lists still, unless an earlier version has
// taken it off.
func (s *RedisOperations) Resume(ctx context.Context, id string, sinks map[string]SinkProgress) (Operation, error) {
	op, err := s.Get(ctx, id)
	if err != nil {
		return Operation{}, err
	}
	fields := make(map[string]string, len(sinks))
	for name, p := range sinks {
		text, err := json.Marshal(p)
		if err != nil {
			return Operation{}, err
		}
		fields[sinkField+name] = string(text)
	}
	begin, err := json.Marshal(fields)
	if err != nil {
		return Operation{}, err
	}
	if op.Status == OperationStopped {
		z := redis.Z{Score: float64(op.CreatedAt.UnixMilli()), Member: id}
		for _, list := range []string{s.conn.Keys.OpenOperations(), s.conn.Keys.Operations()} {
			if err := s.conn.Do(ctx, "operations: resume", func(ctx context.Context) error {
				return s.conn.Client.ZAddNX(ctx, list, z).Err()
			}); err != nil {
				return Operation{}, err
			}
		}
	}
	answer, err := s.run(ctx, "resume", resumeScript, id, uuid.NewString(), begin)
	switch {
	case err != nil:
		return Operation{}, err
	case answer == "missing":
		return Operation{}, operationNotFound(id)
	case answer != "resumed":
		return Operation{}, notStopped(id, OperationStatus(answer))
	}
	return s.Get(ctx, id)
}

// closed takes an operation off the list of open ones if it is final.
func (s *RedisOperations) closed(ctx context.Context, id string, status OperationStatus) error {
	if !status.Final() {
		return nil
	}
	return s.close(ctx, id)
}

func (s *RedisOperations) close(ctx context.Context, id string) error {
	return s.conn.Do(ctx, "operations: close", func(ctx context.Context) error {
		return s.conn.Client.ZRem(ctx, s.conn.Keys.OpenOperations(), id).Err()
	})
}
