package flow_test

import (
	"context"
	"fmt"
	"log/slog"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// pager is a sink whose receiver is down.
type pager struct{ attempts int }

func (*pager) Name() string { return "pager" }

func (p *pager) Send(context.Context, sinks.Recipient, sinks.Message) error {
	p.attempts++
	return sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
}

// A hundred messages to a receiver that is down are all kept, and cost a few attempts. With
// flow.NewRedis in place of Memory all processes together make no more.
func Example() {
	queue, sink := dlq.NewMemory(), &pager{}
	retrier := retry.NewRetrier(sink, retry.Config{MaxAttempts: 1}, queue)
	retrier.Gate = &flow.Gate{Store: &flow.Memory{}, Log: slog.New(slog.DiscardHandler)}
	for i := range 100 {
		retrier.Deliver(context.Background(), nil, sinks.Message{ID: fmt.Sprint("alert-", i), Body: "disk full"})
	}
	kept, err := queue.Count(context.Background(), "pager")
	fmt.Println(kept, "kept,", err)
	fmt.Println("attempts:", sink.attempts)
	// Output:
	// 100 kept, <nil>
	// attempts: 5
}
