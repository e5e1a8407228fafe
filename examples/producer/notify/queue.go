package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"backstop/client"
	"backstop/lib/fault"
)

// What SQS takes in one call.
const (
	batchEntries = 10
	batchBytes   = 1 << 20
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
		body, err := encode(m)
		if err != nil {
			back = append(back, HandedBack{Message: m, Err: err})
			continue
		}
		if len(b.messages) == batchEntries || b.size+len(body) > batchBytes {
			flush()
		}
		b.messages, b.bodies, b.size = append(b.messages, m), append(b.bodies, body), b.size+len(body)
	}
	flush()
	return back
}

// batch is what goes in one call.
type batch struct {
	messages []client.SendRequest
	bodies   []string
	size     int
}

// encode returns the body of the queue's message: the same JSON as in a call of the API.
func encode(m client.SendRequest) (string, error) {
	if err := errors.Join(fault.CheckID(m.ID), fault.CheckName(m.Sink)); err != nil {
		return "", err
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it would make an HTML body longer
	if err := e.Encode(m); err != nil {
		return "", err
	}
	if b.Len() > batchBytes {
		return "", &fault.Error{Code: fault.CodeBodyTooLarge, Msg: fmt.Sprintf("%d bytes; the queue takes %d", b.Len(), batchBytes)}
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// errUnanswered hands back a message of which the queue's answer says nothing.
var errUnanswered = errors.New("the queue's answer does not name the message")

// flush sends a batch and returns what the queue did not take. SQS may take some of a batch
// and refuse others; only those that its answer names as taken are safe.
func (q *Queue) flush(ctx context.Context, b batch) (back []HandedBack) {
	if len(b.messages) == 0 {
		return nil
	}
	in := &sqs.SendMessageBatchInput{QueueUrl: &q.URL}
	for i, body := range b.bodies {
		in.Entries = append(in.Entries, types.SendMessageBatchRequestEntry{
			Id: aws.String(strconv.Itoa(i)), MessageBody: &body,
			// A backlog of one sink then holds up no other: SQS is fair to message groups.
			MessageGroupId: &b.messages[i].Sink,
		})
	}
	out, err := q.Client.SendMessageBatch(ctx, in)
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
