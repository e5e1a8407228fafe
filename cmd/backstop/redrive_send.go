package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/spf13/cobra"

	"backstop/internal/queuemessage"
)

func newRedriveSend() *cobra.Command {
	var o redriveOptions
	c := &cobra.Command{
		Use:   "send --redrive-queue URL --queue URL",
		Short: "Send the redrive queue's messages back to the main queue",
		Long: `Send moves messages from the redrive queue to the main queue, one by one: first sent, then deleted, so
nothing is lost whenever it is stopped. Body and attributes stay as they are, with two exceptions, for SQS
gives the moved message another message id and another time. A request without an "id" gets its SQS message id
as "id": that was its delivery id, and without it, what had been delivered before would be delivered again. For
the same reason a message that was sent but could not be deleted does no harm when it is sent once more. And
the time when it was first sent goes with it, as the attribute backstop-sent-at, so that max_age counts from
then; a message that was accepted for later has its time already (backstop-accepted-at).

Messages that come back while the command runs are left where they are.`,
		Example: `  backstop redrive send --redrive-queue "$REDRIVE" --queue "$QUEUE" --dry-run
  backstop redrive send --redrive-queue "$REDRIVE" --queue "$QUEUE" --max 1
  backstop redrive send --redrive-queue "$REDRIVE" --queue "$QUEUE" --yes`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&o.from, "redrive-queue", "", "URL of the redrive queue")
	f.StringVar(&o.to, "queue", "", "URL of the main queue")
	f.IntVar(&o.most, "max", 0, "most messages to send; 0: all")
	f.BoolVar(&o.dryRun, "dry-run", false, "only say how many there are")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	c.RunE = func(c *cobra.Command, _ []string) error { return o.run(c) }
	return c
}

// redriveOptions are the flags of redrive send.
type redriveOptions struct {
	from, to    string
	most        int
	dryRun, yes bool
}

func (o redriveOptions) run(c *cobra.Command) error {
	client, err := o.client(c.Context())
	if err != nil {
		return err
	}
	n, err := waiting(c.Context(), client, o.from)
	if err != nil {
		return err
	}
	if o.most > 0 {
		n = min(n, int64(o.most))
	}
	if o.dryRun {
		_, err := fmt.Fprintf(c.OutOrStdout(), "Would send back about %s.\n", plural(n, "message"))
		return err
	}
	if n == 0 && !o.yes { // the number is approximate: messages that it leaves out must not move unasked
		note(c, "The redrive queue is empty.")
		return nil
	}
	if err := confirm(c, o.yes, fmt.Sprintf("Send about %s back to %s?", plural(n, "message"), o.to)); err != nil {
		return err
	}
	r := &redrive{queues: client, from: o.from, to: o.to, line: newProgress(c, "sending back"), total: n}
	err = r.run(c.Context(), o.most)
	r.line.end()
	if r.untimed > 0 {
		note(c, "%s without room for another attribute: max_age counts from now", plural(int64(r.untimed), "message"))
	}
	if _, werr := fmt.Fprintf(c.OutOrStdout(), "%s sent back\n", plural(int64(len(r.sent)), "message")); err == nil {
		err = werr
	}
	return err
}

// client checks the options and returns a client for both queues.
func (o redriveOptions) client(ctx context.Context) (*sqs.Client, error) {
	u, err := checkQueue("--redrive-queue", o.from)
	if err != nil {
		return nil, err
	}
	if _, err := checkQueue("--queue", o.to); err != nil {
		return nil, err
	}
	switch {
	case o.from == o.to:
		return nil, usage("--redrive-queue and --queue are the same queue")
	case strings.HasSuffix(o.from, ".fifo") != strings.HasSuffix(o.to, ".fifo"):
		return nil, usage("one queue is FIFO and the other is not: SQS pairs a queue with a redrive queue of its own type")
	case o.most < 0:
		return nil, usage("--max %d: want 0 for all, or a number", o.most)
	}
	return openQueue(ctx, u)
}

// redrive moves messages from one queue to another.
type redrive struct {
	queues   queues
	from, to string
	line     *progress
	total    int64
	sent     map[string]bool // ids of the new messages
	untimed  int             // how many of them do not say when they were first sent
}

// run moves up to most messages; 0: until the queue is empty.
func (r *redrive) run(ctx context.Context, most int) error {
	r.sent = map[string]bool{}
	for most == 0 || len(r.sent) < most {
		n := redriveBatch
		if most > 0 {
			n = min(n, most-len(r.sent))
		}
		messages, err := receive(ctx, r.queues, r.from, n)
		if err != nil || len(messages) == 0 {
			return err
		}
		if done, err := r.moveAll(ctx, messages); done || err != nil {
			return err
		}
	}
	return nil
}

