package policy

import (
	"math"
	"testing"
	"time"
)

func TestTheDelayDoublesUpToItsCapWithJitter(t *testing.T) {
	tests := []struct {
		name    string
		policy  Policy
		replays int
		random  float64
		want    time.Duration
	}{
		{"after the first failure", Policy{}, 0, 0.5, time.Minute},
		{"after the second", Policy{}, 1, 0.5, 2 * time.Minute},
		{"after the ninth", Policy{}, 8, 0.5, 256 * time.Minute},
		{"capped", Policy{}, 9, 0.5, 6 * time.Hour},
		{"capped for good", Policy{}, math.MaxInt, 0.5, 6 * time.Hour},
		{"at the low end of its jitter", Policy{}, 0, 0, 48 * time.Second},
		{"below the high end of its jitter", Policy{}, 0, 0.75, 66 * time.Second},
		{"with a base above the default cap", Policy{BaseDelay: 10 * time.Hour}, 3, 0.5, 10 * time.Hour},
		{"with a base above its cap", Policy{BaseDelay: time.Hour, MaxDelay: time.Minute}, 0, 0.5, time.Minute},
		{"at the longest duration", Policy{BaseDelay: math.MaxInt64 / 4, MaxDelay: math.MaxInt64}, 9, 0.9, math.MaxInt64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.policy.Normalize().Delay(tt.replays, func() float64 { return tt.random })
			if d := got - tt.want; d > time.Microsecond || d < -time.Microsecond {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestNormalizeFillsInDefaultsAndIsIdempotent(t *testing.T) {
	want := Policy{
		OnSuccess: OnSuccessDiscard, Attempts: 1, MaxReplays: 10, BaseDelay: time.Minute,
		MaxDelay: 6 * time.Hour, Concurrency: 10,
	}
	for _, p := range []Policy{{}, {Attempts: -1, MaxReplays: -1, BaseDelay: -1, MaxDelay: -1, Rate: -1, Concurrency: -1}, {Rate: math.NaN()}, want} {
		if got := p.Normalize(); got != want {
			t.Errorf("%+v: got %+v, want %+v", p, got, want)
		}
	}
	kept := Policy{OnSuccess: OnSuccessKeep, Attempts: 2, MaxReplays: 3, BaseDelay: 4, MaxDelay: 5, Rate: 6, Concurrency: 7}
	if got := kept.Normalize(); got != kept {
		t.Errorf("got %+v, want what was set: %+v", got, kept)
	}
}

func TestValidateNamesEachKeyOfACompletePolicy(t *testing.T) {
	complete := Policy{}.Normalize()
	if err := complete.Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	for want, change := range map[string]func(*Policy){
		"on_success: want discard or keep":               func(p *Policy) { p.OnSuccess = "forget" },
		"max_attempts: want at least 1":                  func(p *Policy) { p.Attempts = 0 },
		"max_replays: want at least 1":                   func(p *Policy) { p.MaxReplays = 0 },
		"base_delay: want a positive duration":           func(p *Policy) { p.BaseDelay = 0 },
		"max_delay: want a positive duration":            func(p *Policy) { p.MaxDelay = -1 },
		"max_delay: want at least base_delay":            func(p *Policy) { p.BaseDelay = p.MaxDelay + 1 },
		"rate: want 0 (no limit), or 0.00001 to 1000000": func(p *Policy) { p.Rate = math.NaN() },
		"concurrency: want at least 1":                   func(p *Policy) { p.Concurrency = 0 },
	} {
		p := complete
		change(&p)
		if err := p.Validate(); err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
