package dlq

import (
	"context"
	"time"
)

// Supersede implements Successions. It is one step to another sink, too.
func (m *Memory) Supersede(ctx context.Context, s Succession) (Leased, error) {
	now := time.Now()
	c, err := checkSuccession(s, now)
	if err != nil {
		return Leased{}, err
	}
	if err := ctx.Err(); err != nil {
		return Leased{}, unavailable("supersede", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	from, to := m.queue(c.former.Sink), m.queue(c.item.Sink)
	former := from.find(c.former.Native)
	if former == nil {
		return Leased{}, lostError(c.former, "it was superseded")
	}
	if by := former.decode().Heir(); by != "" {
		id, err := ParseID(by)
		if err != nil || former.state.SupersededAs != c.as() || id.Sink != c.item.Sink {
			return Leased{}, supersededError(c.former, by)
		}
		return m.heir(to, to.find(id.Native), s, c, by, now), nil
	}
	if former.token != s.Token {
		return Leased{}, lostError(c.former, "it was superseded")
	}
	heir := to.waiting()[c.entry.identity()]
	if heir == nil {
		if limit := m.opts.maxLen; limit > 0 && m.opts.overflow == OverflowReject && len(to.entries)-to.kept() >= limit {
			return Leased{}, overflowError(c.item.Sink, limit)
		}
		e := c.entry
		e.journaled = m.opts.journal
		heir = to.find(to.store(e, c.item.Reason, now).native)
	}
	l := m.heir(to, heir, s, c, heir.id().String(), now)
	from.stepDown(former, s.Token, l.ID, c.as(), now)
	return l, nil
}

// heir leases what supersedes another, unless it is gone or somebody else does.
func (m *Memory) heir(q *memoryQueue, e *memoryEntry, s Succession, c succession, id string, now time.Time) Leased {
	if e != nil && (e.token == s.Token || !e.leased(now)) && e.state.DeliveredAt == 0 {
		return q.lease(e, s.Token, s.TTL, false, now)
	}
	it := c.item
	it.ID = id
	return Leased{Lease: Lease{ID: id}, Item: it}
}

// stepDown makes an entry wait: by supersedes it. A lease ends that is the token's, or ran out.
func (q *memoryQueue) stepDown(e *memoryEntry, token, by, as string, now time.Time) {
	if e.token == token || !e.leased(now) {
		if cl := q.claims[e.token]; cl != nil {
			cl.leased[e.native] = false
		}
		if e.token != "" && e.token != token {
			e.outlived(now)
		}
		e.unlease()
	}
	e.due = 0
	s := &e.state
	s.Parked, s.Held, s.Deaths, s.Begun = false, s.Expired == 0, 0, ""
	s.SupersededBy, s.SupersededAs = by, as
	q.changed(e)
}

// NoteSuperseded implements Successions.
func (m *Memory) NoteSuperseded(ctx context.Context, by Item) (bool, error) {
	former, heir, err := checkHeir(by)
	if err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, unavailable("superseded", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	q, now := m.queue(former.Sink), time.Now()
	e := q.find(former.Native)
	switch {
	case e == nil:
		return true, nil
	case e.state.SupersededBy != "":
		return e.state.SupersededBy == heir.String(), nil
	case e.leased(now) || e.state.DeliveredAt > 0:
		return false, nil
	}
	q.stepDown(e, "", heir.String(), ":"+contentOf(by), now)
	return true, nil
}
