// Package retry sends one message through a sink until it is delivered, cannot be
// delivered, or no time is left, and then keeps it in the dead-letter queue.
//
// Start with WrapSink, which makes a sink one that retries; NewRetrier and Deliver also tell
// what became of a message. The deadline of the context bounds all of it: give it one. A
// message that is sent twice goes out twice: package delivery remembers. What is kept is sent
// again by package replay.
package retry

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"backstop/internal/delay"
	"backstop/lib/sinks"
)

// The defaults of Config.
const (
	DefaultMaxAttempts    = 5
	DefaultBaseBackoff    = time.Second
	DefaultMaxBackoff     = 30 * time.Second
	DefaultJitterFraction = 0.2
	DefaultAttemptTimeout = 10 * time.Second
)

// AmbiguousPolicy says what to do when an attempt's outcome cannot be known (see
// sinks.Ambiguous).
type AmbiguousPolicy string

// The policies. The zero value leaves the choice to the sink: resend while receivers
// recognise a duplicate (sinks.DedupWindow, RecognisedUntil), else park.
const (
	AmbiguousResend AmbiguousPolicy = "resend" // like a transient failure; may duplicate
	AmbiguousPark   AmbiguousPolicy = "park"   // dead-letter with reason ambiguous; an operator decides
)

// Config says how often and how fast a sink is tried. The zero value means the
// defaults; so do zero and negative fields.
type Config struct {
	// MaxAttempts is the number of Send calls, the first included: 1 disables
	// retrying. Default 5.
	MaxAttempts int
	// BaseBackoff is the wait before the second attempt; it doubles from there.
	// Default 1 s.
	BaseBackoff time.Duration
	// MaxBackoff caps the wait before jitter. Default 30 s, or BaseBackoff if that is
	// longer.
	MaxBackoff time.Duration
	// JitterFraction j spreads each wait evenly over [1-j, 1+j] times its length. At
	// most 1. Default 0.2; see NoJitter for none.
	JitterFraction float64
	// NoJitter makes waits exact.
	NoJitter bool
	// AttemptTimeout bounds one attempt. Default 10 s.
	AttemptTimeout time.Duration
	// MaxWait is the longest wait for the next attempt. A longer one makes a dead letter that is
	// due when it is over: the schedule waits for nothing. Default 0: only the time that is
	// left bounds waits.
	MaxWait time.Duration
	// OnAmbiguous is the policy for outcomes that cannot be known. Default: the
	// sink's choice.
	OnAmbiguous AmbiguousPolicy
	// Rand returns numbers in [0, 1) for every wait that is spread; it must be safe for concurrent use.
	// Default math/rand/v2.
	Rand func() float64
}

// Normalize returns c with its defaults filled in. It is idempotent.
func (c Config) Normalize() Config {
	if c.MaxAttempts <= 0 {
		c.MaxAttempts = DefaultMaxAttempts
	}
	if c.BaseBackoff <= 0 {
		c.BaseBackoff = DefaultBaseBackoff
	}
	if c.MaxBackoff <= 0 {
		c.MaxBackoff = max(DefaultMaxBackoff, c.BaseBackoff)
	}
	switch {
	case c.NoJitter:
		c.JitterFraction = 0
	case c.JitterFraction <= 0 || math.IsNaN(c.JitterFraction):
		c.JitterFraction = DefaultJitterFraction
	case c.JitterFraction > 1:
		c.JitterFraction = 1
	}
	if c.AttemptTimeout <= 0 {
		c.AttemptTimeout = DefaultAttemptTimeout
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	return c
}

// Validate reports, joined, every field whose value was surely not meant, as
// *sinks.ConfigError: Normalize would replace it. Zero fields are fine.
func (c Config) Validate() error {
	var errs []error
	refuse := func(bad bool, key, want string, got any) {
		if bad {
			errs = append(errs, &sinks.ConfigError{Key: key, Hint: fmt.Sprintf("want %s, got %v", want, got)})
		}
	}
	refuse(c.MaxAttempts < 0, "max_attempts", "at least 1", c.MaxAttempts)
	refuse(c.BaseBackoff < 0, "base_backoff", "a positive duration", c.BaseBackoff)
	refuse(c.MaxBackoff < 0, "max_backoff", "a positive duration", c.MaxBackoff)
	refuse(c.MaxBackoff > 0 && c.BaseBackoff > c.MaxBackoff, "base_backoff", fmt.Sprintf("at most max_backoff (%s)", c.MaxBackoff), c.BaseBackoff)
	refuse(!(c.JitterFraction >= 0 && c.JitterFraction <= 1), "jitter_fraction", "0 to 1", c.JitterFraction)
	refuse(c.AttemptTimeout < 0, "attempt_timeout", "a positive duration", c.AttemptTimeout)
	refuse(c.MaxWait < 0, "max_wait", "a positive duration", c.MaxWait)
	refuse(c.OnAmbiguous != "" && c.OnAmbiguous != AmbiguousResend && c.OnAmbiguous != AmbiguousPark,
		"on_ambiguous", "resend or park", c.OnAmbiguous)
	return errors.Join(errs...)
}

// BackoffFor returns the wait before the given attempt, counted from 1: nothing
// before the first, BaseBackoff*2^(attempt-2) before the others, capped at MaxBackoff
// and then jittered. It depends on nothing but its argument and the random source.
func (c Config) BackoffFor(attempt int) time.Duration {
	c = c.Normalize()
	if attempt <= 1 {
		return 0
	}
	return c.backoff().Wait(attempt-2, c.Rand)
}

// backoff is the wait between attempts of a normalized configuration.
func (c Config) backoff() delay.Exponential {
	return delay.Exponential{Base: c.BaseBackoff, Max: c.MaxBackoff, Jitter: c.JitterFraction}
}
