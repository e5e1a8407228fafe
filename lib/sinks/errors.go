package sinks

import (
	"errors"
	"strings"
	"time"
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
	CodeBodyTooLarge       Code = "BODY_TOO_LARGE"       // the body exceeds the limit
	CodeInvalidArgument    Code = "INVALID_ARGUMENT"     // the request is wrong; the message names the field
	CodeInternal           Code = "INTERNAL"             // a defect of Backstop itself
)

// Error is a coded error. Its text never contains a configured secret.
type Error struct {
	Code  Code
	Msg   string
	Cause error // nil when there is none
}

// Error returns "CODE: message: cause".
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

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// CodeOf returns the code of the first coded error in err's tree, and "" when there
// is none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// mark is what a sink knows about a failure. It keeps the cause for errors.Is and
// errors.As and adds nothing to the text.
type mark struct {
	error
	transient  bool
	ambiguous  bool
	ours       bool
	retryAfter time.Duration
}

func (m *mark) Unwrap() error   { return m.error }
func (m *mark) Transient() bool { return m.transient }

// Transient marks err as worth another attempt. Transient(nil) is nil.
func Transient(err error) error { return marked(err, mark{transient: true}) }

// Terminal marks err as one that no further attempt can cure. Terminal(nil) is nil.
func Terminal(err error) error { return marked(err, mark{}) }

// Ambiguous marks err as an outcome that cannot be known: the request was fully
// sent and no answer came, so the message may or may not have been taken. Sending
// again may duplicate it. Ambiguous(nil) is nil.
func Ambiguous(err error) error { return marked(err, mark{ambiguous: true}) }

// Ours marks err as a failure of the sending process itself, such as that no file
// descriptor was free: the receiver had no part in it. It is transient, and a replay does
// not charge it to its item. Ours(nil) is nil.
func Ours(err error) error { return marked(err, mark{transient: true, ours: true}) }

// RetryAfter marks err as transient and not worth another attempt before d has
// passed. Negative durations count as 0, those over MaxRetryAfter as MaxRetryAfter.
// RetryAfter(nil, d) is nil.
func RetryAfter(err error, d time.Duration) error {
	return marked(err, mark{transient: true, retryAfter: min(max(d, 0), MaxRetryAfter)})
}

// MaxRetryAfter is the longest wait that a receiver can ask for.
const MaxRetryAfter = 24 * time.Hour

func marked(err error, m mark) error {
	if err == nil {
		return nil
	}
	m.error = err
	return &m
}

// IsAmbiguous reports whether the outermost mark on err is Ambiguous.
func IsAmbiguous(err error) bool {
	m, ok := errors.AsType[*mark](err)
	return ok && m.ambiguous
}

// IsOurs reports whether the outermost mark on err is Ours.
func IsOurs(err error) bool {
	m, ok := errors.AsType[*mark](err)
	return ok && m.ours
}

// RetryAfterOf returns the wait that the receiver asked for, 0 when it asked for none.
func RetryAfterOf(err error) time.Duration {
	if m, ok := errors.AsType[*mark](err); ok {
		return m.retryAfter
	}
	return 0
}
