package flow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

var (
	errDown = sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
	errGone = sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 410"})
)

// receiver answers attempts as it is told.
type receiver struct {
	answer func(n int64) error // of the nth attempt
	took   time.Duration

	n, busy, most atomic.Int64
	mu            sync.Mutex
	at            []time.Time
}

func (*receiver) Name() string { return "ops" }

func (r *receiver) Send(ctx context.Context, _ sinks.Recipient, _ sinks.Message) error {
	n, busy := r.n.Add(1), r.busy.Add(1)
	defer r.busy.Add(-1)
	for most := r.most.Load(); busy > most && !r.most.CompareAndSwap(most, busy); most = r.most.Load() {
	}
	r.mu.Lock()
	r.at = append(r.at, time.Now())
	r.mu.Unlock()
	if r.took > 0 {
		select {
		case <-time.After(r.took):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return r.answer(n)
}

// process is one function's process: its own gate, over what all share.
func process(store flow.Store, sink sinks.Sink, queue dlq.DLQ) *retry.Retrier {
	r := retry.NewRetrier(sink, retry.Config{NoJitter: true}, queue)
	r.Gate = &flow.Gate{Store: store, Log: slog.New(slog.DiscardHandler)}
	return r
}

func deliver(r *retry.Retrier, id string) retry.Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), 29*time.Second)
	defer cancel()
	return r.Deliver(ctx, nil, sinks.Message{ID: id, Body: "x"})
}

// A receiver that is down costs a few attempts, whoever asks; then probes alone go, and once
// one is answered everything goes again.
func TestAReceiverThatIsDownIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		down.Store(true)
		r := &receiver{took: 20 * time.Millisecond, answer: func(int64) error {
			if down.Load() {
				return errDown
			}
			return nil
		}}
		store, queue := &flow.Memory{}, dlq.NewMemory()
		var all []*retry.Retrier
		for range 20 {
			all = append(all, process(store, r, queue))
		}
		count := map[dlq.Reason]int{}
		var mu sync.Mutex
		var paid time.Duration
		for batch := range 5 { // of each process
			var wg sync.WaitGroup
			for p, one := range all {
				for i := range 10 {
					wg.Go(func() {
						out := deliver(one, fmt.Sprintf("%d-%d-%d", batch, p, i))
						mu.Lock()
						defer mu.Unlock()
						count[out.Reason]++
						paid += out.Elapsed
						if out.Status != retry.StatusDeadLettered {
							t.Errorf("%+v, want a dead letter", out)
						}
					})
				}
			}
			wg.Wait()
		}
		t.Logf("1000 deliveries: %d attempts, at most %d at once, %s each; %v", r.n.Load(), r.most.Load(), paid/1000, count)
		if r.n.Load() > 20*10+40 {
			t.Errorf("%d attempts", r.n.Load())
		}
		before := r.n.Load()
		began := time.Now()
		for time.Since(began) < 10*time.Minute {
			deliver(all[int(time.Since(began)/time.Second)%20], fmt.Sprint("late", time.Since(began)))
			time.Sleep(time.Second)
		}
		t.Logf("10 minutes: %d probes", r.n.Load()-before)
		if got := r.n.Load() - before; got < 18 || got > 30 {
			t.Errorf("%d probes in ten minutes, want one each 30 s", got)
		}
		down.Store(false)
		began = time.Now()
		delivered := 0
		for delivered < 100 && time.Since(began) < 5*time.Minute {
			if deliver(all[delivered%20], fmt.Sprint("back", time.Since(began))).Status == retry.StatusDelivered {
				delivered++
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("100 delivered after %s", time.Since(began))
		if delivered < 100 || time.Since(began) > time.Minute {
			t.Errorf("%d delivered in %s", delivered, time.Since(began))
		}
	})
}

// shared is what all think of the sink's own receiver.
func shared(t *testing.T, store flow.Store) flow.State {
	t.Helper()
	seen, err := store.Look(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	var s flow.State
	if raw := seen.States["sink"]; raw != "" {
		if err := json.Unmarshal([]byte(raw), &s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func opened(t *testing.T, store flow.Store) bool {
	t.Helper()
	s := shared(t, store).Status
	return s == flow.Open || s == flow.Closing
}

// A receiver that fails now and then is never left alone by all: it is not the failures alone
// that are counted. Each process lives for one batch, as a function's may.
func TestSingleFailuresNeverOpen(t *testing.T) {
	for _, percent := range []uint64{3, 20} {
		for _, attempts := range []int{1, 5} {
			t.Run(fmt.Sprintf("%d percent, %d attempts", percent, attempts), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dice := rand.New(rand.NewPCG(percent, uint64(attempts)))
					var mu sync.Mutex
					r := &receiver{took: 30 * time.Millisecond, answer: func(int64) error {
						mu.Lock()
						defer mu.Unlock()
						if dice.Uint64N(100) < percent {
							return errDown
						}
						return nil
					}}
					store, queue := &flow.Memory{}, dlq.NewMemory()
					var refused atomic.Int64
					for second := range 300 {
						var wg sync.WaitGroup
						for p := range 10 {
							wg.Go(func() {
								one := process(store, r, queue)
								gate := &flow.Gate{Store: store, Log: slog.New(slog.DiscardHandler)}
								one.Gate = gate
								one.Cfg.MaxAttempts = attempts
								var batch sync.WaitGroup
								for i := range 10 {
									batch.Go(func() {
										if deliver(one, fmt.Sprint(second, "-", p, "-", i)).Reason == dlq.ReasonOpen {
											refused.Add(1)
										}
									})
								}
								batch.Wait()
								gate.Flush(t.Context())
							})
						}
						wg.Wait()
						if opened(t, store) {
							t.Fatalf("open after %d s", second)
						}
						time.Sleep(time.Second)
					}
					t.Logf("30000 deliveries, %d attempts, %d refused by single processes", r.n.Load(), refused.Load())
				})
			})
		}
	}
}
