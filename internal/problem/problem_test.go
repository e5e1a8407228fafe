package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"backstop/internal/problem"
	"backstop/lib/fault"
)

func TestEachCodeHasItsStatus(t *testing.T) {
	for code, want := range map[fault.Code]int{
		fault.CodeInvalidArgument: 400, fault.CodeSinkNotFound: 404, fault.CodeDLQNotFound: 404, fault.CodeItemLeased: 409, fault.CodePreviewStale: 409,
		fault.CodeDeliveryInProgress: 409, fault.CodeAlreadyDelivered: 409, fault.CodeDeadLettered: 409, fault.CodeBodyTooLarge: 413, fault.CodeIDReused: 422, fault.CodeInternal: 500,
		fault.CodeDLQOverflow: 503, fault.CodeDLQUnavailable: 503, fault.CodeSinkConfigInvalid: 503, fault.CodeNotAttempted: 503, fault.CodeSinkUnavailable: 503,
		fault.CodeQueueUnavailable: 503,
	} {
		w := httptest.NewRecorder()
		problem.From(fmt.Errorf("outer: %w", &fault.Error{Code: code, Msg: "why"})).Write(w)
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
	p := problem.From(&fault.Error{Code: fault.CodeDLQOverflow, Msg: "sink ops is full", Cause: errors.New("10 of 10")})
	if p.Detail != "sink ops is full: 10 of 10" {
		t.Errorf("detail %q", p.Detail)
	}
}

func TestAnErrorWithoutACodeShowsNothingOfItself(t *testing.T) {
	p := problem.From(errors.New("dial tcp 10.0.0.1: secret"))
	if p.Code != fault.CodeInternal || strings.Contains(fmt.Sprint(p), "secret") {
		t.Errorf("got %+v, want INTERNAL without the text", p)
	}
}
