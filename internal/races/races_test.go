//go:build full

package races

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/redis/go-redis/v9"

	"backstop/internal/delay"
	"backstop/internal/faultproxy"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
	"backstop/internal/redistest"
)

var (
	flagN    = flag.Int("races.n", 250, "races")
	flagSeed = flag.Uint64("races.seed", 0, "seed of who does what when; 0 takes a random one")
	flagDrop = flag.Float64("races.drop", 0.01, "share of Redis' replies that are lost")
)

const (
	underWay  = 150             // races under way
	functionT = 3 * time.Second // of the functions: a lease outlives it by 5 s
	patience  = 25 * time.Second
)

// way is how a message comes to Backstop.
type way int

const (
	posted way = iota // POST, answered when it is delivered or stored
	async             // POST with respond-async
	later             // POST with send_after
	direct            // put on the queue by its producer
	ways
)

func (w way) String() string {
	return [...]string{"at once", "respond-async", "send_after", "producer"}[w]
}

// sinks of the races, by how their receiver answers.
var receivers = []struct {
	name   string
	config string
	answer func(r *rand.Rand) int // a status; 0: no answer
}{
	{"ok", "retry: {max_attempts: 2, base_backoff: 50ms, attempt_timeout: 500ms}", func(*rand.Rand) int { return 200 }},
	{"slow", "retry: {max_attempts: 2, base_backoff: 50ms, attempt_timeout: 900ms}", func(*rand.Rand) int { return 200 }},
	{"flaky", "retry: {max_attempts: 2, base_backoff: 200ms, attempt_timeout: 500ms}\nbreaker: off", func(r *rand.Rand) int {
		if r.IntN(10) < 7 {
			return 503
		}
		return 200
	}},
	{"silent", "retry: {max_attempts: 2, base_backoff: 100ms, attempt_timeout: 300ms}\nbreaker: off", func(r *rand.Rand) int {
		if r.IntN(10) < 6 {
			return 0
		}
		return 200
	}},
	{"gone", "retry: {max_attempts: 1}", func(*rand.Rand) int { return 404 }},
}

// seen is a request as its receiver saw it.
type seen struct {
	at     time.Time
	status int // 0: none was given
}

// told is what a caller was told, and when.
type told struct {
	asked, at time.Time
	status    int
	code      string
	answer    struct {
		Status         string
		Known          bool
		MayHaveArrived bool `json:"may_have_arrived"`
		Duplicate      bool
	}
}

// race is one delivery and all that happens to it.
type race struct {
	id, sink string
	way      way
	after    time.Duration // send_after, or how long its producer waits
	trigger  trigger       // what the cancellation races against
	cancel   time.Duration // how long after that it is first asked for
	again    []time.Duration
	evict    time.Duration // when its record is lost, if it says accepted or canceled; 0: never
	expires  time.Time

	begun, answered once // the receiver saw it; its sender was told that it is safe

	mu       sync.Mutex
	requests []seen
	sent     []told
	canceled []told
}

// trigger is what a cancellation is asked for after.
type trigger int

const (
	never    trigger = iota
	start            // the first call is made
	answered         // its sender was told that it is safe
	begun            // its receiver saw it
)

// once tells many that something has happened.
type once struct {
	sync.Once
	done chan struct{}
}

func (o *once) tell() { o.Do(func() { close(o.done) }) }

// wait waits for it, but not for ever.
func (o *once) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience/2)
	defer cancel()
	select {
	case <-o.done:
	case <-ctx.Done():
	}
}

type world struct {
	races   map[string]*race
	list    []*race
	mu      sync.Mutex // guards rand
	rand    *rand.Rand
	stack   *local.Stack
	queue   *sqs.Client
	records redis.UniversalClient // past the proxy
	evicted atomic.Int64
	kills   atomic.Int64

	logMu     sync.Mutex
	unguarded map[string]bool // deliveries whose record could not be read or written
}

// line reads what the functions log.
func (w *world) line(_, line string) {
	var l struct {
		Message string `json:"message"`
		ID      string `json:"delivery_id"`
	}
	if !strings.Contains(line, "idempotency record not available") || json.Unmarshal([]byte(line), &l) != nil {
		return
	}
	w.logMu.Lock()
	defer w.logMu.Unlock()
	w.unguarded[l.ID] = true
}

// roll runs f with the world's random numbers.
func roll[T any](w *world, f func(*rand.Rand) T) T {
	w.mu.Lock()
	defer w.mu.Unlock()
	return f(w.rand)
}

