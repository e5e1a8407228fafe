package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/app"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/observe"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// fakeSink answers with err, and counts.
type fakeSink struct {
	err   error
	panic bool
	sent  int
	// during is called while a message is sent. Nil: nothing happens.
	during func()
}

func (s *fakeSink) Name() string { return "ops" }
func (s *fakeSink) Send(context.Context, sinks.Recipient, sinks.Message) error {
	s.sent++
	if s.during != nil {
		s.during()
	}
	if s.panic {
		panic("boom")
	}
	return s.err
}

type targets map[string]app.Target

func (t targets) Target(_ context.Context, name string) (app.Target, error) {
	if target, ok := t[name]; ok {
		return target, nil
	}
	return app.Target{}, &fault.Error{Code: fault.CodeSinkNotFound, Msg: name}
}

// bench is a sender on memory.
type bench struct {
	*sender
	sink  *fakeSink
	queue dlq.Store
}

func newBench(sinkErr error) *bench {
	b := &bench{sink: &fakeSink{err: sinkErr}, queue: dlq.NewMemory()}
	quiet := slog.New(slog.DiscardHandler)
	r := retry.NewRetrier(b.sink, retry.Config{MaxAttempts: 2}, b.queue)
	r.Logger = quiet
	b.sender = &sender{
		targets: targets{"ops": {Retrier: r}}, items: b.queue, records: delivery.NewMemory(0),
		log: quiet, metrics: observe.NewMetrics("test"), maxBytes: 1000,
	}
	return b
}

func ask(id, body string) request {
	r := request{ID: id, Sink: "ops"}
	r.Message.Body = body
	return r
}

const lease = time.Minute

var errGone = sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 404"})

