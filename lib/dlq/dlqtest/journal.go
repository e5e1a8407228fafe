package dlqtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/internal/await"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// at returns a dead letter with an address in the journal.
func at(it dlq.Item, address string) dlq.Item {
	it.Journal = address
	return it
}

// ended returns the addresses that are over, sorted.
func ended(t *T, s dlq.Store) []string {
	t.Helper()
	all := []string{}
	for cursor := ""; ; {
		part, next, err := s.Ended(t.Context(), "mail", cursor, 10)
		if err != nil {
			t.Fatalf("Ended: %v", err)
		}
		all = append(all, part...)
		if cursor = next; cursor == "" {
			slices.Sort(all)
			return slices.Compact(all)
		}
	}
}

// unjournaled returns what the journal lacks: "<delivery> <address>", and for a state what is to be
// written.
func unjournaled(t *T, s dlq.Store) []string {
	t.Helper()
	lacks, err := s.Unjournaled(t.Context(), "mail", 1000)
	if err != nil {
		t.Fatalf("Unjournaled: %v", err)
	}
	all := []string{}
	for _, u := range lacks {
		what := u.Item.DeliveryID + " " + u.Item.Journal
		if u.State {
			what += fmt.Sprintf(" parked=%t held=%t", u.Item.Parked, u.Item.Held)
		}
		all = append(all, what)
	}
	slices.Sort(all)
	return all
}

func wantEnded(t *T, s dlq.Store, what string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), ended(t, s)); diff != "" {
		t.Errorf("%s: Ended (-want +got):\n%s", what, diff)
	}
}

func wantUnjournaled(t *T, s dlq.Store, what string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(append([]string{}, want...), unjournaled(t, s)); diff != "" {
		t.Errorf("%s: Unjournaled (-want +got):\n%s", what, diff)
	}
}

func native(t *T, id string) string {
	t.Helper()
	parsed, err := dlq.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Native
}

// work takes the lease on the journal as "w".
func work(t *T, s dlq.Store) {
	t.Helper()
	if _, ok, err := s.JournalLease(t.Context(), "mail", "w", time.Hour); !ok || err != nil {
		t.Fatalf("JournalLease = %t, %v", ok, err)
	}
}

func journaled(t *T, s dlq.Store, d dlq.JournalDone) {
	t.Helper()
	if err := s.Journaled(t.Context(), "mail", "w", d); err != nil {
		t.Fatalf("Journaled: %v", err)
	}
}

// letter is a dead letter as the journal has it.
func letter(t *T, it dlq.Item) dlq.Letter {
	t.Helper()
	parked, held := it.Parked, it.Held
	it, err := dlq.Prepare(t.Context(), it)
	if err != nil {
		t.Fatal(err)
	}
	it.Parked, it.Held = parked, held
	return dlq.Letter{Item: it, Identity: dlq.IdentityOf(it)}
}

func giveBack(t *T, s dlq.Store, over int, letters ...dlq.Letter) []dlq.Returned {
	t.Helper()
	returned, err := s.Return(t.Context(), "mail", "w", over, letters)
	if err != nil {
		t.Fatalf("Return: %v", err)
	}
	if len(returned) != len(letters) {
		t.Fatalf("Return answers %d, want %d", len(returned), len(letters))
	}
	return returned
}

// returned gives one letter back, which must end as it says, and returns its id.
func returned(t *T, s dlq.Store, l dlq.Letter, want dlq.ReturnStatus) string {
	t.Helper()
	got := giveBack(t, s, 0, l)[0]
	if got.Status != want {
		t.Fatalf("Return of %s = %s, want %s", l.Item.DeliveryID, got.Status, want)
	}
	if (got.ID != "") != (want == dlq.ReturnStored || want == dlq.ReturnExists) {
		t.Errorf("Return of %s = %s with id %q", l.Item.DeliveryID, got.Status, got.ID)
	}
	return got.ID
}

func presentOf(t *T, s dlq.Store, of ...dlq.Identity) []dlq.Present {
	t.Helper()
	found, err := s.Present(t.Context(), "mail", of)
	if err != nil {
		t.Fatalf("Present: %v", err)
	}
	if len(found) != len(of) {
		t.Fatalf("Present answers %d, want %d", len(found), len(of))
	}
	return found
}

