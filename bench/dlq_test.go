package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

const (
	few     = 1_000
	several = 5_000
	million = 1_000_000
)

// One in rareEvery dead letters has rare in its subject.
const (
	rare      = "rare subject"
	rareEvery = 10_000
)

// letter returns a dead letter with a body of 1 KB.
func letter(sink string, i int) dlq.Item {
	subject := "a subject"
	if i%rareEvery == rareEvery/2 {
		subject = "a " + rare
	}
	return dlq.Item{
		Sink: sink, DeliveryID: fmt.Sprintf("delivery-%d", i), Reason: dlq.ReasonExhausted, Attempts: 5,
		LastError: fmt.Sprintf("SINK_UNAVAILABLE: POST https://receiver%d.example.org: HTTP 503", i%3),
		Message:   sinks.Message{ID: fmt.Sprintf("delivery-%d", i), Subject: subject, Body: strings.Repeat("x", 1024)},
	}
}

// fill stores the dead letters from first up to last.
func fill(b *testing.B, s dlq.Store, sink string, first, last int) {
	b.Helper()
	fillBy(b, s, sink, first, last, 500)
}

// fillBy is fill, with so many at a time.
func fillBy(b *testing.B, s dlq.Store, sink string, first, last, at int) {
	b.Helper()
	var wg sync.WaitGroup
	work := make(chan int)
	for range 4 {
		wg.Go(func() {
			for from := range work {
				items := make([]dlq.Item, 0, at)
				for i := from; i < min(from+at, last); i++ {
					items = append(items, letter(sink, i))
				}
				_, errs := s.AddBatch(context.Background(), items)
				if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
					b.Error(errs[i])
				}
			}
		})
	}
	for from := first; from < last; from += at {
		work <- from
	}
	close(work)
	wg.Wait()
}

// serverTime returns Redis' own time in µs per call, of n that f makes: that of the
// scripts, or where there were none that of the commands.
func serverTime(b *testing.B, c redis.UniversalClient, n int, f func()) float64 {
	b.Helper()
	ok(b, c.ConfigResetStat(context.Background()).Err())
	f()
	scripts, commands := 0.0, 0.0
	for name, stat := range commandStats(b, c) {
		if strings.HasPrefix(name, "eval") {
			scripts += stat.usec
		} else {
			commands += stat.usec
		}
	}
	if scripts > 0 {
		return scripts / float64(n) // what a script calls is part of its own time
	}
	return commands / float64(n)
}

type commandStat struct {
	calls int
	usec  float64
}

// commandStats returns Redis' statistics since they were reset, by command.
func commandStats(b *testing.B, c redis.UniversalClient) map[string]commandStat {
	b.Helper()
	info, err := c.Info(context.Background(), "commandstats").Result()
	ok(b, err)
	all := map[string]commandStat{}
	for line := range strings.Lines(info) {
		name, fields, found := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "cmdstat_"), ":calls=")
		if !found || name == "config|resetstat" || name == "info" {
			continue
		}
		var s commandStat
		if _, err := fmt.Sscanf(fields, "%d,usec=%g", &s.calls, &s.usec); err != nil {
			b.Fatalf("commandstats: %q: %v", line, err)
		}
		all[name] = s
	}
	return all
}

// queue is a filled queue and the calls whose cost must not depend on its depth.
type queue struct {
	dlq.Store
	sink string
	ids  []string
	next int
	// discards is how many dead letters one turn may discard.
	discards int
}

func newQueue(b *testing.B, s dlq.Store, sink string, depth int) *queue {
	b.Helper()
	fill(b, s, sink, 0, depth)
	items, err := s.Items(context.Background(), sink, min(depth, several)-1)
	ok(b, err)
	q := &queue{Store: s, sink: sink, next: million * 10, discards: len(items) / turnsEach}
	for _, it := range items {
		q.ids = append(q.ids, it.ID)
	}
	return q
}

