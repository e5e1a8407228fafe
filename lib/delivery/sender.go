package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Sender delivers requests. Its fields are set before its first use and never changed;
// then it is safe for concurrent use.
type Sender struct {
	// Targets finds the sinks. Required.
	Targets Targets
	// Queue keeps what cannot be delivered. Required.
	Queue Queue
	// Records remembers deliveries. Required.
	Records Store
	// Gate is asked before every attempt (see retry.Retrier.Gate). Nil: nobody is.
	Gate retry.Gate
	// Paused says whether an operator has paused a sink: its deliveries are dead-lettered
	// without an attempt. Nil: none is.
	Paused func(ctx context.Context, sink string) bool
	// Observer is told of deliveries without a record. Nil: nobody is.
	Observer Observer
	// Log gets what no answer tells: panics, and records and dead letters that could not be
	// used or removed. Nil: slog.Default.
	Log *slog.Logger
	// Reserve is the time kept before the deadline for the dead-letter write and the answer
	// (see retry.Budget). Zero: retry.DefaultReserve.
	Reserve time.Duration
	// MaxBytes bounds what is taken of a request, in bytes: subject, body, metadata and
	// recipient together. Zero: DefaultMaxBytes.
	MaxBytes int
}

// Queue keeps dead letters; a dlq.Store is one.
type Queue interface {
	dlq.DLQ
	// Find is that of dlq.Letters.
	Find(ctx context.Context, sink, deliveryID, fingerprint string) (dlq.Item, error)
	// Get is that of dlq.Letters.
	Get(ctx context.Context, id string) (dlq.Item, error)
}

// Observer counts what no answer tells. It is called from many goroutines at once.
type Observer interface {
	// Unguarded is called each time that the record of a delivery through sink could not be
	// read or written.
	Unguarded(sink string)
}

func (s *Sender) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}

// Deliver decides the fate of one request: a nil error means that it is safe, and the
// Answer says how; any other that the caller still owns it, and then the Answer has the
// attempts that were made. It never panics.
//
// Errors are INVALID_ARGUMENT and BODY_TOO_LARGE for what can never be sent; NOT_ATTEMPTED
// when no time is left; DELIVERY_IN_PROGRESS; ID_REUSED; SINK_DLQ_OVERFLOW and
// SINK_DLQ_UNAVAILABLE for what failed and could not be kept; those of Targets; the last
// attempt's for what its queue hands out again (Target.Hold); INTERNAL for a defect.
func (s *Sender) Deliver(ctx context.Context, r Request) (a Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log().ErrorContext(ctx, "delivery panicked", "delivery_id", r.ID, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = &fault.Error{Code: fault.CodeInternal, Msg: "the delivery panicked; see the log"}
		}
	}()
	if err := errors.Join(fault.CheckName(r.Sink), fault.CheckID(r.ID)); err != nil {
		return Answer{}, err
	}
	if r.Budget.IsZero() {
		r.Budget = retry.NewBudget(ctx, s.Reserve)
	}
	if err := r.inTime(); err != nil {
		return Answer{}, err
	}
	target, err := s.Targets.Target(ctx, r.Sink)
	if err != nil {
		return Answer{}, err
	}
	plan, err := s.plan(ctx, target, r)
	if err != nil {
		return Answer{}, err
	}
	if plan.sends && r.Turn != nil {
		to := receiver{r.Sink, sinks.ReceiverOf(target.Sink, plan.to)}
		leave, waited, err := r.Turn.enter(ctx, r.Budget, to, target.Flow.Concurrency)
		if err != nil {
			return Answer{}, err
		}
		defer leave()
		if waited {
			if err := r.inTime(); err != nil {
				return Answer{}, err
			}
			if plan, err = s.plan(ctx, target, r); err != nil { // the sink may be paused by now
				return Answer{}, err
			}
		}
	}
	r.Budget = r.part()
	return s.once(retry.WithTrace(ctx, r.Trace), r, plan.carry)
}

// errPaused is why a delivery to a paused sink was not attempted. Its reason is config,
// which the schedule replays once the sink is resumed.
var errPaused = &fault.Error{Code: fault.CodeNotAttempted, Msg: "an operator has paused the sink"}

// heldBack picks the failures that hold up a message group: what the schedule would replay,
// after the successors.
func heldBack(reason dlq.Reason) bool { return reason.Due() }

// plan is how a request is handled.
type plan struct {
	carry func(context.Context, retry.Budget) retry.Outcome
	sends bool            // there are to be attempts
	to    sinks.Recipient // decoded
}

