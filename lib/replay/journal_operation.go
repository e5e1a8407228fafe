package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"backstop/internal/delay"
	"backstop/lib/dlq"
	"backstop/lib/journal/kept"
)

const (
	// restoreStep is how many dead letters of the journal a restore looks at between two saves.
	restoreStep = 2000
	// eraseSlice is how many entries of the queue an erasure reads between two saves: few of them are
	// the recipient's.
	eraseSlice = 1000
	// mostAudits is how many audits of a sink may run out of time before nobody tries again.
	mostAudits = 5
	// previewJournal is how long the preview of an erasure looks into the journal.
	previewJournal = 10 * time.Second
	// clockSkew is how much the clocks may differ that say when something became a dead letter.
	clockSkew = time.Minute
)

// errNoJournal is why an action on the journal cannot be asked for.
const errNoJournal = "there is no journal"

// operationSinks returns the sinks that an operation without a filter works on: those of the queue, and for
// actions on the journal its own.
func (e *Engine) operationSinks(ctx context.Context, a OperationAction) ([]string, error) {
	names, err := e.Store.Sinks(ctx)
	if err != nil || !a.journals() || e.Journal == nil {
		return names, err
	}
	known, err := e.Journal.Sinks(ctx)
	if err != nil {
		return nil, coded(fmt.Errorf("sinks of the journal: %w", err))
	}
	names = append(names, known...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// journal restores or audits in one sink, step by step.
func (w *worker) journal(ctx context.Context, name string, p SinkProgress) {
	if w.run.Journal == nil {
		p.Done, p.Error = true, errNoJournal
		w.save(ctx, OperationChange{TTL: w.lease(), Sink: name, Progress: p})
		return
	}
	step := w.restore
	if w.op.Action == OperationAudit {
		step = w.audit
	}
	for waits := false; !waits && !p.over() && ctx.Err() == nil && w.budget.Fits(0) && !w.stopped(); {
		before := p
		var err error
		if waits, err = step(ctx, name, &p); errors.Is(err, dlq.ErrJournalTaken) {
			return // somebody is at it, and it waits for its turn
		}
		w.save(ctx, OperationChange{TTL: w.lease(), Sink: name, Progress: p, Still: p.Journal == before.Journal && !p.Done})
		if err != nil {
			w.run.tally.fail(name, err)
			return
		}
	}
}

// within calls do with a context that ends with the operation's share of the time, or when the operation is
// somebody else's or over. Meanwhile it prolongs the owner's time.
func (w *worker) within(ctx context.Context, do func(ctx context.Context) error) error {
	var cancel context.CancelFunc
	if end := w.budget.Attempts; end.IsZero() {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithDeadline(ctx, end)
	}
	defer cancel()
	var renewing sync.WaitGroup
	defer renewing.Wait()
	renewing.Go(func() {
		for delay.Sleep(ctx, w.lease()/3) == nil {
			if w.save(ctx, OperationChange{TTL: w.lease()}); w.stopped() {
				cancel()
			}
		}
	})
	err := do(ctx)
	if err != nil && !errors.Is(err, dlq.ErrJournalTaken) && ctx.Err() != nil {
		err = errOutOfTime
	}
	cancel()
	return err
}

// errOutOfTime is what came of a step whose time was over before it was done.
var errOutOfTime = errors.New("the time was over before it was done")

// restore makes a step of a restore. It reports whether the next one must wait for room.
func (w *worker) restore(ctx context.Context, name string, p *SinkProgress) (waits bool, err error) {
	var got kept.RestoreProgress
	err = w.within(ctx, func(ctx context.Context) (err error) {
		got, err = w.run.Journal.Restore(ctx, name, kept.RestoreStep{After: p.Journal.After, Since: w.op.Since, Limit: restoreStep})
		return err
	})
	p.countJournal(restored(got))
	p.Restore.Full = got.Full
	moved := got.After != "" && got.After != p.Journal.After
	if moved {
		p.Journal.After = got.After
	}
	p.Done = got.Done && err == nil
	if errors.Is(err, errOutOfTime) {
		return true, nil
	}
	return got.Full || !moved && !p.Done, err
}

func restored(got kept.RestoreProgress) JournalCounts {
	return JournalCounts{Restore: &RestoreCounts{
		Restored: got.Restored, Present: got.Present, Skipped: got.Over, Spilled: got.Spilled, Damaged: got.Damaged, Full: got.Full,
	}}
}

// audit audits a sink. What runs out of time begins anew at the next try, and some tries are
// enough: each reads all of it.
func (w *worker) audit(ctx context.Context, name string, p *SinkProgress) (waits bool, err error) {
	var a kept.Audit
	err = w.within(ctx, func(ctx context.Context) (err error) {
		a, err = w.run.Journal.Audit(ctx, name)
		return err
	})
	switch {
	case errors.Is(err, errOutOfTime):
		if p.Journal.Tries++; p.Journal.Tries >= mostAudits {
			p.Done, p.Error = true, fmt.Sprintf("%d audits ran out of time; it needs longer than an invocation has", mostAudits)
		}
		return true, nil
	case err != nil:
		return false, err
	}
	p.Audit = &AuditCounts{
		Letters: a.Letters, Queued: a.Queued, Spilled: a.Spilled, Ending: a.Ending, Unjournaled: a.Unjournaled, Lost: a.Lost, Damaged: a.Damaged,
	}
	p.Done = true
	return false, nil
}

// erased returns the ids among a page of the queue that an erasure removes, and whether the pages
// after it were seen by an earlier pass.
func (w *worker) erased(page []dlq.Item, p *SinkProgress) (ids []string, seen bool) {
	var unreadable int64
	defer func() { p.countJournal(JournalCounts{Erase: &EraseCounts{Unreadable: unreadable}}) }()
	for _, it := range page {
		if id, err := dlq.ParseID(it.ID); err == nil && p.Journal.Seen != "" {
			if dlq.CompareNative(id.Native, p.Journal.Seen) <= 0 {
				return ids, true
			}
			// What waited in the journal comes into the queue late, and is wanted; what failed since is not.
			if it.At.After(w.op.CreatedAt.Add(clockSkew)) {
				continue
			}
		}
		switch {
		case it.DecodeError != "":
			unreadable++
		case w.op.Recipient.has(it.Recipient):
			ids = append(ids, it.ID)
		}
	}
	return ids, false
}

// queueErased notes that an erasure is through with the queue: the journal is next. It was there
// before, and nothing more was found since: then it is done.
func (w *worker) queueErased(p *SinkProgress) {
	if !p.Done || w.run.Journal == nil || p.Journal.Seen != "" && p.Discarded == p.Journal.Discarded {
		return
	}
	p.Done, p.Journal.Reading = false, true
}

// eraseJournal makes a step of an erasure in the journal, and reports whether the next one must wait.
// Dead letters that waited there may have come into the queue behind what was read of it: then
// another pass looks at what is new.
func (w *worker) eraseJournal(ctx context.Context, name string, p *SinkProgress) (waits bool, err error) {
	var got kept.EraseProgress
	err = w.within(ctx, func(ctx context.Context) (err error) {
		got, err = w.run.Journal.Erase(ctx, name, w.op.Recipient.has, p.Journal.After)
		return err
	})
	p.countJournal(JournalCounts{Erase: &EraseCounts{Erased: got.Erased, Versions: got.Versions, Damaged: got.Damaged}})
	moved := got.After != "" && got.After != p.Journal.After
	if moved {
		p.Journal.After = got.After
	}
	switch {
	case errors.Is(err, dlq.ErrJournalTaken), errors.Is(err, errOutOfTime):
		return true, nil
	case err != nil:
		return false, err
	case !got.Done:
		return !moved, nil
	}
	st, err := w.run.Store.Stats(ctx, name)
	if err != nil {
		return false, err
	}
	if st.NewestID == "" || p.NewestID != "" && dlq.CompareNative(st.NewestID, p.NewestID) <= 0 {
		p.Done = true
		return false, nil
	}
	p.Journal = JournalProgress{Seen: p.NewestID, Discarded: p.Discarded}
	p.NewestID, p.Cursor, p.Read = st.NewestID, "", false
	return false, nil
}

// previewRestore counts what a restore would bring back.
func (e *Engine) previewRestore(ctx context.Context, op Operation, p *Preview) error {
	within, cancel := context.WithTimeout(ctx, previewTime)
	defer cancel()
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(maxCalls)
	for name := range op.Sinks {
		g.Go(func() error {
			for step := (kept.RestoreStep{Since: op.Since, DryRun: true}); ; {
				got, err := e.Journal.Restore(within, name, step)
				mu.Lock()
				p.countJournal(restored(got))
				p.Count += got.Restored
				if got.Restored > 0 {
					p.BySink[name] += got.Restored
				}
				p.Scanned += got.Looked
				stuck := !got.Done && got.After == step.After
				cut := errors.Is(err, dlq.ErrJournalTaken) || within.Err() != nil && ctx.Err() == nil || err == nil && stuck
				p.Complete = p.Complete && !cut
				mu.Unlock()
				if cut || err == nil && got.Done {
					return nil
				}
				if err != nil {
					return coded(err)
				}
				step.After = got.After
			}
		})
	}
	return g.Wait()
}

// previewErase counts what an erasure would remove: from the queue, and what is in the journal.
func (e *Engine) previewErase(ctx context.Context, op Operation, p *Preview) error {
	if err := e.previewEraseQueue(ctx, op, p); err != nil || e.Journal == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, previewJournal)
	defer cancel()
	var found atomic.Int64
	count := func(recipient json.RawMessage) bool { // and erase none
		if op.Recipient.has(recipient) {
			found.Add(1)
		}
		return false
	}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(maxCalls)
	for name := range op.Sinks {
		g.Go(func() error {
			got, err := e.Journal.Erase(ctx, name, count, "")
			mu.Lock()
			defer mu.Unlock()
			p.countJournal(JournalCounts{Erase: &EraseCounts{Damaged: got.Damaged}})
			cut := errors.Is(err, dlq.ErrJournalTaken) || ctx.Err() != nil || err == nil && !got.Done
			if p.Complete = p.Complete && !cut; cut {
				return nil
			}
			return coded(err)
		})
	}
	err := g.Wait()
	p.countJournal(JournalCounts{Erase: &EraseCounts{Erased: found.Load()}})
	return err
}

func (e *Engine) previewEraseQueue(ctx context.Context, op Operation, p *Preview) error {
	upTo := map[string]string{}
	for name, progress := range op.Sinks {
		if progress.NewestID != "" {
			upTo[name] = progress.NewestID
		}
	}
	q := dlq.Query{UpTo: upTo, Limit: previewPage, MaxScan: previewPerCall}
	for end := time.Now().Add(previewTime); ; {
		page, err := e.Store.Page(ctx, q)
		if err != nil {
			return err
		}
		p.Scanned += int64(page.Scanned)
		for _, it := range page.Items {
			switch {
			case it.DecodeError != "":
				p.countJournal(JournalCounts{Erase: &EraseCounts{Unreadable: 1}})
			case op.Recipient.has(it.Recipient):
				p.Count++
				p.BySink[it.Sink]++
				p.look(it)
			}
		}
		if q.Cursor = page.NextCursor; q.Cursor == "" {
			return nil
		}
		if p.Scanned >= previewScan || time.Now().After(end) {
			p.Complete = false
			return nil
		}
	}
}
