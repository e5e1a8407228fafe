// Package dlq keeps dead letters: deliveries that failed and that must not be lost.
//
// Start with NewRedis, or NewMemory for tests and the local host, and give the queue to a
// retry.Retrier or a delivery.Sender, which push what they could not deliver. Items, Discard
// and Replay are for whoever looks after it. An Item's Reason says why it failed, its State
// what comes. Nothing here sends by itself: package replay does, on a schedule.
//
// DLQ is what the Retrier needs. Store is a DLQ with what else a queue can do, in parts:
// Letters, Causes, Leases, Cancellations, Successions, Switches, Tallies, Heartbeat and Journaling. Who uses a queue asks for the parts, or the
// methods, that it needs. Memory and Redis are Stores, and both pass the suite in dlqtest.
package dlq

import (
	"context"
	"time"

	"backstop/lib/sinks"
)

// OperationRetention is how long the counters and records of a bulk operation are kept
// once it is final.
const OperationRetention = 30 * 24 * time.Hour

// MaxGroups is the most groups that a sink's dead letters are counted in; the others are
// counted together (see FingerprintOther).
const MaxGroups = 1000

// FingerprintOther stands for the dead letters that are in no group of their own.
const FingerprintOther = "(other)"

// DefaultLimit is the number of items that Items returns when it is given no limit.
const DefaultLimit = 1000

// DLQ is a dead-letter queue. It is safe for concurrent use. Errors are coded:
// SINK_DLQ_UNAVAILABLE when the backend could not be reached or did not answer in
// time (the operation may have happened; every operation can be repeated, and a backend
// that has a network repeats it while there is time: its callers do not),
// SINK_DLQ_OVERFLOW when the sink's queue is full and new dead letters are refused,
// INVALID_ARGUMENT for bad names, ids and cursors.
type DLQ interface {
	// Push stores it, whose ID is ignored: the store assigns it. A push can be
	// repeated: the same content (ContentFingerprint) of a delivery id in the same
	// generation (Item.Replays and Item.Origin) is stored once, for as long as its entry
	// exists, is not marked delivered and its time is not over; after that only with the
	// same ExpiresAt, to the millisecond: this is a repetition. Of one id and generation,
	// the 100 newest contents are known. Other content is a dead letter of its own. Under a context made
	// by WithOrigin the item is linked to its origin. Push does not retain it.
	Push(ctx context.Context, it Item) error

	// Items returns dead letters, newest first, of one sink, or of all sinks when
	// sink is empty. limit <= 0 means DefaultLimit.
	Items(ctx context.Context, sink string, limit int) ([]Item, error)

	// Count returns the number of dead letters of one sink, or the sum over all sinks
	// when sink is empty. -1 means unknown (with an error).
	Count(ctx context.Context, sink string) (int64, error)

	// Discard removes a dead letter for good, with all that is kept about it. A
	// missing id is no error; ITEM_LEASED while a replay holds it.
	Discard(ctx context.Context, id string) error

	// Replay sends the item again, through its original, retry-wrapped sink found by
	// the RegistryLookup that was set (none: SINK_CONFIG_INVALID). It takes the lease
	// like every other replay (ITEM_LEASED) and never removes the item: on success it
	// is marked delivered (StateDelivered). When the Retrier dead-letters the
	// message again, the new item lands beside the old one, linked by Origin, the old
	// one is held (StateWaiting), and Replay returns SINK_DEAD_LETTERED. When the sink
	// returns an error, the message was recorded nowhere else: the item stays as it was
	// and Replay returns that error, with SINK_UNAVAILABLE if it has no code. A sink without
	// a Retrier gets one attempt, and Replay returns by ctx's end, or its lease's, whatever
	// that does: it panics (INTERNAL), or nobody knows what became of the message, and then
	// the item is held. An item that was delivered, has expired, is of a canceled delivery, is superseded or
	// cannot be decoded is INVALID_ARGUMENT; an unknown sink is SINK_NOT_FOUND.
	Replay(ctx context.Context, id string) error
}

// RegistryLookup finds the retry-wrapped sink of a name; false when none is
// configured.
type RegistryLookup func(name string) (sinks.Sink, bool)

// Store is all that a queue can do. It is safe for concurrent use, across processes too.
type Store interface {
	DLQ
	Letters
	Causes
	Leases
	Cancellations
	Successions
	Switches
	Tallies
	Heartbeat
	Journaling

	// SetRegistryLookup sets where Replay finds sinks. Their Retriers keep what fails in
	// this store.
	SetRegistryLookup(RegistryLookup)
}

