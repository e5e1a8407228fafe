// Package handler runs the replay engine for the schedule and for whoever asks.
package handler

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"golang.org/x/sync/errgroup"

	"backstop/internal/app"
	"backstop/internal/observe"
	"backstop/internal/replayer"
	"backstop/lib/dlq"
	"backstop/lib/replay"
	"backstop/lib/retry"
)

// handler runs the replay engine. It is safe for concurrent use.
type handler struct {
	app    *app.App
	queues queues
	// broken is why the function cannot work at all (its environment); nil when it can.
	broken error
}

// New returns the function over a. With broken set, which says why it cannot work at all,
// every invocation is answered with that.
func New(ctx context.Context, a *app.App, broken error) lambda.Handler {
	h := newReplay(a, broken)
	if broken == nil && a.Env.Replayers > 1 {
		// The name is the process's own: a variable with it would need the function before there is one.
		f, err := replayer.New(ctx, lambdacontext.FunctionName)
		if err != nil {
			a.Log.WarnContext(ctx, "a tick will start no other replayers", "error", err.Error())
			return h
		}
		a.Engine.Start = f.Start
	}
	return h
}

func newReplay(a *app.App, broken error) *handler {
	return &handler{app: a, queues: a.Queue, broken: broken}
}

// queues are what the handler measures.
type queues interface {
	Sinks(ctx context.Context) ([]string, error)
	Stats(ctx context.Context, sink string) (dlq.Stats, error)
}

// Invoke implements lambda.Handler. Every failure is a function error with a named
// type: nobody reads an answer of the schedule's.
func (h *handler) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	if h.broken != nil {
		return nil, app.FunctionError(h.broken)
	}
	request, err := replay.ParseRequest(payload)
	if err != nil {
		return nil, app.FunctionError(err)
	}
	defer h.app.Begin(ctx)()
	budget := retry.NewBudget(ctx, h.app.Env.Reserve)
	start := time.Now()
	summary, err := h.app.Engine.Run(ctx, request)
	if err != nil {
		h.app.Log.ErrorContext(ctx, "replay failed", "error", err.Error())
		return nil, app.FunctionError(err)
	}
	attrs := []any{
		"claimed", summary.Claimed, "delivered", summary.Delivered, "failed", summary.Failed,
		"parked", summary.Parked, "expired", summary.Expired, "skipped", summary.Skipped, "remaining", summary.Remaining, "elapsed_ms", time.Since(start).Milliseconds(),
	}
	switch {
	case request.Part != nil:
		attrs = append(attrs, "rank", request.Part.Rank)
	case summary.Started+summary.Missing > 0:
		attrs = append(attrs, "replayers_started", summary.Started, "replayers_missing", summary.Missing)
	}
	h.app.Log.InfoContext(ctx, "replay run", attrs...)
	for _, name := range slices.Sorted(maps.Keys(summary.Sinks)) {
		if why := summary.Sinks[name].Error; why != "" {
			h.app.Log.WarnContext(ctx, "sink left out, or left early", "sink", name, "error", why)
		}
		if s := summary.Sinks[name]; s.HeldBack != "" {
			h.app.Log.InfoContext(ctx, "sink left alone", "sink", name, "why", s.HeldBack, "next_probe", s.NextProbe)
		}
	}
	if request.Part == nil { // what is counted and measured once a tick is the tick's
		h.report(ctx, request, summary, budget)
	}
	return json.Marshal(summary)
}

// report publishes what a run says of the whole.
func (h *handler) report(ctx context.Context, r replay.Request, s replay.Summary, b retry.Budget) {
	if h.app.Config.Age() >= 0 { // without a configuration nothing is replayed, however well that went
		h.app.Metrics.Add(observe.ReplayRuns, "", 1)
	}
	if r.Scheduled && h.app.Env.Replayers > 1 {
		h.app.Metrics.Add(observe.ReplayersMissing, "", float64(s.Missing))
	}
	h.measure(ctx, b)
}

// Bounds of measuring: a queue that does not answer takes no more than its share, and all
// of them together no more than this.
const (
	measureQueue = time.Second
	measureAll   = 5 * time.Second
	measureCalls = 16 // queues at once
)

// measure publishes the depth and the oldest age of every queue; the alarms rest on
// them. What cannot be read now is left out, and read at the next tick.
func (h *handler) measure(ctx context.Context, b retry.Budget) {
	end := time.Now().Add(measureAll)
	if !b.Deadline.IsZero() {
		if last := b.Deadline.Add(-b.Reserve / 8); last.Before(end) {
			end = last
		}
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	names, err := h.queues.Sinks(ctx)
	if err != nil {
		h.app.Log.WarnContext(ctx, "queues not measured", "error", err.Error())
		return
	}
	var g errgroup.Group
	g.SetLimit(measureCalls)
	for _, name := range names {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, measureQueue)
			defer cancel()
			stats, err := h.queues.Stats(ctx, name)
			if err != nil {
				h.app.Log.WarnContext(ctx, "queue not measured", "sink", name, "error", err.Error())
				return nil // the others are measured
			}
			h.app.Metrics.Add(observe.DLQDepth, name, float64(stats.Depth))
			h.app.Metrics.Add(observe.DLQOldestAge, name, age(stats))
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
}

func age(s dlq.Stats) float64 {
	if s.OldestAt.IsZero() {
		return 0
	}
	return max(0, time.Since(s.OldestAt).Seconds())
}
