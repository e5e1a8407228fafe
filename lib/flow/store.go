package flow

import (
	"context"
	"encoding/json"
	"reflect"
)

// Store is what the processes share of the receivers of each sink. It keeps states as texts
// and knows nothing of them. It is safe for concurrent use.
type Store interface {
	// Look returns what is known of a sink.
	Look(ctx context.Context, sink string) (Seen, error)
	// LookAll returns what Look does of several sinks, in few round trips. It fails as a whole.
	LookAll(ctx context.Context, sinks []string) ([]Seen, error)
	// Swap replaces the state of one receiver if it still is what the caller believes. It can
	// be repeated after a lost reply: then it finds its own text, and says so.
	Swap(ctx context.Context, sink, receiver string, s Swap) (Swapped, error)
	// Hold changes until when a rate key of the sink is held, and returns that, Unix µs (0: it is not held),
	// with its clock. It keeps so many of a sink, and forgets those that ended a while ago.
	Hold(ctx context.Context, sink string, h Hold) (until, now int64, err error)
	// Take takes slots of a receiver's rate. One that is taken and not used is lost, a reply too.
	Take(ctx context.Context, sink, receiver string, s Slots) ([]Granted, error)
}

// Seen is what a store knows of a sink.
type Seen struct {
	Paused bool
	States map[string]string // by receiver, as Swap names it
	Holds  map[string]int64  // by rate key, as Hold tells them; those too that ended a moment ago
	Now    int64             // the store's clock, Unix ms
}

// Swap is a change of a state. Empty texts stand for none.
type Swap struct {
	Old, New string
	// At is the store's time, Unix ms, by which New was made: where it is off by more than a
	// quarter of a second, nothing is changed.
	At int64
}

// Swapped says what became of a Swap.
type Swapped struct {
	Swapped bool
	// Full says that the sink has no room for another receiver, besides the one named rest.
	Full    bool
	Current string
	Now     int64
}

// receivers is how many of a sink have a state of their own. Those beyond share one.
const (
	receivers = 1000
	own       = "sink" // the receiver that is the sink itself
	rest      = "rest"
)

// clockError is how far off the time of a Swap may be, in ms.
const clockError = 250

// forgotten is after how long, in ms, nobody asks for the last failure and success of a receiver that is well.
const forgotten = 24 * 3600 * 1000

// remembered is how many changes a state names.
const remembered = 16

// encode returns the text of a state after a change of that name; empty: there is nothing to
// keep.
func encode(s State, change string, now int64) (string, error) {
	if s.Well() && len(s.Seen) == 0 && !s.Probe.taken(now) && now-max(s.BadAt, s.GoodAt, s.LiftedAt) > forgotten {
		return "", nil
	}
	s.Changes = append([]string{change}, s.Changes[:min(len(s.Changes), remembered-1)]...)
	b, err := json.Marshal(s)
	return string(b), err
}

// same reports whether two states say the same.
func same(a, b State) bool {
	a.Changes, b.Changes = nil, nil
	return reflect.DeepEqual(a.clone(), b.clone())
}

// decode reads a state. One that cannot be read is one of which nothing is known, and is
// replaced at the next change.
func decode(raw string) known {
	k := known{raw: raw}
	if raw != "" && json.Unmarshal([]byte(raw), &k.state) != nil {
		k.state = State{}
	}
	return k
}
