package delivery_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/fault"
)

// cancel is one cancellation.
type cancel struct {
	by   string
	told bool
	got  delivery.Cancellation
	err  error
}

// forward says what a record may become by each call, whoever makes it. It is written from the
// design, not from the table.
var forward = map[delivery.Status][]delivery.Status{
	"":                          {delivery.StatusAccepting, delivery.StatusInProgress, delivery.StatusDeadLettered, delivery.StatusExpired, delivery.StatusDiscarded, delivery.StatusDelivered, delivery.StatusCanceled},
	delivery.StatusAccepting:    {delivery.StatusAccepted, delivery.StatusInProgress, delivery.StatusDelivered, delivery.StatusCanceled},
	delivery.StatusAccepted:     {delivery.StatusInProgress, delivery.StatusDelivered, delivery.StatusCanceled},
	delivery.StatusInProgress:   {delivery.StatusDeadLettered, delivery.StatusExpired, delivery.StatusDiscarded, delivery.StatusDelivered, delivery.StatusCanceled},
	delivery.StatusDeadLettered: {delivery.StatusExpired, delivery.StatusDiscarded, delivery.StatusDelivered, delivery.StatusCanceled},
	delivery.StatusExpired:      {delivery.StatusDiscarded, delivery.StatusDelivered, delivery.StatusCanceled},
	delivery.StatusDiscarded:    {delivery.StatusDelivered, delivery.StatusCanceled},
	delivery.StatusCanceled:     {delivery.StatusDelivered},
}

// backward says which calls alone may take a record back, and to what.
var backward = map[string][]delivery.Status{
	"Begin untrue":     {delivery.StatusInProgress, delivery.StatusAccepting},
	"HandBack forget":  {""},
	"HandBack requeue": {delivery.StatusAccepted},
}

// watch holds the record's new status against rule (f).
func (w *world) watch(call string) {
	rec, _, err := w.records.Get(context.Background(), key)
	if err != nil {
		w.breaks("f", "the record cannot be read: %v", err)
	}
	old := delivery.Status("")
	if n := len(w.statuses); n > 0 {
		old = w.statuses[n-1]
	}
	if rec.Status == old {
		return
	}
	w.statuses = append(w.statuses, rec.Status)
	switch {
	case slices.Contains(forward[old], rec.Status), slices.Contains(backward[call], rec.Status) && old != delivery.StatusDelivered && old != delivery.StatusCanceled:
	case call == "Uncancel" && old == delivery.StatusCanceled && len(w.statuses) > 1 && rec.Status == w.former():
	default:
		w.breaks("f", "%s made %q of a record that was %q", call, rec.Status, old)
	}
}

// former is the status before the last that was canceled.
func (w *world) former() delivery.Status {
	for i := len(w.statuses) - 2; i > 0; i-- {
		if w.statuses[i] == delivery.StatusCanceled {
			return w.statuses[i-1]
		}
	}
	return ""
}

// canceledTold is how many cancellations were told that they did it.
func (w *world) canceledTold() (n int) {
	for _, c := range w.asked {
		if c.told && c.err == nil {
			n++
		}
	}
	return n
}

// begins notes a Send call, and holds it against rules (a), (e) and (g).
func (w *world) begins(a *actor) *sent {
	if w.canceledTold() > 0 && !w.unguarded {
		w.breaks("a", "%s sends what was canceled, and its caller told so", a.name)
	}
	if !w.expires.IsZero() && !time.Now().Before(w.expires) {
		w.breaks("e", "%s begins to send %v after expires_at", a.name, time.Since(w.expires))
	}
	for _, s := range w.begun {
		switch {
		case s.mode == "" && !w.late && !w.unguarded && !w.blind && !w.actor(s.by).dead:
			w.breaks("g", "%s and %s send at once", s.by, a.name)
		case s.mode == onward && w.faults == 0:
			w.breaks("g", "%s sends what %s delivered", a.name, s.by)
		}
	}
	s := &sent{by: a.name}
	w.begun = append(w.begun, s)
	return s
}

// delivered reports whether a receiver said that it has it.
func (w *world) delivered() bool {
	return slices.ContainsFunc(w.begun, func(s *sent) bool { return s.mode == onward })
}

// has reports whether the receiver has it.
func (w *world) has() bool {
	return slices.ContainsFunc(w.begun, func(s *sent) bool { return s.mode == onward || s.mode == dying })
}

// canceled holds what a canceler was told against rules (b) and (c).
func (w *world) canceled(c *cancel) {
	switch code := fault.CodeOf(c.err); {
	case code == fault.CodeAlreadyDelivered && !w.delivered():
		w.breaks("b", "already delivered, says the record, and no receiver does")
	case c.err != nil:
	case c.got.Status != delivery.StatusCanceled:
		w.breaks("c", "a cancellation is told %+v", c.got)
	case !c.got.MayHaveArrived && !w.unguarded && slices.ContainsFunc(w.begun, (*sent).arrived):
		w.breaks("c", "it may have arrived, and the canceler was not told: %+v", c.got)
	}
}

