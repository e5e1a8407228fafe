// Package delivery decides what becomes of one request to deliver a message: it is delivered,
// kept in the dead-letter queue, or handed back to the caller. It remembers that, so that the
// same delivery id sent again to the same sink is answered instead of sent twice.
//
// Start with Sender and its Deliver. Registered makes its Targets of a sinks.Registry; a
// dlq.Store is its Queue; NewRedis, or NewMemory in a single process, its Records. With
// Sender.Requests, a queue of the caller's own, it accepts for later what asks for that
// (Request.Async, Request.SendAfter), and nothing is sent at Request.ExpiresAt or later. A Canceler
// takes back what was not sent yet, and a Tracker tells what became of a delivery.
//
// The records narrow duplicates; they are not what keeps messages. A delivery whose record
// cannot be read or written goes out all the same. Dead letters are sent again by package
// replay, not here.
package delivery

import (
	"context"
	"strings"
	"time"

	"backstop/lib/dlq"
)

// DefaultTTL is how long a finished delivery is remembered.
const DefaultTTL = 24 * time.Hour

// LongestWait is how long a message may wait in a queue (14 days in SQS, the most there is),
// and a day. The record of a delivery that waits there, or was canceled, is kept for at least
// that long.
const LongestWait = 15 * 24 * time.Hour

// Key names a delivery. One event id sent to two sinks is two deliveries.
type Key struct {
	Sink string // the sink's name
	ID   string // the delivery's id (fault.CheckID)
}

// Status is what is known of a delivery.
type Status string

// The statuses.
const (
	StatusAccepting    Status = "accepting"     // somebody puts it into the queue for later, and nothing more is known
	StatusAccepted     Status = "accepted"      // the queue for later has it
	StatusInProgress   Status = "in_progress"   // somebody began with it, and nothing more is known
	StatusDelivered    Status = "delivered"     // the sink accepted it, at once or in a replay
	StatusDeadLettered Status = "dead_lettered" // it failed, and the dead-letter queue has it
	StatusExpired      Status = "expired"       // likewise, and its time was over before it could be delivered
	StatusDiscarded    Status = "discarded"     // dead-lettered, then given up by an operator
	StatusCanceled     Status = "canceled"      // a caller took it back, and was told so
)

// Record is what is kept about a delivery. Times are by the clocks of the processes that noted
// them.
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
	// that decides what the recipient gets. Empty: it was canceled before anything was known. Of what was
	// delivered it may be the beginning alone: compare it by IsOf.
	Fingerprint string `json:"fingerprint,omitempty"`

	// AcceptedAt is when it was accepted for later. Zero: it was not.
	AcceptedAt time.Time `json:"accepted_at,omitzero"`
	// NotBefore is when it may be sent at first, of one that was accepted for later. Zero: at once.
	NotBefore time.Time `json:"not_before,omitzero"`
	// ExpiresAt is when it is not sent any more. Zero: never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// BeganAt is when somebody first began to send it. Zero: nobody did, or none that noted it.
	BeganAt time.Time `json:"began_at,omitzero"`
	// DeadLetteredAt is when it became a dead letter, the last time that it did. Zero: it did not.
	DeadLetteredAt time.Time `json:"dead_lettered_at,omitzero"`
	// Attempts is the number of Send calls that were made for it, replays left out. Those of a
	// sender that died are not known.
	Attempts int `json:"attempts,omitempty"`
	// Unanswered is how many of them may have arrived though nobody said so, and how many
	// senders died that may have sent it.
	Unanswered int `json:"unanswered,omitempty"`
	// Former is what Status was before it was canceled. Empty: nothing was known of it, or it is
	// not canceled.
	Former Status `json:"former_status,omitempty"`
	// Pending are events of its fates that are not known to be safe: whoever meets them sends them
	// (see Eventer).
	Pending []PendingEvent `json:"pending,omitempty"`

	// LeasedUntil is how long whoever accepts or sends it has it, as Store.Get tells: over for one
	// that was left. Zero: nobody has it.
	LeasedUntil time.Time `json:"-"`
}

// State is the answer of Begin and Cancel.
type State string

