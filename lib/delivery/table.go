package delivery

import (
	"maps"
	"slices"
	"strings"
)

// event is what happens to a delivery, as its record sees it.
type event string

const (
	// Somebody wants to have the delivery.
	onSend   event = "send"   // to make it now
	onQueued event = "queued" // likewise, with the message that Sender.Requests took
	onAccept event = "accept" // to put it into Sender.Requests
	// Its owner is done with it.
	onAccepted     event = "accepted"      // Sender.Requests has it
	onDelivered    event = "delivered"     // a receiver has it
	onDeadLettered event = "dead_lettered" // the dead-letter queue has it
	onExpired      event = "expired"       // likewise, and its time is over
	onForget       event = "forget"        // it was handed back, as if it had never been
	onRequeue      event = "requeue"       // it was handed back to the queue that it came from
	onLeave        event = "leave"         // it was handed back, and may have arrived, or be stored or queued all the same
	// Others tell what became of its dead letter.
	toldDelivered    event = "told_delivered"
	toldDeadLettered event = "told_dead_lettered"
	toldExpired      event = "told_expired"
	toldDiscarded    event = "told_discarded"
	// A caller takes it back.
	onCancel   event = "cancel"
	onConfirm  event = "confirm"  // and nothing of it waits any more
	onUncancel event = "uncancel" // and that could not be
)

// situation is a record as an event finds it: its status, or what else decides. A status may
// have lines of its own for who has it; where it has none, its own line counts.
type situation string

const (
	none  situation = "none"  // there is no record
	other situation = "other" // it is of other content
	older situation = "older" // it is finished, and an older version's fingerprint tells nothing of its content
	gone  situation = "gone"  // it is of a dead letter that is known to be gone

	mine    = "/mine"    // the event's own token has it
	ended   = "/ended"   // the lease of whoever had it is over
	another = "/another" // canceled, and of other content
)

func of(s Status, suffix string) situation { return situation(s) + situation(suffix) }

// step is what an event makes of a record: its next status, and the verdict that the caller
// is told. Without a status the record stays as it is.
type step struct {
	verdict State
	status  Status
}

const (
	stayed  State  = "stayed"  // a verdict: the record stays
	written State  = "written" // a verdict: the record says what the event says
	forget  Status = "forget"  // no record is left
	restore Status = "restore" // the record is what it was before it was canceled
)

type row map[situation]step

// rowOf joins rows; the last line for a situation counts.
func rowOf(parts ...row) row {
	all := row{}
	for _, p := range parts {
		maps.Copy(all, p)
	}
	return all
}

// same has one step for many situations.
func same(st step, in ...situation) row {
	all := row{}
	for _, s := range in {
		all[s] = st
	}
	return all
}

const (
	isInProgress   = situation(StatusInProgress)
	isAccepting    = situation(StatusAccepting)
	isAccepted     = situation(StatusAccepted)
	isDeadLettered = situation(StatusDeadLettered)
	isExpired      = situation(StatusExpired)
	isDiscarded    = situation(StatusDiscarded)
	isDelivered    = situation(StatusDelivered)
	isCanceled     = situation(StatusCanceled)
)

// situations lists those without a suffix.
var situations = []situation{
	none, other, older, gone, isInProgress, isAccepting, isAccepted, isDeadLettered, isExpired, isDiscarded, isDelivered, isCanceled,
}

var (
	started   = step{StateStarted, StatusInProgress}
	takenOver = step{StateTakenOver, StatusInProgress}
	accepting = step{StateAccepting, StatusAccepting}
	busy      = step{verdict: StateInProgress}
	canceled  = step{StateCanceled, StatusCanceled}
)

// asked is for whoever wants to have a delivery: a record that says nothing true begins anew,
// and a finished one answers. The sender that died holding it may have sent it.
func asked(anew step) row {
	return rowOf(
		same(anew, none, older, gone),
		same(step{verdict: StateFinished}, isAccepted, isDeadLettered, isExpired, isDiscarded, isDelivered),
		row{other: {verdict: StateReused}, isCanceled: {verdict: StateCanceled}},
		same(busy, isInProgress, isAccepting),
		row{of(StatusInProgress, mine): started, of(StatusInProgress, ended): takenOver},
	)
}

// only leaves every record but those of r as it is.
func only(r row) row { return rowOf(same(step{verdict: stayed}, situations...), r) }

