package replay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"backstop/internal/await"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
)

func operation(n int) replay.Operation {
	return replay.Operation{
		ID: fmt.Sprintf("op-%032d", n), Action: replay.OperationReplay, Filter: &replay.Filter{Sink: "a", Reason: dlq.ReasonTerminal},
		Reason: "healed", Actor: "me", StopAfter: 4, Round: 1, Status: replay.OperationQueued, CreatedAt: time.UnixMilli(1_700_000_000_000 + int64(n)).UTC(), Total: 7,
		Sinks: map[string]replay.SinkProgress{"a": {NewestID: "5-1"}, "b": {NewestID: "6-1"}},
	}
}

func TestOperationStores(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) { operationStoreContract(t, open) })
	}
	t.Run("Redis whose replies are lost", func(t *testing.T) {
		operationStoreContract(t, func(tb testing.TB) (dlq.Store, replay.OperationStore) {
			tb.Helper()
			client := redistest.LoseReplies(redistest.Shared(tb).Client(tb))
			return dlq.NewMemory(), replay.NewRedisOperations(client, redistest.Prefix())
		})
	})
}

// Each rule waits for the second tries of others where replies are lost: together.
func operationStoreContract(t *testing.T, open func(tb testing.TB) (dlq.Store, replay.OperationStore)) {
	t.Helper()
	t.Run("an operation is stored once and comes back whole", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		op := operation(1)
		for range 2 {
			got, err := s.Create(t.Context(), op)
			if err != nil || asJSON(t, got) != asJSON(t, op) {
				t.Fatalf("Create: got %s, %v; want %s", asJSON(t, got), err, asJSON(t, op))
			}
		}
		other := op
		other.Reason = "another"
		if got, err := s.Create(t.Context(), other); err != nil || got.Reason != "healed" {
			t.Errorf("Create again: %q, %v; want what is there", got.Reason, err)
		}
		if got, err := s.Get(t.Context(), op.ID); err != nil || asJSON(t, got) != asJSON(t, op) {
			t.Errorf("Get: %s, %v", asJSON(t, got), err)
		}
	})
	t.Run("whose dead letters it erases is forgotten in the step that makes it final", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		for n, end := range []func(id string) error{
			func(id string) error {
				_, err := s.Save(t.Context(), id, "me", replay.OperationChange{Status: replay.OperationCompleted})
				return err
			},
			func(id string) error {
				_, err := s.Save(t.Context(), id, "me", replay.OperationChange{Status: replay.OperationFailed})
				return err
			},
			func(id string) error { _, err := s.Cancel(t.Context(), id); return err },
		} {
			op := operation(n)
			op.Action, op.Filter = replay.OperationErase, nil
			op.Recipient = &replay.HashedRecipient{Key: []byte("key"), Hash: []byte("hash")}
			create(t, s, op)
			before := take(t, s, op.ID, "me", time.Minute).op.Recipient
			if _, err := s.Save(t.Context(), op.ID, "me", replay.OperationChange{TTL: time.Minute, Sink: "a"}); err != nil {
				t.Fatal(err)
			}
			got, err := s.Get(t.Context(), op.ID)
			if err != nil || asJSON(t, before) != asJSON(t, op.Recipient) || asJSON(t, got.Recipient) != asJSON(t, op.Recipient) {
				t.Errorf("while it runs: %s, then %s, %v; want %s", asJSON(t, before), asJSON(t, got.Recipient), err, asJSON(t, op.Recipient))
			}
			if err := end(op.ID); err != nil {
				t.Fatal(err)
			}
			if got, err := s.Get(t.Context(), op.ID); err != nil || !got.Status.Final() || got.Recipient != nil {
				t.Errorf("when it is %s: %s, %v; want nothing", got.Status, asJSON(t, got.Recipient), err)
			}
		}
	})
	t.Run("an unknown one is SINK_DLQ_NOT_FOUND", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		_, get := s.Get(t.Context(), "op-x")
		_, _, take := s.Take(t.Context(), "op-x", "me", time.Minute)
		_, save := s.Save(t.Context(), "op-x", "me", replay.OperationChange{})
		_, cancel := s.Cancel(t.Context(), "op-x")
		_, resume := s.Resume(t.Context(), "op-x", nil)
		for _, err := range []error{get, take, save, cancel, resume} {
			if fault.CodeOf(err) != fault.CodeDLQNotFound {
				t.Errorf("got %v, want SINK_DLQ_NOT_FOUND", err)
			}
		}
	})
	t.Run("lists are newest first, unfinished ones oldest first", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		for n := range 3 {
			op := operation(n)
			op.CreatedAt = time.Now().Add(time.Duration(n) * time.Second)
			create(t, s, op)
		}
		if _, err := s.Cancel(t.Context(), operation(1).ID); err != nil {
			t.Fatal(err)
		}
		ops, err := s.List(t.Context(), 2)
		if err != nil || len(ops) != 2 || ops[0].ID != operation(2).ID || ops[1].ID != operation(1).ID {
			t.Errorf("List: %v, %v; want the third and the second", ops, err)
		}
		ids, err := s.Unfinished(t.Context())
		if err != nil || !slices.Equal(ids, []string{operation(0).ID, operation(2).ID}) {
			t.Errorf("Unfinished: %v, %v; want the first and the third", ids, err)
		}
	})
	t.Run("one owner at a time, until its time is over", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		op := operation(1)
		create(t, s, op)
		taken := take(t, s, op.ID, "first", time.Minute)
		if !taken.ok || taken.op.Status != replay.OperationRunning || taken.op.StartedAt.IsZero() {
			t.Fatalf("got %+v, want it running", taken)
		}
		if take(t, s, op.ID, "second", time.Minute).ok {
			t.Error("a second owner took it")
		}
		if !take(t, s, op.ID, "first", 20*time.Millisecond).ok {
			t.Error("the owner cannot take it again")
		}
		await.True(t, "another takes over from a dead owner", func() bool { return take(t, s, op.ID, "second", time.Minute).ok })
		if _, err := s.Save(t.Context(), op.ID, "first", replay.OperationChange{Status: replay.OperationFailed}); fault.CodeOf(err) != fault.CodeItemLeased {
			t.Errorf("the former owner saved: %v", err)
		}
		if got, err := s.Get(t.Context(), op.ID); err != nil || got.Status != replay.OperationRunning || !got.StartedAt.Equal(taken.op.StartedAt) {
			t.Errorf("got %+v, %v; want it running since its first start", got, err)
		}
	})
	t.Run("progress is kept by sink, and a final status ends it", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		op := operation(1)
		create(t, s, op)
		take(t, s, op.ID, "me", time.Minute)
		p := replay.SinkProgress{NewestID: "5-1", Cursor: "c", Left: []string{"a~1-1"}, Read: true}
		p.Settled, p.Failed, p.Skipped = 3, 2, 1
		status, err := s.Save(t.Context(), op.ID, "me", replay.OperationChange{TTL: time.Minute, Sink: "a", Progress: p})
		if err != nil || status != replay.OperationRunning {
			t.Fatalf("got %s, %v; want running", status, err)
		}
		got, err := s.Get(t.Context(), op.ID)
		if err != nil || asJSON(t, got.Sinks["a"]) != asJSON(t, p) || got.Sinks["b"].NewestID != "6-1" || got.Settled != 3 || got.Skipped != 1 {
			t.Errorf("got %+v, %v", got, err)
		}
		status, err = s.Save(t.Context(), op.ID, "me", replay.OperationChange{Status: replay.OperationFailed, Error: "why"})
		if err != nil || status != replay.OperationFailed {
			t.Errorf("got %s, %v; want failed", status, err)
		}
		if got, err = s.Get(t.Context(), op.ID); err != nil || got.Error != "why" || got.FinishedAt.IsZero() {
			t.Errorf("got %+v, %v; want it finished with its error", got, err)
		}
		if take(t, s, op.ID, "me", time.Minute).ok {
			t.Error("a final operation was taken")
		}
	})
	t.Run("an owner that ends its time leaves it to the next", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		op := operation(1)
		create(t, s, op)
		take(t, s, op.ID, "first", time.Minute)
		if _, err := s.Save(t.Context(), op.ID, "first", replay.OperationChange{}); err != nil {
			t.Fatal(err)
		}
		if !take(t, s, op.ID, "second", time.Minute).ok {
			t.Error("it cannot be taken")
		}
	})
	t.Run("a final operation is not canceled", func(t *testing.T) {
		t.Parallel()
		for _, final := range []replay.OperationStatus{replay.OperationCompleted, replay.OperationFailed} {
			_, s := open(t)
			op := operation(1)
			create(t, s, op)
			take(t, s, op.ID, "me", time.Minute)
			if _, err := s.Save(t.Context(), op.ID, "me", replay.OperationChange{Status: final, Error: "why"}); err != nil {
				t.Fatal(err)
			}
			before, err := s.Get(t.Context(), op.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.Cancel(t.Context(), op.ID); err != nil || asJSON(t, got) != asJSON(t, before) || got.Status != final {
				t.Errorf("canceled: %s, %v; want it as it was: %s", asJSON(t, got), err, asJSON(t, before))
			}
		}
	})
	t.Run("an operation that does not get on counts who took it", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		op := operation(1)
		create(t, s, op)
		owner := ""
		want := func(what string, n int) {
			t.Helper()
			if got, err := s.Get(t.Context(), op.ID); err != nil || got.Stalled != n {
				t.Errorf("%s: stalled %d, %v; want %d", what, got.Stalled, err, n)
			}
		}
		save := func(c replay.OperationChange) {
			t.Helper()
			if _, err := s.Save(t.Context(), op.ID, owner, c); err != nil {
				t.Fatal(err)
			}
		}
		want("new", 0)
		for n := 1; n <= 3; n++ {
			owner = fmt.Sprint("owner", n)
			for range 2 { // it can be repeated
				take(t, s, op.ID, owner, time.Minute)
			}
			want("taken", n)
			save(replay.OperationChange{})
			want("given back", n)
		}
		save(replay.OperationChange{Sink: "a", Progress: replay.SinkProgress{Cursor: "b"}, Still: true})
		want("after progress in which nothing was done", 3)
		save(replay.OperationChange{Sink: "a", Progress: replay.SinkProgress{Cursor: "c"}})
		want("after a slice", 0)
		owner = "another"
		take(t, s, op.ID, owner, time.Minute)
		save(replay.OperationChange{Moved: true})
		want("after a part of a slice", 0)
	})
	t.Run("a stopped operation is nobody's until it is resumed for its next round", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		op := operation(1)
		create(t, s, op)
		resume := func(sinks map[string]replay.SinkProgress) (replay.Operation, error) {
			t.Helper()
			return s.Resume(t.Context(), op.ID, sinks)
		}
		if _, err := resume(nil); !errors.Is(err, replay.ErrNotStopped) {
			t.Errorf("resumed while queued: %v", err)
		}
		take(t, s, op.ID, "me", time.Minute)
		if _, err := resume(nil); !errors.Is(err, replay.ErrNotStopped) {
			t.Errorf("resumed while running: %v", err)
		}
		p := replay.SinkProgress{NewestID: "5-1", Cursor: "c", Stopped: true, Error: "why", Receivers: map[string]replay.ReceiverProgress{"x": {InARow: 5, Stopped: true}}}
		if _, err := s.Save(t.Context(), op.ID, "me", replay.OperationChange{TTL: time.Minute, Sink: "a", Progress: p}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // as after a lost answer
			status, err := s.Save(t.Context(), op.ID, "me", replay.OperationChange{Status: replay.OperationStopped, Error: "why"})
			if err != nil || status != replay.OperationStopped {
				t.Fatalf("got %s, %v; want stopped", status, err)
			}
		}
		got, err := s.Get(t.Context(), op.ID)
		if err != nil || got.Status != replay.OperationStopped || got.Error != "why" || got.FinishedAt.IsZero() || asJSON(t, got.Sinks["a"]) != asJSON(t, p) || got.Status.Final() {
			t.Errorf("got %+v, %v; want it stopped with its error", got, err)
		}
		if take(t, s, op.ID, "me", time.Minute).ok || take(t, s, op.ID, "other", time.Minute).ok {
			t.Error("a stopped operation was taken")
		}
		if ids, err := s.Unfinished(t.Context()); err != nil || !slices.Equal(ids, []string{op.ID}) {
			t.Errorf("Unfinished: %v, %v; want it: it is not over", ids, err)
		}
		begin := replay.SinkProgress{NewestID: "5-1"}
		begin.Settled, begin.Delivered = 3, 3
		got, err = resume(map[string]replay.SinkProgress{"a": begin})
		if err != nil || got.Status != replay.OperationQueued || got.Round != 2 || got.Error != "" || !got.FinishedAt.IsZero() ||
			asJSON(t, got.Sinks["a"]) != asJSON(t, begin) || got.Sinks["b"].NewestID != "6-1" || got.Delivered != 3 {
			t.Errorf("got %s, %v; want its second round queued", asJSON(t, got), err)
		}
		if _, err := resume(nil); !errors.Is(err, replay.ErrNotStopped) {
			t.Errorf("resumed again: %v", err)
		}
		if _, err := s.Save(t.Context(), op.ID, "me", replay.OperationChange{Sink: "a", Progress: p}); !errors.Is(err, replay.ErrOperationTaken) {
			t.Errorf("the owner of the first round saved: %v", err)
		}
		if !take(t, s, op.ID, "other", time.Minute).ok {
			t.Error("a resumed operation cannot be taken")
		}
	})
	t.Run("a stopped operation can be canceled, and then not be resumed", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		op := operation(1)
		create(t, s, op)
		take(t, s, op.ID, "me", time.Minute)
		if _, err := s.Save(t.Context(), op.ID, "me", replay.OperationChange{Status: replay.OperationStopped, Error: "why"}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Cancel(t.Context(), op.ID); err != nil || got.Status != replay.OperationCanceled || got.Error != "why" {
			t.Errorf("got %+v, %v; want canceled", got, err)
		}
		if _, err := s.Resume(t.Context(), op.ID, nil); !errors.Is(err, replay.ErrNotStopped) {
			t.Errorf("resumed when canceled: %v", err)
		}
		if ids, err := s.Unfinished(t.Context()); err != nil || len(ids) != 0 {
			t.Errorf("Unfinished: %v, %v; want none", ids, err)
		}
	})
	t.Run("a cancellation that comes before the stop wins", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		op := operation(1)
		create(t, s, op)
		take(t, s, op.ID, "me", time.Minute)
		if _, err := s.Cancel(t.Context(), op.ID); err != nil {
			t.Fatal(err)
		}
		if status, err := s.Save(t.Context(), op.ID, "me", replay.OperationChange{Status: replay.OperationStopped}); err != nil || status != replay.OperationCanceled {
			t.Errorf("got %s, %v; want canceled", status, err)
		}
	})
	t.Run("a cancellation wins over its owner, whose progress is kept", func(t *testing.T) {
		t.Parallel()
		_, s := open(t)
		op := operation(1)
		create(t, s, op)
		take(t, s, op.ID, "me", time.Minute)
		if got, err := s.Cancel(t.Context(), op.ID); err != nil || got.Status != replay.OperationCanceled || got.FinishedAt.IsZero() {
			t.Fatalf("got %+v, %v; want canceled", got, err)
		}
		p := replay.SinkProgress{}
		p.Settled = 9
		status, err := s.Save(t.Context(), op.ID, "me", replay.OperationChange{Sink: "a", Progress: p, Status: replay.OperationCompleted})
		if err != nil || status != replay.OperationCanceled {
			t.Errorf("got %s, %v; want canceled", status, err)
		}
		if got, err := s.Get(t.Context(), op.ID); err != nil || got.Status != replay.OperationCanceled || got.Settled != 9 {
			t.Errorf("got %+v, %v; want canceled with its progress", got, err)
		}
	})
}

