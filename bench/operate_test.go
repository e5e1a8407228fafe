package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/local"
	"backstop/internal/redisconn"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
)

const (
	operateSinks = 1000
	operateDays  = 30
	operateAsked = 15
)

// BenchmarkOperate measures what an operator asks first, with a million dead letters in 1,000 sinks: Redis' own time for
// the answer, and the whole of it, through the local HTTP API and the real function. The histogram has something in
// each of 30 days.
func BenchmarkOperate(b *testing.B) {
	ok(b, build())
	ctx := context.Background()
	server := redistest.Start(b)
	c := server.Client(b)
	dir := b.TempDir()
	store := dlq.NewRedis(c, dlq.WithMaxLen(0))
	for i := range operateSinks {
		name := fmt.Sprintf("sink-%d", i)
		ok(b, os.WriteFile(filepath.Join(dir, name+".yaml"), []byte("kind: webhook\nurl: https://receiver.example.com\n"), 0o600))
		fill(b, store, name, 0, million/operateSinks)
		spread(b, name, c)
	}
	stack, err := local.Start(ctx, local.Options{Bin: binaries, RedisURL: server.URL(), Sinks: "file:" + dir})
	ok(b, err)
	b.Cleanup(func() { ok(b, stack.Close()) })
	since := time.Now().Add(-operateDays * 24 * time.Hour).UTC().Format(time.RFC3339)
	for _, ask := range []struct{ name, path string }{
		{"sinks", "/v1/sinks"},
		{"groups", "/v1/dlq/groups"},
		{"histogram of 30 days, by sink", "/v1/dlq/histogram?interval=1d&since=" + since},
		{"histogram of 30 days, by group, of one sink", "/v1/dlq/histogram?by=group&sink=sink-1&interval=1d&since=" + since},
	} {
		var on, whole []float64
		for i := range operateAsked {
			var took time.Duration
			us := serverTime(b, c, 1, func() {
				start := time.Now()
				resp, err := http.Get(stack.APIURL + ask.path) //nolint:noctx // loopback
				ok(b, err)
				_, err = io.Copy(io.Discard, resp.Body)
				ok(b, err)
				took = time.Since(start)
				ok(b, resp.Body.Close())
				if resp.StatusCode != http.StatusOK {
					b.Fatalf("%s: HTTP %d", ask.path, resp.StatusCode)
				}
			})
			if i > 0 { // the first one starts the function
				on, whole = append(on, us/1000), append(whole, milliseconds(took))
			}
		}
		report(b, bound("server time of "+ask.name+", a million dead letters in 1,000 sinks", "ms", median(on), none, 60))
		report(b, bound("all of "+ask.name+", a million dead letters in 1,000 sinks", "ms", median(whole), median(on), 60))
	}
}

// spread makes the history of a sink say that its dead letters came over 30 days: nobody can wait for that.
func spread(b *testing.B, sink string, c redis.UniversalClient) {
	b.Helper()
	ctx := context.Background()
	key := redisconn.New(c, redisconn.DefaultPrefix, "").Keys.Companion(sink, "history")
	all, err := c.HGetAll(ctx, key).Result()
	ok(b, err)
	today := time.Now().Unix() / 86400
	fields := map[string]any{}
	for field, packed := range all {
		var day int64
		var group string
		if n, _ := fmt.Sscanf(field, "d%d:%s", &day, &group); n == 2 {
			for d := range int64(operateDays) {
				fields[fmt.Sprintf("d%d:%s", today-d, group)] = packed
			}
		}
	}
	ok(b, c.HSet(ctx, key, fields).Err())
}
