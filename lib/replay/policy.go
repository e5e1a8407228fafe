package replay

import (
	"time"

	"backstop/internal/delay"
)

// OnSuccess says what becomes of a dead letter that a replay delivered.
type OnSuccess string

// The choices.
const (
	OnSuccessDiscard OnSuccess = "discard" // it is removed
	OnSuccessKeep    OnSuccess = "keep"    // it is marked delivered and stays
)

// Defaults of Policy.
const (
	DefaultAttempts        = 1
	DefaultMaxReplays      = 10
	DefaultBaseDelay       = time.Minute
	DefaultMaxDelay        = 6 * time.Hour
	DefaultSinkConcurrency = 10
)

// delayJitter spreads the delay after a failed replay evenly over 1-j to 1+j times its
// length, so that what failed together does not come back together.
const delayJitter = 0.2

// Policy says how the dead letters of a sink are replayed. The zero value means the
// defaults; so do zero and negative fields.
type Policy struct {
	// OnSuccess is what becomes of a delivered item. Default: discard.
	OnSuccess OnSuccess
	// Attempts is the number of Send calls of one replay. Default 1: the schedule is
	// the retry.
	Attempts int
	// MaxReplays is the number of failed replays after which an item is parked.
	// Default 10.
	MaxReplays int
	// BaseDelay is the wait after the first failed replay; it doubles from there.
	// Default 1 min.
	BaseDelay time.Duration
	// MaxDelay caps that wait before jitter. Default 6 h, or BaseDelay if that is
	// longer.
	MaxDelay time.Duration
	// Rate is the most sends per second, in this process. Default 0: no limit.
	Rate float64
	// Concurrency is the most sends at once, in one Run. Default 10.
	Concurrency int
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
		p.Concurrency = DefaultSinkConcurrency
	}
	return p
}

// delay returns the wait before the replay after a failed one, when replays were
// charged before: BaseDelay*2^replays, capped at MaxDelay and then jittered.
func (p Policy) delay(replays int, random func() float64) time.Duration {
	return delay.Exponential{Base: p.BaseDelay, Max: p.MaxDelay, Jitter: delayJitter}.Wait(replays, random)
}
