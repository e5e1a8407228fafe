package delivery_test

import (
	"context"
	"fmt"
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
	state, rec, err := s.Begin(t.Context(), delivery.Begin{Key: k, Fingerprint: fingerprint, Token: token, Lease: lease})
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

// finish ends the delivery as rec says, and checks what its record says afterwards.
func finish(t *testing.T, s delivery.Store, token string, rec delivery.Record, want delivery.Status) {
	t.Helper()
	_, written, err := s.Finish(t.Context(), key, token, rec)
	if got, _, _ := s.Get(t.Context(), key); err != nil || got.Status != want || written != (rec.Status == want) {
		t.Fatalf("Finish: %v, %v, and the record is %+v; want %s", written, err, got, want)
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
			finish(t, s, "a", finished("f"), delivery.StatusDeadLettered)
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
		finish(t, s, "a", finished("f"), delivery.StatusInProgress)
		if err := s.HandBack(t.Context(), key, "a", delivery.BackForget, delivery.Record{}); err != nil {
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
			if err := s.HandBack(t.Context(), key, "a", delivery.BackForget, delivery.Record{}); err != nil {
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
		if _, _, err := s.Finish(t.Context(), key, "a", finished("f")); err != nil {
			t.Fatal(err)
		}
		if err := s.HandBack(t.Context(), key, "a", delivery.BackForget, delivery.Record{}); err != nil {
			t.Fatal(err)
		}
		if _, known, err := s.Get(t.Context(), key); err != nil || !known {
			t.Errorf("known %v, %v; want the record", known, err)
		}
	})
}

// What becomes of a record when a dead letter's fate is told, and when its sender ends: only
// what is further than it was is written.
func TestARecordMovesForwardOnly(t *testing.T) {
	const (
		none      = delivery.Status("")
		sending   = delivery.StatusInProgress
		kept      = delivery.StatusDeadLettered
		discarded = delivery.StatusDiscarded
		delivered = delivery.StatusDelivered
	)
	for _, c := range []struct {
		from    delivery.Status
		lease   time.Duration // of the sender, while sending
		told    map[delivery.Status]delivery.Status
		late    map[delivery.Status]delivery.Status // Finish by another than the owner
		finally map[delivery.Status]delivery.Status // Finish by the owner
	}{
		{
			from:    none,
			told:    map[delivery.Status]delivery.Status{kept: kept, discarded: discarded, delivered: delivered},
			late:    map[delivery.Status]delivery.Status{kept: kept, delivered: delivered},
			finally: map[delivery.Status]delivery.Status{kept: kept, delivered: delivered},
		},
		{
			from: sending, lease: lease,
			told:    map[delivery.Status]delivery.Status{kept: sending, discarded: sending, delivered: delivered},
			late:    map[delivery.Status]delivery.Status{kept: sending, delivered: delivered},
			finally: map[delivery.Status]delivery.Status{kept: kept, delivered: delivered},
		},
		{
			from:    sending, // the lease has ended
			told:    map[delivery.Status]delivery.Status{kept: kept, discarded: discarded, delivered: delivered},
			late:    map[delivery.Status]delivery.Status{kept: sending, delivered: delivered},
			finally: map[delivery.Status]delivery.Status{kept: kept, delivered: delivered},
		},
		{
			from:    kept,
			told:    map[delivery.Status]delivery.Status{kept: kept, discarded: discarded, delivered: delivered},
			late:    map[delivery.Status]delivery.Status{kept: kept, delivered: delivered},
			finally: map[delivery.Status]delivery.Status{kept: kept, delivered: delivered},
		},
		{
			from:    discarded,
			told:    map[delivery.Status]delivery.Status{kept: kept, discarded: discarded, delivered: delivered}, // kept: by an import
			late:    map[delivery.Status]delivery.Status{kept: discarded, delivered: delivered},
			finally: map[delivery.Status]delivery.Status{kept: discarded, delivered: delivered},
		},
		{
			from:    delivered,
			told:    map[delivery.Status]delivery.Status{kept: delivered, discarded: delivered, delivered: delivered},
			late:    map[delivery.Status]delivery.Status{kept: delivered, delivered: delivered},
			finally: map[delivery.Status]delivery.Status{kept: delivered, delivered: delivered},
		},
	} {
		each(t, func(t *testing.T, s delivery.Store) {
			n := 0
			// start returns a key with a record of status c.from.
			start := func() delivery.Key {
				n++
				k := delivery.Key{Sink: "ops", ID: fmt.Sprint("m", n)}
				if c.from == none {
					return k
				}
				begin(t, s, k, "f", "owner", c.lease)
				if c.from != sending {
					rec := delivery.Record{Sink: k.Sink, ID: k.ID, Status: kept, ItemID: "ops~1-0", Answer: "first", Fingerprint: "f"}
					if _, _, err := s.Finish(t.Context(), k, "owner", rec); err != nil {
						t.Fatal(err)
					}
				}
				if c.from == discarded || c.from == delivered {
					if _, err := s.Update(t.Context(), delivery.Change{Key: k, Status: c.from, Fingerprint: "f"}); err != nil {
						t.Fatal(err)
					}
				}
				return k
			}
			check := func(what string, k delivery.Key, to, answered, want delivery.Status) {
				t.Helper()
				rec, known, err := s.Get(t.Context(), k)
				if err != nil || !known || rec.Status != want || answered != want {
					t.Errorf("%q, lease %v, %s %q: record %q (%v, %v), answer %q; want %q", c.from, c.lease, what, to, rec.Status, known, err, answered, want)
				}
			}
			for to, want := range c.told {
				k := start()
				got, err := s.Update(t.Context(), delivery.Change{Key: k, Status: to, Fingerprint: "f", ItemID: "ops~2-0"})
				if err != nil || len(got) != 1 {
					t.Fatalf("Update: %v, %v", got, err)
				}
				check("told", k, to, got[0], want)
				if rec, _, _ := s.Get(t.Context(), k); c.from != none && c.from != sending && rec.Answer != "first" {
					t.Errorf("%q told %q: the answer is %q", c.from, to, rec.Answer)
				}
				k = start()
				if got, err = s.Update(t.Context(), delivery.Change{Key: k, Status: to, Fingerprint: "g"}); err != nil || c.from != none && got[0] != "" {
					t.Errorf("%q told %q of other content: %v, %v", c.from, to, got, err)
				}
				if rec, _, _ := s.Get(t.Context(), k); c.from != none && rec.Status != c.from {
					t.Errorf("%q told %q of other content became %q", c.from, to, rec.Status)
				}
			}
			for token, fates := range map[string]map[delivery.Status]delivery.Status{"owner": c.finally, "another": c.late} {
				for to, want := range fates {
					k := start()
					found, written, err := s.Finish(t.Context(), k, token, delivery.Record{Sink: k.Sink, ID: k.ID, Status: to, Fingerprint: "f"})
					if err != nil || found.Status != c.from {
						t.Fatalf("Finish found %+v, %v; want it %q", found, err, c.from)
					}
					answered := c.from
					if written {
						answered = to
					}
					check("finished by "+token+" as", k, to, answered, want)
				}
			}
		})
	}
}

// A delivery whose owner lost its lease is delivered, and the reply is lost: asked again, the
// record still names the dead letter of the one that took over, which must go.
func TestTheDeadLetterOfAnotherIsNamedHoweverOftenADeliveryIsFinished(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		begin(t, s, key, "f", "other", lease)
		finish(t, s, "other", finished("f"), delivery.StatusDeadLettered)
		for n := range 3 {
			rec := delivery.Record{Sink: key.Sink, ID: key.ID, Status: delivery.StatusDelivered, Fingerprint: "f"}
			found, written, err := s.Finish(t.Context(), key, "late", rec)
			if err != nil || !written || found.ItemID != "ops~1-0" {
				t.Errorf("time %d: found %+v, %v, %v; want the other's dead letter", n+1, found, written, err)
			}
		}
	})
}

