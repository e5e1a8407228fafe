package lambdahost

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/google/uuid"
)

// The platform's limits for payloads, in bytes.
const (
	MaxSyncPayload  = 6 * 1024 * 1024   // request of a synchronous invocation
	MaxAsyncPayload = 1024 * 1024       // request of an asynchronous invocation
	MaxResponse     = 6*1024*1024 + 100 // response of a function
	maxLogTail      = 4 * 1024          // X-Amz-Log-Result
	latest          = "$LATEST"         // the only version there is
	unhandled       = "Unhandled"       // X-Amz-Function-Error
)

// Invocation is one call of a function.
type Invocation struct {
	// Function is its name or ARN (partial ones too), with or without a qualifier.
	Function string
	// Payload is the event, valid JSON. Empty: {}.
	Payload []byte
	// RequestID identifies the call. Empty: a new UUID.
	RequestID string
	// TraceID is an X-Amzn-Trace-Id header. Empty: a new, unsampled one.
	TraceID string
	// ClientContext is JSON that the function finds in its context. Nil: none.
	ClientContext []byte
}

// Result is a function's answer, or the platform's words for its failure.
type Result struct {
	RequestID string
	// Payload is the function's JSON answer or, with a FunctionError, an object with
	// errorType and errorMessage.
	Payload []byte
	// FunctionError is "Unhandled" when the invocation failed, and empty otherwise.
	FunctionError string
	// ErrorType is the payload's errorType when the invocation failed:
	// "Sandbox.Timedout", "Runtime.ExitError", or what the function's runtime named.
	ErrorType string
	// LogTail is the end of the invocation's log, at most 4 KB.
	LogTail []byte
	// ColdStart is true when the invocation started its process.
	ColdStart bool
	// Duration is the time between handing over the event and the answer.
	Duration time.Duration
	// PID is the process that served the invocation; 0 when none could start.
	PID int
}

// Invoker invokes functions synchronously, as *Host does.
type Invoker interface {
	// Invoke returns an *APIError when the call is refused, and otherwise, with a nil
	// error, the function's result: its failures too (Result.FunctionError). When ctx
	// ends it returns ctx's error while the function runs on, as on the platform.
	Invoke(ctx context.Context, in Invocation) (Result, error)
}

// APIError is a refusal by the Invoke API.
type APIError struct {
	// Type is the exception's name, such as "ResourceNotFoundException".
	Type string
	Msg  string
}

// Error returns "type: message".
func (e *APIError) Error() string { return e.Type + ": " + e.Msg }

// Status is the HTTP status that the Invoke API answers with.
func (e *APIError) Status() int {
	switch e.Type {
	case "ResourceNotFoundException":
		return http.StatusNotFound
	case "TooManyRequestsException":
		return http.StatusTooManyRequests
	case "RequestTooLargeException":
		return http.StatusRequestEntityTooLarge
	case "ServiceException":
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

var errClosed = &APIError{Type: "ServiceException", Msg: "the local host is closed"}

// Invoke implements Invoker.
func (h *Host) Invoke(ctx context.Context, in Invocation) (Result, error) {
	p, inv, err := h.prepare(in, MaxSyncPayload)
	if err != nil {
		return Result{}, err
	}
	if err := p.acquire(ctx, h.opts.QueueWait); err != nil {
		return Result{}, err
	}
	if !h.begin() {
		p.release()
		return Result{}, errClosed
	}
	done := make(chan Result, 1)
	go func() {
		defer h.wg.Done()
		res := p.run(inv)
		p.release()
		done <- res
	}()
	select {
	case res := <-done:
		return res, nil
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// prepare checks an invocation as the platform does before it runs anything.
func (h *Host) prepare(in Invocation, limit int) (*pool, *invocation, error) {
	p, err := h.lookup(in.Function)
	if err != nil {
		return nil, nil, err
	}
	if len(in.Payload) == 0 {
		in.Payload = []byte("{}")
	}
	if len(in.Payload) > limit {
		msg := fmt.Sprintf("Request must be smaller than %d bytes for the InvokeFunction operation", limit)
		return nil, nil, &APIError{Type: "RequestTooLargeException", Msg: msg}
	}
	if err := json.Unmarshal(in.Payload, new(json.RawMessage)); err != nil {
		return nil, nil, &APIError{Type: "InvalidRequestContentException", Msg: "Could not parse request body into json: " + err.Error()}
	}
	if in.RequestID == "" {
		in.RequestID = uuid.NewString()
	}
	if in.TraceID == "" {
		in.TraceID = newTraceID()
	}
	return p, &invocation{
		id:            in.RequestID,
		arn:           h.arn(p.fn.Name),
		traceID:       in.TraceID,
		payload:       in.Payload,
		clientContext: in.ClientContext,
		done:          make(chan struct{}),
	}, nil
}

// lookup finds a function by name, name:qualifier, or a partial or full ARN. Every
// qualifier means the one version there is.
func (h *Host) lookup(name string) (*pool, error) {
	base := name
	if i := strings.LastIndex(base, "function:"); i >= 0 {
		base = base[i+len("function:"):]
	}
	base, _, _ = strings.Cut(base, ":")
	p, ok := h.pools[base]
	if !ok {
		return nil, &APIError{
			Type: "ResourceNotFoundException",
			Msg:  fmt.Sprintf("Function not found: %s (known: %s)", h.arn(base), strings.Join(h.Functions(), ", ")),
		}
	}
	return p, nil
}

func newTraceID() string {
	var b [20]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("Root=1-%08x-%s;Parent=%s;Sampled=0", time.Now().Unix(), hex.EncodeToString(b[:12]), hex.EncodeToString(b[12:]))
}

// invocation is one attempt, as the Runtime API sees it. Its fields after done are
// guarded by the process's mutex.
type invocation struct {
	id, arn, traceID string
	payload          []byte
	clientContext    []byte
	deadline         time.Time
	done             chan struct{} // closed when the runtime asked for the next one

	answered bool
	failed   bool
	answer   []byte
}

// retry returns a fresh attempt of the same event.
func (inv *invocation) retry() *invocation {
	return &invocation{
		id: inv.id, arn: inv.arn, traceID: inv.traceID,
		payload: inv.payload, clientContext: inv.clientContext, done: make(chan struct{}),
	}
}

// fail turns a failure of the platform's kind into a result.
func (inv *invocation) fail(errorType, format string, args ...any) Result {
	msg := fmt.Sprintf("RequestId: %s Error: ", inv.id) + fmt.Sprintf(format, args...)
	payload, err := json.Marshal(messages.InvokeResponse_Error{Type: errorType, Message: msg})
	if err != nil { // two strings always encode
		panic(err)
	}
	return inv.failWith(payload)
}

// failWith is the result of an error that the function's runtime reported itself.
func (inv *invocation) failWith(payload []byte) Result {
	var e messages.InvokeResponse_Error
	if err := json.Unmarshal(payload, &e); err != nil {
		e.Type = "Runtime.Unknown"
	}
	return Result{RequestID: inv.id, Payload: payload, FunctionError: unhandled, ErrorType: e.Type}
}

// throttled is the refusal of an invocation that found no free process.
func throttled() *APIError {
	return &APIError{Type: "TooManyRequestsException", Msg: "Rate Exceeded."}
}

// isThrottled tells a refusal that passes with time.
func isThrottled(err error) bool {
	e, ok := errors.AsType[*APIError](err)
	return ok && e.Type == "TooManyRequestsException"
}
