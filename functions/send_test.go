package functions_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/internal/inbox"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
	"backstop/internal/redistest"
)

func TestBadInputIsRefusedByName(t *testing.T) {
	t.Parallel()
	s := start(t, onRedis(t))
	big := strings.Repeat("x", 256<<10)
	tests := []struct {
		name, method, path, body string
		status                   int
		code, names              string
	}{
		{"not JSON", "POST", "/v1/messages", `{`, 400, "INVALID_ARGUMENT", "request"},
		{"empty", "POST", "/v1/messages", ``, 400, "INVALID_ARGUMENT", "request"},
		{"an array", "POST", "/v1/messages", `[]`, 400, "INVALID_ARGUMENT", "request"},
		{"two objects", "POST", "/v1/messages", `{"sink":"webhook-demo","message":{"body":"x"}}{}`, 400, "INVALID_ARGUMENT", "more follows"},
		{"unknown field", "POST", "/v1/messages", `{"sink":"webhook-demo","mesage":{}}`, 400, "INVALID_ARGUMENT", "mesage"},
		{"wrong type", "POST", "/v1/messages", `{"sink":"webhook-demo","message":{"body":7}}`, 400, "INVALID_ARGUMENT", "message.body"},
		{"no sink", "POST", "/v1/messages", `{"message":{"body":"x"}}`, 400, "INVALID_ARGUMENT", "sink"},
		{"bad sink name", "POST", "/v1/messages", `{"sink":"A b","message":{"body":"x"}}`, 400, "INVALID_ARGUMENT", "A b"},
		{"unknown sink", "POST", "/v1/messages", `{"sink":"nobody","message":{"body":"x"}}`, 404, "SINK_NOT_FOUND", "nobody"},
		{"bad id", "POST", "/v1/messages", `{"id":"a.b","sink":"webhook-demo","message":{"body":"x"}}`, 400, "INVALID_ARGUMENT", "a.b"},
		{"no body", "POST", "/v1/messages", `{"sink":"webhook-demo","message":{}}`, 400, "INVALID_ARGUMENT", "message.body"},
		{"too large", "POST", "/v1/messages", `{"sink":"webhook-demo","message":{"body":"x` + big + `"}}`, 413, "BODY_TOO_LARGE", "message"},
		{"recipient of the wrong shape", "POST", "/v1/messages", `{"sink":"email-demo","recipient":{"adress":"a@b.c"},"message":{"body":"x"}}`, 400, "INVALID_ARGUMENT", "adress"},
		{"no recipient", "POST", "/v1/messages", `{"sink":"email-demo","message":{"body":"x"}}`, 400, "INVALID_ARGUMENT", "recipient"},
		{"bad header from metadata", "POST", "/v1/messages", `{"sink":"webhook-demo","message":{"body":"x","metadata":{"Authorization":"me"}}}`, 400, "INVALID_ARGUMENT", "uthorization"},
		{"wrong method", "GET", "/v1/messages", ``, 405, "METHOD_NOT_ALLOWED", "POST"},
		{"unknown route", "GET", "/v1/nothing", ``, 404, "NOT_FOUND", "route"},
		{"wrong method of the API", "PUT", "/v1/dlq/items", `{}`, 405, "METHOD_NOT_ALLOWED", "GET"},
		{"unknown query parameter", "GET", "/v1/dlq/items?snk=x", ``, 400, "INVALID_ARGUMENT", "snk"},
		{"bad limit", "GET", "/v1/dlq/items?limit=0", ``, 400, "INVALID_ARGUMENT", "limit"},
		{"bad cursor", "GET", "/v1/dlq/items?cursor=%21", ``, 400, "INVALID_ARGUMENT", "cursor"},
		{"bad reason", "GET", "/v1/dlq/items?reason=sad", ``, 400, "INVALID_ARGUMENT", "sad"},
		{"bad time", "GET", "/v1/dlq/items?since=now", ``, 400, "INVALID_ARGUMENT", "since"},
		{"bad item id", "GET", "/v1/dlq/items/nonsense", ``, 400, "INVALID_ARGUMENT", "nonsense"},
		{"unknown item", "GET", "/v1/dlq/items/webhook-demo~1-1", ``, 404, "SINK_DLQ_NOT_FOUND", "webhook-demo~1-1"},
		{"replay of an unknown item", "POST", "/v1/dlq/items/webhook-demo~1-1/replay", ``, 404, "SINK_DLQ_NOT_FOUND", ""},
		{"replay with a wrong choice", "POST", "/v1/dlq/items/webhook-demo~1-1/replay", `{"on_success":"burn"}`, 400, "INVALID_ARGUMENT", "on_success"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := call(t, s, tt.method, tt.path, tt.body)
			wantProblem(t, tt.name, a, tt.status, tt.code)
			if !strings.Contains(a.raw, tt.names) {
				t.Errorf("the problem does not name %q: %s", tt.names, a.raw)
			}
		})
	}
	if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != 0 {
		t.Errorf("%d dead letters were stored of what was refused", n)
	}
	if n := len(s.Inbox.HTTP.Arrivals()); n != 0 {
		t.Errorf("%d requests went out for what was refused", n)
	}
}

