package bench

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// patient is a receiver that may be down, and notes when it was asked.
type patient struct {
	*httptest.Server
	down atomic.Bool

	mu sync.Mutex
	at []time.Time
}

func newPatient(b *testing.B, takes time.Duration) *patient {
	b.Helper()
	p := &patient{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.mu.Lock()
		p.at = append(p.at, time.Now())
		p.mu.Unlock()
		time.Sleep(takes)
		if p.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	b.Cleanup(p.Close)
	return p
}

// asked returns the times of the attempts so far, in order.
func (p *patient) asked() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.SortedFunc(slices.Values(p.at), time.Time.Compare)
}

// calls counts the commands of a client.
type calls struct{ n atomic.Int64 }

func (*calls) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *calls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *calls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

// looks is a store whose question about the sink, which both sides ask once in two seconds
// however many deliveries there are, is taken off the count.
type looks struct {
	flow.Store
	count *calls
}

func (l looks) Look(ctx context.Context, sink string) (flow.Seen, error) {
	l.count.n.Add(-1)
	return l.Store.Look(ctx, sink)
}

// BenchmarkGate compares deliveries whose every attempt asks the gate with the same ones that
// ask only whether the sink is paused, as before there was a gate.
func BenchmarkGate(b *testing.B) {
	r := newReceiver(b, 0)
	server := redistest.Start(b)
	registry := sinks.NewRegistry()
	registry.Register(webhookTo(b, r.URL))
	sender := func(gated bool) (*delivery.Sender, *calls) {
		c, count := server.Client(b), &calls{}
		c.AddHook(count)
		gate := &flow.Gate{Store: looks{flow.NewRedis(c, "backstop"), count}, Log: discard}
		s := &delivery.Sender{
			Targets: delivery.Registered(registry), Queue: dlq.NewRedis(c), Records: delivery.NewRedis(c, "backstop", time.Hour), Paused: gate.Paused, Log: discard,
		}
		if gated {
			s.Gate = gate
		}
		return s, count
	}
	with, withCalls := sender(true)
	without, withoutCalls := sender(false)
	ctx, cancel := context.WithTimeout(b.Context(), 15*time.Minute)
	defer cancel()
	send := func(s *delivery.Sender, side string) func(int) error {
		return func(i int) error {
			a, err := s.Deliver(ctx, delivery.Request{Sink: "ops", ID: fmt.Sprintf("%s-%d", side, i), Message: sinks.Message{Body: strings.Repeat("x", 1024)}})
			if err == nil && a.Status != delivery.StatusDelivered {
				err = fmt.Errorf("%+v", a)
			}
			return err
		}
	}
	const n = 4000
	var times [2][]float64
	sides := []func(int) error{send(with, "with"), send(without, "without")}
	for _, side := range sides {
		ok(b, side(-1)) // loads the scripts
	}
	withCalls.n.Store(0)
	withoutCalls.n.Store(0)
	for i := range n {
		for k := range sides {
			k = (k + i) % len(sides)
			timed(b, &times[k], func() error { return sides[k](i) })
		}
	}
	ours, theirs := float64(withCalls.n.Load()), float64(withoutCalls.n.Load())
	report(b, slower("Redis calls of a delivery / without the gate", "calls", ours/n, theirs/n, 1))
	report(b, slower("a delivery with record and gate / without the gate", "µs", median(times[0]), median(times[1]), 1.02))
}

// BenchmarkOutage sends 1,000 deliveries in 100 batches by 20 processes of the real function to
// a sink that is down.
func BenchmarkOutage(b *testing.B) {
	const processes, batches, size, share = 20, 100, 10, 10 // a receiver's share of 50 is more than a batch
	send := func(sink string, batches int) (attempts int, ms float64) {
		r := newPatient(b, 20*time.Millisecond)
		r.down.Store(true)
		f := startFunctions(b, "send", r.URL, redistest.Start(b).URL(), setup{sink: sink, processes: processes})
		var mu sync.Mutex
		var all sync.WaitGroup
		next := make(chan int)
		for range processes {
			all.Go(func() {
				for i := range next {
					res := f.invoke(b, event(i, size))
					if want := `{"batchItemFailures":[]}`; string(res.Payload) != want {
						b.Errorf("answered %.200s, want %s", res.Payload, want)
					}
					mu.Lock()
					ms += milliseconds(res.Duration)
					mu.Unlock()
				}
			})
		}
		for i := range batches {
			next <- i
		}
		close(next)
		all.Wait()
		return len(r.asked()), ms / float64(batches*size)
	}
	attempts, ms := send("", batches)
	_, before := send("breaker: off\nconcurrency: 10\n", processes) // one batch for each
	report(b, bound("1,000 deliveries by 20 processes to a sink that is down: attempts", "attempts", float64(attempts), 5*batches*size, processes*share+40+10))
	report(b, slower("1,000 deliveries by 20 processes to a sink that is down: Lambda time / without breaker", "ms each", ms, before, 0.1))
}

