package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backstop/internal/console"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

func newDev() *cobra.Command {
	var o local.Options
	var every time.Duration
	var queue, consoleAddr, journal string
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine until you stop it",
		Long: `Dev runs the functions from their real binaries: an HTTP API, an Invoke API and the operator's
console in front, an embedded Redis and an inbox behind, the replay schedule beside them. Nothing leaves this
machine unless you name sinks of your own. All of it answers to localhost, 127.0.0.1 and [::1] only, and to no other
site's pages; programs such as curl and the AWS CLI need nothing for it.

A queue in memory feeds the send function, and takes what is to be sent later; what comes back five times
goes to its redrive queue. It speaks SQS' protocol: the AWS SDK and CLI use it with any credentials.
With --queue it is a queue of any SQS-compatible endpoint instead (AWS_ENDPOINT_URL_SQS, or the URL's own
host), with your AWS credentials, as they are at the start. Sinks with fifo: hold must know when a receive is
the last: unless that queue's maxReceiveCount is 5, name it with --env BACKSTOP_QUEUE_MAX_RECEIVES=n.

A journal keeps each dead letter in a folder too, so that a queue that is wiped can be restored. Beside the
embedded Redis it is a folder of this run, which is removed at the end. Name one to keep what failed from run to
run: the embedded Redis forgets, and 'backstop dlq restore' brings it back. With --redis there is none unless you
name it.`,
		Example: `  backstop dev
  backstop dev --sinks file:config/sinks --redis redis://127.0.0.1:6379
  backstop dev --journal .backstop/journal
  backstop dev --queue http://127.0.0.1:5000/123456789012/messages`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&o.APIAddr, "api-addr", "127.0.0.1:3000", "where the HTTP API listens; it answers to localhost only")
	f.StringVar(&o.InvokeAddr, "invoke-addr", "127.0.0.1:3001", "where the Invoke API listens")
	f.StringVar(&o.Inbox.ControlAddr, "inbox-addr", "127.0.0.1:3002", "where the inbox shows what arrived")
	f.StringVar(&consoleAddr, "console-addr", "127.0.0.1:3003", "where the console listens, on loopback")
	f.StringVar(&o.QueueAddr, "queue-addr", "127.0.0.1:3004", "where the queue in memory listens")
	f.StringVar(&o.RedisURL, "redis", "", "redis:// or rediss:// URL to use instead of an embedded Redis")
	f.StringVar(&journal, "journal", "", "folder of the journal of dead letters, or off; unless named a folder of this run, and off with --redis")
	_ = c.MarkFlagDirname("journal")
	f.StringVar(&o.Sinks, "sinks", "", "sink configuration to use instead of the sample sinks, such as file:config/sinks")
	f.StringToStringVar(&o.Env, "env", nil, "environment variables for the functions, NAME=VALUE")
	f.DurationVar(&every, "every", time.Minute, "interval of the replay schedule; 0 turns it off")
	f.StringVar(&queue, "queue", "", "URL of an SQS queue to use instead of the one in memory")
	bin := addBin(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := checkBin(*bin); err != nil {
			return err
		}
		o.Bin, o.Samples, o.Journal = *bin, true, journalFolder(journal, o)
		o.Logger = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
		o.Output = func(function, line string) { _ = printLog(c.ErrOrStderr(), function, line) }
		if queue != "" {
			var err error
			if o.Queue, err = devQueue(c.Context(), queue); err != nil {
				return err
			}
		}
		return runDev(c, o, consoleAddr, every)
	}
	return c
}

// journalFolder is the folder of the journal that the flag asks for; empty: none.
func journalFolder(flag string, o local.Options) string {
	_, named := o.Env["BACKSTOP_JOURNAL"] // it wins
	switch {
	case flag == "off", named, flag == "" && o.RedisURL != "":
		return ""
	case flag == "":
		return local.TemporaryJournal
	}
	return flag
}

func runDev(c *cobra.Command, o local.Options, consoleAddr string, every time.Duration) error {
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
	failed := make(chan error, 1)
	if every > 0 {
		schedule := &lambdahost.Schedule{Invoker: stack.Host, Function: local.Replay, Every: every, Logger: o.Logger}
		go func() { failed <- schedule.Run(ctx) }()
	}
	redrive := ""
	if stack.RedriveURL != "" {
		redrive = "\n  Redrive     " + stack.RedriveURL + "    what came back five times"
	}
	journal, wipe := "", ""
	if stack.Journal != "" {
		journal = "\n  Journal     " + stack.Journal + "    dead letters, beside the queue"
	}
	if stack.Journal != "" && stack.Redis != nil {
		wipe = fmt.Sprintf("\n  redis-cli -u %s FLUSHALL && backstop dlq restore --yes    # the queue is lost, and comes back", stack.RedisURL)
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), `Backstop runs on this machine. Stop it with Ctrl-C.

  HTTP API    %[1]s
  Invoke API  %[2]s
  Inbox       %[3]s    what the sample sinks sent
  Console     %[5]s    what failed, and replay, for the browser
  Queue       %[6]s%[7]s%[8]s

Try:

  curl -i %[1]s/v1/messages -d '{"sink":"webhook-demo","message":{"body":"hello"}}'
  curl -i %[1]s/v1/messages -d '{"sink":"webhook-down","message":{"body":"nobody is home"}}'
  echo '{"sink":"webhook-demo","message":{"body":"by the queue"}}' | backstop send --queue %[6]s --file -
  curl -s %[1]s/v1/dlq/items
  curl -s -X POST '%[3]s/heal?path=%[4]s'    # webhook-down works again; the schedule replays%[9]s

`, stack.APIURL, stack.InvokeURL, stack.Inbox.ControlURL, local.PathDown, page.URL, stack.QueueURL, redrive, journal, wipe)
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

// devQueue calls the queue through the endpoint in its URL, or the one that the AWS
// environment names. The send function gets the same credentials and endpoint.
func devQueue(ctx context.Context, queue string) (*local.RequestQueue, error) {
	u, err := checkQueue("--queue", queue)
	if err != nil {
		return nil, err
	}
	if strings.Count(strings.Trim(u.Path, "/"), "/") < 1 {
		return nil, usage("--queue %q does not end in /account/name", queue)
	}
	cfg, err := sqsConfig(ctx, u)
	if err != nil {
		return nil, err
	}
	who, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	env := map[string]string{
		"AWS_ACCESS_KEY_ID": who.AccessKeyID, "AWS_SECRET_ACCESS_KEY": who.SecretAccessKey, "AWS_SESSION_TOKEN": who.SessionToken, "AWS_REGION": cfg.Region,
	}
	for _, name := range []string{"AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"} {
		if v := os.Getenv(name); v != "" {
			env["AWS_ENDPOINT_URL_SQS"] = v
			break
		}
	}
	return &local.RequestQueue{URL: queue, Client: sqsClient(cfg, u), Region: cfg.Region, Env: env}, nil
}
