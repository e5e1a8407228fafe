package dlq

import (
	"context"
	"slices"
	"time"

	"backstop/lib/fault"
)

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

// Items implements DLQ.
func (m *Memory) Items(ctx context.Context, sink string, limit int) ([]Item, error) {
	return items(ctx, m, sink, limit)
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

func (r memoryReader) newest(ctx context.Context, spans []span, _ int) ([]*entry, error) {
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
	for _, e := range slices.Backward(r.m.queue(s.queue).entries) {
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
	if err := fault.CheckName(sink); err != nil {
		return Stats{}, err
	}
	if err := ctx.Err(); err != nil {
		return Stats{}, unavailable("stats", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.queue(sink)
	st := Stats{Depth: int64(len(q.entries)), Kept: int64(q.kept()), Trimmed: q.trimmed, Paused: q.paused, Canceled: int64(len(q.canceled)), States: map[State]int64{}}
	now := time.Now()
	for _, e := range q.entries {
		st.States[e.stateAt(now)]++
		if e.unleased().stateAt(now).Scheduled() {
			st.Remaining++
		}
		if e.state.Parked {
			st.Parked++
		}
		if e.overdue(now) {
			st.Overdue++
		}
	}
	st.Retired, st.New = q.retired, int64(len(q.fresh()))
	if m.opts.journal {
		st.Journal = q.view()
	}
	if len(q.entries) > 0 {
		st.OldestAt, st.NewestID = q.entries[0].pushedAt(), q.entries[len(q.entries)-1].native
	}
	return st, nil
}

// StatsOf implements Store.
func (m *Memory) StatsOf(ctx context.Context, sinks []string) ([]Stats, error) {
	all := make([]Stats, len(sinks))
	for i, sink := range sinks {
		var err error
		if all[i], err = m.Stats(ctx, sink); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Groups implements Store.
func (m *Memory) Groups(ctx context.Context, sink string) ([]Group, error) {
	return m.groupsOf(ctx, sink, func(groups []Group, name string, q *memoryQueue) []Group {
		other := int64(len(q.entries))
		for id, g := range q.groups {
			groups = append(groups, q.group(id, time.Now()))
			other -= g.Count
		}
		return appendOther(groups, name, other)
	})
}

// groupsOf returns what add appends for each of the queues, in the order of groups.
func (m *Memory) groupsOf(ctx context.Context, sink string, add func(groups []Group, name string, q *memoryQueue) []Group) ([]Group, error) {
	names, err := namesOf(ctx, m, sink)
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	groups := []Group{}
	for _, name := range names {
		groups = add(groups, name, m.queue(name))
	}
	sortGroups(groups)
	return groups, nil
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
