package journal_test

import (
	"context"
	"fmt"
	"os"

	"backstop/lib/dlq"
	"backstop/lib/journal"
	"backstop/lib/sinks"
)

// A cache loses what it holds; a restore brings back what was open.
func ExampleKeeper() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "journal")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	bucket := journal.NewFolder(dir)

	cache := dlq.NewMemory(dlq.WithJournal())
	queue := journal.NewQueue(cache, bucket, journal.Options{})
	for _, id := range []string{"order-1", "order-2"} {
		if err := queue.Push(ctx, dlq.Item{Sink: "mail", DeliveryID: id, Message: sinks.Message{ID: id}, Reason: dlq.ReasonExhausted}); err != nil {
			panic(err)
		}
	}

	cache = dlq.NewMemory(dlq.WithJournal()) // all is lost
	keeper := &journal.Keeper{Queue: cache, Bucket: bucket}
	var step journal.RestoreStep
	for done := false; !done; {
		p, err := keeper.Restore(ctx, "mail", step)
		if err != nil {
			panic(err)
		}
		fmt.Println("restored:", p.Restored)
		step.After, done = p.After, p.Done
	}
	audit, err := keeper.Audit(ctx, "mail")
	if err != nil {
		panic(err)
	}
	fmt.Printf("letters=%d queued=%d lost=%d\n", audit.Letters, audit.Queued, audit.Lost)
	// Output:
	// restored: 2
	// letters=2 queued=2 lost=0
}
