package bench

import (
	"context"
	"encoding/json"
	"errors"
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

	"github.com/redis/go-redis/v9"

	send "backstop/functions/send/handler"
	"backstop/internal/app"
	"backstop/internal/localqueue"
	"backstop/internal/redisconn"
	"backstop/internal/redistest"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/flow"
	"backstop/lib/replay"
	"backstop/lib/sinks"
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
	dir := b.TempDir()
	ok(b, os.WriteFile(filepath.Join(dir, "ops.yaml"), []byte("kind: webhook\nurl: "+r.URL+"\n"), 0o600))
	for name, value := range map[string]string{
		"BACKSTOP_SINKS": "file:" + dir, "BACKSTOP_REDIS_URL": redistest.Start(b).URL(), "BACKSTOP_QUEUE_URL": q.url,
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

// taker is a delivery.RequestQueue that keeps nothing: who accepts has the request again.
type taker struct{}

func (taker) Put(context.Context, delivery.Queued) error { return nil }
func (taker) FIFO() bool                                 { return false }

// BenchmarkNotSent counts the calls that Redis gets for what is not sent any more.
func BenchmarkNotSent(b *testing.B) {
	const n = 1000
	r := newReceiver(b, 0)
	server := redistest.Start(b)
	c, count := server.Client(b), &calls{}
	c.AddHook(count)
	gate := &flow.Gate{Store: looks{flow.NewRedis(c, "backstop"), count}, Log: discard}
	registry := sinks.NewRegistry()
	registry.Register(webhookTo(b, r.URL))
	queue, records := dlq.NewRedis(c, dlq.WithMaxLen(0)), delivery.NewRedis(c, "backstop", time.Hour)
	s := &delivery.Sender{
		Targets: delivery.Registered(registry), Queue: queue, Records: records, Requests: taker{}, Gate: gate, Paused: gate.Paused, Log: discard,
	}
	canceler := &delivery.Canceler{Records: records, Letters: queue, Log: discard}
	ctx, cancel := context.WithTimeout(b.Context(), 15*time.Minute)
	defer cancel()
	request := func(kind string, i int) delivery.Request {
		return delivery.Request{Sink: "ops", ID: fmt.Sprintf("%s-%d", kind, i), Message: sinks.Message{Body: strings.Repeat("x", 1024)}}
	}
	arrived := func(r delivery.Request, expires time.Duration) delivery.Request {
		r.Queued, r.KeepUnsendable, r.AcceptedAt, r.Async = true, true, time.Now().Add(-time.Minute), false
		if expires != 0 {
			r.ExpiresAt = time.Now().Add(expires)
		}
		return r
	}
	deliver := func(r delivery.Request, want delivery.Status, reason dlq.Reason) error {
		a, err := s.Deliver(ctx, r)
		if err == nil && (a.Status != want || a.Reason != reason || a.Attempts != 0 && want != delivery.StatusDelivered) {
			err = fmt.Errorf("%s: %+v, want %s %s without an attempt", r.ID, a, want, reason)
		}
		return err
	}
	accept := func(r delivery.Request) {
		r.Async = true
		ok(b, deliver(r, delivery.StatusAccepted, ""))
	}
	// each returns the calls of f alone, per each of n, which prepare comes before.
	each := func(prepare func(i int), f func(i int) error) float64 {
		prepare(-1)
		ok(b, f(-1)) // loads the scripts
		total := int64(0)
		for i := range n {
			prepare(i)
			before := count.n.Load()
			ok(b, f(i))
			total += count.n.Load() - before
		}
		return float64(total) / n
	}
	canceled := func(kind string) func(int) {
		return func(i int) {
			accept(request(kind, i))
			_, err := canceler.Cancel(ctx, delivery.Key{Sink: "ops", ID: request(kind, i).ID})
			ok(b, err)
		}
	}
	nothing := func(int) {}

	sent := each(func(i int) { accept(request("sent", i)) }, func(i int) error {
		return deliver(arrived(request("sent", i), 0), delivery.StatusDelivered, "")
	})
	attempts := r.requests.Load()
	arrival := each(canceled("canceled"), func(i int) error {
		return deliver(arrived(request("canceled", i), 0), delivery.StatusCanceled, "")
	})
	duplicate := each(canceled("again"), func(i int) error { return deliver(request("again", i), delivery.StatusCanceled, "") })
	forgotten := each(func(i int) {
		canceled("forgotten")(i)
		keys, _ := redisconn.New(c, "backstop", "").Keys.Record("ops", request("forgotten", i).ID, delivery.DefaultTTL, "")
		ok(b, c.Del(ctx, keys[0]).Err()) // what is canceled has a key of its own
	}, func(i int) error {
		return deliver(arrived(request("forgotten", i), 0), delivery.StatusCanceled, "")
	})
	refused := each(nothing, func(i int) error {
		late := request("refused", i)
		late.ExpiresAt = time.Now().Add(-time.Second)
		if _, err := s.Deliver(ctx, late); fault.CodeOf(err) != fault.CodeInvalidArgument {
			return fmt.Errorf("%s: %w, want a refusal", late.ID, err)
		}
		return nil
	})
	expired := each(func(i int) { accept(request("expired", i)) }, func(i int) error {
		return deliver(arrived(request("expired", i), -time.Second), delivery.StatusDeadLettered, dlq.ReasonExpired)
	})

	report(b, bound("Redis calls of a canceled message that arrives (baseline: of one that is sent)", "calls", arrival, sent, 2))
	report(b, bound("Redis calls of a duplicate of a canceled message", "calls", duplicate, sent, 2))
	report(b, bound("Redis calls of a canceled message whose record is gone", "calls", forgotten, sent, none))
	report(b, bound("Redis calls of a request that comes too late and is refused", "calls", refused, sent, 2))
	report(b, bound("Redis calls of a message that arrives too late and is dead-lettered", "calls", expired, sent, none))

	marks := marking(b, c, count, r, n)
	report(b, bound("Redis calls of marking a dead letter whose time is over", "calls", marks, none, 2))
	report(b, bound("attempts of all these", "attempts", float64(r.requests.Load()-attempts), none, 0))
}

// marking returns the calls, per dead letter, of a tick that finds n whose time is over.
func marking(b *testing.B, c redis.UniversalClient, count *calls, r *receiver, n int) float64 {
	b.Helper()
	ctx := b.Context()
	queue := dlq.NewRedis(c, dlq.WithMaxLen(0))
	engine := &replay.Engine{
		Store: queue, Targets: to{delivery.Target{Sink: webhookTo(b, r.URL)}}, Records: delivery.NewRedis(c, "", 0), Log: discard,
	}
	items := make([]dlq.Item, n)
	soon := time.Now().Add(2 * time.Second)
	for i := range items {
		items[i] = letter("ops", i)
		items[i].ExpiresAt = soon
	}
	_, errs := queue.AddBatch(ctx, items)
	ok(b, errors.Join(errs...))
	record(b, c, 0, n)
	time.Sleep(time.Until(soon))
	before := count.n.Load()
	summary, err := engine.Run(ctx, replay.Request{})
	ok(b, err)
	if summary.Expired != int64(n) {
		b.Fatalf("%+v, want %d marked", summary, n)
	}
	return float64(count.n.Load()-before) / float64(n)
}
