package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/spf13/cobra"

	"backstop/client"
	"backstop/internal/awsconf"
	"backstop/internal/loopback"
)

const (
	// redriveHold is how long a message that is looked at is hidden from others. It is
	// given back before; this is for a process that dies.
	redriveHold = 30 * time.Second
	// redriveBatch is the most that SQS hands out at once.
	redriveBatch = 10
)

func newRedrive() *cobra.Command {
	c := &cobra.Command{
		Use:   "redrive",
		Short: "Look into the SQS redrive queue and send its messages back",
		Long: `When a message came over SQS and was handed back too often (a wrong sink name, no room in the
dead-letter queue, no configuration), SQS moves it to the redrive queue. These commands work on that queue
directly, with your AWS credentials, found as the AWS CLI finds them.`,
		Example: `  backstop redrive list --redrive-queue https://sqs.eu-west-1.amazonaws.com/123456789012/backstop-redrive
  backstop redrive send --redrive-queue https://.../backstop-redrive --queue https://.../backstop`,
	}
	group(c, nil)
	c.AddCommand(newRedriveList(), newRedriveSend())
	return c
}

// queues is the part of the SQS client that redriving needs.
type queues interface {
	GetQueueAttributes(context.Context, *sqs.GetQueueAttributesInput, ...func(*sqs.Options)) (*sqs.GetQueueAttributesOutput, error)
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	SendMessage(context.Context, *sqs.SendMessageInput, ...func(*sqs.Options)) (*sqs.SendMessageOutput, error)
	DeleteMessage(context.Context, *sqs.DeleteMessageInput, ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error)
	ChangeMessageVisibilityBatch(context.Context, *sqs.ChangeMessageVisibilityBatchInput, ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error)
}

var sqsHost = regexp.MustCompile(`^(?:sqs\.([a-z0-9-]+)\.amazonaws\.com|([a-z0-9-]+)\.queue\.amazonaws\.com)`)

// checkQueue refuses what is no queue's URL.
func checkQueue(flag, queue string) (*url.URL, error) {
	if queue == "" {
		return nil, usage("%s is missing: the queue's URL, as 'aws sqs list-queues' shows it", flag)
	}
	u, err := url.Parse(queue)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, usage("%s: want a queue's URL such as https://sqs.eu-west-1.amazonaws.com/123456789012/name", flag)
	}
	return u, nil
}

// sqsConfig is what the operator's client of a queue is made from. A queue on this machine asks
// for no credentials; there have to be some all the same.
func sqsConfig(ctx context.Context, queue *url.URL) (aws.Config, error) {
	onThisMachine := loopback.IsLocal(queue.Host)
	cfg, err := awsConfig(ctx)
	if err != nil && (!onThisMachine || ctx.Err() != nil) {
		return cfg, err
	}
	if err != nil {
		cfg.Credentials = credentials.NewStaticCredentialsProvider("local", "local", "")
	}
	if m := sqsHost.FindStringSubmatch(queue.Host); m != nil {
		cfg.Region = m[1] + m[2] // one of them is empty
	}
	if cfg.Region == "" && onThisMachine {
		cfg.Region = "us-east-1"
	}
	if cfg.Region == "" {
		return cfg, usage("the queue's URL names no region: set AWS_REGION")
	}
	return cfg, nil
}

// sqsClient calls the endpoint in the queue's URL, or the one that the AWS environment
// names.
func sqsClient(cfg aws.Config, queue *url.URL) *sqs.Client {
	return sqs.NewFromConfig(cfg, func(o *sqs.Options) {
		if o.BaseEndpoint == nil {
			o.BaseEndpoint = aws.String(queue.Scheme + "://" + queue.Host)
		}
	})
}

// openQueue is the client for a queue.
func openQueue(ctx context.Context, queue *url.URL) (*sqs.Client, error) {
	cfg, err := sqsConfig(ctx, queue)
	if err != nil {
		return nil, err
	}
	return sqsClient(cfg, queue), nil
}

// awsConfig finds the operator's AWS credentials, and says so at once when there are none.
func awsConfig(ctx context.Context) (aws.Config, error) {
	cfg, err := awsconf.Load(ctx)
	if err == nil {
		_, err = cfg.Credentials.Retrieve(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return cfg, ctx.Err()
	}
	if err != nil {
		return cfg, &client.CredentialsError{Err: err}
	}
	return cfg, nil
}

// redriven is a message of the redrive queue as it is shown.
type redriven struct {
	MessageID  string    `json:"message_id"`
	DeliveryID string    `json:"delivery_id"`
	Sink       string    `json:"sink,omitempty"`
	SentAt     time.Time `json:"sent_at,omitzero"`
	Receives   int       `json:"receives"`
	Group      string    `json:"group,omitempty"`
	Body       string    `json:"body"`
}

func readRedriven(m types.Message) redriven {
	r := redriven{
		MessageID: aws.ToString(m.MessageId), DeliveryID: aws.ToString(m.MessageId), Body: aws.ToString(m.Body),
		Group: m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)],
	}
	var request struct {
		ID   string `json:"id"`
		Sink string `json:"sink"`
	}
	if json.Unmarshal([]byte(r.Body), &request) == nil {
		r.Sink = request.Sink
		if request.ID != "" {
			r.DeliveryID = request.ID
		}
	}
	if ms, err := strconv.ParseInt(m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)], 10, 64); err == nil {
		r.SentAt = time.UnixMilli(ms).UTC()
	}
	r.Receives, _ = strconv.Atoi(m.Attributes[string(types.MessageSystemAttributeNameApproximateReceiveCount)])
	return r
}

// waiting is how many messages the queue says it has.
func waiting(ctx context.Context, q queues, queue string) (int64, error) {
	name := types.QueueAttributeNameApproximateNumberOfMessages
	out, err := q.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: &queue, AttributeNames: []types.QueueAttributeName{name}})
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(out.Attributes[string(name)], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the queue does not say how many messages it has: %w", err)
	}
	return n, nil
}

// receive takes up to n messages, hidden from others for redriveHold.
func receive(ctx context.Context, q queues, queue string, n int) ([]types.Message, error) {
	out, err := q.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: &queue, MaxNumberOfMessages: int32(min(n, redriveBatch)), VisibilityTimeout: int32(redriveHold / time.Second),
		WaitTimeSeconds:             1, // asks all of the queue's servers
		MessageAttributeNames:       []string{"All"},
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
	})
	if err != nil {
		return nil, err
	}
	return out.Messages, nil
}

// giveBack makes messages visible to others again, even when the operator has stopped
// the command. A message that it cannot give back comes back by itself after redriveHold.
func giveBack(ctx context.Context, q queues, queue string, messages []types.Message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	var errs []error
	for chunk := range slices.Chunk(messages, redriveBatch) {
		in := &sqs.ChangeMessageVisibilityBatchInput{QueueUrl: &queue}
		for i, m := range chunk {
			in.Entries = append(in.Entries, types.ChangeMessageVisibilityBatchRequestEntry{
				Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: 0,
			})
		}
		_, err := q.ChangeMessageVisibilityBatch(ctx, in)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
