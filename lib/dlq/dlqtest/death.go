package dlqtest

import (
	"time"

	"backstop/internal/await"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// expired leases one item and returns once that lease has run out.
func expired(t *T, b Backend, s dlq.Store, c dlq.Claim, begin bool) dlq.Lease {
	t.Helper()
	leased := lease(t, b, s, c)
	if len(leased) != 1 {
		t.Fatalf("Claim leased %d items, want 1", len(leased))
	}
	if begin {
		if ok, err := s.Begin(t.Context(), leased[0].Lease); err != nil || !ok {
			t.Fatalf("Begin = %t, %v; want true", ok, err)
		}
	}
	runOut(t, b, s, leased...)
	return leased[0].Lease
}

// wantDeaths claims an item and gives it back.
func wantDeaths(t *T, s dlq.Store, c dlq.Claim, what string, deaths, charged int) {
	t.Helper()
	c.TTL = time.Minute
	leased := claimAs(t, s, c)
	if len(leased) != 1 {
		t.Fatalf("%s: Claim leased %d items, want 1", what, len(leased))
	}
	it := leased[0].Item
	if it.Deaths != deaths || it.Replays != charged || len(it.History) != charged {
		t.Errorf("%s: %d deaths, %d replays, history %v; want %d deaths and %d replays", what, it.Deaths, it.Replays, it.History, deaths, charged)
	}
	for _, r := range it.History {
		if r.Error != dlq.DiedUnder || r.At.IsZero() {
			t.Errorf("%s: the history says %+v, want %q", what, r, dlq.DiedUnder)
		}
	}
	if err := s.Release(t.Context(), []dlq.Lease{leased[0].Lease}); err != nil {
		t.Fatal(err)
	}
}

var deathCases = []Case{
	{
		Name: "nothing is sent under a quiet lease",
		Rule: "who dies with a lease that it took quietly, by id, is not charged to the item; a claim for what is due is never quiet",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := add(t, s, item("mail", "a"))
			c := dlq.Claim{Sink: "mail", IDs: []string{it.ID}, Quiet: true}
			expired(t, b, s, c, false)
			c.Quiet = false
			wantDeaths(t, s, c, "after a quiet lease", 0, 0)
			expired(t, b, s, c, false)
			wantDeaths(t, s, c, "after another", 1, 1)
			if _, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", Quiet: true, TTL: time.Minute}); fault.CodeOf(err) != fault.CodeInvalidArgument {
				t.Errorf("Claim of what is due, quietly: %v", err)
			}
		},
	},
	{
		Name: "a replayer that died is charged to its item",
		Rule: "a claim that takes over a lease that ran out counts a death and a replay; the first in any case, further ones where the replay had begun",
		Check: func(t *T, b Backend) {
			for name, c := range map[string]dlq.Claim{"what is due": {Sink: "mail"}, "by id": {Sink: "mail", IDs: []string{""}}} {
				s := b.New(t.T)
				it := add(t, s, item("mail", "a"))
				if c.IDs != nil {
					c.IDs = []string{it.ID}
				}
				wantDeaths(t, s, c, name+", fresh", 0, 0)
				expired(t, b, s, c, false)
				wantDeaths(t, s, c, name+", the first", 1, 1)
				expired(t, b, s, c, false)
				wantDeaths(t, s, c, name+", before it began", 1, 1)
				expired(t, b, s, c, true)
				wantDeaths(t, s, c, name+", the second", 2, 2)
				expired(t, b, s, c, true)
				wantDeaths(t, s, c, name+", the third", 3, 3)
				if got := get(t, s, it.ID); !got.State(time.Now()).Scheduled() || got.Parked || got.Reason != dlq.ReasonExhausted || got.Deaths != 3 {
					t.Errorf("%s: %+v, want it as due as before", name, got)
				}
				wantStats(t, s, "mail", counts{Depth: 1, Remaining: 1})
				settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionRetry, Error: "no", Charge: true})
				if got := get(t, s, it.ID); got.Deaths != 0 || got.Replays != 4 || len(got.History) != 4 {
					t.Errorf("%s: after an outcome %d deaths, %d replays; want 0 and 4", name, got.Deaths, got.Replays)
				}
				settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionDiscard})
				wantStats(t, s, "mail", counts{})
			}
		},
	},
	{
		Name: "who comes back has not died",
		Rule: "a lease given back, settled late, or claimed again with its own token is no death",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := add(t, s, item("mail", "a"))
			due, byID := dlq.Claim{Sink: "mail"}, dlq.Claim{Sink: "mail", IDs: []string{it.ID}}
			l := expired(t, b, s, due, true)
			if err := s.Release(t.Context(), []dlq.Lease{l}); err != nil {
				t.Fatal(err)
			}
			wantDeaths(t, s, due, "given back late", 0, 0)
			l = expired(t, b, s, due, true)
			if got := settle(t, s, dlq.Settlement{Lease: l, Action: dlq.ActionRetry}); got[0] != dlq.SettleApplied {
				t.Fatalf("late Settle = %s", got[0])
			}
			await.Millisecond()
			wantDeaths(t, s, due, "settled late", 0, 0)
			byID.Token = "t"
			expired(t, b, s, byID, true)
			wantDeaths(t, s, byID, "claimed again by the same", 0, 0)
		},
	},
	{
		Name: "deaths under an operator's replay",
		Rule: "an item that is not due, or not yet, is charged too, whoever comes across the lease, and is no more due than before",
		Check: func(t *T, b Backend) {
			for name, sweep := range map[string]bool{"the next one by id": false, "the schedule first": true} {
				s := b.New(t.T)
				never := add(t, s, withReason(item("mail", "never"), dlq.ReasonTerminal))
				moved := add(t, s, item("mail", "moved"))
				settleOne(t, s, moved.ID, dlq.Settlement{Action: dlq.ActionRetry, Delay: time.Hour})
				for _, id := range []string{never.ID, moved.ID} {
					c := dlq.Claim{Sink: "mail", IDs: []string{id}}
					for n := 1; n <= 2; n++ {
						expired(t, b, s, c, true)
						if got := claim(t, s, "mail", 10); sweep && len(got) != 0 {
							t.Errorf("%s: %v were due", name, leasedDeliveries(got))
						}
						wantDeaths(t, s, c, name+", "+id, n, n)
					}
				}
				if got := claim(t, s, "mail", 10); len(got) != 0 {
					t.Errorf("%s: %v became due", name, leasedDeliveries(got))
				}
				wantStats(t, s, "mail", counts{Depth: 2, Remaining: 1})
			}
		},
	},
	{
		Name: "a lease that ran out is not taken away without its death",
		Rule: "Unpark and NoteSuperseded charge the death of a holder whose lease has run out, as a claim does, and none where nothing was sent under it",
		Check: func(t *T, b Backend) {
			for name, takes := range map[string]func(t *T, s dlq.Store, it dlq.Item){
				"unpark": func(t *T, s dlq.Store, it dlq.Item) {
					if err := s.Unpark(t.Context(), it.ID); err != nil {
						t.Error(err)
					}
				},
				"superseded": func(t *T, s dlq.Store, it dlq.Item) {
					by := item("slack", it.DeliveryID)
					by.Origin = it.ID
					if ok, err := s.NoteSuperseded(t.Context(), add(t, s, by)); err != nil || !ok {
						t.Errorf("NoteSuperseded = %t, %v; want true", ok, err)
					}
				},
			} {
				for _, quiet := range []bool{false, true} {
					s := b.New(t.T)
					never := add(t, s, withReason(item("mail", "never"), dlq.ReasonTerminal))
					moved := add(t, s, item("mail", "moved"))
					settleOne(t, s, moved.ID, dlq.Settlement{Action: dlq.ActionRetry, Delay: time.Hour})
					for _, it := range []dlq.Item{never, moved} {
						expired(t, b, s, dlq.Claim{Sink: "mail", IDs: []string{it.ID}, Quiet: quiet}, !quiet)
						takes(t, s, it)
						want := 1
						if quiet {
							want = 0
						}
						if got := get(t, s, it.ID); got.Unanswered != want || got.Replays != want || len(got.History) != want || !got.LeasedUntil.IsZero() {
							t.Errorf("%s of %s, quiet: %t: %d attempts unanswered, %d replays, history %v; want %d of each", name, it.DeliveryID, quiet, got.Unanswered, got.Replays, got.History, want)
						}
					}
				}
			}
		},
	},
	{
		Name: "only the holder begins",
		Rule: "Begin answers false when the token does not hold the lease, or the lease has run out, and changes nothing then",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			all := fill(t, s, "mail", 2)
			late := expired(t, b, s, dlq.Claim{Sink: "mail", IDs: []string{all[0].ID}}, false)
			held := claimIDs(t, s, "mail", all[1].ID)[0].Lease
			stranger, missing := held, held
			stranger.Token, missing.ID = "somebody-else", "mail~1-1"
			for name, l := range map[string]dlq.Lease{"late": late, "stranger": stranger, "missing": missing} {
				if ok, err := s.Begin(t.Context(), l); ok || err != nil {
					t.Errorf("%s: Begin = %t, %v; want false", name, ok, err)
				}
			}
			for range 2 { // it can be repeated
				if ok, err := s.Begin(t.Context(), held); !ok || err != nil {
					t.Errorf("Begin = %t, %v; want true", ok, err)
				}
			}
			_, err := s.Begin(t.Context(), dlq.Lease{ID: "x", Token: "t"})
			wantCode(t, "a bad id", err, fault.CodeInvalidArgument)
			if err := s.Release(t.Context(), []dlq.Lease{held}); err != nil {
				t.Fatal(err)
			}
			if ok, err := s.Begin(t.Context(), held); ok || err != nil {
				t.Errorf("given back: Begin = %t, %v; want false", ok, err)
			}
		},
	},
	{
		Name: "an expired lease keeps what its item was",
		Rule: "a claim by id that takes over a lease which ran out, and gives the item back, leaves it as due as it was before both",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			never := add(t, s, withReason(item("mail", "never"), dlq.ReasonTerminal))
			moved := add(t, s, item("mail", "moved"))
			settleOne(t, s, moved.ID, dlq.Settlement{Action: dlq.ActionRetry, Delay: time.Hour})
			due := get(t, s, moved.ID).NextReplayAt
			for _, id := range []string{never.ID, moved.ID} {
				expired(t, b, s, dlq.Claim{Sink: "mail", IDs: []string{id}}, false)
				if err := s.Release(t.Context(), []dlq.Lease{claimIDs(t, s, "mail", id)[0].Lease}); err != nil {
					t.Fatal(err)
				}
			}
			await.Millisecond()
			if got := claim(t, s, "mail", 10); len(got) != 0 {
				t.Errorf("%v became due", leasedDeliveries(got))
			}
			if it := get(t, s, never.ID); it.State(time.Now()).Scheduled() {
				t.Errorf("%+v is due", it)
			}
			if it := get(t, s, moved.ID); !it.NextReplayAt.Equal(due) {
				t.Errorf("due at %s, want %s as before", it.NextReplayAt, due)
			}
			wantStats(t, s, "mail", counts{Depth: 2, Remaining: 1})
		},
	},
}
