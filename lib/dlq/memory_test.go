package dlq_test

import (
	"testing"

	"backstop/lib/dlq"
	"backstop/lib/dlq/dlqtest"
)

func TestMemoryConformance(t *testing.T) {
	dlqtest.Run(t, dlqtest.Backend{
		New: func(_ *testing.T, opts ...dlq.Option) dlq.Store { return dlq.NewMemory(opts...) },
	})
}
