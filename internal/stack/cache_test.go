//go:build full

package stack_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
)

// The user of a created cache, on a cluster as ElastiCache Serverless is one: it may do
// all that the functions do, and nothing to what is not theirs.
func TestTheCacheUserMayDoWhatTheFunctionsDoAndNoMore(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t)
	access := text(resolve(t, createdCache).Resources["CacheUser"].Properties["AccessString"])
	args := []any{"ACL", "SETUSER", "functions", "reset", ">" + redisPassword}
	for word := range strings.FieldsSeq(access) {
		args = append(args, word)
	}
	for _, node := range cluster.Nodes {
		if err := node.Client(t).Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("access string: %v", err)
		}
	}
	o := cluster.Options()
	o.Username, o.Password = "functions", redisPassword
	client := redis.NewUniversalClient(o)
	t.Cleanup(func() { _ = client.Close() })
	ctx := t.Context()

	ok := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	queue := dlq.NewRedis(client, dlq.WithMaxLen(2), dlq.WithOverflow(dlq.OverflowTrim))
	for _, sink := range []string{"one", "two", "three"} { // on different nodes
		stored, errs := queue.AddBatch(ctx, []dlq.Item{
			{Sink: sink, DeliveryID: "a", Reason: dlq.ReasonExhausted, LastError: "HTTP 503"},
			{Sink: sink, DeliveryID: "b", Reason: dlq.ReasonExhausted},
			{Sink: sink, DeliveryID: "c", Reason: dlq.ReasonTerminal},
		})
		for _, err := range errs {
			ok("add", err)
		}
		_, err := queue.Get(ctx, stored[2].ID)
		ok("get", err)
		_, err = queue.Find(ctx, sink, "c", "")
		ok("find", err)
		_, err = queue.Groups(ctx, sink)
		ok("groups", err)
		_, err = queue.Gate(ctx, sink, "t", time.Minute)
		ok("gate", err)
		ok("ungate", queue.Ungate(ctx, sink, "t"))
		ok("pause", queue.Pause(ctx, sink, true))
		ok("resume", queue.Pause(ctx, sink, false))
		leased, err := queue.Claim(ctx, dlq.Claim{Sink: sink, Limit: 5, TTL: time.Minute})
		ok("claim", err)
		if len(leased) != 1 {
			t.Fatalf("claimed %v, want the one that is due", leased)
		}
		ok("release", queue.Release(ctx, []dlq.Lease{leased[0].Lease}))
		leased, err = queue.Claim(ctx, dlq.Claim{Sink: sink, IDs: []string{stored[1].ID}, TTL: time.Minute})
		ok("claim by id", err)
		_, err = queue.Settle(ctx, []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionRetry, Error: "again", Charge: true, Delay: time.Minute, Operation: "op-1"}})
		ok("settle", err)
		_, err = queue.Progress(ctx, "op-1", sink)
		ok("progress", err)
		ok("unpark", queue.Unpark(ctx, stored[1].ID))
		ok("discard", queue.Discard(ctx, stored[2].ID))
		stats, err := queue.Stats(ctx, sink)
		ok("stats", err)
		if stats.Depth != 1 || stats.Trimmed != 1 {
			t.Errorf("%s: %+v, want one left and one trimmed", sink, stats)
		}
	}
	names, err := queue.Sinks(ctx)
	ok("sinks", err)
	page, err := queue.Page(ctx, dlq.Query{Q: "HTTP"})
	ok("page", err)
	if len(names) != 3 || page.Scanned != 3 {
		t.Errorf("sinks %v, scanned %d", names, page.Scanned)
	}

	records := delivery.NewRedis(client, "", time.Hour)
	key := delivery.Key{Sink: "one", ID: "a"}
	_, _, err = records.Begin(ctx, delivery.Begin{Key: key, Fingerprint: "fingerprint", Token: "token", Lease: time.Minute})
	ok("begin", err)
	_, _, err = records.Finish(ctx, key, "token", delivery.Record{Sink: "one", ID: "a", Status: delivery.StatusDeadLettered})
	ok("finish", err)
	_, _, err = records.Begin(ctx, delivery.Begin{Key: key, Fingerprint: "fingerprint", Token: "token", Lease: time.Minute, Untrue: &delivery.Record{ItemID: "one~1-0"}})
	ok("reopen", err)
	_, err = records.Update(ctx, delivery.Change{Key: key, Status: delivery.StatusDelivered, Fingerprint: "fingerprint"})
	ok("update", err)
	_, _, err = records.Get(ctx, key)
	ok("get record", err)

	operations := replay.NewRedisOperations(client, "backstop")
	op, err := operations.Create(ctx, replay.Operation{ID: "op-1", Action: replay.OperationDiscard})
	ok("create operation", err)
	_, _, err = operations.Take(ctx, op.ID, "me", time.Minute)
	ok("take operation", err)
	_, err = operations.Save(ctx, op.ID, "me", replay.OperationChange{TTL: time.Minute, Sink: "one"})
	ok("save operation", err)
	_, err = operations.List(ctx, 10)
	ok("list operations", err)
	_, err = operations.Unfinished(ctx)
	ok("unfinished operations", err)
	_, err = operations.Cancel(ctx, op.ID)
	ok("cancel operation", err)

	for _, refused := range [][]any{
		{"GET", "another:key"},
		{"SET", "another:key", "x"},
		{"GET", "{another:key}:x"},
		{"KEYS", "*"},
		{"FLUSHALL"},
		{"CONFIG", "GET", "*"},
		{"ACL", "LIST"},
		{"CLUSTER", "RESET"},
		{"SHUTDOWN"},
	} {
		if err := client.Do(ctx, refused...).Err(); err == nil || !strings.Contains(err.Error(), "NOPERM") {
			t.Errorf("%v: %v, want NOPERM", refused, err)
		}
	}
}
