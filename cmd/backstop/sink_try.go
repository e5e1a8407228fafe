package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"backstop/internal/awsconf"
	"backstop/lib/config"
	"backstop/lib/fault"
	"backstop/lib/sinks"
	"backstop/lib/sinks/apns"
	"backstop/lib/sinks/fcm"
	httpkind "backstop/lib/sinks/http"
	"backstop/lib/sinks/slack"
	"backstop/lib/sinks/webhook"
)

// trial is a message that tries a sink out.
type trial struct {
	source                   string
	recipient, subject, body string
	metadata                 []string
	send                     bool
	timeout                  time.Duration
}

func newSinkTest() *cobra.Command {
	var o trial
	c := &cobra.Command{
		Use:   "test NAME",
		Short: "Show what a sink would send, or send it and say what became of it",
		Long: `Test reads the sink from its configuration, as the functions do, and shows the request that it makes of a
message. Nothing is sent. What is configured is [redacted]: every value but scheme and host, every token and
secret, in the URL, the headers and the body. What you give here is shown.

With --send it sends that, once, from this machine: it needs no API, keeps nothing and tries nothing again. Then it
says what the receiver's answer means, and what Backstop would do about it:

  delivered   the receiver has it
  transient   it may pass: tried again, then dead-lettered, and replayed by the schedule
  terminal    it does not pass by itself: dead-lettered, and an operator decides
  gone        terminal, and nothing will ever arrive at this recipient: take it off your list
  ambiguous   it was sent, and whether it was taken is not known: sent again where the receiver recognises a
              second copy, else left to an operator

SOURCE is a folder, a file, ssm:/PATH/* or ssm:/PATH, as 'config check' takes it. The exit code is 0 when the message
was shown or delivered, and 1 when it was sent and not delivered.`,
		Example: `  backstop sink test ops --sinks file:config/sinks
  backstop sink test texts --recipient '{"to": "+14155550100"}' --body "Your order is on its way"
  backstop sink test ops --sinks 'ssm:/backstop/prod/sinks/*' --metadata severity=critical --send`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: first(o.complete),
	}
	addFormat(c)
	f := c.Flags()
	f.StringVar(&o.source, "sinks", "file:config/sinks", "where the sink is configured")
	f.StringVar(&o.recipient, "recipient", "", "recipient as JSON (default: the sink's own)")
	f.StringVar(&o.subject, "subject", "Test", "subject")
	f.StringVar(&o.body, "body", "A test of this sink.", "body: text, @FILE, or - for standard input")
	f.StringArrayVar(&o.metadata, "metadata", nil, "KEY=VALUE, repeatable")
	f.BoolVar(&o.send, "send", false, "send the message, and say what became of it")
	f.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long --send may take")
	c.RunE = func(c *cobra.Command, args []string) error { return o.run(c, args[0]) }
	return c
}

func (o *trial) run(c *cobra.Command, name string) error {
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	m, err := o.message(c)
	if err != nil {
		return err
	}
	raw, err := recipientOf("", o.recipient)
	if err != nil {
		return err
	}
	s, err := o.sink(c.Context(), name)
	if err != nil {
		return err
	}
	to, err := sinks.DecodeRecipient(s, raw)
	if err == nil {
		err = sinks.Validate(s, to, m)
	}
	if err != nil {
		return &exitError{code: exitUsage, err: err}
	}
	ctx := sinks.WithDelivery(c.Context(), sinks.Delivery{AcceptedAt: time.Now(), FirstAttempt: time.Now()})
	p, shown, err := sinks.PreviewOf(ctx, s, to, m)
	if err != nil {
		return err
	}
	result := attemptResult{Sink: name, ID: m.ID}
	if shown {
		result.Request = &p
	}
	if o.send {
		ctx, cancel := context.WithTimeout(ctx, o.timeout)
		defer cancel()
		result.judge(s, s.Send(ctx, to, m))
	}
	if asJSON {
		err = marshalJSON(c.OutOrStdout(), result)
	} else {
		err = result.print(c)
	}
	if err == nil && o.send && result.Outcome != "delivered" {
		err = &exitError{code: exitFailed, err: errors.New("the message was not delivered")}
	}
	return err
}

// message makes the message.
func (o *trial) message(c *cobra.Command) (sinks.Message, error) {
	m := sinks.Message{ID: "test-" + uuid.Must(uuid.NewV7()).String(), Subject: o.subject}
	var err error
	if m.Metadata, err = pairs(o.metadata); err != nil {
		return m, err
	}
	if o.body != "" { // a sink may do with a subject
		m.Body, err = readBody(o.body, c.InOrStdin())
	}
	return m, err
}

// sink builds the sink called name, as the functions do.
func (o *trial) sink(ctx context.Context, name string) (sinks.Sink, error) {
	setUpKinds(ctx)
	source, err := readSource(o.source)
	if err != nil {
		return nil, err
	}
	client := lazySSM(sync.OnceValues(func() (*ssm.Client, error) { return ssmClient(ctx) }))
	snapshot, err := config.NewCache(source, config.Options{SSM: client, Logger: slog.New(slog.DiscardHandler)}).Get(ctx)
	if err != nil {
		if cause := errors.Unwrap(err); cause != nil {
			err = cause
		}
		return nil, err
	}
	s, ok := snapshot.Sink(name)
	switch {
	case !ok:
		return nil, &exitError{
			code: exitNotFound, err: fmt.Errorf("no sink %q in %s", name, source), hint: "There are " + strings.Join(snapshot.Names(), ", ") + ".",
		}
	case s.Err != nil:
		return nil, hinted(s.Err, "All that is wrong with it says\n  backstop config check %s", source)
	}
	return s.Sink, nil
}

