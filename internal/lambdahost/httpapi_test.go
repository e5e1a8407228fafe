package lambdahost_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"backstop/internal/lambdahost"
)

// invoker is a function in the test's own process.
type invoker func(ctx context.Context, in lambdahost.Invocation) (lambdahost.Result, error)

func (f invoker) Invoke(ctx context.Context, in lambdahost.Invocation) (lambdahost.Result, error) {
	return f(ctx, in)
}

// answers always answers the same.
func answers(payload string) invoker {
	return func(context.Context, lambdahost.Invocation) (lambdahost.Result, error) {
		return lambdahost.Result{Payload: []byte(payload)}, nil
	}
}

// recorder keeps the last invocation and answers 200.
type recorder struct{ last lambdahost.Invocation }

func (r *recorder) Invoke(_ context.Context, in lambdahost.Invocation) (lambdahost.Result, error) {
	r.last = in
	return lambdahost.Result{Payload: []byte(`{"statusCode":200}`)}, nil
}

func newAPI(t *testing.T, inv lambdahost.Invoker, o lambdahost.HTTPOptions, keys ...string) http.Handler {
	t.Helper()
	var routes []lambdahost.Route
	for _, k := range keys {
		routes = append(routes, lambdahost.Route{Key: k, Function: "f:" + k})
	}
	api, err := lambdahost.NewHTTPAPI(inv, routes, o)
	if err != nil {
		t.Fatalf("NewHTTPAPI: %v", err)
	}
	return api
}

