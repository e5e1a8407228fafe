package dlq

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"backstop/internal/redisconn"
)

// Return implements Journaling.
func (r *Redis) Return(ctx context.Context, sink, token string, over int, letters []Letter) ([]Returned, error) {
	entries, err := checkReturn(sink, token, letters, time.Now())
	if err != nil || len(letters) == 0 {
		return nil, err
	}
	identities := make([]Identity, len(letters))
	for i, l := range letters {
		identities[i] = l.Identity
	}
	var there []Present
	var notKnown error
	var asking sync.WaitGroup // two questions, and the time of one
	asking.Go(func() { there, notKnown = r.Present(ctx, sink, identities) })
	// Whoever restores a queue that was lost may have known of its sink before.
	err = r.conn.Do(ctx, "return", func(ctx context.Context) error {
		return r.conn.Client.SAdd(ctx, r.conn.Keys.Sinks(), sink).Err()
	})
	asking.Wait()
	if err = cmp.Or(err, notKnown); err != nil {
		return nil, err
	}
	ended, err := r.endedElsewhere(ctx, sink, entries)
	if err != nil {
		return nil, err
	}
	out := make([]Returned, len(letters))
	var part []int // that are for one queue, in their order: there may not be room for all
	size, to := 0, ""
	for i, e := range entries {
		if ended[i] {
			out[i] = Returned{Status: ReturnEnded}
			continue
		}
		queue, err := r.returnsTo(ctx, sink, e, letters[i].Item.DeliveryID, there[i])
		if err != nil {
			return nil, err
		}
		if len(part) > 0 && (queue != to || size+len(e.item) > pushBytes) {
			if err := r.giveBack(ctx, to, token, over, letters, entries, there, part, out); err != nil {
				return nil, err
			}
			part, size = nil, 0
		}
		part, size, to = append(part, i), size+len(e.item), queue
	}
	if len(part) == 0 {
		return out, nil
	}
	return out, r.giveBack(ctx, to, token, over, letters, entries, there, part, out)
}

// endedElsewhere reports for each entry whether a queue of its sink notes its address as over. A sink with one queue need not
// be asked: return.lua looks there.
func (r *Redis) endedElsewhere(ctx context.Context, sink string, entries []entry) ([]bool, error) {
	queues, err := r.queues(ctx, sink)
	if err != nil || len(queues) == 1 {
		return make([]bool, len(entries)), err
	}
	addresses := make([]string, 0, 2*len(entries))
	for _, e := range entries {
		addresses = append(addresses, e.journal, cmp.Or(nativeSpelling(e.journal), e.journal))
	}
	noted, err := r.areEnded(ctx, queues, addresses)
	if err != nil {
		return nil, err
	}
	ended := make([]bool, len(entries))
	for i := range entries {
		ended[i] = noted[2*i] || noted[2*i+1]
	}
	return ended, nil
}

// returnsTo is the queue that a dead letter is returned to: where it is, or where its delivery's go. There it is noted if
// another notes that the delivery was canceled.
func (r *Redis) returnsTo(ctx context.Context, sink string, e entry, deliveryID string, there Present) (string, error) {
	if id, err := ParseID(there.ID); err == nil {
		return id.queue(), nil
	}
	if native, foreign := strings.CutPrefix(e.pushKey, "@"); foreign {
		return queueOf(sink, shardOf(native)), nil // where it is looked for
	}
	queue, others, err := r.home(ctx, sink, e.deliveryKeyOf(deliveryID))
	if err != nil || len(others) == 0 {
		return queue, err
	}
	_, err = r.around(ctx, queue, []push{{entry: e, delivery: e.deliveryKeyOf(deliveryID), others: others}})
	return queue, err
}

// giveBack returns some letters, in one call unless there are entries that they must be compared
// with (see addPart).
func (r *Redis) giveBack(ctx context.Context, queue, token string, over int, letters []Letter, entries []entry, there []Present, part []int, out []Returned) error {
	sink, most := sinkOf(queue), 0
	if r.opts.maxLen > 0 {
		var err error
		if most, err = r.most(ctx, sink, queue, r.opts.maxLen+max(over, 0)); err != nil {
			return err
		}
	}
	var known []string
	for len(part) > 0 {
		args := []any{token, most, MaxGroups, maxContents, strings.Join(known, " ")}
		for _, i := range part {
			e, wait, found := entries[i], "", ID{}
			if e.state.Parked {
				wait = "p"
			}
			if e.state.Held {
				wait += "h"
			}
			if e.state.SupersededBy != "" {
				wait += "|" + e.state.SupersededBy
			}
			if there[i].ID != "" {
				found, _ = ParseID(there[i].ID)
			}
			args = append(args, e.pushKey, e.content, e.group, e.groupText, e.when(), e.item, e.journal, nativeSpelling(e.journal),
				e.deliveryKeyOf(letters[i].Item.DeliveryID), wait, found.Native)
		}
		answer, err := r.conn.Eval(ctx, "return", returnScript, r.conn.Keys.Queue(queue), args...)
		if err != nil {
			return err
		}
		a, ok := answer.([]any)
		if ok && len(a) == 1 && a[0] == int64(-1) {
			if r.follow(ctx, queue, token) {
				continue
			}
			return ErrJournalTaken
		}
		if !ok || len(a) != 3*len(part) {
			return redisconn.Unexpected("return", answer)
		}
		var again []int
		for j, i := range part {
			status, native, more := text(a[3*j]), text(a[3*j+1]), a[3*j+2]
			switch ReturnStatus(status) {
			case "compare":
				other := entry{sink: sink, native: native, item: text(more)}
				if fact := other.fingerprint() + ":" + native; !slices.Contains(known, fact) {
					known = append(known, fact)
				}
				again = append(again, i)
			case ReturnStored, ReturnExists:
				out[i] = Returned{Status: ReturnStatus(status), ID: ID{Sink: sink, Native: native}.String()}
			case ReturnEnded, ReturnCanceled, ReturnFull:
				out[i] = Returned{Status: ReturnStatus(status)}
			default:
				return redisconn.Unexpected("return", answer)
			}
		}
		part = again
	}
	return nil
}
