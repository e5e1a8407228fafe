package dlqtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/internal/await"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// claimDelivery leases what is left of a delivery, in sink mail and for a minute unless c says so.
func claimDelivery(t *T, s dlq.Store, c dlq.DeliveryClaim) []dlq.Leased {
	t.Helper()
	c.Sink = "mail"
	if c.TTL == 0 {
		c.TTL = time.Minute
	}
	leased, err := s.ClaimDelivery(t.Context(), c)
	if err != nil {
		t.Fatalf("ClaimDelivery(%s): %v", c.DeliveryID, err)
	}
	return leased
}

func wantCanceled(t *T, s dlq.Store, what, delivery string, want bool) {
	t.Helper()
	if got, err := s.Canceled(t.Context(), "mail", delivery); err != nil || got != want {
		t.Errorf("%s: Canceled(%s) = %t, %v; want %t", what, delivery, got, err, want)
	}
}

// family adds dead letters of one delivery, of several contents and generations and in every
// state but delivered, and returns their ids.
func family(t *T, s dlq.Store, delivery string) (all []string) {
	t.Helper()
	one := func(body string, change func(*dlq.Item)) string {
		it := item("mail", delivery)
		it.Message.Body = body
		change(&it)
		all = append(all, add(t, s, it).ID)
		return all[len(all)-1]
	}
	one("due", func(*dlq.Item) {})
	one("waiting", func(it *dlq.Item) { it.Reason = dlq.ReasonAmbiguous })
	one("scheduled", func(it *dlq.Item) { it.NotBefore = time.Now().Add(time.Hour) })
	settleOne(t, s, one("parked", func(*dlq.Item) {}), dlq.Settlement{Action: dlq.ActionPark, Error: "no"})
	settleOne(t, s, one("expired", func(*dlq.Item) {}), dlq.Settlement{Action: dlq.ActionExpire})
	one("over", func(it *dlq.Item) { it.ExpiresAt = time.Now().Add(-time.Hour) })
	one("replayed", func(it *dlq.Item) { it.Replays = 1 })
	one("replayed", func(it *dlq.Item) { it.Replays, it.Origin = 1, all[0] })
	return all
}

func ids(leased []dlq.Leased) []string {
	out := []string{}
	for _, l := range leased {
		out = append(out, l.ID)
	}
	slices.SortFunc(out, func(a, b string) int { return dlq.CompareNative(a[len("mail~"):], b[len("mail~"):]) })
	return out
}

