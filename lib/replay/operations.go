package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/google/uuid"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
)

// CreateOperation starts a bulk operation: its members are fixed now, and every later
// Run works on it until it is final. A dry run is answered and not stored. Errors:
// INVALID_ARGUMENT, naming the field, or because Operations is nil; ID_REUSED when the
// idempotency key belongs to another request; PREVIEW_STALE when it does not find what it expects;
// SINK_DLQ_UNAVAILABLE.
func (e *Engine) CreateOperation(ctx context.Context, r OperationRequest) (Operation, error) {
	if err := r.validate(); err != nil {
		return Operation{}, err
	}
	if e.Operations == nil && !r.DryRun {
		return Operation{}, invalid("operation: the engine has no store that would keep it until it is done")
	}
	op, err := e.freeze(ctx, r)
	if err != nil {
		return Operation{}, err
	}
	var p Preview
	if r.DryRun || !r.Action.journals() { // those take long to look
		if p, err = e.preview(ctx, r, op); err != nil {
			return Operation{}, err
		}
	}
	op.Total, op.TotalComplete = p.Count, p.Complete
	for name, n := range p.BySink {
		progress := op.Sinks[name]
		progress.Members = n
		op.Sinks[name] = progress
	}
	if r.DryRun {
		op.JournalCounts = p.JournalCounts
		op.Preview, op.Status, op.FinishedAt = &p, OperationCompleted, op.CreatedAt
		return op, nil
	}
	op.ID = newOperationID(r.IdempotencyKey)
	if err := e.unchanged(ctx, r, op, p); err != nil {
		return Operation{}, err
	}
	stored, err := e.operationStore().Create(ctx, op)
	if err != nil {
		return Operation{}, err
	}
	if !stored.sameRequest(op) {
		return Operation{}, &fault.Error{Code: fault.CodeIDReused, Msg: "the idempotency key belongs to another operation, " + stored.ID}
	}
	if r.Action == OperationErase && (stored.Recipient == nil || !stored.Recipient.is(r.Recipient)) {
		// Of one that is final nobody can tell: rather another operation than none for somebody else.
		return Operation{}, &fault.Error{Code: fault.CodeIDReused, Msg: "the idempotency key belongs to an erasure, " + stored.ID + ", which is over or of another recipient"}
	}
	return stored, nil
}

// Operation returns a bulk operation with its progress as of now. Errors:
// SINK_DLQ_NOT_FOUND; INVALID_ARGUMENT for what is no operation's id; SINK_DLQ_UNAVAILABLE.
func (e *Engine) Operation(ctx context.Context, id string) (Operation, error) {
	if err := checkOperationID(id); err != nil {
		return Operation{}, err
	}
	op, err := e.operationStore().Get(ctx, id)
	if err != nil {
		return Operation{}, err
	}
	for name, p := range op.Sinks {
		if p.Done || !op.Action.settles() {
			continue
		}
		if p.OperationCounts.OperationCounts, err = e.counted(ctx, &op, name); err != nil {
			return Operation{}, err
		}
		op.Sinks[name] = p
	}
	op.sum()
	return op, nil
}

// counted returns an operation's counters in one sink. Each round has its own: what failed in an
// earlier one is tried again, and counts no more. A late holder's settlement counts in its round.
func (e *Engine) counted(ctx context.Context, op *Operation, sink string) (sum dlq.OperationCounts, err error) {
	for round := 1; round <= max(op.Round, 1); round++ {
		c, err := e.Store.Progress(ctx, op.counters(round), sink)
		if err != nil {
			return sum, err
		}
		sum.Delivered += c.Delivered
		sum.Discarded += c.Discarded
		sum.Expired += c.Expired
		sum.Failed = c.Failed
	}
	sum.Settled = sum.Delivered + sum.Discarded + sum.Expired + sum.Failed
	return sum, nil
}

// ListOperations returns the newest bulk operations, with their progress as of their
// last slices. limit <= 0 means 20.
func (e *Engine) ListOperations(ctx context.Context, limit int) ([]Operation, error) {
	return e.operationStore().List(ctx, positive(limit, 20))
}

