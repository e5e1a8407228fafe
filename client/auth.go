package client

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// service is what API Gateway's IAM authorizer calls itself in a signature.
const service = "execute-api"

var gatewayHost = regexp.MustCompile(`(?:^|\.)execute-api\.([a-z0-9-]+)\.`)

// GatewayRegion returns the region of an API Gateway endpoint, and whether the host of
// the URL is one.
func GatewayRegion(base string) (region string, ok bool) {
	u, err := url.Parse(base)
	if err != nil {
		return "", false
	}
	m := gatewayHost.FindStringSubmatch(strings.ToLower(u.Hostname()))
	if m == nil {
		return "", false
	}
	return m[1], true
}

// Signer signs requests with AWS credentials (SigV4), as an API with IAM authorization
// wants them. It is safe for concurrent use.
type Signer struct {
	// Credentials are asked for each request: give a provider that caches, such as that of
	// config.LoadDefaultConfig. Needed.
	Credentials aws.CredentialsProvider
	// Region is the API's, not the caller's (see GatewayRegion). Needed.
	Region string
	// Base sends the signed request; nil means http.DefaultTransport.
	Base http.RoundTripper
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// RoundTrip signs and sends. Without credentials the error is a *CredentialsError.
func (s *Signer) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	credentials, err := s.Credentials.Retrieve(r.Context())
	if err != nil {
		return nil, &CredentialsError{Err: err}
	}
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	signed := r.Clone(r.Context())
	signed.Body, signed.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		signed.Body = http.NoBody
	}
	sum := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(r.Context(), credentials, signed, hex.EncodeToString(sum[:]), service, s.Region, now()); err != nil {
		return nil, &CredentialsError{Err: err}
	}
	return base(s.Base).RoundTrip(signed)
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

func base(t http.RoundTripper) http.RoundTripper {
	if t == nil {
		return http.DefaultTransport
	}
	return t
}

var errInTheClear = errors.New("a token is only sent over https")

// Bearer authenticates requests with a token, as an API with a JWT authorizer wants
// them. It is safe for concurrent use.
type Bearer struct {
	// Token is sent as it is, after "Bearer ". Needed.
	Token string
	// Base sends the request; nil means http.DefaultTransport.
	Base http.RoundTripper
}

// RoundTrip adds the token and sends. It refuses to send it in the clear to another
// machine.
func (b *Bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !loopback(r.URL.Hostname()) {
		_, err := readBody(r)
		return nil, errors.Join(errInTheClear, err)
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.Token)
	return base(b.Base).RoundTrip(r)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
