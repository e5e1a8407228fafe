// Package awsconf is the AWS SDK's configuration as functions and commands use it.
package awsconf

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Load reads the environment and, where there are any, profiles, as the SDK does by
// default, which writes nothing of its own anywhere: for commands. A function takes Environment. Errors of clients made from it show no credential.
func Load(ctx context.Context, options ...func(*awsconfig.LoadOptions) error) (aws.Config, error) {
	silent := awsconfig.WithLogger(logging.Nop{}) // it would write to standard error: where it looked for credentials
	cfg, err := awsconfig.LoadDefaultConfig(ctx, append([]func(*awsconfig.LoadOptions) error{silent}, options...)...)
	cfg.APIOptions = append(cfg.APIOptions, withoutToken)
	return cfg, err
}

// quietError is an error whose text shows no credential.
type quietError struct {
	text string
	err  error
}

func (e *quietError) Error() string { return e.text }
func (e *quietError) Unwrap() error { return e.err }

// quietRefusalError is a service's refusal of which neither text nor message shows a credential: who looks in the
// chain for the service's own words finds these.
type quietRefusalError struct {
	quietError
	smithy.APIError
	message string
}

func (e *quietRefusalError) Error() string        { return e.text }
func (e *quietRefusalError) ErrorMessage() string { return e.message }

// quiet is err without token.
func quiet(err error, token string) error {
	without := func(text string) string { return strings.ReplaceAll(text, token, "[redacted]") }
	q := quietError{text: without(err.Error()), err: err}
	if refused, ok := errors.AsType[smithy.APIError](err); ok {
		return &quietRefusalError{q, refused, without(refused.ErrorMessage())}
	}
	return &q
}

// withoutToken keeps a session's token out of errors: a service that finds a signature
// wrong may say back the headers that it expected to be signed.
func withoutToken(stack *middleware.Stack) error {
	return stack.Finalize.Add(middleware.FinalizeMiddlewareFunc("WithoutToken", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleFinalize(ctx, in)
		if req, ok := in.Request.(*smithyhttp.Request); ok && err != nil {
			if token := req.Header.Get("X-Amz-Security-Token"); token != "" && strings.Contains(err.Error(), token) {
				err = quiet(err, token)
			}
		}
		return out, meta, err
	}), middleware.After) // the request is signed by then
}
