package replay_test

import (
	"fmt"
	"testing"
)

// The fates of one dead letter, as model_test.go has the protocol of leases: two replayers that
// send it or mark it, a caller who cancels its delivery, its record, and a clock that its expiry
// stands on. Each step is atomic; any may be the last of who takes it.

// What a hand does with it besides.
const (
	toldArrived phase = iota + 10 // the record says delivered, not settled
	over                          // its time is over, nobody was told
	toldOver                      // the record says expired, not settled
)

// notedFate is what a record says.
type notedFate int8

const (
	isLetter notedFate = iota
	isOver
	isTaken // canceled
	isThere // delivered
)

// cancelPhase is how far the caller is.
type cancelPhase int8

const (
	notAsked cancelPhase = iota
	marking              // the record says canceled
	holding              // and the letter is leased to it
	answered             // the caller was told
	refused              // it was told that it was not
)

type fates struct {
	over             bool // the letter's time
	gone, marked     bool // the letter
	twice            bool // it was marked again
	held, live       bool // its lease
	received         bool
	record, former   notedFate
	restored         bool // the record is what it was before it said canceled
	caller           cancelPhase
	callerHas        bool // the caller's token holds the letter
	tooLate, afterIt bool // an attempt began after its expiry; after a cancellation was told
	hands            [replayers]modelHand
}

func (m *fates) revoke() {
	m.held, m.live, m.callerHas = false, false, false
	for p := range replayers {
		m.hands[p].valid = false
	}
}

// tell is what the table of lib/delivery makes of a word about a dead letter.
func (m *fates) tell(s notedFate) {
	if s == isThere || m.record == isLetter || m.record == isOver {
		m.record = s
	}
}

func (m fates) steps(r rules) []step[fates] {
	var out []step[fates]
	add := func(name string, change func(*fates)) {
		to := m
		change(&to)
		out = append(out, step[fates]{name: name, to: to})
	}
	if !m.over {
		add("its time passes", func(to *fates) { to.over = true })
	}
	if m.live && (!r.leaseCovers || !m.sent()) {
		add("its lease runs out", func(to *fates) { to.live = false })
	}
	m.cancel(r, add)
	for p := range replayers {
		m.replay(p, r, func(name string, change func(*fates)) { add(fmt.Sprintf("replayer %d %s", p, name), change) })
	}
	return out
}

// sent reports whether the holder of the lease is sending.
func (m fates) sent() bool {
	for _, h := range m.hands {
		if h.valid && h.phase == sending {
			return true
		}
	}
	return false
}

// cancel is what the caller can do.
func (m fates) cancel(r rules, add func(string, func(*fates))) {
	switch m.caller {
	case notAsked, refused:
		if m.record == isThere {
			return
		}
		add("the caller marks the record", func(to *fates) {
			if to.record != isTaken {
				to.former = to.record
			}
			to.record, to.caller = isTaken, marking
			if !r.cancelTakes {
				to.caller = answered
			}
		})
	case marking:
		if m.held && m.live && r.cancelWaits {
			add("the caller finds it leased", func(to *fates) {
				if to.record == isTaken {
					to.record, to.restored = to.former, true
				}
				to.caller = refused
			})
		} else {
			add("the caller takes the letter", func(to *fates) {
				if !to.gone {
					to.revoke()
					to.held, to.live, to.callerHas = true, true, true
				}
				to.caller = holding
			})
		}
		add("the caller dies", func(to *fates) { to.caller = notAsked })
	case holding:
		if m.callerHas || m.gone {
			add("the caller drops the letter", func(to *fates) {
				to.revoke()
				to.gone, to.caller = true, answered
			})
		} else {
			add("the caller finds it taken over", func(to *fates) { to.caller = refused })
		}
		add("the caller dies", func(to *fates) { to.caller = notAsked })
	}
}

