package config

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Duration is a time.Duration that is written as text: "250ms", "1m30s", "6h".
type Duration time.Duration

// UnmarshalJSON reads the text form; a bare number is refused, for it has no unit.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) != nil {
		return errors.New("want a duration with its unit, such as 250ms")
	}
	v, err := time.ParseDuration(text)
	if err != nil {
		return errors.New("want a duration such as 250ms, 30s or 6h")
	}
	*d = Duration(v)
	return nil
}

// Common holds the keys that every kind has.
type Common struct {
	Kind        string     `json:"kind" jsonschema_description:"The sink's kind."`
	Retry       RetryKeys  `json:"retry,omitempty" jsonschema_description:"How a message is retried within one delivery."`
	Replay      ReplayKeys `json:"replay,omitempty" jsonschema_description:"How dead letters of this sink are replayed."`
	OnAmbiguous string     `json:"on_ambiguous,omitempty" jsonschema:"enum=resend,enum=park" jsonschema_description:"What to do when the request was sent but no answer came: resend (may duplicate) or park (an operator decides). Default: the kind's own choice."`
	FIFO        string     `json:"fifo,omitempty" jsonschema:"enum=continue,enum=hold,default=continue" jsonschema_description:"What a failed message of a FIFO queue does to its message group: continue (it is dead-lettered, and a replay comes after its successors) or hold (while it may pass, the group is handed back to the queue and waits)."`
}

// The values of fifo: the effect of a failed message of a FIFO queue on the rest of its
// message group.
const (
	FIFOContinue = "continue" // nothing: it is dead-lettered, and a replay comes after its successors
	FIFOHold     = "hold"     // a failure that may pass holds them up while the queue hands them out again
)

// RetryKeys is the block retry. Absent keys have the defaults of retry.Config.
type RetryKeys struct {
	MaxAttempts    *int      `json:"max_attempts,omitempty" jsonschema:"minimum=1,default=5" jsonschema_description:"Send calls per delivery, the first included; 1 disables retrying."`
	BaseBackoff    *Duration `json:"base_backoff,omitempty" jsonschema:"default=1s" jsonschema_description:"Wait before the second attempt; doubles from there."`
	MaxBackoff     *Duration `json:"max_backoff,omitempty" jsonschema:"default=30s" jsonschema_description:"Cap of the wait, before jitter."`
	JitterFraction *float64  `json:"jitter_fraction,omitempty" jsonschema:"minimum=0,maximum=1,default=0.2" jsonschema_description:"Spreads each wait evenly over 1-j to 1+j times its length; 0 makes waits exact."`
	AttemptTimeout *Duration `json:"attempt_timeout,omitempty" jsonschema:"default=10s" jsonschema_description:"Bound of one attempt."`
}

// ReplayKeys is the block replay. Absent keys have the defaults of Replay.
type ReplayKeys struct {
	OnSuccess   *string   `json:"on_success,omitempty" jsonschema:"enum=discard,enum=keep,default=discard" jsonschema_description:"What becomes of a dead letter that a replay delivered."`
	MaxAttempts *int      `json:"max_attempts,omitempty" jsonschema:"minimum=1,default=1" jsonschema_description:"Send calls per replay."`
	MaxReplays  *int      `json:"max_replays,omitempty" jsonschema:"minimum=1,default=10" jsonschema_description:"Failed replays after which a dead letter is parked."`
	BaseDelay   *Duration `json:"base_delay,omitempty" jsonschema:"default=1m" jsonschema_description:"Wait after the first failed replay; doubles from there."`
	MaxDelay    *Duration `json:"max_delay,omitempty" jsonschema:"default=6h" jsonschema_description:"Cap of the wait between replays."`
	Rate        *float64  `json:"rate,omitempty" jsonschema:"minimum=0,default=0" jsonschema_description:"Most replays per second; 0 sets no limit."`
	Concurrency *int      `json:"concurrency,omitempty" jsonschema:"minimum=1" jsonschema_description:"Most replays at once. Default: the replay function's."`
}

// The values of replay.on_success: the fate of a dead letter that a replay delivered.
const (
	OnSuccessDiscard = "discard" // it is removed
	OnSuccessKeep    = "keep"    // it is marked delivered and stays
)

// Defaults of Replay.
const (
	DefaultReplayMaxAttempts = 1
	DefaultReplayMaxReplays  = 10
	DefaultReplayBaseDelay   = time.Minute
	DefaultReplayMaxDelay    = 6 * time.Hour
)

