package dlq

import (
	"encoding/json"
	"time"

	"backstop/lib/sinks"
)

// Reason says why a delivery became a dead letter.
type Reason string

// The reasons.
const (
	ReasonTerminal  Reason = "terminal"  // no further attempt can cure the failure
	ReasonExhausted Reason = "exhausted" // the last allowed attempt failed transiently
	ReasonDeadline  Reason = "deadline"  // no time was left for another attempt
	ReasonCanceled  Reason = "canceled"  // the caller went away
	ReasonAmbiguous Reason = "ambiguous" // the request was sent, no answer came, and sending again may duplicate
	ReasonConfig    Reason = "config"    // the sink is configured wrongly
	ReasonInvalid   Reason = "invalid"   // the message can never be sent as it is
	ReasonOpen      Reason = "open"      // the receiver is down and left alone
	ReasonThrottled Reason = "throttled" // the receiver asked to wait, for longer than there was time
	ReasonExpired   Reason = "expired"   // its time was over before it was delivered
)

// Reasons lists every reason.
var Reasons = []Reason{
	ReasonTerminal, ReasonExhausted, ReasonDeadline, ReasonCanceled, ReasonAmbiguous, ReasonConfig, ReasonInvalid,
	ReasonOpen, ReasonThrottled, ReasonExpired,
}

// Due reports whether the schedule replays a dead letter with this reason by itself. It
// replays those with an unknown reason (entries written by others).
func (r Reason) Due() bool {
	return r != ReasonTerminal && r != ReasonAmbiguous && r != ReasonInvalid && r != ReasonExpired
}

// MaxHistory is the number of replays that an item remembers.
const MaxHistory = 10

