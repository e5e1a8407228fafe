package dlqtest

import (
	"slices"
	"time"

	"backstop/internal/await"
	"backstop/lib/dlq"
	"backstop/lib/fault"

	"github.com/google/go-cmp/cmp"
)

var operatorCases = []Case{
	{
		Name: "several queues at once",
		Rule: "StatsOf returns what Stats does of each sink, in their order",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 3)
			fill(t, s, "chat", 1)
			names := []string{"chat", "nobody", "mail", "chat"}
			all, err := s.StatsOf(t.Context(), names)
			if err != nil || len(all) != len(names) {
				t.Fatalf("StatsOf = %d, %v", len(all), err)
			}
			for i, name := range names {
				if diff := cmp.Diff(stats(t, s, name), all[i]); diff != "" {
					t.Errorf("%s (-Stats +StatsOf):\n%s", name, diff)
				}
			}
			_, err = s.StatsOf(t.Context(), []string{"mail", "No/Name"})
			wantCode(t, "StatsOf a bad name", err, fault.CodeInvalidArgument)
		},
	},
	{
		Name: "the schedule's heartbeat",
		Rule: "LastBeat is when Beat was called last, zero before",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			if at, err := s.LastBeat(t.Context()); err != nil || !at.IsZero() {
				t.Errorf("LastBeat of a new store = %s, %v; want zero", at, err)
			}
			for range 2 {
				before := time.Now().Truncate(time.Millisecond)
				if err := s.Beat(t.Context()); err != nil {
					t.Fatal(err)
				}
				if at, err := s.LastBeat(t.Context()); err != nil || at.Before(before) || at.After(time.Now()) {
					t.Errorf("LastBeat = %s, %v; want now", at, err)
				}
			}
		},
	},
	{
		Name: "discard removes for good",
		Rule: "a discarded item is gone, whatever its state; a missing one is no error; a leased one is ITEM_LEASED",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			all := fill(t, s, "mail", 6)
			never := add(t, s, withReason(item("mail", "never"), dlq.ReasonTerminal))
			for i, a := range []dlq.Action{dlq.ActionKeep, dlq.ActionRetry, dlq.ActionPark, dlq.ActionHold} {
				settleOne(t, s, all[i].ID, dlq.Settlement{Action: a, Error: "x", Delay: time.Hour})
			}
			wantStats(t, s, "mail", counts{Depth: 7, Remaining: 3, Kept: 1, Parked: 1})
			l := claimIDs(t, s, "mail", all[4].ID)
			wantCode(t, "Discard of a leased item", s.Discard(t.Context(), all[4].ID), fault.CodeItemLeased)
			if err := s.Release(t.Context(), []dlq.Lease{l[0].Lease}); err != nil {
				t.Fatal(err)
			}
			for _, it := range slices.Concat(all, []dlq.Item{never}) {
				for range 2 {
					if err := s.Discard(t.Context(), it.ID); err != nil {
						t.Errorf("Discard: %v", err)
					}
				}
				_, err := s.Get(t.Context(), it.ID)
				wantCode(t, "Get", err, fault.CodeDLQNotFound)
			}
			wantStats(t, s, "mail", counts{})
			if err := s.Discard(t.Context(), "1-1"); err != nil {
				t.Errorf("Discard of a missing bare id: %v", err)
			}
			wantCode(t, "Discard of nonsense", s.Discard(t.Context(), "x"), fault.CodeInvalidArgument)
		},
	},
	{
		Name: "discard after a lease ran out",
		Rule: "an expired lease protects nothing; its holder is fenced",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 1)
			l := claimAs(t, s, dlq.Claim{Sink: "mail", TTL: 10 * time.Millisecond})[0]
			await.True(t, "the lease ran out", func() bool { return s.Discard(t.Context(), l.ID) == nil })
			if got := settle(t, s, dlq.Settlement{Lease: l.Lease, Action: dlq.ActionRetry}); got[0] != dlq.SettleFenced {
				t.Errorf("Settle = %s, want fenced", got[0])
			}
			wantStats(t, s, "mail", counts{})
		},
	},
	{
		Name: "unpark makes due now",
		Rule: "parked, held, never-due and postponed items are due after Unpark; fresh and delivered ones stay as they are",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fresh := add(t, s, item("mail", "fresh"))
			parked := add(t, s, item("mail", "parked"))
			held := add(t, s, item("mail", "held"))
			moved := add(t, s, item("mail", "moved"))
			kept := add(t, s, item("mail", "kept"))
			never := add(t, s, withReason(item("mail", "never"), dlq.ReasonAmbiguous))
			settleOne(t, s, parked.ID, dlq.Settlement{Action: dlq.ActionPark, Error: "x", Charge: true})
			settleOne(t, s, held.ID, dlq.Settlement{Action: dlq.ActionHold})
			settleOne(t, s, moved.ID, dlq.Settlement{Action: dlq.ActionRetry, Delay: time.Hour})
			settleOne(t, s, kept.ID, dlq.Settlement{Action: dlq.ActionKeep})
			wantStats(t, s, "mail", counts{Depth: 6, Remaining: 2, Kept: 1, Parked: 1})
			for _, it := range []dlq.Item{fresh, parked, held, moved, kept, never} {
				if err := s.Unpark(t.Context(), it.ID); err != nil {
					t.Errorf("Unpark(%s): %v", it.DeliveryID, err)
				}
				if got := get(t, s, it.ID); got.Parked || got.Held || got.State(time.Now()).Scheduled() != (it.ID != kept.ID) {
					t.Errorf("after Unpark: %+v", got)
				}
			}
			wantStats(t, s, "mail", counts{Depth: 6, Remaining: 5, Kept: 1})
			if got := get(t, s, parked.ID); got.Replays != 1 || len(got.History) != 1 {
				t.Errorf("Unpark forgot the replays: %+v", got)
			}
			await.Millisecond()
			got := leasedDeliveries(claim(t, s, "mail", 10))
			slices.Sort(got)
			if !slices.Equal(got, []string{"fresh", "held", "moved", "never", "parked"}) {
				t.Errorf("Claim = %v", got)
			}
			wantCode(t, "Unpark of a leased item", s.Unpark(t.Context(), never.ID), fault.CodeItemLeased)
			wantCode(t, "Unpark of nothing", s.Unpark(t.Context(), "mail~1-1"), fault.CodeDLQNotFound)
			wantCode(t, "Unpark of nonsense", s.Unpark(t.Context(), "x"), fault.CodeInvalidArgument)
		},
	},
	{
		Name: "unpark after a lease ran out",
		Rule: "a lease that ran out does not undo an Unpark",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			never := add(t, s, withReason(item("mail", "never"), dlq.ReasonTerminal))
			claimAs(t, s, dlq.Claim{Sink: "mail", IDs: []string{never.ID}, TTL: 10 * time.Millisecond})
			await.True(t, "the lease ran out", func() bool { return s.Unpark(t.Context(), never.ID) == nil })
			await.Millisecond()
			if got := claim(t, s, "mail", 1); len(got) != 1 {
				t.Error("not due after the Unpark")
			}
		},
	},
	{
		Name: "an unparked item that is released stays due",
		Rule: "Unpark lasts until the item is settled",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			never := add(t, s, withReason(item("mail", "never"), dlq.ReasonTerminal))
			if err := s.Unpark(t.Context(), never.ID); err != nil {
				t.Fatal(err)
			}
			await.Millisecond()
			l := claim(t, s, "mail", 1)
			if len(l) != 1 {
				t.Fatal("not due")
			}
			if err := s.Release(t.Context(), []dlq.Lease{l[0].Lease}); err != nil {
				t.Fatal(err)
			}
			if got := claim(t, s, "mail", 1); len(got) != 1 {
				t.Error("not due after the release")
			}
		},
	},
	{
		Name: "one holder of the gate",
		Rule: "Gate is held by one token until it is given back or runs out; the holder may renew; sinks have a gate each",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			gate := func(sink, token string, ttl time.Duration, want bool) {
				t.Helper()
				if got, err := s.Gate(t.Context(), sink, token, ttl); err != nil || got != want {
					t.Errorf("Gate(%s, %s) = %v, %v; want %v", sink, token, got, err, want)
				}
			}
			gate("mail", "a", time.Minute, true)
			gate("mail", "b", time.Minute, false)
			gate("mail", "a", time.Minute, true)
			gate("chat", "b", time.Minute, true)
			if err := s.Ungate(t.Context(), "mail", "b"); err != nil {
				t.Error(err)
			}
			gate("mail", "b", time.Minute, false)
			if err := s.Ungate(t.Context(), "mail", "a"); err != nil {
				t.Error(err)
			}
			gate("mail", "b", 10*time.Millisecond, true)
			await.True(t, "the gate runs out", func() bool {
				ok, err := s.Gate(t.Context(), "mail", "c", time.Minute)
				return ok && err == nil
			})
			_, err := s.Gate(t.Context(), "mail", "c", 0)
			wantCode(t, "Gate without a time", err, fault.CodeInvalidArgument)
			_, err = s.Gate(t.Context(), "mail", "", time.Minute)
			wantCode(t, "Gate without a token", err, fault.CodeInvalidArgument)
		},
	},
	{
		Name: "progress of an operation that nobody knows",
		Rule: "Progress is zero where nothing was settled; bad names are refused",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			if got, err := s.Progress(t.Context(), "op", "mail"); err != nil || got != (dlq.OperationCounts{}) {
				t.Errorf("Progress = %+v, %v", got, err)
			}
			if err := s.EndOperation(t.Context(), "op", "mail"); err != nil {
				t.Errorf("EndOperation of what nobody counted: %v", err)
			}
			wantCode(t, "EndOperation of a bad operation", s.EndOperation(t.Context(), "a b", "mail"), fault.CodeInvalidArgument)
			_, err := s.Progress(t.Context(), "a b", "mail")
			wantCode(t, "bad operation", err, fault.CodeInvalidArgument)
			_, err = s.Progress(t.Context(), "op", "{mail}")
			wantCode(t, "bad sink", err, fault.CodeInvalidArgument)
		},
	},
}
