package dlq

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"backstop/lib/sinks"
)

// Memory is a Store in this process' memory, for tests and the local host: its dead
// letters are lost at restart. It behaves as Redis does; its cost grows with the depth.
type Memory struct {
	opts options

	mu     sync.Mutex
	lookup RegistryLookup
	queues map[string]*memoryQueue
}

// NewMemory returns an empty store. Options that concern Redis only are ignored.
func NewMemory(opts ...Option) *Memory {
	return &Memory{opts: newOptions(opts), queues: map[string]*memoryQueue{}}
}

var _ Store = (*Memory)(nil)

// memoryQueue is the queue of one sink.
type memoryQueue struct {
	entries    []*memoryEntry // oldest first
	ids        map[string]*memoryEntry
	groups     map[string]*Group
	claims     map[string]*memoryClaim // by token
	operations map[string]*OperationCounts
	lastMS     uint64
	lastSeq    uint64
	trimmed    int64
	paused     bool
	pushed     bool // ever
	gate       string
	gateUntil  time.Time
}

type memoryEntry struct {
	entry
	// idle entries are not due by themselves; others are due at due, or since their
	// push when that is 0.
	idle  bool
	token string // of the lease; empty: none
	until time.Time
}

type memoryClaim struct {
	leased  map[string]bool // native ids; false once settled
	expires time.Time
}

func (m *Memory) queue(sink string) *memoryQueue {
	q := m.queues[sink]
	if q == nil {
		q = &memoryQueue{
			ids: map[string]*memoryEntry{}, groups: map[string]*Group{},
			claims: map[string]*memoryClaim{}, operations: map[string]*OperationCounts{},
		}
		m.queues[sink] = q
	}
	return q
}

func (e *memoryEntry) leased(now time.Time) bool { return e.token != "" && now.Before(e.until) }

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
	i := slices.Index(q.entries, e)
	q.entries = slices.Delete(q.entries, i, i+1)
	if q.ids[e.pushKey] == e {
		delete(q.ids, e.pushKey)
	}
	if g := q.groups[e.group]; g != nil {
		if g.Count--; g.Count == 0 {
			delete(q.groups, e.group)
		}
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
	e, err := newEntry(it)
	if err != nil {
		return Item{}, err
	}
	native, trimmed, err := m.add(e, now)
	if err != nil {
		return Item{}, err
	}
	if trimmed > 0 {
		m.opts.onTrim(it.Sink, trimmed)
	}
	e.native = native
	it = e.stored(it)
	if c := carrierOf(ctx); c != nil {
		c.again.Store(&it.ID)
	}
	return it, nil
}

func (m *Memory) add(e entry, now time.Time) (native string, trimmed int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue(e.sink)
	if old := q.ids[e.pushKey]; old != nil {
		return old.native, 0, nil
	}
	if limit := m.opts.maxLen; limit > 0 {
		if m.opts.overflow != OverflowReject {
			trimmed = q.trim(len(q.entries)-limit+1, now)
		} else if len(q.entries)-q.kept() >= limit {
			return "", 0, overflowError(e.sink, limit)
		}
	}
	if ms := uint64(now.UnixMilli()); ms > q.lastMS {
		q.lastMS, q.lastSeq = ms, 0
	} else {
		q.lastSeq++
	}
	q.pushed = true
	e.native = joinNative(q.lastMS, q.lastSeq)
	g := q.groups[e.group]
	if g == nil && len(q.groups) < MaxGroups {
		fingerprint, reason, _ := strings.Cut(e.groupText, "\n")
		g = &Group{Sink: e.sink, Reason: Reason(reason), Fingerprint: fingerprint}
		q.groups[e.group] = g
	}
	if g != nil {
		g.Count++
	} else {
		e.group = ""
	}
	me := &memoryEntry{entry: e, idle: e.notBefore == notBeforeNever}
	q.entries = append(q.entries, me)
	q.ids[e.pushKey] = me
	return e.native, trimmed, nil
}

