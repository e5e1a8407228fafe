package retry

import (
	"context"

	"backstop/lib/sinks"
)

// WithTrace keeps the caller's trace header (W3C traceparent or X-Amzn-Trace-Id) for what is sent of a
// delivery under ctx, and for the dead letter that it may become (see sinks.Delivery).
func WithTrace(ctx context.Context, trace string) context.Context {
	if trace == "" {
		return ctx
	}
	d := sinks.DeliveryOf(ctx)
	d.Trace = trace
	return sinks.WithDelivery(ctx, d)
}
