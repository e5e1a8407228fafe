package replay_test

import (
	"bytes"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/await"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
)

// A queue was wiped. A restore brings back what was open, as parked and held as it was, and nothing of
// what the records know as ended; nothing is lost after it, and a second one changes nothing.
func TestARestoreBringsBackWhatAWipedQueueHad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, targets{})
		q := w.queueOf(t)
		push(t, q, "a", "due", 60)
		push(t, q, "b", "other", 5, idle)
		parked, held := push(t, q, "a", "parked", 1), push(t, q, "a", "held", 1)
		settleAs(t, q, parked[0], dlq.ActionPark)
		settleAs(t, q, held[0], dlq.ActionHold)
		w.audited(t) // and a tick writes the states
		var ended []delivery.Change
		for name, s := range map[string]delivery.Status{"due7": delivery.StatusDelivered, "due8": delivery.StatusDiscarded} {
			ended = append(ended, delivery.ChangeOf(w.items(t)[name], s))
		}
		if _, err := w.records.Update(t.Context(), ended...); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.records.Cancel(t.Context(), delivery.Key{Sink: "a", ID: "due9"}, "t", delivery.Record{}); err != nil {
			t.Fatal(err)
		}
		before := w.items(t)
		w.wipe()

		dry := start(t, w.Engine, replay.OperationRequest{Action: replay.OperationRestore, DryRun: true})
		if p := dry.Preview; p == nil || p.Count != 67 || !p.Complete || dry.Restore == nil || dry.Restore.Restored != 67 || len(w.items(t)) != 0 {
			t.Errorf("dry run: %s, and %d dead letters; want 67 counted, none stored", asJSON(t, dry), len(w.items(t)))
		}
		op := w.operate(t, replay.OperationRequest{Action: replay.OperationRestore})
		if want := (replay.RestoreCounts{Restored: 64, Skipped: 3}); op.Status != replay.OperationCompleted || *op.Restore != want {
			t.Errorf("restore: %s with %+v; want %+v", op.Status, *op.Restore, want)
		}
		after := w.items(t)
		for id, was := range before {
			now, there := after[id]
			if gone := id == "due7" || id == "due8" || id == "due9"; gone == there {
				t.Errorf("%s is there: %t", id, there)
			} else if there && (now.State(time.Now()) != was.State(time.Now()) || delivery.FingerprintOf(now) != delivery.FingerprintOf(was) || now.Journal != was.Journal) {
				t.Errorf("%s is %s; it was %s", id, asJSON(t, now.Show(time.Now())), asJSON(t, was.Show(time.Now())))
			}
		}
		rec, known, err := w.records.Get(t.Context(), delivery.Key{Sink: "a", ID: "due1"})
		if err != nil || !known || rec.Status != delivery.StatusDeadLettered || rec.ItemID != after["due1"].ID {
			t.Errorf("the record of what came back is %+v, %v", rec, err)
		}
		// Lines that are over may stay as long as their neighbours in an object.
		if got := w.audited(t); got != (replay.AuditCounts{Letters: 64 + got.Ending, Queued: 64, Ending: got.Ending}) || got.Ending > 3 {
			t.Errorf("audit after it: %+v", got)
		}
		again := w.operate(t, replay.OperationRequest{Action: replay.OperationRestore})
		if got := *again.Restore; got != (replay.RestoreCounts{Present: 64, Skipped: got.Skipped}) || got.Skipped > 3 {
			t.Errorf("a second restore: %+v; want 64 that are there", got)
		}
		if now := w.items(t); asJSON(t, now) != asJSON(t, after) {
			t.Error("a second restore changed something")
		}
		if got := w.audited(t); got.Queued != 64 || got.Lost+got.Unjournaled+got.Damaged+got.Spilled != 0 {
			t.Errorf("audit after the second: %+v", got)
		}
	})
}

// Dead letters that others pushed, or that were there before the journal, have no address; they are in the
// journal once a tick has written them, and a restore leaves them there.
func TestARestoreIntoAQueueThatLivesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, targets{})
		push(t, w.memory, "a", "native", 3, idle) // beside the journal
		push(t, w.queueOf(t), "a", "addressed", 3, idle)
		if got := w.audited(t); got != (replay.AuditCounts{Letters: 6, Queued: 6}) {
			t.Fatalf("audit before: %+v", got)
		}
		before, objects := w.items(t), w.everything(t)
		op := w.operate(t, replay.OperationRequest{Action: replay.OperationRestore})
		if want := (replay.RestoreCounts{Present: 6}); *op.Restore != want {
			t.Errorf("restore: %+v; want %+v", *op.Restore, want)
		}
		if got := w.audited(t); got != (replay.AuditCounts{Letters: 6, Queued: 6}) {
			t.Errorf("audit after: %+v", got)
		}
		if now := w.items(t); asJSON(t, now) != asJSON(t, before) || !bytes.Equal(w.everything(t), objects) {
			t.Errorf("the restore changed something: journal before\n%s\nafter\n%s", objects, w.everything(t))
		}
		// Both come back when the queue is lost.
		w.wipe()
		op = w.operate(t, replay.OperationRequest{Action: replay.OperationRestore})
		if want := (replay.RestoreCounts{Restored: 6}); *op.Restore != want || len(w.items(t)) != 6 {
			t.Errorf("restore after a wipe: %+v, %d dead letters; want %+v", *op.Restore, len(w.items(t)), want)
		}
		if got := w.audited(t); got != (replay.AuditCounts{Letters: 6, Queued: 6}) {
			t.Errorf("audit after that: %+v", got)
		}
	})
}

