package localqueue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const traceHeader = "AWSTraceHeader"

// sendEntry is a message to send, alone or in a batch.
type sendEntry struct {
	ID                      string `json:"Id"`
	MessageBody             string
	DelaySeconds            *int
	MessageAttributes       map[string]attribute
	MessageSystemAttributes map[string]attribute
	MessageGroupID          string `json:"MessageGroupId"`
	MessageDeduplicationID  string `json:"MessageDeduplicationId"`
}

func (e sendEntry) text() text {
	return text{e.MessageBody, e.MessageAttributes, e.MessageSystemAttributes, e.DelaySeconds, e.MessageGroupID, e.MessageDeduplicationID}
}

type sendAnswer struct {
	ID             string `json:"Id,omitempty"`
	MessageID      string `json:"MessageId"`
	BodySum        string `json:"MD5OfMessageBody"`
	AttributesSum  string `json:"MD5OfMessageAttributes,omitempty"`
	SystemSum      string `json:"MD5OfMessageSystemAttributes,omitempty"`
	SequenceNumber string `json:",omitempty"`
}

// failure is an entry of a batch that was refused.
type failure struct {
	ID          string `json:"Id"`
	SenderFault bool
	Code        string
	Message     string
}

func failed(id string, err error) failure {
	f := failure{ID: id, SenderFault: true, Code: "InternalError", Message: err.Error()}
	if e, ok := errors.AsType[*refusal](err); ok {
		f.Code, f.Message, f.SenderFault = e.queryCode(), e.message, e != errFull
	}
	return f
}

func (s *Service) sendMessage(_ context.Context, in struct {
	QueueURL string `json:"QueueUrl"`
	sendEntry
},
) (sendAnswer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueURL)
	if err != nil {
		return sendAnswer{}, err
	}
	return q.put(in.sendEntry)
}

// put checks and takes a message.
func (q *queue) put(e sendEntry) (sendAnswer, error) {
	t := e.text()
	if err := t.check(q.fifo); err != nil {
		return sendAnswer{}, err
	}
	told, err := q.send(t, time.Now())
	return sendAnswer{
		MessageID: told.id, SequenceNumber: sequenceNumber(told.sequence),
		BodySum: sumOf(t.body), AttributesSum: attributesSum(t.attributes), SystemSum: attributesSum(t.systemAttributes),
	}, err
}

// sequenceNumber has the length of SQS'; empty for 0.
func sequenceNumber(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%020d", n)
}

type batchAnswer[T any] struct {
	Successful []T
	Failed     []failure
}

func (s *Service) sendMessageBatch(_ context.Context, in struct {
	QueueURL string `json:"QueueUrl"`
	Entries  []sendEntry
},
) (out batchAnswer[sendAnswer], err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueURL)
	if err != nil {
		return out, err
	}
	size := 0
	for _, e := range in.Entries {
		size += e.text().size()
	}
	if err := checkEntries(in.Entries, func(e sendEntry) string { return e.ID }); err != nil {
		return out, err
	}
	if size > maxBytes {
		return out, errBatchTooLong
	}
	for _, e := range in.Entries {
		a, err := q.put(e)
		if err != nil {
			out.Failed = append(out.Failed, failed(e.ID, err))
			continue
		}
		a.ID = e.ID
		out.Successful = append(out.Successful, a)
	}
	return out, nil
}

// checkEntries refuses a batch as a whole.
func checkEntries[E any](entries []E, id func(E) string) error {
	if len(entries) == 0 {
		return errEmptyBatch
	}
	if len(entries) > batchEntries {
		return tooManyEntries(len(entries))
	}
	seen := map[string]bool{}
	for _, e := range entries {
		if id := id(e); id == "" || len(id) > 80 || !made(id, entryIDBytes) {
			return errEntryID
		} else if seen[id] {
			return errNotDistinct
		} else {
			seen[id] = true
		}
	}
	return nil
}

type receivedMessage struct {
	MessageID         string `json:"MessageId"`
	ReceiptHandle     string
	Body              string
	BodySum           string               `json:"MD5OfBody"`
	Attributes        map[string]string    `json:",omitempty"`
	MessageAttributes map[string]attribute `json:",omitempty"`
	AttributesSum     string               `json:"MD5OfMessageAttributes,omitempty"`
}

