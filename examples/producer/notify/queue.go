package notify

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"backstop/client"
	"backstop/lib/fault"
)

// What SQS takes in one call, and how long it delays a message.
const (
	batchEntries = 10
	batchBytes   = 1 << 20
	longestDelay = 15 * time.Minute
)

// Queue sends through the queue, a standard one, in batches. A message that it takes is safe
// there: what Backstop hands back stays in the queue, and at last goes to its redrive queue.
type Queue struct {
	Client *sqs.Client
	URL    string
}

// Send implements Sender. Nobody answers what is wrong with a message in a queue, so what
// can be seen here is refused here.
func (q *Queue) Send(ctx context.Context, messages ...client.SendRequest) (back []HandedBack) {
	var b batch
	flush := func() {
		back = append(back, q.flush(ctx, b)...)
		b = batch{}
	}
	for _, m := range messages {
		e, err := encode(m)
		if err != nil {
			back = append(back, HandedBack{Message: m, Err: err})
			continue
		}
		size := len(*e.MessageBody)
		if len(b.messages) == batchEntries || b.size+size > batchBytes {
			flush()
		}
		e.Id = aws.String(strconv.Itoa(len(b.messages)))
		b.messages, b.entries, b.size = append(b.messages, m), append(b.entries, e), b.size+size
	}
	flush()
	return back
}

// batch is what goes in one call.
type batch struct {
	messages []client.SendRequest
	entries  []types.SendMessageBatchRequestEntry
	size     int
}

// encode returns the queue's message. Its body is the same JSON as in a call of the API, but for
// what is the queue's to do: to wait, and to keep groups apart.
func encode(m client.SendRequest) (e types.SendMessageBatchRequestEntry, err error) {
	if err := errors.Join(fault.CheckID(m.ID), fault.CheckName(m.Sink)); err != nil {
		return e, err
	}
	if m.SendAfter != "" {
		wait, err := time.ParseDuration(m.SendAfter)
		if err != nil || wait <= 0 || wait > longestDelay {
			return e, &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("send_after %q: want more than 0 and at most %v, such as 30s", m.SendAfter, longestDelay)}
		}
		e.DelaySeconds = int32((wait + time.Second - 1) / time.Second)
	}
	// A backlog of one group then holds up no other: SQS is fair to message groups.
	e.MessageGroupId = aws.String(cmp.Or(m.Group, m.Sink))
	m.SendAfter, m.Group = "", ""
	var b bytes.Buffer
	j := json.NewEncoder(&b)
	j.SetEscapeHTML(false) // it would make an HTML body longer
	if err := j.Encode(m); err != nil {
		return e, err
	}
	if b.Len() > batchBytes {
		return e, &fault.Error{Code: fault.CodeBodyTooLarge, Msg: fmt.Sprintf("%d bytes; the queue takes %d", b.Len(), batchBytes)}
	}
	e.MessageBody = aws.String(strings.TrimSuffix(b.String(), "\n"))
	return e, nil
}

// errUnanswered hands back a message of which the queue's answer says nothing.
var errUnanswered = errors.New("the queue's answer does not name the message")

// flush sends a batch and returns what the queue did not take. SQS may take some of a batch
// and refuse others; only those that its answer names as taken are safe.
func (q *Queue) flush(ctx context.Context, b batch) (back []HandedBack) {
	if len(b.messages) == 0 {
		return nil
	}
	out, err := q.Client.SendMessageBatch(ctx, &sqs.SendMessageBatchInput{QueueUrl: &q.URL, Entries: b.entries})
	if err != nil {
		for _, m := range b.messages {
			back = append(back, HandedBack{Message: m, Err: err, Again: true})
		}
		return back
	}
	taken := map[string]bool{}
	for _, s := range out.Successful {
		taken[aws.ToString(s.Id)] = aws.ToString(s.MessageId) != ""
	}
	refused := map[string]types.BatchResultErrorEntry{}
	for _, f := range out.Failed {
		refused[aws.ToString(f.Id)] = f
	}
	for i, m := range b.messages {
		id := strconv.Itoa(i)
		if f, ok := refused[id]; ok {
			err := fmt.Errorf("%s: %s", aws.ToString(f.Code), aws.ToString(f.Message))
			back = append(back, HandedBack{Message: m, Err: err, Again: !f.SenderFault})
		} else if !taken[id] {
			back = append(back, HandedBack{Message: m, Err: errUnanswered, Again: true})
		}
	}
	return back
}
