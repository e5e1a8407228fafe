package dlqtest

import (
	"fmt"
	"slices"
	"time"

	"backstop/internal/await"
	"backstop/lib/dlq"

	"github.com/google/go-cmp/cmp"
)

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

// comebackCases are about what a journal has and the queue may lack.
var comebackCases = []Case{
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
}
