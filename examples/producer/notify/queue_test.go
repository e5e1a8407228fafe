package notify_test

import (
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"backstop/client"
	"backstop/lib/fault"

	"example.org/team/producer/notify"
)

// queue is SQS, as far as batches of messages go. It does not take bodies that contain
// "refuse" or, at the second and later calls, anything; of those with "forget" its answer
// says nothing.
type queue struct {
	calls  [][]string // bodies
	groups []string   // of all messages
	delays []int      // of all messages, in seconds
	broken bool       // from the second call on
}

func (q *queue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		ID    string `json:"Id"`
		Body  string `json:"MessageBody,omitempty"`
		Group string `json:"MessageGroupId,omitempty"`
		Delay int    `json:"DelaySeconds,omitempty"`

		MessageID   string `json:"MessageId,omitempty"`
		MD5         string `json:"MD5OfMessageBody,omitempty"`
		SenderFault bool
		Code        string `json:",omitempty"`
		Message     string `json:",omitempty"`
	}
	var in struct{ Entries []entry }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || r.Header.Get("X-Amz-Target") != "AmazonSQS.SendMessageBatch" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	if q.broken && len(q.calls) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"__type":"com.amazonaws.sqs#ServiceUnavailable","message":"away"}`))
		return
	}
	var bodies []string
	var out struct{ Successful, Failed []entry }
	for _, e := range in.Entries {
		bodies = append(bodies, e.Body)
		q.groups, q.delays = append(q.groups, e.Group), append(q.delays, e.Delay)
		switch {
		case strings.Contains(e.Body, "refuse-sender"):
			out.Failed = append(out.Failed, entry{ID: e.ID, SenderFault: true, Code: "InvalidMessageContents", Message: "no"})
		case strings.Contains(e.Body, "refuse-queue"):
			out.Failed = append(out.Failed, entry{ID: e.ID, Code: "InternalError", Message: "later"})
		case strings.Contains(e.Body, "forget-id"): // named, but without the message's id
			out.Successful = append(out.Successful, entry{ID: e.ID})
		case strings.Contains(e.Body, "forget"):
		default:
			sum := md5.Sum([]byte(e.Body))
			out.Successful = append(out.Successful, entry{ID: e.ID, MessageID: "m" + e.ID, MD5: hex.EncodeToString(sum[:])})
		}
	}
	q.calls = append(q.calls, bodies)
	_ = json.NewEncoder(w).Encode(out)
}

func (q *queue) sender(t *testing.T) *notify.Queue {
	t.Helper()
	server := httptest.NewServer(q)
	t.Cleanup(server.Close)
	return &notify.Queue{URL: server.URL + "/123456789012/backstop-messages", Client: sqs.New(sqs.Options{
		Region: "eu-central-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})}
}

func message(id, body string) client.SendRequest {
	return client.SendRequest{
		ID: id, Sink: "orders", Recipient: json.RawMessage(`{"address":"a@example.org"}`),
		Message: client.SendMessage{Subject: "s", Body: body},
	}
}

func TestMessagesGoInTheBatchesThatSQSTakes(t *testing.T) {
	q := &queue{}
	var all []client.SendRequest
	for i := range 23 {
		all = append(all, message("order-"+strconv.Itoa(i), "<p>small</p>"))
	}
	half := strings.Repeat("x", 600<<10)
	all = append(all, message("large-1", half), message("large-2", half))
	if back := q.sender(t).Send(t.Context(), all...); len(back) > 0 {
		t.Fatalf("handed back %v", back)
	}
	var sizes []int
	for _, bodies := range q.calls {
		sizes = append(sizes, len(bodies))
		if n := len(strings.Join(bodies, "")); n > 1<<20 {
			t.Errorf("a batch of %d bytes", n)
		}
	}
	if want := []int{10, 10, 4, 1}; !slices.Equal(sizes, want) {
		t.Errorf("batches of %v, want %v", sizes, want)
	}
	// A record holds the request that a call of the API has as its body.
	const want = `{"id":"order-0","sink":"orders","recipient":{"address":"a@example.org"},"message":{"subject":"s","body":"<p>small</p>"}}`
	if got := q.calls[0][0]; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if back := q.sender(t).Send(t.Context()); len(back) > 0 || len(q.calls) != 4 {
		t.Errorf("no message made %d calls; handed back %v", len(q.calls)-4, back)
	}
}

// SQS is fair to message groups, so a sink with a backlog does not hold up the others.
func TestTheGroupOfAMessageIsItsSink(t *testing.T) {
	q := &queue{}
	mail, chat := message("order-1", "x"), message("order-2", "x")
	chat.Sink = "support"
	if back := q.sender(t).Send(t.Context(), mail, chat); len(back) > 0 {
		t.Fatalf("handed back %v", back)
	}
	if want := []string{"orders", "support"}; !slices.Equal(q.groups, want) {
		t.Errorf("groups %q, want %q", q.groups, want)
	}
}

// What is the queue's to do stands in its message, and not in the request.
func TestAMessageWaitsInTheQueueAndKeepsItsGroup(t *testing.T) {
	q := &queue{}
	later := message("order-1", "x")
	later.SendAfter, later.Group = "89.5s", "customer-7"
	later.ExpiresAt = time.Date(2099, 1, 31, 18, 0, 0, 0, time.UTC)
	if back := q.sender(t).Send(t.Context(), later); len(back) > 0 {
		t.Fatalf("handed back %v", back)
	}
	const want = `{"id":"order-1","sink":"orders","recipient":{"address":"a@example.org"},"message":{"subject":"s","body":"x"},"expires_at":"2099-01-31T18:00:00Z"}`
	if got := q.calls[0][0]; got != want || q.delays[0] != 90 || q.groups[0] != "customer-7" {
		t.Errorf("%s after %d s in group %s; want\n%s after 90 s in customer-7", got, q.delays[0], q.groups[0], want)
	}
	for _, wait := range []string{"16m", "-1s", "0s", "30", "soon"} {
		later.SendAfter = wait
		back := q.sender(t).Send(t.Context(), later)
		if len(back) != 1 || back[0].Again || fault.CodeOf(back[0].Err) != fault.CodeInvalidArgument || back[0].Message.SendAfter != wait {
			t.Errorf("send_after %q: handed back %v, want it as it was, for good", wait, back)
		}
	}
}

func TestABurstOfAThousandIsAHundredCalls(t *testing.T) {
	q := &queue{}
	var all []client.SendRequest
	for i := range 1000 {
		all = append(all, message(strconv.Itoa(i), "x"))
	}
	if back := q.sender(t).Send(t.Context(), all...); len(back) > 0 || len(q.calls) != 100 {
		t.Errorf("%d calls, handed back %v; want 100, none", len(q.calls), back)
	}
}

func TestOnlyWhatTheQueueDidNotTakeIsHandedBack(t *testing.T) {
	q := &queue{broken: true}
	all := []client.SendRequest{
		message("taken", "x"), message("not allowed!", "x"), message("sender", "refuse-sender"),
		message("queue", "refuse-queue"), message("too-large", strings.Repeat("x", 1<<20)),
		message("forgotten", "forget"), message("no-id", "forget-id"),
	}
	for i := range 6 { // the last of them goes in a call of its own
		all = append(all, message("more-"+strconv.Itoa(i), "x"))
	}
	got := map[string]notify.HandedBack{}
	for _, h := range q.sender(t).Send(t.Context(), all...) {
		got[h.Message.ID] = h
	}
	for id, want := range map[string]struct {
		again bool
		text  string
		code  fault.Code
	}{
		"not allowed!": {false, "id", fault.CodeInvalidArgument},
		"too-large":    {false, "the queue takes 1048576", fault.CodeBodyTooLarge},
		"sender":       {false, "InvalidMessageContents: no", ""},
		"queue":        {true, "InternalError: later", ""},
		"forgotten":    {true, "does not name the message", ""},
		"no-id":        {true, "does not name the message", ""},
		"more-5":       {true, "ServiceUnavailable", ""},
	} {
		h, ok := got[id]
		if !ok || h.Again != want.again || !strings.Contains(h.Err.Error(), want.text) || fault.CodeOf(h.Err) != want.code {
			t.Errorf("%s: handed back %v, again %v, code %q: %v; want %+v", id, ok, h.Again, fault.CodeOf(h.Err), h.Err, want)
		}
		delete(got, id)
	}
	if len(got) > 0 {
		t.Errorf("handed back as well: %v", got)
	}
}
