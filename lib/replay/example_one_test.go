package replay_test

import (
	"context"
	"errors"
	"fmt"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// mailer is a sink that refuses a message for good until somebody has created the mailbox.
type mailer struct{ created bool }

func (*mailer) Name() string { return "mail" }

func (s *mailer) Send(_ context.Context, _ sinks.Recipient, m sinks.Message) error {
	if !s.created {
		return sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "550 no such mailbox"})
	}
	fmt.Println("mailed:", m.Body)
	return nil
}

// An operator looks at a dead letter, repairs what was wrong, and replays it: the schedule would
// not, since its failure was terminal. What a replay delivered can be kept, and is not sent
// again by mistake.
func ExampleEngine_ReplayOne() {
	ctx := context.Background()
	inner := &mailer{}
	queue := dlq.NewMemory()
	letter, err := queue.Add(ctx, dlq.Item{
		Sink: "mail", DeliveryID: "order:1042", Message: sinks.Message{ID: "order:1042", Body: "Your order left."},
		Attempts: 1, LastError: "550 no such mailbox", Reason: dlq.ReasonTerminal,
	})
	if err != nil {
		panic(err)
	}
	engine := &replay.Engine{Store: queue, Targets: delivery.Registered(sinks.NewRegistry(inner))}

	// A replay that fails is a result, not an error: the letter is where it was.
	result, err := engine.ReplayOne(ctx, letter.ID, replay.OneOptions{OnSuccess: replay.OnSuccessKeep})
	fmt.Println(result.Status, result.Error, err)

	inner.created = true
	result, err = engine.ReplayOne(ctx, letter.ID, replay.OneOptions{OnSuccess: replay.OnSuccessKeep})
	fmt.Println(result.Status, err)

	_, err = engine.ReplayOne(ctx, letter.ID, replay.OneOptions{})
	fmt.Println("delivered already:", errors.Is(err, replay.ErrAlreadyDelivered))
	// Output:
	// failed SINK_UNAVAILABLE: 550 no such mailbox <nil>
	// mailed: Your order left.
	// delivered <nil>
	// delivered already: true
}
