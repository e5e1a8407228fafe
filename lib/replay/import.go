package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// maxTries bounds the attempts and replays of a line. No item comes near it, and what is
// counted on from there does not wrap.
const maxTries = 1_000_000

// importCalls is the number of calls to the store that one import makes at once.
const importCalls = 16

// asideFor is how long the schedule leaves a parked or held item alone while the import
// puts it aside. If the import ends before that, its repetition has so much time.
const asideFor = time.Hour

// asideLease is long enough to settle a claim, and short enough to wait for.
const asideLease = time.Minute

// ImportStatus is what became of an imported dead letter.
type ImportStatus string

// The statuses.
const (
	ImportStored   ImportStatus = "stored"
	ImportExists   ImportStatus = "exists"   // it was there already
	ImportSkipped  ImportStatus = "skipped"  // it was delivered since, or canceled
	ImportRejected ImportStatus = "rejected" // it can never be stored
	ImportFailed   ImportStatus = "failed"   // not now; import it again
)

// Imported is the result of one dead letter's import.
type Imported struct {
	Status     ImportStatus
	ID         string // of the dead letter in this queue; empty: it is not there
	DeliveryID string
	Note       string // why it was skipped
	// Err is why it was rejected (INVALID_ARGUMENT) or failed.
	Err error
}

// importing is the import of one dead letter.
type importing struct {
	Imported // Status is empty until it is decided
	item     dlq.Item
}

// fail decides it by an error.
func (l *importing) fail(err error) {
	l.Status, l.Err = ImportFailed, err
	if fault.CodeOf(err) == fault.CodeInvalidArgument {
		l.Status = ImportRejected
	}
}

func (l *importing) aside() bool { return l.item.Parked || l.item.Held }

// CheckImport reports what keeps an item from ever being imported, as INVALID_ARGUMENT.
func CheckImport(it dlq.Item) error {
	switch {
	case it.Sink == "":
		return invalid("sink: missing")
	case fault.CheckName(it.Sink) != nil:
		return fault.CheckName(it.Sink)
	case it.DecodeError != "":
		return invalid("decode_error: an item that could not be read cannot be stored")
	case it.Replays < 0 || it.Replays > maxTries:
		return invalid("replays: want 0 to %d", maxTries)
	case it.Attempts < 0 || it.Attempts > maxTries:
		return invalid("attempts: want 0 to %d", maxTries)
	case it.Unanswered < 0 || it.Unanswered > maxTries:
		return invalid("unanswered: want 0 to %d", maxTries)
	}
	return nil
}

// Import stores the items of an export, and returns what became of each, in their order.
// They may come from another queue: an item that is here, or was delivered or canceled since, is
// not stored again. What the schedule must leave alone is parked or held again, and what has
// expired is never sent: the next Run marks it. A repeated import finishes one that was cut off.
func (e *Engine) Import(ctx context.Context, items []dlq.Item) []Imported {
	lines := make([]importing, len(items))
	for i, it := range items {
		l := importing{Imported{DeliveryID: cmp.Or(it.DeliveryID, it.Message.ID)}, it}
		if err := CheckImport(it); err != nil {
			l.fail(err)
		} else if !it.DeliveredAt.IsZero() {
			l.Status, l.Note = ImportSkipped, "it was delivered at "+it.DeliveredAt.Format(time.RFC3339)
		} else if it.SupersededBy != "" {
			l.Status, l.Note = ImportSkipped, "it is superseded by "+it.SupersededBy+"; import that one"
		}
		lines[i] = l
	}
	eachImport(lines, func(l *importing) { e.find(ctx, l) })
	newest := e.newest(ctx, lines)
	e.store(ctx, lines, newest)
	eachImport(lines, func(l *importing) { e.noteImported(ctx, l) })
	e.putAside(ctx, lines)
	results := make([]Imported, len(lines))
	for i := range lines {
		results[i] = lines[i].Imported
	}
	return results
}

