package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/journal/kept"
)

// Journal is what the engine needs of a journal of dead letters; a *journal.Keeper is one. It is safe
// for concurrent use, across processes too: where another works on a sink's journal, the error is
// dlq.ErrJournalTaken, and nothing was done. What was done is in the answer beside an error, too.
type Journal interface {
	Sinks(ctx context.Context) ([]string, error)
	Tick(ctx context.Context, sink string) (kept.Report, error)
	Restore(ctx context.Context, sink string, step kept.RestoreStep) (kept.RestoreProgress, error)
	Audit(ctx context.Context, sink string) (kept.Audit, error)
	Erase(ctx context.Context, sink string, match func(recipient json.RawMessage) bool, after string) (kept.EraseProgress, error)
}

// JournalObserver is told of a sink's journal, where the Observer is one.
type JournalObserver interface {
	// Journal is called once per Run for every sink of which the journal or the queue's notes about it
	// have something, whether or not the journal could be reached.
	Journal(ctx context.Context, sink string, s JournalSummary)
}

// RetentionObserver is told what is removed for its age, where the Observer is one.
type RetentionObserver interface {
	// Retired is called with how many dead letters of a sink were removed.
	Retired(ctx context.Context, sink string, n int64)
}

// JournalSummary is what a Run did with a sink's journal, and what waits there after it.
type JournalSummary struct {
	// Spilled dead letters wait in the journal for room in the queue: at least so many, as of the last
	// look.
	Spilled int64 `json:"spilled,omitempty"`
	// Unjournaled are dead letters that the queue alone has, Ending those that are over and still in
	// the journal.
	Unjournaled int64 `json:"unjournaled,omitempty"`
	Ending      int64 `json:"ending,omitempty"`
	// Returned are spilled dead letters that the queue took, Healed those that it had lost and has
	// again.
	Returned int64 `json:"returned,omitempty"`
	Healed   int64 `json:"healed,omitempty"`
	// Damaged are objects that could not be read, or not in full, Conflicts dead letters whose name
	// something else has.
	Damaged   int64 `json:"damaged,omitempty"`
	Conflicts int64 `json:"conflicts,omitempty"`
	// Lost says that the queue lacks too much to be healed by itself: a restore is needed.
	Lost bool `json:"lost,omitempty"`
}

// longestJournal bounds what a Run without a deadline gives to journals.
const longestJournal = time.Minute

// journals is the part of a Run that keeps the journal.
type journals struct {
	*run
	ctx   context.Context // ends with the journal's share of the time
	known []string        // sinks with objects, sorted
	err   error           // why they are not known
	at    slots
	each  time.Duration // for one sink
}

// journals finds out which sinks have something in the journal. Nil: there is none. cancel ends its
// share of the time, a quarter.
func (r *run) journals(ctx context.Context) (j *journals, cancel context.CancelFunc) {
	if r.Journal == nil {
		return nil, func() {}
	}
	end := time.Now().Add(longestJournal)
	if share := r.budget.Share(4).Attempts; !share.IsZero() {
		end = share
	}
	ctx, cancel = context.WithDeadline(ctx, end)
	j = &journals{run: r, ctx: ctx, at: make(slots, maxCalls)}
	if j.known = r.request.Sinks; len(j.known) == 0 {
		listing, stop := context.WithTimeout(ctx, time.Until(end)/2)
		defer stop()
		if j.known, j.err = r.Journal.Sinks(listing); j.err != nil {
			r.log().WarnContext(ctx, "sinks of the journal not known", "error", j.err.Error())
		}
	}
	return j, cancel
}

// with returns names and the sinks of the journal, and divides the journal's time among these.
func (j *journals) with(names []string) []string {
	if j == nil {
		return names
	}
	names = slices.Concat(names, j.known)
	slices.Sort(names)
	names = slices.Compact(names)
	busy := len(j.known)
	if j.err != nil {
		busy = len(names)
	}
	end, _ := j.ctx.Deadline()
	turns := max((busy+maxCalls-1)/maxCalls, 1)
	j.each = time.Until(end) / time.Duration(turns)
	return names
}

