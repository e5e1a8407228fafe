package docs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// pagerSink is a sink of an embedder's own, whose service refuses.
type pagerSink struct{}

func (pagerSink) Name() string { return "pager" }

func (pagerSink) Send(context.Context, sinks.Recipient, sinks.Message) error {
	return sinks.Terminal(errors.New("nobody is on call"))
}

// embed is what the README shows to embedders, line by line.
func embed(ctx context.Context, client redis.UniversalClient, pager sinks.Sink) (delivery.Answer, error) {
	registry := sinks.NewRegistry()
	registry.Register(pager) // a sink of yours, or one that sinks.BuildSink makes
	sender := &delivery.Sender{
		Targets: delivery.Registered(registry),
		Queue:   dlq.NewRedis(client), // keeps what fails; lib/replay sends it again
		Records: delivery.NewRedis(client, "", 0),
	}
	answer, err := sender.Deliver(ctx, delivery.Request{ID: "order-1001", Sink: "pager", Message: sinks.Message{Body: "Paid."}})
	// err == nil: delivered, or kept as the dead letter answer.ItemID. Otherwise the message is still yours.
	return answer, err
}

func TestTheReadmesLinesForEmbeddersWork(t *testing.T) {
	_, block, _ := strings.Cut(read(t, "../README.md"), "```go\n")
	block, _, _ = strings.Cut(block, "```")
	if strings.Count(block, "\n") < 5 {
		t.Fatalf("the README shows %q", block)
	}
	var shown strings.Builder
	for line := range strings.Lines(block) {
		fmt.Fprint(&shown, "\t", line)
	}
	if !strings.Contains(read(t, "readme_test.go"), shown.String()) {
		t.Errorf("embed, in this file, is not what the README shows:\n%s", shown.String())
	}

	client := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	t.Cleanup(func() { client.Close() })
	answer, err := embed(t.Context(), client, pagerSink{})
	if err != nil || answer.Status != delivery.StatusDeadLettered {
		t.Fatalf("%+v, %v, want it kept", answer, err)
	}
	item, err := dlq.NewRedis(client).Get(t.Context(), answer.ItemID)
	if err != nil || item.Message.Body != "Paid." {
		t.Errorf("%+v, %v", item, err)
	}
}
