package replay

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// MaxOperationIDs is the most items that a bulk operation can list by id.
const MaxOperationIDs = 1000

// OperationAction is what a bulk operation does to its items.
type OperationAction string

// The actions.
const (
	OperationReplay  OperationAction = "replay"  // one attempt for each
	OperationDiscard OperationAction = "discard" // removed for good, kept ones too
	// OperationRestore pushes again what the journal has and the queue lacks; what is in the queue
	// stays as it is.
	OperationRestore OperationAction = "restore"
	// OperationAudit compares journal and queue, letter by letter, and changes nothing.
	OperationAudit OperationAction = "audit"
	// OperationErase removes the dead letters of a recipient from queue and journal, kept ones and
	// what a bucket has of old versions too.
	OperationErase OperationAction = "erase"
)

// settles reports whether items of the queue are settled, one by one.
func (a OperationAction) settles() bool {
	return a == OperationReplay || a == OperationDiscard || a == OperationErase
}

// journals reports whether it works on the journal.
func (a OperationAction) journals() bool {
	return a == OperationRestore || a == OperationAudit || a == OperationErase
}

// OperationStatus is the state of a bulk operation.
type OperationStatus string

// The states. The last three are final.
const (
	OperationQueued    OperationStatus = "queued"    // no Run has worked on it yet, or on its round
	OperationRunning   OperationStatus = "running"   // a Run works on it, or the next one will
	OperationStopped   OperationStatus = "stopped"   // a receiver failed too often in a row; Error says which. It waits to be resumed or canceled
	OperationCompleted OperationStatus = "completed" // every item was settled or skipped
	OperationCanceled  OperationStatus = "canceled"  // it was stopped; what was done stays done
	OperationFailed    OperationStatus = "failed"    // some sink could not be worked on; Error says which
)

// Final reports whether the operation is over.
func (s OperationStatus) Final() bool {
	return s == OperationCompleted || s == OperationCanceled || s == OperationFailed
}

