package retry

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

	"backstop/internal/attempt"
	"backstop/internal/delay"
	"backstop/internal/panics"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/sinks"
)

// Retrier is a Sink that retries another one within the deadline of its context and
// keeps what still failed in a DLQ. It is safe for concurrent use once its fields are
// set.
type Retrier struct {
	// Inner makes the attempts. Required.
	Inner sinks.Sink
	// Cfg says how often and how fast. Zero fields mean the defaults.
	Cfg Config
	// DLQ keeps failed deliveries. Nil disables the push: the caller keeps the
	// message.
	DLQ dlq.DLQ
	// HandBack picks the failures, by their reason, that the caller keeps although there
	// is a DLQ: who has the message in a queue may try it again in its place. Nil: none.
	HandBack func(dlq.Reason) bool
	// Gate is asked before every attempt and told what came of it. Nil: every attempt may begin.
	Gate Gate
	// Flow is the policy by which Gate decides.
	Flow flow.Policy
	// SlotWait is the longest wait for a slot of the receiver's rate: who finds none within it
	// comes back later. What is replayed waits for longer than what is fresh, so that it gets
	// slots where fresh messages take all that are near. Zero: DefaultSlotWait, or the longest
	// wait for another attempt where that is shorter.
	SlotWait time.Duration
	// IsTransientFn decides which failures are tried again. Nil: sinks.IsTransient.
	IsTransientFn func(error) bool
	// Reserve is the time kept before the deadline for the dead-letter write and the
	// answer (see Budget). Zero: DefaultReserve.
	Reserve time.Duration
	// Logger is told about defects of a sink (panics). Nil: slog.Default.
	Logger *slog.Logger
}

// NewRetrier returns a Retrier around inner. Its configuration is normalized: a zero cfg means
// the defaults. A nil queue means that the caller keeps what failed.
func NewRetrier(inner sinks.Sink, cfg Config, queue dlq.DLQ) *Retrier {
	return &Retrier{Inner: inner, Cfg: cfg.Normalize(), DLQ: queue}
}

// WrapSink returns s with retries, and s itself when it already has them, at any
// depth. WrapSink of nil is nil.
func WrapSink(s sinks.Sink, cfg Config, queue dlq.DLQ) sinks.Sink {
	if s == nil || sinks.Retries(s) {
		return s
	}
	return NewRetrier(s, cfg, queue)
}

// Bare returns the sink below the innermost Retrier, which fails instead of dead-lettering;
// s itself where there is none.
func Bare(s sinks.Sink) sinks.Sink {
	for outer := s; ; {
		u, ok := outer.(interface{ Unwrap() sinks.Sink })
		if !ok {
			return s
		}
		r, ok := outer.(interface{ IsRetrier() bool })
		outer = u.Unwrap()
		if ok && r.IsRetrier() {
			s = outer
		}
	}
}

// Name returns the inner sink's name.
func (r *Retrier) Name() string { return r.Inner.Name() }

// IsRetrier returns true: the sink needs no other retries (see WrapSink).
func (r *Retrier) IsRetrier() bool { return true }

// Unwrap returns the inner sink.
func (r *Retrier) Unwrap() sinks.Sink { return r.Inner }

// Send delivers m. It returns nil when the message was delivered or the failure was
// recorded in the DLQ, and an error only when that push failed or no DLQ is set. Use
// Deliver to tell the two apart.
func (r *Retrier) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	return r.Deliver(ctx, to, m).Error()
}

// Delivery is one message on its way.
type Delivery struct {
	// To is the recipient as the sink takes it.
	To sinks.Recipient
	// Received is the recipient as the caller wrote it, which a dead letter keeps, so that
	// its content is the request's. Nil: To, encoded.
	Received json.RawMessage
	// Message is what is sent. Without an id it gets one.
	Message sinks.Message
	// ExpiresAt is when it is not sent any more: no attempt begins then or later. One that has
	// begun ends by its own time-out. Zero: no such time.
	ExpiresAt time.Time
	// AcceptedAt is when it was accepted. Zero: not known.
	AcceptedAt time.Time
	// Group is its message group. Empty: none.
	Group string
	// Unanswered is how many earlier attempts may have arrived, which a dead letter counts too. The
	// first of all is that of the context (sinks.WithFirstAttempt).
	Unanswered int
	// Budget is the time for it. Zero: what the context has left, less Retrier.Reserve.
	Budget Budget
	// Force sends it whatever Gate thinks of the receiver, and although it may have arrived, as an
	// operator asks for.
	Force bool
}

