package app

import (
	"context"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"backstop/internal/observe"
	"backstop/internal/problem"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/retry"
)

// Begin notes the start of an invocation under ctx and returns what ends it: what was seen of
// receivers that are failing is shared, and the metrics are written, with what is counted
// outside single deliveries.
func (a *App) Begin(ctx context.Context) (end func()) {
	a.Metrics.Begin()
	budget := retry.NewBudget(ctx, a.Env.Reserve)
	return func() {
		shared, cancel := budget.AnswerContext(ctx)
		a.Gate.Flush(shared)
		cancel()
		a.report(ctx)
		a.Metrics.End(ctx)
		a.flush(ctx)
	}
}

// report counts the dead letters that an overflowing queue lost since the last report, and
// the age of the configuration, or that there is none. Something that never existed has no
// age, and an alarm on age stays silent.
func (a *App) report(ctx context.Context) {
	a.reportTrimmed(ctx)
	age := a.Config.Age()
	if age < 0 {
		a.Metrics.Add(observe.ConfigMissing, "", 1)
		return
	}
	a.Metrics.Add(observe.ConfigMissing, "", 0)
	a.Metrics.Add(observe.ConfigAge, "", age.Round(time.Millisecond).Seconds())
}

func (a *App) flush(ctx context.Context) {
	if err := a.Metrics.Flush(a.Out); err != nil {
		a.Log.ErrorContext(ctx, "metrics not written", "error", err.Error())
	}
}

// FunctionError is a function's error as the platform and the caller see it: its type is
// the error's code. The text of an INTERNAL one, which may be anything, is left out.
func FunctionError(err error) error {
	p := problem.From(err)
	text := err.Error()
	if p.Code == fault.CodeInternal {
		text = p.Title
	}
	return messages.InvokeResponse_Error{Type: string(p.Code), Message: text}
}

// counter counts what the Sender and the replay engine did.
type counter struct{ *observe.Metrics }

// Unguarded implements delivery.Observer.
func (c counter) Unguarded(sink string) { c.Add(observe.Unguarded, sink, 1) }

// Event implements delivery.EventObserver.
func (c counter) Event(sink string, _ delivery.Fate, s delivery.EventStatus) {
	switch s {
	case delivery.EventSent:
		c.Add(observe.EventsSent, sink, 1)
	case delivery.EventDeadLettered:
		c.Add(observe.EventsDeadLettered, sink, 1)
	case delivery.EventPending:
		c.Add(observe.EventsPending, sink, 1)
	}
}

// BreakerOpened implements flow.Observer.
func (c counter) BreakerOpened(_ context.Context, sink string) {
	c.Add(observe.BreakerOpened, sink, 1)
}

// Held implements flow.Observer.
func (c counter) Held(_ context.Context, sink string) { c.Add(observe.Held, sink, 1) }

// ReplayRefused implements replay.Observer.
func (c counter) ReplayRefused(_ context.Context, sink string, reason dlq.Reason) {
	if reason == dlq.ReasonThrottled {
		c.Add(observe.Throttled, sink, 1)
	}
}

// ReplayExpired implements replay.Observer.
func (c counter) ReplayExpired(_ context.Context, sink string) { c.Add(observe.Expired, sink, 1) }

// ReplayDelivered implements replay.Observer.
func (c counter) ReplayDelivered(_ context.Context, sink string) {
	c.Add(observe.ReplayDelivered, sink, 1)
}

// ReplayFailed implements replay.Observer.
func (c counter) ReplayFailed(_ context.Context, sink string) { c.Add(observe.ReplayFailed, sink, 1) }

// Parked implements replay.Observer.
func (c counter) Parked(_ context.Context, sink string) { c.Add(observe.Parked, sink, 1) }

// Journal implements replay.JournalObserver.
func (c counter) Journal(_ context.Context, sink string, s replay.JournalSummary) {
	lost := 0.0
	if s.Lost {
		lost = 1
	}
	for m, v := range map[observe.Metric]float64{
		observe.SpillDepth: float64(s.Spilled), observe.Unjournaled: float64(s.Unjournaled), observe.Ending: float64(s.Ending),
		observe.Healed: float64(s.Healed), observe.Damaged: float64(s.Damaged + s.Conflicts), observe.QueueLost: lost,
	} {
		c.Add(m, sink, v)
	}
}

// NewCauses implements replay.CauseObserver.
func (c counter) NewCauses(_ context.Context, sink string, n int) {
	c.Add(observe.NewCauses, sink, float64(n))
}

// Retired implements replay.RetentionObserver.
func (c counter) Retired(_ context.Context, sink string, n int64) {
	c.Add(observe.Retired, sink, float64(n))
}
