package localqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bench calls a service without HTTP, so that time can be a bubble's.
type bench struct {
	*testing.T
	*Service
}

const (
	plain   = "https://sqs.us-east-1.amazonaws.com/123456789012/plain"
	lost    = "https://sqs.us-east-1.amazonaws.com/123456789012/lost"
	ordered = "https://sqs.us-east-1.amazonaws.com/123456789012/ordered.fifo"
)

func newBench(t *testing.T) bench {
	t.Helper()
	s, err := New(Config{Name: "plain", Visibility: time.Minute, Redrive: "lost", MaxReceives: 2}, Config{Name: "lost"}, Config{Name: "ordered.fifo"})
	if err != nil {
		t.Fatal(err)
	}
	return bench{t, s}
}

func (b bench) put(url, body string, edit ...func(*sendEntry)) sendAnswer {
	b.Helper()
	e := sendEntry{MessageBody: body}
	for _, f := range edit {
		f(&e)
	}
	a, err := b.trySend(url, e)
	if err != nil {
		b.Fatal(err)
	}
	return a
}

func (b bench) trySend(url string, e sendEntry) (sendAnswer, error) {
	return b.sendMessage(context.Background(), struct {
		QueueURL string `json:"QueueUrl"`
		sendEntry
	}{url, e})
}

func inGroup(group, dedup string) func(*sendEntry) {
	return func(e *sendEntry) { e.MessageGroupID, e.MessageDeduplicationID = group, dedup }
}

func after(seconds int) func(*sendEntry) { return func(e *sendEntry) { e.DelaySeconds = &seconds } }

// take receives up to ten messages after a long poll of wait seconds.
func (b bench) take(url string, wait int) []receivedMessage {
	b.Helper()
	most := batchEntries
	out, err := b.receiveMessage(b.Context(), receiveInput{QueueURL: url, MaxNumberOfMessages: &most, WaitTimeSeconds: &wait, MessageSystemAttributeNames: []string{"All"}})
	if err != nil {
		b.Fatal(err)
	}
	return out.Messages
}

func (b bench) wantTaken(url string, wait int, want ...string) []receivedMessage {
	b.Helper()
	got := b.take(url, wait)
	var bodies []string
	for _, m := range got {
		bodies = append(bodies, m.Body)
	}
	if !slices.Equal(bodies, want) {
		b.Fatalf("received %q, want %q", bodies, want)
	}
	return got
}

func (b bench) drop(url string, m receivedMessage) error {
	_, err := b.eachHandle(handleBatch{url, []handleEntry{{ID: "a", ReceiptHandle: m.ReceiptHandle}}}, (*queue).deleteEntry)
	if err != nil {
		return err
	}
	q, err := b.find(url)
	if err != nil {
		return err
	}
	return q.delete(m.ReceiptHandle, time.Now())
}

func (b bench) hideFor(url string, m receivedMessage, seconds int) error {
	_, err := b.withHandle(url, handleEntry{ReceiptHandle: m.ReceiptHandle, VisibilityTimeout: &seconds}, (*queue).hideEntry)
	return err
}

func (b bench) wantCounts(url string, want ...int) {
	b.Helper()
	q, err := b.find(url)
	if err != nil {
		b.Fatal(err)
	}
	ready, inFlight, delayed := q.counts(time.Now())
	if got := []int{ready, inFlight, delayed}; !slices.Equal(got, want) {
		b.Errorf("ready, in flight, delayed: %v, want %v", got, want)
	}
}

func wantRefused(t *testing.T, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[*refusal](err); !ok || e.code != code {
		t.Errorf("got %v, want %s", err, code)
	}
}

// elapsed runs do in a bubble's time.
func elapsed(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}

func TestALongPollEndsWithTheFirstMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		if d := elapsed(func() { b.wantTaken(plain, 20) }); d != 20*time.Second {
			t.Errorf("an empty queue answered after %v, want 20s", d)
		}
		go func() {
			time.Sleep(3 * time.Second)
			b.put(plain, "a")
		}()
		if d := elapsed(func() { b.wantTaken(plain, 20, "a") }); d != 3*time.Second {
			t.Errorf("answered after %v, want 3s", d)
		}
	})
}

