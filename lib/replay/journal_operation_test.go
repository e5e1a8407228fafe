package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/journal"
	"backstop/lib/replay"
)

func restoreAll() replay.OperationRequest {
	return replay.OperationRequest{Action: replay.OperationRestore}
}

// A restore goes on where it was, step by step, in each sink of queue and journal; its counters are sums,
// and another process has its turn whenever somebody else is at the journal.
func TestARestoreGoesOnStepByStep(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			push(t, store, "queued", "m", 1, idle)
			var steps []string
			taken, fails := 1, 1
			k := &keeper{sinks: []string{"there"}}
			k.restore = func(_ context.Context, sink string, s journal.RestoreStep) (journal.RestoreProgress, error) {
				if sink == "queued" {
					return journal.RestoreProgress{Done: true, Present: 1, Looked: 1}, nil
				}
				steps = append(steps, s.After)
				switch {
				case s.After == "" && taken > 0:
					taken--
					return journal.RestoreProgress{}, dlq.ErrJournalTaken
				case s.After == "":
					return journal.RestoreProgress{After: "1", Restored: 3, Over: 1, Looked: 4}, nil
				case s.After == "1" && fails > 0:
					fails--
					return journal.RestoreProgress{After: "2", Restored: 1, Damaged: 1, Looked: 1}, errors.New("slow down")
				case s.After == "2":
					return journal.RestoreProgress{After: "2", Full: true}, nil
				}
				return journal.RestoreProgress{}, fmt.Errorf("a step after %q", s.After)
			}
			e := engine(store, targets{})
			e.Operations, e.Journal = ops, k
			op := start(t, e, restoreAll())
			run(t, e, replay.Request{Operation: op.ID}) // it is taken
			s := run(t, e, replay.Request{Operation: op.ID})
			if !strings.Contains(s.Sinks["there"].Error, "slow down") {
				t.Errorf("summary %+v; want the fault", s.Sinks["there"])
			}
			run(t, e, replay.Request{Operation: op.ID}) // there is no room
			if want := []string{"", "", "1", "2"}; strings.Join(steps, " ") != strings.Join(want, " ") {
				t.Errorf("steps after %q, want %q", steps, want)
			}
			got := progress(t, e, op.ID)
			if want := (replay.RestoreCounts{Restored: 4, Present: 1, Skipped: 1, Damaged: 1, Full: true}); got.Status != replay.OperationRunning || *got.Restore != want {
				t.Errorf("%s, %+v; want it running with %+v", got.Status, *got.Restore, want)
			}
			k.restore = func(_ context.Context, _ string, s journal.RestoreStep) (journal.RestoreProgress, error) {
				if s.After != "2" {
					t.Errorf("after a while it goes on after %q", s.After)
				}
				return journal.RestoreProgress{After: "3", Restored: 2, Looked: 2, Done: true}, nil
			}
			run(t, e, replay.Request{Operation: op.ID})
			got = progress(t, e, op.ID)
			if want := (replay.RestoreCounts{Restored: 6, Present: 1, Skipped: 1, Damaged: 1}); got.Status != replay.OperationCompleted || *got.Restore != want {
				t.Errorf("%s, %+v; want %+v", got.Status, *got.Restore, want)
			}
			if there := got.Sinks["there"]; !there.Done || there.Restore == nil || there.Restore.Restored != 6 {
				t.Errorf("its part: %s", asJSON(t, there))
			}
		})
	}
}

