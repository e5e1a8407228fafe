package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// fate is one call of a store, as a faulty process makes it.
type faulty struct {
	n    int    // calls so far
	at   int    // the call that goes wrong; 0: none
	mode string // how
	name string // of that call
}

var errStore = &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "nobody answers"}

// call makes a call, or not; its process may die before or after it.
func (f *faulty) call(name string, do func() error) error {
	if f.n++; f.n != f.at {
		return do()
	}
	f.name = name
	switch f.mode {
	case "dies before":
		runtime.Goexit()
	case "away":
		return errStore
	case "all away":
		f.at++ // and so on
		return errStore
	}
	err := do()
	if f.mode == "dies after" {
		runtime.Goexit()
	}
	if err == nil && f.mode == "reply lost" {
		err = errStore
	}
	return err
}

type faultyRecords struct {
	delivery.Store
	f *faulty
}

func (r faultyRecords) Begin(ctx context.Context, b delivery.Begin) (s delivery.State, rec delivery.Record, err error) {
	err = r.f.call("Begin "+b.Sink, func() error { s, rec, err = r.Store.Begin(ctx, b); return err })
	return s, rec, err
}

func (r faultyRecords) Finish(ctx context.Context, k delivery.Key, token string, rec delivery.Record) (found delivery.Record, ok bool, err error) {
	err = r.f.call("Finish "+k.Sink, func() error { found, ok, err = r.Store.Finish(ctx, k, token, rec); return err })
	return found, ok, err
}

func (r faultyRecords) HandBack(ctx context.Context, k delivery.Key, token string, how delivery.Back, rec delivery.Record) error {
	return r.f.call("HandBack "+k.Sink, func() error { return r.Store.HandBack(ctx, k, token, how, rec) })
}

func (r faultyRecords) Told(ctx context.Context, k delivery.Key, events ...string) error {
	return r.f.call("Told", func() error { return r.Store.Told(ctx, k, events...) })
}

func (r faultyRecords) Owe(ctx context.Context, rec delivery.Record) error {
	return r.f.call("Owe", func() error { return r.Store.Owe(ctx, rec) })
}

type faultyQueue struct {
	delivery.Queue
	add interface {
		Add(ctx context.Context, it dlq.Item) (dlq.Item, error)
	}
	f *faulty
}

func (q faultyQueue) Add(ctx context.Context, it dlq.Item) (stored dlq.Item, err error) {
	err = q.f.call("Add "+it.Sink, func() error { stored, err = q.add.Add(ctx, it); return err })
	return stored, err
}

func (q faultyQueue) Find(ctx context.Context, sink, id, fingerprint string) (it dlq.Item, err error) {
	err = q.f.call("Find "+sink, func() error { it, err = q.Queue.Find(ctx, sink, id, fingerprint); return err })
	return it, err
}

func (q faultyQueue) Get(ctx context.Context, id string) (it dlq.Item, err error) {
	err = q.f.call("Get", func() error { it, err = q.Queue.Get(ctx, id); return err })
	return it, err
}

