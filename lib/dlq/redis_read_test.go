package dlq_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// ranges notes how many entries each XREVRANGE asks for.
type ranges struct{ counts []string }

func (*ranges) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*ranges) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *ranges) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "xrevrange" {
			r.counts = append(r.counts, fmt.Sprint(cmd.Args()[5]))
		}
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