// An operation is known as unfinished before it exists, so that a crash between the two
// steps of its creation cannot hide it.
func TestAnIdWithoutOperationIsForgottenAfterAWhile(t *testing.T) {
	client, prefix := redistest.Shared(t).Client(t), redistest.Prefix()
	s := replay.NewRedisOperations(client, prefix)
	op := operation(1)
	for _, tt := range []struct {
		age  time.Duration
		left int
	}{{time.Minute, 1}, {2 * time.Hour, 0}} {
		op.CreatedAt = time.Now().Add(-tt.age)
		create(t, s, op)
		if err := client.Del(t.Context(), prefix+":op:"+op.ID).Err(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Take(t.Context(), op.ID, "me", time.Minute); fault.CodeOf(err) != fault.CodeDLQNotFound {
			t.Errorf("Take: %v, want SINK_DLQ_NOT_FOUND", err)
		}
		if ids, err := s.Unfinished(t.Context()); err != nil || len(ids) != tt.left {
			t.Errorf("created %s ago: %v, %v; want %d", tt.age, ids, err, tt.left)
		}
		if err := client.Del(t.Context(), prefix+":ops:open").Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func create(tb testing.TB, s replay.OperationStore, op replay.Operation) {
	tb.Helper()
	if _, err := s.Create(tb.Context(), op); err != nil {
		tb.Fatal(err)
	}
}

type taking struct {
	op replay.Operation
	ok bool
}

func take(tb testing.TB, s replay.OperationStore, id, owner string, ttl time.Duration) taking {
	tb.Helper()
	op, ok, err := s.Take(context.Background(), id, owner, ttl)
	if err != nil {
		tb.Fatal(err)
	}
	return taking{op, ok}
}
