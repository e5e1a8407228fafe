package replay

import (
	"context"
	"sync"
)

// slots bounds how many hold one at once; who waits longest is next.
type slots chan struct{}

// take waits for a slot; false when ctx ended first, or with what held it.
func (s slots) take(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		if ctx.Err() == nil {
			return true
		}
		s.give()
	case <-ctx.Done():
	}
	return false
}

func (s slots) give() { <-s }

// quota bounds how many items a Run claims. A nil quota bounds nothing.
type quota struct {
	mu    sync.Mutex
	moved sync.Cond
	left  int
	lent  int // taken by claims that are under way
}

func newQuota(limit int) *quota {
	if limit <= 0 {
		return nil
	}
	q := &quota{left: limit}
	q.moved.L = &q.mu
	return q
}

// borrow returns how many of n items may be claimed now. 0 means that the quota is
// used up; while other claims may still give some back, it waits for them.
func (q *quota) borrow(n int) int {
	if q == nil {
		return n
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.left == 0 && q.lent > 0 {
		q.moved.Wait()
	}
	n = min(n, q.left)
	q.left -= n
	q.lent += n
	return n
}

// giveBack ends a claim that borrowed n and used only some.
func (q *quota) giveBack(n, used int) {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lent -= n
	q.left += n - used
	q.moved.Broadcast()
}
