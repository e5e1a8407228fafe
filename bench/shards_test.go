package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"backstop/internal/redisconn"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
)

const shards = 4

// BenchmarkShards interleaves calls for a sink with several queues, all on one server here, and for one with a single queue.
func BenchmarkShards(b *testing.B) {
	c := redistest.Start(b).Client(b)
	ok(b, c.HSet(context.Background(), redisconn.New(c, redisconn.DefaultPrefix, "").Keys.Shards(), "spread", fmt.Sprintf("%d 0 %[1]d", shards)).Err())
	s := dlq.NewRedis(c, dlq.WithMaxLen(0), dlq.WithShards(func(sink string) int { return map[string]int{"spread": shards}[sink] }))
	sides := []string{"spread", "ops"}
	next := map[string]int{}
	push := func(sink string) error {
		next[sink]++
		return s.Push(context.Background(), letter(sink, next[sink]))
	}
	for _, sink := range sides {
		fill(b, s, sink, 0, several)
		next[sink] = several
	}
	page := func(sink string) error {
		p, err := s.Page(context.Background(), dlq.Query{Sink: sink, Limit: 50})
		if err == nil && len(p.Items) != 50 {
			b.Errorf("a page of %s has %d", sink, len(p.Items))
		}
		return err
	}
	replay := func(sink string) error {
		leased, err := s.Claim(context.Background(), dlq.Claim{Sink: sink, Limit: 50, TTL: time.Minute})
		if err != nil || len(leased) != 50 {
			b.Errorf("a claim of %s leased %d", sink, len(leased))
			return err
		}
		settlements := make([]dlq.Settlement, len(leased))
		for i, l := range leased {
			settlements[i] = dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDiscard}
		}
		got, err := s.Settle(context.Background(), settlements)
		if slices.Contains(got, dlq.SettleFenced) {
			b.Errorf("a lease of %s was lost", sink)
		}
		return err
	}
	for _, call := range []struct {
		name  string
		times int
		f     func(sink string) error
	}{{"a push", 2000, push}, {"a page of 50", 200, page}, {"claiming and settling 50", 90, replay}} {
		medians := interleave(b, call.times, func(int) error { return call.f("spread") }, func(int) error { return call.f("ops") })
		report(b, slower(fmt.Sprintf("%s, %d shards / 1", call.name, shards), "µs", medians[0], medians[1], none))
	}
}
