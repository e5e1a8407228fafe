package delivery_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// stage is what the actors share.
type stage struct {
	records *delivery.Memory
	letters *dlq.Memory
	queue   []*delivery.Queued
	expires time.Time // zero: never
	// noted: a message of it may come once its record is gone, so that a cancellation leaves a note.
	noted bool
	// unguarded: a record that was away let a message out that could be canceled meanwhile. It
	// is the one case in which a cancellation may be missed.
	unguarded bool
	// blind: a dead letter could not be read, and what it stands for was sent for want of it.
	blind    bool
	told     []told
	replayed []error
	statuses []delivery.Status // of the record, one after the other
}

// told is what the caller of a Sender was told.
type told struct {
	by     string
	answer delivery.Answer
	err    error
}

var errAway = errors.New("nobody answers")

// recordsOf are the records as an actor reaches them.
type recordsOf struct {
	*delivery.Memory
	a *actor
}

func lostRecord(mode) error { return errAway }

func lostLetter(mode) error {
	return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "nobody answers", Cause: errAway}
}

// record makes a call of the records, and holds what it does against the rules.
func record[T any](r recordsOf, name string, do func() (T, error), modes ...mode) (T, error) {
	return through(r.a, records, name, lostRecord, func() (T, error) {
		v, err := do()
		r.a.w.watch(name)
		return v, err
	}, modes...)
}

var losses = []mode{again, silent, away, dying}

type begun struct {
	state delivery.State
	rec   delivery.Record
}

func (r recordsOf) Begin(ctx context.Context, b delivery.Begin) (delivery.State, delivery.Record, error) {
	name := "Begin"
	if b.Untrue != nil {
		name = "Begin untrue"
	}
	got, err := record(r, name, func() (begun, error) {
		state, rec, err := r.Memory.Begin(ctx, b)
		return begun{state, rec}, err
	}, losses...)
	if err != nil && !b.Queued {
		r.a.w.unguarded = true
	}
	return got.state, got.rec, err
}

type finishedAs struct {
	found   delivery.Record
	written bool
}

func (r recordsOf) Finish(ctx context.Context, k delivery.Key, token string, rec delivery.Record) (delivery.Record, bool, error) {
	got, err := record(r, "Finish", func() (finishedAs, error) {
		found, written, err := r.Memory.Finish(ctx, k, token, rec)
		return finishedAs{found, written}, err
	}, losses...)
	return got.found, got.written, err
}

func (r recordsOf) HandBack(ctx context.Context, k delivery.Key, token string, how delivery.Back, rec delivery.Record) error {
	_, err := record(r, "HandBack "+string(how), func() (any, error) { return nil, r.Memory.HandBack(ctx, k, token, how, rec) }, losses...)
	return err
}

func (r recordsOf) Update(ctx context.Context, changes ...delivery.Change) ([]delivery.Status, error) {
	got, err := record(r, "Update", func() ([]delivery.Status, error) { return r.Memory.Update(ctx, changes...) }, losses...)
	if err != nil && r.a.w.cancelers() > 1 {
		// A replay could not note that it delivered. Of two cancellations at once, only the first
		// is told then that it may have arrived.
		r.a.w.unguarded = true
	}
	return got, err
}

func (r recordsOf) Cancel(ctx context.Context, k delivery.Key, token string, seen delivery.Record) (delivery.State, delivery.Record, error) {
	got, err := record(r, "Cancel", func() (begun, error) {
		state, rec, err := r.Memory.Cancel(ctx, k, token, seen)
		return begun{state, rec}, err
	}, losses...)
	return got.state, got.rec, err
}

func (r recordsOf) Uncancel(ctx context.Context, k delivery.Key, token string) error {
	_, err := record(r, "Uncancel", func() (any, error) { return nil, r.Memory.Uncancel(ctx, k, token) }, losses...)
	return err
}

// lettersOf is the dead-letter queue as an actor reaches it.
type lettersOf struct {
	*dlq.Memory
	a *actor
}

