package flow

import (
	"slices"
	"time"
)

// Status is what all processes together think of a receiver.
type Status string

// The statuses. The zero value is a receiver of which nothing bad is known, beyond single
// failures.
const (
	OK Status = ""
	// Failing: five different deliveries failed within a window. From now on successes count.
	Failing Status = "failing"
	// Open: nothing goes but one probe at a time.
	Open Status = "open"
	// Closing: a probe was answered; one attempt at once goes, then two, four, and so on.
	Closing Status = "closing"
)

// suspects is how many different deliveries must fail for a receiver to be failing, and in a
// row for a process to stop by itself.
const suspects = 5

// witnesses is how many processes, each with a row of failures, open the breaker together.
const witnesses = 3

// firstProbe is how long after its opening a breaker lets the first probe go.
const firstProbe = 1000 // ms

// State is what is shared of one receiver. Times are Unix ms of the store's clock; 0: none.
// The zero value is a receiver that is well.
type State struct {
	Status Status `json:"status,omitempty"`
	// Since is when Status began. It names the episode too: an outcome counts only if its
	// attempt began under the same Since, so that no clock has to be compared.
	Since int64 `json:"since,omitempty"`

	// Seen are deliveries that failed while the receiver was OK.
	Seen []Failure `json:"seen,omitempty"`

	// Now and Before count outcomes while Failing: of this window, which began at Turn, and of
	// the one before.
	Now    Tally `json:"now,omitzero"`
	Before Tally `json:"before,omitzero"`
	Turn   int64 `json:"turn,omitempty"`
	// Rows are the processes that have a row of failures, and since whose report nobody has
	// reported a success.
	Rows []string `json:"rows,omitempty"`

	// Next is when the next probe may begin, Wait how long it is then to the one after it.
	Next int64 `json:"next,omitempty"`
	Wait int64 `json:"wait,omitempty"`
	// Probe is under way, while Open or after a hold.
	Probe Slot `json:"probe,omitzero"`

	// Step is how many attempts may be under way at once while Closing, Under those that are.
	Step  int    `json:"step,omitempty"`
	Under []Slot `json:"under,omitempty"`

	// Held: nothing goes until then, for the receiver said so, and then a probe. HeldAt is when
	// that began.
	Held   int64 `json:"held,omitempty"`
	HeldAt int64 `json:"held_at,omitempty"`

	// LiftedAt is when an operator last lifted what held the receiver back.
	LiftedAt int64 `json:"lifted_at,omitempty"`

	// Changes names the last changes, the newest first: whoever lost the reply to one finds it
	// here, also below those of others.
	Changes []string `json:"changes,omitempty"`

	Error  string `json:"error,omitempty"`  // of the last failure
	BadAt  int64  `json:"bad_at,omitempty"` // when it was
	GoodAt int64  `json:"good_at,omitempty"`
}

// Failure is a delivery that failed.
type Failure struct {
	Delivery string `json:"d"` // a hash of its id
	At       int64  `json:"t"`
}

// Tally counts outcomes.
type Tally struct {
	Good int `json:"good,omitempty"`
	Bad  int `json:"bad,omitempty"`
}

// Slot is the right to one attempt. It ends by itself, for its holder may die.
type Slot struct {
	Token string `json:"token,omitempty"`
	Until int64  `json:"until,omitempty"`
}

func (s Slot) taken(now int64) bool { return s.Token != "" && s.Until > now }

// Result is what came of an attempt, as far as the receiver goes.
type Result int

// The results.
const (
	// NoAnswer: the attempt died, was given up, or never began. It says nothing.
	NoAnswer Result = iota
	// Good: the receiver took the message, or refused it for good: it is there.
	Good
	// Bad: a failure that may pass, or silence.
	Bad
)

// Outcome is one attempt's.
type Outcome struct {
	Result   Result
	Delivery string // a hash of the delivery's id
	// Mark is State.Since as the process knew it when the attempt began.
	Mark int64
	// Lost says that the delivery has failed with it, and was dead-lettered.
	Lost bool
	// Row says that the process has seen at least five different deliveries in a row fail.
	Row   bool
	Error string
}

