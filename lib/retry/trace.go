package retry

import "context"

type traceKey struct{}

// WithTrace keeps the caller's trace header (W3C traceparent or X-Amzn-Trace-Id) for
// the dead letter that a delivery under ctx may become.
func WithTrace(ctx context.Context, trace string) context.Context {
	if trace == "" {
		return ctx
	}
	return context.WithValue(ctx, traceKey{}, trace)
}

func traceOf(ctx context.Context) string {
	trace, _ := ctx.Value(traceKey{}).(string)
	return trace
}
