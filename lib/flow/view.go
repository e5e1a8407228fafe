package flow

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

const (
	// viewAge is how long a process goes on with what it knows of a sink's receivers.
	viewAge = 2 * time.Second
	// lookWait bounds the question. Without an answer everything counts as it did before.
	lookWait = 250 * time.Millisecond
)

// view is what a process knows of a sink. It is never changed, only replaced.
type view struct {
	paused bool
	states map[string]known
	holds  map[string]int64 // of rate keys, until when
	asked  time.Time        // by our clock
	told   time.Time        // by our clock, when the store last answered
	ahead  int64            // the store's clock minus ours, in ms
}

// known is a state as it is stored, and decoded.
type known struct {
	raw   string
	state State
}

// wall is the wall clock: a process that was frozen knows nothing of the time since by the
// other one.
func wall() time.Time { return time.Now().Round(0) }

// now is the store's clock.
func (v view) now() int64 { return wall().UnixMilli() + v.ahead }

// field names a receiver in the store.
func (v view) field(name string) string {
	if name == "" {
		return own
	}
	if _, ok := v.states[name]; !ok && len(v.states) >= receivers {
		return rest
	}
	return name
}

// of returns the state of a receiver, and the store's time. What is known goes stale when the
// store is away: after the longest wait between probes it says nothing any more.
func (v view) of(t Try) (State, int64) {
	now := v.now()
	if wall().Sub(v.told) > viewAge+t.Policy.Breaker.ProbeEvery {
		return State{}, now
	}
	s := v.states[v.field(t.Receiver)].state.clone()
	s.tidy(t.Policy, now)
	// An operator lifts what holds back a sink, of which a receiver may have no state.
	s.LiftedAt = max(s.LiftedAt, v.states[own].state.LiftedAt)
	return s, now
}

// have returns what is known without asking.
func (g *Gate) have(sink string) view {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sinks[sink]
}

// look returns what is known of a sink, at most viewAge old where the store answers.
func (g *Gate) look(ctx context.Context, sink string) view {
	for {
		v := g.have(sink)
		if v.fresh() || ctx.Err() != nil {
			return v
		}
		_, _, _ = g.asking.Do(sink, func() (any, error) {
			// Somebody's question may have been answered since we looked.
			if !g.have(sink).fresh() {
				g.see(ctx, sink)
			}
			return nil, nil
		})
	}
}

// fresh reports whether the store was asked less than viewAge ago.
func (v view) fresh() bool {
	age := wall().Sub(v.asked)
	return !v.asked.IsZero() && age >= 0 && age < viewAge
}

// see asks the store. A question that its own caller ended is not noted: it says nothing, and
// others may be waiting for it.
func (g *Gate) see(ctx context.Context, sink string) {
	question, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	seen, err := g.Store.Look(question, sink)
	if err != nil && ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.sinks[sink]
	v.asked = wall()
	if err == nil {
		states := make(map[string]known, len(seen.States))
		for name, raw := range seen.States {
			states[name] = decode(raw)
		}
		v.paused, v.states, v.holds, v.told, v.ahead = seen.Paused, states, seen.Holds, v.asked, seen.Now-v.asked.UnixMilli()
	}
	g.set(sink, v)
}

// learn notes the state of one receiver.
func (g *Gate) learn(sink, field string, k known, now int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.sinks[sink]
	states := maps.Clone(v.states)
	if states == nil {
		states = map[string]known{}
	}
	if k.raw == "" {
		delete(states, field)
	} else {
		states[field] = k
	}
	v.states = states
	if now != 0 {
		v.told = wall()
		v.ahead = now - v.told.UnixMilli()
	}
	g.set(sink, v)
}

func (g *Gate) set(sink string, v view) {
	if g.sinks == nil {
		g.sinks = map[string]view{}
	}
	g.sinks[sink] = v
}

// swaps is how often a state is tried to be changed that others change at the same time.
const swaps = 12

var errBusy = errors.New("others change it all the time")

// update changes a receiver's state by f, which is called with what is known and the store's
// time, and again after each time that somebody else was quicker. Where f changes nothing, the
// store is asked only if always is set: what is known may be old.
func (g *Gate) update(ctx context.Context, t Try, always bool, f func(State, int64) State) error {
	v := g.have(t.Sink)
	name, now := v.field(t.Receiver), v.now()
	k := v.states[name]
	for range swaps {
		change := strconv.FormatUint(rand.Uint64(), 36)
		next := known{raw: k.raw, state: f(k.state, now)}
		if !same(next.state, k.state) {
			raw, err := encode(next.state, change, now)
			if err != nil {
				return err
			}
			next = decode(raw)
		} else if !always {
			return nil
		}
		got, err := g.Store.Swap(ctx, t.Sink, name, Swap{Old: k.raw, New: next.raw, At: now})
		if err != nil {
			return err
		}
		if got.Swapped {
			g.learn(t.Sink, name, next, got.Now)
			g.changed(ctx, t, k.state, next.state)
			return nil
		}
		before := k.state
		k, now = decode(got.Current), got.Now
		if slices.Contains(k.state.Changes, change) { // the reply was lost, and others came since
			g.learn(t.Sink, name, k, now)
			g.changed(ctx, t, before, next.state)
			return nil
		}
		if got.Full {
			name = rest
			continue
		}
		g.learn(t.Sink, name, k, now)
	}
	return fmt.Errorf("receiver of sink %s: %w", t.Sink, errBusy)
}

