//go:build full

package wipe

import (
	"bytes"
	"context"
	"flag"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/delay"
	"backstop/internal/faultproxy"
	"backstop/internal/lambdahost"
	"backstop/internal/load"
	"backstop/internal/local"
	"backstop/internal/redistest"
)

var (
	flagN     = flag.Int("wipe.n", 5000, "deliveries")
	flagSeed  = flag.Uint64("wipe.seed", 0, "seed; 0 takes a random one")
	flagKills = flag.Int("wipe.kills", 8, "processes killed while busy (SIGKILL)")
	flagDrop  = flag.Float64("wipe.drop", 0.005, "share of Redis' replies that are lost")
)

const (
	functionT = 5 * time.Second  // of those that send, and of the API's
	replayT   = 10 * time.Second // of the one that replays
	away      = 300 * time.Millisecond
	between   = 100 * time.Millisecond // two ticks
	bucket    = "journal"
)

// wipes are the shares of the run after which Redis is killed and comes back empty.
var wipes = []float64{0.35, 0.72}

// run is one run.
type run struct {
	load.Driver
	w      *world
	log    *log
	stack  *local.Stack
	bin    string
	server *redistest.Server
	proxy  *faultproxy.Proxy
	redis  redis.UniversalClient // past the proxy
	bucket *load.Bucket
	ctx    context.Context

	gate   sync.RWMutex // held while nobody may begin to send
	mu     sync.Mutex
	fates  []history // what the caller knows
	back   int       // handed back, and sent again
	wipes  []wiped
	kills  map[string][]time.Time // by function
	ticks  int
	first  progress // of the restore after the first wipe
	wiping chan int // the number of each wipe, once Redis answers again
}

// wiped is a loss of all that Redis had.
type wiped struct {
	span
	depth map[string]int64 // dead letters by sink, just before
	full  bool             // a sink had as many as it may
	state map[int]bool     // deliveries whose dead letters were parked or held, and the journal knew
}

func TestWipe(t *testing.T) {
	seed := *flagSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("wipe: SEED=%d N=%d", seed, *flagN)
	ctx, cancel := context.WithTimeout(context.Background(), 12*time.Minute)
	defer cancel()
	r := start(ctx, t, seed)
	began := time.Now()
	r.everything(t)
	sent := time.Since(began)

	r.w.Heal()
	o := r.operate(t)
	result := r.account(t)
	for _, i := range o.missing {
		result.add("%s (%s): spilled, and lost on its way back", r.w.id(i), r.w.classOf(i).name)
	}
	result.print(r, o, seed, sent, time.Since(began))
	r.wantFaults(t, result, o)
	for _, f := range result.wrong {
		t.Error(f)
	}
	if t.Failed() {
		t.Logf("warnings of the functions: %v\nthe last:\n%s", r.log.failed, strings.Join(r.log.last, "\n"))
	}
}

