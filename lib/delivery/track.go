package delivery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// Tracker tells what is known of a delivery's way. Its fields are set before its first use and
// never changed; then it is safe for concurrent use.
type Tracker struct {
	// Records remembers deliveries. Required.
	Records TrackRecords
	// Letters has their dead letters. Required.
	Letters TrackLetters
}

// TrackRecords is what a Tracker needs of records; every Store has it.
type TrackRecords interface {
	Get(ctx context.Context, k Key) (Record, bool, error)
}

// TrackLetters is what a Tracker needs of a queue of dead letters; every dlq.Store has it.
type TrackLetters interface {
	Get(ctx context.Context, id string) (dlq.Item, error)
	Find(ctx context.Context, sink, deliveryID, fingerprint string) (dlq.Item, error)
	Page(ctx context.Context, q dlq.Query) (dlq.Page, error)
}

// Way is what is known of a delivery's way. Its record is a hint, which ends after a while; its
// dead letter is the truth for what waits.
type Way struct {
	Sink   string `json:"sink"`
	ID     string `json:"delivery_id"`
	Status Status `json:"status"`
	// ItemID is the dead letter. Empty: there is none that is known.
	ItemID string `json:"item_id,omitempty"`
	// Spilled says that its dead letter waits in the journal for room in the queue: it has no ItemID yet.
	Spilled bool `json:"spilled,omitempty"`
	// UpdatedAt is since when Status holds.
	UpdatedAt time.Time `json:"updated_at,omitzero"`
	// AcceptedAt, NotBefore and ExpiresAt are those of Record.
	AcceptedAt time.Time `json:"accepted_at,omitzero"`
	NotBefore  time.Time `json:"not_before,omitzero"`
	ExpiresAt  time.Time `json:"expires_at,omitzero"`
	// Attempts is the number of attempts that are known: those of the delivery, and its replays.
	Attempts int `json:"attempts"`
	// MayHaveArrived says that an attempt was made to which nobody answered.
	MayHaveArrived bool `json:"may_have_arrived,omitempty"`
	// Event is "pending" while an event of one of its fates is not known to be sent or kept (see
	// Eventer). Empty: none is.
	Event EventStatus `json:"event,omitempty"`
	// Next is what comes. Nil: nothing, or nothing that is known.
	Next *Next `json:"next,omitempty"`
	// Timeline is what happened, oldest first. Only what has a time is in it. Times are by several
	// clocks: what followed from something else stands behind it, whatever they say.
	Timeline []Step `json:"timeline"`
}

// Step is one thing that happened to a delivery.
type Step struct {
	At     time.Time `json:"at"`
	Event  StepEvent `json:"event"`
	Detail string    `json:"detail,omitempty"` // at most 1,000 characters
}

// StepEvent is what happened.
type StepEvent string

// What happens to deliveries.
const (
	StepAccepting    StepEvent = "accepting"     // somebody began to put it into the queue for later
	StepAccepted     StepEvent = "accepted"      // the queue for later has it
	StepWaiting      StepEvent = "waiting"       // it began to wait there until the time of the detail
	StepBegan        StepEvent = "began"         // somebody began to send it
	StepDeadLettered StepEvent = "dead_lettered" // it failed, and the dead-letter queue has it
	StepSpilled      StepEvent = "spilled"       // the queue did not take its dead letter: it waits in the journal for room there
	StepImported     StepEvent = "imported"      // its dead letter was imported
	StepFailed       StepEvent = "failed"        // a replay failed
	StepDied         StepEvent = "died"          // the process that replayed it died
	StepHeld         StepEvent = "held"          // a replay failed so that the schedule must not repeat it
	StepParked       StepEvent = "parked"        // it was replayed too often for the schedule to go on
	StepExpired      StepEvent = "expired"       // its time was over
	StepDelivered    StepEvent = "delivered"     // a receiver has it
	StepDiscarded    StepEvent = "discarded"     // an operator gave it up
	StepCanceled     StepEvent = "canceled"      // a caller took it back
)

// Next is what comes.
type Next struct {
	Event NextEvent `json:"event"`
	// At is when. Zero: as soon as can be, or whenever somebody decides.
	At time.Time `json:"at,omitzero"`
	// State is that of the dead letter. Empty: there is none.
	State dlq.State `json:"state,omitempty"`
}

