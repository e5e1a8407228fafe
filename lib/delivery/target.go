package delivery

import (
	"context"
	"fmt"
	"time"

	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay/policy"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Target is a configured sink, as a Sender and a replay.Engine use it.
type Target struct {
	// Sink sends the message. Retries around it are taken off: Retry and Replay say how
	// often it is tried. It may be nil where ConfigErr is set.
	Sink sinks.Sink
	// Retry says how often and how fast the sink is tried. A replay makes Replay.Attempts
	// attempts instead of its MaxAttempts.
	Retry retry.Config
	// Replay says how the sink's dead letters are replayed.
	Replay policy.Policy
	// Flow says when the sink's receivers are left alone. It counts where there is a Gate.
	Flow flow.Policy
	// ConfigErr says what is wrong with the sink's configuration; nil when it can send. Its
	// deliveries are dead-lettered without an attempt, and its dead letters stay.
	ConfigErr error
	// Hold says that a failure which may pass holds up the rest of its FIFO message group,
	// as long as the queue hands it out again.
	Hold bool
	// MaxAge is how old a message may become before it is given up, counted from its
	// acceptance. Zero: no bound.
	MaxAge time.Duration
	// Events says which fates of its deliveries are told. It counts where there is an Eventer. A sink
	// that events go through must have none.
	Events Events
	// Retention is how long a dead letter that nothing is due to happen to by itself is kept, counted
	// from its push. Zero: for good.
	Retention time.Duration
}

// Targets finds configured sinks. It is safe for concurrent use.
type Targets interface {
	// Target returns the sink of that name. An error means that nothing is known of it now,
	// through no fault of a message (SINK_NOT_FOUND, SINK_CONFIG_INVALID): the caller keeps
	// the message, and dead letters stay.
	Target(ctx context.Context, sink string) (Target, error)
	// Names returns the names of the configured sinks, in any order. A replay finds dead
	// letters that others wrote through them.
	Names(ctx context.Context) ([]string, error)
}

// Registered returns the sinks of a registry as targets. One that a retry.Retrier wraps is
// tried as the Retrier's Cfg says, others by the defaults of retry.Config. A sink that is
// registered later is found too; one that is not is SINK_NOT_FOUND.
func Registered(r *sinks.Registry) Targets { return registered{r} }

type registered struct{ *sinks.Registry }

// Target implements Targets.
func (r registered) Target(_ context.Context, name string) (Target, error) {
	s, ok := r.Get(name)
	if !ok {
		return Target{}, &fault.Error{Code: fault.CodeSinkNotFound, Msg: fmt.Sprintf("no sink is registered as %q", name)}
	}
	t := Target{Sink: s}
	for outer := s; outer != nil; {
		if retrier, ok := outer.(*retry.Retrier); ok {
			t.Retry = retrier.Cfg
		}
		u, ok := outer.(interface{ Unwrap() sinks.Sink })
		if !ok {
			break
		}
		outer = u.Unwrap()
	}
	return t, nil
}

// Names implements Targets.
func (r registered) Names(context.Context) ([]string, error) { return r.Registry.Names(), nil }

// retrier returns the Retrier that delivers r through t.
func (s *Sender) retrier(t Target, r Request) *retry.Retrier {
	inner := t.Sink
	if inner == nil {
		inner = unusable(r.Sink)
	}
	if r.event {
		t.Retry.MaxAttempts = 1
	}
	retrier := retry.NewRetrier(retry.Bare(inner), t.Retry, s.Queue)
	retrier.Reserve, retrier.Logger, retrier.Gate, retrier.Flow = s.Reserve, s.log(), s.Gate, t.Flow
	if t.Hold && r.ComesAgain {
		retrier.HandBack = heldBack
	}
	return retrier
}

// unusable stands for a sink that its configuration does not make.
type unusable string

func (u unusable) Name() string { return string(u) }

func (u unusable) Send(context.Context, sinks.Recipient, sinks.Message) error {
	return sinks.Terminal(&fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: fmt.Sprintf("sink %q cannot be used", string(u))})
}
