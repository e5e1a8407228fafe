package dlqtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// contents are dead letters of one delivery that differ in their content alone.
func contents(sink, id string) map[string]dlq.Item {
	all := map[string]dlq.Item{}
	for name, change := range map[string]func(*dlq.Item){
		"as it is":         func(*dlq.Item) {},
		"other body":       func(it *dlq.Item) { it.Message.Body = "you owe 9999" },
		"invalid body":     func(it *dlq.Item) { it.Message.Body = "\xff" },
		"invalid body too": func(it *dlq.Item) { it.Message.Body = "\xfe" },
		"other subject":    func(it *dlq.Item) { it.Message.Subject = "other" },
		"metadata":         func(it *dlq.Item) { it.Message.Metadata = map[string]string{"k": "v"} },
		"other metadata":   func(it *dlq.Item) { it.Message.Metadata = map[string]string{"k": "w"} },
		"recipient":        func(it *dlq.Item) { it.Recipient = json.RawMessage(`{"id":9007199254740992}`) },
		"other recipient":  func(it *dlq.Item) { it.Recipient = json.RawMessage(`{"id":9007199254740993}`) },
	} {
		it := item(sink, id)
		change(&it)
		all[name] = it
	}
	return all
}

func fingerprint(it dlq.Item) string {
	return dlq.ContentFingerprint(it.Recipient, it.Message.Subject, it.Message.Body, it.Message.Metadata)
}

// wantFound checks what Find says; id is empty for nothing.
func wantFound(t *T, s dlq.Store, what, sink, delivery, fingerprint, id string) {
	t.Helper()
	it, err := s.Find(t.Context(), sink, delivery, fingerprint)
	switch {
	case id == "":
		wantCode(t, what+": Find", err, fault.CodeDLQNotFound)
	case err != nil || it.ID != id:
		t.Errorf("%s: Find = %q, %v; want %s", what, it.ID, err, id)
	}
}

func discard(t *T, s dlq.Store, id string) {
	t.Helper()
	if err := s.Discard(t.Context(), id); err != nil {
		t.Fatalf("Discard(%s): %v", id, err)
	}
}

