package delivery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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

// What is pending is kept whatever becomes of the record, until it is told.
func TestPendingEventsStayInTheRecord(t *testing.T) {
	for name, s := range backends(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			ev := func(id string) delivery.PendingEvent {
				return delivery.PendingEvent{ID: id, Fate: delivery.FateParked, To: "audit", Body: `{"a":"b/c \"d\" é"}`}
			}
			k := delivery.Key{Sink: "ops", ID: name}
			pending := func(want ...string) {
				t.Helper()
				rec, _, err := s.Get(ctx, k)
				var got []string
				for _, e := range rec.Pending {
					if got = append(got, e.ID); e != ev(e.ID) {
						t.Errorf("it became %+v", e)
					}
				}
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("pending are %v (%v), want %v", got, err, want)
				}
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			begin := func(token string, untrue *delivery.Record) {
				t.Helper()
				_, _, err := s.Begin(ctx, delivery.Begin{Key: k, Fingerprint: "f", Token: token, Lease: time.Minute, Untrue: untrue})
				must(err)
			}
			finish := func(token string, status delivery.Status, events ...delivery.PendingEvent) {
				t.Helper()
				_, ok, err := s.Finish(ctx, k, token, delivery.Record{Sink: k.Sink, ID: k.ID, Status: status, ItemID: "ops~1-0", Fingerprint: "f", Pending: events})
				if must(err); !ok {
					t.Fatal("not written")
				}
			}
			begin("a", nil)
			finish("a", delivery.StatusDeadLettered, ev("1"))
			finish("a", delivery.StatusDeadLettered, ev("1"), ev("2")) // again, after a lost reply
			pending("1", "2")
			found, _, err := s.Get(ctx, k)
			must(err)
			begin("b", &found) // its dead letter is gone
			pending("1", "2")
			finish("b", delivery.StatusExpired, ev("3"))
			must(s.Told(ctx, k, "2", "unknown"))
			pending("1", "3")
			_, _, err = s.Cancel(ctx, k, "c", delivery.Record{Pending: []delivery.PendingEvent{ev("4")}})
			must(err)
			pending("1", "3", "4")
			must(s.Uncancel(ctx, k, "c"))
			pending("1", "3")
			_, err = s.Update(ctx, delivery.Change{Key: k, Status: delivery.StatusDelivered, Fingerprint: "f"})
			must(err)
			pending("1", "3")
			before, _, err := s.Get(ctx, k)
			must(err)
			must(s.Told(ctx, k, "1", "3"))
			pending()
			after, _, err := s.Get(ctx, k)
			must(err)
			if before.Pending = nil; fmt.Sprintf("%+v", before) != fmt.Sprintf("%+v", after) {
				t.Errorf("telling changed %+v to %+v", before, after)
			}
			must(s.Told(ctx, k, "1"))
			must(s.Told(ctx, delivery.Key{Sink: "ops", ID: "unknown"}, "1"))
			if _, known, err := s.Get(ctx, delivery.Key{Sink: "ops", ID: "unknown"}); known || err != nil {
				t.Errorf("telling made a record: %v", err)
			}
		})
	}
}

func TestOwedEventsAreListedUntilTheyArePaid(t *testing.T) {
	for name, s := range backends(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			owe := func(id, event string) {
				t.Helper()
				r := delivery.Record{Sink: "ops", ID: id, Status: delivery.StatusDeadLettered, Fingerprint: "f", Pending: []delivery.PendingEvent{{ID: event, To: "audit"}}}
				if err := s.Owe(ctx, r); err != nil {
					t.Fatal(err)
				}
			}
			list := func(limit int) (ids []string, all []delivery.Owed) {
				t.Helper()
				all, err := s.Owed(ctx, limit)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range all {
					if o.Sink != "ops" || time.Since(o.Since) > time.Minute {
						t.Errorf("owed: %+v", o)
					}
					ids = append(ids, o.ID)
				}
				return ids, all
			}
			if _, _, err := s.Begin(ctx, delivery.Begin{Key: delivery.Key{Sink: "ops", ID: "x:1"}, Fingerprint: "f", Token: "a", Lease: time.Minute}); err != nil {
				t.Fatal(err)
			}
			owe("x:1", "e1")
			owe("x:1", "e1")
			owe("x:1", "e2")
			rec, _, err := s.Get(ctx, delivery.Key{Sink: "ops", ID: "x:1"})
			if err != nil || rec.Status != delivery.StatusInProgress || rec.LeasedUntil.IsZero() || len(rec.Pending) != 2 {
				t.Errorf("the record that was there: %+v, %v", rec, err)
			}
			_, seen := list(10)
			for time.Now().UnixMilli() == seen[0].Since.UnixMilli() { // its unit
				runtime.Gosched()
			}
			owe("y=2", "e3")
			if ids, _ := list(10); !slices.Equal(ids, []string{"x:1", "y=2"}) {
				t.Errorf("owed: %v", ids)
			}
			if ids, _ := list(1); !slices.Equal(ids, []string{"x:1"}) {
				t.Errorf("owed, one of them: %v", ids)
			}
			if rec, known, err := s.Get(ctx, delivery.Key{Sink: "ops", ID: "y=2"}); err != nil || !known || len(rec.Pending) != 1 || rec.Status != delivery.StatusDeadLettered {
				t.Errorf("the record that was not there: %+v, %v", rec, err)
			}
			owe("x:1", "e4") // since it was looked at
			if err := s.Paid(ctx, seen[0]); err != nil {
				t.Fatal(err)
			}
			ids, now := list(10)
			if len(ids) != 2 {
				t.Errorf("what was owed anew was taken off: %v", ids)
			}
			for _, o := range now {
				for range 2 {
					if err := s.Paid(ctx, o); err != nil {
						t.Fatal(err)
					}
				}
			}
			if ids, _ := list(10); len(ids) != 0 {
				t.Errorf("still owed: %v", ids)
			}
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