// Whoever hung up gets nothing, and nothing is hidden on his account.
func TestAReceiverThatWentAwayTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan receiveOutput)
		go func() {
			wait := 20
			out, err := b.receiveMessage(ctx, receiveInput{QueueURL: plain, WaitTimeSeconds: &wait})
			if err != nil {
				t.Error(err)
			}
			done <- out
		}()
		synctest.Wait()
		cancel()
		b.put(plain, "a")
		if out := <-done; len(out.Messages) != 0 {
			t.Errorf("got %v", out.Messages)
		}
		b.wantTaken(plain, 0, "a")
	})
}

func TestAMessageIsHiddenForItsDelayToTheInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.put(plain, "late", after(900))
		b.put(plain, "soon", after(2))
		b.put(plain, "now")
		b.wantCounts(plain, 1, 0, 2)
		b.wantTaken(plain, 0, "now")
		if d := elapsed(func() { b.wantTaken(plain, 20, "soon") }); d != 2*time.Second {
			t.Errorf("came after %v, want 2s", d)
		}
		time.Sleep(898*time.Second - time.Millisecond)
		b.wantTaken(lost, 0)
		if got := b.take(plain, 0); slices.ContainsFunc(got, func(m receivedMessage) bool { return m.Body == "late" }) {
			t.Error("a delayed message came early")
		}
		time.Sleep(time.Millisecond)
		if got := b.take(plain, 0); !slices.ContainsFunc(got, func(m receivedMessage) bool { return m.Body == "late" }) {
			t.Errorf("after 900s: %v, want the delayed message", got)
		}
	})
}

func TestVisibility(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.put(plain, "a")
		first := b.wantTaken(plain, 0, "a")[0]
		b.wantCounts(plain, 0, 1, 0)
		time.Sleep(time.Minute - time.Millisecond)
		b.wantTaken(plain, 0)
		if err := b.hideFor(plain, first, 10); err != nil { // from now
			t.Fatal(err)
		}
		second := func() receivedMessage {
			var got []receivedMessage
			if d := elapsed(func() { got = b.wantTaken(plain, 20, "a") }); d != 10*time.Second {
				t.Errorf("came again after %v, want 10s", d)
			}
			return got[0]
		}()
		if n := second.Attributes["ApproximateReceiveCount"]; n != "2" {
			t.Errorf("receive count %s, want 2", n)
		}
		wantRefused(t, b.hideFor(plain, first, 5), "MessageNotInflight")
		if err := b.drop(plain, first); err != nil { // answered, and nothing done
			t.Error(err)
		}
		b.wantCounts(plain, 0, 1, 0)
		if err := b.hideFor(plain, second, 0); err != nil {
			t.Error(err)
		}
		wantRefused(t, b.hideFor(plain, second, 5), "MessageNotInflight")
		b.wantCounts(plain, 1, 0, 0)
		if err := b.drop(plain, second); err != nil {
			t.Error(err)
		}
		b.wantCounts(plain, 0, 0, 0)
		if err := b.drop(plain, second); err != nil {
			t.Errorf("deleting again: %v", err)
		}
		wantRefused(t, b.hideFor(plain, second, maxHide+1), "InvalidParameterValue")
		wantRefused(t, b.drop(plain, receivedMessage{ReceiptHandle: "made up"}), "ReceiptHandleIsInvalid")
	})
}

func TestTheReceiveAfterTheLastMovesAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		begin := milliseconds(time.Now())
		told := b.put(plain, "a")
		for range 2 {
			b.wantTaken(plain, 20, "a")
			time.Sleep(time.Minute)
		}
		b.wantTaken(lost, 0)
		b.wantTaken(plain, 0)
		m := b.wantTaken(lost, 0, "a")[0]
		for name, want := range map[string]string{
			"ApproximateReceiveCount": "3", "SentTimestamp": begin, "DeadLetterQueueSourceArn": "arn:aws:sqs:us-east-1:123456789012:plain",
		} {
			if got := m.Attributes[name]; got != want {
				t.Errorf("%s %s, want %s", name, got, want)
			}
		}
		if m.MessageID != told.MessageID {
			t.Errorf("message id %s, want %s as before", m.MessageID, told.MessageID)
		}
		if b.Waiting("plain") != 0 || b.Waiting("lost") != 1 || b.Waiting("nowhere") != 0 {
			t.Errorf("%d, %d", b.Waiting("plain"), b.Waiting("lost"))
		}
	})
}

