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
	// Requests takes what is accepted for later. Nil: nothing can be (see Request.Async and
	// Request.SendAfter).
	Requests RequestQueue
	// Gate is asked before every attempt (see retry.Retrier.Gate). Nil: nobody is.
	Gate retry.Gate
	// Paused says whether an operator has paused a sink: its deliveries are dead-lettered
	// without an attempt. Nil: none is.
	Paused func(ctx context.Context, sink string) bool
	// Events tells what became of deliveries, of sinks that have that told (Target.Events). Nil: no
	// fate is told.
	Events *Eventer
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
	// Canceled is that of dlq.Cancellations.
	Canceled(ctx context.Context, sink, deliveryID string) (bool, error)
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
// Errors are INVALID_ARGUMENT and BODY_TOO_LARGE for what can never be sent, or came too late;
// NOT_ATTEMPTED when no time is left, or it came too early; QUEUE_UNAVAILABLE when it could not be
// accepted for later; DELIVERY_IN_PROGRESS; ID_REUSED; SINK_DLQ_OVERFLOW and
// SINK_DLQ_UNAVAILABLE for what failed and could not be kept, and for what is safe but whose event
// could be neither sent nor kept (it may arrive twice); those of Targets; the last
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
	if err := r.inTime(); err != nil && !r.event {
		return Answer{}, err
	}
	target, err := s.Targets.Target(ctx, r.Sink)
	if err != nil && r.event { // its dead letter waits for the sink's configuration
		target, err = Target{ConfigErr: err}, nil
	}
	if err != nil {
		return Answer{}, err
	}
	if err := r.awaitTurn(ctx); err != nil {
		return Answer{}, err
	}
	r = r.dated(target, time.Now())
	p, err := s.plan(ctx, target, r)
	if err != nil {
		return Answer{}, err
	}
	if p.sends && !p.later && r.Turn != nil {
		to := receiver{r.Sink, sinks.ReceiverOf(target.Sink, p.to), sinks.RateKeyOf(target.Sink, p.to)}
		leave, waited, err := r.Turn.enter(ctx, r.Budget, to, target.Flow.Concurrency)
		if err != nil {
			return Answer{}, err
		}
		defer leave()
		if waited {
			if err := r.inTime(); err != nil {
				return Answer{}, err
			}
			if p, err = s.plan(ctx, target, r); err != nil { // the sink may be paused by now
				return Answer{}, err
			}
		}
	}
	r.Budget = r.part()
	return s.once(retry.WithTrace(ctx, r.Trace), r, p)
}

// errPaused is why a delivery to a paused sink was not attempted. Its reason is config,
// which the schedule replays once the sink is resumed.
var errPaused = &fault.Error{Code: fault.CodeNotAttempted, Msg: "an operator has paused the sink"}

// heldBack picks the failures that hold up a message group: what the schedule would replay,
// after the successors.
func heldBack(reason dlq.Reason) bool { return reason.Due() }

// plan is how a request is handled.
type plan struct {
	retrier *retry.Retrier
	events  Events          // which of its fates are told
	sends   bool            // there are to be attempts
	later   bool            // it goes into Sender.Requests
	to      sinks.Recipient // decoded, where it sends
	// refusal is what a caller is told whose request comes too late, unless it was answered
	// before. Nil: none is.
	refusal error
	// reason and why are of a dead letter without an attempt, where it does not send.
	reason dlq.Reason
	why    error
}

// plan decides how r is handled; an error refuses it.
func (s *Sender) plan(ctx context.Context, target Target, r Request) (plan, error) {
	p := plan{retrier: s.retrier(target, r), events: target.Events}
	if err := r.expired(time.Now()); err != nil {
		if !r.KeepUnsendable {
			p.refusal = err
		}
		return p.unsendable(dlq.ReasonExpired, err), nil
	}
	var err error
	broken := target.ConfigErr
	if p.later, err = s.later(r); err == nil && broken == nil {
		p.to, err = r.check(p.retrier, cmp.Or(s.MaxBytes, DefaultMaxBytes))
	}
	switch {
	case err != nil && r.KeepUnsendable:
		return p.unsendable(dlq.ReasonInvalid, err), nil
	case err != nil:
		return plan{}, err
	case p.later && r.SendAfter > 0: // whatever the sink is like now
		return p, nil
	case broken != nil:
		return p.unsendable(dlq.ReasonConfig, broken), nil
	case s.Paused != nil && s.Paused(ctx, r.Sink):
		return p.unsendable(dlq.ReasonConfig, errPaused), nil
	}
	if err := r.inTime(); err != nil && r.event {
		return p.unsendable(dlq.ReasonDeadline, err), nil
	}
	p.sends = true
	return p, nil
}