// A step that takes long keeps its operation from others, ends when the operation is canceled, and else with
// its share of the time.
func TestALongStepIsOneOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at atomic.Int64
		k := &keeper{sinks: []string{"a"}}
		k.audit = func(ctx context.Context, _ string) (journal.Audit, error) {
			if at.Add(1) > 1 {
				return journal.Audit{}, errors.New("two are at it")
			}
			<-ctx.Done()
			return journal.Audit{}, fmt.Errorf("reading: %w", ctx.Err())
		}
		e := engine(dlq.NewMemory(), targets{})
		e.Journal = k
		op := start(t, e, replay.OperationRequest{Action: replay.OperationAudit})
		done := make(chan replay.Summary)
		go func() {
			s, err := e.Run(t.Context(), replay.Request{Operation: op.ID})
			if err != nil {
				t.Error(err)
			}
			done <- s
		}()
		time.Sleep(10 * time.Minute)
		run(t, e, replay.Request{Operation: op.ID})
		if at.Load() != 1 {
			t.Errorf("%d at it, after longer than an operation's lease", at.Load())
		}
		if _, err := e.CancelOperation(t.Context(), op.ID); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		s := <-done
		if waited := time.Since(began); waited > time.Minute || s.Sinks["a"].Error != "" {
			t.Errorf("it went on for %s, and says %+v", waited, s.Sinks["a"])
		}
	})
}

// An audit reads everything: one that never has the time for it ends, and says why.
func TestAnAuditThatNeedsTooLongEnds(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			_, ops := open(t)
			tries := 0
			k := &keeper{sinks: []string{"a", "b"}}
			k.audit = func(ctx context.Context, sink string) (journal.Audit, error) {
				if sink == "b" {
					return journal.Audit{Letters: 2, Queued: 1, Lost: 1, Damaged: 3}, nil
				}
				tries++
				<-ctx.Done()
				return journal.Audit{}, ctx.Err()
			}
			e := engine(dlq.NewMemory(), targets{})
			e.Operations, e.Journal = ops, k
			op := start(t, e, replay.OperationRequest{Action: replay.OperationAudit})
			for range 7 {
				ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
				_, err := e.Run(ctx, replay.Request{Operation: op.ID})
				cancel()
				if err != nil {
					t.Fatal(err)
				}
			}
			got := progress(t, e, op.ID)
			if want := (replay.AuditCounts{Letters: 2, Queued: 1, Lost: 1, Damaged: 3}); got.Status != replay.OperationFailed || *got.Audit != want || tries != 5 ||
				!strings.Contains(got.Error, "sink a: 5 audits ran out of time") {
				t.Errorf("%s after %d tries, %+v, %q; want it failed after 5, and what is known of the other", got.Status, tries, *got.Audit, got.Error)
			}
		})
	}
}

// The bucket fails while an erasure is at it: what was done counts, and it goes on there.
func TestAnErasureGoesOnWhereTheJournalFailed(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			push(t, store, "a", "m", 3, idle, to(ada))
			push(t, store, "a", "other", 3, idle, to("bob@example.com"))
			var steps []string
			k := &keeper{sinks: []string{"a"}}
			k.erase = func(_ context.Context, _ string, match func(json.RawMessage) bool, after string) (journal.EraseProgress, error) {
				if depth(t, store, "a") != 3 {
					t.Error("the journal comes after the queue")
				}
				if !match(json.RawMessage(`"Ada@example.com"`)) || match(json.RawMessage(`"bob@example.com"`)) || match(nil) {
					t.Error("it matches somebody else, or nobody")
				}
				steps = append(steps, after)
				switch len(steps) {
				case 1:
					return journal.EraseProgress{After: "1", Erased: 2, Damaged: 1}, errors.New("slow down")
				case 2:
					return journal.EraseProgress{After: "1"}, dlq.ErrJournalTaken
				case 3:
					return journal.EraseProgress{After: "2", Versions: 5}, nil
				}
				return journal.EraseProgress{After: "2", Erased: 1, Done: true}, nil
			}
			e := engine(store, targets{})
			e.Operations, e.Journal = ops, k
			op := start(t, e, replay.OperationRequest{Action: replay.OperationErase, Recipient: ada})
			for range 4 {
				run(t, e, replay.Request{Operation: op.ID})
			}
			got := progress(t, e, op.ID)
			if want := (replay.EraseCounts{Erased: 3, Versions: 5, Damaged: 1}); got.Status != replay.OperationCompleted || *got.Erase != want || got.OperationCounts != counts(3, 0, 0, 3, 0) {
				t.Errorf("%s, %+v, %+v; want %+v", got.Status, *got.Erase, got.OperationCounts, want)
			}
			if strings.Join(steps, " ") != " 1 1 2" {
				t.Errorf("steps after %q", steps)
			}
		})
	}
}

