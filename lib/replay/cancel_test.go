package replay_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
)

// noted notes a delivery as canceled before its dead letters come.
func noted(tb testing.TB, store dlq.Store, sink string, ids ...string) {
	tb.Helper()
	for _, id := range ids {
		if _, err := store.ClaimDelivery(tb.Context(), dlq.DeliveryClaim{Sink: sink, DeliveryID: id, TTL: time.Minute, Note: 24 * time.Hour}); err != nil {
			tb.Fatal(err)
		}
	}
}

// What belongs to a canceled delivery is never sent: the schedule and bulk operations remove it,
// and an operator's replay is refused, forced or not. Its record is told nothing.
func TestALetterOfACanceledDeliveryIsRemovedUnsent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink, told := dlq.NewMemory(), &receiver{name: "a"}, &records{}
		noted(t, store, "a", "due0", "due1", "waiting0", "given0", "over0")
		due := push(t, store, "a", "due", 3)
		waiting := push(t, store, "a", "waiting", 2, idle)
		given := push(t, store, "a", "given", 2, idle)
		push(t, store, "a", "over", 1, idle, expires(time.Minute))
		e := engine(store, configured(replay.Policy{}, sink))
		e.Records = told
		log := logged(e)
		for _, force := range []bool{false, true} {
			if _, err := e.ReplayOne(t.Context(), due[0], replay.OneOptions{Force: force}); fault.CodeOf(err) != fault.CodeInvalidArgument || !strings.Contains(err.Error(), "canceled") {
				t.Errorf("an operator's replay, forced %t: %v; want INVALID_ARGUMENT that says why", force, err)
			}
		}
		time.Sleep(time.Minute)
		if s := run(t, e, replay.Request{}); s.Delivered != 1 || s.Skipped != 3 || s.Expired != 0 || s.Claimed != 4 {
			t.Errorf("summary %+v, want 1 delivered, and 3 removed", s.Counts)
		}
		if log := log.String(); strings.Count(log, `"msg":"canceled"`) != 3 {
			t.Errorf("want a line for each of three in %s", log)
		}
		a := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, IDs: waiting})
		b := start(t, e, replay.OperationRequest{Action: replay.OperationDiscard, IDs: given})
		run(t, e, replay.Request{})
		if got := progress(t, e, a.ID); got.OperationCounts != counts(2, 1, 0, 1, 0) {
			t.Errorf("bulk replay %+v, want one delivered and one removed", got.OperationCounts)
		}
		if got := progress(t, e, b.ID); got.OperationCounts != counts(2, 0, 0, 2, 0) {
			t.Errorf("bulk discard %+v, want both removed", got.OperationCounts)
		}
		if n := depth(t, store, "a"); n != 0 || len(sink.calls()) != 2 {
			t.Errorf("%d left, sent %v; want none, and due2 and waiting1 sent", n, sink.counts())
		}
		for _, id := range []string{"due0", "due1", "waiting0", "given0", "over0"} {
			if s, known := told.set[delivery.Key{Sink: "a", ID: id}]; known {
				t.Errorf("the record of %s was told %s", id, s)
			}
		}
	})
}

func TestEachRunForgetsNotesThatAreOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		for i := range 20 {
			noted(t, store, "a", fmt.Sprintf("d%d", i)) // of a sink without dead letters
		}
		e := engine(store, configured(replay.Policy{}, &receiver{name: "a"}))
		for _, want := range []int64{20, 0} {
			run(t, e, replay.Request{})
			if st, err := store.Stats(t.Context(), "a"); err != nil || st.Canceled != want {
				t.Errorf("%d notes after %v, want %d", st.Canceled, err, want)
			}
			time.Sleep(24 * time.Hour)
		}
	})
}

// A receiver that said it has a message is believed, whatever a caller was told since: the record
// of a late holder's letter, which was canceled when its lease had run out, says delivered.
func TestALateHoldersDeliveryUndoesACancellation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, told := dlq.NewMemory(), delivery.NewMemory(0)
		sink := &receiver{name: "a"}
		id := push(t, store, "a", "m", 1)[0]
		e := engine(late{store, 20 * time.Minute}, configured(replay.Policy{}, sink))
		seen := &counter{}
		e.Records, e.Observer = lateRecords{told, 18 * time.Minute}, seen
		log := logged(e)
		var s replay.Summary
		var all sync.WaitGroup
		all.Go(func() { s = run(t, e, replay.Request{}) })
		time.Sleep(17 * time.Minute) // its lease is over
		key := delivery.Key{Sink: "a", ID: "m0"}
		canceler := delivery.Canceler{Records: told, Letters: store, Log: e.Log}
		c, err := canceler.Cancel(t.Context(), key)
		if err != nil || c.Status != delivery.StatusCanceled {
			t.Fatalf("canceled: %+v, %v", c, err)
		}
		if rec, _, err := told.Get(t.Context(), key); err != nil || rec.Status != delivery.StatusCanceled || depth(t, store, "a") != 0 {
			t.Fatalf("the record says %+v, %v; want canceled, and letter %s gone", rec, err, id)
		}
		all.Wait()
		if rec, _, err := told.Get(t.Context(), key); err != nil || rec.Status != delivery.StatusDelivered {
			t.Errorf("the record says %+v, %v; want delivered", rec, err)
		}
		if s.Skipped != 1 || s.Delivered != 0 || *seen != (counter{}) || !strings.Contains(log.String(), "not recorded") {
			t.Errorf("summary %+v, want the settlement fenced", s.Counts)
		}
	})
}

// lateRecords are records that are told late.
type lateRecords struct {
	delivery.Store
	by time.Duration
}

func (r lateRecords) Update(ctx context.Context, changes ...delivery.Change) ([]delivery.Status, error) {
	time.Sleep(r.by)
	return r.Store.Update(context.WithoutCancel(ctx), changes...)
}