// moveAll moves messages, and gives back those that it did not come to. It is done when
// one was sent by this very run: it has failed again.
func (r *redrive) moveAll(ctx context.Context, messages []types.Message) (done bool, err error) {
	for i, m := range messages {
		if err = ctx.Err(); err == nil && !r.sent[aws.ToString(m.MessageId)] {
			err = r.move(ctx, m)
		} else {
			done = true
		}
		if done || err != nil {
			return done, errors.Join(err, giveBack(ctx, r.queues, r.from, messages[i:]))
		}
		r.line.show(int64(len(r.sent)), max(r.total, int64(len(r.sent))), "")
	}
	return false, nil
}

// moveTimeout bounds one message's move, which Ctrl-C does not cut in half.
const moveTimeout = 20 * time.Second

// move sends, then deletes: in between, the message is in both queues and never in none.
func (r *redrive) move(ctx context.Context, m types.Message) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), moveTimeout)
	defer cancel()
	in := r.copyOf(m)
	out, err := r.queues.SendMessage(ctx, in)
	if err == nil && aws.ToString(out.MessageId) == "" {
		err = errors.New("the answer of the main queue has no MessageId, so nothing says that it took the message")
	}
	if err != nil {
		return fmt.Errorf("message %s stays in the redrive queue: %w", aws.ToString(m.MessageId), err)
	}
	r.sent[aws.ToString(out.MessageId)] = true
	if !saysWhen(in.MessageAttributes) {
		r.untimed++
	}
	if _, err := r.queues.DeleteMessage(ctx, &sqs.DeleteMessageInput{QueueUrl: &r.from, ReceiptHandle: m.ReceiptHandle}); err != nil {
		return fmt.Errorf("message %s was sent, but is still in the redrive queue too (sending it again is safe, its delivery id stays): %w",
			aws.ToString(m.MessageId), err)
	}
	return nil
}

// copyOf returns m as the main queue gets it.
func (r *redrive) copyOf(m types.Message) *sqs.SendMessageInput {
	in := &sqs.SendMessageInput{
		QueueUrl: &r.to, MessageBody: aws.String(withID(aws.ToString(m.Body), aws.ToString(m.MessageId))),
		MessageAttributes: m.MessageAttributes,
	}
	in.MessageAttributes = withTime(in, m.Attributes[string(types.MessageSystemAttributeNameSentTimestamp)])
	if group := m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)]; group != "" {
		in.MessageGroupId = &group // a standard queue is fair to groups
	}
	if strings.HasSuffix(r.to, ".fifo") {
		// Not the message's own deduplication id: within five minutes of its first use SQS
		// would accept the message and drop it.
		in.MessageDeduplicationId = aws.String("redrive-" + aws.ToString(m.MessageId))
	}
	if trace := m.Attributes[string(types.MessageSystemAttributeNameAWSTraceHeader)]; trace != "" {
		in.MessageSystemAttributes = map[string]types.MessageSystemAttributeValue{
			string(types.MessageSystemAttributeNameForSendsAWSTraceHeader): {DataType: aws.String("String"), StringValue: &trace},
		}
	}
	return in
}

// saysWhen reports whether the attributes say since when a message is on its way.
func saysWhen(attributes map[string]types.MessageAttributeValue) bool {
	return attributes[queuemessage.AcceptedAt].StringValue != nil || attributes[queuemessage.SentAt].StringValue != nil
}

// withTime returns the attributes of in with the time of its first sending, in milliseconds,
// where they say none yet and SQS takes another one.
func withTime(in *sqs.SendMessageInput, sent string) map[string]types.MessageAttributeValue {
	ms, err := strconv.ParseInt(sent, 10, 64)
	if err != nil || saysWhen(in.MessageAttributes) {
		return in.MessageAttributes
	}
	all := make(map[string]types.MessageAttributeValue, len(in.MessageAttributes)+1)
	maps.Copy(all, in.MessageAttributes)
	all[queuemessage.SentAt] = types.MessageAttributeValue{
		DataType: aws.String("String"), StringValue: aws.String(time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")),
	}
	if len(all) > queuemessage.MaxAttributes || queuemessage.Size(*in.MessageBody, all) > queuemessage.MaxBytes {
		return in.MessageAttributes
	}
	return all
}

// withID gives a request without an id the one that it had as an SQS message, and leaves
// everything else as it is, byte for byte.
func withID(body, messageID string) string {
	var r struct{ ID, Sink string } // names match in any case, as in the function
	if json.Unmarshal([]byte(body), &r) != nil || r.ID != "" || r.Sink == "" {
		return body // it has one, or is no request: then the function will say why
	}
	// At the end, where it also wins over an empty one.
	end := strings.LastIndexByte(body, '}')
	return fmt.Sprintf("%s,\"id\":%q%s", body[:end], messageID, body[end:])
}
