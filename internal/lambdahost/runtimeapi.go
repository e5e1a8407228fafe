package lambdahost

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/google/uuid"
)

// runtimeAPI is the Lambda Runtime API of one process, and what of the Extensions API
// a runtime needs to ask for SIGTERM.
func (p *process) runtimeAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /2018-06-01/runtime/invocation/next", p.serveNext)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/response", p.serveResponse)
	mux.HandleFunc("POST /2018-06-01/runtime/invocation/{id}/error", p.serveError)
	mux.HandleFunc("POST /2018-06-01/runtime/init/error", p.serveInitError)
	mux.HandleFunc("POST /2020-01-01/extension/register", p.serveRegister)
	mux.HandleFunc("GET /2020-01-01/extension/event/next", func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // no events are ever sent
	})
	return mux
}

// serveNext ends the current invocation and waits for another.
func (p *process) serveNext(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	if !p.waiting {
		p.waiting = true
		close(p.ready)
	}
	if p.current != nil {
		close(p.current.done)
		p.current = nil
	}
	p.mu.Unlock()

	var inv *invocation
	select {
	case inv = <-p.next:
	case <-r.Context().Done():
		return
	}
	p.mu.Lock()
	p.current = inv
	p.mu.Unlock()

	head := w.Header()
	head.Set("Content-Type", "application/json")
	head.Set("Lambda-Runtime-Aws-Request-Id", inv.id)
	head.Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(inv.deadline.UnixMilli(), 10))
	head.Set("Lambda-Runtime-Invoked-Function-Arn", inv.arn)
	head.Set("Lambda-Runtime-Trace-Id", inv.traceID)
	if len(inv.clientContext) > 0 {
		head.Set("Lambda-Runtime-Client-Context", string(inv.clientContext))
	}
	_, _ = w.Write(inv.payload)
}

func (p *process) serveResponse(w http.ResponseWriter, r *http.Request) {
	body, fits, err := readBody(r, MaxResponse)
	if err != nil {
		return // the process went away in the middle of its answer
	}
	failed := false
	status, e := http.StatusAccepted, messages.InvokeResponse_Error{}
	switch {
	case !fits:
		e = messages.InvokeResponse_Error{
			Type:    "Function.ResponseSizeTooLarge",
			Message: fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", MaxResponse),
		}
		body, failed, status = encode(e), true, http.StatusRequestEntityTooLarge
		e.Type = "RequestEntityTooLarge"
	case r.Trailer.Get("Lambda-Runtime-Function-Error-Type") != "": // failed while it was streaming
		failed = true
		if body, err = base64.StdEncoding.DecodeString(r.Trailer.Get("Lambda-Runtime-Function-Error-Body")); err != nil {
			body = encode(messages.InvokeResponse_Error{Type: r.Trailer.Get("Lambda-Runtime-Function-Error-Type")})
		}
	case !json.Valid(body):
		failed = true
		body = encode(messages.InvokeResponse_Error{Type: "Runtime.InvalidResponse", Message: "the response is not valid JSON"})
	}
	if !p.answer(r.PathValue("id"), body, failed) {
		status, e = http.StatusBadRequest, messages.InvokeResponse_Error{Type: "InvalidRequestID", Message: "Invalid request ID"}
	}
	reply(w, status, e)
}

func (p *process) serveError(w http.ResponseWriter, r *http.Request) {
	body, _, err := readBody(r, MaxResponse)
	if err != nil {
		return
	}
	if !json.Valid(body) {
		body = encode(messages.InvokeResponse_Error{Type: r.Header.Get("Lambda-Runtime-Function-Error-Type"), Message: string(body)})
	}
	if !p.answer(r.PathValue("id"), body, true) {
		reply(w, http.StatusBadRequest, messages.InvokeResponse_Error{Type: "InvalidRequestID", Message: "Invalid request ID"})
		return
	}
	reply(w, http.StatusAccepted, messages.InvokeResponse_Error{})
}

func (p *process) serveInitError(w http.ResponseWriter, r *http.Request) {
	body, _, err := readBody(r, MaxResponse)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.initErr = body
	p.mu.Unlock()
	reply(w, http.StatusAccepted, messages.InvokeResponse_Error{})
}

// serveRegister accepts an extension. Any registered extension makes the platform
// send SIGTERM before SIGKILL, which is what runtimes register one for.
func (p *process) serveRegister(w http.ResponseWriter, _ *http.Request) {
	p.term.Store(true)
	w.Header().Set("Lambda-Extension-Identifier", uuid.NewString())
	w.Header().Set("Content-Type", "application/json")
	_, _ = fmt.Fprintf(w, `{"functionName":%q,"functionVersion":%q}`, p.fn.Name, latest)
}

// answer records the outcome of the current invocation; false when id is not its id
// or it has an answer already.
func (p *process) answer(id string, body []byte, failed bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	inv := p.current
	if inv == nil || inv.id != id || inv.answered {
		return false
	}
	inv.answered, inv.failed, inv.answer = true, failed, body
	return true
}

// readBody reads a request's whole body, so that the sender hears the answer, and
// keeps it unless it is larger than limit.
func readBody(r *http.Request, limit int64) (body []byte, fits bool, err error) {
	body, err = io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, false, err
	}
	if int64(len(body)) <= limit {
		return body, true, nil
	}
	_, err = io.Copy(io.Discard, io.LimitReader(r.Body, 8*limit))
	return body[:limit], false, err
}

// reply answers with {"status":"OK"} or, for a failure, the error.
func reply(w http.ResponseWriter, status int, e messages.InvokeResponse_Error) {
	body := []byte(`{"status":"OK"}`)
	if e.Type != "" {
		body = encode(e)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// encode encodes a value of this package's own types, which cannot fail.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("lambdahost: encoding %T: %v", v, err))
	}
	return b
}
