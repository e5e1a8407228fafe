package delivery_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"backstop/lib/delivery"
)

// What is pending is kept whatever becomes of the record, until it is told.
func TestPendingEventsStayInTheRecord(t *testing.T) {
	for name, s := range backends(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			ev := func(id string) delivery.PendingEvent {
				return delivery.PendingEvent{ID: id, Fate: delivery.FateParked, To: "audit", Body: `{"a":"b/c \"d\" é"}`}
			}
			k := delivery.Key{Sink: "ops", ID: name}
			pending := func(want ...string) {
				t.Helper()
				rec, _, err := s.Get(ctx, k)
				var got []string
				for _, e := range rec.Pending {
					if got = append(got, e.ID); e != ev(e.ID) {
						t.Errorf("it became %+v", e)
					}
				}
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("pending are %v (%v), want %v", got, err, want)
				}
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			begin := func(token string, untrue *delivery.Record) {
				t.Helper()
				_, _, err := s.Begin(ctx, delivery.Begin{Key: k, Fingerprint: "f", Token: token, Lease: time.Minute, Untrue: untrue})
				must(err)
			}
			finish := func(token string, status delivery.Status, events ...delivery.PendingEvent) {
				t.Helper()
				_, ok, err := s.Finish(ctx, k, token, delivery.Record{Sink: k.Sink, ID: k.ID, Status: status, ItemID: "ops~1-0", Fingerprint: "f", Pending: events})
				if must(err); !ok {
					t.Fatal("not written")
				}
			}
			begin("a", nil)
			finish("a", delivery.StatusDeadLettered, ev("1"))
			finish("a", delivery.StatusDeadLettered, ev("1"), ev("2")) // again, after a lost reply
			pending("1", "2")
			found, _, err := s.Get(ctx, k)
			must(err)
			begin("b", &found) // its dead letter is gone
			pending("1", "2")
			finish("b", delivery.StatusExpired, ev("3"))
			must(s.Told(ctx, k, "2", "unknown"))
			pending("1", "3")
			_, _, err = s.Cancel(ctx, k, "c", delivery.Record{Pending: []delivery.PendingEvent{ev("4")}})
			must(err)
			pending("1", "3", "4")
			must(s.Uncancel(ctx, k, "c"))
			pending("1", "3")
			_, err = s.Update(ctx, delivery.Change{Key: k, Status: delivery.StatusDelivered, Fingerprint: "f"})
			must(err)
			pending("1", "3")
			before, _, err := s.Get(ctx, k)
			must(err)
			must(s.Told(ctx, k, "1", "3"))
			pending()
			after, _, err := s.Get(ctx, k)
			must(err)
			if before.Pending = nil; fmt.Sprintf("%+v", before) != fmt.Sprintf("%+v", after) {
				t.Errorf("telling changed %+v to %+v", before, after)
			}
			must(s.Told(ctx, k, "1"))
			must(s.Told(ctx, delivery.Key{Sink: "ops", ID: "unknown"}, "1"))
			if _, known, err := s.Get(ctx, delivery.Key{Sink: "ops", ID: "unknown"}); known || err != nil {
				t.Errorf("telling made a record: %v", err)
			}
		})
	}
}

func TestOwedEventsAreListedUntilTheyArePaid(t *testing.T) {
	for name, s := range backends(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			owe := func(id, event string) {
				t.Helper()
				r := delivery.Record{Sink: "ops", ID: id, Status: delivery.StatusDeadLettered, Fingerprint: "f", Pending: []delivery.PendingEvent{{ID: event, To: "audit"}}}
				if err := s.Owe(ctx, r); err != nil {
					t.Fatal(err)
				}
			}
			list := func(limit int) (ids []string, all []delivery.Owed) {
				t.Helper()
				all, err := s.Owed(ctx, limit)
				if err != nil {
					t.Fatal(err)
				}
				for _, o := range all {
					if o.Sink != "ops" || time.Since(o.Since) > time.Minute {
						t.Errorf("owed: %+v", o)
					}
					ids = append(ids, o.ID)
				}
				return ids, all
			}
			if _, _, err := s.Begin(ctx, delivery.Begin{Key: delivery.Key{Sink: "ops", ID: "x:1"}, Fingerprint: "f", Token: "a", Lease: time.Minute}); err != nil {
				t.Fatal(err)
			}
			owe("x:1", "e1")
			owe("x:1", "e1")
			owe("x:1", "e2")
			rec, _, err := s.Get(ctx, delivery.Key{Sink: "ops", ID: "x:1"})
			if err != nil || rec.Status != delivery.StatusInProgress || rec.LeasedUntil.IsZero() || len(rec.Pending) != 2 {
				t.Errorf("the record that was there: %+v, %v", rec, err)
			}
			_, seen := list(10)
			for time.Now().UnixMilli() == seen[0].Since.UnixMilli() { // its unit
				runtime.Gosched()
			}
			owe("y=2", "e3")
			if ids, _ := list(10); !slices.Equal(ids, []string{"x:1", "y=2"}) {
				t.Errorf("owed: %v", ids)
			}
			if ids, _ := list(1); !slices.Equal(ids, []string{"x:1"}) {
				t.Errorf("owed, one of them: %v", ids)
			}
			if rec, known, err := s.Get(ctx, delivery.Key{Sink: "ops", ID: "y=2"}); err != nil || !known || len(rec.Pending) != 1 || rec.Status != delivery.StatusDeadLettered {
				t.Errorf("the record that was not there: %+v, %v", rec, err)
			}
			owe("x:1", "e4") // since it was looked at
			if err := s.Paid(ctx, seen[0]); err != nil {
				t.Fatal(err)
			}
			ids, now := list(10)
			if len(ids) != 2 {
				t.Errorf("what was owed anew was taken off: %v", ids)
			}
			for _, o := range now {
				for range 2 {
					if err := s.Paid(ctx, o); err != nil {
						t.Fatal(err)
					}
				}
			}
			if ids, _ := list(10); len(ids) != 0 {
				t.Errorf("still owed: %v", ids)
			}
		})
	}
}
