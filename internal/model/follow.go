package model

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
)

// Contents is how many contents of one delivery are followed.
const Contents = 2

// Grace is how long after its sender let go of a delivery, or after its expiry, a request of it may come, in milliseconds: what an
// attempt has, and as much for a machine that is busy.
const Grace = 600

// Span is when something happened, or ends, in Unix milliseconds by the clock of the stores: somewhere from From to To.
type Span struct{ From, To int64 }

// After is a span that begins and ends so much later.
func (s Span) After(ms int64) Span { return Span{s.From + ms, s.To + ms} }

// Followed is one delivery of a real run: each call of a store that names it, what its receiver got, and what its callers were told, in
// their order. A call makes the step that it makes in the model, by the model's own functions, and what was answered must be the model's answer.
// Where nobody knows whether a call was made, or whether a lease had ended by then, both are followed until an answer tells.
//
// Its methods return what does not conform; empty: nothing does not. The zero value is a delivery of which nothing is known. It is used by one goroutine
// at a time.
type Followed struct {
	worlds       []real // those that may be the real one
	tokens       []uint64
	fingerprints [Contents]string
	settled      []token // those that a letter was settled under
	addresses    []address

	cancels  int32           // callers who are at canceling it, and operators at giving it up
	messages int32           // of the queue of requests
	expires  int64           // when its time is over, Unix milliseconds; 0: never
	held     int64           // when somebody had it last, likewise
	blurred  [Contents]uint8 // attempts without an answer

	afterCancel, afterExpiry, unheld bool // an attempt came
}

// real is a delivery as it may be.
type real struct {
	d       [Contents]Delivery // Record and Note are the same in all
	letters [Contents]stored
	owned   Span // when the lease of the record ends
	noted   Span // when the note of its cancellation does
	of      int8 // whose content the record is of, from 1; 0: of none that is known
	former  int8 // of what it was before it was canceled
	// formerly is what that was, as the record says: a cancellation whose mark is lost says what it knew.
	formerly string
}

// stored is a letter as the queue has it.
type stored struct {
	id      string
	until   Span  // when its lease ends
	due     int64 // not before; 0: since it is there
	expires int64 // 0: never
	quiet   bool  // nothing is sent under its lease
}

var tokens = maphash.MakeSeed()

func (f *Followed) token(text string) token {
	if text == "" {
		return 0
	}
	h := maphash.String(tokens, text)
	i := slices.Index(f.tokens, h)
	if i < 0 {
		i = len(f.tokens)
		f.tokens = append(f.tokens, h)
	}
	return token(min(i+1, int(gone)-1)) // more than those have no rights
}

// Token is the number of a token among those of the delivery, from 1; 0 of none.
func (f *Followed) Token(text string) int { return int(f.token(text)) }

// short is how much of a fingerprint is known of a record at least (lib/delivery/record.lua).
const short = 9

// Know says the fingerprints of its contents. Of a delivery that has one alone nobody needs to.
func (f *Followed) Know(fingerprints ...string) {
	for i, text := range fingerprints {
		f.fingerprints[i] = shortened(text)
	}
}

func shortened(fingerprint string) string {
	return strings.Clone(fingerprint[:min(short, len(fingerprint))])
}

// content returns whose a fingerprint is, from 1; 0 for none.
func (f *Followed) content(fingerprint string) int8 {
	switch {
	case fingerprint == "":
		return 0
	case f.fingerprints[0] == "":
		return 1
	}
	return int8(slices.Index(f.fingerprints[:], shortened(fingerprint)) + 1) //nolint:gosec // few
}

// all returns the worlds.
func (f *Followed) all() []real {
	if len(f.worlds) == 0 {
		f.worlds = []real{{}}
	}
	return f.worlds
}

// each changes every world.
func (f *Followed) each(do func(w *real)) {
	for i := range f.all() {
		do(&f.worlds[i])
		f.worlds[i].share()
	}
}

// deliveries changes the delivery of each content in every world.
func (f *Followed) deliveries(do func(d *Delivery)) {
	f.each(func(w *real) {
		for c := range w.d {
			do(&w.d[c])
		}
	})
}

// share has all contents have the record and the note of the first.
func (w *real) share() {
	for c := range w.d[1:] {
		w.d[c+1].Record, w.d[c+1].Note = w.d[0].Record, w.d[0].Note
	}
}

// also adds a world that is not there yet.
func also(all []real, w real) []real {
	if slices.Contains(all, w) {
		return all
	}
	return append(all, w)
}

