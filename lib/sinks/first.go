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
	return &begun{ctx, t}
}

// begun is a context that knows when the first attempt began: in one allocation, for there
// is one per delivery.
type begun struct {
	context.Context
	first time.Time
}

// Value implements context.Context.
func (b *begun) Value(key any) any {
	if key == (firstAttemptKey{}) {
		return b
	}
	return b.Context.Value(key)
}

// FirstAttempt returns when the first attempt to send the message under way began: now,
// where nobody said.
func FirstAttempt(ctx context.Context) time.Time {
	if b, ok := ctx.Value(firstAttemptKey{}).(*begun); ok && !b.first.IsZero() {
		return b.first
	}
	return time.Now()
}