// The states.
const (
	// StateStarted: the caller owns the delivery now.
	StateStarted State = "started"
	// StateTakenOver: the caller owns the delivery now; an earlier owner's lease ended
	// without a word. It may have sent or dead-lettered the message: look for the
	// dead letter before sending.
	StateTakenOver State = "taken_over"
	// StateUnknown: the caller owns the delivery now. It came back from the queue for later, and
	// its record is gone, with what that would have said.
	StateUnknown State = "unknown"
	// StateAccepting: the caller owns the delivery now, and puts it into the queue for later.
	StateAccepting State = "accepting"
	// StateAcceptingAgain: likewise; an earlier caller died with it, and the queue may have it.
	StateAcceptingAgain State = "accepting_again"
	// StateInProgress: somebody else owns the delivery.
	StateInProgress State = "in_progress"
	// StateFinished: the delivery was finished before, or accepted for later; the record says how.
	StateFinished State = "finished"
	// StateReused: the id was used for other content.
	StateReused State = "reused"
	// StateCanceled: the delivery is canceled, whatever content comes under its id.
	StateCanceled State = "canceled"
)

// Begin says who wants to have a delivery, and what for.
type Begin struct {
	Key
	Fingerprint string
	Token       string        // of whoever asks
	Lease       time.Duration // must outlive the invocation
	// Accept: it is to be put into the queue for later (StateAccepting). One that somebody began
	// to send and left is taken over instead.
	Accept bool
	// Queued: it came out of that queue, which makes an accepted one the caller's.
	Queued bool
	// AcceptedAt, NotBefore and ExpiresAt are kept with it, unless an earlier call gave them.
	AcceptedAt, NotBefore, ExpiresAt time.Time
	// Untrue is a record that the caller knows to be untrue: its dead letter is gone from the
	// queue. If that is still the record, the delivery begins anew. Nil: there is none.
	Untrue *Record
}

func (b Begin) event() event {
	switch {
	case b.Accept:
		return onAccept
	case b.Queued:
		return onQueued
	}
	return onSend
}

// fresh is the record that b makes where there is none.
func (b Begin) fresh(now time.Time) Record {
	r := Record{
		Sink: b.Sink, ID: b.ID, UpdatedAt: now, Fingerprint: b.Fingerprint, AcceptedAt: b.AcceptedAt.UTC(), NotBefore: b.NotBefore.UTC(),
		ExpiresAt: b.ExpiresAt.UTC(),
	}
	if !b.Accept {
		r.BeganAt = now
	}
	return r
}

// cancelEvent is onCancel, and with what Cancel is called once nothing waits any more.
func cancelEvent(seen Record) event {
	if seen.Status == StatusCanceled {
		return onConfirm
	}
	return onCancel
}

// canceled is the record of a canceled delivery, with what its dead letters tell.
func (k Key) canceled(seen Record) Record {
	return Record{
		Sink: k.Sink, ID: k.ID, UpdatedAt: time.Now().UTC(), Attempts: seen.Attempts, Unanswered: seen.Unanswered, Former: seen.Former,
		Pending: seen.Pending,
	}
}

// shortFingerprint is how many characters are kept of the fingerprint of what was delivered: 54 bits.
const shortFingerprint = 9

// IsOf reports whether the record is of the content that has a fingerprint (dlq.ContentFingerprint).
func (r Record) IsOf(fingerprint string) bool {
	short := r.Status == StatusDelivered && len(r.Fingerprint) == shortFingerprint
	return r.Fingerprint == fingerprint || short && strings.HasPrefix(fingerprint, r.Fingerprint)
}

func (r Record) key() Key { return Key{Sink: r.Sink, ID: r.ID} }

// Back says how a delivery is handed back.
type Back string

// The ways.
const (
	BackForget  Back = Back(onForget)  // as if it had never been
	BackRequeue Back = Back(onRequeue) // to the queue for later, which still has it
	// BackLeave: it may have been sent, stored or queued all the same. Whoever comes next takes
	// it over.
	BackLeave Back = Back(onLeave)
)

