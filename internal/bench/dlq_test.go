package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

const (
	few     = 1_000
	million = 1_000_000
)

// letter returns a dead letter with a body of 1 KB.
func letter(sink string, i int) dlq.Item {
	return dlq.Item{
		Sink: sink, DeliveryID: fmt.Sprintf("delivery-%d", i), Reason: dlq.ReasonExhausted, Attempts: 5,
		LastError: fmt.Sprintf("SINK_UNAVAILABLE: POST https://receiver%d.example.org: HTTP 503", i%3),
		Message:   sinks.Message{ID: fmt.Sprintf("delivery-%d", i), Subject: "a subject", Body: strings.Repeat("x", 1024)},
	}
}

func ok(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// fill stores n dead letters.
func fill(b *testing.B, s dlq.Store, sink string, n int) {
	b.Helper()
	const at = 500
	var wg sync.WaitGroup
	work := make(chan int)
	for range 4 {
		wg.Go(func() {
			for from := range work {
				items := make([]dlq.Item, 0, at)
				for i := from; i < min(from+at, n); i++ {
					items = append(items, letter(sink, i))
				}
				_, errs := s.AddBatch(context.Background(), items)
				if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
					b.Error(errs[i])
				}
			}
		})
	}
	for from := 0; from < n; from += at {
		work <- from
	}
	close(work)
	wg.Wait()
}

// serverTime calls f n times and returns Redis' own time per call in µs: that of the
// scripts, or where there were none that of the commands.
func serverTime(b *testing.B, c redis.UniversalClient, n int, f func(i int)) float64 {
	b.Helper()
	ok(b, c.ConfigResetStat(context.Background()).Err())
	for i := range n {
		f(i)
	}
	info, err := c.Info(context.Background(), "commandstats").Result()
	ok(b, err)
	scripts, commands := 0.0, 0.0
	for line := range strings.Lines(info) {
		name, fields, found := strings.Cut(strings.TrimSpace(line), ":calls=")
		if !found || name == "cmdstat_config|resetstat" || name == "cmdstat_info" {
			continue
		}
		var calls int
		var usec float64
		if _, err := fmt.Sscanf(fields, "%d,usec=%g", &calls, &usec); err != nil {
			b.Fatalf("commandstats: %q: %v", line, err)
		}
		if strings.HasPrefix(name, "cmdstat_eval") {
			scripts += usec
		} else {
			commands += usec
		}
	}
	if scripts > 0 {
		return scripts / float64(n) // what a script calls is part of its own time
	}
	return commands / float64(n)
}

// queue is a filled queue and the calls whose cost must not depend on its depth.
type queue struct {
	dlq.Store
	sink string
	ids  []string
	next int
}