type receiveInput struct {
	QueueURL                    string   `json:"QueueUrl"`
	AttributeNames              []string // the older name of the next
	MessageSystemAttributeNames []string
	MessageAttributeNames       []string
	MaxNumberOfMessages         *int
	VisibilityTimeout           *int
	WaitTimeSeconds             *int
}

type receiveOutput struct {
	Messages []receivedMessage `json:",omitempty"`
}

func (s *Service) receiveMessage(ctx context.Context, in receiveInput) (out receiveOutput, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueURL)
	if err != nil {
		return out, err
	}
	w := wanted{most: 1, hide: q.Visibility}
	if n := in.MaxNumberOfMessages; n != nil {
		if *n < 1 || *n > batchEntries {
			return out, outOfRange("MaxNumberOfMessages", *n, 1, batchEntries)
		}
		w.most = *n
	}
	if n := in.VisibilityTimeout; n != nil {
		if *n < 0 || *n > maxHide {
			return out, outOfRange("VisibilityTimeout", *n, 0, maxHide)
		}
		w.hide = time.Duration(*n) * time.Second
	}
	if n := in.WaitTimeSeconds; n != nil {
		if *n < 0 || *n > maxWait {
			return out, outOfRange("WaitTimeSeconds", *n, 0, maxWait)
		}
		w.wait = time.Duration(*n) * time.Second
	}
	system := slices.Concat(in.AttributeNames, in.MessageSystemAttributeNames)
	for _, m := range q.receive(ctx, &s.mu, w) {
		attributes := chosen(m.attributes, in.MessageAttributeNames)
		out.Messages = append(out.Messages, receivedMessage{
			MessageID: m.id, ReceiptHandle: m.handle, Body: m.body, BodySum: sumOf(m.body),
			Attributes: chosen(m.system(), system), MessageAttributes: attributes, AttributesSum: attributesSum(attributes),
		})
	}
	return out, nil
}

// system are the system attributes of a received message.
func (m *message) system() map[string]string {
	all := map[string]string{
		"SenderId": "AIDALOCALQUEUE", "SentTimestamp": milliseconds(m.sent),
		"ApproximateFirstReceiveTimestamp": milliseconds(m.first), "ApproximateReceiveCount": strconv.Itoa(m.receives),
	}
	for name, value := range map[string]string{"MessageGroupId": m.group, "MessageDeduplicationId": m.dedup, "DeadLetterQueueSourceArn": m.source} {
		if value != "" {
			all[name] = value
		}
	}
	if m.dedup != "" {
		all["SequenceNumber"] = sequenceNumber(m.sequence)
	}
	if a, ok := m.systemAttributes[traceHeader]; ok {
		all[traceHeader] = *a.StringValue
	}
	return all
}

func milliseconds(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// chosen are the entries that a receiver named: by name, by the beginning with ".*", or All.
func chosen[V any](all map[string]V, names []string) map[string]V {
	some := map[string]V{}
	for name, v := range all {
		if slices.ContainsFunc(names, func(want string) bool {
			prefix, begins := strings.CutSuffix(want, ".*")
			return want == "All" || want == name || begins && strings.HasPrefix(name, prefix)
		}) {
			some[name] = v
		}
	}
	return some
}

type handleEntry struct {
	ID                string `json:"Id"`
	ReceiptHandle     string
	VisibilityTimeout *int
}

// nothing is the output of an operation that has none.
type nothing struct{}

func (s *Service) deleteMessage(_ context.Context, in struct {
	QueueURL string `json:"QueueUrl"`
	handleEntry
},
) (nothing, error) {
	return s.withHandle(in.QueueURL, in.handleEntry, (*queue).deleteEntry)
}

func (s *Service) changeVisibility(_ context.Context, in struct {
	QueueURL string `json:"QueueUrl"`
	handleEntry
},
) (nothing, error) {
	return s.withHandle(in.QueueURL, in.handleEntry, (*queue).hideEntry)
}

func (s *Service) withHandle(url string, e handleEntry, do func(*queue, handleEntry) error) (nothing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(url)
	if err != nil {
		return nothing{}, err
	}
	return nothing{}, do(q, e)
}

func (q *queue) deleteEntry(e handleEntry) error { return q.delete(e.ReceiptHandle, time.Now()) }

func (q *queue) hideEntry(e handleEntry) error {
	if e.VisibilityTimeout == nil {
		return missing("VisibilityTimeout")
	}
	return q.hide(e.ReceiptHandle, *e.VisibilityTimeout, time.Now())
}

type handleBatch struct {
	QueueURL string `json:"QueueUrl"`
	Entries  []handleEntry
}

type entryAnswer struct {
	ID string `json:"Id"`
}

func (s *Service) deleteMessageBatch(_ context.Context, in handleBatch) (batchAnswer[entryAnswer], error) {
	return s.eachHandle(in, (*queue).deleteEntry)
}

func (s *Service) changeVisibilityBatch(_ context.Context, in handleBatch) (batchAnswer[entryAnswer], error) {
	return s.eachHandle(in, (*queue).hideEntry)
}

func (s *Service) eachHandle(in handleBatch, do func(*queue, handleEntry) error) (out batchAnswer[entryAnswer], err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueURL)
	if err == nil {
		err = checkEntries(in.Entries, func(e handleEntry) string { return e.ID })
	}
	if err != nil {
		return out, err
	}
	for _, e := range in.Entries {
		if err := do(q, e); err != nil {
			out.Failed = append(out.Failed, failed(e.ID, err))
		} else {
			out.Successful = append(out.Successful, entryAnswer{e.ID})
		}
	}
	return out, nil
}