// Filter selects dead letters by what never changes in them. Zero fields select
// everything. The fields are those of dlq.Query: Since <= push time < Until.
type Filter struct {
	Sink        string     `json:"sink,omitempty"`
	Reason      dlq.Reason `json:"reason,omitempty"`
	DeliveryID  string     `json:"delivery_id,omitempty"`
	Q           string     `json:"q,omitempty"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	// Meta selects what has each of these in its message's metadata, exactly.
	Meta  map[string]string `json:"meta,omitempty"`
	Since time.Time         `json:"since,omitzero"`
	Until time.Time         `json:"until,omitzero"`
	// State is refused: an operation's members are those that matched when it was created, and
	// a state changes.
	State dlq.State `json:"state,omitempty"`
}

// query returns the filter within one sink, or all when sink is empty, bounded to
// entries not newer than those given by sink.
func (f Filter) query(sink string, upTo map[string]string) dlq.Query {
	return dlq.Query{
		Sink: sink, Reason: f.Reason, DeliveryID: f.DeliveryID, Q: f.Q, Fingerprint: f.Fingerprint,
		Meta: f.Meta, Since: f.Since, Until: f.Until, UpTo: upTo,
	}
}

// everything reports whether the filter selects a sink's whole queue.
func (f Filter) everything() bool {
	f.Sink = ""
	return f.equal(Filter{})
}

// equal reports whether both select the same.
func (f Filter) equal(o Filter) bool {
	return f.Sink == o.Sink && f.Reason == o.Reason && f.DeliveryID == o.DeliveryID && f.Q == o.Q && f.Fingerprint == o.Fingerprint &&
		f.State == o.State && maps.Equal(f.Meta, o.Meta) && f.Since.Equal(o.Since) && f.Until.Equal(o.Until)
}

// OperationRequest asks for a bulk operation.
type OperationRequest struct {
	Action OperationAction `json:"action"`
	// Filter selects the items, or IDs lists them: one of the two.
	Filter *Filter  `json:"filter,omitempty"`
	IDs    []string `json:"ids,omitempty"`
	// All allows a filter that selects everything, or none at all.
	All bool `json:"all,omitempty"`
	// DryRun only says what would be done.
	DryRun bool `json:"dry_run,omitempty"`
	// UpTo fixes the items to those that were there in a dry run: the native id of the newest of each sink, as
	// Preview.UpTo has them. Sinks that are not in it have no members. Nil: all that are there now.
	UpTo map[string]string `json:"up_to,omitempty"`
	// StopAfter is how many failures in a row of one receiver stop a replay; 0: none do. Nil:
	// DefaultStopAfter.
	StopAfter *int `json:"stop_after,omitempty"`
	// Sink is another configured sink that a replay sends through, each under the lease of its own item:
	// what is delivered there is removed, what fails there stays as it was in its own sink. Empty: each
	// goes through its own.
	Sink string `json:"sink,omitempty"`
	// Since leaves out, of a restore, what became a dead letter before it. Zero: nothing.
	Since time.Time `json:"since,omitzero"`
	// Recipient is whose dead letters an erasure removes: those with a recipient in whose JSON any
	// text, however deep, is this one, but for the space around it and for upper and lower case
	// (Unicode's simple folding). Entries that cannot be read are counted, not removed
	// (EraseCounts.Unreadable). The operation keeps a keyed hash of it, and that only until it is final.
	Recipient string `json:"recipient,omitempty"`
	// Expect is what the operation must find, or else it is PREVIEW_STALE. Nil: whatever there is.
	Expect *Expect `json:"expect,omitempty"`
	// Reason is why, in the operator's words.
	Reason string `json:"reason,omitempty"`
	// Actor is who asks, as the authorizer knows them.
	Actor string `json:"-"`
	// IdempotencyKey makes the request repeatable: the same key is the same operation.
	// Empty: every call is another one.
	IdempotencyKey string `json:"-"`
}

// validate returns INVALID_ARGUMENT naming the field.
func (r OperationRequest) validate() error {
	if !r.Action.settles() && !r.Action.journals() {
		return invalid("action: want replay, discard, restore, audit or erase, got %.40q", r.Action)
	}
	if err := errors.Join(r.validateUpTo(), r.validateExpect(), r.validateJournal()); err != nil || r.Action.journals() {
		return err
	}
	if r.StopAfter != nil {
		if r.Action != OperationReplay {
			return invalid("stop_after: a %s sends nothing that could fail; leave it out", r.Action)
		}
		if *r.StopAfter < 0 {
			return invalid("stop_after: want 0 (never) or more, got %d", *r.StopAfter)
		}
	}
	if r.Sink != "" {
		if r.Action != OperationReplay {
			return invalid("sink: a %s sends nothing; leave it out (a filter has its own)", r.Action)
		}
		if err := fault.CheckName(r.Sink); err != nil {
			return &fault.Error{Code: fault.CodeInvalidArgument, Msg: "sink", Cause: err}
		}
	}
	if len(r.IDs) > 0 {
		if r.Filter != nil || r.All {
			return invalid("ids: give either ids or a filter (or all), not both")
		}
		if len(r.IDs) > MaxOperationIDs {
			return invalid("ids: at most %d, got %d; use a filter", MaxOperationIDs, len(r.IDs))
		}
		for i, id := range r.IDs {
			if _, err := dlq.ParseID(id); err != nil {
				return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("ids[%d]", i), Cause: err}
			}
		}
		return nil
	}
	if r.Filter == nil || r.Filter.equal(Filter{}) {
		if !r.All {
			return invalid("filter: it is empty; give a filter or ids, or all: true for every dead letter")
		}
		return nil
	}
	if r.Filter.State != "" {
		return invalid("filter.state: a state changes while an operation runs; list the items in this state, and give their ids")
	}
	if r.Filter.Sink != "" {
		if err := fault.CheckName(r.Filter.Sink); err != nil {
			return &fault.Error{Code: fault.CodeInvalidArgument, Msg: "filter.sink", Cause: err}
		}
	}
	if _, ok := r.Filter.Meta[""]; ok {
		return invalid("filter.meta: a name is missing")
	}
	if r.Filter.Reason != "" && !slices.Contains(dlq.Reasons, r.Filter.Reason) {
		return invalid("filter.reason: unknown reason %.40q", r.Filter.Reason)
	}
	return nil
}

// validateJournal checks what actions on the journal have, and that they have nothing else.
func (r OperationRequest) validateJournal() error {
	if r.Action.journals() {
		switch {
		case r.Filter != nil:
			return invalid("filter: %s has none; leave it out", r.Action)
		case len(r.IDs) > 0:
			return invalid("ids: %s has none; leave them out", r.Action)
		case r.All:
			return invalid("all: %s has no filter; leave it out", r.Action)
		case r.StopAfter != nil:
			return invalid("stop_after: %s sends nothing that could fail; leave it out", r.Action)
		case r.Sink != "":
			return invalid("sink: %s sends nothing; leave it out", r.Action)
		}
	}
	address := folded(r.Recipient)
	switch {
	case !r.Since.IsZero() && r.Action != OperationRestore:
		return invalid("since: only restore has it; a filter has its own")
	case r.Recipient != "" && r.Action != OperationErase:
		return invalid("recipient: only erase has it")
	case r.DryRun && r.Action == OperationAudit:
		return invalid("dry_run: audit changes nothing anyway; leave it out")
	case r.Action == OperationErase && address == "":
		return invalid("recipient: say whose dead letters are to be erased")
	case r.Action == OperationErase && strings.Contains(folded(r.Reason), address):
		return invalid("reason: it names the recipient, and is kept; put it otherwise")
	}
	return nil
}

// stopAfter returns the number with its default.
func (r OperationRequest) stopAfter() int {
	switch {
	case r.Action != OperationReplay:
		return 0
	case r.StopAfter == nil:
		return DefaultStopAfter
	}
	return *r.StopAfter
}

// Operation is the durable record of a bulk operation.
type Operation struct {
	ID     string          `json:"id"`
	Action OperationAction `json:"action"`
	Filter *Filter         `json:"filter,omitempty"`
	IDs    []string        `json:"ids,omitempty"` // public ids
	All    bool            `json:"all,omitempty"`
	DryRun bool            `json:"dry_run,omitempty"`
	Sink   string          `json:"sink,omitempty"` // through which a replay sends; empty: each through its own
	Since  time.Time       `json:"since,omitzero"` // of a restore
	Reason string          `json:"reason,omitempty"`
	Actor  string          `json:"actor,omitempty"`
	// Recipient stands for whose dead letters an erasure removes. A store keeps it apart from what
	// is shown, and forgets it in the step that makes the operation final. Nil: it is no
	// erasure, or final.
	Recipient *HashedRecipient `json:"-"`

	// StopAfter is how many failures in a row of one receiver stop it; 0: none do.
	StopAfter int `json:"stop_after"`
	// Round counts from 1; a resumption begins the next one.
	Round int `json:"round"`

	Status    OperationStatus `json:"status"`
	CreatedAt time.Time       `json:"created_at"`
	StartedAt time.Time       `json:"started_at,omitzero"`
	// FinishedAt is when it became final, or was stopped.
	FinishedAt time.Time `json:"finished_at,omitzero"`
	// Total is the number of items that the preview found at the creation: all of
	// them when TotalComplete is set, else at least so many. Actions on the journal look for
	// nothing at their creation.
	Total         int64 `json:"total"`
	TotalComplete bool  `json:"total_complete"`
	// The counters are sums over Sinks.
	OperationCounts
	JournalCounts
	// Waiting is how many members may not go now, as far as is known: another replayer holds
	// them, or the gate leaves their receivers alone until WaitingUntil (zero: none of them).
	Waiting      int64     `json:"waiting"`
	WaitingUntil time.Time `json:"waiting_until,omitzero"`
	// Error says which sinks could not be worked on, or why it is stopped.
	Error string `json:"error,omitempty"`
	// Sinks is the progress by sink.
	Sinks map[string]SinkProgress `json:"sinks,omitempty"`
	// Stalled counts who took the operation since it last got on.
	Stalled int `json:"-"`
	// Preview is the sample of a dry run; else nil.
	Preview *Preview `json:"-"`

	expired int64 // in whole queues, when its members were fixed
}

// OperationCounts are the counters of a bulk operation. They are kept by the queue's
// store, in the same step as each settlement, so no crash makes them wrong.
type OperationCounts struct {
	dlq.OperationCounts
	// Failed items of an earlier round (see Operation.Round) are not counted: they are tried
	// again.
	//
	// Expired items were not sent, for their time was over. Discarded are also those of a replay
	// whose delivery was canceled.
	//
	// Skipped items were not settled: those that a replay delivered before the
	// operation and that were kept, that were marked as expired before it, that are superseded, that cannot be
	// decoded, or that another replayer would not let go of. Items that vanished meanwhile are not counted.
	Skipped int64 `json:"skipped"`
}

// JournalCounts are the counters of an action on the journal: those of the action are set, the
// others nil.
type JournalCounts struct {
	Restore *RestoreCounts `json:"restore,omitempty"`
	Audit   *AuditCounts   `json:"audit,omitempty"`
	Erase   *EraseCounts   `json:"erase,omitempty"`
}

// RestoreCounts say what became of the dead letters that the journal has.
type RestoreCounts struct {
	Restored int64 `json:"restored"` // the queue lacked them, and has them again
	Present  int64 `json:"present"`  // the queue had them
	Skipped  int64 `json:"skipped"`  // they ended meanwhile: delivered, discarded or canceled
	Spilled  int64 `json:"spilled"`  // they never were in the queue: the schedule brings them, when there is room
	Damaged  int64 `json:"damaged"`  // objects that cannot be read, or not in full; the log names them
	// Full says that the next ones have to wait for room in the queue: the operation goes on then.
	Full bool `json:"full"`
}

// AuditCounts say where the dead letters are: Letters is the sum of Queued, Spilled, Ending and Lost.
type AuditCounts struct {
	Letters     int64 `json:"letters"`     // those that the queue or the journal has
	Queued      int64 `json:"queued"`      // the queue has them
	Spilled     int64 `json:"spilled"`     // they wait in the journal for room in the queue
	Ending      int64 `json:"ending"`      // they are over, and a tick deletes them from the journal
	Unjournaled int64 `json:"unjournaled"` // queued ones that the journal lacks, until a tick writes them
	Lost        int64 `json:"lost"`        // the queue lacks them, looked at twice: a restore brings them back
	Damaged     int64 `json:"damaged"`     // objects that cannot be read, or not in full; the log names them
}

// EraseCounts say what an erasure found besides the dead letters that it removed from the queue, which
// are Discarded.
type EraseCounts struct {
	// Erased are dead letters that were removed from the journal alone. In a preview it is what the
	// journal has of the recipient in all: that of dead letters in the queue, and older versions, too.
	Erased     int64 `json:"erased"`
	Versions   int64 `json:"versions"`   // older versions of objects that were removed
	Unreadable int64 `json:"unreadable"` // entries of the queue that cannot be read: nobody knows whose they are
	Damaged    int64 `json:"damaged"`    // likewise objects of the journal; the log names them
}

// countJournal adds the counters of a sink, or of a step.
func (c *JournalCounts) countJournal(o JournalCounts) {
	if r := o.Restore; r != nil {
		sum := of(c.Restore)
		c.Restore = &RestoreCounts{
			Restored: sum.Restored + r.Restored, Present: sum.Present + r.Present, Skipped: sum.Skipped + r.Skipped,
			Spilled: sum.Spilled + r.Spilled, Damaged: sum.Damaged + r.Damaged, Full: sum.Full || r.Full,
		}
	}
	if a := o.Audit; a != nil {
		sum := of(c.Audit)
		c.Audit = &AuditCounts{
			Letters: sum.Letters + a.Letters, Queued: sum.Queued + a.Queued, Spilled: sum.Spilled + a.Spilled, Ending: sum.Ending + a.Ending,
			Unjournaled: sum.Unjournaled + a.Unjournaled, Lost: sum.Lost + a.Lost, Damaged: sum.Damaged + a.Damaged,
		}
	}
	if e := o.Erase; e != nil {
		sum := of(c.Erase)
		c.Erase = &EraseCounts{
			Erased: sum.Erased + e.Erased, Versions: sum.Versions + e.Versions, Unreadable: sum.Unreadable + e.Unreadable,
			Damaged: sum.Damaged + e.Damaged,
		}
	}
}

// of returns what p points to; zero where that is nothing.
func of[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// zeroCounts are the counters that an action begins with: none is missing in an answer.
func (a OperationAction) zeroCounts() JournalCounts {
	switch a {
	case OperationRestore:
		return JournalCounts{Restore: &RestoreCounts{}}
	case OperationAudit:
		return JournalCounts{Audit: &AuditCounts{}}
	case OperationErase:
		return JournalCounts{Erase: &EraseCounts{}}
	case OperationReplay, OperationDiscard:
	}
	return JournalCounts{}
}

// SinkProgress is how far an operation got in one sink.
type SinkProgress struct {
	// NewestID is the native id of the newest entry at the creation: newer ones are no
	// members. Empty when the members are listed.
	NewestID string `json:"newest_id,omitempty"`
	// Cursor is the place after the last finished slice.
	Cursor string `json:"cursor,omitempty"`
	// Read is set when every slice was visited; what is Left is tried again.
	Read bool `json:"read,omitempty"`
	// Left are items that another replayer held when their slice came, the first of
	// them at LeftSince.
	Left      []string  `json:"left,omitempty"`
	LeftSince time.Time `json:"left_since,omitzero"`
	// Members is how many the preview found at the creation.
	Members int64 `json:"members,omitempty"`
	// Receivers is how far a replay has felt its way to each of them. Absent: not at all.
	Receivers map[string]ReceiverProgress `json:"receivers,omitempty"`
	// PutOff are members that the slices were gone through without, in a sink with several
	// receivers: all slices are visited once more for them.
	PutOff int64 `json:"put_off,omitempty"`
	// Waiting is how many members the gate would not let go, until WaitingUntil.
	Waiting      int64     `json:"waiting,omitempty"`
	WaitingUntil time.Time `json:"waiting_until,omitzero"`
	// Journal is how far an action on the journal got.
	Journal JournalProgress `json:"journal,omitzero"`
	Done    bool            `json:"done"`
	// Stopped is set when a receiver failed too often in a row and all others are done with.
	Stopped bool `json:"stopped,omitempty"`
	OperationCounts
	JournalCounts
	// Error says why the sink could not be worked on, or was stopped.
	Error string `json:"error,omitempty"`
}

// JournalProgress is how far an action got in the journal of one sink. The zero value is the beginning.
type JournalProgress struct {
	// After is where the next step goes on.
	After string `json:"after,omitempty"`
	// Reading is set while an erasure is at the journal: the queue has nothing of the recipient any more.
	Reading bool `json:"reading,omitempty"`
	// Seen is the native id of the newest entry that an earlier pass of an erasure through the queue
	// has seen, and Discarded how many it had removed when it came to the journal.
	Seen      string `json:"seen,omitempty"`
	Discarded int64  `json:"discarded,omitempty"`
	// Tries is how many audits ran out of time.
	Tries int `json:"tries,omitempty"`
}

// over reports whether the round has nothing to do in the sink any more.
func (p SinkProgress) over() bool { return p.Done || p.Stopped }

// again returns the progress with which another round begins.
func (p SinkProgress) again() SinkProgress {
	out := SinkProgress{NewestID: p.NewestID, Members: p.Members, OperationCounts: p.OperationCounts}
	out.Settled, out.Failed, out.Skipped = out.Settled-out.Failed, 0, 0
	return out
}

// sum fills in the counters from those of the sinks.
func (o *Operation) sum() {
	o.OperationCounts, o.JournalCounts, o.Waiting, o.WaitingUntil = OperationCounts{}, o.Action.zeroCounts(), 0, time.Time{}
	for _, p := range o.Sinks {
		o.wait(p)
		o.Settled += p.Settled
		o.Delivered += p.Delivered
		o.Failed += p.Failed
		o.Discarded += p.Discarded
		o.Expired += p.Expired
		o.Skipped += p.Skipped
		o.countJournal(p.JournalCounts)
	}
}

// wait adds what waits in a sink.
func (o *Operation) wait(p SinkProgress) {
	if p.over() || o.Status.Final() || o.Status == OperationStopped {
		return
	}
	o.Waiting += p.Waiting + int64(len(p.Left))
	if until := p.WaitingUntil; !until.IsZero() && (o.WaitingUntil.IsZero() || until.Before(o.WaitingUntil)) {
		o.WaitingUntil = until
	}
}

// counters names what the settlements of a round are counted under, and marked with.
func (o *Operation) counters(round int) string {
	if round <= 1 {
		return o.ID
	}
	return o.ID + "." + strconv.Itoa(round)
}

// filter returns the filter; the zero one when none was given.
func (o *Operation) filter() Filter {
	if o.Filter == nil {
		return Filter{}
	}
	return *o.Filter
}

// idsOf returns the listed items of one sink.
func (o *Operation) idsOf(sink string) []string {
	var ids []string
	for _, id := range o.IDs {
		if strings.HasPrefix(id, sink+"~") {
			ids = append(ids, id)
		}
	}
	return ids
}

// sameRequest reports whether both ask for the same.
func (o *Operation) sameRequest(other Operation) bool {
	return o.filter().equal(other.filter()) && o.Since.Equal(other.Since) && o.Action == other.Action && o.All == other.All && o.StopAfter == other.StopAfter && o.Sink == other.Sink && slices.Equal(o.IDs, other.IDs)
}

var operationID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^op-[0-9a-f-]{32,36}$`) })

