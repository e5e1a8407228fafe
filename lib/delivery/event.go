package delivery

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"backstop/lib/delivery/fate"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Fate is what became of a delivery, as an event tells it.
type Fate = fate.Fate

// The fates.
const (
	FateDelivered         = fate.Delivered         // the sink accepted it
	FateDeadLettered      = fate.DeadLettered      // it failed, and the dead-letter queue has it
	FateDeliveredByReplay = fate.DeliveredByReplay // a replay of its dead letter delivered it
	FateParked            = fate.Parked            // its dead letter was replayed too often for the schedule to go on
	FateExpired           = fate.Expired           // its time was over before it was delivered
	FateCanceled          = fate.Canceled          // a caller took it back
	FateDiscarded         = fate.Discarded         // an operator gave its dead letter up
	FateNewCause          = fate.NewCause          // it failed as nothing did before: see Eventer.TellCause
)

// Events says which fates of a sink's deliveries are told, and through which sink. The zero value
// tells none.
type Events = fate.Events

// Notice is one fate of one delivery.
type Notice struct {
	Key
	Fate Fate
	At   time.Time // when it happened
	// ItemID is the dead letter. Empty: there is none, or it has no id yet.
	ItemID string
	// Reason and Error say why it failed. Empty: it did not, or that is not known.
	Reason dlq.Reason
	Error  string
	// Attempts is the number of attempts that are known, replays included.
	Attempts int
	// RecipientGone says that the receiver answered that the recipient is there no more.
	RecipientGone bool
	Group         string
	// Time tells one time from another of a fate that a dead letter may meet more than once.
	Time int

	fingerprint string // of its content; empty: not known
}

// NoticeOf tells of a dead letter.
func NoticeOf(it dlq.Item, f Fate, at time.Time) Notice {
	return Notice{
		Key: KeyOf(it), Fate: f, At: at, ItemID: it.ID, Reason: it.Reason, Error: it.LastError,
		Attempts: it.Attempts + len(it.History), Group: it.Group, fingerprint: FingerprintOf(it),
	}
}

// PendingEvent is an event that is not known to be safe yet.
type PendingEvent struct {
	// ID is that of the event, and of its delivery.
	ID   string `json:"id"`
	Fate Fate   `json:"fate"`
	To   string `json:"to"`   // the sink that it is delivered through
	Body string `json:"body"` // the CloudEvent
}

// eventMark begins the id of every event's delivery. What has such an id has no events of its
// own, whatever sink it goes through: so no event makes others.
const eventMark = "event:"

// isEvent reports whether a delivery with this id is an event's.
func isEvent(id string) bool { return strings.HasPrefix(id, eventMark) }

// id is that of the event. It is the same however often the fate is told.
func (n Notice) id() string {
	return hashID(n.Sink, n.ID, string(n.Fate), n.ItemID, strconv.Itoa(n.Time))
}

// hashID is the id of an event that these tell from every other.
func hashID(parts ...string) string {
	h := sha256.New()
	for _, part := range parts {
		h.Write(fmt.Appendf(nil, "%d:%s", len(part), part))
	}
	return eventMark + hex.EncodeToString(h.Sum(nil)[:16])
}

// cloudEvent is an event in the JSON format of CloudEvents 1.0.
type cloudEvent struct {
	SpecVersion     string `json:"specversion"`
	ID              string `json:"id"`
	Source          string `json:"source"`
	Type            string `json:"type"`
	Subject         string `json:"subject"`
	Time            string `json:"time"`
	DataContentType string `json:"datacontenttype"`
	Data            any    `json:"data"` // eventData or causeData
}

// eventData says what became of the delivery: nothing of its recipient or its content.
type eventData struct {
	Sink          string     `json:"sink"`
	DeliveryID    string     `json:"delivery_id"`
	Fate          Fate       `json:"fate"`
	ItemID        string     `json:"item_id,omitempty"`
	Reason        dlq.Reason `json:"reason,omitempty"`
	Attempts      int        `json:"attempts"`
	Error         string     `json:"error,omitempty"`
	RecipientGone bool       `json:"recipient_gone,omitempty"`
	Group         string     `json:"group,omitempty"`
}

