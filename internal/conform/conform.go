// Package conform holds a recorded run of the real functions against internal/model while it goes on: what Redis got and answered
// (faultproxy.Record), what the queue of requests handed out, what receivers got and what callers were told. Each call makes the step that
// the model makes, and must have the model's answer; the promises are looked at after each. The first call that does not conform is
// told with the whole history of its delivery. Redis and who records it have one clock.
package conform

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"backstop/internal/faultproxy"
	"backstop/internal/model"
)

// Options say which deliveries there are. A delivery of one id that is asked for with two contents is one, by the number of the first.
type Options struct {
	// N is how many there are.
	N int
	// Name is what a delivery is called.
	Name func(i int) string
	// Record returns whose record a key is.
	Record func(key string) (i int, ok bool)
	// Delivery returns which delivery, and which content of it, a dead letter is of.
	Delivery func(sink, id, body string) (i, content int, ok bool)
	// Shard is in which shard the letters of a delivery are stored. Nil: each sink has one queue.
	Shard func(i int) int
	// Fingerprints are those of a delivery with several contents.
	Fingerprints func(i int) []string
	// Failed is told of what does not conform, of at most so many deliveries.
	Failed func(text string)
}

// Checker checks a run. Its methods may be called by several goroutines at once, and keep the order of their calls; Close ends it.
type Checker struct {
	o      Options
	closes sync.RWMutex
	closed bool // nothing is taken any more
	events chan func()
	done   chan struct{}
	start  time.Time

	followed []model.Followed
	history  [][]note
	left     map[int]bool // deliveries that do not conform: nothing is checked of them any more
	texts    []string
	numbers  map[string]uint16

	scripts map[string]string // by hash: path below lib/
	letters map[string]place
	firsts  map[string]int // by sink and push key of a first generation
	// addresses are those of the journal, by sink and address, and keepers who work on it, by queue.
	addresses map[string]place
	keepers   map[string]keeper
	tokens    map[string]int // of cancellations under way
	gates     map[string][]string
	suspects  []suspect
	counts    map[string]int
	failures  int
	steps     atomic.Int64
	failed    atomic.Int64
}

// place is what a letter is of.
type place struct{ i, content int }

// note is one line of a history.
type note struct {
	ms    uint32 // since the start
	text  uint16
	token uint8
	how   how
}

type how uint8

const (
	answered how = iota
	lost
	unknown
)

var hows = []string{"", " (its answer was lost)", " (no answer came)"}

// suspect is a promise that is broken, unless somebody turns out to have had no record.
type suspect struct {
	i     int
	since time.Time
	lines int
}

// patience is how long what the functions log may take to come.
const patience = 5 * time.Second

// queued is how many events may wait.
const queued = 1 << 14

// New starts a checker.
func New(o Options) *Checker {
	c := &Checker{
		o: o, events: make(chan func(), queued), done: make(chan struct{}), start: time.Now(),
		followed: make([]model.Followed, o.N), history: make([][]note, o.N), left: map[int]bool{}, numbers: map[string]uint16{},
		scripts: map[string]string{}, letters: map[string]place{}, addresses: map[string]place{}, keepers: map[string]keeper{},
		firsts: map[string]int{}, tokens: map[string]int{}, gates: map[string][]string{},
		counts: map[string]int{},
	}
	go func() {
		defer close(c.done)
		for e := range c.events {
			e()
			c.confirm(false)
			c.failed.Store(int64(c.failures))
		}
	}()
	return c
}

// Calls are what Redis got, as faultproxy.Record tells.
func (c *Checker) Calls(calls []faultproxy.Call) {
	c.enter(func() {
		for _, call := range calls {
			c.call(call)
		}
	})
}

// enter has an event wait for its turn.
func (c *Checker) enter(event func()) {
	c.closes.RLock()
	defer c.closes.RUnlock()
	if !c.closed {
		c.events <- event
	}
}

// on has something happen to a delivery.
func (c *Checker) on(i int, action, text string, do func(f *model.Followed) (wrong string)) {
	now := time.Now()
	c.enter(func() { c.does(i, action, text, "", answered, now, do) })
}

