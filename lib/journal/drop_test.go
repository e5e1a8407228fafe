package journal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/journal"
)

// full returns a queue with dead letters m-0, m-1 ... of ops, pushed in groups of the given sizes.
func full(t *testing.T, sizes ...int) (*journal.Queue, *dlq.Memory, *shelf, []dlq.Item) {
	t.Helper()
	inner, s := dlq.NewMemory(dlq.WithJournal()), newShelf()
	q := journal.NewQueue(inner, s, journal.Options{Log: slog.New(slog.DiscardHandler)})
	var all []dlq.Item
	for _, n := range sizes {
		var items []dlq.Item
		for range n {
			items = append(items, letter("ops", fmt.Sprintf("m-%d", len(all)+len(items))))
		}
		stored, errs := q.AddBatch(t.Context(), items)
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		all = append(all, stored...)
	}
	return q, inner, s, all
}

// lines returns the delivery ids that the journal has under open/, in order.
func (s *shelf) lines() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.names("open/") {
		for text := range strings.Lines(string(s.objects[name])) {
			if _, rest, ok := strings.Cut(text, `"delivery_id":"`); ok {
				id, _, _ := strings.Cut(rest, `"`)
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return ids
}

func (s *shelf) wantLines(t *testing.T, want ...string) {
	t.Helper()
	if got := s.lines(); !slices.Equal(got, want) {
		t.Errorf("the journal has %q, want %q", got, want)
	}
}

func claim(t *testing.T, s dlq.Store, items ...dlq.Item) []dlq.Leased {
	t.Helper()
	c := dlq.Claim{Sink: "ops", TTL: time.Minute}
	for _, it := range items {
		c.IDs = append(c.IDs, it.ID)
	}
	leased, err := s.Claim(t.Context(), c)
	if err != nil || len(leased) != len(items) {
		t.Fatalf("%d leased, %v; want %d", len(leased), err, len(items))
	}
	return leased
}

func settlements(action dlq.Action, leased ...dlq.Leased) (all []dlq.Settlement) {
	for _, l := range leased {
		all = append(all, dlq.Settlement{Lease: l.Lease, Action: action})
	}
	return all
}

// What is given up is gone from the journal when its caller is told so: a line of several, or the
// object with the last one.
func TestWhatIsGivenUpLeavesTheJournalFirst(t *testing.T) {
	q, inner, s, items := full(t, 3, 1)
	s.wantLines(t, "m-0", "m-1", "m-2", "m-3")
	for _, step := range []struct {
		drop []dlq.Item
		left []string
	}{
		{items[1:2], []string{"m-0", "m-2", "m-3"}},
		{items[3:4], []string{"m-0", "m-2"}},
		{[]dlq.Item{items[0], items[2]}, nil},
	} {
		results, err := q.Settle(t.Context(), settlements(dlq.ActionDrop, claim(t, inner, step.drop...)...))
		if err != nil || slices.Contains(results, dlq.SettleFenced) {
			t.Fatalf("%v, %v", results, err)
		}
		s.wantLines(t, step.left...)
	}
	if left := s.under("open"); len(left) > 0 {
		t.Errorf("objects left: %q", left)
	}
	// A restore that read them before finds them over.
	for _, it := range items {
		if over, err := inner.AreEnded(t.Context(), "ops", []string{it.Journal}); err != nil || !over[0] {
			t.Errorf("%s: over %v, %v", it.Journal, over, err)
		}
	}
}

// Discard takes the same way, whatever holds the item.
func TestDiscardLeavesTheJournalFirst(t *testing.T) {
	q, inner, s, items := full(t, 2, 1)
	if err := q.Discard(t.Context(), items[0].ID); err != nil {
		t.Fatal(err)
	}
	s.wantLines(t, "m-1", "m-2")
	leased := claim(t, inner, items[1])
	if err := q.Discard(t.Context(), items[1].ID); fault.CodeOf(err) != fault.CodeItemLeased {
		t.Errorf("a leased one: %v", err)
	}
	s.wantLines(t, "m-1", "m-2")
	if _, err := inner.Settle(t.Context(), settlements(dlq.ActionKeep, leased...)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{items[1].ID, items[1].ID, "ops~1-1"} { // delivered and kept, then gone, never there
		if err := q.Discard(t.Context(), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	s.wantLines(t, "m-2")
}

// A journal that cannot be reached keeps what was to be given up, in the queue and free; what
// was to be settled otherwise is.
func TestNothingIsGivenUpWithoutTheJournal(t *testing.T) {
	for _, call := range []string{"get", "replace", "delete"} {
		t.Run(call, func(t *testing.T) {
			q, inner, s, items := full(t, 3, 1, 1)
			s.before = func(_ context.Context, c, _ string) (error, bool) {
				if c == call {
					return errors.New("denied"), false
				}
				return nil, true
			}
			if err := q.Discard(t.Context(), items[0].ID); !errors.Is(err, dlq.ErrJournal) || fault.CodeOf(err) != fault.CodeDLQUnavailable {
				t.Errorf("Discard: %v", err)
			}
			given := []dlq.Item{items[0], items[1], items[3]}
			leased := claim(t, inner, append(given, items[4])...)
			all := settlements(dlq.ActionDrop, leased[:3]...)
			all = append(all, settlements(dlq.ActionDiscard, leased[3])...)
			if results, err := q.Settle(t.Context(), all); !errors.Is(err, dlq.ErrJournal) {
				t.Errorf("Settle: %v, %v", results, err)
			}
			n, err := inner.Count(t.Context(), "ops")
			if err != nil || n != 4 {
				t.Errorf("the queue has %d, %v; want those that were not delivered", n, err)
			}
			// What went from the journal all the same, the queue knows.
			s.before = nil
			lacks, err := inner.Unjournaled(t.Context(), "ops", 100)
			if err != nil {
				t.Fatal(err)
			}
			known := s.lines()
			for _, l := range lacks {
				known = append(known, l.Item.DeliveryID)
			}
			for _, it := range given {
				if !slices.Contains(known, it.DeliveryID) {
					t.Errorf("neither the journal has %s, nor does the queue know that it lacks it", it.DeliveryID)
				}
			}
			results, err := q.Settle(t.Context(), all)
			if err != nil || slices.Contains(results, dlq.SettleFenced) {
				t.Errorf("again: %v, %v", results, err)
			}
			if n, err := inner.Count(t.Context(), "ops"); err != nil || n != 1 {
				t.Errorf("the queue has %d, %v", n, err)
			}
			s.wantLines(t, "m-2", "m-4") // m-4 was delivered: a Keeper deletes it
		})
	}
}

// Whoever settles too late leaves the journal alone: the item may be another's by now.
func TestALateHolderLeavesTheJournalAlone(t *testing.T) {
	var faults []string
	synctest.Test(t, func(t *testing.T) {
		q, inner, s, items := full(t, 1)
		leased := claim(t, inner, items[0])
		time.Sleep(2 * time.Minute)
		results, err := q.Settle(t.Context(), settlements(dlq.ActionDrop, leased...))
		if err != nil || results[0] != dlq.SettleFenced || len(s.lines()) != 1 {
			faults = append(faults, fmt.Sprintf("%v, %v, the journal has %q", results, err, s.lines()))
		}
	})
	for _, f := range faults {
		t.Error(f)
	}
}

// Lines of one object that are given up at the same time are all gone.
func TestLinesOfOneObjectGoTogether(t *testing.T) {
	q, inner, s, items := full(t, journal.MaxLines)
	leased := claim(t, inner, items...)
	var wg sync.WaitGroup
	for _, l := range leased[1:] {
		wg.Go(func() {
			if results, err := q.Settle(t.Context(), settlements(dlq.ActionDrop, l)); err != nil || results[0] != dlq.SettleApplied {
				t.Errorf("%v, %v", results, err)
			}
		})
	}
	wg.Wait()
	s.wantLines(t, "m-0")
}

// A spilled dead letter is found by its delivery, alone in its object or among others.
func TestFindFindsWhatIsSpilled(t *testing.T) {
	for _, n := range []int{1, 3} {
		inner, s := dlq.NewMemory(dlq.WithJournal(), dlq.WithMaxLen(1), dlq.WithOverflow(dlq.OverflowReject)), newShelf()
		q := journal.NewQueue(inner, s, journal.Options{})
		if err := q.Push(t.Context(), letter("ops", "first")); err != nil {
			t.Fatal(err)
		}
		var items []dlq.Item
		for i := range n {
			items = append(items, letter("ops", fmt.Sprintf("m-%d", i)))
		}
		if _, errs := q.AddBatch(t.Context(), items); errors.Join(errs...) != nil {
			t.Fatal(errs)
		}
		content := dlq.IdentityOf(items[n-1]).Content
		for _, fingerprint := range []string{"", content} {
			it, err := q.Find(t.Context(), "ops", items[n-1].DeliveryID, fingerprint)
			if err != nil || !it.Spilled || it.ID != "" || it.DeliveryID != items[n-1].DeliveryID {
				t.Errorf("of %d, %q: %+v, %v", n, fingerprint, it, err)
			}
		}
		for _, ask := range [][2]string{{"ops", "m-9"}, {"mail", "m-0"}} {
			if it, err := q.Find(t.Context(), ask[0], ask[1], ""); fault.CodeOf(err) != fault.CodeDLQNotFound {
				t.Errorf("%v: %+v, %v", ask, it, err)
			}
		}
		if it, err := q.Find(t.Context(), "ops", items[n-1].DeliveryID, "other"); fault.CodeOf(err) != fault.CodeDLQNotFound {
			t.Errorf("other content: %+v, %v", it, err)
		}
		s.before = moods["failed"]
		if _, err := q.Find(t.Context(), "ops", "m-0", ""); fault.CodeOf(err) != fault.CodeDLQUnavailable {
			t.Errorf("the bucket is away: %v", err)
		}
		if it, err := q.Find(t.Context(), "ops", "first", ""); err != nil || it.ID == "" {
			t.Errorf("what the queue has needs no bucket: %+v, %v", it, err)
		}
	}
}

// What an earlier push may have stored is found by whoever comes again, and acknowledged: the queue knows
// then that the journal may lack it, as of a process that died before it wrote there. Whoever only looks
// changes nothing.
func TestWhatIsFoundToBeAcknowledgedIsJournaled(t *testing.T) {
	t.Parallel()
	inner, s := dlq.NewMemory(dlq.WithJournal()), newShelf()
	q := journal.NewQueue(inner, s, journal.Options{Log: slog.New(slog.DiscardHandler)})
	it, err := inner.Add(t.Context(), letter("ops", "m-1"))
	if err != nil {
		t.Fatal(err)
	}
	k := &journal.Keeper{Queue: inner, Bucket: s, Log: slog.New(slog.DiscardHandler)}
	look := func(fingerprint string, want int64) {
		t.Helper()
		if r, err := k.Tick(t.Context(), "ops"); err != nil { // what was noted when it was pushed is done with
			t.Fatalf("%+v, %v", r, err)
		}
		for _, name := range s.under("open") {
			if err := s.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
		if found, err := q.Find(t.Context(), "ops", "m-1", fingerprint); err != nil || found.ID != it.ID {
			t.Errorf("found %q, %v", found.ID, err)
		}
		if r, err := k.Tick(t.Context(), "ops"); err != nil || r.Written != want {
			t.Errorf("fingerprint %q: %d written, %v; want %d", fingerprint, r.Written, err, want)
		}
	}
	look("", 0)
	look(dlq.IdentityOf(it).Content, 1)
	s.wantLines(t, "m-1")
}
