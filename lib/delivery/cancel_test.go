package delivery_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

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

// unmarkable are records in which no cancellation can be marked.
type unmarkable struct{ delivery.Store }

func (unmarkable) Cancel(context.Context, delivery.Key, string, delivery.Record) (delivery.State, delivery.Record, error) {
	return "", delivery.Record{}, errRecords
}

// Nothing is taken away of a delivery that is not marked as canceled: whoever has it goes on with it.
func TestWhatIsNotMarkedKeepsItsDeadLetters(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(t *testing.T, b *bench)
		code fault.Code
	}{
		"its record is away": {func(_ *testing.T, b *bench) { b.Records = unmarkable{b.Records} }, fault.CodeDLQUnavailable},
		"it is being sent":   {func(t *testing.T, b *bench) { situate(t, b.Records, key, "in_progress", "a", lease) }, fault.CodeDeliveryInProgress},
		"it is being queued": {func(t *testing.T, b *bench) { situate(t, b.Records, key, "accepting", "a", lease) }, fault.CodeDeliveryInProgress},
		"it was delivered":   {func(t *testing.T, b *bench) { situate(t, b.Records, key, "delivered", "a", lease) }, fault.CodeAlreadyDelivered},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(nil)
			push(t, b, dlq.Item{Sink: key.Sink, DeliveryID: key.ID, Message: sinks.Message{ID: key.ID, Body: "x"}, Reason: dlq.ReasonExhausted})
			c.set(t, b)
			_, err := b.canceler(nil).Cancel(t.Context(), key)
			wantCode(t, err, c.code)
			left, err := b.queue.Claim(t.Context(), dlq.Claim{Sink: key.Sink, TTL: lease, Limit: 1})
			if err != nil || len(left) != 1 || left[0].Canceled {
				t.Errorf("left for a replay: %+v, %v; want its dead letter, not leased", left, err)
			}
		})
	}
}

// Records go before messages do. Where one may come later, a note says that it is canceled.
func TestWhatMayComeLaterIsNotedAsCanceled(t *testing.T) {
	for name, c := range map[string]struct {
		situation string
		after     func(t *testing.T, b *bench)
		want      bool // for long
	}{
		"nothing is known of it": {situation: "none", want: true},
		"its acceptor died":      {situation: "accepting", want: true},
		"it waits":               {situation: "accepted", want: true},
		"its sender died":        {situation: "in_progress", want: true},
		// Those of situate were accepted for later.
		"it is a dead letter":          {situation: "dead_lettered", want: true},
		"it was sent at once, in vain": {situation: "none", after: func(t *testing.T, b *bench) { b.kept(t) }},
		"and was given up": {situation: "none", after: func(t *testing.T, b *bench) {
			it := b.kept(t)
			if _, err := b.Records.Update(t.Context(), delivery.ChangeOf(it, delivery.StatusDiscarded)); err != nil {
				t.Fatal(err)
			}
			if err := b.queue.Discard(t.Context(), it.ID); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(nil)
				situate(t, b.Records, key, c.situation, "a", 0)
				if c.after != nil {
					c.after(t, b)
				}
				if _, err := b.canceler(nil).Cancel(t.Context(), key); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				if noted, err := b.queue.Canceled(t.Context(), key.Sink, key.ID); err != nil || noted != c.want {
					t.Errorf("noted: %v, %v; want %v", noted, err, c.want)
				}
			})
		})
	}
}

// A push whose reply was lost is made again, and the first request may arrive when everything is over: what it
// stores is not sent.
func TestAPushThatArrivesAfterTheCancellationIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(nil)
		it := b.kept(t)
		if _, err := b.canceler(nil).Cancel(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Minute)
		it.ID = ""
		late, err := b.queue.Add(t.Context(), it)
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.queue.Claim(t.Context(), dlq.Claim{Sink: key.Sink, TTL: lease, IDs: []string{late.ID}})
		if err != nil || len(got) != 1 || !got[0].Canceled {
			t.Errorf("claimed %+v, %v; want it canceled", got, err)
		}
		time.Sleep(15 * time.Minute)
		if noted, err := b.queue.Canceled(t.Context(), key.Sink, key.ID); err != nil || noted {
			t.Errorf("noted half an hour later: %v, %v; want no note", noted, err)
		}
	})
}

// tooLate finds its lease over when it removes dead letters.
type tooLate struct{ delivery.CancelStore }

func (l tooLate) Settle(ctx context.Context, s []dlq.Settlement) ([]dlq.SettleResult, error) {
	if _, err := l.CancelStore.Settle(ctx, s); err != nil { // and its reply is lost
		return nil, err
	}
	return []dlq.SettleResult{dlq.SettleFenced}, nil
}

// A canceler that was away for longer than its lease does not know whether it removed the dead letter
// itself. It does not say that the delivery is not canceled, and who asks again is told that it is.
func TestACancelerThatIsLateDoesNotSayThatNothingIsCanceled(t *testing.T) {
	b := newBench(nil)
	b.kept(t)
	late := b.canceler(nil)
	late.Letters = tooLate{b.queue}
	_, err := late.Cancel(t.Context(), key)
	wantCode(t, err, fault.CodeDLQUnavailable)
	want := delivery.Cancellation{Status: delivery.StatusCanceled, DeliveryID: key.ID, Known: true, Attempts: 1, Before: true}
	if got, err := b.canceler(nil).Cancel(t.Context(), key); err != nil || got != want {
		t.Errorf("again: %+v, %v; want %+v", got, err, want)
	}
}

// A replay of a dead letter had no answer, and an operator gave the letter up: whoever cancels the delivery then is told
// that it may have arrived, for the record knows it by then.
func TestWhatWasDiscardedMayHaveArrived(t *testing.T) {
	b := newBench(nil)
	it := b.kept(t)
	it.Unanswered = 1 // by a replay
	if _, err := b.Records.Update(t.Context(), delivery.ChangeOf(it, delivery.StatusDiscarded)); err != nil {
		t.Fatal(err)
	}
	if err := b.queue.Discard(t.Context(), it.ID); err != nil {
		t.Fatal(err)
	}
	if got, err := b.canceler(nil).Cancel(t.Context(), key); err != nil || !got.MayHaveArrived {
		t.Errorf("%+v, %v; want that it may have arrived", got, err)
	}
}