// event is what happens to a receiver.
type event struct {
	now     int64
	process string  // who says it
	outcome Outcome // of counted
	token   string  // of ask and end
	until   int64   // of ask: the end of the attempt; of hold: that of the hold
	result  Result  // of end
}

// The transitions. Each row of the tables reads: in this status, when that is said, do this.
// What stands in no table changes nothing.
//
// An outcome was reported, by anyone. Open and Closing change by their slots alone: what comes
// from attempts without one began before.
var counted = map[Status]func(*State, Policy, event){
	OK:      (*State).suspect,
	Failing: (*State).count,
}

// Somebody asks whether an attempt may begin now; the answer is a grant.
var asked = map[Status]func(*State, Policy, event) grant{
	Open:    (*State).probe,
	Closing: (*State).step,
}

// An attempt with a slot ended.
var ended = map[Status]map[Result]func(*State, Policy, event){
	Open:    {Good: (*State).halfClose, Bad: (*State).stayOpen, NoAnswer: (*State).giveBack},
	Closing: {Good: (*State).stepUp, Bad: (*State).reopen, NoAnswer: (*State).giveBack},
}

// grant answers one who asks.
type grant struct {
	verdict Verdict
	slot    bool  // the attempt has a slot, and must end it
	probe   bool  // the attempt is a probe: one, and no other after it
	down    bool  // it is refused because the breaker is open
	at      int64 // when to ask again
}

// tidy does what time alone does.
func (s *State) tidy(p Policy, now int64) {
	window := p.Breaker.Window.Milliseconds()
	s.Seen = slices.DeleteFunc(s.Seen, func(f Failure) bool { return now-f.At > window })
	s.Under = slices.DeleteFunc(s.Under, func(u Slot) bool { return !u.taken(now) })
	if s.Status != Failing {
		return
	}
	if now-s.BadAt > window { // a window without a failure
		*s = s.lasting()
		return
	}
	if since := now - s.Turn; since > window {
		s.Before = s.Now
		if since > 2*window {
			s.Before = Tally{}
		}
		s.Now, s.Turn = Tally{}, now
	}
}

// suspect: of a receiver that is well, only deliveries that were lost are noted.
func (s *State) suspect(p Policy, e event) {
	o := e.outcome
	if o.Result != Bad || !o.Lost {
		return
	}
	s.Error, s.BadAt = o.Error, e.now
	if !slices.ContainsFunc(s.Seen, func(f Failure) bool { return f.Delivery == o.Delivery }) {
		s.Seen = append(s.Seen, Failure{o.Delivery, e.now})
	}
	if len(s.Seen) >= suspects && !p.Breaker.Off {
		s.become(Failing, e.now)
		s.Turn = e.now
	}
}

// count: both sides count, of attempts that began in this episode.
func (s *State) count(p Policy, e event) {
	o := e.outcome
	if o.Mark != s.Since {
		return
	}
	switch o.Result {
	case Good:
		s.Now.Good++
		s.GoodAt, s.Rows = e.now, nil
	case Bad:
		s.Now.Bad++
		s.Error, s.BadAt = o.Error, e.now
		if o.Row && !slices.Contains(s.Rows, e.process) {
			s.Rows = append(s.Rows, e.process)
		}
	}
	if s.down(p.Breaker) {
		s.open(e.now)
	}
}

// down reports whether a failing receiver is to be left alone.
func (s *State) down(b Breaker) bool {
	if len(s.Rows) >= witnesses {
		return true
	}
	bad, all := s.Now.Bad+s.Before.Bad, s.Now.Bad+s.Before.Bad+s.Now.Good+s.Before.Good
	percent := b.FailurePercent
	if all < 2*b.Least {
		// Few outcomes may be bad by chance: of 20 at 20% failures, half or more are once in 390
		// episodes, three quarters once in five millions.
		percent += (100 - percent) / 2
	}
	return all >= b.Least && bad*100 >= percent*all
}

