package dlq_test

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"backstop/internal/await"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// TestMemoryAndRedisAgree runs random histories of one queue on both backends and
// compares every answer. Memory is the model: its rules are short, Redis' are not.
func TestMemoryAndRedisAgree(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		// Each history is some 30 steps of several round trips: fewer than by default.
		if err := f.Value.Set("30"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		overflow := rapid.SampledFrom([]dlq.Overflow{dlq.OverflowReject, dlq.OverflowTrim}).Draw(rt, "overflow")
		opts := []dlq.Option{
			dlq.WithMaxLen(rapid.IntRange(0, 6).Draw(rt, "max")), dlq.WithOverflow(overflow),
			dlq.WithMaxKept(rapid.IntRange(0, 3).Draw(rt, "max kept")),
		}
		if rapid.Bool().Draw(rt, "journal") {
			opts = append(opts, dlq.WithJournal())
		}
		prefix := redistest.Prefix()
		h := &history{
			rt: rt, ctx: t, ids: [2]map[string]string{{}, {}}, began: time.Now(),
			stores: [2]dlq.Store{dlq.NewMemory(opts...), dlq.NewRedis(c, append(opts, dlq.WithKeyPrefix(prefix))...)},
		}
		rt.Repeat(map[string]func(*rapid.T){
			"push":      h.push,
			"claim":     h.claim,
			"expired":   h.expired,
			"take":      h.whenPushed(h.take),
			"delivery":  h.delivery,
			"uncancel":  h.uncancel,
			"settle":    h.whenLeased(h.settle),
			"release":   h.whenLeased(h.release),
			"supersede": h.whenLeased(h.supersede),
			"discard":   h.whenPushed(h.discard),
			"unpark":    h.whenPushed(h.unpark),
			"return":    h.giveBack,
			"retire":    h.retire,
			"carry out": h.carryOut,
			"":          h.compare,
		})
		for _, fault := range auditQueue(t.Context(), c, prefix, "mail") {
			rt.Error(fault)
		}
	})
}

// history is what was done to two stores, alike. Items are known by a label, since the
// stores assign different ids.
type history struct {
	rt     *rapid.T
	ctx    *testing.T
	stores [2]dlq.Store
	ids    [2]map[string]string // label -> id
	labels []string
	leases [2][]dlq.Lease // alike
	held   []string       // label of each lease
	began  time.Time      // what expires does so before it, or long after
}

func (h *history) label(store int, id string) string {
	for l, got := range h.ids[store] {
		if got == id {
			return l
		}
	}
	return "unknown " + id
}

// both runs f on each store and compares what it says.
func (h *history) both(what string, f func(i int, s dlq.Store) string) {
	h.rt.Helper()
	want, got := f(0, h.stores[0]), f(1, h.stores[1])
	if want != got {
		h.rt.Fatalf("%s: Memory says %s, Redis says %s", what, want, got)
	}
}

