package handler

import (
	"context"
	"log/slog"

	"backstop/internal/app"
	"backstop/internal/replayer"
	"backstop/lib/replay"
)

// starter asks the replay function to work on an operation at once. It is only a hint:
// the operation is recorded, and the schedule works on it in any case.
type starter struct {
	replay *replayer.Function
	log    *slog.Logger
}

// newStarter returns nil where no replay function is named: then the schedule does the
// work.
func newStarter(ctx context.Context, a *app.App) *starter {
	if a.Env.ReplayFunction == "" {
		return nil
	}
	f, err := replayer.New(ctx, a.Env.ReplayFunction)
	if err != nil {
		a.Log.WarnContext(ctx, "operations will wait for the schedule", "error", err.Error())
		return nil
	}
	return &starter{f, a.Log}
}

// start invokes the replay function for an operation and does not wait for its work.
func (s *starter) start(ctx context.Context, operation string) {
	if s == nil {
		return
	}
	if err := s.replay.Start(ctx, replay.Request{Operation: operation}); err != nil {
		s.log.WarnContext(ctx, "replay not invoked; the operation waits for the schedule", "operation", operation, "error", err.Error())
	}
}
