package replay

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"backstop/internal/delay"
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
	// idleSlices is how many slices in a row, all of whose receivers are left alone, a Run goes
	// through.
	idleSlices = 50
)

// worker works on one bulk operation.
type worker struct {
	run    *run
	op     Operation
	budget retry.Budget
	owner  string
	// saving is held by who saves. (A mutex would hold up the clock of synctest.)
	saving slots

	mu       sync.Mutex
	progress map[string]SinkProgress
	moved    bool // something was settled
	final    bool // canceled, or ended here
	over     bool // canceled, stopped, taken over, or its progress cannot be saved
	err      error
}

// counters names what the settlements of this round are counted under.
func (w *worker) counters() string { return w.op.counters(w.op.Round) }

func (w *worker) lease() time.Duration { return min(w.run.budget.Lease(), operationLease) }

func (w *worker) stopped() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// save records a change. It is made even when the run is ending: it tells what was
// done.
func (w *worker) save(ctx context.Context, c OperationChange) {
	w.saving <- struct{}{}
	defer w.saving.give()
	if w.stopped() {
		return
	}
	ctx, cancel := w.run.budget.SettleContext(ctx)
	defer cancel()
	status, err := w.run.Operations.Save(ctx, w.op.ID, w.owner, c)
	w.mu.Lock()
	defer w.mu.Unlock()
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
	w.final = status.Final()
	w.over = w.final || status == OperationStopped
}

// end makes the operation final, or stopped, when nothing is left to do of it, and else leaves
// it to the next run.
func (w *worker) end(ctx context.Context) error {
	status, why := verdict(w.progress)
	c := OperationChange{Status: status, Error: why, Moved: w.moved}
	if c.Status.Final() || w.final {
		w.run.retire(ctx, w.op)
	}
	w.save(ctx, c)
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := Operation{Action: w.op.Action, Sinks: w.progress}
	sum.sum()
	attrs := []any{"operation", w.op.ID, "action", string(w.op.Action), "status", string(c.Status)}
	if w.op.Action.settles() {
		attrs = append(attrs, "settled", sum.Settled, "delivered", sum.Delivered, "failed", sum.Failed, "discarded", sum.Discarded,
			"expired", sum.Expired, "skipped", sum.Skipped, "waiting", sum.Waiting)
	}
	if w.op.Action.journals() {
		attrs = append(attrs, "journal", sum.JournalCounts)
	}
	w.run.log().InfoContext(ctx, "operation", attrs...)
	return w.err
}

// verdict is the status of an operation whose round nobody works on any more, and why; empty
// while there is something to do.
func verdict(sinks map[string]SinkProgress) (OperationStatus, string) {
	status := OperationCompleted
	var faults []string
	for _, name := range slices.Sorted(maps.Keys(sinks)) {
		switch p := sinks[name]; {
		case !p.over():
			return "", ""
		case p.Stopped:
			status = OperationStopped
			faults = append(faults, "sink "+name+": "+p.Error)
		case p.Error != "":
			if status == OperationCompleted {
				status = OperationFailed
			}
			faults = append(faults, "sink "+name+": "+p.Error)
		}
	}
	return status, strings.Join(faults, "; ")
}

// work goes through the members in one sink, slice by slice.
func (w *worker) work(ctx context.Context, name string, p SinkProgress) {
	if !w.op.Action.settles() {
		w.journal(ctx, name, p)
		return
	}
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
		l.giveBack(ctx, itemsOf(l.prober.takeUnsent()))
		w.mu.Lock()
		defer w.mu.Unlock()
		w.moved = w.moved || l.recorded.Load() > 0
	}()
	idle, sent := 0, int64(-1) // the first wait is for free
	for !p.over() && l.goesOn(ctx) && !w.stopped() && idle < idleSlices {
		recorded, putOff := l.recorded.Load(), p.PutOff
		waits, err := w.step(ctx, l, &p)
		if err != nil {
			// The slice is visited again: what it settled is recognised.
			if !errors.Is(err, errUnfinished) {
				w.run.tally.fail(name, err)
			}
			if p.Journal.Reading { // what was done there is counted
				w.save(ctx, OperationChange{TTL: w.lease(), Sink: name, Progress: p, Still: true})
			}
			return
		}
		w.save(ctx, OperationChange{TTL: w.lease(), Sink: name, Progress: p, Still: waits && p.Journal.Reading})
		if idle++; l.recorded.Load() > recorded || p.PutOff == putOff {
			idle = 0
		}
		if waits {
			if l.recorded.Load() == sent || !l.waitShortly(ctx, p.WaitingUntil) {
				return
			}
			sent = l.recorded.Load()
		}
	}
}

