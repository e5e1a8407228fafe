package dlqtest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

var pushCases = []Case{
	{
		Name: "a push keeps everything and assigns the id",
		Rule: "what was pushed is returned by Add, Get and Items with every field as it was, and a public id",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			failed := time.Date(1999, 3, 4, 5, 6, 7, 891e6, time.UTC)
			in := dlq.Item{
				ID: "ignored", DeliveryID: "order:1", Sink: "mail", At: failed.Add(time.Second),
				Recipient: json.RawMessage(`{"address":"a@example.org"}`),
				Message: sinks.Message{
					ID: "order:1", Subject: "Größe <b>&</b>", Body: "<p>\"quoted\"\u2028 and \x00</p>",
					Metadata: map[string]string{"X-A": "1"},
				},
				Attempts: 3, LastError: "HTTP 503: später", Reason: dlq.ReasonDeadline, FirstFailedAt: failed,
				NotBefore: failed.Add(time.Minute), Trace: "00-aa-bb-01",
				Parked: true, Held: true, DeliveredAt: failed, Raw: "x", DecodeError: "x",
				History: []dlq.ReplayRecord{{At: failed, Error: "not the caller's to set"}},
			}
			stored := add(t, s, in)
			id, err := dlq.ParseID(stored.ID)
			if err != nil || id.Sink != "mail" {
				t.Fatalf("id %q: %v, want a public id of sink mail", stored.ID, err)
			}
			want := in
			want.ID = stored.ID
			want.Parked, want.Held, want.DeliveredAt, want.Raw, want.DecodeError, want.History = false, false, time.Time{}, "", "", nil
			if diff := cmp.Diff(want, stored); diff != "" {
				t.Errorf("Add (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(want, get(t, s, stored.ID)); diff != "" {
				t.Errorf("Get (-want +got):\n%s", diff)
			}
			items, err := s.Items(t.Context(), "mail", 0)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]dlq.Item{want}, items); diff != "" {
				t.Errorf("Items (-want +got):\n%s", diff)
			}
		},
	},
	{
		Name: "a delivery is found by its id",
		Rule: "Find leads from a delivery to the entry of its first failure, as long as it is there",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			_, err := s.Find(t.Context(), "mail", "d1", "")
			if fault.CodeOf(err) != fault.CodeDLQNotFound {
				t.Errorf("before the push: %v, want SINK_DLQ_NOT_FOUND", err)
			}
			stored := add(t, s, dlq.Item{Sink: "mail", DeliveryID: "d1"})
			add(t, s, dlq.Item{Sink: "chat", DeliveryID: "d1"})
			add(t, s, dlq.Item{Sink: "mail", DeliveryID: "d1", Replays: 1, Origin: stored.ID})
			if it, err := s.Find(t.Context(), "mail", "d1", ""); err != nil || it.ID != stored.ID {
				t.Errorf("found %q, %v; want %q", it.ID, err, stored.ID)
			}
			if err := s.Discard(t.Context(), stored.ID); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Find(t.Context(), "mail", "d1", ""); fault.CodeOf(err) != fault.CodeDLQNotFound {
				t.Errorf("after a discard: %v, want SINK_DLQ_NOT_FOUND", err)
			}
		},
	},
	{
		Name: "missing time and delivery id are filled in",
		Rule: "At is the store's clock when zero; the delivery id is the message's, or a random one",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			before := time.Now().Add(-time.Minute)
			it := add(t, s, dlq.Item{Sink: "mail", Message: sinks.Message{ID: "m1", Body: "b"}})
			if it.DeliveryID != "m1" {
				t.Errorf("delivery id %q, want the message's", it.DeliveryID)
			}
			if it.At.Before(before) || it.At.After(time.Now().Add(time.Minute)) || it.At.Location() != time.UTC {
				t.Errorf("at %s, want now in UTC", it.At)
			}
			one := add(t, s, dlq.Item{Sink: "mail", Message: sinks.Message{Body: "b"}})
			two := add(t, s, dlq.Item{Sink: "mail", Message: sinks.Message{Body: "b"}})
			if one.DeliveryID == "" || one.DeliveryID == two.DeliveryID || one.ID == two.ID {
				t.Errorf("two messages without an id became %q (%s) and %q (%s), want two items", one.ID, one.DeliveryID, two.ID, two.DeliveryID)
			}
		},
	},
	{
		Name: "a repeated push is stored once",
		Rule: "the same content of a delivery, in the same generation and of the same origin, is one dead letter; others are not",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			first := add(t, s, item("mail", "a"))
			if again := add(t, s, item("mail", "a")); again.ID != first.ID {
				t.Errorf("repeated push got id %s, want %s", again.ID, first.ID)
			}
			if err := s.Push(t.Context(), item("mail", "a")); err != nil {
				t.Errorf("repeated Push: %v", err)
			}
			next := item("mail", "a")
			next.Replays = 1
			if it := add(t, s, next); it.ID == first.ID || it.Replays != 1 {
				t.Errorf("next generation got id %s and %d replays, want an item of its own with 1", it.ID, it.Replays)
			}
			next.Origin = first.ID
			if it := add(t, s, next); it.Origin != first.ID {
				t.Errorf("origin %q, want %q", it.Origin, first.ID)
			}
			add(t, s, item("chat", "a"))
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 3})
			wantStats(t, s, "chat", counts{Depth: 1, Remaining: 1})
		},
	},
	{
		Name: "what was discarded can be pushed again",
		Rule: "a push is taken for a repetition only while the entry of the first exists",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			first := add(t, s, item("mail", "a"))
			if err := s.Discard(t.Context(), first.ID); err != nil {
				t.Fatal(err)
			}
			if again := add(t, s, item("mail", "a")); again.ID == first.ID {
				t.Errorf("push after the discard got the old id %s", again.ID)
			}
			wantStats(t, s, "mail", counts{Depth: 1, Remaining: 1})
		},
	},
	{
		Name: "what was delivered and kept can fail again",
		Rule: "a kept, delivered item does not stand for a new failure of its delivery, and its removal leaves the new item alone",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			kept := add(t, s, item("mail", "a"))
			settleOne(t, s, kept.ID, dlq.Settlement{Action: dlq.ActionKeep})
			again := add(t, s, item("mail", "a"))
			if again.ID == kept.ID {
				t.Fatal("the new failure was taken for the delivered one")
			}
			if err := s.Discard(t.Context(), kept.ID); err != nil {
				t.Fatal(err)
			}
			if third := add(t, s, item("mail", "a")); third.ID != again.ID {
				t.Errorf("repeated push got id %s, want %s", third.ID, again.ID)
			}
		},
	},
	{
		Name: "a batch answers for each item",
		Rule: "AddBatch stores what it can: items of several sinks, repeated ones, bad ones, in order",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			batch := []dlq.Item{item("mail", "a"), item("No Such Name", "b"), item("chat", "c"), item("mail", "a"), item("mail", "e")}
			stored, errs := s.AddBatch(t.Context(), batch)
			for i := range batch {
				if i == 1 {
					wantCode(t, "bad name", errs[i], fault.CodeInvalidArgument)
					continue
				}
				if errs[i] != nil || stored[i].DeliveryID != batch[i].DeliveryID {
					t.Errorf("item %d = %s, %v; want %s", i, stored[i].DeliveryID, errs[i], batch[i].DeliveryID)
				}
			}
			if stored[0].ID != stored[3].ID {
				t.Errorf("the repeated item got id %s, want %s", stored[3].ID, stored[0].ID)
			}
			if n, err := s.Count(t.Context(), ""); err != nil || n != 3 {
				t.Errorf("Count = %d, %v; want 3", n, err)
			}
			if stored, errs := s.AddBatch(t.Context(), nil); len(stored) != 0 || len(errs) != 0 {
				t.Errorf("empty batch = %v, %v", stored, errs)
			}
		},
	},
	{
		Name: "large batches and large items",
		Rule: "neither the number nor the size of items in a batch loses any",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			batch := make([]dlq.Item, 120)
			for i := range batch {
				batch[i] = item("mail", fmt.Sprint("n", i))
				if i%60 == 0 {
					batch[i].Message.Body = strings.Repeat("<", 256<<10)
				}
			}
			_, errs := s.AddBatch(t.Context(), batch)
			if i := slices.IndexFunc(errs, func(err error) bool { return err != nil }); i >= 0 {
				t.Fatalf("item %d: %v", i, errs[i])
			}
			wantStats(t, s, "mail", counts{Depth: 120, Remaining: 120})
		},
	},
	{
		Name: "hostile texts are kept",
		Rule: "no content of an item keeps it from being stored: invalid UTF-8, a recipient that is no JSON, unknown reasons",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			it := item("mail", "a\xff|{}\n")
			it.Recipient = json.RawMessage(`{"address": broken`)
			it.Reason, it.LastError = "no|such\treason", strings.Repeat("x\xff|", 5000)
			stored := add(t, s, it)
			got := get(t, s, stored.ID)
			if got.DecodeError != "" || string(got.Recipient) != `"{\"address\": broken"` {
				t.Errorf("stored as %+v", got)
			}
			if again := add(t, s, it); again.ID != stored.ID {
				t.Errorf("repeated push got id %s, want %s", again.ID, stored.ID)
			}
		},
	},
	{
		Name: "a canceled context stores nothing",
		Rule: "calls under an ended context fail with SINK_DLQ_UNAVAILABLE, the cause kept",
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			err := s.Push(ctx, item("mail", "a"))
			wantCode(t, "Push", err, fault.CodeDLQUnavailable)
			_, err = s.Claim(ctx, dlq.Claim{Sink: "mail", TTL: time.Minute})
			wantCode(t, "Claim", err, fault.CodeDLQUnavailable)
			n, err := s.Count(ctx, "")
			wantCode(t, "Count", err, fault.CodeDLQUnavailable)
			if n != -1 {
				t.Errorf("Count = %d, want -1", n)
			}
			wantStats(t, s, "mail", counts{})
		},
	},
}