var journalCases = []Case{
	{
		Name: "an address is kept",
		Rule: "every read of a dead letter tells the address that it was pushed with, and so do its leases; its JSON does not",
		Check: func(t *T, b Backend) {
			for _, journal := range []bool{false, true} {
				var opts []dlq.Option
				if journal {
					opts = append(opts, dlq.WithJournal())
				}
				s := b.New(t.T, opts...)
				named, plain := add(t, s, at(item("mail", "a"), "1/2026/x-1:0")), add(t, s, item("mail", "b"))
				want := map[string]string{"a": "1/2026/x-1:0", "b": ""}
				if journal {
					want["b"] = "@" + native(t, plain.ID)
				}
				check := func(what string, it dlq.Item) {
					t.Helper()
					if it.Journal != want[it.DeliveryID] {
						t.Errorf("journal %t: %s of %s has address %q, want %q", journal, what, it.DeliveryID, it.Journal, want[it.DeliveryID])
					}
				}
				check("Add", named)
				check("Add", plain)
				for _, it := range []dlq.Item{named, plain} {
					check("Get", get(t, s, it.ID))
					found, err := s.Find(t.Context(), "mail", it.DeliveryID, "")
					if err != nil {
						t.Fatal(err)
					}
					check("Find", found)
				}
				items, err := s.Items(t.Context(), "", 0)
				if err != nil || len(items) != 2 {
					t.Fatalf("Items = %d, %v", len(items), err)
				}
				for _, it := range items {
					check("Items", it)
					if text, err := json.Marshal(it); err != nil || strings.Contains(string(text), "x-1:0") {
						t.Errorf("JSON %s, %v", text, err)
					}
				}
				p, err := s.Page(t.Context(), dlq.Query{Sink: "mail", State: dlq.StateDue})
				if err != nil || len(p.Items) != 2 {
					t.Fatalf("Page = %d, %v", len(p.Items), err)
				}
				for _, it := range p.Items {
					check("Page", it)
				}
				for what, leased := range map[string][]dlq.Leased{
					"Claim":         lease(t, b, s, dlq.Claim{Sink: "mail", Limit: 1, Token: "t"}),
					"Claim by id":   claimIDs(t, s, "mail", plain.ID),
					"ClaimDelivery": claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "c"}),
				} {
					for _, l := range leased {
						check(what, l.Item)
						if l.Journal != l.Item.Journal {
							t.Errorf("%s: the lease's address is %q, the item's %q", what, l.Journal, l.Item.Journal)
						}
					}
				}
			}
		},
	},
	{
		Name: "a bad address is refused",
		Rule: "an address with a space, a comma or a bar, or of more than 200 bytes, is INVALID_ARGUMENT wherever it is given",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for _, bad := range []string{"a b", "a,b", "a|b", "a\nb", "ä", strings.Repeat("x", 201)} {
				_, err := s.Add(t.Context(), at(item("mail", "a"), bad))
				wantCode(t, "Add", err, fault.CodeInvalidArgument)
				_, err = dlq.Prepare(t.Context(), at(item("mail", "a"), bad))
				wantCode(t, "Prepare", err, fault.CodeInvalidArgument)
				wantCode(t, "NoteEnded", s.NoteEnded(t.Context(), "mail", []string{bad}), fault.CodeInvalidArgument)
			}
			add(t, s, at(item("mail", "a"), strings.Repeat("~", 200)))
		},
	},
	{
		Name: "how a dead letter ends is noted",
		Rule: "the address of a dead letter is over once it is delivered, kept or not, given up, discarded or trimmed, and only then; one without an address has its native id's where there is a journal, and else none",
		Check: func(t *T, b Backend) {
			for _, journal := range []bool{false, true} {
				opts := []dlq.Option{dlq.WithMaxLen(8), dlq.WithMaxKept(2)}
				if journal {
					opts = append(opts, dlq.WithJournal())
				}
				s := b.New(t.T, opts...)
				var want []string
				over := func(ids ...string) {
					for _, id := range ids {
						it := get(t, s, id)
						if address := it.Journal; address != "" {
							want = append(want, address)
						}
					}
				}
				push := func(id string) (named, plain string) {
					t.Helper()
					return add(t, s, at(item("mail", id), "at:"+id)).ID, add(t, s, item("mail", id+"'")).ID
				}
				for _, action := range []dlq.Action{dlq.ActionRetry, dlq.ActionPark, dlq.ActionHold, dlq.ActionExpire} {
					named, plain := push(string(action))
					settleOne(t, s, named, dlq.Settlement{Action: action})
					settleOne(t, s, plain, dlq.Settlement{Action: action})
					wantEnded(t, s, "after "+string(action), sorted(want)...)
					over(named, plain)
					discard(t, s, named)
					discard(t, s, plain)
					discard(t, s, plain)
				}
				for _, action := range []dlq.Action{dlq.ActionDiscard, dlq.ActionDrop, dlq.ActionKeep} {
					named, plain := push(string(action))
					over(named, plain)
					settleOne(t, s, named, dlq.Settlement{Action: action})
					settleOne(t, s, plain, dlq.Settlement{Action: action})
					wantEnded(t, s, "after "+string(action), sorted(want)...)
				}
				// A kept one beyond the bound, after its end was carried out.
				work(t, s)
				journaled(t, s, dlq.JournalDone{Ended: ended(t, s)})
				want = nil
				wantEnded(t, s, "carried out")
				named, plain := push("more")
				over(named, plain)
				settleOne(t, s, named, dlq.Settlement{Action: dlq.ActionKeep})
				settleOne(t, s, plain, dlq.Settlement{Action: dlq.ActionKeep})
				for _, it := range ended(t, s) {
					if !slices.Contains(want, it) {
						want = append(want, it) // those kept before
					}
				}
				if n := map[bool]int{false: 2, true: 4}[journal]; len(want) != n {
					t.Errorf("two kept instead of two others: %q are over, want %d", want, n)
				}
				// Trimmed.
				var ids []string
				for i := range 8 {
					named, plain := push(fmt.Sprint(i))
					ids = append(ids, named, plain)
					if i == 2 {
						for _, id := range ids[:6] {
							if it := get(t, s, id); it.Journal != "" {
								want = append(want, it.Journal)
							}
						}
					}
				}
				all := ended(t, s)
				for _, a := range want {
					if !slices.Contains(all, a) {
						t.Errorf("journal %t: %s was trimmed and is not over: %q", journal, a, all)
					}
				}
				if slices.Contains(all, "at:7") {
					t.Errorf("%q are over; at:7 waits", all)
				}
			}
		},
	},
	{
		Name: "addresses that are over are listed",
		Rule: "Ended returns every address once its end is noted until that was carried out; AreEnded knows each",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			var all, carried []string
			for i := range 1200 {
				all = append(all, fmt.Sprintf("x:%04d", i))
			}
			if err := s.NoteEnded(t.Context(), "mail", all); err != nil {
				t.Fatal(err)
			}
			wantEnded(t, s, "noted", all...)
			work(t, s)
			carried, all = all[:700], all[700:]
			for range 2 {
				journaled(t, s, dlq.JournalDone{Ended: carried})
			}
			wantEnded(t, s, "carried out", all...)
			got, err := s.AreEnded(t.Context(), "mail", []string{carried[0], all[0], "y", all[499]})
			if diff := cmp.Diff([]bool{false, true, false, true}, got); err != nil || diff != "" {
				t.Errorf("AreEnded, %v (-want +got):\n%s", err, diff)
			}
			if got, err := s.AreEnded(t.Context(), "mail", nil); err != nil || len(got) != 0 {
				t.Errorf("AreEnded of nothing = %v, %v", got, err)
			}
		},
	},
	{
		Name: "pushed again under another address",
		Rule: "a push that finds its content there under another address ends that address, and notes that the journal may lack what is there; under the same address, or none, it changes nothing",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			first := add(t, s, at(item("mail", "a"), "at:1"))
			plain := add(t, s, item("mail", "b"))
			again := func(it dlq.Item, want string) {
				t.Helper()
				if got := add(t, s, it).ID; got != want {
					t.Errorf("pushed again: %s, want %s", got, want)
				}
			}
			again(at(item("mail", "a"), "at:1"), first.ID)
			again(item("mail", "a"), first.ID)
			again(item("mail", "b"), plain.ID)
			wantEnded(t, s, "the same address")
			wantUnjournaled(t, s, "the same address")
			again(at(item("mail", "a"), "at:2"), first.ID)
			again(at(item("mail", "b"), "at:3"), plain.ID)
			wantEnded(t, s, "others", "at:2", "at:3")
			wantUnjournaled(t, s, "others", "a at:1", "b @"+native(t, plain.ID))
			if it := get(t, s, first.ID); it.Journal != "at:1" {
				t.Errorf("its address is %q now", it.Journal)
			}
			other := item("mail", "a")
			other.Message.Body = "other"
			if got := add(t, s, at(other, "at:4")); got.ID == first.ID {
				t.Error("other content was taken for it")
			}
			wantEnded(t, s, "other content", "at:2", "at:3")
		},
	},
	{
		Name: "parked and held are noted",
		Rule: "where a replay or an operator changes whether a dead letter is parked or held, the journal is to be told; it is told what holds by then",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			work(t, s)
			it := add(t, s, at(item("mail", "a"), "at:a"))
			plain := add(t, s, item("mail", "b"))
			told := func(parked, held bool) {
				t.Helper()
				journaled(t, s, dlq.JournalDone{States: []dlq.JournalState{{ID: it.ID, Parked: parked, Held: held}}})
			}
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionRetry})
			wantUnjournaled(t, s, "retry")
			for _, id := range []string{it.ID, plain.ID} {
				settleOne(t, s, id, dlq.Settlement{Action: dlq.ActionPark})
			}
			wantUnjournaled(t, s, "parked", "a at:a parked=true held=false")
			told(false, true)
			wantUnjournaled(t, s, "told something else", "a at:a parked=true held=false")
			told(true, false)
			wantUnjournaled(t, s, "told")
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionPark})
			wantUnjournaled(t, s, "parked again")
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionHold})
			told(true, false) // late
			wantUnjournaled(t, s, "held", "a at:a parked=false held=true")
			told(false, true)
			if err := s.Unpark(t.Context(), it.ID); err != nil {
				t.Fatal(err)
			}
			wantUnjournaled(t, s, "made due", "a at:a parked=false held=false")
			told(false, false)
			if err := s.Unpark(t.Context(), it.ID); err != nil {
				t.Fatal(err)
			}
			wantUnjournaled(t, s, "made due again")
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionPark})
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionKeep})
			wantUnjournaled(t, s, "delivered")
		},
	},
	{
		Name: "without an address, and with a journal",
		Rule: "where there is a journal, it lacks what is pushed without an address, and is told when that is parked",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithJournal())
			it := add(t, s, item("mail", "a"))
			address := "@" + native(t, it.ID)
			wantUnjournaled(t, s, "pushed", "a "+address)
			if got := stats(t, s, "mail").Journal; !got.Known || got.Unjournaled != 1 || got.Ending != 0 {
				t.Errorf("Stats.Journal = %+v, want one unjournaled", got)
			}
			work(t, s)
			journaled(t, s, dlq.JournalDone{Written: []string{it.ID}})
			wantUnjournaled(t, s, "written")
			stats(t, s, "mail")
			wantUnjournaled(t, s, "looked at again")
			settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionPark})
			wantUnjournaled(t, s, "parked", "a "+address+" parked=true held=false")
			discard(t, s, it.ID)
			wantEnded(t, s, "discarded", address)
			wantUnjournaled(t, s, "discarded")
			if got := stats(t, s, "mail").Journal; !got.Known || got.Unjournaled != 0 || got.Ending != 1 {
				t.Errorf("Stats.Journal = %+v, want one ending", got)
			}
		},
	},
	{
		Name: "one at a time works on a journal",
		Rule: "JournalLease excludes others until it runs out or is given back, its holder renews it, and notes and what was done are refused from anyone else",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			lease := func(token string, ttl time.Duration) (dlq.JournalView, bool) {
				t.Helper()
				v, ok, err := s.JournalLease(t.Context(), "mail", token, ttl)
				if err != nil {
					t.Fatal(err)
				}
				return v, ok
			}
			if v, ok := lease("a", time.Hour); !ok || v.Known {
				t.Errorf("JournalLease = %+v, %t; want it, and that nothing is known", v, ok)
			}
			it := add(t, s, at(item("mail", "x"), "at:x"))
			notes := dlq.JournalNotes{
				Spilled: 3, SpilledAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Compared: "open/x", Missing: []string{"m:0", "m:1"},
				Healed: 7, LostAt: time.Date(2026, 2, 2, 3, 4, 5, 0, time.UTC), Ends: "17",
			}
			for range 2 {
				if err := s.SaveJournal(t.Context(), "mail", "a", notes); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.NoteUnjournaled(t.Context(), "mail", []string{it.ID}); err != nil {
				t.Fatal(err)
			}
			if err := s.NoteEnded(t.Context(), "mail", []string{"at:y"}); err != nil {
				t.Fatal(err)
			}
			want := dlq.JournalView{JournalNotes: notes, Known: true, Unjournaled: 1, Ending: 1}
			refused := func(token string) {
				t.Helper()
				for what, err := range map[string]error{
					"SaveJournal": s.SaveJournal(t.Context(), "mail", token, dlq.JournalNotes{}),
					"Journaled":   s.Journaled(t.Context(), "mail", token, dlq.JournalDone{Ended: []string{"at:y"}, Written: []string{it.ID}}),
				} {
					if !errors.Is(err, dlq.ErrJournalTaken) {
						t.Errorf("%s of %s = %v, want ErrJournalTaken", what, token, err)
					}
				}
				if _, err := s.Return(t.Context(), "mail", token, 0, []dlq.Letter{letter(t, at(item("mail", "z"), "at:z"))}); !errors.Is(err, dlq.ErrJournalTaken) {
					t.Errorf("Return of %s = %v, want ErrJournalTaken", token, err)
				}
				if v, _ := lease("nobody", 0); !cmp.Equal(v, want) {
					t.Errorf("refused, and changed:\n%s", cmp.Diff(want, v))
				}
				wantStats(t, s, "mail", counts{Depth: 1, Remaining: 1})
			}
			refused("b")
			if v, ok := lease("b", time.Hour); ok || !cmp.Equal(v, want) {
				t.Errorf("JournalLease of another = %t (-want +got):\n%s", ok, cmp.Diff(want, v))
			}
			lease("b", 0) // not its own
			if _, ok := lease("b", time.Hour); ok {
				t.Error("another's lease was given back")
			}
			for range 2 {
				if _, ok := lease("a", time.Hour); !ok {
					t.Error("its holder does not renew it")
				}
			}
			lease("a", 0)
			refused("a")
			if _, ok := lease("b", 20*time.Millisecond); !ok {
				t.Error("it was given back, and nobody gets it")
			}
			await.True(t, "the lease ran out", func() bool { _, ok := lease("c", time.Hour); return ok })
			refused("b")
		},
	},
	{
		Name: "what the journal lacks",
		Rule: "Unjournaled returns the dead letters that were noted, as they were pushed, until they were written, by its limits; what is gone or delivered is forgotten",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			var ids []string
			for i := range 250 {
				it := at(item("mail", fmt.Sprintf("d%03d", i)), fmt.Sprintf("at:%d", i))
				if i == 3 {
					it.NotBefore, it.Trace, it.Message.Metadata = time.Now().Add(time.Hour).UTC().Truncate(time.Millisecond), "trace", map[string]string{"k": "v"}
				}
				ids = append(ids, add(t, s, it).ID)
			}
			for range 2 {
				if err := s.NoteUnjournaled(t.Context(), "mail", append([]string{"mail~1-0"}, ids...)); err != nil {
					t.Fatal(err)
				}
			}
			settleOne(t, s, ids[0], dlq.Settlement{Action: dlq.ActionKeep})
			discard(t, s, ids[1])
			settleOne(t, s, ids[2], dlq.Settlement{Action: dlq.ActionHold, Charge: true, Error: "no"})
			some, err := s.Unjournaled(t.Context(), "mail", 10)
			if err != nil || len(some) == 0 || len(some) > 10 { // some of them are gone
				t.Errorf("Unjournaled = %d, %v; want up to 10", len(some), err)
			}
			all, err := s.Unjournaled(t.Context(), "mail", 1000)
			if err != nil || len(all) != 249 { // with the state of one
				t.Fatalf("Unjournaled = %d, %v; want 249", len(all), err)
			}
			seen := map[string]bool{}
			for _, u := range all {
				seen[fmt.Sprint(u.Item.ID, u.State)] = true
				if u.Item.ID == ids[2] && (u.Item.Parked || !u.Item.Held || u.Item.Replays != 0 || len(u.Item.History) != 0) {
					t.Errorf("held after a replay: %+v; want it as it was pushed, and held", u.Item)
				}
				if u.Item.ID != ids[3] {
					continue
				}
				want := get(t, s, ids[3])
				want.NextReplayAt = time.Time{}
				if diff := cmp.Diff(dlq.Letter{Item: want, Identity: dlq.IdentityOf(want)}, u.Letter); diff != "" {
					t.Errorf("-pushed +unjournaled:\n%s", diff)
				}
			}
			if len(seen) != len(all) {
				t.Errorf("%d of %d are different", len(seen), len(all))
			}
			if v, _, err := s.JournalLease(t.Context(), "mail", "x", 0); err != nil || v.Unjournaled != 249 {
				t.Errorf("%d are noted, %v; want 249: what is gone is forgotten", v.Unjournaled, err)
			}
			work(t, s)
			for range 2 {
				journaled(t, s, dlq.JournalDone{Written: ids[2:240]})
			}
			want := []string{"d002 at:2 parked=false held=true"}
			for i := 240; i < 250; i++ {
				want = append(want, fmt.Sprintf("d%03d at:%d", i, i))
			}
			wantUnjournaled(t, s, "written", want...)
			large := item("mail", "large")
			large.Message.Body = strings.Repeat("x", 400<<10)
			ids = nil
			for i := range 8 {
				large.DeliveryID = fmt.Sprint("large", i)
				ids = append(ids, add(t, s, at(large, "at:l")).ID)
			}
			if err := s.NoteUnjournaled(t.Context(), "mail", ids); err != nil {
				t.Fatal(err)
			}
			some, err = s.Unjournaled(t.Context(), "mail", 1000)
			if n := countLarge(some); err != nil || n == 0 || n > 4 {
				t.Errorf("Unjournaled returns %d of 400 KB, %v; want some, of about 1 MB", n, err)
			}
		},
	},
	{
		Name: "what waits is found by its identity",
		Rule: "Present finds a dead letter of each generation and content, any number of contents under one key, expired or not, and none that is gone or delivered",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(0))
			var of []dlq.Identity
			var want []dlq.Present
			push := func(it dlq.Item) dlq.Item {
				t.Helper()
				l := letter(t, it)
				stored := add(t, s, it)
				address := stored.Journal
				if address == "" {
					address = "@" + native(t, stored.ID)
				}
				of = append(of, l.Identity)
				want = append(want, dlq.Present{ID: stored.ID, Identity: l.Identity, Address: address})
				return stored
			}
			gone := func() { want[len(want)-1] = dlq.Present{} }
			for i := range 105 {
				for replays := range 2 {
					if replays > 0 && i > 3 {
						continue
					}
					it := item("mail", "many")
					it.Message.Body, it.Replays = fmt.Sprint(i), replays
					push(at(it, fmt.Sprintf("at:%d.%d", i, replays)))
				}
			}
			push(item("mail", "plain"))
			it := item("mail", "expired")
			it.ExpiresAt = time.Now().Add(-time.Hour)
			push(it)
			push(withReason(item("mail", "too late"), dlq.ReasonExpired))
			settleOne(t, s, push(item("mail", "parked")).ID, dlq.Settlement{Action: dlq.ActionPark})
			settleOne(t, s, push(item("mail", "kept")).ID, dlq.Settlement{Action: dlq.ActionKeep})
			gone()
			discard(t, s, push(item("mail", "gone")).ID)
			gone()
			of = append(of, dlq.Identity{PushKey: of[0].PushKey, Content: of[len(of)-1].Content}, dlq.IdentityOf(item("mail", "never")), of[0])
			want = append(want, dlq.Present{}, dlq.Present{}, want[0])
			if diff := cmp.Diff(want, presentOf(t, s, of...)); diff != "" {
				t.Errorf("Present (-want +got):\n%s", diff)
			}
			var waiting []dlq.Present
			for _, p := range want[:len(want)-3] {
				if p.ID != "" {
					waiting = append(waiting, p)
				}
			}
			for _, limit := range []int{0, 1000, 7} {
				var found []dlq.Present
				after := ""
				for calls := 0; ; calls++ {
					part, next, err := s.PresentAfter(t.Context(), "mail", after, limit)
					if err != nil || limit > 0 && len(part) > limit || calls > 300 {
						t.Fatalf("PresentAfter(%q, %d) = %d, %v", after, limit, len(part), err)
					}
					found = append(found, part...)
					if after = next; after == "" {
						break
					}
				}
				if diff := cmp.Diff(waiting, found); diff != "" {
					t.Errorf("PresentAfter, %d at a time (-want +got):\n%s", limit, diff)
				}
			}
		},
	},
	{
		Name: "what the journal has comes back",
		Rule: "Return stores what is not there as it was pushed, under its identity and address, and due as it would be; repeated, it exists",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			work(t, s)
			it := item("mail", "a")
			it.At, it.Replays, it.Origin, it.Trace = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), 2, "mail~5-0", "trace"
			l := letter(t, at(it, "at:a"))
			id := returned(t, s, l, dlq.ReturnStored)
			want := l.Item
			want.ID, want.Journal = id, "at:a"
			if diff := cmp.Diff(want, get(t, s, id)); diff != "" {
				t.Errorf("-pushed +returned:\n%s", diff)
			}
			if again := returned(t, s, l, dlq.ReturnExists); again != id {
				t.Errorf("returned again: %s, want %s", again, id)
			}
			if pushed := add(t, s, at(it, "at:a")); pushed.ID != id {
				t.Errorf("pushed again: %s, want %s", pushed.ID, id)
			}
			wantEnded(t, s, "the same address")
			if got := claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "a"}); len(got) != 1 || got[0].Journal != "at:a" {
				t.Errorf("ClaimDelivery = %+v, want it", got)
			} else if err := s.Release(t.Context(), []dlq.Lease{got[0].Lease}); err != nil {
				t.Fatal(err)
			}
			later := item("mail", "later")
			later.NotBefore = time.Now().Add(time.Hour)
			if got := get(t, s, returned(t, s, letter(t, at(later, "at:l")), dlq.ReturnStored)); got.State(time.Now()) != dlq.StateScheduled {
				t.Errorf("%s is %s, want scheduled", got.DeliveryID, got.State(time.Now()))
			}
			if got := leasedDeliveries(claim(t, s, "mail", 10)); !slices.Equal(got, []string{"a"}) {
				t.Errorf("%q are due, want a", got)
			}
			if groups, err := s.Groups(t.Context(), "mail"); err != nil || len(groups) != 1 || groups[0].Count != 2 {
				t.Errorf("Groups = %+v, %v; want one of two", groups, err)
			}
			if sinks, err := s.Sinks(t.Context()); err != nil || !slices.Contains(sinks, "mail") {
				t.Errorf("Sinks = %q, %v", sinks, err)
			}
			if got := giveBack(t, s, 0); len(got) != 0 {
				t.Errorf("Return of nothing = %v", got)
			}
		},
	},
	{
		Name: "what comes back waits as it did",
		Rule: "what Return stores as parked or held, or for a reason that the schedule leaves alone, is not due, is counted so, and the journal need not be told",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			work(t, s)
			later := item("mail", "parked later")
			later.NotBefore = time.Now().Add(time.Hour)
			for _, tt := range []struct {
				it           dlq.Item
				parked, held bool
				want         dlq.State
			}{
				{item("mail", "parked"), true, false, dlq.StateParked},
				{item("mail", "held"), false, true, dlq.StateWaiting},
				{item("mail", "both"), true, true, dlq.StateParked},
				{later, true, false, dlq.StateParked},
				{withReason(item("mail", "terminal"), dlq.ReasonTerminal), false, false, dlq.StateWaiting},
				{withReason(item("mail", "terminal and held"), dlq.ReasonTerminal), false, true, dlq.StateWaiting},
				{withReason(item("mail", "expired"), dlq.ReasonExpired), true, false, dlq.StateExpired},
			} {
				it := at(tt.it, "at:x")
				it.Parked, it.Held = tt.parked, tt.held
				l := letter(t, it)
				if got := get(t, s, returned(t, s, l, dlq.ReturnStored)); got.State(time.Now()) != tt.want {
					t.Errorf("%s is %s, want %s: %+v", it.DeliveryID, got.State(time.Now()), tt.want, got)
				}
			}
			wantStats(t, s, "mail", counts{Depth: 7, Parked: 3})
			if got := claim(t, s, "mail", 10); len(got) != 0 {
				t.Errorf("%q are due, want none", leasedDeliveries(got))
			}
			wantUnjournaled(t, s, "returned")
			items, err := s.Items(t.Context(), "mail", 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, it := range items {
				if it.State(time.Now()) == dlq.StateExpired {
					continue
				}
				if err := s.Unpark(t.Context(), it.ID); err != nil {
					t.Fatal(err)
				}
			}
			wantStats(t, s, "mail", counts{Depth: 7, Remaining: 6})
			await.Millisecond()
			if got := claim(t, s, "mail", 10); len(got) != 6 {
				t.Errorf("%q were made due, want 6", leasedDeliveries(got))
			}
		},
	},
	{
		Name: "what must not come back",
		Rule: "Return changes nothing that is there, and stores neither what is over, nor what was canceled, nor more than there is room for; it never trims",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(5))
			work(t, s)
			l := func(id, address string) dlq.Letter { return letter(t, at(item("mail", id), address)) }
			there := add(t, s, at(item("mail", "there"), "at:1"))
			plain := add(t, s, item("mail", "plain"))
			it := item("mail", "expired")
			it.ExpiresAt = time.Now().Add(-time.Hour)
			expired := add(t, s, at(it, "at:2"))
			it.ExpiresAt = it.ExpiresAt.Add(time.Minute)
			for _, tt := range []struct {
				l    dlq.Letter
				want string
			}{{l("there", "at:1"), there.ID}, {l("there", "at:3"), there.ID}, {l("plain", "at:4"), plain.ID}, {letter(t, at(it, "at:2")), expired.ID}} {
				if got := returned(t, s, tt.l, dlq.ReturnExists); got != tt.want {
					t.Errorf("%s exists as %s, want %s", tt.l.Item.DeliveryID, got, tt.want)
				}
			}
			wantEnded(t, s, "there under another address", "at:3", "at:4")
			wantUnjournaled(t, s, "there under another address", "plain @"+native(t, plain.ID), "there at:1")
			// What was pushed without an address is at that of an object by its native id, too.
			object := "5/2026010203/" + native(t, plain.ID) + "-1:0"
			returned(t, s, l("plain", object), dlq.ReturnExists)
			returned(t, s, l("plain", "@"+native(t, plain.ID)), dlq.ReturnExists)
			wantEnded(t, s, "there under its address", "at:3", "at:4")
			ends := add(t, s, item("mail", "ends"))
			discard(t, s, ends.ID)
			returned(t, s, l("ends", "5/2026010203/"+native(t, ends.ID)+"-1:0"), dlq.ReturnEnded)
			returned(t, s, l("over", "at:3"), dlq.ReturnEnded)
			claimDelivery(t, s, dlq.DeliveryClaim{DeliveryID: "canceled", Note: time.Hour})
			returned(t, s, l("canceled", "at:5"), dlq.ReturnCanceled)
			replayed := item("mail", "canceled")
			replayed.Replays = 3
			returned(t, s, letter(t, at(replayed, "at:6")), dlq.ReturnCanceled)
			settleOne(t, s, add(t, s, at(item("mail", "kept"), "at:7")).ID, dlq.Settlement{Action: dlq.ActionKeep})
			returned(t, s, l("kept", "at:7"), dlq.ReturnEnded)
			wantStats(t, s, "mail", counts{Depth: 4, Remaining: 3, Kept: 1})

			got := giveBack(t, s, 0, l("f1", "at:8"), l("f2", "at:9"), l("f3", "at:10"), l("there", "at:1"), l("f1", "at:8"))
			want := []dlq.ReturnStatus{dlq.ReturnStored, dlq.ReturnStored, dlq.ReturnFull, dlq.ReturnExists, dlq.ReturnExists}
			for i, r := range got {
				if r.Status != want[i] || (r.ID == "") != (r.Status == dlq.ReturnFull) {
					t.Errorf("letter %d: %+v, want %s", i, r, want[i])
				}
			}
			if got := giveBack(t, s, 1, l("f3", "at:10"), l("f4", "at:11")); got[0].Status != dlq.ReturnStored || got[1].Status != dlq.ReturnFull {
				t.Errorf("Return, one over the cap = %+v, want stored, full", got)
			}
			wantStats(t, s, "mail", counts{Depth: 7, Remaining: 6, Kept: 1})
			if it := get(t, s, there.ID); it.Journal != "at:1" {
				t.Errorf("its address is %q now", it.Journal)
			}
		},
	},
	{
		Name: "many contents come back",
		Rule: "Return knows every content under a push key, beyond those that a repeated push knows",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(0))
			work(t, s)
			var letters []dlq.Letter
			for i := range 105 {
				it := item("mail", "many")
				it.Message.Body = fmt.Sprint(i)
				letters = append(letters, letter(t, at(it, fmt.Sprintf("at:%d", i))))
			}
			for _, want := range []dlq.ReturnStatus{dlq.ReturnStored, dlq.ReturnExists} {
				for part := range slices.Chunk(letters, 25) {
					for i, r := range giveBack(t, s, 0, part...) {
						if r.Status != want {
							t.Errorf("%s = %s, want %s", part[i].Item.Journal, r.Status, want)
						}
					}
				}
			}
			wantStats(t, s, "mail", counts{Depth: 105, Remaining: 105})
			wantEnded(t, s, "returned twice")
		},
	},
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
				if want := [][]int64{{0, 0, 1}, {0, 0, 0}}[round]; !slices.Equal(got, want) {
					t.Errorf("round %d: calls of Retire removed %v, want %v", round, got, want)
				}
			}
		},
	},
	{
		Name: "a journal of an unknown sink",
		Rule: "of a sink that never had a dead letter nothing is known, and there is nothing to do",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithJournal())
			wantEnded(t, s, "unknown")
			wantUnjournaled(t, s, "unknown")
			if found, next, err := s.PresentAfter(t.Context(), "mail", "", 10); len(found) != 0 || next != "" || err != nil {
				t.Errorf("PresentAfter = %v, %q, %v", found, next, err)
			}
			if n, more, err := s.Retire(t.Context(), "mail", time.Now()); n != 0 || more || err != nil {
				t.Errorf("Retire = %d, %t, %v", n, more, err)
			}
			if got := stats(t, s, "mail").Journal; !cmp.Equal(got, dlq.JournalView{}) {
				t.Errorf("Stats.Journal = %+v", got)
			}
		},
	},
	{
		Name: "what names nothing of a journal is refused",
		Rule: "bad sinks, tokens, ids, cursors, identities and letters are INVALID_ARGUMENT",
		Check: func(t *T, b Backend) {
			s, ctx := b.New(t.T), t.Context()
			good := letter(t, at(item("mail", "a"), "at:a"))
			bad := func(change func(*dlq.Letter)) dlq.Letter {
				l := good
				change(&l)
				return l
			}
			for what, call := range map[string]func() error{
				"lease, sink":  func() error { _, _, err := s.JournalLease(ctx, "{x}", "t", time.Minute); return err },
				"lease, token": func() error { _, _, err := s.JournalLease(ctx, "mail", "a b", time.Minute); return err },
				"save, sink":   func() error { return s.SaveJournal(ctx, "{x}", "t", dlq.JournalNotes{}) },
				"save, token":  func() error { return s.SaveJournal(ctx, "mail", "", dlq.JournalNotes{}) },
				"note, sink":   func() error { return s.NoteUnjournaled(ctx, "{x}", nil) },
				"note, id":     func() error { return s.NoteUnjournaled(ctx, "mail", []string{"mail~x"}) },
				"note, other":  func() error { return s.NoteUnjournaled(ctx, "mail", []string{"chat~1-0"}) },
				"note, bare":   func() error { return s.NoteUnjournaled(ctx, "mail", []string{"1-0"}) },
				"ended":        func() error { return s.NoteEnded(ctx, "{x}", nil) },
				"unjournaled":  func() error { _, err := s.Unjournaled(ctx, "{x}", 1); return err },
				"list":         func() error { _, _, err := s.Ended(ctx, "{x}", "", 1); return err },
				"are ended":    func() error { _, err := s.AreEnded(ctx, "{x}", nil); return err },
				"done, sink":   func() error { return s.Journaled(ctx, "{x}", "t", dlq.JournalDone{}) },
				"done, id":     func() error { return s.Journaled(ctx, "mail", "t", dlq.JournalDone{Written: []string{"x"}}) },
				"done, state": func() error {
					return s.Journaled(ctx, "mail", "t", dlq.JournalDone{States: []dlq.JournalState{{ID: "chat~1-0"}}})
				},
				"present, sink": func() error { _, err := s.Present(ctx, "{x}", nil); return err },
				"present, many": func() error { _, err := s.Present(ctx, "mail", make([]dlq.Identity, 1001)); return err },
				"present, key": func() error {
					_, err := s.Present(ctx, "mail", []dlq.Identity{{PushKey: "a b", Content: "x"}})
					return err
				},
				"after, sink":   func() error { _, _, err := s.PresentAfter(ctx, "{x}", "", 1); return err },
				"after, id":     func() error { _, _, err := s.PresentAfter(ctx, "mail", "mail~1-0", 1); return err },
				"retire":        func() error { _, _, err := s.Retire(ctx, "{x}", time.Now()); return err },
				"return, sink":  func() error { _, err := s.Return(ctx, "{x}", "t", 0, nil); return err },
				"return, many":  func() error { _, err := s.Return(ctx, "mail", "t", 0, make([]dlq.Letter, 26)); return err },
				"return, other": func() error { _, err := s.Return(ctx, "chat", "t", 0, []dlq.Letter{good}); return err },
				"letter, key":   bad(func(l *dlq.Letter) { l.PushKey = "a|b" }).Check,
				"letter, none":  bad(func(l *dlq.Letter) { l.PushKey = "" }).Check,
				"letter, print": bad(func(l *dlq.Letter) { l.Content = "a:b" }).Check,
				"letter, sink":  bad(func(l *dlq.Letter) { l.Item.Sink = "" }).Check,
				"letter, at":    bad(func(l *dlq.Letter) { l.Item.Journal = "" }).Check,
				"return, letter": func() error {
					_, err := s.Return(ctx, "mail", "t", 0, []dlq.Letter{bad(func(l *dlq.Letter) { l.Content = "" })})
					return err
				},
			} {
				wantCode(t, what, call(), fault.CodeInvalidArgument)
			}
			if err := good.Check(); err != nil {
				t.Errorf("Check of a good letter: %v", err)
			}
		},
	},
	{
		Name:    "a journal of what others wrote",
		Rule:    "entries that others wrote are noted as unjournaled when a queue with a journal is looked at, have an identity of their own each, are found by it, and come back under it; unreadable ones too",
		Foreign: true,
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithJournal(), dlq.WithSinks(func() []string { return []string{"mail"} }))
			work(t, s)
			for range 2 { // alike, without an id
				b.Append(t.T, s, "mail", "item", `{"sink":"mail","at":"2025-03-04T05:06:07Z","message":{"body":"b"},"last_error":"x"}`)
			}
			b.Append(t.T, s, "mail", "item", `{"no json`)
			b.Append(t.T, s, "mail", "other", "field")
			add(t, s, at(item("mail", "ours"), "at:ours"))
			stats(t, s, "mail")
			all, err := s.Unjournaled(t.Context(), "mail", 100)
			if err != nil || len(all) != 4 {
				t.Fatalf("Unjournaled = %+v, %v; want the 4 of others", all, err)
			}
			slices.SortFunc(all, func(a, b dlq.Unjournaled) int {
				return dlq.CompareNative(native(t, a.Item.ID), native(t, b.Item.ID))
			})
			var of []dlq.Identity
			var written []string
			for _, u := range all {
				if u.Item.Journal != "@"+native(t, u.Item.ID) || u.PushKey != u.Item.Journal {
					t.Errorf("address %s, push key %s of %s", u.Item.Journal, u.PushKey, u.Item.ID)
				}
				of, written = append(of, u.Identity), append(written, u.Item.ID)
			}
			journaled(t, s, dlq.JournalDone{Written: written})
			found := presentOf(t, s, of...)
			listed, _, err := s.PresentAfter(t.Context(), "mail", "", 4)
			if err != nil {
				t.Fatal(err)
			}
			for i, u := range all {
				want := dlq.Present{ID: u.Item.ID, Identity: u.Identity, Address: u.Item.Journal}
				if found[i] != want || listed[i] != want {
					t.Errorf("Present = %+v, PresentAfter = %+v; want %+v", found[i], listed[i], want)
				}
				if got := returned(t, s, u.Letter, dlq.ReturnExists); got != u.Item.ID {
					t.Errorf("it exists as %s, want %s", got, u.Item.ID)
				}
			}
			wantStats(t, s, "mail", counts{Depth: 5, Remaining: 5})
			for _, u := range all {
				before := get(t, s, u.Item.ID)
				discard(t, s, u.Item.ID)
				returned(t, s, u.Letter, dlq.ReturnEnded)
				journaled(t, s, dlq.JournalDone{Ended: []string{u.Item.Journal}})
				id := returned(t, s, u.Letter, dlq.ReturnStored)
				after := get(t, s, id)
				if after.Journal != u.Item.Journal || after.Message.Body != before.Message.Body || after.Raw != before.Raw || (after.DecodeError == "") != (before.DecodeError == "") {
					t.Errorf("came back as %+v, was %+v", after, before)
				}
				if got := presentOf(t, s, u.Identity)[0]; got.ID != id || got.Address != u.Item.Journal {
					t.Errorf("Present = %+v, want %s", got, id)
				}
				if got := returned(t, s, u.Letter, dlq.ReturnExists); got != id {
					t.Errorf("it exists as %s, want %s", got, id)
				}
			}
			wantEnded(t, s, "all waits")
			wantUnjournaled(t, s, "all is written")
		},
	},
}

func sorted(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return slices.Compact(all)
}

func countLarge(all []dlq.Unjournaled) (n int) {
	for _, u := range all {
		if strings.HasPrefix(u.Item.DeliveryID, "large") {
			n++
		}
	}
	return n
}
