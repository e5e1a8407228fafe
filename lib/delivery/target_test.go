package delivery_test

import (
	"testing"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// A sink that was wrapped once keeps its retries, and its dead letters go where the
// Sender's go.
func TestARegisteredSinkIsTriedAsItsRetrierSays(t *testing.T) {
	sink := &fakeSink{err: sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})}
	elsewhere := dlq.NewMemory()
	b := newBench(nil)
	cfg := retry.Config{MaxAttempts: 3, BaseBackoff: 1, MaxBackoff: 1}
	b.Targets = delivery.Registered(sinks.NewRegistry(retry.WrapSink(sink, cfg, elsewhere)))
	a, err := b.Deliver(t.Context(), ask("m1", "x"))
	if err != nil || a.Status != delivery.StatusDeadLettered || a.Attempts != 3 || sink.sent != 3 {
		t.Errorf("got %+v, %v after %d sends; want a dead letter after 3", a, err, sink.sent)
	}
	kept, err := b.queue.Count(t.Context(), "")
	if stray, _ := elsewhere.Count(t.Context(), ""); err != nil || kept != 1 || stray != 0 {
		t.Errorf("%d dead letters in the Sender's queue (%v), %d elsewhere; want 1 and none", kept, err, stray)
	}
	r := ask("m1", "x")
	r.Sink = "nobody"
	_, err = b.Deliver(t.Context(), r)
	wantCode(t, err, fault.CodeSinkNotFound)
}

// A request that names nothing can be answered by no record.
func TestADeliveryNeedsItsNames(t *testing.T) {
	for _, r := range []delivery.Request{{Sink: "ops"}, {ID: "m1"}, {ID: "a.b", Sink: "ops"}, {ID: "m1", Sink: "a b"}} {
		r.Message.Body = "x"
		_, err := newBench(nil).Deliver(t.Context(), r)
		wantCode(t, err, fault.CodeInvalidArgument)
	}
}
