package docs_test

import (
	"net/http"
	"testing"

	"backstop/docs/docstest"
)

func TestTheDocumentIsValidAndItsExamplesConform(t *testing.T) {
	d, err := docstest.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(d.Routes()); n != 23 {
		t.Errorf("%d routes, want 23", n)
	}
}

// The check itself must bite, or the tests of the API prove nothing.
func TestAnswersThatAreNotDocumentedAreFound(t *testing.T) {
	d, err := docstest.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const (
		count   = `{"count":0,"sinks":{},"states":{}}`
		item    = `{"id":"a~1-1","sink":"a","at":"2026-01-01T00:00:00Z","message":{"body":""},"attempts":0,"last_error":"","state":"due"}`
		itemURL = "/v1/dlq/items/webhook-demo~1-1"
	)
	typed := func(contentType string, more ...string) http.Header {
		h := http.Header{"Content-Type": {contentType}}
		for _, name := range more {
			h.Set(name, "1")
		}
		return h
	}
	asJSON, asProblem := typed("application/json"), typed("application/problem+json")
	tests := []struct {
		name, target string
		status       int
		header       http.Header
		body         string
		ok           bool
	}{
		{"as documented", "/v1/dlq/count?sink=a", 200, asJSON, count, true},
		{"as documented, with a header", itemURL, 200, typed("application/json", "ETag"), item, true},
		{"a charset", "/v1/dlq/count", 200, typed("application/json; charset=utf-8"), count, true},
		{"a member too many", "/v1/dlq/count", 200, asJSON, `{"count":0,"sinks":{},"states":{},"x":1}`, false},
		{"a member too few", "/v1/dlq/count", 200, asJSON, `{"count":0}`, false},
		{"a number out of bounds", "/v1/dlq/count", 200, asJSON, `{"count":-1,"sinks":{},"states":{}}`, false},
		{"another status", "/v1/dlq/count", 201, asJSON, count, false},
		{"another content type", "/v1/dlq/count", 200, typed("text/html"), count, false},
		{"a missing header", itemURL, 200, asJSON, item, false},
		{"a time that is none", itemURL, 200, typed("application/json", "ETag"), `{"id":"a~1-1","sink":"a","at":"today","message":{"body":""},"attempts":0,"last_error":"","state":"due"}`, false},
		{"a problem", "/v1/dlq/count", 503, asProblem, `{"type":"x","title":"x","status":503,"code":"SINK_DLQ_UNAVAILABLE"}`, true},
		{"a problem with another status", "/v1/dlq/count", 503, asProblem, `{"type":"x","title":"x","status":500,"code":"SINK_DLQ_UNAVAILABLE"}`, false},
		{"a problem with a code of its own", "/v1/dlq/count", 503, asProblem, `{"type":"x","title":"x","status":503,"code":"MINE"}`, false},
		{"a problem with a status of its own", "/v1/dlq/count", 418, asProblem, `{"type":"x","title":"x","status":418,"code":"INTERNAL"}`, false},
		{"the gateway's answer", "/v1/dlq/count", 403, asJSON, `{"message":"Forbidden"}`, true},
		{"an unknown path", "/v1/nothing", 200, asJSON, `{}`, false},
		{"an unknown path, refused", "/v1/nothing", 404, asProblem, `{"type":"about:blank","title":"Not Found","status":404,"code":"NOT_FOUND"}`, true},
		{"a wrong method without Allow", "/v1/dlq/count", 405, asProblem, `{"type":"about:blank","title":"x","status":405,"code":"METHOD_NOT_ALLOWED"}`, false},
		{"lines", "/v1/dlq/export", 200, typed("application/x-ndjson"), item + "\n" + item + "\n", true},
		{"a bad line", "/v1/dlq/export", 200, typed("application/x-ndjson"), item + "\n{}\n", false},
	}
	for _, tt := range tests {
		err := d.Answer(t.Context(), http.MethodGet, tt.target, tt.status, tt.header, []byte(tt.body))
		if (err == nil) != tt.ok {
			t.Errorf("%s: got error %v, want conforming %v", tt.name, err, tt.ok)
		}
	}
}