// causeData says how dead letters of a sink fail.
type causeData struct {
	Sink   string     `json:"sink"`
	Fate   Fate       `json:"fate"`
	ItemID string     `json:"item_id,omitempty"` // one that failed so
	Reason dlq.Reason `json:"reason"`
	Cause  causeName  `json:"cause"`
	Count  int64      `json:"count"`
}

type causeName struct {
	ID          string    `json:"id"`
	Fingerprint string    `json:"fingerprint"`
	FirstSeen   time.Time `json:"first_seen"`
}

// EventStatus is what became of an event.
type EventStatus string

// What becomes of events.
const (
	EventSent         EventStatus = "sent"          // the sink accepted it
	EventDeadLettered EventStatus = "dead_lettered" // it failed, and the dead-letter queue has it
	EventPending      EventStatus = "pending"       // neither: the delivery's record has it, and the schedule sends it
)

// EventObserver counts events. It is called from many goroutines at once.
type EventObserver interface {
	// Event is called for each event that was sent or dead-lettered, once, and each time that it
	// stayed pending. The sink is that of the delivery that it tells of.
	Event(sink string, f Fate, s EventStatus)
}

// Eventer makes events of fates, and delivers them. There is one of each Sender, which it also
// belongs to (Sender.Events); a Canceler and a replay.Engine share it. Its fields are set before
// its first use and never changed; then it is safe for concurrent use. A nil Eventer tells nothing.
//
// An event is a delivery of its own: through its sink, in one attempt that ends with the time that
// is left for it, with a record, and as a dead letter where that fails. Where the queue does not
// take it either, the record of the delivery that it tells of keeps it (Record.Pending), and Settle
// sends it later.
type Eventer struct {
	// Sender delivers the events, finds the sinks and has the records. Required.
	Sender *Sender
	// Service names this installation in the source of events. Empty: "backstop".
	Service string
	// Observer counts events. Nil: nobody does.
	Observer EventObserver
}

// of returns the event that tells n, if t's sink has it told.
func (e *Eventer) of(t Events, n Notice) []PendingEvent {
	if e == nil || !t.Tells(n.Fate) || isEvent(n.ID) || n.ID == "" {
		return nil
	}
	return []PendingEvent{e.event(t.To, n)}
}

// event makes the event.
func (e *Eventer) event(to string, n Notice) PendingEvent {
	text := n.Error
	if r := []rune(text); len(r) > mostDetail {
		text = string(r[:mostDetail-1]) + "…"
	}
	return e.eventOf(to, n.id(), n.Sink, n.Fate, n.ID, n.At, eventData{
		Sink: n.Sink, DeliveryID: n.ID, Fate: n.Fate, ItemID: n.ItemID, Reason: n.Reason, Attempts: n.Attempts, Error: text,
		RecipientGone: n.RecipientGone, Group: n.Group,
	})
}

// eventOf makes the event of a fate, with what it says of it.
func (e *Eventer) eventOf(to, id, sink string, f Fate, subject string, at time.Time, data any) PendingEvent {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(cloudEvent{
		SpecVersion: "1.0", ID: id, Source: "/backstop/" + url.PathEscape(cmp.Or(e.Service, "backstop")) + "/sinks/" + url.PathEscape(sink),
		Type: "backstop.delivery." + string(f) + ".v1", Subject: subject, Time: at.UTC().Format(time.RFC3339Nano), DataContentType: "application/json", Data: data,
	})
	if err != nil {
		panic(err) // texts, numbers and times can be encoded
	}
	return PendingEvent{ID: id, Fate: f, To: to, Body: strings.TrimSuffix(b.String(), "\n")}
}

// TellCause tells that dead letters of a sink fail in a way that is new. It returns nil once the event
// is sent or dead-lettered, or where the sink's configuration has none. After any other error nobody is
// told: it can be repeated, and the event is the same for whoever receives it.
func (e *Eventer) TellCause(ctx context.Context, b retry.Budget, g dlq.Group) error {
	if e == nil {
		return nil
	}
	t, err := e.Sender.Targets.Target(ctx, g.Sink)
	if fault.CodeOf(err) == fault.CodeSinkNotFound {
		return nil
	}
	if err != nil || !t.Events.Tells(FateNewCause) {
		return err
	}
	ev := e.eventOf(t.Events.To, hashID(g.Sink, string(FateNewCause), g.ID(), strconv.FormatInt(g.FirstSeen.UnixMilli(), 10)), g.Sink, FateNewCause, g.ID(), g.FirstSeen, causeData{
		Sink: g.Sink, Fate: FateNewCause, ItemID: g.Sample, Reason: g.Reason, Count: g.Count,
		Cause: causeName{ID: g.ID(), Fingerprint: g.Fingerprint, FirstSeen: g.FirstSeen},
	})
	ectx, cancel, budget := b.Aside(ctx)
	defer cancel()
	return e.deliver(ectx, budget, Record{Sink: g.Sink, ID: g.ID()}, ev)
}

