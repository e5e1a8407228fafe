package flow

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"
)

// Rate bounds how often a receiver is attempted, by all processes together: sends and replays
// alike. The zero value sets no bound.
type Rate struct {
	// PerSecond is how many attempts may begin per second, in the long run. Zero: no bound.
	PerSecond float64 `json:"per_second"`
	// Burst is how many may begin at once after a pause. Zero: 1.
	Burst int `json:"burst"`
}

// furthest is how far ahead what was refused is spread.
const furthest = 24 * time.Hour

// Times of slots are Unix µs: at high rates several are due within one ms.

// Slots asks for slots of one receiver, one for each Latest.
type Slots struct {
	Interval  int64   // µs between two slots in the long run
	Tolerance int64   // µs by which slots may be early after a pause
	Latest    []int64 // a slot after it is of no use, Unix µs of the store's clock
	// Keys are the rate keys, one for each Latest: each has a rate of its own. Empty: the receiver's. Nil: all
	// are.
	Keys []string
	// Random is in [0, 1): it spreads what is refused once the spacing has reached its end.
	Random float64
}

// Granted is one answer to Slots.
type Granted struct {
	Taken bool
	At    int64 // when the slot is; where none was taken, when to come again
}

// meterOf names the rate of the ith slot, at a receiver.
func (s Slots) meterOf(receiver string, i int) string {
	if s.Keys == nil || s.Keys[i] == "" {
		return receiver
	}
	return receiver + "\x00" + s.Keys[i]
}

func (r Rate) interval() int64 { return int64(math.Ceil(1e6 / r.PerSecond)) }

func (r Rate) tolerance() int64 { return int64(max(r.Burst, 1)-1) * r.interval() }

// meter is what is shared of a rate. Two cursors, Unix µs: Real hands out slots (GCRA: it is
// the time at which the next slot is due in theory), and Spaced only spaces what was refused.
type meter struct{ Real, Spaced int64 }

// take answers each Latest, in order. What is refused is told times that are one interval
// apart, so that it does not come back all at once; it takes a slot then like any other.
func (m *meter) take(s Slots, now int64) []Granted {
	out := make([]Granted, len(s.Latest))
	for i, latest := range s.Latest {
		if at := max(now, m.Real-s.Tolerance); at <= latest {
			m.Real = max(m.Real, now) + s.Interval
			out[i] = Granted{true, at}
			continue
		}
		m.Spaced = max(m.Spaced, m.Real, now) + s.Interval
		out[i] = Granted{false, m.Spaced}
		if end := now + furthest.Microseconds(); m.Spaced > end {
			m.Spaced = end
			out[i].At = now + int64(s.Random*float64(furthest.Microseconds()))
		}
	}
	return out
}

// idle reports whether the meter says nothing that a new one would not.
func (m *meter) idle(now int64) bool { return m.Real <= now && m.Spaced <= now }

// gatherer asks for the slots of a receiver: those that are wanted while one question is under
// way go in the next one, so that a batch costs two.
type gatherer struct {
	mu      sync.Mutex
	waiting []*wish
	asking  bool
}

// wish is one attempt that wants a slot.
type wish struct {
	latest time.Time
	key    string       // its rate key
	got    chan Granted // its time is by our clock
}

// slotWait bounds one question for slots.
const slotWait = time.Second

// slot waits for a slot of the try's receiver. Where the store cannot be asked, the process
// keeps the rate by itself.
func (g *Gate) slot(ctx context.Context, t Try) (at time.Time, taken bool) {
	latest := t.Latest
	if latest.IsZero() {
		latest = time.Now().Add(furthest)
	}
	w := &wish{latest: latest, key: t.RateKey, got: make(chan Granted, 1)}
	q := g.gatherer(t)
	q.mu.Lock()
	q.waiting = append(q.waiting, w)
	first := !q.asking
	q.asking = true
	q.mu.Unlock()
	if first {
		go g.gather(context.WithoutCancel(ctx), q, t)
	}
	select {
	case got := <-w.got:
		return time.UnixMicro(got.At), got.Taken
	case <-ctx.Done():
		return time.Now(), false // the slot, if there is one, is lost
	}
}

func (g *Gate) gatherer(t Try) *gatherer {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.slots == nil {
		g.slots = map[receiver]*gatherer{}
	}
	k := receiver{t.Sink, t.Receiver}
	q := g.slots[k]
	if q == nil {
		if len(g.slots) >= receivers {
			clear(g.slots) // those who wait have theirs
		}
		q = &gatherer{}
		g.slots[k] = q
	}
	return q
}

// gather asks until nobody waits.
func (g *Gate) gather(ctx context.Context, q *gatherer, t Try) {
	for {
		q.mu.Lock()
		batch := q.waiting
		q.waiting = nil
		if q.asking = len(batch) > 0; !q.asking {
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		for i, got := range g.askSlots(ctx, t, batch) {
			batch[i].got <- got
		}
	}
}

func (g *Gate) askSlots(ctx context.Context, t Try, batch []*wish) []Granted {
	v, r := g.have(t.Sink), t.Policy.Rate
	s := Slots{Interval: r.interval(), Tolerance: r.tolerance(), Random: g.rand()}
	for _, w := range batch {
		s.Latest = append(s.Latest, w.latest.UnixMicro()+v.ahead*1000)
	}
	if slices.ContainsFunc(batch, func(w *wish) bool { return w.key != "" }) {
		for _, w := range batch {
			s.Keys = append(s.Keys, w.key)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, slotWait)
	defer cancel()
	got, err := g.Store.Take(ctx, t.Sink, t.Receiver, s)
	if err != nil || len(got) != len(batch) {
		for i, w := range batch {
			s.Latest[i] = w.latest.UnixMicro()
		}
		got, v.ahead = g.own.take(t.Sink, t.Receiver, s), 0
	}
	for i := range got {
		got[i].At -= v.ahead * 1000
	}
	return got
}
