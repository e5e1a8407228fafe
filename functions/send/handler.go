package main

import (
	"context"
	"encoding/json"
	"io"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"backstop/lib/app"
	"backstop/lib/fault"
	"backstop/lib/observe"
	"backstop/lib/problem"
	"backstop/lib/retry"
)

// handler takes the three shapes of events. It is safe for concurrent use.
type handler struct {
	app *app.App
	// broken is why the function cannot work at all (its environment); nil when it can.
	broken error
	// out takes the metrics.
	out io.Writer
}

// Invoke implements lambda.Handler.
func (h *handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	shape, err := shapeOf(payload)
	if err != nil {
		return nil, functionError(err)
	}
	if h.broken != nil {
		if shape == shapeHTTP {
			return json.Marshal(problemResponse(problem.From(h.broken)))
		}
		return nil, functionError(h.broken)
	}

	s := &sender{
		targets: h.app, items: h.app.Queue, records: h.app.Records, log: h.app.Log,
		metrics: observe.NewMetrics(h.app.Env.Service), maxBytes: h.app.Env.MaxBodyBytes,
		keepUnsendable: shape == shapeSQS, queueReceives: h.app.Env.QueueReceives,
	}
	s.metrics.Begin()
	defer func() {
		h.app.Report(ctx, s.metrics)
		s.metrics.End(ctx)
		if err := s.metrics.Flush(h.out); err != nil {
			h.app.Log.ErrorContext(ctx, "metrics not written", "error", err.Error())
		}
	}()
	switch shape {
	case shapeHTTP:
		return h.http(ctx, s, payload)
	case shapeSQS:
		return h.sqs(ctx, s, payload)
	}
	return h.direct(ctx, s, payload)
}

// direct answers a bare request. An asynchronous caller never sees the answer and the
// function cannot tell, so whatever is not safe is a function error: the platform
// retries it and keeps it.
func (h *handler) direct(ctx context.Context, s *sender, payload []byte) ([]byte, error) {
	budget := retry.NewBudget(ctx, h.app.Env.Reserve)
	r, err := parseRequest(payload)
	if err == nil {
		err = r.identify(requestID(ctx))
	}
	if err != nil {
		return nil, functionError(err)
	}
	r.trace, r.budget = traceFrom(ctx, nil), budget
	a, err := s.deliver(retry.WithTrace(ctx, r.trace), r)
	if err != nil {
		return nil, functionError(err)
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

// functionError names the error's type by its code, for the platform and the caller.
func functionError(err error) error {
	p := problem.From(err)
	return messages.InvokeResponse_Error{Type: string(p.Code), Message: text(p, err)}
}

func text(p problem.Problem, err error) string {
	if p.Code == fault.CodeInternal {
		return p.Title
	}
	return err.Error()
}
