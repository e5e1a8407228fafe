package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"backstop/internal/queuemessage"
)

func TestAMovedRequestKeepsItsDeliveryID(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"an id of its own", `{"id":"a","sink":"x"}`, `{"id":"a","sink":"x"}`},
		{"none", `{"sink":"x"}`, `{"sink":"x","id":"m-1"}`},
		{"spaces around", " {\n \"sink\": \"x\" }\n", " {\n \"sink\": \"x\" ,\"id\":\"m-1\"}\n"},
		{"an empty one", `{"id":"","sink":"x"}`, `{"id":"","sink":"x","id":"m-1"}`},
		{"null", `{"sink":"x","id":null}`, `{"sink":"x","id":null,"id":"m-1"}`},
		{"no sink", `{}`, `{}`},
		{"a number", `{"id":7,"sink":"x"}`, `{"id":7,"sink":"x"}`},
		{"no JSON", `{"sink":"x"`, `{"sink":"x"`},
		{"two documents", `{"sink":"x"}{"sink":"y"}`, `{"sink":"x"}{"sink":"y"}`},
		{"no object", `"}"`, `"}"`},
	} {
		if got := withID(c.body, "m-1"); got != c.want {
			t.Errorf("%s: withID(%s) = %s, want %s", c.name, c.body, got, c.want)
		}
	}
}

// memoryQueues are queues whose calls can fail. What is received is hidden until it is
// given back or deleted.
type memoryQueues struct {
	queues
	messages map[string]map[string]string // queue -> id -> body
	hidden   map[string]bool
	next     int
	failSend func(body string) error
	failDel  error
	onSend   func()
	silent   bool // what it is sent is not stored, and the answer is empty
}

func (q *memoryQueues) ReceiveMessage(_ context.Context, in *sqs.ReceiveMessageInput, _ ...func(*sqs.Options)) (*sqs.ReceiveMessageOutput, error) {
	out := &sqs.ReceiveMessageOutput{}
	for _, id := range slices.Sorted(maps.Keys(q.messages[*in.QueueUrl])) {
		if q.hidden[id] || len(out.Messages) == int(in.MaxNumberOfMessages) {
			continue
		}
		q.hidden[id] = true
		out.Messages = append(out.Messages, types.Message{MessageId: aws.String(id), ReceiptHandle: aws.String(id), Body: aws.String(q.messages[*in.QueueUrl][id])})
	}
	return out, nil
}