var contentCases = []Case{
	{
		Name: "other content under a known id is a dead letter of its own",
		Rule: "each content of a delivery is stored once, is found by its fingerprint, and goes alone",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			all, ids := contents("mail", "a"), map[string]string{}
			for name, it := range all {
				wantFound(t, s, name+" before its push", "mail", "a", fingerprint(it), "")
				ids[name] = add(t, s, it).ID
				wantFound(t, s, "the newest", "mail", "a", "", ids[name])
			}
			for name, it := range all {
				again := it // what does not belong to the content
				again.LastError, again.Attempts, again.At, again.Trace = "another", 1, time.Now(), "t"
				if got := add(t, s, again).ID; got != ids[name] {
					t.Errorf("%s again got id %s, want %s", name, got, ids[name])
				}
				if got := get(t, s, ids[name]); fingerprint(got) != fingerprint(it) && !strings.HasPrefix(name, "invalid") {
					t.Errorf("%s was stored as %+v", name, got)
				}
			}
			n := int64(len(all))
			wantStats(t, s, "mail", counts{Depth: n, Remaining: n})
			for name, it := range all {
				discard(t, s, ids[name])
				delete(ids, name)
				wantFound(t, s, name+" after its discard", "mail", "a", fingerprint(it), "")
				for other, id := range ids {
					wantFound(t, s, other, "mail", "a", fingerprint(all[other]), id)
				}
			}
			wantFound(t, s, "any", "mail", "a", "", "")
			wantStats(t, s, "mail", counts{})
		},
	},
	{
		Name: "several contents of one id in a batch",
		Rule: "one AddBatch call keeps each content of an id once, and answers each item with its own entry",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			var batch []dlq.Item
			for _, body := range []string{"ONE", "TWO", "ONE", "THREE", "TWO", "THREE", "ONE"} {
				it := item("mail", "a")
				it.Message.Body = body
				batch = append(batch, it)
			}
			for round := range 2 {
				stored, errs := s.AddBatch(t.Context(), batch)
				for i, it := range stored {
					if errs[i] != nil {
						t.Fatalf("round %d, item %d: %v", round, i, errs[i])
					}
					if got := get(t, s, it.ID).Message.Body; got != batch[i].Message.Body || it.Message.Body != got {
						t.Errorf("round %d, item %d: the entry's body is %q, want %q", round, i, got, batch[i].Message.Body)
					}
				}
			}
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 3})
		},
	},
	{
		Name: "what is no longer there is stored anew",
		Rule: "after a discard, a settlement, a trim, or once it is delivered and kept, the same content is a new dead letter; the others of its id are what they were",
		Check: func(t *T, b Backend) {
			other := item("mail", "a")
			other.Message.Body = "other"
			for name, end := range map[string]func(s dlq.Store, id string){
				"discard":  func(s dlq.Store, id string) { discard(t, s, id) },
				"replayed": func(s dlq.Store, id string) { settleOne(t, s, id, dlq.Settlement{Action: dlq.ActionDiscard}) },
				"dropped":  func(s dlq.Store, id string) { settleOne(t, s, id, dlq.Settlement{Action: dlq.ActionDrop}) },
				"kept":     func(s dlq.Store, id string) { settleOne(t, s, id, dlq.Settlement{Action: dlq.ActionKeep}) },
			} {
				for _, firstEnds := range []bool{true, false} {
					s := b.New(t.T)
					one, two := item("mail", "a"), other
					if !firstEnds {
						one, two = two, one
					}
					first := add(t, s, item("mail", "a"))
					second := add(t, s, other)
					ends, stays := first.ID, second.ID
					if !firstEnds {
						ends, stays = stays, ends
					}
					end(s, ends)
					wantFound(t, s, name, "mail", "a", fingerprint(one), "")
					wantFound(t, s, name+": the other", "mail", "a", fingerprint(two), stays)
					wantFound(t, s, name+": any", "mail", "a", "", stays)
					if got := add(t, s, one).ID; got == ends {
						t.Errorf("%s: the new failure was taken for what had ended", name)
					}
					if got := add(t, s, two).ID; got != stays {
						t.Errorf("%s: the other content got id %s, want %s", name, got, stays)
					}
				}
			}
			s := b.New(t.T, dlq.WithMaxLen(2))
			first, second := add(t, s, item("mail", "a")), add(t, s, other)
			third := item("mail", "a")
			third.Message.Body = "third"
			add(t, s, third) // trims the first
			wantFound(t, s, "trimmed", "mail", "a", fingerprint(item("mail", "a")), "")
			wantFound(t, s, "left", "mail", "a", fingerprint(other), second.ID)
			if got := add(t, s, item("mail", "a")).ID; got == first.ID { // trims the second
				t.Errorf("what was trimmed was taken for stored")
			}
			items, err := s.Items(t.Context(), "mail", 0)
			if err != nil {
				t.Fatal(err)
			}
			var bodies []string
			for _, it := range items {
				bodies = append(bodies, it.Message.Body)
			}
			if diff := cmp.Diff([]string{"b a", "third"}, bodies); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
		},
	},
	{
		Name: "a full queue does not take other content for what it has",
		Rule: "at the cap, content that is stored is answered with its entry, other content of the same id is refused, also in one batch",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(2), dlq.WithOverflow(dlq.OverflowReject))
			other := item("mail", "a")
			other.Message.Body = "other"
			third := item("mail", "a")
			third.Message.Body = "third"
			stored, errs := s.AddBatch(t.Context(), []dlq.Item{item("mail", "a"), other, third, other, item("mail", "a")})
			for i, it := range stored {
				if i == 2 {
					wantCode(t, "the third content", errs[i], fault.CodeDLQOverflow)
				} else if errs[i] != nil || get(t, s, it.ID).Message.Body != it.Message.Body {
					t.Errorf("item %d = %+v, %v", i, it, errs[i])
				}
			}
			_, err := s.Add(t.Context(), third)
			wantCode(t, "the third content again", err, fault.CodeDLQOverflow)
			wantFound(t, s, "the third content", "mail", "a", fingerprint(third), "")
			wantStats(t, s, "mail", counts{Depth: 2, Remaining: 2})
		},
	},
	{
		Name: "many contents under one id",
		Rule: "an id that is used for everything loses nothing; the newest contents are known again",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(0))
			var batch []dlq.Item
			for i := range 150 {
				it := item("mail", "a")
				it.Message.Body = fmt.Sprint(i)
				batch = append(batch, it)
			}
			stored, errs := s.AddBatch(t.Context(), batch)
			if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
				t.Fatal(errs[i])
			}
			wantStats(t, s, "mail", counts{Depth: 150, Remaining: 150})
			for i := 60; i < 150; i++ {
				if got := add(t, s, batch[i]).ID; got != stored[i].ID {
					t.Fatalf("content %d again got id %s, want %s", i, got, stored[i].ID)
				}
			}
			for _, l := range claimIDs(t, s, "mail", func() (ids []string) {
				for _, it := range stored {
					ids = append(ids, it.ID)
				}
				return ids
			}()...) {
				settle(t, s, dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDiscard})
			}
			wantStats(t, s, "mail", counts{})
			wantFound(t, s, "any", "mail", "a", "", "")
		},
	},
}
