package journal

import (
	"errors"
	"slices"
	"testing"
	"time"

	"backstop/lib/dlq"
)

// muddle is a journal with everything to do at once. alive are deliveries whose dead letters must wait in the queue at
// last, and gone those that are over.
func muddle(w *world) (alive, gone []string) {
	w.t.Helper()
	// The order of the names has nothing to do with that of the groups.
	w.push("over")
	w.deliver("over")
	w.push("half-over", "half-left")
	w.deliver("half-over")
	w.push("parked", "left")
	w.act("parked", dlq.ActionPark)
	w.push("held")
	w.act("held", dlq.ActionHold)

	unwritten := w.letters("unwritten-1", "unwritten-over", "unwritten-2")
	w.check(w.queue.NoteUnjournaled(w.ctx, mail, ids(w.store(w.group(unwritten), unwritten))))
	w.deliver("unwritten-over")
	w.store("", w.letters("native"))

	// The process died that pushed it, before its object was written; then it was pushed again.
	w.store(w.group(w.letters("twice")), w.letters("twice"))
	w.push("twice", "beside")

	w.spill("spilled-1", "spilled-2")
	only := w.letters("spilled-only")
	w.object(w.group(only).spill(mail), only)
	partly := w.letters("spilled-stored", "spilled-not")
	g := w.group(partly)
	w.store(g, partly[:1])
	w.object(g.open(mail), partly)
	w.object(g.spill(mail), partly)
	w.spill("canceled", "not-canceled")
	w.cancel("canceled")

	missing := w.letters("missing-1", "missing-2")
	w.object(w.group(missing).open(mail), missing)

	// One was handed back: nothing has it but the object.
	later(time.Hour)
	return []string{
		"beside", "half-left", "held", "left", "missing-1", "missing-2", "native", "not-canceled", "parked", "spilled-1", "spilled-2",
		"spilled-not", "spilled-only", "spilled-stored", "twice", "unwritten-1", "unwritten-2",
	}, []string{"over", "half-over", "unwritten-over", "canceled"}
}

// act settles a replay of the dead letter of a delivery.
func (w *world) act(id string, a dlq.Action) {
	w.t.Helper()
	it, err := w.queue.Find(w.ctx, mail, id, "")
	w.check(err)
	leased, err := w.queue.Claim(w.ctx, dlq.Claim{Sink: mail, IDs: []string{it.ID}, TTL: time.Minute})
	w.check(err)
	w.settle(leased, a)
}

func (w *world) cancel(id string) {
	w.t.Helper()
	_, err := w.queue.ClaimDelivery(w.ctx, dlq.DeliveryClaim{Sink: mail, DeliveryID: id, TTL: time.Minute, Note: 30 * 24 * time.Hour})
	w.check(err)
}

// settleAll ticks until nothing is left to do.
func (w *world) settleAll() {
	w.t.Helper()
	for range 5 {
		w.tick()
		later(time.Minute)
	}
}

// wantAll checks that deliveries wait in the queue, each once, with what they were, and that the journal has them and nothing else.
func (w *world) wantAll(alive []string) {
	w.t.Helper()
	got := w.waiting()
	slices.Sort(got)
	if !slices.Equal(got, alive) {
		w.t.Errorf("the queue has\n %v, want\n %v", got, alive)
	}
	later(time.Hour)
	n := int64(len(alive))
	if a := w.audit(); a != (Audit{Letters: n, Queued: n}) {
		w.t.Errorf("%+v; want %d dead letters, all of them queued, and nothing else", a, n)
	}
	if v := w.view(); v.Unjournaled != 0 || v.Ending != 0 || v.Spilled != 0 || len(v.Missing) != 0 || !v.LostAt.IsZero() {
		w.t.Errorf("%+v; want nothing left to do", v)
	}
}