// step works on the next slice, of the queue or of an erasure's journal.
func (w *worker) step(ctx context.Context, l *lane, p *SinkProgress) (waits bool, err error) {
	if p.Journal.Reading {
		return w.eraseJournal(ctx, l.sink, p)
	}
	waits, err = w.slice(ctx, l, p)
	if err == nil && w.op.Action == OperationErase {
		w.queueErased(p)
	}
	return waits, err
}

// waitShortly waits for a receiver that comes back step by step; false when that is too long.
func (l *lane) waitShortly(ctx context.Context, until time.Time) bool {
	wait := time.Until(until)
	return !until.IsZero() && wait <= soon && l.fits(wait) && delay.Sleep(ctx, wait) == nil
}

// lane returns what sends, or only settles, the items of a sink.
func (w *worker) lane(ctx context.Context, name string) (*lane, error) {
	if w.op.Action != OperationReplay {
		l := w.run.newLane(ctx, name, delivery.Target{Replay: Policy{Concurrency: sliceSize / 2}.Normalize()}, w.budget, w.counters())
		l.need = 0
		return l, nil
	}
	t, err := w.run.target(ctx, cmp.Or(w.op.Sink, name))
	if err != nil {
		return nil, err
	}
	l := w.run.newLane(ctx, name, t, w.budget, w.counters())
	l.attempt.elsewhere = w.op.Sink != "" && w.op.Sink != name
	l.prober = newProber(t.Sink, w.op.StopAfter, w.op.Sinks[name].Receivers)
	return l, nil
}

// errUnfinished means that a slice was not finished, for lack of time.
var errUnfinished = errors.New("the slice was not finished")

// sliced is what came of a slice.
type sliced struct {
	left    []string // items that another replayer holds
	skipped int
	away    int // members that the gate would not let go
}

// slice works on the next slice and moves p past it. It reports whether what is left
// must wait: for other replayers, or until the gate lets it go.
func (w *worker) slice(ctx context.Context, l *lane, p *SinkProgress) (waits bool, err error) {
	next := *p
	ids, putOff, err := w.members(ctx, l, &next)
	if err != nil {
		return false, err
	}
	got, err := w.settle(ctx, l, ids, p)
	if err != nil {
		w.note(ctx, l, p)
		return false, err
	}
	if next.OperationCounts.OperationCounts, err = w.run.counted(ctx, &w.op, l.sink); err != nil {
		return false, err
	}
	if l.prober == nil {
		return p.finish(next, got, ""), nil
	}
	next.Receivers = l.prober.known()
	failing := stopped(next.Receivers)
	if l.prober.several {
		if next.PutOff += int64(putOff + got.away); next.PutOff > 0 {
			next.Waiting, next.WaitingUntil = max(next.Waiting, next.PutOff), l.prober.until()
		}
		return p.finish(next, got, failing), nil
	}
	// What the sink's only receiver does not get holds up all that is behind it: the slice is
	// visited again.
	p.Receivers, p.OperationCounts.OperationCounts = next.Receivers, next.OperationCounts.OperationCounts
	switch {
	case failing != "":
		p.Skipped += int64(got.skipped)
		p.stop(failing)
		return false, nil
	case got.away > 0:
		p.Waiting, p.WaitingUntil = max(int64(got.away), p.Members-p.Settled-p.Skipped), l.prober.until()
		return true, nil
	}
	next.Waiting, next.WaitingUntil = 0, time.Time{}
	return p.finish(next, got, ""), nil
}

