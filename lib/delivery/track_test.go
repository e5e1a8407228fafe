package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// known is a delivery as its record and its dead letter have it; nil: there is none.
type known struct {
	rec    *delivery.Record
	letter *dlq.Item
	hidden bool // only the search through the queue finds the dead letter
	fails  error
}

func (k known) tracker() *delivery.Tracker {
	return &delivery.Tracker{Records: knownRecords{k}, Letters: knownLetters{k}}
}

type knownRecords struct{ known }

func (k knownRecords) Get(context.Context, delivery.Key) (delivery.Record, bool, error) {
	if k.rec == nil {
		return delivery.Record{}, false, k.fails
	}
	return *k.rec, true, k.fails
}

type knownLetters struct{ known }

func (k knownLetters) Get(_ context.Context, id string) (dlq.Item, error) {
	if k.letter == nil || k.letter.ID != id {
		return dlq.Item{}, &fault.Error{Code: fault.CodeDLQNotFound, Msg: "no dead letter " + id}
	}
	return *k.letter, nil
}

func (k knownLetters) Find(context.Context, string, string, string) (dlq.Item, error) {
	if k.letter == nil || k.hidden {
		return dlq.Item{}, &fault.Error{Code: fault.CodeDLQNotFound, Msg: "none"}
	}
	return *k.letter, nil
}

func (k knownLetters) Page(context.Context, dlq.Query) (dlq.Page, error) {
	if k.letter == nil {
		return dlq.Page{}, nil
	}
	return dlq.Page{Items: []dlq.Item{*k.letter}}, nil
}

// inLines writes a way as a line for each fact; times are seconds after t0.
func inLines(w delivery.Way, t0 time.Time) string {
	after := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return fmt.Sprint(int(t.Sub(t0) / time.Second))
	}
	lines := []string{fmt.Sprintf("%s since %s item %s attempts %d arrived? %v expires %s", w.Status, after(w.UpdatedAt), w.ItemID, w.Attempts, w.MayHaveArrived, after(w.ExpiresAt))}
	if w.Spilled {
		lines[0] += " spilled"
	}
	for _, s := range w.Timeline {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s", after(s.At), s.Event, s.Detail)))
	}
	if w.Next != nil {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("next %s %s %s", after(w.Next.At), w.Next.Event, w.Next.State)))
	}
	return strings.Join(lines, "\n")
}

