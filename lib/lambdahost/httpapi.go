package lambdahost

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/uuid"
)

// MaxHTTPBody is API Gateway's limit for the body of a request, in bytes.
const MaxHTTPBody = 10 * 1024 * 1024

// Authorizer decides about a request before its function is invoked. What it returns
// becomes requestContext.authorizer; nil: none. An error is answered with 403 and
// goes no further.
type Authorizer func(*http.Request) (*events.APIGatewayV2HTTPRequestContextAuthorizerDescription, error)

// HTTPOptions configure an HTTPAPI. The zero value is usable.
type HTTPOptions struct {
	// Stage is served under its name as the first path segment, which the event's
	// paths keep. Empty: $default, served at the root.
	Stage string
	// Timeout is how long an answer may take. Zero: 30 s, API Gateway's limit.
	Timeout time.Duration
	// Authorizer may be nil: everything is allowed, without an identity.
	Authorizer Authorizer
	// AccountID and APIID appear in requestContext. Empty: 123456789012 and "local".
	AccountID, APIID string
	// Logger reports requests that failed on the way. Nil discards.
	Logger *slog.Logger
}

// HTTPAPI is a local API Gateway HTTP API with payload format 2.0: an http.Handler
// that turns requests into events and functions' answers into responses. Serve it on
// loopback, behind loopback.Guard, unless others are meant to reach it.
type HTTPAPI struct {
	invoker Invoker
	routes  routes
	opts    HTTPOptions
}

// NewHTTPAPI returns an API with the given routes. The faults of all routes are
// reported together.
func NewHTTPAPI(invoker Invoker, routes []Route, o HTTPOptions) (*HTTPAPI, error) {
	table, err := parseRoutes(routes)
	if err != nil {
		return nil, err
	}
	if o.Stage == "" {
		o.Stage = defaultRoute
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.AccountID == "" {
		o.AccountID = "123456789012"
	}
	if o.APIID == "" {
		o.APIID = "local"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &HTTPAPI{invoker: invoker, routes: table, opts: o}, nil
}

// ServeHTTP answers as API Gateway does: what the function says, or
// {"message": "..."} with 403 (refused by the authorizer), 404 (no route), 413 (body
// too large), 500 (function error or an answer that is no response) or 503 (too slow,
// or all processes busy).
func (a *HTTPAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := uuid.NewString()
	w.Header().Set("Apigw-Requestid", id)
	path, ok := a.unstage(r.URL.Path)
	if !ok {
		message(w, http.StatusNotFound, "Not Found")
		return
	}
	route, params := a.routes.match(r.Method, path)
	if route == nil {
		message(w, http.StatusNotFound, "Not Found")
		return
	}
	var identity *events.APIGatewayV2HTTPRequestContextAuthorizerDescription
	if a.opts.Authorizer != nil {
		var err error
		if identity, err = a.opts.Authorizer(r); err != nil {
			message(w, http.StatusForbidden, "Forbidden")
			return
		}
	}
	body, fits, err := readBody(r, MaxHTTPBody)
	if err != nil {
		message(w, http.StatusBadRequest, "Bad Request")
		return
	}
	if !fits {
		message(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
		return
	}
	trace := r.Header.Get("X-Amzn-Trace-Id")
	if trace == "" {
		trace = newTraceID()
	}
	payload := a.event(r, route, params, identity, body, id, trace)
	a.invoke(w, r, route, Invocation{Function: route.Function, Payload: payload, TraceID: trace})
}

func (a *HTTPAPI) unstage(path string) (string, bool) {
	if a.opts.Stage == defaultRoute {
		return path, true
	}
	rest, ok := strings.CutPrefix(path, "/"+a.opts.Stage)
	return "/" + strings.TrimPrefix(rest, "/"), ok && (rest == "" || rest[0] == '/')
}

func (a *HTTPAPI) invoke(w http.ResponseWriter, r *http.Request, route *route, in Invocation) {
	ctx, cancel := context.WithTimeout(r.Context(), a.opts.Timeout)
	defer cancel()
	log := a.opts.Logger.With(slog.String("route", route.Key), slog.String("function", route.Function))
	res, err := a.invoker.Invoke(ctx, in)
	switch e, _ := errors.AsType[*APIError](err); {
	case err == nil && res.FunctionError != "":
		log.WarnContext(ctx, "function error", slog.String("error_type", res.ErrorType), slog.String("request_id", res.RequestID))
		message(w, http.StatusInternalServerError, "Internal Server Error")
	case err == nil:
		if err := respond(w, res.Payload); err != nil {
			log.WarnContext(ctx, "the function's answer is no HTTP response", slog.Any("error", err))
			message(w, http.StatusInternalServerError, "Internal Server Error")
		}
	case e != nil && e.Type == "RequestTooLargeException":
		message(w, http.StatusRequestEntityTooLarge, "Request Entity Too Large")
	case e != nil && !isThrottled(e):
		log.WarnContext(ctx, "function not invoked", slog.Any("error", err))
		message(w, http.StatusInternalServerError, "Internal Server Error")
	default: // too slow, throttled, or the client has gone
		log.WarnContext(ctx, "no answer from the function", slog.Any("error", err))
		message(w, http.StatusServiceUnavailable, "Service Unavailable")
	}
}

// event builds the event, without the parts of the library's type that only mutual
// TLS fills.
func (a *HTTPAPI) event(r *http.Request, route *route, params map[string]string, identity *events.APIGatewayV2HTTPRequestContextAuthorizerDescription, body []byte, id, trace string) []byte {
	now := time.Now().UTC()
	sourceIP, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		sourceIP = r.RemoteAddr
	}
	domain, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		domain, port = r.Host, "80"
	}
	prefix, _, _ := strings.Cut(domain, ".")

	headers := map[string]string{
		"host":              r.Host,
		"content-length":    strconv.Itoa(len(body)),
		"x-amzn-trace-id":   trace,
		"x-forwarded-for":   sourceIP,
		"x-forwarded-port":  port,
		"x-forwarded-proto": "http",
	}
	var cookies []string
	for name, values := range r.Header {
		switch name = strings.ToLower(name); name {
		case "cookie":
			for _, v := range values {
				cookies = append(cookies, strings.Split(v, "; ")...)
			}
		case "x-amzn-trace-id":
		case "x-forwarded-for":
			headers[name] = strings.Join(append(values, sourceIP), ", ")
		default:
			headers[name] = strings.Join(values, ",")
		}
	}
	var query map[string]string
	for name, values := range r.URL.Query() {
		if query == nil {
			query = map[string]string{}
		}
		query[name] = strings.Join(values, ",")
	}
	text := isText(r.Header.Get("Content-Type"), body)
	encoded := string(body)
	if !text {
		encoded = base64.StdEncoding.EncodeToString(body)
	}

	type requestContext struct {
		events.APIGatewayV2HTTPRequestContext
		Authentication *struct{} `json:"authentication,omitempty"`
	}
	event := struct {
		events.APIGatewayV2HTTPRequest
		RequestContext requestContext `json:"requestContext"`
	}{
		APIGatewayV2HTTPRequest: events.APIGatewayV2HTTPRequest{
			Version:               "2.0",
			RouteKey:              route.Key,
			RawPath:               r.URL.Path, // decoded, as API Gateway sends it in spite of the name
			RawQueryString:        r.URL.RawQuery,
			Cookies:               cookies,
			Headers:               headers,
			QueryStringParameters: query,
			PathParameters:        params,
			Body:                  encoded,
			IsBase64Encoded:       !text,
		},
		RequestContext: requestContext{APIGatewayV2HTTPRequestContext: events.APIGatewayV2HTTPRequestContext{
			RouteKey:     route.Key,
			AccountID:    a.opts.AccountID,
			Stage:        a.opts.Stage,
			RequestID:    id,
			Authorizer:   identity,
			APIID:        a.opts.APIID,
			DomainName:   domain,
			DomainPrefix: prefix,
			Time:         now.Format("02/Jan/2006:15:04:05 -0700"),
			TimeEpoch:    now.UnixMilli(),
			HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
				Method: r.Method, Path: r.URL.Path, Protocol: r.Proto,
				SourceIP: sourceIP, UserAgent: r.UserAgent(),
			},
		}},
	}
	// Escaping HTML would nearly double an HTML body, against a limit in bytes.
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(event); err != nil {
		panic(fmt.Sprintf("lambdahost: encoding an event: %v", err)) // an authorizer's value that is no JSON
	}
	return buf.Bytes()
}

