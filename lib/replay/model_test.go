package replay_test

import (
	"fmt"
	"testing"
)

// The protocol of lease, fence and settlement, as small as it can be, checked in every
// state that two replayers and two items can reach. Each step is atomic, as a script of
// the store or a step of the engine is; any step may be the last of a replayer (a
// crash), and between two steps any time may pass (a freeze).
//
// A lease token is modelled by its owner alone: what the store compares is whether the
// replayer's token is the one that holds the item now.

// phase is what a replayer is doing with an item.
type phase int8

const (
	free     phase = iota
	claimed        // leased, not sent
	sending        // the receiver is at it
	arrived        // sent and accepted, not settled
	rejected       // sent and refused, not settled
)

const replayers, modelItems = 2, 2

// modelItem is what the store, and the receiver, know of an item.
type modelItem struct {
	delivered bool // recorded
	held      bool // there is a lease
	live      bool // and it has not run out
	received  bool // by the receiver, recorded or not
}

// modelHand is one replayer's hand on one item.
type modelHand struct {
	phase phase
	valid bool // its token is the one that holds the item
}

type model struct {
	items [modelItems]modelItem
	hands [replayers][modelItems]modelHand
}

// rules are what keeps the protocol sound; each can be taken away.
type rules struct {
	fence       bool // settle compares tokens
	leaseCheck  bool // a send starts only under a live lease
	leaseCovers bool // a lease outlives the send under it

	expiryCheck bool // a send starts only before its item's expiry
	recordFirst bool // the record is told before the settlement
	cancelTakes bool // a cancellation is told only once it has the letter
	cancelWaits bool // and never takes one from a live lease
}

// step is a transition; broken names the promise that it breaks.
type step[M comparable] struct {
	name   string
	to     M
	broken string
}

// explored is a protocol that explore can search.
type explored[M comparable] interface {
	comparable
	steps(r rules) []step[M]
	broken() string
	finished() bool
}

func (m model) steps(r rules) []step[model] {
	var out []step[model]
	for i := range modelItems {
		if it := m.items[i]; it.live && (!r.leaseCovers || !m.holderIs(i, sending)) {
			to := m
			to.items[i].live = false
			out = append(out, step[model]{name: fmt.Sprintf("lease of item %d runs out", i), to: to})
		}
		for p := range replayers {
			out = append(out, m.stepsOf(p, i, r)...)
		}
	}
	return out
}

// holderIs reports whether the item's holder is in the phase.
func (m model) holderIs(i int, ph phase) bool {
	for p := range replayers {
		if h := m.hands[p][i]; h.valid && h.phase == ph {
			return true
		}
	}
	return false
}

// stepsOf returns what replayer p can do with item i.
func (m model) stepsOf(p, i int, r rules) []step[model] {
	var out []step[model]
	it, hand := m.items[i], m.hands[p][i]
	add := func(name string, change func(*model), broken string) {
		to := m
		change(&to)
		out = append(out, step[model]{name: fmt.Sprintf("replayer %d: %s item %d", p, name, i), to: to, broken: broken})
	}
	crash := func(to *model) { to.hands[p][i] = modelHand{} }
	switch hand.phase {
	case free:
		if !it.delivered && (!it.held || !it.live) {
			add("claims", func(to *model) {
				to.revoke(i)
				to.items[i].held, to.items[i].live = true, true
				to.hands[p][i] = modelHand{claimed, true}
			}, "")
		}
		return out
	case claimed:
		if !r.leaseCheck || hand.valid && it.live {
			broken := ""
			switch {
			case m.hands[1-p][i].phase == sending:
				broken = "two replayers send the same item at once"
			case it.delivered:
				broken = "an item that is recorded as delivered is sent"
			}
			add("sends", func(to *model) { to.hands[p][i].phase = sending }, broken)
		}
		add("gives back", func(to *model) {
			if hand.valid {
				to.items[i].held, to.items[i].live = false, false
			}
			crash(to)
		}, "")
	case sending:
		add("is told that it arrived:", func(to *model) { to.items[i].received, to.hands[p][i].phase = true, arrived }, "")
		add("is refused", func(to *model) { to.hands[p][i].phase = rejected }, "")
	case arrived, rejected:
		applies := hand.valid || !r.fence
		settle := func(to *model) {
			if !applies {
				return
			}
			to.revoke(i)
			to.items[i].held, to.items[i].live = false, false
			to.items[i].delivered = hand.phase == arrived
		}
		broken := ""
		if applies && it.delivered && hand.phase == rejected {
			broken = "an item that is recorded as delivered becomes due again"
		}
		add("settles", func(to *model) { settle(to); crash(to) }, broken)
		// The answer is lost: it will settle again.
		add("settles, unheard,", settle, broken)
	}
	add("crashes with", crash, "")
	return out
}

