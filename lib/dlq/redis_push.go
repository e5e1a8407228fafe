package dlq

import (
	"context"
	"sync"
	"time"
)

// Bounds of one call of push.lua, which keep it short: in a full queue each item also
// removes one. Each has five arguments.
const (
	pushItems = 25
	pushBytes = 1 << 20
)

// Push implements DLQ.
func (r *Redis) Push(ctx context.Context, it Item) error {
	_, err := r.Add(ctx, it)
	return err
}

// Add implements Store.
func (r *Redis) Add(ctx context.Context, it Item) (Item, error) {
	stored, errs := r.AddBatch(ctx, []Item{it})
	return stored[0], errs[0]
}

// push is one item on its way into the queue.
type push struct {
	at    int // index in the batch
	item  Item
	entry entry
}

// AddBatch implements Store.
func (r *Redis) AddBatch(ctx context.Context, items []Item) ([]Item, []error) {
	stored, errs := make([]Item, len(items)), make([]error, len(items))
	now := time.Now()
	bySink := map[string][]push{}
	for i, it := range items {
		it, err := prepare(ctx, it, now)
		if err != nil {
			errs[i] = err
			continue
		}
		e, err := newEntry(it)
		if err != nil {
			errs[i] = err
			continue
		}
		bySink[it.Sink] = append(bySink[it.Sink], push{at: i, item: it, entry: e})
	}
	// Each goroutine writes its own elements only.
	var wg sync.WaitGroup
	for sink, batch := range bySink {
		add := func() { r.addAll(ctx, sink, batch, stored, errs) }
		if len(bySink) == 1 {
			add()
		} else {
			wg.Go(add)
		}
	}
	wg.Wait()
	if c := carrierOf(ctx); c != nil {
		for i := range stored {
			if errs[i] == nil {
				c.again.Store(&stored[i].ID)
			}
		}
	}
	return stored, errs
}

// addAll pushes a sink's part of a batch, in one call unless it is very large.
func (r *Redis) addAll(ctx context.Context, sink string, batch []push, stored []Item, errs []error) {
	fail := func(part []push, err error) {
		for _, p := range part {
			errs[p.at] = err
		}
	}
	if err := r.remember(ctx, sink); err != nil {
		fail(batch, err)
		return
	}
	for len(batch) > 0 {
		n, size := 0, 0
		for n < len(batch) && n < pushItems && (n == 0 || size+len(batch[n].entry.item) <= pushBytes) {
			size += len(batch[n].entry.item)
			n++
		}
		part := batch[:n]
		batch = batch[n:]
		if err := r.addPart(ctx, sink, part, stored, errs); err != nil {
			fail(part, err)
		}
	}
}

func (r *Redis) addPart(ctx context.Context, sink string, part []push, stored []Item, errs []error) error {
	trim := "1"
	if r.opts.overflow == OverflowReject {
		trim = "0"
	}
	args := make([]any, 0, 3+5*len(part))
	args = append(args, r.opts.maxLen, trim, MaxGroups)
	for _, p := range part {
		args = append(args, p.entry.pushKey, p.entry.group, p.entry.groupText, p.entry.notBefore, p.entry.item)
	}
	answer, err := r.eval(ctx, "push", pushScript, invocation{r.keys.queue(sink), args})
	if err != nil {
		return err
	}
	a, ok := answer.([]any)
	if !ok || len(a) != 1+2*len(part) {
		return answerError("push", answer)
	}
	for i, p := range part {
		status, native := text(a[1+2*i]), text(a[2+2*i])
		if status == "full" {
			errs[p.at] = overflowError(sink, r.opts.maxLen)
			continue
		}
		e := p.entry
		e.native = native
		stored[p.at] = e.stored(p.item)
	}
	if trimmed := number(a[0]); trimmed > 0 {
		r.opts.onTrim(sink, int(trimmed))
	}
	return nil
}