// BenchmarkRecovery lets a receiver come back that has a backlog of 10,000.
func BenchmarkRecovery(b *testing.B) {
	const letters, tick, probeEvery = 10_000, time.Second, 4 * time.Second
	const sink = "breaker: {probe_every: 4s}\nreplay: {concurrency: 20}\n"
	start := func(down bool) (*patient, *function, redis.UniversalClient) {
		r := newPatient(b, 5*time.Millisecond)
		r.down.Store(down)
		server := redistest.Start(b)
		c := server.Client(b)
		fill(b, dlq.NewRedis(c, dlq.WithMaxLen(0)), "ops", 0, letters)
		return r, startFunctions(b, "replay", r.URL, server.URL(), setup{sink: sink}), c
	}
	left := func(c redis.UniversalClient) int64 {
		n, err := dlq.NewRedis(c).Count(context.Background(), "ops")
		ok(b, err)
		return n
	}
	// What was tried during the outage waits for its own next replay.
	drain := func(f *function, c redis.UniversalClient, tried int64) time.Duration {
		begin := time.Now()
		for end := begin.Add(2 * time.Minute); left(c) > tried; {
			if time.Now().After(end) {
				b.Fatalf("%d left after two minutes", left(c))
			}
			f.invoke(b, []byte(`{}`))
		}
		return time.Since(begin)
	}
	_, f, c := start(false)
	well := drain(f, c, 0)

	r, f, c := start(true)
	open(b, flow.NewRedis(c, "backstop"), r)
	for range 12 { // an outage of twelve ticks
		f.invoke(b, []byte(`{}`))
		time.Sleep(tick)
	}
	probes := len(r.asked())
	r.down.Store(false)
	back := time.Now()
	for end := back.Add(time.Minute); left(c) == letters; time.Sleep(tick) {
		if time.Now().After(end) {
			b.Fatal("no success within a minute")
		}
		f.invoke(b, []byte(`{}`))
	}
	asked := r.asked()
	first := asked[probes].Sub(back)
	drain(f, c, int64(probes))
	asked = r.asked()
	progress("%d probes in 12 s of outage; first success %s after its end", probes, first)
	report(b, slower("after an outage: the first success / one probe interval and a tick", "ms", milliseconds(first), milliseconds(probeEvery+tick), 1))
	report(b, slower("after an outage: draining 10,000 / the same without one", "ms", milliseconds(asked[len(asked)-1].Sub(asked[probes])), milliseconds(well), 1.15))
}

// open lets deliveries of three processes fail until the receiver's breaker is open.
func open(b *testing.B, store flow.Store, r *patient) {
	b.Helper()
	policy := flow.Policy{Breaker: flow.Breaker{ProbeEvery: 4 * time.Second}}
	for i := range 30 {
		one := flow.Try{Sink: "ops", Delivery: fmt.Sprint("failing ", i), End: time.Now().Add(10 * time.Second), Policy: policy}
		for range 3 {
			g := &flow.Gate{Store: store, Log: discard}
			if l := g.Ask(b.Context(), one); l.Verdict == flow.Go {
				g.Tell(b.Context(), l, flow.Told{Result: flow.Bad, Error: "HTTP 503"})
				g.Lost(b.Context(), one, "HTTP 503")
			}
			if _, shut := g.Shut(b.Context(), one); shut {
				return
			}
		}
	}
	b.Fatalf("the breaker of %s is not open", r.URL)
}

// BenchmarkRate has eight senders and two replayers share a rate for a minute.
func BenchmarkRate(b *testing.B) {
	const perSecond, burst, length = 5, 5, 60 * time.Second
	r := newPatient(b, 10*time.Millisecond)
	c := redistest.Start(b).Client(b)
	store, queue := flow.NewRedis(c, "backstop"), dlq.NewRedis(c)
	target := delivery.Target{
		Sink: webhookTo(b, r.URL), Retry: retry.Config{MaxWait: time.Second}, Flow: flow.Policy{Rate: flow.Rate{PerSecond: perSecond, Burst: burst}},
	}
	ctx, cancel := context.WithTimeout(b.Context(), length)
	defer cancel()
	var all sync.WaitGroup
	var fresh, replayed atomic.Int64
	for p := range 8 {
		s := &delivery.Sender{
			Targets: to{target}, Queue: queue, Records: delivery.NewRedis(c, "backstop", time.Hour),
			Gate: &flow.Gate{Store: store, Log: discard}, Log: discard,
		}
		send := func(i int) {
			a, err := s.Deliver(context.WithoutCancel(ctx), delivery.Request{Sink: "ops", ID: fmt.Sprintf("rate-%d-%d", p, i), Message: sinks.Message{Body: "x"}})
			if err != nil {
				b.Error(err)
			}
			if a.Status == delivery.StatusDelivered {
				fresh.Add(1)
			}
		}
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				all.Go(func() { send(i) }) // one a second, whatever the others wait for
				time.Sleep(time.Second)
			}
		})
	}
	for range 2 {
		e := &replay.Engine{Store: queue, Targets: to{target}, Gate: &flow.Gate{Store: store, Log: discard}, Log: discard}
		all.Go(func() {
			for ctx.Err() == nil {
				s, err := e.Run(ctx, replay.Request{})
				if err != nil && ctx.Err() == nil {
					b.Error(err)
				}
				replayed.Add(s.Delivered)
				time.Sleep(250 * time.Millisecond)
			}
		})
	}
	all.Wait()
	asked := r.asked()
	over, within := -1.0, 0
	for i, from := range asked {
		for j, to := range asked[i:] {
			over = max(over, float64(j+1)-perSecond*to.Sub(from).Seconds()-burst)
		}
		if from.Sub(asked[0]) <= length {
			within++
		}
	}
	progress("%d fresh, %d replayed", fresh.Load(), replayed.Load())
	report(b, bound("5/s, 8 senders and 2 replayers, 60 s: attempts beyond 5 x t + burst in any window", "attempts", over, none, 0.5))
	most := perSecond*length.Seconds() + burst
	report(b, row{"5/s, 8 senders and 2 replayers, 60 s: share of the rate that is used", "attempts", float64(within), most, float64(within) / most, 0.95, false})
}