// revoke makes every token of an item a former one.
func (m *model) revoke(i int) {
	for p := range replayers {
		m.hands[p][i].valid = false
	}
}

// broken returns the promise that a state breaks by itself.
func (m model) broken() string {
	for i, it := range m.items {
		if it.delivered && !it.received {
			return "an item is recorded as delivered that never arrived"
		}
		if m.hands[0][i].phase == sending && m.hands[1][i].phase == sending {
			return "two replayers send the same item at once"
		}
		if m.hands[0][i].valid && m.hands[1][i].valid {
			return "two replayers hold the same item"
		}
	}
	return ""
}

func (m model) finished() bool {
	for _, it := range m.items {
		if !it.delivered {
			return false
		}
	}
	return true
}

// explore visits every reachable state, breadth first. It returns the first promise
// that is broken, with the shortest way there; or else how many states there are, of
// which stuck ones cannot reach the end any more.
func explore[M explored[M]](r rules) (broken string, path []string, states, stuck int) {
	type origin struct {
		from M
		by   string
	}
	var start M
	seen := map[M]origin{start: {}}
	into := map[M][]M{} // backwards
	var finished []M
	for queue := []M{start}; len(queue) > 0; queue = queue[1:] {
		m := queue[0]
		if m.finished() {
			finished = append(finished, m)
		}
		for _, s := range m.steps(r) {
			into[s.to] = append(into[s.to], m)
			if _, ok := seen[s.to]; !ok {
				seen[s.to] = origin{m, s.name}
				queue = append(queue, s.to)
			}
			if s.broken == "" {
				s.broken = s.to.broken()
			}
			if s.broken != "" {
				path = []string{s.name}
				for at := m; at != start; at = seen[at].from {
					path = append([]string{seen[at].by}, path...)
				}
				return s.broken, path, len(seen), 0
			}
		}
	}
	ends := map[M]bool{}
	for len(finished) > 0 {
		m := finished[0]
		finished = finished[1:]
		if !ends[m] {
			ends[m] = true
			finished = append(finished, into[m]...)
		}
	}
	return "", nil, len(seen), len(seen) - len(ends)
}

func TestTheProtocolHoldsInEveryState(t *testing.T) {
	broken, path, states, stuck := explore[model](rules{fence: true, leaseCheck: true, leaseCovers: true})
	if broken != "" {
		t.Fatalf("%s:\n%q", broken, path)
	}
	if states < 1000 || stuck > 0 {
		t.Errorf("%d states, %d of them stranded; want thousands, and from each a way to deliver everything", states, stuck)
	}
}

// Every rule is needed: the search finds what breaks without it.
func TestTheModelCatchesAMissingRule(t *testing.T) {
	for name, r := range map[string]rules{
		"no fencing":                      {leaseCheck: true, leaseCovers: true},
		"no look at the lease":            {fence: true, leaseCovers: true},
		"leases shorter than their sends": {fence: true, leaseCheck: true},
	} {
		t.Run(name, func(t *testing.T) {
			broken, path, states, _ := explore[model](r)
			if broken == "" {
				t.Fatalf("nothing broke in %d states", states)
			}
			t.Logf("%s, after %d steps: %q", broken, len(path), path)
		})
	}
}
