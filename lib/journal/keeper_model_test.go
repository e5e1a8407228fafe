package journal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"backstop/lib/dlq"
)

// happening is one thing that happens to a queue and its journal.
type happening struct {
	What string
	N    int // how many, or which
	At   int // at which call a process dies; 0: it does not
	Late bool
}

var happenings = []string{
	"push", "push", "push", "push unwritten", "push again", "spill", "spill", "spill partly", "deliver", "deliver", "deliver", "drop", "park", "unpark",
	"hold", "tick", "tick", "later", "wipe", "restore", "audit",
}

// told is what became of a delivery that was accepted.
type told struct {
	over bool
	// lost: the journal had no line of it yet when the queue was wiped. Nothing is promised then.
	lost bool
}

// model is what should be.
type model struct {
	*world
	all   map[string]*told
	order []string
	wiped bool
	from  string // where the restore goes on
	under bool   // a restore is under way
}

// Every dead letter that was accepted and did not end is in the queue exactly once, after any wipe, death and restore.
func TestNothingIsLostByWipesDeathsAndRestores(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		story := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) happening {
			h := happening{What: rapid.SampledFrom(happenings).Draw(t, "what"), N: rapid.IntRange(0, 12).Draw(t, "n")}
			if rapid.IntRange(0, 2).Draw(t, "dies") == 0 {
				h.At, h.Late = rapid.IntRange(1, 60).Draw(t, "at"), rapid.Bool().Draw(t, "late")
			}
			return h
		}), 1, 25).Draw(rt, "story")
		limit := rapid.SampledFrom([]int{0, 10}).Draw(rt, "cap")
		var faults []string
		synctest.Test(t, func(t *testing.T) {
			m := model{world: newWorld(t, limit), all: map[string]*told{}}
			for _, h := range story {
				m.happen(h)
			}
			faults = m.end()
			if len(faults) > 0 {
				faults = append(faults, m.log.String())
			}
		})
		if len(faults) > 0 {
			rt.Fatalf("%s", strings.Join(faults, "\n"))
		}
	})
}

// inQueue are the deliveries that wait in the queue.
func (m *model) inQueue() map[string]dlq.Item {
	items, err := m.queue.Items(m.ctx, mail, 0)
	m.check(err)
	found := map[string]dlq.Item{}
	for _, it := range items {
		found[it.DeliveryID] = it
	}
	return found
}

// room is how many more the queue takes.
func (m *model) room() int {
	if m.cap == 0 {
		return 1000
	}
	return max(0, m.cap-len(m.inQueue()))
}

// some names new deliveries.
func (m *model) some(n int) []string {
	var ids []string
	for range n {
		id := fmt.Sprintf("d%03d", len(m.order))
		m.order = append(m.order, id)
		ids = append(ids, id)
	}
	return ids
}

func (m *model) accept(ids []string) {
	for _, id := range ids {
		m.all[id] = &told{}
	}
}

// one is some dead letter in the queue.
func (m *model) one(n int) (dlq.Item, bool) {
	items, err := m.queue.Items(m.ctx, mail, 0)
	m.check(err)
	if len(items) == 0 {
		return dlq.Item{}, false
	}
	return items[n%len(items)], true
}

func (m *model) happen(h happening) {
	later(time.Second)
	n := 1 + h.N%4
	switch h.What {
	case "push", "push unwritten":
		n = min(n, m.room())
		if n == 0 {
			return
		}
		ids := m.some(n)
		letters := m.letters(ids...)
		g := m.group(letters)
		stored := m.store(g, letters)
		m.accept(ids)
		switch {
		case h.What == "push":
			m.object(g.open(mail), letters)
		case h.N%2 == 0:
			var names []string
			for _, it := range stored {
				names = append(names, it.ID)
			}
			m.check(m.queue.NoteUnjournaled(m.ctx, mail, names))
		}
	case "push again": // of one that waits, as after a lost answer
		it, ok := m.one(h.N)
		if !ok || m.room() == 0 {
			return
		}
		letters := append(m.letters(m.some(1)...), m.letter(it.DeliveryID))
		m.accept([]string{m.order[len(m.order)-1]})
		g := m.group(letters)
		m.store(g, letters)
		m.object(g.open(mail), letters)
	case "spill", "spill partly":
		ids := m.some(n)
		letters := m.letters(ids...)
		g := m.group(letters)
		m.object(g.open(mail), letters)
		if h.What == "spill partly" && n > 1 && m.room() > 0 {
			m.store(g, letters[:1])
			letters[0] = nil
		}
		m.object(g.spill(mail), letters)
		m.accept(ids)
	case "deliver", "drop", "park", "hold", "unpark":
		it, ok := m.one(h.N)
		if !ok {
			return
		}
		told := m.all[it.DeliveryID]
		switch h.What {
		case "deliver":
			m.act(it.DeliveryID, dlq.ActionDiscard)
			told.over = true
		case "drop":
			m.check(NewQueue(m.queue.Memory, m.bucket, Options{}).Discard(m.ctx, it.ID))
			told.over = true
		case "park":
			m.act(it.DeliveryID, dlq.ActionPark)
		case "hold":
			m.act(it.DeliveryID, dlq.ActionHold)
		case "unpark":
			m.check(m.queue.Unpark(m.ctx, it.ID))
		}
	case "later":
		later(time.Duration(h.N) * 3 * time.Minute)
	case "tick", "restore", "audit":
		m.work(h)
	case "wipe":
		m.wipeQueue()
	}
}

