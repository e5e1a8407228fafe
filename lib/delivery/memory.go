package delivery

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Memory is a Store in this process' memory; its records are lost at its end. It is for
// tests, the local host and senders that are one process. It is safe for concurrent use.
type Memory struct {
	ttl     time.Duration
	mu      sync.Mutex
	records map[Key]memoryRecord
	owed    map[Key]time.Time // since when
}

type memoryRecord struct {
	Record
	token  string
	until  time.Time     // the lease, while somebody has it
	left   bool          // its owner handed it back (BackLeave)
	taken  State         // how the owner got it
	former *memoryRecord // before it was canceled
	expiry time.Time
}

// NewMemory returns an empty store. A ttl <= 0 means DefaultTTL.
func NewMemory(ttl time.Duration) *Memory {
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	return &Memory{ttl: ttl, records: map[Key]memoryRecord{}, owed: map[Key]time.Time{}}
}

// Retention implements Store.
func (s *Memory) Retention() time.Duration { return max(s.ttl, LongestWait) }

// find returns the record that has not expired; s.mu is held.
func (s *Memory) find(k Key) (memoryRecord, bool) {
	r, ok := s.records[k]
	if ok && !time.Now().Before(r.expiry) {
		delete(s.records, k)
		return memoryRecord{}, false
	}
	return r, ok
}

// situation says how m finds the record, as move.lua does.
func (r memoryRecord) situation(m move, now time.Time) (s situation, suffix string) {
	open := r.Status == StatusInProgress || r.Status == StatusAccepting
	switch {
	case m.token != "" && r.token == m.token:
		suffix = mine
	case open && !now.Before(r.until):
		suffix = ended
	}
	same := m.fingerprint == "" || r.Fingerprint == m.fingerprint
	switch {
	case r.Status == StatusCanceled && !same && r.Fingerprint != "":
		return isCanceled, another
	case r.Status == StatusCanceled:
		return isCanceled, suffix
	case !same && len(r.Fingerprint) == len(m.fingerprint):
		return other, ""
	case !same && !open:
		return older, ""
	case m.untrue != nil && (r.Status == StatusDeadLettered || r.Status == StatusExpired) && r.ItemID == m.untrue.ItemID:
		return gone, ""
	}
	return situation(r.Status), suffix
}

// move does what move.lua does.
func (s *Memory) move(k Key, m move) (verdict State, found, now Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := time.Now()
	old, ok := s.find(k)
	sit, suffix := none, ""
	if ok {
		sit, suffix = old.situation(m, t)
	}
	st := m.event.step(sit, suffix)
	switch st.status {
	case "":
		return st.verdict, old.Record, old.Record
	case forget:
		delete(s.records, k)
		return st.verdict, old.Record, Record{}
	case restore:
		if old.former == nil {
			delete(s.records, k)
			return st.verdict, old.Record, Record{}
		}
		s.records[k] = *old.former
		return st.verdict, old.Record, old.former.Record
	}
	r := memoryRecord{token: cmp.Or(m.token, old.token), left: m.event == onLeave}
	if m.new != nil {
		r.Record = *m.new
	}
	r.Status = st.status
	if ok && sit != older && sit != gone {
		r.inherit(old, suffix)
	}
	if ok && sit == gone && old.Unanswered > 0 {
		r.Unanswered, r.BeganAt = old.Unanswered, first(old.BeganAt, r.BeganAt)
	}
	if ok {
		r.Pending = joined(old.Pending, r.Pending)
	}
	if m.lease >= 0 {
		r.until = t.Add(m.lease)
	}
	verdict = st.verdict
	if verdict != written && (st.status == StatusInProgress || st.status == StatusAccepting) {
		// As in move.lua, where the reply may be lost.
		if suffix == mine && old.Status == st.status {
			verdict = cmp.Or(old.taken, verdict)
		}
		r.taken = verdict
	}
	switch {
	case st.status != StatusCanceled || !ok:
	case old.Status == StatusCanceled:
		r.former, r.Former = old.former, cmp.Or(old.Former, r.Former)
	default:
		r.former, r.Former = &old, old.Status
	}
	ttl := s.ttl
	if r.Status == StatusAccepting || r.Status == StatusAccepted || r.Status == StatusCanceled || r.Status == StatusInProgress && !r.AcceptedAt.IsZero() {
		ttl = s.Retention()
	}
	r.expiry = t.Add(max(ttl, m.lease))
	s.records[k] = r
	return verdict, old.Record, r.Record
}

