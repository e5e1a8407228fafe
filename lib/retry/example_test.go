package retry_test

import (
	"context"
	"fmt"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// pager is a sink whose receiver is down for a while. It tries once: the Retrier tries again.
type pager struct{ outage int }

func (*pager) Name() string { return "pager" }

func (p *pager) Send(_ context.Context, _ sinks.Recipient, m sinks.Message) error {
	if p.outage > 0 {
		p.outage--
		return sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
	}
	fmt.Println("paged:", m.Body)
	return nil
}

// A wrapped sink is a sink that retries, within its context's deadline, and that keeps what still
// fails. An error then means that the caller still owns the message.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	queue := dlq.NewMemory()
	inner := &pager{}
	sink := retry.WrapSink(inner, retry.Config{MaxAttempts: 3, BaseBackoff: time.Millisecond}, queue)

	inner.outage = 2 // the third attempt succeeds
	fmt.Println(sink.Send(ctx, nil, sinks.Message{ID: "alert-1", Body: "disk full"}))

	inner.outage = 3 // no attempt does
	fmt.Println(sink.Send(ctx, nil, sinks.Message{ID: "alert-2", Body: "disk on fire"}))
	kept, err := queue.Items(ctx, "pager", 0)
	if err != nil {
		panic(err)
	}
	for _, it := range kept {
		fmt.Printf("kept: %s, %s after %d attempts: %s\n", it.DeliveryID, it.Reason, it.Attempts, it.LastError)
	}
	// Output:
	// paged: disk full
	// <nil>
	// <nil>
	// kept: alert-2, exhausted after 3 attempts: SINK_UNAVAILABLE: HTTP 503
}
