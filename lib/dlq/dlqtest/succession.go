package dlqtest

import (
	"errors"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"

	"github.com/google/go-cmp/cmp"
)

// heirOf returns what is to supersede a leased item in a sink, with another body.
func heirOf(t *T, l dlq.Leased, sink, body string) dlq.Succession {
	t.Helper()
	it := l.Item
	it.Sink, it.Origin, it.At = sink, it.ID, time.Time{}
	it.Message.Body = body
	by, err := dlq.Prepare(t.Context(), it)
	if err != nil {
		t.Fatal(err)
	}
	return dlq.Succession{Lease: l.Lease, By: by, TTL: time.Minute}
}

func supersede(t *T, s dlq.Store, of dlq.Succession) dlq.Leased {
	t.Helper()
	l, err := s.Supersede(t.Context(), of)
	if err != nil {
		t.Fatalf("Supersede: %v", err)
	}
	return l
}

// superseded stores an item, and another that supersedes it in a sink, whose lease it gives back.
func superseded(t *T, s dlq.Store, it dlq.Item, sink string) (former, heir dlq.Item) {
	t.Helper()
	it = add(t, s, it)
	by := supersede(t, s, heirOf(t, claimIDs(t, s, it.Sink, it.ID)[0], sink, "repaired"))
	if err := s.Release(t.Context(), []dlq.Lease{by.Lease}); err != nil {
		t.Fatal(err)
	}
	return get(t, s, it.ID), get(t, s, by.ID)
}

// inBoth runs f for a successor in the same sink, and in another.
func inBoth(t *T, f func(t *T, sink string)) {
	for _, sink := range []string{"mail", "slack"} {
		f(t, sink)
	}
}

