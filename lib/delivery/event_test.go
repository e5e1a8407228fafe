package delivery_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// ear is the sink that events go through.
type ear struct {
	mu    sync.Mutex
	err   error
	heard []sinks.Message
	// during is called while an event is sent. Nil: nothing happens.
	during func(context.Context)
}

func (*ear) Name() string { return "audit" }

func (e *ear) Send(ctx context.Context, _ sinks.Recipient, m sinks.Message) error {
	if e.during != nil {
		e.during(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	e.heard = append(e.heard, m)
	return nil
}

// happened is the part of an event that tests look at.
type happened struct {
	ID, Type, Subject, Source string
	Data                      struct {
		Sink, Fate, Reason, Error, Group string
		DeliveryID                       string `json:"delivery_id"`
		ItemID                           string `json:"item_id"`
		Attempts                         int
		RecipientGone                    bool `json:"recipient_gone"`
	}
}

// valid reads an event as a kept implementation of CloudEvents does.
func valid(t *testing.T, m sinks.Message) happened {
	t.Helper()
	var ce cloudevents.Event
	if err := json.Unmarshal([]byte(m.Body), &ce); err != nil {
		t.Fatalf("no CloudEvent: %v: %s", err, m.Body)
	}
	if err := ce.Validate(); err != nil {
		t.Errorf("no valid CloudEvent: %v: %s", err, m.Body)
	}
	if ce.SpecVersion() != "1.0" || ce.DataContentType() != "application/json" || ce.Time().IsZero() {
		t.Errorf("version %s, content type %s, time %s", ce.SpecVersion(), ce.DataContentType(), ce.Time())
	}
	h := happened{ID: ce.ID(), Type: ce.Type(), Subject: ce.Subject(), Source: ce.Source()}
	if err := ce.DataAs(&h.Data); err != nil {
		t.Error(err)
	}
	if h.ID != m.ID || fault.CheckID(h.ID) != nil {
		t.Errorf("the event %q is the delivery %q", h.ID, m.ID)
	}
	if want := "backstop.delivery." + h.Data.Fate + ".v1"; h.Type != want || h.Subject != h.Data.DeliveryID {
		t.Errorf("type %s of subject %s, want %s of %s", h.Type, h.Subject, want, h.Data.DeliveryID)
	}
	return h
}

// eventBench is a bench whose sink has its fates told through the sink audit.
type eventBench struct {
	*bench
	ear    *ear
	counts map[delivery.EventStatus]int
	mu     sync.Mutex
}

func (b *eventBench) Event(_ string, _ delivery.Fate, s delivery.EventStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts[s]++
}

func newEventBench(sinkErr error) *eventBench {
	b := &eventBench{bench: newBench(sinkErr), ear: &ear{}, counts: map[delivery.EventStatus]int{}}
	b.MaxBytes = 0
	b.Targets = targets{
		"ops":   {Sink: b.sink, Retry: retry.Config{MaxAttempts: 2}, Events: delivery.Events{To: "audit"}},
		"audit": {Sink: b.ear},
	}
	b.Events = &delivery.Eventer{Sender: b.Sender, Service: "shop a/b", Observer: b}
	return b
}

func (b *eventBench) letters(t *testing.T, sink string) []dlq.Item {
	t.Helper()
	items, err := b.queue.Items(t.Context(), sink, 0)
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func (b *eventBench) record(t *testing.T, id string) delivery.Record {
	t.Helper()
	rec, _, err := b.Records.Get(t.Context(), delivery.Key{Sink: "ops", ID: id})
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func (b *eventBench) owed(t *testing.T) []delivery.Owed {
	t.Helper()
	owed, err := b.Records.Owed(t.Context(), 10)
	if err != nil {
		t.Fatal(err)
	}
	return owed
}

// Each fate is told while its record says that it is pending, and answered only then.
func TestAFateIsToldBeforeItIsAnswered(t *testing.T) {
	gone := sinks.Gone(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 410"})
	for name, c := range map[string]struct {
		err      error
		request  func(*delivery.Request)
		want     string
		reason   string
		attempts int
		gone     bool
	}{
		"delivered":     {want: "delivered", attempts: 1},
		"dead-lettered": {err: errGone, want: "dead_lettered", reason: "terminal", attempts: 1},
		"the recipient is gone": {
			err: gone, want: "dead_lettered", reason: "terminal", attempts: 1, gone: true,
		},
		"unsendable": {
			request: func(r *delivery.Request) { r.Message.Body = "" }, want: "dead_lettered", reason: "invalid",
		},
		"expired on arrival": {
			request: func(r *delivery.Request) { r.ExpiresAt = time.Now().Add(-time.Second) }, want: "expired", reason: "expired",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newEventBench(c.err)
			b.configure(func(t *delivery.Target) { t.Sink = addressed{b.sink} })
			b.Targets.(targets)["audit"] = delivery.Target{Sink: b.ear} //nolint:errcheck // made by configure
			b.ear.during = func(context.Context) {
				if rec := b.record(t, "m1"); len(rec.Pending) != 1 || string(rec.Status) != c.want {
					t.Errorf("while it is told, the record is %+v", rec)
				}
			}
			r := ask("m1", "the body")
			r.Recipient, r.Group, r.KeepUnsendable = json.RawMessage(`{"address":"someone@example.com"}`), "g1", true
			if c.request != nil {
				c.request(&r)
			}
			a, err := b.Deliver(t.Context(), r)
			if err != nil || len(b.ear.heard) != 1 {
				t.Fatalf("%+v, %v after %d events", a, err, len(b.ear.heard))
			}
			h := valid(t, b.ear.heard[0])
			if d := h.Data; h.Source != "/backstop/shop%20a%2Fb/sinks/ops" || d.Sink != "ops" || d.DeliveryID != "m1" || d.Fate != c.want ||
				d.Reason != c.reason || d.ItemID != a.ItemID || d.Attempts != c.attempts || d.Error != a.Error || d.RecipientGone != c.gone || d.Group != "g1" {
				t.Errorf("got %+v of %s for %+v", d, h.Source, a)
			}
			if body := b.ear.heard[0].Body; strings.Contains(body, "someone") || strings.Contains(body, "the body") {
				t.Errorf("it tells too much: %s", body)
			}
			if rec := b.record(t, "m1"); len(rec.Pending) != 0 || len(b.owed(t)) != 0 || b.counts[delivery.EventSent] != 1 {
				t.Errorf("still pending: %+v, owed %v, counted %v", rec, b.owed(t), b.counts)
			}
			if again, err := b.Deliver(t.Context(), r); err != nil || !again.Duplicate || len(b.ear.heard) != 1 {
				t.Errorf("a duplicate: %+v, %v after %d events", again, err, len(b.ear.heard))
			}
		})
	}
}

func TestOnlyTheFatesThatAreAskedForAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		on   []delivery.Fate
		err  error
		want int
	}{
		"all":                  {nil, nil, 1},
		"that one":             {[]delivery.Fate{delivery.FateParked, delivery.FateDeadLettered}, errGone, 1},
		"another one":          {[]delivery.Fate{delivery.FateDeadLettered}, nil, 0},
		"others than this one": {[]delivery.Fate{delivery.FateDelivered, delivery.FateExpired}, errGone, 0},
	} {
		b := newEventBench(c.err)
		b.configure(func(t *delivery.Target) { t.Events.On = c.on })
		b.Targets.(targets)["audit"] = delivery.Target{Sink: b.ear} //nolint:errcheck // made by configure
		if a, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil || len(b.ear.heard) != c.want {
			t.Errorf("%s: %+v, %v after %d events, want %d", name, a, err, len(b.ear.heard), c.want)
		}
	}
}

// What makes an event makes no others, even where sinks name each other.
func TestAnEventHasNoEventsOfItsOwn(t *testing.T) {
	for name, to := range map[string]string{"the events' sink names the first": "ops", "itself": "audit"} {
		b := newEventBench(nil)
		b.Targets.(targets)["audit"] = delivery.Target{Sink: b.ear, Events: delivery.Events{To: to}} //nolint:errcheck // made by newEventBench
		if _, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil || len(b.ear.heard) != 1 || b.sink.sent != 1 {
			t.Errorf("%s: %v, %d events, %d sent", name, err, len(b.ear.heard), b.sink.sent)
		}
	}
}

// openGate leaves every receiver alone.
type openGate struct{ retry.Gate }

func (openGate) Shut(_ context.Context, t flow.Try) (flow.Leave, bool) {
	return flow.Leave{Verdict: flow.Refused, At: time.Now().Add(time.Minute), Why: "it is down", Down: true}, t.Sink == "audit"
}
func (openGate) Ask(context.Context, flow.Try) flow.Leave { return flow.Leave{Verdict: flow.Go} }
func (openGate) Tell(context.Context, flow.Leave, flow.Told) {
}
func (openGate) Lost(context.Context, flow.Try, string) {}

// choosy takes no message without a recipient.
type choosy struct{ *ear }

func (choosy) Validate(sinks.Recipient, sinks.Message) error {
	return &fault.Error{Code: fault.CodeInvalidArgument, Msg: "recipient: missing"}
}

// addressed takes recipients.
type addressed struct{ *fakeSink }

func (addressed) DecodeRecipient(raw []byte) (sinks.Recipient, error) { return string(raw), nil }

// An event that cannot be sent in one attempt is a dead letter before the fate is answered.
func TestAnEventThatFailsIsADeadLetter(t *testing.T) {
	busy := sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
	for name, c := range map[string]struct {
		change func(b *eventBench, audit *delivery.Target)
		reason dlq.Reason
	}{
		"it is busy":           {func(b *eventBench, _ *delivery.Target) { b.ear.err = busy }, dlq.ReasonExhausted},
		"it refuses":           {func(b *eventBench, _ *delivery.Target) { b.ear.err = errGone }, dlq.ReasonTerminal},
		"it panics":            {func(b *eventBench, _ *delivery.Target) { b.ear.during = func(context.Context) { panic("boom") } }, dlq.ReasonTerminal},
		"it wants a recipient": {func(b *eventBench, audit *delivery.Target) { audit.Sink = choosy{b.ear} }, dlq.ReasonInvalid},
		"its configuration is wrong": {func(_ *eventBench, audit *delivery.Target) {
			*audit = delivery.Target{ConfigErr: errors.New("no url")}
		}, dlq.ReasonConfig},
		"it is paused": {func(b *eventBench, _ *delivery.Target) {
			b.Paused = func(_ context.Context, s string) bool { return s == "audit" }
		}, dlq.ReasonConfig},
		"its receiver is left alone":   {func(b *eventBench, _ *delivery.Target) { b.Gate = openGate{} }, dlq.ReasonOpen},
		"there is no sink of its name": {nil, dlq.ReasonConfig},
	} {
		t.Run(name, func(t *testing.T) {
			b := newEventBench(nil)
			known := b.Targets.(targets) //nolint:errcheck // made by newEventBench
			if audit := known["audit"]; c.change == nil {
				delete(known, "audit")
			} else {
				c.change(b, &audit)
				known["audit"] = audit
			}
			a, err := b.Deliver(t.Context(), ask("m1", "x"))
			if err != nil || a.Status != delivery.StatusDelivered {
				t.Fatalf("%+v, %v", a, err)
			}
			kept := b.letters(t, "audit")
			if len(kept) != 1 || kept[0].Reason != c.reason || kept[0].Attempts > 1 || len(b.ear.heard) != 0 {
				t.Fatalf("kept %+v after %d events; want one letter, %s", kept, len(b.ear.heard), c.reason)
			}
			if h := valid(t, kept[0].Message); h.Data.Fate != "delivered" || h.ID != kept[0].DeliveryID {
				t.Errorf("kept %+v", h)
			}
			if rec := b.record(t, "m1"); len(rec.Pending) != 0 || b.counts[delivery.EventDeadLettered] != 1 {
				t.Errorf("still pending: %+v; counted %v", rec, b.counts)
			}
		})
	}
}

// refusingFor is a queue that takes no dead letters of one sink.
type refusingFor struct {
	dlq.Store
	sink string
	err  error
}

func (q *refusingFor) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	if it.Sink == q.sink && q.err != nil {
		return dlq.Item{}, q.err
	}
	return q.Store.Add(ctx, it)
}

var errFull = &fault.Error{Code: fault.CodeDLQOverflow, Msg: "full"}

// Where neither its sink nor the queue takes it, the event stays with the record, and the
// schedule sends it.
func TestAnEventThatNobodyTakesIsOwed(t *testing.T) {
	for _, sinkErr := range []error{nil, errGone} {
		b := newEventBench(sinkErr)
		q := &refusingFor{b.queue, "audit", errFull}
		b.Queue, b.ear.err = q, errGone
		a, err := b.Deliver(t.Context(), ask("m1", "x"))
		if err != nil || a.Status == "" {
			t.Fatalf("%+v, %v; want the answer", a, err)
		}
		if rec, owed := b.record(t, "m1"), b.owed(t); len(rec.Pending) != 1 || len(owed) != 1 || owed[0].ID != "m1" || b.counts[delivery.EventPending] != 1 {
			t.Fatalf("record %+v, owed %v, counted %v", rec, owed, b.counts)
		}
		w, err := (&delivery.Tracker{Records: b.Records, Letters: b.queue}).Track(t.Context(), delivery.Key{Sink: "ops", ID: "m1"})
		if err != nil || w.Event != "pending" {
			t.Errorf("shown as %+v, %v", w, err)
		}
		budget := retry.NewBudget(t.Context(), time.Second)
		if n, err := b.Events.Settle(t.Context(), budget); n != 0 || err != nil || len(b.owed(t)) != 1 {
			t.Errorf("nothing has changed: %d settled, %v, owed %v", n, err, b.owed(t))
		}
		b.ear.err = nil
		if n, err := b.Events.Settle(t.Context(), budget); n != 1 || err != nil {
			t.Errorf("%d settled, %v", n, err)
		}
		if len(b.ear.heard) != 1 || len(b.owed(t)) != 0 || len(b.record(t, "m1").Pending) != 0 {
			t.Errorf("%d events, owed %v, record %+v", len(b.ear.heard), b.owed(t), b.record(t, "m1"))
		}
		if w, err := (&delivery.Tracker{Records: b.Records, Letters: b.queue}).Track(t.Context(), delivery.Key{Sink: "ops", ID: "m1"}); err != nil || w.Event != "" {
			t.Errorf("shown as %+v, %v", w, err)
		}
	}
}

// A duplicate sends what is pending, and so does whoever finds the delivery canceled.
func TestWhoeverMeetsAPendingEventSendsIt(t *testing.T) {
	for name, meet := range map[string]func(b *eventBench) (delivery.Answer, error){
		"a duplicate": func(b *eventBench) (delivery.Answer, error) { return b.Deliver(t.Context(), ask("m1", "x")) },
		"a request that finds it canceled": func(b *eventBench) (delivery.Answer, error) {
			if _, _, err := b.Records.Cancel(t.Context(), delivery.Key{Sink: "ops", ID: "m1"}, "c", delivery.Record{}); err != nil {
				return delivery.Answer{}, err
			}
			return b.Deliver(t.Context(), ask("m1", "x"))
		},
		"a request whose dead letter is gone": func(b *eventBench) (delivery.Answer, error) {
			if err := b.queue.Discard(t.Context(), b.record(t, "m1").ItemID); err != nil {
				return delivery.Answer{}, err
			}
			return b.Deliver(t.Context(), ask("m1", "x"))
		},
	} {
		b := newEventBench(errGone)
		q := &refusingFor{b.queue, "audit", errFull}
		b.Queue, b.ear.err = q, errGone
		if _, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil {
			t.Fatal(err)
		}
		b.ear.err = nil
		if a, err := meet(b); err != nil || len(b.ear.heard) == 0 {
			t.Errorf("%s: %+v, %v after %d events", name, a, err, len(b.ear.heard))
		} else if h := valid(t, b.ear.heard[0]); h.Data.Fate != "dead_lettered" {
			t.Errorf("%s: told %+v", name, h)
		}
		if rec := b.record(t, "m1"); len(rec.Pending) != 0 {
			t.Errorf("%s: still pending: %+v", name, rec)
		}
	}
}

// A record with pending events is not forgotten when its delivery is handed back.
func TestAHandBackKeepsWhatIsPending(t *testing.T) {
	b := newEventBench(errGone)
	b.Queue, b.ear.err = &refusingFor{b.queue, "audit", errFull}, errGone
	if _, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil {
		t.Fatal(err)
	}
	if err := b.queue.Discard(t.Context(), b.record(t, "m1").ItemID); err != nil { // lost
		t.Fatal(err)
	}
	b.Queue = &refusingFor{b.queue, "ops", errFull}
	if _, err := b.Deliver(t.Context(), ask("m1", "x")); fault.CodeOf(err) != fault.CodeDLQOverflow {
		t.Fatalf("got %v, want it handed back", err)
	}
	if rec := b.record(t, "m1"); len(rec.Pending) != 1 {
		t.Errorf("the event is forgotten: %+v", rec)
	}
}

// The event's record has other content of the same fate, which was told in part: by somebody
// who died before the delivery's record had it.
func TestAFateThatWasToldOtherwiseIsSafeOnceThatIs(t *testing.T) {
	tell := func(b *eventBench, at time.Time) error {
		it := dlq.Item{ID: "ops~1-0", Sink: "ops", DeliveryID: "m1"}
		return b.Events.Tell(t.Context(), retry.NewBudget(t.Context(), time.Second), delivery.NoticeOf(it, delivery.FateParked, at))[0]
	}
	b := newEventBench(nil)
	if err := tell(b, time.Now()); err != nil || len(b.ear.heard) != 1 {
		t.Fatalf("%v after %d events", err, len(b.ear.heard))
	}
	if err := tell(b, time.Now().Add(time.Second)); err != nil || len(b.ear.heard) != 1 || len(b.owed(t)) != 0 {
		t.Errorf("told again: %v after %d events, owed %v", err, len(b.ear.heard), b.owed(t))
	}
	b = newEventBench(nil)
	if err := tell(b, time.Now()); err != nil {
		t.Fatal(err)
	}
	event := delivery.Key{Sink: "audit", ID: b.ear.heard[0].ID}
	b.Records = delivery.NewMemory(0)
	if _, _, err := b.Records.Begin(t.Context(), delivery.Begin{Key: event, Fingerprint: dlq.ContentFingerprint(nil, "", "of another time", nil), Token: "dead", Lease: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if err := tell(b, time.Now().Add(time.Second)); err != nil || len(b.owed(t)) != 1 {
		t.Errorf("%v, owed %v; want it owed: nobody knows whether the other was sent", err, b.owed(t))
	}
}

// A sink that tells nothing costs what it did.
func TestASinkWithoutEventsMakesNoMoreCalls(t *testing.T) {
	count := func(events bool, sinkErr error) int {
		b := newEventBench(sinkErr)
		b.configure(func(t *delivery.Target) { t.Events = delivery.Events{} })
		f := &faulty{}
		b.Records, b.Queue = faultyRecords{b.Records, f}, faultyQueue{b.queue, b.queue, f}
		if !events {
			b.Events = nil
		}
		for range 2 { // and a duplicate
			if _, err := b.Deliver(t.Context(), ask("m1", "x")); err != nil {
				t.Fatal(err)
			}
		}
		return f.n
	}
	for _, err := range []error{nil, errGone} {
		if with, without := count(true, err), count(false, err); with != without || without == 0 {
			t.Errorf("sink error %v: %d calls with an Eventer, %d without", err, with, without)
		}
	}
}
