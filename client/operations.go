package client

import (
	"context"
	"net/http"
	"time"
)

// OperationRequest asks for a bulk operation: a replay or discard over a filter or a list of ids, or
// one on the journal, which has neither and needs no All.
type OperationRequest struct {
	Action Action   `json:"action"`
	Filter *Filter  `json:"filter,omitempty"`
	IDs    []string `json:"ids,omitempty"` // at most 1,000, instead of a filter
	All    bool     `json:"all,omitempty"` // needed where the filter is empty
	// StopAfter is how many failures in a row of one receiver stop a replay; 0: none do. Nil: 5.
	StopAfter *int `json:"stop_after,omitempty"`
	// Sink is another sink that a replay sends through; what fails there stays as it was. Empty: each
	// dead letter goes through its own.
	Sink string `json:"sink,omitempty"`
	// Since leaves out, of a restore, what became a dead letter before. Zero: nothing.
	Since time.Time `json:"since,omitzero"`
	// Recipient is whose dead letters an erasure removes: an address, a URL, a token, wherever it
	// stands in a dead letter's recipient, in upper or lower case. No answer has it.
	Recipient string `json:"recipient,omitempty"`
	Reason    string `json:"reason,omitempty"` // why, in the operator's words; it is kept
	// UpTo fixes the items to those that a dry run saw: hand back its UpTo. What came later is not touched. Nil: all
	// that are there now.
	UpTo map[string]string `json:"up_to,omitempty"`
	// Expect makes the operation PREVIEW_STALE where it would not work on what a dry run found: hand
	// back the one of its answer. A dry run answers with one when it is asked with the zero Expect.
	Expect *Expect `json:"expect,omitempty"`
}

// Expect is what a dry run saw, and what must be there still.
type Expect struct {
	UpTo   string `json:"up_to,omitempty"` // what came later is not touched
	Count  int64  `json:"count,omitempty"`
	Digest string `json:"digest,omitempty"` // of the items' ids, reasons and errors
	Actor  string `json:"actor,omitempty"`  // who looked
}

// DryRun is what a bulk operation would do.
type DryRun struct {
	Raw
	DryRun   bool   `json:"dry_run"` // true
	Action   Action `json:"action"`
	Count    int64  `json:"count"`
	Expired  int64  `json:"expired"`  // of these, and not sent by a replay: their time is over
	Complete bool   `json:"complete"` // false: there may be more
	Scanned  int64  `json:"scanned"`
	Sample   []Item `json:"sample"` // the first 10, newest first
	// LastTried is the newest replay among the first Looked ones; nil: none was replayed.
	LastTried *LastTried `json:"last_tried"`
	Looked    int64      `json:"looked"`
	// Sink is where a redirect would send to. Refused is how many of the Looked ones it could never
	// send, and Refusal why, of the first.
	Sink    string `json:"sink"`
	Refused int64  `json:"refused"`
	Refusal string `json:"refusal"`
	// BySink is how many of Count are in each sink; one without any is missing.
	BySink map[string]int64 `json:"by_sink"`
	// UpTo is the newest of each sink that was looked at, for OperationRequest.UpTo.
	UpTo map[string]string `json:"up_to"`
	// Groups are the largest groups of the items, and MoreGroups how many there are beside them; where the
	// request has an Expect.
	Groups     []PreviewGroup `json:"groups"`
	MoreGroups int            `json:"more_groups"`
	// Expect is what to hand back; nil where the request had none, or the dry run is not Complete.
	Expect *Expect `json:"expect"`
	// Restore and Erase are what those actions would count, as far as it was looked; else nil.
	Restore *RestoreCounts `json:"restore"`
	Erase   *EraseCounts   `json:"erase"`
}

// PreviewGroup is a group of the items of a DryRun.
type PreviewGroup struct {
	ID          string `json:"id"`
	Sink        string `json:"sink"`
	Reason      Reason `json:"reason"`
	Fingerprint string `json:"fingerprint"`
	Count       int64  `json:"count"`
}

