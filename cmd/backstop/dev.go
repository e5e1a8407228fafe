package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/spf13/cobra"

	"backstop/internal/awsconf"
	"backstop/internal/console"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

func newDev() *cobra.Command {
	var o local.Options
	var every time.Duration
	var queue, consoleAddr string
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine until you stop it",
		Long: `Dev runs the functions from their real binaries: an HTTP API, an Invoke API and the operator's
console in front, an embedded Redis and an inbox behind, the replay schedule beside them. Nothing leaves this
machine unless you name sinks of your own. All of it answers to localhost, 127.0.0.1 and [::1] only, and to no other
site's pages; programs such as curl and the AWS CLI need nothing for it.

With --queue it also polls a queue of any SQS-compatible endpoint (AWS_ENDPOINT_URL_SQS,
or the URL's own host) and honours batchItemFailures. Sinks with fifo: hold must know when a receive is the
last: unless the queue's maxReceiveCount is 5, name it with --env BACKSTOP_QUEUE_MAX_RECEIVES=n.`,
		Example: `  backstop dev
  backstop dev --sinks file:config/sinks --redis redis://127.0.0.1:6379
  backstop dev --queue http://127.0.0.1:5000/123456789012/messages`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&o.APIAddr, "api-addr", "127.0.0.1:3000", "where the HTTP API listens; it answers to localhost only")
	f.StringVar(&o.InvokeAddr, "invoke-addr", "127.0.0.1:3001", "where the Invoke API listens")
	f.StringVar(&o.Inbox.ControlAddr, "inbox-addr", "127.0.0.1:3002", "where the inbox shows what arrived")
	f.StringVar(&consoleAddr, "console-addr", "127.0.0.1:3003", "where the console listens, on loopback")
	f.StringVar(&o.RedisURL, "redis", "", "redis:// or rediss:// URL to use instead of an embedded Redis")
	f.StringVar(&o.Sinks, "sinks", "", "sink configuration to use instead of the sample sinks, such as file:config/sinks")
	f.StringToStringVar(&o.Env, "env", nil, "environment variables for the functions, NAME=VALUE")
	f.DurationVar(&every, "every", time.Minute, "interval of the replay schedule; 0 turns it off")
	f.StringVar(&queue, "queue", "", "URL of an SQS queue to poll")
	bin := addBin(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := checkBin(*bin); err != nil {
			return err
		}
		o.Bin, o.Samples = *bin, true
		o.Logger = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
		o.Output = func(function, line string) { _ = printLog(c.ErrOrStderr(), function, line) }
		return runDev(c, o, consoleAddr, every, queue)
	}
	return c
}

func runDev(c *cobra.Command, o local.Options, consoleAddr string, every time.Duration, queue string) error {
	ctx, stop := context.WithCancel(c.Context())
	defer stop()
	stack, err := local.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { _ = stack.Close() }()
	page, err := console.Start(ctx, consoleAddr, console.Options{API: stack.APIURL})
	if err != nil {
		return err
	}
	defer func() { _ = page.Close() }()
	failed := make(chan error, 2)
	if every > 0 {
		schedule := &lambdahost.Schedule{Invoker: stack.Host, Function: local.Replay, Every: every, Logger: o.Logger}
		go func() { failed <- schedule.Run(ctx) }()
	}
	if queue != "" {
		poller, err := newPoller(ctx, stack.Host, queue, o.Logger)
		if err != nil {
			return err
		}
		go func() { failed <- poller.Run(ctx) }()
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), `Backstop runs on this machine. Stop it with Ctrl-C.

  HTTP API    %[1]s
  Invoke API  %[2]s
  Inbox       %[3]s    what the sample sinks sent
  Console     %[5]s    what failed, and replay, for the browser

Try:

  curl -i %[1]s/v1/messages -d '{"sink":"webhook-demo","message":{"body":"hello"}}'
  curl -i %[1]s/v1/messages -d '{"sink":"webhook-down","message":{"body":"nobody is home"}}'
  curl -s %[1]s/v1/dlq/items
  curl -s -X POST '%[3]s/heal?path=%[4]s'    # webhook-down works again; the schedule replays

`, stack.APIURL, stack.InvokeURL, stack.Inbox.ControlURL, local.PathDown, page.URL)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// newPoller polls the queue through the endpoint in its URL, or the one that the AWS
// environment names.
func newPoller(ctx context.Context, host *lambdahost.Host, queue string, log *slog.Logger) (*lambdahost.Poller, error) {
	u, err := url.Parse(queue)
	if err != nil || u.Host == "" {
		return nil, usage("--queue %q is not a URL such as http://127.0.0.1:5000/123456789012/messages", queue)
	}
	cfg, err := awsconf.Load(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	client := sqs.NewFromConfig(cfg, func(o *sqs.Options) {
		if o.BaseEndpoint == nil {
			o.BaseEndpoint = aws.String(u.Scheme + "://" + u.Host)
		}
	})
	return &lambdahost.Poller{Invoker: host, Function: local.Queue, Client: client, QueueURL: queue, Region: cfg.Region, Logger: log}, nil
}
