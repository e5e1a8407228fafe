package sim

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// fate is all that is known of a delivery. World.mu guards it. Times are since the start; 0: never.
type fate struct {
	id, sink           string
	expires, notBefore time.Duration
	attempts           []*attempt
	taken              int
	letters            []string // its dead letters, those that are gone too
	// causes are why it may arrive twice: what was not answered, who died with it.
	causes []string

	accepted    bool // somebody was told that it is safe
	heard       []string
	handedBack  bool // somebody was told that it is not
	cancelTried bool
	canceled    time.Duration // when somebody was told so
	discarded   bool          // an operator gave it up, or tried to
	retired     bool          // it was removed for its age
	unguarded   bool          // it went out though its record could not be read
}

// cause notes why deliveries may arrive twice. w.mu is held.
func (w *world) cause(ids []string, why string) {
	for _, id := range ids {
		if f := w.fates[id]; !slices.Contains(f.causes, why) {
			f.causes = append(f.causes, why)
		}
	}
}

// begins holds an attempt that begins now against the rules. w.mu is held.
func (w *world) begins(f *fate, a *attempt) {
	if f.canceled > 0 && !f.unguarded {
		w.fault(f, "sent at %s, after somebody was told at %s that it is canceled", a.at, f.canceled)
	}
	if f.expires > 0 && a.at >= f.expires {
		w.fault(f, "sent at %s, and its time was over at %s", a.at, f.expires)
	}
	if a.at < f.notBefore {
		w.fault(f, "sent at %s, and it was to wait until %s", a.at, f.notBefore)
	}
	for _, other := range f.attempts {
		switch {
		case other.over:
		case other.replayed && a.replayed:
			w.fault(f, "%s replays it while %s does", a.by.name, other.by.name)
		case len(f.causes) == 0:
			w.fault(f, "%s sends it while %s does", a.by.name, other.by.name)
		}
	}
	if f.taken > 0 && len(f.causes) == 0 {
		w.fault(f, "%s sends it again without a cause", a.by.name)
	}
	if f.sink != "paced" || strings.HasPrefix(a.by.name, "operator") { // an operator knows better than the gate
		return
	}
	if w.own[a.by] > 0 {
		w.own[a.by]--
		return
	}
	at := a.at
	if slot := a.by.slots[f.id]; a.by.unanswered > slot && slot > 0 {
		at = slot // it was told late, and is used late
	}
	w.paced = append(w.paced, at)
}

// settles holds what a settlement did against who has the lease: only its holder ends it. w.mu is held.
func (w *world) settles(l dlq.Lease, applied bool) {
	held, ok := w.leases[l.ID]
	switch {
	case ok && held.Token == l.Token:
		delete(w.leases, l.ID)
	case ok && applied && time.Now().Before(held.Expires):
		it, err := w.letters.Get(context.Background(), l.ID) //nolint:forbidigo // no context ends it
		if err != nil || !it.LeasedUntil.After(time.Now()) {
			w.fault(w.fates[w.letterOf[l.ID]], "a late holder settles the dead letter %s, which another leases until %s", l.ID, held.Expires.Sub(w.start))
		}
	}
}

// takes notes that a receiver has it. w.mu is held.
func (w *world) takes(f *fate, _ *attempt) {
	f.taken++
	w.note("receiver", "takes", f.id, fmt.Sprint(f.taken))
	if f.taken > 1 && len(f.causes) > 0 {
		w.doubles[f.causes[0]]++
	}
}

// judgeRate holds all attempts at the receiver with a rate against it: a bucket of as many as may begin at once
// never runs dry exactly where no window, however long, has more than the rate and the burst. w.mu is held.
func (w *world) judgeRate() {
	slices.Sort(w.paced)
	left, last := float64(pace.Burst), time.Duration(0)
	for _, at := range w.paced {
		left = min(float64(pace.Burst), left+pace.PerSecond*(at-last).Seconds()) - 1
		last = at
		// A reply is on its way for a moment after its slot was given, and clocks are compared in ms.
		if left < -0.02*pace.PerSecond {
			w.fault(nil, "%.3f attempts more than the shared rate lets through, at %s", -left, at)
			return
		}
	}
}

// knows notes which delivery a dead letter is of. w.mu is held.
func (w *world) knows(it dlq.Item) {
	if w.letterOf[it.ID] == "" {
		w.letterOf[it.ID] = it.DeliveryID
		f := w.fates[it.DeliveryID]
		f.letters = append(f.letters, it.ID)
	}
}

// somewhere reports whether the delivery is safe now: a receiver has it, or it waits where it is sent or
// seen. What somebody ordered to end may be gone. w.mu is held.
func (w *world) somewhere(f *fate) bool {
	return f.taken > 0 || f.discarded || f.retired || w.queue.has(f.id) || w.waits(f) || w.bucket.spilled(f.id)
}

// waits reports whether a dead letter of the delivery waits. w.mu is held.
func (w *world) waits(f *fate) bool {
	return slices.ContainsFunc(f.letters, func(id string) bool {
		it, err := w.letters.Get(context.Background(), id) //nolint:forbidigo // no context ends it
		return err == nil && it.DeliveredAt.IsZero()
	})
}

