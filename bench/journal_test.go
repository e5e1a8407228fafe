package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/redis/go-redis/v9"

	"backstop/internal/faultproxy"
	"backstop/internal/locals3"
	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/flow"
	"backstop/lib/journal"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// withJournal puts a journal beside a queue on Redis.
func withJournal(queue dlq.Store, bucket journal.Bucket) *journal.Queue {
	return journal.NewQueue(queue, bucket, journal.Options{Log: discard})
}

// cloud is a small S3 behind TLS, on loopback, that takes its time: a second for one Put in slowOf of
// each prefix.
type cloud struct {
	http  *httptest.Server
	takes atomic.Int64 // ns

	mu   sync.Mutex
	puts map[string]int // by the first part of the name
}

const (
	slowOf = 100
	slow   = time.Second
)

func newCloud(b *testing.B) *cloud {
	b.Helper()
	c := &cloud{puts: map[string]int{}}
	server := locals3.New("letters")
	server.Fault = c.wait
	c.http = httptest.NewTLSServer(server)
	b.Cleanup(c.http.Close)
	return c
}

func (c *cloud) wait(r *http.Request) locals3.Fault {
	d := time.Duration(c.takes.Load())
	if r.Method == http.MethodPut {
		c.mu.Lock()
		side := strings.Split(r.URL.Path, "/")[2]
		if c.puts[side]++; c.puts[side]%slowOf == slowOf/2 {
			d = slow
		}
		c.mu.Unlock()
	}
	_ = pass(r.Context(), d) // who left does not see the answer
	return locals3.Fault{}
}

// bucket returns a new client, which has no connection yet.
func (c *cloud) bucket(prefix string) *journal.S3 {
	roots := x509.NewCertPool()
	roots.AddCert(c.http.Certificate())
	return journal.NewS3("letters", prefix, journal.S3Options{AWS: func() (aws.Config, error) {
		return aws.Config{
			Region: "us-east-1", BaseEndpoint: &c.http.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
			HTTPClient: awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
				t.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
			}),
		}, nil
	}})
}

// BenchmarkJournalWrite compares the write of a dead letter that has a journal beside the queue with
// the slower of two: the same without, and a Put of the same bytes. Each gets the least time that
// an invocation leaves it at its end: half of the reserve.
func BenchmarkJournalWrite(b *testing.B) {
	const part = retry.DefaultReserve / 2 // 500 ms
	c := newCloud(b)
	proxy := redistest.Start(b).Proxy(b)
	client := redis.NewUniversalClient(redistest.ClientOptions(proxy.Addr))
	b.Cleanup(func() { _ = client.Close() })
	plain := dlq.NewRedis(client, dlq.WithKeyPrefix("backstop:plain"), dlq.WithMaxLen(0))
	kept := dlq.NewRedis(client, dlq.WithKeyPrefix("backstop:kept"), dlq.WithMaxLen(0), dlq.WithJournal())
	object := &bytesOf{}
	_, err := withJournal(kept, object).Add(b.Context(), letter("ops", -1))
	ok(b, err)
	ok(b, plain.Push(b.Context(), letter("ops", -1))) // the scripts are loaded
	var next atomic.Int64
	for _, of := range []struct {
		name      string
		s3, redis time.Duration
		cold      bool
		n         int
	}{
		{"S3 takes 20 ms", 20 * time.Millisecond, 0, false, 400},
		{"S3 and Redis take 20 ms", 20 * time.Millisecond, 20 * time.Millisecond, false, 400},
		{"S3 takes 150 ms", 150 * time.Millisecond, 0, false, 200},
		{"S3 takes 20 ms, a new client and TLS connection each", 20 * time.Millisecond, 0, true, 200},
	} {
		c.takes.Store(int64(of.s3))
		proxy.Set(faultproxy.Faults{Delay: of.redis})
		bucket := func(side string) func() journal.Bucket {
			shared := c.bucket(side)
			return func() journal.Bucket {
				if of.cold {
					return c.bucket(side)
				}
				return shared
			}
		}
		beside, bare := bucket("beside/"), bucket("bare/")
		sides := []func(ctx context.Context, i int) error{
			func(ctx context.Context, i int) error { return withJournal(kept, beside()).Push(ctx, letter("ops", i)) },
			func(ctx context.Context, i int) error { return plain.Push(ctx, letter("ops", i)) },
			func(ctx context.Context, i int) error {
				// Where it is too slow there is no answer, and it took its time.
				_ = bare().Put(ctx, fmt.Sprintf("open/%d", i), object.body)
				return nil
			},
		}
		before := unjournaled(b, kept)
		var mu sync.Mutex
		times := make([][]float64, len(sides))
		latest := time.Duration(0) // timer that was set to the end of a write
		const workers = 4
		var all, timers sync.WaitGroup
		for w := range workers {
			all.Go(func() {
				own := make([][]float64, len(sides))
				for i := range of.n / workers {
					for k := range sides {
						k = (k + i + w) % len(sides)
						timers.Add(1)
						set := time.Now()
						time.AfterFunc(part, func() {
							defer timers.Done()
							mu.Lock()
							defer mu.Unlock()
							latest = max(latest, time.Since(set))
						})
						timed(b, &own[k], func() error {
							ctx, cancel := context.WithTimeout(b.Context(), part)
							defer cancel()
							return sides[k](ctx, int(next.Add(1)))
						})
					}
				}
				mu.Lock()
				defer mu.Unlock()
				for k := range own {
					times[k] = append(times[k], own[k]...)
				}
			})
		}
		all.Wait()
		timers.Wait()
		slower := make([]float64, len(times[0]))
		for i := range slower {
			slower[i] = max(times[1][i], times[2][i]) / 1000
		}
		ours := times[0]
		for i := range ours {
			ours[i] /= 1000
		}
		report(b, paired("write of a dead letter with a journal / the slower of queue and bucket; "+of.name, "ms", ours, slower, 1.1))
		report(b, bound(fmt.Sprintf("longest of these %d, 1%% of them with an S3 that takes 1 s (baseline: of timers set to 500 ms)", of.n), "ms",
			slices.Max(ours), milliseconds(latest), milliseconds(part)))
		report(b, bound("of these: in the queue, and left for a tick to journal", "dead letters", unjournaled(b, kept)-before, none, none))
	}
}

