package delivery

import (
	"cmp"
	"slices"
)

// Transition is one line of the table that every Store follows: what an event makes of a record
// that it finds in a situation. It is for those who write a Store of their own, or a model.
type Transition struct {
	// Event is what happens, by the word that move.lua takes.
	Event string
	// Situation is how the event finds the record: its status, or "none", "other", "older", "gone";
	// with "/mine", "/ended" or "/another" behind it where that decides. A situation with such a word
	// that has no line is the one without it.
	Situation string
	// Verdict is what the caller is told. Besides the States there are "written" (the record says
	// what the event says) and "stayed".
	Verdict State
	// Status is what the record says from then on. Empty: it stays as it is. Besides the Statuses
	// there are "forget" (no record is left) and "restore" (it is what it was before it was canceled).
	Status Status
}

// Transitions returns the table, in the order of events and situations. The caller owns the slice.
func Transitions() []Transition {
	var all []Transition
	for e, r := range transitions {
		for s, st := range r {
			all = append(all, Transition{string(e), string(s), st.verdict, st.status})
		}
	}
	slices.SortFunc(all, func(a, b Transition) int {
		return cmp.Or(cmp.Compare(a.Event, b.Event), cmp.Compare(a.Situation, b.Situation))
	})
	return all
}
