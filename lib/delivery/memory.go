package delivery

import (
	"cmp"
	"context"
	"sync"
	"time"
)

// Memory is a Store in this process' memory; its records are lost at its end. It is for
// tests, the local host and senders that are one process. It is safe for concurrent use.
type Memory struct {
	ttl     time.Duration
	mu      sync.Mutex
	records map[Key]memoryRecord
}

type memoryRecord struct {
	Record
	token  string
	until  time.Time // the lease, while in progress
	expiry time.Time
}

// NewMemory returns an empty store. A ttl <= 0 means DefaultTTL.
func NewMemory(ttl time.Duration) *Memory {
	if ttl <= 0 {
		ttl = DefaultTTL
	}
	return &Memory{ttl: ttl, records: map[Key]memoryRecord{}}
}

// find returns the record that has not expired; s.mu is held.
func (s *Memory) find(k Key) (memoryRecord, bool) {
	r, ok := s.records[k]
	if ok && !time.Now().Before(r.expiry) {
		delete(s.records, k)
		return memoryRecord{}, false
	}
	return r, ok
}

// Begin implements Store.
func (s *Memory) Begin(_ context.Context, k Key, fingerprint, token string, lease time.Duration) (State, Record, error) {
	return s.begin(k, fingerprint, token, lease, nil)
}

// Reopen implements Store.
func (s *Memory) Reopen(_ context.Context, k Key, fingerprint, token string, lease time.Duration, found Record) (State, Record, error) {
	return s.begin(k, fingerprint, token, lease, &found)
}

func (s *Memory) begin(k Key, fingerprint, token string, lease time.Duration, untrue *Record) (State, Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	state := StateStarted
	r, ok := s.find(k)
	switch {
	case !ok:
	case r.Fingerprint != fingerprint:
		return StateReused, r.Record, nil
	case r.Status == StatusDeadLettered && untrue != nil && r.ItemID == untrue.ItemID:
	case r.Status != StatusInProgress:
		return StateFinished, r.Record, nil
	case r.token == token:
	case now.Before(r.until):
		return StateInProgress, r.Record, nil
	default:
		state = StateTakenOver
	}
	s.records[k] = memoryRecord{
		Record: Record{Sink: k.Sink, ID: k.ID, Status: StatusInProgress, UpdatedAt: now.UTC(), Fingerprint: fingerprint},
		token:  token, until: now.Add(lease), expiry: now.Add(max(s.ttl, lease)),
	}
	return state, r.Record, nil
}

// Finish implements Store.
func (s *Memory) Finish(_ context.Context, k Key, token string, rec Record) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.find(k)
	if ok {
		gone := r.Status == StatusDelivered || r.Status == StatusDiscarded
		// That it was delivered is true whoever owns the record, if it is of this content.
		mayWrite := r.token == token && (!gone || r.Status == rec.Status)
		if rec.Status == StatusDelivered {
			mayWrite = r.token == token || r.Fingerprint == rec.Fingerprint
			// Another's dead letter is named until it is removed: this call may be made again.
			rec.ItemID = cmp.Or(rec.ItemID, r.ItemID)
		}
		if !mayWrite {
			return r.Record, false, nil
		}
	}
	s.records[k] = memoryRecord{Record: rec, token: token, expiry: time.Now().Add(s.ttl)}
	return r.Record, true, nil
}

// Release implements Store.
func (s *Memory) Release(_ context.Context, k Key, token string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.find(k); ok && r.token == token && r.Status == StatusInProgress {
		delete(s.records, k)
	}
	return nil
}

// Update implements Store.
func (s *Memory) Update(_ context.Context, changes ...Change) ([]Status, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	statuses := make([]Status, len(changes))
	for i, c := range changes {
		r, ok := s.find(c.Key)
		switch {
		case ok && r.Fingerprint != c.Fingerprint:
			continue
		case ok && r.Status == StatusDelivered && c.Status != StatusDelivered,
			ok && r.Status == StatusInProgress && c.Status != StatusDelivered && now.Before(r.until):
			statuses[i] = r.Status
			continue
		}
		r.Record = Record{
			Sink: c.Sink, ID: c.ID, Status: c.Status, ItemID: cmp.Or(c.ItemID, r.ItemID), UpdatedAt: now.UTC(),
			Answer: r.Answer, Fingerprint: c.Fingerprint,
		}
		r.until, r.expiry = time.Time{}, now.Add(s.ttl)
		s.records[c.Key] = r
		statuses[i] = c.Status
	}
	return statuses, nil
}

// Get implements Store.
func (s *Memory) Get(_ context.Context, k Key) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.find(k)
	return r.Record, ok, nil
}