// within returns d with its budget and its id.
func (r *Retrier) within(ctx context.Context, d Delivery) Delivery {
	if d.Budget.IsZero() {
		d.Budget = NewBudget(ctx, r.Reserve)
	}
	if d.Message.ID == "" {
		d.Message.ID = uuid.Must(uuid.NewV7()).String()
	}
	return d
}

// Deliver sends m until it is delivered, fails for good, or no further attempt fits
// into ctx's deadline; a failure is then pushed to the DLQ on a context of its own. A
// message without an id gets one.
func (r *Retrier) Deliver(ctx context.Context, to sinks.Recipient, m sinks.Message) Outcome {
	return r.Carry(ctx, Delivery{To: to, Message: m})
}

// Carry is Deliver for a delivery whose budget, or whose recipient as it was received,
// the caller knows.
func (r *Retrier) Carry(ctx context.Context, d Delivery) Outcome {
	start := time.Now()
	d = r.within(ctx, d)
	out := r.attempts(ctx, d)
	if out.Status != StatusDelivered {
		r.store(ctx, d, &out)
		r.lost(ctx, d, out)
	}
	out.Elapsed = time.Since(start)
	return out
}

// DeadLetter records a delivery as failed without attempting it: what is known to be
// unsendable, or must wait. Its To may be nil where Received is the recipient. cause becomes
// the item's LastError and the Outcome's Err; it must not be nil.
func (r *Retrier) DeadLetter(ctx context.Context, d Delivery, reason dlq.Reason, cause error) Outcome {
	start := time.Now()
	d = r.within(ctx, d)
	out := Outcome{Status: StatusHandedBack, DeliveryID: d.Message.ID, Reason: reason, Err: cause}
	out.Item.FirstFailedAt = cmp.Or(sinks.DeliveryOf(ctx).FirstAttempt, start)
	r.store(ctx, d, &out)
	out.Elapsed = time.Since(start)
	return out
}