// letter draws a dead letter with a label of its own.
func (h *history) letter(rt *rapid.T) (it dlq.Item, label string) {
	it = message("mail", rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f", "g", "h"}).Draw(rt, "delivery"))
	it.Message.Body = rapid.SampledFrom([]string{"b", "b", "other"}).Draw(rt, "body")
	it.Reason = rapid.SampledFrom([]dlq.Reason{dlq.ReasonExhausted, dlq.ReasonExhausted, dlq.ReasonTerminal, dlq.ReasonExpired}).Draw(rt, "reason")
	if rapid.IntRange(0, 4).Draw(rt, "later") == 0 {
		it.NotBefore = time.Now().Add(time.Hour)
	}
	if expiry := rapid.SampledFrom([]time.Duration{0, 0, 0, -time.Minute, -time.Hour, time.Hour, 2 * time.Hour}).Draw(rt, "expiry"); expiry != 0 {
		it.ExpiresAt = h.began.Add(expiry)
	}
	it.Replays = rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(rt, "generation")
	it.Unanswered = rapid.SampledFrom([]int{0, 0, 2}).Draw(rt, "unanswered")
	label = fmt.Sprintf("%s.%d", it.DeliveryID, len(h.labels))
	h.labels = append(h.labels, label)
	it.Journal = rapid.SampledFrom([]string{"", "at:" + label, "at:" + it.DeliveryID}).Draw(rt, "address")
	return it, label
}

// giveBack returns a letter, over the cap by one at most.
func (h *history) giveBack(rt *rapid.T) {
	h.rt = rt
	it, label := h.letter(rt)
	if it.Journal == "" {
		it.Journal = "at:" + label
	}
	it, err := dlq.Prepare(h.ctx.Context(), it)
	if err != nil {
		rt.Fatal(err)
	}
	l := dlq.Letter{Item: it, Identity: dlq.IdentityOf(it)}
	l.Item.Parked, l.Item.Held = rapid.Bool().Draw(rt, "parked"), rapid.Bool().Draw(rt, "held")
	over := rapid.IntRange(0, 1).Draw(rt, "over")
	h.both("return", func(i int, s dlq.Store) string {
		if _, ok, err := s.JournalLease(h.ctx.Context(), "mail", "w", time.Hour); !ok || err != nil {
			return fmt.Sprint(ok, err)
		}
		r, err := s.Return(h.ctx.Context(), "mail", "w", over, []dlq.Letter{l})
		if err != nil {
			return err.Error()
		}
		if r[0].Status == dlq.ReturnStored {
			h.ids[i][label] = r[0].ID
		}
		if r[0].ID == "" {
			return string(r[0].Status)
		}
		return string(r[0].Status) + " " + h.label(i, r[0].ID)
	})
}

func (h *history) retire(rt *rapid.T) {
	h.rt = rt
	before := time.Now().Add(rapid.SampledFrom([]time.Duration{-time.Hour, time.Hour}).Draw(rt, "before"))
	h.both("retire", func(_ int, s dlq.Store) string { return fmt.Sprint(s.Retire(h.ctx.Context(), "mail", before)) })
}

// carryOut forgets what ended, and states that were written.
func (h *history) carryOut(rt *rapid.T) {
	h.rt = rt
	h.both("carry out", func(i int, s dlq.Store) string {
		over, _, err := s.Ended(h.ctx.Context(), "mail", "", 1000)
		if err != nil {
			return err.Error()
		}
		lacks, err := s.Unjournaled(h.ctx.Context(), "mail", 1000)
		if err != nil {
			return err.Error()
		}
		d := dlq.JournalDone{Ended: over}
		for _, u := range lacks {
			if u.State {
				d.States = append(d.States, dlq.JournalState{ID: u.Item.ID, Parked: u.Item.Parked, Held: u.Item.Held, SupersededBy: u.Item.SupersededBy})
			}
		}
		if _, ok, err := s.JournalLease(h.ctx.Context(), "mail", "w", time.Hour); !ok || err != nil {
			return fmt.Sprint(ok, err)
		}
		return fmt.Sprint(s.Journaled(h.ctx.Context(), "mail", "w", d), len(over), len(d.States))
	})
}

// address is one in a journal, with a label for a native id.
func (h *history) address(store int, a string) string {
	if native, ok := strings.CutPrefix(a, "@"); ok {
		return "@" + h.label(store, "mail~"+native)
	}
	return a
}

// compareJournal looks at what is kept for a journal.
func (h *history) compareJournal() {
	h.rt.Helper()
	h.both("ended", func(i int, s dlq.Store) string {
		all, next, err := s.Ended(h.ctx.Context(), "mail", "", 1000)
		for j := range all {
			all[j] = h.address(i, all[j])
		}
		slices.Sort(all)
		return fmt.Sprint(all, next, err)
	})
	h.both("unjournaled", func(i int, s dlq.Store) string {
		lacks, err := s.Unjournaled(h.ctx.Context(), "mail", 1000)
		var all []string
		for _, u := range lacks {
			all = append(all, fmt.Sprint(h.label(i, u.Item.ID), h.address(i, u.Item.Journal), u.State, u.Item.Parked, u.Item.Held, u.Item.SupersededBy != "", identity(h.label(i, u.Item.ID), u.Identity)))
		}
		slices.Sort(all)
		return fmt.Sprint(all, err)
	})
	h.both("present", func(i int, s dlq.Store) string {
		listed, next, err := s.PresentAfter(h.ctx.Context(), "mail", "", 1000)
		if err != nil || next != "" {
			return fmt.Sprint(next, err)
		}
		var all []string
		of := make([]dlq.Identity, len(listed))
		for j, p := range listed {
			of[j] = p.Identity
			all = append(all, fmt.Sprint(h.label(i, p.ID), identity(h.label(i, p.ID), p.Identity), h.address(i, p.Address)))
		}
		found, err := s.Present(h.ctx.Context(), "mail", of)
		for j, p := range found {
			if p.Identity != of[j] {
				all = append(all, fmt.Sprintf("%v is not found: %+v", of[j], p))
			}
		}
		return fmt.Sprint(all, err)
	})
}

func (h *history) push(rt *rapid.T) {
	it, label := h.letter(rt)
	h.both("push", func(i int, s dlq.Store) string {
		stored, err := s.Add(h.ctx.Context(), it)
		if err != nil {
			return string(fault.CodeOf(err))
		}
		if l := h.label(i, stored.ID); !strings.HasPrefix(l, "unknown") {
			return "exists as " + l
		}
		h.ids[i][label] = stored.ID
		return "stored"
	})
}

// counted is an item as the queue counts and claims it: what is over is what it was until it is
// marked.
func counted(it dlq.Item) dlq.Item {
	it.ExpiresAt = time.Time{}
	return it
}

func (h *history) leased(c dlq.Claim) {
	h.rt.Helper()
	h.leasedBy(func(i int, s dlq.Store) ([]dlq.Leased, error) {
		c := c
		c.IDs = slices.Clone(c.IDs)
		for j, l := range c.IDs {
			c.IDs[j] = h.ids[i][l]
		}
		leased, err := s.Claim(h.ctx.Context(), c)
		for _, l := range leased {
			switch {
			case len(c.IDs) > 0:
			case c.Expired && (l.Item.State(time.Now()) != dlq.StateExpired || !l.Item.ExpiredAt.IsZero()):
				h.rt.Fatalf("%T claims %s as expired: %+v", s, h.label(i, l.ID), l.Item)
			case !c.Expired && counted(l.Item).State(time.Now()) != dlq.StateDue:
				h.rt.Fatalf("%T claims %s, whose state is %s", s, h.label(i, l.ID), l.Item.State(time.Now()))
			}
		}
		return leased, err
	})
}

// leasedBy notes what claim leases of each store.
func (h *history) leasedBy(claim func(i int, s dlq.Store) ([]dlq.Leased, error)) {
	h.rt.Helper()
	var all [2][]dlq.Leased
	h.both("claim", func(i int, s dlq.Store) string {
		leased, err := claim(i, s)
		if err != nil {
			return string(fault.CodeOf(err))
		}
		all[i] = leased
		var labels []string
		for _, l := range leased {
			labels = append(labels, fmt.Sprintf("%s(%t)", h.label(i, l.ID), l.Canceled))
		}
		// Items that became due in the same millisecond have no order.
		slices.Sort(labels)
		return strings.Join(labels, " ")
	})
	for i := range all {
		slices.SortFunc(all[i], func(a, b dlq.Leased) int { return strings.Compare(h.label(i, a.ID), h.label(i, b.ID)) })
	}
	for j := range all[0] {
		h.held = append(h.held, h.label(0, all[0][j].ID))
		h.leases[0] = append(h.leases[0], all[0][j].Lease)
		h.leases[1] = append(h.leases[1], all[1][j].Lease)
	}
}

// claim leases all that is due: of a part, the stores may choose differently.
func (h *history) claim(rt *rapid.T) {
	h.rt = rt
	await.Millisecond() // what is due now is due for both
	due := h.due()
	before := len(h.held)
	h.leased(dlq.Claim{Sink: "mail", Limit: 200, TTL: time.Hour, Token: fmt.Sprint("c", len(h.held))})
	if got := len(h.held) - before; got != due {
		rt.Fatalf("Redis claims %d items; State says that %d are due", got, due)
	}
}

// due counts the items of which Go says that they are due; the claim is the scripts' word.
func (h *history) due() int {
	h.rt.Helper()
	items, err := h.stores[1].Items(h.ctx.Context(), "mail", 0)
	if err != nil {
		h.rt.Fatal(err)
	}
	n := 0
	for _, it := range items {
		if counted(it).State(time.Now()) == dlq.StateDue {
			n++
		}
	}
	return n
}

// expired leases all that is over: of a part, which are first is up to their times.
func (h *history) expired(rt *rapid.T) {
	h.rt = rt
	h.leased(dlq.Claim{Sink: "mail", Expired: true, Limit: 200, TTL: time.Hour, Token: fmt.Sprint("e", len(h.held))})
}

func (h *history) delivery(rt *rapid.T) {
	h.rt = rt
	c := dlq.DeliveryClaim{
		Sink: "mail", DeliveryID: rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "delivery"),
		TTL: time.Hour, Token: fmt.Sprint("d", len(h.held)), Note: rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(rt, "note"),
	}
	h.leasedBy(func(_ int, s dlq.Store) ([]dlq.Leased, error) { return s.ClaimDelivery(h.ctx.Context(), c) })
}

