package replay

import (
	"context"
	"math"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// Bounds of one preview.
const (
	previewSample  = 10
	previewScan    = 200_000 // entries read
	previewTime    = 5 * time.Second
	previewPage    = 1000
	previewPerCall = 10_000
)

// Preview is what a bulk operation would do.
type Preview struct {
	// Count is the number of items found.
	Count int64 `json:"count"`
	// Expired is how many of them have expired: a replay sends none of these.
	Expired int64 `json:"expired"`
	// Complete is false when the preview stopped by its bounds: there may be more.
	Complete bool `json:"complete"`
	// Scanned is the number of entries read.
	Scanned int64 `json:"scanned"`
	// Sample is the first items, newest first.
	Sample []dlq.Item `json:"sample"`
	// LastTried is the newest replay among the Looked first items; nil: none was replayed.
	LastTried *LastTried `json:"last_tried,omitempty"`
	// Looked is how many items were looked at for it: the first ones, at most Count.
	Looked int64 `json:"looked"`
	// Refused is how many of the Looked ones the sink of a redirect (OperationRequest.Sink) could never
	// send, because of their recipients for one, and Refusal why, of the first of them.
	Refused int64  `json:"refused,omitempty"`
	Refusal string `json:"refusal,omitempty"`
	// BySink is how many of Count are in each sink; one without any is missing.
	BySink map[string]int64 `json:"by_sink"`
	// Groups are the largest groups of the items, and MoreGroups how many there are beside them;
	// counted where the request has an Expect.
	Groups     []dlq.Group `json:"groups,omitempty"`
	MoreGroups int         `json:"more_groups,omitempty"`
	// Expect is what an operation over the same items has to hand back; nil unless the request has one
	// and the preview is complete.
	Expect *Expect `json:"expect,omitempty"`
	// UpTo is the native id of the newest entry of each sink, as it was looked at: OperationRequest.UpTo
	// takes it. Nil: the items are listed by their ids, or the action works on the journal.
	UpTo map[string]string `json:"up_to,omitempty"`
	// JournalCounts are what an action on the journal would do.
	JournalCounts

	to sinks.Sink // of a redirect; else nil
	// members is nil where nobody asks for an Expect.
	members *members
}

// LastTried is the newest replay of some dead letters. What a replay delivered and removed is
// not among them any more.
type LastTried struct {
	At time.Time `json:"at"`
	// Error is what came of it; empty when Delivered.
	Error string `json:"error,omitempty"`
	// Delivered: it was delivered, and kept.
	Delivered bool `json:"delivered,omitempty"`
	// Operation is the bulk operation that tried it; empty: none.
	Operation string `json:"operation,omitempty"`
}

// look counts an item, and notes when it was last tried.
func (p *Preview) look(it dlq.Item) {
	if len(p.Sample) < previewSample {
		p.Sample = append(p.Sample, it)
	}
	if p.members != nil {
		p.members.add(it)
	}
	p.Looked++
	if to := p.to; to != nil && it.DecodeError == "" {
		request := delivery.Request{ID: it.DeliveryID, Sink: to.Name(), Recipient: it.Recipient, Message: it.Message}
		if err := request.Check(to, math.MaxInt); err != nil {
			if p.Refused++; p.Refused == 1 {
				p.Refusal = err.Error()
			}
		}
	}
	if it.DeliveredAt.IsZero() && it.Expired(time.Now()) {
		p.Expired++
	}
	if len(it.History) == 0 {
		return
	}
	last := it.History[len(it.History)-1]
	if p.LastTried != nil && !last.At.After(p.LastTried.At) {
		return
	}
	p.LastTried = &LastTried{At: last.At, Delivered: last.Error == ""}
	p.LastTried.Operation, p.LastTried.Error = unmarked(last.Error)
}

// Preview counts what a bulk operation with this request would work on, through the
// same filter. It changes nothing and is bounded: 200,000 entries, about 5 s (see
// Preview.Complete). Errors: INVALID_ARGUMENT, naming the field; SINK_DLQ_UNAVAILABLE.
func (e *Engine) Preview(ctx context.Context, r OperationRequest) (Preview, error) {
	r.DryRun = true
	if err := r.validate(); err != nil {
		return Preview{}, err
	}
	op, err := e.freeze(ctx, r)
	if err != nil {
		return Preview{}, err
	}
	return e.preview(ctx, r, op)
}

// freeze returns the operation with its members fixed: ids in their public form, or
// the newest entry of every sink.
func (e *Engine) freeze(ctx context.Context, r OperationRequest) (Operation, error) {
	op := Operation{
		Action: r.Action, Filter: r.Filter, All: r.All, DryRun: r.DryRun, Reason: r.Reason, Actor: r.Actor,
		StopAfter: r.stopAfter(), Sink: r.Sink, Since: r.Since.Truncate(time.Millisecond), Round: 1, // as names of objects tell it
		Status: OperationQueued, CreatedAt: time.Now().UTC(), Sinks: map[string]SinkProgress{},
	}
	if r.Action.journals() && r.Action != OperationErase && e.Journal == nil {
		return op, invalid("action: %s", errNoJournal)
	}
	if r.Action == OperationErase {
		op.Recipient = hashRecipient(r.Recipient)
	}
	if len(r.IDs) > 0 {
		return op, e.freezeIDs(ctx, r.IDs, &op)
	}
	var names []string
	if r.Filter != nil && r.Filter.Sink != "" {
		names = []string{r.Filter.Sink}
	} else {
		var err error
		if names, err = e.operationSinks(ctx, r.Action); err != nil {
			return op, err
		}
	}
	if r.Action.journals() {
		for _, name := range names {
			op.Sinks[name] = SinkProgress{JournalCounts: r.Action.zeroCounts()}
		}
	}
	if !r.Action.settles() {
		return op, nil
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(maxCalls)
	for _, name := range names {
		g.Go(func() error {
			st, err := e.Store.Stats(ctx, name)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if st.NewestID != "" && r.Action == OperationErase {
				op.Sinks[name] = SinkProgress{NewestID: st.NewestID, JournalCounts: r.Action.zeroCounts()}
			} else if st.NewestID != "" {
				op.Sinks[name] = SinkProgress{NewestID: st.NewestID, Members: st.Depth}
				op.Total += st.Depth
				op.expired += st.States[dlq.StateExpired] + st.Overdue
			}
			return nil
		})
	}
	err := g.Wait()
	if r.UpTo != nil {
		op.fixTo(r.UpTo)
	}
	if r.Expect != nil && !r.DryRun {
		op.boundBy(r.Expect.UpTo)
	}
	return op, err
}

// freezeIDs lists the members. A bare native id is looked up; one that is not there is
// no member.
func (e *Engine) freezeIDs(ctx context.Context, ids []string, op *Operation) error {
	seen := map[string]bool{}
	for _, s := range ids {
		id, err := dlq.ParseID(s)
		if err != nil {
			return err
		}
		if id.Sink == "" {
			it, err := e.Store.Get(ctx, s)
			if fault.CodeOf(err) == fault.CodeDLQNotFound {
				continue
			}
			if err != nil {
				return err
			}
			if id, err = dlq.ParseID(it.ID); err != nil {
				return err
			}
		}
		if !seen[id.String()] {
			seen[id.String()] = true
			op.IDs = append(op.IDs, id.String())
			op.Sinks[id.Sink] = SinkProgress{}
		}
	}
	return nil
}

// preview counts the members of a frozen operation.
func (e *Engine) preview(ctx context.Context, r OperationRequest, op Operation) (p Preview, err error) {
	p = Preview{Complete: true, Sample: []dlq.Item{}, BySink: map[string]int64{}}
	if r.Expect != nil {
		p.members = &members{}
		defer func() {
			if err == nil {
				p.seen(op)
			}
		}()
	}
	p.JournalCounts = op.Action.zeroCounts()
	if op.Sink != "" {
		t, err := e.target(ctx, op.Sink)
		if err != nil {
			return p, err
		}
		p.to = t.Sink
	}
	switch {
	case op.Action == OperationRestore:
		return p, e.previewRestore(ctx, op, &p)
	case op.Action == OperationErase:
		return p, e.previewErase(ctx, op, &p)
	case len(op.IDs) > 0:
		return p, e.previewIDs(ctx, op, &p)
	}
	f, upTo := op.filter(), map[string]string{}
	for name, progress := range op.Sinks {
		upTo[name] = progress.NewestID
	}
	p.UpTo = upTo
	q := f.query(f.Sink, upTo)
	q.Limit, q.MaxScan = previewPage, previewPerCall
	for end := time.Now().Add(previewTime); ; {
		page, err := e.Store.Page(ctx, q)
		if err != nil {
			return p, err
		}
		p.Scanned += int64(page.Scanned)
		p.Count += int64(len(page.Items))
		for _, it := range page.Items {
			p.look(it)
			p.BySink[it.Sink]++
		}
		q.Cursor = page.NextCursor
		switch {
		case f.everything() && r.Expect == nil && r.UpTo == nil: // whole queues are counted by their depths
			p.Count, p.Expired, p.BySink = op.Total, op.expired, map[string]int64{}
			for name, progress := range op.Sinks {
				if progress.Members > 0 {
					p.BySink[name] = progress.Members
				}
			}
			return p, nil
		case q.Cursor == "":
			return p, nil
		case p.Scanned >= previewScan || time.Now().After(end):
			p.Complete = false
			return p, nil
		}
	}
}

func (e *Engine) previewIDs(ctx context.Context, op Operation, p *Preview) error {
	for _, id := range op.IDs {
		it, err := e.Store.Get(ctx, id)
		if fault.CodeOf(err) == fault.CodeDLQNotFound {
			continue
		}
		if err != nil {
			return err
		}
		p.Scanned++
		p.Count++
		p.look(it)
		p.BySink[it.Sink]++
	}
	return nil
}
