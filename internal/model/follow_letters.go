package model

import (
	"fmt"
	"slices"
)

// Push is one letter of a call of lib/dlq/push.lua.
type Push struct {
	Content int
	// Held: it waits for an operator. Expired: it is marked so.
	Held, Expired bool
	// Unanswered is how many attempts without an answer it had.
	Unanswered int
	// Due is when it is due, in milliseconds from now, and Expires when its time is over, in Unix milliseconds. Zero: at once, and never.
	Due, Expires int64
	// Address is that in the journal; empty where there is none.
	Address string
}

func (p Push) stored(at Span, id string) stored {
	l := stored{id: id, expires: p.Expires}
	if p.Due != 0 {
		l.due = at.From + p.Due
	}
	return l
}

// Push stores a letter. Empty status: nobody knows whether it was stored.
func (f *Followed) Push(at Span, p Push, status, id string) string {
	f.pass(at)
	f.told(p.Content, p.Unanswered)
	a := f.address(p.Address)
	return f.step(at, status != "", func(w *real) string {
		d, l := &w.d[p.Content], &w.letters[p.Content]
		if d.Letter.There && l.id == "" {
			l.id = id
		}
		over := d.Letter.Expired || l.expires > 0 && l.expires <= at.To
		want := "stored"
		if d.Letter.There {
			want = "exists"
		}
		switch {
		case d.Letter.There && over && l.expires != p.Expires:
			return "it is stored beside one of the same content, whose time is over: that is not followed"
		case status == "full" && want == "stored":
			return ""
		case status != "" && status != want:
			return fmt.Sprintf("a push is answered with %q, the model's answer is %q", status, want)
		case want == "exists" && status != "" && id != l.id:
			return fmt.Sprintf("a push finds letter %s, and the model's is %s", id, l.id)
		}
		d.push(a, Letter{Held: p.Held, Expired: p.Expired, Unanswered: p.Unanswered > 0}, p.Address != "")
		if want == "stored" {
			*l = p.stored(at, id)
		}
		return ""
	})
}

// Claim is one letter that a call leases.
type Claim struct {
	Content   int
	ID, Token string
	// Left is how long the lease is, in milliseconds. Quiet: nothing is sent under it.
	Left  int64
	Quiet bool
	// Due: it was leased because it is due. Overdue: because its time is over.
	Due, Overdue bool
	// Unanswered: an attempt of it may have arrived. Died: whoever replayed it last died.
	Unanswered, Died bool
	// Canceled is what the call says of the note of a cancellation.
	Canceled bool
}

// Claim leases a letter.
func (f *Followed) Claim(at Span, k Claim) string {
	by := f.token(k.Token)
	f.pass(at)
	return f.step(at, true, func(w *real) string { return w.lease(at, k, by) })
}

func (w *real) lease(at Span, k Claim, by token) string {
	d, l := &w.d[k.Content], &w.letters[k.Content]
	if l.id == "" {
		l.id = k.ID
	}
	switch {
	case !d.Letter.There || l.id != k.ID:
		return fmt.Sprintf("letter %s is leased, and is not there", k.ID)
	case d.Letter.Lease.held(by): // the call was made before
	case d.Letter.Lease.runs():
		return fmt.Sprintf("%s: %d has letter %s", rule(ClaimSkipsLeased), d.Letter.Lease.By, k.ID)
	case k.Due && (d.Letter.Held || d.Letter.Expired):
		return fmt.Sprintf("letter %s is leased as due, and waits for an operator or is marked as expired", k.ID)
	case k.Due && l.due > at.To:
		return fmt.Sprintf("letter %s is leased as due %d ms too early", k.ID, l.due-at.To)
	case k.Overdue && (l.expires == 0 || l.expires > at.To || d.Letter.Expired):
		return fmt.Sprintf("letter %s is leased as overdue, and its time is not over, or it is marked", k.ID)
	default:
		if d.Letter.Lease.of(by) { // nobody died with it
			d.Letter.Lease = Lease{}
		}
		w.bury(k.Content)
		d.Letter.claim(by, 0)
		l.until, l.quiet = at.After(k.Left), k.Quiet
	}
	switch {
	case k.Unanswered != d.Letter.Unanswered:
		return fmt.Sprintf("letter %s: an attempt may have arrived: %v, the model says %v", k.ID, k.Unanswered, d.Letter.Unanswered)
	case k.Died != d.Letter.Died:
		return fmt.Sprintf("letter %s: its replayer died: %v, the model says %v", k.ID, k.Died, d.Letter.Died)
	case k.Canceled != d.Note:
		return fmt.Sprintf("%s: letter %s, canceled: %v, noted: %v", rule(ClaimSeesNotes), k.ID, k.Canceled, d.Note)
	}
	return ""
}

