package dlq

import (
	"context"
	"sync"
	"time"
)

// Batcher is a DLQ that pushes what comes at the same time in one call: while one push
// is under way, the next ones gather. A push that comes alone is not held up. It is
// safe for concurrent use.
type Batcher struct {
	Store

	mu      sync.Mutex
	waiting []*waiter
	running bool
}

// NewBatcher returns a Batcher in front of s.
func NewBatcher(s Store) *Batcher { return &Batcher{Store: s} }

// waiter is one Add under way.
type waiter struct {
	ctx    context.Context
	item   Item
	stored Item
	err    error
	done   chan struct{}
}

// Push implements DLQ.
func (b *Batcher) Push(ctx context.Context, it Item) error {
	_, err := b.Add(ctx, it)
	return err
}

// Add implements Store. When ctx ends first, the item may be stored all the same: a
// push can be repeated.
func (b *Batcher) Add(ctx context.Context, it Item) (Item, error) {
	if carrierOf(ctx) != nil {
		return b.Store.Add(ctx, it) // linked to its origin by the context
	}
	w := &waiter{ctx: ctx, item: it, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, w)
	if !b.running {
		b.running = true
		go b.run()
	}
	b.mu.Unlock()
	select {
	case <-w.done:
		return w.stored, w.err
	case <-ctx.Done():
		return it, unavailable("push", context.Cause(ctx))
	}
}

// run pushes until nothing waits.
func (b *Batcher) run() {
	for {
		b.mu.Lock()
		batch := b.waiting
		b.waiting = nil
		b.running = len(batch) > 0
		b.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		b.push(batch)
	}
}

// push stores a batch on a context that ends when the last of its callers' does.
func (b *Batcher) push(batch []*waiter) {
	items := make([]Item, len(batch))
	var end time.Time
	endless := false
	for i, w := range batch {
		items[i] = w.item
		if deadline, ok := w.ctx.Deadline(); !ok {
			endless = true
		} else if deadline.After(end) {
			end = deadline
		}
	}
	ctx := context.WithoutCancel(batch[0].ctx)
	if !endless {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, end)
		defer cancel()
	}
	stored, errs := b.AddBatch(ctx, items)
	for i, w := range batch {
		w.stored, w.err = stored[i], errs[i]
		close(w.done)
	}
}
