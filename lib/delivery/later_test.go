package delivery_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// waiting is a queue for later.
type waiting struct {
	got []delivery.Queued
	err error // what it answers
	// during is called while a request is put. Nil: nothing happens.
	during func()
}

func (q *waiting) Put(_ context.Context, r delivery.Queued) error {
	q.got = append(q.got, r)
	if q.during != nil {
		q.during()
	}
	return q.err
}

func (*waiting) FIFO() bool { return false }

var (
	errNotTaken = &fault.Error{Code: fault.CodeQueueUnavailable, Msg: "throttled", Cause: delivery.ErrNotQueued}
	errNoReply  = &fault.Error{Code: fault.CodeQueueUnavailable, Msg: "no answer"}
	errNoRoom   = &fault.Error{Code: fault.CodeBodyTooLarge, Msg: "it takes 1 MiB"}
)

func newWaiting(b *bench) *waiting {
	q := &waiting{}
	b.Requests = q
	return q
}

// async asks for m-1 to be answered at once.
func async(body string) delivery.Request {
	r := ask(key.ID, body)
	r.Async = true
	return r
}

// arrived is m-1 as it comes out of the queue.
func arrived(accepted time.Time) delivery.Request {
	r := ask(key.ID, "x")
	r.Queued, r.KeepUnsendable, r.ComesAgain, r.AcceptedAt = true, true, true, accepted
	return r
}

