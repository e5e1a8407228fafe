package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"

	"backstop/internal/redistest"
	"backstop/lib/dlq"
	"backstop/lib/retry"
	"backstop/lib/sinks"
	"backstop/lib/sinks/webhook"
)

func webhookTo(b *testing.B, url string) *webhook.Sink {
	b.Helper()
	sink, err := webhook.New("ops", webhook.Config{URL: sinks.Secret(url)}, nil)
	ok(b, err)
	return sink
}

// again posts what a receiver got last.
func again(ctx context.Context, b *testing.B, r *receiver, concurrency int) func(int) error {
	b.Helper()
	post, body := poster(ctx, b, r, concurrency), *r.body.Load()
	return func(int) error { return post(body) }
}

// poster posts bodies with the headers that a receiver got last, with as little as
// net/http allows.
func poster(ctx context.Context, b *testing.B, r *receiver, concurrency int) func(body []byte) error {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency}}
	header := r.last.Load().Header.Clone()
	return func(body []byte) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header = header
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("HTTP %d", resp.StatusCode)
		}
		return nil
	}
}

// BenchmarkDelivery compares a delivery through Retrier and sink with the same request
// by a bare client, and by one in a retry library.
func BenchmarkDelivery(b *testing.B) {
	r := newReceiver(b, 0)
	retrier := retry.NewRetrier(webhookTo(b, r.URL), retry.Config{}, dlq.NewMemory())
	message := sinks.Message{ID: "delivery-1", Subject: "a subject", Body: strings.Repeat("x", 1024)}
	// Both sides share what a function hands down: a context with the invocation's end.
	ctx, cancel := context.WithTimeout(b.Context(), 15*time.Minute)
	defer cancel()
	ours := func(int) error { return retrier.Deliver(ctx, nil, message).Error() }
	ok(b, ours(0))
	bare := again(ctx, b, r, 1)
	retried := func(i int) error {
		_, err := backoff.Retry(ctx, func() (struct{}, error) { return struct{}{}, bare(i) },
			backoff.WithBackOff(backoff.NewExponentialBackOff()), backoff.WithMaxTries(5))
		return err
	}
	hand := byHand(ctx, r, message)
	medians := interleave(b, 6000, ours, bare, retried, hand)
	report(b, slower("webhook delivery / bare HTTP client with a ready request", "µs", medians[0], medians[1], 1.10))
	report(b, slower("webhook delivery / the same work written by hand on net/http", "µs", medians[0], medians[3], 1.10))
	report(b, slower("webhook delivery / cenkalti/backoff around the bare client", "µs", medians[0], medians[2], none))
	a, z := allocations(b, 2000, ours), allocations(b, 2000, bare)
	report(b, row{"allocations of a delivery above the bare client's", "allocs", a, z, a - z, 30, true})
}

// encode makes of a message what the webhook sink posts.
func encode(m sinks.Message) ([]byte, error) {
	return json.Marshal(struct {
		Subject  string            `json:"subject"`
		Body     string            `json:"body"`
		Metadata map[string]string `json:"metadata"`
	}{m.Subject, m.Body, map[string]string{}})
}

// byHand delivers a message as one would without Backstop: it is encoded, the request has
// a time-out and says whether it was written, and the answer is looked at within bounds.
func byHand(ctx context.Context, r *receiver, m sinks.Message) func(int) error {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	return func(int) error {
		body, err := encode(m)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var written atomic.Bool
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			WroteRequest: func(i httptrace.WroteRequestInfo) { written.Store(i.Err == nil) },
		})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Webhook-Id", m.ID)
		req.Header.Set("Webhook-Timestamp", strconv.FormatInt(time.Now().Unix(), 10))
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Errorf("written %t: %w", written.Load(), err)
		}
		defer resp.Body.Close()
		slow := time.AfterFunc(2*time.Second, cancel)
		defer slow.Stop()
		if _, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10)); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("HTTP %d", resp.StatusCode)
		}
		return nil
	}
}

// event is an SQS event of n requests with new ids.
func event(round, n int) []byte {
	type record struct {
		MessageID   string `json:"messageId"`
		EventSource string `json:"eventSource"`
		Body        string `json:"body"`
	}
	var e struct{ Records []record }
	for i := range n {
		id := fmt.Sprintf("batch-%d-%d", round, i)
		e.Records = append(e.Records, record{id, "aws:sqs", fmt.Sprintf(`{"id":%q,"sink":"ops","message":{"subject":"a subject","body":"%s"}}`, id, strings.Repeat("x", 1024))})
	}
	raw, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return raw
}

// BenchmarkQueue sends batches through the real send function.
func BenchmarkQueue(b *testing.B) {
	const takes = 100 * time.Millisecond
	r := newReceiver(b, takes)
	f := startFunction(b, "send", r.URL, redistest.Start(b).URL(), "BACKSTOP_CONCURRENCY=100")
	for _, size := range []struct {
		records, at int
		budget      float64
	}{{10, 10, 1.15}, {1000, 100, 1.25}} {
		var took []float64
		for round := range 9 {
			res := f.invoke(b, event(size.records+round, size.records))
			if want := `{"batchItemFailures":[]}`; string(res.Payload) != want {
				b.Fatalf("answered %.200s, want %s", res.Payload, want)
			}
			if round > 0 { // connections are there
				took = append(took, float64(res.Duration.Microseconds())/1000)
			}
		}
		ideal := float64(takes.Milliseconds()) * float64(size.records) / float64(size.at)
		report(b, slower(fmt.Sprintf("SQS batch of %d, %d at once, to a sink that takes 100 ms / the ideal", size.records, size.at), "ms", median(took), ideal, size.budget))
	}
}

// BenchmarkLogs reads what the real send function writes of batches that go well.
func BenchmarkLogs(b *testing.B) {
	r := newReceiver(b, 0)
	server := redistest.Start(b)
	round := 0
	for _, size := range []int{10, 100} {
		for _, choice := range []string{"all", "1/100"} {
			written := 0
			out := func(_, line string) { written += len(line) + len("\n") }
			f := startFunctions(b, "send", r.URL, server.URL(), setup{output: out}, "BACKSTOP_LOG_SUCCESSES="+choice)
			f.invoke(b, event(round, 1)) // starts it
			written = 0
			const deliveries = 2000
			for range deliveries / size {
				round++
				f.invoke(b, event(round, size))
			}
			report(b, bound(fmt.Sprintf("log lines of a delivery, SQS batch of %d, LogSuccesses=%s", size, choice), "bytes", float64(written)/deliveries, none, none))
		}
	}
}