func checkOperationID(id string) error {
	if !operationID().MatchString(id) {
		return invalid("operation: %.60q is no operation's id", id)
	}
	return nil
}

// newOperationID returns the id that belongs to an idempotency key, or a new one.
func newOperationID(key string) string {
	if key == "" {
		return "op-" + uuid.Must(uuid.NewV7()).String()
	}
	h := sha256.Sum256([]byte(key))
	return "op-" + hex.EncodeToString(h[:16])
}

func operationNotFound(id string) error {
	return &fault.Error{Code: fault.CodeDLQNotFound, Msg: fmt.Sprintf("no operation %.60q; final ones are kept for %s", id, dlq.OperationRetention)}
}

// markedBy returns the failure's text for the item's history, naming the operation's round:
// so that one which goes on after a crash knows the items that it has tried.
func markedBy(operation string, err error) string {
	if operation == "" {
		return err.Error()
	}
	return "operation " + operation + ": " + err.Error()
}

// unmarked returns a failure's text without the mark, and the operation that set it.
func unmarked(text string) (operation, plain string) {
	rest, ok := strings.CutPrefix(text, "operation ")
	name, plain, found := strings.Cut(rest, ": ")
	if id, _, _ := strings.Cut(name, "."); ok && found && checkOperationID(id) == nil {
		return id, plain
	}
	return "", text
}

