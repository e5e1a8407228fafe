//go:build full

package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"backstop/internal/faultproxy"
	"backstop/internal/inbox"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/sinks"

	"github.com/redis/go-redis/v9"
)

// many is the number of dead letters that replays work on.
const many = 10_000

// fill stores n due dead letters of webhook-demo.
func fill(t *testing.T, client redis.UniversalClient, n int) {
	t.Helper()
	store := dlq.NewRedis(client, dlq.WithMaxLen(0))
	const at = 500
	for from := 0; from < n; from += at {
		var items []dlq.Item
		for i := from; i < min(from+at, n); i++ {
			items = append(items, dlq.Item{
				DeliveryID: fmt.Sprintf("m%d", i), Sink: "webhook-demo", Reason: dlq.ReasonExhausted, Attempts: 5, LastError: "HTTP 503",
				Message: sinks.Message{ID: fmt.Sprintf("m%d", i), Subject: "many", Body: "x"},
			})
		}
		_, errs := store.AddBatch(context.Background(), items)
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// replays runs so many replays at once, again and again, until nothing remains.
func replays(t *testing.T, s *local.Stack, at int) {
	t.Helper()
	var wg sync.WaitGroup
	deadline := time.Now().Add(3 * time.Minute)
	for range at {
		wg.Go(func() {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for ; time.Now().Before(deadline); <-tick.C {
				res, err := s.Host.Invoke(context.Background(), lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)})
				var sum struct{ Remaining int64 }
				if err == nil && res.FunctionError == "" && json.Unmarshal(res.Payload, &sum) == nil && sum.Remaining == 0 {
					return
				}
			}
			t.Error("dead letters remain after three minutes")
		})
	}
	wg.Wait()
}

// arrivals counts what was accepted, by delivery, and reports what is missing.
func arrivals(t *testing.T, s *local.Stack, n int) (twice int) {
	t.Helper()
	got := s.Inbox.HTTP.CountByID(inbox.Arrival.Accepted)
	missing := 0
	for i := range n {
		switch c := got[fmt.Sprintf("m%d", i)]; {
		case c == 0:
			missing++
		case c > 1:
			twice += c - 1
		}
	}
	if missing > 0 {
		t.Errorf("%d of %d dead letters never arrived", missing, n)
	}
	return twice
}

func TestEightReplayersDeliverEachOfTenThousandOnce(t *testing.T) {
	t.Parallel()
	for name, drop := range map[string]float64{"all replies": 0, "1% of the replies lost": 0.01} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t)
			proxy, err := faultproxy.Start(context.Background(), server.Addr, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer proxy.Close()
			fill(t, server.Client(t), many)
			s := start(t, local.Options{RedisURL: "redis://" + proxy.Addr})
			proxy.Set(faultproxy.Faults{DropReplies: drop})
			replays(t, s, 8)
			if twice := arrivals(t, s, many); twice != 0 {
				t.Errorf("%d arrived twice", twice)
			}
			proxy.Set(faultproxy.Faults{})
			if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != 0 {
				t.Errorf("%d are stranded", n)
			}
			t.Logf("%d replies were lost", len(proxy.Dropped()))
		})
	}
}

// inFlight bounds what one killed replayer can have sent and not settled: what a sink
// is sent at once, a group that is being settled and one that gathers.
const inFlight = 10 + 2*50

// hold lets n more messages through to webhook-demo and holds up the answers to those that
// follow, until release is called. reached is closed by the first of them: a process waits
// for it then, and goes on waiting.
func hold(s *local.Stack, n int) (reached <-chan struct{}, release func()) {
	first, wait := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.Inbox.HTTP.Set(local.PathOK, func(i int) inbox.Reply {
		if i <= n {
			return inbox.Reply{}
		}
		once.Do(func() { close(first) })
		return inbox.Reply{Wait: wait}
	})
	return first, func() {
		s.Inbox.HTTP.Heal(local.PathOK)
		close(wait)
	}
}

func TestKilledReplayersLoseNothing(t *testing.T) {
	t.Parallel()
	const kills = 3
	server := redistest.Start(t)
	fill(t, server.Client(t), many)
	s := start(t, local.Options{RedisURL: server.URL(), ReplayTimeout: 15 * time.Second})
	var all sync.WaitGroup
	all.Go(func() {
		for range kills {
			reached, release := hold(s, many/5)
			select {
			case <-reached:
			case <-t.Context().Done():
				release()
				return
			}
			if !s.Host.Kill(local.Replay) {
				t.Error("a message is being sent, and no process is there to be killed")
			}
			release()
		}
	})
	replays(t, s, 8)
	all.Wait()
	twice := arrivals(t, s, many)
	t.Logf("%d processes were killed, %d messages arrived twice", kills, twice)
	if twice > kills*inFlight {
		t.Errorf("%d arrived twice, more than %d processes can have had in flight", twice, kills)
	}
	if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != 0 {
		t.Errorf("%d are stranded", n)
	}
}

func TestABulkReplayIsResumedAfterItsProcessDied(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	fill(t, server.Client(t), many)
	s := start(t, local.Options{RedisURL: server.URL(), ReplayTimeout: 15 * time.Second})
	request := `{"action":"replay","filter":{"sink":"webhook-demo","reason":"exhausted"},"reason":"test"%s}`
	dry := call(t, s, "POST", "/v1/dlq/operations", fmt.Sprintf(request, `,"dry_run":true`))
	if dry.status != http.StatusOK {
		t.Fatalf("dry run: %d %s", dry.status, dry.raw)
	}
	op := call(t, s, "POST", "/v1/dlq/operations", fmt.Sprintf(request, ""))
	if op.status != http.StatusAccepted || op.text("id") == "" {
		t.Fatalf("create: %d %s", op.status, op.raw)
	}
	payload := []byte(fmt.Sprintf(`{"operation":%q}`, op.text("id")))
	const kills = 2
	deadline := time.Now().Add(4 * time.Minute)
	// bulk invokes replay for the operation until done says so, and kills what is under way
	// once kill is closed.
	bulk := func(kill <-chan struct{}, done func() bool) {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for ; !done(); <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("not completed: %s", call(t, s, "GET", "/v1/dlq/operations/"+op.text("id"), "").raw)
			}
			finished := make(chan struct{})
			go func() {
				_, _ = s.Host.Invoke(context.Background(), lambdahost.Invocation{Function: local.Replay, Payload: payload})
				close(finished)
			}()
			select {
			case <-finished: // the time of an owner that died is waited for
			case <-kill:
				if !s.Host.Kill(local.Replay) {
					t.Fatal("a message is being sent, and no process is there to be killed")
				}
				<-finished
				return
			}
		}
	}
	for range kills {
		reached, release := hold(s, many/4)
		bulk(reached, func() bool { return false })
		release()
	}
	var done answer
	bulk(nil, func() bool {
		done = call(t, s, "GET", "/v1/dlq/operations/"+op.text("id"), "")
		return done.text("status") == "completed"
	})
	if got, want := done.number("settled"), dry.number("count"); got != many || want != many || done.number("delivered") != many {
		t.Errorf("the dry run named %d, the operation settled %d and delivered %d, want %d each: %s", want, got, done.number("delivered"), many, done.raw)
	}
	twice := arrivals(t, s, many)
	t.Logf("killed twice, %d messages arrived twice", twice)
	if twice > kills*inFlight {
		t.Errorf("%d arrived twice, more than %d processes can have had in flight", twice, kills)
	}
}