// starts takes m-1 for somebody else.
func (b *bench) starts(t *testing.T, accept bool, lease time.Duration) {
	t.Helper()
	_, _, err := b.Records.Begin(t.Context(), delivery.Begin{
		Key: key, Fingerprint: dlq.ContentFingerprint(nil, "", "x", nil), Token: "other", Lease: lease, Accept: accept, AcceptedAt: time.Now(),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ends says what became of what starts took.
func (b *bench) ends(t *testing.T, s delivery.Status) {
	t.Helper()
	rec := delivery.Record{Sink: key.Sink, ID: key.ID, Status: s, Fingerprint: dlq.ContentFingerprint(nil, "", "x", nil)}
	if _, written, err := b.Records.Finish(t.Context(), key, "other", rec); err != nil || !written {
		t.Fatalf("%v, %v", written, err)
	}
}

func (b *bench) status(t *testing.T) delivery.Record {
	t.Helper()
	rec, _, err := b.Records.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func wantAnswer(t *testing.T, what string, a delivery.Answer, err error, want delivery.Status) {
	t.Helper()
	if err != nil || a.Status != want {
		t.Fatalf("%s: %+v, %v; want it %s", what, a, err, want)
	}
}

func TestOneCallerAtATimePutsADeliveryIntoTheQueue(t *testing.T) {
	b := newBench(nil)
	q := newWaiting(b)
	var second error
	q.during = func() { _, second = b.Deliver(t.Context(), async("x")) }
	a, err := b.Deliver(t.Context(), async("x"))
	wantAnswer(t, "the first", a, err, delivery.StatusAccepted)
	wantCode(t, second, fault.CodeDeliveryInProgress)
	if len(q.got) != 1 {
		t.Errorf("put %d times, want once", len(q.got))
	}
}

func TestWhatSomebodyDiedPuttingIntoTheQueueIsPutAgain(t *testing.T) {
	b := newBench(nil)
	q := newWaiting(b)
	b.starts(t, true, 0)
	for range 2 { // nobody knows whether the dead caller's was taken, however often the queue refuses
		q.err = errNotTaken
		_, err := b.Deliver(t.Context(), async("x"))
		wantCode(t, err, fault.CodeQueueUnavailable)
		if rec := b.status(t); rec.Status != delivery.StatusAccepting {
			t.Errorf("refused: the record is %q, want it left", rec.Status)
		}
	}
	q.err = nil
	a, err := b.Deliver(t.Context(), async("x"))
	wantAnswer(t, "the queue is back", a, err, delivery.StatusAccepted)
	if a.Duplicate || len(q.got) != 3 {
		t.Errorf("%+v after %d times, want it put now, the third time", a, len(q.got))
	}
}

func TestWhatTheQueueDidNotTakeIsForgotten(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		after time.Duration
	}{
		"refused":                       {err: errNotTaken},
		"refused, to be sent later":     {err: errNotTaken, after: time.Second},
		"it does not fit and must wait": {err: errNoRoom, after: time.Second},
	} {
		b := newBench(nil)
		q := newWaiting(b)
		q.err = c.err
		r := async("x")
		r.SendAfter = c.after
		_, err := b.Deliver(t.Context(), r)
		wantCode(t, err, fault.CodeOf(c.err))
		if _, known, err := b.Records.Get(t.Context(), key); known || err != nil || b.sink.sent != 0 {
			t.Errorf("%s: a record stays (%v), after %d sends", name, err, b.sink.sent)
		}
		q.err = nil
		a, err := b.Deliver(t.Context(), async("other content"))
		wantAnswer(t, name+", other content under its id", a, err, delivery.StatusAccepted)
	}
}

func TestWhatDoesNotFitIntoTheQueueIsSentAtOnce(t *testing.T) {
	b := newBench(nil)
	newWaiting(b).err = errNoRoom
	a, err := b.Deliver(t.Context(), async("x"))
	wantAnswer(t, "too large", a, err, delivery.StatusDelivered)
	if rec := b.status(t); rec.Status != delivery.StatusDelivered || b.sink.sent != 1 {
		t.Errorf("record %+v after %d sends", rec, b.sink.sent)
	}
}

// A queue that was silent may have it: it is not forgotten, and whatever comes next finds it.
func TestWhatTheQueueMayHaveIsLeft(t *testing.T) {
	for name, next := range map[string]func(t *testing.T, b *bench, q *waiting){
		"repeated": func(t *testing.T, b *bench, q *waiting) {
			a, err := b.Deliver(t.Context(), async("x"))
			wantAnswer(t, "repeated", a, err, delivery.StatusAccepted)
			if len(q.got) != 2 {
				t.Errorf("put %d times, want it put again", len(q.got))
			}
		},
		"repeated with other content": func(t *testing.T, b *bench, _ *waiting) {
			_, err := b.Deliver(t.Context(), async("y"))
			wantCode(t, err, fault.CodeIDReused)
		},
		"its message comes": func(t *testing.T, b *bench, q *waiting) {
			r := arrived(q.got[0].AcceptedAt)
			a, err := b.Deliver(t.Context(), r)
			wantAnswer(t, "the message", a, err, delivery.StatusDelivered)
			if rec := b.status(t); rec.Unanswered != 0 || !rec.AcceptedAt.Equal(r.AcceptedAt) {
				t.Errorf("record %+v, want nothing unanswered, and accepted at %s", rec, r.AcceptedAt)
			}
		},
		"canceled": func(t *testing.T, b *bench, q *waiting) {
			got, err := b.canceler(nil).Cancel(t.Context(), key)
			if want := (delivery.Cancellation{Status: delivery.StatusCanceled, DeliveryID: key.ID, Known: true}); err != nil || got != want {
				t.Errorf("%+v, %v; want %+v", got, err, want)
			}
			a, err := b.Deliver(t.Context(), arrived(q.got[0].AcceptedAt))
			wantAnswer(t, "its message comes all the same", a, err, delivery.StatusCanceled)
			if b.sink.sent != 0 {
				t.Error("sent what was canceled")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(nil)
			q := newWaiting(b)
			q.err = errNoReply
			_, err := b.Deliver(t.Context(), async("x"))
			wantCode(t, err, fault.CodeQueueUnavailable)
			if rec := b.status(t); rec.Status != delivery.StatusAccepting || rec.LeasedUntil.After(time.Now()) {
				t.Fatalf("record %+v, want it accepting, and nobody's", rec)
			}
			q.err = nil
			next(t, b, q)
		})
	}
}

func TestARecordThatIsAwayKeepsNothingFromBeingAccepted(t *testing.T) {
	b := newBench(nil)
	q := newWaiting(b)
	b.Records = brokenRecords{b.Records}
	a, err := b.Deliver(t.Context(), async("x"))
	wantAnswer(t, "without records", a, err, delivery.StatusAccepted)
	if len(q.got) != 1 || b.sink.sent != 0 || b.unguarded.Load() == 0 {
		t.Errorf("put %d times, sent %d times, %d unguarded; want it put once, and counted", len(q.got), b.sink.sent, b.unguarded.Load())
	}
}

func TestSendAfterIsRoundedUpToSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for asked, want := range map[time.Duration]time.Duration{
			1: time.Second, time.Second: time.Second, time.Second + 1: 2 * time.Second, 1500 * time.Millisecond: 2 * time.Second,
			delivery.MaxSendAfter - 1: delivery.MaxSendAfter, delivery.MaxSendAfter: delivery.MaxSendAfter,
		} {
			b := newBench(nil)
			q := newWaiting(b)
			r := ask(key.ID, "x")
			r.SendAfter = asked
			a, err := b.Deliver(t.Context(), r)
			wantAnswer(t, asked.String(), a, err, delivery.StatusAccepted)
			if end := time.Now().Add(want); q.got[0].SendAfter != want || !a.NotBefore.Equal(end) || !q.got[0].NotBefore.Equal(end) {
				t.Errorf("%s: queued for %s until %s, and told %s; want %s", asked, q.got[0].SendAfter, q.got[0].NotBefore, a.NotBefore, want)
			}
		}
		b := newBench(nil)
		newWaiting(b)
		r := ask(key.ID, "x")
		r.SendAfter = delivery.MaxSendAfter + 1
		_, err := b.Deliver(t.Context(), r)
		wantCode(t, err, fault.CodeInvalidArgument)
	})
}