// What waited in the journal for room came into the queue while the erasure was there: it looks again at what
// is new of that time, until nothing is found. What failed since is not its business.
func TestAnErasureLooksAgainAtWhatCameBack(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			push(t, store, "a", "m", 1, idle, to(ada))
			at := time.Now()
			passes := 0
			k := &keeper{sinks: []string{"a", "b"}}
			k.erase = func(_ context.Context, sink string, _ func(json.RawMessage) bool, _ string) (journal.EraseProgress, error) {
				if sink == "a" {
					if passes++; passes <= 2 {
						push(t, store, "a", fmt.Sprintf("back%d-", passes), 1, idle, to(ada), func(it *dlq.Item) { it.At = at })
						push(t, store, "a", fmt.Sprintf("new%d-", passes), 1, idle, to(ada), func(it *dlq.Item) { it.At = at.Add(time.Hour) })
					}
				}
				return journal.EraseProgress{Done: true}, nil
			}
			e := engine(store, targets{})
			e.Operations, e.Journal = ops, k
			op := start(t, e, replay.OperationRequest{Action: replay.OperationErase, Recipient: ada})
			run(t, e, replay.Request{Operation: op.ID})
			got := progress(t, e, op.ID)
			if got.Status != replay.OperationCompleted || got.OperationCounts != counts(3, 0, 0, 3, 0) || passes != 3 || depth(t, store, "a") != 2 {
				t.Errorf("%s, %+v, %d passes, %d left; want what came back removed, and the new ones left", got.Status, got.OperationCounts, passes, depth(t, store, "a"))
			}
		})
	}
}

// Where dead letters never cease to come, it ends all the same.
func TestAnErasureEndsInABusyQueue(t *testing.T) {
	store := dlq.NewMemory()
	push(t, store, "a", "m", 1, idle, to(ada))
	calls := 0
	k := &keeper{sinks: []string{"a"}}
	k.erase = func(context.Context, string, func(json.RawMessage) bool, string) (journal.EraseProgress, error) {
		if calls++; calls < 100 {
			push(t, store, "a", fmt.Sprintf("other%d-", calls), 1, idle, to("bob@example.com"))
		}
		return journal.EraseProgress{Done: true}, nil
	}
	e := engine(store, targets{})
	e.Journal = k
	op := start(t, e, replay.OperationRequest{Action: replay.OperationErase, Recipient: ada})
	run(t, e, replay.Request{Operation: op.ID})
	if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.Discarded != 1 || calls != 1 {
		t.Errorf("%s after %d looks into the journal, %d removed; want one of each", got.Status, calls, got.Discarded)
	}
}

func TestAnErasureWithoutAJournalIsOfTheQueue(t *testing.T) {
	client, prefix := redistest.Shared(t).Client(t), redistest.Prefix()
	store := dlq.NewRedis(client, dlq.WithKeyPrefix(prefix))
	push(t, store, "a", "m", 120, idle, to(ada))
	push(t, store, "a", "other", 1100, idle, to("bob@example.com"))
	if err := client.Do(t.Context(), "XADD", prefix+":dlq:a", "*", "item", "{broken "+ada).Err(); err != nil {
		t.Fatal(err)
	}
	e := engine(store, targets{})
	ask := replay.OperationRequest{Action: replay.OperationErase, Recipient: ada}
	if p, err := e.Preview(t.Context(), ask); err != nil || p.Count != 120 || !p.Complete || *p.Erase != (replay.EraseCounts{Unreadable: 1}) {
		t.Errorf("preview %s, %v; want 120, and one that cannot be read", asJSON(t, p), err)
	}
	op := start(t, e, ask)
	run(t, e, replay.Request{})
	got := progress(t, e, op.ID)
	if got.Status != replay.OperationCompleted || got.OperationCounts != counts(120, 0, 0, 120, 0) || *got.Erase != (replay.EraseCounts{Unreadable: 1}) || depth(t, store, "a") != 1101 {
		t.Errorf("%s, %+v, %+v, %d left; want 120 removed, and one counted that cannot be read", got.Status, got.OperationCounts, *got.Erase, depth(t, store, "a"))
	}
}

