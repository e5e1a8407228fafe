package replay_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// ordered is a Records that looks whether the dead letters are there when it is told of them.
type ordered struct {
	t     *testing.T
	store dlq.Store
	slow  bool // it answers only when its caller gives up
	told  map[string]delivery.Status
}

func (*ordered) Get(context.Context, delivery.Key) (delivery.Record, bool, error) {
	return delivery.Record{}, false, nil
}

func (o *ordered) Update(ctx context.Context, changes ...delivery.Change) ([]delivery.Status, error) {
	statuses := make([]delivery.Status, len(changes))
	for i, c := range changes {
		_, err := o.store.Get(ctx, c.ItemID)
		if there, want := err == nil, c.Status == delivery.StatusDelivered; there != want {
			o.t.Errorf("told %s of %s: the item is there: %t", c.Status, c.ItemID, there)
		}
		if want := delivery.FingerprintOf(dlq.Item{Message: sinks.Message{ID: c.ID}}); c.Fingerprint != want {
			o.t.Errorf("fingerprint %s of %s, want %s", c.Fingerprint, c.ID, want)
		}
		o.told[c.ID], statuses[i] = c.Status, c.Status
	}
	if o.slow {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return statuses, nil
}

// A resend of a delivery, and a repeated import, believe the record: it must say "delivered"
// before the dead letter goes. A record that cannot be
// written leaves time for settling.
func TestTheRecordIsWrittenBeforeADeliveredDeadLetterGoes(t *testing.T) {
	for _, slow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := dlq.NewMemory()
			ids := push(t, store, "a", "m", 3, func(it *dlq.Item) { it.Message = sinks.Message{ID: it.DeliveryID} })
			e := engine(store, configured(replay.Policy{}, &receiver{name: "a"}))
			seen := &ordered{t, store, slow, map[string]delivery.Status{}}
			e.Records = seen
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, err := e.ReplayOne(ctx, ids[0], replay.OneOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Run(ctx, replay.Request{}); err != nil {
				t.Fatal(err)
			}
			if len(seen.told) != 3 || depth(t, store, "a") != 0 || ctx.Err() != nil {
				t.Errorf("slow %t: told of %v, %d items are left, %v", slow, seen.told, depth(t, store, "a"), ctx.Err())
			}
		})
	}
}