// NextEvent is what comes.
type NextEvent string

// What comes.
const (
	NextAttempt  NextEvent = "attempt"  // it is sent
	NextReplay   NextEvent = "replay"   // the schedule replays it, unless its sink is paused or its receiver is down
	NextOperator NextEvent = "operator" // nothing by itself: an operator decides
	NextExpiry   NextEvent = "expiry"   // its time is over before anything else
	NextReturn   NextEvent = "return"   // it comes into the queue once there is room; State says what comes then
)

// mostDetail bounds Step.Detail, in characters.
const mostDetail = 1000

// Track tells what is known of a delivery.
//
// Errors are SINK_DLQ_NOT_FOUND where nothing is, also when the record speaks of a dead letter that
// is not there any more; SINK_DLQ_UNAVAILABLE when records or dead letters cannot be read;
// INVALID_ARGUMENT for a bad sink or id.
func (t *Tracker) Track(ctx context.Context, k Key) (Way, error) {
	if err := errors.Join(fault.CheckName(k.Sink), fault.CheckID(k.ID)); err != nil {
		return Way{}, err
	}
	rec, known, err := t.Records.Get(ctx, k)
	if err != nil {
		return Way{}, &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "records", Cause: err}
	}
	it, err := t.letter(ctx, k, rec, known)
	if err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound {
		return Way{}, err
	}
	w := way{rec: rec, known: known, it: it, stored: err == nil, now: time.Now()}
	w.Sink, w.ID = k.Sink, k.ID
	if !w.settle() {
		return Way{}, w.lost()
	}
	w.tell()
	return w.Way, nil
}

// letter returns the dead letter of a delivery, and one that was kept after it was delivered too.
// The search through the queue is for those of which there is no record, or one that says that a
// dead letter is there.
func (t *Tracker) letter(ctx context.Context, k Key, rec Record, known bool) (dlq.Item, error) {
	if rec.ItemID != "" {
		it, err := t.Letters.Get(ctx, rec.ItemID)
		if err == nil && it.DeliveryID == k.ID || err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound {
			return it, err
		}
	}
	it, err := t.Letters.Find(ctx, k.Sink, k.ID, "")
	if fault.CodeOf(err) != fault.CodeDLQNotFound || known && !kept(rec.Status) {
		return it, err
	}
	page, perr := t.Letters.Page(ctx, dlq.Query{Sink: k.Sink, DeliveryID: k.ID, Limit: 1})
	switch {
	case perr != nil:
		return it, perr
	case len(page.Items) == 0:
		return it, err
	}
	return page.Items[0], nil
}

// kept reports whether a record with this status says that there is a dead letter.
func kept(s Status) bool { return s == StatusDeadLettered || s == StatusExpired }

// way is a Way and what it is told by.
type way struct {
	Way
	rec    Record
	known  bool // rec is
	it     dlq.Item
	stored bool // it is
	now    time.Time
	steps  []placed
}

// placed is a step and its place in time: its own, or later where another clock noted what it
// followed.
type placed struct {
	Step
	place time.Time
}

// lost is the error for a delivery of which nothing true is known.
func (w *way) lost() error {
	if !w.known {
		return &fault.Error{Code: fault.CodeDLQNotFound, Msg: "nothing is known of this delivery: it was never accepted, or finished too long ago"}
	}
	return &fault.Error{Code: fault.CodeDLQNotFound, Msg: fmt.Sprintf(
		"it was dead-lettered at %s as %s, which is not there any more (trimmed, lost, or removed by others); a resend starts it anew",
		first(w.rec.DeadLetteredAt, w.rec.UpdatedAt).Format(time.RFC3339), w.rec.ItemID)}
}