func wantCode(t *testing.T, err error, want fault.Code) {
	t.Helper()
	if fault.CodeOf(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// The owner of a record died after its push: the dead letter is the answer, and
// nothing is sent again.
func TestTakingOverFindsTheDeadLetterBeforeSending(t *testing.T) {
	b := newBench(errGone)
	ctx := t.Context()
	r := ask("m1", "x")
	fp := dlq.ContentFingerprint(nil, "", "x", nil)
	if _, _, err := b.records.Begin(ctx, delivery.Key{Sink: "ops", ID: "m1"}, fp, "dead owner", 0); err != nil {
		t.Fatal(err)
	}
	stored, err := b.queue.Add(ctx, dlq.Item{
		DeliveryID: "m1", Sink: "ops", Message: sinks.Message{Body: "x"}, Reason: dlq.ReasonExhausted, Attempts: 3, LastError: "HTTP 503",
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.deliver(ctx, r)
	if err != nil || a.Status != retry.StatusDeadLettered || a.ItemID != stored.ID || a.Attempts != 3 || !a.Duplicate || b.sink.sent != 0 {
		t.Errorf("got %+v, %v after %d sends; want the dead letter and no send", a, err, b.sink.sent)
	}
	if a, err = b.deliver(ctx, r); err != nil || a.ItemID != stored.ID {
		t.Errorf("the record was not completed: %+v, %v", a, err)
	}
}

// The owner died before it did anything that can be seen: the message is sent.
func TestTakingOverWithoutADeadLetterSends(t *testing.T) {
	b := newBench(nil)
	fp := dlq.ContentFingerprint(nil, "", "x", nil)
	if _, _, err := b.records.Begin(t.Context(), delivery.Key{Sink: "ops", ID: "m1"}, fp, "dead owner", 0); err != nil {
		t.Fatal(err)
	}
	if a, err := b.deliver(t.Context(), ask("m1", "x")); err != nil || a.Status != retry.StatusDelivered || b.sink.sent != 1 {
		t.Errorf("got %+v, %v after %d sends", a, err, b.sink.sent)
	}
}

// brokenRecords fails every call.
type brokenRecords struct{ delivery.Store }

var errRecords = errors.New("records are away")

func (brokenRecords) Begin(context.Context, delivery.Key, string, string, time.Duration) (delivery.State, delivery.Record, error) {
	return "", delivery.Record{}, errRecords
}

func (brokenRecords) Finish(context.Context, delivery.Key, string, delivery.Record) (delivery.Record, bool, error) {
	return delivery.Record{}, false, errRecords
}
func (brokenRecords) Release(context.Context, delivery.Key, string) error { return errRecords }

func TestARecordThatIsAwayNeverStopsADelivery(t *testing.T) {
	for _, sinkErr := range []error{nil, errGone} {
		b := newBench(sinkErr)
		b.records = brokenRecords{}
		a, err := b.deliver(t.Context(), ask("m1", "x"))
		if err != nil || b.sink.sent != 1 {
			t.Errorf("sink error %v: got %+v, %v after %d sends", sinkErr, a, err, b.sink.sent)
		}
	}
}

func TestAHandedBackDeliveryReleasesItsRecord(t *testing.T) {
	b := newBench(errGone)
	full := dlq.NewMemory(dlq.WithMaxLen(1), dlq.WithOverflow(dlq.OverflowReject))
	if err := full.Push(t.Context(), dlq.Item{Sink: "ops", DeliveryID: "other"}); err != nil {
		t.Fatal(err)
	}
	target := b.targets.(targets)["ops"] //nolint:errcheck // made above
	target.Retrier.DLQ = full
	_, err := b.deliver(t.Context(), ask("m1", "x"))
	wantCode(t, err, fault.CodeDLQOverflow)
	target.Retrier.DLQ = b.queue
	if a, err := b.deliver(t.Context(), ask("m1", "x")); err != nil || a.Duplicate {
		t.Errorf("sent again: %+v, %v; want it to be a first time", a, err)
	}
}

func TestAPanicIsOneDeliverysOwn(t *testing.T) {
	b := newBench(nil)
	b.sink.panic = true
	a, err := b.deliver(t.Context(), ask("m1", "x"))
	if err != nil || a.Status != retry.StatusDeadLettered || a.Reason != dlq.ReasonTerminal {
		t.Errorf("a sink's panic: %+v, %v", a, err)
	}
	b.targets = nil // a defect of our own
	_, err = b.deliver(t.Context(), ask("m2", "x"))
	wantCode(t, err, fault.CodeInternal)
}

func TestNoAttemptWithoutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r := ask("m1", "x")
		r.budget = retry.NewBudget(ctx, time.Second)
		time.Sleep(8900 * time.Millisecond)
		_, err := b.deliver(ctx, r)
		wantCode(t, err, fault.CodeNotAttempted)
		if b.sink.sent != 0 {
			t.Error("it was sent all the same")
		}
		if _, known, _ := b.records.Get(t.Context(), delivery.Key{Sink: "ops", ID: "m1"}); known {
			t.Error("a record was left")
		}
	})
}

func TestASinkWithABadConfigurationDeadLetters(t *testing.T) {
	b := newBench(nil)
	target := b.targets.(targets)["ops"] //nolint:errcheck // made above
	target.ConfigErr = &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "url: missing"}
	b.targets = targets{"ops": target}
	a, err := b.deliver(t.Context(), ask("m1", "x"))
	if err != nil || a.Reason != dlq.ReasonConfig || a.Attempts != 0 || b.sink.sent != 0 {
		t.Errorf("got %+v, %v after %d sends; want reason config and no attempt", a, err, b.sink.sent)
	}
}

func TestUnsendableIsRefusedOrKept(t *testing.T) {
	for _, keep := range []bool{false, true} {
		b := newBench(nil)
		b.keepUnsendable = keep
		a, err := b.deliver(t.Context(), ask("m1", ""))
		if keep {
			if err != nil || a.Reason != dlq.ReasonInvalid {
				t.Errorf("from a queue: %+v, %v; want a dead letter, reason invalid", a, err)
			}
			continue
		}
		wantCode(t, err, fault.CodeInvalidArgument)
		if n, _ := b.queue.Count(t.Context(), ""); n != 0 {
			t.Errorf("%d dead letters of what was refused", n)
		}
	}
}