func letter[T any](l lettersOf, name string, do func() (T, error)) (T, error) {
	return through(l.a, letters, name, lostLetter, do, losses...)
}

func (l lettersOf) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	return letter(l, "Add", func() (dlq.Item, error) { return l.Memory.Add(ctx, it) })
}

func (l lettersOf) Discard(ctx context.Context, id string) error {
	_, err := letter(l, "Discard", func() (any, error) { return nil, l.Memory.Discard(ctx, id) })
	return err
}

func (l lettersOf) Get(ctx context.Context, id string) (dlq.Item, error) {
	it, err := letter(l, "Get", func() (dlq.Item, error) { return l.Memory.Get(ctx, id) })
	l.a.w.blind = l.a.w.blind || fault.CodeOf(err) == fault.CodeDLQUnavailable
	return it, err
}

func (l lettersOf) Find(ctx context.Context, sink, id, fingerprint string) (dlq.Item, error) {
	it, err := letter(l, "Find", func() (dlq.Item, error) { return l.Memory.Find(ctx, sink, id, fingerprint) })
	l.a.w.blind = l.a.w.blind || fault.CodeOf(err) == fault.CodeDLQUnavailable
	return it, err
}

func (l lettersOf) Claim(ctx context.Context, c dlq.Claim) ([]dlq.Leased, error) {
	return letter(l, "Claim", func() ([]dlq.Leased, error) { return l.Memory.Claim(ctx, c) })
}

func (l lettersOf) Begin(ctx context.Context, lease dlq.Lease) (bool, error) {
	return letter(l, "Begin letter", func() (bool, error) { return l.Memory.Begin(ctx, lease) })
}

func (l lettersOf) Settle(ctx context.Context, s []dlq.Settlement) ([]dlq.SettleResult, error) {
	return letter(l, "Settle "+string(s[0].Action), func() ([]dlq.SettleResult, error) { return l.Memory.Settle(ctx, s) })
}

func (l lettersOf) Release(ctx context.Context, leases []dlq.Lease) error {
	_, err := letter(l, "Release", func() (any, error) { return nil, l.Memory.Release(ctx, leases) })
	return err
}

func (l lettersOf) ClaimDelivery(ctx context.Context, c dlq.DeliveryClaim) ([]dlq.Leased, error) {
	leased, err := letter(l, "ClaimDelivery", func() ([]dlq.Leased, error) { return l.Memory.ClaimDelivery(ctx, c) })
	if fault.CodeOf(err) == fault.CodeDLQUnavailable && l.a.w.cancelers() > 1 {
		l.a.w.noted = false // it may take the note of the other one away (Canceler.undo)
	}
	return leased, err
}

func (l lettersOf) Canceled(ctx context.Context, sink, id string) (bool, error) {
	return letter(l, "Canceled", func() (bool, error) { return l.Memory.Canceled(ctx, sink, id) })
}

func (l lettersOf) Uncancel(ctx context.Context, sink, id string) error {
	_, err := letter(l, "Uncancel note", func() (any, error) { return nil, l.Memory.Uncancel(ctx, sink, id) })
	return err
}

// requestsOf is the queue for later as an actor reaches it.
type requestsOf struct{ a *actor }

func (requestsOf) FIFO() bool { return false }

func (r requestsOf) Put(_ context.Context, q delivery.Queued) error {
	_, err := through(r.a, requests, "Put", func(m mode) error {
		err := &fault.Error{Code: fault.CodeQueueUnavailable, Msg: "nobody answers", Cause: errAway}
		if m == refusing {
			err.Cause = delivery.ErrNotQueued
		}
		return err
	}, func() (any, error) {
		q.Budget, q.Async = retry.Budget{}, false
		q.Queued, q.KeepUnsendable, q.ComesAgain = true, true, true
		r.a.w.queue = append(r.a.w.queue, &q)
		return nil, nil
	}, again, silent, away, refusing, dying)
	return err
}

// sent is one Send call, from when it begins to its answer.
type sent struct {
	by   string
	mode mode // how it ended; empty: it is under way
}

