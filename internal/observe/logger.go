// Package observe writes what operators see: one structured log line per delivery (of plain
// successes those of a sample) and replay, and CloudWatch metrics in the embedded metric format.
package observe

import (
	"log/slog"

	"github.com/aws/aws-lambda-go/lambdacontext"
)

// NewLogger returns a logger in Lambda's own format: to stdout, with the request id of
// the invocation in ctx, as JSON when AWS_LAMBDA_LOG_FORMAT is JSON, from
// AWS_LAMBDA_LOG_LEVEL on. service is on every line.
func NewLogger(service string) *slog.Logger {
	return lambdacontext.NewLogger().With("service", service)
}
