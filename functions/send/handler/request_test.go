package handler

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/fault"

	"github.com/aws/aws-lambda-go/lambda/messages"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
		`{"sink":"ops","mesage":{}}`:                                        "mesage: unknown field; known: expires_at, group, id, message, recipient, send_after, sink",
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

// What a request says about its time and its order is read in UTC and whole seconds.
func TestTheTermsOfARequestAreRead(t *testing.T) {
	at := time.Date(2030, 1, 31, 18, 0, 0, 0, time.UTC)
	for in, want := range map[string]delivery.Request{
		`"expires_at":"2030-01-31T20:00:00+02:00","send_after":"1m29.5s","group":"user:4711"`: {ExpiresAt: at, SendAfter: 90 * time.Second, Group: "user:4711"},
		`"expires_at":"2030-01-31t18:00:00z"`:                                                 {ExpiresAt: at},
		`"send_after":"1ms"`:                                                                  {SendAfter: time.Second},
		`"group":"g"`:                                                                         {Group: "g"},
		`"expires_at":null, "send_after":null, "group":null`:                                  {},
		`"recipient":null`:                                                                    {Recipient: json.RawMessage("null")},
	} {
		want.Sink, want.Message.Body = "ops", "x"
		got, err := parseRequest([]byte(`{"sink":"ops","message":{"body":"x"},` + in + `}`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(delivery.Request{})); diff != "" {
			t.Errorf("%s (-want +got)\n%s", in, diff)
		}
	}
}

// Each refusal names the field and the bound, whatever JSON stands there.
func TestTheTermsOfARequestAreRefusedByName(t *testing.T) {
	form := map[string]string{
		"expires_at": "a time as in RFC 3339 with its zone, such as 2030-01-31T18:00:00Z or 2030-01-31T20:00:00+02:00",
		"send_after": "a duration with its unit, more than 0, at most 15m, such as 30s or 2m",
		"group":      "1 to 128 ASCII letters, digits and punctuation, no space",
	}
	for _, c := range []struct{ field, value, start string }{
		{"expires_at", `""`, "want "},
		{"expires_at", `"soon"`, "want "},
		{"expires_at", `"2030-01-31T18:00:00"`, "want "},
		{"expires_at", `"2030-12-31T23:59:60Z"`, "want "},
		{"expires_at", `"0001-01-01T00:00:00Z"`, "want "},
		{"expires_at", `1893520800`, "want a string, got a number: "},
		{"expires_at", `{}`, "want a string, got an object: "},
		{"send_after", `"16m"`, "want "},
		{"send_after", `"-1s"`, "want "},
		{"send_after", `"30"`, "want "},
		{"send_after", `""`, "want "},
		{"send_after", `"0s"`, "want "},
		{"send_after", `30`, "want a string, got a number: "},
		{"send_after", `0`, "want a string, got a number: "},
		{"send_after", `["30s"]`, "want a string, got an array: "},
		{"group", `""`, "want "},
		{"group", `"a b"`, "want "},
		{"group", `"` + strings.Repeat("g", 129) + `"`, "want "},
		{"group", `"gr\u00fcn"`, "want "},
		{"group", `7`, "want a string, got a number: "},
		{"group", `false`, "want a string, got false: "},
	} {
		got, err := parseRequest([]byte(`{"sink":"ops","message":{"body":"x"},"` + c.field + `":` + c.value + `}`))
		wantCode(t, err, fault.CodeInvalidArgument)
		if want := c.field + ": " + c.start + form[c.field]; err == nil || !strings.Contains(err.Error(), want) || got.Sink != "" {
			t.Errorf("%s %s: got %+v, %v; want an error that says %q", c.field, c.value, got, err, want)
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