func (p *SinkProgress) stop(why string) {
	p.Stopped, p.Error = true, why
	p.Waiting, p.WaitingUntil = 0, time.Time{}
}

// finish moves p to next, past a slice. failing says which receivers failed too often in a row.
// It reports whether what is left must wait.
func (p *SinkProgress) finish(next SinkProgress, got sliced, failing string) (waits bool) {
	next.Left = append(slices.Clone(next.Left), got.left...)
	next.Skipped += int64(got.skipped)
	if len(next.Left) > 0 && next.LeftSince.IsZero() {
		next.LeftSince = time.Now().UTC()
	}
	if next.Read && next.PutOff > 0 {
		// Another pass, over all of them: what is done with is recognised.
		next.Cursor, next.Read, next.Left, next.LeftSince = "", false, nil, time.Time{}
		next.Waiting, next.PutOff, next.Skipped = next.PutOff, 0, 0
		*p = next
		return true
	}
	if next.Read {
		if time.Since(next.LeftSince) > leftFor {
			next.Skipped += int64(len(next.Left))
			next.Left = nil
		}
		next.Waiting, next.WaitingUntil = 0, time.Time{}
		switch {
		case len(next.Left) > 0:
		case failing != "":
			next.stop(failing)
		default:
			next.Done = true
		}
	}
	waits = p.Read && !next.over()
	*p = next
	return waits
}

// note saves what is known of the receivers, although the slice is not finished.
func (w *worker) note(ctx context.Context, l *lane, p *SinkProgress) {
	if l.prober == nil {
		return
	}
	if known := l.prober.known(); !maps.Equal(known, p.Receivers) {
		p.Receivers = known
		w.save(ctx, OperationChange{TTL: w.lease(), Sink: l.sink, Progress: *p, Still: l.recorded.Load() == 0})
	}
}

// members returns the ids of the next slice and moves p's cursor past it. putOff are members
// that it leaves out, for the gate does not let them go.
func (w *worker) members(ctx context.Context, l *lane, p *SinkProgress) (ids []string, putOff int, err error) {
	if p.Read {
		ids, p.Left = p.Left, nil
		return ids, 0, nil
	}
	if p.NewestID == "" {
		ids := w.op.idsOf(l.sink)
		from, _ := strconv.Atoi(p.Cursor) // empty at the start
		to := min(from+sliceSize, len(ids))
		p.Cursor, p.Read = strconv.Itoa(to), to == len(ids)
		return ids[from:to], 0, nil
	}
	q := w.op.filter().query(l.sink, map[string]string{l.sink: p.NewestID})
	q.Limit, q.Cursor = sliceSize, p.Cursor
	if w.op.Action == OperationErase {
		q.Limit = eraseSlice
	}
	page, err := w.run.Store.Page(ctx, q)
	if err != nil {
		return nil, 0, err
	}
	p.Cursor, p.Read = page.NextCursor, page.NextCursor == ""
	if w.op.Action == OperationErase {
		ids, seen := w.erased(page.Items, p)
		p.Read = p.Read || seen
		return ids, 0, nil
	}
	for _, it := range page.Items {
		switch shut, barred := l.prober.shuts(it); {
		case !shut:
			ids = append(ids, it.ID)
		case !barred:
			putOff++
		}
	}
	return ids, putOff, nil
}

