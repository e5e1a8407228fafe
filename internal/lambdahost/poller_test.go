package lambdahost_test

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"backstop/internal/lambdahost"
)

func sqsClient(endpoint string) *sqs.Client {
	return sqs.New(sqs.Options{
		BaseEndpoint: &endpoint, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), RetryMaxAttempts: 1,
	})
}

// queue is an SQS queue in memory, behind SQS' JSON protocol. Received messages stay
// invisible for good.
type queue struct {
	*httptest.Server
	mu       sync.Mutex
	bodies   []string        // id "m<i>"
	received map[string]bool // by id
	deleted  []string
	calls    []int // MaxNumberOfMessages of each ReceiveMessage
	broken   int   // ReceiveMessage calls to refuse
}

func newQueue(t *testing.T, bodies ...string) *queue {
	t.Helper()
	q := &queue{bodies: bodies, received: map[string]bool{}}
	q.Server = httptest.NewServer(q)
	t.Cleanup(q.Close)
	return q
}

func (q *queue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var in struct {
		MaxNumberOfMessages int
		Entries             []struct{ ReceiptHandle string }
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	switch strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "AmazonSQS.") {
	case "ReceiveMessage":
		if q.broken > 0 {
			q.broken--
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		q.calls = append(q.calls, in.MaxNumberOfMessages)
		type value struct{ DataType, StringValue string }
		var out struct{ Messages []map[string]any }
		for i, body := range q.bodies {
			id := "m" + strconv.Itoa(i)
			if q.received[id] || len(out.Messages) == in.MaxNumberOfMessages {
				continue
			}
			q.received[id] = true
			sum := md5.Sum([]byte(body))
			out.Messages = append(out.Messages, map[string]any{
				"MessageId": id, "ReceiptHandle": "r-" + id, "Body": body, "MD5OfBody": hex.EncodeToString(sum[:]),
				"Attributes":        map[string]string{"ApproximateReceiveCount": "1", "MessageGroupId": "g1"},
				"MessageAttributes": map[string]value{"trace": {"String", "t1"}},
			})
		}
		_ = json.NewEncoder(w).Encode(out)
	case "DeleteMessageBatch":
		var out struct{ Successful, Failed []map[string]any }
		for i, e := range in.Entries {
			q.deleted = append(q.deleted, strings.TrimPrefix(e.ReceiptHandle, "r-"))
			out.Successful = append(out.Successful, map[string]any{"Id": strconv.Itoa(i)})
		}
		_ = json.NewEncoder(w).Encode(out)
	}
}

// deletedIDs returns the ids of the deleted messages, sorted.
func (q *queue) deletedIDs() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	ids := slices.Clone(q.deleted)
	slices.Sort(ids)
	return ids
}

// poll runs the poller until its function was invoked n times, then stops it and waits
// until it has finished its batches.
func poll(t *testing.T, q *queue, n int32, p lambdahost.Poller) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var calls atomic.Int32
	inner := p.Invoker
	p.Invoker = invoker(func(ctx context.Context, in lambdahost.Invocation) (lambdahost.Result, error) {
		if calls.Add(1) == n {
			defer cancel()
		}
		return inner.Invoke(ctx, in)
	})
	p.Client, p.Function, p.Wait = sqsClient(q.URL), "send", time.Second
	if p.QueueURL == "" {
		p.QueueURL = q.URL + "/123456789012/messages"
	}
	if err := p.Run(ctx); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if got := calls.Load(); got != n {
		t.Fatalf("%d invocations in 10 s, want %d", got, n)
	}
}

