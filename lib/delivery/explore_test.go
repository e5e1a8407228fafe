package delivery_test

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// An explorer runs a cast of actors in every order of their steps. A step is one call of a
// store, a queue or the receiver: its wrapper stops there until the explorer lets it go on, and
// says how (mode). One run is one schedule; the next one differs from it in the last choice
// that has another way, so that all of them are run, each from its beginning.
//
// Two steps of different actors on different things have the same end in both orders, and only
// one of these is run (sleep sets). What a caller is told, what the receiver gets and what the
// clock does is never left out so.

// mode is how a step goes on.
type mode string

const (
	onward mode = "go"
	// Each other mode is a fault.
	again     mode = "again"     // the reply is lost, and the call made again, as stores do themselves
	silent    mode = "silent"    // the call is made, and its reply never comes
	away      mode = "away"      // the call never arrives
	refusing  mode = "refusing"  // whoever is called says no
	ambiguous mode = "ambiguous" // the receiver may have it
	dying     mode = "dying"     // the call is made, and the caller's process ends
	// Dying before a call is dying after the one before it.
	killed mode = "killed" // the run is over
)

// thing is what a step touches. Steps on everything keep their order with all others.
type thing string

const (
	records    thing = "records"
	letters    thing = "letters"
	requests   thing = "requests"
	everything thing = ""
)

// step waits to be let go on.
type step struct {
	actor *actor
	on    thing
	name  string
	modes []mode
	let   chan mode
}

// actor is one process.
type actor struct {
	name  string
	w     *world
	run   func(*actor)
	first thing // that its first step touches
	// ready says whether it may start. Nil: it may.
	ready func() bool
	// free: it is not stopped anywhere (before and after the exploration).
	free bool
	// sends is how its Send calls end where it is free. Empty: delivered.
	sends               mode
	started, dead, over bool
}

// take stops at a step and returns how it goes on. The actor of a process that has ended goes
// nowhere.
func (a *actor) take(on thing, name string, modes ...mode) mode {
	if a.dead {
		runtime.Goexit()
	}
	if a.free {
		return onward
	}
	s := &step{actor: a, on: on, name: name, modes: modes, let: make(chan mode)}
	a.w.mu.Lock()
	a.w.waiting = append(a.w.waiting, s)
	a.w.mu.Unlock()
	m := <-s.let
	if m == killed {
		a.die()
	}
	return m
}

// die ends the actor's process.
func (a *actor) die() {
	a.dead = true
	runtime.Goexit()
}

// through makes a call as the explorer says.
func through[T any](a *actor, on thing, name string, lost func(m mode) error, do func() (T, error), modes ...mode) (T, error) {
	var zero T
	m := a.take(on, name, append([]mode{onward}, modes...)...)
	if m == again {
		if _, err := do(); err != nil {
			return zero, err
		}
		m = a.take(on, name+" again", onward)
	}
	switch m {
	case silent:
		if _, err := do(); err != nil {
			return zero, err
		}
		return zero, lost(m)
	case away, refusing:
		return zero, lost(m)
	case dying:
		_, _ = do() //nolint:errcheck // nobody hears of it
		a.die()
	}
	return do()
}

// choice is one way to go on.
type choice struct {
	actor, step string
	mode        mode
	on          thing
}

func (c choice) String() string {
	return strings.TrimSuffix(fmt.Sprintf("%s %s %s", c.actor, c.step, c.mode), " "+string(onward))
}

const theClock = "the clock"

// depends reports whether the order of two choices may matter.
func (c choice) depends(d choice) bool {
	return c.actor == d.actor || c.on == everything || d.on == everything || c.on == d.on
}

// node is a choice that was made, and what else could have been.
type node struct {
	choices []choice
	next    int
	sleep   []choice // covered elsewhere
}

// explorer goes through all schedules, depth first.
type explorer struct {
	faults int // at most so many in a run
	path   []*node
	depth  int
	// counts
	runs, cut, longest int
	seen               map[string]int // what was told, how often
}

// choose returns the next choice of this run; false when all that follows is covered elsewhere.
func (e *explorer) choose(tb testing.TB, choices []choice) (choice, bool) {
	tb.Helper()
	if e.depth == len(e.path) {
		n := &node{}
		if e.depth > 0 {
			parent := e.path[e.depth-1]
			made := parent.choices[parent.next]
			for _, c := range slices.Concat(parent.sleep, parent.choices[:parent.next]) {
				if !c.depends(made) {
					n.sleep = append(n.sleep, c)
				}
			}
		}
		for _, c := range choices {
			if !slices.Contains(n.sleep, c) {
				n.choices = append(n.choices, c)
			}
		}
		e.path = append(e.path, n)
	}
	n := e.path[e.depth]
	if len(n.choices) == 0 {
		return choice{}, false
	}
	e.depth++
	c := n.choices[n.next]
	if !slices.Contains(choices, c) {
		tb.Fatalf("a run is not as it was before: %v is not among %v after %v", c, choices, e.schedule())
	}
	return c, true
}

// schedule is what was chosen in this run.
func (e *explorer) schedule() []choice {
	var made []choice
	for _, n := range e.path[:e.depth] {
		made = append(made, n.choices[n.next])
	}
	return made
}

// another prepares the next run; false when there is none.
func (e *explorer) another() bool {
	e.longest = max(e.longest, e.depth)
	e.depth = 0
	for len(e.path) > 0 {
		n := e.path[len(e.path)-1]
		if n.next++; n.next < len(n.choices) {
			return true
		}
		e.path = e.path[:len(e.path)-1]
	}
	return false
}

