package replay_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// Whoever dates what it sends gets the same time in every attempt, and in every replay of
// what became of them: by the engine, by DLQ.Replay, and of the dead letter that a failed
// one left beside.
func TestTheFirstAttemptIsTheSameInAttemptsAndReplays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []time.Time
		sink := &receiver{name: "a", answer: func(ctx context.Context, _ sinks.Message) error {
			time.Sleep(700 * time.Millisecond)
			seen = append(seen, sinks.FirstAttempt(ctx))
			return errDown
		}}
		store := dlq.NewMemory()
		retrier := retry.NewRetrier(sink, retry.Config{MaxAttempts: 3}, store)
		store.SetRegistryLookup(func(string) (sinks.Sink, bool) { return retrier, true })

		first := time.Now()
		out := retrier.Deliver(t.Context(), nil, sinks.Message{ID: "d", Body: "x"})
		if out.Item.ID == "" || len(seen) != 3 {
			t.Fatalf("%+v after %d attempts, want a dead letter after 3", out, len(seen))
		}
		time.Sleep(time.Hour)
		run(t, engine(store, configured(replay.Policy{}, sink)), replay.Request{})
		time.Sleep(time.Hour)
		if err := store.Replay(t.Context(), out.Item.ID); sinks.CodeOf(err) != sinks.CodeDeadLettered {
			t.Fatalf("Replay: %v, want %s", err, sinks.CodeDeadLettered)
		}
		time.Sleep(time.Hour)
		run(t, engine(store, configured(replay.Policy{}, sink)), replay.Request{})
		if len(seen) < 8 {
			t.Fatalf("%d attempts, want 3, a replay, 3 more and a replay", len(seen))
		}
		if other := slices.IndexFunc(seen, func(at time.Time) bool { return !at.Equal(first) }); other >= 0 {
			t.Errorf("attempt %d was told %s, the first began at %s", other+1, seen[other], first)
		}
	})
}

// What others wrote says only when it was written.
func TestTheFirstAttemptOfAForeignDeadLetterIsWhenItWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen time.Time
		sink := &receiver{name: "a", answer: func(ctx context.Context, _ sinks.Message) error {
			seen = sinks.FirstAttempt(ctx)
			return nil
		}}
		store := dlq.NewMemory()
		ids := push(t, store, "a", "m", 1)
		at := get(t, store, ids[0]).At
		time.Sleep(time.Hour)
		run(t, engine(store, configured(replay.Policy{}, sink)), replay.Request{})
		if !seen.Equal(at) {
			t.Errorf("it was told %s, the dead letter is of %s", seen, at)
		}
	})
}
