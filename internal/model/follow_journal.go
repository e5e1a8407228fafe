package model

import (
	"fmt"
	"hash/maphash"
	"slices"
)

// mostFollowed is how many addresses of one delivery are followed.
const mostFollowed = 8

// address is one in the journal.
type address struct {
	name uint64
	at   int64 // when a line of it was written last, Unix milliseconds
}

// address returns the number of an address, from 1. 0: there is none, or there are too many: nothing is said of what is kept any more.
func (f *Followed) address(text string) uint8 {
	if text == "" {
		return 0
	}
	h := maphash.String(tokens, text)
	i := slices.IndexFunc(f.addresses, func(a address) bool { return a.name == h })
	if i < 0 {
		if len(f.addresses) == mostFollowed {
			f.deliveries(func(d *Delivery) { d.Lost, d.Loose = true, true })
			return 0
		}
		i = len(f.addresses)
		f.addresses = append(f.addresses, address{name: h})
	}
	return uint8(i + 1) //nolint:gosec // few
}

// Object is a line of an object in the journal that comes, or goes. Spilled: the object is one of what the queue did not take.
type Object struct {
	Content        int
	Address        string
	Spilled, There bool
}

// Object notes what the bucket has, whether or not who asked for that heard of it.
func (f *Followed) Object(at int64, o Object) {
	a := f.address(o.Address)
	if o.There && a > 0 {
		f.addresses[a-1].at = at
	}
	f.each(func(w *real) {
		d := &w.d[o.Content]
		folder := &d.Open
		if o.Spilled {
			folder = &d.Spill
		}
		if o.There {
			d.write(folder, a)
		} else {
			*folder &^= bit(a)
		}
	})
}

// Return is one letter of a call of lib/dlq/return.lua.
type Return struct {
	Push

	// Waits: it comes back as parked or held.
	Waits bool
}

// Return brings a letter back from the journal. Empty status: nobody knows whether it came.
func (f *Followed) Return(at Span, r Return, status, id string) string {
	f.pass(at)
	a := f.address(r.Address)
	return f.step(at, status != "", func(w *real) string {
		d, l := &w.d[r.Content], &w.letters[r.Content]
		if d.Letter.There && l.id == "" {
			l.id = id
		}
		want := "stored"
		switch {
		case d.Ended&bit(a) != 0:
			want = "ended"
		case d.Letter.There:
			want = "exists"
		case d.Note:
			want = "canceled"
		}
		switch {
		case status == "compare" || status == "full" && want == "stored": // nothing was done
			return ""
		case status != "" && status != want && a > 0:
			return fmt.Sprintf("a letter that comes back is answered with %q, the model's answer is %q", status, want)
		case want == "exists" && status != "" && id != l.id:
			return fmt.Sprintf("a letter that comes back finds letter %s, and the model's is %s", id, l.id)
		case want == "stored" && d.ToldCanceled && !d.Blind && !d.Doubtful:
			return fmt.Sprintf("%s is broken: %s", OrderIsFinal, promiseTexts[OrderIsFinal].text)
		}
		switch want {
		case "exists":
			d.push(a, Letter{}, true)
		case "stored":
			d.push(a, Letter{Held: r.Held || r.Waits, Expired: r.Expired, Unanswered: r.Unanswered > 0}, true)
			*l = r.stored(at, id)
		}
		return ""
	})
}

// NoteEnded notes in the queue that an address is over.
func (f *Followed) NoteEnded(at Span, content int, address string, known bool) {
	a := f.address(address)
	f.pass(at)
	f.step(at, known, func(w *real) string {
		w.d[content].Ended |= bit(a)
		return ""
	})
}

// NoteLack notes in the queue that the journal lacks a letter.
func (f *Followed) NoteLack(at Span, content int, id string, known bool) {
	f.pass(at)
	f.step(at, known, func(w *real) string {
		d := &w.d[content]
		d.Unjournaled = d.Unjournaled || d.Letter.There && w.letters[content].id == id
		return ""
	})
}

// Forget forgets an address that is over: its object is gone by then.
func (f *Followed) Forget(at Span, content int, address string, known bool) string {
	a := f.address(address)
	f.pass(at)
	return f.step(at, known, func(w *real) string {
		d := &w.d[content]
		if (d.Open|d.Spill)&bit(a) != 0 {
			return rule(ObjectBeforeEnded)
		}
		d.Ended &^= bit(a)
		return ""
	})
}

// Written notes in the queue that the journal has a letter by now.
func (f *Followed) Written(at Span, content int, id string, known bool) string {
	f.pass(at)
	return f.step(at, known, func(w *real) string {
		d := &w.d[content]
		if !d.Letter.There || w.letters[content].id != id {
			return ""
		}
		if a := d.Letter.Address; a > 0 && d.Open&bit(a) == 0 {
			return fmt.Sprintf("letter %s is noted as written, and the journal has no line of it", id)
		}
		d.Unjournaled = false
		return ""
	})
}

// struck reports whether what is given up was taken out of the journal before. Somebody may still be at writing it.
func (f *Followed) struck(d *Delivery, at Span) bool {
	a := d.Letter.Address
	return a == 0 || (d.Open|d.Spill)&bit(a) == 0 || f.addresses[a-1].at > at.From-Grace
}

// lacks reports whether the journal lacks a letter that somebody was told of, and nobody noted that.
func (d *Delivery) lacks() bool {
	l := d.Letter
	return d.ToldKept && l.There && l.Address > 0 && d.Open&bit(l.Address) == 0 && !d.Unjournaled && !d.Note && l.Lease.By == 0 && !d.Lost
}

// left reports whether the journal has, at rest, what it should have given back or let go. An object whose lines are not all over stays.
func (d *Delivery) left() bool {
	others := d.Open &^ d.Ended
	if d.Letter.There {
		others &^= bit(d.Letter.Address)
	}
	return d.Spill != 0 || others != 0 && !d.Loose && !d.Doubtful
}
