package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/journal"
	"backstop/lib/sinks"
)

// withJournal puts a journal beside a queue on Redis.
func withJournal(queue dlq.Store, bucket journal.Bucket) *journal.Queue {
	return journal.NewQueue(queue, bucket, journal.Options{Log: discard})
}

// BenchmarkJournalHealthy compares deliveries that succeed with a journal beside the queue, and
// without.
func BenchmarkJournalHealthy(b *testing.B) {
	r := newReceiver(b, 0)
	server := redistest.Start(b)
	registry := sinks.NewRegistry()
	registry.Register(webhookTo(b, r.URL))
	bucket := newShelf(0)
	ctx, cancel := context.WithTimeout(b.Context(), 15*time.Minute)
	defer cancel()
	deliver := func(side string, queue func(*dlq.Redis) dlq.Store) func(int) error {
		c := server.Client(b)
		gate := &flow.Gate{Store: flow.NewRedis(c, "backstop"), Log: discard}
		s := &delivery.Sender{
			Targets: delivery.Registered(registry), Queue: queue(dlq.NewRedis(c, dlq.WithJournal())), Records: delivery.NewRedis(c, "backstop", time.Hour),
			Gate: gate, Paused: gate.Paused, Log: discard,
		}
		return func(i int) error {
			a, err := s.Deliver(ctx, delivery.Request{Sink: "ops", ID: fmt.Sprintf("%s-%d", side, i), Message: sinks.Message{Body: strings.Repeat("x", 1024)}})
			if err == nil && a.Status != delivery.StatusDelivered {
				err = fmt.Errorf("%+v", a)
			}
			return err
		}
	}
	sides := []func(int) error{
		deliver("with", func(q *dlq.Redis) dlq.Store { return withJournal(q, bucket) }),
		deliver("without", func(q *dlq.Redis) dlq.Store { return q }),
	}
	for _, side := range sides {
		ok(b, side(-1)) // loads the scripts
	}
	medians := interleave(b, 4000, sides...)
	report(b, bound("calls to the journal's bucket of 4,000 deliveries that succeed", "calls", float64(bucket.calls.Load()), none, 0))
	report(b, slower("a delivery with a journal beside the queue / without", "µs", medians[0], medians[1], 1.02))
}

// BenchmarkJournalOnServer tells what the address of a dead letter in the journal costs Redis:
// its own time for a push, as BenchmarkPushOnServer measures it, and its memory.
func BenchmarkJournalOnServer(b *testing.B) {
	c := redistest.Start(b).Client(b)
	plain := dlq.NewRedis(c, dlq.WithKeyPrefix("backstop:plain"), dlq.WithMaxLen(0))
	kept := dlq.NewRedis(c, dlq.WithKeyPrefix("backstop:kept"), dlq.WithMaxLen(0), dlq.WithJournal())
	address := alone(b)
	push := func(s dlq.Store, address string) func(i int) error {
		return func(i int) error {
			it := letter("ops", i)
			it.Journal = address
			return s.Push(context.Background(), it)
		}
	}
	sides := []func(int) error{push(kept, address), push(plain, "")}
	for _, side := range sides {
		ok(b, side(-1)) // loads the scripts
	}
	times := make([][]float64, len(sides))
	for round := range 11 {
		for k := range sides {
			k = (k + round) % len(sides)
			times[k] = append(times[k], serverTime(b, c, 16*100, func() {
				var wg sync.WaitGroup
				for w := range 16 {
					wg.Go(func() {
						for i := range 100 {
							if err := sides[k]((round*16+w)*100 + i); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
			}))
		}
	}
	report(b, paired("server time of a push of 1 KB with an address in the journal / without", "µs", times[0], times[1], none))

	without := bytesEach(b, func(c redis.UniversalClient, n int) { fill(b, dlq.NewRedis(c, dlq.WithMaxLen(0)), "ops", 0, n) })
	for _, of := range []struct {
		name string
		at   int // letters that are pushed together
	}{{"pushed alone", 1}, {"pushed with others", journal.MaxLines}} {
		with := bytesEach(b, func(c redis.UniversalClient, n int) {
			q := withJournal(dlq.NewRedis(c, dlq.WithMaxLen(0), dlq.WithJournal()), nowhere{})
			fillBy(b, q, "ops", 0, n, of.at)
		})
		report(b, row{"Redis memory of a dead letter with an address, " + of.name + ", above one without", "bytes", with, without, with - without, none, true})
	}
}

// nowhere is a bucket that forgets what is put.
type nowhere struct{ journal.Bucket }

func (nowhere) Put(context.Context, string, []byte) error { return nil }

// alone returns the address of a dead letter that was pushed alone.
func alone(b *testing.B) string {
	b.Helper()
	it, err := withJournal(dlq.NewMemory(dlq.WithJournal()), nowhere{}).Add(b.Context(), letter("ops", 0))
	ok(b, err)
	return it.Journal
}