// Whoever puts it into the queue again asks for other times, and a sink may have another max_age by
// then: those that were accepted first count.
func TestTheFirstAcceptanceCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(nil)
		b.configure(func(t *delivery.Target) { t.MaxAge = time.Hour })
		q := newWaiting(b)
		q.err = errNoReply
		r := async("x")
		r.SendAfter = 10 * time.Second
		_, err := b.Deliver(t.Context(), r)
		wantCode(t, err, fault.CodeQueueUnavailable)
		began := time.Now()
		pass(time.Minute)
		q.err, r.SendAfter = nil, 20*time.Second
		a, err := b.Deliver(t.Context(), r)
		wantAnswer(t, "again", a, err, delivery.StatusAccepted)
		for _, got := range []delivery.Request{q.got[0].Request, q.got[1].Request} {
			if !got.AcceptedAt.Equal(began) || !got.NotBefore.Equal(began.Add(10*time.Second)) || !got.ExpiresAt.Equal(began.Add(time.Hour)) {
				t.Errorf("queued: accepted at %s, not before %s, expires %s; want the first times", got.AcceptedAt, got.NotBefore, got.ExpiresAt)
			}
		}
		rec := b.status(t)
		if !a.NotBefore.Equal(began.Add(10*time.Second)) || !rec.AcceptedAt.Equal(began) || !rec.NotBefore.Equal(a.NotBefore) || !rec.ExpiresAt.Equal(began.Add(time.Hour)) {
			t.Errorf("told %s, record %+v; want the first times", a.NotBefore, rec)
		}
	})
}

// Its caller asks again once its time is over: the record answers, for it was in time.
func TestADuplicateIsAnsweredThoughItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(nil)
		r := ask(key.ID, "x")
		r.ExpiresAt = time.Now().Add(time.Minute)
		a, err := b.Deliver(t.Context(), r)
		wantAnswer(t, "in time", a, err, delivery.StatusDelivered)
		pass(time.Minute)
		a, err = b.Deliver(t.Context(), r)
		wantAnswer(t, "again", a, err, delivery.StatusDelivered)
		if !a.Duplicate || b.sink.sent != 1 {
			t.Errorf("%+v after %d sends", a, b.sink.sent)
		}
		r.ID = "m-2"
		_, err = b.Deliver(t.Context(), r)
		wantCode(t, err, fault.CodeInvalidArgument)
		if _, known, err := b.Records.Get(t.Context(), delivery.Key{Sink: "ops", ID: "m-2"}); known || err != nil {
			t.Errorf("a request that came too late left a record (%v)", err)
		}
	})
}

// noteless cannot be asked for notes of cancellations.
type noteless struct{ dlq.Store }

func (noteless) Canceled(context.Context, string, string) (bool, error) {
	return false, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "away"}
}