func request(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestTheMostSpecificRouteWins(t *testing.T) {
	t.Parallel()
	keys := []string{"ANY /v1/{proxy+}", "GET /v1/items/{id}", "ANY /v1/items/{id}", "GET /v1/items/first", "POST /v1/messages", "GET /"}
	tests := []struct {
		method, path string
		key          string // empty: 404
		params       map[string]string
	}{
		{"POST", "/v1/messages", "POST /v1/messages", nil},
		{"GET", "/v1/messages", "ANY /v1/{proxy+}", map[string]string{"proxy": "messages"}},
		{"GET", "/v1/items/first", "GET /v1/items/first", nil},
		{"GET", "/v1/items/slack~1-0", "GET /v1/items/{id}", map[string]string{"id": "slack~1-0"}},
		{"GET", "/v1/items/a%3Ab", "GET /v1/items/{id}", map[string]string{"id": "a:b"}},
		{"DELETE", "/v1/items/7", "ANY /v1/items/{id}", map[string]string{"id": "7"}},
		{"GET", "/v1/items/7/more", "ANY /v1/{proxy+}", map[string]string{"proxy": "items/7/more"}},
		{"GET", "/v1/items/", "ANY /v1/{proxy+}", map[string]string{"proxy": "items/"}},
		{"GET", "/", "GET /", nil},
		{"POST", "/", "", nil},
		{"GET", "/v1", "", nil},
		{"GET", "/v1/", "", nil},
		{"GET", "/v2/items", "", nil},
	}
	for _, tt := range tests {
		var rec recorder
		res := request(newAPI(t, &rec, lambdahost.HTTPOptions{}, keys...), httptest.NewRequest(tt.method, tt.path, nil))
		if tt.key == "" {
			if body, _ := io.ReadAll(res.Body); res.StatusCode != 404 || string(body) != `{"message":"Not Found"}` {
				t.Errorf("%s %s: %d %s, want 404", tt.method, tt.path, res.StatusCode, body)
			}
			continue
		}
		e := decode[events.APIGatewayV2HTTPRequest](t, rec.last.Payload)
		if rec.last.Function != "f:"+tt.key || e.RouteKey != tt.key || e.RequestContext.RouteKey != tt.key {
			t.Errorf("%s %s: %s by %q, want %q", tt.method, tt.path, rec.last.Function, e.RouteKey, tt.key)
		}
		if len(e.PathParameters) != len(tt.params) {
			t.Errorf("%s %s: parameters %v, want %v", tt.method, tt.path, e.PathParameters, tt.params)
		}
		for k, want := range tt.params {
			if e.PathParameters[k] != want {
				t.Errorf("%s %s: %s=%q, want %q", tt.method, tt.path, k, e.PathParameters[k], want)
			}
		}
	}

	var rec recorder
	request(newAPI(t, &rec, lambdahost.HTTPOptions{}, append(keys, "$default")...), httptest.NewRequest("GET", "/elsewhere", nil))
	if rec.last.Function != "f:$default" {
		t.Errorf("an unmatched request went to %q, want $default", rec.last.Function)
	}
}

func TestBadRoutesAreReportedTogether(t *testing.T) {
	t.Parallel()
	_, err := lambdahost.NewHTTPAPI(answers(""), []lambdahost.Route{
		{Key: "GET items", Function: "f"},
		{Key: "FETCH /items", Function: "f"},
		{Key: "GET /{all+}/more", Function: "f"},
		{Key: "GET /a{b}", Function: "f"},
		{Key: "GET /x"},
		{Key: "GET /y", Function: "f"},
		{Key: "GET /y", Function: "f"},
	}, lambdahost.HTTPOptions{})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`"GET items": is not`, `"FETCH /items": is not`, `{all+} is greedy`, `segment "a{b}"`, `"GET /x": has no function`, `"GET /y": is given twice`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}

func TestRequestsBecomePayloadV2Events(t *testing.T) {
	t.Parallel()
	var rec recorder
	api := newAPI(t, &rec, lambdahost.HTTPOptions{APIID: "api1", Authorizer: func(*http.Request) (*events.APIGatewayV2HTTPRequestContextAuthorizerDescription, error) {
		return &events.APIGatewayV2HTTPRequestContextAuthorizerDescription{IAM: &events.APIGatewayV2HTTPRequestContextAuthorizerIAMDescription{UserARN: "arn:me"}}, nil
	}}, "POST /v1/{proxy+}")
	r := httptest.NewRequest("POST", "http://api.example.com:3000/v1/a%20b/c?q=x%20y&tag=1&tag=2&empty=", strings.NewReader(`{"html":"<b>"}`))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Add("X-Multi", "one")
	r.Header.Add("X-Multi", "two")
	r.Header.Set("Cookie", "a=1; b=2")
	r.Header.Set("User-Agent", "test")
	r.Header.Set("X-Amzn-Trace-Id", "Root=1-a-b")
	r.Header.Set("X-Forwarded-For", "10.0.0.1")
	r.RemoteAddr = "192.0.2.1:1234"
	before := time.Now()
	res := request(api, r)

	e := decode[events.APIGatewayV2HTTPRequest](t, rec.last.Payload)
	equal := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %q, want %q", what, got, want)
		}
	}
	equal("version", e.Version, "2.0")
	equal("rawPath", e.RawPath, "/v1/a b/c")
	equal("rawQueryString", e.RawQueryString, "q=x%20y&tag=1&tag=2&empty=")
	equal("query q", e.QueryStringParameters["q"], "x y")
	equal("query tag", e.QueryStringParameters["tag"], "1,2")
	equal("header x-multi", e.Headers["x-multi"], "one,two")
	equal("header host", e.Headers["host"], "api.example.com:3000")
	equal("header x-forwarded-for", e.Headers["x-forwarded-for"], "10.0.0.1, 192.0.2.1")
	equal("header x-amzn-trace-id", e.Headers["x-amzn-trace-id"], "Root=1-a-b")
	equal("trace of the invocation", rec.last.TraceID, "Root=1-a-b")
	equal("path parameter", e.PathParameters["proxy"], "a b/c")
	equal("body", e.Body, `{"html":"<b>"}`)
	equal("stage", e.RequestContext.Stage, "$default")
	equal("account", e.RequestContext.AccountID, "123456789012")
	equal("api id", e.RequestContext.APIID, "api1")
	equal("domain", e.RequestContext.DomainName, "api.example.com")
	equal("domain prefix", e.RequestContext.DomainPrefix, "api")
	equal("method", e.RequestContext.HTTP.Method, "POST")
	equal("path", e.RequestContext.HTTP.Path, "/v1/a b/c")
	equal("protocol", e.RequestContext.HTTP.Protocol, "HTTP/1.1")
	equal("source ip", e.RequestContext.HTTP.SourceIP, "192.0.2.1")
	equal("user agent", e.RequestContext.HTTP.UserAgent, "test")
	equal("request id", e.RequestContext.RequestID, res.Header.Get("Apigw-Requestid"))
	equal("identity", e.RequestContext.Authorizer.IAM.UserARN, "arn:me")
	if !slices.Equal(e.Cookies, []string{"a=1", "b=2"}) || e.Headers["cookie"] != "" || e.IsBase64Encoded {
		t.Errorf("cookies %q (header %q), base64 %v", e.Cookies, e.Headers["cookie"], e.IsBase64Encoded)
	}
	if d := e.RequestContext.TimeEpoch - before.UnixMilli(); d < 0 || d > 60_000 {
		t.Errorf("timeEpoch is %d ms after the request", d)
	}
	if at, err := time.Parse("02/Jan/2006:15:04:05 -0700", e.RequestContext.Time); err != nil || at.Unix() != e.RequestContext.TimeEpoch/1000 {
		t.Errorf("time %q (%v) is not timeEpoch", e.RequestContext.Time, err)
	}
	for name := range e.Headers {
		if name != strings.ToLower(name) {
			t.Errorf("header name %q is not in lower case", name)
		}
	}
	if strings.Contains(string(rec.last.Payload), "clientCert") || !strings.Contains(string(rec.last.Payload), "<b>") {
		t.Errorf("event %s: wants no client certificate and no escaped HTML", rec.last.Payload)
	}
}

