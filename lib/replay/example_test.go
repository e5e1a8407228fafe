package replay_test

import (
	"context"
	"fmt"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// pager is a sink whose receiver can be down.
type pager struct{ down bool }

func (*pager) Name() string { return "pager" }

func (p *pager) Send(_ context.Context, _ sinks.Recipient, m sinks.Message) error {
	if p.down {
		return sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
	}
	fmt.Println("paged:", m.Body)
	return nil
}

// A schedule calls Run every minute or so: what failed is sent again when it is due, and
// discarded when it was delivered.
func Example() {
	ctx := context.Background()
	inner := &pager{down: true}
	queue := dlq.NewMemory()
	registry := sinks.NewRegistry(retry.WrapSink(inner, retry.Config{MaxAttempts: 1}, queue))
	engine := &replay.Engine{Store: queue, Targets: delivery.Registered(registry)}

	// The receiver is down: the message becomes a dead letter.
	sink, _ := registry.Get("pager")
	if err := sink.Send(ctx, nil, sinks.Message{ID: "alert-1", Body: "disk full"}); err != nil {
		panic(err)
	}
	inner.down = false

	for range 2 {
		summary, err := engine.Run(ctx, replay.Request{})
		if err != nil {
			panic(err)
		}
		fmt.Printf("%d claimed, %d delivered, %d remain\n", summary.Claimed, summary.Delivered, summary.Remaining)
	}
	// Output:
	// paged: disk full
	// 1 claimed, 1 delivered, 0 remain
	// 0 claimed, 0 delivered, 0 remain
}