// triedBy reports whether the operation's round has tried the item, and not delivered it.
func triedBy(operation string, it dlq.Item) bool {
	return slices.ContainsFunc(it.History, func(r dlq.ReplayRecord) bool {
		return strings.HasPrefix(r.Error, "operation "+operation+": ")
	})
}

// OperationStore keeps the records of bulk operations until they are final, stopped ones too,
// and then for dlq.OperationRetention. It is safe for concurrent use, across processes too. Errors are
// SINK_DLQ_UNAVAILABLE, and SINK_DLQ_NOT_FOUND for unknown ids. A store that has a network
// repeats what that lost; its callers do not.
type OperationStore interface {
	// Create stores op unless there is one of its id; it returns the stored one.
	Create(ctx context.Context, op Operation) (Operation, error)
	// Get returns one operation.
	Get(ctx context.Context, id string) (Operation, error)
	// List returns operations, newest first.
	List(ctx context.Context, limit int) ([]Operation, error)
	// Unfinished returns the ids of operations that are not final, oldest first, stopped ones
	// among them. It may name final ones too.
	Unfinished(ctx context.Context) ([]string, error)
	// Take makes owner the one who works on the operation, for the length of ttl; then
	// it is running, and Stalled is one more. False when it is final or stopped, or another
	// owner's time is not over.
	Take(ctx context.Context, id, owner string, ttl time.Duration) (Operation, bool, error)
	// Save records progress and prolongs (or with a TTL <= 0 ends) the owner's time; what
	// has a Sink and is not Still, or has Moved, sets Stalled to 0.
	// It returns the status after that: OperationCanceled when somebody canceled the
	// operation meanwhile, and ErrOperationTaken when owner is not its owner any more,
	// which changes nothing.
	Save(ctx context.Context, id, owner string, c OperationChange) (OperationStatus, error)
	// Cancel makes an operation canceled unless it is final. Its owner is told at its
	// next Save.
	Cancel(ctx context.Context, id string) (Operation, error)
	// Resume makes a stopped operation queued again for its next round, which begins with the
	// given progress of each sink; who owned it before can save nothing any more. Any other is
	// ErrNotStopped.
	Resume(ctx context.Context, id string, sinks map[string]SinkProgress) (Operation, error)
}

