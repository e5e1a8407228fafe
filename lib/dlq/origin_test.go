package dlq_test

import (
	"testing"

	"backstop/lib/dlq"
)

// A dead letter counts on from the one whose replay it was, however often it is prepared: a batch, a journal
// and the store itself do.
func TestWhatMayHaveArrivedIsCountedOnOnce(t *testing.T) {
	ctx := dlq.WithOrigin(t.Context(), dlq.Origin{ItemID: "mail~1-0", Unanswered: 2})
	it := dlq.Item{Sink: "mail", DeliveryID: "d", Unanswered: 1}
	for range 3 {
		var err error
		if it, err = dlq.Prepare(ctx, it); err != nil || it.Unanswered != 3 || it.Origin != "mail~1-0" {
			t.Fatalf("%d unanswered, origin %q, %v; want 3", it.Unanswered, it.Origin, err)
		}
	}
}
