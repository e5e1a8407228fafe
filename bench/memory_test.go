package bench

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// BenchmarkSendMemory runs 10,000 batches through one process of the send function.
func BenchmarkSendMemory(b *testing.B) {
	const batches = 10_000
	r := newReceiver(b, 0)
	f := startFunction(b, "send", r.URL, redistest.Start(b).URL())
	early, last := 0.0, 0.0
	for i := range batches {
		res := f.invoke(b, event(i, 10))
		switch i + 1 {
		case batches / 10:
			early = resident(b, res.PID)
			progress("%d batches, %.1f MiB", i+1, early)
		case batches:
			last = resident(b, res.PID)
		}
	}
	if n := r.requests.Load(); n != 10*batches {
		b.Fatalf("%d requests arrived, want %d", n, 10*batches)
	}
	report(b, bound("resident memory of send after 10,000 batches (baseline: after 1,000)", "MiB", last, early, 64))
	report(b, slower("the same, 10,000 batches / 1,000", "MiB", last, early, 1.1))
}

// heap watches this process' heap until stop, which returns by how many MiB it grew at
// most.
func heap() (stop func() float64) {
	var stats runtime.MemStats
	inUse := func() float64 {
		runtime.ReadMemStats(&stats)
		return float64(stats.HeapInuse) / (1 << 20)
	}
	runtime.GC()
	idle := inUse()
	ended, most := make(chan struct{}), make(chan float64)
	go func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		peak := 0.0
		for {
			peak = max(peak, inUse()-idle)
			select {
			case <-ended:
				most <- peak
				return
			case <-tick.C:
			}
		}
	}()
	return func() float64 {
		close(ended)
		return <-most
	}
}

// yes is a sink that delivers at once.
type yes struct{ sent atomic.Int64 }

func (*yes) Name() string { return "ops" }

func (y *yes) Send(context.Context, sinks.Recipient, sinks.Message) error {
	if n := y.sent.Add(1); n%250_000 == 0 {
		progress("replayed %d", n)
	}
	return nil
}

// to is the one configured sink.
type to struct{ target delivery.Target }

func (t to) Target(context.Context, string) (delivery.Target, error) { return t.target, nil }
func (t to) Names(context.Context) ([]string, error)                 { return []string{"ops"}, nil }

// BenchmarkMemory lists and then replays a million dead letters, some with bodies of
// 256 KiB.
func BenchmarkMemory(b *testing.B) {
	const large = 200
	s := dlq.NewRedis(redistest.Start(b).Client(b), dlq.WithMaxLen(0))
	fill(b, s, "ops", 0, million)
	for i := range large {
		it := letter("ops", million+i)
		it.Message.Body = strings.Repeat("y", 256<<10)
		ok(b, s.Push(context.Background(), it))
	}
	stop, n := heap(), 0
	for cursor := ""; n == 0 || cursor != ""; {
		page, err := s.Page(context.Background(), dlq.Query{Sink: "ops", Limit: 1000, Cursor: cursor})
		ok(b, err)
		n, cursor = n+len(page.Items), page.NextCursor
	}
	most := stop()
	if n != million+large {
		b.Fatalf("listed %d", n)
	}
	report(b, bound("heap above idle while a million dead letters are listed", "MiB", most, none, 32))

	sink := &yes{}
	engine := replay.Engine{Store: s, Targets: to{delivery.Target{Sink: sink, Replay: replay.Policy{Concurrency: 50}}}}
	engine.Log = discard
	stop = heap()
	start := time.Now()
	summary, err := engine.Run(context.Background(), replay.Request{})
	ok(b, err)
	most = stop()
	if summary.Delivered != million+large || summary.Remaining != 0 {
		b.Fatalf("replayed %+v", summary)
	}
	report(b, bound("heap above idle while they are replayed", "MiB", most, none, 32))
	report(b, bound(fmt.Sprintf("one replay of %d dead letters to a sink that takes no time", million+large), "s", time.Since(start).Seconds(), none, none))
}