// Replay says how dead letters of a sink are replayed. In a Sink, defaults are filled
// in.
type Replay struct {
	OnSuccess   string        // OnSuccessDiscard (default) or OnSuccessKeep
	MaxAttempts int           // Send calls per replay, default 1
	MaxReplays  int           // failed replays until parked, default 10
	BaseDelay   time.Duration // wait after the first failed replay, doubling; default 1 min
	MaxDelay    time.Duration // cap of that wait; default 6 h, or BaseDelay if that is longer
	Rate        float64       // most replays per second; 0: no limit
	Concurrency int           // most replays at once; 0: the engine's default
}

// or returns what p points to, and otherwise when it is nil.
func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// faultList collects faults of keys below one prefix.
type faultList struct {
	prefix string
	faults []error
}

func (l *faultList) refuse(bad bool, key, msg string) {
	if bad {
		l.faults = append(l.faults, &sinks.ConfigError{Key: l.prefix + key, Msg: msg})
	}
}

// given is true for a key that was written and whose value is below least.
func given[T int | float64 | Duration](p *T, least T) bool { return p != nil && *p < least }

const positive = "want a positive duration"

// config checks the block and returns it with defaults.
func (k RetryKeys) config() (retry.Config, error) {
	l := faultList{prefix: "retry."}
	l.refuse(given(k.MaxAttempts, 1), "max_attempts", "want at least 1")
	l.refuse(given(k.BaseBackoff, 1), "base_backoff", positive)
	l.refuse(given(k.MaxBackoff, 1), "max_backoff", positive)
	l.refuse(given(k.AttemptTimeout, 1), "attempt_timeout", positive)
	l.refuse(given(k.JitterFraction, 0), "jitter_fraction", "want 0 to 1")
	c := retry.Config{
		MaxAttempts:    or(k.MaxAttempts, 0),
		BaseBackoff:    time.Duration(or(k.BaseBackoff, 0)),
		MaxBackoff:     time.Duration(or(k.MaxBackoff, 0)),
		JitterFraction: or(k.JitterFraction, 0),
		NoJitter:       k.JitterFraction != nil && *k.JitterFraction == 0,
		AttemptTimeout: time.Duration(or(k.AttemptTimeout, 0)),
	}
	if len(l.faults) == 0 {
		// The rest are the bounds that retry itself knows. It names fields by their keys.
		for _, fault := range faults(c.Validate()) {
			key, msg, _ := strings.Cut(fault.Msg, ": ")
			l.refuse(true, key, msg)
		}
	}
	return c.Normalize(), errors.Join(l.faults...)
}

// config checks the block and returns it with defaults.
func (k ReplayKeys) config() (Replay, error) {
	r := Replay{
		OnSuccess:   or(k.OnSuccess, OnSuccessDiscard),
		MaxAttempts: or(k.MaxAttempts, DefaultReplayMaxAttempts),
		MaxReplays:  or(k.MaxReplays, DefaultReplayMaxReplays),
		BaseDelay:   time.Duration(or(k.BaseDelay, Duration(DefaultReplayBaseDelay))),
		Rate:        or(k.Rate, 0),
		Concurrency: or(k.Concurrency, 0),
	}
	r.MaxDelay = time.Duration(or(k.MaxDelay, Duration(max(DefaultReplayMaxDelay, r.BaseDelay))))
	l := faultList{prefix: "replay."}
	l.refuse(r.OnSuccess != OnSuccessDiscard && r.OnSuccess != OnSuccessKeep, "on_success", "want discard or keep")
	l.refuse(given(k.MaxAttempts, 1), "max_attempts", "want at least 1")
	l.refuse(given(k.MaxReplays, 1), "max_replays", "want at least 1")
	l.refuse(given(k.BaseDelay, 1), "base_delay", positive)
	l.refuse(given(k.MaxDelay, 1), "max_delay", positive)
	l.refuse(!given(k.BaseDelay, 1) && !given(k.MaxDelay, 1) && r.MaxDelay < r.BaseDelay, "max_delay", "want at least base_delay")
	l.refuse(given(k.Rate, 0), "rate", "want 0 (no limit) or more")
	l.refuse(given(k.Concurrency, 1), "concurrency", "want at least 1")
	return r, errors.Join(l.faults...)
}
