package retry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"backstop/internal/delay"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/sinks"
)

// Gate decides when a receiver may be attempted; a *flow.Gate is one. It is safe for
// concurrent use.
type Gate interface {
	// Ask says whether an attempt may begin. One that may is told to Tell, once.
	Ask(ctx context.Context, t flow.Try) flow.Leave
	// Shut says whether Ask would refuse, without asking for anything.
	Shut(ctx context.Context, t flow.Try) (flow.Leave, bool)
	// Tell says what came of an attempt.
	Tell(ctx context.Context, l flow.Leave, t flow.Told)
	// Lost says that a delivery failed for now, with the error of its last attempt.
	Lost(ctx context.Context, t flow.Try, why string)
}

// try is the next attempt of d, as the gate sees it.
func (r *Retrier) try(d Delivery, cfg Config) flow.Try {
	return flow.Try{
		Sink: r.Name(), Receiver: sinks.ReceiverOf(r.Inner, d.To), RateKey: sinks.RateKeyOf(r.Inner, d.To), Delivery: d.Message.ID,
		Latest: d.Budget.latest(r.slotWait(cfg)), End: d.Budget.attemptDeadline(cfg.AttemptTimeout).Add(d.Budget.grace()),
		Policy: r.Flow, Force: d.Force,
	}
}

// shut reports whether the receiver is left alone: then nothing waits for it, and out is
// complete. own is what the attempt has been given, nil: nothing yet.
func (r *Retrier) shut(ctx context.Context, d Delivery, cfg Config, own *flow.Leave, out *Outcome) bool {
	if r.Gate == nil {
		return false
	}
	t := r.try(d, cfg)
	t.Own = own
	l, refused := r.Gate.Shut(ctx, t)
	if refused {
		*out = out.refused(dlq.ReasonOpen, l, cfg)
	}
	return refused
}

// enter waits until an attempt may begin. It reports false when none may, and out is complete
// then.
func (r *Retrier) enter(ctx context.Context, d Delivery, cfg Config, out *Outcome) (flow.Leave, bool) {
	if r.Gate == nil {
		return flow.Leave{}, true
	}
	for {
		l := r.Gate.Ask(ctx, r.try(d, cfg))
		switch l.Verdict {
		case flow.Go:
			return l, r.untilSlot(ctx, d, cfg, l, out)
		case flow.Refused:
			*out = out.refused(dlq.ReasonOpen, l, cfg)
			return l, false
		}
		// All that wait would come back at once otherwise. Whoever finds no slot comes back when
		// it is his turn: waiting for it here takes one from nobody, and costs.
		wait := waitOf(l, cfg)
		if r.tooLate(ctx, d, cfg, time.Until(l.At), out) {
			return l, false
		}
		if l.Spaced || !d.Budget.Fits(wait) || wait > cfg.longestWait() {
			*out = out.refused(dlq.ReasonThrottled, l, cfg)
			return l, false
		}
		if err := delay.Sleep(ctx, wait); err != nil {
			*out = out.ended(endReason(err), fmt.Errorf("before attempt %d: %w", out.Attempts+1, err))
			return l, false
		}
	}
}

// untilSlot waits for the slot that l has got, and looks then whether the receiver is left alone
// by now. It reports false when no attempt may begin, and out is complete then.
func (r *Retrier) untilSlot(ctx context.Context, d Delivery, cfg Config, l flow.Leave, out *Outcome) bool {
	if l.At.IsZero() {
		return true
	}
	if r.tooLate(ctx, d, cfg, time.Until(l.At), out) {
		r.tell(ctx, d.Budget, l, flow.NoAnswer, nil)
		return false
	}
	err := delay.Sleep(ctx, max(time.Until(l.At), 0))
	if err == nil && !r.shut(ctx, d, cfg, &l, out) {
		return true
	}
	r.tell(ctx, d.Budget, l, flow.NoAnswer, nil)
	if err != nil {
		*out = out.ended(endReason(err), fmt.Errorf("before attempt %d: %w", out.Attempts+1, err))
	}
	return false
}

// refused is for a delivery that the gate ends. It is not due before its receiver may be
// tried again.
func (o Outcome) refused(reason dlq.Reason, l flow.Leave, cfg Config) Outcome {
	if at := time.Now().Add(waitOf(l, cfg)); at.After(o.NotBefore) {
		o.NotBefore = at
	}
	o.Down = l.Down
	return o.ended(reason, errors.New(l.Why))
}

// waitOf is how long l is waited for.
func waitOf(l flow.Leave, cfg Config) time.Duration {
	if l.Spaced {
		return max(time.Until(l.At), 0)
	}
	return cfg.spread(time.Until(l.At))
}

// spread returns d with up to a fifth of it, and a quarter of a second, on top.
func (c Config) spread(d time.Duration) time.Duration {
	d = max(d, 0)
	return d + time.Duration(c.Rand()*float64(d/5+250*time.Millisecond))
}

// DefaultSlotWait is the longest wait for a slot of a receiver's rate.
const DefaultSlotWait = 5 * time.Second

func (r *Retrier) slotWait(cfg Config) time.Duration {
	return cmp.Or(r.SlotWait, min(DefaultSlotWait, cfg.longestWait()))
}

// longestWait is the longest wait for another attempt.
func (c Config) longestWait() time.Duration {
	longest := c.backoff().Longest()
	if c.MaxWait > 0 {
		longest = min(longest, c.MaxWait)
	}
	return longest
}

// resultOf says what an attempt's end tells of its receiver. Whatever it answered, it is
// there, and a failure that may pass is one; but what ended with our own end, never left the
// process, or failed for good before the receiver could judge the message, tells nothing.
// A receiver that asks one chat to wait, where it counts so, is neither well nor ill for the others.
func (r *Retrier) resultOf(ctx context.Context, d Delivery, cfg Config, err error, timedOut bool) flow.Result {
	switch {
	case err == nil:
		return flow.Good
	case sinks.HoldOf(err) > 0 && sinks.RateKeyOf(r.Inner, d.To) != "":
		return flow.NoAnswer
	case sinks.IsOurs(err), ctx.Err() != nil && !sinks.IsAmbiguous(err):
		return flow.NoAnswer
	case sinks.IsAmbiguous(err), r.again(cfg, err, timedOut):
		return flow.Bad
	case sinks.IsUnreached(err):
		return flow.NoAnswer
	}
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Code == fault.CodeSinkUnavailable {
		return flow.Good
	}
	return flow.NoAnswer
}

func (r *Retrier) tell(ctx context.Context, b Budget, l flow.Leave, result flow.Result, err error) {
	if r.Gate == nil {
		return
	}
	told := flow.Told{Result: result, Hold: sinks.HoldOf(err)}
	if err != nil {
		told.Error = err.Error()
	}
	ctx, cancel := b.AnswerContext(ctx)
	defer cancel()
	r.Gate.Tell(ctx, l, told)
}

// lost tells the gate of a delivery that its receiver failed, once it is stored.
func (r *Retrier) lost(ctx context.Context, d Delivery, out Outcome) {
	if r.Gate == nil || !out.failed || out.Status != StatusDeadLettered {
		return
	}
	ctx, cancel := d.Budget.AnswerContext(ctx)
	defer cancel()
	r.Gate.Lost(ctx, r.try(d, r.Cfg.Normalize()), out.Err.Error())
}