func TestBodiesAreTextOnlyForTheTypesThatAPIGatewayTakesForText(t *testing.T) {
	t.Parallel()
	tests := []struct {
		contentType, body string
		text              bool
	}{
		{"application/json", `{}`, true},
		{"text/plain; charset=utf-8", "x", true},
		{"application/xml", "<a/>", true},
		{"application/javascript", "1", true},
		{"application/x-www-form-urlencoded", "a=b", false},
		{"application/octet-stream", "x", false},
		{"", "x", false},
		{"application/json", "\xff", false},
		{"", "", true},
	}
	for _, tt := range tests {
		var rec recorder
		r := httptest.NewRequest("POST", "/", strings.NewReader(tt.body))
		r.Header.Set("Content-Type", tt.contentType)
		request(newAPI(t, &rec, lambdahost.HTTPOptions{}, "$default"), r)
		e := decode[events.APIGatewayV2HTTPRequest](t, rec.last.Payload)
		body := e.Body
		if e.IsBase64Encoded {
			b, err := base64.StdEncoding.DecodeString(body)
			if err != nil {
				t.Errorf("%q: %v", tt.contentType, err)
			}
			body = string(b)
		}
		if e.IsBase64Encoded == tt.text || body != tt.body {
			t.Errorf("%q %q: base64 %v, body %q, want text %v", tt.contentType, tt.body, e.IsBase64Encoded, body, tt.text)
		}
	}
}