// forgetful stores what it is given and loses the answer.
type forgetful struct{ dlq.Store }

func (f forgetful) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	if _, err := f.Store.Add(ctx, it); err != nil {
		return it, err
	}
	return it, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "the answer was lost"}
}

// Stored, and handed back because the reply was lost: sent again, the dead letter is the
// answer. Were it sent instead, the replay of the dead letter would double it.
func TestWhatMayBeStoredIsLookedForBeforeItIsSentAgain(t *testing.T) {
	for _, fresh := range []bool{false, true} {
		b := newBench(errGone)
		target := b.targets.(targets)["ops"] //nolint:errcheck // made above
		target.Retrier.DLQ = forgetful{b.queue}
		r := ask("m1", "x")
		r.fresh = fresh
		_, err := b.deliver(t.Context(), r)
		wantCode(t, err, fault.CodeDLQUnavailable)

		b.sink.err, target.Retrier.DLQ = nil, b.queue
		a, err := b.deliver(t.Context(), ask("m1", "x"))
		if err != nil || a.Status != retry.StatusDeadLettered || a.ItemID == "" || b.sink.sent != 1 {
			t.Errorf("fresh %v, sent again: %+v, %v after %d sends; want its dead letter and no second send", fresh, a, err, b.sink.sent)
		}
	}
}

func TestAPausedSinkIsNotSentTo(t *testing.T) {
	b := newBench(nil)
	target := b.targets.(targets)["ops"] //nolint:errcheck // made above
	target.Paused = true
	b.targets = targets{"ops": target}
	a, err := b.deliver(t.Context(), ask("m1", "x"))
	if err != nil || a.Status != retry.StatusDeadLettered || a.Reason != dlq.ReasonConfig || a.Attempts != 0 || b.sink.sent != 0 {
		t.Errorf("got %+v, %v after %d sends; want a dead letter with reason config and no attempt", a, err, b.sink.sent)
	}
}

// A search that failed says nothing: the message is sent, which may double it, and that
// is noted where duplicates are counted: before a takeover sends, after it has delivered,
// and where a record speaks of a dead letter.
func TestAFailedSearchIsNoted(t *testing.T) {
	for name, c := range map[string]struct {
		record delivery.Record
		want   string
	}{
		"a takeover":                {delivery.Record{}, "2"},
		"a record of a dead letter": {delivery.Record{Status: delivery.StatusDeadLettered, ItemID: "ops~1-0"}, "1"},
	} {
		b := newBench(nil)
		b.items = unreadable{b.queue}
		var log bytes.Buffer
		b.log = slog.New(slog.NewTextHandler(&log, nil))
		key, fp := delivery.Key{Sink: "ops", ID: "m1"}, dlq.ContentFingerprint(nil, "", "x", nil)
		if _, _, err := b.records.Begin(t.Context(), key, fp, "dead owner", 0); err != nil {
			t.Fatal(err)
		}
		if c.record.Status != "" {
			c.record.Fingerprint = fp
			if _, _, err := b.records.Finish(t.Context(), key, "dead owner", c.record); err != nil {
				t.Fatal(err)
			}
		}
		if a, err := b.deliver(t.Context(), ask("m1", "x")); err != nil || a.Status != retry.StatusDelivered || b.sink.sent != 1 {
			t.Errorf("%s: got %+v, %v after %d sends; want a delivery", name, a, err, b.sink.sent)
		}
		var metrics bytes.Buffer
		if err := b.metrics.Flush(&metrics); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(metrics.String(), `"Unguarded":`+c.want) || !strings.Contains(log.String(), "SINK_DLQ_UNAVAILABLE") {
			t.Errorf("%s: it is not noted %s times:\n%s\n%s", name, c.want, metrics.String(), log.String())
		}
	}
}
