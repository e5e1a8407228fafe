// Package handler answers the operator's HTTP API over the dead-letter queue.
package handler

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path"
	"runtime/debug"
	"time"

	"github.com/akrylysov/algnhsa"
	"github.com/aws/aws-lambda-go/lambda"

	"backstop/internal/app"
	"backstop/internal/problem"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/retry"
)

// maxRequest bounds a request's body, in bytes. The largest are lists of ids.
const maxRequest = 1 << 20

// api answers the operator's HTTP API. It is safe for concurrent use.
type api struct {
	app     *app.App
	queue   queue
	records records
	gate    gate
	engine  *replay.Engine // sends, discards and imports
	starter *starter
	mux     *http.ServeMux
}

// queue is what the API reads and switches. What claims, sends or removes dead letters goes
// through the engine, which leases them.
type queue interface {
	Get(ctx context.Context, id string) (dlq.Item, error)
	Find(ctx context.Context, sink, deliveryID, fingerprint string) (dlq.Item, error)
	Page(ctx context.Context, q dlq.Query) (dlq.Page, error)
	Sinks(ctx context.Context) ([]string, error)
	Stats(ctx context.Context, sink string) (dlq.Stats, error)
	StatsOf(ctx context.Context, sinks []string) ([]dlq.Stats, error)
	Groups(ctx context.Context, sink string) ([]dlq.Group, error)
	dlq.Causes
	LastBeat(ctx context.Context) (time.Time, error)
	Pause(ctx context.Context, sink string, paused bool) error
	Unpark(ctx context.Context, id string) error
}

// records tells what became of deliveries.
type records interface {
	Get(ctx context.Context, k delivery.Key) (delivery.Record, bool, error)
}

// gate knows the receivers of each sink, and lets them be tried again.
type gate interface {
	Receivers(ctx context.Context, sink string, p flow.Policy) ([]flow.Receiver, error)
	ReceiversOf(ctx context.Context, sinks []string, policy func(sink string) flow.Policy) ([][]flow.Receiver, error)
	Lift(ctx context.Context, sink string, p flow.Policy) error
}

// New returns the function over a. With broken set, which says why it cannot work at all,
// every request is answered with that.
func New(ctx context.Context, a *app.App, broken error) lambda.Handler {
	return newEvents(newAPI(a, broken, newStarter(ctx, a)))
}

// newAPI returns the handler. With broken set, every request is answered with it.
func newAPI(a *app.App, broken error, s *starter) http.Handler {
	if broken != nil {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { problem.From(broken).Write(w) })
	}
	h := &api{app: a, queue: a.Queue, records: a.Records, gate: a.Gate, engine: a.Engine, starter: s, mux: http.NewServeMux()}
	h.handle("GET /v1/sinks", h.listSinks)
	h.handle("POST /v1/sinks/{name}/pause", h.pauseSink)
	h.handle("POST /v1/sinks/{name}/resume", h.resumeSink)
	h.handle("GET /v1/deliveries", h.getDelivery)
	h.handle("DELETE /v1/deliveries", h.cancelDelivery)
	h.handle("GET /v1/dlq/items", h.listItems)
	h.handle("GET /v1/dlq/count", h.count)
	h.handle("GET /v1/dlq/groups", h.groups)
	h.handle("POST /v1/dlq/groups/{id}/note", h.noteGroup)
	h.handle("GET /v1/dlq/histogram", h.histogram)
	h.handle("GET /v1/dlq/items/{id}", h.getItem)
	h.handle("DELETE /v1/dlq/items/{id}", h.discardItem)
	h.handleWithin("POST /v1/dlq/items/{id}/replay", h.replayItem)
	h.handle("POST /v1/dlq/items/{id}/unpark", h.unparkItem)
	h.handle("GET /v1/dlq/operations", h.listOperations)
	h.handle("POST /v1/dlq/operations", h.createOperation)
	h.handle("GET /v1/dlq/operations/{op}", h.getOperation)
	h.handle("POST /v1/dlq/operations/{op}/cancel", h.cancelOperation)
	h.handle("POST /v1/dlq/operations/{op}/resume", h.resumeOperation)
	h.handle("GET /v1/dlq/export", h.exportItems)
	h.handle("POST /v1/dlq/import", h.importItems)
	h.handle("GET /v1/openapi.yaml", getDocument)
	h.mux.HandleFunc("/v1/messages", refuseMessages)
	return h
}

// handle adds a route whose errors become problems.
func (h *api) handle(pattern string, f func(http.ResponseWriter, *http.Request) error) {
	h.handleWithin(pattern, func(w http.ResponseWriter, r *http.Request, _ retry.Budget) error { return f(w, r) })
}