// While a message of a group is received, the group waits; other groups do not.
func TestAFIFOGroupKeepsItsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		for i, group := range []string{"g", "h", "g", "g", "h"} {
			b.put(ordered, fmt.Sprintf("%s%d", group, i), inGroup(group, strconv.Itoa(i)))
		}
		one := 1
		receive := func() receivedMessage {
			t.Helper()
			out, err := b.receiveMessage(t.Context(), receiveInput{QueueURL: ordered, MaxNumberOfMessages: &one, MessageSystemAttributeNames: []string{"MessageGroupId", "SequenceNumber"}})
			if err != nil || len(out.Messages) != 1 {
				t.Fatalf("%v, %v", out.Messages, err)
			}
			return out.Messages[0]
		}
		g0, h1 := receive(), receive()
		if g0.Body != "g0" || h1.Body != "h1" || g0.Attributes["MessageGroupId"] != "g" || g0.Attributes["SequenceNumber"] >= h1.Attributes["SequenceNumber"] {
			t.Fatalf("%+v, %+v", g0, h1)
		}
		b.wantTaken(ordered, 0) // both groups are held up
		if err := b.drop(ordered, g0); err != nil {
			t.Fatal(err)
		}
		rest := b.wantTaken(ordered, 0, "g2", "g3")
		time.Sleep(30 * time.Second) // the visibility of all ends
		wantRefused(t, b.drop(ordered, rest[0]), "InvalidParameterValue")
		b.wantTaken(ordered, 0, "h1", "g2", "g3", "h4")
	})
}

func TestDeduplicationLastsFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		first := b.put(ordered, "a", inGroup("g", "1"))
		if err := b.drop(ordered, b.wantTaken(ordered, 0, "a")[0]); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5*time.Minute - time.Millisecond)
		if again := b.put(ordered, "b", inGroup("other", "1")); again.MessageID != first.MessageID || again.SequenceNumber != first.SequenceNumber {
			t.Errorf("%+v, want the first answer %+v", again, first)
		}
		b.wantTaken(ordered, 0)
		time.Sleep(time.Millisecond)
		if b.put(ordered, "c", inGroup("g", "1")).MessageID == first.MessageID {
			t.Error("remembered for longer than five minutes")
		}
		b.wantTaken(ordered, 0, "c")
	})
}

// Memory is bounded over all queues, deduplication ids included, and comes back.
func TestAFullServiceTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		all := b.room.left
		b.room.left = 3*(overhead+100) - 1
		body := strings.Repeat("x", 100)
		b.put(plain, body)
		b.put(plain, body)
		_, err := b.trySend(lost, sendEntry{MessageBody: body})
		wantRefused(t, err, "RequestThrottled")
		if f := failed("a", err); f.SenderFault {
			t.Error("a full queue is called the sender's fault")
		}
		b.room.left++
		b.put(lost, body)
		for _, url := range []string{plain, plain, lost} {
			for _, m := range b.take(url, 0) {
				if err := b.drop(url, m); err != nil {
					t.Fatal(err)
				}
			}
		}
		if got := b.room.left; got != 3*(overhead+100) {
			t.Errorf("%d bytes are free after all was deleted, want %d", got, 3*(overhead+100))
		}
		b.room.left = all
		b.put(ordered, "a", inGroup("g", "1"))
		if err := b.drop(ordered, b.take(ordered, 0)[0]); err != nil {
			t.Fatal(err)
		}
		if used := all - b.room.left; used != overhead {
			t.Errorf("a remembered deduplication id takes %d bytes, want %d", used, overhead)
		}
		time.Sleep(dedupWindow)
		b.put(ordered, "b", inGroup("g", "2"))
		if used := all - b.room.left; used != 1+len("")+2*overhead {
			t.Errorf("%d bytes are used, want those of one message and one id", used)
		}
	})
}

