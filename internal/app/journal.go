package app

import (
	"github.com/aws/aws-sdk-go-v2/aws"

	"backstop/lib/journal"
)

// newBucket returns the bucket of the journal, nil where there is none. It does no I/O; a bucket on
// S3 makes its client with its first call: who has no dead letter pays nothing for it.
func newBucket(env Env, loadAWS func() (aws.Config, error)) journal.Bucket {
	if env.Journal.IsZero() {
		return nil
	}
	return env.Journal.Open(journal.S3Options{AWS: loadAWS, Connections: env.Concurrency})
}
