package dlq_test

import (
	"fmt"
	"strings"
	"testing"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/sinks"
)

// BenchmarkPage reads a page of 50 dead letters of 1 KB.
func BenchmarkPage(b *testing.B) {
	queue := dlq.NewRedis(redistest.Start(b).Client(b), dlq.WithMaxLen(0))
	for i := range 200 {
		if err := queue.Push(b.Context(), dlq.Item{
			Sink: "orders", DeliveryID: fmt.Sprint("d-", i), Reason: dlq.ReasonExhausted, Attempts: 5,
			LastError: "SINK_UNAVAILABLE: POST https://receiver.example.org: HTTP 503",
			Message:   sinks.Message{ID: fmt.Sprint("d-", i), Subject: "a subject", Body: strings.Repeat("x", 1024)},
		}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if p, err := queue.Page(b.Context(), dlq.Query{Sink: "orders", Limit: 50}); err != nil || len(p.Items) != 50 {
			b.Fatal(len(p.Items), err)
		}
	}
}
