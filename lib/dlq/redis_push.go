package dlq

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"backstop/internal/redisconn"
)

// Bounds of one call of push.lua, which keep it short: in a full queue each item also
// removes one. Each has seven arguments.
const (
	pushItems = 25
	pushBytes = 1 << 20
)

// maxContents is the number of dead letters of one push key, the newest, that a repeated
// push and Find know. Those before them are kept as well; pushed again they are stored again.
const maxContents = 100

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
		e, err := newEntry(it, now)
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
	for i := range stored {
		if errs[i] == nil {
			replays.note(ctx, stored[i].ID)
		}
	}
	return stored, errs
}

// addAll pushes a sink's part of a batch, in one call unless it is very large.
func (r *Redis) addAll(ctx context.Context, sink string, batch []push, stored []Item, errs []error) {
	if err := r.remember(ctx, sink); err != nil {
		for _, p := range batch {
			errs[p.at] = err
		}
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
		r.addPart(ctx, sink, part, stored, errs)
	}
}

// addPart pushes what fits into one call. Where entries of an older version, which do not
// tell their content, may be the same, it reads what they are and asks again.
func (r *Redis) addPart(ctx context.Context, sink string, part []push, stored []Item, errs []error) {
	var known []string
	for len(part) > 0 {
		again, learned, err := r.addOnce(ctx, sink, part, known, stored, errs)
		if err != nil {
			for _, p := range part {
				if stored[p.at].ID == "" && errs[p.at] == nil {
					errs[p.at] = err
				}
			}
			return
		}
		part, known = again, append(known, learned...)
	}
}

// when is what a push says of an entry's not-before and expiry.
func (e entry) when() string {
	if e.expires > 0 {
		return e.notBefore + " " + strconv.FormatInt(e.expires, 10)
	}
	return e.notBefore
}

// addOnce makes one call and returns the items that it did not decide, and what it learned of
// the entries that they must be compared with, as push.lua takes it.
func (r *Redis) addOnce(ctx context.Context, sink string, part []push, known []string, stored []Item, errs []error) (again []push, learned []string, err error) {
	trim := "1"
	if r.opts.overflow == OverflowReject {
		trim = "0"
	}
	args := make([]any, 0, 5+7*len(part))
	args = append(args, r.opts.maxLen, trim, MaxGroups, maxContents, strings.Join(known, " "))
	for _, p := range part {
		e := p.entry
		address := e.journal
		if address == "" && r.opts.journal {
			address = "@"
		}
		args = append(args, e.pushKey, e.content, e.group, e.groupText, e.when(), e.item, address)
	}
	answer, err := r.conn.Eval(ctx, "push", pushScript, r.conn.Keys.Queue(sink), args...)
	if err != nil {
		return nil, nil, err
	}
	a, ok := answer.([]any)
	if !ok || len(a) != 1+3*len(part) {
		return nil, nil, redisconn.Unexpected("push", answer)
	}
	for i, p := range part {
		status, native, more := text(a[1+3*i]), text(a[2+3*i]), a[3+3*i]
		switch status {
		case "full":
			errs[p.at] = overflowError(sink, r.opts.maxLen)
		case "compare":
			other := entry{sink: sink, native: native, item: text(more)}
			if fact := other.fingerprint() + ":" + native; !slices.Contains(learned, fact) {
				learned = append(learned, fact)
			}
			again = append(again, p)
		case "stored", "exists":
			p.entry.native = native
			p.entry.journaled = r.opts.journal && status == "stored"
			p.entry.setNotBefore(fmt.Sprint(more))
			stored[p.at] = p.entry.stored(p.item)
		default:
			errs[p.at] = redisconn.Unexpected("push", answer)
		}
	}
	if trimmed := number(a[0]); trimmed > 0 {
		r.opts.onTrim(sink, int(trimmed))
	}
	return again, learned, nil
}