// LastTried is the newest replay of some dead letters. What a replay delivered and removed is not
// among them any more.
type LastTried struct {
	At        time.Time `json:"at"`
	Error     string    `json:"error"`     // what came of it; empty when Delivered
	Delivered bool      `json:"delivered"` // and kept
	Operation string    `json:"operation"` // that tried it; empty: none
}

// Operation is a bulk operation and its progress.
type Operation struct {
	Raw
	ID            string          `json:"id"`
	Action        Action          `json:"action"`
	Filter        *Filter         `json:"filter"`
	IDs           []string        `json:"ids"` // not in lists of operations
	All           bool            `json:"all"`
	Sink          string          `json:"sink"`  // that a replay sends through; empty: each through its own
	Since         time.Time       `json:"since"` // of a restore; zero: it has none
	Reason        string          `json:"reason"`
	Actor         string          `json:"actor"`      // who asked: an ARN, an e-mail address or a subject
	StopAfter     int             `json:"stop_after"` // 0: never
	Round         int             `json:"round"`      // from 1; each resumption begins the next
	Status        OperationStatus `json:"status"`
	CreatedAt     time.Time       `json:"created_at"`
	StartedAt     time.Time       `json:"started_at"`
	FinishedAt    time.Time       `json:"finished_at"` // or when it was stopped
	Total         int64           `json:"total"`
	TotalComplete bool            `json:"total_complete"` // false: Total is the least
	OperationCounts
	JournalCounts
	// Waiting dead letters may not go now, as far as is known: another replay holds them, or
	// their receivers are left alone until WaitingUntil (zero: none of them).
	Waiting      int64                    `json:"waiting"`
	WaitingUntil time.Time                `json:"waiting_until"`
	Error        string                   `json:"error"`
	Sinks        map[string]OperationSink `json:"sinks"`
}

// OperationCounts are the counters of an operation.
type OperationCounts struct {
	Settled   int64 `json:"settled"` // delivered, failed, discarded and expired ones
	Delivered int64 `json:"delivered"`
	Failed    int64 `json:"failed"`    // sent in vain, in this round; they stay in the queue
	Discarded int64 `json:"discarded"` // by a replay: their delivery was canceled
	Expired   int64 `json:"expired"`   // not sent: their time was over
	Skipped   int64 `json:"skipped"`   // not touched
}

// JournalCounts are the counters of an action on the journal: those of its action, the others are nil.
type JournalCounts struct {
	Restore *RestoreCounts `json:"restore"`
	Audit   *AuditCounts   `json:"audit"`
	Erase   *EraseCounts   `json:"erase"`
}

// RestoreCounts say what became of the dead letters that the journal has.
type RestoreCounts struct {
	Restored int64 `json:"restored"` // the queue lacked them, and has them again
	Present  int64 `json:"present"`  // the queue had them; they stayed as they were
	Skipped  int64 `json:"skipped"`  // delivered, discarded or canceled meanwhile
	Spilled  int64 `json:"spilled"`  // never in the queue: the schedule brings them there by itself
	Damaged  int64 `json:"damaged"`  // objects of the journal that cannot be read in full; the log names them
	Full     bool  `json:"full"`     // the next ones wait for room in the queue, and so does the operation
}

// AuditCounts say where the dead letters are.
type AuditCounts struct {
	Letters     int64 `json:"letters"`
	Queued      int64 `json:"queued"`      // in the queue
	Spilled     int64 `json:"spilled"`     // in the journal, waiting for room in the queue
	Ending      int64 `json:"ending"`      // over, and in the journal still; the schedule deletes them
	Unjournaled int64 `json:"unjournaled"` // of the queued ones: the journal has them not yet; the schedule writes them
	Lost        int64 `json:"lost"`        // in the journal, and missing in the queue twice: restore them
	Damaged     int64 `json:"damaged"`     // objects of the journal that cannot be read in full; the log names them
}

// EraseCounts say what an erasure found besides what it removed from the queue, which is
// OperationCounts.Discarded.
type EraseCounts struct {
	Erased     int64 `json:"erased"`     // in the journal alone; a spilled one is in two of its objects, and counts twice
	Versions   int64 `json:"versions"`   // old versions of the journal's objects
	Unreadable int64 `json:"unreadable"` // of the queue: whose they are is not known, and they are still there
	Damaged    int64 `json:"damaged"`    // likewise objects of the journal; the log names them
}

