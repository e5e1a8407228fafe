package bench

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"backstop/internal/await"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
)

const (
	hotLetters = 60_000 // more than ten get done in a tick
	replayers  = 10
	drainTurns = 2
)

// BenchmarkReplayers replays one hot sink for one tick of the real replay function, alone and with others that it
// starts. Waiting for the receiver, not these cores, is to be what takes the time: on Lambda each replayer has cores of its own.
func BenchmarkReplayers(b *testing.B) {
	const takes, tick = 50 * time.Millisecond, 35 * time.Second
	r := newReceiver(b, takes)
	server := redistest.Start(b)
	queue := dlq.NewRedis(server.Client(b), dlq.WithMaxLen(0))
	// drained is how many letters a tick of n replayers got done. Each turn has processes of its own: their start is
	// part of the tick, as on Lambda.
	filled := 0
	drained := func(n int) float64 {
		f := startReplayers(b, r.URL, server.URL(), n, tick)
		left, err := queue.Count(context.Background(), "ops")
		ok(b, err)
		fill(b, queue, "ops", filled, filled+hotLetters-int(left))
		filled += hotLetters - int(left)
		r.requests.Store(0)
		f.invoke(b, []byte(`{"trigger":"schedule","time":"2026-01-01T00:00:00Z"}`))
		await.True(b, "all replayers end", func() bool {
			st, err := queue.Stats(context.Background(), "ops")
			ok(b, err)
			left = st.Depth
			return st.States[dlq.StateReplaying] == 0
		})
		if done, got := hotLetters-left, r.requests.Load(); got != done || left == 0 {
			b.Fatalf("%d replayers sent %d times and got %d letters done, %d are left", n, got, done, left)
		}
		if got := f.host.Stats(f.name).ColdStarts; got != n {
			b.Fatalf("%d processes replayed, want %d", got, n)
		}
		progress("%d replayers: %d letters in a tick of %s", n, r.requests.Load(), tick)
		return float64(r.requests.Load())
	}
	var alone, together []float64
	for range drainTurns {
		alone = append(alone, drained(1))
		together = append(together, drained(replayers))
	}
	report(b, row{
		fmt.Sprintf("letters replayed in a tick of %s, receiver of %s, %d replayers / 1", tick, takes, replayers), "letters",
		median(together), median(alone), medianRatio(together, alone), 8, false,
	})
}

// startReplayers starts the replay function with at most n processes, which can invoke itself.
func startReplayers(b *testing.B, url, redisURL string, n int, tick time.Duration) *function {
	b.Helper()
	var lambda http.Handler
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { lambda.ServeHTTP(w, r) }))
	b.Cleanup(api.Close)
	f := startFunctions(b, "replay", url, redisURL, setup{processes: n, timeout: tick},
		fmt.Sprintf("BACKSTOP_REPLAYERS=%d", n), "BACKSTOP_DLQ_MAX_LEN=0", "AWS_ENDPOINT_URL_LAMBDA="+api.URL)
	lambda = f.host.InvokeAPI()
	return f
}
