package flow

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"time"
)

// What a receiver asks for one of its rate keys (a chat, a number) alone is a hold of that key. All that is
// shared of it is a time, Unix µs of the store's clock: until then nothing goes to it, and after that an
// attempt that takes the hold over as a probe, until its own end. An even time is what the receiver asked
// for, an odd one a probe's.

const (
	// mostHolds is how many rate keys of a sink are held at a time, as far as processes share it; those that
	// end soonest make room. A receiver that asks a thousand chats at once to wait means nobody's chat,
	// and what is forgotten costs an attempt: its message has its own wait, and the process that was told
	// keeps to it.
	mostHolds = 1000
	// aftermath is how long after its end a hold is remembered: as long as those come back that waited.
	aftermath = 5 * time.Minute
)

// HoldChange is what happens to the hold of a rate key.
type HoldChange string

// The changes.
const (
	// HoldSet: the receiver asked to wait until At. Holds only grow, but for the one of a probe (Probe).
	HoldSet HoldChange = "set"
	// HoldProbe: somebody wants to probe until At. It is his where the hold has ended and is At then; where
	// there is none everybody may go.
	HoldProbe HoldChange = "probe"
	// HoldEnd: the probe was answered, and nothing is held any more.
	HoldEnd HoldChange = "end"
	// HoldBack: the probe says nothing. Another one is to go.
	HoldBack HoldChange = "back"
	// HoldLift: no rate key of the sink is held any more.
	HoldLift HoldChange = "lift"
)

// Hold is a change of a rate key's hold. It can be repeated after a lost reply.
type Hold struct {
	Key    string
	Change HoldChange
	At     int64 // of HoldSet and HoldProbe
	Probe  int64 // At of the probe that ends with it; 0: none does
}

// apply returns the hold after h; 0: there is none. hold.lua does the same.
func (h Hold) apply(old, now int64) int64 {
	if now-old > aftermath.Microseconds() {
		old = 0
	}
	mine := old != 0 && old == h.Probe
	switch {
	case h.Change == HoldLift, h.Change == HoldEnd && mine:
		return 0
	case h.Change == HoldBack && mine:
		return now &^ 1
	case h.Change == HoldSet && mine:
		return h.At
	case h.Change == HoldSet:
		return max(old, h.At)
	case h.Change == HoldProbe && old != 0 && old <= now:
		return h.At
	}
	return old
}

// rateKey is how a try's rate key is known from here on: an address or a number that must not be shown.
func (t Try) rateKey() string {
	if t.RateKey == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(t.Receiver + "\x00" + t.RateKey))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// whyKey says what holds a rate key back.
const whyKey = "the receiver asked to wait, for what its rate is counted by"

// held lets a leave wait for the hold of its rate key, which may have ended lately.
func (v view) held(l Leave) Leave {
	until, now := v.holds[l.try.RateKey], v.nowMicro()
	switch {
	case until == 0 || now-until > aftermath.Microseconds():
	case now < until:
		return l.waits(v, until, now)
	default:
		l.ended = true
	}
	return l
}

// waits lets a leave wait for a hold, or for a while where that is a probe.
func (l Leave) waits(v view, until, now int64) Leave {
	if until&1 == 1 {
		until = min(until, now+firstProbe*1000)
	}
	l.Verdict, l.Why, l.At = Wait, whyKey, time.UnixMicro(until-v.ahead*1000)
	return l
}

// nowMicro is the store's clock, Unix µs.
func (v view) nowMicro() int64 { return wall().UnixMicro() + v.ahead*1000 }

// probe asks the store whether this attempt may find out what follows a hold that has ended. Where nobody
// can tell it goes: a receiver that is asked too early says so.
func (g *Gate) probe(ctx context.Context, l Leave) Leave {
	v := g.have(l.try.Sink)
	// No two probes end at the same time, so that it names one.
	at := (max(l.try.End.UnixMicro()+v.ahead*1000, v.nowMicro()) + int64(g.rand()*1e6)) | 1
	got, now, err := g.hold(ctx, l.try, Hold{Change: HoldProbe, At: at})
	switch {
	case err != nil || got == 0:
	case got == at:
		l.hold = at
	default:
		l = l.waits(v, got, now)
	}
	return l
}

// tellKey says what an attempt tells of its rate key, and returns what it tells of the receiver: that it
// asks one of its keys to wait is neither good nor bad.
func (g *Gate) tellKey(ctx context.Context, l Leave, t Told) Told {
	switch {
	case t.Hold > 0:
		now := g.have(l.try.Sink).nowMicro()
		h := Hold{Change: HoldSet, At: (now + min(t.Hold, l.try.Policy.MaxHold).Microseconds() + 1) &^ 1, Probe: l.hold}
		// Whether or not it can be shared.
		before := g.learnHold(l.try, func(old int64) int64 { return h.apply(old, now) })
		g.shareHold(ctx, l.try, h)
		if before <= now || before == l.hold {
			g.observe(func(o Observer) { o.Held(ctx, l.try.Sink) })
			g.log().InfoContext(ctx, whyKey, "sink", l.try.Sink, "receiver", l.try.Receiver, "until", time.UnixMicro(h.At).UTC())
		}
		t.Hold, t.Result = 0, NoAnswer
	case l.hold != 0 && t.Result == NoAnswer:
		g.shareHold(ctx, l.try, Hold{Change: HoldBack, Probe: l.hold})
	case l.hold != 0:
		g.shareHold(ctx, l.try, Hold{Change: HoldEnd, Probe: l.hold})
	case l.try.Force && t.Result == Good:
		if until := g.have(l.try.Sink).holds[l.try.RateKey]; until != 0 {
			g.shareHold(ctx, l.try, Hold{Change: HoldEnd, Probe: until})
		}
	}
	return t
}

// shareHold changes a hold where nobody waits for the answer.
func (g *Gate) shareHold(ctx context.Context, t Try, h Hold) {
	if _, _, err := g.hold(ctx, t, h); err != nil {
		g.log().WarnContext(ctx, "hold of a receiver not shared", "sink", t.Sink, "error", err.Error())
	}
}

// hold changes the hold of a try's rate key, notes what it is then, and returns that and the store's time.
func (g *Gate) hold(ctx context.Context, t Try, h Hold) (got, now int64, err error) {
	h.Key = t.RateKey
	got, now, err = g.Store.Hold(ctx, t.Sink, h)
	if err != nil {
		return 0, 0, err
	}
	g.learnHold(t, func(int64) int64 { return got })
	return got, now, nil
}

// learnHold notes what f makes of a hold (0: there is none), and returns what it was.
func (g *Gate) learnHold(t Try, f func(old int64) int64) (before int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	v := g.sinks[t.Sink]
	holds := maps.Clone(v.holds)
	before = holds[t.RateKey]
	switch until := f(before); {
	case until == 0:
		delete(holds, t.RateKey)
	case holds == nil:
		holds = map[string]int64{t.RateKey: until}
	default:
		holds[t.RateKey] = until
	}
	v.holds = makeRoom(holds, t.RateKey, 2*mostHolds) // the store's, and those since
	g.set(t.Sink, v)
	return before
}

// makeRoom removes holds that end soonest until there are no more than most, but never that of a key.
func makeRoom(holds map[string]int64, but string, most int) map[string]int64 {
	for len(holds) > most {
		first := ""
		for key, until := range holds {
			if key != but && (first == "" || until < holds[first]) {
				first = key
			}
		}
		delete(holds, first)
	}
	return holds
}