// Store keeps records. It is safe for concurrent use, across processes too. An error
// means that the record could not be read or written, not that the delivery is in
// doubt; every call can be repeated.
//
// A record only moves forward: accepting, accepted, in progress, dead-lettered, expired,
// discarded, canceled, delivered (the table stands in table.go). What was delivered stays
// delivered, and what was canceled stays canceled unless a receiver said that it has it; the
// ways back are those of Begin.Untrue, HandBack and Uncancel.
type Store interface {
	// Begin takes the delivery for the token, for the length of the lease, and tells what is
	// known of it otherwise. The record is as it is now: of a delivery that is the caller's, it
	// has what was accepted first, and what was tried before.
	Begin(ctx context.Context, b Begin) (State, Record, error)
	// Finish records the fate of a delivery that token owns (accepted, delivered, dead_lettered,
	// expired), and that it was delivered also when somebody else owns it by now. It returns the
	// record that it found (zero: none), and false when that one stays: the delivery had gone
	// further, or another owns it.
	Finish(ctx context.Context, k Key, token string, r Record) (found Record, written bool, err error)
	// HandBack ends token's hold on a delivery that was handed back. r has its fingerprint, and
	// the attempts that were made for it so far.
	HandBack(ctx context.Context, k Key, token string, how Back, r Record) error
	// Update tells what became of dead letters. A delivery without a record gets one; one
	// in progress under a lease, or accepted for later, changes only to delivered. It returns the
	// statuses afterwards, one for each change: empty for a record of other content, which stays
	// as it is.
	Update(ctx context.Context, changes ...Change) ([]Status, error)
	// Cancel takes a delivery back: StateCanceled, also when token did before; StateInProgress while
	// somebody has it; StateFinished when it was delivered, or canceled by another token. seen is
	// what dead letters tell of it beyond the record: Attempts, Unanswered, Former; and the event of it,
	// Pending. With its Status
	// canceled, nothing of the delivery waits any more: what another token canceled is token's then
	// (StateCanceled), which the other's Uncancel leaves alone. The record is as it is now.
	Cancel(ctx context.Context, k Key, token string, seen Record) (State, Record, error)
	// Uncancel makes the record what it was before token canceled it.
	Uncancel(ctx context.Context, k Key, token string) error
	// Get returns the record of a delivery; false when nothing is known.
	Get(ctx context.Context, k Key) (Record, bool, error)
	// Retention is how long the record of an accepted or canceled delivery is kept.
	Retention() time.Duration

	Outbox
}

// Outbox keeps events that are not known to be safe. What is pending of a delivery stays in its
// record, whatever else becomes of that, until it is told.
type Outbox interface {
	// Told forgets pending events of a delivery, by their ids.
	Told(ctx context.Context, k Key, events ...string) error
	// Owe adds r.Pending to what is pending of r's delivery, and notes that nobody who waits for an
	// answer sends it. Where there is no record, r is it.
	Owe(ctx context.Context, r Record) error
	// Owed returns at most limit deliveries whose events are owed, those that wait longest first.
	Owed(ctx context.Context, limit int) ([]Owed, error)
	// Paid takes one off again, unless more was owed since it was returned.
	Paid(ctx context.Context, o Owed) error
}

// Owed is a delivery whose events are owed.
type Owed struct {
	Key
	Since time.Time // in milliseconds, when they were owed last
}

// Change is what became of a dead letter.
type Change struct {
	Key
	Status      Status
	ItemID      string // the dead letter
	Fingerprint string // of its content
	// Unanswered is how many of its attempts may have arrived, where its letter does not tell any more: of
	// what was discarded. 0: what the record knows holds.
	Unanswered int
}

func (c Change) event() event { return event("told_" + string(c.Status)) }

// record is what the change makes of a record.
func (c Change) record(now time.Time) Record {
	r := Record{Sink: c.Sink, ID: c.ID, ItemID: c.ItemID, UpdatedAt: now, Fingerprint: c.Fingerprint, Unanswered: c.Unanswered}
	if c.Status == StatusDeadLettered {
		r.DeadLetteredAt = now
	}
	return r
}

// after is the status after the change.
func (c Change) after(verdict State, found Record) Status {
	switch {
	case verdict == written:
		return c.Status
	case found.Status != StatusCanceled && !found.IsOf(c.Fingerprint):
		return "" // of other content
	}
	return found.Status
}

// ChangeOf tells that a dead letter came to s.
func ChangeOf(it dlq.Item, s Status) Change {
	c := Change{Key: KeyOf(it), Status: s, ItemID: it.ID, Fingerprint: FingerprintOf(it)}
	if s == StatusDiscarded {
		c.Unanswered = unansweredOf(it)
	}
	return c
}

// KeyOf is the delivery that a dead letter is of: in another sink, where it superseded one of there.
func KeyOf(it dlq.Item) Key {
	if it.Of != nil {
		return Key{Sink: it.Of.Sink, ID: it.DeliveryID}
	}
	return Key{Sink: it.Sink, ID: it.DeliveryID}
}

// FingerprintOf identifies the content that a dead letter's delivery was asked for with, as
// dlq.ContentFingerprint does: of one that superseded another it is not its own.
func FingerprintOf(it dlq.Item) string {
	if it.Of != nil {
		return it.Of.Fingerprint
	}
	return dlq.ContentFingerprint(it.Recipient, it.Message.Subject, it.Message.Body, it.Message.Metadata)
}
