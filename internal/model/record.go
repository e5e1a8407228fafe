package model

import (
	"slices"
	"strings"

	"backstop/lib/delivery"
)

// status is what a record says, as an index of statuses. The zero value: there is no record.
type status uint8

const (
	none status = iota
	inProgress
	accepting
	accepted
	deadLettered
	expired
	discarded
	delivered
	canceled
	forget  // only as what becomes of a record
	restore // likewise
)

var statuses = []string{
	"", "in_progress", "accepting", "accepted", "dead_lettered", "expired", "discarded", "delivered", "canceled", "forget", "restore",
}

// verdict is what the caller of a record is told, as an index of verdicts.
type verdict uint8

const (
	stayed verdict = iota
	written
	started
	takenOver
	acceptingNow
	acceptingAgain
	busy
	finished
	isCanceled
	unknown
	reused
)

var verdicts = []delivery.State{
	"stayed", "written", delivery.StateStarted, delivery.StateTakenOver, delivery.StateAccepting, delivery.StateAcceptingAgain,
	delivery.StateInProgress, delivery.StateFinished, delivery.StateCanceled, delivery.StateUnknown, delivery.StateReused,
}

// The events of records, by their words in the table.
const (
	onSend            = "send"
	onQueued          = "queued"
	onAccept          = "accept"
	onAccepted        = "accepted"
	onDelivered       = "delivered"
	onDeadLettered    = "dead_lettered"
	onExpired         = "expired"
	onForget          = "forget"
	onRequeue         = "requeue"
	onLeave           = "leave"
	toldDelivered     = "told_delivered"
	toldDeadLettered  = "told_dead_lettered"
	toldExpired       = "told_expired"
	toldDiscarded     = "told_discarded"
	onCancel          = "cancel"
	onConfirm         = "confirm"
	onUncancel        = "uncancel"
	suffixMine        = "/mine"
	suffixEnded       = "/ended"
	suffixAnother     = "/another"
	situationGone     = "gone"
	situationOther    = "other"
	situationNoRecord = "none"
)

// line is what an event makes of a record.
type line struct {
	verdict verdict
	status  status
}

// table is that of lib/delivery, the one that the stores follow: event, then situation.
var table = func() map[string]map[string]line {
	t := map[string]map[string]line{}
	for _, tr := range delivery.Transitions() {
		if t[tr.Event] == nil {
			t[tr.Event] = map[string]line{}
		}
		v, s := slices.Index(verdicts, tr.Verdict), slices.Index(statuses, string(tr.Status))
		if v < 0 || s < 0 {
			panic("the table of records says what the model does not know: " + string(tr.Verdict) + ":" + string(tr.Status))
		}
		t[tr.Event][tr.Situation] = line{verdict(v), status(s)}
	}
	return t
}()

// token says who holds something: 0 nobody, p+1 the process p, gone a process that is no more.
type token uint8

const gone token = 255

// record is a delivery's, without what it was before it was canceled. Its content is always the delivery's.
type record struct {
	Status     status
	Token      token
	Over       bool    // the lease of whoever has it has run out
	Left       bool    // its owner handed it back, and may have sent it
	Taken      verdict // how the owner got it
	Unanswered bool    // an attempt may have arrived
	Accepted   bool    // it came, or was to come, through the queue of requests
}

// Record is a delivery's record, and what it was before it was canceled.
type Record struct {
	record
	Former record
}

func (r Record) open() bool { return r.Status == inProgress || r.Status == accepting }

// move is what happens to a record.
type move struct {
	event      string
	by         token
	untrue     bool // the dead letter that it speaks of is known to be gone
	other      bool // it is of other content than the record
	unanswered bool // what the new record says
	lease      bool // the event grants a lease; onLeave one that is over
}

// move does what lib/delivery/move.lua does, as far as the model goes: it knows no times but whether a lease has run out, and
// contents only where a run is followed (follow.go).
func (r *Record) move(m move, o Rules) (verdict, Record) {
	found := *r
	situation, suffix := situationNoRecord, ""
	if r.Status != none {
		situation = statuses[r.Status]
		switch {
		case m.by != 0 && r.Token == m.by, m.by != 0 && o.without(OwnerAlone) && m.event != onSend && m.event != onQueued && m.event != onAccept:
			suffix = suffixMine
		case r.open() && r.Over:
			suffix = suffixEnded
		}
		switch {
		case m.other && r.Status == canceled:
			suffix = suffixAnother
		case m.other:
			situation, suffix = situationOther, ""
		case m.untrue && (r.Status == deadLettered || r.Status == expired):
			situation, suffix = situationGone, ""
		}
	}
	row := table[m.event]
	ln, ok := row[situation+suffix]
	if !ok {
		ln = row[situation]
	}
	ln = o.line(m.event, situation+suffix, ln)
	switch {
	case ln.status == none:
		return ln.verdict, found
	case ln.status == forget, ln.status == restore && found.Former.Status == none:
		*r = Record{}
		return ln.verdict, found
	case ln.status == restore:
		*r = Record{record: found.Former}
		return ln.verdict, found
	}
	n := record{Status: ln.status, Token: m.by, Unanswered: m.unanswered, Left: m.event == onLeave, Accepted: m.event == onAccept || m.event == onQueued}
	if n.Token == 0 {
		n.Token = found.Token
	}
	if situation == situationGone && !o.without(GoneMayHaveArrived) {
		n.Unanswered = found.Unanswered
	}
	if found.Status != none && situation != situationGone {
		n.Unanswered, n.Accepted = n.Unanswered || found.Unanswered, n.Accepted || found.Accepted
		if found.Status == inProgress && suffix == suffixEnded && !found.Left && !o.without(DeathMayHaveArrived) {
			n.Unanswered = true // its owner may have sent it, and died
		}
	}
	if n.Status == inProgress || n.Status == accepting {
		n.Over = found.Over
		if m.lease {
			n.Over = m.event == onLeave
		}
	}
	v := ln.verdict
	if v != written && (n.Status == inProgress || n.Status == accepting) {
		if suffix == suffixMine && found.Status == n.Status && found.Taken != stayed {
			v = found.Taken
		}
		n.Taken = v
	}
	former := record{}
	switch {
	case n.Status != canceled || found.Status == none:
	case found.Status == canceled:
		former = found.Former
	default:
		former = found.record
	}
	*r = Record{n, former}
	return v, found
}

// line takes rules of the table away.
func (o Rules) line(event, situation string, ln line) line {
	if o.without(CancelSparesSenders) && event == onCancel && strings.HasPrefix(situation, statuses[inProgress]) {
		return line{isCanceled, canceled}
	}
	if o.without(CanceledStays) && situation == statuses[canceled] && (event == onSend || event == onQueued) {
		return line{started, inProgress}
	}
	if o.without(OneOwner) && event == onSend && situation == statuses[inProgress] {
		return line{takenOver, inProgress}
	}
	return ln
}
