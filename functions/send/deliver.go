package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"backstop/lib/app"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/observe"
	"backstop/lib/retry"
)

// answer is what the caller gets for a delivery that is safe.
type answer struct {
	Status     retry.Status `json:"status"`
	DeliveryID string       `json:"delivery_id"`
	ItemID     string       `json:"item_id,omitempty"`
	Reason     dlq.Reason   `json:"reason,omitempty"`
	Attempts   int          `json:"attempts"`
	Error      string       `json:"error,omitempty"`
	Duplicate  bool         `json:"duplicate,omitempty"`

	trying     time.Duration // spent in attempts
	unanswered int           // attempts that may have arrived all the same
}

// statusDiscarded is the answer to a resend of what an operator has discarded.
const statusDiscarded retry.Status = "discarded"

// sender delivers requests. It is safe for concurrent use.
type sender struct {
	targets interface {
		Target(ctx context.Context, sink string) (app.Target, error)
	}
	items interface {
		Find(ctx context.Context, sink, deliveryID, fingerprint string) (dlq.Item, error)
		Get(ctx context.Context, id string) (dlq.Item, error)
		Discard(ctx context.Context, id string) error
	}
	records  delivery.Store
	log      *slog.Logger
	metrics  *observe.Metrics
	maxBytes int
	// keepUnsendable dead-letters a request that can never be sent, where the caller
	// could not be told (a queue). Elsewhere it is refused.
	keepUnsendable bool
	// queueReceives is how often the queue hands out a record before it gives it up.
	queueReceives int
}

// deliver decides the fate of one request: a nil error means that it is safe, any
// other that the caller still owns it. It never panics.
func (s *sender) deliver(ctx context.Context, r request) (a answer, err error) {
	start := time.Now()
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "delivery panicked", "delivery_id", r.ID, "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = &fault.Error{Code: fault.CodeInternal, Msg: "the delivery panicked; see the log"}
		}
		s.observe(ctx, r, a, err, time.Since(start))
	}()

	budget := r.budget
	if budget.IsZero() {
		budget = retry.NewBudget(ctx, 0)
	}
	if !budget.Fits(0) {
		return answer{}, &fault.Error{Code: fault.CodeNotAttempted, Msg: "no time was left for this delivery"}
	}
	target, err := s.targets.Target(ctx, r.Sink)
	if err != nil {
		return answer{}, err
	}
	r.budget = budget
	send, err := s.plan(target, r)
	if err != nil {
		return answer{}, err
	}
	return s.once(ctx, budget, r, send)
}

// errPaused is why a delivery to a paused sink was not attempted. Its reason is config,
// which the schedule replays once the sink is resumed.
var errPaused = &fault.Error{Code: fault.CodeNotAttempted, Msg: "an operator has paused the sink"}

// plan decides how r is handled; an error refuses it.
func (s *sender) plan(target app.Target, r request) (func(context.Context) retry.Outcome, error) {
	d := retry.Delivery{Received: r.Recipient, Message: r.message(), Budget: r.budget}
	if d.Received == nil {
		d.Received = json.RawMessage("null")
	}
	retrier := target.Retrier
	if target.Hold && r.comesAgain {
		held := *retrier
		held.HandBack = dlq.Reason.Due // what the schedule would replay, after its successors
		retrier = &held
	}
	deadLetter := func(reason dlq.Reason, why error) func(context.Context) retry.Outcome {
		return func(ctx context.Context) retry.Outcome {
			return retrier.DeadLetter(ctx, d, reason, why)
		}
	}
	if why := target.ConfigErr; why != nil {
		return deadLetter(dlq.ReasonConfig, why), nil
	}
	to, err := r.check(retrier, s.maxBytes)
	switch {
	case err == nil && target.Paused:
		return deadLetter(dlq.ReasonConfig, errPaused), nil
	case err == nil:
		d.To = to
		return func(ctx context.Context) retry.Outcome { return retrier.Carry(ctx, d) }, nil
	case s.keepUnsendable:
		return deadLetter(dlq.ReasonInvalid, err), nil
	}
	return nil, err
}

// guard is a delivery's hold on its record.
type guard struct {
	key         delivery.Key
	token       string
	fingerprint string
	// tookOver: an earlier owner may be at work still.
	tookOver bool
}

// once sends r unless its record says that it was, or is being, sent already. A record
// that cannot be read or written never stops a delivery: at-least-once is the promise,
// the record narrows duplicates.
func (s *sender) once(ctx context.Context, budget retry.Budget, r request, send func(context.Context) retry.Outcome) (answer, error) {
	g := &guard{
		key: delivery.Key{Sink: r.Sink, ID: r.ID}, token: uuid.NewString(),
		fingerprint: dlq.ContentFingerprint(r.Recipient, r.Message.Subject, r.Message.Body, r.Message.Metadata),
	}
	if !r.fresh {
		a, decided, err := s.begin(ctx, budget, g)
		if decided {
			return a, err
		}
	}

	out := send(ctx)
	actx, cancel := budget.AnswerContext(ctx)
	defer cancel()
	if err := out.Error(); err != nil {
		s.handBack(actx, g, r.fresh, err)
		return answer{Attempts: out.Attempts, trying: out.Trying, unanswered: out.Unanswered}, err
	}
	a := answer{Status: out.Status, DeliveryID: r.ID, Attempts: out.Attempts, trying: out.Trying, unanswered: out.Unanswered}
	if out.Status == retry.StatusDeadLettered {
		a.ItemID, a.Reason, a.Error = out.Item.ID, out.Reason, out.Err.Error()
	}
	return s.finish(actx, g, a), nil
}