// replay is what a replayer can do.
func (m fates) replay(p int, r rules, add func(string, func(*fates))) {
	h := m.hands[p]
	at := func(ph phase) func(*fates) { return func(to *fates) { to.hands[p].phase = ph } }
	settle := func(change func(*fates)) {
		apply := func(to *fates) {
			if to.hands[p].valid || !r.fence && !to.gone {
				to.revoke()
				change(to)
			}
		}
		add("settles", func(to *fates) { apply(to); to.hands[p] = modelHand{} })
		add("settles, unheard,", apply) // it will settle again
	}
	switch h.phase {
	case free:
		if !m.gone && !m.marked && (!m.held || !m.live) {
			add("claims it", func(to *fates) {
				to.revoke()
				to.held, to.live, to.hands[p] = true, true, modelHand{claimed, true}
			})
		}
		return
	case claimed:
		switch {
		case m.over && r.expiryCheck:
			add("sees that its time is over", at(over))
		case !r.leaseCheck || h.valid && m.live:
			add("sends it", func(to *fates) {
				to.hands[p].phase = sending
				to.tooLate, to.afterIt = to.over, to.caller == answered
			})
		}
	case sending:
		add("is told that it arrived", func(to *fates) { to.received, to.hands[p].phase = true, arrived })
		add("is refused", at(rejected))
	case arrived:
		add("tells the record so", func(to *fates) { to.tell(isThere); to.hands[p].phase = toldArrived })
		if !r.recordFirst {
			settle(func(to *fates) { to.gone = true })
		}
	case toldArrived:
		settle(func(to *fates) { to.gone = true })
	case rejected:
		settle(func(*fates) {})
	case over:
		add("tells the record so", func(to *fates) { to.tell(isOver); to.hands[p].phase = toldOver })
		if !r.recordFirst {
			settle(func(to *fates) { to.twice, to.marked = to.marked, true })
		}
	case toldOver:
		settle(func(to *fates) { to.twice, to.marked = to.marked, true })
	}
	add("dies", func(to *fates) { to.hands[p] = modelHand{} })
}

func (m fates) broken() string {
	idle := m.hands == [replayers]modelHand{}
	switch {
	case m.tooLate:
		return "an attempt began after its letter's expiry"
	case m.afterIt:
		return "an attempt began after its cancellation was told"
	case m.twice:
		return "a letter was marked, and counted, twice"
	case m.record == isThere && !m.received:
		return "a record says delivered of what never arrived"
	case m.gone && m.received && m.record == isLetter && idle:
		return "a letter left as delivered, and its record will never say so"
	case m.marked && m.record == isLetter && idle && !m.restored: // what is restored may be older than the mark; the letter itself tells
		return "a letter is marked, and its record will never say so"
	case m.hands[0].phase == sending && m.hands[1].phase == sending:
		return "two replayers send it at once"
	}
	return ""
}

func (m fates) finished() bool { return m.gone || m.marked }

func TestTheFatesOfALetterHoldInEveryState(t *testing.T) {
	every := rules{fence: true, leaseCheck: true, leaseCovers: true, expiryCheck: true, recordFirst: true, cancelTakes: true, cancelWaits: true}
	broken, path, states, stuck := explore[fates](every)
	if broken != "" {
		t.Fatalf("%s:\n%q", broken, path)
	}
	if states < 500 || stuck > 0 {
		t.Errorf("%d states, %d of them stranded; want hundreds, and from each a way to an end", states, stuck)
	}
	for name, without := range map[string]func(*rules){
		"no fencing":                               func(r *rules) { r.fence = false },
		"no look at the lease":                     func(r *rules) { r.leaseCheck = false },
		"leases shorter than their sends":          func(r *rules) { r.leaseCovers = false },
		"no look at the clock":                     func(r *rules) { r.expiryCheck = false },
		"records told after settling":              func(r *rules) { r.recordFirst = false },
		"cancellations that take no letter":        func(r *rules) { r.cancelTakes = false },
		"cancellations that take letters by force": func(r *rules) { r.cancelWaits, r.leaseCheck = false, false },
	} {
		t.Run(name, func(t *testing.T) {
			r := every
			without(&r)
			broken, path, states, _ := explore[fates](r)
			if broken == "" {
				t.Fatalf("nothing broke in %d states", states)
			}
			t.Logf("%s, after %d steps: %q", broken, len(path), path)
		})
	}
}
