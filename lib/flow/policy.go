package flow

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// The defaults.
const (
	DefaultFailurePercent = 50
	DefaultLeast          = 20
	DefaultWindow         = 30 * time.Second
	DefaultProbeEvery     = 30 * time.Second
	DefaultMaxHold        = 15 * time.Minute
)

// Policy says when a receiver is left alone. The zero value means the defaults.
type Policy struct {
	Breaker Breaker
	// MaxHold bounds how long a receiver's Retry-After holds back everybody. Zero:
	// DefaultMaxHold.
	MaxHold time.Duration
	// Rate bounds how often the receiver is attempted. Zero: it is not bounded.
	Rate Rate
}

// Breaker says when a receiver counts as down. The zero value means the defaults.
type Breaker struct {
	// Off says that no failure closes the way to the receiver. Holds count all the same.
	Off bool
	// FailurePercent of the outcomes must be failures for the breaker to open, 1 to 100.
	// Zero: DefaultFailurePercent.
	FailurePercent int
	// Least is how many outcomes must be known at least, and how many attempts at once end the
	// steps by which an open breaker closes. Zero: DefaultLeast.
	Least int
	// Window is how long outcomes count, one second at least. Zero: DefaultWindow.
	Window time.Duration
	// ProbeEvery is the longest wait between two probes, one day at most. Zero:
	// DefaultProbeEvery.
	ProbeEvery time.Duration
}

// Normalize returns p with its defaults filled in. It is idempotent.
func (p Policy) Normalize() Policy {
	p.MaxHold = cmp.Or(p.MaxHold, DefaultMaxHold)
	p.Breaker.FailurePercent = cmp.Or(p.Breaker.FailurePercent, DefaultFailurePercent)
	p.Breaker.Least = cmp.Or(p.Breaker.Least, DefaultLeast)
	p.Breaker.Window = cmp.Or(p.Breaker.Window, DefaultWindow)
	p.Breaker.ProbeEvery = cmp.Or(p.Breaker.ProbeEvery, DefaultProbeEvery)
	return p
}

// Validate names every field that is out of its bounds, and the bounds.
func (p Policy) Validate() error {
	p = p.Normalize()
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	b := p.Breaker
	check(b.FailurePercent >= 1 && b.FailurePercent <= 100, "breaker.failure_percent: %d; want 1 to 100", b.FailurePercent)
	check(b.Least >= 1, "breaker.least: %d; want 1 or more", b.Least)
	check(b.Window >= time.Second, "breaker.window: %s; want 1s or longer", b.Window)
	check(b.ProbeEvery >= time.Second && b.ProbeEvery <= 24*time.Hour, "breaker.probe_every: %s; want 1s to 24h", b.ProbeEvery)
	check(p.MaxHold >= 0 && p.MaxHold <= 24*time.Hour, "max_hold: %s; want at most 24h", p.MaxHold)
	check(p.Rate.PerSecond >= 0 && p.Rate.PerSecond <= 1e6, "rate.per_second: %g; want more than 0, at most 1000000", p.Rate.PerSecond)
	check(p.Rate.Burst >= 0, "rate.burst: %d; want 1 or more", p.Rate.Burst)
	return errors.Join(faults...)
}
