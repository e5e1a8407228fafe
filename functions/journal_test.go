//go:build full

package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backstop/internal/faultproxy"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
	"backstop/internal/locals3"
	"backstop/internal/redistest"
)

// bucket is a journal that does as its mood says.
type bucket struct {
	*locals3.Server
	url  string
	mood atomic.Value // string
}

// The moods of a journal; the zero value stores.
const (
	stores  = "stored"
	fails   = "failed"  // 503 SlowDown
	hangs   = "slow"    // no answer, and nothing is carried out
	silent  = "unknown" // carried out, and no answer
	hiccups = "stored at the second try"
)

func startBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{Server: locals3.New("journal")}
	b.mood.Store(stores)
	var cut sync.Map // names whose first put had no answer
	b.Fault = func(r *http.Request) locals3.Fault {
		switch b.mood.Load() {
		case fails:
			return locals3.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}
		case hangs:
			hang(nil, r)
			return locals3.Fault{Status: http.StatusServiceUnavailable, Cut: true}
		case silent:
			return locals3.Fault{Cut: true}
		case hiccups:
			if _, again := cut.LoadOrStore(r.URL.Path, true); !again && r.Method == http.MethodPut {
				return locals3.Fault{Cut: true}
			}
		}
		return locals3.Fault{}
	}
	server := httptest.NewServer(b)
	t.Cleanup(func() {
		b.mood.Store(stores)
		server.CloseClientConnections()
		server.Close()
	})
	b.url = server.URL
	return b
}

// with adds the journal to what a stack's functions read.
func (b *bucket) with(o local.Options) local.Options {
	env := map[string]string{
		"BACKSTOP_JOURNAL": "s3://journal/here", "AWS_ENDPOINT_URL_S3": b.url,
		"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local", // nobody looks at them
	}
	for name, value := range o.Env {
		env[name] = value
	}
	o.Env = env
	return o
}

// letters returns the delivery ids of the dead letters in the objects of a folder, sorted, and how many
// objects those are.
func (b *bucket) letters(t *testing.T, folder string) (ids []string, objects int) {
	t.Helper()
	for _, l := range b.Lives("journal", "here/"+folder+"/") {
		if !l.Until.IsZero() {
			continue
		}
		objects++
		for line := range strings.Lines(string(l.Body)) {
			var it *struct {
				ID string `json:"delivery_id"`
			}
			if err := json.Unmarshal([]byte(line), &it); err != nil {
				t.Fatalf("%s: %q: %v", l.Name, line, err)
			}
			if it != nil {
				ids = append(ids, it.ID)
			}
		}
	}
	slices.Sort(ids)
	return ids, objects
}

// calls is how many requests came.
func (b *bucket) calls() (n int) {
	for _, kind := range []string{"put", "get", "list", "delete", "versions"} {
		n += b.Calls(kind)
	}
	return n
}

// idsIn returns the delivery ids of a sink's dead letters in Redis, sorted: past our code.
func idsIn(t *testing.T, server *redistest.Server, sink string) []string {
	t.Helper()
	entries, err := server.Client(t).XRange(context.Background(), "backstop:dlq:"+sink, "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, e := range entries {
		var it struct {
			ID string `json:"delivery_id"`
		}
		text, _ := e.Values["item"].(string)
		if err := json.Unmarshal([]byte(text), &it); err != nil {
			t.Fatalf("%s: %q: %v", e.ID, text, err)
		}
		ids = append(ids, it.ID)
	}
	slices.Sort(ids)
	return ids
}

// tickUntil has the replay function run until check returns nil.
func tickUntil(t *testing.T, s *local.Stack, what string, check func() error) {
	t.Helper()
	eventually(t, what, func() error {
		if res := invoke(t, s, local.Replay, []byte(`{}`)); res.FunctionError != "" {
			return fmt.Errorf("replay: %s", res.Payload)
		}
		return check()
	})
}

// outcome is what is to become of a dead letter.
type outcome struct {
	code   string // empty: it is dead-lettered
	id     bool   // it is told its item id; else it is spilled
	queued bool   // Redis has it, whether or not somebody knows
}