func TestOtherAWSEventsAreRefusedByName(t *testing.T) {
	t.Parallel()
	s := start(t, onRedis(t))
	for name, payload := range map[string]string{
		"SNS":         `{"Records":[{"EventSource":"aws:sns","Sns":{"Message":"x"}}]}`,
		"EventBridge": `{"detail-type":"x","source":"y","detail":{}}`,
		"payload 1.0": `{"version":"1.0","httpMethod":"POST","requestContext":{}}`,
		"balancer":    `{"requestContext":{"elb":{}},"httpMethod":"GET"}`,
		"a request":   `"text"`,
	} {
		res := invoke(t, s, local.Send, []byte(payload))
		if res.FunctionError == "" || res.ErrorType != "INVALID_ARGUMENT" || !strings.Contains(string(res.Payload), "event") {
			t.Errorf("%s: got %q %s, want a function error INVALID_ARGUMENT that names the event", name, res.ErrorType, res.Payload)
		}
	}
}

// An asynchronous caller never sees an answer, so that only what is safe is no error.
func TestADirectInvokeFailsByNameUnlessTheMessageIsSafe(t *testing.T) {
	t.Parallel()
	s := start(t, onRedis(t))
	for payload, want := range map[string]string{
		`{"sink":"webhook-demo","message":{"body":"x"}}`:                                    "",
		`{"sink":"webhook-gone","message":{"body":"x"}}`:                                    "",
		`{"sink":"nobody","message":{"body":"x"}}`:                                          "SINK_NOT_FOUND",
		`{"sink":"email-demo","recipient":{"address":"?"},"message":{"body":"x"}}`:          "INVALID_ARGUMENT",
		`{"sink":"webhook-demo","message":{}}`:                                              "INVALID_ARGUMENT",
		`{"sink":"webhook-demo","message":{"body":"` + strings.Repeat("x", 300_000) + `"}}`: "BODY_TOO_LARGE",
	} {
		if res := invoke(t, s, local.Send, []byte(payload)); res.ErrorType != want {
			t.Errorf("%.80s: error type %q, want %q (%s)", payload, res.ErrorType, want, res.Payload)
		}
	}
}

