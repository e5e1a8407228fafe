package replay

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// DefaultStopAfter is how many failures in a row stop a bulk replay that asks for nothing else.
const DefaultStopAfter = 5

// probeSteps is how many members of a bulk replay a receiver gets before it gets all. The next
// step begins when all of one were attempted and one of them was answered.
var probeSteps = [...]int{1, 5}

// maxReceivers is how many receivers a bulk replay tells apart in one sink at a time: its record
// is written after every slice.
const maxReceivers = 200

// restReceivers is what those beyond are known by, together.
const restReceivers = "(others)"

// ReceiverProgress is how far a bulk replay has felt its way to one receiver. The zero value is
// the beginning.
type ReceiverProgress struct {
	// Step counts the steps that are done: none, the one, the one and the five.
	Step int `json:"step,omitempty"`
	// Tried is how many attempts of this step said something of the receiver, Answered whether
	// it took one of them, or refused it for good.
	Tried    int  `json:"tried,omitempty"`
	Answered bool `json:"answered,omitempty"`
	// InARow is how many failures there were since it last answered, Error the last of them.
	InARow int    `json:"in_a_row,omitempty"`
	Error  string `json:"error,omitempty"`
	// Stopped: there were too many in a row. It gets nothing more in this round.
	Stopped bool `json:"stopped,omitempty"`
}

// probes reports whether the receiver gets a few at a time still.
func (p ReceiverProgress) probes() bool { return p.Step < len(probeSteps) }

// answered is for a receiver that took a message, or refused that one for good.
func (p ReceiverProgress) answered() ReceiverProgress {
	p.InARow, p.Error, p.Answered = 0, "", true
	return p.tried()
}

// failed is for a receiver that failed.
func (p ReceiverProgress) failed(stopAfter int, why string) ReceiverProgress {
	p.InARow++
	p.Error = clip(why)
	p.Stopped = p.Stopped || stopAfter > 0 && p.InARow >= stopAfter
	return p.tried()
}

func (p ReceiverProgress) tried() ReceiverProgress {
	if !p.probes() {
		p.Tried, p.Answered = 0, false
		return p
	}
	if p.Tried++; p.Tried < probeSteps[p.Step] {
		return p
	}
	if p.Answered {
		p.Step++
	}
	p.Tried, p.Answered = 0, false
	return p
}

// steady reports whether nothing but its steps would be forgotten with it.
func (p ReceiverProgress) steady() bool { return !p.probes() && p.InARow == 0 && !p.Stopped }

