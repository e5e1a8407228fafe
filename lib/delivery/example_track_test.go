package delivery_test

import (
	"context"
	"fmt"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// siren is a sink of the embedder's own, and out of order.
type siren struct{}

func (siren) Name() string { return "siren" }

func (siren) Send(context.Context, sinks.Recipient, sinks.Message) error {
	return sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no power"})
}

// Somebody asks what became of a message.
func ExampleTracker() {
	ctx := context.Background()
	letters, records := dlq.NewMemory(), delivery.NewMemory(0)
	sender := &delivery.Sender{Targets: delivery.Registered(sinks.NewRegistry(siren{})), Queue: letters, Records: records}
	if _, err := sender.Deliver(ctx, delivery.Request{ID: "alert-1", Sink: "siren", Message: sinks.Message{Body: "disk full"}}); err != nil {
		panic(err)
	}
	tracker := &delivery.Tracker{Records: records, Letters: letters}
	way, err := tracker.Track(ctx, delivery.Key{Sink: "siren", ID: "alert-1"})
	if err != nil {
		panic(err)
	}
	fmt.Println(way.Status, "attempts:", way.Attempts, "next:", way.Next.Event)
	for _, step := range way.Timeline {
		fmt.Println("-", step.Event)
	}
	_, err = tracker.Track(ctx, delivery.Key{Sink: "siren", ID: "alert-2"})
	fmt.Println("another:", fault.CodeOf(err))
	// Output:
	// dead_lettered attempts: 1 next: operator
	// - began
	// - dead_lettered
	// another: SINK_DLQ_NOT_FOUND
}
