// Package sinktest is the contract of a sinks.Sink as code. Every kind passes it,
// built in or not:
//
//	func TestConformance(t *testing.T) {
//		sinktest.Run(t, sinktest.Harness{...})
//	}
//
// Start with Run and Harness. The suite drives a sink against destinations that misbehave
// in scripted ways, on loopback. Kinds that post over HTTP can script theirs with
// NewHTTPServer. What a message looks like and what a configuration may say are left to the
// kind's own tests.
package sinktest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"backstop/lib/sinks"
)

// Behaviour is a destination's way of treating a message. A harness may add
// behaviours of its own, such as the answers that its protocol knows.
type Behaviour string

// The behaviours that every harness shows, or says in Harness.Without why not.
const (
	Accept     Behaviour = "accept"                            // take the message
	Refuse     Behaviour = "refuse connections"                // nobody listens
	ResetEarly Behaviour = "reset before the message is sent"  // the connection opens and breaks
	ResetLate  Behaviour = "reset after the message is sent"   // everything was read, no answer
	HangEarly  Behaviour = "hang before the message is sent"   // the connection opens, nothing happens
	HangLate   Behaviour = "hang after the message is sent"    // everything was read, nothing happens
	Garbage    Behaviour = "answer what is not the protocol"   // everything was read, nonsense comes back
	Drip       Behaviour = "accept, the answer comes in drips" // complete within a second
	Endless    Behaviour = "accept, the answer never ends"     // nor does it come fast
	Huge       Behaviour = "accept, the answer is huge"        // at least 1 MiB, then it ends
	Compressed Behaviour = "accept, the answer is compressed"  // unasked, and large when inflated

	// The behaviours that never end, beside HangEarly, HangLate and Endless.
	HangHandshake  Behaviour = "stop within the TLS handshake"          // a part of an answer comes, no more
	Switch         Behaviour = "answer 101 and keep the connection"     // everything was read
	EndlessHead    Behaviour = "answer with a head that never ends"     // line after line, slowly
	EndlessInterim Behaviour = "answer that the answer comes, for ever" // 103 after 103, slowly
)

// Outcome is a sink's verdict on one attempt.
type Outcome string

// The outcomes. Every error but an ended one carries a mark (sinks.Transient,
// sinks.Terminal, sinks.Ambiguous, sinks.RetryAfter).
const (
	Delivered Outcome = "delivered" // nil
	Transient Outcome = "transient" // sinks.IsTransient
	Terminal  Outcome = "terminal"  // marked, neither transient nor ambiguous
	Ambiguous Outcome = "ambiguous" // sinks.IsAmbiguous
	Ended     Outcome = "ended"     // unmarked, wraps the context's error
)

// Row is one row of a kind's table: what the destination does, and what the sink
// must say then.
type Row struct {
	Does Behaviour
	Want Outcome
	// Text must occur in the error's text, such as "HTTP 503". Empty: any text.
	Text string
	// RetryAfter is the wait that the error must carry. Zero: none.
	RetryAfter time.Duration
}

// Destination is a scripted server with a sink that sends to it. Its functions are
// called while the sink sends.
type Destination struct {
	Sink sinks.Sink
	// Recipient is given to Send in place of the harness's, by a kind whose recipients say where
	// the server is. Nil: the harness's.
	Recipient sinks.Recipient
	// Attempts counts the messages that were begun to be sent.
	Attempts func() int
	// Accepted returns what was taken, each message as it came over the wire.
	Accepted func() []string
	// Connections counts the connections that were made, Open those that are not
	// closed. Both are nil for a kind without connections.
	Connections, Open func() int
}

