package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"backstop/client"
	"backstop/internal/delay"
	"backstop/internal/queuemessage"
	"backstop/internal/strictjson"
	"backstop/internal/terms"
	"backstop/lib/fault"
)

// burstOptions are the flags of send that put a file of requests on the queue.
type burstOptions struct {
	file, queue, failedTo string
	tries                 int
}

// batchSender is the part of the SQS client that a burst needs.
type batchSender interface {
	SendMessageBatch(context.Context, *sqs.SendMessageBatchInput, ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error)
}

func (o burstOptions) run(c *cobra.Command) error {
	asJSON, err := wantsJSON(c)
	if err != nil {
		return err
	}
	if o.file == "" || o.queue == "" {
		return usage("--file and --queue go together: the requests' file, and the queue that takes them")
	}
	if asJSON {
		return usage("--file prints lines; leave -o json out")
	}
	u, err := checkQueue("--queue", o.queue)
	if err != nil {
		return err
	}
	in := c.InOrStdin()
	if o.file != "-" {
		f, err := os.Open(o.file)
		if err != nil {
			return usage("--file: %w", err)
		}
		defer f.Close()
		in = f
	}
	queue, err := openQueue(c.Context(), u)
	if err != nil {
		return err
	}
	b := &burst{c: c, queue: queue, url: o.queue, fifo: strings.HasSuffix(o.queue, ".fifo"), tries: o.tries, line: newProgress(c, "putting on the queue")}
	if o.failedTo != "" {
		f, err := os.OpenFile(o.failedTo, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return usage("--failed-to: %w", err)
		}
		b.failed = f
	}
	err = b.run(c.Context(), in)
	b.line.end()
	if b.failed != nil {
		err = errors.Join(err, b.failed.Close())
	}
	return b.report(err, o)
}

// report says how many lines are on the queue, and how to go on with the others.
func (b *burst) report(err error, o burstOptions) error {
	if _, werr := fmt.Fprintf(b.c.OutOrStdout(), "%s put on the queue\n", plural(int64(b.taken), "message")); werr != nil {
		err = errors.Join(err, werr)
	}
	if b.left == 0 {
		return err
	}
	if err == nil {
		err = &exitError{code: exitFailed, err: fmt.Errorf("%s not taken", plural(int64(b.left), "line"))}
	} else {
		err = fmt.Errorf("%s not taken: %w", plural(int64(b.left), "line"), err)
	}
	if o.failedTo == "" {
		return hinted(err, "The lines named above are still yours. With the ids printed here they can be sent again, safely; --failed-to FILE writes them down.")
	}
	return hinted(err, "They are in %s, with their ids: cure what is wrong with them, and send that file. What may be on the queue after all is delivered once.", o.failedTo)
}

// burst puts lines on a queue in calls of ten.
type burst struct {
	c      *cobra.Command
	queue  batchSender
	url    string
	fifo   bool
	tries  int
	line   *progress
	failed io.WriteCloser // nil: nobody keeps them

	batch []*burstLine
	size  int   // of batch, as SQS counts
	taken int   // lines on the queue
	left  int   // lines that are not, or of which nobody says so
	ended error // why nothing more is sent; nil: it goes on
}

// burstLine is a line of the file, and its message.
type burstLine struct {
	number  int
	request client.SendRequest
	body    string
	group   string
	delay   int32
}

const (
	// burstLineBytes is the longest line: SQS takes a message of 1 MiB, which JSON may write in
	// six times as many.
	burstLineBytes = 6*queuemessage.MaxBytes + 4096
	// burstTimeout bounds one call, which Ctrl-C does not cut in half.
	burstTimeout = 30 * time.Second
)

func (b *burst) run(ctx context.Context, in io.Reader) error {
	r := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		text, long, err := nextLine(r)
		if err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(b.flush(ctx), fmt.Errorf("line %d: %w", n, err))
		}
		switch {
		case long:
			werr := b.leave(n, "", fmt.Errorf("longer than %d bytes, so not in the file of failed lines either", burstLineBytes), nil)
			if werr != nil {
				return werr
			}
		case len(bytes.TrimSpace(text)) > 0:
			if werr := b.add(ctx, n, text); werr != nil {
				return werr
			}
		}
		if err != nil { // the end
			err := b.flush(ctx)
			return errors.Join(err, b.ended)
		}
	}
}