// idle reports whether there is nothing to do for a sink: neither has the journal an object of it,
// nor the queue a note. Where the journal does not say what it has, none is idle.
func (j *journals) idle(name string, noted dlq.JournalView) bool {
	return j.err == nil && !slices.Contains(j.known, name) &&
		noted.Unjournaled == 0 && noted.Ending == 0 && noted.Spilled == 0 && noted.LostAt.IsZero()
}

// tick has the journal of a sink kept, and returns the sink's numbers after that. What goes wrong is
// the journal's own, and holds up nothing else.
func (j *journals) tick(ctx context.Context, name string, st dlq.Stats) dlq.Stats {
	if j == nil || j.idle(name, st.Journal) {
		return st
	}
	report, err := j.report(name)
	if errors.Is(err, dlq.ErrJournalTaken) {
		err = nil // the other one does it
	}
	if err != nil {
		j.log().WarnContext(ctx, "journal not kept", "sink", name, "error", err.Error())
	}
	if now, err := j.Store.Stats(ctx, name); err == nil {
		st = now
	}
	s := JournalSummary{
		Spilled: max(st.Journal.Spilled, report.Spilled), Unjournaled: st.Journal.Unjournaled, Ending: st.Journal.Ending,
		Returned: report.Returned, Healed: report.Healed, Damaged: report.Damaged, Conflicts: report.Conflicts,
		Lost: report.Lost || !st.Journal.LostAt.IsZero(),
	}
	if s != (JournalSummary{}) || err != nil {
		j.tally.sink(name, func(sink *SinkSummary) {
			sink.Journal = s
			if err != nil {
				sink.JournalError = err.Error()
			}
		})
	}
	if o, ok := j.Observer.(JournalObserver); ok {
		o.Journal(ctx, name, s)
	}
	return st
}

// report ticks within the journal's time, so many at once.
func (j *journals) report(name string) (kept.Report, error) {
	if !j.at.take(j.ctx) || j.ctx.Err() != nil {
		if j.err != nil {
			return kept.Report{}, j.err
		}
		return kept.Report{}, fmt.Errorf("no time was left for it: %w", j.ctx.Err())
	}
	defer j.at.give()
	ctx, cancel := context.WithTimeout(j.ctx, j.each)
	defer cancel()
	return j.Journal.Tick(ctx, name)
}

// noteTime is the time to tell the records what was stored, after a caller's own is over.
const noteTime = 2 * time.Second

// BringBack puts letters of a sink that the journal has back into the queue, as dlq.Journaling.Return
// does: it is a journal.Back. Of those that the queue lacks, what the records say was delivered or
// discarded, with the same content, or canceled is not stored. Records that cannot be read keep nothing
// from being stored: a dead letter counts for more.
func (e *Engine) BringBack(ctx context.Context, sink, token string, over int, letters []dlq.Letter) ([]dlq.Returned, error) {
	returned, err := e.known(ctx, sink, letters)
	if err != nil {
		return nil, err
	}
	var rest []dlq.Letter
	var at []int // in letters
	for i, l := range letters {
		if returned[i].Status == "" {
			rest, at = append(rest, l), append(at, i)
		}
	}
	if len(rest) == 0 {
		return returned, nil
	}
	stored, err := e.Store.Return(ctx, sink, token, over, rest)
	if err == nil && len(stored) != len(rest) {
		err = &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("return: %d results for %d dead letters", len(stored), len(rest))}
	}
	if err != nil {
		return nil, err
	}
	var items []dlq.Item
	var fresh []int // in letters
	for i, r := range stored {
		returned[at[i]] = r
		if r.Status == dlq.ReturnStored {
			it := rest[i].Item
			it.ID = r.ID
			items, fresh = append(items, it), append(fresh, at[i])
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTime)
	defer cancel()
	for i, was := range e.noteStored(ctx, items...) {
		switch {
		case was.err != nil: // at worst it is sent twice: it counts as stored
			e.log().WarnContext(ctx, "a delivery ended while its dead letter was brought back, which stays",
				"delivery_id", items[i].DeliveryID, "item_id", items[i].ID, "sink", sink, "status", string(was.ended), "error", was.err.Error())
		case was.ended == delivery.StatusCanceled:
			returned[fresh[i]] = dlq.Returned{Status: dlq.ReturnCanceled}
		case was.ended != "":
			returned[fresh[i]] = dlq.Returned{Status: dlq.ReturnEnded}
		}
	}
	return returned, nil
}