func (b *bench) note(t *testing.T) {
	t.Helper()
	if _, err := b.queue.ClaimDelivery(t.Context(), dlq.DeliveryClaim{Sink: key.Sink, DeliveryID: key.ID, Token: "canceler", TTL: lease, Note: time.Hour}); err != nil {
		t.Fatal(err)
	}
}

// comes begins with the message of the queue, and dies.
func (b *bench) comes(t *testing.T) {
	t.Helper()
	begin := delivery.Begin{Key: key, Fingerprint: dlq.ContentFingerprint(nil, "", "x", nil), Token: "dead", Queued: true, AcceptedAt: time.Now()}
	if state, _, err := b.Records.Begin(t.Context(), begin); err != nil || state != delivery.StateUnknown {
		t.Fatalf("%v, %v", state, err)
	}
}

func TestWhatAMessageOfTheQueueStarts(t *testing.T) {
	now := func(*testing.T, *bench) {}
	for name, c := range map[string]struct {
		age  time.Duration // of the message
		set  func(*testing.T, *bench)
		want delivery.Status // empty: it is handed back
		code fault.Code
		sent int
		left delivery.Status // of the record
		why  dlq.Reason
	}{
		"it is being accepted":           {set: func(t *testing.T, b *bench) { b.starts(t, true, lease) }, want: delivery.StatusDelivered, sent: 1, left: delivery.StatusDelivered},
		"its acceptor died":              {set: func(t *testing.T, b *bench) { b.starts(t, true, 0) }, want: delivery.StatusDelivered, sent: 1, left: delivery.StatusDelivered},
		"it is accepted":                 {set: func(t *testing.T, b *bench) { b.starts(t, true, lease); b.ends(t, delivery.StatusAccepted) }, want: delivery.StatusDelivered, sent: 1, left: delivery.StatusDelivered},
		"it is being sent":               {set: func(t *testing.T, b *bench) { b.starts(t, false, lease) }, code: fault.CodeDeliveryInProgress, left: delivery.StatusInProgress},
		"its sender died":                {set: func(t *testing.T, b *bench) { b.starts(t, false, 0) }, want: delivery.StatusDelivered, sent: 1, left: delivery.StatusDelivered},
		"it was delivered":               {set: func(t *testing.T, b *bench) { b.starts(t, false, lease); b.ends(t, delivery.StatusDelivered) }, want: delivery.StatusDelivered, left: delivery.StatusDelivered},
		"it was canceled":                {set: func(t *testing.T, b *bench) { b.cancels(t) }, want: delivery.StatusCanceled, left: delivery.StatusCanceled},
		"its record is gone":             {set: now, want: delivery.StatusDelivered, sent: 1, left: delivery.StatusDelivered},
		"its record is gone, a note not": {set: func(t *testing.T, b *bench) { b.note(t) }, want: delivery.StatusCanceled},
		"its record is gone, and it old": {age: delivery.LongestWait + time.Second, set: now, want: delivery.StatusDeadLettered, why: dlq.ReasonInvalid, left: delivery.StatusDeadLettered},
		"old and noted":                  {age: delivery.LongestWait + time.Second, set: func(t *testing.T, b *bench) { b.note(t) }, want: delivery.StatusCanceled},
		"just not too old":               {age: delivery.LongestWait - time.Hour, set: now, want: delivery.StatusDelivered, sent: 1, left: delivery.StatusDelivered},
		"its record cannot be read":      {set: func(_ *testing.T, b *bench) { b.Records = brokenRecords{b.Records} }, code: fault.CodeDLQUnavailable},
		"the notes cannot be read":       {set: func(_ *testing.T, b *bench) { b.Queue = noteless{b.queue} }, code: fault.CodeDLQUnavailable, left: delivery.StatusInProgress},
		"nor have they to be: its record": {set: func(t *testing.T, b *bench) {
			b.starts(t, true, lease)
			b.ends(t, delivery.StatusAccepted)
			b.Queue = noteless{b.queue}
		}, want: delivery.StatusDelivered, sent: 1, left: delivery.StatusDelivered},
		// It was canceled, and its record is gone: what others began with it since proves nothing.
		"noted, and somebody accepts it again":             {set: func(t *testing.T, b *bench) { b.note(t); b.starts(t, true, lease) }, want: delivery.StatusCanceled},
		"noted, and who would accept it again died":        {set: func(t *testing.T, b *bench) { b.note(t); b.starts(t, true, 0) }, want: delivery.StatusCanceled},
		"noted, and who got it from the queue before died": {set: func(t *testing.T, b *bench) { b.note(t); b.comes(t) }, want: delivery.StatusCanceled},
		"noted, and the notes could not be read before": {set: func(t *testing.T, b *bench) {
			b.note(t)
			b.Queue = noteless{b.queue}
			if _, err := b.Deliver(t.Context(), arrived(time.Now())); fault.CodeOf(err) != fault.CodeDLQUnavailable {
				t.Fatal(err)
			}
			b.Queue = b.queue
		}, want: delivery.StatusCanceled},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(nil)
			records := b.Records
			c.set(t, b)
			a, err := b.Deliver(t.Context(), arrived(time.Now().Add(-c.age)))
			wantCode(t, err, c.code)
			if a.Status != c.want && err == nil || b.sink.sent != c.sent || a.Reason != c.why {
				t.Errorf("%+v, %v after %d sends; want %q %s after %d", a, err, b.sink.sent, c.want, c.why, c.sent)
			}
			b.Records = records
			if rec := b.status(t); rec.Status != c.left {
				t.Errorf("the record is %q, want %q", rec.Status, c.left)
			}
		})
	}
}