// Expire says when a delivery's time is over.
func (c *Checker) Expire(i int, at time.Time) {
	c.on(i, "ask", "its time will be over", func(f *model.Followed) string { f.Expire(at.UnixMilli()); return "" })
}

// Evicted is a record that a cache forgot, between two times; known: it is known that it did.
func (c *Checker) Evicted(i int, from, to time.Time, known bool) {
	how := answered
	if !known {
		how = unknown
	}
	c.enter(func() {
		c.does(i, "lose", "its record is lost", "", how, from, func(f *model.Followed) string { return f.Evict(span(from, to), known) })
	})
}

// Blind is a delivery that somebody goes on with who could not read or write its record.
func (c *Checker) Blind(i int) {
	c.on(i, "lose", "somebody goes on without its record", func(f *model.Followed) string { f.Blind(); return "" })
}

// Arrived is a request at the receiver: taken says that it has the message, answered that it says so.
func (c *Checker) Arrived(i, content int, at time.Time, taken, says bool) {
	text := "the receiver refuses it"
	switch {
	case says:
		text = "the receiver takes it"
	case taken:
		text = "the receiver takes it, and its answer never comes"
	}
	c.on(i, "attempt", text, func(f *model.Followed) string { f.Arrive(at.UnixMilli(), content, taken, says); return "" })
}

// Message is one that the queue of requests took (1) or that was deleted (-1).
func (c *Checker) Message(i, n int) {
	action, text := "accept", "the queue has its message"
	if n < 0 {
		action, text = "answer", "its message leaves the queue"
	}
	c.on(i, action, text, func(f *model.Followed) string { f.Message(n); return "" })
}

// Received is a message that the queue hands out.
func (c *Checker) Received(i int) {
	c.on(i, "redeliver", "the queue hands its message out", func(*model.Followed) string { return "" })
}

// Told is what a caller was told: one of model.Told..., or anything else.
func (c *Checker) Told(i, content int, what string) {
	c.on(i, "answer", "its caller is told: "+what, func(f *model.Followed) string { f.Tell(content, what); return "" })
}

// Canceling is a caller who begins to cancel.
func (c *Checker) Canceling(i int) {
	c.on(i, "cancel", "a caller cancels it", func(f *model.Followed) string { f.Cancel(); return "" })
}

// CancelTold is what that caller was told.
func (c *Checker) CancelTold(i int, done, mayHaveArrived, certain bool) {
	text := "its caller is told that it is not canceled"
	switch {
	case done && mayHaveArrived:
		text = "its caller is told that it is canceled, and may have arrived"
	case done:
		text = "its caller is told that it is canceled"
	case !certain:
		text = "its caller is told nothing certain of the cancellation"
	}
	c.on(i, "cancel", text, func(f *model.Followed) string { f.CancelTold(done, mayHaveArrived, certain); return "" })
}

// GivingUp is an operator who begins to give a delivery up.
func (c *Checker) GivingUp(i int) {
	c.on(i, "discard", "an operator gives it up", func(f *model.Followed) string { f.GiveUp(); return "" })
}

// GivenUpTold is what that operator was told.
func (c *Checker) GivenUpTold(i int, done, certain bool) {
	text := "its operator is told that it is not given up"
	switch {
	case done:
		text = "its operator is told that it is given up"
	case !certain:
		text = "its operator is told nothing certain of that"
	}
	c.on(i, "discard", text, func(f *model.Followed) string { f.GaveUp(done, certain); return "" })
}

// Close ends the run: nobody is at work any more, and what comes after it is not checked. It returns how many steps were checked, by action.
func (c *Checker) Close() map[string]int {
	c.closes.Lock()
	c.closed = true
	c.closes.Unlock()
	close(c.events)
	<-c.done
	c.confirm(true)
	for i := range c.followed {
		if name, text := c.followed[i].Broken(true); name != "" && !c.left[i] {
			c.fail(i, len(c.history[i]), fmt.Sprintf("at the end %s is broken: %s", name, text))
		}
	}
	return c.counts
}

// History is that of a delivery, once it is closed.
func (c *Checker) History(i int) string { return c.historyOf(i, 0) }

// Failures is how many deliveries do not conform, once it is closed.
func (c *Checker) Failures() int { return c.failures }