func (h *history) uncancel(rt *rapid.T) {
	h.rt = rt
	id := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "delivery")
	h.both("uncancel "+id, func(_ int, s dlq.Store) string { return fmt.Sprint(s.Uncancel(h.ctx.Context(), "mail", id)) })
}

// whenPushed is a step that needs an item: before there is one, it does nothing.
func (h *history) whenPushed(step func(*rapid.T)) func(*rapid.T) {
	return func(rt *rapid.T) {
		if len(h.known()) > 0 {
			step(rt)
		}
	}
}

// whenLeased is a step that needs a lease: before there is one, it does nothing.
func (h *history) whenLeased(step func(*rapid.T)) func(*rapid.T) {
	return func(rt *rapid.T) {
		if len(h.held) > 0 {
			step(rt)
		}
	}
}

// known are the items that were pushed.
func (h *history) known() []string {
	var known []string
	for _, l := range h.labels {
		if h.ids[0][l] != "" {
			known = append(known, l)
		}
	}
	return known
}

func (h *history) take(rt *rapid.T) {
	h.rt = rt
	ids := rapid.SliceOfN(rapid.SampledFrom(h.known()), 1, 3).Draw(rt, "ids")
	h.leased(dlq.Claim{Sink: "mail", IDs: ids, Force: rapid.Bool().Draw(rt, "force"), TTL: time.Hour, Token: fmt.Sprint("t", len(h.held))})
}

