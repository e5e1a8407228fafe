package app

import (
	"context"

	"backstop/lib/fault"
	"backstop/lib/observe"
	"backstop/lib/replay"
)

// replayTargets finds the configured sinks for the replay engine.
type replayTargets struct{ app *App }

// Target implements replay.Targets.
func (t replayTargets) Target(ctx context.Context, name string) (replay.Target, error) {
	s, err := t.app.Config.Sink(ctx, name)
	if err == nil && s.Err != nil {
		err = &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: name, Cause: s.Err}
	}
	if err != nil {
		return replay.Target{}, err
	}
	return replay.Target{Sink: s.Sink, Retry: s.Retry, Policy: s.Replay}, nil
}

// Names implements replay.Targets.
func (t replayTargets) Names(ctx context.Context) ([]string, error) {
	snapshot, err := t.app.Config.Get(ctx)
	if err != nil {
		return nil, err
	}
	return snapshot.Names(), nil
}

// replayObserver counts replays into the metrics of the invocation in ctx.
type replayObserver struct{}

func (replayObserver) ReplayDelivered(ctx context.Context, sink string) {
	observe.MetricsFrom(ctx).Add(observe.ReplayDelivered, sink, 1)
}

func (replayObserver) ReplayFailed(ctx context.Context, sink string) {
	observe.MetricsFrom(ctx).Add(observe.ReplayFailed, sink, 1)
}

func (replayObserver) Parked(ctx context.Context, sink string) {
	observe.MetricsFrom(ctx).Add(observe.Parked, sink, 1)
}