func (b *bench) cancels(t *testing.T) delivery.Cancellation {
	t.Helper()
	got, err := b.canceler(nil).Cancel(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// A record may have said that it is canceled, and be gone: the note says so to whoever asks for it to be
// accepted.
func TestWhatIsNotedAsCanceledIsNotAccepted(t *testing.T) {
	b := newBench(nil)
	q := newWaiting(b)
	b.note(t)
	a, err := b.Deliver(t.Context(), async("x"))
	wantAnswer(t, "noted", a, err, delivery.StatusCanceled)
	if _, known, _ := b.Records.Get(t.Context(), key); known || len(q.got) != 0 {
		t.Errorf("put %d times, record kept: %v; want nothing", len(q.got), known)
	}
	b = newBench(nil)
	q = newWaiting(b)
	b.Queue = noteless{b.queue}
	_, err = b.Deliver(t.Context(), async("x"))
	wantCode(t, err, fault.CodeDLQUnavailable)
	if _, known, _ := b.Records.Get(t.Context(), key); known || len(q.got) != 0 {
		t.Errorf("the notes are away: put %d times, record kept: %v; want nothing", len(q.got), known)
	}
}

func TestAMessageThatComesEarlyWaitsOrGoesBack(t *testing.T) {
	for early, want := range map[time.Duration]struct {
		waits time.Duration
		code  fault.Code
	}{
		-time.Hour:                {},
		0:                         {},
		time.Millisecond:          {waits: time.Millisecond},
		2 * time.Second:           {waits: 2 * time.Second},
		2*time.Second + 1:         {code: fault.CodeNotAttempted},
		time.Hour:                 {code: fault.CodeNotAttempted},
		1999 * time.Millisecond:   {waits: 1999 * time.Millisecond},
		14 * 24 * time.Hour:       {code: fault.CodeNotAttempted},
		-14 * 24 * time.Hour:      {},
		2*time.Second + time.Hour: {code: fault.CodeNotAttempted},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(nil)
			began := time.Now()
			r := arrived(began)
			r.NotBefore = began.Add(early)
			_, err := b.Deliver(t.Context(), r)
			wantCode(t, err, want.code)
			if sent := b.sink.sent == 1; time.Since(began) != want.waits || sent != (want.code == "") {
				t.Errorf("%s early: sent %v after %s; want it after %s, or handed back", early, sent, time.Since(began), want.waits)
			}
		})
	}
}

// deduplicates is a sink that knows messages again, so that what may have arrived is sent again.
type deduplicates struct{ *fakeSink }

func (deduplicates) Deduplicates() bool { return true }

