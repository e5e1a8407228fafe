package model

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
)

// The model's records are those of lib/delivery: in random histories each call has the same verdict and leaves the same record.
func TestRecordsAreThoseOfTheLibrary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(20_000) {
			if differs := compareRecords(t, seed); differs != "" {
				t.Fatalf("seed %d: %s", seed, differs)
			}
		}
	})
}

const lease = time.Minute

// compareRecords makes one history, and says where the two differ; empty: nowhere.
func compareRecords(t *testing.T, seed uint64) string {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	store, key := delivery.NewMemory(240*time.Hour), delivery.Key{Sink: "ops", ID: "m-1"}
	tokens := []string{"", "a", "b", "c"}
	var m Record
	var history []string
	for range 14 {
		by := token(1 + r.IntN(3))
		name := tokens[by]
		n := 0
		if r.IntN(3) == 0 {
			n = 1
		}
		rec := delivery.Record{Sink: key.Sink, ID: key.ID, Fingerprint: "f", Unanswered: n}
		var want, got verdict
		var err error
		had, known, _ := store.Get(t.Context(), key) //nolint:errcheck // a Memory has no errors
		var mv move
		switch k := r.IntN(9); k {
		case 0, 1, 2:
			b := delivery.Begin{Key: key, Fingerprint: "f", Token: name, Lease: lease, Queued: k == 1, Accept: k == 2}
			mv = move{event: []string{onSend, onQueued, onAccept}[k], by: by, lease: true}
			if known && r.IntN(4) == 0 {
				b.Untrue, mv.untrue = &had, true
			}
			if k > 0 {
				b.AcceptedAt = time.Now()
			}
			var state delivery.State
			state, _, err = store.Begin(t.Context(), b)
			got = verdictOf(state)
		case 3, 4:
			mv = move{event: []string{onAccepted, onDelivered, onDeadLettered, onExpired}[r.IntN(4)], by: by, unanswered: n > 0}
			rec.Status = delivery.Status(mv.event)
			var ok bool
			if _, ok, err = store.Finish(t.Context(), key, name, rec); ok {
				got = written
			}
		case 5:
			how := r.IntN(3)
			mv = move{event: backEvents[how], by: by, unanswered: n > 0, lease: how == int(backLeave)}
			err = store.HandBack(t.Context(), key, name, delivery.Back(mv.event), rec)
			got = silentVerdict
		case 6:
			s := []delivery.Status{delivery.StatusDelivered, delivery.StatusDeadLettered, delivery.StatusExpired, delivery.StatusDiscarded}[r.IntN(4)]
			mv = move{event: "told_" + string(s), unanswered: n > 0}
			_, err = store.Update(t.Context(), delivery.Change{Key: key, Status: s, Fingerprint: "f", Unanswered: n})
			got = silentVerdict
		case 7:
			mv = move{event: []string{onCancel, onConfirm}[r.IntN(2)], by: by, unanswered: n > 0}
			seen := delivery.Record{Unanswered: n}
			if mv.event == onConfirm {
				seen.Status = delivery.StatusCanceled
			}
			var state delivery.State
			state, _, err = store.Cancel(t.Context(), key, name, seen)
			got = verdictOf(state)
		case 8:
			mv = move{event: onUncancel, by: by}
			err = store.Uncancel(t.Context(), key, name)
			got = silentVerdict
		}
		want, _ = m.move(mv, 0)
		history = append(history, fmt.Sprintf("%s by %q (untrue %v, unanswered %d)", mv.event, name, mv.untrue, n))
		now, _, gotErr := store.Get(t.Context(), key)
		switch {
		case err != nil || gotErr != nil:
			return fmt.Sprintf("%v: %v, %v", history, err, gotErr)
		case got != silentVerdict && got != want:
			return fmt.Sprintf("%v: verdict %s, want %s", history, verdicts[got], verdicts[want])
		case string(now.Status) != statuses[m.Status] || now.Unanswered > 0 != m.Unanswered || string(now.Former) != statuses[m.Former.Status]:
			return fmt.Sprintf("%v: the record is %+v, the model's %+v", history, now, m)
		}
		if r.IntN(4) == 0 {
			time.Sleep(2 * lease)
			m.Over = m.Over || m.open()
			history = append(history, "all leases end")
		}
	}
	return ""
}

// silentVerdict is that of a call which does not tell.
const silentVerdict verdict = 255

func verdictOf(s delivery.State) verdict {
	for i, v := range verdicts {
		if v == s {
			return verdict(i)
		}
	}
	return silentVerdict - 1
}
