package dlq_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// named returns a dead letter with an address in the journal.
func named(id string) dlq.Item {
	it := message("mail", id)
	it.Journal = "at:" + id
	return it
}

func letterOf(t *testing.T, it dlq.Item) dlq.Letter {
	t.Helper()
	it, err := dlq.Prepare(t.Context(), it)
	if err != nil {
		t.Fatal(err)
	}
	return dlq.Letter{Item: it, Identity: dlq.IdentityOf(it)}
}

func nativeOf(it dlq.Item) string { return strings.TrimPrefix(it.ID, "mail~") }

// members returns a set of a queue, sorted.
func members(t *testing.T, c redis.UniversalClient, s prefixed, set string) []string {
	t.Helper()
	all, err := c.SMembers(t.Context(), "{"+s.prefix+":dlq:mail}:"+set).Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func wantMembers(t *testing.T, c redis.UniversalClient, s prefixed, what, set string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := members(t, c, s, set); !slices.Equal(got, want) {
		t.Errorf("%s: %s = %q, want %q", what, set, got, want)
	}
}

func settleAs(t *testing.T, s dlq.Store, it dlq.Item, a dlq.Action) {
	t.Helper()
	leased, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{it.ID}, TTL: time.Minute})
	if err != nil || len(leased) != 1 {
		t.Fatalf("Claim = %v, %v", leased, err)
	}
	if got, err := s.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: a}}); err != nil || got[0] != dlq.SettleApplied {
		t.Fatalf("Settle = %v, %v", got, err)
	}
}

