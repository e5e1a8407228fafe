package delivery

import (
	"context"
	"sync"

	"backstop/lib/fault"
	"backstop/lib/retry"
)

// DefaultConcurrency is how many deliveries of a Batch are under way at once.
const DefaultConcurrency = 50

// Batch bounds the deliveries of requests that came together, so that one receiver that hangs
// never holds up the others: each receiver may take its share of what is under way at once,
// and what waits for its receiver's share is not under way. Call Go for each request, or each
// series of requests that must follow each other, and then Wait, from one goroutine.
type Batch struct {
	slots chan struct{} // as many as are under way
	all   sync.WaitGroup

	mu     sync.Mutex
	shares map[receiver]chan struct{}
}

// receiver is who gets a message: a sink, or one of those that it sends to.
type receiver struct{ sink, name string }

// NewBatch returns a Batch with at most so many deliveries under way at once; 0 or less:
// DefaultConcurrency. A receiver's share is Flow.Concurrency of its Target, by default half of
// them.
func NewBatch(concurrency int) *Batch {
	if concurrency <= 0 {
		concurrency = DefaultConcurrency
	}
	return &Batch{slots: make(chan struct{}, concurrency), shares: map[receiver]chan struct{}{}}
}

// Go waits until there is room, and runs f in a goroutine of its own; f must not panic. The Turn
// is for the requests that f delivers, one after the other (Request.Turn).
func (b *Batch) Go(f func(*Turn)) {
	b.slots <- struct{}{}
	b.all.Go(func() {
		defer func() { <-b.slots }()
		f(&Turn{b})
	})
}

// Wait waits until every f has returned.
func (b *Batch) Wait() { b.all.Wait() }

// Turn is a goroutine's part in a Batch, made by Go. It ends with the function that it was given
// to, and is not for concurrent use.
type Turn struct{ batch *Batch }

// enter takes one of a receiver's share of at most so many, 0: the default, and returns what
// gives it back. While it waits, which it reports, another goroutine of the batch goes on. It
// is NOT_ATTEMPTED when ctx ends first, or an attempt would no longer fit into the budget.
func (t *Turn) enter(ctx context.Context, budget retry.Budget, to receiver, most int) (leave func(), waited bool, err error) {
	share := t.batch.share(to, most)
	leave = func() { <-share }
	select {
	case share <- struct{}{}:
		return leave, false, nil
	default:
	}
	<-t.batch.slots
	defer func() { t.batch.slots <- struct{}{} }() // soon: whoever has one ends in time
	if !budget.Attempts.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, budget.Attempts.Add(-budget.Least))
		defer cancel()
	}
	select {
	case share <- struct{}{}:
		return leave, true, nil
	case <-ctx.Done():
		return nil, true, &fault.Error{Code: fault.CodeNotAttempted, Msg: "no time was left after others to the same receiver", Cause: ctx.Err()}
	}
}

// share is what a receiver may have under way at once.
func (b *Batch) share(to receiver, most int) chan struct{} {
	if most <= 0 {
		most = max(cap(b.slots)/2, 1)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.shares[to]
	if s == nil {
		s = make(chan struct{}, most)
		b.shares[to] = s
	}
	return s
}