// successionCases are about dead letters that supersede others.
var successionCases = []Case{
	{
		Name: "what is superseded waits, and its successor is leased",
		Rule: "Supersede stores the new dead letter leased under the token, and makes the old one wait, whatever it was",
		Check: func(t *T, b Backend) {
			inBoth(t, func(t *T, sink string) {
				for _, action := range []dlq.Action{"", dlq.ActionPark, dlq.ActionHold, dlq.ActionRetry} {
					s := b.New(t.T)
					it := add(t, s, item("mail", "d"))
					if action != "" {
						settleOne(t, s, it.ID, dlq.Settlement{Action: action, Delay: time.Hour, Error: "no"})
					}
					l := claimIDs(t, s, "mail", it.ID)[0]
					of := heirOf(t, l, sink, "repaired")
					by := supersede(t, s, of)
					if by.Token != l.Token || by.Item.Origin != it.ID || by.Item.Message.Body != "repaired" || by.Item.DeliveryID != "d" || by.Item.Sink != sink {
						t.Errorf("after %q: Supersede = %+v", action, by)
					}
					old := get(t, s, it.ID)
					if old.SupersededBy != by.ID || old.State(time.Now()) != dlq.StateWaiting || old.Parked || old.Message.Body != "b d" || old.SupersededAs != dlq.IdentityOf(of.By) {
						t.Errorf("after %q: the old one is %+v", action, old)
					}
					if got := get(t, s, by.ID); got.State(time.Now()) != dlq.StateReplaying {
						t.Errorf("the new one is %s", got.State(time.Now()))
					}
					for _, name := range []string{"mail", "slack"} {
						if again := claim(t, s, name, 10); len(again) != 0 {
							t.Errorf("after %q: due in %s: %v", action, name, leasedDeliveries(again))
						}
					}
					if got := settle(t, s, dlq.Settlement{Lease: l.Lease, Action: dlq.ActionRetry}); got[0] == dlq.SettleApplied && get(t, s, it.ID).State(time.Now()) != dlq.StateWaiting {
						t.Errorf("after %q: a late settlement revived it", action)
					}
					settle(t, s, dlq.Settlement{Lease: by.Lease, Action: dlq.ActionDiscard})
					wantStats(t, s, "mail", counts{Depth: 1})
				}
			})
		},
	},
	{
		Name: "a successor whose lease runs out is due",
		Rule: "of a replayer that dies, the successor alone is due once its lease has run out",
		Check: func(t *T, b Backend) {
			inBoth(t, func(t *T, sink string) {
				s := b.New(t.T)
				it := add(t, s, item("mail", "d"))
				l := lease(t, b, s, dlq.Claim{Sink: "mail", IDs: []string{it.ID}})[0]
				of := heirOf(t, l, sink, "repaired")
				of.TTL = time.Hour
				if b.Expire == nil {
					of.TTL = 300 * time.Millisecond
				}
				by := supersede(t, s, of)
				runOut(t, b, s, by)
				got := append(claim(t, s, "mail", 10), claim(t, s, "slack", 10)...)
				if len(got) != 1 || got[0].ID != by.ID {
					t.Errorf("due: %+v, want %s alone", got, by.ID)
				}
			})
		},
	},
	{
		Name: "superseding is repeated",
		Rule: "Supersede with the same content, under the same token or another, answers with the same dead letter and stores none; other content is ErrSuperseded",
		Check: func(t *T, b Backend) {
			inBoth(t, func(t *T, sink string) {
				s := b.New(t.T)
				it := add(t, s, item("mail", "d"))
				of := heirOf(t, claimIDs(t, s, "mail", it.ID)[0], sink, "repaired")
				by := supersede(t, s, of)
				if again := supersede(t, s, of); again.ID != by.ID || again.Token != by.Token {
					t.Errorf("repeated: %+v, want %+v", again, by)
				}
				other := of
				other.By.Message.Body = "repaired otherwise"
				_, err := s.Supersede(t.Context(), other)
				if !errors.Is(err, dlq.ErrSuperseded) {
					t.Errorf("with other content: %v, want ErrSuperseded", err)
				}
				wantCode(t, "Supersede", err, fault.CodeInvalidArgument)
				settle(t, s, dlq.Settlement{Lease: by.Lease, Action: dlq.ActionDiscard})
				if again := supersede(t, s, of); again.ID != by.ID || again.Token != "" {
					t.Errorf("repeated once it is gone: %+v, want %s without a lease", again, by.ID)
				}
				if p, err := s.Page(t.Context(), dlq.Query{}); err != nil || len(p.Items) != 1 {
					t.Errorf("%d dead letters, %v; want the old one alone", len(p.Items), err)
				}
			})
		},
	},
	{
		Name: "superseding needs the lease",
		Rule: "Supersede without the lease is ITEM_LEASED, in a full queue that refuses SINK_DLQ_OVERFLOW, of another's origin INVALID_ARGUMENT, and changes nothing",
		Check: func(t *T, b Backend) {
			inBoth(t, func(t *T, sink string) {
				s := b.New(t.T, dlq.WithMaxLen(1), dlq.WithOverflow(dlq.OverflowReject))
				it := add(t, s, item("mail", "d"))
				if sink != "mail" {
					add(t, s, item(sink, "other"))
				}
				l := claimIDs(t, s, "mail", it.ID)[0]
				of := heirOf(t, l, sink, "repaired")
				other := of
				other.By.Origin = "mail~1-0"
				_, err := s.Supersede(t.Context(), other)
				wantCode(t, "Supersede of another", err, fault.CodeInvalidArgument)
				_, err = s.Supersede(t.Context(), of)
				wantCode(t, "Supersede in a full queue", err, fault.CodeDLQOverflow)
				if sink == "mail" {
					if got := get(t, s, it.ID); got.SupersededBy != "" {
						t.Errorf("after a refusal: %+v", got)
					}
				}
				if err := s.Release(t.Context(), []dlq.Lease{l.Lease}); err != nil {
					t.Fatal(err)
				}
				_, err = s.Supersede(t.Context(), of)
				wantCode(t, "Supersede without the lease", err, fault.CodeItemLeased)
				if st := stats(t, s, sink); st.Depth != 1 {
					t.Errorf("%d deep, want 1", st.Depth)
				}
			})
		},
	},
	{
		Name: "what is superseded stays so",
		Rule: "no settlement, no Unpark and no Replay makes a superseded dead letter due or sends it; it can expire, be kept and be removed",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for _, action := range []dlq.Action{dlq.ActionRetry, dlq.ActionPark, dlq.ActionHold, dlq.ActionExpire, dlq.ActionKeep} {
				former, heir := superseded(t, s, item("mail", "d"+string(action)), "mail")
				settleOne(t, s, former.ID, dlq.Settlement{Action: action, Charge: true, Error: "no"})
				if err := s.Unpark(t.Context(), former.ID); err != nil {
					t.Fatal(err)
				}
				want := map[dlq.Action]dlq.State{dlq.ActionExpire: dlq.StateExpired, dlq.ActionKeep: dlq.StateDelivered}[action]
				if want == "" {
					want = dlq.StateWaiting
				}
				if got := get(t, s, former.ID); got.State(time.Now()) != want || got.SupersededBy != heir.ID {
					t.Errorf("after %s: %s, %+v; want %s", action, got.State(time.Now()), got, want)
				}
				discard(t, s, heir.ID)
				if err := s.Replay(t.Context(), former.ID); err == nil {
					t.Errorf("after %s it was replayed", action)
				}
			}
			if due := claim(t, s, "mail", 10); len(due) != 0 {
				t.Errorf("due: %v", leasedDeliveries(due))
			}
			st := stats(t, s, "mail")
			if st.States[dlq.StateWaiting] != 3 || st.Parked != 0 || st.Remaining != 0 {
				t.Errorf("Stats = %+v", st)
			}
			p, err := s.Page(t.Context(), dlq.Query{State: dlq.StateWaiting})
			if err != nil || len(p.Items) != 3 {
				t.Errorf("waiting: %d, %v; want 3", len(p.Items), err)
			}
		},
	},
	{
		Name: "a failure after it was superseded is a dead letter",
		Rule: "a push of what a superseded dead letter has is a dead letter of its own",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			former, _ := superseded(t, s, item("mail", "d"), "mail")
			again := add(t, s, item("mail", "d"))
			if again.ID == former.ID {
				t.Error("what fails anew was taken for the superseded one")
			}
			if once := add(t, s, item("mail", "d")); once.ID != again.ID {
				t.Errorf("repeated: %s, want %s", once.ID, again.ID)
			}
		},
	},
	{
		Name: "a cancellation takes both",
		Rule: "ClaimDelivery leases the superseded dead letter and its successor in the sink, and a claim of one in another sink is by its id",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			former, heir := superseded(t, s, item("mail", "d"), "mail")
			got := claimDelivery(t, s, dlq.DeliveryClaim{Sink: "mail", DeliveryID: "d", TTL: time.Minute, Note: time.Hour})
			ids := map[string]bool{}
			for _, l := range got {
				ids[l.ID] = true
			}
			if len(got) != 2 || !ids[former.ID] || !ids[heir.ID] {
				t.Errorf("ClaimDelivery = %v, want both", ids)
			}
		},
	},
	{
		Name: "who sends a successor to another sink has it noted",
		Rule: "NoteSuperseded makes the origin wait, is true for what it noted before and for an origin that is gone, and false where another supersedes it, replays it, or has delivered it",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			note := func(origin, sink, body string, want bool) string {
				t.Helper()
				it := item(sink, "d")
				it.Origin, it.Message.Body = origin, body
				by := add(t, s, it)
				got, err := s.NoteSuperseded(t.Context(), by)
				if err != nil || got != want {
					t.Errorf("NoteSuperseded of %s by %s = %t, %v; want %t", origin, by.ID, got, err, want)
				}
				return by.ID
			}
			old := add(t, s, item("mail", "d"))
			by := note(old.ID, "slack", "a", true)
			if got := get(t, s, old.ID); got.SupersededBy != by || got.State(time.Now()) != dlq.StateWaiting {
				t.Errorf("the origin is %+v, want it to wait for %s", got, by)
			}
			note(old.ID, "slack", "a", true) // the same one
			note(old.ID, "slack", "b", false)
			note("mail~1-0", "slack", "c", true)
			leased := add(t, s, item("mail", "leased"))
			claimIDs(t, s, "mail", leased.ID)
			note(leased.ID, "slack", "e", false)
			kept := add(t, s, item("mail", "kept"))
			settleOne(t, s, kept.ID, dlq.Settlement{Action: dlq.ActionKeep})
			note(kept.ID, "slack", "f", false)
			if _, err := s.NoteSuperseded(t.Context(), old); fault.CodeOf(err) != fault.CodeInvalidArgument {
				t.Errorf("NoteSuperseded of what supersedes none = %v", err)
			}
		},
	},
	{
		Name: "a journal has what is superseded",
		Rule: "the state of a superseded dead letter is noted as unjournaled until the journal has it as it is now, and returned it waits, superseded",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithJournal())
			former, heir := superseded(t, s, at(item("mail", "d"), "x:1"), "slack")
			work(t, s)
			state := dlq.JournalState{ID: former.ID, Held: true}
			lacks := func() (held, by string) {
				t.Helper()
				found, err := s.Unjournaled(t.Context(), "mail", 10)
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range found {
					if u.State && u.Item.ID == former.ID {
						return "noted", u.Item.SupersededBy
					}
				}
				return "", ""
			}
			journaled(t, s, dlq.JournalDone{States: []dlq.JournalState{state}})
			if noted, by := lacks(); noted == "" || by != heir.ID {
				t.Errorf("the journal lacks %q, superseded by %q; want %s", noted, by, heir.ID)
			}
			state.SupersededBy = heir.ID
			journaled(t, s, dlq.JournalDone{States: []dlq.JournalState{state}})
			if noted, _ := lacks(); noted != "" {
				t.Error("what the journal has is noted still")
			}

			s = b.New(t.T, dlq.WithJournal())
			work(t, s)
			l := letter(t, at(item("mail", "d"), "x:1"))
			l.Item.SupersededBy = heir.ID
			back := get(t, s, returned(t, s, l, dlq.ReturnStored))
			if diff := cmp.Diff([]any{heir.ID, dlq.StateWaiting}, []any{back.SupersededBy, back.State(time.Now())}); diff != "" {
				t.Errorf("returned (-want +got):\n%s", diff)
			}
			if due := claim(t, s, "mail", 10); len(due) != 0 {
				t.Error("what was superseded is due after a restore")
			}
		},
	},
}
