package lambdahost

import (
	"context"
	"log/slog"
	"time"

	"backstop/internal/delay"
)

// InvokeAsync accepts an event and returns its request id at once. In the background
// it is tried, tried again after function errors, and in the end handed to the
// function's OnFailure (see Async). Refusals are *APIError, as in Invoke; a busy
// function is none: the event waits.
func (h *Host) InvokeAsync(in Invocation) (requestID string, err error) {
	p, inv, err := h.prepare(in, MaxAsyncPayload)
	if err != nil {
		return "", err
	}
	if !h.begin() {
		return "", errClosed
	}
	go func() {
		defer h.wg.Done()
		p.runAsync(inv)
	}()
	return inv.id, nil
}

func (p *pool) runAsync(inv *invocation) {
	f := Failure{Function: p.fn.Name, RequestID: inv.id, Payload: inv.payload, Condition: RetriesExhausted}
	ctx, cancel := context.WithTimeout(p.h.ctx, p.fn.Async.MaxAge)
	defer cancel()
	for f.Attempts <= p.fn.Async.Retries {
		wait := time.Duration(0)
		if f.Attempts > 0 {
			wait = p.fn.Async.Backoff << (f.Attempts - 1)
		}
		if !p.queue(ctx, wait) {
			f.Condition = EventAgeExceeded
			if p.h.ctx.Err() != nil {
				f.Condition = HostClosed
			}
			break
		}
		if f.Attempts++; f.Attempts > 1 {
			p.count(func(s *Stats) { s.AsyncRetries++ })
		}
		f.Last = p.run(inv.retry())
		p.release()
		if f.Last.FunctionError == "" {
			return
		}
	}
	p.count(func(s *Stats) { s.AsyncFailures++ })
	p.h.opts.Logger.WarnContext(ctx, "asynchronous event failed", slog.String("function", p.fn.Name),
		slog.String("request_id", inv.id), slog.String("condition", string(f.Condition)), slog.Int("attempts", f.Attempts))
	if p.fn.Async.OnFailure != nil {
		p.fn.Async.OnFailure(f)
	}
}

// queue waits, then takes a slot, however long that takes while ctx lives.
func (p *pool) queue(ctx context.Context, wait time.Duration) bool {
	if delay.Sleep(ctx, wait) != nil {
		return false
	}
	select {
	case p.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}
