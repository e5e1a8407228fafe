package bench

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"backstop/internal/redistest"
)

const (
	httpRequests = 1.00 // HTTP API, per million, at most 512 KB each
	sqsGroups    = 0.10 // per million requests with a message group, on top
)

// BenchmarkWays prints what a million deliveries cost by the way they come, from measured times
// of the real send function, to a sink that takes 100 ms. The queue answers after 10 ms.
func BenchmarkWays(b *testing.B) {
	const rounds = 30
	r, q := newReceiver(b, 100*time.Millisecond), newRequestQueue(b)
	q.takes.Store(int64(10 * time.Millisecond))
	server := redistest.Start(b)
	c := server.Client(b)
	f := startFunction(b, "send", r.URL, server.URL(),
		"BACKSTOP_QUEUE_URL="+q.url, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
	ways := []struct {
		name, want string
		event      func(i int) []byte
		each       int // deliveries of an event
	}{
		{"POST", `\"status\":\"delivered\"`, func(i int) []byte { return httpRequest(b, fmt.Sprint("now-", i), nil) }, 1},
		{"POST, respond-async", `\"status\":\"accepted\"`, func(i int) []byte { return httpRequest(b, fmt.Sprint("later-", i), preferAsync) }, 1},
		{"SQS, batches of ten", `{"batchItemFailures":[]}`, func(i int) []byte { return event(i, 10) }, 10},
	}
	took, asked := make([][]float64, len(ways)), make([]float64, len(ways))
	for i := range rounds {
		for k := range ways {
			k = (k + i) % len(ways)
			w := ways[k]
			s := measure(b, c, w.each, func() float64 {
				res := f.invoke(b, w.event(i))
				if !strings.Contains(string(res.Payload), w.want) {
					b.Fatalf("%s: answered %.300s, want %s", w.name, res.Payload, w.want)
				}
				return milliseconds(res.Duration)
			})
			if i == 0 {
				continue // connections are made
			}
			took[k] = append(took[k], s.ms)
			asked[k] += s.requests / (rounds - 1)
		}
	}
	now, accept, batch := median(took[0]), median(took[1]), median(took[2])

	t := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	line := func(text string) { _, _ = fmt.Fprintln(t, text) }
	line("\nA MILLION BY\tINVOCATION TAKES, ms\tLAMBDA, GB-s\tLAMBDA, $\tHTTP API, $\tSQS, $\tREQUESTS TO REDIS\tREDIS, $\tSUM, $\t")
	// way prints a line, per delivery: times of Lambda, invocations, calls of the API, requests to
	// SQS, how many of them have a group, and requests to Redis.
	way := func(name, takes string, ms, invocations, api, requests, groups, redis float64) float64 {
		seconds := 1e6 * ms / 1000 * lambdaGB
		lambda := seconds*lambdaGBSecond + invocations*lambdaRequests
		queue := requests*sqsRequests + groups*sqsGroups
		sum := lambda + api*httpRequests + queue + redis*cacheUnits
		line(fmt.Sprintf("%s\t%s\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f million\t%.2f\t%.2f\t", name, takes, seconds, lambda, api*httpRequests, queue, redis, redis*cacheUnits, sum))
		return sum
	}
	direct := way(ways[0].name, fmt.Sprintf("%.0f", now), now, 1, 1, 0, 0, asked[0])
	// Accepted one by one, then received, delivered and deleted by ten.
	accepted := way(ways[1].name, fmt.Sprintf("%.0f, then %.0f for ten", accept, batch), accept+batch/10, 1.1, 1, 1.2, 1, asked[1]+asked[2])
	batched := way(ways[2].name, fmt.Sprintf("%.0f for ten", batch), batch/10, 0.1, 0, 0.3, 0.1, asked[2])
	_ = t.Flush()
	report(b, slower("a million by POST with respond-async / by POST, to a sink that takes 100 ms", "$", accepted, direct, none))
	report(b, slower("a million by SQS in batches of ten / by POST, to a sink that takes 100 ms", "$", batched, direct, none))
}
