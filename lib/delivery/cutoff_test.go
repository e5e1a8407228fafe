package delivery_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// cutOff is a store that cannot be reached, but for what comes at the very end.
type (
	cutOffRecords struct{ delivery.Store }
	cutOffQueue   struct{ dlq.Store }
)

func (cutOffRecords) Begin(context.Context, delivery.Begin) (delivery.State, delivery.Record, error) {
	return "", delivery.Record{}, errors.New("cut off")
}

func (cutOffQueue) Add(context.Context, dlq.Item) (dlq.Item, error) {
	return dlq.Item{}, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "cut off"}
}

// Who could note nothing but that it hands the delivery back notes its time, too: whoever takes it over goes by the record.
func TestWhatIsHandedBackWithoutARecordKeepsItsTime(t *testing.T) {
	b := newBench(errGone)
	r := ask(key.ID, "x")
	r.ExpiresAt = time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC()
	records := b.Records
	b.Records, b.Queue = cutOffRecords{records}, cutOffQueue{b.queue}
	_, err := b.Deliver(t.Context(), r)
	wantCode(t, err, fault.CodeDLQUnavailable)

	b.Records, b.Queue = records, b.queue
	a, err := b.Deliver(t.Context(), r)
	if err != nil || a.Status != delivery.StatusDeadLettered {
		t.Fatalf("%+v, %v", a, err)
	}
	it, err := b.queue.Get(t.Context(), a.ItemID)
	if err != nil || !it.ExpiresAt.Equal(r.ExpiresAt) {
		t.Errorf("its dead letter expires at %s (%v), want %s", it.ExpiresAt, err, r.ExpiresAt)
	}
}