// plan decides how r is handled; an error refuses it.
func (s *Sender) plan(ctx context.Context, target Target, r Request) (plan, error) {
	retrier, d := s.retrier(target, r), r.delivery()
	deadLetter := func(reason dlq.Reason, why error) plan {
		return plan{carry: func(ctx context.Context, b retry.Budget) retry.Outcome {
			d.Budget = b
			return retrier.DeadLetter(ctx, d, reason, why)
		}}
	}
	if why := target.ConfigErr; why != nil {
		return deadLetter(dlq.ReasonConfig, why), nil
	}
	to, err := r.check(retrier, cmp.Or(s.MaxBytes, DefaultMaxBytes))
	switch {
	case err == nil && s.Paused != nil && s.Paused(ctx, r.Sink):
		return deadLetter(dlq.ReasonConfig, errPaused), nil
	case err == nil:
		d.To = to
		carry := func(ctx context.Context, b retry.Budget) retry.Outcome {
			d.Budget = b
			return retrier.Carry(ctx, d)
		}
		return plan{carry: carry, sends: true, to: to}, nil
	case r.KeepUnsendable:
		return deadLetter(dlq.ReasonInvalid, err), nil
	}
	return plan{}, err
}

// guard is a delivery's hold on its record.
type guard struct {
	key         Key
	token       string
	fingerprint string
	// unseen: a dead letter of it may wait all the same, or come: an earlier owner may be at
	// work still, or the queue could not be read.
	unseen bool
}

// once sends r unless its record says that it was, or is being, sent already. A record
// that cannot be read or written never stops a delivery: at-least-once is the promise,
// the record narrows duplicates.
func (s *Sender) once(ctx context.Context, r Request, send func(context.Context, retry.Budget) retry.Outcome) (Answer, error) {
	g := &guard{
		key: Key{Sink: r.Sink, ID: r.ID}, token: uuid.NewString(),
		fingerprint: dlq.ContentFingerprint(r.Recipient, r.Message.Subject, r.Message.Body, r.Message.Metadata),
	}
	if !r.Fresh {
		a, decided, err := s.begin(ctx, r.Budget, g)
		if decided {
			return a, err
		}
	}

	out := send(ctx, r.Budget)
	actx, cancel := r.Budget.AnswerContext(ctx)
	defer cancel()
	a := answerTo(out)
	if err := out.Error(); err != nil {
		s.handBack(actx, g, r.Fresh, err)
		return a, err
	}
	return s.finish(actx, g, a), nil
}

// handBack lets the delivery be sent again. Where only the store's answer may have been
// lost, the record stays, with a lease that is over: whoever comes next looks for the
// dead letter before sending.
func (s *Sender) handBack(ctx context.Context, g *guard, fresh bool, why error) {
	var err error
	switch {
	case fault.CodeOf(why) == fault.CodeDLQUnavailable:
		_, _, err = s.Records.Begin(ctx, g.key, g.fingerprint, g.token, 0)
	case !fresh:
		err = s.Records.Release(ctx, g.key, g.token)
	}
	s.unguarded(ctx, g.key, err)
}

// begin takes the delivery, or reports decided with what the caller gets instead.
func (s *Sender) begin(ctx context.Context, budget retry.Budget, g *guard) (a Answer, decided bool, err error) {
	bctx, cancel := context.WithTimeout(ctx, max(budget.Reserve/2, 50*time.Millisecond))
	defer cancel()
	state, found, err := s.Records.Begin(bctx, g.key, g.fingerprint, g.token, budget.Lease())
	if err == nil && state == StateFinished {
		if a, safe := s.repeat(bctx, g, found); safe {
			return a, true, nil
		}
		g.unseen = true
		state, found, err = s.Records.Reopen(bctx, g.key, g.fingerprint, g.token, budget.Lease(), found)
	}
	if err != nil {
		s.unguarded(ctx, g.key, err)
		return Answer{}, false, nil
	}
	switch state {
	case StateInProgress:
		return Answer{}, true, &fault.Error{Code: fault.CodeDeliveryInProgress, Msg: "this delivery is under way; ask again later"}
	case StateReused:
		return Answer{}, true, &fault.Error{Code: fault.CodeIDReused, Msg: fmt.Sprintf("id %q was used for another recipient or content", g.key.ID)}
	case StateFinished: // somebody was quicker with what is known to be gone
		a, decided = s.repeat(bctx, g, found)
		return a, decided, nil
	case StateTakenOver:
		g.unseen = true
		// Whoever had it may have stored the dead letter before it ended.
		it, err := s.Queue.Find(bctx, g.key.Sink, g.key.ID, g.fingerprint)
		if err != nil {
			if fault.CodeOf(err) != fault.CodeDLQNotFound {
				s.unguarded(ctx, g.key, err)
			}
			return Answer{}, false, nil
		}
		actx, cancel := budget.AnswerContext(ctx)
		defer cancel()
		a = s.finish(actx, g, answerOf(g.key, it))
		a.Duplicate = true
		return a, true, nil
	}
	return Answer{}, false, nil
}

