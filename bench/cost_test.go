package bench

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
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
	logsGB         = 0.50 + 0.03  // taken in, and kept for a month

	// Nodes of one's own instead of Serverless, Valkey: cache.r7g.xlarge, of which one processor runs scripts.
	nodeHour   = 0.35
	nodeGB     = 28.3 * 0.75 // a quarter is reserved
	nodeCopies = 2           // with one replica each
)

// spent is what a piece of work took, per delivery.
type spent struct {
	ms       float64 // of its whole batch
	requests float64 // to Redis
	server   float64 // time of Redis, in us
	bytes    float64 // that stay in Redis for a day
	logs     float64 // bytes of log lines
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
	var written atomic.Int64
	count := func(_, line string) { written.Add(int64(len(line) + len("\n"))) }
	const sampled = "BACKSTOP_LOG_SUCCESSES=1/100"
	send := func(b *testing.B, url, sink string, batches int) spent {
		b.Helper()
		server := redistest.Start(b)
		c := server.Client(b)
		f := startFunctions(b, "send", url, server.URL(), setup{sink: "breaker: off\n" + sink, output: count}, sampled)
		f.invoke(b, event(round, 1)) // starts it
		written.Store(0)
		took := measure(b, c, 10*batches, func() (ms float64) {
			for range batches {
				round++
				ms += milliseconds(f.invoke(b, event(round, 10)).Duration) / float64(batches)
			}
			return ms
		})
		took.logs = float64(written.Load()) / float64(10*batches)
		return took
	}
	delivered, failed := send(b, healthy.URL, "", 100), send(b, down.URL, "", 2)
	unwaited := send(b, down.URL, "retry: {max_wait: 500ms}\n", 20)

	const letters = 1000
	server := redistest.Start(b)
	c := server.Client(b)
	newOurs(b, c, healthy).store(b, 0, letters)
	f := startFunctions(b, "replay", healthy.URL, server.URL(), setup{output: count}, sampled)
	written.Store(0)
	replayed := measure(b, c, letters, func() float64 { return milliseconds(f.invoke(b, []byte(`{}`)).Duration) / letters })
	replayed.logs = float64(written.Load()) / letters

	delivered.bytes = fillRecords(b, redistest.Start(b).Client(b), 1_000_000)
	kept := bytesEach(b, func(c redis.UniversalClient, n int) { record(b, c, 0, n) }) + bytesEach(b, func(c redis.UniversalClient, n int) {
		fill(b, dlq.NewRedis(c, dlq.WithMaxLen(0)), "ops", 0, n)
	})

	failed.bytes, unwaited.bytes = kept, kept

	t := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	line := func(text string) { _, _ = fmt.Fprintln(t, text) }
	line("\nA DELIVERY THAT IS\tBATCH OF TEN TAKES, ms\tREQUESTS TO REDIS\tBYTES KEPT IN REDIS\tBYTES OF LOG LINES\t")
	for _, r := range []struct {
		name string
		spent
	}{{"delivered", delivered}, {"dead-lettered", failed}, {"dead-lettered, max_wait: 500ms", unwaited}} {
		line(fmt.Sprintf("%s\t%.0f\t%.1f\t%.0f\t%.0f\t", r.name, r.ms, r.requests, r.bytes, r.logs))
	}
	line(fmt.Sprintf("replayed\t%.1f each\t%.1f\t-\t%.0f\t", replayed.ms, replayed.requests, replayed.logs))
	line("\nA MILLION, OF WHICH FAIL\tWAITING FOR IT\tLAMBDA, GB-s\tLAMBDA, $\tSQS, $\tREQUESTS TO REDIS\tREDIS FOR A DAY, GB\tREDIS, $\tLOGS, $\tSUM, $\t")
	for _, rate := range []float64{0.001, 0.01, 0.1} {
		line(cost(rate, "in the invocation", delivered, failed, replayed))
		line(cost(rate, "max_wait: 500ms", delivered, unwaited, replayed))
	}

	// A record lives for 24 to 36 hours.
	dense := densities[len(densities)-1]
	densely := redistest.Start(b).Client(b)
	densely.AddHook(fold(dense.slots))
	large := delivered
	large.bytes = 1.25 * fillDensely(b, densely, dense)
	line("\nA DAY OF 10^9, OF WHICH FAIL\tLAMBDA, $\tSQS, $\tSQS SENT BY TEN, $\tREDIS HOLDS, GB\tPROCESSORS OF REDIS\tREDIS, $\tLOGS, $\tA MILLION SENT BY TEN, $\tNODES FOR REDIS\tNODES, $\tA MILLION WITH THESE, $\t")
	for _, rate := range []float64{0.001, 0.01, 0.1} {
		line(day(rate, large, unwaited, replayed))
	}
	_ = t.Flush()
}

