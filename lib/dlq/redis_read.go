package dlq

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"backstop/internal/redisconn"

	"github.com/redis/go-redis/v9"
)

// Bounds of one read: the first is short, a little longer if the sink's entries were small when they were last read, and
// those after it follow the size of what was read before.
const (
	readFirst = 16
	readKnown = 64 // of small ones: a default page in one call. They may be large by now
	readItems = 1000
	readBytes = 1 << 20
)

// Items implements DLQ.
func (r *Redis) Items(ctx context.Context, sink string, limit int) ([]Item, error) {
	return items(ctx, r, sink, limit)
}

// Page implements Store.
func (r *Redis) Page(ctx context.Context, q Query) (Page, error) {
	if err := checkQuery(q); err != nil {
		return Page{}, err
	}
	queues, err := r.queuesOf(ctx, q.Sink)
	if err != nil {
		return Page{}, err
	}
	if q.Fingerprint == FingerprintOther {
		if q.beyond, err = r.beyond(ctx, queues); err != nil {
			return Page{}, err
		}
	}
	p, err := page(ctx, redisReader{r}, queues, q)
	if q.Sink != "" && p.Scanned > 0 {
		r.touched(ctx, q.Sink)
	}
	return p, err
}

// Get implements Store.
func (r *Redis) Get(ctx context.Context, id string) (Item, error) {
	parsed, err := r.resolve(ctx, id)
	if err != nil {
		return Item{}, err
	}
	e, err := r.entry(ctx, parsed)
	if err != nil {
		return Item{}, err
	}
	return e.decode(), nil
}

// entry reads one entry with what is kept beside it.
func (r *Redis) entry(ctx context.Context, id ID) (entry, error) {
	var found *redis.XMessageSliceCmd
	var s states
	err := r.conn.Do(ctx, "get", func(ctx context.Context) error {
		p := r.conn.Client.Pipeline()
		found = p.XRange(ctx, r.conn.Keys.Stream(id.queue()), id.Native, id.Native)
		s = r.states(ctx, p, id.queue(), id.Native)
		_, err := p.Exec(ctx)
		return err
	})
	if err != nil {
		return entry{}, err
	}
	if len(found.Val()) == 0 {
		return entry{}, notFoundError(id)
	}
	e := r.entryOf(id.Sink, found.Val()[0])
	s.apply(0, &e)
	r.touched(ctx, id.Sink)
	return e, nil
}

// states is what is kept of entries beside the stream, as it is being read.
type states struct {
	state, lease *redis.SliceCmd
	due          *redis.FloatSliceCmd
}

// states reads on p what is kept of entries of one queue.
func (r *Redis) states(ctx context.Context, p redis.Pipeliner, queue string, natives ...string) states {
	return states{
		state: p.HMGet(ctx, r.conn.Keys.Companion(queue, "state"), natives...),
		lease: p.HMGet(ctx, r.conn.Keys.Companion(queue, "lease"), natives...),
		due:   p.ZMScore(ctx, r.conn.Keys.Companion(queue, "due"), natives...),
	}
}

// besides are how many entries of a sink have something kept beside the stream, as it is being read.
type besides [3]*redis.IntCmd

// besides asks on p, behind what reads entries of a sink: none is cheaper to ask for than the states of each.
func (r *Redis) besides(ctx context.Context, p redis.Pipeliner, queue string) besides {
	return besides{
		p.HLen(ctx, r.conn.Keys.Companion(queue, "state")), p.HLen(ctx, r.conn.Keys.Companion(queue, "lease")), p.ZCard(ctx, r.conn.Keys.Companion(queue, "due")),
	}
}

// none reports that no entry has.
func (b besides) none() bool {
	return !slices.ContainsFunc(b[:], func(n *redis.IntCmd) bool { return n.Val() != 0 })
}

// apply completes e, the entry of the i-th id.
func (s states) apply(i int, e *entry) {
	e.setState(text(s.state.Val()[i]))
	if rec := text(s.lease.Val()[i]); rec != "" {
		prior, _, _ := strings.Cut(rec, "|")
		e.due = number(prior) // of an idle one: 0
		e.until = time.UnixMilli(int64(s.due.Val()[i])).UTC()
	} else {
		e.due = int64(s.due.Val()[i])
	}
}

// setState reads the JSON that the scripts keep of a replayed entry.
func (e *entry) setState(s string) {
	if s == "" {
		return
	}
	if err := json.Unmarshal([]byte(s), &e.state); err != nil {
		// Only the scripts write it; an entry must not become unreadable for its sake.
		e.state = state{}
	}
	e.size += len(s)
}

func (r *Redis) entryOf(sink string, m redis.XMessage) entry {
	fields := make(map[string]string, len(m.Values))
	e := entry{sink: sink, native: m.ID, journaled: r.opts.journal}
	for k, v := range m.Values {
		fields[k] = text(v)
		e.size += len(k) + len(fields[k])
	}
	e.setFields(fields)
	return e
}

