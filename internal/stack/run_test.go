//go:build full

package stack_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/redis/go-redis/v9"

	"backstop/internal/inbox"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// The stack of the run: a cache that exists, whose password is a parameter, and room
// for three dead letters of a sink.
var runParameters = map[string]string{
	"SinksPath": "/backstop/test/sinks", "SecretsPath": "/backstop/test/secrets", "RedisPasswordParameter": "/backstop/test/redis",
	"RedisUrl": "redis://filled-in.example:6379", "RedisCluster": "false", "DlqMaxLen": "3", "DlqOverflow": "trim", "Reserve": "500ms",
	"SinksTtl": "1h", "IdempotencyTtl": "1h", "Concurrency": "8",
	"Replayers":   "2",
	"SinkMetrics": "all", // the page of the metrics is held against what is published
}

const redisPassword = "correct-horse-battery"

func message(id, sink string) string {
	return fmt.Sprintf(`{"id":%q,"sink":%q,"message":{"subject":"run","body":"hello"}}`, id, sink)
}

// One run of the deployed stack, in which everything happens that can: each fate of a
// delivery from each source, replays that succeed and fail, an overflowing queue, a bulk
// operation, an asynchronous event that is kept, and a cache that goes away.
func TestTheDeployedStackWorks(t *testing.T) {
	binaries := t.TempDir()
	if err := local.Build(t.Context(), filepath.Join("..", ".."), binaries); err != nil {
		t.Fatal(err)
	}
	cli := buildCLI(t)
	w := newWorld(t, binaries)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the functions said:\n%s", strings.Join(w.output(), "\n"))
		}
	})
	t.Run("queues, policies and roles are what the template says", func(t *testing.T) {
		w.checkQueues(t)
		checkRoles(t, w.deploy, w.stack)
	})
	t.Run("parameters are read back encrypted", w.checkParameters)
	t.Run("a stack without a configuration says so", w.blind)

	// A failed record would stay out of sight for twelve minutes.
	if _, err := w.sqs.SetQueueAttributes(t.Context(), &sqs.SetQueueAttributesInput{
		QueueUrl: aws.String(w.queue("Messages")), Attributes: map[string]string{"VisibilityTimeout": "1"},
	}); err != nil {
		t.Fatal(err)
	}
	w.poll(t)
	w.enqueue(t, "this is no JSON")

	t.Run("a message of the queue reaches its sink", func(t *testing.T) {
		w.enqueue(t, message("q-ok", "ok"))
		eventually(t, "q-ok arrives", func() bool { return w.arrived("q-ok") == 1 })
		for _, a := range w.inbox.HTTP.Arrivals() {
			if a.ID() == "q-ok" && a.Header.Get("X-Key") != "key-of-the-receiver" {
				t.Errorf("the header from the secret is %q", a.Header.Get("X-Key"))
			}
		}
	})
	t.Run("one that asks to be sent later goes back, and comes once", func(t *testing.T) {
		w.enqueue(t, `{"id":"q-later","sink":"ok","message":{"body":"hello"},"send_after":"2s"}`)
		eventually(t, "q-later waits", func() bool {
			_, out := w.http(t, "GET", "/v1/deliveries?sink=ok&id=q-later", "")
			return out["status"] == "accepted"
		})
		eventually(t, "q-later arrives", func() bool { return w.arrived("q-later") == 1 })
	})
	t.Run("one that fails is dead-lettered, and replayed by the schedule", func(t *testing.T) {
		w.enqueue(t, message("q-down", "down"))
		eventually(t, "q-down is dead-lettered", func() bool { return w.count(t, "down") == 1 })
		w.inbox.HTTP.Heal("/down")
		eventually(t, "the schedule delivers it", func() bool {
			w.tick(t)
			return w.count(t, "down") == 0
		})
		if n := w.arrived("q-down"); n != 1 {
			t.Errorf("it arrived %d times, want once", n)
		}
	})
	t.Run("one that keeps failing is parked", func(t *testing.T) {
		if status, out := w.http(t, "POST", "/v1/messages", message("h-dead", "dead")); status != 202 {
			t.Fatalf("%d %v", status, out)
		}
		parked := 0
		eventually(t, "it is parked", func() bool {
			parked += number(w.tick(t)["parked"])
			return parked == 1
		})
	})
	t.Run("the commands of the runbook work", func(t *testing.T) {
		w.inbox.HTTP.Heal("/dead")
		w.runbook(t, cli)
		if n := w.arrived("h-dead"); n != 1 {
			t.Errorf("the parked message arrived %d times after its replay, want once", n)
		}
	})
	t.Run("a duplicate is answered from its record", func(t *testing.T) {
		for _, want := range []bool{false, true} {
			status, out := w.http(t, "POST", "/v1/messages", message("h-ok", "ok"))
			if duplicate := out["duplicate"] == true; status != 200 || duplicate != want {
				t.Errorf("%d %v, want duplicate %v", status, out, want)
			}
		}
	})
	t.Run("an id that was used for something else is handed back", func(t *testing.T) {
		other := strings.Replace(message("h-ok", "ok"), "hello", "something else", 1)
		if status, out := w.http(t, "POST", "/v1/messages", other); status != 422 || out["code"] != "ID_REUSED" {
			t.Errorf("%d %v", status, out)
		}
	})
	t.Run("an overflowing queue trims, and a bulk operation discards the rest", func(t *testing.T) {
		for i := range 5 {
			if status, out := w.http(t, "POST", "/v1/messages", message(fmt.Sprint("h-gone-", i), "gone")); status != 202 {
				t.Fatalf("%d %v", status, out)
			}
		}
		if n := w.count(t, "gone"); n != 3 {
			t.Errorf("%d dead letters, want the cap of 3", n)
		}
		w.tick(t) // measures
		status, out := w.http(t, "POST", "/v1/dlq/operations", `{"action":"discard","filter":{"sink":"gone"},"reason":"test"}`)
		if status != 202 {
			t.Fatalf("%d %v", status, out)
		}
		eventually(t, "the operation, started at once, is done without a tick", func() bool { return w.count(t, "gone") == 0 })
	})
	t.Run("the commands of the incident page work", func(t *testing.T) { w.operating(t, cli, "shipped", "docs", "operating.md") })
	t.Run("and those of the README", func(t *testing.T) { w.operating(t, cli, "returned", "README.md") })
	t.Run("a receiver that is down, and one that asks to wait, are left alone", func(t *testing.T) {
		send := 0
		for sink, want := range map[string]string{"broken": "open", "busy": "held"} {
			eventually(t, sink+" is "+want, func() bool {
				send++
				if status, out := w.http(t, "POST", "/v1/messages", message(fmt.Sprint("h-left-", send), sink)); status != 202 {
					t.Fatalf("%d %v", status, out)
				}
				_, out := w.http(t, "GET", "/v1/sinks", "")
				for _, s := range array(out["sinks"]) {
					if obj(s)["name"] == sink {
						return obj(s)["state"] == want
					}
				}
				return false
			})
		}
	})
	t.Run("what is accepted goes through the stack's queue, now and later", func(t *testing.T) {
		for id, body := range map[string]string{
			"h-now":   message("h-now", "ok"),
			"h-later": `{"id":"h-later","sink":"ok","message":{"body":"hello"},"send_after":"2s"}`,
		} {
			status, out := w.http(t, "POST", "/v1/messages", body, "Prefer", "respond-async")
			if status != 202 || out["status"] != "accepted" || (out["not_before"] != nil) != (id == "h-later") {
				t.Fatalf("%s: %d %v, want it accepted", id, status, out)
			}
			eventually(t, id+" arrives", func() bool { return w.arrived(id) == 1 })
		}
	})
	t.Run("what is canceled while it waits is not sent", func(t *testing.T) {
		if status, out := w.http(t, "POST", "/v1/messages", `{"id":"h-stop","sink":"ok","message":{"body":"hello"},"send_after":"2s"}`); status != 202 {
			t.Fatalf("%d %v", status, out)
		}
		status, out := w.http(t, "DELETE", "/v1/deliveries?sink=ok&id=h-stop", "")
		if status != 200 || out["status"] != "canceled" || out["known"] != true {
			t.Fatalf("%d %v, want it canceled and known", status, out)
		}
		w.http(t, "POST", "/v1/messages", `{"id":"h-after","sink":"ok","message":{"body":"hello"},"send_after":"3s"}`)
		eventually(t, "what was put off for longer arrives", func() bool { return w.arrived("h-after") == 1 })
		eventually(t, "the queue is done with both", func() bool {
			q := w.attributes(t, "Messages")
			return number(q["ApproximateNumberOfMessages"])+number(q["ApproximateNumberOfMessagesDelayed"])+number(q["ApproximateNumberOfMessagesNotVisible"]) == 0
		})
		if n := w.arrived("h-stop"); n != 0 {
			t.Errorf("it arrived %d times", n)
		}
	})
	t.Run("what expired in the queue is not sent", func(t *testing.T) {
		w.enqueue(t, `{"id":"q-old","sink":"ok","message":{"body":"hello"},"expires_at":"2026-01-01T00:00:00Z"}`)
		eventually(t, "q-old is dead-lettered", func() bool { return w.count(t, "ok") == 1 })
		if n := w.arrived("q-old"); n != 0 {
			t.Errorf("it arrived %d times", n)
		}
	})
	t.Run("an asynchronous event that cannot be handled is kept as it was", func(t *testing.T) {
		event := message("a-1", "no-such-sink")
		if _, err := w.host.InvokeAsync(lambdahost.Invocation{Function: text(w.stack.attribute("SendFunction", "Ref")), Payload: []byte(event)}); err != nil {
			t.Fatal(err)
		}
		w.receive(t, "AsyncFailures", event)
	})
	t.Run("a tick that cannot be handled leaves a trace", func(t *testing.T) {
		if _, err := w.host.InvokeAsync(lambdahost.Invocation{Function: text(w.stack.attribute("ReplayFunction", "Ref")), Payload: []byte(`{"limit":"many"}`)}); err != nil {
			t.Fatal(err)
		}
		w.receive(t, "TickFailures", `{"limit":"many"}`)
	})
	t.Run("a malformed message ends in the redrive queue after its receives", func(t *testing.T) {
		eventually(t, "it is there", func() bool { return w.waiting(t, "Redrive") == 1 })
		m := w.receive(t, "Redrive", "this is no JSON")
		if n := number(m.Attributes["ApproximateReceiveCount"]); n < 5 {
			t.Errorf("received %d times, want 5 at least before it was given up", n)
		}
		if n := w.waiting(t, "Messages"); n != 0 {
			t.Errorf("%d messages are left in the queue", n)
		}
	})
	t.Run("what is older than its sink keeps it is retired", func(t *testing.T) {
		const item = `{"sink":"old","at":"2023-11-14T22:13:20Z","message":{"body":"hello"},"attempts":1,"last_error":"HTTP 404"}`
		o, err := redis.ParseURL(w.redis.URL())
		if err != nil {
			t.Fatal(err)
		}
		o.Password = redisPassword
		client := redis.NewClient(o)
		t.Cleanup(func() { _ = client.Close() })
		if err := client.XAdd(t.Context(), &redis.XAddArgs{
			Stream: "backstop:dlq:old", ID: "1700000000000-0", Values: []string{"item", item, "k", "k", "g", "", "n", "never"},
		}).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is gone", func() bool {
			w.tick(t)
			return w.count(t, "old") == 0
		})
	})
	t.Run("fates are told", func(t *testing.T) {
		if status, out := w.http(t, "POST", "/v1/messages", message("h-told", "told")); status != 200 {
			t.Errorf("%d %v", status, out)
		}
		w.inbox.HTTP.Set("/ears", inbox.Always(inbox.Reply{Status: http.StatusServiceUnavailable}))
		if status, out := w.http(t, "POST", "/v1/messages", message("h-told-later", "told")); status != 200 || w.count(t, "ears") != 1 {
			t.Errorf("%d %v", status, out)
		}
		// While one call tells, another finds the event pending.
		wait := make(chan struct{})
		w.inbox.HTTP.Set("/ears", inbox.Always(inbox.Reply{Wait: wait}))
		var first sync.WaitGroup
		first.Go(func() {
			if status, out := w.http(t, "POST", "/v1/messages", message("h-told-twice", "told")); status != 200 {
				t.Errorf("%d %v", status, out)
			}
		})
		eventually(t, "it is pending", func() bool {
			_, out := w.http(t, "GET", "/v1/deliveries?sink=told&id=h-told-twice", "")
			return out["event"] == "pending"
		})
		if status, out := w.http(t, "POST", "/v1/messages", message("h-told-twice", "told")); status != 200 || out["duplicate"] != true {
			t.Errorf("%d %v", status, out)
		}
		close(wait)
		first.Wait()
		w.inbox.HTTP.Heal("/ears")
		eventually(t, "all of it is told", func() bool {
			w.tick(t)
			return w.count(t, "ears") == 0
		})
	})
	t.Run("the journal has what the queue has, and nothing is lost", func(t *testing.T) {
		w.inbox.HTTP.Set("/gone", inbox.Always(inbox.Reply{Status: http.StatusNotFound}))
		if status, out := w.http(t, "POST", "/v1/messages", message("h-both", "gone")); status != 202 || out["item_id"] == nil || out["spilled"] != nil {
			t.Fatalf("%d %v, want it in the queue", status, out)
		}
		if n := w.objects(t, "open/gone/"); n != 1 {
			t.Errorf("%d objects of it, want one", n)
		}
		out := shell(t, "backstop dlq audit", w.operator(cli)...)
		if !strings.Contains(out, " lost=0") || strings.Contains(out, "letters=0 ") {
			t.Errorf("the audit says %q", out)
		}
	})
	t.Run("a tick with more due than it gets done has others replay with it", func(t *testing.T) {
		o, err := redis.ParseURL(w.redis.URL())
		if err != nil {
			t.Fatal(err)
		}
		o.Password = redisPassword
		client := redis.NewClient(o)
		defer client.Close()
		const letters = 501
		before := w.count(t, "ok")
		items := make([]dlq.Item, letters)
		for i := range items {
			id := fmt.Sprint("many-", i)
			items[i] = dlq.Item{Sink: "ok", DeliveryID: id, Reason: dlq.ReasonExhausted, LastError: "x", Message: sinks.Message{ID: id, Body: "x"}}
		}
		if _, errs := dlq.NewRedis(client, dlq.WithMaxLen(0)).AddBatch(t.Context(), items); errors.Join(errs...) != nil {
			t.Fatal(errors.Join(errs...))
		}
		if n := number(w.tick(t)["started"]); n != 1 {
			t.Errorf("%d others were started, want 1", n)
		}
		eventually(t, "all are delivered", func() bool { return w.count(t, "ok") == before })
		for i := range items {
			if n := w.arrived(items[i].DeliveryID); n != 1 {
				t.Errorf("%s arrived %d times", items[i].DeliveryID, n)
			}
		}
	})
	t.Run("without the cache, what works is still delivered, and what fails is spilled", func(t *testing.T) {
		w.redis.Kill(t)
		if status, out := w.http(t, "POST", "/v1/messages", message("h-last", "ok")); status != 200 || w.arrived("h-last") != 1 {
			t.Errorf("%d %v", status, out)
		}
		if status, out := w.http(t, "POST", "/v1/messages", message("h-spilled", "gone")); status != 202 || out["spilled"] != true {
			t.Errorf("%d %v, want it spilled", status, out)
		}
		if n := w.objects(t, "spill/gone/"); n != 1 {
			t.Errorf("%d objects of it, want one", n)
		}
	})

	t.Run("roles allow what was called, and nothing more", func(t *testing.T) { checkActions(t, w.rec, w.stack) })
	emitted := readMetrics(t, w.output())
	t.Run("metrics are valid EMF", func(t *testing.T) { checkEMF(t, w.output()) })
	t.Run("metrics are those of docs/metrics.md", func(t *testing.T) { checkTable(t, emitted) })
	t.Run("alarms and dashboard name metrics that exist", func(t *testing.T) { checkNamed(t, emitted) })
}
