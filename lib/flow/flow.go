// Package flow says when a receiver may be sent to: all processes together leave one alone
// that is down or that asked for less, and let what was held back go again step by step.
//
// A Gate is asked before every attempt and told what came of it. It acts at once on what its
// own process saw, and shares what it knows with other processes through a Store: Redis, or
// Memory for one process. While a receiver is well, a Gate asks its Store once in two seconds
// and sink, however many messages go.
//
// Start with Gate. A retry.Retrier asks one for every attempt when its field Gate is set.
// The rules stand in state.go, as tables of transitions.
package flow

import (
	"context"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"
)

// Verdict says whether an attempt may begin.
type Verdict int

// The verdicts.
const (
	// Go: it may begin at Leave.At.
	Go Verdict = iota
	// Wait: it may ask again at Leave.At.
	Wait
	// Refused: the receiver is left alone. The delivery ends; a probe may go at Leave.At.
	Refused
)

// Try is an attempt that wants to begin.
type Try struct {
	// Sink is the sink's name. Receiver is who takes the message where one sink has several;
	// empty: the sink is one receiver.
	Sink, Receiver string
	// RateKey is what the receiver's rate is counted by, such as a chat: rate and holds are its own then, and
	// the breaker stays the receiver's. It is hashed before it is kept. Empty: the receiver as a whole.
	RateKey string
	// Delivery is the delivery's id.
	Delivery string
	// Latest is when the attempt must begin, for it to be worth anything. Zero: whenever.
	Latest time.Time
	// End is when the attempt will have ended, whatever happens: a probe's right ends then.
	End time.Time
	// Policy is the sink's.
	Policy Policy
	// Force goes in any case, as an operator does; a success lifts what held the receiver back.
	Force bool
	// Own is what Ask has given it before, for Shut: what it has itself does not hold it up. Nil: nothing.
	Own *Leave
}

// Leave answers a Try. One with verdict Go must be told its result, once.
type Leave struct {
	Verdict Verdict
	// At is when it may begin (Go; zero: now), when to ask again (Wait), or when the next probe
	// may go (Refused).
	At time.Time
	// Spaced says that no two that wait have the same At.
	Spaced bool
	// Probe says that this attempt finds out whether the receiver is back: no other follows it
	// in the same delivery.
	Probe bool
	// Down says that it was refused because the breaker is open: nothing but probes goes, by
	// anybody. Otherwise others may go, or another process, and so may this one soon.
	Down bool
	// Why says what holds the receiver back; empty where nothing does.
	Why string

	try   Try
	token string // of its slot; empty: it has none
	mark  int64
	trial bool  // of a process that has stopped by itself
	ended bool  // the hold of its rate key has ended lately
	hold  int64 // it probes after that; 0: it does not
}

// Told is what came of an attempt.
type Told struct {
	Result Result
	// Hold is how long the receiver asked everybody to stay away, of the try's rate key where it has one;
	// 0: it did not.
	Hold time.Duration
	// Error is the failure's text.
	Error string
}

// Gate decides for one process. Its fields are set before its first use and never changed;
// then it is safe for concurrent use. It must not be copied.
type Gate struct {
	// Store is what the processes share. Required.
	Store Store
	// Log is told when the process stops by itself, and when the store cannot be asked. Nil:
	// slog.Default.
	Log *slog.Logger
	// Observer counts what this process changed. Nil: nobody does.
	Observer Observer
	// Rand returns numbers in [0, 1), which keep processes apart; it must be safe for concurrent use.
	// Nil: math/rand/v2.
	Rand func() float64

	asking singleflight.Group
	own    Memory // the process's, for rates while the store is away

	mu    sync.Mutex
	id    string // of the process
	sinks map[string]view
	rows  map[receiver]*row
	slots map[receiver]*gatherer
}

// Observer counts. It is called from many goroutines at once, with the context of the attempt.
type Observer interface {
	// BreakerOpened is called by the one process of all that opened a receiver's breaker.
	BreakerOpened(ctx context.Context, sink string)
	// Held is called by the process whose attempt was asked to wait for everybody, once for
	// each hold.
	Held(ctx context.Context, sink string)
}

type receiver struct{ sink, name string }