// isText reports whether a body is passed on as it is. API Gateway encodes everything
// but these types in base64, forms and bodies without a type too.
func isText(contentType string, body []byte) bool {
	if len(body) == 0 {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || !utf8.Valid(body) {
		return false
	}
	switch kind {
	case "application/json", "application/xml", "application/javascript":
		return true
	}
	return strings.HasPrefix(kind, "text/")
}

// respond turns a function's answer into a response. An answer without a statusCode
// is a 200 with the answer itself as its JSON body.
func respond(w http.ResponseWriter, payload []byte) error {
	var res struct {
		StatusCode      *int              `json:"statusCode"`
		Headers         map[string]string `json:"headers"`
		Body            string            `json:"body"`
		Cookies         []string          `json:"cookies"`
		IsBase64Encoded bool              `json:"isBase64Encoded"`
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(payload, &fields); err != nil || fields["statusCode"] == nil {
		w.Header().Set("Content-Type", "application/json")
		var text string
		if json.Unmarshal(payload, &text) == nil && text != "" {
			payload = []byte(text)
		}
		_, _ = w.Write(payload)
		return nil
	}
	if err := json.Unmarshal(payload, &res); err != nil {
		return err
	}
	if res.StatusCode == nil || *res.StatusCode < 100 || *res.StatusCode > 599 {
		return fmt.Errorf("statusCode %s is no HTTP status", fields["statusCode"])
	}
	body := []byte(res.Body)
	if res.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(res.Body); err != nil {
			return fmt.Errorf("body: %w", err)
		}
	}
	head := w.Header()
	head.Set("Content-Type", "text/plain; charset=utf-8")
	for name, value := range res.Headers {
		head.Set(name, value)
	}
	for _, c := range res.Cookies {
		head.Add("Set-Cookie", c)
	}
	head.Del("Content-Length") // the server knows it, and a wrong one would spoil the connection
	w.WriteHeader(*res.StatusCode)
	_, _ = w.Write(body)
	return nil
}

func message(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encode(map[string]string{"message": text}))
}