// step makes a step in each world. A world whose answer is not the real one is not the real one. known: there was an answer.
func (f *Followed) step(at Span, known bool, do func(w *real) (wrong string)) string {
	worlds := f.all()
	if f.owns(at.To) {
		f.held = at.To
	}
	wrong := ""
	if len(worlds) == 1 && known {
		w := worlds[0]
		if wrong = do(&w); wrong == "" {
			w.share()
			worlds[0] = w
		}
		return wrong
	}
	var next []real
	for _, w := range worlds {
		after := w
		switch bad := do(&after); {
		case known && bad != "":
			wrong = bad
			continue
		case !known:
			next = also(next, w)
		}
		after.share()
		next = also(next, after)
	}
	if len(next) == 0 {
		return wrong
	}
	f.worlds = next
	return ""
}

// What ends by itself, but for the leases of letters, which come behind them.
const (
	recordLease = iota
	cancelNote
	letterLeases
)

// ends returns when something of a world ends; false: it does not.
func (w *real) ends(what int) (Span, bool) {
	switch what {
	case recordLease:
		r := w.d[0].Record
		return w.owned, r.open() && !r.Over
	case cancelNote:
		return w.noted, w.d[0].Note
	}
	return w.letters[what-letterLeases].until, w.d[what-letterLeases].Letter.Lease.runs()
}

// end ends it.
func (w *real) end(what int) {
	switch what {
	case recordLease:
		w.d[0].Record.Over = true
	case cancelNote:
		w.d[0].Note = false
	default:
		w.d[what-letterLeases].Letter.Lease.Over = true
	}
	w.share()
}

// pass ends what ended before a call; what may have ended by then, or not, makes two worlds.
func (f *Followed) pass(at Span) {
	for what := range letterLeases + Contents {
		for i := range f.all() {
			until, runs := f.worlds[i].ends(what)
			if !runs || until.From > at.To {
				continue
			}
			if what != cancelNote {
				f.held = max(f.held, until.To)
			}
			if until.To <= at.From {
				f.worlds[i].end(what)
				continue
			}
			w := f.worlds[i]
			w.end(what)
			f.worlds = also(f.worlds, w)
		}
	}
	if len(f.worlds) > 1 { // what was different is the same by now
		var left []real
		for _, w := range f.worlds {
			left = also(left, w)
		}
		f.worlds = left
	}
}

// owns reports whether somebody who may send it has it.
func (f *Followed) owns(at int64) bool {
	return slices.ContainsFunc(f.worlds, func(w real) bool {
		if r := w.d[0].Record; r.Status == inProgress && !r.Over && w.owned.To >= at {
			return true
		}
		for c := range w.d {
			if w.d[c].Letter.Lease.runs() && !w.letters[c].quiet && w.letters[c].until.To >= at {
				return true
			}
		}
		return false
	})
}

// Lost notes that a caller did not get an answer, or that nobody knows whether its call was made.
func (f *Followed) Lost() { f.deliveries(func(d *Delivery) { d.Loose = true }) }

// Blind notes that somebody goes on who could not read or write the record.
func (f *Followed) Blind() {
	f.deliveries(func(d *Delivery) {
		d.Blind = true
		d.cause()
	})
}

// Expire says when its time is over, in Unix milliseconds.
func (f *Followed) Expire(at int64) { f.expires = at }

// Message adds messages to the queue of requests, or takes them out.
func (f *Followed) Message(n int) {
	f.messages += int32(n) //nolint:gosec // few
	state := uint8(no)
	if f.messages > 0 {
		state = waits
	}
	f.deliveries(func(d *Delivery) { d.Messages[0] = state })
}

// Arrive notes a request at the receiver: taken says that it has the message, answered that it said so.
func (f *Followed) Arrive(at int64, content int, taken, answered bool) {
	f.unheld = f.unheld || !f.owns(at-Grace) && f.held < at-Grace
	late := f.expires > 0 && at >= f.expires+Grace
	f.each(func(w *real) {
		d := &w.d[content]
		d.Expired = late
		switch d.begins(false) {
		case NothingAfterCancel:
			f.afterCancel = true
		case NothingAfterExpiry:
			f.afterExpiry = true
		}
		if taken {
			d.arrive()
		}
		d.Answered = d.Answered || answered
		if taken && !answered {
			d.cause()
		}
	})
	if taken && !answered {
		f.blurred[content]++
	}
}

