package replay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

const ada = "ada@example.com"

func fullWorld(tb testing.TB) *world {
	tb.Helper()
	return newWorld(tb, targets{}, dlq.WithMaxLen(cap), dlq.WithOverflow(dlq.OverflowReject))
}

// populate stores dead letters of ada in every place there is, and of others beside them. Ada has 6: in the queue,
// parked, kept after its delivery, spilled, lost from the queue, and one that a replay holds. It returns
// the lease of the last.
func populate(tb testing.TB, w *world) dlq.Lease {
	tb.Helper()
	push(tb, w.queueOf(tb), "a", "lost", 1, idle, to(ada))
	w.wipe()
	q := w.queueOf(tb)
	push(tb, q, "a", "x", 1, idle, to("Bob@example.com"))
	var ids []string
	stored, errs := q.AddBatch(tb.Context(), []dlq.Item{
		{Sink: "a", DeliveryID: "waits", Message: sinks.Message{ID: "waits"}, Recipient: []byte(`{"address":"Ada@Example.com"}`), Reason: dlq.ReasonTerminal},
		{Sink: "a", DeliveryID: "neighbour", Message: sinks.Message{ID: "neighbour"}, Recipient: []byte(`{"address":"ada@example.org"}`), Reason: dlq.ReasonTerminal},
		{Sink: "a", DeliveryID: "parked", Message: sinks.Message{ID: "parked"}, Recipient: []byte(`{"to":[" ada@example.com"]}`), Reason: dlq.ReasonExhausted},
		{Sink: "a", DeliveryID: "kept", Message: sinks.Message{ID: "kept"}, Recipient: []byte(`{"address":"ada@example.com"}`), Reason: dlq.ReasonExhausted},
		{Sink: "a", DeliveryID: "held", Message: sinks.Message{ID: "held"}, Recipient: []byte(`{"address":"ada@example.com"}`), Reason: dlq.ReasonExhausted},
	})
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
	for _, it := range stored {
		ids = append(ids, it.ID)
	}
	settleAs(tb, q, ids[2], dlq.ActionPark)
	settleAs(tb, q, ids[3], dlq.ActionKeep)
	leased, err := w.memory.Claim(tb.Context(), dlq.Claim{Sink: "a", IDs: ids[4:], TTL: 3 * time.Minute})
	if err != nil || len(leased) != 1 {
		tb.Fatalf("Claim: %v, %v", leased, err)
	}
	push(tb, q, "b", "m", cap, idle, to("bob@example.com"))
	spilled, err := q.Add(tb.Context(), dlq.Item{Sink: "b", DeliveryID: "spilled", Message: sinks.Message{ID: "spilled"}, Recipient: []byte(`"ada@EXAMPLE.com"`), Reason: dlq.ReasonTerminal})
	if err != nil || !spilled.Spilled {
		tb.Fatalf("%+v, %v; want it spilled", spilled, err)
	}
	return leased[0].Lease
}

