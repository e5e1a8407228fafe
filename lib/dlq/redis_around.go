package dlq

import (
	"cmp"
	"context"
	"slices"
	"time"

	"backstop/internal/redisconn"
	"backstop/lib/fault"

	"github.com/redis/go-redis/v9"
)

// What a push into one of several queues of a sink asks of the others: whether the same is there already, since the sink had
// another number of shards; whether its delivery was canceled; and how much room there is.

// repeats reports whether a push of p, with the same push key and content, is a repetition of e (see DLQ.Push).
func (e entry) repeats(p entry, now time.Time) bool {
	over := e.state.Expired > 0 || e.expires > 0 && e.expires <= now.UnixMilli()
	return e.state.DeliveredAt == 0 && (e.expires == p.expires || !over) && e.state.SupersededBy == ""
}

// around looks into the other queues that may have what is pushed to a queue. It returns what is there by its index, and notes in the
// queue which deliveries were canceled.
func (r *Redis) around(ctx context.Context, queue string, pushes []push) (map[int]entry, error) {
	byQueue := map[string][]int{}
	var queues []string
	for i, p := range pushes {
		for _, other := range p.others {
			if byQueue[other] == nil {
				queues = append(queues, other)
			}
			byQueue[other] = append(byQueue[other], i)
		}
	}
	if len(queues) == 0 {
		return nil, nil
	}
	found, notes := make([][]Present, len(queues)), make([][]float64, len(queues))
	err := each(queues, func(q int, other string) (err error) {
		identities, keys := make([]Identity, 0, len(byQueue[other])), make([]string, 0, len(byQueue[other]))
		for _, i := range byQueue[other] {
			identities = append(identities, Identity{PushKey: pushes[i].entry.pushKey, Content: pushes[i].entry.content})
			keys = append(keys, pushes[i].delivery)
		}
		if notes[q], err = redisconn.Ask(ctx, r.conn, "push", func(ctx context.Context) ([]float64, error) {
			return r.conn.Client.ZMScore(ctx, r.conn.Keys.Companion(other, "canceled"), keys...).Result()
		}); err != nil {
			return err
		}
		found[q], err = r.present(ctx, other, identities)
		return err
	})
	if err != nil {
		return nil, err
	}
	now := time.Now()
	there := map[int]entry{}
	var canceled []redis.Z
	for q, other := range queues {
		for n, i := range byQueue[other] {
			if until := notes[q][n]; until > 0 { // one that is over does no harm, and is pruned
				canceled = append(canceled, redis.Z{Score: until, Member: pushes[i].delivery})
			}
			if found[q][n].ID == "" {
				continue
			}
			id, err := ParseID(found[q][n].ID)
			if err != nil {
				return nil, err
			}
			e, err := r.entry(ctx, id)
			switch {
			case err == nil && e.repeats(pushes[i].entry, now):
				there[i] = e
			case err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound:
				return nil, err
			}
		}
	}
	if len(canceled) == 0 {
		return there, nil
	}
	return there, r.conn.Do(ctx, "push", func(ctx context.Context) error {
		return r.conn.Client.ZAddGT(ctx, r.conn.Keys.Companion(queue, "canceled"), canceled...).Err()
	})
}

// among returns the bound of a push into a queue. Into one of several it answers what repeats what is in another, and returns the rest.
func (r *Redis) among(ctx context.Context, queue string, pushes []push, stored []Item, errs []error) (limit int, rest []push, err error) {
	queues, err := r.queues(ctx, sinkOf(queue))
	if err != nil || len(queues) == 1 {
		return r.opts.maxLen, pushes, err
	}
	there, err := r.around(ctx, queue, pushes)
	if err != nil {
		return 0, pushes, err
	}
	for i, p := range pushes {
		e, ok := there[i]
		if !ok {
			rest = append(rest, p)
			continue
		}
		if p.entry.journal != "" && p.entry.journal != e.journal {
			// As push.lua does: one of the two addresses is enough, and the queue's is to be written.
			if errs[p.at] = cmp.Or(r.note(ctx, e.id().queue(), "ended", []string{p.entry.journal}),
				r.note(ctx, e.id().queue(), "unjournaled", []string{e.native})); errs[p.at] != nil {
				continue
			}
		}
		p.entry.native = e.native
		p.entry.setNotBefore(e.notBefore)
		stored[p.at] = p.entry.stored(p.item)
	}
	if r.opts.overflow == OverflowReject {
		limit, err = r.most(ctx, sinkOf(queue), queue, r.opts.maxLen)
	}
	return limit, rest, err // where it trims, that is done for all queues together, by trimAmong
}

// trimAmong removes what is too many in sinks with several queues, to which these were added; none of them. What it cannot, the next push
// removes: what was stored is safe.
func (r *Redis) trimAmong(ctx context.Context, added map[string][]string) {
	if r.opts.overflow == OverflowReject || r.opts.maxLen == 0 {
		return
	}
	for sink, natives := range added {
		if queues, err := r.queues(ctx, sink); err == nil && len(queues) > 1 {
			_ = r.trimTo(ctx, sink, r.opts.maxLen, natives)
		}
	}
}

