package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"syscall"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"backstop/client"
	"backstop/lib/fault"
)

// The exit codes. README and `backstop --help` promise them.
const (
	exitDone         = 0
	exitFailed       = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitConflict     = 4
	exitUnavailable  = 5
	exitUnauthorized = 6
	exitInterrupted  = 130
)

const exitCodesHelp = `Exit codes:
  0    done
  1    failed: something was tried and did not work (a replay that failed again, an operation that was stopped, a finding)
  2    wrong usage, or the API refused the request as wrong
  3    not found
  4    conflict: a replay holds the dead letter, it changed or was delivered already
  5    the API (or AWS) cannot be reached or is out of order
  6    not authorized, or the credentials have expired
  130  interrupted`

// exitError carries an exit code other than 1, and what to do next.
type exitError struct {
	code int
	err  error
	hint string // empty: none
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usage is a fault of the command line: exit code 2.
func usage(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// hinted adds what to do next to an error, whose exit code and own hint stay.
func hinted(err error, format string, args ...any) error {
	h := fmt.Sprintf(format, args...)
	if own := hint(err); own != "" {
		h = own + "\n" + h
	}
	return &exitError{code: exitCode(err), err: err, hint: h}
}

// exitCode tells what err means for a script.
func exitCode(err error) int {
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if errors.Is(err, context.Canceled) { // in a wait, too, for what failed before it
		return exitInterrupted
	}
	if e, ok := errors.AsType[*client.ProblemError](err); ok {
		return problemCode(e)
	}
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return exitUnavailable
	}
	if _, ok := errors.AsType[*client.CredentialsError](err); ok {
		return exitUnauthorized
	}
	if code, ok := awsCode(err); ok {
		return code
	}
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE): // the reader has seen enough
		return exitDone
	}
	return exitFailed
}

func problemCode(p *client.ProblemError) int {
	switch p.Status {
	case http.StatusBadRequest, http.StatusMethodNotAllowed:
		return exitUsage
	case http.StatusUnauthorized, http.StatusForbidden:
		return exitUnauthorized
	case http.StatusNotFound:
		if p.Code == "" { // not Backstop's: the URL leads elsewhere
			return exitUnavailable
		}
		return exitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity:
		return exitConflict
	case http.StatusTooManyRequests:
		return exitUnavailable
	}
	if p.Status >= http.StatusInternalServerError {
		return exitUnavailable
	}
	return exitFailed
}

// deniedCodes are the codes of AWS services for somebody who is known and lacks a permission.
var deniedCodes = map[string]bool{"AccessDenied": true, "AccessDeniedException": true, "AuthorizationError": true}

// staleCredentials matches what API Gateway says of credentials that are to be renewed.
var staleCredentials = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(?i)expired|security token|signature`) })

// unauthorizedCodes are the codes of AWS services for credentials that do not hold.
var unauthorizedCodes = map[string]bool{
	"ExpiredToken":          true,
	"ExpiredTokenException": true, "InvalidClientTokenId": true, "InvalidSignatureException": true,
	"MissingAuthenticationToken": true, "SignatureDoesNotMatch": true, "UnrecognizedClientException": true,
	"InvalidAccessKeyId": true, "RequestExpired": true, "IncompleteSignature": true,
}

// awsCode is the exit code for an error of an AWS SDK call; false for any other error.
func awsCode(err error) (int, bool) {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		switch {
		case unauthorizedCodes[e.ErrorCode()], deniedCodes[e.ErrorCode()]:
			return exitUnauthorized, true
		case missingCodes[e.ErrorCode()]:
			return exitNotFound, true
		case e.ErrorFault() == smithy.FaultServer:
			return exitUnavailable, true
		}
		return exitFailed, true
	}
	if _, ok := errors.AsType[*smithy.OperationError](err); ok && !errors.Is(err, context.Canceled) {
		return exitUnavailable, true
	}
	return 0, false
}

var missingCodes = map[string]bool{
	"QueueDoesNotExist": true, "AWS.SimpleQueueService.NonExistentQueue": true, "ParameterNotFound": true,
}

// report writes an error for a person: what went wrong, and what to do next.
func report(w io.Writer, err error) {
	if code := exitCode(err); code == exitDone {
		return
	}
	_, _ = fmt.Fprintln(w, "backstop:", message(err))
	if h := hint(err); h != "" {
		_, _ = fmt.Fprintln(w, h)
	}
}

func message(err error) string {
	if e, ok := errors.AsType[*exitError](err); ok {
		err = e.err
	}
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return printable(plainly(err))
}

// plainly is an error's text without what tells a person nothing: the title of a problem that has a detail, and
// the inner life of the AWS SDK.
func plainly(err error) string {
	text := err.Error()
	if p, ok := errors.AsType[*client.ProblemError](err); ok && p.Detail != "" {
		text = strings.Replace(text, p.Title+": "+p.Detail, p.Detail, 1)
	}
	if c, ok := errors.AsType[*client.CredentialsError](err); ok && strings.Contains(text, "IMDS") {
		text = strings.Replace(text, c.Error(), "no AWS credentials were found", 1)
	}
	if o, ok := errors.AsType[*smithy.OperationError](err); ok {
		cause := o.Err.Error()
		if e, ok := errors.AsType[smithy.APIError](o.Err); ok {
			cause = e.ErrorCode() + ": " + e.ErrorMessage()
		} else if e, ok := errors.AsType[*smithyhttp.RequestSendError](o.Err); ok {
			cause = e.Err.Error()
		}
		text = strings.Replace(text, o.Error(), o.Service()+" "+o.Operation()+": "+cause, 1)
	}
	return text
}

// hint is what to do about err; empty where nothing is known.
func hint(err error) string {
	if e, ok := errors.AsType[*exitError](err); ok && e.hint != "" {
		return e.hint
	}
	if e, ok := errors.AsType[*client.ProblemError](err); ok {
		switch {
		case e.Status == http.StatusForbidden && !staleCredentials().MatchString(e.Error()):
			return "Who you are may not do this, or nobody knows you here: 'aws sts get-caller-identity' tells who you are, and\n" +
				"docs/deploy.md which role (OperatorPolicy, ReaderPolicy, a token's scopes) allows what. The API may want the\n" +
				"other kind of credentials: --sign or --token."
		case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
			return "Check who you are (aws sts get-caller-identity) and renew the credentials (aws sso login), or the token in\n" +
				"BACKSTOP_TOKEN. The API may want the other kind: --sign or --token."
		case e.Status == http.StatusNotFound && e.Code == "":
			return "That is no answer of Backstop's: does the URL in --api or BACKSTOP_API end before /v1, with the right stage?"
		case e.Code == fault.CodeItemLeased:
			return "A replay is at work on it. Try again when it has ended; a lease ends by itself."
		case e.Code == fault.CodeInternal:
			return "The function's log says more, in the line with this request's time."
		case e.Status >= http.StatusInternalServerError:
			return "Try again in a moment. A message is either safe or still yours: the same request can be repeated."
		}
	}
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return "Is the URL right? Name the API with --api URL or BACKSTOP_API. On this machine, 'backstop dev' starts one at\n" + defaultAPI + "."
	}
	if e, ok := errors.AsType[smithy.APIError](err); ok && deniedCodes[e.ErrorCode()] {
		return "Your credentials are valid and lack this permission ('aws sts get-caller-identity' tells whose they are): ask for it, or\n" +
			"take another profile (AWS_PROFILE)."
	}
	if exitCode(err) == exitUnauthorized {
		return "Check who you are (aws sts get-caller-identity) and renew the credentials (aws sso login, or AWS_PROFILE)."
	}
	return ""
}
