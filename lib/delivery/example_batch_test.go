package delivery_test

import (
	"context"
	"fmt"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// busy is a sink that refuses everything.
type busy struct{}

func (busy) Name() string { return "line" }

func (busy) Send(context.Context, sinks.Recipient, sinks.Message) error {
	return sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "busy"})
}

// A consumer of a queue delivers what it has read together. However long one receiver takes, it
// has at most its share of what goes on at once.
func ExampleBatch() {
	ctx := context.Background()
	queue := dlq.NewMemory()
	sender := &delivery.Sender{
		Targets: delivery.Registered(sinks.NewRegistry(busy{})),
		Queue:   queue,
		Records: delivery.NewMemory(delivery.DefaultTTL),
	}
	read := []delivery.Request{
		{ID: "alert-1", Sink: "line", Message: sinks.Message{Body: "disk full"}},
		{ID: "alert-2", Sink: "line", Message: sinks.Message{Body: "disk on fire"}},
		{ID: "alert-3", Sink: "nobody", Message: sinks.Message{Body: "disk gone"}},
	}
	safe := make([]bool, len(read)) // what is not stays in the consumer's queue
	batch := delivery.NewBatch(10)
	for i, r := range read {
		batch.Go(func(turn *delivery.Turn) {
			r.Turn = turn
			_, err := sender.Deliver(ctx, r)
			safe[i] = err == nil
		})
	}
	batch.Wait()
	kept, err := queue.Count(ctx, "line")
	fmt.Println("safe:", safe, "dead letters:", kept, err)
	// Output:
	// safe: [true true false] dead letters: 2 <nil>
}
