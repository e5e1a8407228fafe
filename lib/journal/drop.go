package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// dropLease is the length of the lease under which one dead letter is given up.
const dropLease = 30 * time.Second

// calls is how many calls to the bucket are made at once.
const calls = 16

// Settle implements dlq.Leases. What is given up (dlq.ActionDrop) goes from the journal first. Where that
// fails, the error is dlq.ErrJournal, nothing of it was removed, and the other settlements
// were recorded all the same: settling again is told that they were.
func (q *Queue) Settle(ctx context.Context, s []dlq.Settlement) ([]dlq.SettleResult, error) {
	var drops, others []int
	results := make([]dlq.SettleResult, len(s))
	for i, of := range s {
		switch {
		case of.Action != dlq.ActionDrop || of.Journal == "":
			others = append(others, i)
		case !of.Expires.IsZero() && !time.Now().Before(of.Expires):
			results[i] = dlq.SettleFenced // it may be another's by now: so is its line
		default:
			drops = append(drops, i)
		}
	}
	if len(drops) == 0 && len(others) == len(s) {
		return q.Store.Settle(ctx, s)
	}
	missing := q.forget(ctx, s, drops)
	if missing == nil {
		others = append(others, drops...)
	}
	if err := q.settle(ctx, s, others, results); err != nil {
		return nil, errors.Join(err, missing)
	}
	if missing != nil {
		return nil, missing
	}
	lacks := map[string][]string{}
	for _, i := range drops {
		if results[i] != dlq.SettleApplied {
			lacks[sinkOf(s[i])] = append(lacks[sinkOf(s[i])], s[i].ID)
		}
	}
	q.lacks(ctx, lacks)
	return results, nil
}

func (q *Queue) settle(ctx context.Context, s []dlq.Settlement, which []int, results []dlq.SettleResult) error {
	if len(which) == 0 {
		return nil
	}
	part := make([]dlq.Settlement, len(which))
	for at, i := range which {
		part[at] = s[i]
	}
	got, err := q.Store.Settle(ctx, part)
	if err != nil {
		return err
	}
	if len(got) != len(part) {
		return &fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("settle: %d results for %d items", len(got), len(part))}
	}
	for at, i := range which {
		results[i] = got[at]
	}
	return nil
}

func sinkOf(s dlq.Settlement) string {
	id, err := dlq.ParseID(s.ID)
	if err != nil {
		return ""
	}
	return id.Sink
}