// The outcome of a push that Redis and the journal decide, for a caller of the API and for a batch of a
// queue, each in its function's time. What is acknowledged is in both in the end, once; what is handed
// back is nowhere, unless Redis kept it and its reply was lost, and comes again.
func TestWhatBecomesOfADeadLetterWithAJournal(t *testing.T) {
	t.Parallel()
	kept, spilled := outcome{id: true, queued: true}, outcome{}
	refused := func(code string, queued bool) outcome { return outcome{code: code, queued: queued} }
	const full, away = "SINK_DLQ_OVERFLOW", "SINK_DLQ_UNAVAILABLE"
	for name, queue := range map[string]struct {
		begin func(t *testing.T, s *local.Stack, server *redistest.Server, proxy *faultproxy.Proxy)
		end   func(t *testing.T, s *local.Stack, server *redistest.Server, proxy *faultproxy.Proxy)
		want  map[string]outcome // by the journal's mood
	}{
		"Redis stores": {nil, nil, map[string]outcome{stores: kept, hiccups: kept, fails: kept, hangs: kept, silent: kept}},
		"Redis is full": {
			func(t *testing.T, s *local.Stack, _ *redistest.Server, _ *faultproxy.Proxy) {
				for n := range roomOfTest {
					if a := send(t, s, "webhook-gone", fmt.Sprintf("filler-%d", n), "x"); a.status != http.StatusAccepted || a.text("item_id") == "" {
						t.Fatalf("filler: %d %s", a.status, a.raw)
					}
				}
			},
			func(t *testing.T, s *local.Stack, _ *redistest.Server, _ *faultproxy.Proxy) {
				for n := range roomOfTest {
					id := call(t, s, "GET", fmt.Sprintf("/v1/deliveries?sink=webhook-gone&id=filler-%d", n), "").text("item_id")
					if a := call(t, s, "DELETE", "/v1/dlq/items/"+id, ""); a.status != http.StatusNoContent {
						t.Fatalf("discard: %d %s", a.status, a.raw)
					}
				}
			},
			map[string]outcome{stores: spilled, hiccups: spilled, fails: refused(full, false), hangs: refused(full, false), silent: refused(full, false)},
		},
		"Redis is killed": {
			func(t *testing.T, _ *local.Stack, server *redistest.Server, _ *faultproxy.Proxy) { server.Kill(t) },
			func(t *testing.T, _ *local.Stack, server *redistest.Server, _ *faultproxy.Proxy) { server.Restart(t) },
			map[string]outcome{stores: spilled, hiccups: spilled, fails: refused(away, false), hangs: refused(away, false), silent: refused(away, false)},
		},
		"the replies of Redis are lost": {
			func(t *testing.T, s *local.Stack, _ *redistest.Server, proxy *faultproxy.Proxy) {
				// Redis knows the script: to a first call it answers that it does not.
				if a := send(t, s, "webhook-down", "first", "x"); a.text("item_id") == "" {
					t.Fatalf("the first: %d %s", a.status, a.raw)
				}
				proxy.Set(faultproxy.Faults{LoseAnswersTo: `"body":"lost-`})
			},
			func(_ *testing.T, _ *local.Stack, _ *redistest.Server, proxy *faultproxy.Proxy) {
				proxy.Set(faultproxy.Faults{})
			},
			map[string]outcome{stores: {queued: true}, hiccups: {queued: true}, fails: refused(away, true), hangs: refused(away, true), silent: refused(away, true)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, b := redistest.Start(t, redistest.WithAppendOnly()), startBucket(t)
			proxy := server.Proxy(t)
			s := start(t, b.with(local.Options{
				RedisURL: "redis://" + proxy.Addr, Timeout: 6 * time.Second, QueueTimeout: 6 * time.Second,
				// What a machine that is busy needs for the answer comes out of an eighth of the reserve.
				Env: map[string]string{"BACKSTOP_DLQ_MAX_LEN": fmt.Sprint(roomOfTest), "BACKSTOP_RESERVE": "1500ms"},
			}))
			if queue.begin != nil {
				queue.begin(t, s, server, proxy)
			}
			before := b.calls()
			if a := send(t, s, "webhook-demo", "healthy", "x"); a.status != http.StatusOK || b.calls() != before {
				t.Errorf("a healthy delivery: %d, and %d calls to the journal", a.status, b.calls()-before)
			}
			var safe, back []string // acknowledged, and handed back
			for _, mood := range []string{stores, hiccups, fails, hangs, silent} {
				want := queue.want[mood]
				word := strings.ReplaceAll(mood, " ", "-")
				b.mood.Store(mood)
				alone, batched := "lost-alone-"+word, "lost-batched-"+word
				queued := make(chan lambdahost.Result, 1)
				go func() {
					res, err := s.Host.Invoke(t.Context(), lambdahost.Invocation{Function: local.Queue, Payload: batch("webhook-gone", batched)})
					if err != nil {
						res.Payload = []byte(err.Error())
					}
					queued <- res
				}()
				wantOutcome(t, mood, bare(t, s, alone), want)
				failed := []string{}
				if want.code != "" {
					failed = append(failed, batched)
				}
				failures(failed...)(t, (<-queued).Payload)
				if want.code == "" {
					safe = append(safe, alone, batched)
				} else {
					back = append(back, alone, batched)
				}
				b.mood.Store(stores)
				open, _ := b.letters(t, "open/webhook-gone")
				waiting, _ := b.letters(t, "spill")
				for _, id := range []string{alone, batched} {
					if want.code == "" && !want.id && !slices.Contains(waiting, id) {
						t.Errorf("%s: %s is told to be spilled, and is not in %q", mood, id, waiting)
					}
					if want.code != "" && (slices.Contains(open, id) || slices.Contains(waiting, id)) {
						t.Errorf("%s: %s was handed back, and the journal has it: %q, %q", mood, id, open, waiting)
					}
				}
			}
			for _, f := range []string{local.Send, local.Queue} {
				if st := s.Host.Stats(f); st.Timeouts != 0 || st.Crashes != 0 {
					t.Errorf("%s passed its deadline %d times and crashed %d times", f, st.Timeouts, st.Crashes)
				}
			}

			if queue.end != nil {
				queue.end(t, s, server, proxy)
			}
			same := func(what string, queued []string, journaled []string) {
				t.Helper()
				slices.Sort(queued)
				slices.Sort(journaled)
				tickUntil(t, s, what, func() error {
					in := idsIn(t, server, "webhook-gone")
					open, _ := b.letters(t, "open/webhook-gone")
					waiting, _ := b.letters(t, "spill")
					if !slices.Equal(in, queued) || !slices.Equal(open, journaled) || len(waiting) > 0 {
						return fmt.Errorf("the queue has %q,\nthe journal %q,\nspilled are %q;\nwant %q and %q", in, open, waiting, queued, journaled)
					}
					return nil
				})
			}
			stored := slices.Clone(safe)
			if queue.want[fails].queued && queue.want[fails].code != "" { // whoever sent them has them, too
				stored = append(stored, back...)
			}
			same("what is acknowledged is in queue and journal, once", stored, slices.Clone(safe))
			for _, id := range slices.Concat(safe, back) {
				a := bare(t, s, id)
				known := slices.Contains(safe, id) && name != "Redis is killed" // when it was sent no record could be written
				if a.status != http.StatusAccepted || a.text("item_id") == "" || known && a.body["duplicate"] != true {
					t.Errorf("%s again: %d %s, want its dead letter", id, a.status, a.raw)
				}
			}
			same("all that came again is in queue and journal, once", slices.Concat(safe, back), slices.Concat(safe, back))
		})
	}
}

