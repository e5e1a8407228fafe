//go:build full

package delivery_test

import "testing"

// The same with more faults, where that ends in a minute or so. One cast after the other, so that each
// tells how long it takes.
func TestEveryOrderOfStepsWithMoreFaults(t *testing.T) {
	for _, c := range casts {
		if c.full > c.faults {
			t.Run(c.name, func(t *testing.T) { c.play(t, c.full) })
		}
	}
}
