package local

import (
	"context"
	"log/slog"
	"strings"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"backstop/internal/lambdahost"
	"backstop/internal/localqueue"
	"backstop/internal/loopback"
)

// queueReceives is the queue's maxReceiveCount, as in template.yaml.
const queueReceives = 5

// QueueName is the name of the queue in memory, unless Options.QueueName says otherwise.
const QueueName = "messages"

// startQueue makes the queue in memory and its redrive queue.
func (s *Stack) startQueue(ctx context.Context, o Options) (*RequestQueue, error) {
	base, fifo := strings.CutSuffix(o.QueueName, ".fifo")
	redrive := base + "-redrive"
	if fifo {
		redrive += ".fifo"
	}
	var err error
	s.Queues, err = localqueue.New(
		localqueue.Config{Name: o.QueueName, Visibility: o.QueueVisibility, Redrive: redrive, MaxReceives: queueReceives},
		localqueue.Config{Name: redrive})
	if err != nil {
		return nil, err
	}
	ln, err := loopback.Listen(ctx, o.QueueAddr)
	if err != nil {
		return nil, err
	}
	endpoint := "http://" + ln.Addr().String()
	s.serve(ln, s.Queues)
	s.RedriveURL = localqueue.URL(endpoint, redrive)
	client := sqs.New(sqs.Options{
		BaseEndpoint: &endpoint, Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: s.Queues,
		Credentials: credentials.NewStaticCredentialsProvider("local", "local", ""), // nobody looks at them
	})
	return &RequestQueue{URL: localqueue.URL(endpoint, o.QueueName), Client: client}, nil
}

// poll feeds the queue to its function until ctx ends.
func (s *Stack) poll(ctx context.Context, o Options) {
	poller := &lambdahost.Poller{
		Invoker: s.Host, Function: Queue, Client: o.Queue.Client, QueueURL: o.Queue.URL, Region: o.Queue.Region, MaxConcurrency: o.QueueConcurrency, Logger: o.Logger,
	}
	s.wg.Go(func() {
		if err := poller.Run(ctx); err != nil && o.Logger != nil {
			o.Logger.ErrorContext(ctx, "queue not polled", slog.Any("error", err))
		}
	})
}
