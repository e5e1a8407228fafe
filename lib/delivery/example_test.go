package delivery_test

import (
	"context"
	"fmt"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// pager is a sink of the embedder's own.
type pager struct{ broken bool }

func (*pager) Name() string { return "pager" }

func (p *pager) Send(_ context.Context, _ sinks.Recipient, m sinks.Message) error {
	if p.broken {
		return sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no signal"})
	}
	fmt.Println("paged:", m.Body)
	return nil
}

// An embedder registers its sinks once, and sends through them by name. What was sent under an
// id is not sent again, and what cannot be sent is kept: the caller need not keep it.
func ExampleSender() {
	ctx := context.Background()
	sink := &pager{}
	queue := dlq.NewMemory() // dlq.NewRedis and delivery.NewRedis outlive the process
	sender := &delivery.Sender{
		Targets: delivery.Registered(sinks.NewRegistry(sink)),
		Queue:   queue,
		Records: delivery.NewMemory(delivery.DefaultTTL),
	}
	send := func(id, text string) {
		answer, err := sender.Deliver(ctx, delivery.Request{ID: id, Sink: "pager", Message: sinks.Message{Body: text}})
		fmt.Println(answer.Status, "duplicate:", answer.Duplicate, "error:", err)
	}
	send("alert-1", "disk full")
	send("alert-1", "disk full")

	sink.broken = true
	send("alert-2", "disk on fire")
	kept, err := queue.Items(ctx, "pager", 0)
	if err != nil {
		panic(err)
	}
	fmt.Println("kept:", kept[0].Message.Body, "-", kept[0].Reason, "-", kept[0].LastError)
	// Output:
	// paged: disk full
	// delivered duplicate: false error: <nil>
	// delivered duplicate: true error: <nil>
	// dead_lettered duplicate: false error: <nil>
	// kept: disk on fire - terminal - SINK_UNAVAILABLE: no signal
}