// row is what this process saw of a receiver: failures in a row of different deliveries.
type row struct {
	failed map[string]bool
	good   int64     // State.news when the row became long
	until  time.Time // it has stopped by itself until then; zero: it has not
	why    string    // the last failure
	wait   time.Duration
	trying bool // it lets one through
	policy Policy

	pending  []Outcome // to be shared
	urgent   bool      // now, not with others that come
	sharing  bool      // somebody is at it
	reported time.Time // when that was last begun
}

// While a receiver is failing, a process shares what it sees this often.
const (
	reportEvery = time.Second
	reportMost  = 20 // outcomes
)

func (g *Gate) rand() float64 {
	if g.Rand != nil {
		return g.Rand()
	}
	return rand.Float64()
}

// Paused reports whether an operator has paused the sink, at most two seconds ago.
func (g *Gate) Paused(ctx context.Context, sink string) bool { return g.look(ctx, sink).paused }

// Ask says whether an attempt may begin. It never fails: where the store cannot be asked, the
// process goes by what it knew for as long as Breaker.ProbeEvery, and then by what it sees.
func (g *Gate) Ask(ctx context.Context, t Try) Leave {
	l, s := g.ask(ctx, t)
	switch {
	case l.Verdict != Go || l.try.Force:
		return l
	case l.try.Policy.Rate.PerSecond > 0:
		// First, for it can be lost without harm; the others hold up everybody.
		if l = g.paced(ctx, l); l.Verdict != Go {
			return l
		}
	}
	if l.ended {
		if l = g.probe(ctx, l); l.Verdict != Go {
			return l
		}
	}
	if s.guarded() {
		l = g.take(ctx, l)
	} else {
		l = g.alone(l, s, true)
	}
	if l.Verdict != Go && l.hold != 0 {
		g.shareHold(ctx, l.try, Hold{Change: HoldBack, Probe: l.hold})
	}
	return l
}

// paced waits for a slot of the receiver's rate.
func (g *Gate) paced(ctx context.Context, l Leave) Leave {
	var taken bool
	if l.At, taken = g.slot(ctx, l.try); !taken {
		l.Verdict, l.Spaced, l.Why = Wait, true, "the receiver's rate is used up"
	}
	l.try.End = l.try.End.Add(max(time.Until(l.At), 0))
	return l
}

// Shut says whether Ask would refuse an attempt now. It takes nothing.
func (g *Gate) Shut(ctx context.Context, t Try) (Leave, bool) {
	l, s := g.ask(ctx, t)
	if l.Verdict != Refused && !l.try.Force && !s.guarded() && (t.Own == nil || !t.Own.trial) {
		if alone := g.alone(l, s, false); alone.Verdict == Refused {
			l = alone
		}
	}
	return l, l.Verdict == Refused
}

// ask answers by what is known here.
func (g *Gate) ask(ctx context.Context, t Try) (Leave, State) {
	t.Policy, t.RateKey = t.Policy.Normalize(), t.rateKey()
	l := Leave{try: t}
	if t.Force {
		return l, State{}
	}
	v := g.look(ctx, t.Sink)
	s, now := v.of(t)
	if s.Status == Failing {
		l.mark = s.Since
	}
	l.Why = s.why()
	if t.Own != nil && now >= s.Held && s.holds(t.Own.token, now) {
		return l, s
	}
	if _, got := s.ask(t.Policy, event{now: now, token: "?", until: now + 1}); got.verdict != Go {
		l = l.refused(v, got)
	} else if t.RateKey != "" {
		l = v.held(l)
	}
	return l, s
}

// take asks the store for a slot.
func (g *Gate) take(ctx context.Context, l Leave) Leave {
	l.token = uuid.NewString()
	var got grant
	err := g.update(ctx, l.try, false, func(s State, now int64) State {
		s, got = s.ask(l.try.Policy, event{now: now, token: l.token, until: now + time.Until(l.try.End).Milliseconds()})
		l.mark = 0
		if s.Status == Failing {
			l.mark = s.Since
		}
		return s
	})
	if err != nil {
		// Nobody knows who probes. It is not this process, and the next question is soon.
		l.token, l.Verdict, l.At = "", Refused, wall().Add(time.Second)
		s, _ := g.have(l.try.Sink).of(l.try)
		if l.Down = s.Status == Open; asked[s.Status] == nil {
			l.Verdict = Wait // after a hold; no breaker is open
		}
		return l
	}
	if got.verdict != Go {
		l.token = ""
		return l.refused(g.have(l.try.Sink), got)
	}
	if !got.slot {
		l.token = ""
	}
	l.Probe = got.probe
	return l
}