// world is one run.
type world struct {
	stage
	began  time.Time
	actors []*actor

	mu      sync.Mutex
	waiting []*step

	faults  int       // made so far
	leases  int       // how often the clock went past all leases
	expired bool      // the clock went to expires_at
	forced  *actor    // it has just started, and makes its first step
	late    bool      // a process was overtaken by its own lease
	broken  []string  // the rules that did not hold
	made    []choice  // so far
	done    bool      // the exploration is over
	begun   []*sent   // Send calls
	asked   []*cancel // cancellations
}

func (w *world) breaks(rule, format string, args ...any) {
	w.broken = append(w.broken, "("+rule+") "+fmt.Sprintf(format, args...))
}

func (w *world) actor(name string) *actor {
	for _, a := range w.actors {
		if a.name == name {
			return a
		}
	}
	return nil
}

func (w *world) cancelers() (n int) {
	for _, a := range w.actors {
		if strings.HasPrefix(a.name, "canceler") {
			n++
		}
	}
	return n
}

// underWay reports whether an actor is somewhere between its first and its last step.
func (w *world) underWay() bool {
	return slices.ContainsFunc(w.actors, func(a *actor) bool { return a.started && !a.dead && !a.over })
}

// asleep reports whether an actor waits for the clock.
func (w *world) asleep() bool {
	return slices.ContainsFunc(w.actors, func(a *actor) bool {
		return a.started && !a.dead && !a.over && !slices.ContainsFunc(w.stopped(), func(s *step) bool { return s.actor == a })
	})
}

// mostLeases is how often in a run all leases are over.
const mostLeases = 2

// stopped returns where actors have stopped, in an order that does not depend on how goroutines run.
func (w *world) stopped() []*step {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortStableFunc(w.waiting, func(a, b *step) int {
		return cmp.Or(cmp.Compare(a.actor.name, b.actor.name), cmp.Compare(a.name, b.name))
	})
	return slices.Clone(w.waiting)
}

// choices lists the ways to go on, in an order that does not depend on how goroutines run.
func (w *world) choices(c cast, most int) []choice {
	var all []choice
	for _, s := range w.stopped() {
		if w.forced != nil && s.actor != w.forced {
			continue
		}
		for _, m := range s.modes {
			if m == onward || w.faults < most {
				all = append(all, choice{s.actor.name, s.name, m, s.on})
			}
		}
	}
	if w.forced != nil && len(all) > 0 {
		return all
	}
	for _, a := range w.actors {
		if !a.started && (a.ready == nil || a.ready()) {
			all = append(all, choice{a.name, "starts", onward, a.first})
		}
	}
	clock := func(what string) { all = append(all, choice{theClock, what, onward, everything}) }
	if w.asleep() {
		clock("ticks")
	}
	if c.expires > 0 && !w.expired {
		clock("expires it")
	}
	// Leases matter once somebody has died or left; whoever is under way at their end is late,
	// which is a fault.
	startable := slices.ContainsFunc(w.actors, func(a *actor) bool { return !a.started && (a.ready == nil || a.ready()) })
	if w.leases < mostLeases && (w.underWay() && w.faults < most || !w.underWay() && startable && w.faults > 0) {
		clock("ends all leases")
	}
	return all
}

// perform goes on as chosen.
func (w *world) perform(c cast, next choice) {
	w.made = append(w.made, next)
	w.forced = nil
	switch {
	case next.actor == theClock:
		switch next.step {
		case "ticks":
			pass(time.Second)
		case "expires it":
			w.expired = true
			pass(time.Until(w.began.Add(c.expires)))
		default:
			if w.underWay() {
				w.faults++
				w.late = true
			}
			w.leases++
			pass(time.Hour)
		}
	case next.step == "starts":
		a := w.actor(next.actor)
		w.forced, a.started = a, true
		go w.start(a)
	default:
		w.mu.Lock()
		i := slices.IndexFunc(w.waiting, func(s *step) bool { return s.actor.name == next.actor && s.name == next.step })
		s := w.waiting[i]
		w.waiting = slices.Delete(w.waiting, i, i+1)
		w.mu.Unlock()
		if next.mode != onward {
			w.faults++
		}
		s.let <- next.mode
	}
}

func (w *world) start(a *actor) {
	defer func() { a.over = true }()
	a.run(a)
}

// pass lets time go by. It is for a bubble's clock.
func pass(d time.Duration) { <-time.After(max(d, 0)) }

// mostSteps bounds a run.
const mostSteps = 60

// explore makes one run. It must be called in a bubble.
func (e *explorer) explore(tb testing.TB, c cast) *world {
	tb.Helper()
	w := &world{began: time.Now()}
	c.prepare(w)
	synctest.Wait()
	full := true
	for {
		choices := w.choices(c, e.faults)
		if len(choices) == 0 {
			break
		}
		next, ok := e.choose(tb, choices)
		if full = ok; !ok {
			break
		}
		w.perform(c, next)
		synctest.Wait()
		w.look()
		if len(w.broken) > 0 {
			break
		}
		if len(w.made) > mostSteps {
			w.breaks("end", "it does not come to an end")
			break
		}
	}
	w.done = true
	for _, a := range w.actors {
		a.dead = true
	}
	for _, s := range w.waiting {
		s.let <- killed
	}
	w.waiting = nil
	synctest.Wait()
	if !full {
		e.cut++
		return w
	}
	e.runs++
	if len(w.broken) == 0 {
		w.drain()
	}
	return w
}
