package flow

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"backstop/lib/sinks"
)

// The defaults.
const (
	DefaultFailurePercent = 50
	DefaultLeast          = 20
	DefaultWindow         = 30 * time.Second
	DefaultProbeEvery     = 30 * time.Second
	DefaultMaxHold        = 15 * time.Minute
)

// The bounds of rates, per second: one in a day and a bit, and what one clock can tell apart.
const (
	MinPerSecond = 0.00001
	MaxPerSecond = 1e6
	MaxBurst     = 1e6
)

// Policy says when a receiver is left alone. The zero value means the defaults. Its tags name
// the keys of a sink's configuration.
type Policy struct {
	Breaker Breaker `json:"breaker"`
	// MaxHold bounds how long a receiver's Retry-After holds back everybody. Zero:
	// DefaultMaxHold.
	MaxHold time.Duration `json:"max_hold"`
	// Rate bounds how often the receiver is attempted. Zero: it is not bounded.
	Rate Rate `json:"rate"`
	// Concurrency bounds the attempts at once, at the receiver, of one invocation that delivers
	// many messages. Zero: half of what the invocation does at once, or all of it
	// while nothing waits for another receiver. A Gate does not look at it.
	Concurrency int `json:"concurrency"`
}

// Breaker says when a receiver counts as down. The zero value means the defaults.
type Breaker struct {
	// Off says that no failure closes the way to the receiver. Holds count all the same.
	Off bool `json:"-"`
	// FailurePercent of the outcomes must be failures for the breaker to open, 1 to 100.
	// Zero: DefaultFailurePercent.
	FailurePercent int `json:"failure_percent"`
	// Least is how many outcomes must be known at least, and how many attempts at once end the
	// steps by which an open breaker closes. Zero: DefaultLeast.
	Least int `json:"least"`
	// Window is how long outcomes count, one second to one day. Zero: DefaultWindow.
	Window time.Duration `json:"window"`
	// ProbeEvery is the longest wait between two probes, one second to one day. Zero:
	// DefaultProbeEvery.
	ProbeEvery time.Duration `json:"probe_every"`
}

// Normalize returns p with its defaults filled in. It is idempotent.
func (p Policy) Normalize() Policy {
	p.MaxHold = cmp.Or(p.MaxHold, DefaultMaxHold)
	p.Breaker.FailurePercent = cmp.Or(p.Breaker.FailurePercent, DefaultFailurePercent)
	p.Breaker.Least = cmp.Or(p.Breaker.Least, DefaultLeast)
	p.Breaker.Window = cmp.Or(p.Breaker.Window, DefaultWindow)
	p.Breaker.ProbeEvery = cmp.Or(p.Breaker.ProbeEvery, DefaultProbeEvery)
	if p.Rate != (Rate{}) {
		p.Rate.Burst = cmp.Or(p.Rate.Burst, 1)
	}
	return p
}

// Validate reports, joined, each field that is out of its bounds, as *sinks.ConfigError. Zero
// fields are fine, but for Rate.PerSecond where Rate.Burst is set.
func (p Policy) Validate() error {
	p = p.Normalize()
	var faults []error
	want := func(ok bool, key, bounds string, got any) {
		if !ok {
			faults = append(faults, &sinks.ConfigError{Key: key, Hint: fmt.Sprintf("want %s, got %v", bounds, got)})
		}
	}
	const day = 24 * time.Hour
	b, r := p.Breaker, p.Rate
	want(b.FailurePercent >= 1 && b.FailurePercent <= 100, "breaker.failure_percent", "1 to 100", b.FailurePercent)
	want(b.Least >= 1, "breaker.least", "at least 1", b.Least)
	want(b.Window >= time.Second && b.Window <= day, "breaker.window", "1s to 24h", b.Window)
	want(b.ProbeEvery >= time.Second && b.ProbeEvery <= day, "breaker.probe_every", "1s to 24h", b.ProbeEvery)
	want(p.MaxHold >= 0 && p.MaxHold <= day, "max_hold", "more than 0, at most 24h", p.MaxHold)
	if r != (Rate{}) {
		want(r.PerSecond >= MinPerSecond && r.PerSecond <= MaxPerSecond, "rate.per_second", "more than 0 (0.00001 to 1000000)", r.PerSecond)
		want(r.Burst >= 1 && r.Burst <= MaxBurst, "rate.burst", "1 to 1000000", r.Burst)
	}
	want(p.Concurrency >= 0, "concurrency", "at least 1", p.Concurrency)
	return errors.Join(faults...)
}