// held is what queues of a sink have together, and how much of it each has.
type held struct {
	queues            []string
	entries, kept     []int64
	oldest, firstKept []string // native ids; empty: none
}

func (r *Redis) held(ctx context.Context, sink string) (held, error) {
	queues, err := r.queues(ctx, sink)
	if err != nil {
		return held{}, err
	}
	calls := make([]redisconn.Call, len(queues))
	for i, queue := range queues {
		calls[i] = redisconn.Call{Keys: r.conn.Keys.Queue(queue)}
	}
	answers, err := r.conn.EvalAll(ctx, "push", heldScript, calls)
	if err != nil {
		return held{}, err
	}
	h := held{queues: queues}
	for _, answer := range answers {
		a, ok := answer.([]any)
		if !ok || len(a) != 4 {
			return held{}, redisconn.Unexpected("push", answer)
		}
		h.entries, h.kept = append(h.entries, number(a[0])), append(h.kept, number(a[1]))
		h.firstKept, h.oldest = append(h.firstKept, text(a[2])), append(h.oldest, text(a[3]))
	}
	return h, nil
}

// waiting is how many entries there are that were not kept after their delivery.
func (h held) waiting() int64 { return sum(h.entries) - sum(h.kept) }

// first returns the index of the oldest of natives, if that is older than until; -1: there is none.
func first(natives []string, until string) int {
	at := -1
	for i, native := range natives {
		if native != "" && CompareNative(native, until) < 0 && (at < 0 || CompareNative(native, natives[at]) < 0) {
			at = i
		}
	}
	return at
}

// makeRoom removes entries of a sink that are older than until, one by one, as long as there are more than most, or more kept ones: kept
// ones first and then the oldest, or only kept ones; leased ones never.
func (r *Redis) makeRoom(ctx context.Context, sink string, h held, most int, until string, onlyKept bool) (removed int, err error) {
	over := func() int64 {
		if onlyKept {
			return sum(h.kept) - int64(most)
		}
		return sum(h.entries) - int64(most)
	}
	for tries := 2*over() + 10; over() > 0 && tries > 0; tries-- { // others may be faster
		natives := h.firstKept
		i := first(natives, until)
		if i < 0 && !onlyKept {
			natives = h.oldest
			i = first(natives, until)
		}
		if i < 0 {
			return removed, nil
		}
		answer, err := r.conn.Eval(ctx, "push", roomScript, r.conn.Keys.Queue(h.queues[i]), natives[i])
		if err != nil {
			return removed, err
		}
		removed += int(number(answer))
		if h, err = r.held(ctx, sink); err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// room is how much there was in the queues of a sink when a process looked.
type room struct {
	at   time.Time
	left int64
}

// hasRoom reports whether there is room for n more entries by what was seen in the last second, though a hundred
// processes think so too.
func (r *Redis) hasRoom(sink string, n int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.rooms[sink]
	if time.Since(seen.at) >= time.Second || n > seen.left/100 {
		return false
	}
	seen.left -= n
	r.rooms[sink] = seen
	return true
}

// trimTo removes the oldest entries of a sink with several queues that are too many since these were stored.
func (r *Redis) trimTo(ctx context.Context, sink string, most int, natives []string) error {
	if r.hasRoom(sink, int64(len(natives))) {
		return nil
	}
	h, err := r.held(ctx, sink)
	if err != nil {
		return err
	}
	removed, err := r.makeRoom(ctx, sink, h, most, slices.MinFunc(natives, CompareNative), false)
	r.mu.Lock()
	r.rooms[sink] = room{at: time.Now(), left: int64(most) - sum(h.entries)}
	r.mu.Unlock()
	if removed > 0 {
		r.opts.onTrim(sink, removed)
	}
	return err
}

// most is how many entries that wait a queue may have so that those of its sink are at most so many together, as
// push.lua, return.lua and supersede.lua take it: 0 is no bound, and a negative number none at all.
func (r *Redis) most(ctx context.Context, sink, queue string, most int) (int, error) {
	queues, err := r.queues(ctx, sink)
	if err != nil || most == 0 || len(queues) == 1 {
		return most, err
	}
	h, err := r.held(ctx, sink)
	if err != nil {
		return 0, err
	}
	i := slices.Index(h.queues, queue)
	own := h.entries[i] - h.kept[i]
	if left := int64(most) - h.waiting() + own; left > 0 {
		return int(left), nil
	}
	return -1, nil
}

// trimKept removes the oldest kept entries of a sink with several queues that are too many.
func (r *Redis) trimKept(ctx context.Context, sink string) error {
	h, err := r.held(ctx, sink)
	if err != nil {
		return err
	}
	removed, err := r.makeRoom(ctx, sink, h, r.opts.keptLimit(), maxNative, true)
	if removed > 0 {
		r.opts.onTrim(sink, removed)
	}
	return err
}
