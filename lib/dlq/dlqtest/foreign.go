package dlqtest

import (
	"context"
	"time"

	"github.com/google/go-cmp/cmp"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

var foreignCases = []Case{
	{
		Name:    "entries written by others",
		Rule:    "entries with only the field item, keys capitalized or not, list, count, filter, replay and discard, and the schedule adopts them in their turn",
		Foreign: true,
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithSinks(func() []string { return []string{"mail"} }))
			b.Append(t.T, s, "mail", "item", `{"sink":"mail","at":"2025-03-04T05:06:07Z","recipient":null,"message":{"id":"a","subject":"s","body":"b"},"attempts":5,"last_error":"HTTP 503"}`)
			add(t, s, item("mail", "ours"))
			b.Append(t.T, s, "mail", "item", `{"Sink":"mail","At":"2025-03-04T05:06:07+02:00","Recipient":{"Address":"x@example.org"},"Message":{"ID":"b","Subject":"s","Body":"b","Metadata":{"k":"v"}},"Attempts":3,"LastError":"capital error"}`)
			items, err := s.Items(t.Context(), "", 0)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{"b", "ours", "a"}, deliveries(items)); diff != "" {
				t.Fatalf("Items (-want +got):\n%s", diff)
			}
			got := items[0]
			if got.Attempts != 3 || got.LastError != "capital error" || got.Message.Metadata["k"] != "v" ||
				!got.At.Equal(time.Date(2025, 3, 4, 3, 6, 7, 0, time.UTC)) || got.DecodeError != "" || !got.State(time.Now()).Scheduled() {
				t.Errorf("read as %+v", got)
			}
			if n, err := s.Count(t.Context(), ""); err != nil || n != 3 {
				t.Errorf("Count = %d, %v", n, err)
			}
			wantStats(t, s, "mail", counts{Depth: 3, Remaining: 3})
			p, err := s.Page(t.Context(), dlq.Query{Q: "CAPITAL", DeliveryID: "b"})
			if err != nil || len(p.Items) != 1 {
				t.Errorf("filtered page = %d items, %v; want 1", len(p.Items), err)
			}
			groups, err := s.Groups(t.Context(), "mail")
			want := dlq.Group{Sink: "mail", Fingerprint: dlq.FingerprintOther, Count: 2}
			if err != nil || len(groups) != 2 || groups[0] != want {
				t.Errorf("Groups = %+v, %v; want %+v first", groups, err, want)
			}
			l := claim(t, s, "mail", 10)
			if diff := cmp.Diff([]string{"a", "ours", "b"}, leasedDeliveries(l)); diff != "" {
				t.Fatalf("Claim (-want +got):\n%s", diff)
			}
			settle(
				t, s,
				dlq.Settlement{Lease: l[0].Lease, Action: dlq.ActionRetry, Charge: true, Error: "no"},
				dlq.Settlement{Lease: l[1].Lease, Action: dlq.ActionDiscard},
				dlq.Settlement{Lease: l[2].Lease, Action: dlq.ActionDiscard},
			)
			s.SetRegistryLookup(lookup(sender{"mail", func(context.Context, sinks.Recipient, sinks.Message) error { return nil }}))
			if err := s.Replay(t.Context(), l[0].ID); err != nil {
				t.Errorf("Replay: %v", err)
			}
			if it := get(t, s, l[0].ID); it.Replays != 2 || it.DeliveredAt.IsZero() {
				t.Errorf("after the replay: %+v", it)
			}
			if err := s.Discard(t.Context(), l[0].ID); err != nil {
				t.Errorf("Discard: %v", err)
			}
			wantStats(t, s, "mail", counts{})
		},
	},
	{
		Name:    "entries that cannot be read",
		Rule:    "they are listed with raw and decode_error, counted, never due, never in the way, cannot be replayed, and can be discarded",
		Foreign: true,
		Check: func(t *T, b Backend) {
			s := b.New(t.T, dlq.WithSinks(func() []string { return []string{"mail"} }))
			bad := map[string][]string{
				"not JSON \xff":    {"item", "not JSON \xff"},
				`{"x":1}`:          {"item", `{"x":1}`},
				`["item"]`:         {"item", `["item"]`},
				`{"message":"no"}`: {"item", `{"message":"no"}`},
				`{"data":"other"}`: {"data", "other"},
			}
			for _, fields := range bad {
				b.Append(t.T, s, "mail", fields...)
			}
			good := add(t, s, item("mail", "good"))
			items, err := s.Items(t.Context(), "", 0)
			if err != nil || len(items) != 6 {
				t.Fatalf("Items = %d, %v; want 6", len(items), err)
			}
			var ids []string
			for _, it := range items[1:] {
				if _, ok := bad[it.Raw]; !ok || it.DecodeError == "" || it.State(time.Now()).Scheduled() || it.Sink != "mail" || it.At.IsZero() {
					t.Errorf("surfaced as %+v", it)
				}
				ids = append(ids, it.ID)
			}
			if p, err := s.Page(t.Context(), dlq.Query{Q: "other"}); err != nil || len(p.Items) != 1 {
				t.Errorf("filtered page = %d items, %v; want 1", len(p.Items), err)
			}
			if diff := cmp.Diff([]string{"good"}, leasedDeliveries(claim(t, s, "mail", 1))); diff != "" {
				t.Errorf("Claim (-want +got):\n%s", diff)
			}
			if got := claim(t, s, "mail", 10); len(got) != 0 {
				t.Errorf("Claim = %v, want nothing", leasedDeliveries(got))
			}
			wantStats(t, s, "mail", counts{Depth: 6, Remaining: 1})
			s.SetRegistryLookup(lookup(sender{"mail", func(context.Context, sinks.Recipient, sinks.Message) error { return nil }}))
			wantCode(t, "Replay", s.Replay(t.Context(), ids[0]), fault.CodeInvalidArgument)
			if l := claimIDs(t, s, "mail", ids[1]); len(l) != 1 || l[0].Item.DecodeError == "" {
				t.Errorf("claim by id = %+v, want the unreadable item, to be discarded", l)
			} else {
				settle(t, s, dlq.Settlement{Lease: l[0].Lease, Action: dlq.ActionDrop})
			}
			for _, id := range ids {
				if err := s.Discard(t.Context(), id); err != nil {
					t.Errorf("Discard: %v", err)
				}
			}
			it := get(t, s, good.ID)
			if it.DeliveryID != "good" {
				t.Errorf("left %+v", it)
			}
			wantStats(t, s, "mail", counts{Depth: 1, Remaining: 1})
		},
	},
	{
		Name:    "the schedule is not starved by what it cannot replay",
		Rule:    "however many unreadable entries come first, one claim finds what is due behind them",
		Foreign: true,
		Check: func(t *T, b Backend) {
			s := b.New(t.T)
			for range 25 {
				b.Append(t.T, s, "mail", "item", "?")
			}
			b.Append(t.T, s, "mail", "item", `{"message":{"id":"t","body":"b"},"reason":"terminal"}`)
			b.Append(t.T, s, "mail", "item", `{"message":{"id":"n","body":"b"},"not_before":"2999-01-01T00:00:00Z"}`)
			add(t, s, item("mail", "good"))
			c := dlq.Claim{Sink: "mail", Limit: 4, Token: "t", TTL: time.Minute}
			for range 2 {
				if diff := cmp.Diff([]string{"good"}, leasedDeliveries(claimAs(t, s, c))); diff != "" {
					t.Errorf("Claim (-want +got):\n%s", diff)
				}
			}
			wantStats(t, s, "mail", counts{Depth: 28, Remaining: 2})
		},
	},
}
