package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
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
	// until is how long a message takes, or to the end of its attempt.
	until time.Duration
}

func (s *fakeSink) Name() string { return "ops" }
func (s *fakeSink) Send(ctx context.Context, _ sinks.Recipient, _ sinks.Message) error {
	s.sent++
	if s.until > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(s.until):
		}
	}
	if s.during != nil {
		s.during()
	}
	if s.panic {
		panic("boom")
	}
	return s.err
}

type targets map[string]delivery.Target

func (t targets) Target(_ context.Context, name string) (delivery.Target, error) {
	if target, ok := t[name]; ok {
		return target, nil
	}
	return delivery.Target{}, &fault.Error{Code: fault.CodeSinkNotFound, Msg: name}
}

func (t targets) Names(context.Context) ([]string, error) {
	return slices.Collect(maps.Keys(t)), nil
}

// bench is a Sender on memory.
type bench struct {
	*delivery.Sender
	sink      *fakeSink
	queue     dlq.Store
	unguarded counter
}

type counter struct{ atomic.Int64 }

func (c *counter) Unguarded(string) { c.Add(1) }

func newBench(sinkErr error) *bench {
	b := &bench{sink: &fakeSink{err: sinkErr}, queue: dlq.NewMemory()}
	b.Sender = &delivery.Sender{
		Targets: targets{"ops": {Sink: b.sink, Retry: retry.Config{MaxAttempts: 2}}}, Queue: b.queue, Records: delivery.NewMemory(0),
		Observer: &b.unguarded, Log: slog.New(slog.DiscardHandler), MaxBytes: 1000,
	}
	return b
}

// configure changes the target.
func (b *bench) configure(change func(*delivery.Target)) {
	target := b.Targets.(targets)["ops"] //nolint:errcheck // made by newBench
	change(&target)
	b.Targets = targets{"ops": target}
}

func ask(id, body string) delivery.Request {
	return delivery.Request{ID: id, Sink: "ops", Message: sinks.Message{Body: body}}
}

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
	if _, _, err := b.Records.Begin(ctx, delivery.Begin{Key: delivery.Key{Sink: "ops", ID: "m1"}, Fingerprint: fp, Token: "dead owner", Lease: 0}); err != nil {
		t.Fatal(err)
	}
	stored, err := b.queue.Add(ctx, dlq.Item{
		DeliveryID: "m1", Sink: "ops", Message: sinks.Message{Body: "x"}, Reason: dlq.ReasonExhausted, Attempts: 3, LastError: "HTTP 503",
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Deliver(ctx, r)
	if err != nil || a.Status != delivery.StatusDeadLettered || a.ItemID != stored.ID || a.Attempts != 3 || !a.Duplicate || b.sink.sent != 0 {
		t.Errorf("got %+v, %v after %d sends; want the dead letter and no send", a, err, b.sink.sent)
	}
	if a, err = b.Deliver(ctx, r); err != nil || a.ItemID != stored.ID {
		t.Errorf("the record was not completed: %+v, %v", a, err)
	}
}

// The owner died before it did anything that can be seen: the message is sent.
func TestTakingOverWithoutADeadLetterSends(t *testing.T) {
	b := newBench(nil)
	fp := dlq.ContentFingerprint(nil, "", "x", nil)
	if _, _, err := b.Records.Begin(t.Context(), delivery.Begin{Key: delivery.Key{Sink: "ops", ID: "m1"}, Fingerprint: fp, Token: "dead owner", Lease: 0}); err != nil {
		t.Fatal(err)
	}
	if a, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil || a.Status != delivery.StatusDelivered || b.sink.sent != 1 {
		t.Errorf("got %+v, %v after %d sends", a, err, b.sink.sent)
	}
}

// brokenRecords fails every call.
type brokenRecords struct{ delivery.Store }

var errRecords = errors.New("records are away")

func (brokenRecords) Begin(context.Context, delivery.Begin) (delivery.State, delivery.Record, error) {
	return "", delivery.Record{}, errRecords
}

func (brokenRecords) Finish(context.Context, delivery.Key, string, delivery.Record) (delivery.Record, bool, error) {
	return delivery.Record{}, false, errRecords
}

func (brokenRecords) HandBack(context.Context, delivery.Key, string, delivery.Back, delivery.Record) error {
	return errRecords
}

func TestARecordThatIsAwayNeverStopsADelivery(t *testing.T) {
	for _, sinkErr := range []error{nil, errGone} {
		b := newBench(sinkErr)
		b.Records = brokenRecords{}
		a, err := b.Deliver(t.Context(), ask("m1", "x"))
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
	b.Queue = full
	_, err := b.Deliver(t.Context(), ask("m1", "x"))
	wantCode(t, err, fault.CodeDLQOverflow)
	b.Queue = b.queue
	if a, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil || a.Duplicate {
		t.Errorf("sent again: %+v, %v; want it to be a first time", a, err)
	}
}

func TestAPanicIsOneDeliverysOwn(t *testing.T) {
	b := newBench(nil)
	b.sink.panic = true
	a, err := b.Deliver(t.Context(), ask("m1", "x"))
	if err != nil || a.Status != delivery.StatusDeadLettered || a.Reason != dlq.ReasonTerminal {
		t.Errorf("a sink's panic: %+v, %v", a, err)
	}
	b.Targets = nil // a defect of our own
	_, err = b.Deliver(t.Context(), ask("m2", "x"))
	wantCode(t, err, fault.CodeInternal)
}

func TestNoAttemptWithoutTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(nil)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		r := ask("m1", "x")
		r.Budget = retry.NewBudget(ctx, time.Second)
		time.Sleep(8900 * time.Millisecond)
		_, err := b.Deliver(ctx, r)
		wantCode(t, err, fault.CodeNotAttempted)
		if b.sink.sent != 0 {
			t.Error("it was sent all the same")
		}
		if _, known, _ := b.Records.Get(t.Context(), delivery.Key{Sink: "ops", ID: "m1"}); known {
			t.Error("a record was left")
		}
	})
}

