package localqueue_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"

	"backstop/internal/localqueue"
	"backstop/internal/loopback"
)

// queues are the queues of one case: a standard one that gives up after two receives, its
// redrive queue, and a FIFO one.
type queues struct {
	*testing.T
	*sqs.Client
	main, redrive, fifo string
}

func newClient(endpoint string) *sqs.Client {
	return sqs.New(sqs.Options{
		BaseEndpoint: &endpoint, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), RetryMaxAttempts: 1,
	})
}

func newService(t *testing.T) *localqueue.Service {
	t.Helper()
	s, err := localqueue.New(
		localqueue.Config{Name: "main", Redrive: "redrive", MaxReceives: 2}, localqueue.Config{Name: "redrive"}, localqueue.Config{Name: "main.fifo"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func startService(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(loopback.Guard(newService(t)))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestConformsToSQS(t *testing.T) {
	conformance(t, func(t *testing.T) queues {
		t.Helper()
		url := startService(t)
		return queues{t, newClient(url), localqueue.URL(url, "main"), localqueue.URL(url, "redrive"), localqueue.URL(url, "main.fifo")}
	})
}

// Without a network, too.
func TestConformsToSQSInTheSameProcess(t *testing.T) {
	conformance(t, func(t *testing.T) queues {
		t.Helper()
		s := newService(t)
		c := sqs.New(sqs.Options{
			BaseEndpoint: aws.String("http://127.0.0.1:1"), Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
			RetryMaxAttempts: 1, HTTPClient: s,
		})
		url := func(name string) string { return localqueue.URL("http://127.0.0.1:1", name) }
		return queues{t, c, url("main"), url("redrive"), url("main.fifo")}
	})
}

// conformance is what this queue, the emulator and SQS do alike.
func conformance(t *testing.T, start func(*testing.T) queues) {
	t.Helper()
	for _, c := range []struct {
		rule string
		test func(queues)
	}{
		{"a message comes as it was sent, with its attributes", queues.roundTrip},
		{"a message that nobody deletes comes again, then goes to the redrive queue", queues.givenUp},
		{"a batch is taken entry by entry", queues.batch},
		{"a batch is refused as a whole", queues.refusedBatch},
		{"a refusal has its code", queues.refusals},
		{"a FIFO queue keeps order and drops repetitions", queues.ordered},
		{"a delayed message waits", queues.delayed},
		{"a queue says what it is", queues.describes},
	} {
		t.Run(c.rule, func(t *testing.T) { c.test(start(t)) })
	}
}

func text(v string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &v}
}

func (q queues) send(url, body string) *sqs.SendMessageOutput {
	q.Helper()
	in := &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body}
	if url == q.fifo {
		in.MessageGroupId, in.MessageDeduplicationId = aws.String("group"), aws.String("dedup-"+body)
	}
	out, err := q.SendMessage(q.Context(), in)
	if err != nil {
		q.Fatal(err)
	}
	return out
}

func (q queues) receive(url string, wait int32) []types.Message {
	q.Helper()
	out, err := q.ReceiveMessage(q.Context(), &sqs.ReceiveMessageInput{
		QueueUrl: &url, MaxNumberOfMessages: 10, WaitTimeSeconds: wait, VisibilityTimeout: 30, MessageAttributeNames: []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
	})
	if err != nil {
		q.Fatal(err)
	}
	return out.Messages
}

func (q queues) wantBodies(got []types.Message, want ...string) {
	q.Helper()
	var bodies []string
	for _, m := range got {
		bodies = append(bodies, aws.ToString(m.Body))
	}
	if slices.Sort(bodies); !slices.Equal(bodies, want) {
		q.Fatalf("received %q, want %q", bodies, want)
	}
}

func (q queues) giveBack(url string, m types.Message) {
	q.Helper()
	out, err := q.ChangeMessageVisibilityBatch(q.Context(), &sqs.ChangeMessageVisibilityBatchInput{
		QueueUrl: &url, Entries: []types.ChangeMessageVisibilityBatchRequestEntry{{Id: aws.String("0"), ReceiptHandle: m.ReceiptHandle}},
	})
	if err != nil || len(out.Successful) != 1 {
		q.Fatal(err, out)
	}
}

func (q queues) roundTrip() {
	const body = "{\"html\":\"<b>\u2028\t🚀\\u0041 &amp; \\\"\"}"
	attributes := map[string]types.MessageAttributeValue{
		"traceparent": text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), "B.in_a-ry": {DataType: aws.String("Binary.x"), BinaryValue: []byte{0, 255}},
		"n": {DataType: aws.String("Number"), StringValue: aws.String("1.5")},
	}
	sent, err := q.SendMessage(q.Context(), &sqs.SendMessageInput{
		QueueUrl: &q.main, MessageBody: aws.String(body), MessageAttributes: attributes, MessageGroupId: aws.String("tenant-1"),
		MessageSystemAttributes: map[string]types.MessageSystemAttributeValue{"AWSTraceHeader": {DataType: aws.String("String"), StringValue: aws.String("Root=1-5759e988-bd862e3fe1be46a994272793")}},
	})
	if err != nil { // the client has compared the body's MD5
		q.Fatal(err)
	}
	got := q.receive(q.main, 0)
	q.wantBodies(got, body)
	m := got[0]
	if aws.ToString(m.MessageId) != aws.ToString(sent.MessageId) {
		q.Errorf("message id %s, want %s", aws.ToString(m.MessageId), aws.ToString(sent.MessageId))
	}
	const sum = "e18346e13bd4e8b8e66c154c40319a46" // as the emulator computes it
	if s := aws.ToString(sent.MD5OfMessageAttributes); s != sum || s != aws.ToString(m.MD5OfMessageAttributes) {
		q.Errorf("MD5 of attributes: %q when sent, %q when received, want %q", s, aws.ToString(m.MD5OfMessageAttributes), sum)
	}
	for name, want := range attributes {
		if got := m.MessageAttributes[name]; aws.ToString(got.StringValue) != aws.ToString(want.StringValue) || string(got.BinaryValue) != string(want.BinaryValue) || aws.ToString(got.DataType) != aws.ToString(want.DataType) {
			q.Errorf("attribute %s: %v, want %v", name, got, want)
		}
	}
	for name, want := range map[string]string{
		"ApproximateReceiveCount": "1", "MessageGroupId": "tenant-1", "AWSTraceHeader": "Root=1-5759e988-bd862e3fe1be46a994272793",
	} {
		if got := m.Attributes[name]; got != want {
			q.Errorf("%s %q, want %q", name, got, want)
		}
	}
	if ms, err := strconv.ParseInt(m.Attributes["SentTimestamp"], 10, 64); err != nil || ms < 1.7e12 {
		q.Errorf("SentTimestamp %q, want milliseconds", m.Attributes["SentTimestamp"])
	}
	if _, err := q.DeleteMessage(q.Context(), &sqs.DeleteMessageInput{QueueUrl: &q.main, ReceiptHandle: m.ReceiptHandle}); err != nil {
		q.Fatal(err)
	}
	q.wantBodies(q.receive(q.main, 0))
}

func (q queues) givenUp() {
	sent := q.send(q.main, "a")
	for n := range 2 {
		got := q.receive(q.main, 0)
		q.wantBodies(got, "a")
		if count := got[0].Attributes["ApproximateReceiveCount"]; count != strconv.Itoa(n+1) {
			q.Errorf("receive count %s, want %d", count, n+1)
		}
		q.wantBodies(q.receive(q.main, 0)) // hidden
		q.giveBack(q.main, got[0])
	}
	q.wantBodies(q.receive(q.main, 0))
	got := q.receive(q.redrive, 0)
	q.wantBodies(got, "a")
	if aws.ToString(got[0].MessageId) != aws.ToString(sent.MessageId) {
		q.Errorf("the message has another id in the redrive queue")
	}
}

func (q queues) batch() {
	in := &sqs.SendMessageBatchInput{QueueUrl: &q.main}
	for i := range 10 {
		in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{
			Id: aws.String(fmt.Sprintf("id_-%d", i)), MessageBody: aws.String(fmt.Sprint(i)), MessageAttributes: map[string]types.MessageAttributeValue{"i": text(fmt.Sprint(i))},
		})
	}
	out, err := q.SendMessageBatch(q.Context(), in)
	if err != nil {
		q.Fatal(err)
	}
	if len(out.Successful) != 10 || len(out.Failed) != 0 {
		q.Fatalf("%d taken, failed %+v; want all", len(out.Successful), out.Failed)
	}
	got := q.receive(q.main, 0)
	q.wantBodies(got, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
	drop := &sqs.DeleteMessageBatchInput{QueueUrl: &q.main}
	for i, m := range got {
		drop.Entries = append(drop.Entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
	}
	drop.Entries[9].ReceiptHandle = aws.String("made up")
	dropped, err := q.DeleteMessageBatch(q.Context(), drop)
	if err != nil || len(dropped.Successful) != 9 || len(dropped.Failed) != 1 || aws.ToString(dropped.Failed[0].Code) != "ReceiptHandleIsInvalid" {
		q.Errorf("%+v, %v; want all deleted but one", dropped, err)
	}
}

func (q queues) refusedBatch() {
	entry := func(id, body string) types.SendMessageBatchRequestEntry {
		return types.SendMessageBatchRequestEntry{Id: &id, MessageBody: &body}
	}
	var eleven []types.SendMessageBatchRequestEntry
	for i := range 11 {
		eleven = append(eleven, entry(strconv.Itoa(i), "x"))
	}
	half := strings.Repeat("x", 1<<19)
	for code, entries := range map[string][]types.SendMessageBatchRequestEntry{
		"EmptyBatchRequest": {}, "TooManyEntriesInBatchRequest": eleven, "BatchEntryIdsNotDistinct": {entry("a", "x"), entry("a", "y")},
		"InvalidBatchEntryId": {entry("a b", "x")}, "BatchRequestTooLong": {entry("a", half), entry("b", half), entry("c", "x")},
	} {
		_, err := q.SendMessageBatch(q.Context(), &sqs.SendMessageBatchInput{QueueUrl: &q.main, Entries: entries})
		q.wantCode(err, "AWS.SimpleQueueService."+code)
	}
	q.wantBodies(q.receive(q.main, 0))
	if _, err := q.SendMessageBatch(q.Context(), &sqs.SendMessageBatchInput{QueueUrl: &q.main, Entries: []types.SendMessageBatchRequestEntry{entry("a", half), entry("b", half)}}); err != nil {
		q.Errorf("a batch of 1 MiB: %v", err)
	}
}

func (q queues) wantCode(err error, want string) {
	q.Helper()
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != want {
		q.Errorf("got %v, want %s", err, want)
	}
}

func (q queues) refusals() {
	send := func(edit func(*sqs.SendMessageInput)) error {
		in := &sqs.SendMessageInput{QueueUrl: &q.main, MessageBody: aws.String("x")}
		edit(in)
		_, err := q.SendMessage(q.Context(), in)
		return err
	}
	q.wantCode(send(func(in *sqs.SendMessageInput) { in.QueueUrl = aws.String(q.main + "-nowhere") }), "AWS.SimpleQueueService.NonExistentQueue")
	q.wantCode(send(func(in *sqs.SendMessageInput) { in.DelaySeconds = 901 }), "InvalidParameterValue")
	q.wantCode(send(func(in *sqs.SendMessageInput) { in.MessageBody = aws.String(strings.Repeat("x", 1<<20+1)) }), "InvalidParameterValue")
	q.wantCode(send(func(in *sqs.SendMessageInput) { in.QueueUrl = &q.fifo }), "MissingParameter")
	q.wantCode(send(func(in *sqs.SendMessageInput) {
		in.QueueUrl, in.MessageGroupId, in.MessageDeduplicationId, in.DelaySeconds = &q.fifo, aws.String("g"), aws.String("d"), 1
	}), "InvalidParameterValue")
	_, err := q.DeleteMessage(q.Context(), &sqs.DeleteMessageInput{QueueUrl: &q.main, ReceiptHandle: aws.String("made up")})
	q.wantCode(err, "ReceiptHandleIsInvalid")
	_, err = q.ReceiveMessage(q.Context(), &sqs.ReceiveMessageInput{QueueUrl: &q.main, MaxNumberOfMessages: 11})
	q.wantCode(err, "InvalidParameterValue")
	_, err = q.GetQueueUrl(q.Context(), &sqs.GetQueueUrlInput{QueueName: aws.String("nowhere")})
	q.wantCode(err, "AWS.SimpleQueueService.NonExistentQueue")
	_, err = q.GetQueueAttributes(q.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &q.main, AttributeNames: []types.QueueAttributeName{"Nonsense"}})
	q.wantCode(err, "InvalidAttributeName")
}

func (q queues) ordered() {
	first := q.send(q.fifo, "a")
	q.send(q.fifo, "b")
	if again := q.send(q.fifo, "a"); aws.ToString(first.SequenceNumber) == "" || aws.ToString(again.MessageId) == "" {
		q.Errorf("answers %+v and, to the repetition, %+v", first, again)
	}
	out, err := q.ReceiveMessage(q.Context(), &sqs.ReceiveMessageInput{QueueUrl: &q.fifo, MaxNumberOfMessages: 1, VisibilityTimeout: 30})
	if err != nil {
		q.Fatal(err)
	}
	q.wantBodies(out.Messages, "a")
	q.wantBodies(q.receive(q.fifo, 0)) // its group is held up
	if _, err := q.DeleteMessage(q.Context(), &sqs.DeleteMessageInput{QueueUrl: &q.fifo, ReceiptHandle: out.Messages[0].ReceiptHandle}); err != nil {
		q.Fatal(err)
	}
	got := q.receive(q.fifo, 0)
	q.wantBodies(got, "b")
	if a := got[0].Attributes; a["MessageGroupId"] != "group" || a["MessageDeduplicationId"] != "dedup-b" || a["SequenceNumber"] == "" {
		q.Errorf("attributes %v", a)
	}
}

func (q queues) delayed() {
	if _, err := q.SendMessage(q.Context(), &sqs.SendMessageInput{QueueUrl: &q.main, MessageBody: aws.String("later"), DelaySeconds: 1}); err != nil {
		q.Fatal(err)
	}
	q.wantBodies(q.receive(q.main, 0))
	q.wantBodies(q.receive(q.main, 10), "later")
}

func (q queues) describes() {
	q.send(q.main, "a")
	q.send(q.main, "b")
	if _, err := q.SendMessage(q.Context(), &sqs.SendMessageInput{QueueUrl: &q.main, MessageBody: aws.String("later"), DelaySeconds: 900}); err != nil {
		q.Fatal(err)
	}
	one, err := q.ReceiveMessage(q.Context(), &sqs.ReceiveMessageInput{QueueUrl: &q.main, MaxNumberOfMessages: 1, VisibilityTimeout: 30})
	if err != nil || len(one.Messages) != 1 || len(one.Messages[0].Attributes) != 0 {
		q.Fatal(one, err)
	}
	out, err := q.GetQueueAttributes(q.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &q.main, AttributeNames: []types.QueueAttributeName{"All"}})
	if err != nil {
		q.Fatal(err)
	}
	for name, want := range map[string]string{
		"ApproximateNumberOfMessages": "1", "ApproximateNumberOfMessagesNotVisible": "1", "ApproximateNumberOfMessagesDelayed": "1", "VisibilityTimeout": "30", "DelaySeconds": "0",
	} {
		if got := out.Attributes[name]; got != want {
			q.Errorf("%s %q, want %q", name, got, want)
		}
	}
	if !strings.Contains(out.Attributes["RedrivePolicy"], "maxReceiveCount") || !strings.HasPrefix(out.Attributes["QueueArn"], "arn:aws:sqs:us-east-1:123456789012:") {
		q.Errorf("attributes %v", out.Attributes)
	}
	name := q.fifo[strings.LastIndexByte(q.fifo, '/')+1:]
	url, err := q.GetQueueUrl(q.Context(), &sqs.GetQueueUrlInput{QueueName: &name})
	if err != nil || aws.ToString(url.QueueUrl) != q.fifo {
		q.Errorf("URL of %s: %v (%v), want %s", name, url, err, q.fifo)
	}
}