// unsendable is the plan for a dead letter without an attempt.
func (p plan) unsendable(reason dlq.Reason, why error) plan {
	p.sends, p.later, p.reason, p.why = false, false, reason, why
	return p
}

// carry makes the attempts, or the dead letter.
func (p plan) carry(ctx context.Context, r Request, g *guard) retry.Outcome {
	d := r.delivery()
	d.To, d.Unanswered = p.to, g.unanswered
	if !g.began.IsZero() {
		ctx = sinks.WithFirstAttempt(ctx, g.began)
	}
	if !p.sends {
		return p.retrier.DeadLetter(ctx, d, p.reason, p.why)
	}
	return p.retrier.Carry(ctx, d)
}

// guard is a delivery's hold on its record.
type guard struct {
	key         Key
	token       string
	fingerprint string
	// unseen: a dead letter of it may wait all the same, or come: an earlier owner may be at
	// work still, or the queue could not be read.
	unseen bool
	// attempts and unanswered are those before (Record).
	attempts, unanswered int
	// began is when the first of them did. Zero: there were none.
	began time.Time
	// expires is when its time is over. Zero: never.
	expires time.Time
	// accepting: it is this caller's to be put into Sender.Requests.
	accepting bool
	// again: somebody else was about to, and the queue may have it.
	again bool
	// pending are events of earlier fates that its record has.
	pending []PendingEvent
}

// back is how to hand it back: a record that has events pending is not forgotten.
func (g *guard) back(how Back) Back {
	if how == BackForget && len(g.pending) > 0 {
		return BackLeave
	}
	return how
}

// record is what the record says of a, besides its status.
func (g *guard) record(a Answer) Record {
	return Record{
		Sink: g.key.Sink, ID: g.key.ID, Fingerprint: g.fingerprint, UpdatedAt: time.Now().UTC(),
		Attempts: g.attempts + a.Attempts, Unanswered: g.unanswered + a.Unanswered,
		ExpiresAt: g.expires.UTC(), // of a record that is there its own holds
	}
}

// once sends r unless its record says that it was, or is being, sent already. A record
// that cannot be read or written never stops a delivery, but for one that could have been
// canceled meanwhile: at-least-once is the promise, the record narrows duplicates.
func (s *Sender) once(ctx context.Context, r Request, p plan) (Answer, error) {
	g := &guard{
		key: Key{Sink: r.Sink, ID: r.ID}, token: uuid.NewString(),
		fingerprint: dlq.ContentFingerprint(r.Recipient, r.Message.Subject, r.Message.Body, r.Message.Metadata), expires: r.ExpiresAt,
	}
	if !r.Fresh || p.later {
		a, decided, err := s.begin(ctx, &r, g, &p)
		if decided {
			return a, err
		}
	}
	if g.accepting {
		a, decided, err := s.accept(ctx, &r, g, &p)
		if decided {
			return a, err
		}
	}

	var out retry.Outcome
	if p.refusal != nil {
		out = retry.Outcome{Status: retry.StatusHandedBack, DeliveryID: r.ID, Err: p.refusal}
	} else {
		out = p.carry(ctx, r, g)
	}
	a := answerTo(out)
	if err := out.Error(); err != nil {
		actx, cancel := r.Budget.AnswerContext(ctx)
		defer cancel()
		s.handBack(actx, r, g, a, err)
		return a, err
	}
	return s.answer(ctx, r, g, a, s.Events.of(p.events, g.notice(r, a, out)))
}

// answer records the fate of a delivery that is safe, and tells it. Where that cannot be told, nor
// kept, the delivery is handed back.
func (s *Sender) answer(ctx context.Context, r Request, g *guard, a Answer, events []PendingEvent) (Answer, error) {
	actx, cancel := r.Budget.AnswerContext(ctx)
	defer cancel()
	a, rec, noted := s.finish(actx, g, a, events)
	err := s.Events.tellAll(ctx, r.Budget, rec, noted)
	if err != nil {
		back, cancel := r.Budget.AnswerContext(ctx)
		defer cancel()
		s.unguarded(back, g.key, s.Records.HandBack(back, g.key, g.token, BackLeave, g.record(a)))
		return Answer{DeliveryID: a.DeliveryID, Attempts: a.Attempts, Trying: a.Trying, Unanswered: a.Unanswered}, err
	}
	return a, nil
}

