package dlq

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"backstop/lib/fault"
)

// Memory is a Store in this process' memory, for tests and the local host: its dead
// letters are lost at restart. It behaves as Redis does; its cost grows with the depth. It is
// safe for concurrent use.
type Memory struct {
	opts options

	mu     sync.Mutex
	lookup RegistryLookup
	queues map[string]*memoryQueue
	beat   time.Time // see Beat
}

// NewMemory returns an empty store. Options that concern Redis only are ignored.
func NewMemory(opts ...Option) *Memory {
	return &Memory{opts: newOptions(opts), queues: map[string]*memoryQueue{}}
}

var _ Store = (*Memory)(nil)

// memoryQueue is the queue of one sink.
type memoryQueue struct {
	entries    []*memoryEntry            // oldest first
	ids        map[string][]*memoryEntry // by push key: what waits, oldest first
	groups     map[string]*Group
	causes     map[string]*memoryCause // by group; those that are empty too
	claims     map[string]*memoryClaim // by token
	operations map[string]*OperationCounts
	lastMS     uint64
	lastSeq    uint64
	canceled   map[string]time.Time // by the delivery's key: until when it is noted
	trimmed    int64
	retired    int64
	retireAt   string // native id after which Retire goes on; empty: the oldest
	journal    memoryJournal
	paused     bool
	pushed     bool // ever
	gate       string
	gateUntil  time.Time
}

type memoryEntry struct {
	entry
	reason Reason
	token  string // of the lease, which ends at until; empty: none
	quiet  bool   // nothing is sent under the lease
}

type memoryClaim struct {
	leased  map[string]bool // native ids; false once settled
	expires time.Time
}

func (m *Memory) queue(sink string) *memoryQueue {
	q := m.queues[sink]
	if q == nil {
		q = &memoryQueue{
			ids: map[string][]*memoryEntry{}, groups: map[string]*Group{}, causes: map[string]*memoryCause{},
			claims: map[string]*memoryClaim{}, operations: map[string]*OperationCounts{},
			canceled: map[string]time.Time{},
			journal:  memoryJournal{ended: map[string]bool{}, unjournaled: map[string]bool{}},
		}
		m.queues[sink] = q
	}
	return q
}

func (e *memoryEntry) leased(now time.Time) bool { return now.Before(e.until) }

// unlease ends the entry's lease.
func (e *memoryEntry) unlease() { e.token, e.until, e.quiet = "", time.Time{}, false }

// expired reports whether the entry's time is over, or it was marked.
func (e *memoryEntry) expired(now time.Time) bool { return e.state.Expired > 0 || e.over(now) }

func (e *memoryEntry) over(now time.Time) bool {
	return e.expires > 0 && e.expires <= now.UnixMilli()
}

// overdue reports whether the entry's time is over and it is to be marked.
func (e *memoryEntry) overdue(now time.Time) bool {
	return e.over(now) && e.state.Expired == 0 && e.state.DeliveredAt == 0
}

// stateAt is the state of the entry's item as the queue counts and claims it: one whose time
// is over is what it was until it is marked. What is pushed here can be read.
func (e *memoryEntry) stateAt(now time.Time) State {
	return e.withState(Item{Reason: e.reason}).State(now)
}

// unleased is the entry as it would be without its lease.
func (e *memoryEntry) unleased() *memoryEntry {
	c := *e
	c.unlease()
	return &c
}

// dueAt is when the entry became or becomes due, in Unix milliseconds.
func (e *memoryEntry) dueAt() int64 {
	if e.due > 0 {
		return e.due
	}
	return e.pushedAt().UnixMilli()
}

func (q *memoryQueue) find(native string) *memoryEntry {
	i, ok := slices.BinarySearchFunc(q.entries, native, func(e *memoryEntry, n string) int { return CompareNative(e.native, n) })
	if !ok {
		return nil
	}
	return q.entries[i]
}

