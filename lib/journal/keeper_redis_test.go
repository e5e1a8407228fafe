package journal

import (
	"testing"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
)

// The same against a real server, whose scripts decide: ends, writes, the way back, healing, a wipe, a restore, an audit.
func TestAKeeperWorksOnRedis(t *testing.T) {
	w := newWorld(t, 0)
	server := redistest.Start(t)
	redis := dlq.NewRedis(server.Client(t), dlq.WithOverflow(dlq.OverflowReject), dlq.WithJournal())
	w.keeper.Queue = redis
	ago := time.Now().Add(-time.Hour)
	name := func(letters []*dlq.Letter) group {
		w.seq++
		return groupAt(ago.Add(time.Duration(w.seq)*time.Second), w.seq, letters)
	}
	push := func(letters []*dlq.Letter, object bool) (items []dlq.Item) {
		t.Helper()
		g := name(letters)
		for i, l := range letters {
			it := l.Item
			it.Journal = g.address(i)
			items = append(items, it)
		}
		stored, errs := redis.AddBatch(w.ctx, items)
		for _, err := range errs {
			w.check(err)
		}
		if object {
			w.object(g.open(mail), letters)
		} else {
			w.check(redis.NoteUnjournaled(w.ctx, mail, ids(stored)))
		}
		return stored
	}
	tick := func() Report {
		t.Helper()
		r, err := w.keeper.Tick(w.ctx, mail)
		w.check(err)
		return r
	}
	settle := func(it dlq.Item, a dlq.Action) {
		t.Helper()
		leased, err := redis.Claim(w.ctx, dlq.Claim{Sink: mail, IDs: []string{it.ID}, TTL: time.Minute})
		w.check(err)
		if len(leased) != 1 {
			t.Fatalf("%d leases", len(leased))
		}
		_, err = redis.Settle(w.ctx, []dlq.Settlement{{Lease: leased[0].Lease, Action: a}})
		w.check(err)
	}
	// lacks makes an object that the queue knows nothing of.
	lacks := func(folder func(group) string, ids ...string) {
		t.Helper()
		letters := w.letters(ids...)
		w.object(folder(name(letters)), letters)
	}

	over := push(w.letters("over", "left"), true)
	settle(over[0], dlq.ActionDiscard)
	parked := push(w.letters("parked"), true)
	settle(parked[0], dlq.ActionPark)
	push(w.letters("unwritten-1", "unwritten-2"), false)
	_, err := redis.Add(w.ctx, w.letter("native").Item)
	w.check(err)
	lacks(func(g group) string { return g.spill(mail) }, "spilled-1", "spilled-2")
	lacks(func(g group) string { return g.open(mail) }, "missing")

	if r := tick(); r.Written != 3 || r.States != 1 || r.Returned != 2 || r.Missing != 1 {
		t.Errorf("%+v", r)
	}
	if r := tick(); r.Healed != 1 {
		t.Errorf("%+v", r)
	}
	audit, err := w.keeper.Audit(w.ctx, mail)
	w.check(err)
	if audit != (Audit{Letters: 8, Queued: 8}) {
		t.Errorf("%+v", audit)
	}

	w.check(server.Client(t).FlushAll(w.ctx).Err())
	if r := tick(); !r.Lost {
		t.Errorf("%+v; want it lost", r)
	}
	p, err := w.keeper.Restore(w.ctx, mail, RestoreStep{})
	w.check(err)
	if p.Restored != 8 || !p.Done {
		t.Errorf("%+v", p)
	}
	if p, err = w.keeper.Restore(w.ctx, mail, RestoreStep{}); err != nil || p.Present != 8 || p.Looked != 8 {
		t.Errorf("%+v, %v", p, err)
	}
	stats, err := redis.Stats(w.ctx, mail)
	w.check(err)
	if stats.Depth != 8 || stats.Parked != 1 || !stats.Journal.LostAt.IsZero() || stats.Journal.Ending != 0 {
		t.Errorf("%+v", stats)
	}
	items, err := redis.Items(w.ctx, mail, 0)
	w.check(err)
	for _, it := range items {
		if it.DeliveryID != "parked" {
			settle(it, dlq.ActionDiscard)
		}
	}
	tick()
	if n := len(w.bucket.names()); n != 2 {
		t.Errorf("%v; want the parked one and its state", w.bucket.names())
	}
	if audit, err = w.keeper.Audit(w.ctx, mail); err != nil || audit != (Audit{Letters: 1, Queued: 1}) {
		t.Errorf("%+v, %v", audit, err)
	}
}
