package app

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsretry "github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"backstop/internal/queuemessage"
	"backstop/lib/delivery"
	"backstop/lib/fault"
)

// attributeTraceparent is where tracing libraries put the W3C header.
const attributeTraceparent = "traceparent"

// RequestQueue puts requests on the SQS queue that feeds the send function. Its client is made
// with the first one: who puts none pays nothing for it. It is safe for concurrent use.
type RequestQueue struct {
	url    string
	client func() (*sqs.Client, error)
}

// newRequestQueue returns nil where there is no queue.
func newRequestQueue(queue *url.URL, loadAWS func() (aws.Config, error)) *RequestQueue {
	if queue == nil {
		return nil
	}
	return &RequestQueue{url: queue.String(), client: sync.OnceValues(func() (*sqs.Client, error) {
		cfg, err := loadAWS()
		if err != nil {
			return nil, err
		}
		if m := regexp.MustCompile(`^sqs\.([a-z0-9-]+)\.amazonaws\.com`).FindStringSubmatch(queue.Host); m != nil {
			cfg.Region = m[1]
		}
		return sqs.NewFromConfig(cfg, func(o *sqs.Options) {
			if o.BaseEndpoint == nil {
				o.BaseEndpoint = aws.String(queue.Scheme + "://" + queue.Host)
			}
			o.Retryer = lostConnections()
		}), nil
	})}
}

// lostConnections tries once more, at once, what failed with its connection: one that was kept
// while the function was frozen may be dead. Nothing else is repeated here; whoever asked has
// the message and does.
func lostConnections() aws.Retryer {
	return awsretry.NewStandard(func(o *awsretry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff = 2, 50*time.Millisecond
		o.Retryables = []awsretry.IsErrorRetryable{awsretry.NoRetryCanceledError{}, awsretry.RetryableConnectionError{}}
	})
}

// FIFO reports whether the queue keeps the order of groups. Such a queue delays nothing.
func (q *RequestQueue) FIFO() bool { return strings.HasSuffix(q.url, ".fifo") }

// Put puts r on the queue, and returns nil when SQS says that it has it. It takes as long as ctx
// gives it.
//
// BODY_TOO_LARGE says that r does not fit; nothing was sent. QUEUE_UNAVAILABLE says that SQS did
// not take it (delivery.ErrNotQueued), or did not say so.
func (q *RequestQueue) Put(ctx context.Context, r delivery.Queued) error {
	in, err := q.message(r, time.Now())
	if err != nil {
		return err
	}
	if n := queuemessage.Size(*in.MessageBody, in.MessageAttributes); n > queuemessage.MaxBytes {
		return &fault.Error{Code: fault.CodeBodyTooLarge, Msg: fmt.Sprintf("request: %d bytes in the queue; it takes %d", n, queuemessage.MaxBytes)}
	}
	client, err := q.client()
	if err != nil {
		return unavailable(true, "AWS configuration", err)
	}
	// Each request that was written may have arrived, unless it was answered with a refusal.
	var open atomic.Int32
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { open.Add(1) }})
	out, err := client.SendMessage(ctx, in)
	switch {
	case err != nil:
		if refusedBySQS(err) {
			open.Add(-1)
		}
		return unavailable(open.Load() <= 0, "", err)
	case aws.ToString(out.MessageId) == "":
		return unavailable(false, "the queue's answer has no MessageId, so nothing says that it took the message", nil)
	}
	return nil
}

// unavailable is QUEUE_UNAVAILABLE, which says so where the queue does not have the message.
func unavailable(notQueued bool, msg string, cause error) error {
	if notQueued {
		cause = errors.Join(delivery.ErrNotQueued, cause)
	}
	return &fault.Error{Code: fault.CodeQueueUnavailable, Msg: msg, Cause: cause}
}

// refusedBySQS reports whether the last answer was a refusal. An error of the service itself,
// 5xx, may come from behind the place where the message was stored.
func refusedBySQS(err error) bool {
	_, coded := errors.AsType[smithy.APIError](err)
	response, ok := errors.AsType[*smithyhttp.ResponseError](err)
	return coded && ok && response.HTTPStatusCode() >= 400 && response.HTTPStatusCode() < 500
}

// message is r as the queue gets it.
func (q *RequestQueue) message(r delivery.Queued, now time.Time) (*sqs.SendMessageInput, error) {
	body, err := bareRequest(r)
	if err != nil {
		return nil, &fault.Error{Code: fault.CodeInternal, Msg: "request not encoded", Cause: err}
	}
	in := &sqs.SendMessageInput{
		QueueUrl: &q.url, MessageBody: &body, MessageGroupId: aws.String(r.Group),
		MessageAttributes: map[string]types.MessageAttributeValue{queuemessage.AcceptedAt: stamp(r.AcceptedAt)},
	}
	if r.Group == "" {
		in.MessageGroupId = &r.Sink
	}
	if !r.NotBefore.IsZero() {
		in.MessageAttributes[queuemessage.NotBefore] = stamp(r.NotBefore)
	}
	switch {
	case r.Trace == "":
	case xray(r.Trace):
		in.MessageSystemAttributes = map[string]types.MessageSystemAttributeValue{
			string(types.MessageSystemAttributeNameForSendsAWSTraceHeader): {DataType: aws.String("String"), StringValue: &r.Trace},
		}
	case traceparent(r.Trace):
		in.MessageAttributes[attributeTraceparent] = text(r.Trace)
	}
	if q.FIFO() {
		in.MessageDeduplicationId = aws.String(deduplicationID(r))
	} else if wait := r.NotBefore.Sub(now); wait > 0 {
		in.DelaySeconds = int32((min(wait, delivery.MaxSendAfter) + time.Second - 1) / time.Second)
	}
	return in, nil
}

// bareRequest is r in JSON as the send function reads it from a queue. What it says of its time
// is absolute: the time that it waits in the queue counts.
func bareRequest(r delivery.Queued) (string, error) {
	type message struct {
		Subject  string            `json:"subject,omitempty"`
		Body     string            `json:"body"`
		Metadata map[string]string `json:"metadata,omitempty"`
	}
	return queuemessage.Encode(struct {
		ID        string          `json:"id"`
		Sink      string          `json:"sink"`
		Recipient json.RawMessage `json:"recipient,omitempty"`
		Message   message         `json:"message"`
		ExpiresAt time.Time       `json:"expires_at,omitzero"`
	}{r.ID, r.Sink, r.Recipient, message{r.Message.Subject, r.Message.Body, r.Message.Metadata}, r.ExpiresAt.UTC()})
}

func text(v string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &v}
}

func stamp(t time.Time) types.MessageAttributeValue { return text(t.UTC().Format(time.RFC3339Nano)) }

// deduplicationID is the same for repetitions of a request, and for nothing else: SQS drops them
// for five minutes.
func deduplicationID(r delivery.Queued) string {
	h := sha256.New()
	for _, s := range []string{r.Sink, r.ID, r.Fingerprint} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// xray and traceparent tell the two headers apart that a caller's trace may be. What is neither
// would be refused by SQS, or be nonsense to whoever reads it.
func xray(trace string) bool {
	return strings.Contains(trace, "Root=") && fault.IsMadeOf(trace, 512, fault.Alphanumeric+"=;:-_., ")
}

func traceparent(trace string) bool {
	return len(trace) >= 55 && trace[2] == '-' && trace[35] == '-' && trace[52] == '-' && fault.IsMadeOf(trace, 512, fault.Alphanumeric+"-")
}
