package bench

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"backstop/lib/config"
	_ "backstop/lib/sinks/webhook" // the kind that is configured
)

// BenchmarkConfig looks a sink up, as every delivery does, on a configuration that stays
// fresh and on one that is read again all the time and never changes.
func BenchmarkConfig(b *testing.B) {
	dir := b.TempDir()
	ok(b, os.WriteFile(filepath.Join(dir, "ops.yaml"), []byte("kind: webhook\nurl: https://receiver.example.com\n"), 0o600))
	source, err := config.ParseSource("file:" + dir)
	ok(b, err)
	ctx := context.Background()
	lookup := func(ttl time.Duration) (*config.Cache, func(int) error) {
		c := config.NewCache(source, config.Options{TTL: ttl})
		_, err := c.Get(ctx)
		ok(b, err)
		return c, func(int) error {
			_, err := c.Sink(ctx, "ops")
			return err
		}
	}
	_, fresh := lookup(time.Hour)
	report(b, bound("allocations of a look-up in the configuration", "allocs", allocations(b, 100_000, fresh), none, 0))

	// Refreshes are due after 80 to 100 ms; nobody waits before 100 ms have passed.
	cache, refreshed := lookup(100 * time.Millisecond)
	const n = 3000
	first, err := cache.Get(ctx)
	ok(b, err)
	var busy []float64
	changed := 0
	for i := range n {
		timed(b, &busy, func() error { return refreshed(i) })
		if s, err := cache.Get(ctx); err != nil || s != first {
			ok(b, err)
			first, changed = s, changed+1
		}
		time.Sleep(time.Millisecond)
	}
	if changed < 10 {
		b.Fatalf("the configuration was read again %d times", changed)
	}
	report(b, bound("look-up while the configuration is refreshed, 99.9th percentile", "ms", percentile(busy, 0.999)/1000, none, 10))
}