// OperationSink is the progress in one sink.
type OperationSink struct {
	Done bool `json:"done"`
	OperationCounts
	JournalCounts
	Waiting      int64     `json:"waiting"` // as in the operation
	WaitingUntil time.Time `json:"waiting_until"`
	Stopped      bool      `json:"stopped"`
	Error        string    `json:"error"`
}

// Final reports whether the operation is over. One that is stopped is not, but nobody works on
// it until it is resumed.
func (o Operation) Final() bool {
	return o.Status == OperationCompleted || o.Status == OperationCanceled || o.Status == OperationFailed
}

// OnJournal reports whether the operation works on the journal: then Total is not known, and its counts
// are in Restore, Audit or Erase.
func (o Operation) OnJournal() bool { return o.Restore != nil || o.Audit != nil || o.Erase != nil }

// Gone is how many dead letters of a completed operation were settled by others before it
// came to them; zero where that is not known.
func (o Operation) Gone() int64 {
	if o.Status != OperationCompleted || !o.TotalComplete || o.OnJournal() {
		return 0
	}
	return max(0, o.Total-o.Settled-o.Skipped)
}

// Operations are the newest bulk operations.
type Operations struct {
	Raw
	Operations []Operation `json:"operations"`
}

// operations is the route of all operations.
func operations(more ...string) []string { return append([]string{"dlq", "operations"}, more...) }

// ask is an operation's request as the API takes it.
type ask struct {
	OperationRequest
	DryRun bool `json:"dry_run,omitempty"`
}

// DryRun says what an operation would do, and does nothing.
func (c *Client) DryRun(ctx context.Context, r OperationRequest) (d DryRun, err error) {
	call := post(operations()...)
	call.body, call.again = ask{r, true}, passing // it only reads
	_, err = c.call(ctx, call, &d)
	return d, err
}

// CreateOperation starts a bulk operation over the dead letters that there are now; follow it
// with Operation. key makes the call repeatable (letters, digits and _:=+/@-, at most 128): the
// same key is the same operation, and ID_REUSED with another request. An empty key makes each
// call an operation of its own. The client does not repeat it: do so with the same key when
// Repeatable says so.
func (c *Client) CreateOperation(ctx context.Context, key string, r OperationRequest) (o Operation, err error) {
	call := post(operations()...)
	call.body = ask{r, false}
	call.about = func() bool { return o.ID != "" && o.Status != "" }
	if key != "" {
		call.header = http.Header{"Idempotency-Key": {key}}
	}
	_, err = c.call(ctx, call, &o)
	return o, err
}

// Operations lists the newest bulk operations, without the ids of their items. limit <= 0
// leaves their number to the API (20), 100 is the most.
func (c *Client) Operations(ctx context.Context, limit int) (o Operations, err error) {
	r := get(operations()...)
	r.query = Filter{}.page(limit, "")
	_, err = c.call(ctx, r, &o)
	return o, err
}

// Operation returns one bulk operation with its progress as of now. It is kept until it is over,
// and then for 30 days.
func (c *Client) Operation(ctx context.Context, id string) (o Operation, err error) {
	_, err = c.call(ctx, get(operations(id)...), &o)
	return o, err
}

// CancelOperation ends a bulk operation before its next slice, a stopped one too; what it did stays
// done, and one that is over stays as it is.
func (c *Client) CancelOperation(ctx context.Context, id string) (o Operation, err error) {
	call := post(operations(id, "cancel")...)
	call.about = func() bool { return o.ID == id }
	_, err = c.call(ctx, call, &o)
	return o, err
}

// ResumeOperation begins the next round of a stopped bulk operation: what failed is tried again,
// and what was not reached follows. INVALID_ARGUMENT for one that is not stopped, so that a call
// whose answer was lost may find it resumed.
func (c *Client) ResumeOperation(ctx context.Context, id string) (o Operation, err error) {
	call := post(operations(id, "resume")...)
	call.about = func() bool { return o.ID == id }
	_, err = c.call(ctx, call, &o)
	return o, err
}