// arrived reports whether the receiver has the message, for certain or perhaps.
func (s *sent) arrived() bool { return s.mode != refusing }

// receiver is the sink as an actor reaches it.
type receiver struct{ a *actor }

func (receiver) Name() string { return "ops" }

func (r receiver) EndsWithContext(called sinks.Sink) bool { return called == sinks.Sink(r) }

func (r receiver) Send(ctx context.Context, _ sinks.Recipient, _ sinks.Message) error {
	s := r.a.w.begins(r.a)
	m := r.a.take(everything, "Send", onward, refusing, ambiguous, dying)
	if r.a.free && r.a.sends != "" {
		m = r.a.sends
	}
	if ctx.Err() != nil && m != dying {
		m = ambiguous
	}
	s.mode = m
	switch m {
	case refusing:
		return sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 404"})
	case ambiguous:
		return sinks.Ambiguous(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no answer"})
	case dying:
		r.a.die()
	}
	return nil
}

// Unguarded implements delivery.Observer.
func (w *world) Unguarded(string) {}

func (a *actor) targets() targets {
	return targets{"ops": {Sink: receiver{a}, Retry: retry.Config{MaxAttempts: 1, NoJitter: true}}}
}

func (a *actor) sender() *delivery.Sender {
	return &delivery.Sender{
		Targets: a.targets(), Queue: lettersOf{a.w.letters, a}, Records: recordsOf{a.w.records, a}, Requests: requestsOf{a},
		Observer: a.w, Log: slog.New(slog.DiscardHandler),
	}
}

// within is the context of an invocation that begins now.
func (a *actor) within(do func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), 29*time.Second)
	defer cancel()
	do(ctx)
}

func (w *world) request() delivery.Request {
	r := ask(key.ID, "x")
	r.ExpiresAt = w.expires
	return r
}

// The actors.

// accepts asks to be answered at once.
func accepts(a *actor) {
	a.within(func(ctx context.Context) {
		r := a.w.request()
		r.Async = true
		answer, err := a.sender().Deliver(ctx, r)
		a.w.tell(a, answer, err)
	})
}

// delivers sends it at once.
func delivers(a *actor) {
	a.within(func(ctx context.Context) {
		answer, err := a.sender().Deliver(ctx, a.w.request())
		a.w.tell(a, answer, err)
	})
}

// receives takes a message out of the queue for later, and off it once it is safe.
func receives(a *actor) {
	m := a.w.queue[0]
	a.within(func(ctx context.Context) {
		answer, err := a.sender().Deliver(ctx, m.Request)
		a.w.tell(a, answer, err)
		if err == nil && a.take(requests, "delete", onward, away) == onward {
			a.w.queue = slices.DeleteFunc(a.w.queue, func(other *delivery.Queued) bool { return other == m })
		}
	})
}

// cancels takes the delivery back.
func cancels(a *actor) {
	a.within(func(ctx context.Context) {
		asked := &cancel{by: a.name}
		a.w.asked = append(a.w.asked, asked)
		c := &delivery.Canceler{Records: recordsOf{a.w.records, a}, Letters: lettersOf{a.w.letters, a}, Log: slog.New(slog.DiscardHandler)}
		got, err := c.Cancel(ctx, key)
		a.take(everything, "is told", onward)
		asked.told, asked.got, asked.err = true, got, err
		a.w.canceled(asked)
	})
}

// replays sends a dead letter again, as an operator does.
func replays(a *actor) {
	items, err := a.w.letters.Items(context.Background(), "ops", 1)
	if err != nil || len(items) == 0 {
		return
	}
	a.within(func(ctx context.Context) {
		_, err := a.engine().ReplayOne(ctx, items[0].ID, replay.OneOptions{})
		a.w.replayed = append(a.w.replayed, err)
	})
}

func (a *actor) engine() *replay.Engine {
	return &replay.Engine{
		Store: lettersOf{a.w.letters, a}, Targets: a.targets(), Records: recordsOf{a.w.records, a}, Log: slog.New(slog.DiscardHandler),
		Rand: func() float64 { return 0.5 },
	}
}