// wantStates checks which deliveries are parked and held.
func (w *world) wantStates(parked, held string) {
	w.t.Helper()
	items, err := w.queue.Items(w.ctx, mail, 0)
	w.check(err)
	for _, it := range items {
		if it.Parked != (it.DeliveryID == parked) || it.Held != (it.DeliveryID == held) {
			w.t.Errorf("%s is parked: %t, held: %t", it.DeliveryID, it.Parked, it.Held)
		}
	}
}

func TestTicksDoAllThatIsLeftToDo(t *testing.T) {
	inBubble(t, 0, func(w *world) {
		alive, _ := muddle(w)
		w.settleAll()
		w.wantAll(alive)
		w.wantStates("parked", "held")
		if t.Failed() {
			t.Log(w.log.String())
		}
	})
}

// Every death leaves what the next process ends.
func TestAProcessMayDieAtAnyCallOfATick(t *testing.T) {
	calls := 0
	for _, after := range []bool{false, true} {
		for at, dead := 1, true; dead; at++ {
			inBubble(t, 0, func(w *world) {
				alive, _ := muddle(w)
				l := w.mortal(at, after)
				for range 3 { // it heals at the second one
					_, err := w.keeper.Tick(w.ctx, mail)
					if dead = l.over(); dead || err != nil {
						break // without an error where only the lease was not given back
					}
					later(time.Minute)
				}
				w.reborn()
				w.settleAll()
				w.wantAll(alive)
				w.wantStates("parked", "held")
				if t.Failed() {
					t.Fatalf("killed at call %d, after it: %t\n%s", at, after, w.log)
				}
			})
			calls = max(calls, at)
		}
	}
	t.Logf("%d calls", calls)
	if calls < 60 {
		t.Errorf("%d calls of three ticks; want many more: are they counted?", calls)
	}
}

func TestAProcessMayDieAtAnyCallOfARestore(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at, dead := 1, true; dead; at++ {
			inBubble(t, 0, func(w *world) {
				alive, _ := muddle(w)
				w.settleAll()
				w.push("ended-late", "alive-late")
				w.deliver("ended-late")
				w.spill("spilled-late")
				alive = append(alive, "alive-late", "spilled-late", "fresh")
				slices.Sort(alive)
				w.wipe()
				w.push("fresh")

				l := w.mortal(at, after)
				p, err := w.keeper.Restore(w.ctx, mail, RestoreStep{})
				dead = l.over()
				if err != nil && !errors.Is(err, errKilled) {
					t.Errorf("killed at call %d: %v", at, err)
				}
				w.reborn()
				w.restore(RestoreStep{After: p.After})
				w.settleAll()
				// What ended since the last tick may come back with a wipe.
				if got := w.waiting(); slices.Contains(got, "ended-late") {
					w.deliver("ended-late")
					w.settleAll()
				}
				w.wantAll(alive)
				w.wantStates("parked", "held")
				if t.Failed() {
					t.Fatalf("killed at call %d, after it: %t\n%s", at, after, w.log)
				}
			})
		}
	}
}

// A wipe may come at any moment of a tick: what the journal had before it is there after it.
func TestAWipeMayComeAtAnyCallOfATick(t *testing.T) {
	for at, dead := 1, true; dead; at++ {
		inBubble(t, 0, func(w *world) {
			alive, _ := muddle(w)
			// These were in the queue alone.
			alive = slices.DeleteFunc(alive, func(id string) bool { return id == "native" || id == "unwritten-1" || id == "unwritten-2" })
			l := w.mortal(at, true)
			_, _ = w.keeper.Tick(w.ctx, mail) // what it says is another test's
			dead = l.over()
			w.reborn()
			w.wipe()
			w.restore(RestoreStep{})
			w.settleAll()
			count := map[string]int{}
			for _, id := range w.waiting() {
				count[id]++
			}
			for _, id := range alive {
				if count[id] != 1 {
					t.Fatalf("wiped after call %d: %s is there %d times\n%s", at, id, count[id], w.log)
				}
			}
		})
	}
}
