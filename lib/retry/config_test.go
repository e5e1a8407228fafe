package retry

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestNormalizeFillsDefaultsAndIsIdempotent(t *testing.T) {
	tests := []struct {
		name     string
		in, want Config
	}{
		{"zero", Config{}, Config{MaxAttempts: 5, BaseBackoff: time.Second, MaxBackoff: 30 * time.Second, JitterFraction: 0.2, AttemptTimeout: 10 * time.Second}},
		{"negative is default", Config{MaxAttempts: -1, BaseBackoff: -1, MaxBackoff: -1, JitterFraction: -1, AttemptTimeout: -1}, Config{MaxAttempts: 5, BaseBackoff: time.Second, MaxBackoff: 30 * time.Second, JitterFraction: 0.2, AttemptTimeout: 10 * time.Second}},
		{"no jitter wins", Config{NoJitter: true, JitterFraction: 0.5}, Config{MaxAttempts: 5, BaseBackoff: time.Second, MaxBackoff: 30 * time.Second, NoJitter: true, AttemptTimeout: 10 * time.Second}},
		{"jitter at most 1", Config{JitterFraction: 3}, Config{MaxAttempts: 5, BaseBackoff: time.Second, MaxBackoff: 30 * time.Second, JitterFraction: 1, AttemptTimeout: 10 * time.Second}},
		{"jitter NaN", Config{JitterFraction: math.NaN()}, Config{MaxAttempts: 5, BaseBackoff: time.Second, MaxBackoff: 30 * time.Second, JitterFraction: 0.2, AttemptTimeout: 10 * time.Second}},
		{"long base raises the default cap", Config{BaseBackoff: time.Minute}, Config{MaxAttempts: 5, BaseBackoff: time.Minute, MaxBackoff: time.Minute, JitterFraction: 0.2, AttemptTimeout: 10 * time.Second}},
		{"set fields stay", Config{MaxAttempts: 1, BaseBackoff: 1, MaxBackoff: 2, JitterFraction: 1, AttemptTimeout: 3}, Config{MaxAttempts: 1, BaseBackoff: 1, MaxBackoff: 2, JitterFraction: 1, AttemptTimeout: 3}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			once := tt.in.Normalize()
			if once.Rand == nil {
				t.Fatal("Normalize left Rand nil")
			}
			for n, got := range []Config{once, once.Normalize()} {
				got.Rand = nil
				if g, w := describe(got), describe(tt.want); g != w {
					t.Errorf("after %d times: got %s, want %s", n+1, g, w)
				}
			}
		})
	}
}

func describe(c Config) string {
	parts := []string{
		time.Duration(c.MaxAttempts).String(), c.BaseBackoff.String(), c.MaxBackoff.String(),
		time.Duration(c.JitterFraction * 1e9).String(), c.AttemptTimeout.String(),
	}
	if c.NoJitter {
		parts = append(parts, "no jitter")
	}
	return strings.Join(parts, " ")
}

func TestBackoffForIsThisTable(t *testing.T) {
	c := Config{BaseBackoff: time.Second, MaxBackoff: 30 * time.Second, NoJitter: true}
	for attempt, want := range map[int]time.Duration{
		-1: 0, 0: 0, 1: 0, 2: 1 * time.Second, 3: 2 * time.Second, 4: 4 * time.Second, 5: 8 * time.Second,
		6: 16 * time.Second, 7: 30 * time.Second, 8: 30 * time.Second, 1000: 30 * time.Second, math.MaxInt: 30 * time.Second,
	} {
		if got := c.BackoffFor(attempt); got != want {
			t.Errorf("BackoffFor(%d) = %s, want %s", attempt, got, want)
		}
	}
}

func TestBackoffForNeverOverflows(t *testing.T) {
	for _, c := range []Config{
		{BaseBackoff: 1, MaxBackoff: math.MaxInt64, NoJitter: true},
		{BaseBackoff: math.MaxInt64, MaxBackoff: math.MaxInt64, JitterFraction: 1, Rand: func() float64 { return 0.999999 }},
		{BaseBackoff: math.MaxInt64/2 + 1, MaxBackoff: math.MaxInt64, JitterFraction: 1, Rand: func() float64 { return 0.75 }},
	} {
		for attempt := 2; attempt < 200; attempt++ {
			if got := c.BackoffFor(attempt); got <= 0 {
				t.Fatalf("BackoffFor(%d) with max %s = %s, want a positive wait", attempt, c.MaxBackoff, got)
			}
		}
	}
}

func TestBackoffForJitterStaysInItsBoundsAndAdvancesNothing(t *testing.T) {
	c := Config{BaseBackoff: time.Second, MaxBackoff: 10 * time.Second, JitterFraction: 0.5}
	for _, tt := range []struct {
		rand float64
		want time.Duration
	}{{0, 5 * time.Second}, {0.5, 10 * time.Second}, {1, 15 * time.Second}} {
		c.Rand = func() float64 { return tt.rand }
		for range 3 {
			if got := c.BackoffFor(9); got != tt.want {
				t.Errorf("with random %v: BackoffFor(9) = %s, want %s", tt.rand, got, tt.want)
			}
		}
	}
}

func TestValidateNamesEveryFieldAtOnce(t *testing.T) {
	bad := Config{MaxAttempts: -1, BaseBackoff: -1, MaxBackoff: -1, JitterFraction: 2, AttemptTimeout: -1, OnAmbiguous: "maybe"}
	err := bad.Validate()
	if err == nil {
		t.Fatal("Validate accepted a configuration of nonsense")
	}
	for _, field := range []string{"max_attempts", "base_backoff", "max_backoff", "jitter_fraction", "attempt_timeout", "on_ambiguous"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("the error does not name %s:\n%s", field, err)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("Validate of the zero Config: %v", err)
	}
	if err := (Config{BaseBackoff: 2, MaxBackoff: 1}).Validate(); err == nil {
		t.Error("Validate accepted a base_backoff above max_backoff")
	}
	if err := (Config{JitterFraction: math.NaN()}).Validate(); err == nil {
		t.Error("Validate accepted a jitter_fraction that is not a number")
	}
}
