// Package policy says how the dead letters of a sink are replayed. It does no I/O: the
// configuration is read into it, and the engine (lib/replay) goes by it.
//
// Start with Policy, whose zero value means the defaults, and give it to a delivery.Target.
package policy

import (
	"errors"
	"time"

	"backstop/internal/delay"
	"backstop/lib/sinks"
)

// OnSuccess says what becomes of a dead letter that a replay delivered.
type OnSuccess string

// The choices.
const (
	OnSuccessDiscard OnSuccess = "discard" // it is removed
	OnSuccessKeep    OnSuccess = "keep"    // it is marked delivered and stays
)

// The defaults.
const (
	DefaultAttempts    = 1
	DefaultMaxReplays  = 10
	DefaultBaseDelay   = time.Minute
	DefaultMaxDelay    = 6 * time.Hour
	DefaultConcurrency = 10
)

// The bounds of Rate: one replay in a day and a bit, and what one clock can tell apart.
const (
	minRate = 0.00001
	maxRate = 1e6
)

// delayJitter spreads the delay after a failed replay evenly over 1-j to 1+j times its
// length, so that what failed together does not come back together.
const delayJitter = 0.2

// Policy says how the dead letters of a sink are replayed. The zero value means the
// defaults; so do zero and negative fields. Its tags name the keys of a sink's block
// replay.
type Policy struct {
	// OnSuccess is what becomes of a delivered item. Default: discard.
	OnSuccess OnSuccess `json:"on_success,omitempty" jsonschema:"enum=discard,enum=keep,default=discard" jsonschema_description:"What becomes of a dead letter that a replay delivered."`
	// Attempts is the number of Send calls of one replay. Default 1: the schedule is
	// the retry.
	Attempts int `json:"max_attempts,omitempty" jsonschema:"minimum=1,default=1" jsonschema_description:"Send calls per replay."`
	// MaxReplays is the number of failed replays after which an item is parked.
	// Default 10.
	MaxReplays int `json:"max_replays,omitempty" jsonschema:"minimum=1,default=10" jsonschema_description:"Failed replays after which a dead letter is parked."`
	// BaseDelay is the wait after the first failed replay; it doubles from there.
	// Default 1 min.
	BaseDelay time.Duration `json:"base_delay,omitempty" jsonschema:"default=1m" jsonschema_description:"Wait after the first failed replay; doubles from there."`
	// MaxDelay caps that wait before jitter. Default 6 h, or BaseDelay if that is
	// longer.
	MaxDelay time.Duration `json:"max_delay,omitempty" jsonschema:"default=6h" jsonschema_description:"Cap of the wait between replays."`
	// Rate is the most replays per second, of all processes that share the engine's Gate.
	// Default 0: no limit.
	Rate float64 `json:"rate,omitempty" jsonschema:"minimum=0,maximum=1000000,default=0" jsonschema_description:"Most replays per second, by all processes together; 0 sets no limit."`
	// Concurrency is the most sends at once, of the Runs of a tick together (see replay.Engine.Replayers); a Run that is
	// nobody's part counts for itself. Default 10, in each Run.
	Concurrency int `json:"concurrency,omitempty" jsonschema:"minimum=1" jsonschema_description:"Most replays at once, by all replayers of a tick together. Default: 10 in each of them."`
}

// Normalize returns p with its defaults filled in. It is idempotent.
func (p Policy) Normalize() Policy {
	if p.OnSuccess != OnSuccessKeep {
		p.OnSuccess = OnSuccessDiscard
	}
	if p.Attempts <= 0 {
		p.Attempts = DefaultAttempts
	}
	if p.MaxReplays <= 0 {
		p.MaxReplays = DefaultMaxReplays
	}
	if p.BaseDelay <= 0 {
		p.BaseDelay = DefaultBaseDelay
	}
	if p.MaxDelay <= 0 {
		p.MaxDelay = max(DefaultMaxDelay, p.BaseDelay)
	}
	if !(p.Rate > 0) {
		p.Rate = 0
	}
	if p.Concurrency <= 0 {
		p.Concurrency = DefaultConcurrency
	}
	return p
}

// Validate reports, joined, each field of a complete policy (see Normalize) that cannot be
// meant, as *sinks.ConfigError.
func (p Policy) Validate() error {
	const positive, atLeast1 = "want a positive duration", "want at least 1"
	var errs []error
	refuse := func(bad bool, key, why string) {
		if bad {
			errs = append(errs, &sinks.ConfigError{Key: key, Hint: why})
		}
	}
	refuse(p.OnSuccess != OnSuccessDiscard && p.OnSuccess != OnSuccessKeep, "on_success", "want discard or keep")
	refuse(p.Attempts < 1, "max_attempts", atLeast1)
	refuse(p.MaxReplays < 1, "max_replays", atLeast1)
	refuse(p.BaseDelay < 1, "base_delay", positive)
	refuse(p.MaxDelay < 1, "max_delay", positive)
	refuse(p.MaxDelay >= 1 && p.MaxDelay < p.BaseDelay, "max_delay", "want at least base_delay")
	refuse(p.Rate != 0 && !(p.Rate >= minRate && p.Rate <= maxRate), "rate", "want 0 (no limit), or 0.00001 to 1000000")
	refuse(p.Concurrency < 1, "concurrency", atLeast1)
	return errors.Join(errs...)
}

// Delay returns the wait before the replay after a failed one, when replays were charged
// before: BaseDelay*2^replays, capped at MaxDelay and then spread evenly over 0.8 to 1.2 times
// its length by random, which returns numbers in [0, 1). p is complete (see Normalize).
func (p Policy) Delay(replays int, random func() float64) time.Duration {
	return delay.Exponential{Base: p.BaseDelay, Max: p.MaxDelay, Jitter: delayJitter}.Wait(replays, random)
}
