package lambdahost

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// event encodes as many messages of the batch as fit into one payload, at least one.
func (p *Poller) event(batch []types.Message) (payload []byte, n int) {
	var event struct {
		Records []json.RawMessage `json:"Records"`
	}
	size := 0
	for _, m := range batch {
		record := encode(p.record(m))
		if size += len(record) + 1; n > 0 && size > MaxSyncPayload-64 {
			break
		}
		event.Records = append(event.Records, record)
		n++
	}
	return encode(event), n
}

func (p *Poller) record(m types.Message) events.SQSMessage {
	r := events.SQSMessage{
		MessageId:              aws.ToString(m.MessageId),
		ReceiptHandle:          aws.ToString(m.ReceiptHandle),
		Body:                   aws.ToString(m.Body),
		Md5OfBody:              aws.ToString(m.MD5OfBody),
		Md5OfMessageAttributes: aws.ToString(m.MD5OfMessageAttributes),
		Attributes:             m.Attributes,
		MessageAttributes:      make(map[string]events.SQSMessageAttribute, len(m.MessageAttributes)),
		EventSource:            "aws:sqs",
		EventSourceARN:         p.QueueARN,
		AWSRegion:              p.Region,
	}
	for name, a := range m.MessageAttributes {
		r.MessageAttributes[name] = events.SQSMessageAttribute{
			DataType: aws.ToString(a.DataType), StringValue: a.StringValue, BinaryValue: a.BinaryValue,
			StringListValues: []string{}, BinaryListValues: [][]byte{},
		}
	}
	return r
}

// batchItemFailures reads a function's answer by the platform's rules: null, {} and a
// null or empty list mean that all succeeded; an answer that is no such object, and an
// identifier that is missing, empty or not of this batch, are errors, and then the
// whole batch failed.
func batchItemFailures(payload []byte, batch []types.Message) (map[string]bool, error) {
	var answer struct {
		BatchItemFailures []map[string]*string `json:"batchItemFailures"`
	}
	if err := json.Unmarshal(payload, &answer); err != nil {
		return nil, fmt.Errorf("batchItemFailures: %w", err)
	}
	known := make(map[string]bool, len(batch))
	for _, m := range batch {
		known[aws.ToString(m.MessageId)] = true
	}
	failed := map[string]bool{}
	for _, f := range answer.BatchItemFailures {
		id := aws.ToString(f["itemIdentifier"])
		if id == "" {
			return nil, errors.New("batchItemFailures: an itemIdentifier is missing or empty")
		}
		if !known[id] {
			return nil, fmt.Errorf("batchItemFailures: itemIdentifier %.80q is not a message of the batch", id)
		}
		failed[id] = true
	}
	return failed, nil
}
