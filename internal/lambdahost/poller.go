package lambdahost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"backstop/internal/delay"
)

// SQS is the part of a queue's client that a Poller needs; *sqs.Client has it, for any
// endpoint.
type SQS interface {
	ReceiveMessage(context.Context, *sqs.ReceiveMessageInput, ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error)
	DeleteMessageBatch(context.Context, *sqs.DeleteMessageBatchInput, ...func(*sqs.Options)) (*sqs.DeleteMessageBatchOutput, error)
}

// Poller is an event source mapping: it feeds a function from an SQS queue, with
// ReportBatchItemFailures. Messages that were processed are deleted; the others stay
// in the queue until their visibility ends, so that its redrive policy counts. That
// includes batches that found the function busy: keep MaxConcurrency within the
// function's.
type Poller struct {
	Invoker  Invoker
	Function string
	Client   SQS
	QueueURL string
	// QueueARN becomes the records' eventSourceARN. Empty: made from Region and the
	// URL's last two path segments.
	QueueARN string
	// Region is the records' awsRegion. Empty: us-east-1.
	Region string
	// BatchSize is the most messages in an event. Zero: 10; at most 10,000, and
	// without a Window at most 10.
	BatchSize int
	// Window is how long to gather messages for a batch after its first one. Zero:
	// not at all.
	Window time.Duration
	// MaxConcurrency is the most invocations at a time. Zero: 2, the least that the
	// platform has.
	MaxConcurrency int
	// Wait is the long poll, in whole seconds. Zero: 20 s.
	Wait time.Duration
	// Logger reports batches that failed and queues that cannot be reached. Nil
	// discards.
	Logger *slog.Logger
}

// The most messages that one ReceiveMessage or DeleteMessageBatch call handles.
const sqsCallSize = 10

// Run polls until ctx ends, finishes the batches in hand and returns nil. An error is
// a fault of the configuration.
func (p *Poller) Run(ctx context.Context) error {
	c, err := p.normalize()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for range c.MaxConcurrency {
		wg.Go(func() {
			for ctx.Err() == nil {
				if batch := c.gather(ctx); len(batch) > 0 {
					// Received messages are finished even when ctx ends.
					c.process(context.WithoutCancel(ctx), batch)
				}
			}
		})
	}
	wg.Wait()
	return nil
}

func (p *Poller) normalize() (*Poller, error) {
	c := *p
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	if c.BatchSize == 0 {
		c.BatchSize = 10
	}
	if c.MaxConcurrency == 0 {
		c.MaxConcurrency = 2
	}
	if c.Wait == 0 {
		c.Wait = 20 * time.Second
	}
	var errs []error
	if c.BatchSize < 0 || c.BatchSize > 10000 || (c.Window == 0 && c.BatchSize > sqsCallSize) {
		errs = append(errs, fmt.Errorf("batch size %d is not between 1 and 10, or 10000 with a window", c.BatchSize))
	}
	if c.MaxConcurrency < 0 {
		errs = append(errs, fmt.Errorf("maximum concurrency %d is negative", c.MaxConcurrency))
	}
	if c.Wait < time.Second || c.Wait > 20*time.Second {
		errs = append(errs, fmt.Errorf("wait %v is not between 1s and 20s", c.Wait))
	}
	u, err := url.Parse(c.QueueURL)
	if err != nil || u.Host == "" {
		errs = append(errs, fmt.Errorf("queue URL %q is not a URL", c.QueueURL))
	} else if c.QueueARN == "" {
		parts := strings.Split(strings.Trim(u.Path, "/"), "/")
		if len(parts) < 2 {
			errs = append(errs, fmt.Errorf("queue URL %q does not end in /account/name", c.QueueURL))
		} else {
			c.QueueARN = fmt.Sprintf("arn:aws:sqs:%s:%s:%s", c.Region, parts[len(parts)-2], parts[len(parts)-1])
		}
	}
	return &c, errors.Join(errs...)
}