// notice is the fate that a tells.
func (g *guard) notice(r Request, a Answer, out retry.Outcome) Notice {
	if a.Status == StatusDelivered {
		return Notice{Key: g.key, Fate: FateDelivered, At: time.Now(), Attempts: g.attempts + a.Attempts, Group: r.Group}
	}
	n := g.noticeOf(out.Item)
	n.RecipientGone = sinks.IsGone(out.Err)
	return n
}

// noticeOf is the fate of what is a dead letter.
func (g *guard) noticeOf(it dlq.Item) Notice {
	n := NoticeOf(it, FateDeadLettered, it.At)
	if n.Key = g.key; it.Reason == dlq.ReasonExpired {
		n.Fate = FateExpired
	}
	if n.At.IsZero() {
		n.At = time.Now()
	}
	return n
}

// handBack lets the delivery be sent again. Where an answer may have been lost, the
// receiver's or the store's, the record stays, with a lease that is over: whoever comes next
// looks for the dead letter before sending.
func (s *Sender) handBack(ctx context.Context, r Request, g *guard, a Answer, why error) {
	rec := g.record(a)
	how := BackForget
	switch {
	case fault.CodeOf(why) == fault.CodeDLQUnavailable, rec.Unanswered > 0:
		how = BackLeave
	case r.Queued:
		how = BackRequeue
	case r.Fresh:
		return
	}
	s.unguarded(ctx, g.key, s.Records.HandBack(ctx, g.key, g.token, g.back(how), rec))
}

// begin takes the delivery, to put it into Sender.Requests or to send it, or reports decided
// with what the caller gets instead.
func (s *Sender) begin(ctx context.Context, r *Request, g *guard, p *plan) (a Answer, decided bool, err error) {
	bctx, cancel := context.WithTimeout(ctx, max(r.Budget.Reserve/2, 50*time.Millisecond))
	defer cancel()
	b := Begin{
		Key: g.key, Fingerprint: g.fingerprint, Token: g.token, Lease: r.Budget.Lease(), Accept: p.later, Queued: r.Queued,
		NotBefore: r.NotBefore, ExpiresAt: r.ExpiresAt,
	}
	if p.later || r.Queued {
		b.AcceptedAt = r.AcceptedAt
	}
	state, found, err := s.Records.Begin(bctx, b)
	if err == nil && state == StateFinished {
		if a, safe := s.repeat(bctx, g, found); safe {
			return a, true, s.Events.tellAll(ctx, r.Budget, found, true)
		}
		g.unseen, b.Untrue = true, &found
		state, found, err = s.Records.Begin(bctx, b)
	}
	switch {
	case err != nil && r.Queued:
		// It may have been canceled since it was accepted.
		return Answer{}, true, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "the record of an accepted delivery cannot be read", Cause: err}
	case err != nil:
		s.unguarded(ctx, g.key, err)
		g.accepting = p.later
		return Answer{}, false, nil
	}
	switch state {
	case StateInProgress:
		return Answer{}, true, &fault.Error{Code: fault.CodeDeliveryInProgress, Msg: "this delivery is under way; ask again later"}
	case StateReused:
		return Answer{}, true, &fault.Error{Code: fault.CodeIDReused, Msg: fmt.Sprintf("id %q was used for another recipient or content", g.key.ID)}
	case StateCanceled:
		a := Answer{Status: StatusCanceled, DeliveryID: g.key.ID, Attempts: found.Attempts, Duplicate: true}
		return a, true, s.Events.tellAll(ctx, r.Budget, found, true)
	case StateFinished: // somebody was quicker with what is known to be gone
		if a, decided = s.repeat(bctx, g, found); decided {
			err = s.Events.tellAll(ctx, r.Budget, found, true)
		}
		return a, decided, err
	}
	g.attempts, g.unanswered, g.pending = found.Attempts, found.Unanswered, found.Pending
	if g.attempts > 0 || g.unanswered > 0 {
		g.began = found.BeganAt
	}
	g.accepting, g.again = state == StateAccepting || state == StateAcceptingAgain, state == StateAcceptingAgain
	r.ExpiresAt, g.expires = found.ExpiresAt, found.ExpiresAt
	if g.accepting {
		r.AcceptedAt, r.NotBefore = found.AcceptedAt, found.NotBefore
	}
	switch state {
	case StateAccepting: // its record may have said so, and be gone
		return s.noted(bctx, g, BackForget)
	case StateAcceptingAgain: // whoever began to accept it may have died before it looked
		return s.noted(bctx, g, BackLeave)
	case StateUnknown:
		return s.unknown(bctx, *r, g, p)
	case StateTakenOver:
		g.unseen = true
		if r.Queued { // whoever had it may have died before it looked
			if a, decided, err := s.noted(bctx, g, BackLeave); decided {
				return a, true, err
			}
		}
		// Whoever had it may have stored the dead letter before it ended.
		it, err := s.Queue.Find(bctx, g.key.Sink, g.key.ID, g.fingerprint)
		if err != nil {
			if fault.CodeOf(err) != fault.CodeDLQNotFound {
				s.unguarded(ctx, g.key, err)
				return Answer{}, false, nil
			}
			return s.replayed(bctx, *r, g, b)
		}
		var events []PendingEvent
		if it.DeliveredAt.IsZero() { // else whoever replayed it has told so
			events = s.Events.of(p.events, g.noticeOf(it))
		}
		a, err = s.answer(ctx, *r, g, answerOf(g.key, it), events)
		a.Duplicate = err == nil
		return a, true, err
	}
	return Answer{}, false, nil
}

