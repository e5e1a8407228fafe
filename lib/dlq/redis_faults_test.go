package dlq_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// faulty returns a client of the shared server with faults in between, and a store on
// it.
func faulty(t *testing.T, opts ...dlq.Option) (*faults, prefixed) {
	t.Helper()
	f := &faults{}
	clean, c := redistest.Shared(t).Client(t), redistest.Shared(t).Client(t)
	c.AddHook(f)
	prefix := redistest.Prefix()
	t.Cleanup(func() { audit(t, clean, prefix) })
	return f, prefixed{Redis: dlq.NewRedis(c, append(opts, dlq.WithKeyPrefix(prefix))...), prefix: prefix}
}

// loseReplies lets Redis execute every command and loses each odd reply.
func (f *faults) loseReplies() {
	var n atomic.Int64
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fate = func(_ context.Context, name string, send func() error) error {
		if err := send(); err != nil || name == "sadd" {
			return err
		}
		if n.Add(1)%2 == 1 {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
}

func message(sink, id string) dlq.Item {
	return dlq.Item{Sink: sink, DeliveryID: id, Message: sinks.Message{ID: id, Body: "b"}, Reason: dlq.ReasonExhausted, LastError: "HTTP 503"}
}

func mustAdd(t *testing.T, s dlq.Store, it dlq.Item) dlq.Item {
	t.Helper()
	stored, err := s.Add(t.Context(), it)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func depth(t *testing.T, s dlq.Store, sink string) int64 {
	t.Helper()
	n, err := s.Count(t.Context(), sink)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestEveryCallSurvivesALostReply(t *testing.T) {
	for _, shards := range []int{1, 4} {
		t.Run(fmt.Sprint("shards ", shards), func(t *testing.T) {
			everyCallSurvives(t, dlq.WithShards(func(string) int { return shards }), dlq.ShardsAtOnce())
		})
	}
}

func everyCallSurvives(t *testing.T, opts ...dlq.Option) {
	t.Helper()
	ctx := t.Context()
	f, s := faulty(t, append(opts, dlq.WithMaxLen(6))...)
	for i := range 5 {
		mustAdd(t, s, message("mail", fmt.Sprint(i)))
	}
	f.loseReplies()

	mustAdd(t, s, message("mail", "5"))
	if n := depth(t, s, "mail"); n != 6 {
		t.Fatalf("%d dead letters after a push with a lost reply, want 6", n)
	}
	mustAdd(t, s, message("mail", "6")) // trims 0
	st, err := s.Stats(ctx, "mail")
	if err != nil || st.Depth != 6 || st.Trimmed != 1 {
		t.Fatalf("Stats = %+v, %v; want 6 deep, 1 trimmed", st, err)
	}
	leased, err := s.Claim(ctx, dlq.Claim{Sink: "mail", Limit: 4, TTL: time.Minute})
	if err != nil || len(leased) != 4 {
		t.Fatalf("Claim = %d, %v; want 4", len(leased), err)
	}
	byID, err := s.Claim(ctx, dlq.Claim{Sink: "mail", IDs: []string{leased[0].ID}, Token: leased[0].Token, TTL: time.Minute})
	if err != nil || len(byID) != 1 {
		t.Fatalf("Claim by id = %d, %v; want 1", len(byID), err)
	}
	settlements := make([]dlq.Settlement, 3)
	for i, a := range []dlq.Action{dlq.ActionDiscard, dlq.ActionPark, dlq.ActionRetry} {
		settlements[i] = dlq.Settlement{Lease: leased[i].Lease, Action: a, Error: "no", Charge: true, Delay: time.Hour, Operation: "op"}
	}
	results, err := s.Settle(ctx, settlements)
	if err != nil || slices.Contains(results, dlq.SettleFenced) {
		t.Fatalf("Settle = %v, %v; want all applied", results, err)
	}
	if it, err := s.Get(ctx, leased[2].ID); err != nil || it.Replays != 1 || len(it.History) != 1 {
		t.Errorf("settled twice: %+v, %v", it, err)
	}
	progress, err := s.Progress(ctx, "op", "mail")
	if want := (dlq.OperationCounts{Settled: 3, Delivered: 1, Failed: 2}); err != nil || progress != want {
		t.Errorf("Progress = %+v, %v; want %+v", progress, err, want)
	}
	if err := s.Release(ctx, []dlq.Lease{leased[3].Lease}); err != nil {
		t.Error(err)
	}
	if err := s.Unpark(ctx, leased[1].ID); err != nil {
		t.Error(err)
	}
	if err := s.Discard(ctx, leased[1].ID); err != nil {
		t.Error(err)
	}
	if ok, err := s.Gate(ctx, "mail", "t", time.Minute); !ok || err != nil {
		t.Errorf("Gate = %v, %v", ok, err)
	}
	p, err := s.Page(ctx, dlq.Query{})
	if err != nil || len(p.Items) != 4 {
		t.Errorf("Page = %d items, %v; want 4", len(p.Items), err)
	}
	survivesExpiryAndCancellation(t, s)
}

func survivesExpiryAndCancellation(t *testing.T, s dlq.Store) {
	t.Helper()
	ctx := t.Context()
	over := message("mail", "over")
	over.ExpiresAt = time.Now().Add(-time.Hour)
	over = mustAdd(t, s, over)
	leased, err := s.Claim(ctx, dlq.Claim{Sink: "mail", Expired: true, TTL: time.Minute})
	if err != nil || len(leased) != 1 || leased[0].ID != over.ID {
		t.Fatalf("Claim of what expired = %+v, %v; want %s", leased, err, over.ID)
	}
	results, err := s.Settle(ctx, []dlq.Settlement{{Lease: leased[0].Lease, Action: dlq.ActionExpire, Unanswered: 1, Operation: "expiry"}})
	if err != nil || results[0] != dlq.SettleApplied {
		t.Errorf("Settle = %v, %v", results, err)
	}
	if it, err := s.Get(ctx, over.ID); err != nil || it.ExpiredAt.IsZero() || it.Unanswered != 1 {
		t.Errorf("marked: %+v, %v; want one attempt without an answer", it, err)
	}
	if st, err := s.Stats(ctx, "mail"); err != nil || st.States[dlq.StateExpired] != 1 || st.Overdue != 0 {
		t.Errorf("Stats = %+v, %v; want one expired", st, err)
	}
	if p, err := s.Progress(ctx, "expiry", "mail"); err != nil || p != (dlq.OperationCounts{Settled: 1, Expired: 1}) {
		t.Errorf("Progress = %+v, %v", p, err)
	}
	of, err := s.ClaimDelivery(ctx, dlq.DeliveryClaim{Sink: "mail", DeliveryID: "over", TTL: time.Minute, Note: time.Hour})
	if err != nil || len(of) != 1 || !of[0].Canceled {
		t.Fatalf("ClaimDelivery = %+v, %v; want it, canceled", of, err)
	}
	if results, err := s.Settle(ctx, []dlq.Settlement{{Lease: of[0].Lease, Action: dlq.ActionDrop}}); err != nil || results[0] != dlq.SettleApplied {
		t.Errorf("Settle = %v, %v", results, err)
	}
	if canceled, err := s.Canceled(ctx, "mail", "over"); err != nil || !canceled {
		t.Errorf("Canceled = %t, %v; want true", canceled, err)
	}
	if err := s.Uncancel(ctx, "mail", "over"); err != nil {
		t.Error(err)
	}
	if n, err := s.PruneCanceled(ctx, "mail"); err != nil || n != 0 {
		t.Errorf("PruneCanceled = %d, %v", n, err)
	}
}

func TestReplayersWithLostRepliesSettleEachItemOnce(t *testing.T) {
	const items, replayers = 400, 8
	f, s := faulty(t)
	batch := make([]dlq.Item, items)
	for i := range batch {
		batch[i] = message("mail", fmt.Sprint(i))
	}
	if _, errs := s.AddBatch(t.Context(), batch); slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		t.Fatal(errs)
	}
	f.mu.Lock()
	f.fate = func(_ context.Context, _ string, send func() error) error {
		switch rand.IntN(10) {
		case 0: // the command is lost
			return syscall.ECONNRESET
		case 1: // the reply is lost
			if err := send(); err != nil {
				return err
			}
			return io.EOF
		}
		return send()
	}
	f.mu.Unlock()
	var mu sync.Mutex
	delivered := map[string]int{}
	var wg sync.WaitGroup
	for range replayers {
		wg.Go(func() {
			for {
				leased, err := s.Claim(t.Context(), dlq.Claim{Sink: "mail", Limit: 9, TTL: time.Minute})
				if err != nil || len(leased) == 0 {
					if err != nil {
						t.Error(err)
					}
					return
				}
				var settlements []dlq.Settlement
				mu.Lock()
				for _, l := range leased {
					delivered[l.Item.DeliveryID]++
					settlements = append(settlements, dlq.Settlement{Lease: l.Lease, Action: dlq.ActionDiscard, Operation: "op"})
				}
				mu.Unlock()
				results, err := s.Settle(t.Context(), settlements)
				if err != nil || slices.Contains(results, dlq.SettleFenced) {
					t.Errorf("Settle = %v, %v", results, err)
				}
			}
		})
	}
	wg.Wait()
	for id, n := range delivered {
		if n != 1 {
			t.Errorf("%s was leased %d times", id, n)
		}
	}
	if len(delivered) != items {
		t.Errorf("%d items were leased, want %d", len(delivered), items)
	}
	st, err := s.Stats(t.Context(), "mail")
	if err != nil || st.Depth != 0 {
		t.Errorf("Stats = %+v, %v; want nothing left", st, err)
	}
	progress, err := s.Progress(t.Context(), "op", "mail")
	if want := (dlq.OperationCounts{Settled: items, Delivered: items}); err != nil || progress != want {
		t.Errorf("Progress = %+v, %v; want %+v", progress, err, want)
	}
}

func TestPassingAnswersAreTriedAgain(t *testing.T) {
	for _, answer := range []string{
		"LOADING Redis is loading the dataset in memory", "READONLY You can't write against a read only replica.",
		"CLUSTERDOWN The cluster is down", "TRYAGAIN Multiple keys request during rehashing of slot",
		"MASTERDOWN Link with MASTER is down", "NOREPLICAS Not enough good replicas to write.",
	} {
		f, s := faulty(t)
		var n atomic.Int64
		f.fate = func(_ context.Context, _ string, send func() error) error {
			if n.Add(1) <= 2 {
				return redisError(answer)
			}
			return send()
		}
		if err := s.Push(t.Context(), message("mail", "a")); err != nil {
			t.Errorf("Push after %q: %v", answer, err)
		}
	}
}

type redisError string

func (e redisError) Error() string { return string(e) }

func (redisError) RedisError() {}

func TestAnswersThatDoNotPassAreReturned(t *testing.T) {
	for answer, hint := range map[string]string{
		"OOM command not allowed when used memory > 'maxmemory'.": "out of memory",
		"NOPERM this user has no permissions":                     "NOPERM",
		"WRONGTYPE Operation against a key":                       "WRONGTYPE",
	} {
		f, s := faulty(t)
		f.fate = func(context.Context, string, func() error) error { return redisError(answer) }
		err := s.Push(t.Context(), message("mail", "a"))
		var cause redisError
		if fault.CodeOf(err) != fault.CodeDLQUnavailable || !strings.Contains(err.Error(), hint) || !errors.As(err, &cause) {
			t.Errorf("Push = %v, want SINK_DLQ_UNAVAILABLE naming %q and wrapping the answer", err, hint)
		}
		if calls := f.sent(); len(calls) != 1 {
			t.Errorf("%q: %v was sent, want one command", answer, calls)
		}
	}
}

func TestACertificateThatNobodyTrustsIsNotTriedAgain(t *testing.T) {
	o := redistest.Start(t, redistest.WithTLS()).Options()
	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	c := redis.NewUniversalClient(o)
	t.Cleanup(func() { _ = c.Close() })
	f := &faults{}
	c.AddHook(f)
	err := dlq.NewRedis(c).Push(t.Context(), message("mail", "a"))
	var cause *tls.CertificateVerificationError
	if fault.CodeOf(err) != fault.CodeDLQUnavailable || !errors.As(err, &cause) {
		t.Errorf("Push = %v, want SINK_DLQ_UNAVAILABLE and the certificate's fault", err)
	}
	if calls := f.sent(); len(calls) != 1 {
		t.Errorf("%v was sent, want one command", calls)
	}
}

func TestASecondTryFitsIntoTheDeadline(t *testing.T) {
	f, s := faulty(t)
	mustAdd(t, s, message("mail", "before"))
	var n atomic.Int64
	f.fate = func(ctx context.Context, _ string, send func() error) error {
		if n.Add(1) == 1 {
			<-ctx.Done() // Redis does not answer
			return ctx.Err()
		}
		return send()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.Push(ctx, message("mail", "a")); err != nil {
		t.Errorf("Push = %v, want a second try to succeed", err)
	}
}

func TestADeadRedisIsUnavailableWithinTheDeadline(t *testing.T) {
	f, s := faulty(t)
	f.fate = func(ctx context.Context, _ string, _ func() error) error {
		<-ctx.Done()
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := s.Push(ctx, message("mail", "a"))
	if fault.CodeOf(err) != fault.CodeDLQUnavailable || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Push = %v, want SINK_DLQ_UNAVAILABLE with its cause", err)
	}
	if calls := f.sent(); len(calls) < 2 {
		t.Errorf("%v was sent, want more than one try", calls)
	}
}

func TestARestartOfRedisLosesNoPush(t *testing.T) {
	srv := redistest.Start(t, redistest.WithAppendOnly())
	s := newStore(t, srv.Client(t))
	mustAdd(t, s, message("mail", "0"))
	srv.Kill(t)
	done := make(chan error)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 9*time.Second)
		defer cancel()
		done <- s.Push(ctx, message("mail", "1"))
	}()
	srv.Restart(t)
	if err := <-done; err != nil {
		t.Errorf("Push over a restart: %v", err)
	}
	if n := depth(t, s, "mail"); n != 2 {
		t.Errorf("%d dead letters, want 2", n)
	}
}

func TestScriptsAreLoadedAgainWhenRedisForgotThem(t *testing.T) {
	c := redistest.Start(t).Client(t)
	s := newStore(t, c)
	var stored []dlq.Item
	for range 2 {
		stored = append(stored, mustAdd(t, s, message("mail", fmt.Sprint("a", len(stored)))), mustAdd(t, s, message("chat", fmt.Sprint("a", len(stored)))))
		if err := c.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		items, err := s.Items(t.Context(), "", 0) // pipelined
		if err != nil || len(items) != len(stored) {
			t.Errorf("Items = %d, %v; want %d", len(items), err, len(stored))
		}
	}
}

func TestAPushIsOneRoundTrip(t *testing.T) {
	f, s := faulty(t)
	mustAdd(t, s, message("mail", "first")) // also adds the sink's name
	f.sent()
	for i := range 3 {
		mustAdd(t, s, message("mail", fmt.Sprint(i)))
		if calls := f.sent(); !slices.Equal(calls, []string{"evalsha"}) {
			t.Errorf("a push sent %v, want one evalsha", calls)
		}
	}
	batch := make([]dlq.Item, 10)
	for i := range batch {
		batch[i] = message("mail", fmt.Sprint("b", i))
	}
	if _, errs := s.AddBatch(t.Context(), batch); errs[0] != nil {
		t.Fatal(errs[0])
	}
	if calls := f.sent(); !slices.Equal(calls, []string{"evalsha"}) {
		t.Errorf("a batch of one sink sent %v, want one evalsha", calls)
	}
}

func TestEntriesThatOthersRemovedAreForgotten(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	prefix := redistest.Prefix()
	s := prefixed{Redis: dlq.NewRedis(c, dlq.WithKeyPrefix(prefix), dlq.WithMaxLen(4)), prefix: prefix}
	ctx := t.Context()
	var ids []string
	for i := range 4 {
		it := mustAdd(t, s, message("mail", fmt.Sprint(i)))
		ids = append(ids, strings.TrimPrefix(it.ID, "mail~"))
	}
	leased, err := s.Claim(ctx, dlq.Claim{Sink: "mail", Limit: 4, TTL: time.Minute})
	if err != nil || len(leased) != 4 {
		t.Fatalf("Claim = %d, %v", len(leased), err)
	}
	for i, a := range []dlq.Action{dlq.ActionRetry, dlq.ActionRetry, dlq.ActionKeep, dlq.ActionRetry} {
		if _, err := s.Settle(ctx, []dlq.Settlement{{Lease: leased[i].Lease, Action: a, Error: "no"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.XDel(ctx, s.prefix+":dlq:mail", ids[1], ids[2]).Err(); err != nil {
		t.Fatal(err)
	}
	if again := mustAdd(t, s, message("mail", "1")); again.ID == "mail~"+ids[1] {
		t.Errorf("the removed entry %s was taken for the new one", again.ID)
	}
	for i := range 2 { // the second one trims
		mustAdd(t, s, message("mail", fmt.Sprint("n", i)))
	}
	leased, err = s.Claim(ctx, dlq.Claim{Sink: "mail", Limit: 10, TTL: time.Minute})
	if err != nil || len(leased) != 4 {
		t.Errorf("Claim = %d, %v; want the 4 that are there", len(leased), err)
	}
	if it, err := s.Get(ctx, "mail~"+ids[1]); fault.CodeOf(err) != fault.CodeDLQNotFound {
		t.Errorf("Get of a removed entry = %+v, %v", it, err)
	}
	for _, fault := range auditQueue(ctx, c, prefix, "mail") {
		// Nobody knows any more which group a removed entry was in.
		if !strings.HasPrefix(fault, "groups are") && !strings.HasPrefix(fault, "the history says") {
			t.Error(fault)
		}
	}
}

func TestAColdProcessSeesEverything(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	warm := newStore(t, c)
	a, b := mustAdd(t, warm, message("mail", "a")), mustAdd(t, warm, message("chat", "b"))
	cold := dlq.NewRedis(c, dlq.WithKeyPrefix(warm.prefix))
	items, err := cold.Items(t.Context(), "", 0)
	if err != nil || len(items) != 2 {
		t.Fatalf("Items = %d, %v; want 2", len(items), err)
	}
	for _, it := range []dlq.Item{a, b} {
		if got, err := cold.Get(t.Context(), it.ID); err != nil || got.DeliveryID != it.DeliveryID {
			t.Errorf("Get(%s) = %+v, %v", it.ID, got, err)
		}
		if err := cold.Discard(t.Context(), it.ID); err != nil {
			t.Errorf("Discard(%s): %v", it.ID, err)
		}
	}
	if n := depth(t, cold, ""); n != 0 {
		t.Errorf("%d left, want none", n)
	}
}

func TestABareIDInSeveralSinksIsAmbiguous(t *testing.T) {
	c := redistest.Shared(t).Client(t)
	s := newStore(t, c, dlq.WithSinks(func() []string { return []string{"mail", "chat"} }))
	for _, sink := range []string{"mail", "chat"} {
		err := c.XAdd(t.Context(), &redis.XAddArgs{
			Stream: s.prefix + ":dlq:" + sink, ID: "77-1", Values: []string{"item", `{"message":{"body":"b"}}`},
		}).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Get(t.Context(), "77-1")
	if fault.CodeOf(err) != fault.CodeInvalidArgument || !strings.Contains(err.Error(), "chat, mail") {
		t.Errorf("Get of a bare id = %v, want INVALID_ARGUMENT that names chat and mail", err)
	}
	for _, sink := range []string{"mail", "chat"} {
		if it, err := s.Get(t.Context(), sink+"~77-1"); err != nil || it.Sink != sink {
			t.Errorf("Get(%s~77-1) = %+v, %v", sink, it, err)
		}
	}
	p, err := s.Page(t.Context(), dlq.Query{Limit: 1})
	if err != nil || len(p.Items) != 1 || p.Items[0].Sink != "chat" || p.NextCursor == "" {
		t.Fatalf("Page = %+v, %v; want chat's first", p, err)
	}
	p, err = s.Page(t.Context(), dlq.Query{Limit: 1, Cursor: p.NextCursor})
	if err != nil || len(p.Items) != 1 || p.Items[0].Sink != "mail" || p.NextCursor != "" {
		t.Errorf("second page = %+v, %v; want mail's, the last", p, err)
	}
}

func TestABadPrefixIsRefusedByEveryCall(t *testing.T) {
	for _, prefix := range []string{"", "Backstop", "a{b}", "a b", strings.Repeat("a", 65)} {
		s := dlq.NewRedis(redistest.Shared(t).Client(t), dlq.WithKeyPrefix(prefix))
		if err := s.Push(t.Context(), message("mail", "a")); fault.CodeOf(err) != fault.CodeInvalidArgument {
			t.Errorf("Push with prefix %q = %v, want INVALID_ARGUMENT", prefix, err)
		}
		if _, err := s.Sinks(t.Context()); fault.CodeOf(err) != fault.CodeInvalidArgument {
			t.Errorf("Sinks with prefix %q = %v, want INVALID_ARGUMENT", prefix, err)
		}
	}
}

func TestMemoryPerDeadLetter(t *testing.T) {
	const n, budget = 10_000, 150
	c := redistest.Start(t).Client(t)
	s := dlq.NewRedis(c, dlq.WithMaxLen(0))
	ctx := t.Context()
	usage := func(keys ...string) (sum int64) {
		for _, k := range keys {
			n, err := c.MemoryUsage(ctx, k, 0).Result()
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
		return sum
	}
	var batch []dlq.Item
	for i := range n {
		it := message("mail", fmt.Sprintf("01890a5d-ac96-774b-bcce-%012d", i))
		it.Message.Body = strings.Repeat("x", 800)
		batch = append(batch, it)
	}
	if _, errs := s.AddBatch(ctx, batch); slices.ContainsFunc(errs, func(err error) bool { return err != nil }) {
		t.Fatal("push")
	}
	messages, err := c.XRange(ctx, "backstop:dlq:mail", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	p := c.Pipeline()
	for _, m := range messages {
		p.XAdd(ctx, &redis.XAddArgs{Stream: "bare", ID: m.ID, Values: []any{"item", m.Values["item"]}})
	}
	if _, err := p.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	bare := usage("bare")
	keys, err := c.Keys(ctx, "*backstop:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	ours := usage(keys...)
	t.Logf("bytes per dead letter: %d bare, %d more", bare/n, (ours-bare)/n)
	if more := (ours - bare) / n; more > budget {
		t.Errorf("%d bytes per dead letter above the bare entry, want at most %d", more, budget)
	}
}
