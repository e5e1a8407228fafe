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
	"backstop/lib/observe"
	"backstop/lib/retry"
	"backstop/lib/sinks"
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

// sender delivers requests. It is safe for concurrent use.
type sender struct {
	targets interface {
		Target(ctx context.Context, sink string) (app.Target, error)
	}
	items interface {
		Find(ctx context.Context, sink, deliveryID string) (dlq.Item, error)
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
			err = &sinks.Error{Code: sinks.CodeInternal, Msg: "the delivery panicked; see the log"}
		}
		s.observe(ctx, r, a, err, time.Since(start))
	}()

	budget := retry.BudgetOf(ctx, 0)
	if !budget.Fits(0) {
		return answer{}, &sinks.Error{Code: sinks.CodeNotAttempted, Msg: "no time was left for this delivery"}
	}
	target, err := s.targets.Target(ctx, r.Sink)
	if err != nil {
		return answer{}, err
	}
	send, err := s.plan(target, r)
	if err != nil {
		return answer{}, err
	}
	return s.once(ctx, budget, r, send)
}

// errPaused is why a delivery to a paused sink was not attempted. Its reason is config,
// which the schedule replays once the sink is resumed.
var errPaused = &sinks.Error{Code: sinks.CodeNotAttempted, Msg: "an operator has paused the sink"}

// plan decides how r is handled; an error refuses it.
func (s *sender) plan(target app.Target, r request) (func(context.Context) retry.Outcome, error) {
	m := r.message()
	retrier := target.Retrier
	if target.Hold && r.comesAgain {
		held := *retrier
		held.HandBack = dlq.Reason.Due // what the schedule would replay, after its successors
		retrier = &held
	}
	deadLetter := func(reason dlq.Reason, why error) func(context.Context) retry.Outcome {
		return func(ctx context.Context) retry.Outcome {
			return retrier.DeadLetter(ctx, r.Recipient, m, reason, why)
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
		return func(ctx context.Context) retry.Outcome { return retrier.Deliver(ctx, to, m) }, nil
	case s.keepUnsendable:
		return deadLetter(dlq.ReasonInvalid, err), nil
	}
	return nil, err
}

// once sends r unless its record says that it was, or is being, sent already. A record
// that cannot be read or written never stops a delivery: at-least-once is the promise,
// the record narrows duplicates.
func (s *sender) once(ctx context.Context, budget retry.Budget, r request, send func(context.Context) retry.Outcome) (answer, error) {
	key := delivery.Key{Sink: r.Sink, ID: r.ID}
	token := uuid.NewString()
	fingerprint := delivery.Fingerprint(r.Recipient, r.Message.Subject, r.Message.Body, r.Message.Metadata)
	if !r.fresh {
		a, decided, err := s.begin(ctx, budget, key, token, fingerprint)
		if decided {
			return a, err
		}
	}

	out := send(ctx)
	actx, cancel := budget.AnswerContext(ctx)
	defer cancel()
	if err := out.Error(); err != nil {
		s.handBack(actx, key, token, fingerprint, r.fresh, err)
		return answer{Attempts: out.Attempts, trying: out.Trying, unanswered: out.Unanswered}, err
	}
	a := answer{Status: out.Status, DeliveryID: r.ID, Attempts: out.Attempts, trying: out.Trying, unanswered: out.Unanswered}
	if out.Status == retry.StatusDeadLettered {
		a.ItemID, a.Reason, a.Error = out.Item.ID, out.Reason, out.Err.Error()
	}
	s.finish(actx, key, token, fingerprint, a)
	return a, nil
}

// handBack lets the delivery be sent again. Where only the store's answer may have been
// lost, the record stays, with a lease that is over: whoever comes next looks for the
// dead letter before sending.
func (s *sender) handBack(ctx context.Context, key delivery.Key, token, fingerprint string, fresh bool, why error) {
	var err error
	switch {
	case sinks.CodeOf(why) == sinks.CodeDLQUnavailable:
		_, _, err = s.records.Begin(ctx, key, fingerprint, token, 0)
	case !fresh:
		err = s.records.Release(ctx, key, token)
	}
	s.unguarded(ctx, key, err)
}

// begin takes the delivery, or reports decided with what the caller gets instead.
func (s *sender) begin(ctx context.Context, budget retry.Budget, key delivery.Key, token, fingerprint string) (a answer, decided bool, err error) {
	bctx, cancel := context.WithTimeout(ctx, max(budget.Reserve/2, 50*time.Millisecond))
	defer cancel()
	state, found, err := s.records.Begin(bctx, key, fingerprint, token, budget.Lease())
	if err != nil {
		s.unguarded(ctx, key, err)
		return answer{}, false, nil
	}
	switch state {
	case delivery.StateInProgress:
		return answer{}, true, &sinks.Error{Code: sinks.CodeDeliveryInProgress, Msg: "this delivery is under way; ask again later"}
	case delivery.StateReused:
		return answer{}, true, &sinks.Error{Code: sinks.CodeIDReused, Msg: fmt.Sprintf("id %q was used for another recipient or content", key.ID)}
	case delivery.StateFinished:
		if err := json.Unmarshal([]byte(found.Answer), &a); err != nil {
			s.unguarded(ctx, key, fmt.Errorf("answer of the record: %w", err))
			return answer{}, false, nil
		}
		a.Duplicate = true
		return a, true, nil
	case delivery.StateTakenOver:
		// Whoever had it may have stored the dead letter before it ended.
		it, err := s.items.Find(bctx, key.Sink, key.ID)
		if err != nil {
			if sinks.CodeOf(err) != sinks.CodeDLQNotFound {
				s.unguarded(ctx, key, err)
			}
			return answer{}, false, nil
		}
		a = answer{
			Status: retry.StatusDeadLettered, DeliveryID: key.ID, ItemID: it.ID, Reason: it.Reason,
			Attempts: it.Attempts, Error: it.LastError,
		}
		actx, cancel := budget.AnswerContext(ctx)
		defer cancel()
		s.finish(actx, key, token, fingerprint, a)
		a.Duplicate = true
		return a, true, nil
	}
	return answer{}, false, nil
}

// finish records the answer, so that a duplicate gets it again.
func (s *sender) finish(ctx context.Context, key delivery.Key, token, fingerprint string, a answer) {
	b, err := json.Marshal(a)
	if err != nil {
		s.unguarded(ctx, key, err)
		return
	}
	status := delivery.StatusDelivered
	if a.Status == retry.StatusDeadLettered {
		status = delivery.StatusDeadLettered
	}
	_, err = s.records.Finish(ctx, key, token, delivery.Record{
		Sink: key.Sink, ID: key.ID, Status: status, ItemID: a.ItemID, UpdatedAt: time.Now().UTC(),
		Answer: string(b), Fingerprint: fingerprint,
	})
	s.unguarded(ctx, key, err)
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
		status, reason, text = retry.StatusHandedBack, string(sinks.CodeOf(err)), err.Error()
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
	if sinks.CodeOf(err) == sinks.CodeSinkNotFound || sinks.CheckName(sink) != nil {
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
