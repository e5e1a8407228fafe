package dlq

import (
	"context"
	"slices"
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
	current *batch // under way; nil: none
}

// NewBatcher returns a Batcher in front of s.
func NewBatcher(s Store) *Batcher { return &Batcher{Store: s} }

// batch is one push under way.
type batch struct {
	left int // callers that still wait for it
}

// waiter is one Add under way.
type waiter struct {
	in     *batch // nil until its push has begun
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
	if _, ok := OriginFrom(ctx); ok {
		return b.Store.Add(ctx, it) // linked to its origin by the context
	}
	w := &waiter{ctx: ctx, item: it, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, w)
	if b.current == nil {
		b.start()
	}
	b.mu.Unlock()
	select {
	case <-w.done:
		return w.stored, w.err
	case <-ctx.Done():
		b.leave(w)
		return it, unavailable("push", context.Cause(ctx))
	}
}

// leave takes w back when its push has not begun: its caller is told to keep the message.
// A push that nobody waits for any more holds up no other. It may be stuck, in a process
// that was frozen with it above all.
func (b *Batcher) leave(w *waiter) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if w.in == nil {
		b.waiting = slices.DeleteFunc(b.waiting, func(other *waiter) bool { return other == w })
		return
	}
	w.in.left--
	if w.in.left > 0 || b.current != w.in {
		return
	}
	b.current = nil
	if len(b.waiting) > 0 {
		b.start()
	}
}

// start begins to push what waits. The caller holds mu.
func (b *Batcher) start() {
	b.current = &batch{}
	go b.run(b.current)
}

// run pushes until nothing waits, or its push was left behind.
func (b *Batcher) run(own *batch) {
	for {
		b.mu.Lock()
		if b.current != own {
			b.mu.Unlock()
			return
		}
		next := b.waiting
		b.waiting = nil
		if own = nil; len(next) > 0 {
			own = &batch{left: len(next)}
		}
		for _, w := range next {
			w.in = own
		}
		b.current = own
		b.mu.Unlock()
		if own == nil {
			return
		}
		b.push(next)
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
