package handler

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

// post sends the event of a POST and returns the answer.
func post(t *testing.T, h *handler, change func(*events.APIGatewayV2HTTPRequest)) (status int, body map[string]any) {
	t.Helper()
	e := events.APIGatewayV2HTTPRequest{Version: "2.0", RawPath: "/v1/messages", Body: `{"sink":"ok","message":{"body":"x"}}`}
	e.RequestContext.HTTP.Method, e.RequestContext.Stage = http.MethodPost, "$default"
	e.RequestContext.DomainName = "abc123.execute-api.eu-central-1.amazonaws.com"
	change(&e)
	payload, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.Invoke(t.Context(), payload)
	if err != nil {
		t.Fatal(err)
	}
	var a events.APIGatewayV2HTTPResponse
	if err := json.Unmarshal(out, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(a.Body), &body); err != nil {
		t.Fatal(err)
	}
	return a.StatusCode, body
}

// The header is a quoted string in the draft that names it, and a bare one in most clients.
func TestTheIdempotencyKeyInAnySpelling(t *testing.T) {
	h := newHandler(t)
	for i, c := range []struct {
		headers map[string]string
		id      string // what the key is, %d a number of the case's own
		refused string // what the problem names
	}{
		{map[string]string{"idempotency-key": "key-%d"}, "key-%d", ""},
		{map[string]string{"Idempotency-Key": "key-%d"}, "key-%d", ""},
		{map[string]string{"IDEMPOTENCY-KEY": `"key-%d"`}, "key-%d", ""},
		{map[string]string{"idempotency-key": ` "key-%d" `}, "key-%d", ""},
		{map[string]string{"idempotency-key": "a b"}, "", "Idempotency-Key"},
		{map[string]string{"Idempotency-Key": `"key-%d`}, "", "Idempotency-Key"},
		{map[string]string{"idempotency-key": `""`}, "", "Idempotency-Key"},
		{map[string]string{"idempotency-key": "a,b"}, "", "Idempotency-Key"},
		{map[string]string{"idempotency-key": "a", "Idempotency-Key": "b"}, "", "Idempotency-Key"},
	} {
		status, body := post(t, h, func(e *events.APIGatewayV2HTTPRequest) {
			e.Headers = map[string]string{}
			for k, v := range c.headers {
				e.Headers[k] = strings.ReplaceAll(v, "%d", fmt.Sprint(i))
			}
		})
		detail, _ := body["detail"].(string)
		switch id := strings.ReplaceAll(c.id, "%d", fmt.Sprint(i)); {
		case c.refused != "" && (status != 400 || body["code"] != "INVALID_ARGUMENT" || !strings.Contains(detail, c.refused)):
			t.Errorf("%v: got %d %v, want a problem that names %s", c.headers, status, body, c.refused)
		case c.refused == "" && (status != 200 || body["delivery_id"] != id):
			t.Errorf("%v: got %d %v, want delivery id %s", c.headers, status, body, id)
		}
	}
	// A body's own id wins, and then nobody reads the header.
	status, body := post(t, h, func(e *events.APIGatewayV2HTTPRequest) {
		e.Headers = map[string]string{"idempotency-key": "a b"}
		e.Body = `{"id":"own","sink":"ok","message":{"body":"x"}}`
	})
	if status != 200 || body["delivery_id"] != "own" {
		t.Errorf("with an id of its own: %d %v", status, body)
	}
}

func TestTheTraceHeadersInAnyCase(t *testing.T) {
	for _, name := range []string{"traceparent", "Traceparent", "TRACEPARENT", "X-Amzn-Trace-Id"} {
		if got := traceFrom(t.Context(), map[string]string{name: "00-1-2-01"}); got != "00-1-2-01" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestTheRouteBehindAStageAndAMapping(t *testing.T) {
	h := newHandler(t)
	for _, c := range []struct {
		path, stage, domain string
		status              int
	}{
		{"/v1/messages", "$default", "", 200},
		{"/prod/v1/messages", "prod", "", 200},
		{"/orders/v1/messages", "$default", "api.example.com", 200},
		{"/orders/v1/messages", "prod", "api.example.com", 200},
		{"/orders/eu/v1/messages", "prod", "api.example.com", 200},
		{"/orders/prod/v1/messages", "prod", "api.example.com", 200},
		{"/prod/orders/v1/messages", "prod", "api.example.com", 200},
		{"/v1/v1/messages", "$default", "api.example.com", 200},
		{"/prod-eu/v1/messages", "prod", "api.example.com", 200}, // the mapping key of a domain of one's own
		{"/prod-eu/v1/messages", "prod", "", 404},
		{"/prod-eu/v1", "prod", "", 404},
		{"/v1/messages/", "$default", "", 404},
		{"/v1/messages/v1/messages", "$default", "", 404},
		{"/v2/messages", "$default", "", 404},
		{"/orders/v1/message", "$default", "api.example.com", 404},
		{"orders/v1/messages", "$default", "api.example.com", 404},
		{"", "$default", "", 404},
	} {
		status, body := post(t, h, func(e *events.APIGatewayV2HTTPRequest) {
			e.RawPath, e.RequestContext.Stage = c.path, c.stage
			if c.domain != "" {
				e.RequestContext.DomainName = c.domain
			}
		})
		if status != c.status {
			t.Errorf("%s at stage %s of %s: %d %v, want %d", c.path, c.stage, c.domain, status, body, c.status)
		}
	}
}