// expense is what n deliveries take, of which some fail.
type expense struct {
	gbSeconds, lambda, sqs float64 // sent one by one; received and deleted by ten
	byTen                  float64 // SQS, sent by ten as well
	requests, gb, cache    float64 // Redis, with what it holds for a day
	busy                   float64 // processors of Redis, over a day
	logs                   float64 // of one success in a hundred
}

func expenseOf(n, rate float64, delivered, failed, replayed spent) (e expense) {
	const million = 1e6
	batches := n / 10
	// A batch takes as long as its slowest delivery.
	slow := 1 - math.Pow(1-rate, 10)
	e.gbSeconds = (batches*(slow*failed.ms+(1-slow)*delivered.ms) + n*rate*replayed.ms) / 1000 * lambdaGB
	e.lambda = e.gbSeconds*lambdaGBSecond + batches/million*lambdaRequests
	e.sqs, e.byTen = n*(1+0.1+0.1)/million*sqsRequests, n*(0.1+0.1+0.1)/million*sqsRequests
	e.requests = n * ((1-rate)*delivered.requests + rate*(failed.requests+replayed.requests))
	e.gb = n * ((1-rate)*delivered.bytes + rate*failed.bytes) / 1e9
	e.cache = e.requests/million*cacheUnits + e.gb*24*cacheGBHour
	e.logs = n * ((1-rate)*delivered.logs + rate*(failed.logs+replayed.logs)) / 1e9 * logsGB
	e.busy = n * ((1-rate)*delivered.server + rate*(failed.server+replayed.server)) / million / (24 * 3600)
	return e
}

// cost is a line of the table of a million.
func cost(rate float64, waiting string, delivered, failed, replayed spent) string {
	e := expenseOf(1e6, rate, delivered, failed, replayed)
	return fmt.Sprintf("%g%%\t%s\t%.0f\t%.2f\t%.2f\t%.1f million\t%.2f\t%.2f\t%.2f\t%.2f\t",
		rate*100, waiting, e.gbSeconds, e.lambda, e.sqs, e.requests/1e6, e.gb, e.cache, e.logs, e.lambda+e.sqs+e.cache+e.logs)
}

// day is a line of the table of a day. Failures wait for the schedule (max_wait), and their dead letters are held for all of it.
func day(rate float64, delivered, failed, replayed spent) string {
	const n = 1e9
	e := expenseOf(n, rate, delivered, failed, replayed)
	nodes := math.Ceil(max(e.gb/nodeGB, e.busy)) * nodeCopies
	ofNodes := nodes * nodeHour * 24
	beside := e.lambda + e.byTen + e.logs
	return fmt.Sprintf("%g%%\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%.0f\t%.0f\t%.2f\t%.0f\t%.0f\t%.2f\t",
		rate*100, e.lambda, e.sqs, e.byTen, e.gb, e.busy, e.cache, e.logs, (beside+e.cache)/(n/1e6), nodes, ofNodes, (beside+ofNodes)/(n/1e6))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// measure tells what f asks of Redis and leaves there, per each of n.
func measure(b *testing.B, c redis.UniversalClient, n int, f func() (ms float64)) spent {
	b.Helper()
	ok(b, c.ConfigResetStat(context.Background()).Err())
	ms := f()
	requests, usec := 0, 0.0
	for name, stat := range commandStats(b, c) {
		// What a script calls is counted too, and is no request.
		if strings.HasPrefix(name, "eval") || name == "smembers" || name == "script|load" {
			requests += stat.calls
			usec += stat.usec
		}
	}
	return spent{ms: ms, requests: float64(requests) / float64(n), server: usec / float64(n)}
}
