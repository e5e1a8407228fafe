// Package incident makes the incident of the story tests: 1,000 deliveries that fail for
// three causes over two sinks, sent through the real send function. It is for tests.
package incident

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"

	"backstop/internal/inbox"
	"backstop/internal/local"
)

// Cause is why a part of the deliveries failed.
type Cause struct {
	Name   string // begins each delivery id: Name-0001, Name-0002, ...
	Sink   string
	Reason string
	// Error is in the fingerprint.
	Error string
	Count int
	// status is what the receiver answers; 0: there is none.
	status int
}

// The causes, largest first. Only the error tells the first from the third.
var (
	Down    = Cause{Name: "down", Sink: "orders", Reason: "exhausted", Error: "HTTP 503", Count: 520, status: http.StatusServiceUnavailable}
	Refused = Cause{Name: "refused", Sink: "alerts", Reason: "exhausted", Error: "connection refused", Count: 300}
	Busy    = Cause{Name: "busy", Sink: "orders", Reason: "exhausted", Error: "HTTP 429", Count: 180, status: http.StatusTooManyRequests}

	Causes = []Cause{Down, Refused, Busy}
)

// Total is the number of all failures.
const Total = 1000

// path is where the receiver of the sink orders listens.
const path = "/orders"

// Incident is the world around a Backstop in trouble: two sinks, of which one leads to
// a receiver that misbehaves and the other to a port where nobody listens.
type Incident struct {
	// Sinks is for BACKSTOP_SINKS.
	Sinks    string
	receiver *inbox.Inbox
}

// Start starts the receiver, which stops with tb, and writes the sinks' configuration. rate is how
// many messages a second a replay sends to the sink orders, so that it lasts; 0: no limit.
func Start(tb testing.TB, rate int) *Incident {
	tb.Helper()
	in, err := inbox.Start(tb.Context(), inbox.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := in.Close(); err != nil {
			tb.Errorf("close: %v", err)
		}
	})
	dir := tb.TempDir()
	for name, text := range map[string]string{
		"orders": fmt.Sprintf("kind: webhook\nurl: %s%s\nretry: {max_attempts: 1}\nreplay: {rate: %d}\nbreaker: off\n", in.URL, path, rate),
		// Port 1 is nobody's.
		"alerts": "kind: webhook\nurl: http://127.0.0.1:1/alerts\nretry: {max_attempts: 1}\nbreaker: off\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return &Incident{Sinks: "file:" + dir, receiver: in}
}

// Strike sends the messages, as batches of a queue, through the function behind an Invoke
// API. Every one of them fails and is dead-lettered.
func (i *Incident) Strike(ctx context.Context, invokeURL string) error {
	for _, c := range Causes {
		if c.status > 0 {
			i.receiver.HTTP.Set(path, inbox.Always(inbox.Reply{Status: c.status}))
		}
		if err := c.strike(ctx, invokeURL); err != nil {
			return err
		}
	}
	return nil
}

// Heal lets the receiver of the sink orders accept everything.
func (i *Incident) Heal() { i.receiver.HTTP.Heal(path) }

// Arrived is how often each delivery was accepted.
func (i *Incident) Arrived() map[string]int { return i.receiver.HTTP.CountByID(inbox.Arrival.Accepted) }

// Attempted is how often each delivery reached the receiver, accepted or not.
func (i *Incident) Attempted() map[string]int { return i.receiver.HTTP.CountByID(nil) }

// batch is what SQS hands over at once.
const batch = 10

func (c Cause) strike(ctx context.Context, invokeURL string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for from := 1; from <= c.Count; from += batch {
		g.Go(func() error { return c.invoke(ctx, invokeURL, from) })
	}
	return g.Wait()
}

// invoke sends one batch; each message must be safe afterwards.
func (c Cause) invoke(ctx context.Context, invokeURL string, from int) error {
	var event struct{ Records []record }
	for n := from; n < min(from+batch, c.Count+1); n++ {
		id := fmt.Sprintf("%s-%04d", c.Name, n)
		event.Records = append(event.Records, record{
			ID: id, Source: "aws:sqs", Queue: "arn:aws:sqs:eu-central-1:123456789012:backstop",
			Body: fmt.Sprintf(`{"id":%q,"sink":%q,"message":{"subject":"Order %d was paid","body":"{\"order\":%d}"}}`, id, c.Sink, 4000+n, 4000+n),
		})
	}
	payload, err := json.Marshal(event)
	if err != nil {
		return err
	}
	url := invokeURL + "/2015-03-31/functions/" + local.Queue + "/invocations"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(payload))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var answer struct {
		Failures []any `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(b, &answer); err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("X-Amz-Function-Error") != "" || len(answer.Failures) > 0 {
		return fmt.Errorf("%s: the batch was handed back: %s %.500s", c.Name, resp.Status, b)
	}
	return nil
}

// record is a message as SQS hands it over.
type record struct {
	ID     string `json:"messageId"`
	Body   string `json:"body"`
	Source string `json:"eventSource"`
	Queue  string `json:"eventSourceARN"`
}