func (q *memoryQueues) SendMessage(ctx context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	if q.onSend != nil {
		q.onSend()
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if q.failSend != nil {
		if err := q.failSend(*in.MessageBody); err != nil {
			return nil, err
		}
	}
	if q.silent {
		return &sqs.SendMessageOutput{}, nil
	}
	q.next++
	id := fmt.Sprintf("new-%d", q.next)
	q.messages[*in.QueueUrl][id] = *in.MessageBody
	return &sqs.SendMessageOutput{MessageId: &id}, nil
}

func (q *memoryQueues) DeleteMessage(ctx context.Context, in *sqs.DeleteMessageInput, _ ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error) {
	if err := errors.Join(q.failDel, ctx.Err()); err != nil {
		return nil, err
	}
	delete(q.messages[*in.QueueUrl], *in.ReceiptHandle)
	return &sqs.DeleteMessageOutput{}, nil
}

func (q *memoryQueues) ChangeMessageVisibilityBatch(_ context.Context, in *sqs.ChangeMessageVisibilityBatchInput, _ ...func(*sqs.Options)) (*sqs.ChangeMessageVisibilityBatchOutput, error) {
	for _, e := range in.Entries {
		delete(q.hidden, *e.ReceiptHandle)
	}
	return &sqs.ChangeMessageVisibilityBatchOutput{}, nil
}

func TestAMoveLosesNothing(t *testing.T) {
	sent, away := errors.New("not deleted"), errors.New("away")
	for _, c := range []struct {
		name        string
		prepare     func(q *memoryQueues, cancel context.CancelFunc)
		err         error
		says        string // by the error
		from, to    int    // messages afterwards
		sent, given int    // sent, and visible in the redrive queue afterwards
	}{
		{name: "all goes well", to: 3, sent: 3},
		{
			name: "a message that cannot be sent stays, and those after it", err: away, from: 2, to: 1, sent: 1, given: 2,
			prepare: func(q *memoryQueues, _ context.CancelFunc) {
				q.failSend = func(body string) error {
					if body == "b" {
						return away
					}
					return nil
				}
			},
		},
		{
			name: "one that cannot be deleted is in both", err: sent, from: 3, to: 1, sent: 1, given: 3,
			prepare: func(q *memoryQueues, _ context.CancelFunc) { q.failDel = sent },
		},
		{
			name: "an answer that names no message is no success", says: "message 1 stays in the redrive queue", from: 3, given: 3,
			prepare: func(q *memoryQueues, _ context.CancelFunc) { q.silent = true },
		},
		{
			name: "Ctrl-C in the middle of a move finishes that one", err: context.Canceled, from: 2, to: 1, sent: 1, given: 2,
			prepare: func(q *memoryQueues, cancel context.CancelFunc) { q.onSend = cancel },
		},
		{
			name: "what comes back while it runs is left alone", from: 1, to: 2, sent: 3, given: 1,
			prepare: func(q *memoryQueues, _ context.CancelFunc) {
				q.onSend = func() {
					if body, ok := q.messages["main"]["new-1"]; ok { // it failed again, and SQS has moved it
						q.messages["redrive"]["new-1"] = body
						delete(q.messages["main"], "new-1")
					}
				}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			q := &memoryQueues{messages: map[string]map[string]string{"redrive": {"1": "a", "2": "b", "3": "c"}, "main": {}}, hidden: map[string]bool{}}
			if c.prepare != nil {
				c.prepare(q, cancel)
			}
			r := &redrive{queues: q, from: "redrive", to: "main", line: &progress{}}
			switch err := r.run(ctx, 0); {
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("error %v, want one that says %q", err, c.says)
			case c.says == "" && !errors.Is(err, c.err):
				t.Errorf("error %v, want %v", err, c.err)
			}
			visible := 0
			for id := range q.messages["redrive"] {
				if !q.hidden[id] {
					visible++
				}
			}
			if len(q.messages["redrive"]) != c.from || len(q.messages["main"]) != c.to || len(r.sent) != c.sent || visible != c.given {
				t.Errorf("redrive %d (%d visible), main %d, sent %d; want %d (%d), %d, %d",
					len(q.messages["redrive"]), visible, len(q.messages["main"]), len(r.sent), c.from, c.given, c.to, c.sent)
			}
		})
	}
}

func TestPeekEndsAndGivesEverythingBack(t *testing.T) {
	q := &memoryQueues{messages: map[string]map[string]string{"redrive": {}}, hidden: map[string]bool{}}
	for n := range 25 {
		q.messages["redrive"][fmt.Sprint(n)] = "b"
	}
	for _, limit := range []int{1, 10, 25, 100} {
		found, err := peek(t.Context(), q, "redrive", limit)
		if want := min(limit, 25); err != nil || len(found) != want || len(q.hidden) > 0 {
			t.Errorf("limit %d: found %d (%v), %d still hidden; want %d, none", limit, len(found), err, len(q.hidden), want)
		}
	}
}

func attributeText(v string) types.MessageAttributeValue {
	return types.MessageAttributeValue{DataType: aws.String("String"), StringValue: &v}
}

// A moved message says when it was first sent, if it can: SQS gives it a new time.
func TestAMovedMessageKeepsTheTimeOfItsFirstSending(t *testing.T) {
	const sent, told = "1893456000042", "2030-01-01T00:00:00.042Z"
	nine := map[string]types.MessageAttributeValue{}
	for i := range queuemessage.MaxAttributes - 1 {
		nine[fmt.Sprint(i)] = attributeText("v")
	}
	ten := maps.Clone(nine)
	ten["10"] = attributeText("v")
	room := strings.Repeat("x", queuemessage.MaxBytes-len(queuemessage.SentAt+"String"+told))
	for _, c := range []struct {
		name, sent, body string
		attributes       map[string]types.MessageAttributeValue
		want             string // backstop-sent-at
		untimed          int
	}{
		{"none yet", sent, "x", nil, told, 0},
		{"nine others", sent, "x", nine, told, 0},
		{"ten others", sent, "x", ten, "", 1},
		{"as much as fits", sent, room, nil, told, 0},
		{"no room", sent, room + "x", nil, "", 1},
		{"accepted by send", sent, "x", map[string]types.MessageAttributeValue{"backstop-accepted-at": attributeText("2029-12-31T23:00:00Z"), "backstop-not-before": attributeText("2029-12-31T23:15:00Z")}, "", 0},
		{"moved before", sent, "x", map[string]types.MessageAttributeValue{"backstop-sent-at": attributeText("2029-12-31T23:00:00Z")}, "2029-12-31T23:00:00Z", 0},
		{"a queue that does not say", "", "x", nil, "", 1},
	} {
		q := &attributeQueues{}
		r := &redrive{queues: q, from: "from", to: "to", sent: map[string]bool{}}
		before := maps.Clone(c.attributes)
		m := types.Message{MessageId: aws.String("m"), Body: &c.body, MessageAttributes: c.attributes, Attributes: map[string]string{"SentTimestamp": c.sent}}
		if err := r.move(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		got := maps.Clone(q.sent.MessageAttributes)
		if v := aws.ToString(got["backstop-sent-at"].StringValue); v != c.want || r.untimed != c.untimed {
			t.Errorf("%s: backstop-sent-at %q, %d without a time; want %q, %d", c.name, v, r.untimed, c.want, c.untimed)
		}
		if len(before) > 0 && before["backstop-sent-at"].StringValue == nil {
			delete(got, "backstop-sent-at")
		}
		if len(before) != len(c.attributes) || len(before) > 0 && !maps.EqualFunc(got, before, func(a, b types.MessageAttributeValue) bool { return *a.StringValue == *b.StringValue }) {
			t.Errorf("%s: the other attributes are %v, want %v", c.name, got, before)
		}
	}
}

// attributeQueues keep the last message that was sent.
type attributeQueues struct {
	queues
	sent *sqs.SendMessageInput
}

func (q *attributeQueues) SendMessage(_ context.Context, in *sqs.SendMessageInput, _ ...func(*sqs.Options)) (*sqs.SendMessageOutput, error) {
	q.sent = in
	return &sqs.SendMessageOutput{MessageId: aws.String("new")}, nil
}

func (*attributeQueues) DeleteMessage(context.Context, *sqs.DeleteMessageInput, ...func(*sqs.Options)) (*sqs.DeleteMessageOutput, error) {
	return &sqs.DeleteMessageOutput{}, nil
}
