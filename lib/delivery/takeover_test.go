package delivery_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// replayed has a replay end just before a dead letter is first looked for by its content.
type replayed struct {
	delivery.Queue
	end func()
}

func (q replayed) Find(ctx context.Context, sink, deliveryID, fingerprint string) (dlq.Item, error) {
	q.end()
	return q.Queue.Find(ctx, sink, deliveryID, fingerprint)
}

// A delivery was handed back, for nobody knew whether its dead letter was stored. It was, and a replay delivers it while
// the next call takes the delivery over: the letter is gone by the time that it is looked for, and the record says why.
func TestWhatAReplayDeliversDuringATakeoverIsNotSentAgain(t *testing.T) {
	b := newBench(nil)
	it := b.kept(t)
	b.Records = delivery.NewMemory(0)
	err := b.Records.HandBack(t.Context(), key, "first", delivery.BackLeave, delivery.Record{Sink: key.Sink, ID: key.ID, Fingerprint: delivery.FingerprintOf(it)})
	if err != nil {
		t.Fatal(err)
	}
	b.Queue = replayed{b.queue, sync.OnceFunc(func() {
		leased, err := b.queue.Claim(t.Context(), dlq.Claim{Sink: "ops", IDs: []string{it.ID}, TTL: time.Minute})
		if err != nil || len(leased) != 1 {
			t.Fatalf("Claim: %v, %v", leased, err)
		}
		if _, err := b.Records.Update(t.Context(), delivery.ChangeOf(it, delivery.StatusDelivered)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.queue.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionDiscard}}); err != nil {
			t.Fatal(err)
		}
	})}
	a, err := b.Deliver(t.Context(), ask(key.ID, "x"))
	if err != nil || a.Status != delivery.StatusDelivered || !a.Duplicate || b.sink.sent != 0 {
		t.Errorf("%+v, %v, sent %d times; want that it was delivered, and not again (%s)", a, err, b.sink.sent, fault.CodeOf(err))
	}
}
