//go:build full

package delivery_test

import "testing"

// The same with the casts that take long, and with more faults. One after the other, so that each
// tells how long it takes.
func TestEveryOrderOfStepsWithMoreFaults(t *testing.T) {
	for _, c := range casts {
		t.Run(c.name, func(t *testing.T) { c.play(t, c.full) })
	}
}
