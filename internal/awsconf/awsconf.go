// Package awsconf is the AWS SDK's configuration as functions and commands use it.
package awsconf

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Load reads the environment and, where there are any, profiles, as the SDK does by
// default, which writes nothing of its own anywhere. Errors of clients made from it show no credential.
func Load(ctx context.Context, options ...func(*awsconfig.LoadOptions) error) (aws.Config, error) {
	silent := awsconfig.WithLogger(logging.Nop{}) // it would write to standard error: where it looked for credentials
	cfg, err := awsconfig.LoadDefaultConfig(ctx, append([]func(*awsconfig.LoadOptions) error{silent}, options...)...)
	cfg.APIOptions = append(cfg.APIOptions, withoutToken)
	return cfg, err
}

// quietError is a service's refusal whose text shows no credential.
type quietError struct {
	text string
	err  error
}

func (e *quietError) Error() string { return e.text }
func (e *quietError) Unwrap() error { return e.err }

// withoutToken keeps a session's token out of errors: a service that finds a signature
// wrong may say back the headers that it expected to be signed.
func withoutToken(stack *middleware.Stack) error {
	return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("WithoutToken", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleFinalize(ctx, in)
		if req, ok := in.Request.(*smithyhttp.Request); ok && err != nil {
			if token := req.Header.Get("X-Amz-Security-Token"); token != "" && strings.Contains(err.Error(), token) {
				err = &quietError{text: strings.ReplaceAll(err.Error(), token, "[redacted]"), err: err}
			}
		}
		return out, meta, err
	}), middleware.After) // the request is signed by then
}