// Progress says how many steps were checked so far.
func (c *Checker) Progress() string {
	return fmt.Sprintf("%d steps checked, %d deliveries do not conform", c.steps.Load(), c.failed.Load())
}

// does makes a step of a delivery.
func (c *Checker) does(i int, action, text, token string, h how, at time.Time, do func(f *model.Followed) (wrong string)) {
	c.counts[action]++
	c.steps.Add(1)
	if c.left[i] {
		return
	}
	f := &c.followed[i]
	if len(c.history[i]) == 0 && c.o.Fingerprints != nil {
		if all := c.o.Fingerprints(i); len(all) > 1 {
			f.Know(all...)
		}
	}
	n := note{ms: uint32(max(at.Sub(c.start).Milliseconds(), 0)), text: c.number(action + ": " + text), how: h} //nolint:gosec // a run takes hours at most
	if token != "" {
		n.token = uint8(min(f.Token(token), 255))
	}
	c.history[i] = append(c.history[i], n)
	before := ""
	if h != answered {
		f.Lost()
	}
	if wrong := do(f); wrong != "" {
		before = f.String()
		c.fail(i, len(c.history[i]), wrong+"\n  the model: "+before)
		return
	}
	if name, _ := f.Broken(false); name != "" && !slices.ContainsFunc(c.suspects, func(s suspect) bool { return s.i == i }) {
		c.suspects = append(c.suspects, suspect{i, time.Now(), len(c.history[i])})
	}
}

// confirm tells of promises that are still broken after a while; all of them, once the run is over.
func (c *Checker) confirm(all bool) {
	for len(c.suspects) > 0 && (all || time.Since(c.suspects[0].since) > patience) {
		s := c.suspects[0]
		c.suspects = c.suspects[1:]
		if name, text := c.followed[s.i].Broken(false); name != "" && !c.left[s.i] {
			c.fail(s.i, s.lines, fmt.Sprintf("%s is broken: %s\n  the model: %s", name, text, c.followed[s.i].String()))
		}
	}
}

// mostTold is of how many deliveries it is told that they do not conform.
const mostTold = 10

func (c *Checker) fail(i, lines int, wrong string) {
	c.left[i] = true
	if c.failures++; c.failures <= mostTold {
		c.o.Failed(fmt.Sprintf("%s does not conform: %s\n%s", c.o.Name(i), wrong, c.historyOf(i, lines)))
	}
}

// stray is a call of no delivery that does not conform.
func (c *Checker) stray(format string, args ...any) {
	if c.failures++; c.failures <= mostTold {
		c.o.Failed(fmt.Sprintf(format, args...))
	}
}

// historyOf prints the history of a delivery, and marks the line at which it does not conform.
func (c *Checker) historyOf(i, marked int) string {
	var b strings.Builder
	for n, l := range c.history[i] {
		sign := " "
		if n+1 == marked {
			sign = ">"
		}
		by := ""
		if l.token > 0 {
			by = fmt.Sprintf(" by %d", l.token)
		}
		fmt.Fprintf(&b, "%s%3d. %8.3fs %s%s%s\n", sign, n+1, float64(l.ms)/1000, c.texts[l.text], by, hows[l.how])
	}
	return b.String()
}

// number keeps a text once.
func (c *Checker) number(text string) uint16 {
	n, ok := c.numbers[text]
	if !ok {
		n = uint16(min(len(c.texts), 1<<16-1)) //nolint:gosec // bounded
		if int(n) == len(c.texts) {
			c.texts = append(c.texts, text)
		}
		c.numbers[text] = n
	}
	return n
}

// Counts prints how many steps were checked, by action.
func Counts(counts map[string]int) string {
	var b strings.Builder
	sum := 0
	for _, action := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Or(counts[b]-counts[a], strings.Compare(a, b)) }) {
		sum += counts[action]
		fmt.Fprintf(&b, " %s=%d", action, counts[action])
	}
	return fmt.Sprintf("steps=%d%s", sum, b.String())
}

func span(from, to time.Time) model.Span {
	return model.Span{From: from.UnixMilli(), To: to.UnixMilli()}
}
