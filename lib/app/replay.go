package app

import (
	"context"

	"backstop/lib/fault"
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