// told holds what a caller is told against what is there, at once. w.mu is held.
func (w *world) told(f *fate, a delivery.Answer, err error) {
	if err != nil {
		f.handedBack = true
		f.heard = append(f.heard, string(fault.CodeOf(err)))
		return
	}
	f.heard = append(f.heard, string(a.Status))
	if a.Status == delivery.StatusCanceled {
		if !f.cancelTried {
			w.fault(f, "its caller was told that it is canceled, and nobody did")
		}
		return
	}
	f.accepted = true
	switch {
	case a.Status == delivery.StatusDelivered && f.taken == 0:
		w.fault(f, "its caller was told that it is delivered, and its receiver has not got it")
	case a.Status == delivery.StatusDiscarded && !f.discarded:
		w.fault(f, "its caller was told that it is discarded, and nobody did")
	case !f.cancelTried && !w.somewhere(f):
		w.fault(f, "its caller was told %s, and it is nowhere", a.Status)
	}
}

// judgeCanceled holds a cancellation against what receivers have. w.mu is held.
func (w *world) judgeCanceled(f *fate, c delivery.Cancellation) {
	if f.taken > 0 && !c.MayHaveArrived && len(f.causes) == 0 {
		w.fault(f, "canceled without a word that it may have arrived, and its receiver has it")
	}
}

// account is what became of the deliveries of a seed, or of many.
type account struct {
	Seeds, Deliveries                                         int
	Hours                                                     float64
	Delivered, DeadLettered, Ended, HandedBack, Canceled      int
	Doubles, Lost, Attempts, Processes, Deaths, Events, Broke int
	Causes                                                    map[string]int
}

func (a *account) add(b account) {
	a.Seeds += b.Seeds
	a.Deliveries += b.Deliveries
	a.Hours += b.Hours
	a.Delivered += b.Delivered
	a.DeadLettered += b.DeadLettered
	a.Ended += b.Ended
	a.HandedBack += b.HandedBack
	a.Canceled += b.Canceled
	a.Doubles += b.Doubles
	a.Lost += b.Lost
	a.Attempts += b.Attempts
	a.Processes += b.Processes
	a.Deaths += b.Deaths
	a.Events += b.Events
	a.Broke += b.Broke
	if a.Causes == nil {
		a.Causes = map[string]int{}
	}
	for why, n := range b.Causes {
		a.Causes[why] += n
	}
}

func (a account) String() string {
	text := fmt.Sprintf("seeds=%d deliveries=%d simulated_hours=%.1f delivered=%d dead_lettered=%d ended_by_order=%d handed_back=%d canceled=%d doubles_explained=%d lost=%d; attempts %d, processes %d, deaths %d, calls and events %d",
		a.Seeds, a.Deliveries, a.Hours, a.Delivered, a.DeadLettered, a.Ended, a.HandedBack, a.Canceled, a.Doubles, a.Lost, a.Attempts, a.Processes, a.Deaths, a.Events)
	return text
}

// causes tells why some arrived twice, what explains most of them first.
func (a account) causes() string {
	names := slices.Collect(maps.Keys(a.Causes))
	slices.SortFunc(names, func(x, y string) int { return cmp.Or(a.Causes[y]-a.Causes[x], strings.Compare(x, y)) })
	var out []string
	for _, why := range names[:min(12, len(names))] {
		out = append(out, fmt.Sprintf("%s %d", why, a.Causes[why]))
	}
	return strings.Join(out, ", ")
}

// judge accounts for every delivery at the end.
func (w *world) judge(ctx context.Context) account {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := account{
		Seeds: 1, Deliveries: len(w.ids), Hours: w.at().Hours(), Processes: w.processes, Deaths: w.deaths, Events: w.events, Causes: w.doubles,
	}
	slices.SortFunc(w.ids, strings.Compare)
	for _, id := range w.ids {
		f := w.fates[id]
		a.Attempts += len(f.attempts)
		a.Doubles += max(f.taken-1, 0)
		switch {
		case f.taken > 0:
			a.Delivered++
		case w.waits(f), f.canceled == 0 && w.bucket.spilled(id):
			a.DeadLettered++
		case f.canceled > 0:
			a.Canceled++
		case w.queue.redrive[id] > 0:
			a.HandedBack++
		case w.queue.has(id):
			w.fault(f, "it waits in the queue still")
		case f.discarded || f.retired:
			a.Ended++
		case f.accepted:
			a.Lost++
			w.fault(f, "LOST: accepted, and neither delivered, kept, handed back nor canceled; its callers were told %v", f.heard)
		default:
			a.HandedBack++
		}
		if f.canceled == 0 || f.unguarded {
			continue
		}
		if w.waits(f) {
			w.fault(f, "canceled, and a dead letter is left")
		}
	}
	w.judgeRate()
	w.judgeQueue(ctx)
	a.Broke, w.judged = len(w.faults), true
	return a
}

// judgeQueue looks for what the schedule should have sent by now. w.mu is held.
func (w *world) judgeQueue(ctx context.Context) {
	items, err := w.letters.Items(ctx, "", 1<<30)
	if err != nil {
		w.fault(nil, "%v", err)
	}
	states := map[dlq.State]int{}
	for _, it := range items {
		state := it.State(time.Now())
		states[state]++
		late := time.Since(it.NextReplayAt)
		if f := w.fates[it.DeliveryID]; state == dlq.StateReplaying || state == dlq.StateDue && late > 5*time.Minute {
			w.fault(f, "its dead letter is %s for %s, and everything works", state, late)
		}
	}
	var text []string
	for _, s := range slices.Sorted(maps.Keys(states)) {
		text = append(text, fmt.Sprint(s, states[s]))
	}
	w.note("judge", "dead letters", "", strings.Join(text, " "))
}