// work does a Keeper's work, and perhaps dies at it.
func (m *model) work(h happening) {
	if h.At > 0 {
		m.mortal(h.At, h.Late)
		defer m.reborn()
	}
	var err error
	switch h.What {
	case "tick":
		_, err = m.keeper.Tick(m.ctx, mail)
	case "audit":
		_, err = m.keeper.Audit(m.ctx, mail)
	case "restore":
		var p RestoreProgress
		p, err = m.keeper.Restore(m.ctx, mail, RestoreStep{After: m.from, Limit: 1 + h.N})
		m.from, m.under = p.After, !p.Done
		if p.Done {
			m.from = ""
		}
	}
	if h.At == 0 {
		m.check(err)
	}
}

// wipeQueue loses the queue. What the journal has no line of is lost with it.
func (m *model) wipeQueue() {
	has := map[string]bool{}
	for _, name := range m.bucket.names() {
		for folder, isLine := range map[string]bool{openFolder: true, spillFolder: true, stateFolder: false} {
			rest, ok := strings.CutPrefix(name, folder+mail+"/")
			if !ok || !isLine {
				continue
			}
			g, err := groupOf(rest)
			m.check(err)
			o, err := m.bucket.Get(m.ctx, name)
			m.check(err)
			letters, _, err := decode(mail, g, o.Body)
			m.check(err)
			for _, l := range letters {
				if l != nil {
					has[l.Item.DeliveryID] = true
				}
			}
		}
	}
	for id, told := range m.all {
		if !has[id] && !told.over {
			told.lost = true
		}
	}
	m.wipe()
	m.wiped, m.from, m.under = true, "", false
}

// end restores and ticks to the end and returns what is wrong.
func (m *model) end() (faults []string) {
	later(time.Hour)
	for quiet, round := 0, 0; quiet < 2; quiet, round = quiet+1, round+1 {
		if round > 100 {
			return []string{"it does not come to an end"}
		}
		p := RestoreProgress{}
		for !p.Done && !p.Full {
			var err error
			p, err = m.keeper.Restore(m.ctx, mail, RestoreStep{After: m.from, Limit: 3})
			m.check(err)
			m.from = p.After
		}
		if p.Done {
			m.from = ""
		}
		r := m.tick()
		later(time.Minute)
		// There is room again when something was replayed.
		if p.Full || r.Full {
			it, _ := m.one(0)
			m.act(it.DeliveryID, dlq.ActionDiscard)
			m.all[it.DeliveryID].over = true
			quiet = -1
		}
	}
	for range 4 {
		m.tick()
		later(time.Minute)
	}
	count := map[string]int{}
	items, err := m.queue.Items(m.ctx, mail, 0)
	m.check(err)
	for _, it := range items {
		count[it.DeliveryID]++
		if m.all[it.DeliveryID] == nil {
			faults = append(faults, it.DeliveryID+" was never accepted")
		}
	}
	for _, id := range m.order {
		told := m.all[id]
		switch {
		case told == nil:
		case count[id] > 1:
			faults = append(faults, fmt.Sprintf("%s is there %d times", id, count[id]))
		case !told.over && !told.lost && count[id] == 0:
			faults = append(faults, id+" is lost")
		case told.over && count[id] > 0 && !m.wiped:
			faults = append(faults, id+" came back, and nothing was wiped")
		}
	}
	later(time.Hour)
	m.audit()
	m.tick() // writes what the audit found
	m.tick()
	a := m.audit()
	n := int64(len(items))
	if a != (Audit{Letters: n, Queued: n}) {
		faults = append(faults, fmt.Sprintf("%+v of %d", a, n))
	}
	if v := m.view(); v.Unjournaled != 0 || v.Ending != 0 || v.Spilled != 0 || len(v.Missing) != 0 || !v.LostAt.IsZero() {
		faults = append(faults, fmt.Sprintf("left to do: %+v", v))
	}
	open := 0
	for _, name := range m.bucket.names() {
		if strings.HasPrefix(name, spillFolder) {
			faults = append(faults, "left: "+name)
		}
		if strings.HasPrefix(name, openFolder) {
			open++
		}
	}
	if open > len(items) {
		faults = append(faults, fmt.Sprintf("%d objects of %d dead letters: %s", open, n, strings.Join(m.bucket.names(), "\n")))
	}
	slices.Sort(faults)
	return faults
}
