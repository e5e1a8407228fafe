package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"backstop/client"
	"backstop/lib/fault"
)

func newSend() *cobra.Command {
	var o sendOptions
	var burst burstOptions
	c := &cobra.Command{
		Use:   "send --sink NAME --body TEXT | --file FILE --queue URL",
		Short: "Send one message through a sink, or a file of requests through the queue",
		Long: `Send makes one delivery. It makes the delivery id itself and prints it first (to standard error), so
that a send whose answer was lost can be repeated: the same id sent again to the same sink is answered, not
sent twice. It does so by itself when the message was handed back (503, the same delivery under way) or no
answer came, up to --tries times.

The exit code is 0 when the message is safe: delivered, dead-lettered (kept, to be replayed; do not send
it again) or accepted. With any other exit code it is still yours: run the command again with --id.

With --file it puts requests on the queue instead, one JSON object per line as POST /v1/messages takes them
(expires_at, send_after and group too), ten in each call, with your AWS credentials. Each line is checked first.
A request without an id gets one, which is printed with the line's number before it is sent. What was not taken is
named, and written to the file of --failed-to, with its id: sending that file is safe. The exit code is 1
when a line was not taken.

` + laterHelp + "\n\n" + connectHelp,
		Example: `  backstop send --sink ops-slack --subject "Disk full" --body "db-1 has 2% left"
  backstop send --sink mail --to ann@example.com --subject Hello --body @letter.html
  echo '{"event":"paid"}' | backstop send --sink partner --to https://example.com/hook --body -
  backstop send --sink ops-slack --metadata blocks="$(cat blocks.json)" --body fallback -o json
  backstop send --file messages.ndjson --queue "$QUEUE" --failed-to left.ndjson
  backstop send --sink mail --to ann@example.com --body @unread.html --after 30s --expires-in 1h
  backstop send --id 0198c2a4-5f0e-7c3a-9d43-0b6c1f1e2d3c --sink ops-slack --body "again, safely"`,
		Args: cobra.NoArgs,
	}
	conn := addConnection(c)
	f := c.Flags()
	f.StringVar(&o.sink, "sink", "", "name of the sink")
	_ = c.RegisterFlagCompletionFunc("sink", completeSinks(conn))
	f.StringVar(&o.id, "id", "", "delivery id, to repeat an earlier send (default: a new one)")
	f.StringVar(&o.to, "to", "", "email address or webhook URL, for sinks that take one (default: the sink's own)")
	f.StringVar(&o.recipient, "recipient", "", "recipient as JSON, for kinds of sinks that --to does not know")
	f.StringVar(&o.subject, "subject", "", "subject")
	f.StringVar(&o.body, "body", "", "body: text, @FILE, or - for standard input (HTML for email, mrkdwn for Slack, JSON for webhooks)")
	f.StringArrayVar(&o.metadata, "metadata", nil, "KEY=VALUE, repeatable: a header, or Slack's blocks")
	f.IntVar(&o.tries, "tries", 5, "how often to send when the message is handed back; 1 does not repeat")
	f.StringVar(&burst.file, "file", "", "requests to put on the queue, one per line; - for standard input")
	f.StringVar(&burst.queue, "queue", "", "URL of the queue for --file")
	f.StringVar(&burst.failedTo, "failed-to", "", "new file for the lines of --file that were not taken")
	o.later.add(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if !given(c, "file", "queue", "failed-to") {
			return o.send(c, conn)
		}
		if given(c, "sink", "id", "to", "recipient", "subject", "body", "metadata", "async", "after", "expires-at", "expires-in", "group") {
			return usage("--file says what is sent, by --queue: leave the flags of a single message out")
		}
		if o.tries < 1 || o.tries > 20 {
			return usage("--tries %d: want 1 to 20", o.tries)
		}
		burst.tries = o.tries
		return burst.run(c)
	}
	return c
}

// sendOptions are the flags of send.
type sendOptions struct {
	id, sink, to, recipient, subject, body string
	metadata                               []string
	tries                                  int
	later                                  laterOptions
}

func (o sendOptions) send(c *cobra.Command, conn *connection) error {
	r, err := o.request(c.InOrStdin())
	if err == nil {
		err = o.later.apply(c, &r, time.Now())
	}
	if err != nil {
		return err
	}
	api, err := conn.openWith(c, client.Options{
		Tries: o.tries, BaseWait: time.Second, MaxWait: maxPause,
		OnRetry: func(why error, wait time.Duration) {
			note(c, "%s; sending the same id again in %s", message(why), wait.Round(time.Second/10))
		},
	})
	if err != nil {
		return err
	}
	note(c, "delivery %s", r.ID)
	a, err := api.Send(c.Context(), r)
	if err != nil {
		return stillYours(err, r, conn)
	}
	if api.json {
		return printJSON(api.out, a.JSON)
	}
	if err := printSent(api.out, a); err != nil {
		return err
	}
	noteAccepted(c, r, a, conn)
	return nil
}

