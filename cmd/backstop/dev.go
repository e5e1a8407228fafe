package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
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
	var raw bool
	var forwardTo string
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine until you stop it",
		Long: `Dev runs the functions from their real binaries: an HTTP API, an Invoke API and the operator's
console in front, an embedded Redis and an inbox behind, the replay schedule beside them. Nothing leaves this
machine unless you name sinks of your own. All of it answers to localhost, 127.0.0.1 and [::1] only, and to no other
site's pages; programs such as curl and the AWS CLI need nothing for it.

With --sinks it runs your sinks, checked first as 'backstop config check' does. Edit them while it runs: a file that is saved
counts for the next request, and a line says what was read or what is wrong. 'backstop sink example KIND' prints a
sink to begin with.

With --forward-to nothing leaves for a receiver: whatever any sink would send goes to that URL, a request over HTTP with its own method,
headers and body (but for Authorization), a mail as message/rfc822. Its answers count as the receiver's. Recipients are checked as ever. Kinds of
your own have to know of it (sinks.ForwardOf).

It prints a line for each delivery and replay, for each request that fails or changes something, and for each warning; --raw
prints the functions' own lines instead, metrics included.

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
  backstop dev --sinks config/sinks --forward-to http://127.0.0.1:8080/received
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
	f.StringVar(&forwardTo, "forward-to", "", "URL that gets everything, instead of where your sinks send it")
	f.BoolVar(&raw, "raw", false, "print what the functions write, as they write it: JSON and metrics")
	bin := addBin(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := checkBin(*bin); err != nil {
			return err
		}
		var own *ownSinks
		if o.Sinks != "" {
			var err error
			if own, err = readOwnSinks(c, o.Sinks); err != nil {
				return err
			}
			o.Sinks = own.source.String()
		}
		if forwardTo != "" {
			if u, err := url.Parse(forwardTo); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
				return usage("--forward-to: want http://HOST:PORT/PATH")
			}
			o.Env = maps.Clone(o.Env)
			if o.Env == nil {
				o.Env = map[string]string{}
			}
			o.Env["BACKSTOP_FORWARD_TO"] = forwardTo
		}
		if o.RedisURL != "" {
			if err := askRedis(c.Context(), o.RedisURL, o.Env); err != nil {
				return err
			}
		}
		o.Bin, o.Samples, o.Journal = *bin, own == nil, journalFolder(journal, o)
		lines := &devLines{w: c.ErrOrStderr()}
		o.Logger, o.Output, o.Requests = slog.New(slog.NewTextHandler(c.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn})), lines.function, lines.requests
		if raw {
			o.Logger = slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))
			o.Output, o.Requests = func(function, line string) { _ = printLog(c.ErrOrStderr(), function, line) }, nil
		}
		if queue != "" {
			var err error
			if o.Queue, err = devQueue(c.Context(), queue); err != nil {
				return err
			}
		}
		return runDev(c, o, own, lines, consoleAddr, every)
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

func runDev(c *cobra.Command, o local.Options, own *ownSinks, lines *devLines, consoleAddr string, every time.Duration) error {
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
	if own != nil {
		go own.watch(ctx, lines.say)
	}
	if _, err := fmt.Fprint(c.OutOrStdout(), banner(stack, page.URL, own)); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// banner says where everything is, and what to try first.
func banner(stack *local.Stack, console string, own *ownSinks) string {
	var b strings.Builder
	row := func(what, where, about string) { fmt.Fprintf(&b, "  %-10s  %s%s\n", what, where, about) }
	b.WriteString("Backstop runs on this machine. Stop it with Ctrl-C.\n\n")
	row("HTTP API", stack.APIURL, "")
	row("Invoke API", stack.InvokeURL, "")
	if own == nil {
		row("Inbox", stack.Inbox.ControlURL, "    what the sample sinks sent")
	} else {
		row("Sinks", strings.Join(own.snapshot.Names(), ", "), "    read from "+own.source.String()+"; edit them")
	}
	row("Console", console, "    what failed, and replay, for the browser")
	row("Queue", stack.QueueURL, "")
	if stack.RedriveURL != "" {
		row("Redrive", stack.RedriveURL, "    what came back five times")
	}
	if stack.Journal != "" {
		row("Journal", stack.Journal, "    dead letters, beside the queue")
	}
	b.WriteString("\nTry:\n\n")
	first := `{"sink":"webhook-demo","message":{"body":"hello"}}`
	if own != nil {
		first = own.firstSend()
	}
	fmt.Fprintf(&b, "  curl -i %s/v1/messages -d %s\n", stack.APIURL, shellQuote(first))
	if own == nil {
		fmt.Fprintf(&b, `  curl -i %[1]s/v1/messages -d '{"sink":"webhook-down","message":{"body":"nobody is home"}}'
  echo '{"sink":"webhook-demo","message":{"body":"by the queue"}}' | backstop send --queue %[2]s --file -
`, stack.APIURL, stack.QueueURL)
	}
	fmt.Fprintf(&b, "  curl -s %s/v1/dlq/items\n", stack.APIURL)
	if own == nil {
		fmt.Fprintf(&b, "  curl -s -X POST '%s/heal?path=%s'    # webhook-down works again; the schedule replays\n", stack.Inbox.ControlURL, local.PathDown)
	}
	if stack.Journal != "" && stack.Redis != nil {
		fmt.Fprintf(&b, "  redis-cli -u %s FLUSHALL && backstop dlq restore --yes    # the queue is lost, and comes back\n", stack.RedisURL)
	}
	b.WriteString("\n")
	return b.String()
}

// shellQuote quotes s for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

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
