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
	depth  int32
	label  Label
}

// Explore looks at every state, nearest first, at most so many: a history that it finds is as short as any.
func (m *Model) Explore(most int) Found {
	start := m.Start()
	seen := map[uint64]struct{}{start.hash(): {}}
	nodes := []node{{parent: -1}}
	states := []State{start} // of nodes from base on
	base := 0
	var steps []Step
	for at := 0; at < len(nodes); at++ {
		s := states[at-base]
		if at-base > 1<<16 {
			states, base = slices.Clone(states[at-base:]), at
		}
		steps = m.Next(&s, steps)
		for i := range steps {
			st := &steps[i]
			h := st.To.hash()
			if _, ok := seen[h]; ok {
				continue
			}
			seen[h] = struct{}{}
			nodes = append(nodes, node{int32(at), nodes[at].depth + 1, st.Label})
			if st.To.Broken != Kept {
				return Found{Broken: st.To.Broken, Trace: traceTo(nodes, len(nodes)-1), States: len(nodes), Depth: int(nodes[at].depth) + 1}
			}
			states = append(states, st.To)
		}
		if len(nodes) > most {
			return Found{States: len(nodes), Depth: int(nodes[at].depth)}
		}
	}
	return Found{States: len(nodes), Depth: int(nodes[len(nodes)-1].depth), Whole: true}
}

func traceTo(nodes []node, at int) Trace {
	var t Trace
	for ; nodes[at].parent >= 0; at = int(nodes[at].parent) {
		t = append(t, nodes[at].label)
	}
	slices.Reverse(t)
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
		st := steps[r.IntN(len(steps))]
		s = st.To
		f.Trace = append(f.Trace, st.Label)
	}
	f.Broken, f.States, f.Depth = s.Broken, len(f.Trace)+1, len(f.Trace)
	return f
}

// Replay goes through a history. It reports the promise that breaks at its end; ok says that every step could be
// made, and that nothing broke before the last.
func (m *Model) Replay(t Trace) (broken Promise, ok bool) {
	s := m.Start()
	var steps []Step
	for _, l := range t {
		steps = m.Next(&s, steps)
		i := slices.IndexFunc(steps, func(st Step) bool { return st.Label == l })
		if i < 0 {
			return Kept, false
		}
		s = steps[i].To
	}
	return s.Broken, true
}

// Shrink makes a history that breaks a promise shorter, until no run of steps can be left out of it.
func (m *Model) Shrink(t Trace) Trace {
	want, _ := m.Replay(t)
	for size := len(t) / 2; size > 0; {
		smaller := false
		for at := 0; at+size <= len(t); {
			less := slices.Concat(t[:at], t[at+size:])
			if got, ok := m.Replay(less); ok && got == want {
				t, smaller = less, true
			} else {
				at++
			}
		}
		if size = min(size, len(t)); !smaller || size > 1 {
			size /= 2
			if smaller && size == 0 {
				size = 1
			}
		}
	}
	return t
}
