package functions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backstop/internal/faultproxy"
	"backstop/internal/inbox"
	"backstop/internal/local"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/lambdahost"
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
			for time.Now().Before(deadline) {
				res, err := s.Host.Invoke(context.Background(), lambdahost.Invocation{Function: local.Replay, Payload: []byte(`{}`)})
				var sum struct{ Remaining int64 }
				if err == nil && res.FunctionError == "" && json.Unmarshal(res.Payload, &sum) == nil && sum.Remaining == 0 {
					return
				}
				time.Sleep(100 * time.Millisecond)
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

func TestKilledReplayersLoseNothing(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	fill(t, server.Client(t), many)
	s := start(t, local.Options{RedisURL: server.URL(), ReplayTimeout: 8 * time.Second})
	var kills atomic.Int64
	go func() {
		for kills.Load() < 3 && t.Context().Err() == nil {
			done := len(s.Inbox.HTTP.CountByID(inbox.Arrival.Accepted))
			if int64(done) > (kills.Load()+1)*many/5 && s.Host.Kill(local.Replay) {
				kills.Add(1)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	replays(t, s, 8)
	twice := arrivals(t, s, many)
	t.Logf("%d processes were killed, %d messages arrived twice", kills.Load(), twice)
	if kills.Load() != 3 {
		t.Errorf("%d processes were killed, want 3", kills.Load())
	}
	if twice > 3*inFlight {
		t.Errorf("%d arrived twice, more than 3 processes can have had in flight", twice)
	}
	if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != 0 {
		t.Errorf("%d are stranded", n)
	}
}

func TestABulkReplayIsResumedAfterItsProcessDied(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	fill(t, server.Client(t), many)
	s := start(t, local.Options{RedisURL: server.URL(), ReplayTimeout: 8 * time.Second})
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
	kills := 0
	var done answer
	for deadline := time.Now().Add(3 * time.Minute); ; {
		finished := make(chan struct{})
		go func() {
			_, _ = s.Host.Invoke(context.Background(), lambdahost.Invocation{Function: local.Replay, Payload: payload})
			close(finished)
		}()
		for running := true; running; {
			select {
			case <-finished:
				running = false
			case <-time.After(20 * time.Millisecond):
				if n := len(s.Inbox.HTTP.CountByID(inbox.Arrival.Accepted)); kills < 2 && n > (kills+1)*many/4 && s.Host.Kill(local.Replay) {
					kills++
				}
			}
		}
		if done = call(t, s, "GET", "/v1/dlq/operations/"+op.text("id"), ""); done.text("status") == "completed" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("not completed: %s", done.raw)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if kills != 2 {
		t.Errorf("the process was killed %d times, want 2", kills)
	}
	if got, want := done.number("settled"), dry.number("count"); got != many || want != many || done.number("delivered") != many {
		t.Errorf("the dry run named %d, the operation settled %d and delivered %d, want %d each: %s", want, got, done.number("delivered"), many, done.raw)
	}
	twice := arrivals(t, s, many)
	t.Logf("killed twice, %d messages arrived twice", twice)
	if twice > 2*inFlight {
		t.Errorf("%d arrived twice, more than 2 processes can have had in flight", twice)
	}
}