// wanted returns the event that tells n, if its sink's configuration has it told. A sink that is
// not configured tells nothing; any other error of Targets means that nobody knows.
func (e *Eventer) wanted(ctx context.Context, n Notice) ([]PendingEvent, error) {
	if e == nil {
		return nil, nil
	}
	t, err := e.Sender.Targets.Target(ctx, n.Sink)
	if fault.CodeOf(err) == fault.CodeSinkNotFound {
		return nil, nil
	}
	return e.of(t.Events, n), err
}

// Told says which fates of a sink's deliveries are told. Of a sink that is not configured, none
// are; any other error of Targets means that nobody knows.
func (e *Eventer) Told(ctx context.Context, sink string, f Fate) (bool, error) {
	told, err := e.wanted(ctx, Notice{Key: Key{Sink: sink, ID: "any"}, Fate: f})
	return len(told) > 0, err
}

// eventsAtOnce is how many events of one call are under way at once.
const eventsAtOnce = 16

// Tell tells fates before they are settled, in the time that b leaves, and returns an error for
// each: nil once its event is sent, dead-lettered or owed, or where the sink's configuration has
// none. Any other means that whoever is about to settle the fate must not.
func (e *Eventer) Tell(ctx context.Context, b retry.Budget, notices ...Notice) []error {
	errs := make([]error, len(notices))
	if e == nil {
		return errs
	}
	var all sync.WaitGroup
	room := make(chan struct{}, eventsAtOnce)
	for i, n := range notices {
		events, err := e.wanted(ctx, n)
		if err != nil {
			errs[i] = err
			continue
		}
		if len(events) == 0 {
			continue
		}
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			_, errs[i] = e.tell(ctx, b, n.record(events), false)
		})
	}
	all.Wait()
	return errs
}

// record is that of the delivery, where there is none: what is true before the fate is settled.
func (n Notice) record(events []PendingEvent) Record {
	r := Record{
		Sink: n.Sink, ID: n.ID, Status: StatusDeadLettered, ItemID: n.ItemID, UpdatedAt: n.At.UTC(), Fingerprint: n.fingerprint, Pending: events,
	}
	switch n.Fate {
	case FateDelivered, FateDeliveredByReplay:
		r.Status = StatusDelivered
	case FateExpired:
		r.Status = StatusExpired
	case FateCanceled, FateDeadLettered, FateParked, FateDiscarded, FateNewCause:
	}
	return r
}

// tell makes the pending events of r safe: each is sent, or dead-lettered, or else owed. noted says
// that the delivery's record has them. It reports whether some are owed; an error means that some
// are not safe.
func (e *Eventer) tell(ctx context.Context, b retry.Budget, r Record, noted bool) (owed bool, err error) {
	if e == nil || len(r.Pending) == 0 {
		return false, nil
	}
	ectx, cancel, budget := b.Aside(ctx)
	defer cancel()
	var safe []string
	var left []PendingEvent
	var why error
	for _, ev := range r.Pending {
		if err := e.deliver(ectx, budget, r, ev); err != nil {
			why, left = err, append(left, ev)
			continue
		}
		safe = append(safe, ev.ID)
	}
	actx, cancelAnswer := b.AnswerContext(ctx)
	defer cancelAnswer()
	if noted && len(safe) > 0 {
		e.Sender.unguarded(actx, r.key(), e.Sender.Records.Told(actx, r.key(), safe...))
	}
	if len(left) == 0 {
		return false, nil
	}
	r.Pending = left
	if err := e.Sender.Records.Owe(actx, r); err != nil {
		return false, &fault.Error{
			Code: cmp.Or(fault.CodeOf(why), fault.CodeDLQUnavailable), Cause: fmt.Errorf("%w; %w", why, err),
			Msg: fmt.Sprintf("its event (%s) could be neither sent nor kept", left[0].Fate),
		}
	}
	for _, ev := range left {
		e.observe(r.Sink, ev, EventPending)
		e.Sender.log().WarnContext(ctx, "event pending", "delivery_id", r.ID, "sink", r.Sink, "fate", string(ev.Fate), "event_id", ev.ID, "to", ev.To, "error", why.Error())
	}
	return true, nil
}

