package functions_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"backstop/internal/inbox"
	"backstop/internal/local"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// due stores n due dead letters of webhook-demo for a stack.
func due(t *testing.T, o local.Options, n int) {
	t.Helper()
	store := dlq.NewRedis(redistest.Shared(t).Client(t), dlq.WithKeyPrefix(o.Env["BACKSTOP_KEY_PREFIX"]))
	items := make([]dlq.Item, n)
	for i := range items {
		id := fmt.Sprint("m", i)
		items[i] = dlq.Item{
			DeliveryID: id, Sink: "webhook-demo", Reason: dlq.ReasonExhausted, Attempts: 5, LastError: "HTTP 503",
			Message: sinks.Message{ID: id, Body: "x"},
		}
	}
	_, errs := store.AddBatch(t.Context(), items)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

const scheduled = `{"trigger":"schedule","time":"2026-01-01T00:00:00Z"}`

// summaryOf is what a run answered.
func summaryOf(t *testing.T, s *local.Stack, event string) (sum struct{ Delivered, Started, Missing int }) {
	t.Helper()
	res := invoke(t, s, local.Replay, []byte(event))
	if err := json.Unmarshal(res.Payload, &sum); err != nil || res.FunctionError != "" {
		t.Fatalf("%s: %s", event, res.Payload)
	}
	return sum
}

// A tick with more to do than one process gets done invokes its own function; the processes share the work.
func TestATickHasOthersReplayWithIt(t *testing.T) {
	t.Parallel()
	const letters, others = 1200, 2
	var l lines
	o := onRedis(t)
	o.Env["BACKSTOP_REPLAYERS"], o.Output = "8", l.add
	due(t, o, letters)
	s := start(t, o)
	// Nothing gets through before each process has begun to send.
	wait := make(chan struct{})
	s.Inbox.HTTP.Set(local.PathOK, func(n int) inbox.Reply {
		if n == 1 { // of the canary, which all others wait for
			return inbox.Reply{}
		}
		return inbox.Reply{Wait: wait}
	})
	ended := make(chan struct{ Delivered, Started, Missing int }, 1)
	go func() { ended <- summaryOf(t, s, scheduled) }()
	eventually(t, "all processes are at it", func() error {
		if n := s.Host.Stats(local.Replay).ColdStarts; n < 1+others {
			return fmt.Errorf("%d processes", n)
		}
		return nil
	})
	close(wait)
	if sum := <-ended; sum.Started != others || sum.Missing != 0 {
		t.Errorf("the tick: %+v, want %d started", sum, others)
	}
	eventually(t, "all are delivered", func() error {
		if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n > 0 {
			return fmt.Errorf("%d are left", n)
		}
		return nil
	})
	for id, n := range received(s.Inbox, local.PathOK) {
		if n != 1 {
			t.Errorf("%s arrived %d times", id, n)
		}
	}
	if n := len(received(s.Inbox, local.PathOK)); n != letters {
		t.Errorf("%d of %d arrived", n, letters)
	}
	eventually(t, "the lines of all three, and their metrics", func() error {
		got := l.published(t)[""]
		if got["ReplayersMissing"] != 0 || got["ReplayRuns"] != 1 || got["ReplayDelivered"] != letters {
			return fmt.Errorf("%v, want those of one tick and of all replays", got)
		}
		for _, want := range []string{`"rank":1`, `"rank":2`, `"replayers_started":2`} {
			if l.index(want) < 0 {
				return fmt.Errorf("no line has %s", want)
			}
		}
		return nil
	})
}

// Lambda may refuse, or not answer: the tick replays all the same, says who is missing, and the heartbeat is noted.
func TestATickThatCanStartNobodyReplaysAlone(t *testing.T) {
	t.Parallel()
	const letters = 1200
	for name, answer := range map[string]http.HandlerFunc{
		"throttled": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amzn-Errortype", "TooManyRequestsException")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"denied": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Amzn-Errortype", "AccessDeniedException")
			w.WriteHeader(http.StatusForbidden)
		},
		"no answer": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // a server sees that a client left once it has read all
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lambda := httptest.NewServer(answer)
			t.Cleanup(lambda.Close)
			var l lines
			o := onRedis(t)
			o.Env["BACKSTOP_REPLAYERS"], o.Env["AWS_ENDPOINT_URL_LAMBDA"], o.Output = "3", lambda.URL, l.add
			due(t, o, letters)
			s := start(t, o)
			if sum := summaryOf(t, s, scheduled); sum.Delivered != letters || sum.Started != 0 || sum.Missing != 2 {
				t.Errorf("the tick: %+v, want all delivered and two missing", sum)
			}
			eventually(t, "it is logged and counted", func() error {
				if l.index("replayers not started; this run goes on without them") < 0 || l.published(t)[""]["ReplayersMissing"] != 2 {
					return errors.New("not yet")
				}
				return nil
			})
		})
	}
}

// An event that comes when its tick is over finds nothing to do; whoever invokes the function with it gets an answer.
func TestAPartOfATickThatIsOverSendsNothing(t *testing.T) {
	t.Parallel()
	o := onRedis(t)
	o.Env["BACKSTOP_REPLAYERS"] = "3"
	due(t, o, 3)
	s := start(t, o)
	part := func(until time.Time) string {
		return fmt.Sprintf(`{"sinks":["webhook-demo"],"part":{"rank":2,"until":%q}}`, until.UTC().Format(time.RFC3339Nano))
	}
	if sum := summaryOf(t, s, part(time.Now().Add(-time.Second))); sum.Delivered != 0 || len(s.Inbox.HTTP.Arrivals()) != 0 {
		t.Errorf("%+v", sum)
	}
	if sum := summaryOf(t, s, part(time.Now().Add(time.Minute))); sum.Delivered != 3 || sum.Started != 0 {
		t.Errorf("in time: %+v, want three delivered", sum)
	}
}
