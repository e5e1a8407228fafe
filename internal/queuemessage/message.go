// Package queuemessage is what a message of the stack's queue is made of: its body, its attributes,
// and what SQS takes of them. Whoever writes one measures and encodes it here.
package queuemessage

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// What SQS takes.
const (
	MaxBytes      = 1 << 20 // of a message, and of a batch: bodies and attributes
	MaxEntries    = 10      // of a batch
	MaxAttributes = 10      // of a message
)

// The message attributes (docs/guarantees.md): times as in RFC 3339. Only messages that the send
// function put there carry the first two.
const (
	AcceptedAt = "backstop-accepted-at" // when it was accepted
	NotBefore  = "backstop-not-before"  // when it may be sent
	// SentAt is on messages that were moved from a redrive queue, which makes them look new: when
	// they were first sent to the queue.
	SentAt = "backstop-sent-at"
)

// Size counts a message as SQS does: its body, and the names, types and values of its
// attributes.
func Size(body string, attributes map[string]types.MessageAttributeValue) int {
	n := len(body)
	for name, a := range attributes {
		n += len(name) + len(aws.ToString(a.DataType)) + len(aws.ToString(a.StringValue)) + len(a.BinaryValue)
	}
	return n
}

// Encode returns v in JSON, as short as SQS takes it.
func Encode(v any) (string, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it would make an HTML body longer
	err := e.Encode(v)
	// SQS refuses these two, which JSON may have.
	return strings.NewReplacer("\uFFFE", `\ufffe`, "\uFFFF", `\uffff`).Replace(strings.TrimSuffix(b.String(), "\n")), err
}
