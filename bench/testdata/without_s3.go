// Package journal without its client of S3, in the place of what has it: BenchmarkStartJournal
// builds send with it.
package journal

import "github.com/aws/aws-sdk-go-v2/aws"

// DefaultConnections is as where there is a client.
const DefaultConnections = 50

// S3Options are as where there is a client.
type S3Options struct {
	AWS         func() (aws.Config, error)
	Connections int
}

// S3 is no bucket.
type S3 struct{ Bucket }

// NewS3 returns none.
func NewS3(string, string, S3Options) *S3 { return &S3{} }