// inherit takes what the new record does not say from the old one.
func (r *memoryRecord) inherit(old memoryRecord, suffix string) {
	if old.Status == StatusInProgress || old.Status == StatusAccepting || old.Status == StatusAccepted {
		// What was accepted first holds.
		r.AcceptedAt, r.NotBefore = first(old.AcceptedAt, r.AcceptedAt), first(old.NotBefore, r.NotBefore)
		r.ExpiresAt, r.BeganAt = old.ExpiresAt, first(old.BeganAt, r.BeganAt)
	}
	if old.Status == StatusInProgress && suffix == ended && !old.left {
		// Its owner may have sent it, and died.
		r.Unanswered += old.Unanswered + 1
	}
	r.Sink, r.ID, r.Fingerprint = cmp.Or(r.Sink, old.Sink), cmp.Or(r.ID, old.ID), cmp.Or(r.Fingerprint, old.Fingerprint)
	r.Answer, r.ItemID = cmp.Or(r.Answer, old.Answer), cmp.Or(r.ItemID, old.ItemID)
	r.AcceptedAt, r.NotBefore, r.ExpiresAt = first(r.AcceptedAt, old.AcceptedAt), first(r.NotBefore, old.NotBefore), first(r.ExpiresAt, old.ExpiresAt)
	r.BeganAt, r.DeadLetteredAt = first(r.BeganAt, old.BeganAt), first(r.DeadLetteredAt, old.DeadLetteredAt)
	r.Attempts, r.Unanswered = cmp.Or(r.Attempts, old.Attempts), cmp.Or(r.Unanswered, old.Unanswered)
}

// first is the first of two times that is set.
func first(a, b time.Time) time.Time {
	if a.IsZero() {
		return b
	}
	return a
}

// Begin implements Store.
func (s *Memory) Begin(_ context.Context, b Begin) (State, Record, error) {
	fresh := b.fresh(time.Now().UTC())
	m := move{event: b.event(), token: b.Token, fingerprint: b.Fingerprint, new: &fresh, lease: max(b.Lease, 0), untrue: b.Untrue}
	verdict, _, now := s.move(b.Key, m)
	return verdict, now, nil
}

// Finish implements Store.
func (s *Memory) Finish(_ context.Context, k Key, token string, r Record) (Record, bool, error) {
	verdict, found, _ := s.move(k, move{event: event(r.Status), token: token, fingerprint: r.Fingerprint, new: &r, lease: noLease})
	return found, verdict == written, nil
}

// HandBack implements Store.
func (s *Memory) HandBack(_ context.Context, k Key, token string, how Back, r Record) error {
	m := move{event: event(how), token: token, fingerprint: r.Fingerprint, new: &r, lease: noLease}
	if how == BackLeave {
		m.lease = 0
	}
	s.move(k, m)
	return nil
}

// Update implements Store.
func (s *Memory) Update(_ context.Context, changes ...Change) ([]Status, error) {
	statuses := make([]Status, len(changes))
	for i, c := range changes {
		r := c.record(time.Now().UTC())
		verdict, found, _ := s.move(c.Key, move{event: c.event(), fingerprint: c.Fingerprint, new: &r, lease: noLease})
		statuses[i] = c.after(verdict, found)
	}
	return statuses, nil
}

// Cancel implements Store.
func (s *Memory) Cancel(_ context.Context, k Key, token string, seen Record) (State, Record, error) {
	r := k.canceled(seen)
	verdict, _, now := s.move(k, move{event: cancelEvent(seen), token: token, new: &r, lease: noLease})
	return verdict, now, nil
}

// Uncancel implements Store.
func (s *Memory) Uncancel(_ context.Context, k Key, token string) error {
	s.move(k, move{event: onUncancel, token: token, lease: noLease})
	return nil
}

// Get implements Store.
func (s *Memory) Get(_ context.Context, k Key) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.find(k)
	r.LeasedUntil = r.until
	return r.Record, ok, nil
}

// Told implements Outbox.
func (s *Memory) Told(_ context.Context, k Key, events ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.find(k); ok {
		r.Pending = slices.DeleteFunc(slices.Clone(r.Pending), func(ev PendingEvent) bool { return slices.Contains(events, ev.ID) })
		s.records[k] = r
	}
	return nil
}

// Owe implements Outbox.
func (s *Memory) Owe(_ context.Context, r Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	rec, ok := s.find(r.key())
	if ok {
		rec.Pending = joined(rec.Pending, r.Pending)
	} else {
		rec.Record = r
	}
	if end := now.Add(s.Retention()); rec.expiry.Before(end) {
		rec.expiry = end
	}
	s.records[r.key()], s.owed[r.key()] = rec, now.Truncate(time.Millisecond)
	return nil
}

// Owed implements Outbox.
func (s *Memory) Owed(_ context.Context, limit int) ([]Owed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Owed, 0, len(s.owed))
	for k, since := range s.owed {
		all = append(all, Owed{k, since})
	}
	slices.SortFunc(all, func(a, b Owed) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Sink, b.Sink), cmp.Compare(a.ID, b.ID))
	})
	return all[:min(len(all), limit)], nil
}

// Paid implements Outbox.
func (s *Memory) Paid(_ context.Context, o Owed) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owed[o.Key].Equal(o.Since) {
		delete(s.owed, o.Key)
	}
	return nil
}