// roomOfTest is how many dead letters of a sink the queue takes: all that the test leaves it.
const roomOfTest = 10

// bare sends what a batch's record has.
func bare(t *testing.T, s *local.Stack, id string) answer {
	t.Helper()
	return call(t, s, http.MethodPost, "/v1/messages", fmt.Sprintf(`{"id":%[1]q,"sink":"webhook-gone","message":{"body":%[1]q}}`, id))
}

// wantOutcome checks an answer of the API.
func wantOutcome(t *testing.T, what string, a answer, want outcome) {
	t.Helper()
	switch {
	case want.code != "":
		wantProblem(t, what, a, http.StatusServiceUnavailable, want.code)
	case want.id:
		if a.status != http.StatusAccepted || a.text("item_id") == "" || a.body["spilled"] != nil {
			t.Errorf("%s: %d %s, want 202 with an item id", what, a.status, a.raw)
		}
	default:
		if a.status != http.StatusAccepted || a.body["spilled"] != true || a.body["item_id"] != nil {
			t.Errorf("%s: %d %s, want 202, spilled", what, a.status, a.raw)
		}
	}
}

// Healthy deliveries make no call to the journal, however they come.
func TestHealthyDeliveriesLeaveTheJournalAlone(t *testing.T) {
	t.Parallel()
	b := startBucket(t)
	s := start(t, b.with(onRedis(t)))
	b.mood.Store(hangs) // whoever calls is late
	for n := range 3 {
		if a := send(t, s, "webhook-demo", fmt.Sprintf("m-%d", n), "x"); a.status != http.StatusOK {
			t.Errorf("%d %s", a.status, a.raw)
		}
	}
	failures()(t, invoke(t, s, local.Queue, batch("webhook-demo", "q1", "q2", "q3")).Payload)
	if n := b.calls(); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// What a batch pushes together is one object.
func TestABatchWritesAnObjectPerPush(t *testing.T) {
	t.Parallel()
	server, b := redistest.Start(t), startBucket(t)
	proxy := server.Proxy(t)
	s := start(t, b.with(local.Options{RedisURL: "redis://" + proxy.Addr}))
	var ids []string
	for n := range 10 {
		ids = append(ids, fmt.Sprintf("q%d", n))
	}
	proxy.Set(faultproxy.Faults{Delay: 50 * time.Millisecond}) // while one push is under way the others gather
	failures()(t, invoke(t, s, local.Queue, batch("webhook-gone", ids...)).Payload)
	letters, objects := b.letters(t, "open")
	if !slices.Equal(letters, ids) || objects > len(ids)/2 || b.Calls("put") != objects {
		t.Errorf("%q in %d objects, by %d calls", letters, objects, b.Calls("put"))
	}
	if in := idsIn(t, server, "webhook-gone"); !slices.Equal(in, ids) {
		t.Errorf("the queue has %q", in)
	}
}

// A queue that lost everything is restored; what its replays delivered is not sent again once the
// journal knows of it.
func TestAQueueThatIsWipedIsRestored(t *testing.T) {
	t.Parallel()
	server, b := redistest.Start(t), startBucket(t) // the server keeps nothing
	s := start(t, b.with(local.Options{RedisURL: server.URL()}))
	for _, id := range []string{"waits-1", "waits-2"} {
		if a := send(t, s, "webhook-gone", id, "x"); a.status != http.StatusAccepted {
			t.Fatalf("%d %s", a.status, a.raw)
		}
	}
	if a := send(t, s, "webhook-down", "ends", "x"); a.status != http.StatusAccepted {
		t.Fatalf("%d %s", a.status, a.raw)
	}
	s.Inbox.HTTP.Heal(local.PathDown)
	tickUntil(t, s, "it is delivered, and the journal knows", func() error {
		if open, _ := b.letters(t, "open"); !slices.Equal(open, []string{"waits-1", "waits-2"}) {
			return fmt.Errorf("the journal has %q", open)
		}
		return nil
	})
	server.Restart(t)
	if in := idsIn(t, server, "webhook-gone"); len(in) > 0 {
		t.Fatalf("the queue kept %q", in)
	}
	op := call(t, s, "POST", "/v1/dlq/operations", `{"action":"restore","reason":"the cache is new"}`)
	if op.status != http.StatusAccepted {
		t.Fatalf("restore: %d %s", op.status, op.raw)
	}
	tickUntil(t, s, "the restore is over", func() error {
		if a := call(t, s, "GET", "/v1/dlq/operations/"+op.text("id"), ""); a.text("status") != "completed" {
			return fmt.Errorf("%d %s", a.status, a.raw)
		}
		return nil
	})
	if in := idsIn(t, server, "webhook-gone"); !slices.Equal(in, []string{"waits-1", "waits-2"}) {
		t.Errorf("the queue has %q", in)
	}
	if n := received(s.Inbox, local.PathDown)["ends"]; n != 1 {
		t.Errorf("what a replay had delivered arrived %d times", n)
	}
}
