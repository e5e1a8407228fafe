package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// record is a record for the sink of a bench.
func record(id string, change ...func(*events.SQSMessage)) events.SQSMessage {
	rec := events.SQSMessage{
		MessageId: id, EventSource: "aws:sqs", EventSourceARN: "arn:aws:sqs:eu-central-1:1:q",
		Body: fmt.Sprintf(`{"sink":"ops","message":{"body":%q}}`, id), Attributes: map[string]string{"ApproximateReceiveCount": "1"},
	}
	for _, c := range change {
		c(&rec)
	}
	return rec
}

// inGroup puts a record into a message group of a FIFO queue.
func inGroup(group string) func(*events.SQSMessage) {
	return func(rec *events.SQSMessage) {
		rec.EventSourceARN += ".fifo"
		rec.Attributes["MessageGroupId"] = group
	}
}

// batch hands records to b and returns those that were handed back.
func (b *bench) batch(t *testing.T, ctx context.Context, records ...events.SQSMessage) []string { //nolint:revive // t first, as in tests
	t.Helper()
	payload, err := json.Marshal(events.SQSEvent{Records: records})
	if err != nil {
		t.Fatal(err)
	}
	out, err := b.sqs(ctx, payload)
	if err != nil {
		t.Fatal(err)
	}
	var answer events.SQSEventResponse
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatal(err)
	}
	failed := []string{}
	for _, f := range answer.BatchItemFailures {
		failed = append(failed, f.ItemIdentifier)
	}
	return failed
}

// A queue may hand a message out twice at once. It is one message.
func TestAMessageThatIsTwiceInABatchIsHandledAndReportedOnce(t *testing.T) {
	for name, kind := range map[string]func(*events.SQSMessage){"standard": func(*events.SQSMessage) {}, "FIFO": inGroup("g")} {
		b := newBench()
		b.app.Sender.Records = noRecords{} // which would hide a second sending
		if failed := b.batch(t, t.Context(), record("a", kind), record("b", kind), record("a", kind)); len(failed) != 0 || b.sink.sent != 2 {
			t.Errorf("%s: %v handed back after %d sends, want none after 2", name, failed, b.sink.sent)
		}
		bad := func(rec *events.SQSMessage) { rec.Body = "x" }
		b = newBench()
		if failed := b.batch(t, t.Context(), record("a", kind, bad), record("a", kind, bad), record("a", kind, bad)); !slices.Equal(failed, []string{"a"}) {
			t.Errorf("%s: %v handed back, want a once", name, failed)
		}
	}
}

// A standard queue is fair to message groups, which are no order there: one that is handed back
// holds up no other of its group.
func TestAGroupOfAStandardQueueIsNoOrder(t *testing.T) {
	b := newBench()
	fair := func(rec *events.SQSMessage) { rec.Attributes["MessageGroupId"] = "ops" }
	bad := func(rec *events.SQSMessage) { rec.Body = "x" }
	if failed := b.batch(t, t.Context(), record("a", fair, bad), record("b", fair)); !slices.Equal(failed, []string{"a"}) || b.sink.sent != 1 {
		t.Errorf("%v handed back after %d sends, want a alone after 1", failed, b.sink.sent)
	}
}

func TestAnEmptyBatchIsASuccess(t *testing.T) {
	h := newHandler(t)
	for _, in := range []string{`{"Records":[]}`, `{ "Records" : [ ] }`} {
		if out, err := h.Invoke(t.Context(), []byte(in)); err != nil || string(out) != `{"batchItemFailures":[]}` {
			t.Errorf("%s: got %s, %v; want no failures", in, out, err)
		}
	}
}