func TestABadEnvironmentIsNamedAndNothingIsAcknowledged(t *testing.T) {
	t.Parallel()
	o := onRedis(t)
	o.Env["BACKSTOP_SINKS"], o.Env["BACKSTOP_RESERVE"] = "nowhere", "later"
	s := start(t, o)
	a := send(t, s, "webhook-demo", "m1", "x")
	wantProblem(t, "HTTP", a, 503, "SINK_CONFIG_INVALID")
	for _, name := range []string{"BACKSTOP_SINKS", "BACKSTOP_RESERVE"} {
		if !strings.Contains(a.raw, name) {
			t.Errorf("the problem does not name %s: %s", name, a.raw)
		}
	}
	for _, f := range []string{local.Queue, local.Replay} {
		if res := invoke(t, s, f, sample(t, "send-sqs.json")); res.ErrorType != "SINK_CONFIG_INVALID" {
			t.Errorf("%s: %s, want a function error SINK_CONFIG_INVALID: the queue keeps the batch", f, res.Payload)
		}
	}
	wantProblem(t, "dlq-api", call(t, s, "GET", "/v1/dlq/items", ""), 503, "SINK_CONFIG_INVALID")
}

func TestNoSinkConfigurationAtAllHandsBack(t *testing.T) {
	t.Parallel()
	o := onRedis(t)
	o.Env["BACKSTOP_SINKS"] = "file:" + t.TempDir()
	s := start(t, o)
	wantProblem(t, "HTTP", send(t, s, "webhook-demo", "m1", "x"), 503, "SINK_CONFIG_INVALID")
	failures("1", "2")(t, invoke(t, s, local.Queue, batch("webhook-demo", "1", "2")).Payload)
}

// batch is an SQS event with a record per id, all for one sink.
func batch(sink string, ids ...string) []byte {
	var records []string
	for _, id := range ids {
		body, _ := json.Marshal(fmt.Sprintf(`{"sink":%q,"message":{"body":"%s"}}`, sink, id))
		records = append(records, fmt.Sprintf(`{"messageId":%q,"body":%s,"attributes":{},"eventSource":"aws:sqs","eventSourceARN":"arn:aws:sqs:eu-central-1:1:q"}`, id, body))
	}
	return []byte(`{"Records":[` + strings.Join(records, ",") + `]}`)
}

func TestADuplicateGetsTheFirstAnswerAgain(t *testing.T) {
	t.Parallel()
	s := start(t, onRedis(t))
	for sink, status := range map[string]int{"webhook-demo": 200, "webhook-gone": 202} {
		first := send(t, s, sink, "order-1", "hello")
		again := send(t, s, sink, "order-1", "hello")
		if first.status != status || again.status != status || again.body["duplicate"] != true || first.body["duplicate"] != nil {
			t.Errorf("%s: got %d %s, then %d %s", sink, first.status, first.raw, again.status, again.raw)
		}
		if first.text("item_id") != again.text("item_id") {
			t.Errorf("%s: another item the second time: %s, %s", sink, first.raw, again.raw)
		}
		wantProblem(t, sink+": other content", send(t, s, sink, "order-1", "other"), 422, "ID_REUSED")
		a := call(t, s, http.MethodGet, "/v1/deliveries?sink="+sink+"&id=order-1", "")
		if a.text("status") != first.text("status") {
			t.Errorf("%s: the delivery's record says %s", sink, a.raw)
		}
	}
	if n := len(s.Inbox.HTTP.Arrivals()); n != 2 {
		t.Errorf("%d requests arrived, want one for each sink", n)
	}
}

func TestTheIdempotencyKeyIsTheDeliveryID(t *testing.T) {
	t.Parallel()
	s := start(t, onRedis(t))
	body := `{"sink":"webhook-demo","message":{"body":"x"}}`
	a := call(t, s, http.MethodPost, "/v1/messages", body, "Idempotency-Key", "key-1")
	if a.text("delivery_id") != "key-1" {
		t.Errorf("delivery id %q, want key-1", a.text("delivery_id"))
	}
	if b := call(t, s, http.MethodPost, "/v1/messages", body, "Idempotency-Key", "key-1"); b.body["duplicate"] != true {
		t.Errorf("got %s, want a duplicate", b.raw)
	}
	wantProblem(t, "bad key", call(t, s, http.MethodPost, "/v1/messages", body, "Idempotency-Key", "a b"), 400, "INVALID_ARGUMENT")
}

