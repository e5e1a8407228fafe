package outage

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"backstop/lib/flow"
)

// rule is an invariant. It is checked at every event that it is about, and how often that was
// is printed: a rule that was never checked proves nothing.
type rule string

const (
	ruleProbe  rule = "one probe at a time while open, or after a hold"
	ruleSlot   rule = "who knows that it is open sends with a slot or not at all"
	ruleStep   rule = "while closing, only as many at once as the step"
	ruleHold   rule = "who knows of a hold does not send while it lasts"
	ruleView   rule = "what a process knows is at most 2 s old"
	ruleLength rule = "a hold lasts no longer than the receiver asked"
	ruleClosed rule = "a closed breaker never holds"
	ruleAlone  rule = "alone: five in a row, then one after 1, 2, 4 s ..."
	ruleRate   rule = "no window has more than rate x t + burst"
	ruleOnce   rule = "a receiver takes nothing twice"
	ruleKept   rule = "what is accepted is delivered or dead-lettered"
)

var everyRule = []rule{ruleProbe, ruleSlot, ruleStep, ruleHold, ruleLength, ruleView, ruleClosed, ruleAlone, ruleRate, ruleOnce, ruleKept}

// rules counts the checks and keeps what broke. World.mu guards it.
type rules struct {
	checks map[rule]int
	broken map[rule]int
	first  map[rule]string
}

func newRules() *rules {
	return &rules{checks: map[rule]int{}, broken: map[rule]int{}, first: map[rule]string{}}
}

func (r *rules) check(name rule, ok bool, format string, args ...any) {
	r.checks[name]++
	if ok {
		return
	}
	if r.broken[name]++; r.broken[name] == 1 {
		r.first[name] = fmt.Sprintf(format, args...)
	}
}

// faults says what broke, by rule.
func (r *rules) faults() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.broken)) {
		out = append(out, fmt.Sprintf("broken: %q, %d of %d times, first: %s", name, r.broken[name], r.checks[name], r.first[name]))
	}
	return out
}

// slack is what passes between an event and the one that follows from it: replies on their way.
const slack = 50 * time.Millisecond

// The gate's promises in time, as its documents state them.
const (
	viewAge   = 2 * time.Second
	lookWait  = 250 * time.Millisecond
	storeWait = time.Second // the client's time-out
	// clockError is how far off the time of a change may be.
	clockError = 250 * time.Millisecond
)

// standing is what the store holds of one receiver, read from every change that it takes.
type standing struct {
	state flow.State
	// version counts changes; the others are those at which an episode began.
	version            int
	openAt, held, step int
	guarded            time.Time // when it last was
	asked              time.Time // until when the receiver itself asked everybody to wait
	opened             int
	probes             int // known to be under way, while it is open or after a hold
	steps              map[int64]int
}

func guarded(s flow.State) bool {
	return s.Status == flow.Open || s.Status == flow.Closing || s.Held > 0
}

// changed notes what a receiver's state is now.
func (w *world) changed(s *standing, text string, now time.Time) {
	var next flow.State
	if text != "" {
		if err := json.Unmarshal([]byte(text), &next); err != nil {
			panic(err) // the gate wrote it
		}
	}
	s.version++
	if next.Status == flow.Open && (s.state.Status != flow.Open || s.state.Since != next.Since) {
		s.openAt = s.version
		s.opened++
	}
	if next.Status == flow.Closing && (s.state.Status != flow.Closing || s.state.Since != next.Since) {
		s.step = s.version
	}
	if next.Held > s.state.Held {
		w.rules.check(ruleLength, next.Held <= s.asked.Add(clockError).UnixMilli(), "at %s it is held until %s, and asked for %s",
			w.at(), w.since(next.Held), s.asked.Sub(w.start))
	}
	if ms := now.UnixMilli(); next.Held > ms && s.state.Held <= ms {
		s.held = s.version
	}
	if guarded(s.state) || guarded(next) {
		s.guarded = now
	}
	s.state = next
}

// heard is what a process knows of a receiver: the version of the last reply.
type heard struct {
	version, before int // before: of the last one that came earlier than at
	at              time.Time
}

func (h *heard) reply(version int, now time.Time) {
	if now.After(h.at) {
		h.before, h.at = h.version, now
	}
	h.version = version
}

// knows returns the version that what is decided now goes by; -1: what was heard is too old.
func (h heard) knows(now time.Time, age time.Duration) int {
	if now.Sub(h.at) > age {
		return -1
	}
	if now.After(h.at) {
		return h.version
	}
	return h.before // a reply of this very moment may have come too late for it
}

// begun is an attempt that is under way, as the rules see it.
type begun struct {
	probe, trial bool
	step         int64
}

