package handler

import (
	"errors"
	"strings"
	"testing"

	"backstop/lib/fault"

	"github.com/aws/aws-lambda-go/lambda/messages"
)

// What a caller writes is taken as written, or refused by the name of the field.
func TestARequestIsReadStrictly(t *testing.T) {
	for in, names := range map[string]string{
		`{"sink":"ops","SINK":"flaky","message":{"body":"x"}}`:              "SINK: unknown field; write it as sink",
		`{"Sink":"ops","message":{"body":"x"}}`:                             "Sink: unknown field",
		`{"sink":"ops","message":{"body":"x","Body":"y"}}`:                  "message.Body: unknown field",
		`{"sink":"ops","sink":"flaky","message":{"body":"x"}}`:              "sink: given twice",
		`{"sink":"ops","message":{"body":"x","metadata":{"a":"","a":""}}}`:  "message.metadata.a: given twice",
		`{"sink":"ops","recipient":{"url":"a","url":"b"},"message":{}}`:     "recipient.url: given twice",
		"{\"sink\":\"ops\",\"message\":{\"body\":\"caf\xe9\"}}":             "message.body: not valid UTF-8",
		"{\"sink\":\"ops\",\"recipient\":{\"url\":\"\xe9\"}}":               "recipient.url: not valid UTF-8",
		`{"sink":"ops","message":{"body":"\ud800"}}`:                        "message.body: half of a surrogate pair",
		`{"sink":"ops","mesage":{}}`:                                        "mesage: unknown field; known: id, message, recipient, sink",
		`[]`:                                                                "request: want an object, got an array",
		`{"sink":7}`:                                                        "sink: want a string, got a number",
		`{"sink":"ops","message":[]}`:                                       "message: want an object, got an array",
		`{"sink":"ops","message":{"metadata":{"a":1}}}`:                     "message.metadata.a: want a string, got a number",
		`{"sink":"ops"`:                                                     "request: cut off",
		``:                                                                  "request: empty",
		`{"sink":"ops","message":{"body":"x"}}{}`:                           "request: more follows",
		`{"sink":"ops","message":{"body":"x"},"Recipient":{"url":"https"}}`: "Recipient: unknown field; write it as recipient",
	} {
		_, err := parseRequest([]byte(in))
		wantCode(t, err, fault.CodeInvalidArgument)
		if err == nil || !strings.Contains(err.Error(), names) || strings.Contains(err.Error(), "main.") || strings.Contains(err.Error(), "Go ") {
			t.Errorf("%s: got %v, want an error that says %q, without a Go type", in, err, names)
		}
	}
}

// The same holds for the event around it: what it says twice is not for us to choose.
func TestAnEventIsReadStrictly(t *testing.T) {
	h := newHandler(t)
	request := `"{\"sink\":\"ok\",\"message\":{\"body\":\"x\"}}"`
	for name, in := range map[string]string{
		"two bodies":         `{"version":"2.0","rawPath":"/v1/messages","requestContext":{"http":{"method":"POST"}},"body":` + request + `,"body":` + request + `}`,
		"two records":        `{"Records":[],"Records":[{"messageId":"a","eventSource":"aws:sqs","body":` + request + `}]}`,
		"two bodies of one":  `{"Records":[{"messageId":"a","eventSource":"aws:sqs","body":` + request + `,"body":"{}"}]}`,
		"invalid UTF-8":      "{\"Records\":[{\"messageId\":\"a\xe9\",\"eventSource\":\"aws:sqs\",\"body\":" + request + "}]}",
		"a number as a body": `{"Records":[{"messageId":"a","eventSource":"aws:sqs","body":7}]}`,
		"a direct request":   `{"sink":"ok","message":{"body":"x"},"sink":"gone"}`,
	} {
		out, err := h.Invoke(t.Context(), []byte(in))
		e, ok := errors.AsType[messages.InvokeResponse_Error](err)
		if !ok || e.Type != string(fault.CodeInvalidArgument) || strings.Contains(e.Message, "events.") || strings.Contains(e.Message, "json:") {
			t.Errorf("%s: got %s, %v; want a function error %s without a Go type", name, out, err, fault.CodeInvalidArgument)
		}
	}
	// Another case is another name: it is not the record's body.
	out, err := h.Invoke(t.Context(), []byte(`{"Records":[{"messageId":"a","eventSource":"aws:sqs","Body":`+request+`,"body":"x"}]}`))
	if err != nil || !strings.Contains(string(out), `"itemIdentifier":"a"`) {
		t.Errorf("a body in another case: got %s, %v; want the record handed back", out, err)
	}
}
