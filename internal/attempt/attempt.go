// Package attempt calls a sink once and always comes back. The Retrier makes its attempts
// through it, and so does a replay through a sink that no Retrier wraps.
package attempt

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"backstop/internal/panics"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// Send calls s.Send. A panic is a terminal failure, and log is told. A sink that does not
// promise to return when its context ends (sinks.EndsWithContext) is left behind once grace
// has passed since: nobody knows what it still does, so that is ambiguous. What a sink says
// reaches dead letters, answers and logs: URLs in its error are cut (sinks.SafeError).
func Send(ctx context.Context, log *slog.Logger, grace time.Duration, s sinks.Sink, to sinks.Recipient, m sinks.Message) error {
	if p, ok := s.(sinks.EndsWithContext); ok && p.EndsWithContext(s) { // what it wraps would say nothing of it
		return send(ctx, log, s, to, m)
	}
	done := make(chan error, 1)
	go func() {
		var err error
		returned := false
		defer func() {
			if !returned { // Send ended its goroutine, as a test's FailNow does
				err = sinks.Terminal(&fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("sink %q ended its goroutine", s.Name())})
			}
			done <- err
		}()
		err = send(ctx, log, s, to, m)
		returned = true
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case err := <-done:
		return err
	case <-t.C:
		return sinks.Ambiguous(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: fmt.Sprintf("sink %q ignored the end of its attempt", s.Name())})
	}
}

// send calls Send. A panic is a failure of the attempt.
func send(ctx context.Context, log *slog.Logger, s sinks.Sink, to sinks.Recipient, m sinks.Message) (err error) {
	makeRoom()
	defer func() {
		if p := recover(); p != nil {
			log.ErrorContext(ctx, "sink panicked", "sink", s.Name(), "delivery_id", m.ID, "panic", panics.Text(p), "stack", string(debug.Stack()))
			err = sinks.Terminal(&fault.Error{Code: fault.CodeInternal, Msg: fmt.Sprintf("sink %q panicked", s.Name())})
		}
	}()
	return sinks.SafeError(s.Send(ctx, to, m))
}

// makeRoom grows the stack of a young goroutine at once to what a sink needs. Grown step
// by step, and copied each time, it costs a tenth of a whole HTTP request.
//
//go:noinline
func makeRoom() byte {
	var room [10 << 10]byte
	return touch(&room)
}

//go:noinline
func touch(room *[10 << 10]byte) byte { return room[len(room)-1] }