// open: an attempt of before that has a slot, a hold's probe, is waited for; it closes nothing.
func (s *State) open(now int64) {
	next := now + firstProbe
	if s.Probe.taken(now) {
		next = max(next, s.Probe.Until)
	}
	s.become(Open, now)
	s.Probe, s.Next, s.Wait = Slot{}, next, 2*firstProbe
}

// become begins an episode. It ends with its own numbers; what is known of the receiver stays.
func (s *State) become(to Status, now int64) {
	// An episode has its own name even where two begin within one millisecond.
	since := max(now, s.Since+1)
	*s = s.lasting()
	s.Status, s.Since = to, since
}

// lasting is what no episode ends: what is known of the receiver, and its hold.
func (s *State) lasting() State {
	return State{
		Held: s.Held, HeldAt: s.HeldAt, LiftedAt: s.LiftedAt, Probe: s.Probe, Changes: s.Changes,
		Error: s.Error, BadAt: s.BadAt, GoodAt: s.GoodAt,
	}
}

// probe: one at a time, and each later than the one before.
func (s *State) probe(p Policy, e event) grant {
	switch {
	case s.Probe.taken(e.now):
		return grant{verdict: Refused, down: true, at: max(s.Next, min(s.Probe.Until, e.now+firstProbe))}
	case e.now < s.Next:
		return grant{verdict: Refused, down: true, at: s.Next}
	}
	s.Probe = Slot{e.token, e.until}
	s.Next = e.now + s.Wait
	s.Wait = min(2*s.Wait, p.Breaker.ProbeEvery.Milliseconds())
	return grant{verdict: Go, slot: true, probe: true}
}

// step: as many at once as the step allows.
func (s *State) step(_ Policy, e event) grant {
	if len(s.Under) >= s.Step {
		return grant{verdict: Refused, at: e.now + firstProbe}
	}
	s.Under = append(s.Under, Slot{e.token, e.until})
	return grant{verdict: Go, slot: true, probe: true}
}

func (s *State) halfClose(_ Policy, e event) {
	wait := s.Wait
	s.become(Closing, e.now)
	s.Probe, s.GoodAt, s.Step, s.Wait = Slot{}, e.now, 1, wait
}

func (s *State) stayOpen(_ Policy, e event) {
	s.Probe, s.BadAt, s.Error = Slot{}, e.now, e.outcome.Error
}

func (s *State) giveBack(_ Policy, e event) {
	if s.Probe.Token == e.token {
		s.Probe = Slot{}
	}
	s.drop(e.token)
}

func (s *State) stepUp(p Policy, e event) {
	s.drop(e.token)
	s.GoodAt = e.now
	if s.Step *= 2; s.Step >= p.Breaker.Least {
		*s = s.lasting()
		s.Probe = Slot{}
	}
}

// reopen: the receiver was not well after all. The waits go on where they were.
func (s *State) reopen(p Policy, e event) {
	wait := max(s.Wait, firstProbe)
	s.open(e.now)
	s.BadAt, s.Error = e.now, e.outcome.Error
	s.Next, s.Wait = e.now+wait, min(2*wait, p.Breaker.ProbeEvery.Milliseconds())
}

func (s *State) drop(token string) {
	s.Under = slices.DeleteFunc(s.Under, func(u Slot) bool { return u.Token == token })
}

// holds reports whether token is that of a slot which has not ended.
func (s *State) holds(token string, now int64) bool {
	return s.Probe.taken(now) && s.Probe.Token == token ||
		slices.ContainsFunc(s.Under, func(u Slot) bool { return u.taken(now) && u.Token == token })
}

// report returns s after an outcome of an attempt that had no slot.
func (s State) report(p Policy, e event) State {
	s = s.clone()
	s.tidy(p, e.now)
	if f := counted[s.Status]; f != nil {
		f(&s, p, e)
	}
	return s
}

