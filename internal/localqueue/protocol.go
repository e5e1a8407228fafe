package localqueue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

const (
	contentType  = "application/x-amz-json-1.0"
	targetPrefix = "AmazonSQS."
	// maxRequest bounds a request in JSON, where a character may be written in six bytes.
	maxRequest = 8 << 20
)

// operations are what the service can do, by the name in X-Amz-Target.
var operations = map[string]func(*Service, context.Context, []byte) (any, error){
	"SendMessage":                  operation((*Service).sendMessage),
	"SendMessageBatch":             operation((*Service).sendMessageBatch),
	"ReceiveMessage":               operation((*Service).receiveMessage),
	"DeleteMessage":                operation((*Service).deleteMessage),
	"DeleteMessageBatch":           operation((*Service).deleteMessageBatch),
	"ChangeMessageVisibility":      operation((*Service).changeVisibility),
	"ChangeMessageVisibilityBatch": operation((*Service).changeVisibilityBatch),
	"GetQueueAttributes":           operation((*Service).queueAttributes),
	"GetQueueUrl":                  operation((*Service).queueURL),
}

// operation decodes the input of an operation.
func operation[In, Out any](do func(*Service, context.Context, In) (Out, error)) func(*Service, context.Context, []byte) (any, error) {
	return func(s *Service, ctx context.Context, body []byte) (any, error) {
		var in In
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, &refusal{code: "SerializationException", message: err.Error()}
		}
		return do(s, ctx, in)
	}
}

// endpointKey is the context's key of the URL under which the caller knows the service.
type endpointKey struct{}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Amzn-Requestid", newID())
	out, err := s.serve(w, r)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, out)
}

// Do calls the service without a network, as an HTTPClient of the SDK's. On loopback the SDK may
// close a connection in the middle of a long answer, and what was received with it is hidden then:
// it closes a request's body as soon as it has the answer's first bytes, while the transport still
// looks whether the body has ended.
func (s *Service) Do(r *http.Request) (*http.Response, error) {
	w := &recorder{header: http.Header{}}
	s.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: w.status, Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
	}, nil
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(status int)      { w.status = status }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }

func (s *Service) serve(w http.ResponseWriter, r *http.Request) (any, error) {
	name, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), targetPrefix)
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")) // a wrong one is not ours
	if r.Method != http.MethodPost || !ok || kind != contentType {
		return nil, &refusal{code: "UnknownOperationException", message: "want a POST of SQS' JSON protocol: " + contentType + " with X-Amz-Target"}
	}
	do := operations[name]
	if do == nil {
		return nil, &refusal{code: "InvalidAction", message: "The local queue does not have the operation " + name + "."}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, errBatchTooLong
	}
	if err != nil {
		return nil, &refusal{code: "SerializationException", message: err.Error()}
	}
	return do(s, context.WithValue(r.Context(), endpointKey{}, "http://"+cmp.Or(r.Host, r.URL.Host)), body)
}

func refuse(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*refusal](err)
	if !ok {
		e = &refusal{code: "InternalFailure", message: err.Error()}
	}
	w.Header().Set("X-Amzn-Query-Error", e.queryCode()+";Sender")
	answer(w, http.StatusBadRequest, map[string]string{"__type": "com.amazonaws.sqs#" + e.code, "message": e.message})
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // no value here is one that JSON cannot have
		panic(err)
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client's loss
}