func newWorld(n int, seed uint64) *world {
	w := &world{races: map[string]*race{}, unguarded: map[string]bool{}, rand: rand.New(rand.NewPCG(seed, 2))}
	for i := range n {
		r := &race{id: fmt.Sprintf("race-%d-%d", seed, i), sink: receivers[w.rand.IntN(len(receivers))].name, way: way(w.rand.IntN(int(ways)))}
		due := time.Duration(0)
		if r.way == later || r.way == direct && w.rand.IntN(2) == 0 {
			r.after = time.Duration(1+w.rand.IntN(2)) * time.Second
			due = r.after
		}
		r.begun.done, r.answered.done = make(chan struct{}), make(chan struct{})
		switch n := w.rand.IntN(10); {
		case n < 1:
		case n < 4: // around the time at which it is sent, most often
			r.trigger, r.cancel = start, max(0, due+time.Duration(w.rand.NormFloat64()*float64(150*time.Millisecond)))
			if w.rand.IntN(4) == 0 {
				r.cancel = time.Duration(w.rand.Int64N(int64(due + 2*time.Second)))
			}
		case n < 7:
			r.trigger, r.cancel = answered, time.Duration(w.rand.Int64N(int64(due+300*time.Millisecond)))
		default:
			r.trigger, r.cancel = begun, time.Duration(w.rand.ExpFloat64()*float64(100*time.Millisecond))
		}
		for range w.rand.IntN(3) {
			r.again = append(r.again, time.Duration(w.rand.Int64N(int64(due+time.Second))))
		}
		if (r.way == async || r.way == later) && w.rand.IntN(8) == 0 {
			r.evict = time.Duration(1 + w.rand.Int64N(int64(due+500*time.Millisecond)))
		}
		if w.rand.IntN(6) == 0 {
			r.expires = time.Time{}.Add(due + time.Duration(1000+w.rand.IntN(2000))*time.Millisecond) // from its start
		}
		w.races[r.id], w.list = r, append(w.list, r)
	}
	return w
}

// ServeHTTP is all receivers.
func (w *world) ServeHTTP(rw http.ResponseWriter, q *http.Request) {
	at := time.Now()
	r := w.races[q.Header.Get("Webhook-Id")]
	_, _ = io.Copy(io.Discard, q.Body)
	if r == nil {
		http.Error(rw, "whose is this?", http.StatusTeapot)
		return
	}
	i := slices.IndexFunc(receivers, func(k struct {
		name   string
		config string
		answer func(r *rand.Rand) int
	},
	) bool {
		return k.name == r.sink
	})
	status := roll(w, receivers[i].answer)
	r.mu.Lock()
	r.requests = append(r.requests, seen{at, status})
	r.mu.Unlock()
	r.begun.tell()
	switch {
	case status == 0:
		<-q.Context().Done()
		panic(http.ErrAbortHandler)
	case r.sink == "slow":
		_ = delay.Sleep(q.Context(), 300*time.Millisecond)
	}
	rw.WriteHeader(status)
}

func TestRaces(t *testing.T) {
	seed := *flagSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 32)
	}
	t.Logf("races: SEED=%d N=%d", seed, *flagN)
	w := newWorld(*flagN, seed)
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Minute)
	defer cancel()
	proxy := w.start(ctx, t, seed)

	began := time.Now()
	stop := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() { w.replay(ctx, stop) })
	beside.Go(func() { w.kill(ctx, stop) })
	beside.Go(func() { w.progress(ctx, stop, began) })
	var all sync.WaitGroup
	room := make(chan struct{}, underWay)
	for _, r := range w.list {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			w.run(ctx, r)
		})
	}
	all.Wait()
	close(stop)
	beside.Wait()
	proxy.Set(faultproxy.Faults{})
	w.settle(ctx, t)
	w.judge(ctx, t, time.Since(began), len(proxy.Dropped()))
}

// start starts the receivers and the functions.
func (w *world) start(ctx context.Context, t *testing.T, seed uint64) *faultproxy.Proxy {
	t.Helper()
	configs := map[string]string{}
	for _, k := range receivers {
		configs[k.name] = k.config
	}
	proxy := w.open(ctx, t, seed, w, configs)
	endpoint, err := url.Parse(w.stack.QueueURL)
	if err != nil {
		t.Fatal(err)
	}
	w.queue = sqs.New(sqs.Options{
		BaseEndpoint: aws.String("http://" + endpoint.Host), Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""),
	})
	proxy.Set(faultproxy.Faults{DropReplies: *flagDrop})
	return proxy
}

