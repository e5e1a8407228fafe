package delivery

import (
	"encoding/json"
	"fmt"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// DefaultMaxBytes is the most bytes that are taken of a request (see Sender.MaxBytes).
const DefaultMaxBytes = 256 << 10

// Request asks for one delivery.
type Request struct {
	// ID identifies the delivery, however often it is asked for (fault.CheckID). Required.
	ID string
	// Sink is the name of the sink to send through. Required.
	Sink string
	// Recipient is JSON, as the caller wrote it. Nil: none.
	Recipient json.RawMessage
	// Message is what is sent; its ID is taken from the request.
	Message sinks.Message
	// Trace is the caller's trace header, kept with a dead letter. Empty: none.
	Trace string
	// ExpiresAt is when it is not sent any more: no attempt begins then or later. The sink may set
	// an earlier time (Target.MaxAge). Zero: no such time.
	ExpiresAt time.Time
	// AcceptedAt is when it was accepted, from which Target.MaxAge counts. Zero: now.
	AcceptedAt time.Time
	// SendAfter is how long it is to wait in Sender.Requests before it is sent, at most
	// MaxSendAfter. 0: not at all.
	SendAfter time.Duration
	// Async asks to be answered once Sender.Requests has it, instead of waiting for the sink.
	// Where there is no such queue, or it does not fit, it is delivered at once.
	Async bool
	// Group is the message group that it belongs to in Sender.Requests. Empty: the sink's.
	Group string
	// Queued says that it comes out of Sender.Requests, where it was put at AcceptedAt, with an
	// absolute ExpiresAt, to be sent at NotBefore (zero: at once).
	Queued    bool
	NotBefore time.Time
	// Budget is the time for it. Zero: what the context has left, less Sender.Reserve.
	Budget retry.Budget
	// Followers is how many requests wait for this one in order to begin. It leaves them their
	// part of Budget, once it has begun itself.
	Followers int
	// Turn is the caller's in a Batch. Nil: nothing bounds how many go to a receiver at once.
	Turn *Turn
	// Fresh says that the ID was made for this request, so nobody can have used it.
	Fresh bool
	// KeepUnsendable dead-letters a request that can never be sent, because its caller
	// could not be told (a queue). Elsewhere it is refused.
	KeepUnsendable bool
	// ComesAgain says that a queue will hand the request out again, in its order, if it is
	// handed back (see Target.Hold).
	ComesAgain bool

	// event: it is an event's, which is never refused: what cannot be sent is dead-lettered. One
	// attempt is made.
	event bool
}

// message is what the sink gets.
func (r Request) message() sinks.Message {
	m := r.Message
	m.ID = r.ID
	return m
}

// delivery is the request as a Retrier takes it, but for its decoded recipient.
func (r Request) delivery() retry.Delivery {
	d := retry.Delivery{Received: r.Recipient, Message: r.message(), Budget: r.Budget, ExpiresAt: r.ExpiresAt, AcceptedAt: r.AcceptedAt, Group: r.Group}
	if d.Received == nil {
		d.Received = json.RawMessage("null")
	}
	return d
}

// part is the request's of its budget, which its followers share.
func (r Request) part() retry.Budget { return r.Budget.Share(1 + r.Followers) }

// inTime is NOT_ATTEMPTED when no attempt fits any more.
func (r Request) inTime() error {
	if r.part().Fits(0) {
		return nil
	}
	return &fault.Error{Code: fault.CodeNotAttempted, Msg: "no time was left for this delivery"}
}

// size counts what would be kept of the request.
func (r Request) size() int {
	n := len(r.Recipient) + len(r.Message.Subject) + len(r.Message.Body)
	for k, v := range r.Message.Metadata {
		n += len(k) + len(v)
	}
	return n
}

// Check returns why a request can never be sent through s: INVALID_ARGUMENT, or BODY_TOO_LARGE where it has more
// than limit bytes; 0: DefaultMaxBytes. Nil: it can.
func (r Request) Check(s sinks.Sink, limit int) error {
	if limit <= 0 {
		limit = DefaultMaxBytes
	}
	_, err := r.check(s, limit)
	return err
}

// check decides whether the request can be sent through s at all, and decodes its
// recipient.
func (r Request) check(s sinks.Sink, limit int) (sinks.Recipient, error) {
	if n := r.size(); n > limit {
		return nil, &fault.Error{Code: fault.CodeBodyTooLarge, Msg: fmt.Sprintf("message: %d bytes with subject, metadata and recipient; at most %d are taken", n, limit)}
	}
	if r.Message.Body == "" {
		return nil, &fault.Error{Code: fault.CodeInvalidArgument, Msg: "message.body: missing or empty"}
	}
	to, err := sinks.DecodeRecipient(s, r.Recipient)
	if err != nil {
		return nil, err
	}
	return to, sinks.Validate(s, to, r.message())
}

// Answer is the fate of a delivery that is safe.
type Answer struct {
	// Status is delivered, dead_lettered, accepted (for later), or what became of it before: discarded
	// (dead-lettered, and given up by an operator) or canceled.
	Status     Status `json:"status"`
	DeliveryID string `json:"delivery_id"`
	ItemID     string `json:"item_id,omitempty"` // the dead letter
	// Spilled says that the journal keeps the dead letter until the queue has room: it has no ItemID yet.
	Spilled bool       `json:"spilled,omitempty"`
	Reason  dlq.Reason `json:"reason,omitempty"`
	// Attempts is the number of Send calls that were made for it.
	Attempts int    `json:"attempts"`
	Error    string `json:"error,omitempty"` // of the last attempt
	// NotBefore is when it is sent, of one that was accepted for later. Zero: soon.
	NotBefore time.Time `json:"not_before,omitzero"`
	// Duplicate says that the request was answered from its record: nothing was sent now.
	Duplicate bool `json:"duplicate,omitempty"`

	// Receipt is the receiver's own name for the message that it took now (sinks.NoteReceipt).
	Receipt string `json:"-"`
	// Trying is the time that was spent in attempts now.
	Trying time.Duration `json:"-"`
	// Unanswered is how many of them may have arrived, though nobody said so.
	Unanswered int `json:"-"`
}

// answerOf answers by a dead letter that was stored before.
func answerOf(key Key, it dlq.Item) Answer {
	if !it.DeliveredAt.IsZero() {
		return Answer{Status: StatusDelivered, DeliveryID: key.ID, Attempts: it.Attempts}
	}
	a := Answer{
		Status: StatusDeadLettered, DeliveryID: key.ID, ItemID: it.ID, Spilled: it.Spilled, Reason: it.Reason,
		Attempts: it.Attempts, Error: it.LastError,
	}
	if it.Expired(time.Now()) {
		a.Reason = dlq.ReasonExpired
	}
	return a
}

// answerTo answers by the outcome of this delivery, safe or not.
func answerTo(out retry.Outcome) Answer {
	a := Answer{DeliveryID: out.DeliveryID, Attempts: out.Attempts, Trying: out.Trying, Unanswered: out.Unanswered}
	switch out.Status {
	case retry.StatusDelivered:
		a.Status, a.Receipt = StatusDelivered, out.Receipt
	case retry.StatusDeadLettered:
		a.Status, a.ItemID, a.Spilled, a.Reason, a.Error = StatusDeadLettered, out.Item.ID, out.Item.Spilled, out.Reason, out.Err.Error()
	case retry.StatusHandedBack:
	}
	return a
}
