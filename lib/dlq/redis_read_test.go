package dlq_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// ranges notes how many entries each XREVRANGE asks for, and counts round trips.
type ranges struct {
	counts []string
	trips  int
}

func (*ranges) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *ranges) note(cmds ...redis.Cmder) {
	r.trips++
	for _, cmd := range cmds {
		if cmd.Name() == "xrevrange" {
			r.counts = append(r.counts, fmt.Sprint(cmd.Args()[5]))
		}
	}
}

func (r *ranges) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		r.note(cmds...)
		return next(ctx, cmds)
	}
}

func (r *ranges) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.note(cmd)
		return next(ctx, cmd)
	}
}

// A default page is read in one call once a sink's entries are known to be small. However small they were, the first call
// asks for 64 at most: they may be large by now.
func TestAPageIsReadByTheSizeOfWhatWasReadBefore(t *testing.T) {
	c := redistest.Start(t).Client(t)
	asked := &ranges{}
	c.AddHook(asked)
	queue := dlq.NewRedis(c)
	push := func(n, bytes int) {
		for range n {
			if err := queue.Push(t.Context(), dlq.Item{Sink: "orders", LastError: "e", Message: sinks.Message{Body: strings.Repeat("x", bytes)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, step := range []struct {
		what         string
		push, bytes  int
		limit, items int
		want         []string
	}{
		{"nothing is known", 120, 1000, 50, 50, []string{"16", "35"}},
		{"the mean is known", 0, 0, 50, 50, []string{"51"}},
		{"more than is asked for at once", 0, 0, 100, 100, []string{"64", "37"}},
		{"they have become large", 60, 100_000, 50, 41, []string{"51"}},
		{"they are known to be large", 0, 0, 50, 41, []string{"16", "16", "16"}},
	} {
		push(step.push, step.bytes)
		asked.counts = nil
		p, err := queue.Page(t.Context(), dlq.Query{Sink: "orders", Limit: step.limit})
		if err != nil || len(p.Items) != step.items || !slices.Equal(asked.counts, step.want) {
			t.Errorf("%s: %d items by %v (%v), want %d by %v", step.what, len(p.Items), asked.counts, err, step.items, step.want)
		}
	}
}

// What is kept beside a sink's dead letters is asked for where there is any: no replay has touched most lists that fail.
func TestAPageOfWhatNoReplayHasTouchedIsOneRoundTrip(t *testing.T) {
	c := redistest.Start(t).Client(t)
	asked := &ranges{}
	queue := dlq.NewRedis(c)
	for range 60 {
		if err := queue.Push(t.Context(), dlq.Item{Sink: "orders", LastError: "e"}); err != nil {
			t.Fatal(err)
		}
	}
	page := func(trips int) dlq.Page {
		t.Helper()
		asked.trips = 0
		p, err := queue.Page(t.Context(), dlq.Query{Sink: "orders", Limit: 50})
		if err != nil || len(p.Items) != 50 || asked.trips != trips {
			t.Fatalf("%d items in %d round trips, %v; want 50 in %d", len(p.Items), asked.trips, err, trips)
		}
		return p
	}
	if _, err := queue.Page(t.Context(), dlq.Query{Sink: "orders"}); err != nil { // how large they are is known from now on
		t.Fatal(err)
	}
	c.AddHook(asked)
	for _, it := range page(1).Items {
		if now := it.State(time.Now()); now != dlq.StateDue {
			t.Fatalf("%s is %s, want it due", it.ID, now)
		}
	}
	newest := page(1).Items[0].ID
	leased, err := queue.Claim(t.Context(), dlq.Claim{Sink: "orders", IDs: []string{newest}, TTL: time.Minute})
	if err != nil || len(leased) != 1 {
		t.Fatalf("claimed %d, %v", len(leased), err)
	}
	for _, it := range page(2).Items {
		if now := it.State(time.Now()); (now == dlq.StateReplaying) != (it.ID == newest) {
			t.Errorf("%s is %s, and %s alone is leased", it.ID, now, newest)
		}
	}
}