// known decides the letters that are in the queue as they are, and of those that it lacks, the ones
// whose deliveries ended, by their records. The others have no status.
func (e *Engine) known(ctx context.Context, sink string, letters []dlq.Letter) ([]dlq.Returned, error) {
	identities := make([]dlq.Identity, len(letters))
	for i, l := range letters {
		identities[i] = l.Identity
	}
	present, err := e.Store.Present(ctx, sink, identities)
	if err == nil && len(present) != len(letters) {
		err = &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("present: %d results for %d dead letters", len(present), len(letters))}
	}
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok { // records that do not answer leave time for the rest
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/4)
		defer cancel()
	}
	returned := make([]dlq.Returned, len(letters))
	var g errgroup.Group
	g.SetLimit(importCalls)
	for i, l := range letters {
		if p := present[i]; p.ID != "" {
			if p.Address == l.Item.Journal { // else Return says that this address is over
				returned[i] = dlq.Returned{Status: dlq.ReturnExists, ID: p.ID}
			}
			continue
		}
		g.Go(func() error {
			rec, same := e.recordOf(ctx, l.Item)
			switch {
			case rec.Status == delivery.StatusCanceled:
				returned[i].Status = dlq.ReturnCanceled
			case same && (rec.Status == delivery.StatusDelivered || rec.Status == delivery.StatusDiscarded):
				returned[i].Status = dlq.ReturnEnded
			}
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	return returned, nil
}

// recordOf returns what is known of the delivery of a dead letter that is to be stored again, and
// whether that is of the same content. Nothing where it cannot be read: it narrows duplicates, and
// the dead letter counts for more.
func (e *Engine) recordOf(ctx context.Context, it dlq.Item) (rec delivery.Record, same bool) {
	if e.Records == nil || it.DeliveryID == "" {
		return delivery.Record{}, false
	}
	rec, known, err := e.Records.Get(ctx, delivery.KeyOf(it))
	if err != nil {
		e.log().WarnContext(ctx, "delivery record not read", "delivery_id", it.DeliveryID, "sink", it.Sink, "error", err.Error())
	}
	if err != nil || !known {
		return delivery.Record{}, false
	}
	return rec, rec.IsOf(delivery.FingerprintOf(it))
}

// storedAgain is what became of a delivery whose dead letter was stored again.
type storedAgain struct {
	// ended is set when it was delivered or canceled meanwhile; the dead letter is removed then,
	// unless err says why it is not.
	ended delivery.Status
	err   error
}

// noteStored tells the records that items are dead letters again: what was discarded or had
// expired is, and a later import knows by it what was replayed meanwhile. What is stored as expired is
// marked, and no Run tells its record. A delivery may have ended since somebody looked: by a replay of
// what was stored before, or because a caller canceled it. Then its item goes.
func (e *Engine) noteStored(ctx context.Context, items ...dlq.Item) []storedAgain {
	fates := make([]fate, len(items), 2*len(items))
	for i, it := range items {
		fates[i] = fate{it, delivery.StatusDeadLettered}
		if it.Reason == dlq.ReasonExpired {
			fates = append(fates, fate{it, delivery.StatusExpired})
		}
	}
	out := make([]storedAgain, len(items))
	statuses := e.note(ctx, fates...)
	for i, it := range items {
		if s := statuses[i]; s == delivery.StatusDelivered || s == delivery.StatusCanceled {
			out[i] = storedAgain{s, e.Store.Discard(ctx, it.ID)}
		}
	}
	return out
}