// OperationChange is what an owner saves.
type OperationChange struct {
	// TTL is how long the owner may go on from now; <= 0 ends its time.
	TTL time.Duration
	// Sink and Progress replace the progress of one sink. Sink empty: none.
	Sink     string
	Progress SinkProgress
	// Moved says that something was done, although no slice was finished. Still says that
	// nothing was, although there is a Sink.
	Moved, Still bool
	// Status is the final status, or OperationStopped. Empty: it goes on.
	Status OperationStatus
	// Error becomes Operation.Error, with a Status.
	Error string
}

// moved reports whether the operation got on.
func (c OperationChange) moved() bool { return c.Moved || c.Sink != "" && !c.Still }

// ErrNotStopped is what ResumeOperation returns for an operation that is not stopped. Its code
// is INVALID_ARGUMENT.
var ErrNotStopped error = &fault.Error{Code: fault.CodeInvalidArgument, Msg: "only a stopped operation is resumed"}

func notStopped(id string, s OperationStatus) error {
	text := "goes on by itself"
	if s.Final() {
		text = "is over; start another one"
	}
	return fmt.Errorf("operation %s is %s and %s: %w", id, s, text, ErrNotStopped)
}

// ErrOperationTaken is what OperationStore.Save returns when somebody else works on the
// operation by now. Its code is ITEM_LEASED.
var ErrOperationTaken = &fault.Error{Code: fault.CodeItemLeased, Msg: "another replayer works on the operation"}