// Letters are the dead letters: adding, finding, listing and counting them.
type Letters interface {
	// Add is Push, returning the item as stored, its ID assigned; of a repeated push,
	// the id of the entry that is there already. NotBefore is stored as it is; the time
	// until then is counted by the queue's clock, which may differ from the caller's.
	Add(ctx context.Context, it Item) (Item, error)

	// AddBatch adds several items, in one round trip per sink. Both slices it returns
	// have the length of items: items[i] was stored exactly if errs[i] is nil.
	AddBatch(ctx context.Context, items []Item) (stored []Item, errs []error)

	// Get returns one dead letter by its public id, or by its bare native id where
	// only one sink has it (else INVALID_ARGUMENT names the sinks). None:
	// SINK_DLQ_NOT_FOUND.
	Get(ctx context.Context, id string) (Item, error)

	// Find returns the dead letter that the first failure of a delivery with this content
	// became, while it is kept undelivered (not once it is marked delivered); one whose time
	// is over is still what became of the delivery, and found. The fingerprint is
	// ContentFingerprint of what was pushed; empty means any content, the newest. The cost
	// does not depend on the depth. None: SINK_DLQ_NOT_FOUND.
	Find(ctx context.Context, sink, deliveryID, fingerprint string) (Item, error)

	// Page returns dead letters newest first, filtered.
	Page(ctx context.Context, q Query) (Page, error)

	// Sinks returns the names of all sinks that ever had a dead letter, and of those
	// given with WithSinks, sorted. A queue that others filled is among them once it was
	// asked for by its name.
	Sinks(ctx context.Context) ([]string, error)

	// Stats returns what is known of one sink's queue. Depth is exact; after others
	// removed entries, the other numbers may be wrong until a few more calls.
	Stats(ctx context.Context, sink string) (Stats, error)

	// StatsOf returns what Stats does of several sinks, in few round trips. It fails as a whole, and
	// mends nothing: what others removed may still be counted.
	StatsOf(ctx context.Context, sinks []string) ([]Stats, error)

	// Groups returns dead letters counted by reason and error fingerprint, of one sink
	// or, when sink is empty, of all, largest first. Each sink has at most MaxGroups of
	// them; the others, and entries written by others, are counted together under
	// FingerprintOther and no reason. The cost does not depend on the depth. What is known of
	// a group beside its count is told where the store knows it (see Causes).
	Groups(ctx context.Context, sink string) ([]Group, error)
}

// Leases let one replayer at a time have a dead letter.
type Leases interface {
	// Claim leases due items, oldest due first, so that nobody else replays them.
	// An empty result means that nothing is due. An answer is bounded by bytes (about
	// 1 MB, at least one item) as well as by its limit: to claim many ids, ask again for
	// those after the last one returned until the answer is empty.
	Claim(ctx context.Context, c Claim) ([]Leased, error)

	// Settle records what became of leased items, in one round trip per sink and 100
	// settlements. The result has the length of s. A late holder (its lease expired and
	// was taken over) is told SettleFenced and changes nothing.
	Settle(ctx context.Context, s []Settlement) ([]SettleResult, error)

	// Begin notes that the replay of a leased item begins. It is for items that outlived a
	// replayer (Item.Deaths > 0): of these, only what had begun is charged again when its
	// lease runs out. False when the lease is held no longer, or has run out: then nothing
	// may be sent. It can be repeated.
	Begin(ctx context.Context, l Lease) (bool, error)

	// Release gives leases back untouched: the items are due again as they were before
	// the claim. Leases that are no longer held are ignored.
	Release(ctx context.Context, l []Lease) error
}

// Cancellations take the dead letters of a delivery away at once, and note that nothing of it
// may be sent any more.
type Cancellations interface {
	// ClaimDelivery leases every dead letter of a delivery in a sink, of any content and
	// generation, that was not delivered: due or not, parked, waiting and expired too, all
	// or none. ITEM_LEASED when another holds one of them, and then nothing was changed,
	// the note included. Without dead letters the answer is empty, and the note is kept.
	// The cost does not depend on the depth. A delivery with more than 1,000 dead letters is
	// INVALID_ARGUMENT. Entries that others wrote, or a version of this package before
	// there were cancellations for a replay that failed, are not found; a claim that meets
	// them still says that they are canceled (Leased.Canceled).
	ClaimDelivery(ctx context.Context, c DeliveryClaim) ([]Leased, error)

	// Canceled reports whether a note of a canceled delivery is kept and holds still.
	Canceled(ctx context.Context, sink, deliveryID string) (bool, error)

	// Uncancel takes a note back. Without one it does nothing.
	Uncancel(ctx context.Context, sink, deliveryID string) error

	// PruneCanceled removes notes whose time is over, at most 1,000 of them, and returns how
	// many it removed.
	PruneCanceled(ctx context.Context, sink string) (int64, error)
}