// Item is one dead letter. Its JSON is a wire contract: the stream's field "item",
// the API and the export share it. Times are UTC with millisecond precision or
// better.
//
// Fields up to Of never change after the push; the rest is kept by the store as
// replays happen. Of these, two may be given to a push: Replays, the new item's generation, and
// Unanswered, which replays add to.
type Item struct {
	// ID is the public id, "<sink>~<ms>-<seq>" (see ID). The store assigns it.
	ID string `json:"id,omitempty"`
	// DeliveryID is the message's id, or a random one when it had none.
	DeliveryID string `json:"delivery_id,omitempty"`
	Sink       string `json:"sink"`
	// At is when the delivery became a dead letter. Zero: the store's clock.
	At time.Time `json:"at"`
	// Recipient is the recipient as received; empty means the sink's default.
	Recipient json.RawMessage `json:"recipient,omitempty"`
	Message   sinks.Message   `json:"message"`
	// Attempts is the number of Send calls made before the push.
	Attempts  int    `json:"attempts"`
	LastError string `json:"last_error"`
	Reason    Reason `json:"reason,omitempty"`
	// FirstFailedAt is when the first attempt, which failed, began (see
	// sinks.WithFirstAttempt); kept over replays.
	FirstFailedAt time.Time `json:"first_failed_at,omitzero"`
	// NotBefore is the earliest time for a replay by the schedule (Retry-After).
	// Zero: no such limit.
	NotBefore time.Time `json:"not_before,omitzero"`
	// ExpiresAt is when the message is of no use any more: no attempt begins at or after it.
	// Zero: never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// AcceptedAt is when the message was accepted. Zero: not known.
	AcceptedAt time.Time `json:"accepted_at,omitzero"`
	// Group is the message group that it belonged to. Empty: none.
	Group string `json:"group,omitempty"`
	// Origin is the id of the dead letter whose replay ended in this one.
	Origin string `json:"origin,omitempty"`
	// Trace is the caller's trace header (W3C traceparent or X-Amzn-Trace-Id).
	Trace string `json:"trace,omitempty"`
	// Of is the delivery that it is the dead letter of, where that has another content, or is of another
	// sink: it superseded one of those. Nil: its own.
	Of *Of `json:"of,omitempty"`

	// NextReplayAt is when the schedule will replay the item next. Zero: at its next
	// tick, or not by itself (see State). While nothing has happened
	// to the item it is NotBefore, in milliseconds, by the clock of whoever pushed it; the
	// queue counts the time until then by its own.
	NextReplayAt time.Time `json:"next_replay_at,omitzero"`
	// Replays is the number of replays that were charged to the item, and to the items
	// that it descends from (see Origin).
	Replays int `json:"replays,omitempty"`
	// Unanswered is the number of attempts, of the delivery and of replays, that may have
	// arrived though nobody said so: those before the push, those that settlements told
	// (Settlement.Unanswered), and one for every death of a replayer (Deaths).
	Unanswered int `json:"unanswered,omitempty"`
	// Deaths is the number of times, since the last outcome of a replay, that the process
	// died which replayed the item: its lease ran out, and another claim took it over.
	// The first may have been under another item of the same process. Each is also in
	// Replays and in History, as DiedUnder.
	Deaths int `json:"-"`
	// Parked items were replayed too often: the schedule leaves them alone until an
	// operator replays them.
	Parked bool `json:"parked,omitempty"`
	// Held items failed a replay in a way that the schedule must not repeat (terminal,
	// ambiguous, dead-lettered again): an operator may replay them.
	Held bool `json:"held,omitempty"`
	// SupersededBy is the public id of the dead letter that was made of it with another message or recipient,
	// or for another sink, and is sent in its place: the schedule and bulk operations leave it alone.
	// Where whoever made that died before its id was noted, it is the sink that it was made for. Empty: none.
	SupersededBy string `json:"superseded_by,omitempty"`
	// SupersededAs is the identity of that dead letter, as far as it is known.
	SupersededAs Identity `json:"-"`
	// LeasedUntil is when the lease of the replay that holds the item ends. Zero, or past:
	// nobody holds it.
	LeasedUntil time.Time `json:"-"`
	// ExpiredAt is when the store marked the item as expired: ActionExpire, or a push with
	// ReasonExpired. Zero: not marked, whether or not its time is over.
	ExpiredAt time.Time `json:"-"`
	// DeliveredAt is when a replay delivered an item that was kept. Zero: not yet.
	DeliveredAt time.Time `json:"delivered_at,omitzero"`
	// History holds the last MaxHistory replays, oldest first.
	History []ReplayRecord `json:"history,omitempty"`

	// Journal is the address of the item in a journal of dead letters, without a space, a comma or a
	// bar. The store keeps what is given to a push; see Journaling. Empty: it has none.
	Journal string `json:"-"`
	// Spilled says that the journal alone has it: it waits there for room in the queue, and has no ID.
	Spilled bool `json:"spilled,omitempty"`

	// Raw and DecodeError stand for an entry that cannot be read: what was found,
	// and why it could not be decoded. Such an item is never due; it can be
	// discarded. Raw is the field "item" as stored, or the entry's fields as JSON.
	Raw         string `json:"raw,omitempty"`
	DecodeError string `json:"decode_error,omitempty"`
}

// Of says which delivery a dead letter belongs to.
type Of struct {
	Sink string `json:"sink"`
	// Fingerprint is ContentFingerprint of what the delivery was asked for with.
	Fingerprint string `json:"fingerprint"`
}

// ReplayRecord is one replay of an item.
type ReplayRecord struct {
	At time.Time `json:"at"`
	// Error is empty for a replay that delivered.
	Error string `json:"error,omitempty"`
}

// FirstAttempt is when the first attempt of the item's delivery began: FirstFailedAt, or
// At when it has none.
func (it Item) FirstAttempt() time.Time {
	if it.FirstFailedAt.IsZero() {
		return it.At
	}
	return it.FirstFailedAt
}

// Expired reports whether the item's time is over: no attempt may begin any more. It is at
// ExpiresAt, and whenever the item became a dead letter for that reason or was marked.
func (it Item) Expired(now time.Time) bool {
	return it.Reason == ReasonExpired || !it.ExpiredAt.IsZero() || !it.ExpiresAt.IsZero() && !it.ExpiresAt.After(now)
}