func (o sendOptions) request(stdin io.Reader) (client.SendRequest, error) {
	r := client.SendRequest{ID: o.id, Sink: o.sink, Message: client.SendMessage{Subject: o.subject}}
	if r.Sink == "" {
		return r, usage("--sink is missing: 'backstop sinks' lists them")
	}
	if o.tries < 1 || o.tries > 20 {
		return r, usage("--tries %d: want 1 to 20", o.tries)
	}
	if r.ID == "" {
		r.ID = uuid.Must(uuid.NewV7()).String()
	}
	to, err := recipientOf(o.to, o.recipient)
	if err != nil {
		return r, err
	}
	if to != nil {
		r.Recipient = to
	}
	if r.Message.Metadata, err = pairs(o.metadata); err != nil {
		return r, err
	}
	r.Message.Body, err = readBody(o.body, stdin)
	return r, err
}

// recipientOf makes the recipient that the sink's kind reads.
func recipientOf(to, raw string) (json.RawMessage, error) {
	switch {
	case to != "" && raw != "":
		return nil, usage("--to and --recipient exclude each other")
	case raw != "":
		if !json.Valid([]byte(raw)) {
			return nil, usage("--recipient is not valid JSON")
		}
		return json.RawMessage(raw), nil
	case to == "":
		return nil, nil
	case strings.HasPrefix(to, "https://"), strings.HasPrefix(to, "http://"):
		return json.Marshal(map[string]string{"url": to})
	case strings.Contains(to, "@"):
		return json.Marshal(map[string]string{"address": to})
	}
	return nil, usage("--to: want an email address or a URL with http:// or https://; --recipient takes any JSON")
}

func pairs(list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := make(map[string]string, len(list))
	for _, s := range list {
		k, v, ok := strings.Cut(s, "=")
		if !ok || k == "" {
			return nil, usage("--metadata %q: want KEY=VALUE", s)
		}
		if _, twice := m[k]; twice {
			return nil, usage("--metadata %s is given twice", k)
		}
		m[k] = v
	}
	return m, nil
}

func readBody(arg string, stdin io.Reader) (string, error) {
	var b []byte
	var err error
	name, file := strings.CutPrefix(arg, "@")
	switch {
	case arg == "":
		return "", usage("--body is missing: give the text, @FILE, or - for standard input")
	case arg == "-":
		b, err = io.ReadAll(stdin)
	case file:
		b, err = os.ReadFile(name)
	default:
		return arg, nil
	}
	if err != nil {
		return "", usage("--body: %w", err)
	}
	return string(b), nil
}

// stillYours adds how to go on with a message that is not known to be safe.
func stillYours(err error, r client.SendRequest, conn *connection) error {
	if p, ok := errors.AsType[*client.ProblemError](err); ok && p.Code == fault.CodeInvalidArgument && strings.HasPrefix(p.Detail, "recipient") {
		return hinted(err, "%s", aboutRecipient(p.Detail, r.Sink))
	}
	if !client.Repeatable(err) && !errors.Is(err, context.Canceled) {
		return err
	}
	return hinted(err, "The message is still yours. Send it again, safely, with --id %[1]s; whether it arrived after all says\n  backstop delivery show %[2]s %[1]s%[3]s",
		r.ID, r.Sink, conn.flags())
}

// aboutRecipient says what to do about a recipient that the sink does not take.
func aboutRecipient(detail, sink string) string {
	for _, refusal := range []string{"is not public", "not public", "local name"} {
		if strings.Contains(detail, refusal) {
			return "Backstop sends to public addresses only, so that nobody reaches into your network through it. For a sink whose recipients are yours\n" +
				"to trust, " + sink + " can have allow_private_recipients: true (narrow it with allowed_hosts)."
		}
	}
	if strings.Contains(detail, "allowed_hosts") {
		return "The sink " + sink + " names the hosts that it sends to: allowed_hosts in its configuration."
	}
	return "Name it with --to, an address or a URL, or with --recipient as JSON. 'backstop sink kinds' says what each kind takes."
}

func printSent(w io.Writer, a client.SendAnswer) error {
	t := &table{}
	t.add("status", a.Status)
	t.add("delivery", a.DeliveryID)
	if a.Status != client.DeliveryAccepted {
		t.add("attempts", a.Attempts)
	}
	if !a.NotBefore.IsZero() {
		t.add("not before", moment(time.Now(), a.NotBefore))
	}
	if a.Duplicate {
		t.add("duplicate", "yes: this is the first answer again, nothing was sent")
	}
	if a.Status == client.DeliveryDeadLettered {
		if a.Spilled {
			t.add("dead letter", spilledText)
		} else {
			t.add("dead letter", a.ItemID)
		}
		t.add("reason", a.Reason)
		t.add("error", clipTo(a.Error, 200))
	}
	return t.print(w)
}