// settle replays or discards the given items, and returns when all of it is recorded. An error
// means that some were not worked on. What is learned of receivers is noted in p.
func (w *worker) settle(ctx context.Context, l *lane, ids []string, p *SinkProgress) (got sliced, err error) {
	defer l.wait()
	fenced, unsettled := l.fenced.Load(), l.unsettled.Load()
	var absent []string
	for len(ids) > 0 && !l.prober.over() {
		batch := ids[:min(len(ids), l.batchSize())]
		leased, err := l.claim(ctx, dlq.Claim{IDs: batch, Limit: len(batch), Force: w.op.Action != OperationReplay, Quiet: w.op.Action != OperationReplay})
		if err != nil {
			return got, err
		}
		// An answer is bounded by bytes: what follows the last item is asked for again.
		if n := len(leased); n > 0 {
			batch = batch[:slices.Index(batch, leased[n-1].ID)+1]
		}
		ids = ids[len(batch):]
		absent = append(absent, without(batch, leased)...)
		work, refused, skipped := w.choose(leased)
		got.skipped += skipped
		l.giveBack(ctx, refused)
		if !w.start(ctx, l, work, p) {
			return got, errUnfinished
		}
	}
	if !l.sendSuspects(ctx) || l.unsettled.Load() > unsettled {
		return got, errUnfinished
	}
	l.wait()
	over := l.prober.over()
	if unsent := l.prober.takeUnsent(); len(unsent) > 0 {
		l.giveBack(ctx, itemsOf(unsent))
		for _, u := range unsent {
			switch {
			case u.away:
				got.away++
			case !u.barred:
				return got, errUnfinished
			}
		}
	}
	if over {
		got.away += len(ids)
		return got, nil // the slice is visited again
	}
	got.skipped += int(l.fenced.Load() - fenced)
	for _, id := range absent {
		held, skip, err := w.whyAbsent(ctx, id)
		switch {
		case err != nil:
			return got, err
		case held:
			got.left = append(got.left, id)
		case skip:
			got.skipped++
		}
	}
	return got, nil
}

// without returns the ids that are not among the leased items.
func without(ids []string, leased []dlq.Leased) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
		return slices.ContainsFunc(leased, func(l dlq.Leased) bool { return l.ID == id })
	})
}

// choose tells the items to work on from those to give back: the ones that the
// operation tried or marked before it was interrupted, the undecodable ones, which can only
// be discarded, the superseded ones, and those that were marked as expired before. What somebody else marked since
// the operation began is settled, as what somebody else delivered is; the operation's own
// counter has what it marked itself.
func (w *worker) choose(leased []dlq.Leased) (work, refused []dlq.Leased, skipped int) {
	for _, l := range leased {
		switch {
		case w.op.Action == OperationReplay && !l.Canceled && !l.Item.ExpiredAt.IsZero():
			refused = append(refused, l)
			if !l.Item.ExpiredAt.After(w.op.CreatedAt) {
				skipped++
			}
		case triedBy(w.counters(), l.Item):
			refused = append(refused, l)
		case w.op.Action == OperationReplay && (l.Item.DecodeError != "" || l.Item.SupersededBy != ""):
			refused = append(refused, l)
			skipped++
		default:
			work = append(work, l)
		}
	}
	return work, refused, skipped
}

// start sends the items, or has them removed. It reports whether all were started that may go.
func (w *worker) start(ctx context.Context, l *lane, leased []dlq.Leased, p *SinkProgress) bool {
	if w.op.Action == OperationReplay {
		return w.probe(ctx, l, l.sift(leased), p)
	}
	for _, item := range leased {
		l.sends.Add(1)
		l.settler.in <- replayed{
			leased: item, status: statusDropped,
			settlement: dlq.Settlement{Lease: item.Lease, Action: dlq.ActionDrop, Operation: w.counters()},
		}
	}
	return true
}

// probe sends the items as many at once as their receivers may get, and waits for what came of
// them where that decides about the next ones.
func (w *worker) probe(ctx context.Context, l *lane, work []dlq.Leased, p *SinkProgress) bool {
	for len(work) > 0 {
		now, later, probing := l.prober.next(work)
		if !l.sendAll(ctx, l.screen(now)) {
			l.giveBack(ctx, later)
			return false
		}
		if probing {
			l.wait()
			w.note(ctx, l, p)
		}
		work = later
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
		// Its time is in ms. In that of the creation an earlier round may have delivered it, and in the first one only others.
		before := it.DeliveredAt.Before(w.op.CreatedAt.Truncate(time.Millisecond))
		return false, before || w.op.Round <= 1 && !it.DeliveredAt.After(w.op.CreatedAt), nil
	}
	return true, false, nil
}
