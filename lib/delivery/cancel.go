package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
)

// Canceler takes deliveries back that were not sent yet. Its fields are set before its first use
// and never changed; then it is safe for concurrent use.
type Canceler struct {
	// Records remembers deliveries. Required.
	Records Store
	// Letters has their dead letters. Required.
	Letters CancelStore
	// Events tells what was canceled. Nil: nobody does.
	Events *Eventer
	// Spills says that dead letters may also wait in a journal, from where they come back.
	Spills bool
	// Log gets what no answer tells. Nil: slog.Default.
	Log *slog.Logger
	// Reserve is the time kept before the deadline for undoing what could not be finished, and
	// for the answer (see retry.Budget). Zero: retry.DefaultReserve.
	Reserve time.Duration
}

// CancelStore is what a Canceler needs of a queue of dead letters; every dlq.Store has it.
type CancelStore interface {
	// ClaimDelivery and Uncancel are those of dlq.Cancellations.
	ClaimDelivery(ctx context.Context, c dlq.DeliveryClaim) ([]dlq.Leased, error)
	Uncancel(ctx context.Context, sink, deliveryID string) error
	// Claim, Settle and Release are those of dlq.Leases.
	Claim(ctx context.Context, c dlq.Claim) ([]dlq.Leased, error)
	Settle(ctx context.Context, s []dlq.Settlement) ([]dlq.SettleResult, error)
	Release(ctx context.Context, l []dlq.Lease) error
	// Find is that of dlq.Letters.
	Find(ctx context.Context, sink, deliveryID, fingerprint string) (dlq.Item, error)
	dlq.Finisher
}

// Cancellation tells that no attempt of a delivery begins any more, wherever it waits.
type Cancellation struct {
	Status     Status `json:"status"` // canceled
	DeliveryID string `json:"delivery_id"`
	// Known says whether anything was known of it. A delivery that is on its way in a queue of the
	// caller's own is not, and neither is one whose id is misspelled.
	Known bool `json:"known"`
	// Attempts is the number of Send calls that were made for it, as far as known.
	Attempts int `json:"attempts"`
	// MayHaveArrived says that an attempt was made to which nobody answered.
	MayHaveArrived bool `json:"may_have_arrived,omitempty"`
	// Before says that it was canceled before, or that an earlier call began to and did not end.
	Before bool `json:"-"`
}

// Cancel takes a delivery back. A nil error means that no attempt begins any more, wherever the
// message waits, and whatever comes under that id is answered as canceled. It can be repeated,
// and has the same answer then. There is no way back: the message can be sent under another id.
//
// Errors mean that it was not canceled: ALREADY_DELIVERED when a receiver said that it has it;
// DELIVERY_IN_PROGRESS while somebody sends it, and ITEM_LEASED while a replay does: ask again
// later; SINK_DLQ_UNAVAILABLE when records or dead letters could not be reached, or it took too
// long, or its event could be neither sent nor kept, in which case it may be canceled already: ask
// again; those of Targets where nobody knows whether the sink has an event of it;
// INVALID_ARGUMENT for a bad sink or id.
func (c *Canceler) Cancel(ctx context.Context, k Key) (Cancellation, error) {
	if err := errors.Join(fault.CheckName(k.Sink), fault.CheckID(k.ID)); err != nil {
		return Cancellation{}, err
	}
	budget, token := retry.NewBudget(ctx, c.Reserve), uuid.NewString()
	notice := Notice{Key: k, Fate: FateCanceled, At: time.Now()}
	events, err := c.Events.wanted(ctx, notice)
	if err != nil {
		return Cancellation{}, err
	}
	state, rec, err := c.Records.Cancel(ctx, k, token, Record{Pending: events})
	if err != nil {
		return Cancellation{}, unmarked(err)
	}
	if err := refused(state, rec); err != nil {
		return Cancellation{}, err
	}
	claim := dlq.DeliveryClaim{Sink: k.Sink, DeliveryID: k.ID, Token: token, TTL: budget.Lease(), Note: latePush}
	if c.Spills || mayCome(rec) {
		claim.Note = c.Records.Retention()
	}
	letters, err := c.Letters.ClaimDelivery(ctx, claim)
	noted := claim.Note > 0 && fault.CodeOf(err) != fault.CodeItemLeased
	if err == nil {
		if letters, err = c.withHeirs(ctx, claim, letters); err != nil {
			c.release(ctx, budget, letters)
		}
	}
	if err != nil {
		if state == StateCanceled { // by this call
			c.undo(ctx, budget, k, token, noted)
		}
		return Cancellation{}, err
	}
	if len(letters) > 0 || state == StateFinished || mayEnd(rec) {
		rec, err = c.confirm(ctx, k, token, seen(state, rec, c.waiting(ctx, k, rec, letters)))
		if claim.Note > 0 && err != nil && fault.CodeOf(err) != fault.CodeDLQUnavailable {
			c.undo(ctx, budget, k, "", true) // it is not canceled: the note would lose it
		}
		if err != nil && rec.Status != StatusDelivered {
			return Cancellation{}, err
		}
		dropped := c.drop(ctx, budget, letters)
		if errors.Is(dropped, dlq.ErrJournal) {
			c.release(ctx, budget, letters)
			if state == StateCanceled { // an earlier call may have told somebody that it is
				c.undo(ctx, budget, k, token, claim.Note > 0)
			}
		}
		if err != nil || dropped != nil {
			return Cancellation{}, cmp.Or(err, dropped)
		}
	}
	if state == StateCanceled && len(events) > 0 { // its attempts were not known when it was noted
		notice.Attempts = rec.Attempts
		rec.Pending = joined([]PendingEvent{c.Events.event(events[0].To, notice)}, rec.Pending)
	}
	if err := c.Events.tellAll(ctx, budget, rec, true); err != nil {
		return Cancellation{}, err
	}
	return Cancellation{
		Status: StatusCanceled, DeliveryID: k.ID, Known: rec.Former != "", Attempts: rec.Attempts, MayHaveArrived: rec.Unanswered > 0,
		Before: state != StateCanceled,
	}, nil
}

