package delivery_test

import (
	"context"
	"log/slog"
	"testing"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// journaled is a queue that takes nothing: a journal keeps what comes, until it is let in. What is
// given up must go from the journal first, which may be away.
type journaled struct {
	dlq.Store
	spilled []dlq.Item
	away    bool
}

func (j *journaled) Push(ctx context.Context, it dlq.Item) error {
	_, err := j.Add(ctx, it)
	return err
}

func (j *journaled) Add(ctx context.Context, it dlq.Item) (dlq.Item, error) {
	it, err := dlq.Prepare(ctx, it)
	if err != nil {
		return it, err
	}
	it.Spilled = true
	j.spilled = append(j.spilled, it)
	return it, nil
}

func (j *journaled) Find(ctx context.Context, sink, id, fingerprint string) (dlq.Item, error) {
	for _, it := range j.spilled {
		if it.Sink == sink && it.DeliveryID == id && (fingerprint == "" || dlq.IdentityOf(it).Content == fingerprint) {
			return it, nil
		}
	}
	return j.Store.Find(ctx, sink, id, fingerprint)
}

func (j *journaled) Settle(ctx context.Context, s []dlq.Settlement) ([]dlq.SettleResult, error) {
	if j.away {
		return nil, dlq.ErrJournal
	}
	return j.Store.Settle(ctx, s)
}

// letIn pushes what is spilled.
func (j *journaled) letIn(t *testing.T) dlq.Item {
	t.Helper()
	it, err := j.Store.Add(t.Context(), j.spilled[0])
	if err != nil || len(j.spilled) != 1 {
		t.Fatalf("%d spilled, %v", len(j.spilled), err)
	}
	j.spilled = nil
	return it
}

// spilling returns a bench whose failed delivery waits in a journal.
func spilling(t *testing.T) (*bench, *journaled) {
	t.Helper()
	b := newBench(errGone)
	j := &journaled{Store: b.queue}
	b.queue, b.Queue = j, j
	a, err := b.Deliver(t.Context(), ask(key.ID, "x"))
	if err != nil || a.Status != delivery.StatusDeadLettered || !a.Spilled || a.ItemID != "" {
		t.Fatalf("%+v, %v; want it dead-lettered and spilled", a, err)
	}
	b.sink.err, b.sink.sent = nil, 0
	return b, j
}

// A delivery whose dead letter waits in a journal is safe: a repetition sends nothing, and is told
// what it was told, or where it is by now.
func TestASpilledDeadLetterIsSafe(t *testing.T) {
	b, j := spilling(t)
	again := func(spilled bool, id string) {
		t.Helper()
		a, err := b.Deliver(t.Context(), ask(key.ID, "x"))
		if err != nil || a.Status != delivery.StatusDeadLettered || a.Spilled != spilled || a.ItemID != id || !a.Duplicate || b.sink.sent != 0 {
			t.Errorf("%+v, %v, %d sent; want spilled %v, item %q, nothing sent", a, err, b.sink.sent, spilled, id)
		}
		w, err := (&delivery.Tracker{Records: b.Records, Letters: b.queue}).Track(t.Context(), key)
		if err != nil || w.Status != delivery.StatusDeadLettered || w.Spilled != spilled || w.ItemID != id {
			t.Errorf("Track: %+v, %v; want spilled %v, item %q", w, err, spilled, id)
		}
	}
	again(true, "")
	again(false, j.letIn(t).ID)
}

// Nobody knows of a spilled dead letter but the journal: the queue was lost with its records. It is
// canceled all the same, and known.
func TestASpilledDeadLetterIsCanceled(t *testing.T) {
	b, j := spilling(t)
	c := &delivery.Canceler{Records: delivery.NewMemory(0), Letters: j, Spills: true, Log: slog.New(slog.DiscardHandler)}
	done, err := c.Cancel(t.Context(), key)
	if err != nil || !done.Known || done.Attempts != 1 {
		t.Fatalf("%+v, %v; want it known, with one attempt", done, err)
	}
	if noted, err := b.queue.Canceled(t.Context(), key.Sink, key.ID); err != nil || !noted {
		t.Errorf("noted: %v, %v; want what comes back from the journal to be told", noted, err)
	}
}

// A cancellation that the journal does not take has not happened: the dead letter is free, and the
// record as it was. One that was canceled before stays canceled.
func TestACancellationThatTheJournalRefusesIsUndone(t *testing.T) {
	for name, before := range map[string]bool{"a first one": false, "after one that was answered": true} {
		t.Run(name, func(t *testing.T) {
			b, j := spilling(t)
			c := &delivery.Canceler{Records: b.Records, Letters: j, Spills: true, Log: slog.New(slog.DiscardHandler)}
			if before {
				if _, err := c.Cancel(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
			it := j.letIn(t)
			j.away = true
			_, err := c.Cancel(t.Context(), key)
			wantCode(t, err, fault.CodeDLQUnavailable)
			rec, _, err := b.Records.Get(t.Context(), key)
			if canceled := rec.Status == delivery.StatusCanceled; err != nil || canceled != before {
				t.Errorf("record %+v, %v; canceled before: %v", rec, err, before)
			}
			leased, err := j.Claim(t.Context(), dlq.Claim{Sink: it.Sink, IDs: []string{it.ID}, TTL: lease})
			if err != nil || len(leased) != 1 || leased[0].Canceled != before {
				t.Errorf("claimed %+v, %v; want it free, noted as canceled: %v", leased, err, before)
			}
		})
	}
}
