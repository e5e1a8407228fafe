package config

import (
	"errors"
	"time"

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
	refuse := func(bad bool, key, msg string) {
		if bad {
			errs = append(errs, &sinks.ConfigError{Key: key, Msg: msg})
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
