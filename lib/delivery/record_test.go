package delivery_test

import (
	"context"
	"testing"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// A record says "dead-lettered", and the dead letter's fate decides what a resend gets.
func TestARecordIsBelievedOnlyWhileItsDeadLetterIsThere(t *testing.T) {
	remove := func(t *testing.T, b *bench, id string) {
		t.Helper()
		if err := b.queue.Discard(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	settle := func(t *testing.T, b *bench, id string, action dlq.Action) {
		t.Helper()
		leased, err := b.queue.Claim(t.Context(), dlq.Claim{Sink: "ops", IDs: []string{id}, TTL: lease})
		if err != nil || len(leased) != 1 {
			t.Fatalf("Claim: %v, %v", leased, err)
		}
		if r, err := b.queue.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: action}}); err != nil || r[0] != dlq.SettleApplied {
			t.Fatalf("Settle: %v, %v", r, err)
		}
	}
	note := func(t *testing.T, b *bench, it dlq.Item, s delivery.Status) {
		t.Helper()
		if _, err := b.Records.Update(t.Context(), delivery.ChangeOf(it, s)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		fate func(t *testing.T, b *bench, it dlq.Item)
		want delivery.Status
		sent int // by the resend
		item bool
	}{
		"it waits":                            {func(*testing.T, *bench, dlq.Item) {}, delivery.StatusDeadLettered, 0, true},
		"it is parked":                        {func(t *testing.T, b *bench, it dlq.Item) { settle(t, b, it.ID, dlq.ActionPark) }, delivery.StatusDeadLettered, 0, true},
		"trimmed, lost, or removed by others": {func(t *testing.T, b *bench, it dlq.Item) { remove(t, b, it.ID) }, delivery.StatusDelivered, 1, false},
		"the queue cannot be read":            {func(_ *testing.T, b *bench, _ dlq.Item) { b.Queue = unreadable{b.queue} }, delivery.StatusDelivered, 1, false},
		"an operator discarded it": {func(t *testing.T, b *bench, it dlq.Item) {
			remove(t, b, it.ID)
			note(t, b, it, delivery.StatusDiscarded)
		}, delivery.StatusDiscarded, 0, false},
		"a replay delivered it": {func(t *testing.T, b *bench, it dlq.Item) {
			settle(t, b, it.ID, dlq.ActionDiscard)
			note(t, b, it, delivery.StatusDelivered)
		}, delivery.StatusDelivered, 0, false},
		"a replay delivered it, and keeps it": {func(t *testing.T, b *bench, it dlq.Item) {
			settle(t, b, it.ID, dlq.ActionKeep)
			note(t, b, it, delivery.StatusDelivered)
		}, delivery.StatusDelivered, 0, false},
		"kept as delivered, and not noted":       {func(t *testing.T, b *bench, it dlq.Item) { settle(t, b, it.ID, dlq.ActionKeep) }, delivery.StatusDelivered, 0, false},
		"another entry of it, after a lost note": {func(t *testing.T, b *bench, it dlq.Item) { remove(t, b, it.ID); push(t, b, it) }, delivery.StatusDeadLettered, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(errGone)
			first, err := b.Deliver(t.Context(), ask("m1", "x"))
			if err != nil || first.Status != delivery.StatusDeadLettered {
				t.Fatalf("first: %+v, %v", first, err)
			}
			it, err := b.queue.Get(t.Context(), first.ItemID)
			if err != nil {
				t.Fatal(err)
			}
			c.fate(t, b, it)
			b.sink.err, b.sink.sent = nil, 0
			for n := range 2 {
				a, err := b.Deliver(t.Context(), ask("m1", "x"))
				if err != nil || a.Status != c.want || b.sink.sent != c.sent || a.DeliveryID != "m1" {
					t.Fatalf("resend %d: %+v, %v after %d sends; want %s after %d", n+1, a, err, b.sink.sent, c.want, c.sent)
				}
				if dup := n > 0 || c.sent == 0; a.Duplicate != dup {
					t.Errorf("resend %d: duplicate is %v", n+1, a.Duplicate)
				}
				if (a.ItemID != "") != c.item {
					t.Errorf("resend %d names item %q", n+1, a.ItemID)
				}
				if c.item {
					if _, err := b.queue.Get(t.Context(), a.ItemID); err != nil {
						t.Errorf("resend %d names an item that is not there: %v", n+1, err)
					}
				}
			}
		})
	}
}

func push(t *testing.T, b *bench, it dlq.Item) {
	t.Helper()
	if err := b.queue.Push(t.Context(), it); err != nil {
		t.Fatal(err)
	}
}

// unreadable cannot be asked for a dead letter.
type unreadable struct{ dlq.Store }

func (unreadable) Get(context.Context, string) (dlq.Item, error) {
	return dlq.Item{}, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "away"}
}

func (unreadable) Find(context.Context, string, string, string) (dlq.Item, error) {
	return dlq.Item{}, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "away"}
}