func TestFaultsOfAConfigurationAreToldAtOnce(t *testing.T) {
	_, err := New(Config{Name: "a b"}, Config{Name: "twice"}, Config{Name: "twice"}, Config{Name: "x", Visibility: time.Millisecond},
		Config{Name: "y", Redrive: "nowhere", MaxReceives: 1}, Config{Name: "z", Redrive: "f.fifo", MaxReceives: 1}, Config{Name: "f.fifo"},
		Config{Name: "v", MaxReceives: 2}, Config{Name: strings.Repeat("n", 76) + ".fifo"})
	for _, want := range []string{`"a b"`, `"twice": given twice`, "1ms is not whole seconds", `"y": redrive queue "nowhere"`, `"z": redrive queue "f.fifo"`, `"v": Redrive and`, "nnn"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
}

// Each refusal has the code that SQS documents.
func TestWhatCannotBeSent(t *testing.T) {
	b := newBench(t)
	value := func(v string) attribute { return attribute{DataType: "String", StringValue: &v} }
	named := func(name string) func(*sendEntry) {
		return func(e *sendEntry) { e.MessageAttributes = map[string]attribute{name: value("v")} }
	}
	many := map[string]attribute{}
	for i := range maxAttributes + 1 {
		many[strconv.Itoa(i)] = value("v")
	}
	for _, c := range []struct {
		name, url, body string
		edit            func(*sendEntry)
		code            string
	}{
		{"no body", plain, "", nil, "MissingParameter"},
		{"a control character", plain, "a\x00", nil, "InvalidMessageContents"},
		{"a noncharacter", plain, "a\uFFFF", nil, "InvalidMessageContents"},
		{"one byte too many", plain, strings.Repeat("x", maxBytes+1), nil, "InvalidParameterValue"},
		{"one byte too many with its attribute", plain, strings.Repeat("x", maxBytes-len("nameStringv")+1), named("name"), "InvalidParameterValue"},
		{"a second too long", plain, "a", after(901), "InvalidParameterValue"},
		{"a negative delay", plain, "a", after(-1), "InvalidParameterValue"},
		{"eleven attributes", plain, "a", func(e *sendEntry) { e.MessageAttributes = many }, "InvalidParameterValue"},
		{"a reserved attribute", plain, "a", named("AWS.x"), "InvalidParameterValue"},
		{"an attribute with two dots", plain, "a", named("a..b"), "InvalidParameterValue"},
		{"an attribute without value", plain, "a", func(e *sendEntry) { e.MessageAttributes = map[string]attribute{"a": value("")} }, "InvalidParameterValue"},
		{"an attribute of another type", plain, "a", func(e *sendEntry) { e.MessageAttributes = map[string]attribute{"a": {DataType: "Text"}} }, "InvalidParameterValue"},
		{"another system attribute", plain, "a", func(e *sendEntry) { e.MessageSystemAttributes = map[string]attribute{"SentTimestamp": value("1")} }, "InvalidParameterValue"},
		{"a group with a space", plain, "a", inGroup("a b", ""), "InvalidParameterValue"},
		{"a group too long", plain, "a", inGroup(strings.Repeat("g", 129), ""), "InvalidParameterValue"},
		{"a deduplication id without FIFO", plain, "a", inGroup("g", "d"), "InvalidParameterValue"},
		{"FIFO without a group", ordered, "a", inGroup("", "d"), "MissingParameter"},
		{"FIFO without a deduplication id", ordered, "a", inGroup("g", ""), "InvalidParameterValue"},
		{"FIFO with a delay", ordered, "a", func(e *sendEntry) { inGroup("g", "d")(e); after(1)(e) }, "InvalidParameterValue"},
		{"another queue", plain + "x", "a", nil, "QueueDoesNotExist"},
		{"another account", "https://sqs.us-east-1.amazonaws.com/1/plain", "a", nil, "QueueDoesNotExist"},
		{"no queue", "", "a", nil, "MissingParameter"},
	} {
		e := sendEntry{MessageBody: c.body}
		if c.edit != nil {
			c.edit(&e)
		}
		_, err := b.trySend(c.url, e)
		if err == nil {
			t.Errorf("%s: taken", c.name)
			continue
		}
		t.Log(c.name)
		wantRefused(t, err, c.code)
	}
	if n := b.Waiting("plain") + b.Waiting("ordered.fifo"); n != 0 {
		t.Errorf("%d messages were taken", n)
	}
	for _, c := range []struct {
		name, url, body string
		edit            func(*sendEntry)
	}{
		{"the most", plain, strings.Repeat("x", maxBytes), nil},
		{"the most with its attribute", plain, strings.Repeat("x", maxBytes-len("nameStringv")), named("name")},
		{"the longest delay", plain, "a", after(900)},
		{"a group on a standard queue", plain, "a", inGroup("g!~", "")},
		{"FIFO", ordered, "a", inGroup("g", "d")},
		{"FIFO with a delay of nothing", ordered, "b", func(e *sendEntry) { inGroup("g", "e")(e); after(0)(e) }},
		{"all of Unicode", plain, "\t\r\n\uFFFD\U0010FFFF", nil},
	} {
		e := sendEntry{MessageBody: c.body}
		if c.edit != nil {
			c.edit(&e)
		}
		if _, err := b.trySend(c.url, e); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