func TestThePollerDeletesExactlyWhatSucceeded(t *testing.T) {
	t.Parallel()
	all := []string{"m0", "m1", "m2"}
	tests := []struct {
		name    string
		answer  invoker
		deleted []string
	}{
		{"null", answers(`null`), all},
		{"an empty object", answers(`{}`), all},
		{"a null list", answers(`{"batchItemFailures":null}`), all},
		{"an empty list", answers(`{"batchItemFailures":[]}`), all},
		{"one failure", answers(`{"batchItemFailures":[{"itemIdentifier":"m1"}]}`), []string{"m0", "m2"}},
		{"the same failure twice", answers(`{"batchItemFailures":[{"itemIdentifier":"m1"},{"itemIdentifier":"m1"}]}`), []string{"m0", "m2"}},
		{"all failed", answers(`{"batchItemFailures":[{"itemIdentifier":"m0"},{"itemIdentifier":"m1"},{"itemIdentifier":"m2"}]}`), nil},
		{"an unknown identifier", answers(`{"batchItemFailures":[{"itemIdentifier":"m9"}]}`), nil},
		{"an empty identifier", answers(`{"batchItemFailures":[{"itemIdentifier":""}]}`), nil},
		{"a null identifier", answers(`{"batchItemFailures":[{"itemIdentifier":null}]}`), nil},
		{"a misspelt key", answers(`{"batchItemFailures":[{"ItemIdentifier":"m1"}]}`), nil},
		{"no object", answers(`"ok"`), nil},
		{"no JSON", answers(``), nil},
		{"a function error", func(context.Context, lambdahost.Invocation) (lambdahost.Result, error) {
			return lambdahost.Result{FunctionError: "Unhandled", ErrorType: "Sandbox.Timedout", Payload: []byte(`{}`)}, nil
		}, nil},
		{"a refusal", func(context.Context, lambdahost.Invocation) (lambdahost.Result, error) {
			return lambdahost.Result{}, &lambdahost.APIError{Type: "TooManyRequestsException"}
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newQueue(t, "a", "b", "c")
			poll(t, q, 1, lambdahost.Poller{Invoker: tt.answer, MaxConcurrency: 1})
			if got := q.deletedIDs(); !slices.Equal(got, tt.deleted) {
				t.Errorf("deleted %v, want %v", got, tt.deleted)
			}
		})
	}
}

func TestThePollerSendsSQSEvents(t *testing.T) {
	t.Parallel()
	q := newQueue(t, `{"sink":"ops"}`)
	var in lambdahost.Invocation
	poll(t, q, 1, lambdahost.Poller{MaxConcurrency: 1, Region: "eu-west-1", Invoker: invoker(func(_ context.Context, got lambdahost.Invocation) (lambdahost.Result, error) {
		in = got
		return lambdahost.Result{Payload: []byte(`{}`)}, nil
	})})
	e := decode[events.SQSEvent](t, in.Payload)
	if in.Function != "send" || len(e.Records) != 1 {
		t.Fatalf("%s got %s", in.Function, in.Payload)
	}
	r := e.Records[0]
	if r.MessageId != "m0" || r.ReceiptHandle != "r-m0" || r.Body != `{"sink":"ops"}` || r.EventSource != "aws:sqs" ||
		r.EventSourceARN != "arn:aws:sqs:eu-west-1:123456789012:messages" || r.AWSRegion != "eu-west-1" ||
		r.Md5OfBody == "" || r.Attributes["ApproximateReceiveCount"] != "1" || r.Attributes["MessageGroupId"] != "g1" {
		t.Errorf("record %+v", r)
	}
	if a := r.MessageAttributes["trace"]; a.DataType != "String" || aws.ToString(a.StringValue) != "t1" {
		t.Errorf("message attribute %+v", a)
	}
}

func TestBatchesHaveASizeAndAWindow(t *testing.T) {
	t.Parallel()
	bodies := slices.Repeat([]string{"x"}, 25)
	tests := []struct {
		name string
		p    lambdahost.Poller
		want []int // records in each event
	}{
		{"a full batch does not wait", lambdahost.Poller{BatchSize: 5, Window: time.Hour}, []int{5, 5, 5, 5, 5}},
		{"what is there, without a window", lambdahost.Poller{}, []int{10, 10, 5}},
		{"a batch over ten messages takes several calls", lambdahost.Poller{BatchSize: 25, Window: time.Hour}, []int{25}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			q := newQueue(t, bodies...)
			var got []int
			tt.p.MaxConcurrency = 1
			tt.p.Invoker = invoker(func(_ context.Context, in lambdahost.Invocation) (lambdahost.Result, error) {
				got = append(got, len(decode[events.SQSEvent](t, in.Payload).Records))
				return lambdahost.Result{Payload: []byte(`{}`)}, nil
			})
			poll(t, q, int32(len(tt.want)), tt.p)
			if !slices.Equal(got, tt.want) {
				t.Errorf("batches of %v, want %v", got, tt.want)
			}
			if n := len(q.deletedIDs()); n != len(bodies) {
				t.Errorf("%d messages deleted, want %d", n, len(bodies))
			}
		})
	}
}

