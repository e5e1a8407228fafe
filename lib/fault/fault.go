// Package fault is the vocabulary of failures: the coded error, every code, and the forms
// of names and ids. All other packages build on it, and it on none of them.
//
// Start with CodeOf: callers branch on its answer, never on text. What a sink or a store of
// one's own returns is an *Error. Whether another attempt may help is not in the code: package
// sinks marks that.
//
// A new code is added here, and given its HTTP status in internal/problem.
package fault

import (
	"errors"
	"strings"
)

// Code is the stable, machine-readable name of a failure. Callers branch on codes,
// never on text.
type Code string

// The codes.
const (
	CodeSinkUnavailable    Code = "SINK_UNAVAILABLE"     // the destination did not take the message
	CodeSinkConfigInvalid  Code = "SINK_CONFIG_INVALID"  // the sink's configuration is missing or wrong
	CodeSinkNotFound       Code = "SINK_NOT_FOUND"       // no sink of that name is configured
	CodeDLQOverflow        Code = "SINK_DLQ_OVERFLOW"    // the dead-letter queue is full
	CodeDLQUnavailable     Code = "SINK_DLQ_UNAVAILABLE" // the dead-letter queue could not be reached
	CodeDLQNotFound        Code = "SINK_DLQ_NOT_FOUND"   // no such dead letter
	CodeDeadLettered       Code = "SINK_DEAD_LETTERED"   // a replayed message was dead-lettered again
	CodeItemLeased         Code = "ITEM_LEASED"          // a replay holds the dead letter
	CodeDeliveryInProgress Code = "DELIVERY_IN_PROGRESS" // the same delivery is under way elsewhere
	CodeIDReused           Code = "ID_REUSED"            // the delivery id was used for other content
	CodeNotAttempted       Code = "NOT_ATTEMPTED"        // no time was left for an attempt
	CodeQueueUnavailable   Code = "QUEUE_UNAVAILABLE"    // the queue did not take the message, or did not say so
	CodeBodyTooLarge       Code = "BODY_TOO_LARGE"       // the body exceeds the limit
	CodePreviewStale       Code = "PREVIEW_STALE"        // an operation would touch other dead letters than were seen
	CodeInvalidArgument    Code = "INVALID_ARGUMENT"     // the request is wrong; the message names the field
	CodeInternal           Code = "INTERNAL"             // a defect of Backstop itself

	// Those of the HTTP API alone.

	CodeAlreadyDelivered   Code = "ALREADY_DELIVERED"   // a receiver has the message: a dead letter that was kept, or a delivery that is to be canceled
	CodeNotFound           Code = "NOT_FOUND"           // no such route or operation
	CodeMethodNotAllowed   Code = "METHOD_NOT_ALLOWED"  // the route takes other methods
	CodePreconditionFailed Code = "PRECONDITION_FAILED" // the dead letter has changed since it was read

	// Those of the console, which passes calls on to the API.

	CodeConsoleForbidden   Code = "CONSOLE_FORBIDDEN"       // the request came from another site's page
	CodeConsoleUnreachable Code = "CONSOLE_API_UNREACHABLE" // the API did not answer
	CodeConsoleCredentials Code = "CONSOLE_CREDENTIALS"     //nolint:gosec // a name: there are no credentials for the API

	// Those of the MCP server.

	CodeTokenUnknown        Code = "TOKEN_UNKNOWN"        //nolint:gosec // a name: no preview gave the token
	CodeTokenExpired        Code = "TOKEN_EXPIRED"        //nolint:gosec // a name: the token's time is over
	CodeTokenUsed           Code = "TOKEN_USED"           //nolint:gosec // a name: the token has done what it was for
	CodeApprovalUnsupported Code = "APPROVAL_UNSUPPORTED" // a person has to be asked, and the agent's client cannot
	CodeApprovalRefused     Code = "APPROVAL_REFUSED"     // a person was asked, and did not agree
)

// Error is a coded error. Its text never contains a configured secret.
type Error struct {
	Code  Code
	Msg   string
	Cause error // nil when there is none
}

// Error returns "CODE: message: cause", without the parts that are empty.
func (e *Error) Error() string {
	parts := make([]string, 0, 3)
	if e.Code != "" {
		parts = append(parts, string(e.Code))
	}
	if e.Msg != "" {
		parts = append(parts, e.Msg)
	}
	if e.Cause != nil {
		parts = append(parts, e.Cause.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns the cause, for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Cause }

// CodeOf returns the code of the first coded error in err's tree, and "" when there
// is none, as for nil.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}
