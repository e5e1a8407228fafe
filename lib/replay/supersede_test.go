package replay_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// bodies is a receiver's answer that notes the bodies that came.
func bodies(to *[]string, err error) func(context.Context, sinks.Message) error {
	return func(_ context.Context, m sinks.Message) error {
		*to = append(*to, m.ID+": "+m.Body)
		return err
	}
}

// repaired are the options that replace the body.
func repaired(body string) replay.OneOptions {
	return replay.OneOptions{Message: &replay.MessageEdit{Body: &body}}
}

func TestAnEditedDeadLetterIsSentInPlaceOfTheOld(t *testing.T) {
	to, subject := "elsewhere", "new subject"
	for _, tt := range []struct {
		name, sink string
		opts       replay.OneOptions
		sent       string
	}{
		{"a body", "a", repaired("good"), "m0: good"},
		{"a subject", "a", replay.OneOptions{Message: &replay.MessageEdit{Subject: &subject}}, "m0: secret-body"},
		{"a recipient", "a", replay.OneOptions{Recipient: []byte(`"` + to + `"`)}, "m0: secret-body"},
		{"another sink", "b", replay.OneOptions{Sink: "b"}, "m0: secret-body"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, told := dlq.NewMemory(), delivery.NewMemory(0)
				var sent []string
				a, b := &receiver{name: "a", answer: bodies(&sent, nil)}, &receiver{name: "b", answer: bodies(&sent, nil)}
				e := engine(store, configured(replay.Policy{}, a, b))
				e.Records = told
				id := push(t, store, "a", "m", 1)[0]
				r, err := e.ReplayOne(t.Context(), id, tt.opts)
				if err != nil || r.Status != replay.StatusDelivered || r.Sink != tt.sink || r.SupersededBy == "" || r.ID != r.SupersededBy || r.DeliveryID != "m0" {
					t.Fatalf("ReplayOne = %+v, %v", r, err)
				}
				old := get(t, store, id)
				if old.SupersededBy != r.ID || old.State(time.Now()) != dlq.StateWaiting {
					t.Errorf("the old one: %s, superseded by %q", old.State(time.Now()), old.SupersededBy)
				}
				if rec, known, err := told.Get(t.Context(), delivery.Key{Sink: "a", ID: "m0"}); err != nil || !known || rec.Status != delivery.StatusDelivered || rec.Fingerprint != delivery.FingerprintOf(old) {
					t.Errorf("the record says %+v, %v; want delivered", rec, err)
				}

				// Nothing sends the old one, and a repetition sends nothing.
				run(t, e, replay.Request{})
				if _, err := e.ReplayOne(t.Context(), id, tt.opts); !errors.Is(err, replay.ErrAlreadyDelivered) {
					t.Errorf("repeated: %v, want ErrAlreadyDelivered", err)
				}
				if _, err := e.ReplayOne(t.Context(), id, repaired("other")); !errors.Is(err, replay.ErrSuperseded) || fault.CodeOf(err) != fault.CodeInvalidArgument {
					t.Errorf("changed otherwise: %v, want ErrSuperseded", err)
				}
				if _, err := e.ReplayOne(t.Context(), id, replay.OneOptions{}); !errors.Is(err, replay.ErrSuperseded) {
					t.Errorf("as it is: %v, want ErrSuperseded", err)
				}
				op, err := e.CreateOperation(t.Context(), replay.OperationRequest{Action: replay.OperationReplay, All: true})
				if err != nil {
					t.Fatal(err)
				}
				run(t, e, replay.Request{})
				if op, err = e.Operation(t.Context(), op.ID); err != nil || op.Status != replay.OperationCompleted || op.Skipped != 1 || op.Settled != 0 {
					t.Errorf("the operation %+v, %v; want it skipped", op, err)
				}
				if !slices.Equal(sent, []string{tt.sent}) {
					t.Fatalf("sent: %q, want %q", sent, tt.sent)
				}
				if r, err := e.ReplayOne(t.Context(), id, replay.OneOptions{Force: true}); err != nil || r.ID != id || len(sent) != 2 {
					t.Errorf("forced: %+v, %v; sent %q", r, err, sent)
				}
			})
		})
	}
}