// call makes one call of a kind.
func (q *queue) call(b *testing.B, kind string, i int) {
	b.Helper()
	ctx := context.Background()
	var err error
	switch kind {
	case "push":
		q.next++
		err = q.Push(ctx, letter(q.sink, q.next))
	case "get":
		_, err = q.Get(ctx, q.ids[i%len(q.ids)])
	case "count":
		_, err = q.Count(ctx, q.sink)
	case "discard":
		err = q.Discard(ctx, q.ids[0])
		q.ids = q.ids[1:]
	case "page of 50":
		_, err = q.Page(ctx, dlq.Query{Sink: q.sink, Limit: 50})
	case "groups":
		_, err = q.Groups(ctx, q.sink)
	}
	ok(b, err)
}

// times measures calls of a kind: more of those that take next to no time.
func (q *queue) times(b *testing.B, c redis.UniversalClient, kind string) float64 {
	b.Helper()
	n := 50
	switch kind {
	case "get", "count":
		n = 500
	case "discard":
		n = q.discards
	}
	return serverTime(b, c, n, func() {
		for i := range n {
			q.call(b, kind, i)
		}
	})
}

// turnsEach is how often each of two queues has its turn.
const turnsEach = 18

// turns are what a kind of call took in two queues that took turns.
type turns map[string]*[2][]float64

// take measures both queues; which of them is first alternates.
func (t turns) take(kind string, measure func(*queue) float64, queues ...*queue) {
	if t[kind] == nil {
		t[kind] = &[2][]float64{}
	}
	took := t[kind]
	first := len(took[0]) % 2
	for _, at := range []int{first, 1 - first} {
		took[at] = append(took[at], measure(queues[at]))
	}
}

// claim measures claims of 50 and gives the leases back.
func (q *queue) claim(b *testing.B, c redis.UniversalClient) float64 {
	b.Helper()
	var held []dlq.Lease
	us := serverTime(b, c, 10, func() {
		for range 10 {
			leased, err := q.Claim(context.Background(), dlq.Claim{Sink: q.sink, Limit: 50, TTL: time.Minute})
			ok(b, err)
			if len(leased) != 50 {
				b.Fatalf("claimed %d of 50", len(leased))
			}
			for _, l := range leased {
				held = append(held, l.Lease)
			}
		}
	})
	ok(b, q.Release(context.Background(), held))
	return us
}

// BenchmarkDepth compares a queue of a million with one of a thousand.
func BenchmarkDepth(b *testing.B) {
	c := redistest.Start(b).Client(b)
	small := newQueue(b, dlq.NewRedis(c, dlq.WithKeyPrefix("backstop:few"), dlq.WithMaxLen(0)), "ops", few)
	large := newQueue(b, dlq.NewRedis(c, dlq.WithKeyPrefix("backstop:many"), dlq.WithMaxLen(0)), "ops", million)
	kinds := []string{"push", "get", "count", "discard", "page of 50", "groups"}
	t := turns{}
	for range turnsEach {
		for _, kind := range kinds {
			t.take(kind, func(q *queue) float64 { return q.times(b, c, kind) }, small, large)
		}
		t.take("claim of 50", func(q *queue) float64 { return q.claim(b, c) }, small, large)
	}
	for _, kind := range append(kinds, "claim of 50") {
		report(b, paired("server time of "+kind+", 1,000,000 dead letters / 1,000", "µs", t[kind][1], t[kind][0], 1.3))
	}
}

