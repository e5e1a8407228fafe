package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"backstop/lib/problem"
	"backstop/lib/sinks"
)

func TestEachCodeHasItsStatus(t *testing.T) {
	for code, want := range map[sinks.Code]int{
		sinks.CodeInvalidArgument: 400, sinks.CodeSinkNotFound: 404, sinks.CodeDLQNotFound: 404, sinks.CodeItemLeased: 409,
		sinks.CodeDeliveryInProgress: 409, sinks.CodeDeadLettered: 409, sinks.CodeBodyTooLarge: 413, sinks.CodeIDReused: 422, sinks.CodeInternal: 500,
		sinks.CodeDLQOverflow: 503, sinks.CodeDLQUnavailable: 503, sinks.CodeSinkConfigInvalid: 503, sinks.CodeNotAttempted: 503, sinks.CodeSinkUnavailable: 503,
	} {
		w := httptest.NewRecorder()
		problem.From(fmt.Errorf("outer: %w", &sinks.Error{Code: code, Msg: "why"})).Write(w)
		var body map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		if w.Code != want || body["status"] != float64(want) || body["code"] != string(code) || body["title"] == "" {
			t.Errorf("%s: status %d, body %v; want %d", code, w.Code, body, want)
		}
		if w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: content type %q", code, w.Header().Get("Content-Type"))
		}
		if want == 503 && w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: a 503 without Retry-After", code)
		}
	}
}

func TestTheDetailDoesNotRepeatTheCode(t *testing.T) {
	p := problem.From(&sinks.Error{Code: sinks.CodeDLQOverflow, Msg: "sink ops is full", Cause: errors.New("10 of 10")})
	if p.Detail != "sink ops is full: 10 of 10" {
		t.Errorf("detail %q", p.Detail)
	}
}

func TestAnErrorWithoutACodeShowsNothingOfItself(t *testing.T) {
	p := problem.From(errors.New("dial tcp 10.0.0.1: secret"))
	if p.Code != sinks.CodeInternal || strings.Contains(fmt.Sprint(p), "secret") {
		t.Errorf("got %+v, want INTERNAL without the text", p)
	}
}