type attributesOutput struct {
	Attributes map[string]string `json:",omitempty"`
}

func (s *Service) queueAttributes(_ context.Context, in struct {
	QueueURL       string `json:"QueueUrl"`
	AttributeNames []string
},
) (out attributesOutput, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, err := s.find(in.QueueURL)
	if err != nil {
		return out, err
	}
	all := q.attributes(time.Now())
	for _, name := range in.AttributeNames {
		if _, ok := all[name]; !ok && name != "All" && !slices.Contains(otherAttributes, name) {
			return out, &refusal{code: "InvalidAttributeName", message: "Unknown Attribute " + name + "."}
		}
	}
	out.Attributes = chosen(all, in.AttributeNames)
	return out, nil
}

// otherAttributes are those that SQS knows and that a queue need not have.
var otherAttributes = []string{
	"Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "SqsManagedSseEnabled",
	"FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit",
}

func (q *queue) attributes(now time.Time) map[string]string {
	ready, inFlight, delayed := q.counts(now)
	created := strconv.FormatInt(q.created.Unix(), 10)
	all := map[string]string{
		"ApproximateNumberOfMessages":           strconv.Itoa(ready),
		"ApproximateNumberOfMessagesNotVisible": strconv.Itoa(inFlight),
		"ApproximateNumberOfMessagesDelayed":    strconv.Itoa(delayed),
		"CreatedTimestamp":                      created,
		"LastModifiedTimestamp":                 created,
		"DelaySeconds":                          "0",
		"MaximumMessageSize":                    strconv.Itoa(maxBytes),
		"MessageRetentionPeriod":                "1209600",
		"QueueArn":                              q.arn(),
		"ReceiveMessageWaitTimeSeconds":         "0",
		"VisibilityTimeout":                     strconv.Itoa(int(q.Visibility.Seconds())),
	}
	if q.redrive != nil {
		policy, _ := json.Marshal(map[string]any{"deadLetterTargetArn": q.redrive.arn(), "maxReceiveCount": q.MaxReceives}) // never fails
		all["RedrivePolicy"] = string(policy)
	}
	if q.fifo {
		all["FifoQueue"], all["ContentBasedDeduplication"] = "true", "false"
		all["DeduplicationScope"], all["FifoThroughputLimit"] = "queue", "perQueue"
	}
	return all
}

type urlOutput struct {
	QueueURL string `json:"QueueUrl"`
}

func (s *Service) queueURL(ctx context.Context, in struct{ QueueName string }) (urlOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if in.QueueName == "" {
		return urlOutput{}, missing("QueueName")
	}
	if s.queues[in.QueueName] == nil {
		return urlOutput{}, errNoQueue
	}
	endpoint, _ := ctx.Value(endpointKey{}).(string)
	return urlOutput{URL(endpoint, in.QueueName)}, nil
}
