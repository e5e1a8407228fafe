package functions_test

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"backstop/internal/local"
)

// eventTests are the files of events/ with what their names promise.
var eventTests = []struct {
	file, function string
	check          func(t *testing.T, payload []byte)
}{
	{"send-http.json", local.Send, httpStatus(200, `"status":"delivered"`, `"delivery_id":"order-1001:shipped"`, `"attempts":1`)},
	{"send-direct.json", local.Send, contains(`"status":"delivered"`, `"delivery_id":"invoice-77:overdue"`)},
	{"send-sqs.json", local.Queue, failures("11111111-0000-4000-8000-000000000003", "11111111-0000-4000-8000-000000000004", "11111111-0000-4000-8000-000000000006")},
	{"send-sqs-fifo.json", local.Queue, failures("22222222-0000-4000-8000-000000000002", "22222222-0000-4000-8000-000000000003")},
	{"replay-schedule.json", local.Replay, contains(`"claimed":3`, `"delivered":3`, `"remaining":0`)},
	{"replay-input.json", local.Replay, contains(`"claimed":3`, `"delivered":3`, `"webhook-demo"`)},
	{"dlq-list.json", local.DLQAPI, httpStatus(200, `"webhook-demo~1767225602000-0"`, `"body_preview"`, `"complete":true`)},
	{"dlq-count.json", local.DLQAPI, httpStatus(200, `"count":3`, `"webhook-demo":3`)},
	{"dlq-get.json", local.DLQAPI, httpStatus(200, `"id":"webhook-demo~1767225600000-0"`, `"delivery_id":"sample-1"`, `"reason":"exhausted"`)},
	{"dlq-discard.json", local.DLQAPI, httpStatus(204)},
	{"dlq-replay.json", local.DLQAPI, httpStatus(200, `"status":"delivered"`, `"webhook-demo~1767225602000-0"`)},
	{"sinks-list.json", local.DLQAPI, httpStatus(200, `"name":"email-demo"`, `"kind":"slack"`, `"depth":3`)},
}

func contains(parts ...string) func(*testing.T, []byte) {
	return func(t *testing.T, payload []byte) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(string(payload), part) {
				t.Errorf("the answer lacks %s:\n%s", part, payload)
			}
		}
	}
}

func httpStatus(status int, parts ...string) func(*testing.T, []byte) {
	return func(t *testing.T, payload []byte) {
		t.Helper()
		var resp struct {
			StatusCode int
			Body       string
		}
		if err := json.Unmarshal(payload, &resp); err != nil || resp.StatusCode != status {
			t.Fatalf("got %s (%v), want status %d", payload, err, status)
		}
		contains(parts...)(t, []byte(resp.Body))
	}
}

func failures(ids ...string) func(*testing.T, []byte) {
	return func(t *testing.T, payload []byte) {
		t.Helper()
		var resp struct {
			BatchItemFailures []struct{ ItemIdentifier string }
		}
		if err := json.Unmarshal(payload, &resp); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, f := range resp.BatchItemFailures {
			got = append(got, f.ItemIdentifier)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("failed records %v, want exactly %v", got, ids)
		}
	}
}

func TestEachSampleEventGetsTheAnswerItsNamePromises(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../events/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := filepath.Base(f)
		tested := name == "env.sam.json"
		for _, tt := range eventTests {
			tested = tested || tt.file == name
		}
		if !tested {
			t.Errorf("%s has no test", name)
		}
	}
	for _, tt := range eventTests {
		t.Run(tt.file, func(t *testing.T) {
			t.Parallel()
			s := start(t, local.Options{Samples: true})
			res := invoke(t, s, tt.function, sample(t, tt.file))
			if res.FunctionError != "" {
				t.Fatalf("function error: %s", res.Payload)
			}
			tt.check(t, res.Payload)
		})
	}
}