func (q *memoryQueue) remove(e *memoryEntry) {
	q.end(e)
	delete(q.journal.unjournaled, e.native)
	delete(q.journal.unjournaled, stateNote+e.native)
	i := slices.Index(q.entries, e)
	q.entries = slices.Delete(q.entries, i, i+1)
	q.strike(e)
	if g := q.groups[e.group]; g != nil {
		if g.Count--; g.Count == 0 {
			delete(q.groups, e.group)
		}
	}
}

// strike takes an entry off its push key.
func (q *memoryQueue) strike(e *memoryEntry) {
	left := slices.DeleteFunc(q.ids[e.pushKey], func(other *memoryEntry) bool { return other == e })
	if len(left) == 0 {
		delete(q.ids, e.pushKey)
	} else {
		q.ids[e.pushKey] = left
	}
}

func (q *memoryQueue) kept() (n int) {
	for _, e := range q.entries {
		if e.state.DeliveredAt > 0 {
			n++
		}
	}
	return n
}

// SetRegistryLookup implements Store.
func (m *Memory) SetRegistryLookup(l RegistryLookup) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lookup = l
}

// Push implements DLQ.
func (m *Memory) Push(ctx context.Context, it Item) error {
	_, err := m.Add(ctx, it)
	return err
}

// AddBatch implements Store.
func (m *Memory) AddBatch(ctx context.Context, items []Item) ([]Item, []error) {
	stored, errs := make([]Item, len(items)), make([]error, len(items))
	for i, it := range items {
		stored[i], errs[i] = m.Add(ctx, it)
	}
	return stored, errs
}

// Add implements Store.
func (m *Memory) Add(ctx context.Context, it Item) (Item, error) {
	if err := ctx.Err(); err != nil {
		return Item{}, unavailable("push", err)
	}
	now := time.Now()
	it, err := prepare(ctx, it, now)
	if err != nil {
		return Item{}, err
	}
	e, err := newEntry(it, now)
	if err != nil {
		return Item{}, err
	}
	e, trimmed, err := m.add(e, it.Reason, now)
	if err != nil {
		return Item{}, err
	}
	if trimmed > 0 {
		m.opts.onTrim(it.Sink, trimmed)
	}
	it = e.stored(it)
	replays.note(ctx, it.ID)
	return it, nil
}

// add stores e unless its content waits under its push key, and returns what is there then.
func (m *Memory) add(e entry, reason Reason, now time.Time) (stored entry, trimmed int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue(e.sink)
	for _, old := range q.ids[e.pushKey] {
		if old.content == e.content && (old.expires == e.expires || !old.expired(now)) && old.state.SupersededBy == "" {
			q.repeated(old, e.journal)
			e.native = old.native
			e.setNotBefore(old.notBefore)
			return e, 0, nil
		}
	}
	if limit := m.opts.maxLen; limit > 0 {
		if m.opts.overflow != OverflowReject {
			trimmed = q.trim(len(q.entries)-limit+1, now)
		} else if len(q.entries)-q.kept() >= limit {
			return e, 0, overflowError(e.sink, limit)
		}
	}
	e.journaled = m.opts.journal
	return q.store(e, reason, now), trimmed, nil
}

// store adds an entry.
func (q *memoryQueue) store(e entry, reason Reason, now time.Time) entry {
	if ms := uint64(now.UnixMilli()); ms > q.lastMS {
		q.lastMS, q.lastSeq = ms, 0
	} else {
		q.lastSeq++
	}
	q.pushed = true
	e.native = joinNative(q.lastMS, q.lastSeq)
	g := q.groups[e.group]
	if g == nil && len(q.groups) < MaxGroups {
		fingerprint, _, _ := strings.Cut(e.groupText, "\n")
		g = &Group{Sink: e.sink, Reason: reason, Fingerprint: fingerprint}
		q.groups[e.group] = g
	}
	if g != nil {
		g.Count++
	} else {
		e.group, e.groupText = "", ""
	}
	q.cause(e).arrived(e.native, e.pushedAt())
	if e.notBefore == notBeforeExpired {
		e.setNotBefore(notBeforeNever)
		e.state.Expired = now.UnixMilli()
	}
	if delay, err := strconv.ParseInt(e.notBefore, 10, 64); err == nil && delay != 0 {
		e.setNotBefore(strconv.FormatInt(max(now.UnixMilli()+delay, 1), 10))
	}
	me := &memoryEntry{entry: e, reason: reason}
	q.entries = append(q.entries, me)
	same := append(q.ids[e.pushKey], me)
	q.ids[e.pushKey] = same[max(0, len(same)-maxContents):]
	if e.journaled && e.journal == "" {
		q.lacks(e.native)
	}
	return e
}

