package dlq

import (
	"context"
	"time"
)

// DiedUnder is what an item's history says where the process that replayed it died: its
// lease ran out without an outcome. The scripts write it too (scripts.go, death.lua).
const DiedUnder = "the process that replayed it died: its lease ran out without an outcome"

// Begin implements Store.
func (r *Redis) Begin(ctx context.Context, l Lease) (bool, error) {
	id, err := checkLease(l)
	if err != nil {
		return false, err
	}
	answer, err := r.conn.Eval(ctx, "begin", beginScript, r.conn.Keys.Queue(id.queue()), id.Native, l.Token)
	return answer == int64(1), err
}

// Begin implements Store.
func (m *Memory) Begin(ctx context.Context, l Lease) (bool, error) {
	id, err := checkLease(l)
	if err != nil {
		return false, err
	}
	if err := ctx.Err(); err != nil {
		return false, unavailable("begin", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.queue(id.Sink).find(id.Native)
	if e == nil || e.token != l.Token || !e.leased(time.Now()) {
		return false, nil
	}
	e.state.Begun = l.Token
	return true, nil
}

// outlived takes a lease away that ran out, and charges the entry with the death of its
// holder: once in any case, but for those under whose leases nothing is sent, and then
// again where its replay had begun.
func (e *memoryEntry) outlived(now time.Time) {
	holder, quiet := e.token, e.quiet
	e.unlease()
	if (quiet || e.state.Deaths > 0) && e.state.Begun != holder {
		return
	}
	e.state.Deaths++
	e.state.Replays++
	e.state.Unanswered++
	e.state.Begun = ""
	e.remember(historyEntry{At: now.UnixMilli(), Error: DiedUnder})
}

// sweep takes away the leases that ran out on entries that are not due, or not yet.
func (q *memoryQueue) sweep(now time.Time) {
	for _, e := range q.entries {
		if e.token != "" && !e.leased(now) && e.stateAt(now) != StateDue {
			e.outlived(now)
		}
	}
}
