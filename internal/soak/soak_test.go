//go:build full

package soak

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/conform"
	"backstop/internal/delay"
	"backstop/internal/faultproxy"
	"backstop/internal/lambdahost"
	"backstop/internal/load"
	"backstop/internal/local"
	"backstop/internal/model"
	"backstop/internal/redistest"
)

var (
	flagN        = flag.Int("soak.n", 1500, "deliveries")
	flagSeed     = flag.Uint64("soak.seed", 0, "seed; 0 takes a random one")
	flagRestarts = flag.Int("soak.restarts", 1, "restarts of Redis (SIGKILL)")
	flagKills    = flag.Int("soak.kills", 3, "processes killed while busy (SIGKILL)")
	flagDrop     = flag.Float64("soak.drop", 0.01, "share of Redis' replies that are lost")
)

// functionT is the functions' time: what a process that is killed has leased comes again some seconds after that.
const functionT = 5 * time.Second

// away is how long Redis is away at each restart, at least.
const away = 600 * time.Millisecond

// journalFolder is the journal's in its bucket.
const journalFolder = "soak"

// mostReplayKills is how many replays are killed at most: a letter under which three die in a row is left to an operator.
const mostReplayKills = 2

// perDelivery is how much longer a run may take for each delivery.
const perDelivery = 5 * time.Millisecond

// giveUp is how often a queue hands a record out, whose id was used for other content, before it
// moves it to its redrive queue.
const giveUp = 12

// fate is what the driver knows of a delivery.
type fate struct {
	acked      bool
	reused     bool // refused for good: the caller knows that its id was used for other content
	killed     bool // a process died with it in hand
	handedBack int
}

// soak is one run.
type soak struct {
	load.Driver
	w     *world
	stack *local.Stack
	proxy *faultproxy.Proxy
	log   *journal
	ctx   context.Context

	mu    sync.Mutex
	fates []fate
	kills atomic.Int64

	records redis.UniversalClient // past the proxy
	bucket  *load.Bucket          // of the journal
	evicted atomic.Int64

	told           []*told // by delivery
	cancels        sync.WaitGroup
	evictedWaiting atomic.Int64
	orders         orders
}

