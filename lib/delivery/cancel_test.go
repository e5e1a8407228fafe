package delivery_test

import (
	"context"
	"log/slog"
	"testing"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// meanwhile does something between the mark in the record and the claim of the dead letters.
type meanwhile struct {
	delivery.CancelStore
	do func()
}

func (m meanwhile) ClaimDelivery(ctx context.Context, c dlq.DeliveryClaim) ([]dlq.Leased, error) {
	if m.do != nil {
		m.do()
	}
	return m.CancelStore.ClaimDelivery(ctx, c)
}

func (b *bench) canceler(do func()) *delivery.Canceler {
	return &delivery.Canceler{Records: b.Records, Letters: meanwhile{b.queue, do}, Log: slog.New(slog.DiscardHandler)}
}

// kept makes a dead letter of m-1, as its sender left it.
func (b *bench) kept(t *testing.T) dlq.Item {
	t.Helper()
	b.sink.err = errGone
	a, err := b.Deliver(t.Context(), ask(key.ID, "x"))
	if err != nil || a.Status != delivery.StatusDeadLettered {
		t.Fatalf("%+v, %v", a, err)
	}
	it, err := b.queue.Get(t.Context(), a.ItemID)
	if err != nil {
		t.Fatal(err)
	}
	b.sink.err, b.sink.sent = nil, 0
	return it
}

// A replay that had begun delivers while its delivery is canceled: the dead letter is gone by
// the time that the canceler looks for it, and its record says why.
func TestWhatAReplayDeliversMeanwhileIsNotCanceled(t *testing.T) {
	b := newBench(nil)
	it := b.kept(t)
	_, err := b.canceler(func() {
		leased, err := b.queue.Claim(t.Context(), dlq.Claim{Sink: "ops", IDs: []string{it.ID}, TTL: lease})
		if err != nil || len(leased) != 1 {
			t.Fatalf("Claim: %v, %v", leased, err)
		}
		if _, err := b.Records.Update(t.Context(), delivery.ChangeOf(it, delivery.StatusDelivered)); err != nil {
			t.Fatal(err)
		}
		if _, err := b.queue.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionDiscard}}); err != nil {
			t.Fatal(err)
		}
	}).Cancel(t.Context(), key)
	wantCode(t, err, fault.CodeAlreadyDelivered)
}

