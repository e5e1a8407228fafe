package dlqtest_test

import (
	"testing"

	"backstop/lib/dlq/dlqtest"
)

// What the example shows is true of the store that it shows.
func TestTheExample(t *testing.T) { dlqtest.Run(t, backend()) }
