package journaltest_test

import (
	"context"
	"sync/atomic"
	"testing"

	"backstop/lib/journal"
	"backstop/lib/journal/journaltest"
)

// counted is a bucket of one's own: it counts what is stored. Its other methods are those of the
// bucket below.
type counted struct {
	journal.Bucket
	stored atomic.Int64
}

func (c *counted) Put(ctx context.Context, name string, body []byte) error {
	err := c.Bucket.Put(ctx, name, body)
	if err == nil {
		c.stored.Add(1)
	}
	return err
}

func newBucket(t *testing.T) journal.Bucket {
	return &counted{Bucket: journal.NewFolder(t.TempDir())}
}

// A bucket's conformance test is one call. A bucket that wraps another passes the suite too.
func Example() {
	var t *testing.T // that of func TestConformance(t *testing.T), in the bucket's own tests
	journaltest.Run(t, newBucket)
}