// TestAQueueThatWasThereBeforeItsJournal is looked at once, also where a pass over it was under way.
func TestAQueueThatWasThereBeforeItsJournal(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	for _, underWay := range []bool{false, true} {
		before := newStore(t, c)
		s := prefixed{Redis: dlq.NewRedis(c, dlq.WithKeyPrefix(before.prefix), dlq.WithJournal()), prefix: before.prefix}
		meta := "{" + before.prefix + ":dlq:mail}:meta"
		var want []string
		for i := range 700 { // several steps
			it := mustAdd(t, before, message("mail", fmt.Sprint(i)))
			switch i % 100 {
			case 0:
				settleAs(t, before, it, dlq.ActionKeep)
				continue
			case 1:
				settleAs(t, before, it, dlq.ActionPark)
			case 2:
				settleAs(t, before, it, dlq.ActionDiscard)
				continue
			}
			want = append(want, nativeOf(it))
		}
		wantMembers(t, c, s, "without a journal", "ended")
		wantMembers(t, c, s, "without a journal", "unjournaled")
		if underWay {
			if err := c.HSet(t.Context(), meta, "mended", 0).Err(); err != nil {
				t.Fatal(err)
			}
			for at := ""; at == ""; {
				tickOf(t, c, before, 1)
				at, _ = c.HGet(t.Context(), meta, "recount").Result()
				if c.HGet(t.Context(), meta, "mend").Val() == "" {
					t.Fatal("the pass has ended")
				}
			}
		}
		mustAdd(t, s, named("new"))
		tick := func(n int) {
			t.Helper()
			tickOf(t, c, s, n)
		}
		tick(8)
		wantMembers(t, c, s, "looked at", "unjournaled", want...)

		// Once: what is written since is not noted again.
		if err := c.Del(t.Context(), "{"+before.prefix+":dlq:mail}:unjournaled").Err(); err != nil {
			t.Fatal(err)
		}
		tick(4)
		wantMembers(t, c, s, "looked at again", "unjournaled")
		other, err := c.XAdd(t.Context(), &redis.XAddArgs{Stream: s.prefix + ":dlq:mail", Values: []string{"item", "{}"}}).Result()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.HSet(t.Context(), meta, "mended", 0).Err(); err != nil {
			t.Fatal(err)
		}
		tick(8)
		wantMembers(t, c, s, "others wrote one, and an hour passed", "unjournaled", other)

		// From now on their ends are noted, and their states.
		first, err := s.Get(t.Context(), "mail~"+want[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Unpark(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		wantMembers(t, c, s, "unparked", "unjournaled", other, "s:"+want[0])
		if err := s.Discard(t.Context(), first.ID); err != nil {
			t.Fatal(err)
		}
		wantMembers(t, c, s, "discarded", "ended", "@"+want[0])
	}
}

// tickOf asks for the numbers of a queue as n ticks do.
func tickOf(t *testing.T, c redis.UniversalClient, s prefixed, n int) {
	t.Helper()
	for range n {
		if err := c.HDel(t.Context(), "{"+s.prefix+":dlq:mail}:meta", "mend_at").Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Stats(t.Context(), "mail"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAJournalThatIsUsedNoMoreIsGivenUp: what is noted for it would grow for ever.
func TestAJournalThatIsUsedNoMoreIsGivenUp(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c, dlq.WithJournal())
	without := prefixed{Redis: dlq.NewRedis(c, dlq.WithKeyPrefix(s.prefix)), prefix: s.prefix}
	meta := "{" + s.prefix + ":dlq:mail}:meta"
	if err := s.Discard(t.Context(), mustAdd(t, s, message("mail", "a")).ID); err != nil {
		t.Fatal(err)
	}
	it := mustAdd(t, s, message("mail", "b"))
	if _, ok, err := s.JournalLease(t.Context(), "mail", "w", time.Minute); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for _, tt := range []struct {
		of    prefixed
		ago   time.Duration
		given bool
	}{{without, time.Hour, false}, {s, 8 * 24 * time.Hour, false}, {without, 8 * 24 * time.Hour, true}} {
		if err := c.HSet(t.Context(), meta, "journal_seen", time.Now().Add(-tt.ago).UnixMilli(), "mended", 0).Err(); err != nil {
			t.Fatal(err)
		}
		tickOf(t, c, tt.of, 2)
		if n := len(members(t, c, s, "ended")); (n == 0) != tt.given {
			t.Errorf("unused for %s, a journal %t: %d are over", tt.ago, tt.of == s, n)
		}
	}
	if err := s.Discard(t.Context(), it.ID); err != nil {
		t.Fatal(err)
	}
	wantMembers(t, c, s, "given up", "ended")
	wantMembers(t, c, s, "given up", "unjournaled")
}

// TestALeaseThatAnOlderVersionGranted does not tell the address: the entry does.
func TestALeaseThatAnOlderVersionGranted(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c, dlq.WithJournal())
	leases := "{" + s.prefix + ":dlq:mail}:lease"
	mustAdd(t, s, message("mail", "makes the journal known"))
	for _, a := range []dlq.Action{dlq.ActionDiscard, dlq.ActionKeep, dlq.ActionPark} {
		it := mustAdd(t, s, named(string(a)))
		leased, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{it.ID}, TTL: time.Minute})
		if err != nil || len(leased) != 1 {
			t.Fatalf("Claim = %v, %v", leased, err)
		}
		rec, err := c.HGet(t.Context(), leases, nativeOf(it)).Result()
		parts := strings.Split(rec, "|")
		if err != nil || len(parts) != 6 || parts[5] != it.Journal {
			t.Fatalf("lease %q, %v; want its address at the end", rec, err)
		}
		if err := c.HSet(t.Context(), leases, nativeOf(it), strings.Join(parts[:4], "|")).Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: a}}); err != nil || got[0] != dlq.SettleApplied {
			t.Fatalf("Settle = %v, %v", got, err)
		}
	}
	wantMembers(t, c, s, "settled", "ended", "at:discard", "at:keep")
	// Its holder died: whoever takes it over tells the address again.
	it := mustAdd(t, s, named("died"))
	if _, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", IDs: []string{it.ID}, TTL: time.Hour}); err != nil {
		t.Fatal(err)
	}
	pipe := c.Pipeline()
	pipe.HSet(t.Context(), leases, nativeOf(it), strings.Split(nativeOf(it), "-")[0]+"|||gone|quiet")
	pipe.ZAdd(t.Context(), "{"+s.prefix+":dlq:mail}:due", redis.Z{Score: 1, Member: nativeOf(it)})
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	settleAs(t, s, it, dlq.ActionDrop)
	if got := members(t, c, s, "ended"); !slices.Contains(got, "at:died") {
		t.Errorf("ended = %q, want at:died", got)
	}
}

