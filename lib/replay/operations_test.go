package replay_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// backends opens empty stores of each kind.
var backends = map[string]func(tb testing.TB) (dlq.Store, replay.OperationStore){
	"Memory": func(testing.TB) (dlq.Store, replay.OperationStore) {
		return dlq.NewMemory(), replay.NewMemoryOperations()
	},
	"embedded Redis": func(tb testing.TB) (dlq.Store, replay.OperationStore) {
		tb.Helper()
		_, client := redistest.Mini(tb)
		return dlq.NewRedis(client), replay.NewRedisOperations(client, "")
	},
	"Redis": func(tb testing.TB) (dlq.Store, replay.OperationStore) {
		tb.Helper()
		client, prefix := redistest.Shared(tb).Client(tb), redistest.Prefix()
		return dlq.NewRedis(client, dlq.WithKeyPrefix(prefix)), replay.NewRedisOperations(client, prefix)
	},
}

// idle makes an item one that the schedule leaves alone.
func idle(it *dlq.Item) { it.Reason, it.LastError = dlq.ReasonTerminal, "HTTP 404" }

func start(tb testing.TB, e *replay.Engine, r replay.OperationRequest) replay.Operation {
	tb.Helper()
	op, err := e.CreateOperation(tb.Context(), r)
	if err != nil {
		tb.Fatal(err)
	}
	return op
}

func progress(tb testing.TB, e *replay.Engine, id string) replay.Operation {
	tb.Helper()
	op, err := e.Operation(tb.Context(), id)
	if err != nil {
		tb.Fatal(err)
	}
	return op
}

func counts(settled, delivered, failed, discarded, skipped int64) replay.OperationCounts {
	return replay.OperationCounts{
		OperationCounts: dlq.OperationCounts{Settled: settled, Delivered: delivered, Failed: failed, Discarded: discarded},
		Skipped:         skipped,
	}
}

func terminal() *replay.Filter { return &replay.Filter{Reason: dlq.ReasonTerminal} }

func TestABulkReplayTriesEveryMemberOnce(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			third := func(_ context.Context, m sinks.Message) error {
				if strings.HasSuffix(m.ID, "3") {
					return errDown
				}
				return nil
			}
			a, b := &receiver{name: "a", answer: third}, &receiver{name: "b", answer: third}
			e := engine(store, configured(replay.Policy{BaseDelay: 10 * time.Hour}, a, b))
			e.Operations = ops
			push(t, store, "a", "a", 250, idle)
			push(t, store, "b", "b", 30, idle)
			if err := store.Pause(t.Context(), "b", true); err != nil { // an operator overrides it
				t.Fatal(err)
			}
			preview, err := e.Preview(t.Context(), replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal()})
			if err != nil || preview.Count != 280 || !preview.Complete || len(preview.Sample) != 10 {
				t.Fatalf("preview %d, complete %t, %d sampled, %v; want 280, all", preview.Count, preview.Complete, len(preview.Sample), err)
			}
			op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal(), Actor: "me", Reason: "healed"})
			if op.Total != 280 || !op.TotalComplete || op.Status != replay.OperationQueued {
				t.Errorf("created %+v, want 280 in all, queued", op)
			}
			push(t, store, "a", "later", 5, idle)
			s := run(t, e, replay.Request{})
			if s.Delivered != 252 || s.Failed != 28 {
				t.Errorf("summary %+v, want 252 delivered and 28 failed", s)
			}
			op = progress(t, e, op.ID)
			if op.Status != replay.OperationCompleted || op.OperationCounts != counts(280, 252, 28, 0, 0) || op.FinishedAt.IsZero() || op.Actor != "me" {
				t.Errorf("operation %+v, want it completed with 280 settled", op)
			}
			got := a.counts()
			maps.Copy(got, b.counts())
			if len(got) != 280 || len(a.calls())+len(b.calls()) != 280 {
				t.Errorf("%d sends of %d messages, want each member once, and none that came later", len(a.calls())+len(b.calls()), len(got))
			}
			page, err := store.Page(t.Context(), dlq.Query{Sink: "a", DeliveryID: "a3"})
			if err != nil || len(page.Items) != 1 || page.Items[0].Replays != 1 || !page.Items[0].State(time.Now()).Scheduled() || page.Items[0].NextReplayAt.IsZero() {
				t.Errorf("a failed member is %+v, %v; want it charged and due later", page.Items, err)
			}
		})
	}
}