// DeliveryClaim asks for the dead letters of one delivery, to give them up: nothing is sent
// under its leases, and a process that dies with them is not charged to the items.
type DeliveryClaim struct {
	Sink       string
	DeliveryID string
	// Token is as in Claim: the same one again gets the same answer, less what was settled
	// or released since. Empty: a random one.
	Token string
	// TTL is the leases' length, by the server's clock; it must be positive.
	TTL time.Duration
	// Note is for how long the store notes, in the same step, that the delivery is canceled:
	// whatever of it is claimed or pushed meanwhile is handed out as Leased.Canceled. An
	// earlier note is never shortened. Zero or negative: no note.
	Note time.Duration
}

// Switches stop sinks and start them again, and make dead letters due.
type Switches interface {
	// Pause stops (or, with paused false, resumes) a sink: its due items are no longer
	// claimed by the schedule, and senders that ask (Stats) dead-letter at once.
	Pause(ctx context.Context, sink string, paused bool) error

	// Unpark makes an item that is parked, waiting or scheduled due now. Others stay as
	// they are. SINK_DLQ_NOT_FOUND, ITEM_LEASED.
	Unpark(ctx context.Context, id string) error

	// Gate lets one replayer in the whole system try a sink alone (the canary). It
	// reports whether token now holds the gate; ttl bounds it. The holder may renew.
	Gate(ctx context.Context, sink, token string, ttl time.Duration) (bool, error)

	// Ungate gives the gate back, if token still holds it.
	Ungate(ctx context.Context, sink, token string) error
}

// Tallies count what settlements did for a bulk operation (Settlement.Operation).
type Tallies interface {
	// Progress returns the counters that settlements of a bulk operation left in one
	// sink; zero when there were none. They are kept until EndOperation, and then for
	// OperationRetention.
	Progress(ctx context.Context, operation, sink string) (OperationCounts, error)

	// EndOperation begins the retention of the counters that Progress returns: the
	// operation is final. Until then they do not expire, so that a cache evicts none.
	EndOperation(ctx context.Context, operation, sink string) error
}

// Heartbeat tells whether the schedule works.
type Heartbeat interface {
	// Beat notes that a run of the schedule ended well, now by the caller's clock.
	Beat(ctx context.Context) error

	// LastBeat returns when one did last. Zero: none that is known.
	LastBeat(ctx context.Context) (time.Time, error)
}

// Query selects a page of dead letters. Zero fields select everything.
type Query struct {
	Sink       string
	Reason     Reason
	DeliveryID string
	// Q is looked for in subject, body, recipient, delivery id and last error, without
	// regard to case.
	Q string
	// Fingerprint selects one Group (with Reason); FingerprintOther those without one.
	Fingerprint string
	// Meta selects what has each of these in its message's metadata, exactly.
	Meta map[string]string
	// State selects what is in this state while the page is read.
	State State
	// Since and Until bound the push time: Since <= t < Until.
	Since, Until time.Time
	// UpTo bounds each sink to entries not newer than the given native id; sinks that
	// are not in the map are left out. Nil: no such bound. It freezes the membership
	// of a bulk operation.
	UpTo map[string]string
	// Limit is the most items in the page; <= 0 means 50, and it is at most 1,000.
	Limit int
	// Cursor continues after an earlier Page.
	Cursor string
	// MaxScan bounds the entries read by this call; <= 0 means 10,000. A call also
	// stops when it has read 4 MB.
	MaxScan int

	beyond map[[2]string]bool // groups, by sink and id, that FingerprintOther stands for too
}

// Page is an answer to a Query. Pages are also bounded by bytes (4 MB encoded, at
// least one item).
type Page struct {
	Items []Item
	// NextCursor continues the list; empty at its end.
	NextCursor string
	// Complete is false when the call stopped by its budget before the page was full:
	// there may be more, follow NextCursor.
	Complete bool
	// Scanned is the number of entries that the call read.
	Scanned int
}

// Stats describes one sink's queue.
type Stats struct {
	Depth int64 // dead letters, kept-delivered ones included
	// States counts the dead letters by state, all but those in state unreadable: such an
	// entry counts as due until a claim has met it, and then as waiting. Expired are those
	// that were marked (ActionExpire); see Overdue. The numbers are to show, not to decide by. Of a queue with more than 1,000
	// leases, those that ran out may count as replaying.
	States map[State]int64
	// Remaining is what the schedule replays by itself, now or later, what it was about to
	// replay when it was leased included.
	Remaining int64
	Overdue   int64 // their time is over and they are not marked yet: in States as what they were
	Canceled  int64 // notes of canceled deliveries, those that are over and not pruned included
	Kept      int64 // delivered, kept on request; not counted against the cap (see WithMaxKept)
	Parked    int64 // parked by max replays
	Trimmed   int64 // removed by overflow since the sink exists
	Retired   int64 // removed by Retire since the sink exists
	New       int64 // groups that are new and that nobody was told of yet (see Causes)
	// Journal is what is known of the sink's journal. Without one (WithJournal) it is the zero value.
	Journal  JournalView
	OldestAt time.Time // push time of the oldest entry; zero when empty
	Paused   bool      // see Pause
	NewestID string    // native id of the newest entry; empty when there is none
}