// TestASettlementNeedsNoReads of what it removes: its leases tell the addresses.
func TestASettlementNeedsNoReads(t *testing.T) {
	c := redistest.Start(t).Client(t)
	s := newStore(t, c, dlq.WithJournal())
	mustAdd(t, s, message("mail", "makes the journal known"))
	for i := range 20 {
		mustAdd(t, s, named(fmt.Sprint(i)))
	}
	leased, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", Limit: 50, TTL: time.Minute})
	if err != nil || len(leased) != 21 {
		t.Fatalf("Claim = %d, %v", len(leased), err)
	}
	var settlements []dlq.Settlement
	for _, l := range leased {
		if l.Item.DeliveryID != "makes the journal known" {
			settlements = append(settlements, dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDiscard})
		}
	}
	if err := c.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Settle(t.Context(), settlements); err != nil {
		t.Fatal(err)
	}
	stats, err := c.Info(t.Context(), "commandstats").Result()
	if err != nil || strings.Contains(stats, "cmdstat_xrange") || !strings.Contains(stats, "cmdstat_sadd:calls=1,") {
		t.Errorf("%v; want no XRANGE and one SADD:\n%s", err, stats)
	}
	if got := members(t, c, s, "ended"); len(got) != 20 {
		t.Errorf("%d ended, want 20", len(got))
	}
}

// TestWhatOthersRemovedIsNotOver: the journal has what the queue lost.
func TestWhatOthersRemovedIsNotOver(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c, dlq.WithJournal())
	ctx, stream := t.Context(), s.prefix+":dlq:mail"
	var all []dlq.Item
	for _, id := range []string{"due", "parked", "leased", "scheduled"} {
		all = append(all, mustAdd(t, s, named(id)))
	}
	settleAs(t, s, all[1], dlq.ActionPark)
	settleAs(t, s, all[3], dlq.ActionRetry)
	leased, err := s.Claim(ctx, dlq.Claim{Sink: "mail", IDs: []string{all[2].ID}, TTL: time.Minute})
	if err != nil || len(leased) != 1 {
		t.Fatal(err)
	}
	if err := s.NoteUnjournaled(ctx, "mail", []string{all[0].ID, all[1].ID}); err != nil {
		t.Fatal(err)
	}
	var letters []dlq.Letter
	for _, it := range all {
		if err := c.XDel(ctx, stream, nativeOf(it)).Err(); err != nil {
			t.Fatal(err)
		}
		letters = append(letters, letterOf(t, it))
	}
	if got, err := s.Claim(ctx, dlq.Claim{Sink: "mail", Limit: 50, TTL: time.Minute}); err != nil || len(got) != 0 {
		t.Errorf("Claim = %v, %v", got, err)
	}
	if got, err := s.Unjournaled(ctx, "mail", 100); err != nil || len(got) != 0 {
		t.Errorf("Unjournaled = %v, %v; want what is gone forgotten", got, err)
	}
	wantMembers(t, c, s, "asked for", "unjournaled")
	wantMembers(t, c, s, "removed by others", "ended")
	of := []dlq.Identity{letters[0].Identity, letters[1].Identity, letters[2].Identity, letters[3].Identity}
	if found, err := s.Present(ctx, "mail", of); err != nil || !reflect.DeepEqual(found, make([]dlq.Present, 4)) {
		t.Errorf("Present = %+v, %v; want none", found, err)
	}
	// But one that was delivered meanwhile is.
	if _, err := s.Settle(ctx, []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionDiscard}}); err != nil {
		t.Fatal(err)
	}
	wantMembers(t, c, s, "delivered", "ended", "at:leased")
	if _, ok, err := s.JournalLease(ctx, "mail", "w", time.Minute); !ok || err != nil {
		t.Fatal(err)
	}
	got, err := s.Return(ctx, "mail", "w", 0, letters)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []dlq.ReturnStatus{dlq.ReturnStored, dlq.ReturnStored, dlq.ReturnEnded, dlq.ReturnStored} {
		if got[i].Status != want {
			t.Errorf("%s = %s, want %s", letters[i].Item.DeliveryID, got[i].Status, want)
		}
	}
}