// Each story is what a record and a dead letter know, at a time, and what is told of it.
func TestTheWayOfADelivery(t *testing.T) {
	for name, story := range map[string]struct {
		now  int // seconds after t0
		know func(at func(int) time.Time) known
		want string
	}{
		"nothing is known": {
			10, func(func(int) time.Time) known { return known{} },
			"SINK_DLQ_NOT_FOUND: nothing is known of this delivery: it was never accepted, or finished too long ago",
		},
		"it is being accepted": {
			10, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusAccepting, UpdatedAt: at(9), AcceptedAt: at(9), NotBefore: at(40), LeasedUntil: at(20)}}
			}, `accepting since 9 item  attempts 0 arrived? false expires -
9 accepting`,
		},
		"who accepted it died": {
			100, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusAccepting, UpdatedAt: at(9), AcceptedAt: at(9), LeasedUntil: at(20)}}
			}, `accepting since 9 item  attempts 0 arrived? false expires -
9 accepting nobody was told that it was accepted`,
		},
		"it waits for later": {
			10, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusAccepted, UpdatedAt: at(1), AcceptedAt: at(0), NotBefore: at(30), ExpiresAt: at(300)}}
			}, `accepted since 1 item  attempts 0 arrived? false expires 300
0 accepted
0 waiting until 2000-01-01T00:00:30Z
next 30 attempt`,
		},
		"it waits for whoever reads the queue": {
			40, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusAccepted, UpdatedAt: at(1), AcceptedAt: at(0), NotBefore: at(30)}}
			}, `accepted since 1 item  attempts 0 arrived? false expires -
0 accepted
0 waiting until 2000-01-01T00:00:30Z
next - attempt`,
		},
		"its time was over in the queue": {
			400, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusAccepted, UpdatedAt: at(1), AcceptedAt: at(0), ExpiresAt: at(300)}}
			}, `accepted since 1 item  attempts 0 arrived? false expires 300
0 accepted
next 300 expiry`,
		},
		"it is being sent": {
			32, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusInProgress, UpdatedAt: at(31), AcceptedAt: at(0), NotBefore: at(30), BeganAt: at(31), LeasedUntil: at(60)}}
			}, `in_progress since 31 item  attempts 0 arrived? false expires -
0 accepted
0 waiting until 2000-01-01T00:00:30Z
31 began`,
		},
		"it is being sent again, after somebody died with it": {
			100, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusInProgress, UpdatedAt: at(90), BeganAt: at(31), Unanswered: 1, LeasedUntil: at(120)}}
			}, `in_progress since 90 item  attempts 0 arrived? true expires -
31 began
90 began again: an earlier sender ended without a word`,
		},
		"whoever sent it died after he had stored the dead letter": {
			100, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonExhausted)
				return known{rec: &delivery.Record{Status: delivery.StatusInProgress, UpdatedAt: at(31), BeganAt: at(31), LeasedUntil: at(60)}, letter: &it}
			}, `dead_lettered since 40 item hook~1-0 attempts 3 arrived? false expires -
31 began
40 dead_lettered exhausted after 3 attempts: SINK_UNAVAILABLE: HTTP 503
next - replay due`,
		},
		"delivered at once": {
			10, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusDelivered, UpdatedAt: at(2), BeganAt: at(1), Attempts: 2}}
			}, `delivered since 2 item  attempts 2 arrived? false expires -
1 began
2 delivered after 2 attempts`,
		},
		"delivered, and what is stored under its id is another message": {
			10, func(at func(int) time.Time) known {
				it := failedAt(at(5), dlq.ReasonExhausted)
				return known{rec: &delivery.Record{Status: delivery.StatusDelivered, UpdatedAt: at(2), BeganAt: at(1), Attempts: 1, Fingerprint: dlq.ContentFingerprint(nil, "", "another", nil)}, letter: &it}
			}, `delivered since 2 item  attempts 1 arrived? false expires -
1 began
2 delivered after 1 attempt`,
		},
		"dead-lettered, and scheduled": {
			50, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonExhausted)
				it.NextReplayAt, it.ExpiresAt = at(70), at(600)
				return known{rec: asRecord(delivery.StatusDeadLettered, at(40), it), letter: &it}
			}, `dead_lettered since 40 item hook~1-0 attempts 3 arrived? false expires 600
40 dead_lettered exhausted after 3 attempts: SINK_UNAVAILABLE: HTTP 503
next 70 replay scheduled`,
		},
		"its time is over before the next replay": {
			50, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonExhausted)
				it.NextReplayAt, it.ExpiresAt = at(70), at(60)
				return known{rec: asRecord(delivery.StatusDeadLettered, at(40), it), letter: &it}
			}, `dead_lettered since 40 item hook~1-0 attempts 3 arrived? false expires 60
40 dead_lettered exhausted after 3 attempts: SINK_UNAVAILABLE: HTTP 503
next 60 expiry scheduled`,
		},
		"the record ended before the dead letter": {
			5000, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonAmbiguous)
				it.FirstFailedAt, it.Unanswered = at(38), 1
				return known{letter: &it}
			}, `dead_lettered since 40 item hook~1-0 attempts 3 arrived? true expires -
38 began
40 dead_lettered ambiguous after 3 attempts: SINK_UNAVAILABLE: HTTP 503
next - operator waiting`,
		},
		"replays failed, and died, until it was parked": {
			900, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonExhausted)
				it.Parked, it.Replays = true, 3
				it.History = []dlq.ReplayRecord{{At: at(100), Error: "HTTP 503"}, {At: at(200), Error: dlq.DiedUnder}, {At: at(300), Error: "HTTP 500"}}
				return known{rec: asRecord(delivery.StatusDeadLettered, at(40), it), letter: &it}
			}, `dead_lettered since 40 item hook~1-0 attempts 6 arrived? false expires -
40 dead_lettered exhausted after 3 attempts: SINK_UNAVAILABLE: HTTP 503
100 failed HTTP 503
200 died the process that replayed it died: its lease ran out without an outcome
300 failed HTTP 500
300 parked replayed too often: an operator decides
next - operator parked`,
		},
		"an import held it": {
			900, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonExhausted)
				it.Held, it.History = true, []dlq.ReplayRecord{{At: at(100), Error: "imported; it was held"}}
				return known{letter: &it, hidden: true}
			}, `dead_lettered since 40 item hook~1-0 attempts 4 arrived? false expires -
40 dead_lettered exhausted after 3 attempts: SINK_UNAVAILABLE: HTTP 503
100 imported imported; it was held
100 held the schedule must not repeat it: an operator decides
next - operator waiting`,
		},
		"clocks differ": {
			900, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonTerminal)
				it.Held, it.History = true, []dlq.ReplayRecord{{At: at(39), Error: "imported; it was held"}}
				rec := asRecord(delivery.StatusCanceled, at(38), it)
				rec.Former = delivery.StatusDeadLettered
				return known{rec: rec, letter: &it}
			}, `canceled since 38 item hook~1-0 attempts 4 arrived? false expires -
40 dead_lettered terminal after 3 attempts: SINK_UNAVAILABLE: HTTP 503
39 imported imported; it was held
39 held the schedule must not repeat it: an operator decides
38 canceled it was dead_lettered`,
		},
		"a replay delivered it, and it was kept": {
			900, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonExhausted)
				it.DeliveredAt, it.History = at(200), []dlq.ReplayRecord{{At: at(100), Error: "HTTP 503"}, {At: at(200)}}
				return known{rec: asRecord(delivery.StatusDelivered, at(201), it), letter: &it}
			}, `delivered since 201 item hook~1-0 attempts 5 arrived? false expires -
40 dead_lettered exhausted after 3 attempts: SINK_UNAVAILABLE: HTTP 503
100 failed HTTP 503
200 delivered by a replay`,
		},
		"a replay delivered it, and it is gone": {
			900, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusDelivered, UpdatedAt: at(200), BeganAt: at(38), DeadLetteredAt: at(40), Attempts: 3, ItemID: "hook~1-0"}}
			}, `delivered since 200 item hook~1-0 attempts 3 arrived? false expires -
38 began
40 dead_lettered
200 delivered by a replay`,
		},
		"kept after its delivery, and the record says still that it is dead-lettered": {
			900, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonExhausted)
				it.DeliveredAt = at(200)
				return known{rec: asRecord(delivery.StatusDeadLettered, at(40), it), letter: &it}
			}, `delivered since 200 item hook~1-0 attempts 3 arrived? false expires -
40 dead_lettered exhausted after 3 attempts: SINK_UNAVAILABLE: HTTP 503
200 delivered by a replay`,
		},
		"its dead letter is not there any more": {
			900, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusDeadLettered, UpdatedAt: at(40), DeadLetteredAt: at(40), ItemID: "hook~1-0"}}
			}, "SINK_DLQ_NOT_FOUND: it was dead-lettered at 2000-01-01T00:00:40Z as hook~1-0, which is not there any more (trimmed, lost, or removed by others); a resend starts it anew",
		},
		"its time is over, and nobody has marked it yet": {
			900, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonExhausted)
				it.ExpiresAt = at(600)
				return known{rec: asRecord(delivery.StatusDeadLettered, at(40), it), letter: &it}
			}, `expired since 600 item hook~1-0 attempts 3 arrived? false expires 600
40 dead_lettered exhausted after 3 attempts: SINK_UNAVAILABLE: HTTP 503
600 expired
next - operator expired`,
		},
		"it came too late": {
			900, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonExpired)
				it.Attempts, it.LastError, it.ExpiresAt = 0, "", at(30)
				rec := asRecord(delivery.StatusExpired, at(40), it)
				rec.AcceptedAt, rec.ExpiresAt = at(0), at(30)
				return known{rec: rec, letter: &it}
			}, `expired since 30 item hook~1-0 attempts 0 arrived? false expires 30
0 accepted
30 expired
40 dead_lettered expired after 0 attempts
next - operator expired`,
		},
		"canceled while it waited": {
			50, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusCanceled, UpdatedAt: at(12), AcceptedAt: at(0), NotBefore: at(30), Former: delivery.StatusAccepted}}
			}, `canceled since 12 item  attempts 0 arrived? false expires -
0 accepted
0 waiting until 2000-01-01T00:00:30Z
12 canceled it was accepted`,
		},
		"canceled before anything was known": {
			50, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusCanceled, UpdatedAt: at(12)}}
			}, `canceled since 12 item  attempts 0 arrived? false expires -
12 canceled nothing was known of it`,
		},
		"canceled as a dead letter that may have arrived, and not removed yet": {
			50, func(at func(int) time.Time) known {
				it := failedAt(at(10), dlq.ReasonAmbiguous)
				rec := asRecord(delivery.StatusCanceled, at(12), it)
				rec.Former, rec.Attempts, rec.Unanswered = delivery.StatusDeadLettered, 3, 1
				return known{rec: rec, letter: &it}
			}, `canceled since 12 item hook~1-0 attempts 3 arrived? true expires -
10 dead_lettered ambiguous after 3 attempts: SINK_UNAVAILABLE: HTTP 503
12 canceled it was dead_lettered`,
		},
		"spilled": {
			50, func(at func(int) time.Time) known {
				it := failedAt(at(10), dlq.ReasonExhausted)
				it.ID, it.Spilled = "", true
				return known{rec: asRecord(delivery.StatusDeadLettered, at(12), it), letter: &it}
			}, `dead_lettered since 10 item  attempts 3 arrived? false expires - spilled
10 dead_lettered exhausted after 3 attempts: SINK_UNAVAILABLE: HTTP 503
10 spilled the queue did not take it: it waits in the journal for room there
next - return due`,
		},
		"spilled, for an operator, and expired": {
			50, func(at func(int) time.Time) known {
				it := failedAt(at(10), dlq.ReasonTerminal)
				it.ID, it.Spilled, it.ExpiresAt = "", true, at(40)
				return known{letter: &it}
			}, `expired since 40 item  attempts 3 arrived? false expires 40 spilled
10 dead_lettered terminal after 3 attempts: SINK_UNAVAILABLE: HTTP 503
10 spilled the queue did not take it: it waits in the journal for room there
40 expired
next - return expired`,
		},
		"discarded": {
			50, func(at func(int) time.Time) known {
				return known{rec: &delivery.Record{Status: delivery.StatusDiscarded, UpdatedAt: at(12), DeadLetteredAt: at(10), ItemID: "hook~1-0"}}
			}, `discarded since 12 item hook~1-0 attempts 0 arrived? false expires -
10 dead_lettered
12 discarded`,
		},
		"discarded, and stored anew since": {
			50, func(at func(int) time.Time) known {
				it := failedAt(at(40), dlq.ReasonTerminal)
				return known{rec: asRecord(delivery.StatusDiscarded, at(12), it), letter: &it}
			}, `dead_lettered since 40 item hook~1-0 attempts 3 arrived? false expires -
40 dead_lettered terminal after 3 attempts: SINK_UNAVAILABLE: HTTP 503
next - operator waiting`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t0 := time.Now().UTC()
				at := func(seconds int) time.Time { return t0.Add(time.Duration(seconds) * time.Second) }
				k := story.know(at)
				time.Sleep(time.Duration(story.now) * time.Second)
				w, err := k.tracker().Track(t.Context(), delivery.Key{Sink: "hook", ID: "d1"})
				got := inLines(w, t0)
				if err != nil {
					got = err.Error()
				}
				if got != story.want {
					t.Errorf("got\n%s\n\nwant\n%s", got, story.want)
				}
			})
		})
	}
}