// What another service wrapped around a request is named, and how to have it unwrapped.
func TestEnvelopesAreNamedWithTheirCure(t *testing.T) {
	request := `{\"sink\":\"ops\",\"message\":{\"body\":\"x\"}}`
	sns := `{"Type":"Notification","MessageId":"1","TopicArn":"arn:aws:sns:eu-central-1:1:t","Message":"` + request + `","Timestamp":"2026-01-01T00:00:00Z","SignatureVersion":"1"}`
	rule := `{"version":"0","id":"1","detail-type":"order","source":"shop","account":"1","time":"2026-01-01T00:00:00Z","region":"eu-central-1","resources":[],"detail":{"sink":"ops"}}`
	for name, c := range map[string]struct {
		body string
		says []string
	}{
		"SNS notification":    {sns, []string{"SNS notification", "raw message delivery"}},
		"SNS confirmation":    {`{"Type":"SubscriptionConfirmation","TopicArn":"arn:aws:sns:eu-central-1:1:t","Token":"x","SubscribeURL":"https://x"}`, []string{"SNS", "confirm"}},
		"EventBridge event":   {rule, []string{"EventBridge", "$.detail"}},
		"S3 test event":       {`{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2026-01-01T00:00:00Z","Bucket":"b","RequestId":"1","HostId":"1"}`, []string{"S3 test event", "another queue"}},
		"S3 notification":     {`{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","s3":{}}]}`, []string{"aws:s3", "request"}},
		"a batch in a record": {`{"Records":[{"messageId":"a","eventSource":"aws:sqs","body":"{}"}]}`, []string{"aws:sqs", "request"}},
	} {
		b := newBench()
		var log bytes.Buffer
		b.app.Log = slog.New(slog.NewTextHandler(&log, nil))
		failed := b.batch(t, t.Context(), record("a", func(rec *events.SQSMessage) { rec.Body = c.body }), record("b"))
		if !slices.Equal(failed, []string{"a"}) || b.sink.sent != 1 {
			t.Errorf("%s: %v handed back after %d sends, want a alone", name, failed, b.sink.sent)
		}
		for _, part := range c.says {
			if !strings.Contains(log.String(), part) {
				t.Errorf("%s: the log does not say %q:\n%s", name, part, log.String())
			}
		}
	}
	for name, c := range map[string]struct{ event, says string }{
		"SNS":         {`{"Records":[{"EventSource":"aws:sns","Sns":{"Message":"x"}}]}`, "raw message delivery"},
		"EventBridge": {rule, "$.detail"},
		"S3":          {`{"Records":[{"eventSource":"aws:s3","s3":{}}]}`, "aws:s3"},
	} {
		_, err := shapeOf([]byte(c.event))
		wantCode(t, err, fault.CodeInvalidArgument)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("a direct %s event: %v, want the cure %q", name, err, c.says)
		}
	}
}

// slowSink takes all the time that it is given.
type slowSink struct{ took []time.Duration }

func (*slowSink) Name() string { return "ops" }
func (s *slowSink) Send(ctx context.Context, _ sinks.Recipient, _ sinks.Message) error {
	start := time.Now()
	<-ctx.Done()
	s.took = append(s.took, time.Since(start))
	return sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
}

// Records of a group follow each other, so a slow one must leave time for the others.
func TestAGroupSharesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		slow := &slowSink{}
		b.target.Sink = slow
		ctx, cancel := context.WithTimeout(t.Context(), 16*time.Second)
		defer cancel()
		failed := b.batch(t, ctx, record("a", inGroup("g")), record("b", inGroup("g")), record("c", inGroup("g")))
		want := []time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second} // what is left of the reserve of 1 s
		if len(failed) != 0 || !slices.Equal(slow.took, want) {
			t.Errorf("%v handed back, attempts of %v; want dead letters after %v", failed, slow.took, want)
		}
	})
}

// received is how often the queue has handed a record out.
func received(n string) func(*events.SQSMessage) {
	return func(rec *events.SQSMessage) {
		rec.Attributes["ApproximateReceiveCount"] = n
		if n == "" {
			delete(rec.Attributes, "ApproximateReceiveCount")
		}
	}
}

// picky fails the first record's deliveries with err.
type picky struct {
	err  error
	sent []string
}

func (*picky) Name() string { return "ops" }
func (s *picky) Send(_ context.Context, _ sinks.Recipient, m sinks.Message) error {
	s.sent = append(s.sent, m.Body)
	if m.Body == "a" {
		return s.err
	}
	return nil
}