func TestABulkDiscard(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			seen := &records{}
			// A sink that is not configured can still be cleared.
			e := engine(store, targets{})
			e.Operations, e.Records = ops, seen
			push(t, store, "a", "a", 130)
			push(t, store, "a", "other", 3, idle)
			listed := push(t, store, "b", "b", 5)
			op := start(t, e, replay.OperationRequest{Action: replay.OperationDiscard, Filter: &replay.Filter{Sink: "a", Reason: dlq.ReasonExhausted}})
			byID := start(t, e, replay.OperationRequest{Action: replay.OperationDiscard, IDs: append(listed[:2:2], listed[0], "b~1-1")})
			run(t, e, replay.Request{})
			if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(130, 0, 0, 130, 0) {
				t.Errorf("by filter: %+v, want 130 discarded", got)
			}
			if got := progress(t, e, byID.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(2, 0, 0, 2, 0) || got.Total != 2 {
				t.Errorf("by ids: %+v, want 2 discarded; what is missing or named twice does not count", got)
			}
			if depth(t, store, "a") != 3 || depth(t, store, "b") != 3 {
				t.Errorf("%d and %d are left, want 3 and 3", depth(t, store, "a"), depth(t, store, "b"))
			}
			if len(seen.set) != 132 || seen.set[delivery.Key{Sink: "a", ID: "a7"}] != delivery.StatusDiscarded {
				t.Errorf("%d records were updated, want 132", len(seen.set))
			}
		})
	}
}

func TestWhatABulkReplaySkips(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			sink := &receiver{name: "a"}
			e := engine(store, configured(replay.Policy{}, sink))
			e.Operations = ops
			ids := push(t, store, "a", "a", 4, idle)
			if _, err := e.ReplayOne(t.Context(), ids[1], replay.OneOptions{OnSuccess: replay.OnSuccessKeep}); err != nil {
				t.Fatal(err)
			}
			if err := store.Discard(t.Context(), ids[2]); err != nil {
				t.Fatal(err)
			}
			op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, IDs: ids})
			run(t, e, replay.Request{Operation: op.ID})
			if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(2, 2, 0, 0, 1) {
				t.Errorf("operation %+v, want 2 delivered and the kept one skipped", got)
			}
			if got := sink.counts()["a1"]; got != 1 {
				t.Errorf("the delivered item was sent %d times, want once", got)
			}
		})
	}
}

func TestAnUndecodableItemIsSkippedByAReplayAndRemovedByADiscard(t *testing.T) {
	client, prefix := redistest.Shared(t).Client(t), redistest.Prefix()
	store := dlq.NewRedis(client, dlq.WithKeyPrefix(prefix))
	sink := &receiver{name: "a"}
	e := engine(store, configured(replay.Policy{}, sink))
	push(t, store, "a", "a", 1, idle)
	if err := client.Do(t.Context(), "XADD", prefix+":dlq:a", "*", "item", "{broken").Err(); err != nil {
		t.Fatal(err)
	}
	all := replay.OperationRequest{Action: replay.OperationReplay, All: true}
	op := start(t, e, all)
	run(t, e, replay.Request{})
	if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(1, 1, 0, 0, 1) {
		t.Errorf("replay: %+v, want 1 delivered, 1 skipped", got)
	}
	all.Action = replay.OperationDiscard
	op = start(t, e, all)
	run(t, e, replay.Request{})
	if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(1, 0, 0, 1, 0) || depth(t, store, "a") != 0 {
		t.Errorf("discard: %+v, want the undecodable one removed", got)
	}
}