func TestOneOfTwoAtOnceIsToldThatTheOtherIsUnderWay(t *testing.T) {
	t.Parallel()
	o := onRedis(t)
	o.Timeout = 4 * time.Second
	s := start(t, o)
	var wg sync.WaitGroup
	wg.Go(func() { send(t, s, "webhook-hang", "m1", "x") })
	eventually(t, "the first is under way", func() error {
		if len(s.Inbox.HTTP.Arrivals()) == 0 {
			return fmt.Errorf("nothing arrived")
		}
		return nil
	})
	a := send(t, s, "webhook-hang", "m1", "x")
	wantProblem(t, "the second", a, 409, "DELIVERY_IN_PROGRESS")
	if a.text("delivery_id") != "m1" || a.header.Get("Retry-After") == "" {
		t.Errorf("the problem lacks the delivery id or Retry-After: %v %s", a.header, a.raw)
	}
	s.Inbox.HTTP.Heal(local.PathHang)
	wg.Wait()
}

// Sinks that hang, drip or hang up, at different time-outs: no invocation passes its
// deadline, and each leaves its dead letter.
func TestNoInvocationPassesItsDeadline(t *testing.T) {
	t.Parallel()
	faults := map[string]struct {
		path   string
		reply  inbox.Reply
		reason string
	}{
		"webhook-hang":  {local.PathHang, inbox.Reply{Fault: inbox.Hang}, "deadline"},
		"webhook-flaky": {local.PathFlaky, inbox.Reply{Fault: inbox.Drip, Status: 503}, ""},
		"webhook-gone":  {local.PathGone, inbox.Reply{Fault: inbox.Reset}, ""},
		"webhook-demo":  {local.PathOK, inbox.Reply{Fault: inbox.Drop}, ""},
		"slack-demo":    {local.PathSlack, inbox.Reply{Fault: inbox.Hang}, "ambiguous"},
	}
	var wg sync.WaitGroup
	for _, timeout := range []time.Duration{time.Second, 3 * time.Second, 10 * time.Second} {
		o := onRedis(t)
		o.Timeout = timeout
		s := start(t, o)
		for sink, f := range faults {
			s.Inbox.HTTP.Set(f.path, inbox.Always(f.reply))
			wg.Go(func() {
				what := fmt.Sprintf("%s in %s", sink, timeout)
				a := send(t, s, sink, "m1", "x")
				if a.status != http.StatusAccepted || a.text("item_id") == "" {
					t.Errorf("%s: got %d %s, want 202 with a dead letter", what, a.status, a.raw)
					return
				}
				if f.reason != "" && a.text("reason") != f.reason {
					t.Errorf("%s: reason %q, want %s", what, a.text("reason"), f.reason)
				}
				item := call(t, s, http.MethodGet, "/v1/dlq/items/"+a.text("item_id"), "")
				if item.status != 200 || item.text("delivery_id") != "m1" || item.text("reason") != a.text("reason") || item.number("attempts") != a.number("attempts") {
					t.Errorf("%s: the dead letter is %d %s", what, item.status, item.raw)
				}
				if st := s.Host.Stats(local.Send); st.Timeouts != 0 || st.Crashes != 0 {
					t.Errorf("%s: the host killed %d, %d crashed", what, st.Timeouts, st.Crashes)
				}
			})
		}
	}
	wg.Wait()
}

