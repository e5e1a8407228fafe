package dlq

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

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
	if len(natives) == 0 {
		if out, repeated := q.again(c.Token, now); repeated {
			return out, nil
		}
		if !c.Expired {
			q.sweep(now)
		}
	}
	for _, e := range q.candidates(c, natives, now) {
		out = append(out, q.lease(e, c.Token, c.TTL, c.Expired || c.Quiet, now))
	}
	return out, nil
}

// again answers a claim that was made before, with what it still leases.
func (q *memoryQueue) again(token string, now time.Time) (out []Leased, repeated bool) {
	cl := q.claims[token]
	if cl == nil {
		return nil, false
	}
	for _, e := range q.entries {
		if e.token == token && cl.leased[e.native] {
			out = append(out, q.leased(e, now))
		}
	}
	return out, true
}

// lease leases an entry that nobody else does.
func (q *memoryQueue) lease(e *memoryEntry, token string, ttl time.Duration, quiet bool, now time.Time) Leased {
	if e.token != "" && e.token != token {
		e.outlived(now)
	}
	if e.token != token {
		e.token, e.until, e.quiet = token, now.Add(ttl), quiet
		cl := q.claims[token]
		if cl == nil {
			cl = &memoryClaim{leased: map[string]bool{}, expires: e.until.Add(claimRetention)}
			q.claims[token] = cl
		}
		cl.leased[e.native] = true
	}
	return q.leased(e, now)
}

func (q *memoryQueue) leased(e *memoryEntry, now time.Time) Leased {
	return Leased{
		Lease:    Lease{ID: e.id().String(), Token: e.token, Expires: e.until, Journal: e.address()},
		Item:     e.unleased().decode(),
		Canceled: q.isCanceled(deliveryKey(e.pushKey), now),
	}
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
	if c.Expired {
		for _, e := range q.entries {
			if e.overdue(now) && !e.leased(now) {
				out = append(out, e)
			}
		}
		slices.SortStableFunc(out, func(a, b *memoryEntry) int { return cmp.Compare(a.expires, b.expires) })
		return out[:min(len(out), c.Limit)]
	}
	if q.paused {
		return nil
	}
	for _, e := range q.entries {
		if e.stateAt(now) == StateDue {
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
	out, dropped := m.settle(s, ids, time.Now())
	for sink, n := range dropped {
		m.opts.onTrim(sink, n)
	}
	return out, nil
}

// settle also returns how many kept entries it removed of each sink, if any.
func (m *Memory) settle(s []Settlement, ids []ID, now time.Time) (out []SettleResult, dropped map[string]int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out, dropped = make([]SettleResult, len(s)), map[string]int{}
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
		e.unlease()
		if cl != nil {
			cl.leased[e.native] = false
		}
		q.settle(e, st, now)
		if limit := m.opts.keptLimit(); limit > 0 && st.Action == ActionKeep {
			if n := q.drop(q.kept()-limit, now, true); n > 0 {
				dropped[ids[i].Sink] += n
			}
		}
	}
	return out, dropped
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
	if st.Action == ActionExpire {
		st.Charge, st.Error = false, ""
	}
	if st.Charge {
		e.state.Replays++
	}
	e.state.Unanswered += max(st.Unanswered, 0)
	if st.Charge || st.Error != "" || st.Action == ActionKeep {
		e.remember(historyEntry{At: now.UnixMilli(), Error: cut(st.Error, maxErrorText)})
	}
	e.state.Deaths, e.state.Begun = 0, ""
	final := e.state.DeliveredAt > 0 || e.state.Expired > 0
	e.due = 0
	parked, held := e.state.Parked, e.state.Held
	e.state.Parked, e.state.Held = false, false
	switch {
	case st.Action == ActionKeep:
		e.state.DeliveredAt, e.state.Expired = now.UnixMilli(), 0
		q.strike(e)
		q.end(e)
		return
	case final:
	case st.Action == ActionExpire:
		e.state.Expired = now.UnixMilli()
	case e.state.SupersededBy != "": // whatever came of a forced replay
		e.state.Held = true
	case st.Action == ActionRetry:
		e.due = max(now.Add(max(st.Delay, 0)).UnixMilli(), e.pushedAt().UnixMilli()+1)
	case st.Action == ActionPark:
		e.state.Parked = true
	case st.Action == ActionHold:
		e.state.Held = true
	}
	if e.state.DeliveredAt == 0 && (e.state.Parked != parked || e.state.Held != held) {
		q.changed(e)
	}
}

// remember adds to the entry's history.
func (e *memoryEntry) remember(h historyEntry) {
	e.state.History = append(e.state.History, h)
	e.state.History = slices.Clone(e.state.History[max(0, len(e.state.History)-MaxHistory):])
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
			e.unlease()
		}
	}
	return nil
}
