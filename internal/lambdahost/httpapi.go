package lambdahost

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/uuid"
)

// MaxHTTPBody is API Gateway's limit for the body of a request, in bytes.
const MaxHTTPBody = 10 * 1024 * 1024

// Authorizer decides about a request before its function is invoked. Its result becomes
// requestContext.authorizer; nil: none. An error is answered with 403 and
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
	payload := a.event(request{Request: r, id: id, trace: trace, route: route, params: params, identity: identity, body: body})
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
