package dlq

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"backstop/lib/fault"
)

// memoryJournal is what is kept for a sink's journal.
type memoryJournal struct {
	ended       map[string]bool // addresses
	unjournaled map[string]bool // native ids, and stateNote with one
	known       bool            // something was noted as unjournaled: there is a journal
	token       string          // of who works on it, until until
	until       time.Time
	notes       JournalNotes
}

// end notes that an entry's address is over.
func (q *memoryQueue) end(e *memoryEntry) {
	switch {
	case e.address() != "":
		q.journal.ended[e.address()] = true
	case q.journal.known:
		q.journal.ended[nativeAddress(e.native)] = true
	}
}

// lacks notes that the journal lacks an entry.
func (q *memoryQueue) lacks(native string) {
	q.journal.unjournaled[native], q.journal.known = true, true
}

// changed notes that an entry is parked or held as it was not.
func (q *memoryQueue) changed(e *memoryEntry) {
	if e.address() != "" || q.journal.known {
		q.journal.unjournaled[stateNote+e.native] = true
	}
}

// repeated notes what a push under an address found: the dead letter waits under another, whose
// object may never have been written.
func (q *memoryQueue) repeated(e *memoryEntry, address string) {
	if address != "" && !e.isAt(address) {
		q.journal.ended[address] = true
		q.lacks(e.native)
	}
}

func (q *memoryQueue) view() JournalView {
	return JournalView{
		JournalNotes: q.journal.notes, Known: q.pushed,
		Unjournaled: int64(len(q.journal.unjournaled)), Ending: int64(len(q.journal.ended)),
	}
}

// works reports whether token holds the lease on the journal.
func (j *memoryJournal) works(token string, now time.Time) bool {
	return j.token == token && now.Before(j.until)
}

// lock locks the queue of a sink.
func (m *Memory) lock(ctx context.Context, op, sink string) (*memoryQueue, func(), error) {
	if err := fault.CheckName(sink); err != nil {
		return nil, nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, nil, unavailable(op, err)
	}
	m.mu.Lock()
	return m.queue(sink), m.mu.Unlock, nil
}

// JournalLease implements Journaling.
func (m *Memory) JournalLease(ctx context.Context, sink, token string, ttl time.Duration) (JournalView, bool, error) {
	if err := checkJournal(sink, token); err != nil {
		return JournalView{}, false, err
	}
	q, unlock, err := m.lock(ctx, "journal lease", sink)
	if err != nil {
		return JournalView{}, false, err
	}
	defer unlock()
	j, now := &q.journal, time.Now()
	switch held := j.works(token, now); {
	case ttl <= 0:
		if j.token == token {
			j.token, j.until = "", time.Time{}
		}
		return q.view(), false, nil
	case !held && now.Before(j.until):
		return q.view(), false, nil
	}
	j.token, j.until = token, now.Add(ttl)
	return q.view(), true, nil
}

// SaveJournal implements Journaling.
func (m *Memory) SaveJournal(ctx context.Context, sink, token string, n JournalNotes) error {
	if err := checkJournal(sink, token); err != nil {
		return err
	}
	kept, err := copyNotes(n)
	if err != nil {
		return err
	}
	q, unlock, err := m.lock(ctx, "save journal", sink)
	if err != nil {
		return err
	}
	defer unlock()
	if !q.journal.works(token, time.Now()) {
		return ErrJournalTaken
	}
	q.journal.notes = kept
	return nil
}

// copyNotes are the notes as they are read again.
func copyNotes(n JournalNotes) (JournalNotes, error) {
	b, err := json.Marshal(n)
	if err != nil {
		return JournalNotes{}, invalid("notes of a journal cannot be encoded: %v", err)
	}
	var kept JournalNotes
	err = json.Unmarshal(b, &kept)
	return kept, err
}

// NoteUnjournaled implements Journaling.
func (m *Memory) NoteUnjournaled(ctx context.Context, sink string, ids []string) error {
	natives, err := checkNatives(sink, ids)
	if err != nil {
		return err
	}
	q, unlock, err := m.lock(ctx, "note unjournaled", sink)
	if err != nil {
		return err
	}
	defer unlock()
	for _, n := range natives {
		q.lacks(n)
	}
	return nil
}

// NoteEnded implements Journaling.
func (m *Memory) NoteEnded(ctx context.Context, sink string, addresses []string) error {
	if err := checkAddresses(addresses); err != nil {
		return err
	}
	q, unlock, err := m.lock(ctx, "note ended", sink)
	if err != nil {
		return err
	}
	defer unlock()
	for _, a := range addresses {
		q.journal.ended[a] = true
	}
	return nil
}

// Unjournaled implements Journaling.
func (m *Memory) Unjournaled(ctx context.Context, sink string, limit int) ([]Unjournaled, error) {
	q, unlock, err := m.lock(ctx, "unjournaled", sink)
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := []Unjournaled{}
	size := 0
	for member := range q.journal.unjournaled {
		native, state := strings.CutPrefix(member, stateNote)
		e := q.find(native)
		if e == nil || e.state.DeliveredAt > 0 {
			delete(q.journal.unjournaled, member)
			continue
		}
		if len(out) < limit && (len(out) == 0 || size < unjournaledBytes) {
			out = append(out, e.unjournaled(state))
			size += len(e.item)
		}
	}
	return out, nil
}

// Ended implements Journaling. The cursor is the last address.
func (m *Memory) Ended(ctx context.Context, sink, cursor string, limit int) (addresses []string, next string, err error) {
	q, unlock, err := m.lock(ctx, "ended", sink)
	if err != nil {
		return nil, "", err
	}
	defer unlock()
	addresses = []string{}
	for _, a := range slices.Sorted(maps.Keys(q.journal.ended)) {
		if a <= cursor {
			continue
		}
		if len(addresses) >= max(limit, 1) {
			return addresses, addresses[len(addresses)-1], nil
		}
		addresses = append(addresses, a)
	}
	return addresses, "", nil
}