func (h *history) lease(rt *rapid.T) int {
	return rapid.IntRange(0, len(h.held)-1).Draw(rt, "lease")
}

func (h *history) settle(rt *rapid.T) {
	h.rt = rt
	j := h.lease(rt) // held still, or settled or released before
	st := dlq.Settlement{
		Action: rapid.SampledFrom([]dlq.Action{
			dlq.ActionDiscard, dlq.ActionDrop, dlq.ActionKeep, dlq.ActionRetry, dlq.ActionPark, dlq.ActionHold,
			dlq.ActionExpire,
		}).Draw(rt, "action"),
		Charge: rapid.Bool().Draw(rt, "charge"), Operation: "op", Unanswered: rapid.SampledFrom([]int{0, 0, 1}).Draw(rt, "unanswered"),
	}
	if rapid.Bool().Draw(rt, "later") {
		st.Delay = time.Hour
	}
	if st.Action != dlq.ActionDiscard && st.Action != dlq.ActionKeep {
		st.Error = "no"
	}
	h.both(fmt.Sprintf("settle %s of %s", st.Action, h.held[j]), func(i int, s dlq.Store) string {
		st.Lease = h.leases[i][j]
		results, err := s.Settle(h.ctx.Context(), []dlq.Settlement{st})
		return fmt.Sprint(results, err)
	})
}

