package replay

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
)

const (
	// sliceSize is the number of items between two saves of an operation's progress.
	sliceSize = 100
	// operationLease is the longest that an operation waits for an owner that died;
	// every slice renews it. It need not outlive the owner: items have leases of their
	// own, and a late owner can save nothing.
	operationLease = 2 * time.Minute
	// operationSinks is the number of sinks that an operation works on at once.
	operationSinks = 8
	// leftFor is how long items that another replayer holds are waited for: longer than
	// any lease.
	leftFor = 20 * time.Minute
)

// CreateOperation starts a bulk operation: its members are fixed now, and every later
// Run works on it until it is final. A dry run is answered and not stored. Errors:
// INVALID_ARGUMENT, naming the field, or because Operations is nil; ID_REUSED when the
// idempotency key belongs to another request; SINK_DLQ_UNAVAILABLE.
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
	p, err := e.preview(ctx, op)
	if err != nil {
		return Operation{}, err
	}
	op.Total, op.TotalComplete = p.Count, p.Complete
	if r.DryRun {
		op.Preview, op.Status, op.FinishedAt = &p, OperationCompleted, op.CreatedAt
		return op, nil
	}
	op.ID = newOperationID(r.IdempotencyKey)
	stored, err := e.operationStore().Create(ctx, op)
	if err != nil {
		return Operation{}, err
	}
	if !stored.sameRequest(op) {
		return Operation{}, &fault.Error{Code: fault.CodeIDReused, Msg: "the idempotency key belongs to another operation, " + stored.ID}
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
		if p.Done {
			continue
		}
		if p.OperationCounts.OperationCounts, err = e.Store.Progress(ctx, id, name); err != nil {
			return Operation{}, err
		}
		op.Sinks[name] = p
	}
	op.sum()
	return op, nil
}

// ListOperations returns the newest bulk operations, with their progress as of their
// last slices. limit <= 0 means 20.
func (e *Engine) ListOperations(ctx context.Context, limit int) ([]Operation, error) {
	return e.operationStore().List(ctx, positive(limit, 20))
}

