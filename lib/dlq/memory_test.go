package dlq_test

import (
	"testing"
	"testing/synctest"

	"backstop/lib/dlq"
	"backstop/lib/dlq/dlqtest"
)

// Leases run out in bubbles, where waiting costs nothing.
func TestMemoryConformance(t *testing.T) {
	b := dlqtest.Backend{
		New: func(_ *testing.T, opts ...dlq.Option) dlq.Store { return dlq.NewMemory(opts...) },
	}
	for _, c := range dlqtest.Cases() {
		if c.Foreign {
			continue // nobody else can write to it
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { c.Verify(t, b) })
		})
	}
}