// handBack lets the delivery be sent again. Where only the store's answer may have been
// lost, the record stays, with a lease that is over: whoever comes next looks for the
// dead letter before sending.
func (s *sender) handBack(ctx context.Context, g *guard, fresh bool, why error) {
	var err error
	switch {
	case fault.CodeOf(why) == fault.CodeDLQUnavailable:
		_, _, err = s.records.Begin(ctx, g.key, g.fingerprint, g.token, 0)
	case !fresh:
		err = s.records.Release(ctx, g.key, g.token)
	}
	s.unguarded(ctx, g.key, err)
}

// begin takes the delivery, or reports decided with what the caller gets instead.
func (s *sender) begin(ctx context.Context, budget retry.Budget, g *guard) (a answer, decided bool, err error) {
	bctx, cancel := context.WithTimeout(ctx, max(budget.Reserve/2, 50*time.Millisecond))
	defer cancel()
	state, found, err := s.records.Begin(bctx, g.key, g.fingerprint, g.token, budget.Lease())
	if err == nil && state == delivery.StateFinished {
		if a, safe := s.repeat(bctx, g, found); safe {
			return a, true, nil
		}
		state, found, err = s.records.Reopen(bctx, g.key, g.fingerprint, g.token, budget.Lease(), found)
	}
	if err != nil {
		s.unguarded(ctx, g.key, err)
		return answer{}, false, nil
	}
	switch state {
	case delivery.StateInProgress:
		return answer{}, true, &fault.Error{Code: fault.CodeDeliveryInProgress, Msg: "this delivery is under way; ask again later"}
	case delivery.StateReused:
		return answer{}, true, &fault.Error{Code: fault.CodeIDReused, Msg: fmt.Sprintf("id %q was used for another recipient or content", g.key.ID)}
	case delivery.StateFinished: // somebody was quicker with what is known to be gone
		a, decided = s.repeat(bctx, g, found)
		return a, decided, nil
	case delivery.StateTakenOver:
		g.tookOver = true
		// Whoever had it may have stored the dead letter before it ended.
		it, err := s.items.Find(bctx, g.key.Sink, g.key.ID, g.fingerprint)
		if err != nil {
			if fault.CodeOf(err) != fault.CodeDLQNotFound {
				s.unguarded(ctx, g.key, err)
			}
			return answer{}, false, nil
		}
		actx, cancel := budget.AnswerContext(ctx)
		defer cancel()
		a = s.finish(actx, g, answerOf(g.key, it))
		a.Duplicate = true
		return a, true, nil
	}
	return answer{}, false, nil
}

