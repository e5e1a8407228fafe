package lambdahost_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"backstop/internal/lambdahost"
)

func TestAnAsyncEventIsTriedThreeTimesThenKept(t *testing.T) {
	t.Parallel()
	failures := make(chan lambdahost.Failure, 1)
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe", Async: lambdahost.Async{
		Backoff: time.Millisecond, OnFailure: func(f lambdahost.Failure) { failures <- f },
	}})
	id, err := h.InvokeAsync(lambdahost.Invocation{Function: "probe", Payload: []byte(`{"do":"error"}`)})
	if err != nil {
		t.Fatal(err)
	}
	f := <-failures
	if f.RequestID != id || f.Attempts != 3 || f.Condition != lambdahost.RetriesExhausted || string(f.Payload) != `{"do":"error"}` {
		t.Errorf("failure %+v, want the event after 3 attempts", f)
	}
	if f.Last.ErrorType != "Refused" || f.Last.RequestID != id {
		t.Errorf("last result %+v, want type Refused under the same request id", f.Last)
	}
	if got := h.Stats("probe"); got.Invocations != 3 || got.AsyncRetries != 2 || got.AsyncFailures != 1 {
		t.Errorf("stats %+v", got)
	}
}

func TestAsyncRetriesCanBeTurnedOff(t *testing.T) {
	t.Parallel()
	failures := make(chan lambdahost.Failure, 1)
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe", Async: lambdahost.Async{
		Retries: -1, OnFailure: func(f lambdahost.Failure) { failures <- f },
	}})
	if _, err := h.InvokeAsync(lambdahost.Invocation{Function: "probe", Payload: []byte(`{"do":"exit"}`)}); err != nil {
		t.Fatal(err)
	}
	if f := <-failures; f.Attempts != 1 {
		t.Errorf("attempts %d, want 1", f.Attempts)
	}
}

func TestAnAsyncEventWaitsForAProcessAndNotLongerThanItsAge(t *testing.T) {
	t.Parallel()
	failures := make(chan lambdahost.Failure, 2)
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe", Concurrency: 1, Timeout: time.Minute, Async: lambdahost.Async{
		MaxAge: 20 * time.Millisecond, OnFailure: func(f lambdahost.Failure) { failures <- f },
	}})
	go func() {
		_, _ = h.Invoke(context.WithoutCancel(t.Context()), lambdahost.Invocation{Function: "probe", Payload: []byte(`{"do":"hang"}`)})
	}()
	eventually(t, "a busy process", func() bool { return h.Stats("probe").Busy == 1 })
	if _, err := h.InvokeAsync(lambdahost.Invocation{Function: "probe"}); err != nil {
		t.Fatal(err)
	}
	if f := <-failures; f.Condition != lambdahost.EventAgeExceeded || f.Attempts != 0 {
		t.Errorf("failure %+v, want EventAgeExceeded without an attempt", f)
	}
}

func TestAnAsyncEventSurvivesCloseInItsDestination(t *testing.T) {
	t.Parallel()
	failures := make(chan lambdahost.Failure, 1)
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe", Async: lambdahost.Async{
		Backoff: time.Hour, OnFailure: func(f lambdahost.Failure) { failures <- f },
	}})
	if _, err := h.InvokeAsync(lambdahost.Invocation{Function: "probe", Payload: []byte(`{"do":"error"}`)}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first attempt ended", func() bool { return h.Stats("probe").Errors == 1 })
	_ = h.Close()
	if f := <-failures; f.Condition != lambdahost.HostClosed || f.Attempts != 1 {
		t.Errorf("failure %+v, want HostClosed after 1 attempt", f)
	}
}

func TestAsyncRefusalsAreImmediate(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe"})
	for want, in := range map[string]lambdahost.Invocation{
		"ResourceNotFoundException: Function not found: arn:aws:lambda:us-east-1:123456789012:function:other (known: probe)": {Function: "other"},
		"InvalidRequestContentException: Could not parse request body into json":                                             {Function: "probe", Payload: []byte("{")},
		"RequestTooLargeException: Request must be smaller than 1048576 bytes": {
			Function: "probe", Payload: []byte(`"` + strings.Repeat("x", lambdahost.MaxAsyncPayload) + `"`),
		},
	} {
		if _, err := h.InvokeAsync(in); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
