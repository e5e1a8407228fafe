package retry_test

import (
	"fmt"
	"time"

	"backstop/lib/retry"
)

// Waits double up to a bound. Jitter, left out here, spreads each of them, so that what failed
// together does not come back together.
func ExampleConfig_BackoffFor() {
	c := retry.Config{MaxAttempts: 6, BaseBackoff: time.Second, MaxBackoff: 5 * time.Second, NoJitter: true}
	for attempt := 1; attempt <= c.MaxAttempts; attempt++ {
		fmt.Println("before attempt", attempt, "wait", c.BackoffFor(attempt))
	}
	// Output:
	// before attempt 1 wait 0s
	// before attempt 2 wait 1s
	// before attempt 3 wait 2s
	// before attempt 4 wait 4s
	// before attempt 5 wait 5s
	// before attempt 6 wait 5s
}