// The dead letter that a record speaks of is not in the queue: whoever knows it may start
// again, once.
func TestARecordOfADeadLetterThatIsGoneIsReopenedOnce(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		begin(t, s, key, "f", "a", lease)
		finish(t, s, "a", finished("f"), delivery.StatusDeadLettered)
		_, found := begin(t, s, key, "f", "b", lease)
		reopen := func(token, fingerprint string, found delivery.Record) delivery.State {
			t.Helper()
			state, _, err := s.Begin(t.Context(), delivery.Begin{Key: key, Fingerprint: fingerprint, Token: token, Lease: lease, Untrue: &found})
			if err != nil {
				t.Fatalf("Reopen: %v", err)
			}
			return state
		}
		other := found
		other.ItemID = "ops~2-0"
		wantState(t, "another dead letter is gone", reopen("b", "f", other), delivery.StateFinished)
		wantState(t, "other content", reopen("b", "g", found), delivery.StateReused)
		wantState(t, "the first to know", reopen("b", "f", found), delivery.StateStarted)
		wantState(t, "the same, after a lost reply", reopen("b", "f", found), delivery.StateStarted)
		wantState(t, "the second to know", reopen("c", "f", found), delivery.StateInProgress)
		if err := s.HandBack(t.Context(), key, "b", delivery.BackForget, delivery.Record{}); err != nil {
			t.Fatal(err)
		}
		wantState(t, "with no record left", reopen("c", "f", found), delivery.StateStarted)
	})
}