var (
	errBusy    = sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "HTTP 503"})
	errSilence = sinks.Ambiguous(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "no answer"})
	errConfig  = &fault.Error{Code: fault.CodeSinkConfigInvalid, Msg: "url: missing"}
)

// With fifo: hold, a message whose failure may pass is handed back with what follows it in
// its group, and only its last receive ends in a dead letter: a replay would come late.
func TestAHeldGroupWaitsForItsFirst(t *testing.T) {
	all, none := []string{"a", "b"}, []string{}
	pause := func(b *bench) { b.app.Sender.Paused = func(context.Context, string) bool { return true } }
	spoil := func(b *bench) { b.target.ConfigErr = errConfig }
	for name, c := range map[string]struct {
		hold   bool
		err    error
		count  string
		fifo   bool
		change func(*bench)
		back   []string // handed back
		stored int      // dead letters
	}{
		"first receive":                          {true, errBusy, "1", true, nil, all, 0},
		"last but one":                           {true, errBusy, "4", true, nil, all, 0},
		"last":                                   {true, errBusy, "5", true, nil, none, 1},
		"one more than there should be":          {true, errBusy, "6", true, nil, none, 1},
		"nobody counts":                          {true, errBusy, "", true, nil, none, 1},
		"a count that is none":                   {true, errBusy, "many", true, nil, none, 1},
		"terminal":                               {true, errGone, "1", true, nil, none, 1},
		"ambiguous: only an operator may repeat": {true, errSilence, "1", true, nil, none, 1},
		"delivered":                              {true, nil, "1", true, nil, none, 0},
		"paused":                                 {true, nil, "1", true, pause, all, 0},
		"paused to the end":                      {true, nil, "5", true, pause, none, 2},
		"faulty configuration":                   {true, nil, "1", true, spoil, all, 0},
		"faulty configuration to the end":        {true, nil, "5", true, spoil, none, 2},
		"a standard queue has no order":          {true, errBusy, "1", false, nil, none, 1},
		"fifo: continue":                         {false, errBusy, "1", true, nil, none, 1},
		"fifo: continue, paused":                 {false, nil, "1", true, pause, none, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench()
			sink := &picky{err: c.err}
			b.target.Sink, b.target.Hold = sink, c.hold
			if c.change != nil {
				c.change(b)
			}
			group := func(*events.SQSMessage) {}
			if c.fifo {
				group = inGroup("g")
			}
			failed := b.batch(t, t.Context(), record("a", group, received(c.count)), record("b", group, received(c.count)))
			stored, err := b.queue.Count(t.Context(), "")
			if err != nil || !slices.Equal(failed, c.back) || int(stored) != c.stored {
				t.Errorf("%s: %v handed back, %d dead letters, %v; want %v and %d", name, failed, stored, err, c.back, c.stored)
			}
			if slices.Contains(sink.sent, "b") != (len(c.back) == 0 && c.change == nil) {
				t.Errorf("%s: sent were %v", name, sink.sent)
			}
		})
	}
}

// What was held is delivered at a later receive, once, before its successor, and another
// group never waited for it.
func TestAHeldGroupGoesOnInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		sink := &picky{err: errBusy}
		b.target.Sink, b.target.Retry.MaxAttempts, b.target.Hold = sink, 1, true
		send := func(n string, ids ...string) []string {
			var records []events.SQSMessage
			for _, id := range ids {
				group := "g"
				if id == "c" {
					group = "other"
				}
				records = append(records, record(id, inGroup(group), received(n)))
			}
			return b.batch(t, t.Context(), records...)
		}
		if failed := send("1", "a", "b", "c"); !slices.Equal(failed, []string{"a", "b"}) {
			t.Errorf("first receive: %v handed back, want a and b", failed)
		}
		sink.err = nil
		if failed := send("2", "a", "b"); len(failed) != 0 {
			t.Errorf("second receive: %v handed back", failed)
		}
		if want := []string{"a", "a", "b"}; !slices.Equal(slices.DeleteFunc(sink.sent, func(s string) bool { return s == "c" }), want) {
			t.Errorf("sent in the order %v, want %v, and c at any time", sink.sent, want)
		}
	})
}