// settle finds out the status, from a record and a dead letter that may each be missing, or not
// agree. It reports false when nothing true is known.
func (w *way) settle() bool {
	if w.stored && w.known && !kept(w.rec.Status) && !w.rec.about(w.it) {
		w.it, w.stored = dlq.Item{}, false // of another message, under the same id
	}
	waits := w.stored && w.it.DeliveredAt.IsZero()
	switch {
	case !w.known || kept(w.rec.Status):
		if !w.stored {
			return false
		}
		w.byLetter()
	case waits && (w.rec.Status == StatusDiscarded || w.rec.Status == StatusInProgress && w.left()):
		w.byLetter() // it was stored anew since, or by an owner who died before he noted it
	default:
		w.Status, w.UpdatedAt, w.ItemID = w.rec.Status, w.rec.UpdatedAt, w.rec.ItemID
		if w.stored {
			w.ItemID = w.it.ID
		}
	}
	w.Spilled = w.stored && w.it.Spilled && kept(w.Status)
	return true
}

// byLetter takes the status from the dead letter.
func (w *way) byLetter() {
	w.ItemID = w.it.ID
	switch {
	case !w.it.DeliveredAt.IsZero():
		w.Status, w.UpdatedAt = StatusDelivered, w.it.DeliveredAt
	case w.it.Expired(w.now):
		w.Status, w.UpdatedAt = StatusExpired, w.expired()
	default:
		w.Status, w.UpdatedAt = StatusDeadLettered, w.it.At
	}
}

// about reports whether a dead letter has the record's content, as far as that can be told.
func (r Record) about(it dlq.Item) bool {
	f := FingerprintOf(it)
	return r.IsOf(f) || len(r.Fingerprint) != len(f) && len(r.Fingerprint) != shortFingerprint
}

// left reports whether nobody has the delivery any more.
func (w *way) left() bool { return !w.rec.LeasedUntil.IsZero() && !w.now.Before(w.rec.LeasedUntil) }

// expired is when the time was over of a delivery that expired.
func (w *way) expired() time.Time {
	if end := first(w.it.ExpiresAt, w.rec.ExpiresAt); !end.IsZero() && !end.After(w.now) {
		return end
	}
	return first(first(w.it.ExpiredAt, w.it.At), w.rec.UpdatedAt)
}

// tell fills in the rest.
func (w *way) tell() {
	w.AcceptedAt, w.NotBefore = w.rec.AcceptedAt, w.rec.NotBefore
	w.ExpiresAt = first(w.rec.ExpiresAt, w.it.ExpiresAt)
	total := w.rec
	if w.stored {
		total = seen("", w.rec, []dlq.Item{w.it})
	}
	w.Attempts, w.MayHaveArrived = total.Attempts, total.Unanswered > 0 && w.Status != StatusDelivered
	if len(w.rec.Pending) > 0 {
		w.Event = EventPending
	}
	w.tellRecord()
	if w.stored {
		w.tellLetter()
	}
	if w.Status == StatusExpired || w.rec.Former == StatusExpired {
		w.step(w.expired(), StepExpired, "")
	}
	w.tellEnd()
	slices.SortStableFunc(w.steps, func(a, b placed) int { return a.place.Compare(b.place) })
	w.Timeline = make([]Step, len(w.steps))
	for i, s := range w.steps {
		w.Timeline[i] = s.Step
	}
	w.Next = w.next()
}

// step adds what happened. Without a time it is left out.
func (w *way) step(at time.Time, what StepEvent, detail string) {
	w.stepAfter(time.Time{}, at, what, detail)
}

// stepAfter adds what happened after something else did.
func (w *way) stepAfter(before, at time.Time, what StepEvent, detail string) {
	if at.IsZero() {
		return
	}
	if r := []rune(detail); len(r) > mostDetail {
		detail = string(r[:mostDetail-1]) + "…"
	}
	w.steps = append(w.steps, placed{Step{At: at.UTC(), Event: what, Detail: detail}, later(before, at)})
}

// tellRecord tells what the record knows of the way to a dead letter.
func (w *way) tellRecord() {
	r := w.rec
	if r.Status == StatusAccepting {
		detail := ""
		if w.left() {
			detail = "nobody was told that it was accepted"
		}
		w.step(r.UpdatedAt, StepAccepting, detail)
	} else {
		w.step(r.AcceptedAt, StepAccepted, "")
		if !r.NotBefore.IsZero() {
			w.step(r.AcceptedAt, StepWaiting, "until "+r.NotBefore.UTC().Format(time.RFC3339))
		}
	}
	w.step(first(r.BeganAt, w.it.FirstFailedAt), StepBegan, "")
	if r.Status == StatusInProgress && r.UpdatedAt.After(r.BeganAt) {
		w.step(r.UpdatedAt, StepBegan, "again: an earlier sender ended without a word")
	}
	if !w.stored {
		w.step(r.DeadLetteredAt, StepDeadLettered, "")
	}
}

