package dlqtest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/internal/await"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

func expiring(it dlq.Item, at time.Time) dlq.Item {
	it.ExpiresAt = at
	return it
}

// everywhere adds dead letters that wait in every way, whose time was over at the given one, a
// millisecond apart in the order of the answer.
func everywhere(t *T, s dlq.Store, at time.Time) (all []dlq.Item) {
	t.Helper()
	later := item("mail", "scheduled")
	later.NotBefore = time.Now().Add(time.Hour)
	for i, it := range []dlq.Item{item("mail", "parked"), later, withReason(item("mail", "waiting"), dlq.ReasonTerminal), item("mail", "moved"), item("mail", "due")} {
		all = append(all, add(t, s, expiring(it, at.Add(time.Duration(i)*time.Millisecond))))
	}
	settleOne(t, s, all[0].ID, dlq.Settlement{Action: dlq.ActionPark, Error: "no", Charge: true})
	settleOne(t, s, all[3].ID, dlq.Settlement{Action: dlq.ActionRetry, Error: "no", Charge: true, Delay: time.Hour})
	return all
}

// wantStates compares the numbers of Stats by state, with those of expiry.
func wantStates(t *T, s dlq.Store, what string, want map[dlq.State]int64, remaining, overdue int64) {
	t.Helper()
	st := stats(t, s, "mail")
	if !maps.Equal(st.States, want) || st.Remaining != remaining || st.Overdue != overdue {
		t.Errorf("%s: states %v, %d remaining, %d overdue; want %v, %d, %d", what, st.States, st.Remaining, st.Overdue, want, remaining, overdue)
	}
}

func claimExpired(t *T, s dlq.Store, limit int) []dlq.Leased {
	t.Helper()
	return claimAs(t, s, dlq.Claim{Sink: "mail", Expired: true, Limit: limit, TTL: time.Minute})
}