// repeat answers a duplicate by the record of its delivery. It reports false when that
// says "dead-lettered" and there is no such dead letter, or none that can be read: then
// nothing shows that the delivery is safe.
func (s *Sender) repeat(ctx context.Context, g *guard, found Record) (a Answer, safe bool) {
	if found.Answer != "" {
		if err := json.Unmarshal([]byte(found.Answer), &a); err != nil {
			s.unguarded(ctx, g.key, fmt.Errorf("answer of the record: %w", err))
		}
	}
	switch found.Status {
	case StatusDelivered:
		a = Answer{Status: StatusDelivered, Attempts: a.Attempts}
	case StatusDiscarded:
		a = Answer{Status: StatusDiscarded, Attempts: a.Attempts}
	case StatusDeadLettered, StatusInProgress:
		it, err := s.letter(ctx, g, found.ItemID)
		if err != nil {
			if fault.CodeOf(err) != fault.CodeDLQNotFound {
				s.unguarded(ctx, g.key, err)
			}
			return Answer{}, false
		}
		if a.Status == "" || !it.DeliveredAt.IsZero() {
			a = answerOf(g.key, it)
		}
		if a.ItemID != "" {
			a.ItemID = it.ID
		}
	}
	a.DeliveryID, a.Duplicate = g.key.ID, true
	return a, true
}

// letter returns the dead letter that a record speaks of, under whatever id it is stored by
// now. An id alone proves nothing: what stands under it must be of this content.
func (s *Sender) letter(ctx context.Context, g *guard, id string) (dlq.Item, error) {
	if id != "" {
		it, err := s.Queue.Get(ctx, id)
		if err == nil && it.DecodeError == "" && it.DeliveryID == g.key.ID && FingerprintOf(it) == g.fingerprint {
			return it, nil
		}
		if err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound {
			return it, err
		}
	}
	return s.Queue.Find(ctx, g.key.Sink, g.key.ID, g.fingerprint)
}

// finish records the answer, so that a duplicate gets it again. Where the record has gone
// further meanwhile, it counts: no dead letter stays of what was delivered or discarded.
func (s *Sender) finish(ctx context.Context, g *guard, a Answer) Answer {
	b, err := json.Marshal(a)
	if err != nil {
		s.unguarded(ctx, g.key, err)
		return a
	}
	found, written, err := s.Records.Finish(ctx, g.key, g.token, Record{
		Sink: g.key.Sink, ID: g.key.ID, Status: a.Status, ItemID: a.ItemID, UpdatedAt: time.Now().UTC(),
		Answer: string(b), Fingerprint: g.fingerprint,
	})
	if err != nil {
		s.unguarded(ctx, g.key, err)
		return a
	}
	ours := found.Fingerprint == g.fingerprint
	switch {
	case !written && ours && (found.Status == StatusDelivered || found.Status == StatusDiscarded):
		s.withdraw(ctx, g, a.ItemID)
		if gone, safe := s.repeat(ctx, g, found); safe {
			gone.Trying, gone.Unanswered = a.Trying, a.Unanswered
			return gone
		}
	case written && a.Status == StatusDelivered && (g.unseen || ours && found.ItemID != ""):
		// An owner before may have stored it since it was looked for. From here on it reads the
		// record, and withdraws what it stores itself.
		s.withdraw(ctx, g, found.ItemID)
	}
	return a
}

// withdraw removes the dead letter, perhaps of this id, of a message that was delivered, or
// discarded, under its record by somebody else. One that stays may arrive twice, and the
// log says so.
func (s *Sender) withdraw(ctx context.Context, g *guard, id string) {
	it, err := s.letter(ctx, g, id)
	if err == nil && it.DeliveredAt.IsZero() {
		err = s.Queue.Discard(ctx, it.ID)
	}
	if err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound {
		s.unguarded(ctx, g.key, fmt.Errorf("dead letter of a finished delivery not removed: %w", err))
	}
}

// unguarded reports a record that could not be used; the delivery goes on without it.
func (s *Sender) unguarded(ctx context.Context, key Key, err error) {
	if err == nil {
		return
	}
	if s.Observer != nil {
		s.Observer.Unguarded(key.Sink)
	}
	s.log().WarnContext(ctx, "idempotency record not available", "delivery_id", key.ID, "sink", key.Sink, "error", err.Error())
}