// supersede has an item superseded in its queue.
func (h *history) supersede(rt *rapid.T) {
	h.rt = rt
	j := h.lease(rt)
	body := rapid.SampledFrom([]string{"repaired", "repaired", "repaired otherwise"}).Draw(rt, "body")
	label := fmt.Sprintf("heir.%d", len(h.labels))
	h.labels = append(h.labels, label)
	var leases [2]dlq.Lease
	h.both("supersede "+h.held[j], func(i int, s dlq.Store) string {
		old, err := s.Get(h.ctx.Context(), h.leases[i][j].ID)
		if err != nil || !old.DeliveredAt.IsZero() {
			return "gone or delivered: nobody does"
		}
		it := old
		it.Origin, it.Replays, it.Message.Body, it.Journal = it.ID, 0, body, ""
		by, err := dlq.Prepare(h.ctx.Context(), it)
		if err != nil {
			rt.Fatal(err)
		}
		l, err := s.Supersede(h.ctx.Context(), dlq.Succession{Lease: h.leases[i][j], By: by, TTL: time.Hour})
		if err != nil {
			return string(fault.CodeOf(err))
		}
		if known := h.label(i, l.ID); !strings.HasPrefix(known, "unknown") {
			return "exists as " + known + " " + fmt.Sprint(l.Token != "")
		}
		if old, err = s.Get(h.ctx.Context(), old.ID); err != nil || old.SupersededBy != l.ID {
			rt.Fatalf("%T: %+v is not superseded by %s, %v", s, old, l.ID, err)
		}
		leases[i] = l.Lease
		if l.Token != "" { // else it is gone by now
			h.ids[i][label] = l.ID
		}
		return fmt.Sprint("stored ", l.Token != "")
	})
	if leases[0].Token != "" {
		h.held = append(h.held, label)
		h.leases[0], h.leases[1] = append(h.leases[0], leases[0]), append(h.leases[1], leases[1])
	}
}

// identity is one without the ids that are in the push keys of successors.
func identity(label string, id dlq.Identity) dlq.Identity {
	if strings.HasPrefix(label, "heir") {
		id.PushKey = ""
	}
	return id
}

func (h *history) release(rt *rapid.T) {
	h.rt = rt
	j := h.lease(rt)
	h.both("release", func(i int, s dlq.Store) string {
		return fmt.Sprint(s.Release(h.ctx.Context(), []dlq.Lease{h.leases[i][j]}))
	})
}

func (h *history) discard(rt *rapid.T) {
	h.rt = rt
	l := rapid.SampledFrom(h.known()).Draw(rt, "item")
	h.both("discard "+l, func(i int, s dlq.Store) string {
		return string(fault.CodeOf(s.Discard(h.ctx.Context(), h.ids[i][l])))
	})
}

func (h *history) unpark(rt *rapid.T) {
	h.rt = rt
	l := rapid.SampledFrom(h.known()).Draw(rt, "item")
	h.both("unpark "+l, func(i int, s dlq.Store) string {
		return string(fault.CodeOf(s.Unpark(h.ctx.Context(), h.ids[i][l])))
	})
}

