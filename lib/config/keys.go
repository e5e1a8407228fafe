package config

import (
	"errors"
	"time"

	"backstop/lib/flow"
	"backstop/lib/replay/policy"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Common holds the keys that every kind has.
type Common struct {
	Kind        string        `json:"kind" jsonschema_description:"The sink's kind."`
	Retry       RetryKeys     `json:"retry,omitempty" jsonschema_description:"How a message is retried within one delivery."`
	Replay      policy.Policy `json:"replay,omitempty" jsonschema_description:"How dead letters of this sink are replayed."`
	OnAmbiguous string        `json:"on_ambiguous,omitempty" jsonschema:"enum=resend,enum=park" jsonschema_description:"What to do when the request was sent but no answer came: resend (may duplicate) or park (an operator decides). Default: the kind's own choice."`
	FIFO        string        `json:"fifo,omitempty" jsonschema:"enum=continue,enum=hold,default=continue" jsonschema_description:"What a failed message of a FIFO queue does to its message group: continue (it is dead-lettered, and a replay comes after its successors) or hold (while it may pass, the group is handed back to the queue and waits)."`
	AgeKeys
	RetentionKeys
	ShardKeys
	Events EventKeys `json:"events,omitempty" jsonschema_description:"Which fates of this sink's deliveries are told, as CloudEvents, through another sink."`
	FlowKeys
}

// EventKeys is the block events.
type EventKeys struct {
	To string   `json:"to" jsonschema:"pattern=^[a-z0-9][a-z0-9._-]{0\\,63}$" jsonschema_description:"The sink that the events are sent through. It has no events of its own."`
	On []string `json:"on,omitempty" jsonschema:"minItems=1,uniqueItems=true,enum=delivered,enum=dead_lettered,enum=delivered_by_replay,enum=parked,enum=expired,enum=canceled,enum=discarded" jsonschema_description:"The fates that are told. Default: all."`
}

// What a failed message of a FIFO queue does to the rest of its message group.
const (
	FIFOContinue = "continue" // nothing: it is dead-lettered, and a replay comes after its successors
	FIFOHold     = "hold"     // a failure that may pass holds them up while the queue hands them out again
)

// RetryKeys is the block retry. Absent keys have the defaults of retry.Config.
type RetryKeys struct {
	MaxAttempts    *int           `json:"max_attempts,omitempty" jsonschema:"minimum=1,default=5" jsonschema_description:"Send calls per delivery, the first included; 1 disables retrying."`
	BaseBackoff    *time.Duration `json:"base_backoff,omitempty" jsonschema:"default=1s" jsonschema_description:"Wait before the second attempt; doubles from there."`
	MaxBackoff     *time.Duration `json:"max_backoff,omitempty" jsonschema:"default=30s" jsonschema_description:"Cap of the wait, before jitter."`
	JitterFraction *float64       `json:"jitter_fraction,omitempty" jsonschema:"minimum=0,maximum=1,default=0.2" jsonschema_description:"Spreads each wait evenly over 1-j to 1+j times its length; 0 makes waits exact."`
	AttemptTimeout *time.Duration `json:"attempt_timeout,omitempty" jsonschema:"default=10s" jsonschema_description:"Bound of one attempt."`
	MaxWait        *time.Duration `json:"max_wait,omitempty" jsonschema_description:"Longest wait for the next attempt; a longer one makes a dead letter that is due when it is over. Default: only the time that is left bounds waits."`
}

// FlowKeys are the keys that say when a receiver is left alone. Absent ones have the defaults of
// flow.Policy.
type FlowKeys struct {
	Breaker     *BreakerKeys   `json:"breaker,omitempty" jsonschema_description:"When a receiver counts as down, and is then left alone but for single probes; off: never."`
	MaxHold     *time.Duration `json:"max_hold,omitempty" jsonschema:"default=15m" jsonschema_description:"Longest time for which a receiver's Retry-After holds back everybody, at most 24h."`
	Rate        *RateKeys      `json:"rate,omitempty" jsonschema_description:"Most attempts per second at a receiver, by all processes together, replays included. Default: no limit."`
	Concurrency *int           `json:"concurrency,omitempty" jsonschema:"minimum=1" jsonschema_description:"Most attempts at once at a receiver in one invocation. Default: half of what the invocation does at once, or all of it while nothing waits for another receiver."`
}

// BreakerKeys is the block breaker.
type BreakerKeys struct {
	FailurePercent *int           `json:"failure_percent,omitempty" jsonschema:"minimum=1,maximum=100,default=50" jsonschema_description:"Percentage of the outcomes in a window that must be failures."`
	Least          *int           `json:"least,omitempty" jsonschema:"minimum=1,default=20" jsonschema_description:"Outcomes that must be known at least."`
	Window         *time.Duration `json:"window,omitempty" jsonschema:"default=30s" jsonschema_description:"How long outcomes count, 1s to 24h."`
	ProbeEvery     *time.Duration `json:"probe_every,omitempty" jsonschema:"default=30s" jsonschema_description:"Longest wait between two probes, 1s to 24h."`
}

// RateKeys is the block rate.
type RateKeys struct {
	PerSecond *float64 `json:"per_second" jsonschema:"minimum=0.00001,maximum=1000000" jsonschema_description:"Attempts per second in the long run."`
	Burst     *int     `json:"burst,omitempty" jsonschema:"minimum=1,maximum=1000000,default=1" jsonschema_description:"Attempts that may begin at once after a pause."`
}

// AgeKeys are the keys that say how old a message may become.
type AgeKeys struct {
	MaxAge *time.Duration `json:"max_age,omitempty" jsonschema_description:"How old a message may become, counted from its acceptance, before it is given up as expired, 1s to 8760h. Default: no bound but the message's own expires_at."`
}

// RetentionKeys are the keys that say how long dead letters are kept.
type RetentionKeys struct {
	// Retention is in days, as 30d, or a duration.
	Retention string `json:"retention,omitempty" jsonschema:"pattern=^([0-9]+d|([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+)$" jsonschema_description:"How long a dead letter is kept that nothing is due to happen to by itself (it is parked, waiting, expired, or delivered and kept), counted from its push, 1h to 3650d. Default: for good."`
}

// ShardKeys are the keys that say over how many queues dead letters are spread.
type ShardKeys struct {
	Shards *int `json:"shards,omitempty" jsonschema:"minimum=1,maximum=64,default=1" jsonschema_description:"Over how many queues the sink's dead letters are spread, each in a slot of its own of a cluster. More than 1 only where one node cannot bear what the sink fails; it can be raised and lowered at any time."`
}

// MaxShards is dlq.MaxShards, which bounds them.
const MaxShards = 64

// The bounds of a retention. One that is shorter would remove what nobody has seen yet.
const (
	leastRetention = time.Hour
	mostRetention  = 3650 * 24 * time.Hour
)

// mostAge is a year: a dead letter has no end of its own, so a queue's retention is no bound.
const mostAge = 8760 * time.Hour

// policy checks the keys and returns them with defaults. Faults are *sinks.ConfigError.
func (k FlowKeys) policy() (flow.Policy, error) {
	p := flow.Policy{MaxHold: or(k.MaxHold, 0), Concurrency: or(k.Concurrency, 0)}
	var zeros []error // zero would mean the default
	refuse := func(zero bool, key, want string) {
		if zero {
			zeros = append(zeros, &sinks.ConfigError{Key: key, Hint: "want " + want + ", got 0"})
		}
	}
	refuse(zero(k.MaxHold), "max_hold", "more than 0, at most 24h")
	refuse(zero(k.Concurrency), "concurrency", "at least 1")
	if b := k.Breaker; b != nil {
		p.Breaker = flow.Breaker{
			FailurePercent: or(b.FailurePercent, 0), Least: or(b.Least, 0), Window: or(b.Window, 0), ProbeEvery: or(b.ProbeEvery, 0),
		}
		refuse(zero(b.FailurePercent), "breaker.failure_percent", "1 to 100")
		refuse(zero(b.Least), "breaker.least", "at least 1")
		refuse(zero(b.Window), "breaker.window", "1s to 24h")
		refuse(zero(b.ProbeEvery), "breaker.probe_every", "1s to 24h")
	}
	if r := k.Rate; r != nil {
		p.Rate = flow.Rate{PerSecond: or(r.PerSecond, 0), Burst: or(r.Burst, 1)}
		if r.PerSecond == nil {
			zeros = append(zeros, &sinks.ConfigError{Key: "rate.per_second", Hint: "required"})
		}
		refuse(zero(r.Burst), "rate.burst", "1 to 1000000")
	}
	return p.Normalize(), errors.Join(append(zeros, p.Validate())...)
}

// zero is true for a key that was written as nothing.
func zero[T int | time.Duration](p *T) bool { return p != nil && *p == 0 }

// or returns what p points to, and otherwise when it is nil.
func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// config checks the block and returns it with defaults. Faults are *sinks.ConfigError.
func (k RetryKeys) config() (retry.Config, error) {
	const positive = "want a positive duration"
	var errs []error
	refuse := func(bad bool, key, why string) {
		if bad {
			errs = append(errs, &sinks.ConfigError{Key: key, Hint: why})
		}
	}
	refuse(given(k.MaxAttempts, 1), "max_attempts", "want at least 1")
	refuse(given(k.BaseBackoff, 1), "base_backoff", positive)
	refuse(given(k.MaxBackoff, 1), "max_backoff", positive)
	refuse(given(k.AttemptTimeout, 1), "attempt_timeout", positive)
	refuse(given(k.MaxWait, 1), "max_wait", positive)
	refuse(given(k.JitterFraction, 0), "jitter_fraction", "want 0 to 1")
	c := retry.Config{
		MaxAttempts:    or(k.MaxAttempts, 0),
		BaseBackoff:    or(k.BaseBackoff, 0),
		MaxBackoff:     or(k.MaxBackoff, 0),
		JitterFraction: or(k.JitterFraction, 0),
		NoJitter:       k.JitterFraction != nil && *k.JitterFraction == 0,
		AttemptTimeout: or(k.AttemptTimeout, 0),
		MaxWait:        or(k.MaxWait, 0),
	}
	if len(errs) == 0 {
		errs = append(errs, c.Validate()) // the bounds that retry itself knows
	}
	return c.Normalize(), errors.Join(errs...)
}

// given is true for a key that was written and whose value is below least.
func given[T int | float64 | time.Duration](p *T, least T) bool { return p != nil && *p < least }