func TestAnEditedDeadLetterThatFailsIsDueAndTheOldIsNot(t *testing.T) {
	for _, sink := range []string{"", "b"} {
		synctest.Test(t, func(t *testing.T) {
			store := dlq.NewMemory()
			var sent []string
			a, b := &receiver{name: "a", answer: bodies(&sent, errDown)}, &receiver{name: "b", answer: bodies(&sent, errDown)}
			e := engine(store, configured(replay.Policy{}, a, b))
			id := push(t, store, "a", "m", 1, func(it *dlq.Item) { it.Reason = dlq.ReasonTerminal })[0]
			o := repaired("good")
			o.Sink = sink
			r, err := e.ReplayOne(t.Context(), id, o)
			if err != nil || r.Status != replay.StatusFailed || r.NextReplayAt.IsZero() {
				t.Fatalf("ReplayOne = %+v, %v; want failed, again later", r, err)
			}
			again, err := e.ReplayOne(t.Context(), id, o)
			if err != nil || again.ID != r.ID || again.Replays != r.Replays+1 {
				t.Errorf("repeated: %+v, %v; want %s replayed again", again, err, r.ID)
			}
			a.set(bodies(&sent, nil))
			b.set(bodies(&sent, nil))
			time.Sleep(24 * time.Hour)
			run(t, e, replay.Request{})
			if want := []string{"m0: good", "m0: good", "m0: good"}; !slices.Equal(sent, want) {
				t.Errorf("sent %q, want %q", sent, want)
			}
			if depth(t, store, "a")+depth(t, store, "b") != 1 {
				t.Error("want the old one alone left")
			}
		})
	}
}

func TestWhatCannotBeSentIsNotSuperseded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := dlq.NewMemory(), &receiver{name: "a"}
		e := engine(store, configured(replay.Policy{}, a))
		e.MaxBytes = 100
		ids := push(t, store, "a", "m", 3)
		expired := push(t, store, "a", "x", 1, func(it *dlq.Item) { it.ExpiresAt = time.Now().Add(-time.Hour) })[0]
		if _, err := store.Claim(t.Context(), dlq.Claim{Sink: "a", IDs: ids[1:2], TTL: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if _, err := store.ClaimDelivery(t.Context(), dlq.DeliveryClaim{Sink: "a", DeliveryID: "m2", TTL: time.Millisecond, Note: time.Hour}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		for _, tt := range []struct {
			name, id string
			o        replay.OneOptions
			code     fault.Code
		}{
			{"no body", ids[0], repaired(""), fault.CodeInvalidArgument},
			{"too large", ids[0], repaired(string(make([]byte, 200))), fault.CodeBodyTooLarge},
			{"a bad recipient", ids[0], replay.OneOptions{Recipient: []byte(`"bad"`)}, fault.CodeInvalidArgument},
			{"an unknown sink", ids[0], replay.OneOptions{Sink: "zzz"}, fault.CodeSinkNotFound},
			{"nothing new", ids[0], repaired("secret-body"), fault.CodeInvalidArgument},
			{"leased", ids[1], repaired("good"), fault.CodeItemLeased},
			{"canceled", ids[2], repaired("good"), fault.CodeInvalidArgument},
			{"expired", expired, repaired("good"), fault.CodeInvalidArgument},
		} {
			if _, err := e.ReplayOne(t.Context(), tt.id, tt.o); fault.CodeOf(err) != tt.code {
				t.Errorf("%s: %v, want %s", tt.name, err, tt.code)
			}
			if it := get(t, store, tt.id); it.SupersededBy != "" {
				t.Errorf("%s: it is superseded", tt.name)
			}
		}
		if depth(t, store, "a") != 4 || len(a.calls()) != 0 {
			t.Errorf("%d deep, %d sent", depth(t, store, "a"), len(a.calls()))
		}
		if it := get(t, store, ids[0]); it.State(time.Now()) != dlq.StateDue {
			t.Errorf("it is %s, want due as before", it.State(time.Now()))
		}
	})
}