// ResumeOperation begins the next round of a stopped bulk operation: the next Run works on it,
// tries again what failed in the round before, feels its way anew, and goes on with what was
// not reached. Errors: ErrNotStopped, and those of Operation.
func (e *Engine) ResumeOperation(ctx context.Context, id string) (Operation, error) {
	op, err := e.Operation(ctx, id)
	if err != nil {
		return Operation{}, err
	}
	begin := make(map[string]SinkProgress, len(op.Sinks))
	for name, p := range op.Sinks {
		begin[name] = p.again()
	}
	return e.operationStore().Resume(ctx, id, begin)
}

// CancelOperation ends a bulk operation before its next slice, a stopped one too. A final one
// stays as it is. The errors are those of Operation.
func (e *Engine) CancelOperation(ctx context.Context, id string) (Operation, error) {
	if err := checkOperationID(id); err != nil {
		return Operation{}, err
	}
	op, err := e.operationStore().Cancel(ctx, id)
	if err == nil && op.Status == OperationCanceled {
		e.retire(ctx, op)
	}
	return op, err
}

// retire starts the retention of a final operation's counters. Without it they stay for
// good, which costs some bytes.
func (e *Engine) retire(ctx context.Context, op Operation) {
	if !op.Action.settles() {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(op.Sinks)) {
		for round := 1; round <= max(op.Round, 1); round++ {
			if err := e.Store.EndOperation(ctx, op.counters(round), name); err != nil {
				e.log().WarnContext(ctx, "operation's counters stay", "operation", op.ID, "sink", name, "error", err.Error())
			}
		}
	}
}

// operationStore returns the store, or one that knows no operation.
func (e *Engine) operationStore() OperationStore {
	if e.Operations == nil {
		return NewMemoryOperations()
	}
	return e.Operations
}

// stalledAfter is how many owners in a row may get nothing done before an operation goes
// last.
const stalledAfter = 2

// unfinished returns the ids of unfinished bulk operations, oldest first, and apart from
// them those that do not get on.
func (r *run) unfinished(ctx context.Context) (moving, stalled []string, err error) {
	if r.Operations == nil {
		return nil, nil, nil
	}
	ids, err := r.Operations.Unfinished(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		op, err := r.Operations.Get(ctx, id)
		if fault.CodeOf(err) == fault.CodeDLQNotFound {
			// It was accepted, and nobody will do it: its record was evicted or deleted. (Or its
			// creator is just at it, which the next run sees.)
			r.log().ErrorContext(ctx, "bulk operation lost: its record is gone before it was final", "operation", id)
		}
		switch {
		case err == nil && op.Status == OperationStopped: // until it is resumed
		case err == nil && op.Stalled >= stalledAfter:
			stalled = append(stalled, id)
		default:
			moving = append(moving, id)
		}
	}
	return moving, stalled, nil
}

// operations works on bulk operations, in order. Each has its share of the time, so that a
// large one does not hold up the small ones behind it.
func (r *run) operations(ctx context.Context, b retry.Budget, ids []string) error {
	var errs []error
	for i, id := range ids {
		if ctx.Err() != nil || !b.Fits(0) {
			break
		}
		if err := r.operation(ctx, b.Share(len(ids)-i), id); err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// unworkable says why nobody here can work on an operation.
func (o *Operation) unworkable() string {
	switch {
	case !o.Action.settles() && !o.Action.journals(): // it was asked for by a newer version
		return fmt.Sprintf("the action %.40q is not known", o.Action)
	case o.Action == OperationErase && o.Recipient == nil:
		return "whose dead letters it removes is not known any more"
	}
	return ""
}

// operation works on one bulk operation until it is final, its time is over, or what
// is left must wait.
func (r *run) operation(ctx context.Context, b retry.Budget, id string) error {
	w := &worker{run: r, budget: b, owner: uuid.NewString(), saving: make(slots, 1)}
	op, taken, err := r.operationStore().Take(ctx, id, w.owner, w.lease())
	if err != nil || !taken {
		return err
	}
	w.op, w.progress = op, maps.Clone(op.Sinks)
	if why := op.unworkable(); why != "" {
		w.save(ctx, OperationChange{Status: OperationFailed, Error: why})
		return w.err
	}
	var lanes sync.WaitGroup
	at := make(slots, operationSinks)
	for _, name := range slices.Sorted(maps.Keys(op.Sinks)) {
		p := op.Sinks[name]
		if p.over() {
			continue
		}
		lanes.Go(func() {
			if at.take(ctx) {
				defer at.give()
				w.work(ctx, name, p)
			}
		})
	}
	lanes.Wait()
	return w.end(ctx)
}
