package journal

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// operation is what is done with S3, and what a role needs for it.
type operation struct{ verb, needs string }

var (
	putting   = operation{"put", "s3:PutObject"}
	replacing = operation{"replace", "s3:PutObject and s3:GetObject"}
	getting   = operation{"get", "s3:GetObject (and s3:ListBucket, without which an object that is missing is denied)"}
	deleting  = operation{"delete", "s3:DeleteObject"}
	listing   = operation{"list", "s3:ListBucket"}
	purging   = operation{"purge", "s3:ListBucketVersions, s3:GetObjectVersion and s3:DeleteObjectVersion"}
)

// transferError is a body that did not arrive whole.
type transferError struct{ err error }

func (e *transferError) Error() string { return "the object was cut off: " + e.err.Error() }
func (e *transferError) Unwrap() error { return e.err }

// credentialsError is that there are none to sign a request with. What a service answered to who asked
// for them is no answer of S3.
type credentialsError struct{ err error }

func (e *credentialsError) Error() string { return "no AWS credentials: " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }

// notDeletedError is what an answer that was no error says about objects: the first of them.
type notDeletedError struct {
	name, code string
	count      int
}

func (e *notDeletedError) Error() string {
	return fmt.Sprintf("%d not deleted, among them %.200s: %s", e.count, e.name, e.code)
}

// answered returns the status and the code of what S3 answered; 0 and "" where it did not.
func answered(err error) (status int, code string) {
	if _, ok := errors.AsType[*credentialsError](err); ok {
		return 0, ""
	}
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.Response != nil {
		status = e.HTTPStatusCode()
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		code = e.ErrorCode()
	}
	if e, ok := errors.AsType[*notDeletedError](err); ok {
		status, code = http.StatusOK, e.code
	}
	return status, code
}

// passing reports whether what failed may succeed when it is tried again.
func passing(err error) bool {
	for _, final := range []error{ErrExists, ErrNotFound, ErrChanged, ErrTooLarge} {
		if errors.Is(err, final) {
			return false
		}
	}
	status, code := answered(err)
	switch code {
	case "SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "ThrottlingException", "Throttling", "TooManyRequests",
		"ConditionalRequestConflict", "OperationAborted", "RequestTimeTooSkewed", "KMS.ThrottlingException":
		return true // by an error for one of many objects as well
	}
	switch {
	case status == 0:
		return !hopeless(err)
	case status == http.StatusNotImplemented, status == http.StatusHTTPVersionNotSupported:
		return false
	case status < http.StatusMultipleChoices:
		// The answer could not be read. What it says of single objects is decided by their code.
		_, decided := errors.AsType[*notDeletedError](err)
		return !decided
	}
	return status >= http.StatusInternalServerError || status == http.StatusConflict || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
}

// hopeless reports whether no request was made, or none will ever be: no credentials, another's certificate.
func hopeless(err error) bool {
	_, foreign := errors.AsType[*tls.CertificateVerificationError](err)
	_, unsigned := errors.AsType[*credentialsError](err)
	if foreign || unsigned {
		return true
	}
	if _, ok := errors.AsType[*transferError](err); ok {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return false // of the try: the loop knows whether the call's own time is over
	}
	_, sent := errors.AsType[*smithyhttp.RequestSendError](err)
	return !sent
}

// s3Error is what failed, in words for whoever runs it.
type s3Error struct {
	text string
	err  error
}

func (e *s3Error) Error() string { return e.text }
func (e *s3Error) Unwrap() error { return e.err }

// explain says what failed and what to do. It takes a service's own words only where they are known to
// hold no credential.
func explain(op operation, region string, err error) error {
	status, code := answered(err)
	if code == "" && status == 0 {
		return explainNetwork(err)
	}
	text := strings.TrimSpace(fmt.Sprintf("%.100s (HTTP %d)", code, status))
	if _, ok := errors.AsType[*notDeletedError](err); ok {
		text = err.Error()
	} else if status < http.StatusMultipleChoices {
		text = fmt.Sprintf("the answer (HTTP %d) could not be read; check that the endpoint is S3", status)
	}
	var header http.Header
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && e.Response != nil {
		header = e.Response.Header
		if id := header.Get("X-Amz-Request-Id"); id != "" {
			text += fmt.Sprintf(", request %.60s", id)
		}
	}
	if advice := advise(op, region, status, code, header); advice != "" {
		text += ": " + advice
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && (code == "AccessDenied" || strings.HasPrefix(code, "KMS.")) && api.ErrorMessage() != "" {
		text += fmt.Sprintf(" (%.500s)", api.ErrorMessage()) // it names who may not do what, and why
	}
	return &s3Error{text, err}
}

func advise(op operation, region string, status int, code string, header http.Header) string {
	switch {
	case code == "NoSuchBucket":
		return "there is no such bucket: make it, or correct its name"
	case code == "AuthorizationHeaderMalformed", code == "PermanentRedirect", code == "TemporaryRedirect", code == "IllegalLocationConstraintException",
		status == http.StatusMovedPermanently, status == http.StatusTemporaryRedirect:
		other := "another region"
		if r := header.Get("X-Amz-Bucket-Region"); r != "" && r != region {
			other = fmt.Sprintf("region %.40s", r)
		}
		return fmt.Sprintf("the bucket is in %s, and this client asks in %s: use a bucket of this region", other, region)
	case code == "InvalidAccessKeyId", code == "SignatureDoesNotMatch", code == "ExpiredToken", code == "InvalidToken", code == "TokenRefreshRequired":
		return "S3 does not take these credentials: check those that the process was given, and that they are of this endpoint"
	case code == "RequestTimeTooSkewed":
		return "this machine's clock is wrong: set it"
	case strings.HasPrefix(code, "KMS."):
		return "the bucket's key does not serve: check that it is enabled, and that the role may use it (kms:GenerateDataKey, kms:Decrypt)"
	case code == "AccessDenied", code == "AllAccessDisabled", code == "AccountProblem", status == http.StatusForbidden:
		return "denied: it needs " + op.needs + "; check the role, the bucket's policy and, where it has one, its key's"
	case code == "MethodNotAllowed", status == http.StatusMethodNotAllowed:
		return "the bucket does not take this: it may be read-only"
	case code == "NotImplemented", status == http.StatusNotImplemented:
		return "this endpoint does not know what was asked: a journal needs conditional writes (If-None-Match, If-Match)"
	case code == "SlowDown", code == "ServiceUnavailable", status == http.StatusServiceUnavailable, status == http.StatusTooManyRequests:
		return "S3 was asked too often, or is not well; there was no time left to ask again"
	}
	return ""
}

// explainNetwork is explain for what was not answered.
func explainNetwork(err error) error {
	text := err.Error()
	if _, ok := errors.AsType[*credentialsError](err); ok {
		return &s3Error{text, err}
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		host := ""
		if u, parseErr := url.Parse(e.URL); parseErr == nil {
			host = u.Host + ": "
		}
		text = host + e.Err.Error()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		text = "no answer in time; check that there is a way to S3 from here (in a VPC: a gateway endpoint)"
	case errors.Is(err, context.Canceled):
		text = "canceled"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		text += "; check the endpoint, and the certificate authorities that are trusted (AWS_CA_BUNDLE)"
	}
	return &s3Error{text, err}
}