var cancelCases = []Case{
	{
		Name: "a delivery is claimed with all that is left of it",
		Rule: "ClaimDelivery leases every dead letter of a delivery in a sink, of every content and generation, whatever its state, but for what was delivered; released they are as they were",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			want := family(t, s, "a")
			kept := item("mail", "a")
			kept.Message.Body = "kept"
			settleOne(t, s, add(t, s, kept).ID, dlq.Settlement{Action: dlq.ActionKeep})
			replayed := kept
			replayed.Replays = 2
			settleOne(t, s, add(t, s, replayed).ID, dlq.Settlement{Action: dlq.ActionKeep})
			gone := kept
			gone.Replays = 3
			discard(t, s, add(t, s, gone).ID)
			add(t, s, item("mail", "b"))
			add(t, s, item("chat", "a"))
			before := map[string]dlq.Item{}
			for _, id := range want {
				before[id] = get(t, s, id)
			}
			leased := claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "a"})
			if diff := cmp.Diff(want, ids(leased)); diff != "" {
				t.Fatalf("ClaimDelivery (-want +got):\n%s", diff)
			}
			var leases []dlq.Lease
			for _, l := range leased {
				leases = append(leases, l.Lease)
				if diff := cmp.Diff(before[l.ID], l.Item); diff != "" || l.Canceled {
					t.Errorf("%s, canceled %t (-stored +leased):\n%s", l.Item.Message.Body, l.Canceled, diff)
				}
			}
			if diff := cmp.Diff([]string{"b"}, leasedDeliveries(claim(t, s, "mail", 10))); diff != "" {
				t.Errorf("Claim of what is due (-want +got):\n%s", diff)
			}
			if err := s.Release(t.Context(), leases); err != nil {
				t.Fatal(err)
			}
			for id, it := range before {
				if diff := cmp.Diff(it, get(t, s, id)); diff != "" {
					t.Errorf("released (-before +after):\n%s", diff)
				}
			}
			wantCanceled(t, s, "without a note", "a", false)
			for _, l := range claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "a"}) {
				settle(t, s, dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDrop})
			}
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 1, Kept: 2})
			if got := claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "a"}); len(got) != 0 {
				t.Errorf("ClaimDelivery = %v, want nothing left", ids(got))
			}
		},
	},
	{
		Name: "a delivery is claimed whole or not at all",
		Rule: "while another holds one of its dead letters, ClaimDelivery answers ITEM_LEASED, leases none and notes nothing; a lease that ran out is taken over, and its holder's death counted",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			all := family(t, s, "a")
			for _, id := range []string{all[0], all[3], all[len(all)-1]} {
				l := lease(t, b, s, dlq.Claim{Sink: "mail", IDs: []string{id}})
				_, err := s.ClaimDelivery(t.Context(), dlq.DeliveryClaim{Sink: "mail", DeliveryID: "a", Token: "t", TTL: time.Minute, Note: time.Hour})
				wantCode(t, "ClaimDelivery", err, fault.CodeItemLeased)
				wantCanceled(t, s, "refused", "a", false)
				for _, other := range all {
					if it := get(t, s, other); other != id && it.State(time.Now()) == dlq.StateReplaying {
						t.Errorf("%s is leased, though %s was", it.Message.Body, id)
					}
				}
				runOut(t, b, s, l...)
				leased := claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "a"})
				if diff := cmp.Diff(all, ids(leased)); diff != "" {
					t.Fatalf("ClaimDelivery (-want +got):\n%s", diff)
				}
				for _, l := range leased {
					if l.ID == id && (l.Item.Deaths != 1 || l.Item.Unanswered != 1) {
						t.Errorf("%s: %d deaths, %d without an answer; want one", l.Item.Message.Body, l.Item.Deaths, l.Item.Unanswered)
					}
					if err := s.Release(t.Context(), []dlq.Lease{l.Lease}); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
	},
	{
		Name: "a claim of a delivery can be repeated",
		Rule: "the same token gets the same answer, less what was settled or released since",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			all := family(t, s, "a")
			c := dlq.DeliveryClaim{DeliveryID: "a", Token: "t", Note: time.Hour}
			first := claimDelivery(t, s, c)
			late := item("mail", "a")
			late.Message.Body = "pushed meanwhile"
			add(t, s, late)
			if diff := cmp.Diff(all, ids(claimDelivery(t, s, c))); diff != "" {
				t.Errorf("repeated (-want +got):\n%s", diff)
			}
			for i, l := range first {
				if l.ID == all[0] {
					settle(t, s, dlq.Settlement{Lease: first[i].Lease, Action: dlq.ActionDrop})
				}
			}
			if diff := cmp.Diff(all[1:], ids(claimDelivery(t, s, c))); diff != "" {
				t.Errorf("after one was settled (-want +got):\n%s", diff)
			}
			if got := claim(t, s, "mail", 10); len(got) != 1 || got[0].Item.Message.Body != "pushed meanwhile" || !got[0].Canceled {
				t.Errorf("Claim = %+v, want what was pushed meanwhile, as canceled", got)
			}
		},
	},
	{
		Name: "more contents than a push key tells",
		Rule: "ClaimDelivery finds those that a repeated push knows no more; of more than 1,000 dead letters it leases none",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			const contents = 110
			batch := make([]dlq.Item, contents)
			for i := range batch {
				batch[i] = item("mail", "a")
				batch[i].Message.Body = fmt.Sprint(i)
			}
			push := func(batch []dlq.Item) (all []string) {
				t.Helper()
				stored, errs := s.AddBatch(t.Context(), batch)
				for i, err := range errs {
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, stored[i].ID)
				}
				return all
			}
			want := push(batch)
			leases := func(want []string) {
				t.Helper()
				leased := claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "a"})
				if diff := cmp.Diff(want, ids(leased)); diff != "" {
					t.Errorf("ClaimDelivery leases %d (-want +got):\n%s", len(leased), diff)
				}
				all := make([]dlq.Lease, len(leased))
				for i, l := range leased {
					all[i] = l.Lease
				}
				if err := s.Release(t.Context(), all); err != nil {
					t.Fatal(err)
				}
			}
			leases(want)
			for _, id := range want[:2] { // the push key leads to neither
				discard(t, s, id)
			}
			leases(want[2:])
			later := make([]dlq.Item, 1001-contents+2)
			for i := range later {
				later[i] = item("mail", "a")
				later[i].Replays = i + 1
			}
			push(later)
			_, err := s.ClaimDelivery(t.Context(), dlq.DeliveryClaim{Sink: "mail", DeliveryID: "a", TTL: time.Minute, Note: time.Hour})
			if code := fault.CodeOf(err); code != fault.CodeInvalidArgument {
				t.Errorf("ClaimDelivery of 1,001 = %v, want it refused", err)
			}
			wantCanceled(t, s, "refused", "a", false)
		},
	},
	{
		Name: "what is canceled says so",
		Rule: "a note holds for its delivery in its sink, with or without dead letters, and also for what is pushed later; every claim says which items it concerns; Uncancel takes it back",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			gone := add(t, s, item("mail", "a"))
			if got := claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "nothing of it", Note: time.Hour}); len(got) != 0 {
				t.Errorf("ClaimDelivery = %v, want nothing", ids(got))
			}
			for _, l := range claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "a", Note: time.Hour}) {
				if !l.Canceled {
					t.Error("what was just canceled does not say so")
				}
				settle(t, s, dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDrop})
			}
			for _, id := range []string{"nothing of it", "a"} {
				wantCanceled(t, s, "noted", id, true)
			}
			wantCanceled(t, s, "another", "b", false)
			if other, err := s.Canceled(t.Context(), "chat", "a"); err != nil || other {
				t.Errorf("in another sink: Canceled = %t, %v", other, err)
			}
			// A process that was frozen pushes what it could not send, into the empty queue.
			it := expiring(item("mail", "a"), time.Now().Add(-time.Minute))
			again := add(t, s, it)
			it.Replays = 3
			later := add(t, s, it)
			b1 := add(t, s, expiring(item("mail", "b"), time.Now().Add(-time.Minute)))
			if again.ID == gone.ID {
				t.Fatal("the removed one is there still")
			}
			want := map[string]bool{again.ID: true, later.ID: true, b1.ID: false}
			for name, c := range map[string]dlq.Claim{
				"due": {Limit: 10}, "expired": {Limit: 10, Expired: true}, "by id": {IDs: []string{again.ID, later.ID, b1.ID}},
			} {
				c.Sink, c.TTL, c.Token = "mail", time.Minute, name[:2]
				for _, how := range []string{"", ", repeated"} {
					got := map[string]bool{}
					for _, l := range claimAs(t, s, c) {
						got[l.ID] = l.Canceled
					}
					if diff := cmp.Diff(want, got); diff != "" {
						t.Errorf("%s%s (-want +got):\n%s", name, how, diff)
					}
				}
				for _, l := range claimAs(t, s, c) {
					if err := s.Release(t.Context(), []dlq.Lease{l.Lease}); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "a"}); len(got) != 2 || !got[0].Canceled || !got[1].Canceled {
				t.Errorf("ClaimDelivery = %+v, want both, canceled", got)
			}
			if st := stats(t, s, "mail"); st.Canceled != 2 {
				t.Errorf("Stats.Canceled = %d, want 2", st.Canceled)
			}
			for range 2 {
				if err := s.Uncancel(t.Context(), "mail", "a"); err != nil {
					t.Fatal(err)
				}
			}
			wantCanceled(t, s, "taken back", "a", false)
			wantCanceled(t, s, "the other", "nothing of it", true)
		},
	},
	{
		Name: "notes end",
		Rule: "a note holds for as long as it was asked for, the longest of several; PruneCanceled removes those that are over, and no others",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for id, all := range map[string][]time.Duration{
				"short": {time.Nanosecond}, "long": {time.Hour}, "shortened": {time.Hour, time.Millisecond}, "prolonged": {time.Millisecond, time.Hour},
			} {
				for _, note := range all {
					claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: id, Note: note})
				}
			}
			await.True(t, "the short note is over", func() bool {
				held, err := s.Canceled(t.Context(), "mail", "short")
				return err == nil && !held
			})
			add(t, s, item("mail", "short"))
			if got := claim(t, s, "mail", 10); len(got) != 1 || got[0].Canceled {
				t.Errorf("Claim = %+v, want one that is not canceled any more", got)
			}
			if st := stats(t, s, "mail"); st.Canceled != 4 {
				t.Errorf("before: Stats.Canceled = %d, want 4", st.Canceled)
			}
			for _, want := range []int64{1, 0} {
				if n, err := s.PruneCanceled(t.Context(), "mail"); err != nil || n != want {
					t.Errorf("PruneCanceled = %d, %v; want %d", n, err, want)
				}
			}
			for _, id := range []string{"long", "shortened", "prolonged"} {
				wantCanceled(t, s, "pruned", id, true)
			}
			if st := stats(t, s, "mail"); st.Canceled != 3 {
				t.Errorf("Stats.Canceled = %d, want 3", st.Canceled)
			}
		},
	},
	{
		Name: "what names no delivery is refused",
		Rule: "a bad sink, no delivery id, a bad token and a lease without length are INVALID_ARGUMENT",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for name, c := range map[string]dlq.DeliveryClaim{
				"sink": {Sink: "{x}", DeliveryID: "a", TTL: time.Minute}, "no id": {Sink: "mail", TTL: time.Minute},
				"token": {Sink: "mail", DeliveryID: "a", Token: "a b", TTL: time.Minute}, "length": {Sink: "mail", DeliveryID: "a"},
			} {
				_, err := s.ClaimDelivery(t.Context(), c)
				wantCode(t, name, err, fault.CodeInvalidArgument)
			}
			for _, bad := range [][2]string{{"{x}", "a"}, {"mail", ""}} {
				_, err := s.Canceled(t.Context(), bad[0], bad[1])
				wantCode(t, "Canceled", err, fault.CodeInvalidArgument)
				wantCode(t, "Uncancel", s.Uncancel(t.Context(), bad[0], bad[1]), fault.CodeInvalidArgument)
			}
			_, err := s.PruneCanceled(t.Context(), "{x}")
			wantCode(t, "PruneCanceled", err, fault.CodeInvalidArgument)
		},
	},
	{
		Name:    "canceled, as others wrote it",
		Rule:    "entries without a push key are not leased with their delivery, but whoever claims one is told that it is canceled",
		Foreign: true,
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithSinks(func() []string { return []string{"mail"} }))
			for _, id := range []string{"a", "b"} {
				b.Append(t.T, s, "mail", "item", fmt.Sprintf(`{"sink":"mail","at":"2025-03-04T05:06:07Z","message":{"id":%q},"last_error":"x"}`, id))
			}
			if got := claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "a", Note: time.Hour}); len(got) != 0 {
				t.Errorf("ClaimDelivery = %v, want nothing", ids(got))
			}
			got := map[string]bool{}
			for _, l := range claim(t, s, "mail", 10) {
				got[l.Item.DeliveryID] = l.Canceled
			}
			if diff := cmp.Diff(map[string]bool{"a": true, "b": false}, got); diff != "" {
				t.Errorf("Claim (-want +got):\n%s", diff)
			}
		},
	},
}