// AreEnded implements Journaling.
func (m *Memory) AreEnded(ctx context.Context, sink string, addresses []string) ([]bool, error) {
	q, unlock, err := m.lock(ctx, "are ended", sink)
	if err != nil {
		return nil, err
	}
	defer unlock()
	out := make([]bool, len(addresses))
	for i, a := range addresses {
		out[i] = q.journal.ended[a]
	}
	return out, nil
}

// Journaled implements Journaling.
func (m *Memory) Journaled(ctx context.Context, sink, token string, d JournalDone) error {
	written, states, err := checkDone(sink, token, d)
	if err != nil {
		return err
	}
	q, unlock, err := m.lock(ctx, "journaled", sink)
	if err != nil {
		return err
	}
	defer unlock()
	if !q.journal.works(token, time.Now()) {
		return ErrJournalTaken
	}
	for _, a := range d.Ended {
		delete(q.journal.ended, a)
	}
	for _, n := range written {
		delete(q.journal.unjournaled, n)
	}
	for i, n := range states {
		e := q.find(n)
		if was := d.States[i]; e == nil || e.state.Parked == was.Parked && e.state.Held == was.Held && e.state.SupersededBy == was.SupersededBy {
			delete(q.journal.unjournaled, stateNote+n)
		}
	}
	return nil
}

// waiting returns the entries that wait, by identity: of several the newest.
func (q *memoryQueue) waiting() map[Identity]*memoryEntry {
	all := map[Identity]*memoryEntry{}
	for _, e := range q.entries {
		if e.state.DeliveredAt == 0 {
			all[e.identity()] = e
		}
	}
	return all
}

// Present implements Journaling.
func (m *Memory) Present(ctx context.Context, sink string, of []Identity) ([]Present, error) {
	if err := checkIdentities(sink, of); err != nil {
		return nil, err
	}
	q, unlock, err := m.lock(ctx, "present", sink)
	if err != nil {
		return nil, err
	}
	defer unlock()
	waiting := q.waiting()
	out := make([]Present, len(of))
	for i, id := range of {
		if e := waiting[id]; e != nil {
			out[i] = e.present()
		}
	}
	return out, nil
}

// PresentAfter implements Journaling.
func (m *Memory) PresentAfter(ctx context.Context, sink, after string, limit int) (found []Present, next string, err error) {
	after, limit, err = checkAfter(sink, after, limit)
	if err != nil {
		return nil, "", err
	}
	q, unlock, err := m.lock(ctx, "present", sink)
	if err != nil {
		return nil, "", err
	}
	defer unlock()
	found = []Present{}
	for _, e := range q.entries {
		if CompareNative(e.native, after) <= 0 {
			continue
		}
		if len(found) == limit {
			return found, after, nil
		}
		after = e.native
		if e.state.DeliveredAt == 0 {
			found = append(found, e.present())
		}
	}
	return found, "", nil
}

// Return implements Journaling.
func (m *Memory) Return(ctx context.Context, sink, token string, over int, letters []Letter) ([]Returned, error) {
	now := time.Now()
	entries, err := checkReturn(sink, token, letters, now)
	if err != nil {
		return nil, err
	}
	q, unlock, err := m.lock(ctx, "return", sink)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !q.journal.works(token, now) {
		return nil, ErrJournalTaken
	}
	out := make([]Returned, len(letters))
	for i, e := range entries {
		e.journaled = m.opts.journal
		out[i] = m.giveBack(q, e, letters[i].Item, max(over, 0), now)
	}
	return out, nil
}

// giveBack pushes an entry again that the journal has.
func (m *Memory) giveBack(q *memoryQueue, e entry, it Item, over int, now time.Time) Returned {
	if q.journal.ended[e.journal] || q.journal.ended[nativeSpelling(e.journal)] {
		return Returned{Status: ReturnEnded}
	}
	if old := q.waiting()[e.identity()]; old != nil {
		q.repeated(old, e.journal)
		return Returned{Status: ReturnExists, ID: old.id().String()}
	}
	if q.isCanceled(e.deliveryKeyOf(it.DeliveryID), now) {
		return Returned{Status: ReturnCanceled}
	}
	if limit := m.opts.maxLen; limit > 0 && len(q.entries)-q.kept() >= limit+over {
		return Returned{Status: ReturnFull}
	}
	state := e.state
	e = q.store(e, it.Reason, now)
	stored := q.find(e.native)
	if state.Parked || state.Held {
		stored.due = 0 // not by itself
	}
	return Returned{Status: ReturnStored, ID: e.id().String()}
}

// Retire implements Journaling.
func (m *Memory) Retire(ctx context.Context, sink string, before time.Time) (retired int64, more bool, err error) {
	q, unlock, err := m.lock(ctx, "retire", sink)
	if err != nil {
		return 0, false, err
	}
	defer unlock()
	now, looked := time.Now(), 0
	from := q.retireAt
	q.retireAt = ""
	for _, e := range slices.Clone(q.entries) {
		if from != "" && CompareNative(e.native, from) <= 0 {
			continue
		}
		if !e.pushedAt().Before(before) {
			break
		}
		if looked == maxRetire {
			more = true
			break
		}
		looked++
		q.retireAt = e.native
		if !e.leased(now) && (e.over(now) || !e.unleased().stateAt(now).Scheduled()) {
			q.remove(e)
			retired++
		}
	}
	if !more {
		q.retireAt = ""
	}
	q.retired += retired
	return retired, more, nil
}
