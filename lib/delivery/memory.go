package delivery

import (
	"context"
	"sync"
	"time"
)

// Memory keeps records in this process; they are lost at its end. It is for tests and
// the local host.
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
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	state := StateStarted
	r, ok := s.find(k)
	switch {
	case !ok:
	case r.Fingerprint != fingerprint:
		return StateReused, r.Record, nil
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
func (s *Memory) Finish(_ context.Context, k Key, token string, rec Record) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.find(k); ok && r.token != token {
		return false, nil
	}
	s.records[k] = memoryRecord{Record: rec, token: token, expiry: time.Now().Add(s.ttl)}
	return true, nil
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
func (s *Memory) Update(_ context.Context, status Status, keys ...Key) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range keys {
		if r, ok := s.find(k); ok && r.Status != StatusInProgress {
			r.Status, r.UpdatedAt = status, time.Now().UTC()
			s.records[k] = r
		}
	}
	return nil
}

// Get implements Store.
func (s *Memory) Get(_ context.Context, k Key) (Record, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.find(k)
	return r.Record, ok, nil
}