func TestWithRedisDownOnlyWhatIsNotDeliveredIsHandedBack(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	o := onRedis(t)
	o.RedisURL, o.Timeout = server.URL(), 10*time.Second
	s := start(t, o)
	server.Kill(t)
	if a := send(t, s, "webhook-demo", "m1", "x"); a.status != 200 {
		t.Errorf("a healthy sink: %d %s, want 200", a.status, a.raw)
	}
	a := send(t, s, "webhook-gone", "m2", "x")
	wantProblem(t, "a broken sink", a, 503, "SINK_DLQ_UNAVAILABLE")
	if a.text("delivery_id") != "m2" || a.header.Get("Retry-After") == "" {
		t.Errorf("the problem lacks the delivery id or Retry-After: %s", a.raw)
	}
	mixed := strings.ReplaceAll(string(batch("webhook-demo", "3", "4", "5", "6")), `\"webhook-demo\",\"message\":{\"body\":\"4\"`, `\"webhook-gone\",\"message\":{\"body\":\"4\"`)
	failures("4")(t, invoke(t, s, local.Queue, []byte(mixed)).Payload)
	if res := invoke(t, s, local.Replay, []byte(`{}`)); res.ErrorType != "SINK_DLQ_UNAVAILABLE" {
		t.Errorf("replay: %s, want a function error SINK_DLQ_UNAVAILABLE", res.Payload)
	}
	wantProblem(t, "dlq-api", call(t, s, "GET", "/v1/dlq/items", ""), 503, "SINK_DLQ_UNAVAILABLE")

	server.Restart(t)
	if a := send(t, s, "webhook-gone", "m2", "x"); a.status != http.StatusAccepted {
		t.Errorf("after the restart: %d %s, want 202: what was handed back can be sent again", a.status, a.raw)
	}
}

func TestAFullQueueHandsBackAndStoresOnceThereIsRoom(t *testing.T) {
	t.Parallel()
	o := onRedis(t)
	o.Env["BACKSTOP_DLQ_MAX_LEN"] = "2"
	s := start(t, o)
	for _, id := range []string{"m1", "m2"} {
		if a := send(t, s, "webhook-gone", id, "x"); a.status != http.StatusAccepted {
			t.Fatalf("%s: %d %s", id, a.status, a.raw)
		}
	}
	wantProblem(t, "full", send(t, s, "webhook-gone", "m3", "x"), 503, "SINK_DLQ_OVERFLOW")
	first := call(t, s, "GET", "/v1/deliveries?sink=webhook-gone&id=m1", "").text("item_id")
	if a := call(t, s, "DELETE", "/v1/dlq/items/"+first, ""); a.status != http.StatusNoContent {
		t.Fatalf("discard: %d %s", a.status, a.raw)
	}
	if a := send(t, s, "webhook-gone", "m3", "x"); a.status != http.StatusAccepted || a.body["duplicate"] != nil {
		t.Errorf("with room: %d %s, want 202 for the first time", a.status, a.raw)
	}
	if a := call(t, s, "GET", "/v1/deliveries?sink=webhook-gone&id=m1", ""); a.text("status") != "discarded" {
		t.Errorf("the record of the discarded one: %s", a.raw)
	}
}

// An asynchronous event that is not safe is retried by the platform and then kept by
// it; one that is safe is never repeated.
func TestAnAsynchronousEventIsKeptUnlessItIsSafe(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := start(t, local.Options{RedisURL: server.URL(), Timeout: 4 * time.Second})
	server.Kill(t)
	for _, sink := range []string{"webhook-demo", "webhook-gone"} {
		payload := fmt.Sprintf(`{"id":"m-%[1]s","sink":%[1]q,"message":{"body":"x"}}`, sink)
		if _, err := s.Host.InvokeAsync(lambdahost.Invocation{Function: local.Send, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the platform gives up on one event", func() error {
		if n := s.Host.Stats(local.Send).AsyncFailures; n != 1 {
			return fmt.Errorf("%d events were given up", n)
		}
		return nil
	})
	if n := s.Host.Stats(local.Send).AsyncRetries; n != 2 {
		t.Errorf("%d retries, want 2 of the one event that was not safe", n)
	}
	if n := s.Inbox.HTTP.CountByID(inbox.Arrival.Accepted)["m-webhook-demo"]; n != 1 {
		t.Errorf("the safe one arrived %d times, want once", n)
	}
}