var (
	errDown   = sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
	errSilent = sinks.Ambiguous(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no answer"})
)

// holds makes failures that may pass go back to the queue, after one answer each.
func (b *bench) holds(answers ...error) {
	b.configure(func(t *delivery.Target) {
		t.Hold, t.Sink, t.Retry.NoJitter = true, deduplicates{b.sink}, true
	})
	b.sink.during = func() { b.sink.err = answers[min(b.sink.sent, len(answers))-1] }
}

func TestAMessageThatGoesBackIsAcceptedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(nil)
		b.holds(errDown)
		accepted := time.Now()
		for n := range 2 {
			_, err := b.Deliver(t.Context(), arrived(accepted))
			wantCode(t, err, fault.CodeSinkUnavailable)
			if rec := b.status(t); rec.Status != delivery.StatusAccepted || rec.Attempts != 2*(n+1) || rec.Unanswered != 0 || !rec.AcceptedAt.Equal(accepted) {
				t.Errorf("handed back %d times: %+v; want it accepted, with %d attempts", n+1, rec, 2*(n+1))
			}
		}
		want := delivery.Cancellation{Status: delivery.StatusCanceled, DeliveryID: key.ID, Known: true, Attempts: 4}
		if got := b.cancels(t); got != want {
			t.Errorf("canceled: %+v, want %+v", got, want)
		}
	})
}

// A canceler is told that it may have arrived if somebody sent it and nobody answered, and not
// otherwise.
func TestWhoCancelsIsToldWhatMayHaveArrived(t *testing.T) {
	held := func(r delivery.Request, answers ...error) func(*testing.T, *bench) {
		return func(t *testing.T, b *bench) {
			b.holds(answers...)
			_, err := b.Deliver(t.Context(), r)
			wantCode(t, err, fault.CodeSinkUnavailable)
		}
	}
	again := ask(key.ID, "x")
	again.ComesAgain = true
	kept := func(answers ...error) func(*testing.T, *bench) {
		return func(t *testing.T, b *bench) {
			b.holds(answers...)
			a, err := b.Deliver(t.Context(), ask(key.ID, "x"))
			wantAnswer(t, "sent", a, err, delivery.StatusDeadLettered)
		}
	}
	letter := func(it dlq.Item) func(*testing.T, *bench) {
		it.Sink, it.DeliveryID, it.Message = key.Sink, key.ID, sinks.Message{ID: key.ID, Body: "x"}
		return func(t *testing.T, b *bench) { push(t, b, it) }
	}
	for name, c := range map[string]struct {
		set      func(*testing.T, *bench)
		may      bool
		attempts int
		unknown  bool
	}{
		"nothing is known of it":                   {set: func(*testing.T, *bench) {}, unknown: true},
		"it waits":                                 {set: func(t *testing.T, b *bench) { b.starts(t, true, 0); b.ends(t, delivery.StatusAccepted) }},
		"its acceptor died":                        {set: func(t *testing.T, b *bench) { b.starts(t, true, 0) }},
		"its sender died":                          {set: func(t *testing.T, b *bench) { b.starts(t, false, 0) }, may: true},
		"handed back, answered":                    {set: held(again, errDown), unknown: true},
		"handed back, one without an answer":       {set: held(again, errSilent, errDown), may: true, attempts: 2},
		"back in the queue, answered":              {set: held(arrived(time.Now()), errDown), attempts: 2},
		"back in the queue, one without an answer": {set: held(arrived(time.Now()), errSilent, errDown), may: true, attempts: 2},
		"dead-lettered, answered":                  {set: kept(errDown), attempts: 2},
		"dead-lettered, without an answer":         {set: kept(errDown, errSilent), may: true, attempts: 2},
		"dead-lettered, answered at last":          {set: kept(errSilent, errDown), may: true, attempts: 2},
		"a dead letter alone":                      {set: letter(dlq.Item{Reason: dlq.ReasonExhausted, Attempts: 2}), attempts: 2},
		"a dead letter alone, ambiguous":           {set: letter(dlq.Item{Reason: dlq.ReasonAmbiguous, Attempts: 2}), may: true, attempts: 2},
		"a dead letter alone, one without answer":  {set: letter(dlq.Item{Reason: dlq.ReasonExpired, Attempts: 2, Unanswered: 1}), may: true, attempts: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(nil)
				c.set(t, b)
				want := delivery.Cancellation{Status: delivery.StatusCanceled, DeliveryID: key.ID, Known: !c.unknown, Attempts: c.attempts, MayHaveArrived: c.may}
				if got := b.cancels(t); got != want {
					t.Errorf("%+v, want %+v", got, want)
				}
			})
		})
	}
}