// unnoted is a store on which nobody can note what is superseded.
type unnoted struct {
	dlq.Store
	noted bool
	err   error
}

func (u unnoted) NoteSuperseded(context.Context, dlq.Item) (bool, error) { return u.noted, u.err }

func TestWhatCameFromAnotherSinkIsSentOnceThatIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, b := dlq.NewMemory(), &receiver{name: "b"}
		old := push(t, store, "a", "m", 1)[0]
		moved := push(t, store, "b", "m", 1, func(it *dlq.Item) { it.Origin = old })[0]
		run(t, engine(unnoted{Store: store, err: &fault.Error{Code: fault.CodeDLQUnavailable}}, configured(replay.Policy{}, b)), replay.Request{Sinks: []string{"b"}})
		if it := get(t, store, moved); len(b.calls()) != 0 || it.State(time.Now()) != dlq.StateDue {
			t.Fatalf("%d sent; it is %s, want due", len(b.calls()), it.State(time.Now()))
		}
		run(t, engine(unnoted{Store: store}, configured(replay.Policy{}, b)), replay.Request{Sinks: []string{"b"}})
		it := get(t, store, moved)
		if len(b.calls()) != 0 || it.State(time.Now()) != dlq.StateWaiting {
			t.Fatalf("%d sent; it is %s, want waiting", len(b.calls()), it.State(time.Now()))
		}
		if _, err := engine(unnoted{Store: store}, configured(replay.Policy{}, b)).ReplayOne(t.Context(), moved, replay.OneOptions{}); fault.CodeOf(err) != fault.CodeInvalidArgument {
			t.Errorf("an operator: %v, want INVALID_ARGUMENT", err)
		}
		if err := store.Unpark(t.Context(), moved); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		run(t, engine(store, configured(replay.Policy{}, b)), replay.Request{Sinks: []string{"b"}})
		if it := get(t, store, old); len(b.calls()) != 1 || it.SupersededBy != moved {
			t.Errorf("%d sent, the old one is superseded by %q", len(b.calls()), it.SupersededBy)
		}
	})
}