// CancelOperation stops a bulk operation before its next slice. A final one stays as
// it is. The errors are those of Operation.
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
	for name := range op.Sinks {
		if err := e.Store.EndOperation(ctx, op.ID, name); err != nil {
			e.log().WarnContext(ctx, "operation's counters stay", "operation", op.ID, "sink", name, "error", err.Error())
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
		if err == nil && op.Stalled >= stalledAfter {
			stalled = append(stalled, id)
		} else {
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

// operation works on one bulk operation until it is final, its time is over, or what
// is left must wait.
func (r *run) operation(ctx context.Context, b retry.Budget, id string) error {
	w := &worker{run: r, budget: b, owner: uuid.NewString()}
	op, taken, err := r.operationStore().Take(ctx, id, w.owner, w.lease())
	if err != nil || !taken {
		return err
	}
	w.op, w.progress = op, maps.Clone(op.Sinks)
	var lanes sync.WaitGroup
	at := make(slots, operationSinks)
	for name, p := range op.Sinks {
		if p.Done {
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

// worker works on one bulk operation.
type worker struct {
	run    *run
	op     Operation
	budget retry.Budget
	owner  string

	mu       sync.Mutex
	progress map[string]SinkProgress
	moved    bool // something was settled
	final    bool // canceled, or ended here
	over     bool // canceled, taken over, or its progress cannot be saved
	err      error
}

func (w *worker) lease() time.Duration { return min(w.run.budget.Lease(), operationLease) }

func (w *worker) stopped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// save records a change. It is made even when the run is ending: it tells what was
// done.
func (w *worker) save(ctx context.Context, c OperationChange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	ctx, cancel := w.run.budget.SettleContext(ctx)
	defer cancel()
	status, err := w.run.Operations.Save(ctx, w.op.ID, w.owner, c)
	if err != nil {
		w.over = true
		if !errors.Is(err, ErrOperationTaken) {
			w.err = err
		}
		return
	}
	if c.Sink != "" {
		w.progress[c.Sink] = c.Progress
	}
	w.over, w.final = status.Final(), status.Final()
}

// end makes the operation final when nothing is left of it, and else leaves it to the
// next run.
func (w *worker) end(ctx context.Context) error {
	c := OperationChange{Status: OperationCompleted}
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(w.progress)) {
		p := w.progress[name]
		if !p.Done {
			c.Status = ""
			break
		}
		if p.Error != "" {
			c.Status = OperationFailed
			faults = append(faults, "sink "+name+": "+p.Error)
		}
	}
	c.Error = strings.Join(faults, "; ")
	c.Moved = w.moved
	if c.Status != "" || w.final {
		w.run.retire(ctx, w.op)
	}
	w.save(ctx, c)
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := Operation{Sinks: w.progress}
	sum.sum()
	w.run.log().InfoContext(ctx, "operation", "operation", w.op.ID, "action", string(w.op.Action),
		"settled", sum.Settled, "delivered", sum.Delivered, "failed", sum.Failed, "discarded", sum.Discarded, "skipped", sum.Skipped)
	return w.err
}

// work goes through the members in one sink, slice by slice.
func (w *worker) work(ctx context.Context, name string, p SinkProgress) {
	l, err := w.lane(ctx, name)
	if err != nil {
		w.run.tally.fail(name, err)
		if code := fault.CodeOf(err); code == fault.CodeSinkNotFound || code == fault.CodeSinkConfigInvalid {
			p.Done, p.Error = true, err.Error()
			w.save(ctx, OperationChange{TTL: w.lease(), Sink: name, Progress: p})
		}
		return
	}
	defer func() {
		l.close(ctx)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.moved = w.moved || l.recorded.Load() > 0
	}()
	for !p.Done && l.goesOn(ctx) && !w.stopped() {
		waits, err := w.slice(ctx, l, &p)
		if err != nil {
			// The slice is visited again: what it settled is recognised.
			if !errors.Is(err, errUnfinished) {
				w.run.tally.fail(name, err)
			}
			return
		}
		w.save(ctx, OperationChange{TTL: w.lease(), Sink: name, Progress: p})
		if waits {
			return
		}
	}
}

// lane returns what sends, or only settles, the items of a sink.
func (w *worker) lane(ctx context.Context, name string) (*lane, error) {
	if w.op.Action == OperationDiscard {
		l := w.run.newLane(ctx, name, delivery.Target{Replay: Policy{Concurrency: sliceSize / 2}.Normalize()}, w.budget, w.op.ID)
		l.need = 0
		return l, nil
	}
	t, err := w.run.target(ctx, name)
	if err != nil {
		return nil, err
	}
	return w.run.newLane(ctx, name, t, w.budget, w.op.ID), nil
}

// errUnfinished means that a slice was not finished, for lack of time.
var errUnfinished = errors.New("the slice was not finished")

// slice works on the next slice and moves p past it. It reports whether what is left
// must wait for other replayers.
func (w *worker) slice(ctx context.Context, l *lane, p *SinkProgress) (waits bool, err error) {
	var ids []string
	next := *p
	if p.Read {
		ids, next.Left = p.Left, nil
	} else if ids, err = w.page(ctx, l.sink, &next); err != nil {
		return false, err
	}
	left, skipped, err := w.settle(ctx, l, ids)
	if err != nil {
		return false, err
	}
	next.Left = append(slices.Clone(next.Left), left...)
	next.Skipped += int64(skipped)
	if len(next.Left) > 0 && next.LeftSince.IsZero() {
		next.LeftSince = time.Now().UTC()
	}
	if next.Read {
		if time.Since(next.LeftSince) > leftFor {
			next.Skipped += int64(len(next.Left))
			next.Left = nil
		}
		next.Done = len(next.Left) == 0
	}
	if next.OperationCounts.OperationCounts, err = w.run.Store.Progress(ctx, w.op.ID, l.sink); err != nil {
		return false, err
	}
	*p = next
	return p.Read && !p.Done, nil
}

// page returns the ids of the next slice and moves p's cursor past it.
func (w *worker) page(ctx context.Context, sink string, p *SinkProgress) ([]string, error) {
	if p.NewestID == "" {
		ids := w.op.idsOf(sink)
		from, _ := strconv.Atoi(p.Cursor) // empty at the start
		to := min(from+sliceSize, len(ids))
		p.Cursor, p.Read = strconv.Itoa(to), to == len(ids)
		return ids[from:to], nil
	}
	q := w.op.filter().query(sink, map[string]string{sink: p.NewestID})
	q.Limit, q.Cursor = sliceSize, p.Cursor
	page, err := w.run.Store.Page(ctx, q)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(page.Items))
	for i, it := range page.Items {
		ids[i] = it.ID
	}
	p.Cursor, p.Read = page.NextCursor, page.NextCursor == ""
	return ids, nil
}

// settle replays or discards the given items, and returns when all of it is recorded.
// Left are those that another replayer holds. An error means that some were not
// worked on.
func (w *worker) settle(ctx context.Context, l *lane, ids []string) (left []string, skipped int, err error) {
	defer l.wait()
	fenced, unsettled := l.fenced.Load(), l.unsettled.Load()
	var absent []string
	for len(ids) > 0 {
		batch := ids[:min(len(ids), l.batchSize())]
		leased, err := l.claim(ctx, dlq.Claim{IDs: batch, Limit: len(batch), Force: w.op.Action == OperationDiscard})
		if err != nil {
			return nil, 0, err
		}
		// An answer is bounded by bytes: what follows the last item is asked for again.
		if n := len(leased); n > 0 {
			batch = batch[:slices.Index(batch, leased[n-1].ID)+1]
		}
		ids = ids[len(batch):]
		absent = append(absent, without(batch, leased)...)
		work, refused, undecodable := w.choose(leased)
		skipped += undecodable
		l.giveBack(ctx, refused)
		if !w.start(ctx, l, work) {
			return nil, 0, errUnfinished
		}
	}
	if !l.sendSuspects(ctx) {
		return nil, 0, errUnfinished
	}
	if l.unsettled.Load() > unsettled {
		return nil, 0, errUnfinished
	}
	skipped += int(l.fenced.Load() - fenced)
	for _, id := range absent {
		held, skip, err := w.whyAbsent(ctx, id)
		switch {
		case err != nil:
			return nil, 0, err
		case held:
			left = append(left, id)
		case skip:
			skipped++
		}
	}
	return left, skipped, nil
}

// without returns the ids that are not among the leased items.
func without(ids []string, leased []dlq.Leased) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return slices.ContainsFunc(leased, func(l dlq.Leased) bool { return l.ID == id })
	})
}

// choose tells the items to work on from those to give back: the ones that the
// operation tried before it was interrupted, and the undecodable ones, which can only
// be discarded.
func (w *worker) choose(leased []dlq.Leased) (work, refused []dlq.Leased, undecodable int) {
	for _, l := range leased {
		switch {
		case triedBy(w.op.ID, l.Item):
			refused = append(refused, l)
		case w.op.Action == OperationReplay && l.Item.DecodeError != "":
			refused = append(refused, l)
			undecodable++
		default:
			work = append(work, l)
		}
	}
	return work, refused, undecodable
}

// start sends the items, or has them removed. It reports whether all were started.
func (w *worker) start(ctx context.Context, l *lane, leased []dlq.Leased) bool {
	if w.op.Action == OperationReplay {
		return l.sendAll(ctx, l.screen(leased))
	}
	for _, item := range leased {
		l.sends.Add(1)
		l.settler.in <- replayed{
			leased: item, status: statusDropped,
			settlement: dlq.Settlement{Lease: item.Lease, Action: dlq.ActionDrop, Operation: w.op.ID},
		}
	}
	return true
}

// whyAbsent finds out why an item could not be claimed. One that is gone, or was
// delivered since the operation began, is nobody's business any more.
func (w *worker) whyAbsent(ctx context.Context, id string) (held, skip bool, err error) {
	it, err := w.run.Store.Get(ctx, id)
	switch {
	case fault.CodeOf(err) == fault.CodeDLQNotFound:
		return false, false, nil
	case err != nil:
		return false, false, err
	case w.op.Action == OperationReplay && !it.DeliveredAt.IsZero():
		return false, !it.DeliveredAt.After(w.op.CreatedAt), nil
	}
	return true, false, nil
}
