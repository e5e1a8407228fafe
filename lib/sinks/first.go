package sinks

import (
	"context"
	"time"
)

type firstAttemptKey struct{}

// WithFirstAttempt returns a context for attempts to send one message, the first of which
// began at t: before this one, in another process, or now. Sinks that date what they send
// date it so, which makes every attempt and replay the same message to its receiver.
func WithFirstAttempt(ctx context.Context, t time.Time) context.Context {
	return context.WithValue(ctx, firstAttemptKey{}, t)
}

// FirstAttempt returns when the first attempt to send the message under way began: now,
// where nobody said.
func FirstAttempt(ctx context.Context) time.Time {
	if t, ok := ctx.Value(firstAttemptKey{}).(time.Time); ok && !t.IsZero() {
		return t
	}
	return time.Now()
}
