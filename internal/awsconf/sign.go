package awsconf

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"backstop/lib/sinks"
)

// Sign returns what signs requests (Signature Version 4) with the credentials of the configuration,
// which is loaded when the first one is signed. Errors say that the process has no credentials now:
// no receiver has a part in that. They are coded, and show none.
func Sign(load func() (aws.Config, error)) func(ctx context.Context, r *http.Request, body []byte, service, region string) error {
	signer := v4.NewSigner()
	return func(ctx context.Context, r *http.Request, body []byte, service, region string) error {
		failed := func(err error) error {
			if ctx.Err() != nil {
				return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "AWS credentials", Cause: ctx.Err()}
			}
			return sinks.Ours(&sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "there are no AWS credentials now: " + err.Error()})
		}
		cfg, err := load()
		if err != nil {
			return failed(err)
		}
		if cfg.Credentials == nil {
			return failed(errNoCredentials)
		}
		credentials, err := cfg.Credentials.Retrieve(ctx)
		if err != nil {
			return failed(err)
		}
		sum := sha256.Sum256(body)
		return signer.SignHTTP(ctx, credentials, r, hex.EncodeToString(sum[:]), service, region, time.Now())
	}
}

var errNoCredentials = errors.New("none are configured")
