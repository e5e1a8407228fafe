package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awscredentials "github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"backstop/internal/localqueue"
	"backstop/internal/queuemessage"
	"backstop/lib/delivery"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

func awsTest() (aws.Config, error) {
	return aws.Config{Region: "us-east-1", Credentials: awscredentials.NewStaticCredentialsProvider("a", "b", "")}, nil
}

// queueAt is the request queue of that name at an endpoint.
func queueAt(t *testing.T, endpoint, name string) *RequestQueue {
	t.Helper()
	u, err := url.Parse(localqueue.URL(endpoint, name))
	if err != nil {
		t.Fatal(err)
	}
	return newRequestQueue(u, awsTest)
}

// localQueues is an endpoint with a standard queue, "plain", and "ordered.fifo".
func localQueues(t *testing.T) string {
	t.Helper()
	s, err := localqueue.New(localqueue.Config{Name: "plain"}, localqueue.Config{Name: "ordered.fifo"})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	return srv.URL
}

// taken receives what a queue has.
func taken(t *testing.T, q *RequestQueue) []types.Message {
	t.Helper()
	c, err := q.client()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: &q.url, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Messages
}

var accepted = time.Date(2030, 1, 31, 20, 0, 0, 123456789, time.FixedZone("", 7200))

func request() delivery.Queued {
	return delivery.Queued{
		Request: delivery.Request{
			ID: "order-1", Sink: "mail", Recipient: json.RawMessage(`{"address":"ann@example.com","n":9007199254740993}`),
			Message:    sinks.Message{Subject: "<b>", Body: "a & b\u2028\uFFFF", Metadata: map[string]string{"k": "v"}},
			AcceptedAt: accepted,
		},
		Fingerprint: "f",
	}
}

func TestAQueuedRequestIsTheBareRequestWithItsTimes(t *testing.T) {
	q := queueAt(t, localQueues(t), "plain")
	r := request()
	r.ExpiresAt, r.Trace = accepted.Add(time.Hour), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	r.SendAfter = time.Minute // said by NotBefore
	if err := q.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	m := taken(t, q)[0]
	const want = `{"id":"order-1","sink":"mail","recipient":{"address":"ann@example.com","n":9007199254740993},` +
		`"message":{"subject":"<b>","body":"a & b\u2028\uffff","metadata":{"k":"v"}},"expires_at":"2030-01-31T19:00:00.123456789Z"}`
	if *m.Body != want {
		t.Errorf("body\n%s, want\n%s", *m.Body, want)
	}
	got := map[string]string{}
	for name, a := range m.MessageAttributes {
		got[name] = aws.ToString(a.DataType) + " " + aws.ToString(a.StringValue)
	}
	if fmt.Sprint(got) != "map[backstop-accepted-at:String 2030-01-31T18:00:00.123456789Z traceparent:String 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01]" {
		t.Errorf("attributes %v", got)
	}
	if m.Attributes["MessageGroupId"] != "mail" || m.Attributes["AWSTraceHeader"] != "" {
		t.Errorf("system attributes %v, want the sink as the group", m.Attributes)
	}
}

func TestTheTraceGoesWhereItsKindBelongs(t *testing.T) {
	const w3c, xray = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
	for trace, want := range map[string][2]string{
		"": {}, w3c: {w3c, ""}, xray: {"", xray}, "Self=1-2-3;" + xray: {"", "Self=1-2-3;" + xray},
		"nonsense": {}, "Root=\x00": {}, w3c + "\x00": {},
	} {
		r := request()
		r.Trace = trace
		in, err := queueAt(t, "http://127.0.0.1:1", "plain").message(r, accepted)
		if err != nil {
			t.Fatal(err)
		}
		got := [2]string{aws.ToString(in.MessageAttributes["traceparent"].StringValue), aws.ToString(in.MessageSystemAttributes["AWSTraceHeader"].StringValue)}
		if got != want {
			t.Errorf("%q: got %q, want %q", trace, got, want)
		}
	}
}