// forget removes the lines of what is given up from the journal. Where one cannot be removed, the
// queue is told that the journal lacks those that were, or may have been.
func (q *Queue) forget(ctx context.Context, s []dlq.Settlement, drops []int) error {
	type object struct {
		sink  string
		group group
	}
	lines, of := map[object][]int{}, map[object][]string{}
	for _, i := range drops {
		g, line := locate(s[i].Journal)
		if g == "" {
			continue // it has none that could be found
		}
		o := object{sinkOf(s[i]), g}
		lines[o], of[o] = append(lines[o], line), append(of[o], s[i].ID)
	}
	var mu sync.Mutex
	gone := map[string][]string{}
	var g errgroup.Group
	g.SetLimit(calls)
	for o, which := range lines {
		g.Go(func() error {
			err := q.strike(ctx, o.sink, o.group, which)
			mu.Lock()
			gone[o.sink] = append(gone[o.sink], of[o]...) // perhaps, where it failed
			mu.Unlock()
			if err != nil {
				return fmt.Errorf("%s: %w", o.group.open(o.sink), err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		q.lacks(ctx, gone)
		return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "journal", Cause: errors.Join(dlq.ErrJournal, err)}
	}
	return nil
}

// lacks tells the queue, by sink, which dead letters the journal lacks although they stay.
func (q *Queue) lacks(ctx context.Context, bySink map[string][]string) {
	for sink, ids := range bySink {
		if err := q.NoteUnjournaled(ctx, sink, ids); err != nil {
			q.log().ErrorContext(ctx, "that dead letters are not journaled could not be noted; an audit finds them", "sink", sink, "item_ids", ids, "error", err.Error())
		}
	}
}

// strike removes lines of a group, wherever they are: the last one takes the object along.
func (q *Queue) strike(ctx context.Context, sink string, g group, lines []int) error {
	names := []string{}
	for _, line := range lines {
		names = append(names, stateName(sink, g.address(line)))
	}
	for _, name := range []string{g.spill(sink), g.open(sink)} { // what is left if this ends in between comes back by itself
		whole, err := strikeFrom(ctx, q.bucket, sink, g, name, func(line int, _ *dlq.Letter) bool {
			for _, l := range lines {
				if l == line {
					return true
				}
			}
			return false
		})
		if err != nil {
			return err
		}
		if whole {
			names = append(names, name)
		}
	}
	return q.bucket.Delete(ctx, names...)
}

// strikeFrom rewrites an object without the lines that gone says yes to, and reports
// whether none is left: then the object is to be deleted. One that is not there is done with.
func strikeFrom(ctx context.Context, b Bucket, sink string, g group, name string, gone func(line int, l *dlq.Letter) bool) (whole bool, err error) {
	if g.lines() == 1 && gone(0, nil) {
		return true, nil
	}
	for {
		o, err := b.Get(ctx, name)
		if errors.Is(err, ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		body, left, struck := strikeLines(sink, g, o.Body, gone)
		switch {
		case left == 0:
			return true, nil
		case struck == 0:
			return false, nil
		}
		err = b.Replace(ctx, name, o.Tag, body)
		if !errors.Is(err, ErrChanged) {
			return false, err
		}
	}
}

// Discard implements dlq.DLQ.
func (q *Queue) Discard(ctx context.Context, id string) error {
	it, err := q.Get(ctx, id)
	if fault.CodeOf(err) == fault.CodeDLQNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	leased, err := q.Claim(ctx, dlq.Claim{Sink: it.Sink, IDs: []string{it.ID}, Force: true, Token: uuid.NewString(), TTL: dropLease, Quiet: true})
	if err != nil {
		return err
	}
	if len(leased) == 0 {
		if _, err := q.Get(ctx, it.ID); fault.CodeOf(err) == fault.CodeDLQNotFound {
			return nil
		}
		return &fault.Error{Code: fault.CodeItemLeased, Msg: "item " + it.ID + ": a replay holds it"}
	}
	results, err := q.Settle(ctx, []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionDrop}})
	switch {
	case errors.Is(err, dlq.ErrJournal):
		if unreleased := q.Release(ctx, []dlq.Lease{leased[0].Lease}); unreleased != nil { // it runs out by itself
			return errors.Join(err, unreleased)
		}
		return err
	case err == nil && results[0] != dlq.SettleApplied:
		return &fault.Error{Code: fault.CodeItemLeased, Msg: "item " + it.ID + ": its lease was lost before it was removed"}
	}
	return err
}

// Most that is read to find a spilled dead letter.
const (
	findPages = 10
	findReads = 200
)

// Find implements dlq.Letters. What was spilled is found too, while there is not too much of it to
// look at; else it is SINK_DLQ_UNAVAILABLE.
//
// Who looks for a content asks for what an earlier push may have stored, to acknowledge it. Nobody knows
// whether the journal has it: the process may have died before it wrote there, or may have taken back what the
// queue did not seem to take. So the queue is told that the journal lacks it, before it is found.
func (q *Queue) Find(ctx context.Context, sink, deliveryID, fingerprint string) (dlq.Item, error) {
	it, err := q.Store.Find(ctx, sink, deliveryID, fingerprint)
	if err == nil && fingerprint != "" {
		if err := q.NoteUnjournaled(ctx, sink, []string{it.ID}); err != nil {
			return dlq.Item{}, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "that item " + it.ID + " may be missing in the journal", Cause: err}
		}
	}
	if fault.CodeOf(err) != fault.CodeDLQNotFound {
		return it, err
	}
	found, searched := q.findSpilled(ctx, sink, dlq.IdentityOf(dlq.Item{DeliveryID: deliveryID}).PushKey, fingerprint)
	if searched != nil {
		return dlq.Item{}, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "whether it is spilled", Cause: searched}
	}
	if found == nil {
		return dlq.Item{}, err
	}
	return *found, nil
}

// findSpilled returns the newest spilled dead letter of a push key; nil where there is none.
func (q *Queue) findSpilled(ctx context.Context, sink, key, fingerprint string) (found *dlq.Item, err error) {
	prefix, after, reads := spillFolder+sink+"/", "", 0
	for page := 0; ; page++ {
		listed, more, err := q.bucket.List(ctx, prefix, after, 0)
		if err != nil {
			return nil, err
		}
		for _, o := range listed {
			after = o.Name
			g, err := groupOf(o.Name[len(prefix):])
			if err != nil {
				continue // whoever works on the journal says so
			}
			if id, told := g.identity(); told && (id.PushKey != key || fingerprint != "" && id.Content != fingerprint) {
				continue
			}
			if reads++; reads > findReads {
				return nil, fmt.Errorf("more than %d objects would have to be read", findReads)
			}
			it, err := q.readSpilled(ctx, sink, g, key, fingerprint)
			if err != nil {
				return nil, err
			}
			if it != nil && (found == nil || !it.At.Before(found.At)) {
				found = it
			}
		}
		if !more {
			return found, nil
		}
		if page+1 == findPages {
			return nil, fmt.Errorf("more than %d pages of names would have to be read", findPages)
		}
	}
}

func (q *Queue) readSpilled(ctx context.Context, sink string, g group, key, fingerprint string) (found *dlq.Item, err error) {
	o, err := q.bucket.Get(ctx, g.spill(sink))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	letters, _, _ := decode(sink, g, o.Body) // whoever works on the journal says what is wrong with it
	for _, l := range letters {
		if l != nil && l.PushKey == key && (fingerprint == "" || l.Content == fingerprint) {
			it := l.Item
			it.Spilled = true
			found = &it
		}
	}
	return found, nil
}