// What nobody here understands is not taken for something else.
func TestAnOperationThatCannotBeWorkedOnFails(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			sink := &receiver{name: "a"}
			push(t, store, "a", "m", 2, idle)
			e := engine(store, configured(replay.Policy{}, sink))
			e.Operations = ops
			for i, tt := range []struct {
				action replay.OperationAction
				why    string
			}{
				{"compact", `the action "compact" is not known`},
				{replay.OperationErase, "whose dead letters it removes is not known"},
				{replay.OperationRestore, "there is no journal"},
				{replay.OperationAudit, "there is no journal"},
			} {
				op := operation(i)
				op.Action, op.Filter, op.All = tt.action, nil, true
				op.Sinks = map[string]replay.SinkProgress{"a": {NewestID: "99999999999999-0"}}
				create(t, ops, op)
				run(t, e, replay.Request{Operation: op.ID})
				if got := progress(t, e, op.ID); got.Status != replay.OperationFailed || !strings.Contains(got.Error, tt.why) {
					t.Errorf("%s: %s, %q; want it failed: %s", tt.action, got.Status, got.Error, tt.why)
				}
			}
			if depth(t, store, "a") != 2 || len(sink.calls()) != 0 {
				t.Errorf("%d left, %d sent; want nothing touched", depth(t, store, "a"), len(sink.calls()))
			}
		})
	}
}

// Who cannot ask the journal which sinks it has starts nothing that would leave some out.
func TestAnOperationOnTheJournalNeedsItsSinks(t *testing.T) {
	e := engine(dlq.NewMemory(), targets{})
	e.Journal = &keeper{err: errors.New("denied")}
	for _, r := range []replay.OperationRequest{restoreAll(), {Action: replay.OperationAudit}, {Action: replay.OperationErase, Recipient: ada}} {
		if op, err := e.CreateOperation(t.Context(), r); err == nil || !strings.Contains(err.Error(), "denied") {
			t.Errorf("%s: %+v, %v; want that it was denied", r.Action, op, err)
		}
	}
}

// A dry run of a restore ends within its time, and says whether that was enough.
func TestADryRestoreIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{sinks: []string{"endless", "ended", "taken"}}
		k.restore = func(ctx context.Context, sink string, s journal.RestoreStep) (journal.RestoreProgress, error) {
			if !s.DryRun {
				t.Error("a dry run restores")
			}
			switch sink {
			case "taken":
				return journal.RestoreProgress{}, dlq.ErrJournalTaken
			case "ended":
				return journal.RestoreProgress{Restored: 2, Present: 1, Looked: 3, Done: true}, nil
			}
			select {
			case <-ctx.Done():
				return journal.RestoreProgress{After: s.After}, ctx.Err()
			case <-time.After(300 * time.Millisecond):
				return journal.RestoreProgress{After: s.After + "x", Restored: 1, Looked: 1}, nil
			}
		}
		e := engine(dlq.NewMemory(), targets{})
		e.Journal = k
		began := time.Now()
		r := restoreAll()
		r.DryRun = true
		op := start(t, e, r)
		if took := time.Since(began); took > 6*time.Second || op.Preview.Complete || op.Preview.Count != 18 || op.Restore.Restored != 18 || op.Restore.Present != 1 {
			t.Errorf("after %s: %s; want 18 so far", took, asJSON(t, op.Preview))
		}
	})
}
