package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"backstop/lib/fault"

	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
)

// ProblemError is a refusal of the API (RFC 9457), or of a gateway in front of it: then Code
// is empty.
type ProblemError struct {
	// Type is urn:backstop:problem: and the code, or about:blank. It does not resolve.
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Code is what to branch on, such as SINK_DLQ_NOT_FOUND; empty when the answer was
	// no problem of Backstop's.
	Code fault.Code `json:"code"`
	// DeliveryID is the delivery that the problem is about; empty when there is none.
	DeliveryID string `json:"delivery_id"`
	// RetryAfter is the wait that the answer asks for; zero when it asks for none.
	RetryAfter time.Duration `json:"-"`
}

// Error returns "title: detail (CODE)".
func (e *ProblemError) Error() string {
	text := e.Title
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.Code == "" {
		return fmt.Sprintf("%s (HTTP %d)", text, e.Status)
	}
	return fmt.Sprintf("%s (%s)", text, e.Code)
}

// Unwrap returns the refusal as a coded error, for fault.CodeOf; nil where it has no code.
func (e *ProblemError) Unwrap() error {
	if e.Code == "" {
		return nil
	}
	return &fault.Error{Code: e.Code, Msg: cmp.Or(e.Detail, e.Title)}
}

// problemOf reads a refusal, whoever made it.
func problemOf(resp *http.Response, body []byte) error {
	p := &ProblemError{}
	if mediaType(resp) != "application/problem+json" || json.Unmarshal(body, p) != nil {
		*p = ProblemError{}
		var gateway struct{ Message string } // names match in any case
		if json.Unmarshal(body, &gateway) == nil {
			p.Detail = gateway.Message
		}
	}
	if p.Title == "" {
		p.Title = http.StatusText(resp.StatusCode)
	}
	p.Title, p.Detail = withoutCredentials(resp.Request, p.Title), withoutCredentials(resp.Request, p.Detail)
	p.Status = resp.StatusCode
	p.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	return p
}

// withoutCredentials replaces what authenticated r where a refusal repeats it, as API
// Gateway does with the headers that it expected to be signed.
func withoutCredentials(r *http.Request, text string) string {
	if r == nil {
		return text
	}
	for _, name := range []string{"Authorization", "X-Amz-Security-Token"} {
		if secret := strings.TrimPrefix(r.Header.Get(name), "Bearer "); secret != "" {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return text
}

// retryAfter reads seconds or an HTTP date.
func retryAfter(v string) time.Duration {
	v = strings.TrimSpace(v)
	if n, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(n, 0), 86400)) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// UnreachableError means that no answer of the API came: whether the request was worked on is
// not known. Another server's answer is none.
type UnreachableError struct {
	URL string // the API's
	Err error

	lasting bool // another try would end in the same way
}

// Error names the API's URL.
func (e *UnreachableError) Error() string { return fmt.Sprintf("the API at %s: %v", e.URL, e.Err) }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// CredentialsError means that there are no usable AWS credentials.
type CredentialsError struct{ Err error }

// Error says why.
func (e *CredentialsError) Error() string {
	why := e.Err.Error()
	if _, ok := errors.AsType[*processcreds.ProviderError](e.Err); ok {
		// The SDK quotes what the process wrote, which may well be the credentials.
		why = "the profile's credential_process ended with an error, or wrote no credentials"
	}
	return "no usable AWS credentials: " + why
}

// Unwrap returns the cause.
func (e *CredentialsError) Unwrap() error { return e.Err }