func TestOperationRequestsAreChecked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := dlq.NewMemory()
		push(t, store, "a", "a", 3)
		e := engine(store, targets{})
		many := make([]string, replay.MaxOperationIDs+1)
		tests := []struct {
			name, field string
			r           replay.OperationRequest
		}{
			{"no action", "action", replay.OperationRequest{All: true}},
			{"nothing selected", "filter", replay.OperationRequest{Action: replay.OperationDiscard}},
			{"an empty filter", "filter", replay.OperationRequest{Action: replay.OperationDiscard, Filter: &replay.Filter{}}},
			{"ids and a filter", "ids", replay.OperationRequest{Action: replay.OperationDiscard, Filter: terminal(), IDs: []string{"a~1-1"}}},
			{"ids and all", "ids", replay.OperationRequest{Action: replay.OperationDiscard, All: true, IDs: []string{"a~1-1"}}},
			{"a bad id", "ids[1]", replay.OperationRequest{Action: replay.OperationDiscard, IDs: []string{"a~1-1", "x"}}},
			{"too many ids", "ids", replay.OperationRequest{Action: replay.OperationDiscard, IDs: many}},
			{"a bad sink", "filter.sink", replay.OperationRequest{Action: replay.OperationReplay, Filter: &replay.Filter{Sink: "{}"}}},
			{"restore with a filter", "filter: restore", replay.OperationRequest{Action: replay.OperationRestore, Filter: terminal()}},
			{"restore of all", "all: restore", replay.OperationRequest{Action: replay.OperationRestore, All: true}},
			{"restore of ids", "ids: restore", replay.OperationRequest{Action: replay.OperationRestore, IDs: []string{"a~1-1"}}},
			{"restore that stops", "stop_after: restore", replay.OperationRequest{Action: replay.OperationRestore, StopAfter: number(1)}},
			{"restore of somebody", "recipient", replay.OperationRequest{Action: replay.OperationRestore, Recipient: "ada@example.com"}},
			{"restore without a journal", "action: there is no journal", replay.OperationRequest{Action: replay.OperationRestore}},
			{"a dry audit", "dry_run", replay.OperationRequest{Action: replay.OperationAudit, DryRun: true}},
			{"a late audit", "since", replay.OperationRequest{Action: replay.OperationAudit, Since: time.Now()}},
			{"audit without a journal", "action: there is no journal", replay.OperationRequest{Action: replay.OperationAudit}},
			{"erase of nobody", "recipient", replay.OperationRequest{Action: replay.OperationErase, Recipient: " \n"}},
			{"erase of all", "all: erase", replay.OperationRequest{Action: replay.OperationErase, Recipient: "ada@example.com", All: true}},
			{"a late erase", "since", replay.OperationRequest{Action: replay.OperationErase, Recipient: "ada@example.com", Since: time.Now()}},
			{"a reason that tells the recipient", "reason", replay.OperationRequest{Action: replay.OperationErase, Recipient: " ada@example.com", Reason: "asked by Ada@Example.com in May"}},
			{"discard of a recipient", "recipient", replay.OperationRequest{Action: replay.OperationDiscard, Filter: terminal(), Recipient: "ada@example.com"}},
			{"replay with a since of its own", "since", replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal(), Since: time.Now()}},
			{"an unknown reason", "filter.reason", replay.OperationRequest{Action: replay.OperationReplay, Filter: &replay.Filter{Reason: "bad"}}},
		}
		for _, tt := range tests {
			_, err := e.CreateOperation(t.Context(), tt.r)
			if fault.CodeOf(err) != fault.CodeInvalidArgument || !strings.Contains(err.Error(), tt.field) {
				t.Errorf("%s: got %v, want INVALID_ARGUMENT naming %s", tt.name, err, tt.field)
			}
		}
		if ops, err := e.ListOperations(t.Context(), 0); err != nil || len(ops) != 0 {
			t.Errorf("%d operations were stored (%v), want none", len(ops), err)
		}
	})
}

func TestADryRunNamesTheNumberAndStoresNothing(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			e := engine(store, targets{})
			e.Operations = ops
			push(t, store, "a", "a", 12)
			push(t, store, "b", "b", 3, idle)
			for _, tt := range []struct {
				r    replay.OperationRequest
				want int64
			}{
				{replay.OperationRequest{All: true}, 15},
				{replay.OperationRequest{Filter: &replay.Filter{Sink: "a"}}, 12},
				{replay.OperationRequest{Filter: &replay.Filter{Q: "SECRET-body"}}, 15},
				{replay.OperationRequest{Filter: terminal()}, 3},
				{replay.OperationRequest{Filter: &replay.Filter{DeliveryID: "b1"}}, 1},
				{replay.OperationRequest{Filter: &replay.Filter{Sink: "none"}}, 0},
				{replay.OperationRequest{Filter: &replay.Filter{Until: time.Now().Add(-time.Hour)}}, 0},
			} {
				tt.r.Action, tt.r.DryRun = replay.OperationDiscard, true
				op := start(t, e, tt.r)
				if op.Total != tt.want || !op.TotalComplete || len(op.Preview.Sample) != int(min(tt.want, 10)) || op.ID != "" {
					t.Errorf("%+v: total %d, %d sampled; want %d", tt.r, op.Total, len(op.Preview.Sample), tt.want)
				}
			}
			run(t, e, replay.Request{})
			if depth(t, store, "") != 15 {
				t.Error("a dry run changed something")
			}
			if got, err := e.ListOperations(t.Context(), 0); err != nil || len(got) != 0 {
				t.Errorf("%d operations were stored (%v), want none", len(got), err)
			}
		})
	}
}