// BenchmarkLargest measures the calls that do the most in one script: however many items
// the caller has, Redis serves nobody else meanwhile.
func BenchmarkLargest(b *testing.B) {
	ctx := context.Background()
	c := redistest.Start(b).Client(b)
	s := dlq.NewRedis(c, dlq.WithMaxLen(0))
	times := map[string][]float64{}
	// measured calls f, and divides what its scripts took by their number.
	measured := func(kind string, f func()) {
		us := serverTime(b, c, 1, f)
		scripts := 0
		for name, stat := range commandStats(b, c) {
			if strings.HasPrefix(name, "eval") {
				scripts += stat.calls
			}
		}
		times[kind] = append(times[kind], us/float64(scripts)/1000)
	}
	const n = 1000
	full := dlq.NewRedis(c, dlq.WithKeyPrefix("backstop:full"), dlq.WithMaxLen(n), dlq.WithOverflow(dlq.OverflowTrim))
	fill(b, full, "ops", 0, n)
	for round := range 5 {
		measured("push into a full queue", func() { fill(b, full, "ops", (round+1)*n, (round+2)*n) })
		measured("push", func() { fill(b, s, "ops", 0, n) })
		var leases []dlq.Lease
		claim := func(q dlq.Claim) func() {
			return func() {
				q.Sink, q.TTL, q.Limit, leases = "ops", time.Minute, n, leases[:0]
				for len(leases) < n {
					leased, err := s.Claim(ctx, q)
					ok(b, err)
					for _, l := range leased {
						leases = append(leases, l.Lease)
					}
				}
			}
		}
		measured("claim", claim(dlq.Claim{}))
		measured("release", func() { ok(b, s.Release(ctx, leases)) })
		ids := make([]string, 0, n)
		for _, l := range leases {
			ids = append(ids, l.ID)
		}
		measured("claim by id", claim(dlq.Claim{IDs: ids}))
		settle := func(action dlq.Action) func() {
			return func() {
				var all []dlq.Settlement
				for _, l := range leases {
					all = append(all, dlq.Settlement{Lease: l, Action: action, Delay: time.Hour, Charge: action == dlq.ActionRetry, Error: "HTTP 503", Operation: "bench"})
				}
				_, err := s.Settle(ctx, all)
				ok(b, err)
			}
		}
		measured("settle failures", settle(dlq.ActionRetry))
		claim(dlq.Claim{IDs: ids})()
		measured("settle successes", settle(dlq.ActionDiscard))
	}
	for _, kind := range slices.Sorted(maps.Keys(times)) {
		report(b, bound("server time of the largest call: "+kind, "ms", median(times[kind]), none, 2))
	}
}

// BenchmarkFilter reads every page of a text that 1 in 10,000 of a million holds.
func BenchmarkFilter(b *testing.B) {
	c := redistest.Start(b).Client(b)
	s := dlq.NewRedis(c, dlq.WithMaxLen(0))
	fill(b, s, "ops", 0, million)
	most, calls, found := 0, 0, 0
	var took []float64
	for cursor := ""; calls == 0 || cursor != ""; calls++ {
		timed(b, &took, func() error {
			page, err := s.Page(context.Background(), dlq.Query{Sink: "ops", Q: rare, Cursor: cursor, Limit: 50})
			most, found, cursor = max(most, page.Scanned), found+len(page.Items), page.NextCursor
			return err
		})
	}
	if found != million/rareEvery {
		b.Fatalf("found %d in %d calls", found, calls)
	}
	report(b, bound(fmt.Sprintf("entries read by one of the %d calls that find 1 in 10,000 of a million", calls), "entries", float64(most), none, 10_000))
	report(b, bound("longest of these calls", "ms", slices.Max(took)/1000, median(took)/1000, none))
}

// BenchmarkSinks compares 1,000 sinks with one.
func BenchmarkSinks(b *testing.B) {
	c := redistest.Start(b).Client(b)
	one := newQueue(b, dlq.NewRedis(c, dlq.WithKeyPrefix("backstop:one"), dlq.WithMaxLen(0)), "sink-0", several)
	all := newQueue(b, dlq.NewRedis(c, dlq.WithKeyPrefix("backstop:all"), dlq.WithMaxLen(0)), "sink-0", several)
	for i := 1; i < 1000; i++ {
		fill(b, all.Store, fmt.Sprintf("sink-%d", i), 0, 5)
	}
	t, kinds := turns{}, []string{"get", "discard"}
	var pages []float64
	for range turnsEach {
		for _, kind := range kinds {
			t.take(kind, func(q *queue) float64 { return q.times(b, c, kind) }, one, all)
		}
		start := time.Now()
		_, err := all.Page(context.Background(), dlq.Query{Limit: 50})
		ok(b, err)
		pages = append(pages, float64(time.Since(start).Microseconds())/1000)
	}
	for _, kind := range kinds {
		report(b, paired("server time of "+kind+" by id, 1,000 sinks / 1", "µs", t[kind][1], t[kind][0], 1.1))
	}
	report(b, bound("a page across 1,000 sinks", "ms", median(pages), none, 60))
}

