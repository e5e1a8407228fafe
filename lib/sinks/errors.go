package sinks

import (
	"errors"
	"time"

	"backstop/lib/fault"
)

// The vocabulary of fault, for sinks.
type (
	// Code is the stable, machine-readable name of a failure.
	Code = fault.Code
	// Error is a coded error. Its text never contains a configured secret.
	Error = fault.Error
)

// The codes that sinks and those who call them meet; fault has all of them.
const (
	CodeSinkUnavailable    = fault.CodeSinkUnavailable
	CodeSinkConfigInvalid  = fault.CodeSinkConfigInvalid
	CodeSinkNotFound       = fault.CodeSinkNotFound
	CodeDLQOverflow        = fault.CodeDLQOverflow
	CodeDLQUnavailable     = fault.CodeDLQUnavailable
	CodeDLQNotFound        = fault.CodeDLQNotFound
	CodeDeadLettered       = fault.CodeDeadLettered
	CodeItemLeased         = fault.CodeItemLeased
	CodeDeliveryInProgress = fault.CodeDeliveryInProgress
	CodeIDReused           = fault.CodeIDReused
	CodeNotAttempted       = fault.CodeNotAttempted
	CodeQueueUnavailable   = fault.CodeQueueUnavailable
	CodeBodyTooLarge       = fault.CodeBodyTooLarge
	CodeInvalidArgument    = fault.CodeInvalidArgument
	CodeInternal           = fault.CodeInternal
)

// CodeOf returns the code of the first coded error in err's tree, and "" when there is
// none.
func CodeOf(err error) Code { return fault.CodeOf(err) }

// mark is what a sink knows about a failure. It keeps the cause for errors.Is and
// errors.As and adds nothing to the text.
type mark struct {
	error
	transient  bool
	ambiguous  bool
	ours       bool
	unreached  bool
	retryAfter time.Duration
	hold       bool
	gone       bool
}

func (m *mark) Unwrap() error   { return m.error }
func (m *mark) Transient() bool { return m.transient }

// Transient marks err as worth another attempt. Transient(nil) is nil.
func Transient(err error) error { return marked(err, mark{transient: true}) }

// Terminal marks err as one that no further attempt can cure. Terminal(nil) is nil.
func Terminal(err error) error { return marked(err, mark{}) }

// Unreached marks err as terminal and as no answer: the receiver neither took the message
// nor refused it, like a server whose certificate is not valid, or that lets nobody log in.
// Other terminal failures are answers, and show that a receiver is there again.
// Unreached(nil) is nil.
func Unreached(err error) error { return marked(err, mark{unreached: true}) }

// Gone marks err as terminal, because the recipient is no more: the device was unregistered, the
// number does not exist, the address was given up. Nothing sent to it will ever arrive. Gone(nil) is
// nil.
func Gone(err error) error { return marked(err, mark{gone: true}) }

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

// Hold is RetryAfter for a receiver that asked everybody to wait, as HTTP's 429 and 503 do: not
// this message alone is held back, but all that go to the same receiver. Hold(nil, d) is nil.
func Hold(err error, d time.Duration) error {
	return marked(err, mark{transient: true, retryAfter: min(max(d, 0), MaxRetryAfter), hold: true})
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

// IsUnreached reports whether the outermost mark on err is Unreached.
func IsUnreached(err error) bool {
	m, ok := errors.AsType[*mark](err)
	return ok && m.unreached
}

// IsGone reports whether the outermost mark on err is Gone.
func IsGone(err error) bool {
	m, ok := errors.AsType[*mark](err)
	return ok && m.gone
}

// HoldOf returns how long the receiver asked everybody to wait; 0 when it did not.
func HoldOf(err error) time.Duration {
	if m, ok := errors.AsType[*mark](err); ok && m.hold {
		return m.retryAfter
	}
	return 0
}

// RetryAfterOf returns the wait that the receiver asked for, 0 when it asked for none.
func RetryAfterOf(err error) time.Duration {
	if m, ok := errors.AsType[*mark](err); ok {
		return m.retryAfter
	}
	return 0
}