// Free reports whether a letter may be there that nobody has.
func (f *Followed) Free(at Span, content int, id string) bool {
	f.pass(at)
	return slices.ContainsFunc(f.all(), func(w real) bool {
		l := w.d[content].Letter
		return l.There && w.letters[content].id == id && !l.Lease.runs()
	})
}

// Borrow is a claim of which nobody knows whether it leased a letter.
func (f *Followed) Borrow(at Span, content int, id, token string, left int64, quiet bool) {
	by := f.token(token)
	f.pass(at)
	f.step(at, false, func(w *real) string {
		d, l := &w.d[content], &w.letters[content]
		if d.Letter.There && l.id == id && !d.Letter.Lease.runs() {
			w.lease(at, Claim{Content: content, ID: id, Token: token, Left: left, Quiet: quiet}, by)
		}
		return ""
	})
}

// Take is a call of lib/dlq/delivery.lua: it leases all letters of the delivery, or none, and notes that it is canceled.
type Take struct {
	Token string
	// TTL is that of the leases and Note that of the note, in milliseconds. Zero: none is made.
	TTL, Note int64
	// Leased: it found one that another has. Rows are those that it leased otherwise.
	Leased bool
	Rows   []Claim
}

// Take takes the letters; known: there was an answer.
func (f *Followed) Take(at Span, t Take, known bool) string {
	by := f.token(t.Token)
	f.pass(at)
	return f.step(at, known, func(w *real) string {
		there, busy, again := 0, false, false
		for c := range w.d {
			l := w.d[c].Letter
			again = again || l.There && l.Lease.held(by)
		}
		for c := range w.d {
			l := w.d[c].Letter
			if !l.There || again && !l.Lease.held(by) {
				continue
			}
			there++
			busy = busy || l.Lease.runs() && !l.Lease.of(by)
		}
		switch {
		case known && t.Leased != busy:
			return fmt.Sprintf("%s: the cancellation is told that another has a letter: %v, the model says %v", rule(CancelSparesReplays), t.Leased, busy)
		case busy:
			return ""
		case known && len(t.Rows) != there:
			return fmt.Sprintf("%s: it is told of %d, the model has %d", rule(CancelTakesLetters), len(t.Rows), there)
		}
		for _, k := range t.Rows {
			k.Canceled = w.d[k.Content].Note || t.Note > 0
			note := w.d[0].Note
			w.d[k.Content].Note = k.Canceled // the answer is of after the note
			if wrong := w.lease(at, k, by); wrong != "" {
				return wrong
			}
			w.d[0].Note = note
		}
		if !known {
			for c := range w.d {
				if w.d[c].Letter.There {
					w.lease(at, Claim{Content: c, ID: w.letters[c].id, Token: t.Token, Left: t.TTL, Quiet: true}, by)
				}
			}
		}
		if t.Note > 0 {
			till := at.After(t.Note)
			if w.d[0].Note {
				till = Span{max(till.From, w.noted.From), max(till.To, w.noted.To)}
			}
			w.d[0].Note, w.noted = true, till
		}
		return ""
	})
}

// Noted is what a reader is told of the note of a cancellation.
func (f *Followed) Noted(at Span, told bool) string {
	f.pass(at)
	return f.step(at, true, func(w *real) string {
		if note := w.d[0].Note; note != told {
			return fmt.Sprintf("%s: a reader is told %v, the model says %v", rule(NoteLooked), told, note)
		}
		return ""
	})
}

// NoteCopied notes beside the letters, until a time in Unix milliseconds, what is noted elsewhere already.
func (f *Followed) NoteCopied(at Span, until int64, known bool) {
	f.pass(at)
	f.step(at, known, func(w *real) string {
		till := Span{until, until}
		if w.d[0].Note {
			till = Span{max(till.From, w.noted.From), max(till.To, w.noted.To)}
		}
		w.d[0].Note, w.noted = true, till
		return ""
	})
}

// Unnote takes the note back, and is told whether there was one.
func (f *Followed) Unnote(at Span, known, was bool) string {
	f.pass(at)
	return f.step(at, known, func(w *real) string {
		if note := w.d[0].Note; known && note && !was { // one whose time is over may be there
			return "the note of the cancellation is not there, the model has it"
		}
		for c := range w.d {
			w.d[c].unnote(f.cancels > 1)
		}
		return ""
	})
}

// Begin is a call of lib/dlq/begin.lua.
func (f *Followed) Begin(at Span, content int, id, token string, known, told bool) string {
	by := f.token(token)
	f.pass(at)
	return f.step(at, known, func(w *real) string {
		l := &w.d[content].Letter
		has := l.There && w.letters[content].id == id && l.Lease.held(by)
		if known && has != told {
			return fmt.Sprintf("%d may begin with letter %s: %v, the model says %v", by, id, told, has)
		}
		if has {
			l.Begun = by
		}
		return ""
	})
}

// Settle is one settlement of lib/dlq/settle.lua.
type Settle struct {
	Content   int
	ID, Token string
	Action    string
	// Delay is that of a retry, in milliseconds.
	Delay      int64
	Unanswered int
}