func (l Leave) refused(v view, g grant) Leave {
	l.Verdict, l.Down, l.At = g.verdict, g.down, time.UnixMilli(g.at-v.ahead)
	return l
}

// alone is what the process decides by itself.
func (g *Gate) alone(l Leave, s State, take bool) Leave {
	if l.try.Policy.Breaker.Off {
		return l
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.rows[g.key(l.try)]
	if r == nil || r.until.IsZero() {
		return l
	}
	if s.news() > r.good {
		r.end()
		return l
	}
	if now := wall(); now.Before(r.until) || r.trying {
		l.Verdict, l.At, l.Why = Refused, r.until, whyAlone+r.why
		if r.trying {
			l.At = now.Add(time.Second)
		}
		return l
	}
	if take {
		r.trying, l.trial, l.Probe = true, true, true
	}
	return l
}

const whyAlone = "this process leaves the receiver alone since five deliveries in a row failed: "

func (r *row) end() {
	r.failed, r.until, r.wait, r.trying = nil, time.Time{}, 0, false
}

// Tell says what came of an attempt.
func (g *Gate) Tell(ctx context.Context, l Leave, t Told) {
	if l.Verdict != Go {
		return
	}
	if l.try.RateKey != "" {
		t = g.tellKey(ctx, l, t)
	}
	if t.Result == Good && l.token == "" && l.mark == 0 && t.Hold <= 0 && !l.try.Force && !g.noted(l.try) {
		return // as nearly all are
	}
	o := Outcome{Result: t.Result, Delivery: hash(l.try.Delivery), Mark: l.mark, Error: t.Error}
	o.Row = g.note(ctx, l, o)
	g.share(ctx, l.try)
	lifts := l.try.Force && t.Result == Good
	if l.token == "" && t.Hold <= 0 && !lifts {
		return
	}
	g.save(ctx, l.try, l.token != "", func(s State, now int64) State {
		e := event{now: now, process: g.process(), token: l.token, result: t.Result, outcome: o}
		switch {
		case l.token != "":
			s = s.end(l.try.Policy, e)
		case lifts:
			s = s.succeeded(now)
		}
		if t.Hold > 0 {
			e.until = now + t.Hold.Milliseconds()
			s = s.hold(l.try.Policy, e)
		}
		return s
	})
}

// note counts an outcome in the process. It reports whether there is a row of failures.
func (g *Gate) note(ctx context.Context, l Leave, o Outcome) (long bool) {
	s, _ := g.have(l.try.Sink).of(l.try)
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.row(l.try)
	defer g.forget(l.try)
	if l.trial {
		r.trying = false
	}
	switch o.Result {
	case Good:
		r.end()
	case Bad:
		if r.failed == nil {
			r.failed = map[string]bool{}
		}
		if len(r.failed) < suspects {
			r.failed[o.Delivery] = true
		}
		if long = len(r.failed) >= suspects; long && !l.try.Policy.Breaker.Off {
			g.stop(ctx, r, l, o.Error, s.news())
		}
	}
	// Of a receiver that is failing both sides count. What had a slot has said so already.
	if l.mark != 0 && l.token == "" && o.Result != NoAnswer {
		o.Row = long
		r.pending = append(r.pending, o)
	}
	return long
}

// stop leaves the receiver alone for a while, by this process.
func (g *Gate) stop(ctx context.Context, r *row, l Leave, why string, good int64) {
	switch {
	case r.until.IsZero():
		r.good, r.wait = good, firstProbe*time.Millisecond
		g.log().WarnContext(ctx, "this process leaves a receiver alone: five deliveries in a row failed",
			"sink", l.try.Sink, "receiver", l.try.Receiver, "error", why)
	case l.trial:
		r.wait = min(2*r.wait, l.try.Policy.Breaker.ProbeEvery)
	default:
		return // an attempt that was under way when it stopped
	}
	r.until, r.why = wall().Add(r.wait), why
}

// key is where the row of a receiver stands. Those that callers make up share one in the end.
func (g *Gate) key(t Try) receiver {
	k := receiver{t.Sink, t.Receiver}
	if g.rows[k] == nil && len(g.rows) >= receivers {
		k.name = rest
	}
	return k
}

func (g *Gate) row(t Try) *row {
	if g.rows == nil {
		g.rows = map[receiver]*row{}
	}
	k := g.key(t)
	r := g.rows[k]
	if r == nil {
		r = &row{}
		g.rows[k] = r
	}
	r.policy = t.Policy
	return r
}

// noted reports whether the process has noted anything of a receiver.
func (g *Gate) noted(t Try) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rows[g.key(t)] != nil
}

