//go:build full

package lambdahost_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"backstop/internal/lambdahost"
	"backstop/internal/moto"
)

// TestRedriveCountsFailedReceives runs against an emulator of AWS: the poller leaves
// visibility alone, so a queue's own redrive policy works.
func TestRedriveCountsFailedReceives(t *testing.T) {
	t.Parallel()
	client := sqsClient(moto.Start(t))
	ctx := t.Context()
	create := func(name string, attributes map[string]string) string {
		out, err := client.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes})
		if err != nil {
			t.Fatalf("CreateQueue %s: %v", name, err)
		}
		return aws.ToString(out.QueueUrl)
	}
	redrive := create("redrive", nil)
	main := create("main", map[string]string{
		"VisibilityTimeout": "1",
		"RedrivePolicy":     `{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:123456789012:redrive","maxReceiveCount":"2"}`,
	})
	for _, body := range []string{"good", "bad", "fine"} {
		_, err := client.SendMessage(ctx, &sqs.SendMessageInput{
			QueueUrl: &main, MessageBody: &body,
			MessageAttributes: map[string]types.MessageAttributeValue{"n": {DataType: aws.String("Number"), StringValue: aws.String("1")}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}

	var mu sync.Mutex
	seen := map[string]int{}
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	poller := &lambdahost.Poller{
		Client: client, QueueURL: main, Function: "send", Wait: time.Second,
		Invoker: invoker(func(_ context.Context, in lambdahost.Invocation) (lambdahost.Result, error) {
			mu.Lock()
			defer mu.Unlock()
			failed := []string{}
			for _, r := range decode[events.SQSEvent](t, in.Payload).Records {
				seen[r.Body]++
				if r.EventSourceARN != "arn:aws:sqs:us-east-1:123456789012:main" || aws.ToString(r.MessageAttributes["n"].StringValue) != "1" {
					t.Errorf("record %+v", r)
				}
				if r.Body == "bad" {
					failed = append(failed, fmt.Sprintf(`{"itemIdentifier":%q}`, r.MessageId))
				}
			}
			return lambdahost.Result{Payload: []byte(`{"batchItemFailures":[` + strings.Join(failed, ",") + `]}`)}, nil
		}),
	}
	go func() { done <- poller.Run(run) }()

	dead, err := client.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &redrive, WaitTimeSeconds: 10})
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err != nil || len(dead.Messages) != 1 || aws.ToString(dead.Messages[0].Body) != "bad" {
		t.Fatalf("redrive queue: %+v, %v, want the bad message", dead, err)
	}
	if seen["good"] != 1 || seen["fine"] != 1 || seen["bad"] != 2 {
		t.Errorf("receives %v, want good and fine once, bad twice", seen)
	}
}