// ask returns s after somebody asked for an attempt, and what he gets.
func (s State) ask(p Policy, e event) (State, grant) {
	s = s.clone()
	s.tidy(p, e.now)
	f := asked[s.Status]
	switch {
	case e.now < s.Held && f != nil:
		return s, grant{verdict: Refused, down: s.Status == Open, at: max(s.Held, s.Next)}
	case e.now < s.Held:
		return s, grant{verdict: Wait, at: s.Held}
	case f != nil:
		return s, f(&s, p, e)
	case s.Held == 0:
		return s, grant{verdict: Go}
	case s.Probe.taken(e.now):
		return s, grant{verdict: Wait, at: min(s.Probe.Until, e.now+firstProbe)}
	}
	s.Probe = Slot{e.token, e.until}
	return s, grant{verdict: Go, slot: true, probe: true}
}

// end returns s after the attempt of a slot ended. A slot that has run out, or was never
// given, changes nothing: its holder is late, and what he knows is old.
func (s State) end(p Policy, e event) State {
	s = s.clone()
	s.tidy(p, e.now)
	if !s.holds(e.token, e.now) {
		return s
	}
	if s.Held > 0 && e.now >= s.Held && e.result != NoAnswer {
		s.Held, s.HeldAt = 0, 0 // the probe after a hold; its answer may hold again
	}
	if f := ended[s.Status][e.result]; f != nil {
		f(&s, p, e)
	} else {
		s.giveBack(p, e)
	}
	return s
}

// hold returns s held until e.until. Holds only grow.
func (s State) hold(p Policy, e event) State {
	s = s.clone()
	s.tidy(p, e.now)
	if s.Held <= e.now {
		s.HeldAt = e.now
	}
	s.Held = max(s.Held, min(e.until, e.now+p.MaxHold.Milliseconds()))
	return s
}

// lift returns s after an operator has lifted what holds the receiver back: the next attempt is
// the probe, whatever was waited for, unless one is under way; processes that have stopped by
// themselves go on.
func (s State) lift(p Policy, now int64) State {
	s = s.clone()
	s.tidy(p, now)
	s.LiftedAt, s.Held = now, min(s.Held, now)
	if s.Status == Open {
		s.Next, s.Wait = now, 2*firstProbe
	}
	return s
}

// succeeded returns s after a success that an operator forced: it lifts everything.
func (s State) succeeded(now int64) State {
	s = s.clone()
	return State{Changes: s.Changes, GoodAt: now, LiftedAt: now, Error: s.Error, BadAt: s.BadAt}
}

func (s State) clone() State {
	s.Seen, s.Rows, s.Under, s.Changes = few(s.Seen), few(s.Rows), few(s.Under), few(s.Changes)
	return s
}

// few clones a list; an empty one is nil, as it is read from a text.
func few[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return slices.Clone(list)
}

// Well reports whether nothing holds the receiver back and nothing is counted.
func (s State) Well() bool { return s.Status == OK && s.Held == 0 }

// guarded reports whether an attempt needs a slot.
func (s State) guarded() bool { return s.Status == Open || s.Status == Closing || s.Held > 0 }

// news is when others last knew something better of the receiver than failures in a row.
func (s State) news() int64 { return max(s.GoodAt, s.LiftedAt) }

// why says what holds the receiver back.
func (s State) why() string {
	switch {
	case s.Status == Open && s.Error != "":
		return "the receiver is left alone since it failed: " + s.Error
	case s.Status == Open:
		return "the receiver is left alone since it failed"
	case s.Status == Closing:
		return "the receiver is back, and gets more step by step"
	case s.Held > 0:
		return "the receiver asked everybody to wait"
	}
	return ""
}

// NextProbe is when a probe may go; zero: no probe is waited for.
func (s State) NextProbe() time.Time {
	switch {
	case s.Status == Open:
		return time.UnixMilli(max(s.Next, s.Held))
	case s.Held > 0:
		return time.UnixMilli(s.Held)
	}
	return time.Time{}
}