// trim removes n entries: kept ones first, then the oldest; leased ones never.
func (q *memoryQueue) trim(n int, now time.Time) int {
	done := 0
	for _, keptOnly := range []bool{true, false} {
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
	}
	q.trimmed += int64(done)
	return done
}

// Sinks implements Store.
func (m *Memory) Sinks(ctx context.Context) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, unavailable("sinks", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name, q := range m.queues {
		if q.pushed {
			names = append(names, name)
		}
	}
	return unite(names, m.opts.sinks()), nil
}

// unite returns the names in both lists, sorted, without bad ones.
func unite(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(all, func(s string) bool { return sinks.CheckName(s) != nil })
}

// names returns the sink asked for, or all when sink is empty.
func namesOf(ctx context.Context, s Store, sink string) ([]string, error) {
	if sink == "" {
		return s.Sinks(ctx)
	}
	if err := sinks.CheckName(sink); err != nil {
		return nil, err
	}
	return []string{sink}, nil
}

// Items implements DLQ.
func (m *Memory) Items(ctx context.Context, sink string, limit int) ([]Item, error) {
	return items(ctx, m, sink, limit)
}

// items pages through a store.
func items(ctx context.Context, s Store, sink string, limit int) ([]Item, error) {
	if limit <= 0 {
		limit = DefaultLimit
	}
	all := []Item{}
	q := Query{Sink: sink}
	for {
		q.Limit = min(limit-len(all), maxPage)
		p, err := s.Page(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, p.Items...)
		if p.NextCursor == "" || len(all) >= limit {
			return all, nil
		}
		q.Cursor = p.NextCursor
	}
}

