package delivery_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/delivery"
)

var key = delivery.Key{Sink: "ops", ID: "m-1"}

const lease = time.Minute

// backends are the stores that keep the same rules. Leases are tested with lengths
// that cannot end during a test (lease) or that have ended at once (0).
func backends(t *testing.T) map[string]delivery.Store {
	t.Helper()
	_, mini := redistest.Mini(t)
	return map[string]delivery.Store{
		"memory":       delivery.NewMemory(0),
		"embedded":     delivery.NewRedis(mini, redistest.Prefix(), 0),
		"redis-server": delivery.NewRedis(redistest.Shared(t).Client(t), redistest.Prefix(), 0),
	}
}

func each(t *testing.T, test func(t *testing.T, s delivery.Store)) {
	t.Helper()
	for name, s := range backends(t) {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func begin(t *testing.T, s delivery.Store, k delivery.Key, fingerprint, token string, lease time.Duration) (delivery.State, delivery.Record) {
	t.Helper()
	state, rec, err := s.Begin(t.Context(), k, fingerprint, token, lease)
	if err != nil {
		t.Fatalf("Begin: %v", err)
	}
	return state, rec
}

func wantState(t *testing.T, what string, got, want delivery.State) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func finished(fingerprint string) delivery.Record {
	return delivery.Record{
		Sink: key.Sink, ID: key.ID, Status: delivery.StatusDeadLettered, ItemID: "ops~1-0",
		Answer: `{"status":"dead_lettered","x":[],"n":1.0}`, Fingerprint: fingerprint,
	}
}

func TestADeliveryHasOneOwner(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		state, _ := begin(t, s, key, "f", "a", lease)
		wantState(t, "the first", state, delivery.StateStarted)
		state, rec := begin(t, s, key, "f", "b", lease)
		wantState(t, "somebody else", state, delivery.StateInProgress)
		if rec.Status != delivery.StatusInProgress || rec.ID != key.ID || rec.Sink != key.Sink {
			t.Errorf("record %+v does not name the delivery in progress", rec)
		}
		state, _ = begin(t, s, key, "f", "a", lease)
		wantState(t, "the owner again, after a lost reply", state, delivery.StateStarted)
		state, _ = begin(t, s, delivery.Key{Sink: "mail", ID: key.ID}, "f", "c", lease)
		wantState(t, "the same id to another sink", state, delivery.StateStarted)
	})
}

func TestAFinishedDeliveryGivesItsFirstAnswerAgain(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		begin(t, s, key, "f", "a", lease)
		for range 2 { // the second after a lost reply
			if ok, err := s.Finish(t.Context(), key, "a", finished("f")); err != nil || !ok {
				t.Fatalf("Finish: %v, %v", ok, err)
			}
		}
		state, rec := begin(t, s, key, "f", "b", lease)
		wantState(t, "the same content", state, delivery.StateFinished)
		if rec.Answer != finished("f").Answer || rec.ItemID != "ops~1-0" {
			t.Errorf("record %+v lost the answer", rec)
		}
		state, _ = begin(t, s, key, "g", "b", lease)
		wantState(t, "other content", state, delivery.StateReused)
	})
}

func TestAnEndedLeaseIsTakenOver(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		begin(t, s, key, "f", "a", 0)
		state, _ := begin(t, s, key, "f", "b", lease)
		wantState(t, "after the lease", state, delivery.StateTakenOver)
		if ok, err := s.Finish(t.Context(), key, "a", finished("f")); err != nil || ok {
			t.Errorf("the late owner finished: %v, %v; want false", ok, err)
		}
		if err := s.Release(t.Context(), key, "a"); err != nil {
			t.Fatal(err)
		}
		state, _ = begin(t, s, key, "f", "c", lease)
		wantState(t, "the late owner's release changed nothing", state, delivery.StateInProgress)
	})
}

func TestAReleasedDeliveryIsForgotten(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		begin(t, s, key, "f", "a", lease)
		for range 2 {
			if err := s.Release(t.Context(), key, "a"); err != nil {
				t.Fatalf("Release: %v", err)
			}
		}
		if _, known, err := s.Get(t.Context(), key); err != nil || known {
			t.Errorf("after a release: known %v, %v", known, err)
		}
		state, _ := begin(t, s, key, "g", "b", lease)
		wantState(t, "other content after a release", state, delivery.StateStarted)
	})
}

