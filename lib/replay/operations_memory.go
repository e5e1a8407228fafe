package replay

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"backstop/lib/dlq"
)

// MemoryOperations is an OperationStore in this process' memory, for tests and the
// local host: its operations are lost at restart. It is safe for concurrent use.
type MemoryOperations struct {
	mu  sync.Mutex
	ops map[string]*memoryOperation
}

type memoryOperation struct {
	op    Operation
	owner string
	until time.Time
}

// NewMemoryOperations returns an empty store.
func NewMemoryOperations() *MemoryOperations {
	return &MemoryOperations{ops: map[string]*memoryOperation{}}
}

var _ OperationStore = (*MemoryOperations)(nil)

// view returns a copy for the caller.
func (m *memoryOperation) view() Operation {
	op := m.op
	op.Sinks = maps.Clone(op.Sinks)
	op.sum()
	return op
}

// find returns an operation that is still kept.
func (s *MemoryOperations) find(id string) (*memoryOperation, error) {
	maps.DeleteFunc(s.ops, func(_ string, m *memoryOperation) bool {
		return m.op.Status.Final() && time.Since(m.op.FinishedAt) > dlq.OperationRetention
	})
	m, ok := s.ops[id]
	if !ok {
		return nil, operationNotFound(id)
	}
	return m, nil
}

// Create implements OperationStore.
func (s *MemoryOperations) Create(_ context.Context, op Operation) (Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(op.ID)
	if err != nil {
		m = &memoryOperation{op: op}
		m.op.Sinks = maps.Clone(op.Sinks)
		s.ops[op.ID] = m
	}
	return m.view(), nil
}

// Get implements OperationStore.
func (s *MemoryOperations) Get(_ context.Context, id string) (Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(id)
	if err != nil {
		return Operation{}, err
	}
	return m.view(), nil
}

// List implements OperationStore.
func (s *MemoryOperations) List(_ context.Context, limit int) ([]Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ops := []Operation{}
	for _, m := range s.ops {
		ops = append(ops, m.view())
	}
	slices.SortFunc(ops, func(a, b Operation) int {
		return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), cmp.Compare(b.ID, a.ID))
	})
	return ops[:min(len(ops), limit)], nil
}

// Unfinished implements OperationStore.
func (s *MemoryOperations) Unfinished(ctx context.Context) ([]string, error) {
	s.mu.Lock()
	n := len(s.ops)
	s.mu.Unlock()
	ops, err := s.List(ctx, n)
	ids := []string{}
	for _, op := range slices.Backward(ops) {
		if !op.Status.Final() {
			ids = append(ids, op.ID)
		}
	}
	return ids, err
}

// Take implements OperationStore.
func (s *MemoryOperations) Take(_ context.Context, id, owner string, ttl time.Duration) (Operation, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(id)
	if err != nil {
		return Operation{}, false, err
	}
	now := time.Now()
	if m.op.Status.Final() || m.op.Status == OperationStopped || m.owner != "" && m.owner != owner && now.Before(m.until) {
		return m.view(), false, nil
	}
	if m.owner != owner {
		m.op.Stalled++
	}
	m.owner, m.until, m.op.Status = owner, now.Add(ttl), OperationRunning
	if m.op.StartedAt.IsZero() {
		m.op.StartedAt = now.UTC()
	}
	return m.view(), true, nil
}

// Save implements OperationStore.
func (s *MemoryOperations) Save(_ context.Context, id, owner string, c OperationChange) (OperationStatus, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(id)
	if err != nil {
		return "", err
	}
	if m.owner != owner {
		return "", ErrOperationTaken
	}
	now := time.Now()
	m.until = now.Add(c.TTL)
	if c.Sink != "" {
		m.op.Sinks[c.Sink] = c.Progress
	}
	if c.moved() {
		m.op.Stalled = 0
	}
	if c.Status != "" && !m.op.Status.Final() && m.op.Status != OperationStopped {
		m.op.Status, m.op.Error, m.op.FinishedAt = c.Status, c.Error, now.UTC()
		if c.Status.Final() {
			m.op.Recipient = nil
		}
	}
	return m.op.Status, nil
}

// Cancel implements OperationStore.
func (s *MemoryOperations) Cancel(_ context.Context, id string) (Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(id)
	if err != nil {
		return Operation{}, err
	}
	if !m.op.Status.Final() {
		m.op.Status, m.op.FinishedAt, m.op.Recipient = OperationCanceled, time.Now().UTC(), nil
	}
	return m.view(), nil
}

// Resume implements OperationStore.
func (s *MemoryOperations) Resume(_ context.Context, id string, sinks map[string]SinkProgress) (Operation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.find(id)
	if err != nil {
		return Operation{}, err
	}
	if m.op.Status != OperationStopped {
		return Operation{}, notStopped(id, m.op.Status)
	}
	maps.Copy(m.op.Sinks, sinks)
	m.op.Status, m.op.Error, m.op.FinishedAt, m.op.Stalled = OperationQueued, "", time.Time{}, 0
	m.op.Round++
	m.owner = ""
	return m.view(), nil
}