// The record of a delivery is gone (its time is over, it was evicted, it cannot be read), and
// its dead letter waits. The same content is the same dead letter; other content is not.
func TestOtherContentUnderAKnownIDIsADeadLetterOfItsOwn(t *testing.T) {
	for name, forget := range map[string]func(b *bench){
		"the record is gone":        func(b *bench) { b.Records = delivery.NewMemory(0) },
		"the record cannot be read": func(b *bench) { b.Records = brokenRecords{} },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(errGone)
			ids := map[string]string{}
			for _, body := range []string{"you owe 10", "you owe 9999", "you owe 10"} {
				a, err := b.Deliver(t.Context(), ask("m1", body))
				if err != nil || a.Status != delivery.StatusDeadLettered {
					t.Fatalf("%s: %+v, %v", body, a, err)
				}
				if before, ok := ids[body]; ok && before != a.ItemID {
					t.Errorf("%s is stored twice: %s and %s", body, before, a.ItemID)
				}
				ids[body] = a.ItemID
				forget(b)
			}
			for body, id := range ids {
				it, err := b.queue.Get(t.Context(), id)
				if err != nil || it.Message.Body != body {
					t.Errorf("%s was answered with %s, which is %q, %v", body, id, it.Message.Body, err)
				}
			}
		})
	}
}

// The owner of this content died; what waits under its id is other content.
func TestTakingOverIsNotMisledByOtherContent(t *testing.T) {
	b := newBench(nil)
	push(t, b, dlq.Item{Sink: "ops", DeliveryID: "m1", Message: sinks.Message{ID: "m1", Body: "one"}, Reason: dlq.ReasonExhausted})
	fp := dlq.ContentFingerprint(nil, "", "two", nil)
	if _, _, err := b.Records.Begin(t.Context(), delivery.Begin{Key: delivery.Key{Sink: "ops", ID: "m1"}, Fingerprint: fp, Token: "dead owner", Lease: 0}); err != nil {
		t.Fatal(err)
	}
	a, err := b.Deliver(t.Context(), ask("m1", "two"))
	if err != nil || a.Status != delivery.StatusDelivered || a.Duplicate || b.sink.sent != 1 {
		t.Errorf("got %+v, %v after %d sends; want it to be sent", a, err, b.sink.sent)
	}
}

// A sender lost its lease. Whatever it and the one that took over came to, in either order,
// no dead letter is left of what was delivered.
func TestASenderThatLostItsRecordSettlesByIt(t *testing.T) {
	for name, c := range map[string]struct {
		other delivery.Status // what the one that took over does while the first still sends
		err   error           // of the first
		want  delivery.Status
		kept  int64
	}{
		"the other delivered, the first failed":    {delivery.StatusDelivered, errGone, delivery.StatusDelivered, 0},
		"both delivered":                           {delivery.StatusDelivered, nil, delivery.StatusDelivered, 0},
		"the other failed, the first delivered":    {delivery.StatusDeadLettered, nil, delivery.StatusDelivered, 0},
		"both failed":                              {delivery.StatusDeadLettered, errGone, delivery.StatusDeadLettered, 1},
		"an operator discarded the other's letter": {delivery.StatusDiscarded, errGone, delivery.StatusDiscarded, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(c.err)
			b.sink.during = func() {
				b.sink.during = nil
				key := delivery.Key{Sink: "ops", ID: "m1"}
				rec, _, err := b.Records.Get(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				it := dlq.Item{Sink: "ops", DeliveryID: "m1", Message: sinks.Message{ID: "m1", Body: "x"}, Reason: dlq.ReasonTerminal, LastError: "HTTP 404"}
				b.Records = delivery.NewMemory(0) // the lease has ended: another takes over
				if _, _, err := b.Records.Begin(t.Context(), delivery.Begin{Key: key, Fingerprint: rec.Fingerprint, Token: "other", Lease: lease}); err != nil {
					t.Fatal(err)
				}
				fate := delivery.Record{Sink: "ops", ID: "m1", Status: delivery.StatusDelivered, Fingerprint: rec.Fingerprint, Answer: `{"status":"delivered","delivery_id":"m1","attempts":1}`}
				if c.other != delivery.StatusDelivered {
					stored, err := b.queue.Add(t.Context(), it)
					if err != nil {
						t.Fatal(err)
					}
					fate.Status, fate.ItemID, fate.Answer = delivery.StatusDeadLettered, stored.ID, ""
				}
				if _, _, err := b.Records.Finish(t.Context(), key, "other", fate); err != nil {
					t.Fatal(err)
				}
				if c.other == delivery.StatusDiscarded {
					if err := b.queue.Discard(t.Context(), fate.ItemID); err != nil {
						t.Fatal(err)
					}
					if _, err := b.Records.Update(t.Context(), delivery.ChangeOf(it, delivery.StatusDiscarded)); err != nil {
						t.Fatal(err)
					}
				}
			}
			a, err := b.Deliver(t.Context(), ask("m1", "x"))
			if err != nil || a.Status != c.want {
				t.Errorf("got %+v, %v; want %s", a, err, c.want)
			}
			n, err := b.queue.Count(t.Context(), "ops")
			if err != nil || n != c.kept {
				t.Errorf("%d dead letters (%v), want %d", n, err, c.kept)
			}
		})
	}
}

