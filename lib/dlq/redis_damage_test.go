package dlq_test

import (
	"context"
	"testing"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
)

// TestADamagedStateStopsNobody: what is kept beside an entry cannot be read, and nothing is known of that entry; no other one suffers,
// and all that is done to dead letters can be done to it.
func TestADamagedStateStopsNobody(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	for _, damage := range []string{"{", "5", `"x"`, "null", "[]"} {
		t.Run(damage, func(t *testing.T) {
			s := newStore(t, c)
			ctx := t.Context()
			for _, id := range []string{"a", "b", "c"} {
				mustAdd(t, s, message("mail", id))
			}
			page, err := s.Page(ctx, dlq.Query{Sink: "mail"})
			if err != nil || len(page.Items) != 3 {
				t.Fatalf("%d items, %v", len(page.Items), err)
			}
			spoil := func() {
				t.Helper()
				for _, it := range page.Items {
					id, err := dlq.ParseID(it.ID)
					if err == nil {
						err = c.HSet(ctx, "{"+s.prefix+":dlq:mail}:state", id.Native, damage).Err()
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			first := page.Items[0]
			var leased []dlq.Leased
			claim := func(ctx context.Context) (err error) {
				leased, err = s.Claim(ctx, dlq.Claim{Sink: "mail", IDs: []string{first.ID}, TTL: time.Minute})
				if err == nil && len(leased) != 1 {
					t.Errorf("%d are leased", len(leased))
				}
				return err
			}
			for _, do := range []struct {
				name string
				call func(context.Context) error
			}{
				{"Stats", func(ctx context.Context) error { _, err := s.Stats(ctx, "mail"); return err }},
				{"Get", func(ctx context.Context) error { _, err := s.Get(ctx, first.ID); return err }},
				{"Page", func(ctx context.Context) error { _, err := s.Page(ctx, dlq.Query{Sink: "mail"}); return err }},
				{"Find", func(ctx context.Context) error { _, err := s.Find(ctx, "mail", "a", ""); return err }},
				{"a push again", func(ctx context.Context) error { return s.Push(ctx, message("mail", "a")) }},
				{"Claim", claim},
				{"Begin", func(ctx context.Context) error { _, err := s.Begin(ctx, leased[0].Lease); return err }},
				{"Stats, leased", func(ctx context.Context) error { _, err := s.Stats(ctx, "mail"); return err }},
				{"Settle", func(ctx context.Context) error {
					_, err := s.Settle(ctx, []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionPark}})
					return err
				}},
				{"Unpark", func(ctx context.Context) error { return s.Unpark(ctx, first.ID) }},
				{"a scheduled claim", func(ctx context.Context) error {
					_, err := s.Claim(ctx, dlq.Claim{Sink: "mail", TTL: time.Minute, Limit: 1})
					return err
				}},
				{"Discard", func(ctx context.Context) error { return s.Discard(ctx, page.Items[2].ID) }},
			} {
				spoil()
				if err := do.call(ctx); err != nil {
					t.Errorf("%s: %v", do.name, err)
				}
			}
			if err := c.Del(ctx, "{"+s.prefix+":dlq:mail}:state").Err(); err != nil { // for the audit at the end: nobody wrote what it would find
				t.Fatal(err)
			}
			mended(t, c, s, false)
		})
	}
}