// repeat answers a duplicate by the record of its delivery. It reports false when that
// says "dead-lettered" and there is no such dead letter, or none that can be read: then
// nothing shows that the delivery is safe.
func (s *sender) repeat(ctx context.Context, g *guard, found delivery.Record) (a answer, safe bool) {
	if found.Answer != "" {
		if err := json.Unmarshal([]byte(found.Answer), &a); err != nil {
			s.unguarded(ctx, g.key, fmt.Errorf("answer of the record: %w", err))
		}
	}
	switch found.Status {
	case delivery.StatusDelivered:
		a = answer{Status: retry.StatusDelivered, Attempts: a.Attempts}
	case delivery.StatusDiscarded:
		a = answer{Status: statusDiscarded, Attempts: a.Attempts}
	case delivery.StatusDeadLettered, delivery.StatusInProgress:
		it, err := s.letter(ctx, g, found.ItemID)
		if err != nil {
			if fault.CodeOf(err) != fault.CodeDLQNotFound {
				s.unguarded(ctx, g.key, err)
			}
			return answer{}, false
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
// now.
func (s *sender) letter(ctx context.Context, g *guard, id string) (dlq.Item, error) {
	if id != "" {
		it, err := s.items.Get(ctx, id)
		if err == nil && (it.DecodeError != "" || it.DeliveryID == g.key.ID) {
			return it, nil
		}
		if err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound {
			return it, err
		}
	}
	return s.items.Find(ctx, g.key.Sink, g.key.ID, g.fingerprint)
}

// answerOf answers by a dead letter that was stored before.
func answerOf(key delivery.Key, it dlq.Item) answer {
	if !it.DeliveredAt.IsZero() {
		return answer{Status: retry.StatusDelivered, DeliveryID: key.ID, Attempts: it.Attempts}
	}
	return answer{
		Status: retry.StatusDeadLettered, DeliveryID: key.ID, ItemID: it.ID, Reason: it.Reason,
		Attempts: it.Attempts, Error: it.LastError,
	}
}

// finish records the answer, so that a duplicate gets it again. Where the record has gone
// further meanwhile, it counts: no dead letter stays of what was delivered or discarded.
func (s *sender) finish(ctx context.Context, g *guard, a answer) answer {
	b, err := json.Marshal(a)
	if err != nil {
		s.unguarded(ctx, g.key, err)
		return a
	}
	status := delivery.StatusDelivered
	if a.Status == retry.StatusDeadLettered {
		status = delivery.StatusDeadLettered
	}
	found, written, err := s.records.Finish(ctx, g.key, g.token, delivery.Record{
		Sink: g.key.Sink, ID: g.key.ID, Status: status, ItemID: a.ItemID, UpdatedAt: time.Now().UTC(),
		Answer: string(b), Fingerprint: g.fingerprint,
	})
	if err != nil {
		s.unguarded(ctx, g.key, err)
		return a
	}
	ours := found.Fingerprint == g.fingerprint
	switch {
	case !written && ours && (found.Status == delivery.StatusDelivered || found.Status == delivery.StatusDiscarded):
		s.withdraw(ctx, g, a.ItemID)
		if gone, safe := s.repeat(ctx, g, found); safe {
			gone.trying, gone.unanswered = a.trying, a.unanswered
			return gone
		}
	case written && status == delivery.StatusDelivered && ours && found.Status == delivery.StatusDeadLettered:
		s.withdraw(ctx, g, found.ItemID)
	case written && status == delivery.StatusDelivered && g.tookOver:
		// The owner before may have stored it since it was looked for. From here on it reads the
		// record, and withdraws what it stores itself.
		it, err := s.items.Find(ctx, g.key.Sink, g.key.ID, g.fingerprint)
		switch {
		case err == nil:
			s.withdraw(ctx, g, it.ID)
		case fault.CodeOf(err) != fault.CodeDLQNotFound:
			s.unguarded(ctx, g.key, err)
		}
	}
	return a
}

// withdraw removes a dead letter whose message was delivered, or discarded, under its
// record by somebody else. One that stays may arrive twice, and the log says so.
func (s *sender) withdraw(ctx context.Context, g *guard, id string) {
	if id == "" {
		return
	}
	if err := s.items.Discard(ctx, id); err != nil {
		s.log.WarnContext(ctx, "dead letter of a finished delivery not removed", "delivery_id", g.key.ID, "sink", g.key.Sink, "item_id", id, "error", err.Error())
	}
}

// unguarded reports a record that could not be used; the delivery goes on without it.
func (s *sender) unguarded(ctx context.Context, key delivery.Key, err error) {
	if err == nil {
		return
	}
	s.metrics.Add(observe.Unguarded, key.Sink, 1)
	s.log.WarnContext(ctx, "idempotency record not available", "delivery_id", key.ID, "sink", key.Sink, "error", err.Error())
}

// observe writes the delivery's one log line and its metrics.
func (s *sender) observe(ctx context.Context, r request, a answer, err error, elapsed time.Duration) {
	status, reason, text := a.Status, string(a.Reason), a.Error
	if err != nil {
		status, reason, text = retry.StatusHandedBack, string(fault.CodeOf(err)), err.Error()
	}
	attrs := []any{
		"delivery_id", r.ID, "sink", r.Sink, "status", string(status), "attempts", a.Attempts,
		"elapsed_ms", elapsed.Milliseconds(),
	}
	if reason != "" {
		attrs = append(attrs, "reason", reason)
	}
	if text != "" {
		attrs = append(attrs, "error", text)
	}
	if a.ItemID != "" {
		attrs = append(attrs, "item_id", a.ItemID)
	}
	if a.unanswered > 0 {
		attrs = append(attrs, "unanswered", a.unanswered)
	}
	if a.Duplicate {
		attrs = append(attrs, "duplicate", true)
	}
	if r.trace != "" {
		attrs = append(attrs, "trace", r.trace)
	}
	s.log.InfoContext(ctx, "delivery", attrs...)

	sink := r.Sink
	if fault.CodeOf(err) == fault.CodeSinkNotFound || fault.CheckName(sink) != nil {
		sink = "" // callers must not be able to make up metric dimensions
	}
	switch {
	case a.Duplicate:
		s.metrics.Add(observe.Duplicate, sink, 1)
		return
	case err != nil:
		s.metrics.AddReason(observe.HandedBack, sink, reason, 1)
	case status == retry.StatusDeadLettered:
		s.metrics.AddReason(observe.DeadLettered, sink, reason, 1)
	default:
		s.metrics.Add(observe.Delivered, sink, 1)
	}
	if a.Attempts > 0 {
		s.metrics.Add(observe.Attempts, sink, float64(a.Attempts))
		s.metrics.Add(observe.AttemptLatency, sink, float64(a.trying.Milliseconds())/float64(a.Attempts))
	}
}