// The emulator cannot show this: it writes SenderFault as text, which the client does not read.
func TestABatchIsTakenEntryByEntry(t *testing.T) {
	url := startService(t)
	q := queues{T: t, Client: newClient(url), main: localqueue.URL(url, "main")}
	out, err := q.SendMessageBatch(t.Context(), &sqs.SendMessageBatchInput{QueueUrl: &q.main, Entries: []types.SendMessageBatchRequestEntry{
		{Id: aws.String("0"), MessageBody: aws.String("a")},
		{Id: aws.String("1"), MessageBody: aws.String("b"), DelaySeconds: 901},
		{Id: aws.String("2"), MessageBody: aws.String("c")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Successful) != 2 || len(out.Failed) != 1 || aws.ToString(out.Failed[0].Id) != "1" || !out.Failed[0].SenderFault || aws.ToString(out.Failed[0].Code) != "InvalidParameterValue" {
		t.Errorf("%d taken, failed %+v; want 2 and the second", len(out.Successful), out.Failed)
	}
	q.wantBodies(q.receive(q.main, 0), "a", "c")
}

// What is no call of SQS' is refused as SQS does, and nothing breaks.
func TestWhatIsNoCallIsRefused(t *testing.T) {
	url := startService(t)
	for _, c := range []struct{ method, target, kind, body, want string }{
		{http.MethodGet, "AmazonSQS.SendMessage", "application/x-amz-json-1.0", "{}", "UnknownOperationException"},
		{http.MethodPost, "", "application/x-www-form-urlencoded", "Action=SendMessage", "UnknownOperationException"},
		{http.MethodPost, "AmazonSQS.SendMessage", "text/plain", "{}", "UnknownOperationException"},
		{http.MethodPost, "AmazonSQS.DeleteQueue", "application/x-amz-json-1.0", "{}", "InvalidAction"},
		{http.MethodPost, "AmazonSQS.SendMessage", "application/x-amz-json-1.0", "{", "SerializationException"},
		{http.MethodPost, "AmazonSQS.SendMessage", "application/x-amz-json-1.0", `{"MessageBody":1}`, "SerializationException"},
		{http.MethodPost, "AmazonSQS.SendMessage", "application/x-amz-json-1.0", "null", "MissingParameter"},
		{http.MethodPost, "AmazonSQS.SendMessage", "application/x-amz-json-1.0", `{"MessageBody":"` + strings.Repeat("x", 9<<20) + `"}`, "BatchRequestTooLong"},
	} {
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), c.method, url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Amz-Target", c.target)
		req.Header.Set("Content-Type", c.kind)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1000)
		n, _ := res.Body.Read(b) // what it says
		_ = res.Body.Close()
		if res.StatusCode != http.StatusBadRequest || !strings.Contains(string(b[:n]), "#"+c.want+`"`) {
			t.Errorf("%s %s %s: %d %s, want 400 and %s", c.method, c.target, c.kind, res.StatusCode, b[:n], c.want)
		}
	}
}