// open starts what receives, Redis behind a proxy, and the functions with webhooks of these names and configurations.
func (w *world) open(ctx context.Context, t *testing.T, seed uint64, receiver http.Handler, configs map[string]string) *faultproxy.Proxy {
	t.Helper()
	server := redistest.Start(t)
	proxy, err := faultproxy.Start(ctx, server.Addr, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	w.records = server.Client(t)
	address, dir := serve(t, receiver), t.TempDir()
	for name, config := range configs {
		text := fmt.Sprintf("kind: webhook\nurl: %s/%s\n%s\nconcurrency: 50\nreplay: {concurrency: 8, max_replays: 4, base_delay: 1s}\n", address, name, config)
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	bin := filepath.Join(t.TempDir(), "bin")
	if err := local.Build(ctx, "../..", bin); err != nil {
		t.Fatal(err)
	}
	if w.stack, err = local.Start(ctx, local.Options{
		Bin: bin, RedisURL: "redis://" + proxy.Addr, Sinks: "file:" + dir, Timeout: functionT, QueueTimeout: functionT, ReplayTimeout: functionT,
		QueueVisibility: 4 * time.Second, Output: w.line,
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.stack.Close() })
	return proxy
}

// replay runs the schedule all the time.
func (w *world) replay(ctx context.Context, stop <-chan struct{}) {
	for !over(stop) {
		_, _ = w.stack.Host.Invoke(ctx, lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)}) // it may be killed
		_ = delay.Sleep(ctx, 50*time.Millisecond)
	}
}

// kill kills a process now and then, so that others take over what it held.
func (w *world) kill(ctx context.Context, stop <-chan struct{}) {
	for !over(stop) {
		f := roll(w, func(r *rand.Rand) string {
			return []string{local.Queue, local.Queue, local.Send, local.Replay, local.DLQAPI}[r.IntN(5)]
		})
		if w.stack.Host.Kill(f) {
			w.kills.Add(1)
		}
		_ = delay.Sleep(ctx, 400*time.Millisecond)
	}
}

func (w *world) progress(ctx context.Context, stop <-chan struct{}, began time.Time) {
	for !over(stop) {
		_ = delay.Sleep(ctx, time.Second)
		if n := int(time.Since(began).Seconds()); n%20 == 0 {
			done := 0
			for _, r := range w.list {
				r.mu.Lock()
				if len(r.sent) > 0 {
					done++
				}
				r.mu.Unlock()
			}
			_, _ = fmt.Fprintf(os.Stdout, "races: %d of %d begun after %ds\n", done, len(w.list), n)
		}
	}
}

func over(stop <-chan struct{}) bool {
	select {
	case <-stop:
		return true
	default:
		return false
	}
}

// run plays one race to the end of what its callers do.
func (w *world) run(ctx context.Context, r *race) {
	began := time.Now()
	if !r.expires.IsZero() {
		r.expires = began.Add(r.expires.Sub(time.Time{}))
	}
	var wg sync.WaitGroup
	at := func(d time.Duration, f func()) {
		wg.Go(func() {
			if delay.Sleep(ctx, max(time.Until(began.Add(d)), 0)) == nil {
				f()
			}
		})
	}
	at(0, func() { w.send(ctx, r) })
	for _, d := range r.again {
		at(d, func() { w.send(ctx, r) })
	}
	cancel := func(after *once) {
		wg.Go(func() {
			after.wait(ctx)
			if delay.Sleep(ctx, r.cancel) == nil {
				w.cancel(ctx, r)
			}
		})
	}
	switch r.trigger {
	case never:
	case start:
		at(r.cancel, func() { w.cancel(ctx, r) })
	case answered:
		cancel(&r.answered)
	case begun:
		cancel(&r.begun)
	}
	if r.evict > 0 {
		at(r.evict, func() { w.evict(ctx, r) })
	}
	wg.Wait()
}

// send asks for the delivery until an answer says that it is safe, or refuses it for good.
func (w *world) send(ctx context.Context, r *race) {
	body := map[string]any{"id": r.id, "sink": r.sink, "message": map[string]string{"body": "{}", "subject": r.id}}
	if !r.expires.IsZero() {
		body["expires_at"] = r.expires.UTC().Format(time.RFC3339Nano)
	}
	if r.way == later {
		body["send_after"] = r.after.String()
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	if r.way == direct {
		asked := time.Now()
		_, err := w.queue.SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: &w.stack.QueueURL, MessageBody: aws.String(string(text)), DelaySeconds: int32(r.after.Seconds())})
		r.mu.Lock()
		defer r.mu.Unlock()
		if err == nil {
			r.sent = append(r.sent, told{asked: asked, at: time.Now(), status: http.StatusAccepted})
			r.answered.tell()
		}
		return
	}
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; {
		a := w.call(ctx, http.MethodPost, "/v1/messages", text, r.way == async)
		r.mu.Lock()
		r.sent = append(r.sent, a)
		r.mu.Unlock()
		if a.status == http.StatusOK || a.status == http.StatusAccepted || a.status == http.StatusBadRequest {
			r.answered.tell()
			return
		}
		_ = delay.Sleep(ctx, 100*time.Millisecond)
	}
}

