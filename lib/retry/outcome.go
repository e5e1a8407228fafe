package retry

import (
	"errors"
	"fmt"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// Status is the fate of a delivery.
type Status string

// The statuses. A delivery that is neither delivered nor dead-lettered still belongs
// to the caller.
const (
	StatusDelivered    Status = "delivered"     // the sink accepted it
	StatusDeadLettered Status = "dead_lettered" // it failed, and the DLQ has it
	StatusHandedBack   Status = "handed_back"   // it failed, and is kept nowhere
)

// Outcome tells the whole truth about one delivery.
type Outcome struct {
	// Status is never empty.
	Status Status
	// DeliveryID is the message's id, or the one it was given.
	DeliveryID string
	// Attempts is the number of Send calls that were really made.
	Attempts int
	// Unanswered is how many of them ended ambiguously: the message may have arrived
	// with each.
	Unanswered int
	// Receipt is the receiver's own name for the message that it took, where its sink told
	// (sinks.NoteReceipt).
	Receipt string
	// Reason says why the delivery failed; empty when it was delivered.
	Reason dlq.Reason
	// Err is the last attempt's error, or why there was none; nil when delivered.
	Err error
	// StoreErr is why a dead letter could not be stored; nil when it was, or when it was
	// not to be: no DLQ is set, or Retrier.HandBack says so.
	StoreErr error
	// Item is the dead letter: as stored, when Status is dead_lettered and the DLQ
	// returns it (see dlq.Letters); otherwise as it would have been. Zero when
	// delivered.
	Item dlq.Item
	// NotBefore is the earliest time for the next attempt that the receiver asked
	// for. Zero: none.
	NotBefore time.Time
	// Down says that it was refused because its receiver's breaker is open, for everybody. False:
	// the process stopped by itself, or others go step by step.
	Down bool
	// Trying is the time spent in attempts, without the waits between them.
	Trying time.Duration
	// Elapsed is the time from the call to the outcome, the dead-letter write
	// included.
	Elapsed time.Duration

	failed bool // the receiver failed its last attempt
}

// Error returns nil when the delivery is safe (delivered or dead-lettered), else why
// the caller still owns it: the coded store error joined with the last attempt's, or
// the latter alone when nothing was to be stored. It always has a code: SINK_UNAVAILABLE
// where a sink returned an error without one.
func (o Outcome) Error() error {
	if o.Status != StatusHandedBack {
		return nil
	}
	if o.StoreErr == nil {
		if fault.CodeOf(o.Err) != "" {
			return o.Err
		}
		return &fault.Error{Code: fault.CodeSinkUnavailable, Msg: fmt.Sprintf("delivery %s failed (%s)", o.DeliveryID, o.Reason), Cause: o.Err}
	}
	code := fault.CodeOf(o.StoreErr)
	if code == "" {
		code = fault.CodeDLQUnavailable
	}
	return &fault.Error{
		Code:  code,
		Msg:   fmt.Sprintf("delivery %s failed (%s) and could not be dead-lettered", o.DeliveryID, o.Reason),
		Cause: errors.Join(o.StoreErr, o.Err),
	}
}
