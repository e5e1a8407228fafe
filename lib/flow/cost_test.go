package flow_test

import (
	"testing"
	"time"

	"backstop/lib/flow"
)

// BenchmarkWell is what the gate costs an attempt at a receiver that is well.
func BenchmarkWell(b *testing.B) {
	g := &flow.Gate{Store: &flow.Memory{}}
	t := flow.Try{Sink: "ops", Delivery: "delivery-1", End: time.Now().Add(time.Hour), Policy: flow.Policy{}.Normalize()}
	b.ReportAllocs()
	for b.Loop() {
		l := g.Ask(b.Context(), t)
		g.Tell(b.Context(), l, flow.Told{Result: flow.Good})
	}
}
