package wipe

import (
	"fmt"
	"slices"
	"time"
)

// span is a time; until is zero while it lasts.
type span struct{ from, until time.Time }

// slack is how far apart two clocks, or two looks at one, may be.
const slack = 200 * time.Millisecond

// entry is a dead letter as it stands in the queue.
type entry struct {
	reason       string
	parked, held bool
}

// waits reports whether it is an operator who decides about it.
func (e entry) waits() bool {
	return e.parked || e.held || e.reason == "terminal"
}

// history is what is known of one delivery at the end.
type history struct {
	// begun is when its caller first sent it; acked when it was told that the delivery is safe, zero: it
	// never was.
	begun, acked time.Time
	// died is when invocations ended without an answer that had it, unsure when it was handed
	// back because the queue could not be reached: it may be stored.
	died, unsure []time.Time
	// unguarded is when its record could not be read or written, unrecorded when the outcome of a
	// replay was not, and recorded when it was told that it was delivered.
	unguarded, unrecorded, recorded []time.Time
	// arrivals is when its receiver took it.
	arrivals []time.Time
	// lives is when the journal had it.
	lives []span
	// stored are its dead letters in the queue.
	stored []entry
}

// faults are what happened to everybody.
type faults struct {
	// wipes last from when Redis was killed until it answered again, empty.
	wipes []span
	// kills is when processes that replay were killed, drops when replies of Redis were lost.
	kills, drops []time.Time
	// send and replay are how long an invocation may take.
	send, replay time.Duration
}

// fate is what became of a delivery in the end.
type fate string

const (
	delivered    fate = "delivered"
	deadLettered fate = "dead-lettered"
	handedBack   fate = "handed back" // its caller knows that it still has it
	lost         fate = "lost"
)

// why says what explains a second arrival.
type why string

// The explanations, the likeliest last.
const (
	whyRestored   why = "the journal had it still when Redis was wiped"
	whyResent     why = "Redis was wiped, with its record, before its caller had an answer"
	whyDied       why = "the process that sent it was killed"
	whyReplayDied why = "the process that replayed it was killed"
	whyUnrecorded why = "a replay could not record that it was delivered"
	whyUnguarded  why = "its record was out of reach"
	whyUnsure     why = "handed back, and stored: the reply was lost"
)

// judge holds what is known of a delivery against the promises: what became of it, what explains each
// of its second arrivals, and what nothing explains.
func (f faults) judge(h history) (became fate, again []why, wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	switch {
	case len(h.stored) > 0:
		became = deadLettered
	case len(h.arrivals) > 0:
		became = delivered
	case h.acked.IsZero():
		became = handedBack
	default:
		became = lost
		say("LOST: acknowledged, and neither arrived nor stored")
	}
	if len(h.stored) > 1 {
		say("stored %d times", len(h.stored))
	}
	for _, e := range h.stored {
		if !e.waits() {
			say("%q, due, and still there", e.reason)
		}
	}
	if len(h.stored) > 0 && len(h.arrivals) > 0 {
		say("arrived, and is stored")
	}
	arrivals := slices.SortedFunc(slices.Values(h.arrivals), time.Time.Compare)
	for i := 1; i < len(arrivals); i++ {
		w, ok := f.explain(h, arrivals[i-1], arrivals[i])
		if !ok {
			say("arrived %s after it had, without a reason", arrivals[i].Sub(arrivals[i-1]).Round(time.Millisecond))
			continue
		}
		again = append(again, w)
	}
	return became, again, wrong
}

// explain says why a delivery that arrived at a arrived at b as well.
func (f faults) explain(h history, a, b time.Time) (why, bool) {
	// Somebody told that it was delivered, which comes after its arrival: of b it may come at once.
	recorded := slices.ContainsFunc(h.recorded, func(at time.Time) bool { return at.After(a) && at.Before(b) })
	if !recorded {
		if within(h.died, a, a.Add(f.send)) {
			return whyDied, true
		}
		if within(h.unrecorded, a, b) {
			return whyUnrecorded, true
		}
		if within(f.kills, a, earlier(b, a.Add(f.replay))) {
			return whyReplayDied, true
		}
	}
	if within(h.unguarded, a.Add(-f.send), a.Add(f.send)) || within(h.unguarded, b.Add(-f.send), b) {
		return whyUnguarded, true
	}
	for _, at := range h.unsure {
		if at.Before(b.Add(slack)) && (within(f.drops, at.Add(-f.send), at) || f.wiped(at.Add(-f.send), at, nil)) {
			return whyUnsure, true
		}
	}
	if f.wiped(a, b, func(w span) bool { // its caller had no answer then
		return h.begun.Before(w.until) && (h.acked.IsZero() || h.acked.After(w.from.Add(-slack)))
	}) {
		return whyResent, true
	}
	if f.wiped(a, b, func(w span) bool {
		return slices.ContainsFunc(h.lives, func(l span) bool {
			return l.from.Before(b) && (l.until.IsZero() || l.until.After(w.from.Add(-slack)))
		})
	}) {
		return whyRestored, true
	}
	return "", false
}

// wiped reports whether Redis was wiped between two times, in a wipe that is so (nil: any).
func (f faults) wiped(from, to time.Time, so func(span) bool) bool {
	return slices.ContainsFunc(f.wipes, func(w span) bool {
		return from.Before(w.until.Add(slack)) && to.After(w.from.Add(-slack)) && (so == nil || so(w))
	})
}

// within reports whether one of the times lies between two.
func within(times []time.Time, from, to time.Time) bool {
	return slices.ContainsFunc(times, func(at time.Time) bool {
		return at.After(from.Add(-slack)) && at.Before(to.Add(slack))
	})
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
