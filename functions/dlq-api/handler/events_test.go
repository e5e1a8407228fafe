package handler

import (
	"context"
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"

	"backstop/lib/dlq"
)

func request(method, stage, path string) func(map[string]any) {
	return func(e map[string]any) {
		e["rawPath"] = path
		e["requestContext"] = map[string]any{"stage": stage, "http": map[string]any{"method": method}}
	}
}

func TestPathsAreReadAsTheGatewaySendsThem(t *testing.T) {
	f := newFixture(t)
	id := f.add(t, item(1)).ID
	handler := newEvents(f.api)
	for _, tt := range []struct {
		stage, path string
		status      int
	}{
		{"$default", "/v1/sinks", 200},
		{"", "/v1/sinks", 200},
		{"prod", "/prod/v1/sinks", 200},
		{"prod", "/v1/sinks", 200}, // a custom domain's mapping took the stage away
		{"prod", "/production/v1/sinks", 404},
		{"prod", "/prod", 404},
		{"$default", "/orders/v1/sinks", 200}, // behind a mapping key
		{"prod", "/orders/v1/sinks", 200},
		{"prod", "/orders/eu/v1/sinks", 200},
		{"prod", "/prod/orders/v1/sinks", 200},
		{"prod", "/orders/prod/v1/sinks", 200},
		{"$default", "/orders/v1/dlq/items/" + id, 200},
		{"$default", "/orders/v1/sinks/v1/pause", 405},
		{"$default", "/v1/sinks/v1/pause", 405},
		{"prod", "/prod-eu/v1/sinks", 404},
		{"prod", "/prod-eu/v1", 404},
		{"$default", "/orders/../v1/sinks", 404},
		{"v1", "/v1/v1/sinks", 200},
		{"$default", "/v1/dlq/items/" + id, 200},
		{"prod", "/prod/v1/dlq/items/" + id, 200},
		{"$default", "/v1/dlq/items/" + strings.Replace(id, "~", "%7E", 1), 200}, // signed twice
		{"$default", "/v1/dlq/items/%zz", 404},
		{"$default", "/v1/dlq/items/%", 404},
		{"$default", "//v1/sinks", 404},
		{"$default", "", 404},
		{"$default", "/v1/dlq/items/a?b", 400},
		{"$default", "/v1/dlq/items/\x00", 400},
	} {
		out, err := handler.Invoke(t.Context(), event(t, request("GET", tt.stage, tt.path)))
		if err != nil {
			t.Errorf("stage %q, %q: %v", tt.stage, tt.path, err)
			continue
		}
		status, header, body := respond(t, out)
		if status != tt.status || status >= 400 && header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("stage %q, %q: got %d %s, want %d", tt.stage, tt.path, status, body, tt.status)
		}
	}
}

// A preflight carries no credentials and asks for nothing: it is answered where a route is.
func TestAPreflightIsAnsweredOnKnownRoutes(t *testing.T) {
	f := newFixture(t)
	for path, allow := range map[string]string{
		"/v1/sinks":                 "GET, HEAD, OPTIONS",
		"/v1/dlq/items/hook~1-1":    "DELETE, GET, HEAD, OPTIONS",
		"/v1/sinks/hook/pause":      "POST, OPTIONS",
		"/v1/dlq/operations":        "GET, HEAD, POST, OPTIONS",
		"/v1/messages":              "POST, OPTIONS",
		"/v1/openapi.yaml":          "GET, HEAD, OPTIONS",
		"/v1/dlq/operations/o/none": "",
		"/v1/nothing":               "",
		"/":                         "",
	} {
		r := f.ask(t, "OPTIONS", path, "", "Origin", "https://page.example", "Access-Control-Request-Method", "POST")
		if allow == "" {
			r.want(404, "NOT_FOUND")
			continue
		}
		if r.Code != 204 || r.Header().Get("Allow") != allow || r.Body.Len() != 0 || r.Header().Get("Content-Type") != "" {
			t.Errorf("%s: got %d %v %s, want 204 and Allow: %s", path, r.Code, r.Header(), r.Body, allow)
		}
	}
}