// BenchmarkPush interleaves our push with a bare XADD of the same bytes.
func BenchmarkPush(b *testing.B) {
	for _, concurrency := range []int{1, 16} {
		c := redistest.Start(b).Client(b)
		s := dlq.NewRedis(c, dlq.WithMaxLen(0))
		raw, err := json.Marshal(letter("ops", 0))
		ok(b, err)
		var next atomic.Int64
		push := func(int) error { return s.Push(context.Background(), letter("ops", int(next.Add(1)))) }
		xadd := func(int) error {
			return c.XAdd(context.Background(), &redis.XAddArgs{Stream: "bare", Values: []any{"item", raw}}).Err()
		}
		ok(b, push(0))
		ok(b, fourCalls.Load(context.Background(), c).Err())
		four := func(int) error { return callFour(c, int(next.Add(1))) }
		both := func(ours, bare func(int) error) (us, base float64) {
			var mu sync.Mutex
			var a, z []float64
			var wg sync.WaitGroup
			for range concurrency {
				wg.Go(func() {
					medians := interleave(b, 8000/concurrency, ours, bare)
					mu.Lock()
					defer mu.Unlock()
					a, z = append(a, medians[0]), append(z, medians[1])
				})
			}
			wg.Wait()
			return median(a), median(z)
		}
		us, base := both(push, xadd)
		report(b, rate(fmt.Sprintf("push of a dead letter / bare XADD, concurrency %d", concurrency), "µs", us, base, 0.65))
		us, base = both(four, xadd)
		report(b, rate(fmt.Sprintf("a script with its four calls alone / bare XADD, concurrency %d", concurrency), "µs", us, base, none))
	}
}