// tellAll is tell for a caller who need not know what is owed.
func (e *Eventer) tellAll(ctx context.Context, b retry.Budget, r Record, noted bool) error {
	_, err := e.tell(ctx, b, r, noted)
	return err
}

// deliver sends an event, or dead-letters it.
func (e *Eventer) deliver(ctx context.Context, b retry.Budget, r Record, ev PendingEvent) error {
	a, err := e.Sender.Deliver(ctx, Request{
		ID: ev.ID, Sink: ev.To, Message: sinks.Message{Body: ev.Body}, Budget: b, KeepUnsendable: true, event: true,
	})
	if fault.CodeOf(err) == fault.CodeIDReused {
		return e.reused(ctx, ev, err)
	}
	switch {
	case err != nil:
		return err
	case a.Duplicate:
	case a.Status == StatusDelivered:
		e.observe(r.Sink, ev, EventSent)
	default:
		e.observe(r.Sink, ev, EventDeadLettered)
		e.Sender.log().InfoContext(ctx, "event dead-lettered", "delivery_id", r.ID, "sink", r.Sink, "fate", string(ev.Fate),
			"event_id", ev.ID, "to", ev.To, "item_id", a.ItemID, "reason", string(a.Reason), "error", a.Error)
	}
	return nil
}

// reused decides about an event whose id has a record of other content: the same fate was told
// before by somebody who died with it, or whose record was lost, and noted another time. It is
// safe once that one is; else the error stays.
func (e *Eventer) reused(ctx context.Context, ev PendingEvent, err error) error {
	found, known, gerr := e.Sender.Records.Get(ctx, Key{Sink: ev.To, ID: ev.ID})
	if gerr != nil {
		return gerr
	}
	if known && found.Status != StatusInProgress {
		return nil
	}
	return err
}

func (e *Eventer) observe(sink string, ev PendingEvent, s EventStatus) {
	if e.Observer != nil {
		e.Observer.Event(sink, ev.Fate, s)
	}
}

// sweepBatch is how many deliveries with owed events one Settle looks at.
const sweepBatch = 100

// Settle sends events that are owed: those that could be neither sent nor dead-lettered when their
// fate was answered. It takes those that wait longest first, at most 100, as far as b goes, and
// returns for how many deliveries nothing is pending any more.
func (e *Eventer) Settle(ctx context.Context, b retry.Budget) (settled int, err error) {
	if e == nil {
		return 0, nil
	}
	owed, err := e.Sender.Records.Owed(ctx, sweepBatch)
	for _, o := range owed {
		if err != nil || !b.Fits(0) || ctx.Err() != nil {
			break
		}
		var paid bool
		if paid, err = e.settle(ctx, b, o); paid {
			settled++
		}
	}
	return settled, err
}

// settle sends the events of one delivery, and reports whether none is pending any more.
func (e *Eventer) settle(ctx context.Context, b retry.Budget, o Owed) (bool, error) {
	rec, known, err := e.Sender.Records.Get(ctx, o.Key)
	if err != nil {
		return false, err
	}
	if !known {
		e.Sender.log().WarnContext(ctx, "owed event lost: the delivery's record is gone", "delivery_id", o.ID, "sink", o.Sink)
	}
	if again, err := e.tell(ctx, b, rec, true); err != nil || again {
		return false, err
	}
	err = e.Sender.Records.Paid(ctx, o)
	return err == nil, err
}

// joined returns what is pending of both, each event once: the earlier one counts.
func joined(earlier, later []PendingEvent) []PendingEvent {
	all := slices.Clip(earlier)
	for _, ev := range later {
		if !slices.ContainsFunc(all, func(other PendingEvent) bool { return other.ID == ev.ID }) {
			all = append(all, ev)
		}
	}
	return all
}
