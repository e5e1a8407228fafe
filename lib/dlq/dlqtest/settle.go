package dlqtest

import (
	"fmt"
	"strings"
	"time"

	"backstop/internal/await"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

var settleCases = []Case{
	{
		Name: "each action has its effect",
		Rule: "discard and drop remove; keep marks delivered; retry makes due again; park and hold put aside",
		Check: func(t *T, b Backend) {
			for _, c := range []struct {
				st    dlq.Settlement
				check func(it dlq.Item) bool
				want  counts
				due   int // items claimed afterwards
			}{
				{dlq.Settlement{Action: dlq.ActionDiscard}, nil, counts{}, 0},
				{dlq.Settlement{Action: dlq.ActionDrop}, nil, counts{}, 0},
				{
					dlq.Settlement{Action: dlq.ActionKeep, Charge: true},
					func(it dlq.Item) bool {
						return !it.DeliveredAt.IsZero() && !it.State(time.Now()).Scheduled() && it.Replays == 1 && len(it.History) == 1 && it.History[0].Error == ""
					},
					counts{Depth: 1, Kept: 1},
					0,
				},
				{
					dlq.Settlement{Action: dlq.ActionRetry, Error: "no", Charge: true},
					func(it dlq.Item) bool {
						return it.State(time.Now()).Scheduled() && it.Replays == 1 && it.History[0].Error == "no" && !it.NextReplayAt.After(time.Now().Add(time.Minute))
					},
					counts{Depth: 1, Remaining: 1},
					1,
				},
				{
					dlq.Settlement{Action: dlq.ActionRetry, Error: "not its fault", Delay: time.Hour},
					func(it dlq.Item) bool {
						return it.State(time.Now()).Scheduled() && it.Replays == 0 && len(it.History) == 1 && it.NextReplayAt.After(time.Now().Add(50*time.Minute))
					},
					counts{Depth: 1, Remaining: 1},
					0,
				},
				{
					dlq.Settlement{Action: dlq.ActionRetry, Delay: -time.Hour},
					func(it dlq.Item) bool { return it.State(time.Now()).Scheduled() && len(it.History) == 0 },
					counts{Depth: 1, Remaining: 1},
					1,
				},
				{
					dlq.Settlement{Action: dlq.ActionPark, Error: "no", Charge: true},
					func(it dlq.Item) bool {
						return it.Parked && !it.Held && !it.State(time.Now()).Scheduled() && it.NextReplayAt.IsZero()
					},
					counts{Depth: 1, Parked: 1},
					0,
				},
				{
					dlq.Settlement{Action: dlq.ActionHold, Error: "no", Charge: true},
					func(it dlq.Item) bool {
						return it.Held && !it.Parked && !it.State(time.Now()).Scheduled() && it.NextReplayAt.IsZero()
					},
					counts{Depth: 1},
					0,
				},
			} {
				s := b.New(t.T)
				it := add(t, s, item("mail", "a"))
				settleOne(t, s, it.ID, c.st)
				got, err := s.Get(t.Context(), it.ID)
				if c.check == nil {
					wantCode(t, "Get after "+string(c.st.Action), err, fault.CodeDLQNotFound)
				} else if err != nil || !c.check(got) {
					t.Errorf("after %+v: %+v, %v", c.st, got, err)
				}
				wantStats(t, s, "mail", c.want)
				await.Millisecond()
				if due := claim(t, s, "mail", 10); len(due) != c.due {
					t.Errorf("after %+v: %d items due, want %d", c.st, len(due), c.due)
				}
			}
		},
	},
	{
		Name: "a settlement can be repeated",
		Rule: "the same settlement again answers applied, also when others settled meanwhile, and changes nothing twice",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fill(t, s, "mail", 3)
			l := claim(t, s, "mail", 3)
			all := []dlq.Settlement{
				{Lease: l[0].Lease, Action: dlq.ActionDiscard, Operation: "op"},
				{Lease: l[1].Lease, Action: dlq.ActionRetry, Error: "no", Charge: true, Delay: time.Hour, Operation: "op"},
				{Lease: l[2].Lease, Action: dlq.ActionPark, Error: "no", Charge: true, Operation: "op"},
			}
			for range 3 {
				for i, got := range settle(t, s, all...) {
					if got != dlq.SettleApplied {
						t.Errorf("settlement %d = %s, want applied", i, got)
					}
				}
			}
			if it := get(t, s, l[1].ID); it.Replays != 1 || len(it.History) != 1 {
				t.Errorf("replays %d, history %v; want one", it.Replays, it.History)
			}
			wantStats(t, s, "mail", counts{Depth: 2, Remaining: 1, Parked: 1})
			p, err := s.Progress(t.Context(), "op", "mail")
			if want := (dlq.OperationCounts{Settled: 3, Delivered: 1, Failed: 2}); err != nil || p != want {
				t.Errorf("Progress = %+v, %v; want %+v", p, err, want)
			}
			// Another holder's settlement of the same item does not fence the first one's repetition.
			settleOne(t, s, l[2].ID, dlq.Settlement{Action: dlq.ActionRetry, Delay: time.Hour})
			if got := settle(t, s, all[2]); got[0] != dlq.SettleApplied {
				t.Errorf("repeated settlement = %s, want applied", got[0])
			}
			if it := get(t, s, l[2].ID); it.Parked {
				t.Error("the repetition changed the item")
			}
		},
	},
	{
		Name: "who does not hold the lease is fenced",
		Rule: "settlements of strangers, of items that were never leased, and after a release change nothing",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			all := fill(t, s, "mail", 3)
			l := claim(t, s, "mail", 2)
			released := l[1].Lease
			if err := s.Release(t.Context(), []dlq.Lease{released}); err != nil {
				t.Fatal(err)
			}
			stranger := l[0].Lease
			stranger.Token = "somebody-else"
			got := settle(
				t, s,
				dlq.Settlement{Lease: stranger, Action: dlq.ActionDiscard},
				dlq.Settlement{Lease: released, Action: dlq.ActionDiscard},
				dlq.Settlement{Lease: dlq.Lease{ID: all[2].ID, Token: l[0].Token}, Action: dlq.ActionDiscard},
				dlq.Settlement{Lease: dlq.Lease{ID: "mail~1-1", Token: l[0].Token}, Action: dlq.ActionDiscard},
				dlq.Settlement{Lease: dlq.Lease{ID: "nobody~1-1", Token: "x"}, Action: dlq.ActionDiscard},
			)
			for i, r := range got {
				if r != dlq.SettleFenced {
					t.Errorf("settlement %d = %s, want fenced", i, r)
				}
			}
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 3})
			for name, st := range map[string]dlq.Settlement{
				"unknown action": {Lease: l[0].Lease, Action: "explode"},
				"no lease":       {Action: dlq.ActionKeep},
				"bad operation":  {Lease: l[0].Lease, Action: dlq.ActionKeep, Operation: "a b"},
			} {
				_, err := s.Settle(t.Context(), []dlq.Settlement{st})
				wantCode(t, name, err, fault.CodeInvalidArgument)
			}
		},
	},
	{
		Name: "many settlements at once",
		Rule: "settlements of several sinks, claims and operations are applied in one call, results in order",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			var all []dlq.Settlement
			for _, sink := range []string{"mail", "chat"} {
				fill(t, s, sink, 230)
				for i := range 10 {
					for _, l := range claim(t, s, sink, 23) {
						all = append(all, dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDrop, Operation: fmt.Sprint("op", i%2)})
					}
				}
			}
			if len(all) != 460 {
				t.Fatalf("leased %d, want 460", len(all))
			}
			all[17].Token = "wrong"
			for i, got := range settle(t, s, all...) {
				want := dlq.SettleApplied
				if i == 17 {
					want = dlq.SettleFenced
				}
				if got != want {
					t.Errorf("settlement %d = %s, want %s", i, got, want)
				}
			}
			wantStats(t, s, "mail", counts{Depth: 1, Remaining: 1})
			wantStats(t, s, "chat", counts{})
			p, err := s.Progress(t.Context(), "op1", "chat")
			if want := (dlq.OperationCounts{Settled: 115, Discarded: 115}); err != nil || p != want {
				t.Errorf("Progress = %+v, %v; want %+v", p, err, want)
			}
			if got, err := s.Settle(t.Context(), nil); err != nil || len(got) != 0 {
				t.Errorf("Settle of nothing = %v, %v", got, err)
			}
		},
	},
	{
		Name: "an item remembers its last replays",
		Rule: "the history holds the last MaxHistory replays, oldest first; Replays counts the charged ones, from the generation pushed",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			in := item("mail", "a")
			in.Replays = 2
			it := add(t, s, in)
			for i := range dlq.MaxHistory + 3 {
				settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionRetry, Error: fmt.Sprint("e", i), Charge: i > 0})
			}
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionRetry, Error: strings.Repeat("ä", 5000) + "\xff"})
			got := get(t, s, it.ID)
			if got.Replays != 2+dlq.MaxHistory+2 || len(got.History) != dlq.MaxHistory {
				t.Fatalf("replays %d, history %d", got.Replays, len(got.History))
			}
			if got.History[0].Error != "e4" || got.History[0].At.IsZero() || got.History[0].At.Location() != time.UTC {
				t.Errorf("oldest replay %+v, want e4", got.History[0])
			}
			if n := len(got.History[dlq.MaxHistory-1].Error); n > 1024 || n < 1000 {
				t.Errorf("long error kept with %d bytes, want about 1 KB", n)
			}
			if got.LastError != in.LastError {
				t.Errorf("last error %q, want that of the push", got.LastError)
			}
		},
	},
	{
		Name: "what was delivered stays delivered",
		Rule: "a forced replay that fails does not make a delivered item due",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := add(t, s, item("mail", "a"))
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionKeep})
			for _, a := range []dlq.Action{dlq.ActionRetry, dlq.ActionPark, dlq.ActionHold} {
				l := claimAs(t, s, dlq.Claim{Sink: "mail", IDs: []string{it.ID}, Force: true, TTL: time.Minute})
				settle(t, s, dlq.Settlement{Lease: l[0].Lease, Action: a, Error: "no", Charge: true})
				wantStats(t, s, "mail", counts{Depth: 1, Kept: 1})
			}
			got := get(t, s, it.ID)
			if got.DeliveredAt.IsZero() || got.State(time.Now()).Scheduled() || got.Parked || got.Held || len(got.History) != 4 {
				t.Errorf("after failed forced replays: %+v", got)
			}
		},
	},
	{
		Name: "a release restores",
		Rule: "released items are as they were: fresh ones due, rescheduled ones at their time, never-due ones never",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			fresh := add(t, s, item("mail", "fresh"))
			never := add(t, s, withReason(item("mail", "never"), dlq.ReasonTerminal))
			moved := add(t, s, item("mail", "moved"))
			settleOne(t, s, moved.ID, dlq.Settlement{Action: dlq.ActionRetry, Delay: time.Hour, Error: "x"})
			before := []dlq.Item{get(t, s, fresh.ID), get(t, s, never.ID), get(t, s, moved.ID)}
			var leases []dlq.Lease
			for _, l := range claimIDs(t, s, "mail", fresh.ID, never.ID, moved.ID) {
				leases = append(leases, l.Lease)
			}
			if len(leases) != 3 {
				t.Fatalf("leased %d, want 3", len(leases))
			}
			leases = append(leases, dlq.Lease{ID: "mail~1-1", Token: "x"})
			for range 2 {
				if err := s.Release(t.Context(), leases); err != nil {
					t.Fatal(err)
				}
			}
			for _, want := range before {
				if got := get(t, s, want.ID); !got.NextReplayAt.Equal(want.NextReplayAt) || got.State(time.Now()).Scheduled() != want.State(time.Now()).Scheduled() {
					t.Errorf("%s: next replay %s (due %v), want %s (%v)", want.DeliveryID, got.NextReplayAt, got.State(time.Now()).Scheduled(), want.NextReplayAt, want.State(time.Now()).Scheduled())
				}
			}
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 2})
			if got := claim(t, s, "mail", 10); len(got) != 1 || got[0].ID != fresh.ID {
				t.Errorf("Claim = %v, want the fresh one", leasedDeliveries(got))
			}
		},
	},
}
