package dlqtest

import (
	"fmt"
	"slices"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// retireCases are about dead letters that are removed for their age.
var retireCases = []Case{
	{
		Name: "retired for their age",
		Rule: "Retire removes what was pushed before a time and is not due by itself: delivered and kept, expired, parked, waiting; never what is leased, due or scheduled. They are counted, and their addresses are over",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithJournal(), dlq.WithMaxLen(0))
			var gone, stay []dlq.Item
			push := func(it dlq.Item, action dlq.Action, list *[]dlq.Item) dlq.Item {
				t.Helper()
				stored := add(t, s, it)
				if action != "" {
					settleOne(t, s, stored.ID, dlq.Settlement{Action: action, Delay: time.Hour})
				}
				*list = append(*list, stored)
				return stored
			}
			over := item("mail", "over")
			over.ExpiresAt = time.Now().Add(-time.Hour)
			later := item("mail", "scheduled")
			later.NotBefore = time.Now().Add(time.Hour)
			for range 120 {
				push(at(item("mail", fmt.Sprint("due", len(stay))), fmt.Sprint("stays:", len(stay))), "", &stay)
			}
			push(later, "", &stay)
			push(item("mail", "failed"), dlq.ActionRetry, &stay)
			push(at(item("mail", "kept"), "at:kept"), dlq.ActionKeep, &gone)
			push(at(item("mail", "parked"), "at:parked"), dlq.ActionPark, &gone)
			push(item("mail", "held"), dlq.ActionHold, &gone)
			push(at(withReason(item("mail", "terminal"), dlq.ReasonTerminal), "at:terminal"), "", &gone)
			push(at(withReason(item("mail", "expired"), dlq.ReasonExpired), "at:expired"), "", &gone)
			push(at(over, "at:over"), "", &gone)
			leased := push(at(withReason(item("mail", "leased"), dlq.ReasonTerminal), "at:leased"), "", &stay)
			l := claimIDs(t, s, "mail", leased.ID)
			if n, more, err := s.Retire(t.Context(), "mail", time.Now().Add(-time.Hour)); n != 0 || more || err != nil {
				t.Errorf("Retire of what is younger = %d, %t, %v", n, more, err)
			}
			retire := func(want int64) {
				t.Helper()
				var sum int64
				calls := 0
				for more := true; more; calls++ {
					n, others, err := s.Retire(t.Context(), "mail", time.Now().Add(time.Hour))
					if err != nil || calls > 10 {
						t.Fatal(calls, err)
					}
					sum, more = sum+n, others
				}
				if sum != want {
					t.Errorf("Retire removed %d, want %d", sum, want)
				}
			}
			already := ended(t, s) // delivered and kept
			retire(int64(len(gone)))
			want := already
			for _, it := range gone {
				if _, err := s.Get(t.Context(), it.ID); fault.CodeOf(err) != fault.CodeDLQNotFound {
					t.Errorf("%s was not retired: %v", it.DeliveryID, err)
				}
				want = append(want, it.Journal)
			}
			for _, it := range stay {
				get(t, s, it.ID)
			}
			wantEnded(t, s, "retired", sorted(want)...)
			if got := stats(t, s, "mail"); got.Retired != int64(len(gone)) || got.Trimmed != 0 {
				t.Errorf("Stats: %d retired, %d trimmed; want %d, 0", got.Retired, got.Trimmed, len(gone))
			}
			wantStats(t, s, "mail", counts{Depth: int64(len(stay)), Remaining: int64(len(stay)) - 1})
			if err := s.Release(t.Context(), []dlq.Lease{l[0].Lease}); err != nil {
				t.Fatal(err)
			}
			retire(1)
			retire(0)
		},
	},
	{
		Name: "old ones that are due keep no others from being retired",
		Rule: "Retire goes on where the last call stopped, at most 1,000 entries a call, and begins anew at the end",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(0))
			for range 3 {
				batch := make([]dlq.Item, 700)
				for i := range batch {
					batch[i] = item("mail", "")
					batch[i].Message.ID = ""
				}
				if _, errs := s.AddBatch(t.Context(), batch); slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
					t.Fatal(errs)
				}
			}
			add(t, s, withReason(item("mail", "terminal"), dlq.ReasonTerminal))
			for round := range 2 {
				var got []int64
				for more := true; more; {
					n, others, err := s.Retire(t.Context(), "mail", time.Now().Add(time.Hour))
					if err != nil || len(got) > 3 {
						t.Fatal(n, err, got)
					}
					got, more = append(got, n), others
				}
				removed := int64(0)
				for _, n := range got {
					removed += n
				}
				if want := []int64{1, 0}[round]; len(got) != 3 || removed != want {
					t.Errorf("round %d: calls of Retire removed %v, want three, and %d together", round, got, want)
				}
			}
		},
	},
}
