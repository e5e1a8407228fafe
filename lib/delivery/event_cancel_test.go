package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

func (b *eventBench) takesBack() *delivery.Canceler {
	return &delivery.Canceler{Records: b.Records, Letters: b.queue, Events: b.Events, Log: slog.New(slog.DiscardHandler)}
}

// A cancellation is told before it is answered, with what is known of its attempts, and once.
func TestACancellationIsToldBeforeItIsAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		err      error // of the first delivery; nil: there was none
		attempts int
	}{"nothing is known of it": {}, "it is a dead letter": {errGone, 1}} {
		t.Run(name, func(t *testing.T) {
			b := newEventBench(c.err)
			if c.err != nil {
				if _, err := b.Deliver(t.Context(), ask(key.ID, "x")); err != nil {
					t.Fatal(err)
				}
				b.ear.heard = nil
			}
			b.ear.during = func(context.Context) {
				if rec := b.record(t, key.ID); rec.Status != delivery.StatusCanceled || len(rec.Pending) != 1 {
					t.Errorf("while it is told, the record is %+v", rec)
				}
			}
			for range 2 {
				if got, err := b.takesBack().Cancel(t.Context(), key); err != nil || got.Status != delivery.StatusCanceled {
					t.Fatalf("%+v, %v", got, err)
				}
			}
			if len(b.ear.heard) != 1 || len(b.record(t, key.ID).Pending) != 0 {
				t.Fatalf("%d events, record %+v", len(b.ear.heard), b.record(t, key.ID))
			}
			if h := valid(t, b.ear.heard[0]); h.Data.Fate != "canceled" || h.Data.DeliveryID != key.ID || h.Data.Attempts != c.attempts {
				t.Errorf("told %+v", h)
			}
		})
	}
}

func TestWhatIsNotCanceledIsNotTold(t *testing.T) {
	b := newEventBench(errGone)
	a, err := b.Deliver(t.Context(), ask(key.ID, "x"))
	if err != nil {
		t.Fatal(err)
	}
	leased, err := b.queue.Claim(t.Context(), dlq.Claim{Sink: "ops", IDs: []string{a.ItemID}, TTL: lease})
	if err != nil || len(leased) != 1 {
		t.Fatalf("Claim: %v, %v", leased, err)
	}
	b.ear.heard = nil
	_, err = b.takesBack().Cancel(t.Context(), key)
	wantCode(t, err, fault.CodeItemLeased)
	if rec := b.record(t, key.ID); len(rec.Pending) != 0 || rec.Status != delivery.StatusDeadLettered || len(b.ear.heard) != 0 {
		t.Errorf("record %+v after %d events", rec, len(b.ear.heard))
	}
	b.sink.err = nil
	if _, err := b.Deliver(t.Context(), ask("m2", "x")); err != nil {
		t.Fatal(err)
	}
	b.ear.heard = nil
	_, err = b.takesBack().Cancel(t.Context(), delivery.Key{Sink: "ops", ID: "m2"})
	wantCode(t, err, fault.CodeAlreadyDelivered)
	if rec := b.record(t, "m2"); len(rec.Pending) != 0 || len(b.ear.heard) != 0 {
		t.Errorf("record %+v after %d events", rec, len(b.ear.heard))
	}
}

func (r faultyRecords) Cancel(ctx context.Context, k delivery.Key, token string, seen delivery.Record) (s delivery.State, rec delivery.Record, err error) {
	err = r.f.call("Cancel", func() error { s, rec, err = r.Store.Cancel(ctx, k, token, seen); return err })
	return s, rec, err
}

func (r faultyRecords) Uncancel(ctx context.Context, k delivery.Key, token string) error {
	return r.f.call("Uncancel", func() error { return r.Store.Uncancel(ctx, k, token) })
}

type faultyLetters struct {
	dlq.Store
	f *faulty
}

func (q faultyLetters) ClaimDelivery(ctx context.Context, c dlq.DeliveryClaim) (l []dlq.Leased, err error) {
	err = q.f.call("ClaimDelivery", func() error { l, err = q.Store.ClaimDelivery(ctx, c); return err })
	return l, err
}

func (q faultyLetters) Settle(ctx context.Context, s []dlq.Settlement) (r []dlq.SettleResult, err error) {
	err = q.f.call("Settle", func() error { r, err = q.Store.Settle(ctx, s); return err })
	return r, err
}

// As TestWhatIsAnsweredWasTold, for a cancellation that somebody asks for again until it is
// answered, or that a sender answers from the record.
func TestACancellationThatIsAnsweredWasTold(t *testing.T) {
	for name, full := range map[string]bool{"it is told": false, "nobody takes events": true} {
		for _, resend := range []bool{false, true} {
			for _, mode := range []string{"dies before", "dies after", "reply lost", "away", "all away"} {
				for at := 1; ; at++ {
					over := false
					synctest.Test(t, func(t *testing.T) {
						b := newEventBench(errGone)
						if _, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil {
							t.Fatal(err)
						}
						b.ear.heard = nil
						q := &refusingFor{Store: b.queue, sink: "audit"}
						if full {
							q.err, b.ear.err = errFull, errGone
						}
						plain, f := b.Records, &faulty{at: at, mode: mode}
						b.Records, b.Queue = faultyRecords{plain, f}, faultyQueue{q, q, f}
						c := b.takesBack()
						c.Letters = faultyLetters{b.queue, f}
						err := errors.New("died")
						var process sync.WaitGroup
						process.Go(func() { _, err = c.Cancel(t.Context(), delivery.Key{Sink: "ops", ID: "m1"}) })
						process.Wait()
						over = f.name == ""
						where := fmt.Sprintf("%s, %s call %d (%s)", name, mode, at, f.name)
						b.Records, b.Queue = plain, q
						answer := delivery.Answer{Status: delivery.StatusCanceled}
						b.wasTold(t, where, answer, err)
						time.Sleep(20 * time.Minute) // every lease is over
						if resend {
							if a, serr := b.Deliver(t.Context(), ask("m1", "x")); serr == nil && a.Status == delivery.StatusCanceled {
								b.wasTold(t, where+", sent again", a, nil)
							}
						}
						if err != nil {
							_, err = b.takesBack().Cancel(t.Context(), delivery.Key{Sink: "ops", ID: "m1"})
							b.wasTold(t, where+", asked again", answer, err)
						}
						if err != nil {
							t.Errorf("%s: never answered: %v", where, err)
						}
					})
					if over || t.Failed() {
						break
					}
				}
			}
		}
	}
}
