package retry_test

import (
	"context"
	"fmt"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// full is a sink whose receiver refuses everything for good.
type full struct{}

func (full) Name() string { return "mailbox" }

func (full) Send(context.Context, sinks.Recipient, sinks.Message) error {
	return sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 410"})
}

// A sink that has retries already, at any depth, is not wrapped again.
func ExampleWrapSink() {
	queue := dlq.NewMemory()
	once := retry.WrapSink(full{}, retry.Config{MaxAttempts: 3}, queue)
	twice := retry.WrapSink(once, retry.Config{MaxAttempts: 3}, queue)
	fmt.Println(twice == once, twice.Name())
	// Output: true mailbox
}

// Deliver tells what Send does not: how often it was tried, and where the message is now.
func ExampleRetrier_Deliver() {
	retrier := retry.NewRetrier(full{}, retry.Config{MaxAttempts: 3}, dlq.NewMemory())
	out := retrier.Deliver(context.Background(), nil, sinks.Message{ID: "m-1", Body: "hello"})
	fmt.Println(out.Status, out.Reason, out.Attempts, out.Err)
	fmt.Println(out.Item.DeliveryID, out.Error())
	// Output:
	// dead_lettered terminal 1 SINK_UNAVAILABLE: HTTP 410
	// m-1 <nil>
}
