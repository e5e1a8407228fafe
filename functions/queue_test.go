package functions_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"backstop/internal/local"
)

// queueClient calls the stack's queue as any other program does.
func queueClient(t *testing.T, s *local.Stack) *sqs.Client {
	t.Helper()
	u, err := url.Parse(s.QueueURL)
	if err != nil {
		t.Fatal(err)
	}
	return sqs.New(sqs.Options{
		BaseEndpoint: aws.String("http://" + u.Host), Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
	})
}

// The local host's own queue feeds the real send binary: what it delivers leaves the queue, in
// the order of its group where the queue is FIFO, and what comes back each time ends in the
// redrive queue.
func TestTheLocalQueueFeedsSend(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"messages", "messages.fifo"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := onRedis(t)
			o.QueueName, o.QueueTimeout, o.QueueVisibility = name, 2*time.Second, 2*time.Second
			s := start(t, o)
			c := queueClient(t, s)
			put := func(id, sink string) {
				t.Helper()
				in := &sqs.SendMessageInput{QueueUrl: &s.QueueURL, MessageBody: aws.String(fmt.Sprintf(`{"id":%q,"sink":%q,"message":{"body":"x"}}`, id, sink)), MessageGroupId: &sink}
				if name == "messages.fifo" {
					in.MessageDeduplicationId = &id
				}
				if _, err := c.SendMessage(t.Context(), in); err != nil {
					t.Fatal(err)
				}
			}
			put("lost", "nobody")
			for i := range 5 {
				put(fmt.Sprint("m", i), "webhook-demo")
			}
			eventually(t, "five deliveries, and an empty queue but for one", func() error {
				if n, left := len(s.Inbox.HTTP.Arrivals()), s.Queues.Waiting(name); n != 5 || left > 1 {
					return fmt.Errorf("%d arrived, %d in the queue", n, left)
				}
				return nil
			})
			for i, a := range s.Inbox.HTTP.Arrivals() {
				if want := fmt.Sprint("m", i); name == "messages.fifo" && a.ID() != want {
					t.Errorf("arrival %d is %s, want %s", i, a.ID(), want)
				}
			}
			if a := call(t, s, http.MethodGet, "/v1/deliveries?sink=webhook-demo&id=m0", ""); a.text("status") != "delivered" {
				t.Errorf("m0: %s", a.raw)
			}
			out, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
				QueueUrl: &s.RedriveURL, WaitTimeSeconds: 20, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
			})
			if err != nil || len(out.Messages) != 1 || out.Messages[0].Attributes["ApproximateReceiveCount"] != "6" {
				t.Errorf("redrive queue: %v, %v; want the message without a sink after five receives, and this one", out, err)
			}
		})
	}
}
