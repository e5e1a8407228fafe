package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Trace is a history: labels from the first state on.
type Trace []Label

// String prints a history, one step a line.
func (t Trace) String() string {
	var b strings.Builder
	for i, l := range t {
		fmt.Fprintf(&b, "%3d. %v\n", i+1, l)
	}
	return b.String()
}

// String implements fmt.Stringer.
func (l Label) String() string {
	text := fmt.Sprintf("%c: %s", 'A'+l.D, l.Do)
	if l.Who >= 0 {
		text = fmt.Sprintf("%c: %s %d %s", 'A'+l.D, roleNames[l.Role], l.Who+1, l.Do)
	}
	if l.How != well {
		text += " (" + l.How + ")"
	}
	return text
}

// Found is what a search found.
type Found struct {
	Broken Promise // Kept: nothing is broken
	Trace  Trace
	States int
	Depth  int
	// Whole: every state was looked at.
	Whole bool
}

// node is a state that was reached, and how.
type node struct {
	parent int32
	choice uint16 // among the steps of the parent
}

// Explore looks at every state, nearest first, at most so many: a history that it finds is as short as any.
func (m *Model) Explore(most int) Found {
	start := m.Start()
	seen := map[uint64]struct{}{start.hash(): {}}
	nodes := []node{{parent: -1}}
	level, following := []State{start}, []State(nil)
	var steps []Step
	for depth, at := 0, 0; ; depth++ {
		for i := range level {
			steps = m.Next(&level[i], steps)
			for choice := range steps {
				to := &steps[choice].To
				h := to.hash()
				if _, ok := seen[h]; ok {
					continue
				}
				seen[h] = struct{}{}
				nodes = append(nodes, node{int32(at), uint16(choice)})
				if to.Broken != Kept {
					return Found{Broken: to.Broken, Trace: m.traceTo(nodes, len(nodes)-1), States: len(nodes), Depth: depth + 1}
				}
				following = append(following, *to)
			}
			at++
			if len(nodes) > most {
				return Found{States: len(nodes), Depth: depth}
			}
		}
		if len(following) == 0 {
			return Found{States: len(nodes), Depth: depth, Whole: true}
		}
		level, following = following, level[:0]
	}
}

// traceTo makes the history of a node's choices.
func (m *Model) traceTo(nodes []node, at int) Trace {
	var choices []uint16
	for ; nodes[at].parent >= 0; at = int(nodes[at].parent) {
		choices = append(choices, nodes[at].choice)
	}
	slices.Reverse(choices)
	s := m.Start()
	var t Trace
	var steps []Step
	for _, c := range choices {
		steps = m.Next(&s, steps)
		t, s = append(t, steps[c].Label), steps[c].To
	}
	return t
}

// Walk makes one history by a seed, at most so long.
func (m *Model) Walk(seed uint64, most int) Found {
	r := rand.New(rand.NewPCG(seed, 0))
	s := m.Start()
	var f Found
	var steps []Step
	for len(f.Trace) < most && s.Broken == Kept {
		steps = m.Next(&s, steps)
		if len(steps) == 0 {
			break
		}
		i := r.IntN(len(steps))
		// Processes go on more often than not: what the world does, and what goes wrong, is the spice.
		for tries := 0; tries < 3 && (steps[i].Who < 0 || steps[i].How != well); tries++ {
			i = r.IntN(len(steps))
		}
		st := steps[i]
		s = st.To
		f.Trace = append(f.Trace, st.Label)
	}
	f.Broken, f.States, f.Depth = s.Broken, len(f.Trace)+1, len(f.Trace)
	return f
}

// Replay goes through a history. It reports the promise that breaks at its end; ok says that every step could be
// made.
func (m *Model) Replay(t Trace) (broken Promise, ok bool) {
	broken, _, ok = m.replay(t)
	return broken, ok
}

// replay returns the history as it was made, too: where fewer processes have begun, another one may have a step.
func (m *Model) replay(t Trace) (broken Promise, made Trace, ok bool) {
	s := m.Start()
	var steps []Step
	for _, l := range t {
		steps = m.Next(&s, steps)
		i := slices.IndexFunc(steps, func(st Step) bool { return st.Label == l })
		if i < 0 {
			i = slices.IndexFunc(steps, func(st Step) bool { return st.Who >= 0 && l.Who >= 0 && st.like(l) })
		}
		if i < 0 {
			return Kept, nil, false
		}
		made, s = append(made, steps[i].Label), steps[i].To
	}
	return s.Broken, made, true
}

// like reports whether two steps are the same, but for who makes them.
func (l Label) like(other Label) bool {
	l.Who = other.Who
	return l == other
}

// Shrink makes a history that breaks a promise shorter, until no step, and no two of them, can be left out.
func (m *Model) Shrink(t Trace) Trace {
	want, ok := m.Replay(t)
	if !ok || want == Kept {
		return t
	}
	try := func(less Trace) bool {
		got, made, ok := m.replay(less)
		if ok && got == want {
			t = made
			return true
		}
		return false
	}
	for again := true; again; {
		again = false
		for size := max(len(t)/2, 1); size > 0; size /= 2 { // runs of steps
			for at := 0; at+size <= len(t); {
				if try(slices.Concat(t[:at], t[at+size:])) {
					again = true
				} else {
					at++
				}
			}
		}
		for i := 0; i < len(t); i++ { // any two
			for j := i + 2; j < len(t); j++ {
				if try(slices.Concat(t[:i], t[i+1:j], t[j+1:])) {
					again = true
				}
			}
		}
	}
	return t
}
