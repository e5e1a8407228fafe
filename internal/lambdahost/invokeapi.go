package lambdahost

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
)

// InvokeAPI returns the Lambda service's Invoke operation as the AWS CLI and SDKs call
// it (with an endpoint URL): synchronous, Event and DryRun invocations, LogType Tail,
// names, ARNs and qualifiers. Signatures are not checked: serve it on loopback, behind
// loopback.Guard.
func (h *Host) InvokeAPI() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /2015-03-31/functions/{name}/invocations", h.serveInvoke)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &APIError{
			Type: "ResourceNotFoundException",
			Msg:  fmt.Sprintf("%s %s is unknown here: the local host serves POST /2015-03-31/functions/{name}/invocations", r.Method, r.URL.Path),
		})
	})
	return mux
}

func (h *Host) serveInvoke(w http.ResponseWriter, r *http.Request) {
	in := Invocation{
		Function:  r.PathValue("name"),
		RequestID: uuid.NewString(),
		TraceID:   r.Header.Get("X-Amzn-Trace-Id"),
	}
	w.Header().Set("X-Amzn-Requestid", in.RequestID)
	limit := MaxSyncPayload
	kind := r.Header.Get("X-Amz-Invocation-Type")
	if kind == "Event" {
		limit = MaxAsyncPayload
	}
	var fits bool
	var err error
	if in.Payload, fits, err = readBody(r, int64(limit)); err != nil {
		refuse(w, &APIError{Type: "InvalidRequestContentException", Msg: "the request body could not be read"})
		return
	}
	if !fits {
		msg := fmt.Sprintf("Request must be smaller than %d bytes for the InvokeFunction operation", limit)
		refuse(w, &APIError{Type: "RequestTooLargeException", Msg: msg})
		return
	}
	if in.ClientContext, err = base64.StdEncoding.DecodeString(r.Header.Get("X-Amz-Client-Context")); err != nil {
		refuse(w, &APIError{Type: "InvalidRequestContentException", Msg: "Client context must be a valid Base64-encoded JSON object."})
		return
	}
	switch kind {
	case "", "RequestResponse":
		h.serveSync(w, r, in)
	case "Event":
		if _, err := h.InvokeAsync(in); err != nil {
			refuse(w, err)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	case "DryRun":
		if _, _, err := h.prepare(in, MaxSyncPayload); err != nil {
			refuse(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, &APIError{Type: "InvalidParameterValueException", Msg: fmt.Sprintf("invocation type %.40q is not RequestResponse, Event or DryRun", kind)})
	}
}

func (h *Host) serveSync(w http.ResponseWriter, r *http.Request, in Invocation) {
	res, err := h.Invoke(r.Context(), in)
	if err != nil {
		refuse(w, err)
		return
	}
	head := w.Header()
	head.Set("Content-Type", "application/json")
	head.Set("X-Amz-Executed-Version", latest)
	if res.FunctionError != "" {
		head.Set("X-Amz-Function-Error", res.FunctionError)
	}
	if r.Header.Get("X-Amz-Log-Type") == "Tail" {
		head.Set("X-Amz-Log-Result", base64.StdEncoding.EncodeToString(res.LogTail))
	}
	_, _ = w.Write(res.Payload)
}

// refuse answers with an error in the service's shape.
func refuse(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*APIError](err)
	if !ok {
		e = &APIError{Type: "ServiceException", Msg: err.Error()}
	}
	kind := "User"
	if e.Status() >= http.StatusInternalServerError {
		kind = "Service"
	}
	body := map[string]string{"Type": kind, "message": e.Msg}
	if e.Type == "ResourceNotFoundException" {
		body = map[string]string{"Type": kind, "Message": e.Msg} // so in the service's model
	}
	if isThrottled(e) {
		body["Reason"] = "ConcurrentInvocationLimitExceeded"
	}
	w.Header().Set("X-Amzn-Errortype", e.Type)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Status())
	_, _ = w.Write(encode(body))
}