func TestDelayGroupAndDeduplication(t *testing.T) {
	plain, fifo := queueAt(t, "http://127.0.0.1:1", "plain"), queueAt(t, "http://127.0.0.1:1", "ordered.fifo")
	if plain.FIFO() || !fifo.FIFO() {
		t.Fatal("FIFO is told by the queue's name")
	}
	for _, c := range []struct {
		wait time.Duration
		want int32
	}{{0, 0}, {-time.Second, 0}, {time.Nanosecond, 1}, {time.Second, 1}, {30*time.Second + 1, 31}, {15 * time.Minute, 900}, {time.Hour, 900}} {
		r := request()
		r.NotBefore, r.Group = accepted.Add(c.wait), "g"
		in, err := plain.message(r, accepted)
		if err != nil || in.DelaySeconds != c.want || *in.MessageGroupId != "g" || in.MessageDeduplicationId != nil {
			t.Errorf("%v: DelaySeconds %d, want %d; group %q; %v", c.wait, in.DelaySeconds, c.want, *in.MessageGroupId, err)
		}
		if v, want := *in.MessageAttributes["backstop-not-before"].StringValue, r.NotBefore.UTC().Format(time.RFC3339Nano); v != want {
			t.Errorf("not before %s, want %s", v, want)
		}
		if in, err := fifo.message(r, accepted); err != nil || in.DelaySeconds != 0 {
			t.Errorf("a FIFO queue is asked for a delay of %d", in.DelaySeconds)
		}
	}
	dedup := func(sink, id, fingerprint string) string {
		t.Helper()
		r := request()
		r.Sink, r.ID, r.Fingerprint = sink, id, fingerprint
		in, err := fifo.message(r, accepted)
		if err != nil || len(*in.MessageDeduplicationId) > 128 {
			t.Fatal(err, *in.MessageDeduplicationId)
		}
		return *in.MessageDeduplicationId
	}
	first := dedup("a", "b", "c")
	ids := []string{first, dedup("ab", "", "c"), dedup("a", "bc", ""), dedup("a", "b", "d"), dedup("x", "b", "c")}
	if slices.Sort(ids); len(slices.Compact(slices.Clone(ids))) != len(ids) || dedup("a", "b", "c") != first {
		t.Errorf("deduplication ids %v: want one for each request, the same each time", ids)
	}
}

// What is counted here is what the queue counts, to the byte.
func TestTheSizeIsKnownBeforeTheCall(t *testing.T) {
	q := queueAt(t, localQueues(t), "plain")
	r := request()
	in, err := q.message(r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	room := queuemessage.MaxBytes - queuemessage.Size(*in.MessageBody, in.MessageAttributes)
	r.Message.Body += strings.Repeat("x", room)
	if err := q.Put(t.Context(), r); err != nil {
		t.Fatalf("a message of the largest size: %v", err)
	}
	r.Message.Body += "x"
	unsent := queueAt(t, "http://127.0.0.1:1", "plain") // nobody is there to refuse it
	if err := unsent.Put(t.Context(), r); fault.CodeOf(err) != fault.CodeBodyTooLarge {
		t.Errorf("one byte more: %v, want BODY_TOO_LARGE", err)
	}
	c, err := q.client()
	if err != nil {
		t.Fatal(err)
	}
	in, err = q.message(r, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.SendMessage(t.Context(), in); err == nil {
		t.Error("the queue takes what is too large here")
	}
}

// A refusal says that the message is not in the queue; silence does not.
func TestARefusalIsToldFromSilence(t *testing.T) {
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	cut := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}
	for _, c := range []struct {
		name      string
		serve     []http.HandlerFunc // in turn; the last again and again
		notQueued bool
		calls     int32
	}{
		{"no such right", []http.HandlerFunc{answer(403, `{"__type":"com.amazonaws.sqs#AccessDenied","message":"no"}`)}, true, 1},
		{"throttled", []http.HandlerFunc{answer(400, `{"__type":"com.amazonaws.sqs#RequestThrottled","message":"later"}`)}, true, 1},
		{"broken", []http.HandlerFunc{answer(500, `{"__type":"com.amazonaws.sqs#InternalFailure","message":"?"}`)}, false, 1},
		{"a proxy's page", []http.HandlerFunc{answer(502, "<html>")}, false, 1},
		{"an answer that is none", []http.HandlerFunc{answer(200, `{}`)}, false, 1},
		{"another message's checksum", []http.HandlerFunc{answer(200, `{"MessageId":"m","MD5OfMessageBody":"00000000000000000000000000000000"}`)}, false, 1},
		{"lost connections", []http.HandlerFunc{cut}, false, 2},
		{"a lost connection, then a refusal", []http.HandlerFunc{cut, answer(403, `{"__type":"com.amazonaws.sqs#AccessDenied","message":"no"}`)}, false, 2},
	} {
		var calls atomic.Int32
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n := int(calls.Add(1))
			c.serve[min(n, len(c.serve))-1](w, r)
		}))
		err := queueAt(t, srv.URL, "plain").Put(t.Context(), request())
		srv.Close()
		if fault.CodeOf(err) != fault.CodeQueueUnavailable || errors.Is(err, delivery.ErrNotQueued) != c.notQueued || calls.Load() != c.calls {
			t.Errorf("%s: %v, not queued %t after %d calls; want QUEUE_UNAVAILABLE, %t, %d", c.name, err, errors.Is(err, delivery.ErrNotQueued), calls.Load(), c.notQueued, c.calls)
		}
		if err != nil && strings.Contains(err.Error(), "ann@example.com") {
			t.Errorf("%s: the error shows the recipient", c.name)
		}
	}
	if err := queueAt(t, "http://127.0.0.1:1", "plain").Put(t.Context(), request()); fault.CodeOf(err) != fault.CodeQueueUnavailable || !errors.Is(err, delivery.ErrNotQueued) {
		t.Errorf("nobody listens: %v, not queued %t, want true", err, errors.Is(err, delivery.ErrNotQueued))
	}
	broken := newRequestQueue(&url.URL{Scheme: "https", Host: "x", Path: "/1/q"}, func() (aws.Config, error) { return aws.Config{}, errors.New("no profile") })
	if err := broken.Put(t.Context(), request()); fault.CodeOf(err) != fault.CodeQueueUnavailable || !errors.Is(err, delivery.ErrNotQueued) {
		t.Errorf("no AWS configuration: %v, not queued %t, want true", err, errors.Is(err, delivery.ErrNotQueued))
	}
}