// tellLetter tells what the dead letter knows.
func (w *way) tellLetter() {
	it := w.it
	detail := fmt.Sprintf("%s after %s", cmp.Or(it.Reason, "failed"), count(it.Attempts, "attempt"))
	if it.LastError != "" {
		detail += ": " + it.LastError
	}
	// A dead letter's time has milliseconds: it may seem to be from before somebody began.
	var began time.Time
	if b := w.rec.BeganAt; b.Truncate(time.Millisecond).Equal(it.At) {
		began = b
	}
	w.stepAfter(began, it.At, StepDeadLettered, detail)
	if it.Spilled {
		w.stepAfter(it.At, it.At, StepSpilled, "the queue did not take it: it waits in the journal for room there")
	}
	last := it.At
	for _, r := range it.History {
		last = r.At
		switch {
		case r.Error == "":
			w.stepAfter(it.At, r.At, StepDelivered, "by a replay")
		case r.Error == dlq.DiedUnder:
			w.stepAfter(it.At, r.At, StepDied, r.Error)
		case strings.HasPrefix(r.Error, importedMark):
			w.stepAfter(it.At, r.At, StepImported, r.Error)
		default:
			w.stepAfter(it.At, r.At, StepFailed, r.Error)
		}
	}
	switch {
	case !it.DeliveredAt.IsZero():
	case it.SupersededBy != "":
		w.stepAfter(it.At, last, StepHeld, "superseded by "+it.SupersededBy)
	case it.Parked:
		w.stepAfter(it.At, last, StepParked, "replayed too often: an operator decides")
	case it.Held:
		w.stepAfter(it.At, last, StepHeld, "the schedule must not repeat it: an operator decides")
	}
}

// importedMark begins what the history says of an import (package replay writes it).
const importedMark = "imported; "

// tellEnd tells how it ended, if it did.
func (w *way) tellEnd() {
	var last time.Time
	for _, s := range w.steps {
		last = later(last, s.place)
	}
	detail := ""
	switch w.Status {
	case StatusDelivered:
		if slices.ContainsFunc(w.steps, func(s placed) bool { return s.Event == StepDelivered }) {
			return
		}
		switch {
		case w.stored || !w.rec.DeadLetteredAt.IsZero():
			detail = "by a replay"
		case w.Attempts > 0:
			detail = "after " + count(w.Attempts, "attempt")
		}
		w.stepAfter(last, w.UpdatedAt, StepDelivered, detail)
	case StatusDiscarded:
		w.stepAfter(last, w.UpdatedAt, StepDiscarded, "")
	case StatusCanceled:
		detail = "nothing was known of it"
		if w.rec.Former != "" {
			detail = "it was " + string(w.rec.Former)
		}
		w.stepAfter(last, w.UpdatedAt, StepCanceled, detail)
	}
}

// next says what comes.
func (w *way) next() *Next {
	waits := w.stored && w.it.DeliveredAt.IsZero()
	var n Next
	switch {
	case w.Status == StatusCanceled:
		return nil
	case w.Status == StatusAccepted:
		n = Next{Event: NextAttempt}
		if w.NotBefore.After(w.now) {
			n.At = w.NotBefore
		}
	case !waits:
		return nil
	default:
		n = Next{Event: NextOperator, State: w.it.State(w.now)}
		switch n.State {
		case dlq.StateScheduled:
			n.Event, n.At = NextReplay, w.it.NextReplayAt
		case dlq.StateDue, dlq.StateReplaying:
			n.Event = NextReplay
		}
		if w.it.Spilled {
			return &Next{Event: NextReturn, State: n.State}
		}
	}
	if end := w.ExpiresAt; n.Event != NextOperator && !end.IsZero() && (!end.After(w.now) || !n.At.IsZero() && !end.After(n.At)) {
		n.Event, n.At = NextExpiry, end
	}
	return &n
}

// later is the later one of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