// compare looks at everything that can be asked.
func (h *history) compare(rt *rapid.T) {
	h.rt = rt
	h.both("stats", func(i int, s dlq.Store) string {
		st, err := s.Stats(h.ctx.Context(), "mail")
		st.NewestID, st.OldestAt = "", time.Time{}
		return fmt.Sprintf("%+v %v", st, err)
	})
	h.compareJournal()
	for _, id := range []string{"a", "b", "c", "d"} {
		h.both("find "+id, func(i int, s dlq.Store) string {
			it, err := s.Find(h.ctx.Context(), "mail", id, "")
			if err != nil {
				return string(fault.CodeOf(err))
			}
			return h.label(i, it.ID)
		})
		h.both("canceled "+id, func(_ int, s dlq.Store) string { return fmt.Sprint(s.Canceled(h.ctx.Context(), "mail", id)) })
	}
	told := func(all []dlq.Group, err error) string {
		for i, g := range all {
			if g.Fingerprint != dlq.FingerprintOther && (g.FirstSeen.IsZero() || g.LastSeen.Before(g.FirstSeen) || g.Sample == "") {
				return fmt.Sprintf("of group %+v not since when", g)
			}
			all[i].FirstSeen, all[i].LastSeen, all[i].Sample = time.Time{}, time.Time{}, ""
		}
		return fmt.Sprintf("%+v, %v", all, err)
	}
	h.both("groups", func(_ int, s dlq.Store) string { return told(s.Groups(h.ctx.Context(), "mail")) })
	h.both("known groups", func(_ int, s dlq.Store) string { return told(s.KnownGroups(h.ctx.Context(), "mail")) })
	h.both("new groups", func(_ int, s dlq.Store) string { return told(s.NewGroups(h.ctx.Context(), "mail")) })
	for _, by := range []dlq.HistogramBy{dlq.BySink, dlq.ByGroup, dlq.ByReason} {
		h.both("histogram by "+string(by), func(_ int, s dlq.Store) string {
			found, err := s.Histogram(h.ctx.Context(), dlq.HistogramQuery{By: by, Interval: 24 * time.Hour})
			var b strings.Builder
			for _, r := range found.Rows {
				var count, arrived int64
				for i := range r.Count {
					count, arrived = count+r.Count[i], arrived+r.Arrived[i]
				}
				fmt.Fprintf(&b, "%s %s %s %d/%d\n", r.Sink, r.Reason, r.Fingerprint, count, arrived)
			}
			return fmt.Sprint(b.String(), err)
		})
	}
	h.both("progress", func(_ int, s dlq.Store) string { return fmt.Sprint(s.Progress(h.ctx.Context(), "op", "mail")) })
	var all [2][]dlq.Item
	for i, s := range h.stores {
		states, listed := map[dlq.State]int64{}, map[dlq.State]int64{}
		items, err := s.Items(h.ctx.Context(), "mail", 0)
		if err != nil {
			rt.Fatal(err)
		}
		for _, it := range items {
			now := time.Now()
			listed[it.State(now)]++
			states[counted(it).State(now)]++
			it.ID, it.Journal = h.label(i, it.ID), h.address(i, it.Journal)
			if it.Origin != "" {
				it.Origin = "an id"
			}
			if it.SupersededBy != "" {
				it.SupersededBy, it.SupersededAs.PushKey = "an id", ""
			}
			it.ExpiredAt = it.ExpiredAt.Truncate(time.Hour * 100000)
			it.At, it.DeliveredAt, it.NextReplayAt = time.Time{}, it.DeliveredAt.Truncate(time.Hour*100000), it.NextReplayAt.Truncate(2*time.Hour)
			for k := range it.History {
				it.History[k].At = time.Time{}
			}
			it.LeasedUntil = it.LeasedUntil.Truncate(2 * time.Hour)
			all[i] = append(all[i], it)
		}
		// What the store counts, and by which it claims, is what the items say of themselves.
		if st, err := s.Stats(h.ctx.Context(), "mail"); err != nil || !maps.Equal(st.States, states) {
			rt.Fatalf("%T counts %v, %v; its items are %v", s, st.States, err, states)
		}
		for _, state := range dlq.States {
			p, err := s.Page(h.ctx.Context(), dlq.Query{Sink: "mail", State: state, Limit: 1000})
			if err != nil || int64(len(p.Items)) != listed[state] {
				rt.Fatalf("%T lists %d items as %s, %v; want %d", s, len(p.Items), state, err, listed[state])
			}
		}
	}
	if diff := cmp.Diff(all[0], all[1]); diff != "" {
		rt.Fatalf("items (-Memory +Redis):\n%s", diff)
	}
}