// start starts everything.
func start(ctx context.Context, t *testing.T, seed uint64) *run {
	t.Helper()
	n := *flagN
	server := redistest.Start(t) // it keeps nothing: whenever it ends, all is lost
	proxy, err := faultproxy.Start(ctx, server.Addr, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	bin := filepath.Join(t.TempDir(), "bin")
	if err := local.Build(ctx, "../..", bin); err != nil {
		t.Fatal(err)
	}
	if err := local.BuildCLI(ctx, "../..", bin); err != nil {
		t.Fatal(err)
	}
	r := &run{
		bin: bin, proxy: proxy,
		w: newWorld(t, n, seed), server: server, redis: server.Client(t), bucket: load.NewBucket(t, bucket, seed, nil), ctx: ctx,
		fates: make([]history, n), kills: map[string][]time.Time{}, wiping: make(chan int, len(wipes)),
	}
	r.log = newLog(r.w)
	env := r.bucket.Env("wipe")
	env["BACKSTOP_CONCURRENCY"], env["BACKSTOP_DLQ_MAX_LEN"] = "10", strconv.Itoa(room(n))
	r.stack, err = local.Start(ctx, local.Options{
		Bin: bin, RedisURL: "redis://" + proxy.Addr, Sinks: r.w.sinks(t), Output: r.log.line,
		Timeout: functionT, QueueTimeout: functionT, ReplayTimeout: replayT,
		Env: env,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.stack.Close(); err != nil {
			t.Error(err)
		}
	})
	r.Driver = load.Driver{Name: "wipe", N: n, Send: r.send, Call: r.call}
	r.Start(ctx)
	r.w.progress = r.Progress
	return r
}

// everything sends all deliveries, among all faults, while the schedule ticks.
func (r *run) everything(t *testing.T) {
	t.Helper()
	r.proxy.Set(faultproxy.Faults{DropReplies: *flagDrop})
	var queue, direct []int
	for i := range r.fates {
		if i%10 == 9 {
			direct = append(direct, i)
		} else {
			queue = append(queue, i)
		}
	}
	var wg sync.WaitGroup
	sent := make(chan struct{})
	wg.Go(func() { r.trouble(t) })
	wg.Go(func() { r.schedule(sent) })
	wg.Go(func() { r.restoreOnce(sent) })
	r.Run(queue, direct)
	close(sent)
	wg.Wait()
	r.proxy.Set(faultproxy.Faults{})
	r.bucket.Calm.Store(true)
	if n := r.Acked(); n != r.N {
		t.Errorf("%d of %d deliveries were acknowledged in time", n, r.N)
	}
}

// send sends a batch and returns what comes again.
func (r *run) send(batch []int) (again []int) {
	bodies := make([]string, len(batch))
	for n, i := range batch {
		r.begin(i)
		bodies[n] = r.w.request(i)
	}
	failed, ok := load.Batch(r.ctx, r.stack.Host, local.Queue, bodies)
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, i := range batch {
		switch {
		case !ok:
			r.fates[i].died = append(r.fates[i].died, now)
			again = append(again, i)
		case failed[n]:
			r.back++
			again = append(again, i)
		default:
			r.fates[i].acked = now
			r.Ack()
		}
	}
	return again
}

func (r *run) begin(i int) {
	r.gate.RLock()
	r.gate.RUnlock() //nolint:staticcheck // it is a gate
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fates[i].begun.IsZero() {
		r.fates[i].begun = time.Now()
	}
}

// call sends a delivery over the HTTP API until it is safe.
func (r *run) call(i int) {
	r.begin(i)
	for r.ctx.Err() == nil {
		status, _ := r.api(http.MethodPost, "/v1/messages", r.w.request(i))
		now := time.Now()
		r.mu.Lock()
		switch status {
		case http.StatusOK, http.StatusAccepted:
			r.fates[i].acked = now
			r.Ack()
			r.mu.Unlock()
			return
		case http.StatusInternalServerError, 0: // a killed process
			r.fates[i].died = append(r.fates[i].died, now)
		default:
			r.back++
		}
		r.mu.Unlock()
		_ = delay.Sleep(r.ctx, 200*time.Millisecond)
	}
}

// api calls the API; status 0 means that there was no answer.
func (r *run) api(method, path, body string, headers ...string) (status int, answer []byte) {
	req, err := http.NewRequestWithContext(r.ctx, method, r.stack.APIURL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, nil
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// trouble wipes Redis and kills processes, spread over the run by what has been acknowledged.
func (r *run) trouble(t *testing.T) {
	t.Helper()
	victims := []string{local.Queue, local.Queue, local.Replay, local.Send}
	for kills := 0; !r.Done(); {
		if n := len(r.wipes); n < len(wipes) && r.Progress() >= wipes[n] {
			r.ripen(t)
			r.wipe(t)
			r.wiping <- n
		}
		f := victims[kills%len(victims)]
		if want := int(r.Progress() * float64(*flagKills+1) * 1.2); kills < min(want, *flagKills) && r.stack.Host.Kill(f) {
			kills++
			r.mu.Lock()
			r.kills[f] = append(r.kills[f], time.Now())
			r.mu.Unlock()
		}
		_ = delay.Sleep(r.ctx, 5*time.Millisecond)
	}
}

// ripen holds everybody who sends back until some dead letters are parked or held, and the journal
// knows: a wipe is to show that they are so afterwards. Then all go on for a moment.
func (r *run) ripen(t *testing.T) {
	t.Helper()
	r.gate.Lock()
	for end := time.Now().Add(15 * time.Second); len(r.stateful(t)) == 0 && time.Now().Before(end); {
		_ = delay.Sleep(r.ctx, between)
	}
	r.gate.Unlock()
	_ = delay.Sleep(r.ctx, between)
}

// wipe kills Redis, which forgets everything, and starts it again.
func (r *run) wipe(t *testing.T) {
	t.Helper()
	w := wiped{depth: r.depths(t), state: r.stateful(t)}
	for _, n := range w.depth {
		w.full = w.full || n >= int64(room(r.N))
	}
	w.from = time.Now()
	r.server.Kill(t)
	_ = delay.Sleep(r.ctx, away)
	r.server.Restart(t)
	w.until = time.Now()
	for sink, n := range r.depths(t) {
		if n > w.depth[sink] || n > 0 && n == w.depth[sink] {
			t.Errorf("%s has %d dead letters after Redis was wiped, and had %d", sink, n, w.depth[sink])
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wipes = append(r.wipes, w)
}

// schedule ticks until what it is given is closed.
func (r *run) schedule(over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		// It may find Redis away, or be killed; the next one comes as planned.
		_, _ = r.stack.Host.Invoke(r.ctx, lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)})
		r.mu.Lock()
		r.ticks++
		r.mu.Unlock()
		_ = delay.Sleep(r.ctx, between)
	}
}