// BenchmarkPushOnServer tells Redis' own time for pushes that come one on the other, as
// in an incident: a server that sleeps in between takes twice as long for each. An XADD,
// a script that does nothing, and one that makes the push's four calls and nothing else
// show what Redis takes for anything at all.
func BenchmarkPushOnServer(b *testing.B) {
	c := redistest.Start(b).Client(b)
	s := dlq.NewRedis(c, dlq.WithMaxLen(0))
	raw, err := json.Marshal(letter("ops", 0))
	ok(b, err)
	nothing := redis.NewScript("return 1")
	ok(b, nothing.Load(context.Background(), c).Err())
	ok(b, fourCalls.Load(context.Background(), c).Err())
	calls := map[string]func(i int) error{
		"push": func(i int) error { return s.Push(context.Background(), letter("ops", i)) },
		"XADD": func(int) error {
			return c.XAdd(context.Background(), &redis.XAddArgs{Stream: "bare", Values: []any{"item", raw}}).Err()
		},
		"an empty script": func(int) error {
			return nothing.EvalSha(context.Background(), c, []string{"bare"}, raw).Err()
		},
		"four calls": func(i int) error { return callFour(c, i) },
	}
	ok(b, calls["push"](-1))
	times := map[string][]float64{}
	for round := range 7 {
		for kind, f := range calls {
			us := serverTime(b, c, 16*100, func() {
				var wg sync.WaitGroup
				for w := range 16 {
					wg.Go(func() {
						for i := range 100 {
							if err := f((round*16+w)*100 + i); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			})
			times[kind] = append(times[kind], us)
		}
	}
	report(b, bound("server time of a push of 1 KB (baseline: of an empty script)", "µs", median(times["push"]), median(times["an empty script"]), 15))
	report(b, slower("server time of a push of 1 KB / of a script with its four calls alone", "µs", median(times["push"]), median(times["four calls"]), none))
	report(b, row{"server time of a push of 1 KB / of XADD", "µs", median(times["push"]), median(times["XADD"]), median(times["push"]) / median(times["XADD"]), none, true})
}

// fourCalls is what no push that is idempotent and counted can do without.
var fourCalls = redis.NewScript(`
redis.call('HGET', KEYS[2], ARGV[1])
redis.call('HINCRBY', KEYS[3], ARGV[2], '1')
local id = redis.call('XADD', KEYS[1], '*', 'item', ARGV[4], 'k', ARGV[1], 'g', ARGV[2], 'n', ARGV[3])
redis.call('HSET', KEYS[2], ARGV[1], id)
return id`)

func callFour(c redis.UniversalClient, i int) error {
	raw, err := json.Marshal(letter("ops", i)) // as a push does: Redis is as busy
	if err != nil {
		return err
	}
	return fourCalls.EvalSha(context.Background(), c, []string{"{four}", "{four}:ids", "{four}:groups"},
		fmt.Sprintf("%022d", i), "n:12345678", "0", raw).Err()
}

// BenchmarkBatch interleaves batches of 10 with single pushes.
func BenchmarkBatch(b *testing.B) {
	s := dlq.NewRedis(redistest.Start(b).Client(b), dlq.WithMaxLen(0))
	next := 0
	letters := func() []dlq.Item {
		items := make([]dlq.Item, 10)
		for i := range items {
			next++
			items[i] = letter("ops", next)
		}
		return items
	}
	medians := interleave(b, 1500,
		func(int) error {
			_, errs := s.AddBatch(context.Background(), letters())
			return errors.Join(errs...)
		},
		func(int) error {
			for _, it := range letters() {
				if err := s.Push(context.Background(), it); err != nil {
					return err
				}
			}
			return nil
		})
	report(b, rate("batch push of 10 / ten single pushes", "µs", medians[0], medians[1], 5))
}

// BenchmarkBytes tells what Redis keeps for a dead letter besides the stream's entry.
func BenchmarkBytes(b *testing.B) {
	ours := bytesEach(b, func(c redis.UniversalClient, n int) { fill(b, dlq.NewRedis(c, dlq.WithMaxLen(0)), "ops", 0, n) })
	bare := bytesEach(b, func(c redis.UniversalClient, n int) {
		for from := 0; from < n; from += 500 {
			p := c.Pipeline()
			for i := range 500 {
				raw, err := json.Marshal(letter("ops", from+i))
				ok(b, err)
				p.XAdd(context.Background(), &redis.XAddArgs{Stream: "bare", Values: []any{"item", raw}})
			}
			_, err := p.Exec(context.Background())
			ok(b, err)
		}
	})
	report(b, row{"Redis memory of a dead letter above the bare entry", "bytes", ours, bare, ours - bare, 150, true})
}

// bytesEach returns the memory of a Redis for each of many things that store keeps there.
func bytesEach(b *testing.B, store func(c redis.UniversalClient, n int)) float64 {
	b.Helper()
	const n = 20_000
	c := redistest.Start(b).Client(b)
	before := memoryOf(b, c)
	store(c, n)
	return (memoryOf(b, c) - before) / n
}

// memoryOf is what the data of a Redis takes, in bytes.
func memoryOf(b *testing.B, c redis.UniversalClient) float64 {
	b.Helper()
	info, err := c.Info(context.Background(), "memory").Result()
	ok(b, err)
	_, after, found := strings.Cut(info, "used_memory_dataset:")
	var n float64
	if _, err := fmt.Sscan(after, &n); !found || err != nil {
		b.Fatalf("no used_memory_dataset in %s", info)
	}
	return n
}