// changed tells the log and the observer what this process has changed.
func (g *Gate) changed(ctx context.Context, t Try, before, after State) {
	about := []any{"sink", t.Sink, "receiver", t.Receiver}
	switch {
	case after.Status == before.Status:
	case after.Status == Open:
		if before.Status != Closing {
			g.observe(func(o Observer) { o.BreakerOpened(ctx, t.Sink) })
		}
		g.log().WarnContext(ctx, "a receiver is left alone by all processes", append(about, "error", after.Error)...)
	case after.Status == Closing:
		g.log().InfoContext(ctx, "a receiver is back, and gets more step by step", about...)
	case after.Status == OK && before.Status == Closing:
		g.log().InfoContext(ctx, "a receiver is well again", about...)
	}
	if after.HeldAt > before.HeldAt {
		g.observe(func(o Observer) { o.Held(ctx, t.Sink) })
		g.log().WarnContext(ctx, "a receiver asked everybody to wait", append(about, "until", time.UnixMilli(after.Held).UTC())...)
	}
}

func (g *Gate) observe(f func(Observer)) {
	if g.Observer != nil {
		f(g.Observer)
	}
}

// Receiver is one receiver of a sink, as an operator sees it. What the store does not know is
// zero: of a receiver that is well no success is counted.
type Receiver struct {
	Name   string // empty: the sink's own
	Status ReceiverStatus
	// Since is when Status began, NextProbe when an attempt may find out whether it still holds.
	Since, NextProbe time.Time
	LastError        string
	LastErrorAt      time.Time
	LastSuccessAt    time.Time
}

// ReceiverStatus is what a receiver gets.
type ReceiverStatus string

// The statuses. A breaker that closes step by step is still open.
const (
	ReceiverOK      ReceiverStatus = "ok"
	ReceiverFailing ReceiverStatus = "failing" // deliveries fail; both sides are counted
	ReceiverOpen    ReceiverStatus = "open"    // it is left alone but for probes
	ReceiverHeld    ReceiverStatus = "held"    // it asked everybody to wait
)

// Receivers returns what is known of a sink's own receiver, first, and of those that are not
// well, by name. It asks the store, whose error it returns.
func (g *Gate) Receivers(ctx context.Context, sink string, p Policy) ([]Receiver, error) {
	seen, err := g.Store.Look(ctx, sink)
	if err != nil {
		return nil, err
	}
	return seen.receivers(p), nil
}

// ReceiversOf returns what Receivers does of several sinks, in few round trips. It fails as a whole.
func (g *Gate) ReceiversOf(ctx context.Context, sinks []string, policy func(sink string) Policy) ([][]Receiver, error) {
	seen, err := g.Store.LookAll(ctx, sinks)
	if err != nil {
		return nil, err
	}
	all := make([][]Receiver, len(sinks))
	for i, sink := range sinks {
		all[i] = seen[i].receivers(policy(sink))
	}
	return all, nil
}

func (seen Seen) receivers(p Policy) []Receiver {
	p = p.Normalize()
	all := []Receiver{{Status: ReceiverOK}}
	for _, name := range slices.Sorted(maps.Keys(seen.States)) {
		s := decode(seen.States[name]).state
		s.tidy(p, seen.Now)
		r := s.receiver(seen.Now)
		switch {
		case name == own:
			all[0] = r
		case r.Status != ReceiverOK:
			r.Name = name
			all = append(all, r)
		}
	}
	return all
}

func (s State) receiver(now int64) Receiver {
	r := Receiver{Status: ReceiverOK, LastError: s.Error, LastErrorAt: at(s.BadAt), LastSuccessAt: at(s.GoodAt)}
	switch {
	case s.Status == Open || s.Status == Closing:
		r.Status, r.Since, r.NextProbe = ReceiverOpen, at(s.Since), s.NextProbe()
	case s.Held > now:
		r.Status, r.Since, r.NextProbe = ReceiverHeld, at(s.HeldAt), at(s.Held)
	case s.Status == Failing:
		r.Status, r.Since = ReceiverFailing, at(s.Since)
	}
	return r
}

// at is a time of the store; 0: none.
func at(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// Lift lifts what holds back the receivers of a sink, and their rate keys, as an operator asks for: the next attempt
// at each is the probe, and processes that have stopped by themselves go on within two seconds.
// The error is the store's; what was lifted before it stays so.
func (g *Gate) Lift(ctx context.Context, sink string, p Policy) error {
	all, err := g.Receivers(ctx, sink, p)
	if err != nil {
		return err
	}
	_, _, err = g.Store.Hold(ctx, sink, Hold{Change: HoldLift})
	g.see(ctx, sink)
	errs := []error{err}
	for _, r := range all {
		t := Try{Sink: sink, Receiver: r.Name, Policy: p.Normalize()}
		errs = append(errs, g.update(ctx, t, true, func(s State, now int64) State { return s.lift(t.Policy, now) }))
	}
	return errors.Join(errs...)
}

// Slot takes a slot of a rate that all processes share under a name of the sink, besides the
// rates of its receivers. It reports false where none is due at latest; one that is taken and
// not used is lost. Where the store cannot be asked, the process keeps the rate by itself.
func (g *Gate) Slot(ctx context.Context, sink, name string, r Rate, latest time.Time) (at time.Time, taken bool) {
	return g.slot(ctx, Try{Sink: sink, Receiver: name, Latest: latest, Policy: Policy{Rate: r}})
}