func TestReleaseNeverForgetsAFinishedDelivery(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		begin(t, s, key, "f", "a", lease)
		if _, err := s.Finish(t.Context(), key, "a", finished("f")); err != nil {
			t.Fatal(err)
		}
		if err := s.Release(t.Context(), key, "a"); err != nil {
			t.Fatal(err)
		}
		if _, known, err := s.Get(t.Context(), key); err != nil || !known {
			t.Errorf("known %v, %v; want the record", known, err)
		}
	})
}

func TestUpdateSetsTheStatusAndKeepsTheAnswer(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		if err := s.Update(t.Context(), delivery.StatusDelivered, key); err != nil {
			t.Fatalf("Update of an unknown delivery: %v", err)
		}
		if _, known, _ := s.Get(t.Context(), key); known {
			t.Error("Update made a record up")
		}
		begin(t, s, key, "f", "a", lease)
		if err := s.Update(t.Context(), delivery.StatusDelivered, key); err != nil {
			t.Fatal(err)
		}
		if rec, _, _ := s.Get(t.Context(), key); rec.Status != delivery.StatusInProgress {
			t.Errorf("Update changed a delivery in progress to %s", rec.Status)
		}
		if _, err := s.Finish(t.Context(), key, "a", finished("f")); err != nil {
			t.Fatal(err)
		}
		unknown := delivery.Key{Sink: key.Sink, ID: "unknown"}
		if err := s.Update(t.Context(), delivery.StatusDiscarded, unknown, key); err != nil {
			t.Fatal(err)
		}
		rec, known, err := s.Get(t.Context(), key)
		if err != nil || !known || rec.Status != delivery.StatusDiscarded || rec.Answer != finished("f").Answer || rec.UpdatedAt.IsZero() {
			t.Errorf("got %+v, %v, %v; want discarded with its answer", rec, known, err)
		}
		state, _ := begin(t, s, key, "f", "b", lease)
		wantState(t, "after an update", state, delivery.StateFinished)
	})
}

func TestOfManyAtOnceOneOwnsTheDelivery(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[delivery.State]int{}
		for n := range 20 {
			wg.Go(func() {
				state, _, err := s.Begin(context.Background(), key, "f", string(rune('a'+n)), lease)
				if err != nil {
					t.Errorf("Begin: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				got[state]++
			})
		}
		wg.Wait()
		if got[delivery.StateStarted] != 1 || got[delivery.StateInProgress] != 19 {
			t.Errorf("got %v, want one owner", got)
		}
	})
}

func TestRecordsExpire(t *testing.T) {
	m, client := redistest.Mini(t)
	s := delivery.NewRedis(client, "p", time.Hour)
	begin(t, s, key, "f", "a", lease)
	if _, err := s.Finish(t.Context(), key, "a", finished("f")); err != nil {
		t.Fatal(err)
	}
	m.FastForward(59 * time.Minute)
	if err := s.Update(t.Context(), delivery.StatusDelivered, key); err != nil {
		t.Fatal(err)
	}
	if _, known, _ := s.Get(t.Context(), key); !known {
		t.Error("the record is gone before its time to live")
	}
	m.FastForward(2 * time.Minute)
	if _, known, _ := s.Get(t.Context(), key); known {
		t.Error("the record outlived its time to live: an update must not prolong it")
	}
}

func TestFingerprint(t *testing.T) {
	base := func() (json.RawMessage, string, string, map[string]string) {
		return json.RawMessage(`{"a":1,"b":2}`), "s", "b", map[string]string{"x": "1", "y": "2"}
	}
	want := delivery.Fingerprint(base())
	to, s, b, m := base()
	for name, got := range map[string]string{
		"key order and spaces of the recipient": delivery.Fingerprint(json.RawMessage(` {"b": 2, "a": 1}`), s, b, m),
	} {
		if got != want {
			t.Errorf("%s changed the fingerprint", name)
		}
	}
	for name, got := range map[string]string{
		"recipient": delivery.Fingerprint(json.RawMessage(`{"a":1}`), s, b, m),
		"none":      delivery.Fingerprint(nil, s, b, m),
		"subject":   delivery.Fingerprint(to, "t", b, m),
		"body":      delivery.Fingerprint(to, s, "c", m),
		"moved":     delivery.Fingerprint(to, "sb", "", m),
		"metadata":  delivery.Fingerprint(to, s, b, map[string]string{"x": "1"}),
	} {
		if got == want {
			t.Errorf("another %s did not change the fingerprint", name)
		}
	}
}
