package replay_test

import (
	"context"
	"fmt"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// mailbox is a sink that prints what it takes.
type mailbox struct{}

func (mailbox) Name() string { return "mail" }

func (mailbox) Send(_ context.Context, _ sinks.Recipient, m sinks.Message) error {
	fmt.Println("mailed:", m.ID)
	return nil
}

// A bulk operation works on all that a filter selects when it is created. A preview says what
// that is, by the same filter. Every Run goes on with it until it is final.
func ExampleEngine_CreateOperation() {
	ctx := context.Background()
	queue := dlq.NewMemory()
	for id, reason := range map[string]dlq.Reason{
		"order:1": dlq.ReasonConfig, "order:2": dlq.ReasonConfig, "order:3": dlq.ReasonInvalid,
	} {
		err := queue.Push(ctx, dlq.Item{Sink: "mail", DeliveryID: id, Message: sinks.Message{ID: id, Body: "Thank you."}, Reason: reason})
		if err != nil {
			panic(err)
		}
	}
	engine := &replay.Engine{
		Store:      queue,
		Targets:    delivery.Registered(sinks.NewRegistry(mailbox{})),
		Operations: replay.NewMemoryOperations(),
	}

	request := replay.OperationRequest{
		Action:         replay.OperationReplay,
		Filter:         &replay.Filter{Sink: "mail", Reason: dlq.ReasonConfig},
		Reason:         "the password is set again",
		IdempotencyKey: "incident-17", // asked for twice, it is one operation
	}
	preview, err := engine.Preview(ctx, request)
	fmt.Println("would replay:", preview.Count, err)

	operation, err := engine.CreateOperation(ctx, request)
	if err != nil {
		panic(err)
	}
	if _, err := engine.Run(ctx, replay.Request{Operation: operation.ID}); err != nil {
		panic(err)
	}
	operation, err = engine.Operation(ctx, operation.ID)
	fmt.Printf("%s: %d of %d delivered, %v\n", operation.Status, operation.Delivered, operation.Total, err)
	// Unordered output:
	// would replay: 2 <nil>
	// mailed: order:1
	// mailed: order:2
	// completed: 2 of 2 delivered, <nil>
}
