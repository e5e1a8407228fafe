package replay

import (
	"context"
	_ "embed" // the scripts
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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

var (
	createScript = redis.NewScript(createLua)
	takeScript   = redis.NewScript(takeLua)
	saveScript   = redis.NewScript(saveLua)
	cancelScript = redis.NewScript(cancelLua)
)

// RedisOperations is an OperationStore on Redis. Each script touches one key:
//
//	<prefix>:op:<id>   hash, with a TTL once it is final: a cache may evict what has one. Fields:
//	    doc            the operation as created, JSON, its sinks included
//	    status, error  as in Operation
//	    started, finished  Unix milliseconds
//	    owner, until   who works on it, and until when (Unix milliseconds)
//	    stalled        how often it was taken since it last got on
//	    sink:<name>    SinkProgress, JSON, once there is any
//	<prefix>:ops       sorted set: ids by creation (Unix milliseconds); old ones go once they
//	                   are not open
//	<prefix>:ops:open  the same of those that are not final, and perhaps others
//
// An id is in ops:open before its hash exists, so that no operation is forgotten.
type RedisOperations struct {
	client redis.UniversalClient
	prefix string
}

// NewRedisOperations returns a store on client. An empty prefix means
// redisconn.DefaultPrefix.
func NewRedisOperations(client redis.UniversalClient, prefix string) *RedisOperations {
	if prefix == "" {
		prefix = redisconn.DefaultPrefix
	}
	return &RedisOperations{client: client, prefix: prefix}
}

var _ OperationStore = (*RedisOperations)(nil)

func (s *RedisOperations) key(id string) string { return s.prefix + ":op:" + id }
func (s *RedisOperations) index() string        { return s.prefix + ":ops" }
func (s *RedisOperations) open() string         { return s.prefix + ":ops:open" }

const sinkField = "sink:"

// orphanAge is how old an id in ops:open must be to be dropped when its operation does
// not exist: its creator is surely not at it any more.
const orphanAge = time.Hour

func operationsUnavailable(what string, err error) error {
	return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "operations: " + what, Cause: err}
}

// Create implements OperationStore.
func (s *RedisOperations) Create(ctx context.Context, op Operation) (Operation, error) {
	doc, err := json.Marshal(op)
	if err != nil {
		return Operation{}, err
	}
	z := redis.Z{Score: float64(op.CreatedAt.UnixMilli()), Member: op.ID}
	if err := s.client.ZAddNX(ctx, s.open(), z).Err(); err != nil {
		return Operation{}, operationsUnavailable("create", err)
	}
	if err := createScript.Run(ctx, s.client, []string{s.key(op.ID)}, doc).Err(); err != nil {
		return Operation{}, operationsUnavailable("create", err)
	}
	if err := s.client.ZAddNX(ctx, s.index(), z).Err(); err != nil {
		return Operation{}, operationsUnavailable("create", err)
	}
	if err := s.forgetOld(ctx); err != nil {
		return Operation{}, operationsUnavailable("create", err)
	}
	return s.Get(ctx, op.ID)
}

// forgetOld takes operations off the list that are over and past their retention.
func (s *RedisOperations) forgetOld(ctx context.Context) error {
	before := strconv.FormatInt(time.Now().Add(-dlq.OperationRetention).UnixMilli(), 10)
	old, err := s.client.ZRangeByScore(ctx, s.index(), &redis.ZRangeBy{Min: "-inf", Max: "(" + before, Count: 100}).Result()
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
	return s.client.ZRem(ctx, s.index(), over...).Err()
}

// Get implements OperationStore.
func (s *RedisOperations) Get(ctx context.Context, id string) (Operation, error) {
	fields, err := s.client.HGetAll(ctx, s.key(id)).Result()
	if err != nil {
		return Operation{}, operationsUnavailable("get", err)
	}
	return decodeOperation(id, fields)
}

func decodeOperation(id string, fields map[string]string) (Operation, error) {
	if len(fields) == 0 {
		return Operation{}, operationNotFound(id)
	}
	var op Operation
	if err := json.Unmarshal([]byte(fields["doc"]), &op); err != nil {
		return Operation{}, fmt.Errorf("operation %s: %w", id, err)
	}
	op.Status, op.Error = OperationStatus(fields["status"]), fields["error"]
	op.Stalled, _ = strconv.Atoi(fields["stalled"]) // absent: 0
	op.StartedAt, op.FinishedAt = unixMilli(fields["started"]), unixMilli(fields["finished"])
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
	ids, err := s.client.ZRevRange(ctx, s.index(), 0, int64(limit)-1).Result()
	if err != nil {
		return nil, operationsUnavailable("list", err)
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
	ids, err := s.client.ZRange(ctx, s.open(), 0, -1).Result()
	if err != nil {
		return nil, operationsUnavailable("unfinished", err)
	}
	return ids, nil
}

// Take implements OperationStore.
func (s *RedisOperations) Take(ctx context.Context, id, owner string, ttl time.Duration) (Operation, bool, error) {
	answer, err := takeScript.Run(ctx, s.client, []string{s.key(id)}, owner, ttl.Milliseconds()).Text()
	if err != nil {
		return Operation{}, false, operationsUnavailable("take", err)
	}
	switch answer {
	case "final":
		err = s.client.ZRem(ctx, s.open(), id).Err()
	case "missing":
		err = s.dropOrphan(ctx, id)
	}
	if err != nil {
		return Operation{}, false, operationsUnavailable("take", err)
	}
	op, err := s.Get(ctx, id)
	return op, answer == "taken", err
}

func (s *RedisOperations) dropOrphan(ctx context.Context, id string) error {
	created, err := s.client.ZScore(ctx, s.open(), id).Result()
	if err == nil && time.Since(time.UnixMilli(int64(created))) > orphanAge {
		err = s.client.ZRem(ctx, s.open(), id).Err()
	}
	if err == redis.Nil { //nolint:errorlint // go-redis returns it bare
		err = nil
	}
	return err
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
	if c.Moved || c.Sink != "" {
		moved = "1"
	}
	answer, err := saveScript.Run(ctx, s.client, []string{s.key(id)}, dlq.OperationRetention.Milliseconds(), owner,
		max(c.TTL, 0).Milliseconds(), field, progress, moved, string(c.Status), c.Error).Text()
	if err != nil {
		return "", operationsUnavailable("save", err)
	}
	switch answer {
	case "missing":
		return "", operationNotFound(id)
	case "lost":
		return "", ErrOperationTaken
	}
	return OperationStatus(answer), s.closed(ctx, id, OperationStatus(answer))
}

// Cancel implements OperationStore.
func (s *RedisOperations) Cancel(ctx context.Context, id string) (Operation, error) {
	answer, err := cancelScript.Run(ctx, s.client, []string{s.key(id)}, dlq.OperationRetention.Milliseconds()).Text()
	if err != nil {
		return Operation{}, operationsUnavailable("cancel", err)
	}
	if answer == "missing" {
		return Operation{}, operationNotFound(id)
	}
	if err := s.closed(ctx, id, OperationStatus(answer)); err != nil {
		return Operation{}, err
	}
	return s.Get(ctx, id)
}

// closed takes a final operation off the list of open ones.
func (s *RedisOperations) closed(ctx context.Context, id string, status OperationStatus) error {
	if !status.Final() {
		return nil
	}
	if err := s.client.ZRem(ctx, s.open(), id).Err(); err != nil {
		return operationsUnavailable("close", err)
	}
	return nil
}