var overflowCases = []Case{
	{
		Name: "reject refuses what does not fit",
		Rule: "a full queue answers SINK_DLQ_OVERFLOW and stores nothing; the same delivery is stored once there is room",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(3), dlq.WithOverflow(dlq.OverflowReject))
			all := fill(t, s, "mail", 3)
			_, err := s.Add(t.Context(), item("mail", "late"))
			wantCode(t, "Add to a full queue", err, fault.CodeDLQOverflow)
			if again := add(t, s, item("mail", "d1")); again.ID != all[1].ID {
				t.Errorf("repeated push to a full queue got id %s, want %s", again.ID, all[1].ID)
			}
			add(t, s, item("chat", "other sinks are not full"))
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 3})
			if err := s.Discard(t.Context(), all[0].ID); err != nil {
				t.Fatal(err)
			}
			add(t, s, item("mail", "late"))
			add(t, s, item("mail", "late"))
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 3})

			stored, errs := s.AddBatch(t.Context(), []dlq.Item{item("mail", "late"), item("mail", "later")})
			if errs[0] != nil || stored[0].ID == "" {
				t.Errorf("repeated item of a batch: %v", errs[0])
			}
			wantCode(t, "new item of a batch", errs[1], fault.CodeDLQOverflow)
		},
	},
	{
		Name: "kept items do not fill the queue",
		Rule: "delivered items that were kept are not counted against the cap",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(2), dlq.WithOverflow(dlq.OverflowReject))
			all := fill(t, s, "mail", 2)
			settleOne(t, s, all[0].ID, dlq.Settlement{Action: dlq.ActionKeep})
			add(t, s, item("mail", "x"))
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 2, Kept: 1})
			_, err := s.Add(t.Context(), item("mail", "y"))
			wantCode(t, "Add", err, fault.CodeDLQOverflow)
		},
	},
	{
		Name: "kept items have a bound of their own",
		Rule: "as many delivered items are kept as WithMaxKept says, by default as many as the cap; the oldest go first, counted as trimmed and reported; leased ones never",
		Check: func(t *T, b Backend) {
			for _, overflow := range []dlq.Overflow{dlq.OverflowReject, dlq.OverflowTrim} {
				for _, opts := range [][]dlq.Option{
					{dlq.WithMaxLen(3)},
					{dlq.WithMaxLen(100), dlq.WithMaxKept(3)},
				} {
					reported := 0
					s := b.New(t.T, append(opts, dlq.WithOverflow(overflow), dlq.WithOnTrim(func(_ string, n int) { reported += n }))...)
					var kept []string
					keep := func(id string) {
						t.Helper()
						it := add(t, s, item("mail", id))
						settleOne(t, s, it.ID, dlq.Settlement{Action: dlq.ActionKeep, Charge: true})
						kept = append(kept, it.ID)
					}
					keep("a")
					held := claimAs(t, s, dlq.Claim{Sink: "mail", IDs: kept, Force: true, TTL: time.Minute})
					if len(held) != 1 {
						t.Fatal("not leased")
					}
					for i := range 5 {
						keep(fmt.Sprint("k", i))
					}
					st := stats(t, s, "mail")
					if st.Kept != 3 || st.Depth != 3 || st.Trimmed != 3 || reported != 3 {
						t.Errorf("%s: %+v, %d reported; want 3 kept, 3 trimmed", overflow, st, reported)
					}
					for i, id := range kept {
						_, err := s.Get(t.Context(), id)
						if there := i == 0 || i > 3; (err == nil) != there {
							t.Errorf("%s: kept item %d: %v, want it there: %v", overflow, i, err, there)
						}
					}
				}
			}
			s := b.New(t.T, dlq.WithMaxLen(1), dlq.WithMaxKept(0), dlq.WithOverflow(dlq.OverflowReject))
			for i := range 5 {
				settleOne(t, s, add(t, s, item("mail", fmt.Sprint(i))).ID, dlq.Settlement{Action: dlq.ActionKeep})
			}
			wantStats(t, s, "mail", counts{Depth: 5, Kept: 5})
		},
	},
	{
		Name: "trim removes the oldest, kept ones first, leased ones never",
		Rule: "what overflow removes goes with all that was kept about it, is counted, and is reported",
		Check: func(t *T, b Backend) {
			var reported []string
			s := b.New(t.T, dlq.WithMaxLen(4), dlq.WithOnTrim(func(sink string, n int) {
				reported = append(reported, fmt.Sprintf("%s:%d", sink, n))
			}))
			all := fill(t, s, "mail", 4)
			settleOne(t, s, all[2].ID, dlq.Settlement{Action: dlq.ActionKeep})
			leased := claimIDs(t, s, "mail", all[0].ID)
			if len(leased) != 1 {
				t.Fatal("not leased")
			}
			add(t, s, item("mail", "e")) // removes d2, kept
			_, err := s.Get(t.Context(), all[2].ID)
			wantCode(t, "Get of the kept one", err, fault.CodeDLQNotFound)
			get(t, s, all[1].ID)
			add(t, s, item("mail", "f")) // removes d1: d0 is leased
			items, err := s.Items(t.Context(), "mail", 0)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"f", "e", "d3", "d0"}, deliveries(items)); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff([]string{"mail:1", "mail:1"}, reported); diff != "" {
				t.Errorf("reported (-want +got):\n%s", diff)
			}
			wantStats(t, s, "mail", counts{Depth: 4, Remaining: 4, Trimmed: 2})
			if got := settle(t, s, dlq.Settlement{Lease: leased[0].Lease, Action: dlq.ActionDiscard}); got[0] != dlq.SettleApplied {
				t.Errorf("Settle of the leased item = %s, want applied", got[0])
			}
			if got := leasedDeliveries(claim(t, s, "mail", 10)); !slices.Equal(got, []string{"d3", "e", "f"}) {
				t.Errorf("Claim after the trim = %v, want d3 e f", got)
			}
			add(t, s, item("mail", "d1"))
			wantStats(t, s, "mail", counts{Depth: 4, Remaining: 4, Trimmed: 2})
		},
	},
	{
		Name: "trim spares a kept item that is replayed again",
		Rule: "leased items are never removed by overflow, kept or not",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(3))
			all := fill(t, s, "mail", 3)
			settleOne(t, s, all[1].ID, dlq.Settlement{Action: dlq.ActionKeep})
			l := claimAs(t, s, dlq.Claim{Sink: "mail", IDs: []string{all[1].ID}, Force: true, TTL: time.Minute})
			add(t, s, item("mail", "x"))
			if _, err := s.Get(t.Context(), all[1].ID); err != nil || len(l) != 1 {
				t.Errorf("the leased item is gone: %v", err)
			}
			_, err := s.Get(t.Context(), all[0].ID)
			wantCode(t, "Get of the oldest", err, fault.CodeDLQNotFound)
		},
	},
	{
		Name: "trim makes room in a batch and admits when all is leased",
		Rule: "a trimming push is never refused; only the held ones can make the queue longer than its cap",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(3))
			fill(t, s, "mail", 5)
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 3, Trimmed: 2})
			if got := len(claim(t, s, "mail", 3)); got != 3 {
				t.Fatalf("leased %d, want 3", got)
			}
			add(t, s, item("mail", "x"))
			wantStats(t, s, "mail", counts{Depth: 4, Remaining: 4, Trimmed: 2})
			add(t, s, item("mail", "y"))
			wantStats(t, s, "mail", counts{Depth: 4, Remaining: 4, Trimmed: 3})
		},
	},
	{
		Name: "trim of parked, held and never-due items keeps the counters true",
		Rule: "Due, Kept and Parked are what a look at every item would count, whatever was removed",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(4))
			never := add(t, s, withReason(item("mail", "never"), dlq.ReasonTerminal))
			parked := add(t, s, item("mail", "parked"))
			held := add(t, s, item("mail", "held"))
			add(t, s, item("mail", "fresh"))
			settleOne(t, s, parked.ID, dlq.Settlement{Action: dlq.ActionPark, Error: "x"})
			settleOne(t, s, held.ID, dlq.Settlement{Action: dlq.ActionHold, Error: "x"})
			wantStats(t, s, "mail", counts{Depth: 4, Remaining: 1, Parked: 1})
			_ = never
			for i, want := range []counts{
				{Depth: 4, Remaining: 2, Parked: 1, Trimmed: 1},
				{Depth: 4, Remaining: 3, Trimmed: 2},
				{Depth: 4, Remaining: 4, Trimmed: 3},
				{Depth: 4, Remaining: 4, Trimmed: 4},
			} {
				add(t, s, item("mail", fmt.Sprint("n", i)))
				wantStats(t, s, "mail", want)
			}
			groups, err := s.Groups(t.Context(), "mail")
			if err != nil || len(groups) != 1 || groups[0].Count != 4 || groups[0].Reason != dlq.ReasonExhausted {
				t.Errorf("Groups = %v, %v; want one of 4", groups, err)
			}
		},
	},
	{
		Name: "no cap",
		Rule: "WithMaxLen(0) and below bound nothing",
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithMaxLen(-1), dlq.WithOverflow(dlq.OverflowReject))
			fill(t, s, "mail", 30)
			wantStats(t, s, "mail", counts{Depth: 30, Remaining: 30})
		},
	},
}
