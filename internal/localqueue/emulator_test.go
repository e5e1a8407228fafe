//go:build full

package localqueue_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"backstop/internal/moto"
)

// The table holds of a queue that was written by others, too.
func TestTheEmulatorConformsToTheSameTable(t *testing.T) {
	url := moto.Start(t)
	var n atomic.Int64
	conformance(t, func(t *testing.T) queues {
		t.Helper()
		c := newClient(url)
		suffix := strings.Repeat("x", int(n.Add(1)))
		create := func(name string, attributes map[string]string) string {
			t.Helper()
			out, err := c.CreateQueue(t.Context(), &sqs.CreateQueueInput{QueueName: aws.String(name), Attributes: attributes})
			if err != nil {
				t.Fatal(err)
			}
			return *out.QueueUrl
		}
		redrive := create("redrive"+suffix, nil)
		return queues{
			t, c,
			create("main"+suffix, map[string]string{"RedrivePolicy": `{"maxReceiveCount":2,"deadLetterTargetArn":"arn:aws:sqs:us-east-1:123456789012:redrive` + suffix + `"}`}),
			redrive, create("main"+suffix+".fifo", map[string]string{"FifoQueue": "true"}),
		}
	})
}
