package journaltest_test

import (
	"testing"

	"backstop/lib/journal/journaltest"
)

// What the example shows is true of the bucket that it shows.
func TestTheExample(t *testing.T) { journaltest.Run(t, newBucket) }
