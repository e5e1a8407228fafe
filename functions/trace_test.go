package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"backstop/internal/local"
)

// A dead letter keeps the trace of the call that first failed; its replays, by whom and
// when ever, name it, so that one search finds all of them.
func TestAReplayNamesTheTraceOfTheFirstFailure(t *testing.T) {
	t.Parallel()
	var l lines
	o := onRedis(t)
	o.Bin, o.Output = built(t), l.add
	s, err := local.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Logf("the functions said:\n%s", strings.Join(l.all, "\n"))
		}
	})
	const w3c = "00-4bf92f3577b34da6a3ce929d0e0e47%02d-00f067aa0ba902b7-01"
	const xray = "Root=1-67891233-abcdef0123456789abcdef%02d;Parent=53995c3f42cd8ad8;Sampled=1"
	body := func(id string) string {
		return fmt.Sprintf(`{"id":%q,"sink":"webhook-down","message":{"subject":"s","body":"b"}}`, id)
	}
	viaHTTP := func(headers ...string) func(id string) {
		return func(id string) {
			if a := call(t, s, http.MethodPost, "/v1/messages", body(id), headers...); a.status != http.StatusAccepted {
				t.Fatalf("%s: %d %s", id, a.status, a.raw)
			}
		}
	}
	viaQueue := func(attributes, messageAttributes map[string]any) func(id string) {
		return func(id string) {
			event, err := json.Marshal(map[string]any{"Records": []any{map[string]any{
				"messageId": id, "body": body(id), "attributes": attributes, "messageAttributes": messageAttributes,
				"eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:messages",
			}}})
			if err != nil {
				t.Fatal(err)
			}
			if res := invoke(t, s, local.Queue, event); string(res.Payload) != `{"batchItemFailures":[]}` {
				t.Fatalf("%s: %s", id, res.Payload)
			}
		}
	}
	traceOf := map[string]string{}
	n := 0
	for name, c := range map[string]struct {
		form string
		send func(trace string) func(id string)
	}{
		"http-w3c":  {w3c, func(trace string) func(string) { return viaHTTP("traceparent", trace, "X-Amzn-Trace-Id", "Root=1-2-3") }},
		"http-xray": {xray, func(trace string) func(string) { return viaHTTP("X-Amzn-Trace-Id", trace) }},
		"sqs-w3c": {w3c, func(trace string) func(string) {
			return viaQueue(map[string]any{}, map[string]any{"traceparent": map[string]string{"dataType": "String", "stringValue": trace}})
		}},
		"sqs-xray": {xray, func(trace string) func(string) {
			return viaQueue(map[string]any{"AWSTraceHeader": trace}, map[string]any{})
		}},
	} {
		n++
		traceOf[name] = fmt.Sprintf(c.form, n)
		c.send(traceOf[name])(name)
		if l.index(`"message":"delivery"`, name, traceOf[name]) < 0 {
			t.Errorf("%s: the delivery's line does not name %s", name, traceOf[name])
		}
	}

	page := call(t, s, http.MethodGet, "/v1/dlq/items?sink=webhook-down", "")
	items, _ := page.body["items"].([]any)
	if len(items) != len(traceOf) {
		t.Fatalf("%d dead letters, want %d: %s", len(items), len(traceOf), page.raw)
	}
	for i, v := range items {
		it, _ := v.(map[string]any)
		id, _ := it["id"].(string)
		delivery, _ := it["delivery_id"].(string)
		if got := call(t, s, http.MethodGet, "/v1/dlq/items/"+id, "").text("trace"); got != traceOf[delivery] {
			t.Errorf("%s kept the trace %q, want %q", delivery, got, traceOf[delivery])
		}
		if i == 0 { // one by an operator, while it still fails
			if a := call(t, s, http.MethodPost, "/v1/dlq/items/"+id+"/replay", "{}"); a.text("status") == "delivered" {
				t.Fatalf("replayed: %s", a.raw)
			}
			if l.index(local.DLQAPI+" | ", `"message":"replay"`, delivery, traceOf[delivery]) < 0 {
				t.Errorf("the operator's replay of %s does not name its trace", delivery)
			}
			s.Inbox.HTTP.Heal(local.PathDown)
			if a := call(t, s, http.MethodPost, "/v1/dlq/items/"+id+"/replay", "{}"); a.text("status") != "delivered" {
				t.Fatalf("replayed: %s", a.raw)
			}
			delete(traceOf, delivery)
		}
	}
	for delivery, trace := range traceOf {
		eventually(t, "the schedule replays "+delivery, func() error {
			invoke(t, s, local.Replay, []byte(`{"trigger":"schedule"}`))
			if l.index(local.Replay+" | ", `"message":"replay"`, `"status":"delivered"`, delivery, trace) < 0 {
				return errors.New("no line with its trace")
			}
			return nil
		})
	}
}