// attempts makes the attempts. Its outcome is delivered or handed back. What judges an
// attempt may be others' code, too (IsTransientFn, the methods of an error): when it panics,
// the message is kept all the same.
func (r *Retrier) attempts(ctx context.Context, d Delivery) (out Outcome) {
	cfg, budget := r.Cfg.Normalize(), d.Budget
	out = Outcome{Status: StatusHandedBack, DeliveryID: d.Message.ID}
	var leave flow.Leave // of the attempt under way
	untold := false      // the gate does not know yet what came of it
	defer func() {
		if p := recover(); p != nil {
			if untold {
				r.tell(ctx, budget, leave, flow.NoAnswer, nil)
			}
			r.logger().ErrorContext(ctx, "judging an attempt panicked", "sink", r.Name(), "delivery_id", out.DeliveryID,
				"panic", panics.Text(p), "stack", string(debug.Stack()))
			out.Status, out.Reason = StatusHandedBack, dlq.ReasonTerminal
			out.Err = sinks.Terminal(&fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("sink %q: judging attempt %d panicked", r.Name(), out.Attempts)})
		}
	}()
	known := d.known(ctx)
	ctx = sinks.WithDelivery(ctx, known)
	first := known.FirstAttempt
	for {
		// A Retry-After is never shortened: a wait that does not fit, or that is longer
		// than any of our own, is left to the replay.
		asked, wait := time.Until(out.NotBefore), cfg.BackoffFor(out.Attempts+1)
		switch wait = max(wait, asked); {
		case r.tooLate(ctx, d, cfg, wait, &out), r.shut(ctx, d, cfg, nil, &out):
			return out
		case !budget.Fits(wait) || wait > cfg.longestWait():
			reason := dlq.ReasonDeadline
			if asked >= wait {
				reason = dlq.ReasonThrottled
			} else if budget.Fits(wait) { // the schedule waits instead
				out.NotBefore = time.Now().Add(wait)
			}
			return out.ended(reason, fmt.Errorf("no time for attempt %d", out.Attempts+1))
		}
		if err := delay.Sleep(ctx, wait); err != nil {
			return out.ended(endReason(err), fmt.Errorf("before attempt %d: %w", out.Attempts+1, err))
		}
		if leave, untold = r.enter(ctx, d, cfg, &out); !untold {
			return out
		}
		if r.tooLate(ctx, d, cfg, 0, &out) { // while it waited
			r.tell(ctx, budget, leave, flow.NoAnswer, nil)
			return out
		}

		actx, cancel := context.WithDeadline(ctx, budget.attemptDeadline(cfg.AttemptTimeout))
		out.Attempts++
		began := time.Now()
		err := attempt.Send(actx, r.logger(), budget.grace(), r.Inner, d.To, d.Message)
		out.Trying += time.Since(began)
		timedOut := actx.Err() != nil && ctx.Err() == nil
		cancel()
		result := r.resultOf(ctx, d, cfg, err, timedOut)
		r.tell(ctx, budget, leave, result, err)
		untold, out.failed = false, result == flow.Bad
		if err == nil {
			out.Status, out.Reason, out.Err, out.NotBefore, out.Receipt = StatusDelivered, "", nil, time.Time{}, sinks.Receipt(ctx)
			return out
		}

		if out.Item.FirstFailedAt.IsZero() {
			out.Item.FirstFailedAt = first
		}
		if sinks.IsAmbiguous(err) {
			out.Unanswered++
		}
		out.Err, out.NotBefore = err, time.Time{}
		if wait := sinks.RetryAfterOf(err); wait > 0 {
			out.NotBefore = time.Now().Add(wait)
		}
		again := r.again(cfg, err, timedOut)
		switch {
		case again && over(r.recognised(ctx, d, cfg, out), 0):
			out.Reason = dlq.ReasonAmbiguous
		case again && ctx.Err() != nil:
			out.Reason = endReason(ctx.Err())
		case again && out.Attempts < cfg.MaxAttempts:
			continue
		case again:
			out.Reason = dlq.ReasonExhausted
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			out.Reason = endReason(ctx.Err())
		default:
			out.Reason = finalReason(err)
		}
		return out
	}
}

// known is what sinks may know of d.
func (d Delivery) known(ctx context.Context) sinks.Delivery {
	k := sinks.DeliveryOf(ctx)
	k.FirstAttempt, k.ExpiresAt = sinks.FirstAttempt(ctx), d.ExpiresAt
	if !d.AcceptedAt.IsZero() {
		k.AcceptedAt = d.AcceptedAt
	}
	k.Group = cmp.Or(d.Group, k.Group)
	return k
}

// ended is for a delivery whose next attempt cannot start. The last attempt's error
// stays the one that is reported.
func (o Outcome) ended(reason dlq.Reason, why error) Outcome {
	o.Reason = reason
	if o.Err == nil {
		o.Err = &fault.Error{Code: fault.CodeNotAttempted, Msg: "not attempted", Cause: why}
	}
	return o
}

// expires reports whether d's time is over when wait is.
func (d Delivery) expires(wait time.Duration) bool {
	return over(d.ExpiresAt, wait)
}

// expired is for a delivery whose time is over before its next attempt. That it may have
// arrived counts for more.
func (o Outcome) expired(d Delivery) Outcome {
	reason := dlq.ReasonExpired
	if sinks.IsAmbiguous(o.Err) {
		reason = dlq.ReasonAmbiguous
	}
	return o.ended(reason, fmt.Errorf("its time is over at %s, before attempt %d", d.ExpiresAt.UTC().Format(time.RFC3339), o.Attempts+1))
}