// tell notes what a caller was told.
func (w *world) tell(a *actor, answer delivery.Answer, err error) {
	w.told = append(w.told, told{a.name, answer, err})
	if err != nil {
		return
	}
	switch answer.Status {
	case delivery.StatusDelivered:
		if !w.has() {
			w.breaks("d", "%s was told that it is delivered, and it is not", a.name)
		}
	case delivery.StatusCanceled:
		if len(w.asked) == 0 {
			w.breaks("d", "%s was told that it is canceled, and nobody asked for it", a.name)
		}
	case delivery.StatusAccepted, delivery.StatusDeadLettered, delivery.StatusDiscarded, delivery.StatusExpired, delivery.StatusAccepting, delivery.StatusInProgress:
	}
}

// look holds the world against the rules that hold at every time.
func (w *world) look() {
	if w.delivered() {
		return
	}
	if n := len(w.statuses); n > 0 && w.statuses[n-1] == delivery.StatusDelivered {
		w.breaks("b", "the record says delivered, and no receiver does")
	}
}

// drain lets everything come to its end, without any more faults: all leases are over, the
// queue hands its messages out until they are safe, and dead letters are replayed.
func (w *world) drain() {
	a := &actor{name: "later", w: w, free: true, started: true}
	if noted, err := w.letters.Canceled(context.Background(), key.Sink, key.ID); err != nil || w.noted && w.canceledTold() > 0 && !w.delivered() && !noted {
		w.breaks("a", "it is canceled, and no note says so once the record is gone (%v)", err)
	}
	w.actors = append(w.actors, a)
	for range 3 {
		pass(time.Hour)
		for _, m := range slices.Clone(w.queue) {
			w.late = true
			a.receiveAgain(m)
		}
	}
	if len(w.queue) > 0 {
		w.breaks("d", "the queue never gets rid of its message")
	}
	left, err := w.letters.Items(context.Background(), "ops", 0)
	if err != nil {
		w.breaks("d", "dead letters cannot be listed: %v", err)
	}
	w.conserved(len(left) > 0)
	for _, it := range left {
		if it.Expired(time.Now()) {
			continue // it is for an operator who insists
		}
		_, err := a.engine().ReplayOne(context.Background(), it.ID, replayOptions)
		w.replayed = append(w.replayed, err)
	}
	w.look()
	w.askAgain(a)
}

// receiveAgain is one more receive of a message.
func (a *actor) receiveAgain(m *delivery.Queued) {
	a.within(func(ctx context.Context) {
		if _, err := a.sender().Deliver(ctx, m.Request); err == nil {
			a.w.queue = slices.DeleteFunc(a.w.queue, func(other *delivery.Queued) bool { return other == m })
		}
	})
}

// conserved is rule (d).
func (w *world) conserved(letters bool) {
	if letters || w.has() || slices.ContainsFunc(w.asked, (*cancel).mayHaveDone) {
		return
	}
	for _, t := range w.told {
		if t.err == nil && t.answer.Status != delivery.StatusCanceled {
			w.breaks("d", "%s was told %q, and it is lost", t.by, t.answer.Status)
			return
		}
	}
}

// mayHaveDone reports whether its caller was told that it is canceled, or does not know.
func (c *cancel) mayHaveDone() bool {
	return !c.told || c.err == nil || fault.CodeOf(c.err) == fault.CodeDLQUnavailable
}

// askAgain cancels once more: who was told that it is canceled is told so again, unless a late
// process delivered it.
func (w *world) askAgain(a *actor) {
	for _, before := range slices.Clone(w.asked) {
		if !before.told || before.err != nil {
			continue
		}
		cancels(a)
		now := w.asked[len(w.asked)-1]
		switch code := fault.CodeOf(now.err); {
		case code == fault.CodeAlreadyDelivered && w.delivered():
		case now.err != nil:
			w.breaks("c", "canceled before, and now %v", now.err)
		case before.got.MayHaveArrived && !now.got.MayHaveArrived:
			w.breaks("c", "it may have arrived before, and not now: %+v", now.got)
		}
		return
	}
}

// tally counts what was told in a run.
func (w *world) tally(seen map[string]int) {
	for _, t := range w.told {
		if t.err != nil {
			seen["answer "+string(fault.CodeOf(t.err))]++
		} else {
			seen[fmt.Sprint("answer ", t.answer.Status)]++
		}
	}
	for _, c := range w.asked {
		switch {
		case !c.told:
			seen["cancel unanswered"]++
		case c.err != nil:
			seen["cancel "+string(fault.CodeOf(c.err))]++
		case c.got.MayHaveArrived:
			seen["canceled, may have arrived"]++
		default:
			seen["canceled"]++
		}
	}
	for _, err := range w.replayed {
		if err != nil {
			seen["replay "+string(fault.CodeOf(err))]++
		} else {
			seen["replay"]++
		}
	}
}
