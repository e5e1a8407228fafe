// Package handler turns the events of the send function into requests, and what became of
// them into the transport's answers.
package handler

import (
	"context"
	"encoding/json"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"backstop/internal/app"
	"backstop/internal/observe"
	"backstop/internal/strictjson"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
)

// handler takes the three shapes of events. It is safe for concurrent use.
type handler struct {
	app *app.App
	// broken is why the function cannot work at all (its environment); nil when it can.
	broken error
}

// New returns the function over a. With broken set, which says why it cannot work at all,
// every invocation is answered with that.
func New(a *app.App, broken error) lambda.Handler { return &handler{app: a, broken: broken} }

// Invoke implements lambda.Handler.
func (h *handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if e, ok := readHTTP(payload); ok {
		return h.http(ctx, e)
	}
	shape, err := shapeOf(payload)
	if err != nil {
		return nil, app.FunctionError(err)
	}
	if shape == shapeHTTP { // without a path, or with a fault
		var e httpEvent
		if err := strictjson.DecodePart(payload, &e); err != nil {
			return nil, app.FunctionError(invalid("%s", strictjson.Text("event", err)))
		}
		return h.http(ctx, e)
	}
	if h.broken != nil {
		return nil, app.FunctionError(h.broken)
	}
	defer h.app.Begin(ctx)()
	if shape == shapeSQS {
		return h.sqs(ctx, payload)
	}
	return h.direct(ctx, payload)
}

// direct answers a bare request. An asynchronous caller never sees the answer and the
// function cannot tell, so whatever is not safe is a function error: the platform
// retries it and keeps it.
func (h *handler) direct(ctx context.Context, payload []byte) ([]byte, error) {
	budget := retry.NewBudget(ctx, h.app.Env.Reserve)
	r, err := parseRequest(payload)
	if err == nil {
		err = identify(&r, requestID(ctx))
	}
	if err != nil {
		return nil, app.FunctionError(err)
	}
	r.Trace, r.Budget = traceFrom(ctx, nil), budget
	a, err := h.deliver(ctx, r)
	if err != nil {
		return nil, app.FunctionError(err)
	}
	return json.Marshal(a)
}

// requestID is the invocation's own id, which stays the same when the platform retries
// an asynchronous one: the receiver can then tell a repetition. Empty outside Lambda.
func requestID(ctx context.Context) string {
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		return lc.AwsRequestID
	}
	return ""
}

// deliver delivers r, with one log line and its metrics.
func (h *handler) deliver(ctx context.Context, r delivery.Request) (delivery.Answer, error) {
	start := time.Now()
	a, err := h.app.Sender.Deliver(ctx, r)
	h.observe(ctx, r, a, err, time.Since(start))
	return a, err
}

// plain reports whether a delivery went as deliveries do: it was accepted, or arrived at its first
// attempt, now or the first time it came. Of everything else each line is worth having.
func plain(a delivery.Answer, err error) bool {
	return err == nil && (a.Status == delivery.StatusAccepted || a.Status == delivery.StatusDelivered) &&
		a.Attempts <= 1 && a.Unanswered == 0 && a.Error == ""
}

// observe writes the delivery's one log line, unless it is a plain success that is left out of
// the sample, which the line with the metrics counts; and its metrics.
func (h *handler) observe(ctx context.Context, r delivery.Request, a delivery.Answer, err error, elapsed time.Duration) {
	status, reason, text := string(a.Status), string(a.Reason), a.Error
	if err != nil {
		status, reason, text = string(retry.StatusHandedBack), string(fault.CodeOf(err)), err.Error()
	}
	attrs := []any{
		"delivery_id", r.ID, "sink", r.Sink, "status", status, "attempts", a.Attempts,
		"elapsed_ms", elapsed.Milliseconds(),
	}
	if reason != "" {
		attrs = append(attrs, "reason", reason)
	}
	if text != "" {
		attrs = append(attrs, "error", text)
	}
	if a.Receipt != "" {
		attrs = append(attrs, "receipt", a.Receipt)
	}
	if a.ItemID != "" {
		attrs = append(attrs, "item_id", a.ItemID)
	}
	if a.Spilled {
		attrs = append(attrs, "spilled", true)
	}
	if a.Unanswered > 0 {
		attrs = append(attrs, "unanswered", a.Unanswered)
	}
	if a.Duplicate {
		attrs = append(attrs, "duplicate", true)
	}
	if r.Trace != "" {
		attrs = append(attrs, "trace", r.Trace)
	}
	switch sample := h.app.Env.LogSuccesses; {
	case !plain(a, err) || sample.Weight() == 1:
		h.app.Log.InfoContext(ctx, "delivery", attrs...)
	case sample.Takes(r.ID):
		h.app.Log.InfoContext(ctx, "delivery", append(attrs, "weight", sample.Weight())...)
	default:
		h.app.Metrics.Unlogged(r.Sink, elapsed)
	}

	sink := r.Sink
	if fault.CodeOf(err) == fault.CodeSinkNotFound || fault.CheckName(sink) != nil {
		sink = "" // callers must not be able to make up metric dimensions
	}
	switch {
	case a.Duplicate:
		h.app.Metrics.Add(observe.Duplicate, sink, 1)
		return
	case err != nil:
		h.app.Metrics.AddReason(observe.HandedBack, sink, reason, 1)
	case a.Status == delivery.StatusAccepted:
		h.app.Metrics.Add(observe.Accepted, sink, 1)
		return
	case a.Status == delivery.StatusDeadLettered:
		h.app.Metrics.AddReason(observe.DeadLettered, sink, reason, 1)
		switch a.Reason {
		case dlq.ReasonThrottled:
			h.app.Metrics.Add(observe.Throttled, sink, 1)
		case dlq.ReasonExpired:
			h.app.Metrics.Add(observe.Expired, sink, 1)
		}
	default:
		h.app.Metrics.Add(observe.Delivered, sink, 1)
	}
	if a.Attempts > 0 {
		h.app.Metrics.Add(observe.Attempts, sink, float64(a.Attempts))
		h.app.Metrics.Add(observe.AttemptLatency, sink, float64(a.Trying.Milliseconds())/float64(a.Attempts))
	}
}