// A function may be frozen after a call, and its kept connection die meanwhile.
func TestAKeptConnectionThatDiedIsReplaced(t *testing.T) {
	s, err := localqueue.New(localqueue.Config{Name: "plain"})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var open []net.Conn
	srv := httptest.NewUnstartedServer(s)
	srv.Config.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		if state == http.StateNew {
			open = append(open, c)
		}
	}
	srv.Start()
	defer srv.Close()
	q := queueAt(t, srv.URL, "plain")
	for n := range 3 {
		r := request()
		r.ID = strconv.Itoa(n)
		if err := q.Put(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		for _, c := range open {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // the next write finds it reset
			}
			_ = c.Close() // it may be closed
		}
		mu.Unlock()
	}
	if n := len(taken(t, q)); n < 3 {
		t.Errorf("%d messages, want 3", n)
	}
}

// The time that is given bounds the call, whatever the queue does.
func TestPutEndsInTime(t *testing.T) {
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	err := queueAt(t, srv.URL, "plain").Put(ctx, request())
	if fault.CodeOf(err) != fault.CodeQueueUnavailable || errors.Is(err, delivery.ErrNotQueued) {
		t.Errorf("got %v, not queued %t; want QUEUE_UNAVAILABLE of what may be there", err, errors.Is(err, delivery.ErrNotQueued))
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestAQueueURLIsChecked(t *testing.T) {
	for _, c := range []struct{ value, local, want string }{
		{"https://sqs.eu-west-1.amazonaws.com/123456789012/name", "", ""},
		{"https://sqs.eu-west-1.amazonaws.com/123456789012/name.fifo", "", ""},
		{"https://vpce-1.sqs.eu-west-1.vpce.amazonaws.com/123456789012/name", "", ""},
		{"http://127.0.0.1:4566/000000000000/name", "", ""},
		{"http://[::1]:4566/000000000000/name", "", ""},
		{"http://emulator:4566/000000000000/name", "true", ""},
		{"http://emulator:4566/000000000000/name", "", "this machine alone"},
		{"name", "", "scheme"},
		{"arn:aws:sqs:eu-west-1:123456789012:name", "", "scheme"},
		{"https:///123456789012/name", "", "host"},
		{"https://sqs.eu-west-1.amazonaws.com/name", "", "/account/name"},
		{"https://sqs.eu-west-1.amazonaws.com//name", "", "/account/name"},
		{"https://sqs.eu-west-1.amazonaws.com", "", "/account/name"},
		{"https://u:hush@sqs.eu-west-1.amazonaws.com/1/name", "", "host and a path alone"},
		{"https://sqs.eu-west-1.amazonaws.com/1/name?hush", "", "host and a path alone"},
		{"https://a b/hush", "", "not a URL"},
	} {
		vars := minimal("BACKSTOP_QUEUE_URL", c.value, "BACKSTOP_LOCAL", c.local)
		e, err := ReadEnv(env(vars))
		switch {
		case c.want == "" && (err != nil || e.QueueURL.String() != c.value):
			t.Errorf("%s: %v", c.value, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), "BACKSTOP_QUEUE_URL: ") || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush")):
			t.Errorf("%s: %v, want an error with %q", c.value, err, c.want)
		}
	}
	if e, err := ReadEnv(env(minimal())); err != nil || e.QueueURL != nil || newRequestQueue(e.QueueURL, awsTest) != nil {
		t.Errorf("without the variable: %v, %v", e.QueueURL, err)
	}
}
