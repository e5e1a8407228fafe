// Package fate names what may become of a delivery, and says which of it is told. It does no I/O:
// the configuration is read into it, and package delivery goes by it.
//
// Start with Events, and give it to a delivery.Target.
package fate

import "slices"

// Fate is what became of a delivery, as an event tells it.
type Fate string

// The fates.
const (
	Delivered         Fate = "delivered"           // the sink accepted it
	DeadLettered      Fate = "dead_lettered"       // it failed, and the dead-letter queue has it
	DeliveredByReplay Fate = "delivered_by_replay" // a replay of its dead letter delivered it
	Parked            Fate = "parked"              // its dead letter was replayed too often for the schedule to go on
	Expired           Fate = "expired"             // its time was over before it was delivered
	Canceled          Fate = "canceled"            // a caller took it back
	Discarded         Fate = "discarded"           // an operator gave its dead letter up
	NewCause          Fate = "new_cause"           // it failed as nothing did before, as far as is remembered
)

// All lists every fate.
var All = []Fate{Delivered, DeadLettered, DeliveredByReplay, Parked, Expired, Canceled, Discarded, NewCause}

// Events says which fates of a sink's deliveries are told, and through which sink. The zero value
// tells none.
type Events struct {
	// To is the sink that the events are delivered through. Empty: there are none.
	To string
	// On lists the fates. Empty: all.
	On []Fate
}

// Tells reports whether f is told.
func (e Events) Tells(f Fate) bool { return e.To != "" && (len(e.On) == 0 || slices.Contains(e.On, f)) }
