// Package config reads the configuration of sinks from a folder, a file or AWS SSM
// Parameter Store, builds the sinks, and keeps them current in a Cache.
//
// Start with ParseSource and NewCache, and ask the Cache for a Sink by its name. Nothing
// watches the source: a call finds the configuration no longer fresh and reads it again.
// Check is for tools that say what is wrong. A kind is known where its package is imported.
//
// A sink's configuration is one YAML block. The keys kind, retry, replay, breaker,
// rate, concurrency, max_hold, max_age, retention, shards, events, fifo and on_ambiguous are common to all kinds and read here;
// every other key belongs to the kind (see sinks.RegisterFactory). Unknown and duplicate keys are refused with the
// file or parameter, line and column. Wherever a string is expected, {ssm: /path}
// stands for the value of that parameter.
//
// No error, finding or description of this package contains a configured value that
// may be secret.
package config

import (
	"maps"
	"slices"
	"time"

	"backstop/lib/delivery/fate"
	"backstop/lib/flow"
	"backstop/lib/replay/policy"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Sink is one configured sink. It is immutable.
type Sink struct {
	Name string // as in the source (see ParseSource)
	Kind string // empty when the configuration names no known one
	// Sink sends a message once; nil exactly when Err is set.
	Sink sinks.Sink
	// Err says what is wrong with the sink's configuration: SINK_CONFIG_INVALID around
	// an *InvalidError. Other sinks are not affected.
	Err error
	// Retry is normalized; it carries on_ambiguous too. Nothing of it is applied to Sink.
	Retry retry.Config
	// Replay is normalized.
	Replay policy.Policy
	// Flow is normalized.
	Flow flow.Policy
	// FIFO is FIFOContinue (default) or FIFOHold.
	FIFO string
	// MaxAge is how old a message may become before it is given up, counted from its
	// acceptance. Zero: no bound.
	MaxAge time.Duration
	// Retention is how long a dead letter is kept that nothing is due to happen to by itself. Zero: for
	// good.
	Retention time.Duration
	// Shards is over how many queues the sink's dead letters are spread, 1 to MaxShards.
	Shards int
	// Events says which fates of its deliveries are told. A sink that another one's events go
	// through has none, whatever is configured.
	Events fate.Events

	events    fate.Events // as configured
	block     digest      // of everything that is configured
	kindBlock digest      // of what the kind's factory was given
}

// Snapshot is the configuration as it was at one time. It is immutable and safe for
// concurrent use. Sinks whose configuration did not change are the same *Sink in the
// next snapshot, so whatever is derived from one may be kept by its pointer.
type Snapshot struct {
	loadedAt time.Time
	sinks    map[string]*Sink
	names    []string
	findings []Finding
	notes    []Finding // of the sinks that were built anew
}

// Sink returns the sink called name, also one whose configuration is invalid (see
// Sink.Err); false when there is none.
func (s *Snapshot) Sink(name string) (*Sink, bool) {
	sink, ok := s.sinks[name]
	return sink, ok
}

// Names returns the names of all sinks, invalid ones included, sorted.
func (s *Snapshot) Names() []string { return slices.Clone(s.names) }

// LoadedAt is when reading the configuration began.
func (s *Snapshot) LoadedAt() time.Time { return s.loadedAt }

// Findings returns everything that is wrong with the configuration, of all sinks and
// of what belongs to none, in the order of the source.
func (s *Snapshot) Findings() []Finding { return slices.Clone(s.findings) }

// Description is what may be shown of a sink to anybody.
type Description struct {
	Name  string `json:"name"`
	Kind  string `json:"kind,omitempty"`
	Error string `json:"error,omitempty"` // empty when the configuration is valid
}

// Describe returns what may be shown of every sink, sorted by name.
func (s *Snapshot) Describe() []Description {
	out := make([]Description, 0, len(s.names))
	for _, name := range s.names {
		d := Description{Name: name, Kind: s.sinks[name].Kind}
		if err := s.sinks[name].Err; err != nil {
			d.Error = err.Error()
		}
		out = append(out, d)
	}
	return out
}

func newSnapshot(loadedAt time.Time, all map[string]*Sink, findings, notes []Finding) *Snapshot {
	return &Snapshot{loadedAt: loadedAt, sinks: all, names: slices.Sorted(maps.Keys(all)), findings: findings, notes: notes}
}

// usable is the number of sinks that can send.
func (s *Snapshot) usable() int {
	n := 0
	for _, sink := range s.sinks {
		if sink.Err == nil {
			n++
		}
	}
	return n
}