func TestASinkWithABadConfigurationDeadLetters(t *testing.T) {
	b := newBench(nil)
	b.configure(func(t *delivery.Target) {
		t.Sink, t.ConfigErr = nil, &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "url: missing"}
	})
	a, err := b.Deliver(t.Context(), ask("m1", "x"))
	if err != nil || a.Reason != dlq.ReasonConfig || a.Attempts != 0 || b.sink.sent != 0 {
		t.Errorf("got %+v, %v after %d sends; want reason config and no attempt", a, err, b.sink.sent)
	}
}

func TestUnsendableIsRefusedOrKept(t *testing.T) {
	for _, keep := range []bool{false, true} {
		b := newBench(nil)
		r := ask("m1", "")
		r.KeepUnsendable = keep
		a, err := b.Deliver(t.Context(), r)
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
		b.Queue = forgetful{b.queue}
		r := ask("m1", "x")
		r.Fresh = fresh
		_, err := b.Deliver(t.Context(), r)
		wantCode(t, err, fault.CodeDLQUnavailable)

		b.sink.err, b.Queue = nil, b.queue
		a, err := b.Deliver(t.Context(), ask("m1", "x"))
		if err != nil || a.Status != delivery.StatusDeadLettered || a.ItemID == "" || b.sink.sent != 1 {
			t.Errorf("fresh %v, sent again: %+v, %v after %d sends; want its dead letter and no second send", fresh, a, err, b.sink.sent)
		}
	}
}

func TestAPausedSinkIsNotSentTo(t *testing.T) {
	b := newBench(nil)
	b.Paused = func(_ context.Context, sink string) bool { return sink == "ops" }
	a, err := b.Deliver(t.Context(), ask("m1", "x"))
	if err != nil || a.Status != delivery.StatusDeadLettered || a.Reason != dlq.ReasonConfig || a.Attempts != 0 || b.sink.sent != 0 {
		t.Errorf("got %+v, %v after %d sends; want a dead letter with reason config and no attempt", a, err, b.sink.sent)
	}
}

// A search that failed says nothing: the message is sent, which may double it, and that
// is noted where duplicates are counted: before a takeover sends, after it has delivered,
// and where a record speaks of a dead letter.
func TestAFailedSearchIsNoted(t *testing.T) {
	for name, c := range map[string]struct {
		record delivery.Record
		want   int64
	}{
		"a takeover":                {delivery.Record{}, 2},
		"a record of a dead letter": {delivery.Record{Status: delivery.StatusDeadLettered, ItemID: "ops~1-0"}, 2},
	} {
		b := newBench(nil)
		b.Queue = unreadable{b.queue}
		var log bytes.Buffer
		b.Log = slog.New(slog.NewTextHandler(&log, nil))
		key, fp := delivery.Key{Sink: "ops", ID: "m1"}, dlq.ContentFingerprint(nil, "", "x", nil)
		if _, _, err := b.Records.Begin(t.Context(), delivery.Begin{Key: key, Fingerprint: fp, Token: "dead owner", Lease: 0}); err != nil {
			t.Fatal(err)
		}
		if c.record.Status != "" {
			c.record.Fingerprint = fp
			if _, _, err := b.Records.Finish(t.Context(), key, "dead owner", c.record); err != nil {
				t.Fatal(err)
			}
		}
		if a, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil || a.Status != delivery.StatusDelivered || b.sink.sent != 1 {
			t.Errorf("%s: got %+v, %v after %d sends; want a delivery", name, a, err, b.sink.sent)
		}
		if n := b.unguarded.Load(); n != c.want || !strings.Contains(log.String(), "SINK_DLQ_UNAVAILABLE") {
			t.Errorf("%s: noted %d times, want %d:\n%s", name, n, c.want, log.String())
		}
	}
}