// told notes how many attempts without an answer a sender tells of: where the receiver knows of fewer, its answer came too late.
func (f *Followed) told(content, unanswered int) {
	n := uint8(min(unanswered, plenty)) //nolint:gosec // bounded
	if n <= f.blurred[content] {
		return
	}
	f.blurred[content] = n
	f.each(func(w *real) { w.d[content].cause() })
}

// What callers are told.
const (
	ToldDelivered    = "delivered"
	ToldDeadLettered = "dead_lettered"
	ToldAccepted     = "accepted"
	ToldSafe         = "safe" // one of these, or that it is canceled or discarded
)

// Tell notes what a caller was told. What else there is to tell promises nothing.
func (f *Followed) Tell(content int, what string) {
	f.each(func(w *real) {
		d := &w.d[content]
		switch what {
		case ToldDelivered:
			d.tell(isDelivered)
		case ToldDeadLettered:
			d.tell(isKept)
		case ToldAccepted:
			d.tell(isAccepted)
		case ToldSafe:
			if s := d.Record.Status; s != canceled && s != discarded {
				d.tell(isKept)
			}
		}
	})
}

// Cancel notes that a caller begins to cancel it.
func (f *Followed) Cancel() { f.cancels++ }

// CancelTold notes what that caller was told: that it is canceled, perhaps that it may have arrived, that it is not, or nothing certain.
func (f *Followed) CancelTold(done, mayHaveArrived, certain bool) {
	f.cancels--
	f.deliveries(func(d *Delivery) {
		switch {
		case done:
			d.ToldCanceled = true
			d.ToldSure = d.ToldSure || !mayHaveArrived
		case !certain:
			d.Doubtful = true
		}
	})
}

// GiveUp notes that an operator begins to give it up.
func (f *Followed) GiveUp() { f.cancels++ }

// GaveUp notes what that operator was told: that it is gone, that it is not, or nothing certain.
func (f *Followed) GaveUp(done, certain bool) {
	f.cancels--
	f.deliveries(func(d *Delivery) {
		d.ToldDiscarded = d.ToldDiscarded || done
		d.Doubtful = d.Doubtful || !certain
	})
}

// Broken says which promise is broken, at rest once nobody is at work any more, in a word and in a sentence; empty: none. One that somebody without a
// record breaks is excused once that is known (Blind).
func (f *Followed) Broken(rest bool) (name, text string) {
	found := Kept
	for _, w := range f.all() {
		p := Kept
		for c := range w.d {
			d := &w.d[c]
			switch {
			case p != Kept:
			case f.afterCancel && !d.Blind:
				p = NothingAfterCancel
			case f.afterExpiry:
				p = NothingAfterExpiry
			case f.unheld && !d.Blind:
				return BeginBeforeSend.String(), ruleTexts[BeginBeforeSend].text
			default:
				if d.lacks() {
					return LackIsNoted.String(), ruleTexts[LackIsNoted].text
				}
				if p = d.broken(rest, f.cancels > 0); p == Kept && rest && d.left() {
					p = NothingStays
				}
			}
		}
		if p == Kept {
			return "", ""
		}
		found = p
	}
	return found.String(), promiseTexts[found].text
}

// String says what may be.
func (f *Followed) String() string {
	var b strings.Builder
	for i, w := range f.all() {
		if i > 0 {
			b.WriteString("; or ")
		}
		b.WriteString("the record " + w.d[0].Record.describe())
		for c := range w.d {
			if l := w.d[c].Letter; l.There {
				fmt.Fprintf(&b, ", letter %s of content %d", w.letters[c].id, c+1)
				if l.Address != 0 {
					fmt.Fprintf(&b, " at address %d", l.Address)
				}
				if l.Lease.By != 0 {
					fmt.Fprintf(&b, " leased by %d (over: %v)", l.Lease.By, l.Lease.Over)
				}
			}
		}
		if w.d[0].Note {
			b.WriteString(", noted as canceled")
		}
		for c := range w.d {
			if d := &w.d[c]; d.Open|d.Spill|d.Ended != 0 || d.Unjournaled {
				fmt.Fprintf(&b, "; the journal has addresses %08b of content %d, %08b spilled; over are %08b, lacking: %v", d.Open, c+1, d.Spill, d.Ended, d.Unjournaled)
			}
		}
	}
	return b.String()
}

func (r Record) describe() string {
	if r.Status == none {
		return "is not there"
	}
	text := "says " + statuses[r.Status]
	if r.open() {
		text += fmt.Sprintf(" by %d (lease over: %v)", r.Token, r.Over)
	}
	if r.Unanswered {
		text += ", may have arrived"
	}
	return text
}