// failedAt is a dead letter that failed at a time.
func failedAt(at time.Time, why dlq.Reason) dlq.Item {
	return dlq.Item{
		ID: "hook~1-0", DeliveryID: "d1", Sink: "hook", At: at, Message: sinks.Message{ID: "d1", Body: "b"}, Attempts: 3,
		LastError: "SINK_UNAVAILABLE: HTTP 503", Reason: why,
	}
}

// asRecord is the record of a delivery that became a dead letter.
func asRecord(s delivery.Status, at time.Time, it dlq.Item) *delivery.Record {
	return &delivery.Record{Status: s, UpdatedAt: at, DeadLetteredAt: it.At, ItemID: it.ID, Fingerprint: delivery.FingerprintOf(it)}
}

func TestTrackRefusesBadNamesAndSaysWhatCannotBeRead(t *testing.T) {
	for name, c := range map[string]struct {
		key   delivery.Key
		fails error
		want  fault.Code
	}{
		"a bad sink":  {delivery.Key{Sink: "A", ID: "d1"}, nil, fault.CodeInvalidArgument},
		"a bad id":    {delivery.Key{Sink: "hook", ID: "a b"}, nil, fault.CodeInvalidArgument},
		"no records":  {delivery.Key{Sink: "hook", ID: "d1"}, errors.New("refused"), fault.CodeDLQUnavailable},
		"no such one": {delivery.Key{Sink: "hook", ID: "d1"}, nil, fault.CodeDLQNotFound},
	} {
		if _, err := (known{fails: c.fails}).tracker().Track(t.Context(), c.key); fault.CodeOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// Get tells how long somebody has a delivery, over both stores, and nothing once it is finished.
func TestARecordTellsHowLongItIsHeld(t *testing.T) {
	for name, s := range backends(t) {
		k := delivery.Key{Sink: "hook", ID: "d1"}
		before := time.Now()
		if _, _, err := s.Begin(t.Context(), delivery.Begin{Key: k, Fingerprint: "f", Token: "me", Lease: time.Minute}); err != nil {
			t.Fatal(err)
		}
		rec, _, err := s.Get(t.Context(), k)
		if err != nil || rec.LeasedUntil.Before(before.Add(50*time.Second)) || rec.LeasedUntil.After(time.Now().Add(70*time.Second)) {
			t.Errorf("%s: leased until %v, %v; want in a minute", name, rec.LeasedUntil, err)
		}
		if _, _, err := s.Finish(t.Context(), k, "me", delivery.Record{Sink: k.Sink, ID: k.ID, Status: delivery.StatusDelivered, Fingerprint: "f"}); err != nil {
			t.Fatal(err)
		}
		if rec, _, err := s.Get(t.Context(), k); err != nil || !rec.LeasedUntil.IsZero() {
			t.Errorf("%s: delivered, and leased until %v, %v", name, rec.LeasedUntil, err)
		}
	}
}

// A dead letter's time is that of its id, in milliseconds; its record's is finer.
func TestADeadLetterStandsBehindWhatBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pass(1500 * time.Microsecond)
		b := newBench(nil)
		b.kept(t)
		way, err := (&delivery.Tracker{Records: b.Records, Letters: b.queue}).Track(t.Context(), key)
		if err != nil || len(way.Timeline) != 2 || way.Timeline[0].Event != delivery.StepBegan || way.Timeline[1].Event != delivery.StepDeadLettered {
			t.Errorf("%+v, %v; want it begun, then dead-lettered", way.Timeline, err)
		}
	})
}
