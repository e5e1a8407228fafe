package delivery

import (
	"context"
	"slices"
	"sync"

	"backstop/lib/fault"
	"backstop/lib/retry"
)

// DefaultConcurrency is how many deliveries of a Batch are under way at once.
const DefaultConcurrency = 50

// Batch bounds the deliveries of requests that came together, so that one receiver that hangs
// never holds up the others: each receiver may take its share of what is under way at once,
// and what waits for its receiver's share is not under way. A receiver for which alone anything
// still waits may take the others' shares too. Of a receiver whose rate is counted by chat or the like, one of
// these takes half of its share at most while others wait. Call Go for each request, or each series of
// requests that must follow each other, and then Wait, from one goroutine.
type Batch struct {
	all  sync.WaitGroup
	room int // for so many at once

	mu      sync.Mutex
	busy    int              // under way
	held    map[receiver]int // of them, by receiver, and by rate key of one
	waiting []*waiter        // in order
	closed  bool             // no more come
}

// receiver is who gets a message: a sink, or one of those that it sends to, or what its rate is counted by.
type receiver struct{ sink, name, rateKey string }

// whole is the receiver of a rate key.
func (r receiver) whole() receiver { return receiver{sink: r.sink, name: r.name} }

// waiter waits for room, and for one of a receiver's share.
type waiter struct {
	to      receiver
	most    int           // 0: the default share
	room    bool          // for room alone
	granted chan struct{} // closed with mu held
}

// NewBatch returns a Batch with at most so many deliveries under way at once; 0 or less:
// DefaultConcurrency. A receiver's share is Flow.Concurrency of its Target, which is never
// exceeded, by default half of them.
func NewBatch(concurrency int) *Batch {
	if concurrency <= 0 {
		concurrency = DefaultConcurrency
	}
	return &Batch{room: concurrency, held: map[receiver]int{}}
}

// Go waits until there is room, and runs f in a goroutine of its own; f must not panic. The Turn
// is for the requests that f delivers, one after the other (Request.Turn).
func (b *Batch) Go(f func(*Turn)) {
	b.enterRoom()
	b.all.Go(func() {
		defer b.change(func() { b.busy-- })
		f(&Turn{b})
	})
}

// Wait waits until every f has returned.
func (b *Batch) Wait() {
	b.change(func() { b.closed = true })
	b.all.Wait()
}

// change changes what the others wait for.
func (b *Batch) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	b.grant()
}

// grant lets go who may, in the order in which they came.
func (b *Batch) grant() {
	b.waiting = slices.DeleteFunc(b.waiting, func(w *waiter) bool {
		if b.busy == b.room || !w.room && !b.may(w.to, w.most) {
			return false
		}
		b.busy++
		if !w.room {
			b.hold(w.to, 1)
		}
		close(w.granted)
		return true
	})
}

// hold counts what a receiver has, and its rate key.
func (b *Batch) hold(to receiver, n int) {
	for _, r := range []receiver{to.whole(), to} {
		if b.held[r] += n; b.held[r] == 0 {
			delete(b.held, r)
		}
		if to.rateKey == "" {
			return
		}
	}
}

// may reports whether a receiver may take one more.
func (b *Batch) may(to receiver, most int) bool {
	share, whole := most, to.whole()
	if share <= 0 {
		share = max(b.room/2, 1)
	}
	// Whoever else is left of the batch is under way, and needs no room.
	alone := func(same func(receiver) bool) bool {
		return b.closed && !slices.ContainsFunc(b.waiting, func(w *waiter) bool { return w.room || !same(w.to) })
	}
	if b.held[whole] >= share && (most > 0 || !alone(func(r receiver) bool { return r.whole() == whole })) {
		return false
	}
	return to.rateKey == "" || b.held[to] < max(share/2, 1) || alone(func(r receiver) bool { return r == to })
}

// enterRoom waits for room.
func (b *Batch) enterRoom() {
	w := &waiter{room: true, granted: make(chan struct{})}
	b.change(func() { b.waiting = append(b.waiting, w) })
	<-w.granted
}

// Turn is a goroutine's part in a Batch, made by Go. It ends with the function that it was given
// to, and is not for concurrent use.
type Turn struct{ batch *Batch }

// enter takes one of a receiver's share of at most so many, 0: the default, and returns what
// gives it back. While it waits, which it reports, another goroutine of the batch goes on. It
// is NOT_ATTEMPTED when ctx ends first, or an attempt would no longer fit into the budget.
func (t *Turn) enter(ctx context.Context, budget retry.Budget, to receiver, most int) (leave func(), waited bool, err error) {
	b := t.batch
	leave = func() { b.change(func() { b.hold(to, -1) }) }
	w := &waiter{to: to, most: most, granted: make(chan struct{})}
	b.mu.Lock()
	if b.may(to, most) {
		b.hold(to, 1)
		b.mu.Unlock()
		return leave, false, nil
	}
	b.waiting = append(b.waiting, w)
	b.busy--
	b.grant()
	b.mu.Unlock()

	if !budget.Attempts.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, budget.Attempts.Add(-budget.Least))
		defer cancel()
	}
	select {
	case <-w.granted:
	case <-ctx.Done():
		b.change(func() { b.waiting = slices.DeleteFunc(b.waiting, func(other *waiter) bool { return other == w }) })
	}
	granted := false
	select {
	case <-w.granted:
		granted = true
	default:
	}
	switch {
	case granted && ctx.Err() == nil:
		return leave, true, nil
	case granted: // by one that ended for the same reason, perhaps
		leave()
	default:
		b.enterRoom() // soon: whoever is under way ends in time
	}
	return nil, true, &fault.Error{Code: fault.CodeNotAttempted, Msg: "no time was left after others to the same receiver", Cause: ctx.Err()}
}