// TestEntriesOfAnOlderVersionHaveAnIdentity: they do not tell their content.
func TestEntriesOfAnOlderVersionHaveAnIdentity(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c)
	ctx := t.Context()
	l := letterOf(t, named("a"))
	id := asOlder(t, c, s, mustAdd(t, s, message("mail", "a")))
	other := l
	other.Item.Message.Body = "other"
	other.Item.Journal = "at:other"
	other.Identity = dlq.IdentityOf(other.Item)
	want := dlq.Present{ID: id, Identity: l.Identity, Address: "@" + strings.TrimPrefix(id, "mail~")}
	if got, err := s.Present(ctx, "mail", []dlq.Identity{other.Identity, l.Identity}); err != nil || got[1] != want || got[0] != (dlq.Present{}) {
		t.Errorf("Present = %+v, %v; want none, %+v", got, err, want)
	}
	if got, next, err := s.PresentAfter(ctx, "mail", "", 10); err != nil || next != "" || !reflect.DeepEqual(got, []dlq.Present{want}) {
		t.Errorf("PresentAfter = %+v, %q, %v; want %+v", got, next, err, want)
	}
	if _, ok, err := s.JournalLease(ctx, "mail", "w", time.Minute); !ok || err != nil {
		t.Fatal(err)
	}
	got, err := s.Return(ctx, "mail", "w", 0, []dlq.Letter{other, l})
	if err != nil || got[0].Status != dlq.ReturnStored || got[1] != (dlq.Returned{Status: dlq.ReturnExists, ID: id}) {
		t.Errorf("Return = %+v, %v; want stored, exists", got, err)
	}
}

// TestALostQueueIsUnknownToItsJournal: FLUSHALL in the middle of the work.
func TestALostQueueIsUnknownToItsJournal(t *testing.T) {
	c := redistest.Start(t).Client(t)
	s := newStore(t, c, dlq.WithJournal())
	ctx := t.Context()
	l := letterOf(t, named("a"))
	mustAdd(t, s, named("a"))
	if v, ok, err := s.JournalLease(ctx, "mail", "w", time.Hour); !ok || err != nil || !v.Known {
		t.Fatalf("JournalLease = %+v, %t, %v", v, ok, err)
	}
	if err := s.SaveJournal(ctx, "mail", "w", dlq.JournalNotes{Healed: 3}); err != nil {
		t.Fatal(err)
	}
	if err := s.NoteEnded(ctx, "mail", []string{"at:b"}); err != nil {
		t.Fatal(err)
	}
	if err := c.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"SaveJournal": s.SaveJournal(ctx, "mail", "w", dlq.JournalNotes{}),
		"Journaled":   s.Journaled(ctx, "mail", "w", dlq.JournalDone{Ended: []string{"at:b"}}),
	} {
		if !errors.Is(err, dlq.ErrJournalTaken) {
			t.Errorf("%s = %v, want ErrJournalTaken", what, err)
		}
	}
	if _, err := s.Return(ctx, "mail", "w", 0, []dlq.Letter{l}); !errors.Is(err, dlq.ErrJournalTaken) {
		t.Errorf("Return = %v, want ErrJournalTaken", err)
	}
	for range 2 { // also once there is a lease
		if st, err := s.Stats(ctx, "mail"); err != nil || !reflect.DeepEqual(st.Journal, dlq.JournalView{}) {
			t.Errorf("Stats.Journal = %+v, %v", st.Journal, err)
		}
		if v, ok, err := s.JournalLease(ctx, "mail", "w", time.Hour); !ok || err != nil || !reflect.DeepEqual(v, dlq.JournalView{}) {
			t.Errorf("JournalLease = %+v, %t, %v; want nothing known", v, ok, err)
		}
	}
	if got, err := s.Return(ctx, "mail", "w", 0, []dlq.Letter{l}); err != nil || got[0].Status != dlq.ReturnStored {
		t.Fatalf("Return = %+v, %v", got, err)
	}
	if sinks, err := s.Sinks(ctx); err != nil || !slices.Equal(sinks, []string{"mail"}) {
		t.Errorf("Sinks = %q, %v; want mail, whatever this process knew", sinks, err)
	}
	if v, _, err := s.JournalLease(ctx, "mail", "w", time.Hour); err != nil || !v.Known {
		t.Errorf("JournalLease = %+v, %v; want it known", v, err)
	}
}

