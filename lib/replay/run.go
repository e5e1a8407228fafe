package replay

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// maxBatches is the number of sinks, in one Run, that may hold items which are claimed
// and not yet being sent. It bounds memory: a claim is up to about 1 MB.
const maxBatches = 16

// maxCalls is the number of queues that are counted at once.
const maxCalls = 16

// run is one Run.
type run struct {
	*Engine
	budget  retry.Budget
	whole   time.Duration // for attempts, at the start; 0: no deadline
	request Request
	slots   slots // sends under way
	batches slots // sinks with claimed items that are not being sent yet
	alone   slots // suspects that are being sent
	quota   *quota
	tally   tally

	mu  sync.Mutex
	err error // outcomes that could not be recorded
}

// Run works on unfinished bulk operations, keeps the journal, marks what has expired, removes what is
// too old, and replays what is due, until nothing is left, or no further send fits into ctx's deadline, or ctx ends. What it
// claimed and did not send is given back; what it sent is settled before it returns.
//
// Faults of one sink are in its part of the summary, those of its journal too: a journal that fails or
// hangs has a quarter of the time, and stops nothing else. The error is for the whole: a
// store that could not be reached (SINK_DLQ_UNAVAILABLE), outcomes that could not be
// recorded, or an unknown operation (SINK_DLQ_NOT_FOUND); the summary is still true.
func (e *Engine) Run(ctx context.Context, req Request) (Summary, error) {
	if err := req.validate(); err != nil {
		return Summary{}, err
	}
	if req.Part != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, req.Part.Until)
		defer cancel()
	}
	budget := retry.NewBudget(ctx, e.Reserve)
	r := &run{
		Engine: e, budget: budget, request: req,
		slots:   make(slots, positive(e.Concurrency, DefaultConcurrency)),
		batches: make(slots, maxBatches),
		alone:   make(slots, 1),
		quota:   newQuota(req.Limit),
		tally:   tally{sinks: map[string]*SinkSummary{}},
	}
	working := ctx
	if !budget.Attempts.IsZero() {
		r.whole = max(time.Until(budget.Attempts), 1)
		// A store that does not answer must leave time for settling.
		var cancel context.CancelFunc
		working, cancel = context.WithDeadline(ctx, budget.Attempts)
		defer cancel()
	}
	err := r.work(working)
	r.remaining(ctx)
	if err == nil && r.err == nil && req.Operation == "" && len(req.Sinks) == 0 {
		r.beat(ctx)
	}
	return r.tally.summary(), coded(errors.Join(err, r.err))
}

// beat notes that the schedule works.
func (r *run) beat(ctx context.Context) {
	ctx, cancel := r.budget.AnswerContext(ctx)
	defer cancel()
	if err := r.Store.Beat(ctx); err != nil {
		r.log().WarnContext(ctx, "the schedule's heartbeat is not noted", "error", err.Error())
	}
}

func positive(n, otherwise int) int {
	if n > 0 {
		return n
	}
	return otherwise
}

// coded makes a store's error without a code one with a code.
func coded(err error) error {
	if err == nil || fault.CodeOf(err) != "" {
		return err
	}
	return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "replay", Cause: err}
}

func (r *run) work(ctx context.Context) error {
	if r.request.Operation != "" {
		return r.operation(ctx, r.budget, r.request.Operation)
	}
	if r.request.Part != nil {
		r.part(ctx)
		return nil
	}
	names, err := r.names(ctx)
	if err != nil {
		return err
	}
	r.help(ctx, names)
	// Bulk operations have half of the time first, and what is left in the end: a large
	// one must not keep the schedule from its work. One that does not get on may be what
	// ends the process: it goes last, and leaves the schedule half of the time, too.
	moving, stalled, err := r.unfinished(ctx)
	err = errors.Join(err, r.operations(ctx, r.budget.Share(2), moving))
	var until time.Time
	if len(stalled) > 0 {
		until = r.budget.Share(2).Attempts
	}
	r.settleOwed(ctx, names)
	j, done := r.journals(ctx)
	defer done()
	names = j.with(names)
	failed := make([]error, len(names))
	var lanes sync.WaitGroup
	for i, name := range names {
		lanes.Go(func() { failed[i] = r.schedule(ctx, j, name, until) })
	}
	lanes.Wait()
	if len(names) > 0 && !slices.Contains(failed, nil) {
		return errors.Join(err, failed[0])
	}
	return errors.Join(err, r.operations(ctx, r.budget, slices.Concat(moving, stalled)))
}