var actions = map[string]fate{
	"discard": isDelivered, "drop": isGivenUp, "retry": isFailed, "park": isHeld, "hold": isHeld, "expire": isExpired,
}

// Settle settles a letter; applied is what the caller was told.
func (f *Followed) Settle(at Span, s Settle, known, applied bool) string {
	by := f.token(s.Token)
	fate, ok := actions[s.Action]
	if !ok {
		return fmt.Sprintf("action %q is not followed", s.Action)
	}
	f.pass(at)
	if s.Unanswered > 0 { // of this replay alone: whether the receiver knows of it, or answered too late, is not told
		f.each(func(w *real) { w.d[s.Content].cause() })
	}
	wrong := f.step(at, known, func(w *real) string {
		d, l := &w.d[s.Content], &w.letters[s.Content]
		r, received := d.Record, d.Received
		struck := f.struck(d, at)
		has := d.Letter.There && l.id == s.ID && d.settle(by, fate, s.Unanswered > 0, d.Letter.Address > 0, 0)
		if known && applied != (has || slices.Contains(f.settled, by)) {
			return fmt.Sprintf("%s: %q of letter %s by %d is applied: %v, the model says %v", rule(SettleFenced), s.Action, s.ID, by, applied, !applied)
		}
		switch {
		case !has:
			return ""
		case fate == isGivenUp && !struck && known:
			return rule(OrderLeavesJournal)
		case fate == isDelivered && received == 0:
			return rule(SettleAfterSend)
		case fate == isDelivered && r.Status != delivered && r.Status != canceled && !d.Blind && !d.Loose && known:
			return rule(RecordBeforeSettle)
		case fate == isFailed:
			l.due = at.From + s.Delay
		}
		l.quiet = false
		return ""
	})
	if wrong == "" && (applied || !known) && !slices.Contains(f.settled, by) {
		f.settled = append(f.settled, by)
	}
	return wrong
}

// Release gives a lease back, and returns how many that may have been: fewest 0 or 1, most 0 or 1.
func (f *Followed) Release(at Span, content int, id, token string, known bool) (fewest, most int) {
	by := f.token(token)
	f.pass(at)
	fewest = 1
	f.step(at, known, func(w *real) string {
		d := &w.d[content]
		if !d.Letter.There || w.letters[content].id != id || !d.Letter.Lease.of(by) {
			fewest = 0
			return ""
		}
		most = 1
		d.release(by)
		return ""
	})
	return fewest, most
}

// Discard is a call of lib/dlq/discard.lua: told 1, 0 and -1 are its answers.
func (f *Followed) Discard(at Span, content int, id string, known bool, told int64) string {
	f.pass(at)
	return f.step(at, known, func(w *real) string {
		d := &w.d[content]
		want := int64(1)
		switch {
		case !d.Letter.There || w.letters[content].id != id:
			want = 0
		case d.Letter.Lease.runs():
			want = -1
		}
		if known && told != want {
			return fmt.Sprintf("the removal of letter %s is answered with %d, the model's answer is %d", id, told, want)
		}
		if want == 1 {
			d.remove(d.Letter.Address > 0)
		}
		return ""
	})
}

// Unpark is a call of lib/dlq/unpark.lua: told 1, 0 and -1 are its answers.
func (f *Followed) Unpark(at Span, content int, id string, known bool, told int64) string {
	f.pass(at)
	return f.step(at, known, func(w *real) string {
		d, l := &w.d[content], &w.letters[content]
		want := int64(1)
		switch {
		case !d.Letter.There || l.id != id:
			want = 0
		case d.Letter.Lease.runs():
			want = -1
		}
		if known && told != want {
			return fmt.Sprintf("unparking letter %s is answered with %d, the model's answer is %d", id, told, want)
		}
		over := d.Letter.Expired || l.expires > 0 && l.expires <= at.From
		if want != 1 || over || !d.Letter.Held && l.due <= at.From {
			return ""
		}
		w.bury(content)
		d.Letter.unpark(0)
		l.due, l.until = at.From, Span{}
		return ""
	})
}

// bury is who died with a letter, and will be charged: nobody, where nothing was sent under the lease.
func (w *real) bury(content int) {
	d, l := &w.d[content], &w.letters[content]
	if l.quiet {
		d.Letter.Lease = Lease{}
	}
	if d.Letter.Lease.By != 0 {
		d.cause()
	}
	l.quiet = false
}

// Looked is a reader that is told whether a letter is there.
func (f *Followed) Looked(at Span, content int, id string, there bool) string {
	f.pass(at)
	return f.step(at, true, func(w *real) string {
		if has := w.d[content].Letter.There && w.letters[content].id == id; has != there {
			return fmt.Sprintf("letter %s is there: %v, the model says %v", id, there, has)
		}
		return ""
	})
}