// cancel asks for the cancellation until an answer decides it.
func (w *world) cancel(ctx context.Context, r *race) {
	path := "/v1/deliveries?" + url.Values{"sink": {r.sink}, "id": {r.id}}.Encode()
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; {
		a := w.call(ctx, http.MethodDelete, path, nil, false)
		r.mu.Lock()
		r.canceled = append(r.canceled, a)
		r.mu.Unlock()
		if a.status == http.StatusOK || a.code == "ALREADY_DELIVERED" {
			return
		}
		_ = delay.Sleep(ctx, 100*time.Millisecond)
	}
}

// call asks for a delivery, or its cancellation.
func (w *world) call(ctx context.Context, method, path string, body []byte, preferAsync bool) told {
	header := http.Header{}
	if preferAsync {
		header.Set("Prefer", "respond-async")
	}
	answer := told{}.answer
	a := w.ask(ctx, method, path, body, header, &answer)
	a.answer = answer
	return a
}

// ask calls the API once. What it answers is decoded into answer where its status is good.
func (w *world) ask(ctx context.Context, method, path string, body []byte, header http.Header, answer any) told {
	a := told{asked: time.Now()}
	req, err := http.NewRequestWithContext(ctx, method, w.stack.APIURL+path, bytes.NewReader(body))
	if err != nil {
		panic(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		var problem struct{ Code string }
		text, rerr := io.ReadAll(resp.Body)
		if rerr == nil && json.Unmarshal(text, &problem) == nil && (problem.Code != "" || json.Unmarshal(text, answer) == nil) {
			a.status, a.code = resp.StatusCode, problem.Code
		}
	}
	a.at = time.Now()
	return a
}

// evictAccepted forgets a record as a full cache does, where others must know better: that of a
// delivery that waits, or was canceled.
var evictAccepted = redis.NewScript(`
local text = redis.call('GET', KEYS[1])
local status = text and cjson.decode(text).status
if status == 'accepted' or status == 'canceled' then
  return redis.call('DEL', KEYS[1])
end
return 0`)

func (w *world) evict(ctx context.Context, r *race) {
	key := recordKey(r)
	for range 20 { // once there is one
		if n, err := evictAccepted.Run(ctx, w.records, []string{key}).Int(); err == nil && n > 0 {
			w.evicted.Add(1)
			return
		}
		_ = delay.Sleep(ctx, 50*time.Millisecond)
	}
}

// settle lets what is left come to its end: leases run out, the queue empties, replays end.
func (w *world) settle(ctx context.Context, t *testing.T) {
	t.Helper()
	empty := 0
	for end := time.Now().Add(3 * time.Minute); empty < 3; {
		if time.Now().After(end) {
			t.Errorf("the queue did not empty: %v", w.waiting(ctx, t))
			return
		}
		if res, err := w.stack.Host.Invoke(ctx, lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)}); err != nil || res.FunctionError != "" {
			t.Errorf("replay: %v %s", err, res.Payload)
		}
		if n := w.waiting(ctx, t); n == 0 {
			empty++
		} else {
			empty = 0
		}
		_ = delay.Sleep(ctx, time.Second)
	}
}

// waiting is how many messages are in the queue.
func (w *world) waiting(ctx context.Context, t *testing.T) int {
	t.Helper()
	out, err := w.queue.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &w.stack.QueueURL, AttributeNames: []sqsName{"All"}})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range []string{"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"} {
		var some int
		if _, err := fmt.Sscan(out.Attributes[name], &some); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n += some
	}
	return n
}

// givenUp returns the ids in the redrive queue: their senders have them back.
func (w *world) givenUp(ctx context.Context, t *testing.T) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for {
		out, err := w.queue.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &w.stack.RedriveURL, MaxNumberOfMessages: 10, VisibilityTimeout: 600})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return ids
		}
		for _, m := range out.Messages {
			var body struct{ ID string }
			if err := json.Unmarshal([]byte(aws.ToString(m.Body)), &body); err != nil {
				t.Fatal(err)
			}
			ids[body.ID] = true
		}
	}
}

// letters returns the dead letters by delivery id, past our code.
func (w *world) letters(ctx context.Context, t *testing.T) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, k := range receivers {
		entries, err := w.records.XRange(ctx, "backstop:dlq:"+k.name, "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			var it struct {
				DeliveryID string `json:"delivery_id"`
			}
			text, _ := e.Values["item"].(string)
			if err := json.Unmarshal([]byte(text), &it); err != nil || !strings.HasPrefix(it.DeliveryID, "race-") {
				t.Fatalf("entry %s: %v", e.ID, err)
			}
			all[it.DeliveryID]++
		}
	}
	return all
}