// A queue of the embedder's own that panics, or ends its goroutine, leaves the record as a caller does
// that died: it may have taken the request.
func TestAQueueThatPanicsMayHaveTakenIt(t *testing.T) {
	for name, during := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(nil)
				q := newWaiting(b)
				q.during = during
				err := errors.New("the goroutine ended")
				var wg sync.WaitGroup
				wg.Go(func() { _, err = b.Deliver(t.Context(), async("x")) })
				wg.Wait()
				if name == "panic" {
					wantCode(t, err, fault.CodeInternal)
					if strings.Contains(err.Error(), "boom") {
						t.Errorf("the caller is told of the inside: %v", err)
					}
				}
				q.during = nil
				_, err = b.Deliver(t.Context(), async("x"))
				wantCode(t, err, fault.CodeDeliveryInProgress)
				pass(time.Until(b.status(t).LeasedUntil))
				a, err := b.Deliver(t.Context(), async("x"))
				wantAnswer(t, "after its lease", a, err, delivery.StatusAccepted)
				if len(q.got) != 2 {
					t.Errorf("put %d times, want it put again", len(q.got))
				}
			})
		})
	}
}

// owesEvent leaves an event of the delivery to whoever comes later.
func owesEvent(t *testing.T, s delivery.Store) {
	t.Helper()
	err := s.Owe(t.Context(), delivery.Record{Sink: key.Sink, ID: key.ID, Status: delivery.StatusDelivered, Pending: []delivery.PendingEvent{{ID: "e", To: "audit"}}})
	if err != nil {
		t.Fatal(err)
	}
}

// Only messages that may still come, and events that are owed, need long records; of what is finished, duplicates are answered for
// the usual time.
func TestARecordIsKeptForAsLongAsItIsNeeded(t *testing.T) {
	long, short := delivery.LongestWait, time.Hour
	for name, c := range map[string]struct {
		situation string
		then      func(t *testing.T, s delivery.Store)
		want      time.Duration
	}{
		"accepting":     {situation: "accepting", want: long},
		"accepted":      {situation: "accepted", want: long},
		"canceled":      {situation: "canceled", want: long},
		"delivered":     {situation: "delivered", want: short},
		"dead_lettered": {situation: "dead_lettered", want: short},
		"expired":       {situation: "expired", want: short},
		"discarded":     {situation: "discarded", want: short},
		"accepted, and sent": {situation: "accepted", want: long, then: func(t *testing.T, s delivery.Store) {
			state, _, err := s.Begin(t.Context(), delivery.Begin{Key: key, Fingerprint: content, Token: "b", Lease: lease, Queued: true})
			if err != nil || state != delivery.StateStarted {
				t.Fatal(state, err)
			}
		}},
		"not accepted, and sent":           {situation: "none", want: short, then: func(t *testing.T, s delivery.Store) { begin(t, s, key, content, "b", lease) }},
		"nothing, and its event is owed":   {situation: "none", want: long, then: owesEvent},
		"delivered, and its event is owed": {situation: "delivered", want: long, then: owesEvent},
		"a cancellation undone, of a dead letter": {situation: "canceled", want: short, then: func(t *testing.T, s delivery.Store) {
			if err := s.Uncancel(t.Context(), key, "a"); err != nil {
				t.Fatal(err)
			}
		}},
		"a cancellation undone, of what was accepted": {situation: "accepted", want: long, then: func(t *testing.T, s delivery.Store) {
			if _, _, err := s.Cancel(t.Context(), key, "c", delivery.Record{}); err != nil {
				t.Fatal(err)
			}
			if err := s.Uncancel(t.Context(), key, "c"); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m, client := redistest.Mini(t)
			s := delivery.NewRedis(client, "p", short)
			situate(t, s, key, c.situation, "a", lease)
			if c.then != nil {
				c.then(t, s)
			}
			m.FastForward(c.want - time.Second)
			if _, known, err := s.Get(t.Context(), key); !known || err != nil {
				t.Errorf("gone before %s (%v)", c.want, err)
			}
			m.FastForward(2 * time.Second)
			if _, known, err := s.Get(t.Context(), key); known || err != nil {
				t.Errorf("it outlived %s (%v)", c.want, err)
			}
		})
	}
}