// begins checks an attempt that p makes now at a receiver.
func (w *world) begins(p *process, receiver string, probe bool) begun {
	s, now := w.standing(receiver), time.Now()
	ms, knows := now.UnixMilli(), p.heardOf(receiver).knows(now, viewAge+w.plan.flow.Breaker.ProbeEvery)
	var b begun
	switch st := s.state; {
	case st.Held > ms:
		w.rules.check(ruleHold, knows < s.held, "process %d at %s, held until %s since version %d, and it knows %d",
			p.n, w.at(), w.since(st.Held), s.held, knows)
		w.late += one(knows < s.held)
	case st.Status == flow.Open && knows >= s.openAt, st.Status == flow.OK && st.Held > 0 && knows >= s.held:
		w.rules.check(ruleSlot, probe, "process %d at %s, in status %q", p.n, w.at(), st.Status)
		if probe {
			b.probe = true
			s.probes++
			w.rules.check(ruleProbe, s.probes == 1, "%d at %s", s.probes, w.at())
		}
	case st.Status == flow.Open:
		w.late++
	case st.Status == flow.Closing && knows >= s.step:
		w.rules.check(ruleSlot, probe, "process %d at %s, in status %q", p.n, w.at(), st.Status)
		b.step = st.Since
		s.steps[b.step]++
		w.rules.check(ruleStep, s.steps[b.step] <= st.Step, "%d at %s in step %d", s.steps[b.step], w.at(), st.Step)
	}
	if !p.cut.IsZero() && now.Sub(p.cut) > viewAge+lookWait+w.plan.flow.Breaker.ProbeEvery {
		b.trial = p.alone(receiver).begins(w, p, now)
	}
	switch {
	case w.plan.flow.Rate.PerSecond == 0:
	case p.own > 0:
		p.own--
		w.late++
	default:
		w.meter.begins(w, now)
	}
	return b
}

// ends notes that an attempt is over.
func (w *world) ends(p *process, receiver string, b begun) {
	s := w.standing(receiver)
	if b.probe {
		s.probes--
	}
	if b.step != 0 {
		s.steps[b.step]--
	}
	if b.trial {
		p.alone(receiver).trying = false
	}
}

// answered checks what a gate said.
func (w *world) answered(p *process, t flow.Try, l flow.Leave) {
	now, name := time.Now(), field(t.Receiver)
	if l.Verdict == flow.Go {
		age := now.Sub(p.looked)
		w.rules.check(ruleView, age <= viewAge+storeWait+lookWait, "process %d at %s asked %s ago", p.n, w.at(), age)
		return
	}
	if l.Spaced { // by the rate
		return
	}
	// Somebody has a reason: the receiver was guarded, as far as this process can know, or it
	// has stopped by itself.
	known := viewAge + slack
	if !p.cut.IsZero() || p.lost {
		known += viewAge + w.plan.flow.Breaker.ProbeEvery
	}
	s, r := w.standing(name), p.alone(name)
	ok := guarded(s.state) || !s.guarded.IsZero() && now.Sub(s.guarded) <= known || len(r.possible) >= 5 || !now.After(r.ended)
	w.rules.check(ruleClosed, ok, "process %d at %s, verdict %d: %s", p.n, w.at(), l.Verdict, l.Why)
}

// row is what a process saw of a receiver by itself.
type row struct {
	failed map[string]bool // different deliveries in a row
	// What ends at one instant may be told in any order: possible is the longest row that some
	// order makes, recent what failed at that instant.
	possible, recent map[string]bool
	at               time.Time
	ended            time.Time // when the last row of five or more was over
	until            time.Time // it has stopped until then
	wait             time.Duration
	trying           bool
}

// begins checks an attempt of a process that has nobody to ask. It reports whether it is the
// one that a process which has stopped lets through.
func (r *row) begins(w *world, p *process, now time.Time) bool {
	if r.until.IsZero() {
		w.rules.check(ruleAlone, true, "")
		return false
	}
	w.rules.check(ruleAlone, !r.trying && !now.Before(r.until), "process %d at %s: it has stopped until %s, and tries: %v",
		p.n, w.at(), r.until.Sub(w.start), r.trying)
	r.trying = true
	return true
}

func (r *row) told(delivery string, result flow.Result, trial bool, every time.Duration, now time.Time) {
	if !r.at.Equal(now) {
		r.at, r.recent = now, map[string]bool{}
	}
	switch result {
	case flow.Good:
		if len(r.failed) >= 5 {
			r.ended = now
		}
		*r = row{ended: r.ended, trying: r.trying, possible: maps.Clone(r.recent), recent: r.recent, at: now}
	case flow.Bad:
		if r.failed == nil {
			r.failed = map[string]bool{}
		}
		if r.possible == nil {
			r.possible = map[string]bool{}
		}
		r.failed[delivery], r.possible[delivery], r.recent[delivery] = true, true, true
		switch {
		case len(r.failed) < 5:
			return
		case r.until.IsZero():
			r.wait = time.Second
		case trial:
			r.wait = min(2*r.wait, every)
		default:
			return
		}
		r.until = now.Add(r.wait)
	}
}

// meter is a bucket of as many attempts as may begin at once: it never runs dry exactly where
// no window, however long, has more than the rate and the burst.
type meter struct {
	left float64
	last time.Time
}

func (m *meter) begins(w *world, now time.Time) {
	r := w.plan.flow.Rate
	burst := float64(max(r.Burst, 1))
	if m.last.IsZero() {
		m.left = burst
	}
	m.left = min(burst, m.left+r.PerSecond*now.Sub(m.last).Seconds())
	m.last = now
	m.left--
	// A reply is on its way for up to three ms after its slot was given, and clocks are compared in ms.
	w.rules.check(ruleRate, m.left >= -0.005*r.PerSecond, "%.3f attempts too many at %s", -m.left, w.at())
}

// kept checks the account: everything that was accepted was taken by its receiver, or is a
// dead letter now.
func (w *world) kept(queued map[string]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lost []string
	for id := range w.accepted {
		if w.taken[id] == 0 && !queued[id] {
			lost = append(lost, id)
		}
		w.rules.check(ruleKept, w.taken[id] > 0 || queued[id], "delivery %s is nowhere", id)
	}
	w.lost = len(lost)
}

func one(b bool) int {
	if b {
		return 1
	}
	return 0
}

// field is the name by which the store knows a receiver.
func field(receiver string) string {
	if strings.TrimSpace(receiver) == "" {
		return "sink"
	}
	return receiver
}
