package handler

import (
	"context"
	"io"
	"log/slog"
	"testing"

	"backstop/internal/app"
	"backstop/internal/observe"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// fakeSink takes everything, and counts.
type fakeSink struct{ sent int }

func (*fakeSink) Name() string { return "ops" }
func (s *fakeSink) Send(context.Context, sinks.Recipient, sinks.Message) error {
	s.sent++
	return nil
}

// bench is the function on memory, with one sink.
type bench struct {
	*handler
	sink   *fakeSink
	queue  dlq.Store
	target delivery.Target
}

func newBench() *bench {
	b := &bench{sink: &fakeSink{}, queue: dlq.NewMemory()}
	b.target = delivery.Target{Sink: b.sink, Retry: retry.Config{MaxAttempts: 2}}
	a := &app.App{Env: app.Env{Concurrency: 10, QueueReceives: 5}, Log: slog.New(slog.DiscardHandler), Metrics: observe.NewMetrics("test", observe.SinkMetrics{}), Out: io.Discard}
	a.Sender = &delivery.Sender{Targets: b, Queue: b.queue, Records: delivery.NewMemory(0), Log: a.Log, MaxBytes: 1000}
	b.handler = &handler{app: a}
	return b
}

// Target implements delivery.Targets.
func (b *bench) Target(_ context.Context, name string) (delivery.Target, error) {
	if name != "ops" {
		return delivery.Target{}, &fault.Error{Code: fault.CodeSinkNotFound, Msg: name}
	}
	return b.target, nil
}

// Names implements delivery.Targets.
func (b *bench) Names(context.Context) ([]string, error) { return []string{"ops"}, nil }

// noRecords remembers nothing: every delivery is the first of its id.
type noRecords struct{ delivery.Store }

func (noRecords) Begin(context.Context, delivery.Begin) (delivery.State, delivery.Record, error) {
	return delivery.StateStarted, delivery.Record{}, nil
}

func (noRecords) Finish(context.Context, delivery.Key, string, delivery.Record) (delivery.Record, bool, error) {
	return delivery.Record{}, true, nil
}

var errGone = sinks.Terminal(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 404"})

func wantCode(t *testing.T, err error, want fault.Code) {
	t.Helper()
	if fault.CodeOf(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