// names returns the sinks to work on.
func (r *run) names(ctx context.Context) ([]string, error) {
	if len(r.request.Sinks) > 0 {
		names := slices.Clone(r.request.Sinks)
		slices.Sort(names)
		return slices.Compact(names), nil
	}
	names, err := r.Store.Sinks(ctx)
	if err != nil {
		return nil, err
	}
	configured, err := r.Targets.Names(ctx)
	if err != nil {
		r.log().WarnContext(ctx, "configured sinks not known", "error", err.Error())
	}
	names = append(names, configured...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// schedule replays what is due in one sink. A queue that cannot be read is its own
// fault and holds up no other; the error is returned for the one who sees all of them.
// Nothing is started after until, unless that is zero.
func (r *run) schedule(ctx context.Context, j *journals, name string, until time.Time) error {
	st, err := r.Store.Stats(ctx, name)
	if err != nil {
		r.tally.fail(name, err)
		r.tally.sink(name, func(s *SinkSummary) { s.Remaining = -1 })
		return err
	}
	if st.New > 0 {
		r.tellCauses(ctx, name)
	}
	st = j.tick(ctx, name, st)
	if st.Canceled > 0 {
		r.pruneCanceled(ctx, name)
	}
	if st.Overdue > 0 && r.markExpired(ctx, name) {
		// They are neither due nor skipped any more.
		if now, err := r.Store.Stats(ctx, name); err == nil {
			st = now
		}
	}
	if st.Depth > 0 && r.retireOld(ctx, name, st.OldestAt) {
		if now, err := r.Store.Stats(ctx, name); err == nil {
			st = now
		}
	}
	if st.Depth == 0 {
		if len(r.request.Sinks) > 0 {
			// The name may be a typing error, which nothing else would tell.
			if _, err := r.target(ctx, name); err != nil {
				r.tally.fail(name, err)
			}
		}
		return nil
	}
	// Whether something is due is the claim's to say: Remaining is a count, and may be wrong
	// for a while.
	r.tally.sink(name, func(s *SinkSummary) { s.Remaining, s.Paused = st.Remaining, st.Paused })
	var t shared
	if !st.Paused {
		t, err = r.shared(ctx, name)
	}
	if st.Paused || err != nil {
		r.tally.sink(name, func(s *SinkSummary) { s.Skipped += st.Remaining })
		if err != nil && st.Remaining > 0 {
			r.tally.fail(name, err)
		}
		return nil
	}
	if r.leftAlone(ctx, name, t) {
		r.tally.sink(name, func(s *SinkSummary) { s.Skipped += st.Remaining })
		return nil
	}
	r.replayDue(ctx, name, t, until)
	return nil
}

// replayDue replays what is due in one sink, as much at once as is this run's to do. Nothing is
// started after until, unless that is zero.
func (r *run) replayDue(ctx context.Context, name string, t shared, until time.Time) {
	each := r.each(t)
	for _, n := range r.bounds(t) {
		if r.mine(n, each) == 0 {
			return
		}
	}
	if t.bounded {
		t.Replay.Concurrency = r.mine(t.Replay.Concurrency, each)
	}
	l := r.newLane(ctx, name, t.Target, r.budget, "")
	if r.paced(t.Target) {
		l.attempt.gate = newInTurn(r.Gate, t.Target, r.mine(waiters(t.Target), each))
	}
	l.until = until
	defer l.close(ctx)
	if l.canary(ctx) {
		for l.drain(ctx); l.awaitApart(ctx); {
			l.drain(ctx)
		}
	}
}

// leftAlone reports whether nothing of a sink can go in this run: its only receiver is down, or
// asked everybody to wait for longer. Then its dead letters are not touched.
func (r *run) leftAlone(ctx context.Context, name string, t shared) bool {
	l, shut := r.shut(ctx, name, t)
	if shut {
		r.tally.heldBack(name, errors.New(l.Why), l.At)
	}
	return shut
}

// shut is leftAlone without a word about it.
func (r *run) shut(ctx context.Context, name string, t shared) (flow.Leave, bool) {
	if r.Gate == nil || sinks.HasReceivers(t.Sink) {
		return flow.Leave{}, false
	}
	l, shut := r.Gate.Shut(ctx, flow.Try{Sink: name, Policy: t.Flow})
	wait := time.Until(l.At)
	return l, l.Verdict != flow.Go && (!shut || wait > soon) && (shut || !r.budget.Fits(wait))
}

// remaining counts what is left in the sinks that were worked on.
func (r *run) remaining(ctx context.Context) {
	ctx, cancel := r.budget.AnswerContext(ctx)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(maxCalls)
	for _, name := range r.tally.names() {
		if r.request.Part != nil { // the tick counts
			r.tally.sink(name, func(s *SinkSummary) { s.Remaining = -1 })
			continue
		}
		var touched bool
		r.tally.sink(name, func(s *SinkSummary) { touched = s.Claimed > 0 })
		if !touched {
			continue
		}
		g.Go(func() error {
			st, err := r.Store.Stats(ctx, name)
			if err != nil {
				st.Remaining = -1
			}
			r.tally.sink(name, func(s *SinkSummary) { s.Remaining = st.Remaining })
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
}

// lost notes an outcome that could not be recorded.
func (r *run) lost(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}
