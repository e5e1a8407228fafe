package flow

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"
)

// world is a receiver, what is shared of it, and the attempts that are under way. It is
// explored: every order of what processes, the receiver and time can do, up to a depth.
type world struct {
	now   int64
	state State
	tries []attempt
	n     int // attempts so far
}

// attempt is under way, or was given up by everybody but the one who makes it.
type attempt struct {
	token string
	mark  int64
	probe bool // while the breaker is open, or after a hold
	until int64
	id    int
}

// policy of the model: small numbers, so that everything is near.
var small = Policy{Breaker: Breaker{FailurePercent: 50, Least: 2, Window: 3 * time.Second, ProbeEvery: 4 * time.Second}}.Normalize()

func (w world) clone() world {
	w.state, w.tries = w.state.clone(), slices.Clone(w.tries)
	return w
}

// key names a world by what can matter from now on: times as distances.
func (w world) key(tb testing.TB) string {
	tb.Helper()
	s := w.state
	since := s.Since
	rel := func(at *int64) {
		if *at != 0 {
			*at = max(*at-w.now, -100_000) + 200_000 // now is not none
		}
	}
	s.Seen, s.Under = slices.Clone(s.Seen), slices.Clone(s.Under)
	for i := range s.Seen {
		rel(&s.Seen[i].At)
	}
	for i := range s.Under {
		rel(&s.Under[i].Until)
		s.Under[i].Token = fmt.Sprint(slices.IndexFunc(w.tries, func(a attempt) bool { return a.token == s.Under[i].Token }))
	}
	s.Probe.Token = fmt.Sprint(slices.IndexFunc(w.tries, func(a attempt) bool { return a.token == s.Probe.Token }))
	for _, at := range []*int64{&s.Since, &s.Turn, &s.Next, &s.Held, &s.BadAt, &s.Probe.Until} {
		rel(at)
	}
	s.GoodAt, s.HeldAt, s.LiftedAt, s.Error = 0, 0, 0, ""
	type try struct {
		Current, Probe bool
		Until          int64
		Holds          bool
	}
	tries := make([]try, len(w.tries))
	for i, a := range w.tries {
		tries[i] = try{a.mark == since && a.token == "", a.probe, a.until - w.now, a.token != ""}
	}
	b, err := json.Marshal(struct {
		S State
		T []try
	}{s, tries})
	if err != nil {
		tb.Fatal(err)
	}
	return string(b)
}

// next returns every world that one step leads to, by the step's name.
func (w world) next(tb testing.TB) map[string]world {
	tb.Helper()
	out := map[string]world{}
	step := func(name string, f func(*world)) {
		c := w.clone()
		f(&c)
		out[name] = c
	}
	if len(w.tries) < 3 {
		step("ask", func(c *world) {
			c.n++
			a := attempt{token: fmt.Sprint("t", c.n), until: c.now + 5000, id: c.n}
			var g grant
			c.state, g = c.state.ask(small, event{now: c.now, token: a.token, until: a.until})
			if g.verdict != Go {
				return
			}
			if !g.slot {
				a.token = ""
				if c.state.Status == Failing {
					a.mark = c.state.Since
				}
			}
			a.probe = g.slot && w.state.Status != Closing
			c.tries = append(c.tries, a)
			if w.state.Status == OK && w.state.Held == 0 && g.slot {
				tb.Fatalf("a receiver that is well gave a slot: %+v", w.state)
			}
		})
	}
	for i, a := range w.tries {
		for _, r := range []Result{Good, Bad, NoAnswer} {
			step(fmt.Sprintf("end %d %d", i, r), func(c *world) {
				c.tries = slices.Delete(c.tries, i, i+1)
				before := c.state.Status
				o := Outcome{Result: r, Delivery: fmt.Sprint("d", a.id), Mark: a.mark, Lost: r == Bad, Row: r == Bad}
				if a.token != "" {
					live := c.state.holds(a.token, c.now)
					c.state = c.state.end(small, event{now: c.now, token: a.token, result: r, outcome: o})
					if before == Open && c.state.Status != Open && (r != Good || !live) {
						tb.Fatalf("result %d of a slot that is live=%v closed the breaker", r, live)
					}
					return
				}
				c.state = c.state.report(small, event{now: c.now, process: fmt.Sprint("p", a.id%3), outcome: o})
				if before == Open && c.state.Status != Open || before == Closing && c.state.Status != Closing {
					tb.Fatalf("the result of an attempt of before changed %s to %s", before, c.state.Status)
				}
			})
		}
		// Its process dies: nobody says anything.
		step(fmt.Sprintf("die %d", i), func(c *world) { c.tries = slices.Delete(c.tries, i, i+1) })
	}
	if w.state.Held == 0 {
		step("hold", func(c *world) { c.state = c.state.hold(small, event{now: c.now, until: c.now + 1000}) })
	}
	if !w.state.Well() {
		step("lift", func(c *world) { c.state = c.state.lift(small, c.now) })
	}
	for _, d := range []int64{600, 2000} {
		step(fmt.Sprint("wait ", d), func(c *world) { c.now += d })
	}
	return out
}

// check is what must hold of every world.
func (w world) check(tb testing.TB) {
	tb.Helper()
	s := w.state.clone()
	s.tidy(small, w.now)
	probes := 0
	for _, a := range w.tries {
		if a.probe && a.until > w.now {
			probes++
		}
	}
	if probes > 1 {
		tb.Fatalf("%d probes at a time: %+v", probes, w)
	}
	if s.Status == Closing && len(s.Under) > s.Step {
		tb.Fatalf("%d attempts at once, in step %d: %+v", len(s.Under), s.Step, w)
	}
	// Nothing is stuck: whoever asks again and again is let through in the end, whatever the
	// others do not do any more.
	later, now := s, w.now
	for range 8 {
		var g grant
		if later, g = later.ask(small, event{now: now, token: "later", until: now + 1}); g.verdict == Go {
			return
		}
		if g.at <= now {
			tb.Fatalf("told to ask again at %d, now is %d: %+v", g.at, now, later)
		}
		now = g.at
	}
	tb.Fatalf("nobody is let through any more: %+v", w)
}

// TestEveryInterleaving explores what processes can do to a receiver's state in any order:
// with replies that come late or never, processes that die, holds, and time.
func TestEveryInterleaving(t *testing.T) {
	seen := map[string]bool{}
	// It begins well, one failure before it is failing, failing, and open.
	front := []world{{now: 1_000_000}}
	w := front[0]
	for i := range suspects {
		if i == suspects-1 {
			front = append(front, w)
		}
		w.state = w.state.report(small, event{now: w.now, outcome: Outcome{Result: Bad, Lost: true, Delivery: fmt.Sprint("early", i)}})
	}
	front = append(front, w)
	w.state = w.state.clone()
	w.state.open(w.now)
	front = append(front, w)
	statuses := map[Status]int{}
	for depth := range modelDepth {
		var next []world
		for _, w := range front {
			for _, n := range w.next(t) {
				k := n.key(t)
				if seen[k] {
					continue
				}
				seen[k] = true
				n.check(t)
				statuses[n.state.Status]++
				next = append(next, n)
			}
		}
		if front = next; len(front) == 0 {
			t.Fatalf("nothing more happens after %d steps", depth)
		}
	}
	t.Logf("%d worlds, by status %v", len(seen), statuses)
	for _, s := range []Status{OK, Failing, Open, Closing} {
		if statuses[s] == 0 {
			t.Errorf("never %q: the model does not go deep enough", s)
		}
	}
}

const modelDepth = 7