// Claim asks for leases.
type Claim struct {
	Sink string
	// IDs asks for exactly these items (at most 1,000), due or not, parked too; leased
	// and missing ones are left out of the answer, and so are delivered ones unless
	// Force is set. Undecodable ones are included (they can be discarded). Empty: what
	// is due, oldest first, unless the sink is paused.
	IDs   []string
	Force bool
	// Expired asks instead for items whose time is over and which are not marked yet,
	// earliest expiry first, whatever else they are: due, scheduled, parked or waiting, of a
	// paused sink too. It excludes IDs. Nothing is to be sent under such a lease: a process
	// that dies with it is not charged to the items. Entries that others wrote are met
	// when they are due.
	Expired bool
	// Quiet, which needs IDs, says that nothing is sent under the lease: a process that dies with it
	// is not charged to the items.
	Quiet bool
	// Limit is the most items to lease, at most 50 without IDs; <= 0 means 1, or with
	// IDs all of them.
	Limit int
	// Token identifies this claim: a retried claim with the same token gets the same
	// items, less those settled or released since. It becomes the leases' fencing token
	// and matches [A-Za-z0-9._:-]{1,64}. Empty: a random one.
	Token string
	// TTL is the lease's length, counted from the server's clock at the claim; it
	// must be positive.
	TTL time.Duration
}

// Lease is the right to replay one item until Expires.
type Lease struct {
	ID    string // public id
	Token string
	// Expires is counted from before the claim by the local clock, so it is never
	// later than the server's own view.
	Expires time.Time
	// Journal is the item's address (Item.Journal).
	Journal string
}

// Leased is an item with its lease. The item is as it was before the claim: its state says
// what the lease interrupts.
type Leased struct {
	Lease
	Item Item
	// Canceled says that the item's delivery is noted as canceled (Cancellations): it must
	// not be sent, whatever it says itself.
	Canceled bool
}

// Settlement says what became of a leased item.
type Settlement struct {
	Lease
	Action Action
	// Error is the replay's failure, kept in the item's history (cut to 1 KB). Empty for
	// success.
	Error string
	// Delay is when an item with ActionRetry is due again, counted from the server's
	// clock.
	Delay time.Duration
	// Charge counts the replay against the item (Item.Replays).
	Charge bool
	// Unanswered is the number of the replay's attempts that may have arrived though nobody
	// said so; it is added to Item.Unanswered. Negative is zero.
	Unanswered int
	// Operation is the bulk operation that this settlement belongs to; its counters in
	// the sink are updated in the same step: Delivered by ActionDiscard and ActionKeep,
	// Discarded by ActionDrop, Expired by ActionExpire, Failed by the others. It matches
	// [A-Za-z0-9._:-]{1,64}. Empty: none.
	Operation string
}

// Action is what Settle does to an item. An item that was delivered before (see
// Claim.Force) stays delivered and not due, whatever becomes of it but its removal; one that
// was marked as expired stays expired and not due, but for its removal or delivery.
type Action string

// The actions.
const (
	ActionDiscard Action = "discard" // delivered: remove it
	ActionDrop    Action = "drop"    // given up by the operator: remove it
	ActionKeep    Action = "keep"    // delivered: mark it, no longer due
	ActionRetry   Action = "retry"   // failed: due again after Delay
	ActionPark    Action = "park"    // failed too often: left to an operator
	ActionHold    Action = "hold"    // failed in a way that the schedule must not repeat (terminal, ambiguous): not due, not parked
	ActionExpire  Action = "expire"  // its time is over: mark it, no longer due; neither charged nor in its history
)

// SettleResult is what Settle did with one settlement.
type SettleResult string

// The results.
const (
	SettleApplied SettleResult = "applied" // recorded, now or by an earlier try of the same settlement
	SettleFenced  SettleResult = "fenced"  // the lease is no longer held: nothing was changed
)

// OperationCounts are the counters of a bulk operation within one sink.
type OperationCounts struct {
	Settled   int64 `json:"settled"`
	Delivered int64 `json:"delivered"`
	Failed    int64 `json:"failed"`
	Discarded int64 `json:"discarded"`
	Expired   int64 `json:"expired"`
}

// count adds one settlement.
func (c *OperationCounts) count(a Action) {
	c.Settled++
	switch a {
	case ActionDiscard, ActionKeep:
		c.Delivered++
	case ActionDrop:
		c.Discarded++
	case ActionExpire:
		c.Expired++
	case ActionRetry, ActionPark, ActionHold:
		c.Failed++
	}
}