func TestAnIdempotencyKeyIsOneOperation(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			e := engine(store, targets{})
			e.Operations = ops
			push(t, store, "a", "a", 2)
			r := replay.OperationRequest{Action: replay.OperationDiscard, Filter: &replay.Filter{Sink: "a", Until: time.Now().Add(time.Hour)}, IdempotencyKey: "key 1"}
			first := start(t, e, r)
			run(t, e, replay.Request{})
			push(t, store, "a", "later", 2)
			again := start(t, e, r)
			if again.ID != first.ID || again.Status != replay.OperationCompleted || again.Total != 2 {
				t.Errorf("the same key: %+v, want the first operation", again)
			}
			r.Action = replay.OperationReplay
			if _, err := e.CreateOperation(t.Context(), r); fault.CodeOf(err) != fault.CodeIDReused {
				t.Errorf("the same key for another request: %v, want ID_REUSED", err)
			}
			r.Action, r.IdempotencyKey = replay.OperationDiscard, "key 2"
			if other := start(t, e, r); other.ID == first.ID {
				t.Error("another key is the same operation")
			}
		})
	}
}

func TestCancelStopsBeforeTheNextSlice(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			sink := &receiver{name: "a"}
			e := engine(store, configured(replay.Policy{}, sink))
			e.Operations = ops
			push(t, store, "a", "a", 350, idle)
			op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal()})
			var once sync.Once
			sink.set(func(context.Context, sinks.Message) error {
				if len(sink.calls()) > 120 {
					once.Do(func() {
						if _, err := e.CancelOperation(context.Background(), op.ID); err != nil {
							t.Error(err)
						}
					})
				}
				return nil
			})
			run(t, e, replay.Request{})
			run(t, e, replay.Request{})
			op = progress(t, e, op.ID)
			if op.Status != replay.OperationCanceled || op.Settled != 200 || len(sink.calls()) != 200 {
				t.Errorf("%s after %d settled and %d sends, want canceled after the second slice of 100", op.Status, op.Settled, len(sink.calls()))
			}
		})
	}
}

func TestABulkReplayOfASinkThatIsNotConfiguredFailsAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a"}
		e := engine(store, configured(replay.Policy{}, sink))
		push(t, store, "a", "a", 2, idle)
		push(t, store, "gone", "g", 2, idle)
		op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, All: true})
		run(t, e, replay.Request{})
		op = progress(t, e, op.ID)
		if op.Status != replay.OperationFailed || !strings.Contains(op.Error, "sink gone: SINK_NOT_FOUND") || op.Delivered != 2 {
			t.Errorf("operation %+v, want failed for sink gone, and a delivered", op)
		}
		if depth(t, store, "gone") != 2 {
			t.Error("dead letters are gone")
		}
	})
}

func TestItemsThatAnotherReplayerHoldsAreWaitedForThenSkipped(t *testing.T) {
	for _, tt := range []struct {
		name string
		ttl  time.Duration
		want replay.OperationCounts
	}{
		{"until their lease ends", 10 * time.Minute, counts(5, 5, 0, 0, 0)},
		{"not for ever", 300 * time.Hour, counts(3, 3, 0, 0, 2)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, sink := dlq.NewMemory(), &receiver{name: "a"}
				e := engine(store, configured(replay.Policy{}, sink))
				ids := push(t, store, "a", "a", 5, idle)
				if _, err := store.Claim(t.Context(), dlq.Claim{Sink: "a", IDs: ids[1:3], TTL: tt.ttl}); err != nil {
					t.Fatal(err)
				}
				op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, All: true})
				run(t, e, replay.Request{})
				if got := progress(t, e, op.ID); got.Status != replay.OperationRunning || got.Settled != 3 || len(got.Sinks["a"].Left) != 2 {
					t.Fatalf("operation %+v, want 3 settled and 2 left", got)
				}
				for range 25 {
					time.Sleep(time.Minute)
					run(t, e, replay.Request{})
				}
				if got := progress(t, e, op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != tt.want {
					t.Errorf("operation %+v, want %+v", got, tt.want)
				}
			})
		})
	}
}

func TestABulkReplayOutlastsShortInvocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, sink := dlq.NewMemory(), &receiver{name: "a", answer: takes(400*time.Millisecond, nil)}
		due := &receiver{name: "due"}
		e := engine(store, configured(replay.Policy{Rate: 2}, sink, due))
		push(t, store, "a", "a", 130, idle)
		op := start(t, e, replay.OperationRequest{Action: replay.OperationReplay, All: true})
		ticks := 0
		for ; ticks < 100 && !progress(t, e, op.ID).Status.Final(); ticks++ {
			// A large operation must not keep the schedule from its work.
			push(t, store, "due", fmt.Sprintf("d%d-", ticks), 1)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if _, err := e.Run(ctx, replay.Request{}); err != nil {
				t.Fatal(err)
			}
			cancel()
			if n := depth(t, store, "due"); n != 0 {
				t.Fatalf("tick %d left %d due items in another sink", ticks, n)
			}
			time.Sleep(50 * time.Second)
		}
		if got := progress(t, e, op.ID); got.OperationCounts != counts(130, 130, 0, 0, 0) || len(sink.calls()) != 130 {
			t.Errorf("after %d ticks: %+v and %d sends, want each of 130 once", ticks, got.OperationCounts, len(sink.calls()))
		}
		if ticks < 5 {
			t.Errorf("%d ticks: the operation was to outlast several", ticks)
		}
	})
}

func TestTwoTicksAtOnceSettleEveryMemberOnce(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			store, ops := open(t)
			sink := &receiver{name: "a"}
			push(t, store, "a", "a", 250, idle)
			var engines []*replay.Engine
			for range 3 {
				e := engine(store, configured(replay.Policy{}, sink))
				e.Operations = ops
				engines = append(engines, e)
			}
			op := start(t, engines[0], replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal()})
			var all sync.WaitGroup
			for _, e := range engines {
				all.Go(func() { run(t, e, replay.Request{}) })
			}
			all.Wait()
			if got := progress(t, engines[0], op.ID); got.Status != replay.OperationCompleted || got.OperationCounts != counts(250, 250, 0, 0, 0) {
				t.Errorf("operation %+v, want 250 delivered", got)
			}
			if len(sink.calls()) != 250 || len(sink.counts()) != 250 {
				t.Errorf("%d sends of %d messages, want each of 250 once", len(sink.calls()), len(sink.counts()))
			}
		})
	}
}

// mortal is a process's view of the stores; after so many calls the process is dead.
type mortal struct {
	dlq.Store
	replay.OperationStore
	life *atomic.Int64
	kill context.CancelFunc
	last bool // the call at which it dies still happens
}

var errDead = errors.New("killed")

// mortally makes a call unless the process is dead.
func mortally[T any](m mortal, call func() (T, error)) (T, error) {
	var zero T
	left := m.life.Add(-1)
	if left > 0 {
		return call()
	}
	m.kill()
	if left == 0 && m.last {
		_, _ = call() // its answer is lost
	}
	return zero, errDead
}

func (m mortal) Claim(ctx context.Context, c dlq.Claim) ([]dlq.Leased, error) {
	return mortally(m, func() ([]dlq.Leased, error) { return m.Store.Claim(context.WithoutCancel(ctx), c) })
}

func (m mortal) Settle(ctx context.Context, s []dlq.Settlement) ([]dlq.SettleResult, error) {
	return mortally(m, func() ([]dlq.SettleResult, error) { return m.Store.Settle(ctx, s) })
}

func (m mortal) Release(ctx context.Context, l []dlq.Lease) error {
	_, err := mortally(m, func() (any, error) { return nil, m.Store.Release(ctx, l) })
	return err
}

func (m mortal) Get(ctx context.Context, id string) (dlq.Item, error) {
	return mortally(m, func() (dlq.Item, error) { return m.Store.Get(ctx, id) })
}

// mortalOperations is mortal as an OperationStore.
type mortalOperations struct{ mortal }

func (m mortalOperations) Get(ctx context.Context, id string) (replay.Operation, error) {
	return m.OperationStore.Get(ctx, id)
}

func (m mortalOperations) Save(ctx context.Context, id, owner string, c replay.OperationChange) (replay.OperationStatus, error) {
	return mortally(m.mortal, func() (replay.OperationStatus, error) { return m.OperationStore.Save(ctx, id, owner, c) })
}

