package delivery_test

import (
	"context"
	"fmt"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// backlog is a queue for later of the embedder's own: it hands its requests out again until each is
// safe.
type backlog struct{ waiting []delivery.Request }

func (b *backlog) Put(_ context.Context, q delivery.Queued) error {
	// What comes back has its times from here on.
	q.Queued, q.SendAfter, q.Async = true, 0, false
	q.KeepUnsendable, q.ComesAgain = true, true
	b.waiting = append(b.waiting, q.Request)
	return nil
}

func (*backlog) FIFO() bool { return false }

// phone is a sink of the embedder's own.
type phone struct{}

func (phone) Name() string { return "phone" }

func (phone) Send(_ context.Context, _ sinks.Recipient, m sinks.Message) error {
	fmt.Println("called:", m.Body)
	return nil
}

// A reminder waits in a queue to be sent, and its reason is gone: it is canceled, and whatever comes
// of it later is answered so.
func ExampleCanceler() {
	ctx := context.Background()
	letters, records, later := dlq.NewMemory(), delivery.NewMemory(0), &backlog{}
	sender := &delivery.Sender{
		Targets: delivery.Registered(sinks.NewRegistry(phone{})), Queue: letters, Records: records, Requests: later,
	}
	answer, err := sender.Deliver(ctx, delivery.Request{
		ID: "reminder-1", Sink: "phone", Message: sinks.Message{Body: "on call from six"}, Async: true, ExpiresAt: time.Now().Add(time.Hour),
	})
	fmt.Println(answer.Status, err)

	canceler := &delivery.Canceler{Records: records, Letters: letters}
	done, err := canceler.Cancel(ctx, delivery.Key{Sink: "phone", ID: "reminder-1"})
	fmt.Println(done.Status, "attempts:", done.Attempts, "may have arrived:", done.MayHaveArrived, err)

	for _, r := range later.waiting {
		answer, err = sender.Deliver(ctx, r)
		fmt.Println(answer.Status, err)
	}
	// Output:
	// accepted <nil>
	// canceled attempts: 0 may have arrived: false <nil>
	// canceled <nil>
}