// TestAFullRedisKeepsItsJournal: what is over is noted, and what was written is forgotten, at maxmemory.
func TestAFullRedisKeepsItsJournal(t *testing.T) {
	c := redistest.Start(t, redistest.WithMaxMemory("6mb")).Client(t)
	s := newStore(t, c, dlq.WithMaxLen(0), dlq.WithJournal())
	ctx := t.Context()
	var all []dlq.Item
	var full error
	for i := 0; full == nil && i < 5000; i++ {
		it := named(fmt.Sprint(i))
		if i > 30 {
			it.Message.Body = strings.Repeat("x", 8<<10)
		}
		it, full = s.Add(ctx, it)
		all = append(all, it)
	}
	if fault.CodeOf(full) != fault.CodeDLQUnavailable {
		t.Fatalf("Push into a full Redis = %v, want SINK_DLQ_UNAVAILABLE", full)
	}
	isFull := func() {
		t.Helper()
		it := named("more")
		it.Message.Body = strings.Repeat("x", 64<<10)
		if err := s.Push(ctx, it); fault.CodeOf(err) != fault.CodeDLQUnavailable {
			t.Fatalf("Push = %v: Redis is not full any more", err)
		}
	}
	if _, ok, err := s.JournalLease(ctx, "mail", "w", time.Hour); !ok || err != nil {
		t.Fatalf("JournalLease = %t, %v", ok, err)
	}
	for what, err := range map[string]error{
		"SaveJournal":     s.SaveJournal(ctx, "mail", "w", dlq.JournalNotes{Missing: []string{"at:x"}}),
		"NoteUnjournaled": s.NoteUnjournaled(ctx, "mail", []string{all[0].ID}),
		"NoteEnded":       s.NoteEnded(ctx, "mail", []string{"at:x"}),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	settleAs(t, s, all[1], dlq.ActionKeep)
	settleAs(t, s, all[2], dlq.ActionPark)
	if err := s.Unpark(ctx, all[2].ID); err != nil {
		t.Errorf("Unpark: %v", err)
	}
	again := all[3]
	again.Journal = "at:again"
	if it, err := s.Add(ctx, again); err != nil || it.ID != all[3].ID {
		t.Errorf("pushed again: %s, %v; want %s", it.ID, err, all[3].ID)
	}
	isFull()
	if got, err := s.Unjournaled(ctx, "mail", 10); err != nil || len(got) != 3 {
		t.Errorf("Unjournaled = %+v, %v; want 3", got, err)
	}
	if err := s.Journaled(ctx, "mail", "w", dlq.JournalDone{Ended: []string{"at:x"}, Written: []string{all[0].ID}, States: []dlq.JournalState{{ID: all[2].ID}}}); err != nil {
		t.Errorf("Journaled: %v", err)
	}
	wantMembers(t, c, s, "full", "unjournaled", nativeOf(all[3]))
	wantMembers(t, c, s, "full", "ended", "at:1", "at:again")
	isFull()
	settleAs(t, s, all[4], dlq.ActionDiscard)
	if err := s.Discard(ctx, all[5].ID); err != nil {
		t.Errorf("Discard: %v", err)
	}
	settleAs(t, s, all[6], dlq.ActionPark)
	if n, _, err := s.Retire(ctx, "mail", time.Now().Add(time.Hour)); err != nil || n != 2 {
		t.Errorf("Retire = %d, %v; want 2", n, err)
	}
	wantMembers(t, c, s, "drained", "ended", "at:1", "at:4", "at:5", "at:6", "at:again")
}

// TestJournalingSurvivesLostReplies: every odd reply is lost.
func TestJournalingSurvivesLostReplies(t *testing.T) {
	f, s := faulty(t, dlq.WithJournal(), dlq.WithMaxLen(0))
	c := redistest.Shared(t).Client(t)
	ctx := t.Context()
	f.loseReplies()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	_, ok, err := s.JournalLease(ctx, "mail", "w", time.Hour)
	check("JournalLease", err)
	if !ok {
		t.Fatal("its own lease, taken by a try whose reply was lost, excludes it")
	}
	check("SaveJournal", s.SaveJournal(ctx, "mail", "w", dlq.JournalNotes{Healed: 2}))
	var letters []dlq.Letter
	for i := range 25 {
		l := letterOf(t, named(fmt.Sprint(i)))
		l.Item.Parked = i == 0
		letters = append(letters, l)
	}
	got, err := s.Return(ctx, "mail", "w", 0, letters)
	check("Return", err)
	ids := map[string]bool{}
	for i, r := range got {
		if r.Status != dlq.ReturnExists && r.Status != dlq.ReturnStored {
			t.Errorf("letter %d: %+v", i, r)
		}
		ids[r.ID] = true
	}
	if n := depth(t, s, "mail"); n != 25 || len(ids) != 25 {
		t.Errorf("%d stored under %d ids, want 25", n, len(ids))
	}
	wantMembers(t, c, s, "returned", "ended")
	if st, err := s.Stats(ctx, "mail"); err != nil || st.Parked != 1 || st.Remaining != 24 || st.Journal.Healed != 2 {
		t.Errorf("Stats = %+v, %v; want 1 parked, 24 remaining, the notes", st, err)
	}
	check("NoteUnjournaled", s.NoteUnjournaled(ctx, "mail", []string{got[1].ID, got[2].ID, "mail~1-1"}))
	check("NoteEnded", s.NoteEnded(ctx, "mail", []string{"at:x", "at:y"}))
	lacks, err := s.Unjournaled(ctx, "mail", 10)
	check("Unjournaled", err)
	if len(lacks) != 2 {
		t.Errorf("Unjournaled = %d, want 2", len(lacks))
	}
	over, _, err := s.Ended(ctx, "mail", "", 10)
	check("Ended", err)
	if len(over) != 2 {
		t.Errorf("Ended = %q", over)
	}
	are, err := s.AreEnded(ctx, "mail", []string{"at:x", "at:0"})
	check("AreEnded", err)
	if !slices.Equal(are, []bool{true, false}) {
		t.Errorf("AreEnded = %v", are)
	}
	check("Journaled", s.Journaled(ctx, "mail", "w", dlq.JournalDone{Ended: []string{"at:x"}, Written: []string{got[1].ID}}))
	wantMembers(t, c, s, "journaled", "ended", "at:y")
	wantMembers(t, c, s, "journaled", "unjournaled", nativeOf(dlq.Item{ID: got[2].ID}))
	found, err := s.Present(ctx, "mail", []dlq.Identity{letters[3].Identity})
	check("Present", err)
	listed, _, err := s.PresentAfter(ctx, "mail", "", 100)
	check("PresentAfter", err)
	if found[0].ID != got[3].ID || len(listed) != 25 {
		t.Errorf("Present = %+v, PresentAfter = %d", found, len(listed))
	}
	_, _, err = s.Retire(ctx, "mail", time.Now().Add(time.Hour))
	check("Retire", err)
	if st, err := s.Stats(ctx, "mail"); err != nil || st.Retired != 1 || st.Depth != 24 {
		t.Errorf("Stats = %+v, %v; want one retired", st, err)
	}
	wantMembers(t, c, s, "retired", "ended", "at:0", "at:y")
}

// TestAPlainPushKnowsNothingOfJournals: without one nothing is written for it, and nothing asked.
func TestAPlainPushKnowsNothingOfJournals(t *testing.T) {
	c := redistest.Start(t).Client(t)
	s := newStore(t, c, dlq.WithMaxLen(3))
	var all []dlq.Item
	for i := range 6 {
		all = append(all, mustAdd(t, s, message("mail", fmt.Sprint(i))))
	}
	settleAs(t, s, all[3], dlq.ActionPark)
	settleAs(t, s, all[4], dlq.ActionKeep)
	settleAs(t, s, all[5], dlq.ActionDiscard)
	if _, err := s.Stats(t.Context(), "mail"); err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"ended", "unjournaled"} {
		wantMembers(t, c, s, "without a journal", set)
	}
	fields, err := c.HKeys(t.Context(), "{"+s.prefix+":dlq:mail}:meta").Result()
	if err != nil || slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, "journal") }) {
		t.Errorf("meta has %q, %v", fields, err)
	}
	stats, err := c.Info(t.Context(), "commandstats").Result()
	for _, command := range []string{"sismember", "scard", "hsetnx"} {
		if err != nil || strings.Contains(stats, "cmdstat_"+command) {
			t.Errorf("%v; %s was called", err, command)
		}
	}
}

// Nobody waits for one question to ask the other.
func TestReturnAsksBothQuestionsAtOnce(t *testing.T) {
	f, s := faulty(t, dlq.WithJournal())
	if _, ok, err := s.JournalLease(t.Context(), "mail", "w", time.Hour); !ok || err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	met := make(chan struct{}) // a script is sent while SADD waits
	once := sync.OnceFunc(func() { close(met) })
	f.fate = func(ctx context.Context, name string, send func() error) error {
		if name != "sadd" {
			once()
			return send()
		}
		select {
		case <-met:
			return send()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	got, err := s.Return(ctx, "mail", "w", 0, []dlq.Letter{letterOf(t, named("a"))})
	if err != nil || got[0].Status != dlq.ReturnStored {
		t.Fatalf("Return = %+v, %v", got, err)
	}
}