// A replay's word that a delivery was discarded or delivered is not undone by Reopen.
func TestOnlyADeadLettersRecordIsReopened(t *testing.T) {
	for _, status := range []delivery.Status{delivery.StatusDiscarded, delivery.StatusDelivered} {
		each(t, func(t *testing.T, s delivery.Store) {
			begin(t, s, key, "f", "a", lease)
			finish(t, s, "a", finished("f"), delivery.StatusDeadLettered)
			if _, err := s.Update(t.Context(), delivery.Change{Key: key, Status: status, Fingerprint: "f"}); err != nil {
				t.Fatal(err)
			}
			untrue := finished("f")
			state, rec, err := s.Begin(t.Context(), delivery.Begin{Key: key, Fingerprint: "f", Token: "b", Lease: lease, Untrue: &untrue})
			if err != nil || state != delivery.StateFinished || rec.Status != status {
				t.Errorf("got %s, %+v, %v; want finished as %s", state, rec, err, status)
			}
		})
	}
}

// A record that an older version wrote has a fingerprint of another kind. It neither makes
// other content of the same nor the same of other: the delivery starts again.
func TestARecordWithAnotherKindOfFingerprintTellsNothing(t *testing.T) {
	s := delivery.NewRedis(redistest.Shared(t).Client(t), redistest.Prefix(), 0)
	begin(t, s, key, "an older one", "a", lease)
	state, _ := begin(t, s, key, "f", "b", lease)
	wantState(t, "in progress", state, delivery.StateInProgress)
	finish(t, s, "a", finished("an older one"), delivery.StatusDeadLettered)
	state, _ = begin(t, s, key, "f", "b", lease)
	wantState(t, "finished", state, delivery.StateStarted)
}

// Each first reply is lost on its way: the call is repeated, and tells what the first would have.
func TestCallsSurviveALostReply(t *testing.T) {
	s := delivery.NewRedis(redistest.LoseReplies(redistest.Shared(t).Client(t)), redistest.Prefix(), 0)
	state, _ := begin(t, s, key, "f", "a", 0)
	wantState(t, "at first", state, delivery.StateStarted)
	state, _ = begin(t, s, key, "f", "b", lease)
	wantState(t, "after the lease", state, delivery.StateTakenOver)
	state, _ = begin(t, s, key, "f", "c", lease)
	wantState(t, "while it is owned", state, delivery.StateInProgress)
	finish(t, s, "b", finished("f"), delivery.StatusDeadLettered)
	got, err := s.Update(t.Context(), delivery.Change{Key: key, Status: delivery.StatusDelivered, Fingerprint: "f"})
	if err != nil || got[0] != delivery.StatusDelivered {
		t.Errorf("Update = %q, %v; want delivered", got, err)
	}
	if rec, known, err := s.Get(t.Context(), key); err != nil || !known || rec.Status != delivery.StatusDelivered {
		t.Errorf("Get = %+v, %t, %v; want delivered", rec, known, err)
	}
}

func TestOfManyAtOnceOneOwnsTheDelivery(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := map[delivery.State]int{}
		for n := range 20 {
			wg.Go(func() {
				state, _, err := s.Begin(context.Background(), delivery.Begin{Key: key, Fingerprint: "f", Token: string(rune('a' + n)), Lease: lease})
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
	if _, _, err := s.Finish(t.Context(), key, "a", finished("f")); err != nil {
		t.Fatal(err)
	}
	m.FastForward(59 * time.Minute)
	if _, err := s.Update(t.Context(), delivery.Change{Key: key, Status: delivery.StatusDelivered, Fingerprint: "f"}); err != nil {
		t.Fatal(err)
	}
	m.FastForward(59 * time.Minute)
	if _, known, _ := s.Get(t.Context(), key); !known {
		t.Error("the record is gone before its time to live, which starts again with each change")
	}
	m.FastForward(2 * time.Minute)
	if _, known, _ := s.Get(t.Context(), key); known {
		t.Error("the record outlived its time to live")
	}
}

// A dead letter is gone, and its delivery begins anew: that an attempt of it may have arrived, and when the first one began,
// is known all the same.
func TestWhatBeginsAnewMayHaveArrivedBefore(t *testing.T) {
	each(t, func(t *testing.T, s delivery.Store) {
		_, first := begin(t, s, key, "f", "a", lease)
		rec := finished("f")
		rec.Status, rec.ItemID, rec.Unanswered = delivery.StatusDeadLettered, "ops~1-0", 1
		finish(t, s, "a", rec, delivery.StatusDeadLettered)
		b := delivery.Begin{Key: key, Fingerprint: "f", Token: "b", Lease: lease, Untrue: &delivery.Record{ItemID: "ops~1-0"}}
		state, got, err := s.Begin(t.Context(), b)
		if err != nil || state != delivery.StateStarted || got.Unanswered != 1 || !got.BeganAt.Equal(first.BeganAt) {
			t.Errorf("%s %+v, %v; want it started, with one attempt that may have arrived, since %v", state, got, err, first.BeganAt)
		}
	})
}