// erased checks that nothing of ada is left, and all of the others.
func erased(tb testing.TB, w *world, op replay.Operation) {
	tb.Helper()
	if op.Status != replay.OperationCompleted || op.Recipient != nil {
		tb.Errorf("%s: %s; want it completed, and the recipient forgotten", op.Status, asJSON(tb, op))
	}
	var left []string
	for id, it := range w.items(tb) {
		left = append(left, id)
		if strings.Contains(strings.ToLower(string(it.Recipient)), ada) {
			tb.Errorf("%s is in the queue", id)
		}
	}
	slices.Sort(left)
	want := []string{"m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "neighbour", "x0"}
	if !slices.Equal(left, want) {
		tb.Errorf("the queue has %v; want what is of others", left)
	}
	if all := bytes.ToLower(w.everything(tb)); bytes.Contains(all, []byte(ada)) || !bytes.Contains(all, []byte("ada@example.org")) || !bytes.Contains(all, []byte("bob@example.com")) {
		tb.Errorf("the journal has\n%s", all)
	}
	if stored, err := w.ops.Get(tb.Context(), op.ID); err != nil || strings.Contains(strings.ToLower(fmt.Sprintf("%+v", stored)), "ada@") {
		tb.Errorf("the operation's record: %+v, %v", stored, err)
	}
	if got := w.audited(tb); got.Queued != int64(len(want)) || got.Lost != 0 || got.Unjournaled != 0 || got.Ending != 0 {
		tb.Errorf("audit: %+v", got)
	}
	w.wipe() // and what is restored
	w.operate(tb, replay.OperationRequest{Action: replay.OperationRestore})
	if items := w.items(tb); len(items) != len(want) {
		tb.Errorf("a restore brought back %d, want %d", len(items), len(want))
	}
}

func TestAnErasureRemovesWhatThereIsOfARecipient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := fullWorld(t)
		log := logged(w.Engine)
		populate(t, w)
		ask := replay.OperationRequest{Action: replay.OperationErase, Recipient: " ADA@example.com", Reason: "asked for", Actor: "me", IdempotencyKey: "k"}
		dry := ask
		dry.DryRun = true
		if p := start(t, w.Engine, dry).Preview; p.Count != 4 || !p.Complete || p.Erase == nil || p.Erase.Erased < 6 {
			t.Errorf("dry run: %s; want 4 in the queue, and all of the journal", asJSON(t, p))
		}
		if len(w.items(t)) != 6+cap {
			t.Errorf("a dry run left %d", len(w.items(t)))
		}
		op := start(t, w.Engine, ask)
		if again := start(t, w.Engine, ask); again.ID != op.ID {
			t.Error("the same request again is another operation")
		}
		other := ask
		other.Recipient = "bob@example.com"
		if _, err := w.CreateOperation(t.Context(), other); fault.CodeOf(err) != fault.CodeIDReused {
			t.Errorf("its key for somebody else: %v, want ID_REUSED", err)
		}
		run(t, w.Engine, replay.Request{})
		if got := progress(t, w.Engine, op.ID); got.Status != replay.OperationRunning || got.Waiting != 1 {
			t.Errorf("while one is held: %s, %d waiting; want it to wait", got.Status, got.Waiting)
		}
		for range 8 {
			time.Sleep(time.Minute)
			run(t, w.Engine, replay.Request{})
		}
		op = progress(t, w.Engine, op.ID)
		// What was lost or spilled may have come back before the erasure came to it.
		if n := op.Discarded; n < 4 || n > 6 || op.OperationCounts != counts(n, 0, 0, n, 0) || n+op.Erase.Erased < 6 {
			t.Errorf("%+v, %+v; want all six removed", op.OperationCounts, op.Erase)
		}
		for _, id := range []string{"waits", "parked", "held"} {
			if rec, _, err := w.records.Get(t.Context(), delivery.Key{Sink: "a", ID: id}); err != nil || rec.Status != delivery.StatusDiscarded {
				t.Errorf("the record of %s: %s, %v; want discarded", id, rec.Status, err)
			}
		}
		if _, err := w.CreateOperation(t.Context(), ask); fault.CodeOf(err) != fault.CodeIDReused {
			t.Errorf("its key when it is over: %v; want ID_REUSED, for nobody can tell whose it was", err)
		}
		erased(t, w, op)
		if strings.Contains(log.String(), "ada") {
			t.Errorf("the log has it: %s", log)
		}
	})
}

// A process that dies at any of its calls leaves what the next one ends.
func TestAnErasureOutlivesItsProcesses(t *testing.T) {
	calls := int64(1 << 40)
	for n := int64(1); n < calls; n++ {
		synctest.Test(t, func(t *testing.T) {
			w := fullWorld(t)
			populate(t, w)
			op := start(t, w.Engine, replay.OperationRequest{Action: replay.OperationErase, Recipient: ada})
			w.calls.Store(0)
			w.dies = n
			for range 8 {
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
				if _, err := w.Run(ctx, replay.Request{Operation: op.ID}); err != nil && !errors.Is(err, errKilled) {
					t.Errorf("dead at %d: %v", n, err)
				}
				cancel()
				time.Sleep(2 * time.Minute) // leases run out
				if done := w.calls.Load() < n; done {
					calls = n
				}
				w.dies = 0
				w.restart()
			}
			op = progress(t, w.Engine, op.ID)
			erased(t, w, op)
			if t.Failed() {
				t.Logf("dead at call %d", n)
				calls = 0
			}
		})
	}
	if calls < 10 && calls > 0 {
		t.Errorf("only %d calls were made", calls)
	}
}
