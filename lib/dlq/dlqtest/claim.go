package dlqtest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/internal/await"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

var claimCases = []Case{
	{
		Name: "due items are claimed oldest first, and once",
		Rule: "Claim leases up to Limit due items in due order; what is leased is not claimed again; nothing due is an empty answer",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 5)
			add(t, s, item("chat", "x"))
			for _, want := range [][]string{{"d0", "d1", "d2"}, {"d3", "d4"}, {}} {
				if diff := cmp.Diff(want, leasedDeliveries(claim(t, s, "mail", 3))); diff != "" {
					t.Errorf("Claim (-want +got):\n%s", diff)
				}
			}
			if got := claim(t, s, "chat", 0); len(got) != 1 {
				t.Errorf("Claim with limit 0 = %d items, want 1", len(got))
			}
			wantStats(t, s, "mail", counts{Depth: 5, Remaining: 5})
		},
	},
	{
		Name: "rescheduled items keep their turn",
		Rule: "items that are due again are claimed in the order in which they became due, between the fresh ones",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			old := add(t, s, item("mail", "old"))
			await.Millisecond()
			add(t, s, item("mail", "middle"))
			await.Millisecond()
			settleOne(t, s, old.ID, dlq.Settlement{Action: dlq.ActionRetry, Error: "x", Charge: true})
			await.Millisecond()
			add(t, s, item("mail", "new"))
			await.Millisecond()
			if diff := cmp.Diff([]string{"middle", "old", "new"}, leasedDeliveries(claim(t, s, "mail", 10))); diff != "" {
				t.Errorf("Claim (-want +got):\n%s", diff)
			}
		},
	},
	{
		Name: "some are never due, some not yet",
		Rule: "terminal, ambiguous, invalid and expired dead letters are never due; those with a not-before only from then on",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for _, r := range dlq.Reasons {
				add(t, s, withReason(item("mail", string(r)), r))
			}
			soon, late := item("mail", "soon"), item("mail", "late")
			soon.NotBefore = time.Now().Add(100 * time.Millisecond)
			late.NotBefore = time.Now().Add(time.Hour)
			add(t, s, soon)
			lateID := add(t, s, late).ID
			wantStats(t, s, "mail", counts{Depth: 12, Remaining: 8})
			var got []string
			claimed := func() bool {
				got = append(got, leasedDeliveries(claim(t, s, "mail", 100))...)
				if early := time.Until(soon.NotBefore.Truncate(time.Millisecond)); early > 0 && slices.Contains(got, "soon") {
					t.Errorf("%v: leased %s before its not-before", got, early)
				}
				return slices.Contains(got, "soon")
			}
			claimed()
			it := get(t, s, lateID)
			if !it.NextReplayAt.Equal(late.NotBefore.Truncate(time.Millisecond)) || !it.State(time.Now()).Scheduled() {
				t.Errorf("next replay at %s, want %s", it.NextReplayAt, late.NotBefore)
			}
			await.True(t, "the item whose not-before has passed is due", claimed)
			if diff := cmp.Diff([]string{"exhausted", "deadline", "canceled", "config", "open", "throttled", "soon"}, got); diff != "" {
				t.Errorf("Claim (-want +got):\n%s", diff)
			}
		},
	},
	{
		Name: "fresh ones behind many that are never due",
		Rule: "whatever is not due never keeps what is due from being claimed",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			batch := make([]dlq.Item, 600)
			for i := range batch {
				batch[i] = withReason(item("mail", fmt.Sprint(i)), dlq.ReasonTerminal)
			}
			s.AddBatch(t.Context(), batch)
			add(t, s, item("mail", "due"))
			if diff := cmp.Diff([]string{"due"}, leasedDeliveries(claim(t, s, "mail", 10))); diff != "" {
				t.Errorf("Claim (-want +got):\n%s", diff)
			}
		},
	},
	{
		Name: "a claim can be repeated",
		Rule: "the same token gets the same items, less those settled or released since, and no others",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 6)
			c := dlq.Claim{Sink: "mail", Limit: 3, Token: "t-1", TTL: time.Minute}
			first := claimAs(t, s, c)
			second := claimAs(t, s, c)
			sortLeased(second)
			if diff := cmp.Diff(leasedDeliveries(first), leasedDeliveries(second)); diff != "" {
				t.Fatalf("repeated claim (-first +second):\n%s", diff)
			}
			settle(t, s, dlq.Settlement{Lease: first[0].Lease, Action: dlq.ActionDiscard})
			if err := s.Release(t.Context(), []dlq.Lease{first[1].Lease}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"d2"}, leasedDeliveries(claimAs(t, s, c))); diff != "" {
				t.Errorf("claim repeated later (-want +got):\n%s", diff)
			}
			byID := dlq.Claim{Sink: "mail", IDs: []string{first[2].ID}, Token: "t-1", TTL: time.Minute}
			if got := claimAs(t, s, byID); len(got) != 1 {
				t.Errorf("claim by id of what the token leases = %d items, want 1", len(got))
			}
		},
	},
	{
		Name: "leases end at the latest when they say",
		Rule: "Expires is no later than the claim's end plus TTL, and a repeated claim does not prolong it",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 1)
			c := dlq.Claim{Sink: "mail", Token: "t", TTL: time.Minute}
			first := claimAs(t, s, c)[0].Expires
			if d := time.Until(first); d > time.Minute || d < 0 {
				t.Errorf("lease of 1m ends in %s", d)
			}
			again := claimAs(t, s, c)[0].Expires
			if again.After(first.Add(5 * time.Second)) {
				t.Errorf("repeated claim ends at %s, the first at %s", again, first)
			}
			for name, c := range map[string]dlq.Claim{
				"no length": {Sink: "mail"}, "bad token": {Sink: "mail", TTL: time.Minute, Token: "a b"},
				"bad sink": {Sink: "{x}", TTL: time.Minute}, "other sink's item": {Sink: "mail", TTL: time.Minute, IDs: []string{"chat~1-1"}},
				"bad id": {Sink: "mail", TTL: time.Minute, IDs: []string{"x"}},
			} {
				_, err := s.Claim(t.Context(), c)
				wantCode(t, name, err, fault.CodeInvalidArgument)
			}
		},
	},
	{
		Name: "a lease that ran out comes back by itself",
		Rule: "after its lease's end an item is due again; the late holder is fenced once somebody took over, and changes nothing",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 1)
			late := claimAs(t, s, dlq.Claim{Sink: "mail", TTL: 20 * time.Millisecond})[0]
			var second []dlq.Leased
			await.True(t, "the item is due again", func() bool {
				second = claim(t, s, "mail", 1)
				return len(second) == 1
			})
			before := get(t, s, late.ID)
			for _, a := range []dlq.Action{dlq.ActionDiscard, dlq.ActionKeep, dlq.ActionRetry} {
				if got := settle(t, s, dlq.Settlement{Lease: late.Lease, Action: a, Operation: "op"}); got[0] != dlq.SettleFenced {
					t.Errorf("late %s = %s, want fenced", a, got[0])
				}
			}
			if err := s.Release(t.Context(), []dlq.Lease{late.Lease}); err != nil {
				t.Errorf("late Release: %v", err)
			}
			wantCode(t, "Discard", s.Discard(t.Context(), late.ID), fault.CodeItemLeased)
			if diff := cmp.Diff(before, get(t, s, late.ID)); diff != "" {
				t.Errorf("the late holder changed the item (-before +after):\n%s", diff)
			}
			if got, err := s.Progress(t.Context(), "op", "mail"); err != nil || got != (dlq.OperationCounts{}) {
				t.Errorf("Progress = %+v, %v; want none", got, err)
			}
			if got := settle(t, s, dlq.Settlement{Lease: second[0].Lease, Action: dlq.ActionDiscard}); got[0] != dlq.SettleApplied {
				t.Errorf("the holder's settlement = %s, want applied", got[0])
			}
			wantStats(t, s, "mail", counts{})
		},
	},
	{
		Name: "a lease that ran out and was not taken over still settles",
		Rule: "fencing compares tokens, not times",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 1)
			l := lease(t, b, s, dlq.Claim{Sink: "mail"})[0]
			runOut(t, b, s, l)
			if got := settle(t, s, dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDiscard}); got[0] != dlq.SettleApplied {
				t.Errorf("Settle = %s, want applied", got[0])
			}
			wantStats(t, s, "mail", counts{})
		},
	},
	{
		Name: "claims by id take what is not leased",
		Rule: "with IDs, items are leased due or not, parked and held too; missing, leased and (without Force) delivered ones are left out",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			never := add(t, s, withReason(item("mail", "never"), dlq.ReasonAmbiguous))
			parked := add(t, s, item("mail", "parked"))
			delivered := add(t, s, item("mail", "delivered"))
			leased := add(t, s, item("mail", "leased"))
			fresh := add(t, s, item("mail", "fresh"))
			settleOne(t, s, parked.ID, dlq.Settlement{Action: dlq.ActionPark, Error: "x"})
			settleOne(t, s, delivered.ID, dlq.Settlement{Action: dlq.ActionKeep})
			claimIDs(t, s, "mail", leased.ID)
			native := fresh.ID[len("mail~"):]
			all := []string{never.ID, "mail~1-1", parked.ID, delivered.ID, leased.ID, native, fresh.ID}
			got := claimIDs(t, s, "mail", all...)
			if diff := cmp.Diff([]string{"never", "parked", "fresh"}, leasedDeliveries(got)); diff != "" {
				t.Errorf("Claim (-want +got):\n%s", diff)
			}
			got = claimAs(t, s, dlq.Claim{Sink: "mail", IDs: []string{delivered.ID}, Force: true, TTL: time.Minute})
			if diff := cmp.Diff([]string{"delivered"}, leasedDeliveries(got)); diff != "" {
				t.Errorf("Claim with Force (-want +got):\n%s", diff)
			}
			if got := claim(t, s, "mail", 10); len(got) != 0 {
				t.Errorf("Claim of what is due = %v, want nothing", leasedDeliveries(got))
			}
		},
	},
	{
		Name: "many ids, bounded by limit and bytes",
		Rule: "asking again for the ids after the last one returned leases them all in the end, in order",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			var ids []string
			for i := range 150 {
				it := item("mail", fmt.Sprint(i))
				if i < 8 {
					it.Message.Body = strings.Repeat("x", 200<<10)
				}
				ids = append(ids, add(t, s, it).ID)
			}
			if got := claimAs(t, s, dlq.Claim{Sink: "mail", IDs: ids, Limit: 2, TTL: time.Minute}); len(got) != 2 {
				t.Fatalf("Claim with limit 2 = %d items", len(got))
			}
			rest, size := ids[2:], 0
			for len(rest) > 0 {
				got := claimIDs(t, s, "mail", rest...)
				if len(got) == 0 {
					t.Fatalf("nothing leased of %d", len(rest))
				}
				for i, l := range got {
					if l.ID != rest[i] {
						t.Fatalf("item %d is %s, want %s", i, l.ID, rest[i])
					}
					size += len(l.Item.Message.Body)
				}
				rest = rest[len(got):]
			}
		},
	},
	{
		Name: "an operator's replay that ran out leaves the item as it was",
		Rule: "an item that is not due, or not yet, does not become due because a lease on it ran out",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			never := add(t, s, withReason(item("mail", "never"), dlq.ReasonTerminal))
			parked := add(t, s, item("mail", "parked"))
			settleOne(t, s, parked.ID, dlq.Settlement{Action: dlq.ActionPark, Error: "x"})
			moved := add(t, s, item("mail", "moved"))
			settleOne(t, s, moved.ID, dlq.Settlement{Action: dlq.ActionRetry, Delay: time.Hour})
			l := lease(t, b, s, dlq.Claim{Sink: "mail", IDs: []string{never.ID, parked.ID, moved.ID}})
			if len(l) != 3 {
				t.Fatalf("leased %d, want 3", len(l))
			}
			runOut(t, b, s, l...)
			if got := claim(t, s, "mail", 10); len(got) != 0 {
				t.Errorf("Claim = %v, want nothing", leasedDeliveries(got))
			}
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 1, Parked: 1})
			if it := get(t, s, never.ID); it.State(time.Now()).Scheduled() {
				t.Errorf("%+v is due", it)
			}
			if got := claimIDs(t, s, "mail", never.ID, parked.ID, moved.ID); len(got) != 3 {
				t.Errorf("claim by id = %d items, want 3", len(got))
			}
		},
	},
	{
		Name: "a pause stops the schedule only",
		Rule: "the due items of a paused sink are not claimed, by id they are; pushes go on",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			all := fill(t, s, "mail", 2)
			if err := s.Pause(t.Context(), "mail", true); err != nil {
				t.Fatal(err)
			}
			add(t, s, item("mail", "more"))
			if got := claim(t, s, "mail", 10); len(got) != 0 || !stats(t, s, "mail").Paused {
				t.Errorf("Claim = %v, want nothing of a paused sink", leasedDeliveries(got))
			}
			if got := claimIDs(t, s, "mail", all[0].ID); len(got) != 1 {
				t.Errorf("claim by id = %d items, want 1", len(got))
			}
			if err := s.Pause(t.Context(), "mail", false); err != nil {
				t.Fatal(err)
			}
			if got := claim(t, s, "mail", 10); len(got) != 2 || stats(t, s, "mail").Paused {
				t.Errorf("Claim after the pause = %v, want 2", leasedDeliveries(got))
			}
		},
	},
	{
		Name: "many replayers share without overlap",
		Rule: "concurrent claims lease every due item to exactly one of them",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 300)
			var mu sync.Mutex
			got := map[string]int{}
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for {
						leased, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", Limit: 7, TTL: time.Minute})
						if err != nil {
							t.Error(err)
							return
						}
						if len(leased) == 0 {
							return
						}
						settlements := make([]dlq.Settlement, len(leased))
						mu.Lock()
						for i, l := range leased {
							got[l.Item.DeliveryID]++
							settlements[i] = dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDiscard, Operation: "op"}
						}
						mu.Unlock()
						if _, err := s.Settle(t.Context(), settlements); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			for id, n := range got {
				if n != 1 {
					t.Errorf("%s was leased %d times", id, n)
				}
			}
			if len(got) != 300 {
				t.Errorf("%d items were leased, want 300", len(got))
			}
			wantStats(t, s, "mail", counts{})
			p, err := s.Progress(t.Context(), "op", "mail")
			if want := (dlq.OperationCounts{Settled: 300, Delivered: 300}); err != nil || p != want {
				t.Errorf("Progress = %+v, %v; want %+v", p, err, want)
			}
		},
	},
}

func sortLeased(l []dlq.Leased) {
	slices.SortFunc(l, func(a, b dlq.Leased) int {
		x, _ := dlq.ParseID(a.ID)
		y, _ := dlq.ParseID(b.ID)
		return dlq.CompareNative(x.Native, y.Native)
	})
}