// The one that took over delivers while the first, which it could not see, dead-letters.
func TestTheOneThatTookOverRemovesALateDeadLetter(t *testing.T) {
	b := newBench(nil)
	fp := dlq.ContentFingerprint(nil, "", "x", nil)
	if _, _, err := b.Records.Begin(t.Context(), delivery.Begin{Key: delivery.Key{Sink: "ops", ID: "m1"}, Fingerprint: fp, Token: "late owner", Lease: 0}); err != nil {
		t.Fatal(err)
	}
	b.sink.during = func() {
		push(t, b, dlq.Item{Sink: "ops", DeliveryID: "m1", Message: sinks.Message{ID: "m1", Body: "x"}, Reason: dlq.ReasonExhausted})
	}
	a, err := b.Deliver(t.Context(), ask("m1", "x"))
	if err != nil || a.Status != delivery.StatusDelivered {
		t.Errorf("got %+v, %v", a, err)
	}
	if n, err := b.queue.Count(t.Context(), "ops"); err != nil || n != 0 {
		t.Errorf("%d dead letters (%v) of what was delivered", n, err)
	}
}

// What a record speaks of is looked at before it is believed, or removed: the id may be that of
// another dead letter by now, as after a queue was wiped and its clock set back.
func TestAnItemIDAloneProvesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		other dlq.Item // what stands under the id that the record names
	}{
		"another delivery's":             {other: dlq.Item{DeliveryID: "m2", Message: sinks.Message{ID: "m2", Body: "x"}}},
		"the same id with other content": {other: dlq.Item{DeliveryID: "m1", Message: sinks.Message{ID: "m1", Body: "y"}}},
	} {
		t.Run(name, func(t *testing.T) {
			key, fp := delivery.Key{Sink: "ops", ID: "m1"}, dlq.ContentFingerprint(nil, "", "x", nil)
			prepare := func(b *bench, token string) dlq.Item {
				t.Helper()
				c.other.Sink, c.other.Reason = "ops", dlq.ReasonExhausted
				other, err := b.queue.Add(t.Context(), c.other)
				if err != nil {
					t.Fatal(err)
				}
				if _, _, err := b.Records.Begin(t.Context(), delivery.Begin{Key: key, Fingerprint: fp, Token: token, Lease: lease}); err != nil {
					t.Fatal(err)
				}
				rec := delivery.Record{Sink: "ops", ID: "m1", Status: delivery.StatusDeadLettered, ItemID: other.ID, Fingerprint: fp}
				if _, _, err := b.Records.Finish(t.Context(), key, token, rec); err != nil {
					t.Fatal(err)
				}
				return other
			}
			stays := func(b *bench, other dlq.Item) {
				t.Helper()
				if _, err := b.queue.Get(t.Context(), other.ID); err != nil {
					t.Errorf("the other dead letter is gone: %v", err)
				}
			}
			b := newBench(nil)
			other := prepare(b, "first")
			if a, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil || a.Duplicate || a.Status != delivery.StatusDelivered || b.sink.sent != 1 {
				t.Errorf("believed: %+v, %v after %d sends; want it to be sent", a, err, b.sink.sent)
			}
			stays(b, other)

			// One that lost its lease delivers, and finds the record of the one that took over.
			b = newBench(nil)
			b.sink.during = func() {
				b.sink.during = nil
				b.Records = delivery.NewMemory(0)
				other = prepare(b, "took over")
			}
			if a, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil || a.Status != delivery.StatusDelivered {
				t.Errorf("late: %+v, %v", a, err)
			}
			stays(b, other)
		})
	}
}

// The queue could not be read, so the delivery started again; when it is delivered, no dead
// letter of it is left to be replayed.
func TestADeliveryThatStartedAgainUnseenLeavesNoDeadLetter(t *testing.T) {
	b := newBench(errGone)
	if a, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil || a.Status != delivery.StatusDeadLettered {
		t.Fatalf("%+v, %v", a, err)
	}
	b.Queue, b.sink.err = unreadable{b.queue}, nil
	b.sink.during = func() { b.Queue = b.queue }
	a, err := b.Deliver(t.Context(), ask("m1", "x"))
	if n, _ := b.queue.Count(t.Context(), "ops"); err != nil || a.Status != delivery.StatusDelivered || a.Duplicate || n != 0 {
		t.Errorf("%+v, %v, and %d dead letters are left", a, err, n)
	}
}
