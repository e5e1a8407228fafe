// Package delivery decides what becomes of one request to deliver a message: it is delivered,
// kept in the dead-letter queue, or handed back to the caller. It remembers that, so that the
// same delivery id sent again to the same sink is answered instead of sent twice.
//
// Start with Sender and its Deliver. Registered makes its Targets of a sinks.Registry; a
// dlq.Store is its Queue; NewRedis, or NewMemory in a single process, its Records.
//
// The records narrow duplicates; they are not what keeps messages. A delivery whose record
// cannot be read or written goes out all the same. Dead letters are sent again by package
// replay, not here.
package delivery

import (
	"context"
	"time"

	"backstop/lib/dlq"
)

// DefaultTTL is how long a finished delivery is remembered.
const DefaultTTL = 24 * time.Hour

// Key names a delivery. One event id sent to two sinks is two deliveries.
type Key struct {
	Sink string // the sink's name
	ID   string // the delivery's id (fault.CheckID)
}

// Status is what is known of a delivery.
type Status string

// The statuses.
const (
	StatusInProgress   Status = "in_progress"   // somebody began with it, and nothing more is known
	StatusDelivered    Status = "delivered"     // the sink accepted it, at once or in a replay
	StatusDeadLettered Status = "dead_lettered" // it failed, and the queue has it
	StatusDiscarded    Status = "discarded"     // dead-lettered, then given up by an operator
)

// Record is what is kept about a delivery.
type Record struct {
	Sink   string `json:"sink"`
	ID     string `json:"delivery_id"`
	Status Status `json:"status"`
	// ItemID is the dead letter, when there is one.
	ItemID string `json:"item_id,omitempty"`
	// UpdatedAt is when Status was set. For an operation in progress: when it began.
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	// Answer is the answer that the first call got, as the sender encoded it; a
	// duplicate gets it again. Empty while in progress.
	Answer string `json:"answer,omitempty"`
	// Fingerprint stands for the content (dlq.ContentFingerprint): everything of the request
	// that decides what the recipient gets.
	Fingerprint string `json:"fingerprint,omitempty"`
}

// State is the answer of Begin.
type State string

// The states.
const (
	// StateStarted: the caller owns the delivery now.
	StateStarted State = "started"
	// StateTakenOver: the caller owns the delivery now; an earlier owner's lease ended
	// without a word. It may have sent or dead-lettered the message: look for the
	// dead letter before sending.
	StateTakenOver State = "taken_over"
	// StateInProgress: somebody else owns the delivery.
	StateInProgress State = "in_progress"
	// StateFinished: the delivery was finished before; the record says how.
	StateFinished State = "finished"
	// StateReused: the id was used for other content.
	StateReused State = "reused"
)

// Store keeps records. It is safe for concurrent use, across processes too. An error
// means that the record could not be read or written, not that the delivery is in
// doubt; every call can be repeated.
//
// A record only moves forward: in progress, dead-lettered, discarded, delivered. What
// was delivered stays delivered, whoever comes later; the one way back is Reopen, for a
// dead letter that is not there.
type Store interface {
	// Begin takes the delivery for token, for the length of lease, and tells what is
	// known of it otherwise. The lease must outlive the invocation.
	Begin(ctx context.Context, k Key, fingerprint, token string, lease time.Duration) (State, Record, error)
	// Reopen is Begin for a caller that knows found, a finished record, to be untrue: its
	// dead letter is not in the queue. It takes the delivery (StateStarted), unless the
	// record has changed since; then it is Begin.
	Reopen(ctx context.Context, k Key, fingerprint, token string, lease time.Duration, found Record) (State, Record, error)
	// Finish records the fate of a delivery that token owns, and that it was delivered
	// also when somebody else owns it by now. It returns the record that it found (zero:
	// none), and false when that one stays: the delivery had gone further, or another
	// owns it.
	Finish(ctx context.Context, k Key, token string, r Record) (found Record, written bool, err error)
	// Release forgets a delivery that token owns and that was handed back.
	Release(ctx context.Context, k Key, token string) error
	// Update tells what became of dead letters. A delivery without a record gets one; one
	// in progress under a lease changes only to delivered. It returns the statuses
	// afterwards, one for each change: empty for a record of other content, which stays as it is.
	Update(ctx context.Context, changes ...Change) ([]Status, error)
	// Get returns the record of a delivery; false when nothing is known.
	Get(ctx context.Context, k Key) (Record, bool, error)
}

// Change is what became of a dead letter.
type Change struct {
	Key
	Status      Status
	ItemID      string // the dead letter
	Fingerprint string // of its content
}

// ChangeOf tells that a dead letter came to s.
func ChangeOf(it dlq.Item, s Status) Change {
	return Change{Key: Key{Sink: it.Sink, ID: it.DeliveryID}, Status: s, ItemID: it.ID, Fingerprint: FingerprintOf(it)}
}

// FingerprintOf identifies a dead letter's content, as dlq.ContentFingerprint does.
func FingerprintOf(it dlq.Item) string {
	return dlq.ContentFingerprint(it.Recipient, it.Message.Subject, it.Message.Body, it.Message.Metadata)
}
