package main

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"backstop/lib/app"
	"backstop/lib/dlq"
	"backstop/lib/observe"
	"backstop/lib/problem"
	"backstop/lib/replay"
	"backstop/lib/retry"
)

// handler runs the replay engine. It is safe for concurrent use.
type handler struct {
	app *app.App
	// broken is why the function cannot work at all (its environment); nil when it can.
	broken error
	// out takes the metrics.
	out io.Writer
}

// Invoke implements lambda.Handler. Every failure is a function error with a named
// type: nobody reads an answer of the schedule's.
func (h *handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if h.broken != nil {
		return nil, functionError(h.broken)
	}
	request, err := replay.ParseRequest(payload)
	if err != nil {
		return nil, functionError(err)
	}
	metrics := observe.NewMetrics(h.app.Env.Service)
	metrics.Begin()
	ctx = observe.WithMetrics(ctx, metrics)
	ctx = retry.WithBudget(ctx, retry.NewBudget(ctx, h.app.Env.Reserve))
	defer func() {
		h.app.Report(ctx, metrics)
		metrics.End(ctx)
		if err := metrics.Flush(h.out); err != nil {
			h.app.Log.ErrorContext(ctx, "metrics not written", "error", err.Error())
		}
	}()
	start := time.Now()
	summary, err := h.app.Engine.Run(ctx, request)
	if err != nil {
		h.app.Log.ErrorContext(ctx, "replay failed", "error", err.Error())
		return nil, functionError(err)
	}
	h.app.Log.InfoContext(ctx, "replay run", "claimed", summary.Claimed, "delivered", summary.Delivered, "failed", summary.Failed,
		"parked", summary.Parked, "skipped", summary.Skipped, "remaining", summary.Remaining, "elapsed_ms", time.Since(start).Milliseconds())
	if h.app.Config.Age() >= 0 { // without a configuration nothing is replayed, however well that went
		metrics.Add(observe.ReplayRuns, "", 1)
	}
	h.measure(ctx, metrics)
	return json.Marshal(summary)
}

// measure publishes the depth and the oldest age of every queue; the alarms rest on
// them. What cannot be read now is left out, and read at the next tick.
func (h *handler) measure(ctx context.Context, m *observe.Metrics) {
	names, err := h.app.Queue.Sinks(ctx)
	if err != nil {
		h.app.Log.WarnContext(ctx, "queues not measured", "error", err.Error())
		return
	}
	for _, name := range names {
		stats, err := h.app.Queue.Stats(ctx, name)
		if err != nil {
			h.app.Log.WarnContext(ctx, "queue not measured", "sink", name, "error", err.Error())
			return
		}
		m.Add(observe.DLQDepth, name, float64(stats.Depth))
		m.Add(observe.DLQOldestAge, name, age(stats))
	}
}

func age(s dlq.Stats) float64 {
	if s.OldestAt.IsZero() {
		return 0
	}
	return max(0, time.Since(s.OldestAt).Seconds())
}

func functionError(err error) error {
	p := problem.From(err)
	return messages.InvokeResponse_Error{Type: string(p.Code), Message: err.Error()}
}