func TestSoak(t *testing.T) {
	seed := *flagSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("soak: SEED=%d N=%d", seed, *flagN)
	server := redistest.Start(t, redistest.WithAppendOnly())
	w := newWorld(t, *flagN, seed)
	spread(t, server.Client(t))
	proxy, err := faultproxy.Record(context.Background(), server.Addr, seed, w.checker.Calls)
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()

	bin := filepath.Join(t.TempDir(), "bin")
	if err := local.Build(t.Context(), "../..", bin); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute+time.Duration(*flagN)*perDelivery)
	defer cancel()
	j := &journal{w: w, unguarded: map[int]bool{}, unanswered: map[int]bool{}, refused: map[int][]time.Time{}, reused: map[int]bool{}}
	bucket := load.NewBucket(t, "journal", seed, func(_, name string, was, now []byte) {
		w.checker.Journal(time.Now(), strings.TrimPrefix(name, journalFolder+"/"), was, now)
	})
	env := bucket.Env(journalFolder)
	env["BACKSTOP_CONCURRENCY"], env["BACKSTOP_DLQ_MAX_LEN"] = "10", strconv.Itoa(*flagN*9/200) // the sink that is down has more, and none what waits for an operator
	stack, err := local.Start(ctx, local.Options{
		Bin: bin, RedisURL: "redis://" + proxy.Addr, Sinks: w.sinks(t), Timeout: functionT, QueueTimeout: functionT, ReplayTimeout: functionT, Output: j.line,
		QueueVisibility: functionT + time.Second, QueueConcurrency: 8,
		Env: env,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stack.Close()
	proxy.Set(faultproxy.Faults{DropReplies: *flagDrop})

	stack.Queues.Watch(w.message)

	options := server.Options()
	options.MaxRetries = -1 // who tries again does not know what it did
	s := &soak{w: w, stack: stack, proxy: proxy, bucket: bucket, log: j, ctx: ctx, fates: make([]fate, *flagN), records: redis.NewUniversalClient(options)}
	defer s.records.Close()
	s.Driver = load.Driver{Name: "soak", N: *flagN, Send: s.send, Call: s.post, More: w.checker.Progress}
	s.Start(ctx)
	for range *flagN {
		s.told = append(s.told, &told{})
	}
	began := time.Now()
	restarts := s.trouble(t, server)
	s.drive(t)
	restarted := <-restarts
	s.cancels.Wait()
	s.empty(t)
	sent := time.Since(began)

	entries := s.deadLetters(t, server)
	r := s.reconcile(entries, s.diedWith(t), proxy.Dropped(), restarted)
	replayed := s.replayAll(t, r)
	left := s.deadLetters(t, server)
	s.operate(t, left, r)
	proxy.Set(faultproxy.Faults{})
	bucket.Calm.Store(true)
	s.tickAll(t, server)
	checked := w.checker.Close()
	s.reconcileReplay(t, r, entries, left)
	s.reconcileOrders(t, r, left, s.deadLetters(t, server))
	s.holdTimes(r)
	r.print(os.Stdout, seed, sent, len(restarted), int(s.kills.Load()), len(proxy.Dropped()), replayed)

	_, _ = fmt.Fprintf(os.Stdout, "soak: checked against the model: %s nonconforming=%d\n", conform.Counts(checked), w.checker.Failures())

	if stats := stack.Host.Stats(local.Queue).Timeouts + stack.Host.Stats(local.Send).Timeouts; stats != 0 {
		t.Errorf("%d invocations passed their deadline", stats)
	}
	if r.replaysKilled == 0 {
		t.Error("no replay was killed")
	}
	if len(restarted) < *flagRestarts || int(s.kills.Load()) < *flagKills {
		t.Errorf("only %d restarts and %d kills happened: the run was too short for its faults", len(restarted), s.kills.Load())
	}
	if r.evicted == 0 || r.reused == 0 {
		t.Errorf("%d records were evicted and %d ids found used: the run was too short for that", r.evicted, r.reused)
	}
	if b := r.bucket; r.spills == 0 || b.Slow.Load()+b.Failed.Load()+b.Cut.Load() == 0 {
		t.Errorf("%d dead letters were spilled, and %d requests to the journal failed or were slow: the run was too short for that", r.spills, b.Slow.Load()+b.Failed.Load()+b.Cut.Load())
	}
	if r.reasons["open"] == 0 || r.reasons["throttled"] == 0 {
		t.Errorf("dead letters by reason: %v; no breaker opened, or no rate held", r.reasons)
	}
	if r.canceled == 0 || r.mayHaveArrived == 0 || r.already == 0 || r.expired == 0 || r.marked == 0 || r.evictedWaiting == 0 {
		t.Errorf("canceled %d, may have arrived %d, already delivered %d, expired %d, marked by the schedule %d, records of accepted or canceled ones evicted %d: "+
			"the run was too short for one of them", r.canceled, r.mayHaveArrived, r.already, r.expired, r.marked, r.evictedWaiting)
	}
	for _, fault := range r.faults {
		t.Error(fault)
	}
}

// queues are those of all classes.
func queues() (all []string) {
	for _, c := range classes {
		all = append(all, c.queues()...)
	}
	return all
}

// spread has the numbers of shards hold since long ago: new ones hold after minutes.
func spread(t *testing.T, client redis.UniversalClient) {
	t.Helper()
	for _, c := range classes {
		if n := c.shards(); n > 1 {
			if err := client.HSet(t.Context(), "backstop:dlq:~shards", c.name, fmt.Sprintf("%d 0 1", n)).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// drive sends every delivery until it is acknowledged, as SQS and API callers do.
func (s *soak) drive(t *testing.T) {
	t.Helper()
	var queue, direct []int
	var accepted [2][]int
	for i := range s.fates {
		switch wayOf(i) {
		case posted:
			direct = append(direct, i)
		case async, later:
			accepted[i/20%2] = append(accepted[i/20%2], i)
		default:
			queue = append(queue, i)
		}
	}
	s.Run(queue, direct, accepted[0], accepted[1])
	if n := s.Acked(); n != len(s.fates) {
		t.Errorf("%d of %d deliveries were acknowledged in time", n, len(s.fates))
	}
}

// send sends a batch and returns what comes again.
func (s *soak) send(batch []int) (again []int) {
	failed := s.invoke(batch)
	for _, i := range batch {
		switch {
		case !failed[i]:
			s.w.checker.Told(s.w.unit(i), contentOf(i), model.ToldSafe)
			s.ack(i)
		case s.reused(i):
			s.Ack()
		default:
			again = append(again, i)
		}
	}
	return again
}

// invoke sends a batch and returns what was handed back.
func (s *soak) invoke(batch []int) map[int]bool {
	bodies := make([]string, len(batch))
	for n, i := range batch {
		s.evict(i)
		s.begin(i)
		bodies[n] = s.request(i)
	}
	back, ok := load.Batch(s.ctx, s.stack.Host, local.Queue, bodies)
	failed := map[int]bool{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, i := range batch {
		switch {
		case !ok:
			failed[i], s.fates[i].killed = true, true
		case back[n]:
			failed[i] = true
			s.fates[i].handedBack++
		}
	}
	return failed
}

// reused reports whether a record is given up: it was handed out often enough, and its id is
// known to be used for other content.
func (s *soak) reused(i int) bool {
	s.log.mu.Lock()
	known := s.log.reused[i]
	s.log.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fates[i].reused = known && s.fates[i].handedBack >= giveUp
	return s.fates[i].reused
}

// twinned reports whether another delivery has the same id.
func twinned(w *world, i int) bool { return len(w.sharing(w.id(i))) > 1 }

// evict forgets a delivery's record, as a cache does that is full: often before other content
// is sent under its id, and now and then otherwise. One that is canceled keeps it: what comes again
// without it is sent.
func (s *soak) evict(i int) {
	if s.w.terms[i].cancel > 0 || wayOf(i).accepted() || rand.IntN(100) > 0 && (!twin(i) || rand.IntN(2) > 0) {
		return
	}
	id := s.w.id(i)
	keys, field := s.w.record(i)
	n := s.evicts(i, func() (int64, error) {
		n, err := s.records.Del(s.ctx, keys[0]).Result()
		for _, bucket := range keys[1:] {
			in, failed := s.records.HDel(s.ctx, bucket, field).Result()
			n, err = n+in, errors.Join(err, failed)
		}
		return n, err
	})
	if n == 0 {
		return // Redis is away just now, or there is none
	}
	s.evicted.Add(1)
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for _, i := range s.w.sharing(id) {
		s.log.unguarded[i] = true
	}
}

// evicts removes the record of a delivery past the proxy, in the order of its recording. It returns how many were there.
func (s *soak) evicts(i int, remove func() (int64, error)) (n int64) {
	s.proxy.Alone(func() {
		from := time.Now()
		var err error
		if n, err = remove(); n > 0 || err != nil {
			s.w.checker.Evicted(s.w.unit(i), from, time.Now(), n > 0)
		}
	})
	return n
}

func (s *soak) ack(i int) {
	s.mu.Lock()
	s.fates[i].acked = true
	s.mu.Unlock()
	s.Ack()
}

// post sends a delivery over the HTTP API until it is answered with 200, 202, or the
// 400 of a message that can never be sent.
func (s *soak) post(i int) {
	var header http.Header
	if wayOf(i) == async {
		header = http.Header{"Prefer": {"respond-async"}}
	}
	s.begin(i)
	for s.ctx.Err() == nil {
		s.evict(i)
		status, a := s.call(http.MethodPost, "/v1/messages", s.request(i), header)
		refused := false // for good: the caller's, not stored
		s.mu.Lock()
		t := s.told[i]
		switch {
		case status == http.StatusOK, status == http.StatusAccepted:
			s.w.checker.Told(s.w.unit(i), contentOf(i), a.Status)
			s.fates[i].acked, t.notBefore = true, a.NotBefore
			s.mu.Unlock()
			s.Ack()
			if wayOf(i).accepted() {
				s.evictWaiting(i)
			}
			return
		case status == http.StatusBadRequest && s.w.classOf(i).name == "invalid":
			refused = true
		case status == http.StatusBadRequest && !t.expires.IsZero() && time.Now().Add(sendAfter).After(t.expires):
			refused, t.late = true, true
		case status == http.StatusUnprocessableEntity && twinned(s.w, i):
			refused, s.fates[i].reused = true, true
		case status == http.StatusInternalServerError:
			s.fates[i].killed = true
		}
		s.fates[i].handedBack++
		s.mu.Unlock()
		if refused {
			s.Ack()
			return
		}
		_ = delay.Sleep(s.ctx, 200*time.Millisecond)
	}
}

// trouble restarts Redis and kills processes, spread over the run by what has been
// acknowledged. It answers with the times of the restarts.
func (s *soak) trouble(t *testing.T, server *redistest.Server) <-chan [][2]time.Time {
	t.Helper()
	out := make(chan [][2]time.Time, 1)
	go func() {
		var restarts [][2]time.Time
		for !s.Done() {
			progress := s.Progress()
			if want := int(progress * float64(*flagRestarts+1) * 1.1); len(restarts) < min(want, *flagRestarts) {
				from := time.Now()
				server.Kill(t)
				_ = delay.Sleep(s.ctx, away) // what is pushed meanwhile is spilled
				server.Restart(t)
				restarts = append(restarts, [2]time.Time{from, time.Now()})
			}
			if want := int(progress * float64(*flagKills+1) * 1.2); int(s.kills.Load()) < min(want, *flagKills) {
				f := local.Queue
				if s.kills.Load()%5 == 4 {
					f = local.Send
				}
				if s.stack.Host.Kill(f) {
					s.kills.Add(1)
				}
			}
			_ = delay.Sleep(s.ctx, 5*time.Millisecond)
		}
		out <- restarts
	}()
	return out
}

// replayAll heals the receiver and runs the schedule until nothing is due. Replies are lost all the while, and runs are killed.
func (s *soak) replayAll(t *testing.T, r *result) (runs int) {
	t.Helper()
	killed := s.killReplays(r.due())
	s.w.Heal()
	limit := 2*time.Minute + s.w.pacing() + time.Duration(len(s.fates))*perDelivery/2
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); runs++ {
		res, err := s.stack.Host.Invoke(context.Background(), lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)})
		if err == nil && res.FunctionError != "" && int(killed.Load()) > r.replaysKilled {
			r.replaysKilled++
			continue
		}
		if err != nil || res.FunctionError != "" {
			t.Errorf("replay: %v %s", err, res.Payload)
			return runs
		}
		var sum struct{ Remaining, Expired int }
		if err := json.Unmarshal(res.Payload, &sum); err != nil {
			t.Fatal(err)
		}
		r.saidMarked += sum.Expired
		if sum.Remaining == 0 && len(s.spilled()) == 0 {
			return runs + 1
		}
		_ = delay.Sleep(context.Background(), 200*time.Millisecond)
	}
	t.Errorf("dead letters are still due, or spilled, after %s of replays", limit)
	return runs
}

// tickAll runs the schedule until the journal has nothing to do any more.
func (s *soak) tickAll(t *testing.T, server *redistest.Server) {
	t.Helper()
	client := server.Client(t)
	left := func() (all []string) {
		for _, queue := range queues() {
			for _, set := range []string{":ended", ":unjournaled"} {
				members, err := client.SMembers(context.Background(), "{backstop:dlq:"+queue+"}"+set).Result()
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range members {
					if group, _, _ := strings.Cut(m, ":"); set == ":unjournaled" || strings.HasSuffix(group, "-1") { // other objects wait for their other lines
						all = append(all, queue+set+" "+m)
					}
				}
			}
		}
		return all
	}
	for deadline := time.Now().Add(2*time.Minute + time.Duration(len(s.fates))*perDelivery/4); len(left()) > 0; {
		if time.Now().After(deadline) {
			t.Errorf("the ticks leave %q", left())
			return
		}
		res, err := s.stack.Host.Invoke(context.Background(), lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)})
		if err != nil || res.FunctionError != "" {
			t.Fatalf("a tick: %v %s", err, res.Payload)
		}
	}
}

// killReplays has runs killed while what they send arrives, at even distances among the letters that are due. It counts them.
func (s *soak) killReplays(due int) *atomic.Int64 {
	kills := min(*flagKills/3, mostReplayKills)
	killed, arrived := new(atomic.Int64), 0
	s.w.also.Store(new(func() {
		arrived++
		if n := int(killed.Load()); n < kills && arrived > due*(n+1)/(kills+1) && s.stack.Host.Kill(local.Replay) {
			killed.Add(1)
		}
	}))
	return killed
}
