package app

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// iamCache names the ElastiCache cache that IAM tokens are made for; Name is in lower
// case. The zero value means no IAM authentication.
type iamCache struct {
	Name       string
	Serverless bool
}

// iamTokenLife is how long a token is accepted (ElastiCache's limit).
const iamTokenLife = 900 * time.Second

// emptyPayload is the SHA-256 of an empty request body.
const emptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// iamToken returns an ElastiCache IAM authentication token: a SigV4 presigned "connect"
// request to the cache, without its scheme ("Authenticating with IAM", ElastiCache User
// Guide).
func iamToken(ctx context.Context, cfg aws.Config, cache iamCache, user string, now time.Time) (string, error) {
	creds, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return "", fmt.Errorf("credentials for the cache's token: %w", err)
	}
	query := url.Values{"Action": {"connect"}, "User": {user}, "X-Amz-Expires": {fmt.Sprintf("%d", int(iamTokenLife.Seconds()))}}
	if cache.Serverless {
		query.Set("ResourceType", "ServerlessCache")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+cache.Name+"/?"+query.Encode(), nil)
	if err != nil {
		return "", fmt.Errorf("token request: %w", err)
	}
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, creds, req, emptyPayload, "elasticache", cfg.Region, now)
	if err != nil {
		return "", fmt.Errorf("sign the cache's token: %w", err)
	}
	return strings.TrimPrefix(signed, "http://"), nil
}