// A process dies before or after any call that it makes, a reply is lost, a store is away for one
// call, or from then on; then the caller asks again. Whatever is answered was told: its event was
// sent, is a dead letter, or is owed.
func TestWhatIsAnsweredWasTold(t *testing.T) {
	busy := sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
	for name, c := range map[string]struct {
		sink, ear error
		full      bool // of events
	}{
		"delivered": {}, "dead-lettered": {sink: errGone}, "the events' sink is busy": {ear: busy},
		"dead-lettered, and the events' sink is busy": {sink: errGone, ear: busy},
		"nobody takes events":                         {sink: errGone, ear: busy, full: true},
	} {
		for _, mode := range []string{"dies before", "dies after", "reply lost", "away", "all away"} {
			for at := 1; ; at++ {
				over := false
				synctest.Test(t, func(t *testing.T) {
					b := newEventBench(c.sink)
					b.ear.err = c.ear
					q := &refusingFor{Store: b.queue, sink: "audit"}
					if c.full {
						q.err = errFull
					}
					plainRecords := b.Records
					f := &faulty{at: at, mode: mode}
					b.Records, b.Queue = faultyRecords{plainRecords, f}, faultyQueue{q, q, f}
					var a delivery.Answer
					err := errors.New("died")
					var process sync.WaitGroup
					process.Go(func() { a, err = b.Deliver(t.Context(), ask("m1", "x")) })
					process.Wait()
					over = f.name == ""
					where := fmt.Sprintf("%s, %s call %d (%s)", name, mode, at, f.name)
					b.Records, b.Queue = plainRecords, q
					b.wasTold(t, where, a, err)
					time.Sleep(20 * time.Minute) // every lease is over
					for range 3 {
						if err == nil {
							break
						}
						a, err = b.Deliver(t.Context(), ask("m1", "x"))
						b.wasTold(t, where+", asked again", a, err)
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

// wasTold checks that what was answered is told, or will be.
func (b *eventBench) wasTold(t *testing.T, where string, a delivery.Answer, err error) {
	t.Helper()
	if err != nil {
		return
	}
	var told []sinks.Message
	told = append(told, b.ear.heard...)
	for _, it := range b.letters(t, "audit") {
		told = append(told, it.Message)
	}
	owed := b.owed(t)
	for _, ev := range b.record(t, "m1").Pending {
		if slices.ContainsFunc(owed, func(o delivery.Owed) bool { return o.Sink == "ops" && o.ID == "m1" }) {
			told = append(told, sinks.Message{ID: ev.ID, Body: ev.Body})
		}
	}
	for _, m := range told {
		if valid(t, m).Data.Fate == string(a.Status) {
			return
		}
	}
	t.Errorf("%s: answered %+v, and told %+v; owed %v, record %+v", where, a, told, owed, b.record(t, "m1"))
}

// Nothing is late: an event for which there is no time is a due dead letter, and one whose receiver
// hangs ends in time.
func TestAnEventNeverMakesAnAnswerLate(t *testing.T) {
	hangs := func(ctx context.Context) { <-ctx.Done() }
	for name, c := range map[string]struct {
		spends time.Duration // by the delivery's own attempt
		hangs  bool
		within time.Duration
		reason dlq.Reason // of the event's dead letter; empty: it is sent
	}{
		"there is time":                    {spends: time.Second, within: 2 * time.Second},
		"the receiver of events hangs":     {hangs: true, within: 2 * time.Second, reason: dlq.ReasonExhausted},
		"the delivery took all there was":  {spends: 20 * time.Second, within: 10 * time.Second, reason: dlq.ReasonDeadline},
		"it took nearly all, and it hangs": {spends: 8700 * time.Millisecond, hangs: true, within: 10 * time.Second, reason: dlq.ReasonExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newEventBench(sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"}))
				b.configure(func(t *delivery.Target) { t.Retry.MaxAttempts, t.Retry.AttemptTimeout = 1, 30*time.Second })
				b.Targets.(targets)["audit"] = delivery.Target{Sink: b.ear} //nolint:errcheck // made by configure
				b.sink.until = c.spends
				if c.hangs {
					b.ear.during, b.ear.err = hangs, context.DeadlineExceeded
				}
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				r := ask("m1", "x")
				r.Budget = retry.NewBudget(ctx, time.Second)
				a, err := b.Deliver(ctx, r)
				if took := time.Since(began); err != nil || a.Status != delivery.StatusDeadLettered || took > c.within || took >= 10*time.Second {
					t.Fatalf("%+v, %v after %s", a, err, took)
				}
				kept := b.letters(t, "audit")
				if c.reason == "" {
					if len(kept) != 0 || len(b.ear.heard) != 1 {
						t.Errorf("%d events, kept %+v", len(b.ear.heard), kept)
					}
					return
				}
				if len(kept) != 1 || kept[0].Reason != c.reason || !kept[0].Reason.Due() {
					t.Errorf("kept %+v, want a due letter, %s", kept, c.reason)
				}
			})
		})
	}
}

// With no store at all, an event may still be sent; else the delivery is handed back, and told
// once its caller asks again.
func TestWithoutAnyPlaceForItsEventADeliveryIsHandedBack(t *testing.T) {
	for _, sinkErr := range []error{nil, errGone} {
		for _, deaf := range []bool{false, true} {
			b := newEventBench(sinkErr)
			plain := b.Records
			b.Records = recordsAway{}
			b.Log = slog.New(slog.DiscardHandler)
			b.Queue = &refusingFor{b.queue, "audit", errFull}
			if deaf {
				b.ear.err = errGone
			}
			a, err := b.Deliver(t.Context(), ask("m1", "x"))
			if !deaf {
				if err != nil || len(b.ear.heard) != 1 {
					t.Errorf("sink error %v: %+v, %v after %d events", sinkErr, a, err, len(b.ear.heard))
				}
				continue
			}
			if fault.CodeOf(err) != fault.CodeDLQOverflow || a.Status != "" || a.Attempts != 1 {
				t.Errorf("sink error %v: %+v, %v; want it handed back", sinkErr, a, err)
			}
			b.Records, b.ear.err = plain, nil
			if a, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil || len(b.ear.heard) != 1 {
				t.Errorf("asked again: %+v, %v after %d events", a, err, len(b.ear.heard))
			}
		}
	}
}

// recordsAway reaches no record.
type recordsAway struct{ brokenRecords }

func (recordsAway) Get(context.Context, delivery.Key) (delivery.Record, bool, error) {
	return delivery.Record{}, false, errRecords
}
func (recordsAway) Told(context.Context, delivery.Key, ...string) error { return errRecords }
func (recordsAway) Owe(context.Context, delivery.Record) error          { return errRecords }