func TestABatchOverSixMegabytesIsSplit(t *testing.T) {
	t.Parallel()
	q := newQueue(t, slices.Repeat([]string{strings.Repeat("x", 1<<20)}, 7)...)
	var got []int
	poll(t, q, 2, lambdahost.Poller{MaxConcurrency: 1, Invoker: invoker(func(_ context.Context, in lambdahost.Invocation) (lambdahost.Result, error) {
		if len(in.Payload) > lambdahost.MaxSyncPayload {
			t.Errorf("an event of %d bytes", len(in.Payload))
		}
		got = append(got, len(decode[events.SQSEvent](t, in.Payload).Records))
		return lambdahost.Result{Payload: []byte(`{}`)}, nil
	})})
	if !slices.Equal(got, []int{5, 2}) || len(q.deletedIDs()) != 7 {
		t.Errorf("batches of %v, deleted %v, want 5 and 2, all deleted", got, q.deletedIDs())
	}
}

func TestAFIFOBatchStopsAtItsFirstFailedPart(t *testing.T) {
	t.Parallel()
	q := newQueue(t, slices.Repeat([]string{strings.Repeat("x", 1<<20)}, 7)...)
	poll(t, q, 1, lambdahost.Poller{
		MaxConcurrency: 1, QueueURL: q.URL + "/123456789012/messages.fifo", Invoker: answers(`{"batchItemFailures":[{"itemIdentifier":"m4"}]}`),
	})
	if got := q.deletedIDs(); !slices.Equal(got, []string{"m0", "m1", "m2", "m3"}) {
		t.Errorf("deleted %v, want what precedes the failure in its part", got)
	}
}

func TestThePollerBoundsItsInvocations(t *testing.T) {
	t.Parallel()
	q := newQueue(t, slices.Repeat([]string{"x"}, 12)...)
	var now, most atomic.Int32
	both := make(chan struct{})
	poll(t, q, 12, lambdahost.Poller{BatchSize: 1, MaxConcurrency: 2, Invoker: invoker(func(context.Context, lambdahost.Invocation) (lambdahost.Result, error) {
		if n := now.Add(1); n > most.Load() {
			if most.Store(n); n == 2 {
				close(both)
			}
		}
		<-both // the first one waits for the second
		defer now.Add(-1)
		return lambdahost.Result{Payload: []byte(`{}`)}, nil
	})})
	if got := most.Load(); got != 2 {
		t.Errorf("%d invocations at a time, want 2", got)
	}
}

func TestThePollerOutlivesAnUnreachableQueue(t *testing.T) {
	t.Parallel()
	q := newQueue(t, "a")
	q.broken = 1
	poll(t, q, 1, lambdahost.Poller{MaxConcurrency: 1, Invoker: answers(`{}`)})
	if got := q.deletedIDs(); !slices.Equal(got, []string{"m0"}) {
		t.Errorf("deleted %v, want the message", got)
	}
}

func TestThePollerRefusesABadConfiguration(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]lambdahost.Poller{
		"batch size 11":                     {QueueURL: "http://h/1/q", BatchSize: 11},
		"batch size 10001":                  {QueueURL: "http://h/1/q", BatchSize: 10001, Window: time.Second},
		"maximum concurrency -1":            {QueueURL: "http://h/1/q", MaxConcurrency: -1},
		"wait 10ms":                         {QueueURL: "http://h/1/q", Wait: 10 * time.Millisecond},
		`queue URL "q" is not a URL`:        {QueueURL: "q"},
		`does not end in /account/name`:     {QueueURL: "http://h/q"},
		"wait 1m0s is not between 1s and 2": {QueueURL: "q", Wait: time.Minute},
	} {
		if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
