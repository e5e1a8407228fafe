package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"backstop/internal/strictjson"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// Bounds of one import. A page of an export fits.
const (
	maxImport      = maxAnswer // bytes
	maxImportLines = maxPage
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

// importStatus is what became of a line.
type importStatus string

const (
	importStored   importStatus = "stored"
	importExists   importStatus = "exists"
	importSkipped  importStatus = "skipped"
	importRejected importStatus = "rejected"
	importFailed   importStatus = "failed"
)

// importLine is one line of an import and its result.
type importLine struct {
	Line       int          `json:"line"`
	Status     importStatus `json:"status"` // empty: not decided yet
	ID         string       `json:"id,omitempty"`
	DeliveryID string       `json:"delivery_id,omitempty"`
	Code       fault.Code   `json:"code,omitempty"`
	Error      string       `json:"error,omitempty"`

	item dlq.Item
	err  error
}

// fail decides the line by an error.
func (l *importLine) fail(err error) {
	p := problemOf(err)
	l.Status, l.Code, l.Error, l.err = importFailed, p.Code, p.Detail, err
	if p.Code == fault.CodeInvalidArgument {
		l.Status = importRejected
	}
}

func (l *importLine) aside() bool { return l.item.Parked || l.item.Held }

// importItems stores the items of an export.
func (h *api) importItems(w http.ResponseWriter, r *http.Request) error {
	lines, err := readLines(w, r)
	if err != nil {
		return err
	}
	ctx := r.Context()
	h.each(lines, func(l *importLine) { h.find(ctx, l) })
	newest := h.newest(ctx, lines)
	h.store(ctx, lines, newest)
	h.each(lines, func(l *importLine) { h.noteImported(ctx, l) })
	h.putAside(ctx, lines)

	counts := map[importStatus]int{}
	var failure error
	for i := range lines {
		counts[lines[i].Status]++
		if lines[i].Status == importFailed && failure == nil {
			failure = lines[i].err
		}
	}
	if failure != nil && counts[importFailed] == len(lines) {
		return failure
	}
	h.audit(ctx, "imported", "stored", counts[importStored], "exists", counts[importExists], "skipped", counts[importSkipped],
		"rejected", counts[importRejected], "failed", counts[importFailed])
	return answer(w, http.StatusOK, map[string]any{
		"stored": counts[importStored], "exists": counts[importExists], "skipped": counts[importSkipped],
		"rejected": counts[importRejected], "failed": counts[importFailed], "results": lines,
	})
}

// readLines reads the body. What can be decided of a line by itself is.
func readLines(w http.ResponseWriter, r *http.Request) ([]importLine, error) {
	body, err := readBody(w, r, maxImport)
	if err != nil {
		return nil, err
	}
	lines := []importLine{}
	n := 0
	for text := range bytes.Lines(body) {
		n++
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if len(lines) == maxImportLines {
			return nil, invalid("request body: more than %d items; import them in parts", maxImportLines)
		}
		l := importLine{Line: n}
		l.read(text)
		lines = append(lines, l)
	}
	return lines, nil
}

// read decodes a line strictly: a member that is not known would be lost.
func (l *importLine) read(text []byte) {
	var in struct {
		dlq.Shown                // its state is not kept: it is what comes of the item here
		Message   *sinks.Message `json:"message"`
	}
	if err := strictjson.Decode(text, &in); err != nil {
		l.fail(invalid("%s", strictjson.Text("line", err)))
		return
	}
	l.item, l.DeliveryID = in.Item, in.DeliveryID
	switch {
	case in.Sink == "":
		l.fail(invalid("sink: missing"))
	case fault.CheckName(in.Sink) != nil:
		l.fail(fault.CheckName(in.Sink))
	case in.DecodeError != "":
		l.fail(invalid("decode_error: an item that could not be read cannot be stored"))
	case in.Message == nil:
		l.fail(invalid("message: missing"))
	case in.Replays < 0 || in.Replays > maxTries:
		l.fail(invalid("replays: want 0 to %d", maxTries))
	case in.Attempts < 0 || in.Attempts > maxTries:
		l.fail(invalid("attempts: want 0 to %d", maxTries))
	case !in.DeliveredAt.IsZero():
		l.Status, l.Error = importSkipped, "it was delivered at "+in.DeliveredAt.Format(time.RFC3339)
	default:
		l.item.Message = *in.Message
		if l.DeliveryID == "" {
			l.DeliveryID = in.Message.ID
		}
	}
}

// each calls f for every line that is not decided, several at once.
func (h *api) each(lines []importLine, f func(*importLine)) {
	var g errgroup.Group
	g.SetLimit(importCalls)
	for i := range lines {
		if l := &lines[i]; l.Status == "" || l.Status == importStored {
			g.Go(func() error {
				f(l)
				return nil
			})
		}
	}
	_ = g.Wait() // its functions return nil
}

// find looks for what is known of a line's item: it may be here still, or have been
// delivered since the export.
func (h *api) find(ctx context.Context, l *importLine) {
	if id, err := dlq.ParseID(l.item.ID); err == nil && id.Sink == l.item.Sink {
		it, err := h.app.Queue.Get(ctx, l.item.ID)
		switch {
		case err == nil && it.DeliveryID == l.DeliveryID && delivery.FingerprintOf(it) == delivery.FingerprintOf(l.item):
			l.Status, l.ID = importExists, it.ID
			return
		case err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound:
			l.fail(err)
			return
		}
	}
	if l.DeliveryID == "" {
		return
	}
	rec, known, err := h.app.Records.Get(ctx, delivery.Key{Sink: l.item.Sink, ID: l.DeliveryID})
	if err != nil { // it narrows duplicates; the dead letter counts for more
		h.app.Log.WarnContext(ctx, "delivery record not read", "delivery_id", l.DeliveryID, "error", err.Error())
		return
	}
	if known && rec.Status == delivery.StatusDelivered && rec.Fingerprint == delivery.FingerprintOf(l.item) {
		l.Status, l.Error = importSkipped, "it was delivered at "+rec.UpdatedAt.Format(time.RFC3339)
	}
}

// newest returns the newest native id of each sink with lines to store: ids after it are
// of items that this import stored. Lines of sinks that cannot be read are decided.
func (h *api) newest(ctx context.Context, lines []importLine) map[string]string {
	bySink := map[string][]*importLine{}
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
			stats, err := h.app.Queue.Stats(ctx, sink)
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
func (h *api) store(ctx context.Context, lines []importLine, newest map[string]string) {
	var of []*importLine
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
	stored, errs := h.app.Queue.AddBatch(ctx, items)
	for i, l := range of {
		if errs[i] != nil {
			l.fail(errs[i])
			continue
		}
		l.Status, l.ID, l.DeliveryID = importExists, stored[i].ID, stored[i].DeliveryID
		id, err := dlq.ParseID(l.ID)
		before := newest[l.item.Sink]
		if err == nil && !seen[l.ID] && (before == "" || dlq.CompareNative(id.Native, before) > 0) {
			l.Status = importStored
		}
		seen[l.ID] = true
	}
}

// oldestFirst orders lines as they were stored before: an export is newest first, and what
// is due is replayed in the order of the queue.
func oldestFirst(of []*importLine) {
	age := func(it dlq.Item) string {
		if id, err := dlq.ParseID(it.ID); err == nil {
			return id.Native
		}
		return fmt.Sprintf("%d-0", max(it.At.UnixMilli(), 0))
	}
	slices.SortStableFunc(of, func(a, b *importLine) int { return dlq.CompareNative(age(a.item), age(b.item)) })
}

// noteImported tells the delivery's record that it is a dead letter again: what was
// discarded is, and a later import knows by it what was replayed meanwhile. A replay of
// what an earlier import stored may have ended since this one looked: then its item goes.
func (h *api) noteImported(ctx context.Context, l *importLine) {
	if l.Status != importStored || l.DeliveryID == "" {
		return
	}
	it := l.item
	it.ID, it.DeliveryID = l.ID, l.DeliveryID
	statuses, err := h.app.Records.Update(ctx, delivery.ChangeOf(it, delivery.StatusDeadLettered))
	if err != nil {
		h.app.Log.WarnContext(ctx, "idempotency record not updated", "delivery_id", l.DeliveryID, "error", err.Error())
		return
	}
	if statuses[0] != delivery.StatusDelivered {
		return
	}
	if err := h.app.Queue.Discard(ctx, l.ID); err != nil {
		l.fail(err)
		return
	}
	l.Status, l.ID, l.Error = importSkipped, "", "it was delivered while it was imported"
}

// putAside parks or holds what was parked or held: a push alone would make it due.
func (h *api) putAside(ctx context.Context, lines []importLine) {
	bySink := map[string]map[string]*importLine{}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(importCalls)
	for i := range lines {
		l := &lines[i]
		if !l.aside() || l.Status != importStored && l.Status != importExists || l.ID == l.item.ID {
			continue
		}
		g.Go(func() error {
			it, err := h.app.Queue.Get(ctx, l.ID)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case fault.CodeOf(err) == fault.CodeDLQNotFound:
			case err != nil:
				l.fail(err)
			case untouched(it):
				if bySink[it.Sink] == nil {
					bySink[it.Sink] = map[string]*importLine{}
				}
				bySink[it.Sink][it.ID] = l
			}
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	for sink, of := range bySink {
		if err := h.settleAside(ctx, sink, of); err != nil {
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
func (h *api) settleAside(ctx context.Context, sink string, of map[string]*importLine) error {
	ids := make([]string, 0, len(of))
	for id := range of {
		ids = append(ids, id)
	}
	aside := map[string]bool{}
	defer func() {
		for id, l := range of {
			if !aside[id] && l.Status != importFailed {
				l.fail(errHeld)
			}
		}
	}()
	for len(ids) > 0 {
		leased, err := h.app.Queue.Claim(ctx, dlq.Claim{Sink: sink, IDs: ids, Token: uuid.NewString(), TTL: asideLease})
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
		results, err := h.app.Queue.Settle(ctx, settlements)
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
