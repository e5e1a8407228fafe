package sim

import (
	"context"
	"time"

	"backstop/lib/replay"
)

// operations are bulk operations as a process reaches them.
type operations struct {
	replay.OperationStore
	p *process
}

func operation[T any](ctx context.Context, o operations, op string, do func(context.Context) (T, error)) (T, error) {
	v, err := call(ctx, o.p, "operation "+op, nil, nil, do)
	return v, letter(err)
}

func (o operations) memory() *replay.MemoryOperations { return o.p.w.operations }

func (o operations) Create(ctx context.Context, op replay.Operation) (replay.Operation, error) {
	return operation(ctx, o, "create", func(ctx context.Context) (replay.Operation, error) { return o.memory().Create(ctx, op) })
}

func (o operations) Get(ctx context.Context, id string) (replay.Operation, error) {
	return operation(ctx, o, "get", func(ctx context.Context) (replay.Operation, error) { return o.memory().Get(ctx, id) })
}

func (o operations) Unfinished(ctx context.Context) ([]string, error) {
	return operation(ctx, o, "unfinished", func(ctx context.Context) ([]string, error) { return o.memory().Unfinished(ctx) })
}

type takenOver struct {
	op replay.Operation
	ok bool
}

func (o operations) Take(ctx context.Context, id, owner string, ttl time.Duration) (replay.Operation, bool, error) {
	got, err := operation(ctx, o, "take", func(ctx context.Context) (takenOver, error) {
		op, ok, err := o.memory().Take(ctx, id, owner, ttl)
		return takenOver{op, ok}, err
	})
	return got.op, got.ok, err
}

func (o operations) Save(ctx context.Context, id, owner string, c replay.OperationChange) (replay.OperationStatus, error) {
	return operation(ctx, o, "save "+c.Sink, func(ctx context.Context) (replay.OperationStatus, error) { return o.memory().Save(ctx, id, owner, c) })
}
