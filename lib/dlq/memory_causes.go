package dlq

import (
	"context"
	"strings"
	"time"

	"backstop/lib/fault"
)

// memoryCause is what is known of a group, beside its count.
type memoryCause struct {
	Group  // without Sample
	newest string
	came   map[string]map[int64]int64 // by resolution and number of the width
	told   bool
}

// arrived notes that an entry of the group came.
func (c *memoryCause) arrived(native string, at time.Time) {
	if c.FirstSeen.IsZero() {
		c.FirstSeen = at
	}
	c.newest, c.LastSeen = native, at
	for _, r := range resolutions {
		if c.came[r.name] == nil {
			c.came[r.name] = map[int64]int64{}
		}
		c.came[r.name][at.UnixNano()/int64(r.width)]++
	}
}

// since is how many came in the widths that begin after a time.
func (c *memoryCause) since(r resolution, t time.Time) (n int64) {
	for at, came := range c.came[r.name] {
		if at > t.UnixNano()/int64(r.width) {
			n += came
		}
	}
	return n
}

// cause returns what is known of an entry's group; of entries in none, together, under "".
func (q *memoryQueue) cause(e entry) *memoryCause {
	c := q.causes[e.group]
	if c == nil {
		fingerprint, reason, _ := strings.Cut(e.groupText, "\n")
		c = &memoryCause{Group: Group{Sink: e.sink, Reason: Reason(reason), Fingerprint: fingerprint}, came: map[string]map[int64]int64{}}
		q.causes[e.group] = c
	}
	return c
}

// group is what is known of a group.
func (q *memoryQueue) group(id string, now time.Time) Group {
	c := q.causes[id]
	g := c.Group
	g.LastHour, g.LastDay = c.since(resolutions[0], now.Add(-time.Hour)), c.since(resolutions[1], now.Add(-24*time.Hour))
	g.Sample = ID{Sink: g.Sink, Native: c.newest}.String()
	if held := q.groups[id]; held != nil {
		g.Count = held.Count
	}
	return g
}

// KnownGroups implements Store.
func (m *Memory) KnownGroups(ctx context.Context, sink string) ([]Group, error) {
	return m.groupsOf(ctx, sink, func(groups []Group, _ string, q *memoryQueue) []Group {
		for id := range q.causes {
			if id != "" {
				groups = append(groups, q.group(id, time.Now()))
			}
		}
		return groups
	})
}

// NoteGroup implements Store.
func (m *Memory) NoteGroup(ctx context.Context, sink string, reason Reason, fingerprint string, n GroupNote) (Group, error) {
	if err := checkNote(sink, n); err != nil {
		return Group{}, err
	}
	if err := ctx.Err(); err != nil {
		return Group{}, unavailable("note", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q, id := m.queue(sink), groupID(reason, fingerprint)
	c := q.causes[id]
	if c == nil {
		return Group{}, noGroupError(sink)
	}
	c.Note = nil
	if !n.empty() {
		c.Note = &n
	}
	return q.group(id, time.Now()), nil
}

// NewGroups implements Store.
func (m *Memory) NewGroups(ctx context.Context, sink string) ([]Group, error) {
	if err := fault.CheckName(sink); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, unavailable("new groups", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.queue(sink).fresh(), nil
}

// fresh are the groups that nobody was told of yet.
func (q *memoryQueue) fresh() []Group {
	var fresh []Group
	for id, c := range q.causes {
		if id != "" && !c.told && len(fresh) < maxNew {
			fresh = append(fresh, q.group(id, time.Now()))
		}
	}
	sortGroups(fresh)
	return fresh
}

// Told implements Store.
func (m *Memory) Told(ctx context.Context, told []Group) error {
	if err := ctx.Err(); err != nil {
		return unavailable("told", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range told {
		if c := m.queue(g.Sink).causes[groupID(g.Reason, g.Fingerprint)]; c != nil {
			c.told = true
		}
	}
	return nil
}

// Histogram implements Store.
func (m *Memory) Histogram(ctx context.Context, q HistogramQuery) (Histogram, error) {
	p, err := planOf(q, time.Now())
	if err != nil {
		return Histogram{}, err
	}
	names, err := namesOf(ctx, m, q.Sink)
	if err != nil {
		return Histogram{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var rows []row
	for _, name := range names {
		queue := m.queue(name)
		there := map[string]map[int64]int64{}
		for _, e := range queue.entries {
			if there[e.group] == nil {
				there[e.group] = map[int64]int64{}
			}
			there[e.group][e.pushedAt().UnixNano()/int64(p.of.width)]++
		}
		for id, c := range queue.causes {
			if q.Reason != "" && c.Reason != q.Reason || q.Fingerprint == FingerprintOther && id != "" ||
				q.Fingerprint != "" && q.Fingerprint != FingerprintOther && c.Fingerprint != q.Fingerprint {
				continue
			}
			found := row{sink: name, group: id, text: c.Fingerprint + "\n" + string(c.Reason), first: c.FirstSeen, last: c.LastSeen}
			if id == "" {
				found = row{sink: name}
			}
			for at, came := range c.came[p.of.name] {
				if at >= p.from && at <= p.to {
					found.counts = append(found.counts, counted{at: at, came: came, there: there[id][at]})
				}
			}
			if len(found.counts) > 0 {
				rows = append(rows, found)
			}
		}
	}
	return p.histogram(rows), nil
}