// What an event says twice, or in another case, is not for the function to choose.
func TestAnEventIsReadStrictly(t *testing.T) {
	f := newFixture(t)
	f.add(t, item(1))
	handler := newEvents(f.api)
	for name, tt := range map[string]struct{ payload, says string }{
		"two paths":     {`{"version":"2.0","rawPath":"/v1/sinks","rawPath":"/v1/dlq/items","requestContext":{"http":{"method":"GET"}}}`, "rawPath: given twice"},
		"two bodies":    {`{"version":"2.0","rawPath":"/v1/sinks","body":"","body":"","requestContext":{"http":{"method":"GET"}}}`, "body: given twice"},
		"invalid UTF-8": {"{\"version\":\"2.0\",\"rawPath\":\"/v1/\xe9\",\"requestContext\":{\"http\":{\"method\":\"GET\"}}}", "rawPath: not valid UTF-8"},
		"a wrong type":  {`{"version":"2.0","rawPath":7}`, "rawPath: want a string, got a number"},
		"another event": {`{"version":"1.0"}`, "HTTP API, payload format 2.0"},
	} {
		out, err := handler.Invoke(t.Context(), []byte(tt.payload))
		e, ok := errors.AsType[messages.InvokeResponse_Error](err)
		if !ok || e.Type != "INVALID_ARGUMENT" || !strings.Contains(e.Message, tt.says) || strings.Contains(e.Message, "Go ") || strings.Contains(e.Message, "APIGateway") {
			t.Errorf("%s: got %s, %v; want a function error INVALID_ARGUMENT that says %q", name, out, err, tt.says)
		}
	}
	out, err := handler.Invoke(t.Context(), []byte(`{"version":"2.0","rawPath":"/v1/sinks","RawPath":"/v1/nothing","requestContext":{"http":{"method":"GET"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := respond(t, out); status != 200 {
		t.Errorf("a second path in another case: got %d %s, want the one that the gateway wrote", status, body)
	}
}

// Bodies are read as they are written, or refused by the name of the field.
func TestABodyIsReadStrictly(t *testing.T) {
	f := newFixture(t)
	id := f.add(t, item(1)).ID
	for _, tt := range []struct{ path, body, says string }{
		{"/v1/dlq/operations", `{"action":"replay","ACTION":"discard","all":true}`, "ACTION: unknown field; write it as action"},
		{"/v1/dlq/operations", `{"action":"replay","action":"discard","all":true}`, "action: given twice"},
		{"/v1/dlq/operations", `{"action":"discard","filter":{"sink":"hook","Sink":"spare"}}`, "filter.Sink: unknown field; write it as sink"},
		{"/v1/dlq/operations", `{"action":"discard","filter":{"sink":"hook","sink":"spare"}}`, "filter.sink: given twice"},
		{"/v1/dlq/operations", "{\"action\":\"replay\",\"all\":true,\"reason\":\"caf\xe9\"}", "reason: not valid UTF-8"},
		{"/v1/dlq/operations", `{"action":"replay","all":true,"reason":"\ud800"}`, "reason: half of a surrogate pair"},
		{"/v1/dlq/operations", `{"action":"replay","all":1}`, "all: want true or false, got a number"},
		{"/v1/dlq/operations", `{"action":"replay","ids":["a",1]}`, "ids[1]: want a string, got a number"},
		{"/v1/dlq/operations", `{"action":"replay","filter":{"since":"now"}}`, "filter.since: want a time such as 2026-01-31T23:59:00Z"},
		{"/v1/dlq/operations", `[]`, "request body: want an object, got an array"},
		{"/v1/dlq/operations", `{} {}`, "request body: more follows"},
		{"/v1/dlq/items/" + id + "/replay", `{"force":true,"Force":false}`, "Force: unknown field; write it as force"},
		{"/v1/dlq/items/" + id + "/replay", `{"sink":"spare","sink":"hook"}`, "sink: given twice"},
		{"/v1/dlq/items/" + id + "/replay", `{"on_success":7}`, "on_success: want a string, got a number"},
	} {
		var p struct{ Detail string }
		r := f.ask(t, "POST", tt.path, tt.body)
		r.want(400, "INVALID_ARGUMENT").into(&p)
		if !strings.Contains(p.Detail, tt.says) {
			t.Errorf("%s: the problem says %q, want %q", tt.body, p.Detail, tt.says)
		}
	}
	if n, err := f.app.Queue.Count(t.Context(), ""); err != nil || n != 1 || f.got.Load() != 0 {
		t.Errorf("%d dead letters, %v, %d sent; want the one untouched", n, err, f.got.Load())
	}
	f.ask(t, "POST", "/v1/dlq/items/"+id+"/replay", " \n").want(200, "") // no body is every default
}

func TestBodiesInBase64AreRead(t *testing.T) {
	f := newFixture(t)
	handler := newEvents(f.api)
	for body, status := range map[string]int{
		base64.StdEncoding.EncodeToString([]byte(`{"action":"replay","all":true,"dry_run":true}`)): 200,
		`{"action":"replay","all":true,"dry_run":true}`:                                            400, // it is not base64
	} {
		out, err := handler.Invoke(t.Context(), event(t, func(e map[string]any) {
			request("POST", "$default", "/v1/dlq/operations")(e)
			e["body"], e["isBase64Encoded"] = body, true
		}))
		if err != nil {
			t.Fatal(err)
		}
		if got, _, answer := respond(t, out); got != status {
			t.Errorf("%s: got %d %s, want %d", body, got, answer, status)
		}
	}
}

func TestTheAuthorizerSaysWhoTheActorIs(t *testing.T) {
	f := newFixture(t)
	f.add(t, item(1))
	handler := newEvents(f.api)
	for name, tt := range map[string]struct {
		authorizer any
		want       string
	}{
		"IAM":              {map[string]any{"iam": map[string]any{"userArn": "arn:aws:iam::1:user/ann"}}, "arn:aws:iam::1:user/ann"},
		"a token's mail":   {map[string]any{"jwt": map[string]any{"claims": map[string]any{"sub": "s", "email": "ann@example.com"}}}, "ann@example.com"},
		"a token's holder": {map[string]any{"jwt": map[string]any{"claims": map[string]any{"sub": "s"}}}, "s"},
		"nobody":           {nil, ""},
		"a long one":       {map[string]any{"iam": map[string]any{"userArn": strings.Repeat("x", 1000)}}, strings.Repeat("x", 256)},
	} {
		out, err := handler.Invoke(t.Context(), event(t, func(e map[string]any) {
			request("POST", "$default", "/v1/dlq/operations")(e)
			context, ok := e["requestContext"].(map[string]any)
			if !ok {
				t.Fatal("no context")
			}
			maps.Copy(context, map[string]any{"authorizer": tt.authorizer})
			e["body"] = `{"action":"replay","all":true,"reason":"why"}`
		}))
		if err != nil {
			t.Fatal(err)
		}
		status, header, body := respond(t, out)
		var op struct{ ID, Actor, Reason string }
		reply{tb: t, what: name, ResponseRecorder: recorded(body)}.into(&op)
		if status != 202 || op.Actor != tt.want || op.Reason != "why" || header.Get("Location") != "operations/"+op.ID {
			t.Errorf("%s: got %d %s, Location %s, want actor %q", name, status, body, header.Get("Location"), tt.want)
		}
	}
}

func TestOtherEventsAreRefusedByName(t *testing.T) {
	handler := newEvents(newFixture(t).api)
	for _, payload := range []string{`{}`, `{"version":"1.0","httpMethod":"GET"}`, `[]`, `{`, `{"Records":[]}`} {
		out, err := handler.Invoke(t.Context(), []byte(payload))
		e, ok := errors.AsType[messages.InvokeResponse_Error](err)
		if !ok || e.Type != "INVALID_ARGUMENT" || !strings.Contains(e.Message, "event") {
			t.Errorf("%s: got %s, %v, want a function error INVALID_ARGUMENT", payload, out, err)
		}
	}
}

// watching remembers the deadline of the calls that it gets.
type watching struct {
	dlq.Store
	deadline time.Time
}

func (w *watching) Page(ctx context.Context, q dlq.Query) (dlq.Page, error) {
	w.deadline, _ = ctx.Deadline()
	return w.Store.Page(ctx, q)
}

// A store that does not answer is waited for, but not beyond the time for the answer.
func TestEveryCallEndsBeforeTheInvocation(t *testing.T) {
	f := newFixture(t)
	w := &watching{Store: f.app.Queue}
	f.read(t, w)
	invocation, gateway := time.Now().Add(10*time.Minute), time.Now().Add(29*time.Second)
	ctx, cancel := context.WithDeadline(t.Context(), invocation)
	defer cancel()
	for name, tt := range map[string]struct {
		epoch time.Time
		least time.Duration // before ends
		ends  time.Time
	}{
		"the function's time-out": {time.Time{}, 250 * time.Millisecond, invocation},
		"the gateway's patience":  {time.Now(), 250 * time.Millisecond, gateway.Add(time.Second)},
	} {
		_, err := newEvents(f.api).Invoke(ctx, event(t, func(e map[string]any) {
			request("GET", "$default", "/v1/dlq/items")(e)
			context, ok := e["requestContext"].(map[string]any)
			if !ok {
				t.Fatal("no context")
			}
			context["timeEpoch"] = tt.epoch.UnixMilli()
		}))
		if err != nil {
			t.Fatal(err)
		}
		if w.deadline.IsZero() || w.deadline.After(tt.ends.Add(-tt.least)) {
			t.Errorf("%s: the store may take until %s, want at least %s before %s", name, w.deadline, tt.least, tt.ends)
		}
	}
}
