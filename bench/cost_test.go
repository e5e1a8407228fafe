package bench

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
)

// Prices in US dollars, us-east-1, on demand, as published in 2025: check them before
// you rely on them.
const (
	lambdaGBSecond = 0.0000133334 // arm64
	lambdaRequests = 0.20         // per million
	sqsRequests    = 0.40         // per million
	cacheGBHour    = 0.084        // ElastiCache Serverless for Valkey
	cacheUnits     = 0.0023       // per million ECPU: a request of up to 1 KB
	lambdaGB       = 0.5          // as in template.yaml
)

// spent is what a piece of work took, per delivery.
type spent struct {
	ms       float64 // of its whole batch
	requests float64 // to Redis
	bytes    float64 // that stay in Redis for a day
}

// BenchmarkCost prints what a million deliveries cost at three rates of failure, from
// measured figures. Every delivery comes through the queue, in batches of ten, to a sink
// that takes 100 ms; a failing one gets all its attempts, or with retry.max_wait one and the
// schedule waits, is dead-lettered and replayed. (The breaker is off: it makes an outage
// cheaper still, which is another row.)
func BenchmarkCost(b *testing.B) {
	healthy := newReceiver(b, 100*time.Millisecond)
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	b.Cleanup(down.Close)
	round := 0
	send := func(b *testing.B, url, sink string, batches int) spent {
		b.Helper()
		server := redistest.Start(b)
		c := server.Client(b)
		f := startFunctions(b, "send", url, server.URL(), setup{sink: "breaker: off\n" + sink})
		f.invoke(b, event(round, 1)) // starts it
		return measure(b, c, 10*batches, func() (ms float64) {
			for range batches {
				round++
				ms += milliseconds(f.invoke(b, event(round, 10)).Duration) / float64(batches)
			}
			return ms
		})
	}
	delivered, failed := send(b, healthy.URL, "", 20), send(b, down.URL, "", 2)
	unwaited := send(b, down.URL, "retry: {max_wait: 500ms}\n", 20)

	const letters = 1000
	server := redistest.Start(b)
	c := server.Client(b)
	newOurs(b, c, healthy).store(b, 0, letters)
	f := startFunction(b, "replay", healthy.URL, server.URL())
	replayed := measure(b, c, letters, func() float64 { return milliseconds(f.invoke(b, []byte(`{}`)).Duration) / letters })

	delivered.bytes = bytesEach(b, func(c redis.UniversalClient, n int) { record(b, c, 0, n) })
	kept := delivered.bytes + bytesEach(b, func(c redis.UniversalClient, n int) {
		fill(b, dlq.NewRedis(c, dlq.WithMaxLen(0)), "ops", 0, n)
	})

	failed.bytes, unwaited.bytes = kept, kept

	t := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	line := func(text string) { _, _ = fmt.Fprintln(t, text) }
	line("\nA DELIVERY THAT IS\tBATCH OF TEN TAKES, ms\tREQUESTS TO REDIS\tBYTES KEPT IN REDIS\t")
	for _, r := range []struct {
		name string
		spent
	}{{"delivered", delivered}, {"dead-lettered", failed}, {"dead-lettered, max_wait: 500ms", unwaited}} {
		line(fmt.Sprintf("%s\t%.0f\t%.1f\t%.0f\t", r.name, r.ms, r.requests, r.bytes))
	}
	line(fmt.Sprintf("replayed\t%.1f each\t%.1f\t-\t", replayed.ms, replayed.requests))
	line("\nA MILLION, OF WHICH FAIL\tWAITING FOR IT\tLAMBDA, GB-s\tLAMBDA, $\tSQS, $\tREQUESTS TO REDIS\tREDIS FOR A DAY, GB\tREDIS, $\tSUM, $\t")
	for _, rate := range []float64{0.001, 0.01, 0.1} {
		line(cost(rate, "in the invocation", delivered, failed, replayed))
		line(cost(rate, "max_wait: 500ms", delivered, unwaited, replayed))
	}
	_ = t.Flush()
}

// cost is a line of the table.
func cost(rate float64, waiting string, delivered, failed, replayed spent) string {
	const million, batches = 1e6, 1e5
	// A batch takes as long as its slowest delivery.
	slow := 1 - math.Pow(1-rate, 10)
	seconds := (batches*(slow*failed.ms+(1-slow)*delivered.ms) + million*rate*replayed.ms) / 1000
	lambda := seconds*lambdaGB*lambdaGBSecond + batches/million*lambdaRequests
	// Sent one by one; received and deleted by ten.
	sqs := (1 + 0.1 + 0.1) * sqsRequests
	requests := million * ((1-rate)*delivered.requests + rate*(failed.requests+replayed.requests))
	gb := million * ((1-rate)*delivered.bytes + rate*failed.bytes) / 1e9
	cache := requests/million*cacheUnits + gb*24*cacheGBHour
	return fmt.Sprintf("%g%%\t%s\t%.0f\t%.2f\t%.2f\t%.1f million\t%.2f\t%.2f\t%.2f\t",
		rate*100, waiting, seconds*lambdaGB, lambda, sqs, requests/million, gb, cache, lambda+sqs+cache)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// measure tells what f asks of Redis and leaves there, per each of n.
func measure(b *testing.B, c redis.UniversalClient, n int, f func() (ms float64)) spent {
	b.Helper()
	ok(b, c.ConfigResetStat(context.Background()).Err())
	ms := f()
	requests := 0
	for name, stat := range commandStats(b, c) {
		// What a script calls is counted too, and is no request.
		if strings.HasPrefix(name, "eval") || name == "smembers" || name == "script|load" {
			requests += stat.calls
		}
	}
	return spent{ms: ms, requests: float64(requests) / float64(n)}
}