func TestAnswersBecomeResponses(t *testing.T) {
	t.Parallel()
	const jsonType = "application/json"
	tests := []struct {
		name, payload string
		status        int
		contentType   string
		body          string
	}{
		{"a response", `{"statusCode":201,"headers":{"content-type":"application/problem+json","x-a":"b"},"body":"{}"}`, 201, "application/problem+json", "{}"},
		{"without a type", `{"statusCode":200,"body":"hi"}`, 200, "text/plain; charset=utf-8", "hi"},
		{"in base64", `{"statusCode":200,"isBase64Encoded":true,"body":"/w=="}`, 200, "text/plain; charset=utf-8", "\xff"},
		{"a wrong content-length", `{"statusCode":200,"headers":{"Content-Length":"99"},"body":"hi"}`, 200, "text/plain; charset=utf-8", "hi"},
		{"no content", `{"statusCode":204}`, 204, "text/plain; charset=utf-8", ""},
		{"an object without statusCode", `{"status":"delivered"}`, 200, jsonType, `{"status":"delivered"}`},
		{"a list", `[1]`, 200, jsonType, `[1]`},
		{"a string", `"hello"`, 200, jsonType, `hello`},
		{"null", `null`, 200, jsonType, `null`},
		{"a statusCode that is none", `{"statusCode":"ok"}`, 500, jsonType, `{"message":"Internal Server Error"}`},
		{"a statusCode out of range", `{"statusCode":9}`, 500, jsonType, `{"message":"Internal Server Error"}`},
		{"a null statusCode", `{"statusCode":null}`, 500, jsonType, `{"message":"Internal Server Error"}`},
		{"a body that is no text", `{"statusCode":200,"body":{}}`, 500, jsonType, `{"message":"Internal Server Error"}`},
		{"bad base64", `{"statusCode":200,"isBase64Encoded":true,"body":"?"}`, 500, jsonType, `{"message":"Internal Server Error"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			srv := httptest.NewServer(newAPI(t, answers(tt.payload), lambdahost.HTTPOptions{}, "$default"))
			defer srv.Close()
			res, err := http.Get(srv.URL)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != tt.status || string(body) != tt.body || res.Header.Get("Content-Type") != tt.contentType {
				t.Errorf("%d %q %q (%v), want %d %q %q", res.StatusCode, res.Header.Get("Content-Type"), body, err, tt.status, tt.contentType, tt.body)
			}
		})
	}
	res := request(newAPI(t, answers(`{"statusCode":200,"cookies":["a=1; Path=/","b=2"]}`), lambdahost.HTTPOptions{}, "$default"), httptest.NewRequest("GET", "/", nil))
	if got := res.Header.Values("Set-Cookie"); !slices.Equal(got, []string{"a=1; Path=/", "b=2"}) {
		t.Errorf("cookies %q", got)
	}
}

func TestFailuresOnTheWayAreAPIGateways(t *testing.T) {
	t.Parallel()
	refusal := func(kind string) invoker {
		return func(context.Context, lambdahost.Invocation) (lambdahost.Result, error) {
			return lambdahost.Result{}, &lambdahost.APIError{Type: kind}
		}
	}
	deny := lambdahost.HTTPOptions{Authorizer: func(*http.Request) (*events.APIGatewayV2HTTPRequestContextAuthorizerDescription, error) {
		return nil, errors.New("no")
	}}
	tests := []struct {
		name    string
		inv     invoker
		opts    lambdahost.HTTPOptions
		body    string
		status  int
		message string
	}{
		{"a function error", func(context.Context, lambdahost.Invocation) (lambdahost.Result, error) {
			return lambdahost.Result{FunctionError: "Unhandled", ErrorType: "Sandbox.Timedout", Payload: []byte(`{}`)}, nil
		}, lambdahost.HTTPOptions{}, "", 500, "Internal Server Error"},
		{"too slow", func(ctx context.Context, _ lambdahost.Invocation) (lambdahost.Result, error) {
			<-ctx.Done()
			return lambdahost.Result{}, ctx.Err()
		}, lambdahost.HTTPOptions{Timeout: time.Millisecond}, "", 503, "Service Unavailable"},
		{"all processes busy", refusal("TooManyRequestsException"), lambdahost.HTTPOptions{}, "", 503, "Service Unavailable"},
		{"no such function", refusal("ResourceNotFoundException"), lambdahost.HTTPOptions{}, "", 500, "Internal Server Error"},
		{"an event over 6 MB", refusal("RequestTooLargeException"), lambdahost.HTTPOptions{}, "", 413, "Request Entity Too Large"},
		{"a body over 10 MB", answers(`{}`), lambdahost.HTTPOptions{}, strings.Repeat("x", lambdahost.MaxHTTPBody+1), 413, "Request Entity Too Large"},
		{"refused by the authorizer", answers(`{}`), deny, "", 403, "Forbidden"},
	}
	for _, tt := range tests {
		res := request(newAPI(t, tt.inv, tt.opts, "$default"), httptest.NewRequest("POST", "/", strings.NewReader(tt.body)))
		var body struct{ Message string }
		if err := json.NewDecoder(res.Body).Decode(&body); err != nil || res.StatusCode != tt.status || body.Message != tt.message {
			t.Errorf("%s: %d %q (%v), want %d %q", tt.name, res.StatusCode, body.Message, err, tt.status, tt.message)
		}
	}
}

func TestANamedStageIsAPrefixThatTheEventKeeps(t *testing.T) {
	t.Parallel()
	var rec recorder
	api := newAPI(t, &rec, lambdahost.HTTPOptions{Stage: "prod"}, "GET /v1/items", "GET /")
	if res := request(api, httptest.NewRequest("GET", "/prod/v1/items", nil)); res.StatusCode != 200 {
		t.Fatalf("status %d, want 200", res.StatusCode)
	}
	e := decode[events.APIGatewayV2HTTPRequest](t, rec.last.Payload)
	if e.RouteKey != "GET /v1/items" || e.RawPath != "/prod/v1/items" || e.RequestContext.HTTP.Path != "/prod/v1/items" || e.RequestContext.Stage != "prod" {
		t.Errorf("route %q, rawPath %q, path %q, stage %q", e.RouteKey, e.RawPath, e.RequestContext.HTTP.Path, e.RequestContext.Stage)
	}
	for path, want := range map[string]int{"/prod": 200, "/prod/": 200, "/v1/items": 404, "/production/v1/items": 404} {
		if res := request(api, httptest.NewRequest("GET", path, nil)); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, res.StatusCode, want)
		}
	}
}