// nextLine returns a line without its end, or says that it is longer than any can be.
func nextLine(r *bufio.Reader) (line []byte, long bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > burstLineBytes {
			line, long = nil, true
		}
		if !long {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return bytes.TrimSuffix(line, []byte("\n")), long, err
		}
	}
}

// add takes a line into the batch; errors are those of this machine.
func (b *burst) add(ctx context.Context, n int, text []byte) error {
	l, made, why := b.read(n, text, time.Now())
	if why != nil {
		return b.leave(n, "", why, text)
	}
	if made { // before it is sent: whatever happens then, the line can be sent again under it
		if _, err := fmt.Fprintf(b.c.OutOrStdout(), "line %d: id %s\n", n, l.request.ID); err != nil {
			return err
		}
	}
	if len(b.batch) == queuemessage.MaxEntries || b.size+len(l.body) > queuemessage.MaxBytes {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.batch, b.size = append(b.batch, l), b.size+len(l.body)
	return nil
}

// read checks a line, and gives its request an id if it has none.
func (b *burst) read(n int, text []byte, now time.Time) (l *burstLine, made bool, err error) {
	l = &burstLine{number: n}
	var in struct {
		ID        string             `json:"id"`
		Sink      string             `json:"sink"`
		Recipient json.RawMessage    `json:"recipient"`
		Message   client.SendMessage `json:"message"`
		ExpiresAt string             `json:"expires_at"`
		SendAfter string             `json:"send_after"`
		Group     string             `json:"group"`
	}
	if err := strictjson.Decode(text, &in); err != nil {
		return l, false, errors.New(strictjson.Text("line", err))
	}
	r := &l.request
	*r = client.SendRequest{ID: in.ID, Sink: in.Sink, Message: in.Message, SendAfter: in.SendAfter, Group: in.Group}
	if in.Recipient != nil {
		r.Recipient = in.Recipient
	}
	if made = r.ID == ""; made {
		r.ID = uuid.Must(uuid.NewV7()).String()
	}
	errs := []error{fault.CheckID(r.ID), fault.CheckName(r.Sink)}
	if r.Message.Body == "" {
		errs = append(errs, errors.New("message.body: missing or empty"))
	}
	var wait time.Duration
	if in.SendAfter != "" {
		wait, err = terms.SendAfter(in.SendAfter)
		if errs = append(errs, err); b.fifo {
			errs = append(errs, errors.New("send_after: a FIFO queue delays no single message"))
		}
	}
	if in.ExpiresAt != "" {
		r.ExpiresAt, err = terms.ExpiresAt(in.ExpiresAt)
		if errs = append(errs, err); err == nil && !r.ExpiresAt.After(now.Add(wait)) {
			errs = append(errs, fmt.Errorf("expires_at: %s is over before it is sent", in.ExpiresAt))
		}
	}
	l.group = r.Sink
	if in.Group != "" {
		l.group, err = terms.Group(in.Group)
		errs = append(errs, err)
	}
	l.delay = int32(wait / time.Second)
	if err := errors.Join(errs...); err != nil {
		return l, made, err
	}
	bare := *r
	bare.SendAfter, bare.Group = "", "" // they are the queue's
	if l.body, err = queuemessage.Encode(bare); err == nil && len(l.body) > queuemessage.MaxBytes {
		err = fmt.Errorf("%d bytes; the queue takes %d", len(l.body), queuemessage.MaxBytes)
	}
	return l, made, err
}

// leave notes a line that is not on the queue. text is what the file of failed lines gets.
func (b *burst) leave(n int, id string, why error, text []byte) error {
	b.left++
	if id != "" {
		id = " (id " + id + ")"
	}
	note(b.c, "line %d%s: %s", n, id, oneLine(message(why)))
	if b.failed == nil || text == nil {
		return nil
	}
	_, err := b.failed.Write(append(bytes.TrimSpace(text), '\n'))
	return err
}

// leaveLine notes a line whose request is right: it is written with its id.
func (b *burst) leaveLine(l *burstLine, why error) error {
	text, err := queuemessage.Encode(l.request)
	if err != nil {
		return err
	}
	return b.leave(l.number, l.request.ID, why, []byte(text))
}

// flush sends the batch. What the queue refuses for a while is sent again, up to tries in all;
// where the order of groups counts, nothing follows what was not taken.
func (b *burst) flush(ctx context.Context) error {
	batch := b.batch
	b.batch, b.size = nil, 0
	if b.ended == nil {
		b.ended = ctx.Err()
	}
	if b.ended != nil {
		for _, l := range batch {
			if err := b.leaveLine(l, errors.New("not sent")); err != nil {
				return err
			}
		}
		return nil
	}
	for try := 1; len(batch) > 0; try++ {
		refused, err := b.send(ctx, batch)
		if err != nil {
			b.ended = err
		}
		var again []*burstLine
		for _, l := range batch {
			f, bad := refused[l]
			switch {
			case !bad:
				b.taken++
			case f.again && try < b.tries && !b.fifo && b.ended == nil && ctx.Err() == nil:
				again = append(again, l)
			default:
				if err := b.leaveLine(l, f.why); err != nil {
					return err
				}
				if b.fifo && b.ended == nil {
					b.ended = fmt.Errorf("nothing may overtake line %d", l.number)
				}
			}
		}
		b.line.show(int64(b.taken), 0, "")
		if batch = again; len(batch) > 0 {
			wait := delay.Exponential{Base: 200 * time.Millisecond, Max: 5 * time.Second}.Wait(try-1, nil)
			_ = delay.Sleep(ctx, wait) // the next round looks at ctx
		}
	}
	return nil
}

// refusal is why a line was not taken.
type refusal struct {
	why   error
	again bool // it may be taken later
}

// send makes one call, and returns what is not known to be on the queue. An error is of the
// call as a whole.
func (b *burst) send(ctx context.Context, batch []*burstLine) (map[*burstLine]refusal, error) {
	in := &sqs.SendMessageBatchInput{QueueUrl: &b.url}
	for i, l := range batch {
		e := types.SendMessageBatchRequestEntry{Id: aws.String(strconv.Itoa(i)), MessageBody: &l.body, MessageGroupId: &l.group, DelaySeconds: l.delay}
		if b.fifo {
			e.MessageDeduplicationId = aws.String(l.deduplicationID())
		}
		in.Entries = append(in.Entries, e)
	}
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), burstTimeout)
	defer cancel()
	refused := map[*burstLine]refusal{}
	out, err := b.queue.SendMessageBatch(call, in)
	if err != nil {
		for _, l := range batch {
			refused[l] = refusal{why: errors.New("the queue did not say that it took it; see below")}
		}
		return refused, err
	}
	taken := map[string]bool{}
	for _, s := range out.Successful {
		taken[aws.ToString(s.Id)] = aws.ToString(s.MessageId) != ""
	}
	for i, l := range batch {
		if !taken[strconv.Itoa(i)] {
			refused[l] = refusal{why: errors.New("the queue's answer does not name it"), again: true}
		}
	}
	for _, f := range out.Failed {
		if i, err := strconv.Atoi(aws.ToString(f.Id)); err == nil && i >= 0 && i < len(batch) {
			refused[batch[i]] = refusal{fmt.Errorf("%s: %s", aws.ToString(f.Code), aws.ToString(f.Message)), !f.SenderFault}
		}
	}
	return refused, nil
}

// deduplicationID is the same for the same line, sent again.
func (l *burstLine) deduplicationID() string {
	h := sha256.New()
	for _, s := range []string{l.request.Sink, l.request.ID, l.body} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	return hex.EncodeToString(h.Sum(nil))
}