// eachImport calls f for every line that is not decided, several at once.
func eachImport(lines []importing, f func(*importing)) {
	var g errgroup.Group
	g.SetLimit(importCalls)
	for i := range lines {
		if l := &lines[i]; l.Status == "" || l.Status == ImportStored {
			g.Go(func() error {
				f(l)
				return nil
			})
		}
	}
	_ = g.Wait() // its functions return nil
}

// find looks for what is known of a line's item: it may be here still, or have been delivered or
// canceled since the export. Any other status keeps nothing from being stored: what expired or was
// discarded may be wanted back, and what somebody is at, or has in a queue, may be lost yet.
func (e *Engine) find(ctx context.Context, l *importing) {
	if id, err := dlq.ParseID(l.item.ID); err == nil && id.Sink == l.item.Sink {
		it, err := e.Store.Get(ctx, l.item.ID)
		switch {
		case err == nil && it.DeliveryID == l.DeliveryID && delivery.FingerprintOf(it) == delivery.FingerprintOf(l.item):
			l.Status, l.ID = ImportExists, it.ID
			return
		case err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound:
			l.fail(err)
			return
		}
	}
	it := l.item
	it.DeliveryID = l.DeliveryID
	switch rec, same := e.recordOf(ctx, it); {
	case rec.Status == delivery.StatusCanceled: // whatever content comes under its id
		l.Status, l.Note = ImportSkipped, "it was canceled at "+rec.UpdatedAt.Format(time.RFC3339)
	case rec.Status == delivery.StatusDelivered && same:
		l.Status, l.Note = ImportSkipped, "it was delivered at "+rec.UpdatedAt.Format(time.RFC3339)
	}
}

