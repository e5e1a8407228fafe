package dlqtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"backstop/internal/await"
	"backstop/lib/dlq"
	"backstop/lib/fault"

	"github.com/google/go-cmp/cmp"
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