// A process that dies at any point leaves an operation that later ticks complete: every
// member is settled once, the counters are true, nothing that failed is tried twice,
// and only what was in flight at a death is sent again.
func TestABulkReplayIsCompletedWhereverItsProcessesDie(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for _, life := range []int64{1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 26, 31} {
			for _, last := range []bool{false, true} {
				t.Run(fmt.Sprintf("after %d calls, the last happens %t, keep %t", life, last, keep), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { completeWithDeaths(t, life, last, keep) })
				})
			}
		}
	}
}

func completeWithDeaths(t *testing.T, life int64, last, keep bool) {
	t.Helper()
	const members, bad = 220, 22
	store, ops := dlq.NewMemory(), replay.NewMemoryOperations()
	sink := &receiver{name: "a", answer: func(ctx context.Context, m sinks.Message) error {
		if strings.HasSuffix(m.ID, "7") {
			return takes(10*time.Millisecond, errDown)(ctx, m)
		}
		return takes(10*time.Millisecond, nil)(ctx, m)
	}}
	push(t, store, "a", "a", members, idle)
	policy := replay.Policy{BaseDelay: 100 * time.Hour, MaxDelay: 100 * time.Hour}
	if keep {
		policy.OnSuccess = replay.OnSuccessKeep
	}
	healthy := engine(store, configured(policy, sink))
	healthy.Operations = ops
	op := start(t, healthy, replay.OperationRequest{Action: replay.OperationReplay, Filter: terminal()})

	inFlight := 0
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		m := mortal{Store: store, OperationStore: ops, life: &atomic.Int64{}, kill: cancel, last: last}
		m.life.Store(life)
		e := engine(m, configured(policy, sink))
		e.Operations = mortalOperations{m}
		settled := progress(t, healthy, op.ID).Settled
		sent := len(sink.calls())
		_, _ = e.Run(ctx, replay.Request{}) // a dead process has no answer
		cancel()
		inFlight += len(sink.calls()) - sent - int(progress(t, healthy, op.ID).Settled-settled)
		time.Sleep(10 * time.Second)
	}
	for tick := 0; !progress(t, healthy, op.ID).Status.Final(); tick++ {
		if tick == 20 {
			t.Fatalf("not completed: %+v", progress(t, healthy, op.ID))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if _, err := healthy.Run(ctx, replay.Request{}); err != nil {
			t.Fatal(err)
		}
		cancel()
		time.Sleep(20 * time.Second)
	}

	if got := progress(t, healthy, op.ID).OperationCounts; got != counts(members, members-bad, bad, 0, 0) {
		t.Errorf("counted %+v, want %d delivered and %d failed", got, members-bad, bad)
	}
	sent := sink.counts()
	if len(sent) != members || len(sink.calls()) != members+inFlight {
		t.Errorf("%d sends of %d messages, want %d once and %d again, which were in flight at a death", len(sink.calls()), len(sent), members, inFlight)
	}
	page, err := store.Page(t.Context(), dlq.Query{Sink: "a", Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	failed := 0
	for _, it := range page.Items {
		if !it.DeliveredAt.IsZero() {
			continue
		}
		failed++
		deaths := 0
		for _, r := range it.History {
			if r.Error == dlq.DiedUnder {
				deaths++
			}
		}
		if len(it.History) != deaths+1 || it.Replays != len(it.History) || it.Parked {
			t.Errorf("item %s was settled %d times as failed after %d deaths, want once, and not parked", it.DeliveryID, len(it.History)-deaths, deaths)
		}
	}
	if failed != bad || keep && len(page.Items) != members {
		t.Errorf("%d items failed of %d left, want %d", failed, len(page.Items), bad)
	}
}

// An engine without a store for operations cannot promise one: nobody would work on it.
func TestWithoutAStoreNoOperationIsAccepted(t *testing.T) {
	store := dlq.NewMemory()
	push(t, store, "a", "m", 2)
	e := engine(store, targets{})
	e.Operations = nil
	r := replay.OperationRequest{Action: replay.OperationDiscard, All: true}
	op, err := e.CreateOperation(t.Context(), r)
	if fault.CodeOf(err) != fault.CodeInvalidArgument || op.ID != "" {
		t.Errorf("got %+v, %v; want INVALID_ARGUMENT and no operation", op, err)
	}
	r.DryRun = true
	if op, err = e.CreateOperation(t.Context(), r); err != nil || op.Total != 2 {
		t.Errorf("dry run: got a total of %d, %v; want 2: it is answered and not stored", op.Total, err)
	}
}