var expiryCases = []Case{
	{
		Name: "what expires is kept with its time",
		Rule: "ExpiresAt is stored as it was pushed, in UTC; without one an item never expires",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			at := time.Date(2199, 1, 2, 3, 4, 5, 678900000, time.FixedZone("", 3600))
			for id, want := range map[string]time.Time{"a": at, "b": {}} {
				got := get(t, s, add(t, s, expiring(item("mail", id), want)).ID)
				if !got.ExpiresAt.Equal(want) || !want.IsZero() && got.ExpiresAt.Location() != time.UTC || got.State(time.Now()) != dlq.StateDue {
					t.Errorf("%s: expires at %s, and is %s; want %s, due", id, got.ExpiresAt, got.State(time.Now()), want)
				}
			}
			wantStates(t, s, "in time", map[dlq.State]int64{dlq.StateDue: 2}, 2, 0)
			if got := claimExpired(t, s, 10); len(got) != 0 {
				t.Errorf("Claim of what expired = %v, want nothing", leasedDeliveries(got))
			}
		},
	},
	{
		Name: "what expired is marked wherever it waits",
		Rule: "Claim.Expired leases what is over and not marked, earliest expiry first, of a paused sink too; ActionExpire marks it once, neither charged nor in its history, and it is due no more",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			all := everywhere(t, s, time.Now().Add(-time.Minute))
			add(t, s, expiring(item("mail", "in time"), time.Now().Add(time.Hour)))
			if err := s.Pause(t.Context(), "mail", true); err != nil {
				t.Fatal(err)
			}
			for _, it := range all {
				if got := get(t, s, it.ID).State(time.Now()); got != dlq.StateExpired {
					t.Errorf("%s is %s before it is marked, want expired", it.DeliveryID, got)
				}
			}
			wantStates(t, s, "over, not marked", map[dlq.State]int64{dlq.StateDue: 2, dlq.StateScheduled: 2, dlq.StateWaiting: 1, dlq.StateParked: 1}, 4, 5)

			c := dlq.Claim{Sink: "mail", Expired: true, Limit: 10, Token: "t", TTL: time.Minute}
			leased := claimAs(t, s, c)
			if diff := cmp.Diff([]string{"parked", "scheduled", "waiting", "moved", "due"}, leasedDeliveries(leased)); diff != "" {
				t.Fatalf("Claim of what expired (-want +got):\n%s", diff)
			}
			wantStates(t, s, "leased", map[dlq.State]int64{dlq.StateDue: 1, dlq.StateReplaying: 5}, 4, 5)
			if again := claimAs(t, s, c); len(again) != 5 {
				t.Errorf("the claim repeated = %v, want the same", leasedDeliveries(again))
			}
			if got := claimExpired(t, s, 10); len(got) != 0 {
				t.Errorf("another claim = %v, want nothing: they are leased", leasedDeliveries(got))
			}
			settlements := make([]dlq.Settlement, len(leased))
			for i, l := range leased {
				settlements[i] = dlq.Settlement{Lease: l.Lease, Action: dlq.ActionExpire, Charge: true, Error: "ignored", Operation: "op"}
			}
			for range 2 { // a reply was lost
				for i, got := range settle(t, s, settlements...) {
					if got != dlq.SettleApplied {
						t.Errorf("Settle of %s = %s, want applied", leased[i].Item.DeliveryID, got)
					}
				}
			}
			if got, err := s.Progress(t.Context(), "op", "mail"); err != nil || got != (dlq.OperationCounts{Settled: 5, Expired: 5}) {
				t.Errorf("Progress = %+v, %v; want 5 settled, 5 expired", got, err)
			}
			wantStates(t, s, "marked", map[dlq.State]int64{dlq.StateDue: 1, dlq.StateExpired: 5}, 1, 0)
			for i, before := range all {
				got := get(t, s, before.ID)
				if got.State(time.Now()) != dlq.StateExpired || time.Since(got.ExpiredAt) > time.Minute || got.Parked || got.Held || !got.NextReplayAt.IsZero() {
					t.Errorf("marked: %+v", got)
				}
				if old := leased[i].Item; got.Replays != old.Replays || len(got.History) != len(old.History) {
					t.Errorf("%s: %d replays, history %v; want it uncharged", got.DeliveryID, got.Replays, got.History)
				}
			}
			p, err := s.Page(t.Context(), dlq.Query{Sink: "mail", State: dlq.StateExpired})
			if err != nil || len(p.Items) != 5 {
				t.Errorf("Page of what expired = %d items, %v; want 5", len(p.Items), err)
			}
			if got := claimExpired(t, s, 10); len(got) != 0 {
				t.Errorf("Claim of what expired = %v, want nothing: all are marked", leasedDeliveries(got))
			}
			if err := s.Pause(t.Context(), "mail", false); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"in time"}, leasedDeliveries(claim(t, s, "mail", 10))); diff != "" {
				t.Errorf("Claim of what is due (-want +got):\n%s", diff)
			}
			for _, it := range all {
				discard(t, s, it.ID)
			}
			wantStates(t, s, "removed", map[dlq.State]int64{dlq.StateReplaying: 1}, 1, 0)
		},
	},
	{
		Name: "a claim of what expired gives back what it took",
		Rule: "released, or its lease run out, an item is as it was before Claim.Expired, and what it does not ask for it does not lease: others' leases, what was delivered, more than its limit",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			all := everywhere(t, s, time.Now().Add(-time.Minute))
			kept := add(t, s, expiring(item("mail", "kept"), time.Now().Add(-time.Hour)))
			settleOne(t, s, kept.ID, dlq.Settlement{Action: dlq.ActionKeep})
			held := add(t, s, expiring(item("mail", "leased"), time.Now().Add(-time.Hour)))
			if err := s.Release(t.Context(), []dlq.Lease{claimIDs(t, s, "mail", held.ID)[0].Lease}); err != nil {
				t.Fatal(err)
			}
			claimIDs(t, s, "mail", held.ID)
			before := map[string]dlq.Item{}
			for _, it := range all {
				before[it.ID] = get(t, s, it.ID)
			}
			if diff := cmp.Diff([]string{"parked", "scheduled"}, leasedDeliveries(claimAs(t, s, dlq.Claim{Sink: "mail", Expired: true, Limit: 2, Token: "two", TTL: time.Minute}))); diff != "" {
				t.Errorf("Claim of two (-want +got):\n%s", diff)
			}
			for _, l := range claimAs(t, s, dlq.Claim{Sink: "mail", Expired: true, Limit: 2, Token: "two", TTL: time.Minute}) {
				if err := s.Release(t.Context(), []dlq.Lease{l.Lease}); err != nil {
					t.Fatal(err)
				}
			}
			for _, end := range []string{"released", "ran out"} {
				leased := lease(t, b, s, dlq.Claim{Sink: "mail", Expired: true, Limit: 10})
				if diff := cmp.Diff([]string{"parked", "scheduled", "waiting", "moved", "due"}, leasedDeliveries(leased)); diff != "" {
					t.Fatalf("%s: Claim (-want +got):\n%s", end, diff)
				}
				if end == "released" {
					for _, l := range leased {
						if err := s.Release(t.Context(), []dlq.Lease{l.Lease}); err != nil {
							t.Fatal(err)
						}
					}
				} else {
					runOut(t, b, s, leased...)
				}
				due := claim(t, s, "mail", 10)
				if diff := cmp.Diff([]string{"due"}, leasedDeliveries(due)); diff != "" {
					t.Fatalf("%s: Claim of what is due (-want +got):\n%s", end, diff)
				}
				if err := s.Release(t.Context(), []dlq.Lease{due[0].Lease}); err != nil {
					t.Fatal(err)
				}
				for id, want := range before {
					got := get(t, s, id)
					got.LeasedUntil = want.LeasedUntil
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s: %s (-before +after):\n%s", end, want.DeliveryID, diff)
					}
				}
			}
			_, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", Expired: true, IDs: []string{all[0].ID}, TTL: time.Minute})
			wantCode(t, "ids and expired", err, fault.CodeInvalidArgument)
		},
	},
	{
		Name: "nothing is sent under a claim of what expired",
		Rule: "a process that dies with a lease of Claim.Expired or ClaimDelivery is not charged to the item, unless a replay began under it",
		Check: func(t *T, b Backend) {
			for name, c := range map[string]struct{ begin, delivery bool }{
				"expired": {}, "expired, begun": {begin: true}, "delivery": {delivery: true}, "delivery, begun": {begin: true, delivery: true},
			} {
				s := b.New(t.T)
				add(t, s, expiring(item("mail", "a"), time.Now().Add(-time.Minute)))
				want := 0
				if c.begin {
					want = 1
				}
				var l []dlq.Leased
				if !c.delivery {
					l = lease(t, b, s, dlq.Claim{Sink: "mail", Expired: true})
				} else {
					ttl := time.Hour
					if b.Expire == nil {
						ttl = 300 * time.Millisecond
					}
					l = claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "a", TTL: ttl})
				}
				if len(l) != 1 {
					t.Fatalf("%s: leased %d, want 1", name, len(l))
				}
				if c.begin {
					if ok, err := s.Begin(t.Context(), l[0].Lease); err != nil || !ok {
						t.Fatalf("%s: Begin = %t, %v", name, ok, err)
					}
				}
				runOut(t, b, s, l...)
				wantDeaths(t, s, dlq.Claim{Sink: "mail"}, name, want, want)
			}
		},
	},
	{
		Name: "what is due is claimed, over or not",
		Rule: "a claim of what is due leases items whose time is over as any others: whoever replays them settles them",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := add(t, s, expiring(item("mail", "a"), time.Now().Add(-time.Minute)))
			got := claim(t, s, "mail", 10)
			if len(got) != 1 || !got[0].Item.Expired(time.Now()) {
				t.Fatalf("Claim = %+v, want the one that is over", got)
			}
			settle(t, s, dlq.Settlement{Lease: got[0].Lease, Action: dlq.ActionExpire})
			if got := claim(t, s, "mail", 10); len(got) != 0 {
				t.Errorf("Claim = %v, want nothing once it is marked", leasedDeliveries(got))
			}
			if got := claimIDs(t, s, "mail", it.ID); len(got) != 1 {
				t.Errorf("claim by id = %v, want it", leasedDeliveries(got))
			}
		},
	},
	{
		Name: "what is marked stays marked",
		Rule: "whatever settles an item that was marked as expired leaves it so, but for its removal or delivery; Unpark does nothing to one whose time is over; a delivered one cannot expire",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := add(t, s, item("mail", "a"))
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionPark, Error: "no"})
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionExpire})
			at := get(t, s, it.ID).ExpiredAt
			await.Millisecond()
			for i, a := range []dlq.Action{dlq.ActionRetry, dlq.ActionPark, dlq.ActionHold, dlq.ActionExpire} {
				settleOne(t, s, it.ID, dlq.Settlement{Action: a, Error: "no", Charge: a != dlq.ActionExpire})
				got := get(t, s, it.ID)
				if got.State(time.Now()) != dlq.StateExpired || !got.ExpiredAt.Equal(at) || got.Parked || got.Held || !got.NextReplayAt.IsZero() || got.Replays != min(i+1, 3) {
					t.Errorf("after %s: %+v, want it expired since %s", a, got, at)
				}
				wantStates(t, s, "after "+string(a), map[dlq.State]int64{dlq.StateExpired: 1}, 0, 0)
			}
			over := add(t, s, expiring(withReason(item("mail", "b"), dlq.ReasonTerminal), time.Now().Add(-time.Minute)))
			for _, id := range []string{it.ID, over.ID} {
				if err := s.Unpark(t.Context(), id); err != nil {
					t.Errorf("Unpark(%s) = %v", id, err)
				}
			}
			wantStates(t, s, "after Unpark", map[dlq.State]int64{dlq.StateExpired: 1, dlq.StateWaiting: 1}, 0, 1)
			if got := claim(t, s, "mail", 10); len(got) != 0 {
				t.Errorf("Claim = %v, want nothing", leasedDeliveries(got))
			}
			claimIDs(t, s, "mail", it.ID)
			wantStates(t, s, "leased", map[dlq.State]int64{dlq.StateReplaying: 1, dlq.StateWaiting: 1}, 0, 1)
			settleOne(t, s, over.ID, dlq.Settlement{Action: dlq.ActionKeep})
			wantStates(t, s, "delivered all the same", map[dlq.State]int64{dlq.StateReplaying: 1, dlq.StateDelivered: 1}, 0, 0)
			l := claimAs(t, s, dlq.Claim{Sink: "mail", IDs: []string{over.ID}, Force: true, TTL: time.Minute})
			settle(t, s, dlq.Settlement{Lease: l[0].Lease, Action: dlq.ActionExpire})
			wantStates(t, s, "expired after its delivery", map[dlq.State]int64{dlq.StateReplaying: 1, dlq.StateDelivered: 1}, 0, 0)

			third := add(t, s, item("mail", "c"))
			settleOne(t, s, third.ID, dlq.Settlement{Action: dlq.ActionExpire})
			wantStates(t, s, "another", map[dlq.State]int64{dlq.StateReplaying: 1, dlq.StateDelivered: 1, dlq.StateExpired: 1}, 0, 0)
			settleOne(t, s, third.ID, dlq.Settlement{Action: dlq.ActionKeep})
			if got := get(t, s, third.ID); got.State(time.Now()) != dlq.StateDelivered || !got.ExpiredAt.IsZero() {
				t.Errorf("delivered after its expiry: %+v", got)
			}
			wantStates(t, s, "delivered after its expiry", map[dlq.State]int64{dlq.StateReplaying: 1, dlq.StateDelivered: 2}, 0, 0)
		},
	},
	{
		Name: "pushed as expired",
		Rule: "a dead letter with reason expired is marked at its push, and removed it counts no more",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := add(t, s, withReason(expiring(item("mail", "a"), time.Now().Add(-time.Minute)), dlq.ReasonExpired))
			bare := add(t, s, withReason(item("mail", "b"), dlq.ReasonExpired))
			wantStates(t, s, "pushed", map[dlq.State]int64{dlq.StateExpired: 2}, 0, 0)
			for _, id := range []string{it.ID, bare.ID} {
				if got := get(t, s, id); got.ExpiredAt.IsZero() || got.State(time.Now()) != dlq.StateExpired {
					t.Errorf("%+v, want it marked", got)
				}
			}
			if got := append(claimExpired(t, s, 10), claim(t, s, "mail", 10)...); len(got) != 0 {
				t.Errorf("claimed %v, want nothing", leasedDeliveries(got))
			}
			discard(t, s, it.ID)
			settleOne(t, s, bare.ID, dlq.Settlement{Action: dlq.ActionDrop})
			wantStates(t, s, "removed", map[dlq.State]int64{}, 0, 0)
		},
	},
	{
		Name: "an expired letter is no reason not to store another",
		Rule: "a repeated push of what is over, or marked, is the same letter only with the same ExpiresAt; before, whatever it says; Find tells of expired ones too, the newest first",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			now := time.Now().Truncate(time.Millisecond)
			past, future := now.Add(-time.Minute), now.Add(time.Hour)
			push := func(what, delivery string, at time.Time) string {
				t.Helper()
				return add(t, s, expiring(item("mail", delivery), at)).ID
			}
			first := push("first", "a", past)
			wantFound(t, s, "over", "mail", "a", fingerprint(item("mail", "a")), first)
			if again := push("repeated", "a", past.Add(300*time.Microsecond).Add(-300*time.Microsecond)); again != first {
				t.Errorf("pushed again with its own expiry: %s, want %s", again, first)
			}
			second := push("later", "a", future)
			if second == first {
				t.Errorf("pushed again with another expiry: the one that is over, want another")
			}
			for what, at := range map[string]time.Time{"its own": future, "another": future.Add(time.Hour), "none": {}} {
				if again := push(what, "a", at); again != second {
					t.Errorf("pushed again with %s expiry: %s, want the one that is in time, %s", what, again, second)
				}
			}
			if again := push("first", "a", past); again != first {
				t.Errorf("the first pushed again: %s, want %s", again, first)
			}
			wantFound(t, s, "both", "mail", "a", "", second)
			discard(t, s, second)
			wantFound(t, s, "the first is left", "mail", "a", "", first)

			marked := push("marked", "b", time.Time{})
			settleOne(t, s, marked, dlq.Settlement{Action: dlq.ActionExpire})
			wantFound(t, s, "marked", "mail", "b", "", marked)
			if again := push("repeated", "b", time.Time{}); again != marked {
				t.Errorf("marked, pushed again as it was: %s, want %s", again, marked)
			}
			if again := push("later", "b", future); again == marked {
				t.Error("marked, pushed again with another expiry: the same letter, want another")
			}
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 2})
		},
	},
	{
		Name: "attempts without an answer are counted",
		Rule: "Unanswered is what the push said, what settlements add, and one for every death of a replayer; a copy of the item keeps it",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := item("mail", "a")
			it.Unanswered = 2
			it = add(t, s, it)
			want := func(what, id string, n int) {
				t.Helper()
				if got := get(t, s, id).Unanswered; got != n {
					t.Errorf("%s: %d, want %d", what, got, n)
				}
			}
			want("pushed", it.ID, 2)
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionRetry, Unanswered: 1})
			want("a replay without an answer", it.ID, 3)
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionRetry, Unanswered: -5})
			want("a negative number", it.ID, 3)
			expired(t, b, s, dlq.Claim{Sink: "mail", IDs: []string{it.ID}}, true)
			claimIDs(t, s, "mail", it.ID)
			want("a death", it.ID, 4)
			copied := get(t, s, it.ID)
			copied.Sink = "chat"
			want("a copy", add(t, s, copied).ID, 4)
			kept := add(t, s, item("mail", "b"))
			settleOne(t, s, kept.ID, dlq.Settlement{Action: dlq.ActionKeep, Unanswered: 1})
			want("delivered at last", kept.ID, 1)
			if it := get(t, s, add(t, s, item("mail", "c")).ID); it.Unanswered != 0 {
				t.Errorf("a fresh one: %d, want 0", it.Unanswered)
			}
		},
	},
	{
		Name: "no replay of what is over",
		Rule: "Replay refuses an item whose time is over, says when that was, and leaves it as it was; an item of a canceled delivery too",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			s.SetRegistryLookup(lookup(sender{"mail", func(_ context.Context, _ sinks.Recipient, m sinks.Message) error {
				t.Errorf("sent %s", m.ID)
				return nil
			}}))
			at := time.Now().Add(-time.Minute).UTC()
			over := add(t, s, expiring(item("mail", "over"), at))
			marked := add(t, s, item("mail", "marked"))
			settleOne(t, s, marked.ID, dlq.Settlement{Action: dlq.ActionExpire})
			canceled := add(t, s, item("mail", "canceled"))
			for _, l := range claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "canceled", Note: time.Hour}) {
				if err := s.Release(t.Context(), []dlq.Lease{l.Lease}); err != nil {
					t.Fatal(err)
				}
			}
			for id, says := range map[string]string{
				over.ID: at.Format(time.RFC3339), marked.ID: get(t, s, marked.ID).ExpiredAt.Format(time.RFC3339), canceled.ID: "canceled",
			} {
				before := get(t, s, id)
				err := s.Replay(t.Context(), id)
				wantCode(t, "Replay", err, fault.CodeInvalidArgument)
				if err != nil && !strings.Contains(err.Error(), says) {
					t.Errorf("Replay = %v, want it to say %q", err, says)
				}
				if diff := cmp.Diff(before, get(t, s, id)); diff != "" {
					t.Errorf("%s changed (-before +after):\n%s", before.DeliveryID, diff)
				}
			}
		},
	},
	{
		Name: "many leases do not hide what expired",
		Rule: "Claim.Expired finds what is over behind any hundreds that others lease",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			batch := make([]dlq.Item, 250)
			for i := range batch {
				batch[i] = expiring(item("mail", strings.Repeat("x", i+1)), time.Now().Add(-time.Hour))
			}
			_, errs := s.AddBatch(t.Context(), batch)
			if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
				t.Fatal(errs[i])
			}
			for n := 0; n < len(batch); {
				got := len(claim(t, s, "mail", 50))
				if got == 0 {
					t.Fatalf("leased %d of %d", n, len(batch))
				}
				n += got
			}
			add(t, s, expiring(item("mail", "last"), time.Now().Add(-time.Minute)))
			if diff := cmp.Diff([]string{"last"}, leasedDeliveries(claimExpired(t, s, 10))); diff != "" {
				t.Errorf("Claim of what expired (-want +got):\n%s", diff)
			}
		},
	},
	{
		Name:    "expired, as others wrote it",
		Rule:    "an entry that others wrote with reason expired is marked when a claim meets it; with a time that is over it is leased, and settled, as any other",
		Foreign: true,
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithSinks(func() []string { return []string{"mail"} }))
			b.Append(t.T, s, "mail", "item", `{"sink":"mail","at":"2025-03-04T05:06:07Z","message":{"id":"a"},"last_error":"x","reason":"expired"}`)
			b.Append(t.T, s, "mail", "item", `{"sink":"mail","at":"2025-03-04T05:06:07Z","message":{"id":"b"},"last_error":"x","expires_at":"2025-03-04T06:00:00Z"}`)
			got := claim(t, s, "mail", 10)
			if diff := cmp.Diff([]string{"b"}, leasedDeliveries(got)); diff != "" {
				t.Fatalf("Claim (-want +got):\n%s", diff)
			}
			settle(t, s, dlq.Settlement{Lease: got[0].Lease, Action: dlq.ActionExpire})
			wantStates(t, s, "met", map[dlq.State]int64{dlq.StateExpired: 2}, 0, 0)
		},
	},
}