// forget drops a row that says nothing.
func (g *Gate) forget(t Try) {
	k := g.key(t)
	if r := g.rows[k]; r != nil && len(r.failed) == 0 && len(r.pending) == 0 && !r.trying && !r.sharing {
		delete(g.rows, k)
	}
}

// Lost says that a delivery to a receiver has failed for now and was dead-lettered. What the
// process has seen is shared: by this call, or by another one that is at it.
func (g *Gate) Lost(ctx context.Context, t Try, why string) {
	t.Policy = t.Policy.Normalize()
	if t.Policy.Breaker.Off {
		return
	}
	g.mu.Lock()
	r := g.row(t)
	r.pending = append(r.pending, Outcome{Result: Bad, Delivery: hash(t.Delivery), Lost: true, Error: why})
	r.urgent = true
	g.mu.Unlock()
	g.share(ctx, t)
}

// share reports what the process has seen of a receiver, where that is due. One caller does it
// for all: those of a batch would only get into each other's way.
func (g *Gate) share(ctx context.Context, t Try) {
	mine := false
	for {
		g.mu.Lock()
		r := g.rows[g.key(t)]
		if r == nil || r.sharing && !mine {
			g.mu.Unlock()
			return
		}
		now := wall()
		due := r.urgent || len(r.pending) >= reportMost || now.Sub(r.reported) >= reportEvery
		if len(r.pending) == 0 || !due || ctx.Err() != nil {
			r.sharing = false
			g.forget(t)
			g.mu.Unlock()
			return
		}
		outcomes := r.pending
		r.pending, r.urgent, r.sharing, r.reported, mine = nil, false, true, now, true
		g.mu.Unlock()
		g.report(ctx, t, outcomes)
	}
}

// Flush reports what the process has seen of receivers that are failing. An invocation ends
// with it.
func (g *Gate) Flush(ctx context.Context) {
	type batch struct {
		t        Try
		outcomes []Outcome
	}
	var all []batch
	g.mu.Lock()
	for k, r := range g.rows {
		if len(r.pending) > 0 {
			all = append(all, batch{Try{Sink: k.sink, Receiver: k.name, Policy: r.policy}, r.pending})
			r.pending, r.urgent = nil, false
		}
	}
	g.mu.Unlock()
	for _, b := range all {
		g.report(ctx, b.t, b.outcomes)
	}
}

// report shares outcomes. It does not where the store did not answer last: whoever has to tell
// callers that it is away has no time for it, and a report that is lost is one less.
func (g *Gate) report(ctx context.Context, t Try, outcomes []Outcome) {
	if v := g.have(t.Sink); v.asked.After(v.told) {
		return
	}
	g.save(ctx, t, false, func(s State, now int64) State {
		for _, o := range outcomes {
			s = s.report(t.Policy, event{now: now, process: g.process(), outcome: o})
		}
		return s
	})
}

// save updates a state where nobody waits for the answer: a report that is lost is one less.
func (g *Gate) save(ctx context.Context, t Try, always bool, f func(State, int64) State) {
	if err := g.update(ctx, t, always, f); err != nil {
		g.log().WarnContext(ctx, "state of a receiver not shared", "sink", t.Sink, "error", err.Error())
	}
}

// process is this process's name among others.
func (g *Gate) process() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.id == "" {
		g.id = uuid.NewString()[:8]
	}
	return g.id
}

func hash(id string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id))
	return strconv.FormatUint(h.Sum64(), 36)
}

func (g *Gate) log() *slog.Logger {
	if g.Log != nil {
		return g.Log
	}
	return slog.Default()
}
