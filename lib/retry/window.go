package retry

import (
	"context"
	"fmt"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// windowMargin is how long before the end of its receiver's window a delivery is given up that may have
// arrived: clocks differ, and an attempt takes time to get there.
const windowMargin = time.Minute

// RecognisedUntil is until when receivers of s recognise a delivery whose first attempt began at first:
// no attempt of one that may have arrived begins then or later, unless an operator asks for it. It is the
// sink's window (sinks.DedupWindow) less a minute, or half of one that is shorter than two. Zero: no such
// time, for the window has no end, OnAmbiguous decides, or receivers recognise nothing, and then an
// attempt that may have arrived is the last one.
func (c Config) RecognisedUntil(s sinks.Sink, first time.Time) time.Time {
	if c.OnAmbiguous != "" {
		return time.Time{}
	}
	window := sinks.DedupWindow(s)
	if window <= 0 {
		return time.Time{}
	}
	return first.Add(max(window-windowMargin, window/2))
}

// Unrecognised is why a delivery that may have arrived is not attempted again: its receiver recognises
// it no more since end. Its code is NOT_ATTEMPTED.
func Unrecognised(end time.Time) error {
	return &fault.Error{Code: fault.CodeNotAttempted, Msg: fmt.Sprintf("it may have arrived, and its receiver may not recognise it after %s", end.UTC().Format(time.RFC3339))}
}

// recognised is RecognisedUntil for the next attempt of d. Zero also where no attempt before may have
// arrived. Those that were made before an operator asked for one more are not counted.
func (r *Retrier) recognised(ctx context.Context, d Delivery, cfg Config, o Outcome) time.Time {
	before := o.Unanswered
	if !d.Force {
		before += d.Unanswered
	}
	if before <= 0 {
		return time.Time{}
	}
	return cfg.RecognisedUntil(r.Inner, sinks.FirstAttempt(ctx))
}

// tooLate reports whether no attempt may begin once wait is over: then out is complete. That its time is
// over counts before that its receiver would not recognise it.
func (r *Retrier) tooLate(ctx context.Context, d Delivery, cfg Config, wait time.Duration, out *Outcome) bool {
	if d.expires(wait) {
		*out = out.expired(d)
		return true
	}
	end := r.recognised(ctx, d, cfg, *out)
	if !over(end, wait) {
		return false
	}
	*out = out.ended(dlq.ReasonAmbiguous, Unrecognised(end))
	return true
}

// over reports whether end, unless it is zero, has come when wait is over.
func over(end time.Time, wait time.Duration) bool {
	return !end.IsZero() && time.Until(end) <= max(wait, 0)
}
