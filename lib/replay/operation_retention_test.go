package replay_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
)

// A cache evicts what has a TTL: nothing that an unfinished operation rests on has one.
func TestNothingOfAnUnfinishedOperationHasATTL(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, e *replay.Engine, id string){
		"completed": func(t *testing.T, e *replay.Engine, _ string) { t.Helper(); run(t, e, replay.Request{}) },
		"canceled": func(t *testing.T, e *replay.Engine, id string) {
			t.Helper()
			if _, err := e.CancelOperation(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, prefix := redistest.Shared(t).Client(t), redistest.Prefix()
			store := dlq.NewRedis(client, dlq.WithKeyPrefix(prefix))
			ops := replay.NewRedisOperations(client, prefix)
			ids := push(t, store, "a", "a", 2, idle)
			e := engine(store, configured(replay.Policy{}, &receiver{name: "a"}))
			e.Operations = ops
			op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal()})
			record, counters := prefix+":op:"+op.ID, "{"+prefix+":dlq:a}:op:"+op.ID
			wantTTL := func(when, key string, want time.Duration) {
				t.Helper()
				ttl, err := client.PTTL(t.Context(), key).Result()
				if err != nil || want < 0 && ttl != -1 || want > 0 && (ttl > want || ttl < want-time.Minute) {
					t.Errorf("%s, %s lives for %s, %v; want %s", when, key, ttl, err, want)
				}
			}
			wantTTL("queued", record, -1)
			// What an earlier version left is taken over.
			if err := client.Expire(t.Context(), record, time.Hour).Err(); err != nil {
				t.Fatal(err)
			}
			take(t, ops, op.ID, "me", time.Minute)
			wantTTL("taken", record, -1)
			leased, err := store.Claim(t.Context(), dlq.Claim{Sink: "a", IDs: ids[:1], TTL: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := store.Settle(t.Context(), []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionDiscard, Operation: op.ID}}); err != nil {
				t.Fatal(err)
			}
			wantTTL("after a settlement", counters, -1)
			if _, err := ops.Save(t.Context(), op.ID, "me", replay.OperationChange{Sink: "a", Progress: op.Sinks["a"]}); err != nil {
				t.Fatal(err)
			}
			wantTTL("after a slice", record, -1)
			if _, err := ops.Save(t.Context(), op.ID, "me", replay.OperationChange{Status: replay.OperationStopped}); err != nil {
				t.Fatal(err)
			}
			wantTTL("stopped", record, -1)
			wantTTL("stopped", counters, -1)
			if _, err := e.ResumeOperation(t.Context(), op.ID); err != nil {
				t.Fatal(err)
			}
			wantTTL("resumed", record, -1)
			end(t, e, op.ID)
			if got := progress(t, e, op.ID); !got.Status.Final() || got.Delivered < 1 {
				t.Fatalf("operation %+v, want it final", got)
			}
			wantTTL("final", record, dlq.OperationRetention)
			wantTTL("final", counters, dlq.OperationRetention)
		})
	}
}

func TestAnOperationIsKeptWhileItIsUnfinishedAndForAWhileAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ops := replay.NewMemoryOperations()
		op := operation(1)
		create(t, ops, op)
		time.Sleep(2 * dlq.OperationRetention)
		if ids, err := ops.Unfinished(t.Context()); err != nil || len(ids) != 1 || !take(t, ops, op.ID, "me", time.Minute).ok {
			t.Fatalf("unfinished: %v, %v; want the operation", ids, err)
		}
		if _, err := ops.Save(t.Context(), op.ID, "me", replay.OperationChange{Status: replay.OperationCompleted}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(dlq.OperationRetention)
		if _, err := ops.Get(t.Context(), op.ID); err != nil {
			t.Errorf("within its retention: %v", err)
		}
		time.Sleep(time.Second)
		if _, err := ops.Get(t.Context(), op.ID); fault.CodeOf(err) != fault.CodeDLQNotFound {
			t.Errorf("after its retention: %v", err)
		}
	})
}

// An unfinished operation stays in the list however old it is.
func TestAnOldUnfinishedOperationIsListed(t *testing.T) {
	client, prefix := redistest.Shared(t).Client(t), redistest.Prefix()
	s := replay.NewRedisOperations(client, prefix)
	old, gone, young := operation(1), operation(2), operation(3)
	old.CreatedAt, gone.CreatedAt = time.Now().Add(-2*dlq.OperationRetention), time.Now().Add(-2*dlq.OperationRetention)
	young.CreatedAt = time.Now()
	create(t, s, old)
	create(t, s, gone)
	if _, err := s.Cancel(t.Context(), gone.ID); err != nil {
		t.Fatal(err)
	}
	create(t, s, young)
	ops, err := s.List(t.Context(), 10)
	if err != nil || len(ops) != 2 || ops[0].ID != young.ID || ops[1].ID != old.ID {
		t.Errorf("listed %v, %v; want the young one and the unfinished one", ops, err)
	}
}

// An operation whose record is gone was accepted and will not be done: that is said.
func TestAMissingOperationIsLogged(t *testing.T) {
	client, prefix := redistest.Shared(t).Client(t), redistest.Prefix()
	store := dlq.NewRedis(client, dlq.WithKeyPrefix(prefix))
	sink := &receiver{name: "a"}
	e := engine(store, configured(replay.Policy{}, sink))
	e.Operations = replay.NewRedisOperations(client, prefix)
	log := logged(e)
	push(t, store, "a", "due", 1)
	op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, All: true})
	if err := client.Del(t.Context(), prefix+":op:"+op.ID).Err(); err != nil {
		t.Fatal(err)
	}
	if s := run(t, e, replay.Request{}); s.Delivered != 1 {
		t.Errorf("summary %+v, want the schedule's work done", s)
	}
	if n := strings.Count(log.String(), "bulk operation lost"); n != 1 || !strings.Contains(log.String(), op.ID) {
		t.Errorf("said %d times, want once with its id: %s", n, log)
	}
	if err := client.ZAdd(t.Context(), prefix+":ops:open", redis.Z{Score: 1, Member: op.ID}).Err(); err != nil {
		t.Fatal(err)
	}
	run(t, e, replay.Request{})
	if ids, err := e.Operations.Unfinished(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("%v are unfinished (%v), want the old one dropped", ids, err)
	}
}