// Harness describes a kind to the suite.
type Harness struct {
	// Name is the name of the sinks that Open returns. Required.
	Name string
	// Open starts a fresh destination that does b to everything that comes, and a
	// sink that sends to it. It cleans up with tb.Cleanup. It is called from several tests
	// at once. Required.
	Open func(tb testing.TB, b Behaviour) *Destination
	// Recipient is given to Send. Nil: the sink's default.
	Recipient sinks.Recipient
	// Message returns a message that the kind can send, with marker somewhere in its
	// body. The suite sets its ID when it is empty. Required.
	Message func(marker string) sinks.Message
	// Rows is the kind's table. It has one row at least for every Behaviour that is
	// not in Without.
	Rows []Row
	// Without names the behaviours that the kind cannot meet, and why.
	Without map[Behaviour]string
	// NeverEnding names the harness's own behaviours whose destination never comes to an
	// end, such as a reply without a last line. Each has a row, which gets a context that
	// runs out: Send and its connection must end with it.
	NeverEnding []Behaviour
	// Reuses says that messages in a row share one connection. Without it, each Send
	// closes the connection that it made.
	Reuses bool
	// Secrets are the secrets that Open configures. They must appear in no text.
	Secrets []string
}

// fixed are the outcomes that no kind may judge otherwise.
var fixed = map[Behaviour][]Outcome{
	Accept:     {Delivered},
	Refuse:     {Transient},
	ResetEarly: {Transient},
	ResetLate:  {Ambiguous},
	HangEarly:  {Ended},
	HangLate:   {Ambiguous},
	Garbage:    {Transient, Terminal, Ambiguous},
	Drip:       {Delivered},
	Endless:    {Delivered, Transient, Terminal, Ambiguous},
	Huge:       {Delivered, Transient, Terminal, Ambiguous},
	Compressed: {Delivered, Transient, Terminal, Ambiguous},

	HangHandshake:  {Ended},
	Switch:         {Terminal},
	EndlessHead:    {Ambiguous},
	EndlessInterim: {Ambiguous},
}

// to returns the recipient at a destination.
func (h Harness) to(d *Destination) sinks.Recipient {
	if d.Recipient != nil {
		return d.Recipient
	}
	return h.Recipient
}

// hangs reports whether a destination that does b holds a Send until its context ends.
func (h Harness) hangs(b Behaviour) bool {
	switch b {
	case HangEarly, HangLate, HangHandshake, EndlessHead, EndlessInterim:
		return true
	}
	return slices.Contains(h.NeverEnding, b)
}

// neverEnds reports whether a destination that does b never ends by itself: its
// connection is of no further use, whatever the sink made of the answer.
func (h Harness) neverEnds(b Behaviour) bool { return h.hangs(b) || b == Switch || b == Endless }

// check is one rule of the contract.
type check struct {
	name string
	rule string
	run  func(testing.TB, Harness)
}

// Run runs the whole contract against the kind that h describes, in parallel subtests: it
// returns before they end.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Log("the rule: " + c.rule)
				}
			})
			c.run(t, h)
		})
	}
	for _, r := range h.Rows {
		t.Run("table/"+strings.ReplaceAll(string(r.Does), " ", "_"), func(t *testing.T) {
			t.Parallel()
			row(t, h, r)
		})
	}
}

// complete is the rule that no behaviour is left out silently.
func complete(tb testing.TB, h Harness) {
	tb.Helper()
	for b, allowed := range fixed {
		i := slices.IndexFunc(h.Rows, func(r Row) bool { return r.Does == b })
		switch why, without := h.Without[b]; {
		case i < 0 && why == "":
			tb.Errorf("the table has no row for %q, and Without gives no reason", b)
		case i >= 0 && without:
			tb.Errorf("%q has a row and is in Without", b)
		case i >= 0 && !slices.Contains(allowed, h.Rows[i].Want):
			tb.Errorf("the table says %s for %q, the contract allows %v", h.Rows[i].Want, b, allowed)
		}
	}
	for _, b := range h.NeverEnding {
		if !slices.ContainsFunc(h.Rows, func(r Row) bool { return r.Does == b }) {
			tb.Errorf("%q is in NeverEnding, and the table has no row for it", b)
		}
	}
}