// clip bounds an error that goes into the operation's record.
func clip(text string) string {
	const most = 300
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// prober lets a bulk replay feel its way in one sink: it says which members may be sent at
// once, is told what came of them, and keeps those that were not sent. It belongs to one visit
// of a Run. That of a discard is nil: nothing holds it back.
type prober struct {
	sink      sinks.Sink
	several   bool // the sink has several receivers, or rate keys
	stopAfter int

	mu        sync.Mutex
	receivers map[string]ReceiverProgress
	away      map[place]time.Time // what the gate refused, until when
	unsent    []unsent
}

// unsent is a leased member that was not sent: the gate refused it, its receiver gets nothing
// more in this round, or there was no time.
type unsent struct {
	item         dlq.Leased
	away, barred bool
}

func itemsOf(list []unsent) []dlq.Leased {
	items := make([]dlq.Leased, len(list))
	for i, u := range list {
		items[i] = u.item
	}
	return items
}

func newProber(s sinks.Sink, stopAfter int, known map[string]ReceiverProgress) *prober {
	p := &prober{sink: s, several: sinks.HasReceivers(s) || sinks.HasRateKeys(s), stopAfter: stopAfter, receivers: maps.Clone(known), away: map[place]time.Time{}}
	if p.receivers == nil {
		p.receivers = map[string]ReceiverProgress{}
	}
	return p
}

// place is what the gate may let wait: a receiver, or one of its rate keys.
type place struct{ receiver, rateKey string }

// mostAway is how many places are known to wait. Beyond it, what is refused is found out again.
const mostAway = 10_000

// place says who takes an item. What cannot be sent goes to nobody, and counts for nobody.
func (p *prober) place(it dlq.Item) place {
	if !p.several || it.DecodeError != "" {
		return place{}
	}
	to, err := sinks.DecodeStoredRecipient(p.sink, it.Recipient)
	if err != nil {
		return place{}
	}
	return place{sinks.ReceiverOf(p.sink, to), sinks.RateKeyOf(p.sink, to)}
}

// key is where a receiver's progress stands.
func (p *prober) key(name string) string {
	if _, known := p.receivers[name]; known || len(p.receivers) < maxReceivers || p.forgettable() != "" {
		return name
	}
	return restReceivers
}

// forgettable names a receiver that may be forgotten: it begins again with one.
func (p *prober) forgettable() string {
	for name, r := range p.receivers {
		if name != "" && r.steady() {
			return name
		}
	}
	return ""
}

// change changes the progress of a receiver.
func (p *prober) change(name string, f func(ReceiverProgress) ReceiverProgress) {
	key := p.key(name)
	if _, known := p.receivers[key]; !known && len(p.receivers) >= maxReceivers {
		delete(p.receivers, p.forgettable()) // none: it is the rest's, one above the bound
	}
	p.receivers[key] = f(p.receivers[key])
}

// shut reports whether a receiver or its rate key gets nothing now, and whether that is for the whole round.
func (p *prober) shut(at place) (shut, barred bool) {
	if p.receivers[p.key(at.receiver)].Stopped {
		return true, true
	}
	now := time.Now()
	return now.Before(p.away[place{receiver: at.receiver}]) || now.Before(p.away[at]), false
}

// shuts is shut for the receiver of an item.
func (p *prober) shuts(it dlq.Item) (shut, barred bool) {
	if p == nil {
		return false, false
	}
	at := p.place(it)
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shut(at)
}

// over reports whether the sink's only receiver gets nothing now.
func (p *prober) over() bool {
	if p == nil || p.several {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.unsent) > 0 || p.receivers[""].Stopped
}

// bars reports whether an item must not be sent now; then it is unsent.
func (p *prober) bars(item dlq.Leased) bool {
	shut, barred := p.shuts(item.Item)
	if shut {
		p.leave(unsent{item, !barred, barred})
	}
	return shut
}

// next returns the items that may be sent at once, and those that follow them. What is shut
// out is unsent. probing says that what came of the first decides about others.
func (p *prober) next(work []dlq.Leased) (now, later []dlq.Leased, probing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := map[string]int{}
	for _, item := range work {
		at := p.place(item.Item)
		key := p.key(at.receiver)
		r := p.receivers[key]
		if shut, barred := p.shut(at); shut {
			p.unsent = append(p.unsent, unsent{item, !barred, barred})
			continue
		}
		if r.probes() {
			if r.Tried+taken[key] >= probeSteps[r.Step] {
				later = append(later, item)
				continue
			}
			probing = true
			taken[key]++
		}
		now = append(now, item)
	}
	return now, later, probing
}

// told notes what came of a replay.
func (p *prober) told(at place, rep replayed) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, name := time.Now(), at.receiver
	switch {
	case rep.refused:
		if !rep.keyed {
			at.rateKey = ""
		}
		if until := p.away[at]; !until.After(now) || rep.notBefore.Before(until) {
			p.await(at, rep.notBefore)
		}
	case rep.keyed:
		p.await(at, rep.notBefore)
	case rep.status == "", rep.attempts == 0 && !rep.sinkFailed: // nothing was learned
	case rep.sinkFailed:
		p.change(name, func(r ReceiverProgress) ReceiverProgress { return r.failed(p.stopAfter, rep.err.Error()) })
	default:
		p.change(name, ReceiverProgress.answered)
	}
}

// await notes until when a place waits.
func (p *prober) await(at place, until time.Time) {
	if len(p.away) >= mostAway {
		maps.DeleteFunc(p.away, func(_ place, until time.Time) bool { return !until.After(time.Now()) })
		if len(p.away) >= mostAway {
			clear(p.away)
		}
	}
	p.away[at] = until
}

func (p *prober) leave(u unsent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsent = append(p.unsent, u)
}

// takeUnsent returns what was not sent since it was last called.
func (p *prober) takeUnsent() []unsent {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.unsent
	p.unsent = nil
	return out
}

// until is when the first of those that the gate refused may go; zero: none was refused.
func (p *prober) until() (first time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.away {
		if first.IsZero() || t.Before(first) {
			first = t
		}
	}
	return first.UTC()
}

// known returns what is known of the receivers.
func (p *prober) known() map[string]ReceiverProgress {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.receivers)
}

// stopped says which receivers failed too often in a row; empty: none did.
func stopped(receivers map[string]ReceiverProgress) string {
	const most = 3
	var texts []string
	more := 0
	for _, name := range slices.Sorted(maps.Keys(receivers)) {
		r := receivers[name]
		switch {
		case !r.Stopped:
		case len(texts) == most:
			more++
		default:
			text := fmt.Sprintf("stopped after %d failures in a row", r.InARow)
			if name != "" {
				text = "receiver " + name + " " + text
			}
			texts = append(texts, text+": "+r.Error)
		}
	}
	if more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more receivers", more))
	}
	return strings.Join(texts, "; ")
}

// replay replays an item, unless its receiver is left alone by now.
func (p *prober) replay(item dlq.Leased, replay func() replayed) replayed {
	if p.bars(item) {
		return replayed{leased: item}
	}
	rep := replay()
	p.told(p.place(item.Item), rep)
	if rep.status == "" {
		p.leave(unsent{item: item, away: rep.refused})
	}
	return rep
}