// again decides whether an attempt's failure may be cured by another attempt. An
// attempt that timed out while the delivery lives is the attempt's failure, decided
// before IsTransient sees a context error.
func (r *Retrier) again(cfg Config, err error, timedOut bool) bool {
	if sinks.IsAmbiguous(err) {
		if cfg.OnAmbiguous == "" {
			return sinks.DedupWindow(r.Inner) != 0
		}
		return cfg.OnAmbiguous == AmbiguousResend
	}
	if timedOut && errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	if r.IsTransientFn != nil {
		return r.IsTransientFn(err)
	}
	return sinks.IsTransient(err)
}

// endReason tells a spent deadline from a caller that went away.
func endReason(err error) dlq.Reason {
	if errors.Is(err, context.DeadlineExceeded) {
		return dlq.ReasonDeadline
	}
	return dlq.ReasonCanceled
}

// finalReason is the reason of a failure that no attempt can cure.
func finalReason(err error) dlq.Reason {
	if sinks.IsAmbiguous(err) {
		return dlq.ReasonAmbiguous
	}
	switch fault.CodeOf(err) {
	case fault.CodeSinkConfigInvalid, fault.CodeSinkNotFound:
		return dlq.ReasonConfig
	case fault.CodeInvalidArgument, fault.CodeBodyTooLarge:
		return dlq.ReasonInvalid
	}
	return dlq.ReasonTerminal
}

// store pushes the failed delivery and completes out.
func (r *Retrier) store(ctx context.Context, d Delivery, out *Outcome) {
	k := d.known(ctx)
	if out.Item.FirstFailedAt.IsZero() && d.Unanswered > 0 { // what was not attempted now, and was before
		out.Item.FirstFailedAt = k.FirstAttempt
	}
	it := dlq.Item{
		DeliveryID: d.Message.ID, Sink: r.Name(), Message: d.Message, Attempts: out.Attempts, Reason: out.Reason,
		LastError: out.Err.Error(), FirstFailedAt: out.Item.FirstFailedAt, NotBefore: out.NotBefore,
		Trace: k.Trace, ExpiresAt: d.ExpiresAt, AcceptedAt: k.AcceptedAt, Group: k.Group, Unanswered: d.Unanswered + out.Unanswered,
	}
	var err error
	if it.Recipient, err = d.recipient(); err != nil {
		// Without its recipient it would go to the sink's default: never by itself.
		it.Reason, it.LastError = dlq.ReasonInvalid, it.LastError+"; recipient lost: "+err.Error()
		out.Reason = it.Reason
	}
	out.Item = it
	if r.DLQ == nil || r.HandBack != nil && r.HandBack(out.Reason) {
		return
	}
	sctx, cancel := d.Budget.storeContext(ctx)
	defer cancel()
	if a, ok := r.DLQ.(adder); ok {
		it, err = a.Add(sctx, it)
	} else {
		err = r.DLQ.Push(sctx, it)
	}
	if err != nil {
		out.StoreErr = err
		return
	}
	out.Status, out.Item = StatusDeadLettered, it
}

// adder is a DLQ that tells what it stored.
type adder interface {
	Add(ctx context.Context, it dlq.Item) (dlq.Item, error)
}

// recipient returns the recipient as it was received, nil for null.
func (d Delivery) recipient() (raw json.RawMessage, err error) {
	defer func() {
		if p := recover(); p != nil { // a MarshalJSON of its own
			raw, err = nil, fmt.Errorf("encoding a %T panicked: %s", d.To, panics.Text(p))
		}
	}()
	raw, stored := d.Received, d.To == nil
	if raw == nil && !stored {
		raw, stored = d.To.(json.RawMessage)
	}
	if raw == nil && !stored {
		if raw, err = json.Marshal(d.To); err != nil {
			return nil, err
		}
	}
	if string(raw) == "null" {
		return nil, nil
	}
	return raw, nil
}

func (r *Retrier) logger() *slog.Logger {
	if r.Logger != nil {
		return r.Logger
	}
	return slog.Default()
}
