package handler

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda/messages"

	"backstop/internal/app"
	"backstop/internal/strictjson"
	"backstop/lib/delivery"
)

// newHandler is the function on memory, with a sink that works, one that refuses, and
// one that is configured wrongly. Nothing leaves the machine: no recipient's host passes
// allowed_hosts.
func newHandler(tb testing.TB) *handler {
	tb.Helper()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/gone" {
			w.WriteHeader(http.StatusGone)
		}
	}))
	tb.Cleanup(receiver.Close)
	dir := tb.TempDir()
	for name, text := range map[string]string{
		"ok":     "kind: webhook\nurl: " + receiver.URL + "\nretry: {max_attempts: 1}\nallowed_hosts: [nosuch.invalid]\n",
		"gone":   "kind: webhook\nurl: " + receiver.URL + "/gone\nretry: {max_attempts: 1}\nallowed_hosts: [nosuch.invalid]\n",
		"broken": "kind: webhook\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	for k, v := range map[string]string{
		"BACKSTOP_SINKS": "file:" + dir, "BACKSTOP_LOCAL": "true", "BACKSTOP_SINKS_TTL": "1h", "BACKSTOP_MAX_BODY_BYTES": "2000",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "eu-central-1",
	} {
		tb.Setenv(k, v)
	}
	a, err := app.New(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	a.Out = io.Discard
	return &handler{app: a}
}

// codes are what an answer may say instead of delivered or dead_lettered.
var codes = []string{
	"INVALID_ARGUMENT", "BODY_TOO_LARGE", "SINK_NOT_FOUND", "ID_REUSED", "DELIVERY_IN_PROGRESS", "NOT_FOUND", "METHOD_NOT_ALLOWED",
}

// Whatever comes in, the answer is one of the contract: a fate, a problem with a code,
// or a named function error. Nothing is acknowledged that was not understood.
func FuzzEvent(f *testing.F) {
	h := newHandler(f)
	samples, err := filepath.Glob("../../events/*.json")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range samples {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, seed := range []string{
		`{"version":"2.0","rawPath":"/v1/messages","requestContext":{"http":null},"body":"{}"}`, ``, `null`, `[]`, `"x"`, `{}`, `{"Records":[]}`, `{"Records":[{}]}`, `{"Records":[{"messageId":"a","eventSource":"aws:sqs","body":"{}"}]}`,
		`{"sink":"ok","message":{"body":"b"},"SINK":"gone"}`, `{"Records":[{"messageId":"a","eventSource":"aws:sqs","body":"x"},{"messageId":"a","eventSource":"aws:sqs","body":"x"}]}`,
		`{"sink":"ok","message":{"body":"b"}}`, `{"sink":"gone","message":{"body":"b"}}`, `{"sink":"broken","message":{"body":"b"}}`, `{"sink":"nobody","message":{"body":"b"}}`,
		`{"id":"a","sink":"ok","recipient":{"url":"http://169.254.169.254/"},"message":{"subject":"s","body":"b","metadata":{"x-a":"b"}}}`,
		`{"sink":"ok","message":{"body":"\ud800\u0000"}}`, `{"sink":1}`, `{"sink":"ok","message":[]}`, `{"detail-type":"x"}`, `{"sink":null,"Records":[{"EventSource":"aws:sns"}]}`,
		`{"version":"2.0","rawPath":"/v1/messages","requestContext":{"http":{"method":"POST"}},"body":"eyJzaW5rIjoib2sifQ==","isBase64Encoded":true}`,
		`{"version":"2.0","rawPath":"/prod/v1/messages","headers":{"idempotency-key":"a.b"},"requestContext":{"stage":"prod","timeEpoch":-1,"http":{"method":"PUT"}},"body":"{"}`,
		`{"Records":[{"messageId":"a","eventSource":"aws:sqs","eventSourceARN":"x.fifo","attributes":{"MessageGroupId":"g"},"body":"{\"sink\":\"ok\"}"},{"messageId":"a","eventSource":"aws:sqs","eventSourceARN":"x.fifo","attributes":{"MessageGroupId":"g"},"body":"x"}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		out, err := h.Invoke(ctx, event)
		if err != nil {
			named, ok := errors.AsType[messages.InvokeResponse_Error](err)
			if !ok || !slices.Contains(codes, named.Type) || named.Message == "" {
				t.Errorf("function error %T %v, want a named one of %v", err, err, codes)
			}
			return
		}
		shape, err := shapeOf(event)
		if err != nil {
			t.Fatalf("an event that was refused by name was answered: %s", out)
		}
		switch shape {
		case shapeDirect:
			wantFate(t, out)
		case shapeHTTP:
			var a struct {
				StatusCode int
				Headers    map[string]string
				Body       string
			}
			if err := json.Unmarshal(out, &a); err != nil {
				t.Fatalf("not a response: %s", out)
			}
			if a.StatusCode == http.StatusOK || a.StatusCode == http.StatusAccepted {
				wantFate(t, []byte(a.Body))
				return
			}
			var p struct{ Code string }
			if err := json.Unmarshal([]byte(a.Body), &p); err != nil || a.StatusCode < 400 || a.StatusCode > 499 || !slices.Contains(codes, p.Code) ||
				a.Headers["Content-Type"] != "application/problem+json" {
				t.Errorf("%d %v %s, want a problem of the contract", a.StatusCode, a.Headers, a.Body)
			}
		case shapeSQS:
			wantRecords(t, event, out)
		}
	})
}

// wantFate checks the answer of a delivery that is safe.
func wantFate(t *testing.T, body []byte) {
	t.Helper()
	var a delivery.Answer
	if err := json.Unmarshal(body, &a); err != nil || a.DeliveryID == "" || a.Status != "delivered" && (a.Status != "dead_lettered" || a.ItemID == "" || a.Reason == "") {
		t.Errorf("answer %s (%v), want delivered, or dead_lettered with its item and reason", body, err)
	}
}

// wantRecords checks that the failures name records of the event, and each record that
// is no request.
func wantRecords(t *testing.T, event, out []byte) {
	t.Helper()
	var in events.SQSEvent
	var a struct {
		BatchItemFailures []struct{ ItemIdentifier string } `json:"batchItemFailures"`
	}
	if err := strictjson.DecodePart(event, &in); err != nil {
		t.Fatalf("the event was answered and cannot be read: %v", err)
	}
	if err := json.Unmarshal(out, &a); err != nil || a.BatchItemFailures == nil || !strings.Contains(string(out), `"batchItemFailures":[`) {
		t.Fatalf("answer %s, want a list of failures", out)
	}
	failed := map[string]bool{}
	for _, f := range a.BatchItemFailures {
		failed[f.ItemIdentifier] = true
	}
	known := map[string]bool{}
	for _, rec := range in.Records {
		known[rec.MessageId] = true
		if _, err := parseRequest([]byte(rec.Body)); err != nil && !failed[rec.MessageId] {
			t.Errorf("record %q was acknowledged and is no request: %v", rec.MessageId, err)
		}
	}
	for id := range failed {
		if id == "" || !known[id] {
			t.Errorf("failure of %q, which is no record of the event", id)
		}
	}
}