func TestACancellationTakesWhatSuperseded(t *testing.T) {
	for _, sinkOf := range []string{"", "b"} {
		synctest.Test(t, func(t *testing.T) {
			store, told := dlq.NewMemory(), delivery.NewMemory(0)
			a, b := &receiver{name: "a", answer: fails(errDown)}, &receiver{name: "b", answer: fails(errDown)}
			e := engine(store, configured(replay.Policy{}, a, b))
			e.Records = told
			id := push(t, store, "a", "m", 1)[0]
			o := repaired("good")
			o.Sink = sinkOf
			r, err := e.ReplayOne(t.Context(), id, o)
			if err != nil {
				t.Fatal(err)
			}
			if r, err = e.ReplayOne(t.Context(), r.ID, repaired("better")); err != nil { // an heir of the heir
				t.Fatal(err)
			}
			c := delivery.Canceler{Records: told, Letters: store, Log: slog.New(slog.DiscardHandler)}
			held, err := store.Claim(t.Context(), dlq.Claim{Sink: r.Sink, IDs: []string{r.ID}, TTL: time.Minute})
			if err != nil || len(held) != 1 {
				t.Fatal(err)
			}
			if _, err := c.Cancel(t.Context(), delivery.Key{Sink: "a", ID: "m0"}); fault.CodeOf(err) != fault.CodeItemLeased {
				t.Errorf("while one is sent: %v, want ITEM_LEASED", err)
			}
			if n := depth(t, store, "a") + depth(t, store, "b"); n != 3 {
				t.Errorf("%d left by a refused cancellation, want 3", n)
			}
			if canceled, err := store.Canceled(t.Context(), "a", "m0"); canceled || err != nil {
				t.Errorf("noted as canceled: %t, %v", canceled, err)
			}
			if err := store.Release(t.Context(), []dlq.Lease{held[0].Lease}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Cancel(t.Context(), delivery.Key{Sink: "a", ID: "m0"}); err != nil {
				t.Fatal(err)
			}
			if n := depth(t, store, "a") + depth(t, store, "b"); n != 0 {
				t.Errorf("%d left, want none", n)
			}
		})
	}
}

func TestWhatIsSupersededEndsSilently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, told := dlq.NewMemory(), delivery.NewMemory(0)
		a := &receiver{name: "a", answer: fails(errDown)}
		e := engine(store, configured(replay.Policy{}, a))
		e.Records = told
		ids := push(t, store, "a", "m", 2, func(it *dlq.Item) { it.ExpiresAt = time.Now().Add(time.Hour) })
		for _, id := range ids {
			if _, err := e.ReplayOne(t.Context(), id, repaired("good")); err != nil {
				t.Fatal(err)
			}
		}
		status := func(id string) delivery.Status {
			t.Helper()
			rec, _, err := told.Get(t.Context(), delivery.Key{Sink: "a", ID: id})
			if err != nil {
				t.Fatal(err)
			}
			return rec.Status
		}
		if err := e.Discard(t.Context(), get(t, store, ids[1])); err != nil {
			t.Fatal(err)
		}
		if s := status("m1"); s == delivery.StatusDiscarded {
			t.Error("the record says discarded, though what superseded it waits")
		}
		a.set(nil)
		time.Sleep(30 * time.Minute)
		run(t, e, replay.Request{})
		time.Sleep(time.Hour)
		run(t, e, replay.Request{})
		if it := get(t, store, ids[0]); it.State(time.Now()) != dlq.StateExpired || it.ExpiredAt.IsZero() {
			t.Errorf("the old one is %s, want expired", it.State(time.Now()))
		}
		if s := status("m0"); s != delivery.StatusDelivered {
			t.Errorf("the record says %s, want delivered", s)
		}
	})
}

func TestWhatIsSupersededIsNotImported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := dlq.NewMemory(), &receiver{name: "a", answer: fails(errDown)}
		e := engine(store, configured(replay.Policy{}, a))
		id := push(t, store, "a", "m", 1)[0]
		r, err := e.ReplayOne(t.Context(), id, repaired("good"))
		if err != nil {
			t.Fatal(err)
		}
		other := dlq.NewMemory()
		got := engine(other, configured(replay.Policy{}, a)).Import(t.Context(), []dlq.Item{get(t, store, id), get(t, store, r.ID)})
		if got[0].Status != replay.ImportSkipped || got[1].Status != replay.ImportStored || depth(t, other, "a") != 1 {
			t.Errorf("imported: %+v", got)
		}
	})
}

func TestManyGoThroughAnotherSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, told := dlq.NewMemory(), delivery.NewMemory(0)
		a, b := &receiver{name: "a"}, &receiver{name: "b", answer: func(_ context.Context, m sinks.Message) error {
			if m.ID == "m1" {
				return errGone
			}
			return nil
		}}
		e := engine(store, configured(replay.Policy{}, a, b))
		e.Records = told
		ids := push(t, store, "a", "m", 3)
		push(t, store, "a", "bad", 1, func(it *dlq.Item) { it.Recipient = []byte(`"bad"`) })
		request := replay.OperationRequest{Action: replay.OperationReplay, Filter: &replay.Filter{Sink: "a"}, Sink: "b"}
		request.DryRun = true
		dry, err := e.CreateOperation(t.Context(), request)
		if err != nil || dry.Sink != "b" || dry.Preview.Count != 4 || dry.Preview.Refused != 1 || dry.Preview.Refusal == "" {
			t.Errorf("the dry run: %+v, %+v, %v; want one of four refused", dry, dry.Preview, err)
		}
		request.DryRun = false
		op, err := e.CreateOperation(t.Context(), request)
		if err != nil {
			t.Fatal(err)
		}
		run(t, e, replay.Request{Operation: op.ID})
		op, err = e.Operation(t.Context(), op.ID)
		if err != nil || op.Status != replay.OperationCompleted || op.Delivered != 2 || op.Failed != 2 || op.Settled != 4 {
			t.Errorf("%+v, %v; want 2 delivered, 2 failed", op, err)
		}
		if len(a.calls()) != 0 || len(b.calls()) != 3 || depth(t, store, "a") != 2 || depth(t, store, "b") != 0 {
			t.Errorf("%d went through a and %d through b; %d and %d deep", len(a.calls()), len(b.calls()), depth(t, store, "a"), depth(t, store, "b"))
		}
		if it := get(t, store, ids[1]); !it.State(time.Now()).Scheduled() || it.Replays != 0 || len(it.History) != 1 {
			t.Errorf("what failed there: %+v; want it due in its own sink, uncharged", it)
		}
		if rec, _, err := told.Get(t.Context(), delivery.Key{Sink: "a", ID: "m0"}); err != nil || rec.Status != delivery.StatusDelivered {
			t.Errorf("the record says %s, %v", rec.Status, err)
		}
	})
}

func TestARedirectStopsWhereItsReceiverFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a, b := dlq.NewMemory(), &receiver{name: "a"}, &receiver{name: "b", answer: fails(errDown)}
		e := engine(store, configured(replay.Policy{}, a, b))
		push(t, store, "a", "m", 20)
		two := 2
		op, err := e.CreateOperation(t.Context(), replay.OperationRequest{Action: replay.OperationReplay, All: true, Sink: "b", StopAfter: &two})
		if err != nil {
			t.Fatal(err)
		}
		run(t, e, replay.Request{Operation: op.ID})
		if op, err = e.Operation(t.Context(), op.ID); err != nil || op.Status != replay.OperationStopped || len(b.calls()) != 2 || len(a.calls()) != 0 || depth(t, store, "a") != 20 {
			t.Fatalf("%+v, %v; want it stopped after 2", op, err)
		}
		b.set(nil)
		if _, err := e.ResumeOperation(t.Context(), op.ID); err != nil {
			t.Fatal(err)
		}
		run(t, e, replay.Request{Operation: op.ID})
		if op, err = e.Operation(t.Context(), op.ID); err != nil || op.Status != replay.OperationCompleted || op.Delivered != 20 || depth(t, store, "a") != 0 {
			t.Errorf("%+v, %v; want all delivered", op, err)
		}
	})
}

func TestARedirectNeedsASinkThatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, a := dlq.NewMemory(), &receiver{name: "a"}
		e := engine(store, configured(replay.Policy{}, a))
		push(t, store, "a", "m", 1)
		for _, tt := range []struct {
			r    replay.OperationRequest
			code fault.Code
		}{
			{replay.OperationRequest{Action: replay.OperationReplay, All: true, Sink: "zzz"}, fault.CodeSinkNotFound},
			{replay.OperationRequest{Action: replay.OperationReplay, All: true, Sink: "{}"}, fault.CodeInvalidArgument},
			{replay.OperationRequest{Action: replay.OperationDiscard, All: true, Sink: "a"}, fault.CodeInvalidArgument},
			{replay.OperationRequest{Action: replay.OperationErase, Recipient: "x", Sink: "a"}, fault.CodeInvalidArgument},
		} {
			if _, err := e.CreateOperation(t.Context(), tt.r); fault.CodeOf(err) != tt.code {
				t.Errorf("%s to %q: %v, want %s", tt.r.Action, tt.r.Sink, err, tt.code)
			}
		}
	})
}