func newQueue(b *testing.B, s dlq.Store, sink string, depth int) *queue {
	b.Helper()
	fill(b, s, sink, depth)
	items, err := s.Items(context.Background(), sink, 900)
	ok(b, err)
	q := &queue{Store: s, sink: sink, next: million * 10}
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

// claim measures claims of 50 and gives the leases back.
func (q *queue) claim(b *testing.B, c redis.UniversalClient) float64 {
	b.Helper()
	var held []dlq.Lease
	us := serverTime(b, c, 10, func(int) {
		leased, err := q.Claim(context.Background(), dlq.Claim{Sink: q.sink, Limit: 50, TTL: time.Minute})
		ok(b, err)
		if len(leased) != 50 {
			b.Fatalf("claimed %d of 50", len(leased))
		}
		for _, l := range leased {
			held = append(held, l.Lease)
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
	times := map[string]*[2][]float64{}
	record := func(kind string, at int, us float64) {
		if times[kind] == nil {
			times[kind] = &[2][]float64{}
		}
		times[kind][at] = append(times[kind][at], us)
	}
	for range 7 {
		for at, q := range []*queue{small, large} {
			for _, kind := range kinds {
				record(kind, at, serverTime(b, c, 100, func(i int) { q.call(b, kind, i) }))
			}
			record("claim of 50", at, q.claim(b, c))
		}
	}
	for _, kind := range append(kinds, "claim of 50") {
		one, many := median(times[kind][0]), median(times[kind][1])
		report(b, row{"server time of " + kind + ", 1,000,000 / 1,000", fmt.Sprintf("%.1f µs", many), fmt.Sprintf("%.1f µs", one), many / one, 1.3, true})
	}
}

// BenchmarkFilter reads pages that match 1 in 10,000 of a million, and groups.
func BenchmarkFilter(b *testing.B) {
	c := redistest.Start(b).Client(b)
	s := dlq.NewRedis(c, dlq.WithMaxLen(0))
	fill(b, s, "ops", million)
	scanned, calls, found := 0, 0, 0
	var slowest time.Duration
	for cursor := ""; ; calls++ {
		start := time.Now()
		page, err := s.Page(context.Background(), dlq.Query{Sink: "ops", Q: "delivery-77", Cursor: cursor, Limit: 1000})
		ok(b, err)
		slowest = max(slowest, time.Since(start))
		scanned, found, cursor = max(scanned, page.Scanned), found+len(page.Items), page.NextCursor
		if cursor == "" || calls == 20 {
			break
		}
	}
	report(b, row{"entries read by one filtered page of a million", fmt.Sprintf("%d calls, %d found, slowest %s", calls+1, found, slowest.Round(time.Millisecond)), "10,000", float64(scanned), 10_000, true})
}

// BenchmarkSinks compares 1,000 sinks with one.
func BenchmarkSinks(b *testing.B) {
	c := redistest.Start(b).Client(b)
	one := newQueue(b, dlq.NewRedis(c, dlq.WithKeyPrefix("backstop:one"), dlq.WithMaxLen(0)), "sink-0", few)
	all := newQueue(b, dlq.NewRedis(c, dlq.WithKeyPrefix("backstop:all"), dlq.WithMaxLen(0)), "sink-0", few)
	for i := 1; i < 1000; i++ {
		fill(b, all.Store, fmt.Sprintf("sink-%d", i), 5)
	}
	times := map[string]*[2][]float64{"get": {}, "discard": {}}
	var pages []float64
	for range 7 {
		for at, q := range []*queue{one, all} {
			for kind := range times {
				times[kind][at] = append(times[kind][at], serverTime(b, c, 100, func(i int) { q.call(b, kind, i) }))
			}
		}
		start := time.Now()
		_, err := all.Page(context.Background(), dlq.Query{Limit: 50})
		ok(b, err)
		pages = append(pages, float64(time.Since(start).Microseconds())/1000)
	}
	for _, kind := range []string{"get", "discard"} {
		few, many := median(times[kind][0]), median(times[kind][1])
		report(b, row{"server time of " + kind + " by id, 1,000 sinks / 1", fmt.Sprintf("%.1f µs", many), fmt.Sprintf("%.1f µs", few), many / few, 1.1, true})
	}
	report(b, row{"a page across 1,000 sinks, ms", fmt.Sprintf("%.0f ms", median(pages)), "-", median(pages), 60, true})
}

// BenchmarkPush interleaves our push with a bare XADD of the same bytes.
func BenchmarkPush(b *testing.B) {
	for _, concurrency := range []int{1, 16} {
		server := redistest.Start(b)
		c := server.Client(b)
		s := dlq.NewRedis(c, dlq.WithMaxLen(0))
		ok(b, s.Push(context.Background(), letter("ops", -1)))
		raw, err := json.Marshal(letter("ops", 0))
		ok(b, err)
		const calls = 8000
		var mu sync.Mutex
		var ours, bare []float64
		var wg sync.WaitGroup
		for w := range concurrency {
			wg.Go(func() {
				var push, xadd []float64
				timed := func(times *[]float64, f func() error) {
					start := time.Now()
					if err := f(); err != nil {
						b.Error(err)
					}
					*times = append(*times, float64(time.Since(start)))
				}
				for i := range calls / concurrency {
					ours := func() error { return s.Push(context.Background(), letter("ops", w*calls+i)) }
					theirs := func() error {
						return c.XAdd(context.Background(), &redis.XAddArgs{Stream: "bare", Values: []any{"item", raw}}).Err()
					}
					// Each goes first as often as the other: what follows a call at once finds
					// the server still awake.
					if i%2 == 0 {
						timed(&push, ours)
						timed(&xadd, theirs)
					} else {
						timed(&xadd, theirs)
						timed(&push, ours)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				ours, bare = append(ours, push...), append(bare, xadd...)
			})
		}
		wg.Wait()
		report(b, row{
			fmt.Sprintf("rate of a push, of bare XADD, concurrency %d", concurrency), time.Duration(median(ours)).String(), time.Duration(median(bare)).String(),
			median(bare) / median(ours), 0.65, false,
		})
		if concurrency == 1 {
			us := serverTime(b, c, 2000, func(i int) { ok(b, s.Push(context.Background(), letter("ops", million+i))) })
			report(b, row{"server time of a push of 1 KB, µs", fmt.Sprintf("%.1f µs", us), "-", us, 15, true})
		}
	}
}

// BenchmarkBatch interleaves batches of 10 with single pushes.
func BenchmarkBatch(b *testing.B) {
	s := dlq.NewRedis(redistest.Start(b).Client(b), dlq.WithMaxLen(0))
	var single, batch []float64
	next := 0
	letters := func() []dlq.Item {
		items := make([]dlq.Item, 10)
		for i := range items {
			next++
			items[i] = letter("ops", next)
		}
		return items
	}
	for range 500 {
		items := letters()
		start := time.Now()
		for _, it := range items {
			ok(b, s.Push(context.Background(), it))
		}
		single = append(single, float64(time.Since(start)))
		items = letters()
		start = time.Now()
		_, errs := s.AddBatch(context.Background(), items)
		batch = append(batch, float64(time.Since(start)))
		for _, err := range errs {
			ok(b, err)
		}
	}
	report(b, row{"rate of a batch push of 10, of single pushes", time.Duration(median(batch)).String(), time.Duration(median(single)).String(), median(single) / median(batch), 5, false})
}

// BenchmarkMemory lists a million dead letters, some with bodies of 256 KiB.
func BenchmarkMemory(b *testing.B) {
	s := dlq.NewRedis(redistest.Start(b).Client(b), dlq.WithMaxLen(0))
	fill(b, s, "ops", million)
	for i := range 200 {
		it := letter("ops", million+i)
		it.Message.Body = strings.Repeat("y", 256<<10)
		ok(b, s.Push(context.Background(), it))
	}
	runtime.GC()
	var idle, now runtime.MemStats
	runtime.ReadMemStats(&idle)
	most, n := 0.0, 0
	for cursor := ""; ; {
		page, err := s.Page(context.Background(), dlq.Query{Sink: "ops", Limit: 1000, Cursor: cursor})
		ok(b, err)
		n += len(page.Items)
		runtime.ReadMemStats(&now)
		most = max(most, float64(now.HeapInuse)-float64(idle.HeapInuse))
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if n != million+200 {
		b.Fatalf("listed %d", n)
	}
	report(b, row{"heap above idle while a million are listed, MiB", fmt.Sprintf("%.0f MiB", most/(1<<20)), "-", most / (1 << 20), 32, true})
}