// withHeirs leases what superseded some of the letters in other sinks, too. The letters are returned also
// beside an error.
func (c *Canceler) withHeirs(ctx context.Context, claim dlq.DeliveryClaim, letters []dlq.Leased) ([]dlq.Leased, error) {
	for i := 0; i < len(letters); i++ { // heirs may have heirs
		by, err := dlq.FinishSuperseding(ctx, c.Letters, letters[i].Item)
		if err != nil {
			return letters, err
		}
		id, err := dlq.ParseID(by)
		if by == "" || err != nil || id.Sink == claim.Sink {
			continue
		}
		leased, err := c.Letters.Claim(ctx, dlq.Claim{Sink: id.Sink, IDs: []string{by}, Quiet: true, Token: claim.Token, TTL: claim.TTL})
		if err != nil {
			return letters, err
		}
		if len(leased) > 0 {
			letters = append(letters, leased...)
			continue
		}
		switch it, err := c.Letters.Get(ctx, by); {
		case fault.CodeOf(err) == fault.CodeDLQNotFound:
		case err != nil:
			return letters, err
		case it.DeliveredAt.IsZero():
			return letters, &fault.Error{Code: fault.CodeItemLeased, Msg: "item " + by + ", which supersedes " + letters[i].ID + ", is held by a replay"}
		}
	}
	return letters, nil
}

// refused says why a delivery with this record is not canceled; nil when it is.
func refused(state State, rec Record) error {
	switch {
	case state == StateInProgress:
		return &fault.Error{Code: fault.CodeDeliveryInProgress, Msg: "it is being sent right now; ask again later"}
	case state == StateFinished && rec.Status == StatusDelivered:
		return &fault.Error{Code: fault.CodeAlreadyDelivered, Msg: "it was delivered at " + rec.UpdatedAt.UTC().Format(time.RFC3339)}
	}
	return nil
}

func unmarked(err error) error {
	return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "whether the delivery's record is marked is not known; ask again", Cause: err}
}

// confirm marks the record once more, when nobody can begin any more: a replay that held a
// dead letter may have delivered it since, another cancellation that could not be finished may
// have been undone, and whoever asks again finds no dead letter that tells of attempts.
func (c *Canceler) confirm(ctx context.Context, k Key, token string, seen Record) (Record, error) {
	seen.Status = StatusCanceled
	state, rec, err := c.Records.Cancel(ctx, k, token, seen)
	if err != nil {
		return Record{}, unmarked(err)
	}
	return rec, refused(state, rec)
}

// latePush is for how long a push may be on its way whose sender gave it up and made it again: longer than a network
// carries what was sent on a connection that is closed.
const latePush = 20 * time.Minute

// mayEnd reports whether an attempt that had begun may have ended since the record was marked: what
// waits in the queue for later has none.
func mayEnd(rec Record) bool { return rec.Former != StatusAccepted && rec.Former != StatusAccepting }