// sure is for what a receiver said: it is true whoever has the record of this content, and
// the one thing that undoes a cancellation.
var sure = rowOf(same(step{written, StatusDelivered}, situations...), same(step{verdict: stayed}, other, older, of(StatusCanceled, another)))

// stored is for the owner of what the dead-letter queue has by now.
func stored(s Status) row {
	return only(same(step{written, s}, none, of(StatusInProgress, mine), of(StatusDeadLettered, mine), of(s, mine)))
}

// told is for what others know of a dead letter: it counts where nobody is at work.
func told(s Status) row {
	return only(same(step{written, s}, none, of(StatusInProgress, ended), isDeadLettered, isExpired, isDiscarded))
}

// transitions is the one table of what becomes of records: each event's step in each
// situation. Memory follows it, and so does Redis, which is given the event's row (move.lua).
var transitions = map[event]row{
	onSend: rowOf(asked(started), row{
		// Its owner sends it at once after all; of one that died nobody knows.
		of(StatusAccepting, mine): started, of(StatusAccepting, ended): takenOver,
	}),
	// The message came back from the queue, so that had taken it, whatever the record knows of it. One
	// that says "accepting" may be that of another call, and the first one's, which is gone, may have
	// said "canceled".
	onQueued: rowOf(asked(started), row{isAccepted: started}, same(step{StateUnknown, StatusInProgress}, none, isAccepting)),
	onAccept: rowOf(asked(accepting), row{
		of(StatusAccepting, mine): accepting, of(StatusAccepting, ended): {StateAcceptingAgain, StatusAccepting},
	}),

	onAccepted:     only(same(step{written, StatusAccepted}, of(StatusAccepting, mine), of(StatusAccepted, mine))),
	onDelivered:    sure,
	onDeadLettered: stored(StatusDeadLettered),
	onExpired:      stored(StatusExpired),
	onForget:       only(same(step{written, forget}, of(StatusInProgress, mine), of(StatusAccepting, mine))),
	onRequeue:      only(row{of(StatusInProgress, mine): {written, StatusAccepted}}),
	onLeave: only(row{
		none: {written, StatusInProgress}, of(StatusInProgress, mine): {written, StatusInProgress}, of(StatusAccepting, mine): {written, StatusAccepting},
	}),

	toldDelivered:    sure,
	toldDeadLettered: told(StatusDeadLettered), // also what was discarded, or expired: by an import
	toldExpired:      rowOf(told(StatusExpired), row{isDiscarded: {verdict: stayed}}),
	toldDiscarded:    told(StatusDiscarded),

	onCancel: rowOf(
		same(canceled, none, isAccepted, isDeadLettered, isExpired, isDiscarded, of(StatusInProgress, ended), of(StatusAccepting, ended)),
		same(busy, isInProgress, isAccepting),
		same(step{verdict: StateFinished}, isDelivered, isCanceled),
		row{of(StatusCanceled, mine): canceled},
	),
	// With what its dead letters tell. From here on nobody else's Uncancel undoes it.
	onConfirm: rowOf(
		same(canceled, none, isAccepted, isDeadLettered, isExpired, isDiscarded, isCanceled, of(StatusInProgress, ended), of(StatusAccepting, ended)),
		same(busy, isInProgress, isAccepting),
		row{isDelivered: {verdict: StateFinished}},
	),
	onUncancel: only(row{of(StatusCanceled, mine): {written, restore}}),
}

// step returns what e makes of a record. The line with the suffix counts before the status's own.
func (e event) step(s situation, suffix string) step {
	r := transitions[e]
	if st, ok := r[s+situation(suffix)]; ok {
		return st
	}
	return r[s]
}

// rows is the table as move.lua reads it: the event's row, which has a line of <situation>=<verdict>:<status>
// for each situation.
func rows() string {
	var b strings.Builder
	b.WriteString("local row\n")
	word := "if"
	often := []event{onSend, onDelivered} // of a million deliveries, nearly all have these two alone
	rest := slices.DeleteFunc(slices.Sorted(maps.Keys(transitions)), func(e event) bool { return slices.Contains(often, e) })
	for _, e := range append(often, rest...) {
		b.WriteString(word + " ARGV[5] == '" + string(e) + "' then row = [[\n")
		for _, s := range slices.Sorted(maps.Keys(transitions[e])) {
			st := transitions[e][s]
			b.WriteString("\n" + string(s) + "=" + string(st.verdict) + ":" + string(st.status))
		}
		b.WriteString("\n]]\n")
		word = "elseif"
	}
	b.WriteString("end\n")
	return b.String()
}