// resolve finds the sink of a bare native id. Public ids need no I/O.
func (r *Redis) resolve(ctx context.Context, id string) (ID, error) {
	parsed, err := ParseID(id)
	if err != nil || parsed.Sink != "" {
		return parsed, err
	}
	names, err := r.Sinks(ctx)
	if err != nil {
		return ID{}, err
	}
	spans := make([]span, len(names))
	for i, name := range names {
		spans[i] = span{queue: queueOf(name, shardOf(parsed.Native)), newest: parsed.Native, oldest: parsed.Native}
	}
	heads, err := redisReader{r}.newest(ctx, spans, 0)
	if err != nil {
		return ID{}, err
	}
	var in []string
	for i, e := range heads {
		if e != nil {
			in = append(in, names[i])
		}
	}
	return oneSink(parsed.Native, in)
}

type redisReader struct{ r *Redis }

func (r redisReader) newest(ctx context.Context, spans []span, whole int) ([]*entry, error) {
	in := make([]redisconn.Call, len(spans))
	for i, s := range spans {
		in[i] = redisconn.Call{Keys: []string{r.r.conn.Keys.Stream(s.queue)}, Args: []any{s.newest, s.oldest}}
	}
	answers, err := r.r.conn.EvalAll(ctx, "page", newestScript, in)
	if err != nil {
		return nil, err
	}
	heads := make([]*entry, len(spans))
	var small []*entry
	for i, answer := range answers {
		a, ok := answer.([]any)
		if !ok || len(a) == 1 {
			return nil, redisconn.Unexpected("page", answer)
		}
		if len(a) == 0 {
			continue
		}
		heads[i] = &entry{sink: sinkOf(spans[i].queue), native: text(a[0]), size: int(number(a[1])), lazy: true}
		if heads[i].size <= peekBytes {
			small = append(small, heads[i])
		}
	}
	slices.SortFunc(small, func(a, b *entry) int { return CompareNative(b.native, a.native) })
	return heads, r.load(ctx, small[:min(whole, len(small))])
}

// load reads the fields of lazy entries. One that was removed meanwhile stays as it is.
func (r redisReader) load(ctx context.Context, entries []*entry) error {
	if len(entries) == 0 {
		return nil
	}
	found := make([]*redis.XMessageSliceCmd, len(entries))
	err := r.r.conn.DoAll(ctx, "page", len(entries), func(ctx context.Context) error {
		p := r.r.conn.Client.Pipeline()
		for i, e := range entries {
			found[i] = p.XRange(ctx, r.r.conn.Keys.Stream(e.id().queue()), e.native, e.native)
		}
		_, err := p.Exec(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for i, e := range entries {
		if got := found[i].Val(); len(got) > 0 {
			*e = r.r.entryOf(e.sink, got[0])
		}
	}
	return nil
}

func (r redisReader) read(ctx context.Context, s span, n int) (entries []entry, more bool, err error) {
	size, want := 0, r.r.firstRead(s.queue)
	for len(entries) < n && size < readBytes {
		if len(entries) > 0 {
			want = min((readBytes-size)*len(entries)/(size+1), readItems)
		}
		want = min(max(want, 1), n-len(entries))
		var b besides
		got, err := redisconn.Ask(ctx, r.r.conn, "page", func(ctx context.Context) ([]redis.XMessage, error) {
			p := r.r.conn.Client.Pipeline()
			found := p.XRevRangeN(ctx, r.r.conn.Keys.Stream(s.queue), s.newest, s.oldest, int64(want))
			b = r.r.besides(ctx, p, s.queue)
			_, err := p.Exec(ctx)
			return found.Val(), err
		})
		if err != nil {
			return nil, false, err
		}
		for _, m := range got {
			e := r.r.entryOf(sinkOf(s.queue), m)
			e.fresh = b.none()
			size += e.size
			entries = append(entries, e)
		}
		if len(entries) > 0 {
			r.r.haveRead(s.queue, size/len(entries))
		}
		if len(got) < want {
			return entries, false, nil
		}
		s.newest = before(got[len(got)-1].ID)
	}
	return entries, true, nil
}

// firstRead is how many entries of a queue a page asks for at first.
func (r *Redis) firstRead(queue string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if mean, ok := r.means[queue]; ok {
		return min(max(readBytes/(mean+1), readFirst), readKnown)
	}
	return readFirst
}

// haveRead remembers how large a queue's entries are.
func (r *Redis) haveRead(queue string, mean int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.means[queue] = mean
}

// complete reads what replays have made of the entries of a page, one pipeline for all
// queues. Of fresh ones that is known.
func (r redisReader) complete(ctx context.Context, entries []*entry) error {
	byQueue := map[string][]*entry{}
	for _, e := range entries {
		if !e.fresh {
			queue := e.id().queue()
			byQueue[queue] = append(byQueue[queue], e)
		}
	}
	if len(byQueue) == 0 {
		return nil
	}
	all := make(map[string]states, len(byQueue))
	err := r.r.conn.DoAll(ctx, "page", len(byQueue), func(ctx context.Context) error {
		p := r.r.conn.Client.Pipeline()
		for queue, part := range byQueue {
			natives := make([]string, len(part))
			for i, e := range part {
				natives[i] = e.native
			}
			all[queue] = r.r.states(ctx, p, queue, natives...)
		}
		_, err := p.Exec(ctx)
		return err
	})
	if err != nil {
		return err
	}
	for queue, part := range byQueue {
		for i, e := range part {
			all[queue].apply(i, e)
		}
	}
	return nil
}