// mayCome reports whether a message of the delivery may come after its record is gone: it waits in
// a queue, perhaps, or somebody died with it.
func mayCome(rec Record) bool {
	switch rec.Former {
	case "", StatusAccepting, StatusAccepted, StatusInProgress:
		return true
	}
	return !rec.AcceptedAt.IsZero()
}

// waiting returns the dead letters that are leased. Where there is none, and no record tells of the
// delivery, one may be spilled: it is canceled by the note, whether or not it can be found now.
func (c *Canceler) waiting(ctx context.Context, k Key, rec Record, leased []dlq.Leased) []dlq.Item {
	items := make([]dlq.Item, len(leased))
	for i, l := range leased {
		items[i] = l.Item
	}
	if c.Spills && len(items) == 0 && rec.Former == "" {
		it, err := c.Letters.Find(ctx, k.Sink, k.ID, "")
		if err == nil {
			return []dlq.Item{it}
		}
		if fault.CodeOf(err) != fault.CodeDLQNotFound {
			c.log().WarnContext(ctx, "whether a canceled delivery is spilled is not known", "delivery_id", k.ID, "sink", k.Sink, "error", err.Error())
		}
	}
	return items
}

// release gives the letters back.
func (c *Canceler) release(ctx context.Context, budget retry.Budget, letters []dlq.Leased) {
	ctx, cancel := budget.SettleContext(ctx)
	defer cancel()
	leases := make([]dlq.Lease, len(letters))
	for i, l := range letters {
		leases[i] = l.Lease
	}
	if err := c.Letters.Release(ctx, leases); err != nil {
		c.log().WarnContext(ctx, "leases not given back", "items", len(leases), "error", err.Error())
	}
}

// seen is what the dead letters add to what the record knows. Where the record that was marked
// now speaks of one and there is none, nobody noted what became of it: a replay may have
// delivered it.
func seen(state State, rec Record, letters []dlq.Item) Record {
	if state == StateCanceled && len(letters) == 0 && (rec.Former == StatusDeadLettered || rec.Former == StatusExpired) {
		rec.Unanswered = max(rec.Unanswered, 1)
	}
	if rec.Former == "" && len(letters) > 0 {
		rec.Former = StatusDeadLettered
	}
	for _, it := range letters {
		rec.Attempts = max(rec.Attempts, it.Attempts+len(it.History))
		rec.Unanswered = max(rec.Unanswered, unansweredOf(it))
	}
	return rec
}

// unansweredOf is how many attempts of a dead letter may have arrived.
func unansweredOf(it dlq.Item) int {
	if it.Reason == dlq.ReasonAmbiguous {
		return max(it.Unanswered, 1)
	}
	return it.Unanswered
}

// drop removes the letters. Where that fails the record stays as it is, for some may be gone:
// whoever asks again ends it.
func (c *Canceler) drop(ctx context.Context, budget retry.Budget, letters []dlq.Leased) error {
	if len(letters) == 0 {
		return nil
	}
	ctx, cancel := budget.SettleContext(ctx)
	defer cancel()
	settlements := make([]dlq.Settlement, len(letters))
	for i, l := range letters {
		settlements[i] = dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDrop}
	}
	results, err := c.Letters.Settle(ctx, settlements)
	if err != nil {
		return err
	}
	for i, r := range results {
		if r != dlq.SettleApplied {
			// A replay has it by now, or it is gone: by an earlier try of this, perhaps, or by others.
			return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: fmt.Sprintf("the lease was over before dead letter %s was removed; it may be canceled already: ask again", letters[i].ID)}
		}
	}
	return nil
}

// undo makes the delivery what it was: the note first, for one that stayed alone would lose a
// message that nobody was told of; then the record that token marked (empty: none). A claim that was
// refused because of a lease has noted nothing, so the note is another's then, and stays.
//
// Where it is not known whether a claim noted anything, this takes away also the note of another
// cancellation that came and ended meanwhile. Its record says so all the same, for as long as
// records of cancellations are kept: such a message is sent only if that is lost before its time.
func (c *Canceler) undo(ctx context.Context, budget retry.Budget, k Key, token string, note bool) {
	ctx, cancel := budget.SettleContext(ctx)
	defer cancel()
	var err error
	if note {
		err = c.Letters.Uncancel(ctx, k.Sink, k.ID)
	}
	if err == nil && token != "" {
		err = c.Records.Uncancel(ctx, k, token)
	}
	if err != nil {
		c.log().WarnContext(ctx, "cancellation not undone", "delivery_id", k.ID, "sink", k.Sink, "error", err.Error())
	}
}

func (c *Canceler) log() *slog.Logger {
	if c.Log != nil {
		return c.Log
	}
	return slog.Default()
}