// A restore that finds no room says so, and goes on when there is some.
func TestARestoreWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, targets{}, dlq.WithMaxLen(60), dlq.WithOverflow(dlq.OverflowReject))
		push(t, w.queueOf(t), "a", "old", 60, idle)
		w.wipe()
		push(t, w.queueOf(t), "a", "new", 30, idle)
		op := start(t, w.Engine, replay.OperationRequest{Action: replay.OperationRestore})
		for range 3 {
			run(t, w.Engine, replay.Request{})
			time.Sleep(time.Minute)
		}
		op = progress(t, w.Engine, op.ID)
		if op.Status != replay.OperationRunning || op.Restore.Restored != 30 || !op.Restore.Full || depth(t, w.memory, "a") != 60 {
			t.Fatalf("in a full queue: %s, %+v, %d dead letters; want it waiting after 30", op.Status, *op.Restore, depth(t, w.memory, "a"))
		}
		w.restart() // another process goes on
		discard := start(t, w.Engine, replay.OperationRequest{Action: replay.OperationDiscard, Filter: &replay.Filter{Sink: "a", Reason: dlq.ReasonTerminal, Q: "secret-body"}})
		run(t, w.Engine, replay.Request{Operation: discard.ID})
		for range 3 {
			run(t, w.Engine, replay.Request{})
			time.Sleep(time.Minute)
		}
		op = progress(t, w.Engine, op.ID)
		if op.Status != replay.OperationCompleted || op.Restore.Restored != 60-op.Restore.Skipped-op.Restore.Present || op.Restore.Full {
			t.Errorf("with room: %s, %+v", op.Status, *op.Restore)
		}
		if got := w.audited(t); got.Lost != 0 || got.Unjournaled != 0 || got.Queued != depth(t, w.memory, "a") {
			t.Errorf("audit: %+v", got)
		}
	})
}

// In real time: the names of objects ascend, whatever a clock does.
func TestARestoreSince(t *testing.T) {
	w := newWorld(t, targets{})
	push(t, w.queueOf(t), "a", "old", 3, idle)
	began := time.Now()
	await.True(t, "a while later", func() bool { return time.Since(began) > 3*time.Millisecond })
	since := time.Now()
	push(t, w.queueOf(t), "a", "new", 2, idle)
	w.wipe()
	op := w.operate(t, replay.OperationRequest{Action: replay.OperationRestore, Since: since})
	if want := (replay.RestoreCounts{Restored: 2}); *op.Restore != want || len(w.items(t)) != 2 {
		t.Errorf("%+v, %d dead letters; want the two new ones", *op.Restore, len(w.items(t)))
	}
}

// An audit that finds something lost says so.
func TestAnAuditTellsWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, targets{})
		push(t, w.queueOf(t), "a", "m", 3, idle)
		w.aged(t, time.Hour)
		w.wipe()
		op := w.operate(t, replay.OperationRequest{Action: replay.OperationAudit})
		if want := (replay.AuditCounts{Letters: 3, Lost: 3}); op.Status != replay.OperationCompleted || *op.Audit != want {
			t.Errorf("%s, %+v; want %+v", op.Status, *op.Audit, want)
		}
	})
}

// So does a restore.
func TestARestoreOutlivesItsProcesses(t *testing.T) {
	calls := int64(1 << 40)
	for n := int64(1); n < calls; n++ {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, targets{})
			push(t, w.queueOf(t), "a", "m", 60, idle)
			push(t, w.queueOf(t), "b", "n", 1, idle)
			w.wipe()
			op := start(t, w.Engine, replay.OperationRequest{Action: replay.OperationRestore})
			w.calls.Store(0)
			w.dies = n
			for range 4 {
				if _, err := w.Run(t.Context(), replay.Request{Operation: op.ID}); err != nil && !errors.Is(err, errKilled) {
					t.Errorf("dead at %d: %v", n, err)
				}
				time.Sleep(20 * time.Minute)
				if done := w.calls.Load() < n; done {
					calls = n
				}
				w.dies = 0
				w.restart()
			}
			op = progress(t, w.Engine, op.ID)
			if op.Status != replay.OperationCompleted || op.Restore.Restored+op.Restore.Present != 61 || len(w.items(t)) != 61 {
				t.Errorf("dead at call %d: %s, %+v, %d dead letters", n, op.Status, *op.Restore, len(w.items(t)))
				calls = 0
			}
			if got := w.audited(t); got != (replay.AuditCounts{Letters: 61, Queued: 61}) {
				t.Errorf("dead at call %d: audit %+v", n, got)
				calls = 0
			}
		})
	}
	if calls < 5 && calls > 0 {
		t.Errorf("only %d calls were made", calls)
	}
}