// trim removes n entries: kept ones first, then the oldest; leased ones never.
func (q *memoryQueue) trim(n int, now time.Time) int {
	done := q.drop(n, now, true)
	return done + q.drop(n-done, now, false)
}

// drop removes up to n entries that nobody leases, or of those the kept ones, oldest first,
// and returns how many it removed.
func (q *memoryQueue) drop(n int, now time.Time, keptOnly bool) int {
	done := 0
	for _, e := range slices.Clone(q.entries) {
		if done >= n {
			break
		}
		if e.leased(now) || keptOnly && e.state.DeliveredAt == 0 {
			continue
		}
		q.remove(e)
		done++
	}
	q.trimmed += int64(done)
	return done
}

// Discard implements DLQ.
func (m *Memory) Discard(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return unavailable("discard", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	parsed, err := m.resolve(id)
	if fault.CodeOf(err) == fault.CodeDLQNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	q := m.queue(parsed.Sink)
	e := q.find(parsed.Native)
	if e == nil {
		return nil
	}
	if e.leased(time.Now()) {
		return leasedError(parsed)
	}
	q.remove(e)
	return nil
}

// Replay implements DLQ.
func (m *Memory) Replay(ctx context.Context, id string) error {
	m.mu.Lock()
	lookup := m.lookup
	parsed, err := m.resolve(id)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	return replay(ctx, m, lookup, parsed)
}

// Pause implements Store.
func (m *Memory) Pause(ctx context.Context, sink string, paused bool) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return unavailable("pause", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.queue(sink).paused = paused
	return nil
}

// Unpark implements Store.
func (m *Memory) Unpark(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return unavailable("unpark", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	parsed, err := m.resolve(id)
	if err != nil {
		return err
	}
	e := m.queue(parsed.Sink).find(parsed.Native)
	now := time.Now()
	switch {
	case e == nil:
		return notFoundError(parsed)
	case e.leased(now):
		return leasedError(parsed)
	}
	if e.expired(now) || e.state.SupersededBy != "" {
		return nil
	}
	switch e.stateAt(now) {
	case StateParked, StateWaiting, StateScheduled:
		if e.token != "" {
			e.outlived(now)
		}
		if e.state.Parked || e.state.Held {
			m.queue(parsed.Sink).changed(e)
		}
		e.state.Parked, e.state.Held = false, false
		e.due = max(now.UnixMilli(), e.pushedAt().UnixMilli()+1)
	}
	return nil
}

// Gate implements Store.
func (m *Memory) Gate(ctx context.Context, sink, token string, ttl time.Duration) (bool, error) {
	if err := checkGate(sink, token, ttl); err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, unavailable("gate", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q, now := m.queue(sink), time.Now()
	if q.gate != "" && q.gate != token && now.Before(q.gateUntil) {
		return false, nil
	}
	q.gate, q.gateUntil = token, now.Add(ttl)
	return true, nil
}

// Ungate implements Store.
func (m *Memory) Ungate(ctx context.Context, sink, token string) error {
	if err := fault.CheckName(sink); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return unavailable("ungate", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if q := m.queue(sink); q.gate == token {
		q.gate = ""
	}
	return nil
}
