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

// push is one item on its way into a queue.
type push struct {
	at       int // index in the batch
	item     Item
	entry    entry
	delivery string   // the delivery's key
	others   []string // queues that may have it already
}

// AddBatch implements Store.
func (r *Redis) AddBatch(ctx context.Context, items []Item) ([]Item, []error) {
	stored, errs := make([]Item, len(items)), make([]error, len(items))
	now := time.Now()
	byQueue := map[string][]push{}
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
		delivery := deliveryKey(e.pushKey)
		queue, others, err := r.home(ctx, it.Sink, delivery)
		if err != nil {
			errs[i] = err
			continue
		}
		byQueue[queue] = append(byQueue[queue], push{at: i, item: it, entry: e, delivery: delivery, others: others})
	}
	// Each goroutine writes its own elements only.
	var wg sync.WaitGroup
	for queue, batch := range byQueue {
		add := func() { r.addAll(ctx, queue, batch, stored, errs) }
		if len(byQueue) == 1 {
			add()
		} else {
			wg.Go(add)
		}
	}
	wg.Wait()
	added := map[string][]string{}
	for i := range stored {
		if errs[i] == nil {
			replays.note(ctx, stored[i].ID)
			sink := stored[i].Sink
			added[sink] = append(added[sink], stored[i].ID[len(sink)+1:])
		}
	}
	r.trimAmong(ctx, added)
	return stored, errs
}

// addAll pushes a queue's part of a batch, in one call unless it is very large.
func (r *Redis) addAll(ctx context.Context, queue string, batch []push, stored []Item, errs []error) {
	if err := r.remember(ctx, sinkOf(queue)); err != nil {
		fail(batch, err, errs)
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
		r.addPart(ctx, queue, part, stored, errs)
	}
}

// addPart pushes what fits into one call. Where entries of an older version, which do not
// tell their content, may be the same, it reads what they are and asks again.
func (r *Redis) addPart(ctx context.Context, queue string, part []push, stored []Item, errs []error) {
	limit, part, err := r.among(ctx, queue, part, stored, errs)
	if err != nil {
		fail(part, err, errs)
		return
	}
	var known []string
	for len(part) > 0 {
		again, learned, err := r.addOnce(ctx, queue, part, limit, known, stored, errs)
		if err != nil {
			fail(slices.DeleteFunc(part, func(p push) bool { return stored[p.at].ID != "" || errs[p.at] != nil }), err, errs)
			return
		}
		part, known = again, append(known, learned...)
	}
}

// fail answers pushes with an error.
func fail(pushes []push, err error, errs []error) {
	for _, p := range pushes {
		errs[p.at] = err
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
func (r *Redis) addOnce(ctx context.Context, queue string, part []push, limit int, known []string, stored []Item, errs []error) (again []push, learned []string, err error) {
	trim := "1"
	if r.opts.overflow == OverflowReject {
		trim = "0"
	}
	args := make([]any, 0, 5+7*len(part))
	args = append(args, limit, trim, MaxGroups, maxContents, strings.Join(known, " "))
	for _, p := range part {
		e := p.entry
		address := e.journal
		if address == "" && r.opts.journal {
			address = "@"
		}
		args = append(args, e.pushKey, e.content, e.group, e.groupText, e.when(), e.item, address)
	}
	answer, err := r.conn.Eval(ctx, "push", pushScript, r.conn.Keys.Queue(queue), args...)
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
			errs[p.at] = overflowError(sinkOf(queue), r.opts.maxLen)
		case "compare":
			other := entry{sink: sinkOf(queue), native: native, item: text(more)}
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
		r.opts.onTrim(sinkOf(queue), int(trimmed))
	}
	return again, learned, nil
}