// Count implements DLQ.
func (m *Memory) Count(ctx context.Context, sink string) (int64, error) {
	names, err := namesOf(ctx, m, sink)
	if err != nil {
		return -1, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var n int64
	for _, name := range names {
		n += int64(len(m.queue(name).entries))
	}
	return n, nil
}

// resolve finds the sink of a bare native id.
func (m *Memory) resolve(id string) (ID, error) {
	parsed, err := ParseID(id)
	if err != nil || parsed.Sink != "" {
		return parsed, err
	}
	var in []string
	for name, q := range m.queues {
		if q.find(parsed.Native) != nil {
			in = append(in, name)
		}
	}
	return oneSink(parsed.Native, in)
}

// oneSink picks the sink of a bare native id from those that have it.
func oneSink(native string, in []string) (ID, error) {
	switch len(in) {
	case 0:
		return ID{}, notFoundError(ID{Native: native})
	case 1:
		return ID{Sink: in[0], Native: native}, nil
	}
	slices.Sort(in)
	return ID{}, invalid("item id %s is in several sinks (%s): say <sink>~%s", native, strings.Join(in, ", "), native)
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, id string) (Item, error) {
	if err := ctx.Err(); err != nil {
		return Item{}, unavailable("get", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	parsed, err := m.resolve(id)
	if err != nil {
		return Item{}, err
	}
	if e := m.queue(parsed.Sink).find(parsed.Native); e != nil {
		return e.decode(), nil
	}
	return Item{}, notFoundError(parsed)
}

// Page implements Store.
func (m *Memory) Page(ctx context.Context, q Query) (Page, error) {
	if err := checkQuery(q); err != nil {
		return Page{}, err
	}
	names, err := namesOf(ctx, m, q.Sink)
	if err != nil {
		return Page{}, err
	}
	return page(ctx, memoryReader{m}, names, q)
}

type memoryReader struct{ m *Memory }

func (r memoryReader) newest(ctx context.Context, spans []span) ([]*entry, error) {
	heads := make([]*entry, len(spans))
	for i, s := range spans {
		entries, _, err := r.read(ctx, s, 1)
		if err != nil {
			return nil, err
		}
		if len(entries) > 0 {
			heads[i] = &entries[0]
		}
	}
	return heads, nil
}

func (r memoryReader) read(ctx context.Context, s span, n int) ([]entry, bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, false, unavailable("page", err)
	}
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	var out []entry
	for _, e := range slices.Backward(r.m.queue(s.sink).entries) {
		if CompareNative(e.native, s.newest) > 0 || CompareNative(e.native, s.oldest) < 0 {
			continue
		}
		if len(out) == n {
			return out, true, nil
		}
		c := e.entry
		c.size = len(c.item)
		out = append(out, c)
	}
	return out, false, nil
}

// complete has nothing to do: an entry is read with its state.
func (memoryReader) complete(context.Context, []*entry) error { return nil }

// Stats implements Store.
func (m *Memory) Stats(ctx context.Context, sink string) (Stats, error) {
	if err := sinks.CheckName(sink); err != nil {
		return Stats{}, err
	}
	if err := ctx.Err(); err != nil {
		return Stats{}, unavailable("stats", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue(sink)
	st := Stats{Depth: int64(len(q.entries)), Kept: int64(q.kept()), Trimmed: q.trimmed, Paused: q.paused}
	for _, e := range q.entries {
		if !e.idle {
			st.Due++
		}
		if e.state.Parked {
			st.Parked++
		}
	}
	if len(q.entries) > 0 {
		st.OldestAt, st.NewestID = q.entries[0].pushedAt(), q.entries[len(q.entries)-1].native
	}
	return st, nil
}

// Groups implements Store.
func (m *Memory) Groups(ctx context.Context, sink string) ([]Group, error) {
	names, err := namesOf(ctx, m, sink)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	groups := []Group{}
	for _, name := range names {
		q := m.queue(name)
		other := int64(len(q.entries))
		for _, g := range q.groups {
			groups = append(groups, *g)
			other -= g.Count
		}
		groups = appendOther(groups, name, other)
	}
	sortGroups(groups)
	return groups, nil
}

func appendOther(groups []Group, sink string, n int64) []Group {
	if n <= 0 {
		return groups
	}
	return append(groups, Group{Sink: sink, Fingerprint: FingerprintOther, Count: n})
}

func sortGroups(groups []Group) {
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Sink, b.Sink),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
}

// checkClaim completes a claim.
func checkClaim(c Claim) (Claim, []string, error) {
	if err := sinks.CheckName(c.Sink); err != nil {
		return c, nil, err
	}
	if c.TTL < time.Millisecond {
		return c, nil, invalid("claim: the lease's length %s is below 1ms", c.TTL)
	}
	if c.Token == "" {
		c.Token = uuid.NewString()
	}
	if !opaqueName.MatchString(c.Token) {
		return c, nil, invalid("claim: token %.80q does not match %s", c.Token, opaqueName)
	}
	if len(c.IDs) > maxPage {
		return c, nil, invalid("claim: %d ids are more than %d", len(c.IDs), maxPage)
	}
	if c.Limit <= 0 {
		c.Limit = max(1, len(c.IDs))
	}
	c.Limit = min(c.Limit, maxPage)
	natives := make([]string, 0, len(c.IDs))
	for _, s := range c.IDs {
		id, err := ParseID(s)
		if err != nil {
			return c, nil, err
		}
		if id.Sink != "" && id.Sink != c.Sink {
			return c, nil, invalid("claim: item %s is not of sink %s", id, c.Sink)
		}
		if !slices.Contains(natives, id.Native) {
			natives = append(natives, id.Native)
		}
	}
	return c, natives, nil
}

// Claim implements Store.
func (m *Memory) Claim(ctx context.Context, c Claim) ([]Leased, error) {
	c, natives, err := checkClaim(c)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, unavailable("claim", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q, now := m.queue(c.Sink), time.Now()
	maps.DeleteFunc(q.claims, func(_ string, cl *memoryClaim) bool { return now.After(cl.expires) })
	var out []Leased
	lease := func(e *memoryEntry) {
		out = append(out, Leased{Lease: Lease{ID: e.id().String(), Token: c.Token, Expires: e.until}, Item: e.decode()})
	}
	if cl := q.claims[c.Token]; cl != nil && len(natives) == 0 {
		for _, e := range q.entries {
			if e.token == c.Token && cl.leased[e.native] {
				lease(e)
			}
		}
		return out, nil
	}
	for _, e := range q.candidates(c, natives, now) {
		if e.token != c.Token {
			e.token, e.until = c.Token, now.Add(c.TTL)
			cl := q.claims[c.Token]
			if cl == nil {
				cl = &memoryClaim{leased: map[string]bool{}, expires: e.until.Add(claimRetention)}
				q.claims[c.Token] = cl
			}
			cl.leased[e.native] = true
		}
		lease(e)
	}
	return out, nil
}

// candidates returns the entries that a claim takes, in order.
func (q *memoryQueue) candidates(c Claim, natives []string, now time.Time) []*memoryEntry {
	var out []*memoryEntry
	if len(natives) > 0 {
		for _, n := range natives {
			e := q.find(n)
			if e == nil || e.leased(now) && e.token != c.Token || e.state.DeliveredAt > 0 && !c.Force || len(out) == c.Limit {
				continue
			}
			out = append(out, e)
		}
		return out
	}
	if q.paused {
		return nil
	}
	for _, e := range q.entries {
		if !e.leased(now) && !e.idle && e.dueAt() <= now.UnixMilli() {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b *memoryEntry) int { return cmp.Compare(a.dueAt(), b.dueAt()) })
	return out[:min(len(out), c.Limit)]
}

// Settle implements Store.
func (m *Memory) Settle(ctx context.Context, s []Settlement) ([]SettleResult, error) {
	ids, err := checkSettlements(s)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, unavailable("settle", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	out := make([]SettleResult, len(s))
	for i, st := range s {
		q := m.queue(ids[i].Sink)
		cl := q.claims[st.Token]
		e := q.find(ids[i].Native)
		if e == nil || e.token == "" || e.token != st.Token {
			out[i] = SettleFenced
			if cl != nil {
				if held, known := cl.leased[ids[i].Native]; known && !held {
					out[i] = SettleApplied
				}
			}
			continue
		}
		out[i] = SettleApplied
		e.token = ""
		if cl != nil {
			cl.leased[e.native] = false
		}
		q.settle(e, st, now)
	}
	return out, nil
}

func (q *memoryQueue) settle(e *memoryEntry, st Settlement, now time.Time) {
	if st.Operation != "" {
		if q.operations[st.Operation] == nil {
			q.operations[st.Operation] = &OperationCounts{}
		}
		q.operations[st.Operation].count(st.Action)
	}
	if st.Action == ActionDiscard || st.Action == ActionDrop {
		q.remove(e)
		return
	}
	if st.Charge {
		e.state.Replays++
	}
	if st.Charge || st.Error != "" || st.Action == ActionKeep {
		e.state.History = append(e.state.History, historyEntry{At: now.UnixMilli(), Error: cut(st.Error, maxErrorText)})
		e.state.History = slices.Clone(e.state.History[max(0, len(e.state.History)-MaxHistory):])
	}
	delivered := e.state.DeliveredAt > 0
	e.due, e.idle = 0, true
	e.state.Parked, e.state.Held = false, false
	switch {
	case st.Action == ActionKeep:
		e.state.DeliveredAt = now.UnixMilli()
		if q.ids[e.pushKey] == e {
			delete(q.ids, e.pushKey)
		}
	case delivered:
	case st.Action == ActionRetry:
		e.due, e.idle = max(now.Add(max(st.Delay, 0)).UnixMilli(), e.pushedAt().UnixMilli()+1), false
	case st.Action == ActionPark:
		e.state.Parked = true
	case st.Action == ActionHold:
		e.state.Held = true
	}
}

func (c *OperationCounts) count(a Action) {
	c.Settled++
	switch a {
	case ActionDiscard, ActionKeep:
		c.Delivered++
	case ActionDrop:
		c.Discarded++
	case ActionRetry, ActionPark, ActionHold:
		c.Failed++
	}
}

// checkSettlements refuses settlements that no store can apply.
func checkSettlements(s []Settlement) ([]ID, error) {
	ids := make([]ID, len(s))
	for i, st := range s {
		id, err := checkLease(st.Lease)
		if err != nil {
			return nil, err
		}
		ids[i] = id
		switch st.Action {
		case ActionDiscard, ActionDrop, ActionKeep, ActionRetry, ActionPark, ActionHold:
		default:
			return nil, invalid("settle: unknown action %.40q", st.Action)
		}
		if st.Operation != "" && !opaqueName.MatchString(st.Operation) {
			return nil, invalid("settle: operation %.80q does not match %s", st.Operation, opaqueName)
		}
	}
	return ids, nil
}

func checkLease(l Lease) (ID, error) {
	id, err := ParseID(l.ID)
	if err != nil {
		return id, err
	}
	if id.Sink == "" || !opaqueName.MatchString(l.Token) {
		return id, invalid("lease of item %.100q with token %.80q was not given by a claim", l.ID, l.Token)
	}
	return id, nil
}

// Release implements Store.
func (m *Memory) Release(ctx context.Context, leases []Lease) error {
	if err := ctx.Err(); err != nil {
		return unavailable("release", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range leases {
		id, err := checkLease(l)
		if err != nil {
			return err
		}
		if e := m.queue(id.Sink).find(id.Native); e != nil && e.token == l.Token {
			e.token = ""
		}
	}
	return nil
}

// Discard implements DLQ.
func (m *Memory) Discard(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return unavailable("discard", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	parsed, err := m.resolve(id)
	if sinks.CodeOf(err) == sinks.CodeDLQNotFound {
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
	if err := sinks.CheckName(sink); err != nil {
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
	case e.state.DeliveredAt > 0:
		return nil
	case e.idle || e.due > now.UnixMilli():
		e.token = ""
		e.state.Parked, e.state.Held, e.idle = false, false, false
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

func checkGate(sink, token string, ttl time.Duration) error {
	if err := sinks.CheckName(sink); err != nil {
		return err
	}
	if !opaqueName.MatchString(token) {
		return invalid("gate: token %.80q does not match %s", token, opaqueName)
	}
	if ttl < time.Millisecond {
		return invalid("gate: the time %s is below 1ms", ttl)
	}
	return nil
}

// Ungate implements Store.
func (m *Memory) Ungate(ctx context.Context, sink, token string) error {
	if err := sinks.CheckName(sink); err != nil {
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

// Progress implements Store.
func (m *Memory) Progress(ctx context.Context, operation, sink string) (OperationCounts, error) {
	if err := checkProgress(operation, sink); err != nil {
		return OperationCounts{}, err
	}
	if err := ctx.Err(); err != nil {
		return OperationCounts{}, unavailable("progress", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.queue(sink).operations[operation]; c != nil {
		return *c, nil
	}
	return OperationCounts{}, nil
}

func checkProgress(operation, sink string) error {
	if !opaqueName.MatchString(operation) {
		return invalid("operation %.80q does not match %s", operation, opaqueName)
	}
	return sinks.CheckName(sink)
}

func overflowError(sink string, limit int) error {
	return &sinks.Error{Code: sinks.CodeDLQOverflow, Msg: "the dead-letter queue of sink " + sink + " is full (" + strconv.Itoa(limit) + ")"}
}

func unavailable(op string, cause error) error {
	return &sinks.Error{Code: sinks.CodeDLQUnavailable, Msg: op, Cause: cause}
}