// handleWithin is handle for a route that divides its time by itself. Whatever a route does
// ends early enough for its answer: the platform stops the process at the deadline.
func (h *api) handleWithin(pattern string, f func(http.ResponseWriter, *http.Request, retry.Budget) error) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		budget := retry.NewBudget(r.Context(), h.app.Env.Reserve)
		if !budget.Deadline.IsZero() {
			ctx, cancel := context.WithDeadline(r.Context(), budget.Deadline.Add(-budget.Reserve/4))
			defer cancel()
			r = r.WithContext(ctx)
		}
		err := f(w, r, budget)
		if err == nil {
			return
		}
		p := problemOf(err)
		if p.Code == fault.CodeInternal {
			h.app.Log.ErrorContext(r.Context(), "request failed", "route", pattern, "error", err.Error())
		}
		p.Write(w)
	})
}

// refuseMessages answers what the gateway leaves of the send function's route: every
// method but POST. A POST that gets here was routed wrongly, and is no route of ours.
func refuseMessages(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		noRoute().Write(w)
		return
	}
	if r.Method == http.MethodOptions {
		answerPreflight(w, http.MethodPost)
		return
	}
	w.Header().Set("Allow", http.MethodPost)
	wrongMethod(http.MethodPost).Write(w)
}

// ServeHTTP answers one request. Unknown routes and wrong methods are problems too.
func (h *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodHead {
		w = bodiless{w}
	}
	defer func() {
		if p := recover(); p != nil {
			h.app.Log.ErrorContext(r.Context(), "request panicked", "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			problem.From(nil).Write(w)
		}
	}()
	ctx, cancel := untilTheGateway(r.Context())
	defer cancel()
	defer h.app.Begin(ctx)()
	r = routed(r.WithContext(ctx))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if path.Clean(r.URL.Path) != r.URL.Path {
		// The mux would redirect, which spoils a signature, and guess what an empty id means.
		noRoute().Write(w)
		return
	}
	next, pattern := h.mux.Handler(r)
	if pattern == "" {
		refusal{ResponseWriter: w}.write(next, r)
		return
	}
	h.mux.ServeHTTP(w, r)
}

// untilTheGateway returns the context that ends when API Gateway gives the request up.
func untilTheGateway(ctx context.Context) (context.Context, context.CancelFunc) {
	if e, ok := algnhsa.APIGatewayV2RequestFromContext(ctx); ok {
		return app.APIContext(ctx, e.RequestContext.TimeEpoch)
	}
	return ctx, func() {}
}

// audit logs what an operator did, and who it was.
func (h *api) audit(ctx context.Context, what string, attrs ...any) {
	if who := actor(ctx); who != "" {
		attrs = append(attrs, "actor", who)
	}
	h.app.Log.InfoContext(ctx, what, attrs...) //nolint:sloglint // each caller's text is static
}

// bodiless drops the body of an answer to HEAD; the platform would pass it on.
type bodiless struct{ http.ResponseWriter }

func (bodiless) Write(b []byte) (int, error) { return len(b), nil }

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
	if *f.status == http.StatusMethodNotAllowed && r.Method == http.MethodOptions {
		answerPreflight(f.ResponseWriter, f.Header().Get("Allow"))
		return
	}
	p := noRoute()
	if *f.status == http.StatusMethodNotAllowed {
		p = wrongMethod(f.Header().Get("Allow"))
	}
	p.Write(f.ResponseWriter)
}

// answerPreflight answers OPTIONS on a route that takes the methods of allow. Which
// origins may read answers is for the gateway to say: it adds the headers of CORS.
func answerPreflight(w http.ResponseWriter, allow string) {
	w.Header().Del("Content-Type")
	w.Header().Set("Allow", allow+", "+http.MethodOptions)
	w.WriteHeader(http.StatusNoContent)
}

func wrongMethod(allow string) problem.Problem {
	return httpProblem(http.StatusMethodNotAllowed, fault.CodeMethodNotAllowed, "this route takes "+allow)
}

// httpProblem is a problem that HTTP has a word for.
func httpProblem(status int, code fault.Code, detail string) problem.Problem {
	return problem.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail}
}

// problemOf returns the problem for a route's error.
func problemOf(err error) problem.Problem {
	if changed, ok := errors.AsType[*changedError](err); ok {
		return httpProblem(http.StatusPreconditionFailed, fault.CodePreconditionFailed, changed.Error())
	}
	p := problem.From(err)
	if errors.Is(err, replay.ErrAlreadyDelivered) {
		p = problem.From(&fault.Error{Code: fault.CodeAlreadyDelivered, Msg: p.Detail})
	}
	return p
}

func invalid(format string, args ...any) error {
	return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf(format, args...)}
}