// gather receives one batch; empty when there was nothing, or nothing could be
// received.
func (p *Poller) gather(ctx context.Context) []types.Message {
	batch, ok := p.receive(ctx, p.BatchSize, p.Wait)
	if !ok || len(batch) == 0 {
		return nil
	}
	end := time.Now().Add(p.Window)
	for len(batch) < p.BatchSize && ctx.Err() == nil {
		left := time.Until(end)
		if left <= 0 {
			break
		}
		more, ok := p.receive(ctx, p.BatchSize-len(batch), min(left, p.Wait))
		if !ok {
			break
		}
		batch = append(batch, more...)
	}
	return batch
}

// receive makes one call, with a long poll of wait, rounded up to whole seconds. After
// a failure it waits a second.
func (p *Poller) receive(ctx context.Context, n int, wait time.Duration) ([]types.Message, bool) {
	wait = (wait + time.Second - 1).Truncate(time.Second)
	// Cutting a long poll off may lose what the queue was about to answer, until its
	// visibility ends; so the limit is for servers that do not answer at all.
	call, cancel := context.WithTimeout(ctx, wait+10*time.Second)
	defer cancel()
	out, err := p.Client.ReceiveMessage(call, &sqs.ReceiveMessageInput{
		QueueUrl:                    &p.QueueURL,
		MaxNumberOfMessages:         int32(min(n, sqsCallSize)),
		WaitTimeSeconds:             int32(wait.Seconds()),
		MessageSystemAttributeNames: []types.MessageSystemAttributeName{types.MessageSystemAttributeNameAll},
		MessageAttributeNames:       []string{"All"},
	})
	if err == nil {
		return out.Messages, true
	}
	if ctx.Err() != nil {
		return nil, false
	}
	p.Logger.WarnContext(ctx, "queue not read", slog.String("queue", p.QueueARN), slog.Any("error", err))
	_ = delay.Sleep(ctx, time.Second) // its caller looks at ctx
	return nil, false
}

// process invokes the function with a batch, in parts when it is too large for one
// event, and deletes what succeeded.
func (p *Poller) process(ctx context.Context, batch []types.Message) {
	fifo := strings.HasSuffix(p.QueueARN, ".fifo")
	for len(batch) > 0 {
		event, n := p.event(batch)
		part := batch[:n]
		batch = batch[n:]
		failed := p.invoke(ctx, part, event)
		p.remove(ctx, part, failed)
		if fifo && len(failed) > 0 {
			return // the rest may not overtake what failed
		}
	}
}

// invoke returns the ids of the messages that must stay in the queue.
func (p *Poller) invoke(ctx context.Context, part []types.Message, event []byte) map[string]bool {
	res, err := p.Invoker.Invoke(ctx, Invocation{Function: p.Function, Payload: event})
	var failed map[string]bool
	switch {
	case err != nil:
	case res.FunctionError != "":
		err = errors.New(res.ErrorType)
	default:
		failed, err = batchItemFailures(res.Payload, part)
	}
	if err != nil {
		failed = make(map[string]bool, len(part))
		for _, m := range part {
			failed[aws.ToString(m.MessageId)] = true
		}
		p.Logger.WarnContext(ctx, "batch failed", slog.String("queue", p.QueueARN), slog.Int("messages", len(part)), slog.Any("error", err))
	}
	return failed
}

// remove deletes the messages of a batch that did not fail. A message that cannot be
// deleted comes again.
func (p *Poller) remove(ctx context.Context, part []types.Message, failed map[string]bool) {
	var entries []types.DeleteMessageBatchRequestEntry
	for i, m := range part {
		if !failed[aws.ToString(m.MessageId)] {
			entries = append(entries, types.DeleteMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), ReceiptHandle: m.ReceiptHandle})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for len(entries) > 0 {
		n := min(len(entries), sqsCallSize)
		out, err := p.Client.DeleteMessageBatch(ctx, &sqs.DeleteMessageBatchInput{QueueUrl: &p.QueueURL, Entries: entries[:n]})
		if err != nil {
			p.Logger.WarnContext(ctx, "messages not deleted", slog.String("queue", p.QueueARN), slog.Int("messages", n), slog.Any("error", err))
		} else if len(out.Failed) > 0 {
			p.Logger.WarnContext(ctx, "messages not deleted", slog.String("queue", p.QueueARN),
				slog.Int("messages", len(out.Failed)), slog.String("code", aws.ToString(out.Failed[0].Code)))
		}
		entries = entries[n:]
	}
}