// replayed decides about a delivery that was taken over, and whose dead letter is not there: a replay may have had it
// when the record was taken, and may have told that since, and removed the letter. So the record is asked again.
func (s *Sender) replayed(ctx context.Context, r Request, g *guard, b Begin) (a Answer, decided bool, err error) {
	state, found, err := s.Records.Begin(ctx, b)
	if err != nil {
		s.unguarded(ctx, g.key, err)
		return Answer{}, false, nil
	}
	if state != StateFinished {
		return Answer{}, false, nil
	}
	if a, decided = s.repeat(ctx, g, found); decided {
		err = s.Events.tellAll(ctx, r.Budget, found, true)
	}
	return a, decided, err
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
	case StatusDelivered, StatusDiscarded, StatusCanceled:
		a = Answer{Status: found.Status, Attempts: cmp.Or(a.Attempts, found.Attempts)}
	case StatusAccepted:
		a = Answer{Status: StatusAccepted, NotBefore: found.NotBefore}
	default:
		it, err := s.letter(ctx, g, found.ItemID)
		if err != nil {
			if fault.CodeOf(err) != fault.CodeDLQNotFound {
				s.unguarded(ctx, g.key, err)
			}
			return Answer{}, false
		}
		if now := answerOf(g.key, it); a.Status == "" || now.Status != a.Status || now.Reason == dlq.ReasonExpired {
			a = now
		}
		if a.ItemID != "" || a.Spilled {
			a.ItemID, a.Spilled = it.ID, it.Spilled
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
// further meanwhile, it counts: no dead letter stays of what was delivered, discarded or
// canceled. It returns what is pending of the delivery's events, these ones included unless
// another answer counts, and whether the record has that.
func (s *Sender) finish(ctx context.Context, g *guard, a Answer, events []PendingEvent) (Answer, Record, bool) {
	rec := g.record(a)
	rec.Status, rec.ItemID, rec.Pending = a.Status, a.ItemID, joined(g.pending, events)
	if a.Status == StatusDeadLettered {
		rec.DeadLetteredAt = rec.UpdatedAt
		if a.Reason == dlq.ReasonExpired {
			rec.Status = StatusExpired
		}
	}
	if a.Status != StatusDelivered || a.Attempts != rec.Attempts { // else the record tells all of it
		b, err := json.Marshal(a)
		if err != nil {
			s.unguarded(ctx, g.key, err)
			return a, rec, false
		}
		rec.Answer = string(b)
	}
	found, written, err := s.Records.Finish(ctx, g.key, g.token, rec)
	if err != nil {
		s.unguarded(ctx, g.key, err)
		return a, rec, false
	}
	ours := found.IsOf(g.fingerprint)
	over := found.Status == StatusCanceled || ours && (found.Status == StatusDelivered || found.Status == StatusDiscarded)
	switch {
	case written && a.Status == StatusDelivered && (g.unseen || ours && found.ItemID != ""):
		// An owner before may have stored it since it was looked for. From here on it reads the
		// record, and withdraws what it stores itself.
		s.withdraw(ctx, g, found.ItemID)
	case !written && over:
		s.withdraw(ctx, g, a.ItemID)
		if gone, safe := s.repeat(ctx, g, found); safe {
			gone.Trying, gone.Unanswered = a.Trying, a.Unanswered
			return gone, found, true
		}
	}
	return a, rec, written
}

// withdraw removes the dead letter, perhaps of this id, of a message that was delivered,
// discarded or canceled, under its record by somebody else. One that stays may arrive twice, and the
// log says so.
func (s *Sender) withdraw(ctx context.Context, g *guard, id string) {
	it, err := s.letter(ctx, g, id)
	if err == nil && it.DeliveredAt.IsZero() && !it.Spilled { // what is spilled is asked about when it comes back
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
