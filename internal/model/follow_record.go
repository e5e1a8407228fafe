package model

import (
	"cmp"
	"fmt"
	"slices"
)

// Move is a call of lib/delivery/move.lua.
type Move struct {
	Event, Token, Fingerprint string
	// New is the fingerprint that the new record says, Former what it was before it was canceled, and Unanswered how many attempts without an answer.
	New        string
	Former     string
	Unanswered int
	// Lease is in milliseconds. Negative: none.
	Lease int64
	// Gone: the dead letter GoneID is known to be gone.
	Gone   bool
	GoneID string
}

// Moved is its answer.
type Moved struct {
	Verdict    string
	Found, Now Text
}

// Text is what a record says. The zero value: there is none, or the answer does not tell.
type Text struct {
	Status, Former, Token, Fingerprint, ItemID string
	Unanswered                                 int
	Until                                      int64
}

var cancelEvents = []string{onCancel, onConfirm, onUncancel}

// Move makes the step of a record. Nil: nobody knows whether it was made.
func (f *Followed) Move(at Span, m Move, said *Moved) string {
	by, of, fresh := f.token(m.Token), f.content(m.Fingerprint), f.content(m.New)
	asks := m.Event == onSend || m.Event == onQueued || m.Event == onAccept
	if table[m.Event] == nil {
		return fmt.Sprintf("the table of records has no event %q", m.Event)
	}
	content := max(int(of), 1) - 1
	f.pass(at)
	if !slices.Contains(cancelEvents, m.Event) {
		f.told(content, m.Unanswered)
	}
	return f.step(at, said != nil, func(w *real) string {
		was := w.d[0].Record
		if asks {
			for c := range w.d {
				w.d[c].asked(m.Event == onQueued)
			}
		}
		mv := move{
			event: m.Event, by: by, unanswered: m.Unanswered > 0, lease: m.Lease >= 0, other: of > 0 && w.of > 0 && of != w.of,
			untrue: m.Gone && (said == nil || said.Found.ItemID == m.GoneID),
		}
		v, _ := w.d[0].Record.move(mv, 0)
		w.share()
		now, formerly := w.d[0].Record, w.formerly
		w.before(was, now, m.Former)
		if said != nil {
			if wrong := f.moved(at, m, view{was, formerly}, view{now, w.formerly}, v, said); wrong != "" {
				return wrong
			}
		}
		w.contents(m.Event, was, now, fresh)
		if now.open() && mv.lease {
			w.owned = at.After(m.Lease)
			if said != nil && said.Now.Until > 0 {
				w.owned = Span{said.Now.Until, said.Now.Until}
			}
		}
		if v == takenOver || v == acceptingAgain || v == unknown { // whoever had it may have sent it
			for c := range w.d {
				w.d[c].cause()
			}
		}
		if v != written || said == nil {
			return ""
		}
		return w.followsFrom(m.Event, content)
	})
}

// moved holds the answer against the model's.
func (f *Followed) moved(at Span, m Move, was, now view, v verdict, said *Moved) string {
	if said.Verdict != string(verdicts[v]) {
		return fmt.Sprintf("%s is answered with %q, the model's answer is %q: the record %s", m.Event, said.Verdict, verdicts[v], was.describe())
	}
	if wrong := f.says("finds", said.Found, was); wrong != "" {
		return m.Event + " " + wrong
	}
	if said.Now == (Text{}) {
		if now.Status != none && now.Status != delivered { // a bucket's answer is empty
			return fmt.Sprintf("%s leaves no record, the model's %s", m.Event, now.describe())
		}
		return ""
	}
	if wrong := f.says("leaves", said.Now, now); wrong != "" {
		return m.Event + " " + wrong
	}
	if u := said.Now.Until; now.open() && m.Lease >= 0 && said.Now != said.Found && (u < at.From+m.Lease || u > at.To+m.Lease) {
		return fmt.Sprintf("%s grants a lease until %d, and not of %d ms", m.Event, u, m.Lease)
	}
	return ""
}

// says holds what a record says against the model's.
func (f *Followed) says(what string, t Text, r view) string {
	switch {
	case t.Status != statuses[r.Status]:
		return fmt.Sprintf("%s a record that says %q, the model's says %q", what, t.Status, statuses[r.Status])
	case t.Unanswered > 0 != r.Unanswered:
		return fmt.Sprintf("%s a record with %d attempts without an answer, the model's %s", what, t.Unanswered, r.describe())
	case t.Former != r.formerly:
		return fmt.Sprintf("%s a record that was %q before it was canceled, the model's was %q", what, t.Former, r.formerly)
	case t.Token != "" && f.token(t.Token) != r.Token:
		return fmt.Sprintf("%s a record of %d, the model's %s", what, f.token(t.Token), r.describe())
	}
	return ""
}

// view is a record as readers see it: with what it was before it was canceled.
type view struct {
	Record
	formerly string
}

// before follows what a record that is canceled was before; said is what the call says of that.
func (w *real) before(was, now Record, said string) {
	switch {
	case now.Status != canceled:
		w.formerly = ""
	case was.Status == canceled || was.Status == none:
		w.formerly = cmp.Or(w.formerly, said)
	default:
		w.formerly = statuses[was.Status]
	}
}

// contents follows whose content the record is of.
func (w *real) contents(event string, was, now Record, fresh int8) {
	switch {
	case now == was:
	case now.Status == none:
		w.of, w.former = 0, 0
	case event == onUncancel:
		w.of, w.former = w.former, 0
	default:
		if now.Status == canceled && was.Status != canceled {
			w.former = w.of
		}
		if fresh > 0 || was.Status == none {
			w.of = fresh
		}
	}
}

// followsFrom holds what a record says now against what happened before.
func (w *real) followsFrom(event string, content int) string {
	d := &w.d[content]
	switch event {
	case onDelivered, toldDelivered:
		if d.Received == 0 {
			return rule(AnswerBeforeDelivered)
		}
	case onDeadLettered, onExpired:
		if !d.isKept() && !d.Loose {
			return rule(FinishAfterPush)
		}
	case onAccepted:
		if d.Messages == [mostMessages]uint8{} {
			return rule(PutBeforeAccepted)
		}
	}
	return ""
}

// rule says which rule of the protocol was not kept.
func rule(r Rule) string { return fmt.Sprintf("the rule %v is not kept: %s", r, ruleTexts[r].text) }

// Read holds what a reader found against the model's record.
func (f *Followed) Read(at Span, t Text) string {
	f.pass(at)
	return f.step(at, true, func(w *real) string { return f.says("a reader finds", t, view{w.d[0].Record, w.formerly}) })
}

// Evict is a cache that forgets its record; known: it is known that it did.
func (f *Followed) Evict(at Span, known bool) string {
	f.pass(at)
	return f.step(at, known, func(w *real) string {
		w.share()
		for c := range w.d {
			w.d[c].evict(f.cancels > 0)
		}
		w.of, w.former, w.formerly = 0, 0, ""
		return ""
	})
}
