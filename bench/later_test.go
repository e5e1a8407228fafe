package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	send "backstop/functions/send/handler"
	"backstop/internal/app"
	"backstop/internal/localqueue"
	"backstop/internal/redistest"
)

// requestQueue is a queue in memory behind SQS' protocol, which answers after a time.
type requestQueue struct {
	url    string
	client *sqs.Client
	takes  atomic.Int64 // ns
}

func newRequestQueue(b *testing.B) *requestQueue {
	b.Helper()
	const name = "requests"
	service, err := localqueue.New(localqueue.Config{Name: name})
	ok(b, err)
	q := &requestQueue{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Duration(q.takes.Load()))
		service.ServeHTTP(w, r)
	}))
	b.Cleanup(server.Close)
	q.url = localqueue.URL(server.URL, name)
	q.client = sqs.New(sqs.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
	return q
}

// taken returns one message of the queue as it was sent.
func (q *requestQueue) taken(b *testing.B) *sqs.SendMessageInput {
	b.Helper()
	out, err := q.client.ReceiveMessage(b.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, MessageAttributeNames: []string{"All"}, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
	})
	ok(b, err)
	if len(out.Messages) != 1 {
		b.Fatalf("%d messages in the queue, want one", len(out.Messages))
	}
	m := out.Messages[0]
	return &sqs.SendMessageInput{
		QueueUrl: &q.url, MessageBody: m.Body, MessageAttributes: m.MessageAttributes, MessageGroupId: aws.String(m.Attributes["MessageGroupId"]),
	}
}

// httpRequest is an HTTP API event that posts a message of 1 KB.
func httpRequest(b *testing.B, id string, headers map[string]string) []byte {
	b.Helper()
	e := events.APIGatewayV2HTTPRequest{
		Version: "2.0", RawPath: "/v1/messages", Headers: headers,
		Body: fmt.Sprintf(`{"id":%q,"sink":"ops","message":{"subject":"a subject","body":"%s"}}`, id, strings.Repeat("x", 1024)),
	}
	e.RequestContext.HTTP.Method, e.RequestContext.Stage = http.MethodPost, "$default"
	raw, err := json.Marshal(e)
	ok(b, err)
	return raw
}

var preferAsync = map[string]string{"prefer": "respond-async"}

// BenchmarkRespondAsync compares the send function's answer to a request that is accepted for
// later with one SendMessage of the message that it puts on the queue, to the same queue. That
// answers at once, as no queue does that is another machine, and after 5 and 10 ms.
func BenchmarkRespondAsync(b *testing.B) {
	r, q := newReceiver(b, 0), newRequestQueue(b)
	sinks := b.TempDir()
	ok(b, os.WriteFile(filepath.Join(sinks, "ops.yaml"), []byte("kind: webhook\nurl: "+r.URL+"\n"), 0o600))
	for name, value := range map[string]string{
		"BACKSTOP_SINKS": "file:" + sinks, "BACKSTOP_REDIS_URL": redistest.Start(b).URL(), "BACKSTOP_QUEUE_URL": q.url,
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
	} {
		b.Setenv(name, value)
	}
	a, err := app.New(b.Context())
	ok(b, err)
	b.Cleanup(a.Close)
	a.Log, a.Out = discard, io.Discard
	h := send.New(a, nil)
	ctx, cancel := context.WithTimeout(b.Context(), 15*time.Minute)
	defer cancel()
	next := 0
	ours := func(int) error {
		next++
		out, err := h.Invoke(ctx, httpRequest(b, fmt.Sprintf("later-%d", next), preferAsync))
		if err == nil && !strings.Contains(string(out), `\"status\":\"accepted\"`) {
			err = fmt.Errorf("answered %.300s, want accepted", out)
		}
		return err
	}
	ok(b, ours(0))
	message := q.taken(b)
	bare := func(int) error {
		_, err := q.client.SendMessage(ctx, message)
		return err
	}
	for _, c := range []struct {
		takes  time.Duration
		n      int
		answer string
		budget float64
	}{
		{0, 3000, "at once", none}, {5 * time.Millisecond, 400, "after 5 ms", 1.5}, {10 * time.Millisecond, 300, "after 10 ms", 1.5},
	} {
		q.takes.Store(int64(c.takes))
		medians := interleave(b, c.n, ours, bare)
		report(b, slower("respond-async / SendMessage of the same bytes, to a queue that answers "+c.answer, "µs", medians[0], medians[1], c.budget))
	}
	if n := r.requests.Load(); n != 0 {
		b.Fatalf("%d requests arrived, want none", n)
	}
}