// complete offers the names of the sinks in the source.
func (o *trial) complete(c *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completeWithin)
	defer cancel()
	source, err := readSource(o.source)
	if err != nil || source.SSM() {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	snapshot, err := config.NewCache(source, config.Options{}).Get(ctx)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []cobra.Completion
	for _, d := range snapshot.Describe() {
		names = append(names, choice(d.Name, "%s", cmp.Or(d.Kind, "misconfigured")))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// setUpKinds lets sinks use this machine's proxy, and sign by the operator's AWS credentials, as the
// functions do with theirs.
func setUpKinds(ctx context.Context) {
	proxy := http.ProxyFromEnvironment
	httpkind.SetDefaults(&httpkind.Options{Proxy: proxy, Sign: awsconf.Sign(sync.OnceValues(func() (aws.Config, error) { return awsConfig(ctx) }))})
	sinks.RegisterFactory(apns.Kind, apns.Factory(&apns.Options{Proxy: proxy}))
	sinks.RegisterFactory(fcm.Kind, fcm.Factory(&fcm.Options{Proxy: proxy}))
	sinks.RegisterFactory(slack.Kind, slack.Factory(&slack.Options{Proxy: proxy}))
	sinks.RegisterFactory(webhook.Kind, webhook.Factory(&webhook.Options{Proxy: proxy}))
}

// attemptResult is what came of a trial.
type attemptResult struct {
	Sink    string         `json:"sink"`
	ID      string         `json:"id"`
	Request *sinks.Preview `json:"request,omitempty"` // nil: the kind shows none
	// Outcome is empty where nothing was sent.
	Outcome    string     `json:"outcome,omitempty"`
	Meaning    string     `json:"meaning,omitempty"`
	Code       fault.Code `json:"code,omitempty"`
	Error      string     `json:"error,omitempty"`
	RetryAfter string     `json:"retry_after,omitempty"`
}

// judge says what came of a Send.
func (t *attemptResult) judge(s sinks.Sink, err error) {
	if err != nil {
		t.Code, t.Error = sinks.CodeOf(err), sinks.SafeError(err).Error()
	}
	window := sinks.DedupWindow(s)
	switch {
	case err == nil:
		t.Outcome, t.Meaning = "delivered", "the receiver has it"
	case sinks.IsAmbiguous(err):
		t.Outcome, t.Meaning = "ambiguous", "it was sent, and whether it was taken is not known. "
		switch {
		case window < 0:
			t.Meaning += "The receiver recognises a second copy, so Backstop would send it again"
		case window > 0:
			t.Meaning += fmt.Sprintf("The receiver recognises a second copy for %s, so Backstop would send it again within that time only", window)
		default:
			t.Meaning += "The receiver recognises no second copy, so Backstop would leave it to an operator"
		}
		t.Meaning += " (on_ambiguous says otherwise)"
	case sinks.IsGone(err):
		t.Outcome, t.Meaning = "gone", "nothing will ever arrive at this recipient: take it off your list. Backstop would keep the message as a dead letter"
	case sinks.IsTransient(err), errors.Is(err, context.DeadlineExceeded):
		t.Outcome, t.Meaning = "transient", "it may pass. Backstop would try again, then keep it as a dead letter, which the schedule replays"
		if wait := sinks.RetryAfterOf(err); wait > 0 {
			t.RetryAfter = wait.String()
			t.Meaning += fmt.Sprintf("; the receiver asked to wait %s", wait)
		}
	default:
		t.Outcome, t.Meaning = "terminal", "it does not pass by itself. Backstop would keep it as a dead letter, and an operator decides"
	}
}

func (t *attemptResult) print(c *cobra.Command) error {
	var b strings.Builder
	if p := t.Request; p == nil {
		note(c, "The kind of %s shows no request.", t.Sink)
	} else {
		b.WriteString(strings.TrimSpace(p.Method+" "+p.URL) + "\n")
		for _, name := range slices.Sorted(maps.Keys(p.Header)) {
			fmt.Fprintf(&b, "%s: %s\n", name, oneLine(p.Header[name]))
		}
		fmt.Fprintf(&b, "\n%s\n", strings.TrimSuffix(p.Body, "\n"))
	}
	if t.Outcome != "" {
		fmt.Fprintf(&b, "\n%s: %s.\n", t.Outcome, t.Meaning)
		if t.Error != "" {
			fmt.Fprintf(&b, "%s\n", t.Error)
		}
	}
	if _, err := fmt.Fprint(c.OutOrStdout(), printable(b.String())); err != nil {
		return err
	}
	if t.Outcome == "" {
		note(c, "Nothing was sent: --send sends it.")
	}
	return nil
}