// bytesOf is a bucket that keeps the last object.
type bytesOf struct {
	journal.Bucket
	body []byte
}

func (o *bytesOf) Put(_ context.Context, _ string, body []byte) error {
	o.body = body
	return nil
}

// unjournaled is how many dead letters of ops the journal lacks.
func unjournaled(b *testing.B, q dlq.Store) float64 {
	b.Helper()
	s, err := q.Stats(b.Context(), "ops")
	ok(b, err)
	return float64(s.Journal.Unjournaled)
}

// BenchmarkJournalSpill spills 10,000 dead letters in batches, which a full queue does not take, and
// brings them back; against batches that it takes. One caller does each, one batch after the other.
func BenchmarkJournalSpill(b *testing.B) {
	const n, rounds = 10_000, 5
	ctx := b.Context()
	c := redistest.Start(b).Client(b)
	push := func(s dlq.Store) error {
		var all []error
		for from := 0; from < n; from += journal.MaxLines {
			items := make([]dlq.Item, journal.MaxLines)
			for i := range items {
				items[i] = letter("ops", from+i)
			}
			_, errs := s.AddBatch(ctx, items)
			all = append(all, errs...)
		}
		return errors.Join(all...)
	}
	for _, of := range []struct {
		name   string
		bucket func() journal.Bucket
	}{
		{"a bucket in memory", func() journal.Bucket { return newShelf(0) }},
		{"one that takes 20 ms", func() journal.Bucket { return newShelf(20 * time.Millisecond) }},
		{"a folder", func() journal.Bucket { return journal.NewFolder(b.TempDir()) }},
	} {
		var alone, beside, spill, back []float64
		for range rounds {
			queue := func(kind string, o ...dlq.Option) *dlq.Redis {
				return dlq.NewRedis(c, append(o, dlq.WithKeyPrefix("backstop:"+kind), dlq.WithJournal())...)
			}
			full, bucket := queue("full", dlq.WithMaxLen(1), dlq.WithOverflow(dlq.OverflowReject)), of.bucket()
			ok(b, full.Push(ctx, letter("ops", -1)))
			keeper := journal.Keeper{Queue: queue("full", dlq.WithMaxLen(0)), Bucket: bucket, Log: discard}

			timed(b, &alone, func() error { return push(queue("alone", dlq.WithMaxLen(0))) })
			timed(b, &beside, func() error { return push(withJournal(queue("beside", dlq.WithMaxLen(0)), of.bucket())) })
			timed(b, &spill, func() error { return push(withJournal(full, bucket)) })
			timed(b, &back, func() error {
				r, err := keeper.Tick(ctx, "ops")
				if err == nil && (r.Returned != n || r.Spilled != 0) {
					err = fmt.Errorf("%+v", r)
				}
				return err
			})
			ok(b, c.FlushAll(ctx).Err())
		}
		each := func(what string, ours, baseline []float64) row {
			return row{what, "µs each", median(ours) / n, median(baseline) / n, medianRatio(baseline, ours), 0.5, false}
		}
		report(b, each("spill of 10,000 into "+of.name+" / batch pushes with it beside the queue", spill, beside))
		report(b, each("way back of 10,000 from "+of.name+" / batch pushes into the queue alone", back, alone))
	}
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