// The first of two cancellations finds that a replay holds the dead letter, and is undone; the
// second one comes in between, finds the replay over, and holds.
func TestACancellationIsNotUndoneByAnother(t *testing.T) {
	b := newBench(nil)
	it := b.kept(t)
	leased, err := b.queue.Claim(t.Context(), dlq.Claim{Sink: "ops", IDs: []string{it.ID}, TTL: lease})
	if err != nil || len(leased) != 1 {
		t.Fatalf("Claim: %v, %v", leased, err)
	}
	var second delivery.Cancellation
	first := &delivery.Canceler{Letters: b.queue, Log: slog.New(slog.DiscardHandler), Records: undoing{b.Records, func() {
		if err := b.queue.Release(t.Context(), []dlq.Lease{leased[0].Lease}); err != nil {
			t.Fatal(err)
		}
		if second, err = b.canceler(nil).Cancel(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}}}
	_, err = first.Cancel(t.Context(), key)
	wantCode(t, err, fault.CodeItemLeased)
	if second.Status != delivery.StatusCanceled || !second.Known || second.Attempts != 1 {
		t.Errorf("the second was told %+v", second)
	}
	a, err := b.Deliver(t.Context(), ask(key.ID, "x"))
	if err != nil || a.Status != delivery.StatusCanceled || b.sink.sent != 0 {
		t.Errorf("sent again: %+v, %v after %d sends; want it canceled", a, err, b.sink.sent)
	}
}

// undoing does something before a record is taken back.
type undoing struct {
	delivery.Store
	do func()
}

func (u undoing) Uncancel(ctx context.Context, k delivery.Key, token string) error {
	u.do()
	return u.Store.Uncancel(ctx, k, token)
}

// A canceler died between the mark and the dead letters. Whoever asks again finds what they tell
// of attempts, and so does whoever asks after that.
func TestACancellationThatWasLeftIsCompleted(t *testing.T) {
	b := newBench(nil)
	push(t, b, dlq.Item{
		Sink: "ops", DeliveryID: key.ID, Message: sinks.Message{ID: key.ID, Body: "x"}, Reason: dlq.ReasonExhausted, Attempts: 3, Unanswered: 1,
	})
	if state, _, err := b.Records.Cancel(t.Context(), key, "dead canceler", delivery.Record{}); err != nil || state != delivery.StateCanceled {
		t.Fatalf("%v, %v", state, err)
	}
	want := delivery.Cancellation{Status: delivery.StatusCanceled, DeliveryID: key.ID, Known: true, Attempts: 3, MayHaveArrived: true, Before: true}
	for n := range 3 {
		got, err := b.canceler(nil).Cancel(t.Context(), key)
		if err != nil || got != want {
			t.Errorf("time %d: %+v, %v; want %+v", n+1, got, err, want)
		}
	}
}

// A replay delivered it, and could not note that: the record speaks of a dead letter that is not
// there.
func TestADeadLetterThatIsGoneMayHaveArrived(t *testing.T) {
	b := newBench(nil)
	it := b.kept(t)
	if err := b.queue.Discard(t.Context(), it.ID); err != nil {
		t.Fatal(err)
	}
	want := delivery.Cancellation{Status: delivery.StatusCanceled, DeliveryID: key.ID, Known: true, Attempts: 1, MayHaveArrived: true}
	for n := range 2 {
		want.Before = n > 0
		if got, err := b.canceler(nil).Cancel(t.Context(), key); err != nil || got != want {
			t.Errorf("time %d: %+v, %v; want %+v", n+1, got, err, want)
		}
		want.Before = true
	}
}

// Another cancellation, on which this one relies, is undone meanwhile, and somebody goes on with the
// delivery: then no note of it may stay, for a replay drops what a note says to be canceled.
func TestNoNoteIsLeftOfWhatIsNotCanceled(t *testing.T) {
	for name, c := range map[string]struct {
		ends delivery.Status
		code fault.Code
	}{
		"it is being sent":  {delivery.StatusInProgress, fault.CodeDeliveryInProgress},
		"it was delivered":  {delivery.StatusDelivered, fault.CodeAlreadyDelivered},
		"it is still there": {delivery.StatusAccepted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(nil)
			situate(t, b.Records, key, "accepted", "other", lease)
			if state, _, err := b.Records.Cancel(t.Context(), key, "other canceler", delivery.Record{}); err != nil || state != delivery.StateCanceled {
				t.Fatal(state, err)
			}
			_, err := b.canceler(func() {
				if err := b.Records.Uncancel(t.Context(), key, "other canceler"); err != nil {
					t.Fatal(err)
				}
				if c.ends == delivery.StatusAccepted {
					return
				}
				state, rec, err := b.Records.Begin(t.Context(), delivery.Begin{Key: key, Fingerprint: "f", Token: "arrival", Lease: lease, Queued: true})
				if err != nil || state != delivery.StateStarted {
					t.Fatal(state, rec, err)
				}
				if c.ends == delivery.StatusDelivered {
					finish(t, b.Records, "arrival", delivery.Record{Status: c.ends, Fingerprint: "f"}, c.ends)
				}
			}).Cancel(t.Context(), key)
			wantCode(t, err, c.code)
			noted, err := b.queue.Canceled(t.Context(), key.Sink, key.ID)
			if err != nil || noted != (c.code == "") {
				t.Errorf("noted as canceled: %v, %v", noted, err)
			}
		})
	}
}
