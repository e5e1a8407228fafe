package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/akrylysov/algnhsa"

	"backstop/lib/app"
	"backstop/lib/problem"
	"backstop/lib/replay"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// maxRequest bounds a request's body. The largest are lists of ids.
const maxRequest = 1 << 20

// api answers the operator's HTTP API. It is safe for concurrent use.
type api struct {
	app *app.App
	mux *http.ServeMux
}

// newAPI returns the handler. With broken set, every request is answered with it.
func newAPI(a *app.App, broken error) http.Handler {
	if broken != nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { problem.From(broken).Write(w) })
	}
	h := &api{app: a, mux: http.NewServeMux()}
	h.handle("GET /v1/sinks", h.listSinks)
	h.handle("POST /v1/sinks/{name}/pause", h.pause(true))
	h.handle("POST /v1/sinks/{name}/resume", h.pause(false))
	h.handle("GET /v1/deliveries", h.getDelivery)
	h.handle("GET /v1/dlq/items", h.listItems)
	h.handle("GET /v1/dlq/count", h.count)
	h.handle("GET /v1/dlq/groups", h.groups)
	h.handle("GET /v1/dlq/items/{id}", h.getItem)
	h.handle("DELETE /v1/dlq/items/{id}", h.discardItem)
	h.handle("POST /v1/dlq/items/{id}/replay", h.replayItem)
	return h
}

// handle adds a route whose errors become problems.
func (h *api) handle(pattern string, f func(http.ResponseWriter, *http.Request) error) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		err := f(w, r)
		if err == nil {
			return
		}
		p := problem.From(err)
		if errors.Is(err, replay.ErrAlreadyDelivered) {
			p.Status = http.StatusConflict
		}
		if p.Code == sinks.CodeInternal {
			h.app.Log.ErrorContext(r.Context(), "request failed", "route", pattern, "error", err.Error())
		}
		p.Write(w)
	})
}

// ServeHTTP answers one request. Unknown routes and wrong methods are problems too.
func (h *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			h.app.Log.ErrorContext(r.Context(), "request panicked", "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			problem.From(nil).Write(w)
		}
	}()
	ctx, cancel := h.context(r.Context())
	defer cancel()
	r = r.WithContext(ctx)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
	next, pattern := h.mux.Handler(r)
	if pattern == "" {
		refusal{ResponseWriter: w}.write(next, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// context divides the time that API Gateway gives the request.
func (h *api) context(ctx context.Context) (context.Context, context.CancelFunc) {
	cancel := func() {}
	if e, ok := algnhsa.APIGatewayV2RequestFromContext(ctx); ok {
		ctx, cancel = app.APIContext(ctx, e.RequestContext.TimeEpoch)
	}
	return retry.WithBudget(ctx, retry.NewBudget(ctx, h.app.Env.Reserve)), cancel
}

// refusal turns the mux's own plain-text answers into problems.
type refusal struct {
	http.ResponseWriter
	status *int
}

func (f refusal) WriteHeader(status int)      { *f.status = status }
func (f refusal) Write(b []byte) (int, error) { return len(b), nil }

func (f refusal) write(next http.Handler, r *http.Request) {
	f.status = new(int)
	next.ServeHTTP(f, r)
	p := problem.Problem{Type: "about:blank", Title: http.StatusText(*f.status), Status: *f.status, Code: "NOT_FOUND"}
	if *f.status == http.StatusMethodNotAllowed {
		p.Code, p.Detail = "METHOD_NOT_ALLOWED", "this route takes "+f.Header().Get("Allow")
	} else {
		p.Status, p.Title = http.StatusNotFound, http.StatusText(http.StatusNotFound)
		p.Detail = "no such route; GET /v1/openapi.yaml lists them"
	}
	p.Write(f.ResponseWriter)
}

func invalid(format string, args ...any) error {
	return &sinks.Error{Code: sinks.CodeInvalidArgument, Msg: fmt.Sprintf(format, args...)}
}

// answer writes body as JSON, without HTML escaping.
func answer(w http.ResponseWriter, status int, body any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if _, err := w.Write(b.Bytes()); err != nil {
		slog.Debug("answer not written", "error", err.Error())
	}
	return nil
}

// decode reads a request's JSON body strictly. An empty body leaves into as it is.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return &sinks.Error{Code: sinks.CodeBodyTooLarge, Msg: fmt.Sprintf("request body: at most %d bytes", tooLarge.Limit)}
		}
		if te, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && te.Field != "" {
			return invalid("%s: want %s, got %s", te.Field, te.Type, te.Value)
		}
		return invalid("request body: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return invalid("request body: more follows after the JSON object")
	}
	return nil
}