// newest returns the newest native id of each sink with lines to store: ids after it are
// of items that this import stored. Lines of sinks that cannot be read are decided.
func (e *Engine) newest(ctx context.Context, lines []importing) map[string]string {
	bySink := map[string][]*importing{}
	for i := range lines {
		if l := &lines[i]; l.Status == "" {
			bySink[l.item.Sink] = append(bySink[l.item.Sink], l)
		}
	}
	var mu sync.Mutex
	newest := map[string]string{}
	var g errgroup.Group
	g.SetLimit(importCalls)
	for sink, of := range bySink {
		g.Go(func() error {
			stats, err := e.Store.Stats(ctx, sink)
			mu.Lock()
			defer mu.Unlock()
			newest[sink] = stats.NewestID
			if err != nil {
				for _, l := range of {
					l.fail(err)
				}
			}
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	return newest
}

// store pushes the lines that are not decided.
func (e *Engine) store(ctx context.Context, lines []importing, newest map[string]string) {
	var of []*importing
	for i := range lines {
		if lines[i].Status == "" {
			of = append(of, &lines[i])
		}
	}
	oldestFirst(of)
	items := make([]dlq.Item, len(of))
	aside := time.Now().UTC().Add(asideFor).Truncate(time.Millisecond)
	for i, l := range of {
		items[i] = l.item
		if l.aside() && l.item.Reason.Due() && l.item.NotBefore.Before(aside) {
			items[i].NotBefore = aside
		}
	}
	seen := map[string]bool{}
	stored, errs := e.Store.AddBatch(ctx, items)
	for i, l := range of {
		if errs[i] != nil {
			l.fail(errs[i])
			continue
		}
		l.Status, l.ID, l.DeliveryID = ImportExists, stored[i].ID, stored[i].DeliveryID
		id, err := dlq.ParseID(l.ID)
		before := newest[l.item.Sink]
		if err == nil && !seen[l.ID] && (before == "" || dlq.CompareNative(id.Native, before) > 0) {
			l.Status = ImportStored
		}
		seen[l.ID] = true
	}
}

// oldestFirst orders lines as they were stored before: an export is newest first, and what
// is due is replayed in the order of the queue.
func oldestFirst(of []*importing) {
	age := func(it dlq.Item) string {
		if id, err := dlq.ParseID(it.ID); err == nil {
			return id.Native
		}
		return fmt.Sprintf("%d-0", max(it.At.UnixMilli(), 0))
	}
	slices.SortStableFunc(of, func(a, b *importing) int { return dlq.CompareNative(age(a.item), age(b.item)) })
}

// noteImported tells the delivery's record that it is a dead letter again; one that ended meanwhile
// is not (see noteStored).
func (e *Engine) noteImported(ctx context.Context, l *importing) {
	if l.Status != ImportStored || l.DeliveryID == "" {
		return
	}
	it := l.item
	it.ID, it.DeliveryID = l.ID, l.DeliveryID
	switch was := e.noteStored(ctx, it)[0]; {
	case was.err != nil:
		l.fail(was.err)
	case was.ended != "":
		l.Status, l.ID, l.Note = ImportSkipped, "", fmt.Sprintf("it was %s while it was imported", was.ended)
	}
}

// putAside parks or holds what was parked or held: a push alone would make it due.
func (e *Engine) putAside(ctx context.Context, lines []importing) {
	bySink := map[string]map[string]*importing{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(importCalls)
	for i := range lines {
		l := &lines[i]
		if !l.aside() || l.Status != ImportStored && l.Status != ImportExists || l.ID == l.item.ID {
			continue
		}
		g.Go(func() error {
			it, err := e.Store.Get(ctx, l.ID)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case fault.CodeOf(err) == fault.CodeDLQNotFound:
			case err != nil:
				l.fail(err)
			case untouched(it):
				if bySink[it.Sink] == nil {
					bySink[it.Sink] = map[string]*importing{}
				}
				bySink[it.Sink][it.ID] = l
			}
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	for sink, of := range bySink {
		if err := e.settleAside(ctx, sink, of); err != nil {
			for _, l := range of {
				l.fail(err)
			}
		}
	}
}

// untouched reports whether nothing has happened to an item since it was pushed.
func untouched(it dlq.Item) bool {
	if it.Parked || it.Held || !it.DeliveredAt.IsZero() || len(it.History) > 0 {
		return false
	}
	if it.Reason.Due() {
		return it.NextReplayAt.After(time.Now()) // an operator who unparks an item makes it due now
	}
	return it.NextReplayAt.IsZero()
}

// errAside is a line whose item is stored but not put aside yet.
var errAside = errors.New("not put aside yet; import it again")

// errHeld is a line whose item somebody else replays right now.
var errHeld = &fault.Error{Code: fault.CodeItemLeased, Msg: "stored, but a replay holds it, so it is not put aside yet; import it again"}

// settleAside parks or holds items of one sink. A line whose item could not be put aside
// is decided by errHeld: it must not look done.
func (e *Engine) settleAside(ctx context.Context, sink string, of map[string]*importing) error {
	ids := make([]string, 0, len(of))
	for id := range of {
		ids = append(ids, id)
	}
	aside := map[string]bool{}
	defer func() {
		for id, l := range of {
			if !aside[id] && l.Status != ImportFailed {
				l.fail(errHeld)
			}
		}
	}()
	for len(ids) > 0 {
		leased, err := e.Store.Claim(ctx, dlq.Claim{Sink: sink, IDs: ids, Token: uuid.NewString(), TTL: asideLease})
		if err != nil {
			return err
		}
		if len(leased) == 0 {
			break
		}
		settlements := make([]dlq.Settlement, 0, len(leased))
		for _, l := range leased {
			s := dlq.Settlement{Lease: l.Lease, Action: dlq.ActionHold, Error: "imported; it was held"}
			if of[l.ID].item.Parked {
				s.Action, s.Error = dlq.ActionPark, "imported; it was parked"
			}
			if n := len(of[l.ID].item.History); n > 0 {
				s.Error += ": " + of[l.ID].item.History[n-1].Error
			}
			settlements = append(settlements, s)
		}
		results, err := e.Store.Settle(ctx, settlements)
		if err != nil {
			return fmt.Errorf("%w: %w", errAside, err)
		}
		for i, l := range leased {
			aside[l.ID] = results[i] == dlq.SettleApplied
		}
		for i, id := range ids {
			if id == leased[len(leased)-1].ID {
				ids = ids[i+1:]
				break
			}
		}
	}
	return nil
}
