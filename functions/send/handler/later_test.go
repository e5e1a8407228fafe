package handler

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"

	"backstop/internal/queuemessage"
	"backstop/lib/delivery"
	"backstop/lib/fault"
	"backstop/lib/retry"
)

// requests is a queue that keeps what it is given, or answers with err.
type requests struct {
	err  error
	fifo bool
	got  []delivery.Queued
}

func (q *requests) Put(_ context.Context, r delivery.Queued) error {
	if q.err == nil {
		q.got = append(q.got, r)
	}
	return q.err
}

func (q *requests) FIFO() bool { return q.fifo }

// ask posts body, and returns the whole response.
func (b *bench) ask(t *testing.T, body string, headers map[string]string) (resp events.APIGatewayV2HTTPResponse, answer map[string]any) {
	t.Helper()
	e := httpEvent{Version: "2.0", RawPath: "/prod/v1/messages", Body: body, Headers: headers}
	e.RequestContext.HTTP = &events.APIGatewayV2HTTPRequestContextHTTPDescription{Method: http.MethodPost}
	e.RequestContext.Stage, e.RequestContext.DomainName = "prod", "abc123.execute-api.eu-central-1.amazonaws.com"
	resp = b.answer(t.Context(), retry.NewBudget(t.Context(), 0), e)
	if err := json.Unmarshal([]byte(resp.Body), &answer); err != nil {
		t.Fatal(err)
	}
	return resp, answer
}

func TestWhatIsAcceptedForLaterIsAnsweredAtOnce(t *testing.T) {
	preferred := map[string]string{"prefer": "respond-async"}
	for name, c := range map[string]struct {
		body    string
		headers map[string]string
		queue   *requests // nil: none
		status  int
		code    string // of a problem
		names   string // what its detail names
		applied bool
		waits   time.Duration
		sent    int
	}{
		"respond-async":                      {body: `{"id":"a/1","sink":"ops","message":{"body":"x"}}`, headers: preferred, queue: &requests{}, status: 202, applied: true},
		"without the preference":             {body: `{"id":"a/1","sink":"ops","message":{"body":"x"}}`, queue: &requests{}, status: 200, sent: 1},
		"without a queue":                    {body: `{"id":"a/1","sink":"ops","message":{"body":"x"}}`, headers: preferred, status: 200, sent: 1},
		"it does not fit":                    {body: `{"id":"a/1","sink":"ops","message":{"body":"x"}}`, headers: preferred, queue: &requests{err: errTooLarge}, status: 200, sent: 1},
		"the queue is silent":                {body: `{"id":"a/1","sink":"ops","message":{"body":"x"}}`, headers: preferred, queue: &requests{err: errSilent}, status: 503, code: "QUEUE_UNAVAILABLE"},
		"send_after":                         {body: `{"id":"a/1","sink":"ops","message":{"body":"x"},"send_after":"30s"}`, queue: &requests{}, status: 202, waits: 30 * time.Second},
		"send_after and the preference":      {body: `{"id":"a/1","sink":"ops","message":{"body":"x"},"send_after":"1500ms"}`, headers: preferred, queue: &requests{}, status: 202, applied: true, waits: 2 * time.Second},
		"send_after without a queue":         {body: `{"id":"a/1","sink":"ops","message":{"body":"x"},"send_after":"30s"}`, status: 400, code: "INVALID_ARGUMENT", names: "send_after"},
		"send_after on FIFO":                 {body: `{"id":"a/1","sink":"ops","message":{"body":"x"},"send_after":"30s"}`, queue: &requests{fifo: true}, status: 400, code: "INVALID_ARGUMENT", names: "FIFO"},
		"send_after, and it does not fit":    {body: `{"id":"a/1","sink":"ops","message":{"body":"x"},"send_after":"30s"}`, queue: &requests{err: errTooLarge}, status: 413, code: "BODY_TOO_LARGE"},
		"it is past":                         {body: `{"id":"a/1","sink":"ops","message":{"body":"x"},"expires_at":"2020-01-01T00:00:00Z"}`, headers: preferred, queue: &requests{}, status: 400, code: "INVALID_ARGUMENT", names: "expires_at"},
		"it is past before it may be sent":   {body: `{"id":"a/1","sink":"ops","message":{"body":"x"},"send_after":"30s","expires_at":"` + time.Now().Add(20*time.Second).UTC().Format(time.RFC3339) + `"}`, queue: &requests{}, status: 400, code: "INVALID_ARGUMENT", names: "expires_at"},
		"a message that cannot be sent":      {body: `{"id":"a/1","sink":"ops","message":{"body":""}}`, headers: preferred, queue: &requests{}, status: 400, code: "INVALID_ARGUMENT", names: "message.body"},
		"a sink that is not there":           {body: `{"id":"a/1","sink":"nobody","message":{"body":"x"}}`, headers: preferred, queue: &requests{}, status: 404, code: "SINK_NOT_FOUND"},
		"a body that is larger than we take": {body: `{"id":"a/1","sink":"ops","message":{"body":"` + strings.Repeat("x", 2000) + `"}}`, headers: preferred, queue: &requests{}, status: 413, code: "BODY_TOO_LARGE"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			if c.queue != nil {
				b.app.Sender.Requests = c.queue
			}
			before := time.Now()
			resp, answer := b.ask(t, c.body, c.headers)
			if resp.StatusCode != c.status || c.code != "" && answer["code"] != c.code || b.sink.sent != c.sent {
				t.Fatalf("%d %v after %d sends; want %d %s after %d", resp.StatusCode, answer, b.sink.sent, c.status, c.code, c.sent)
			}
			if detail, _ := answer["detail"].(string); !strings.Contains(detail, c.names) {
				t.Errorf("detail %q does not name %s", detail, c.names)
			}
			if got := resp.Headers["Preference-Applied"]; (got == "respond-async") != c.applied {
				t.Errorf("Preference-Applied: %q", got)
			}
			location := resp.Headers["Location"]
			if c.status != 202 {
				if location != "" {
					t.Errorf("Location: %q", location)
				}
				return
			}
			if location != "/prod/v1/deliveries?id=a%2F1&sink=ops" || answer["status"] != "accepted" || answer["delivery_id"] != "a/1" {
				t.Errorf("Location %q of %v", location, answer)
			}
			if len(c.queue.got) != 1 || c.queue.got[0].ID != "a/1" || c.queue.got[0].AcceptedAt.Before(before) {
				t.Fatalf("queued: %+v", c.queue.got)
			}
			at, _ := answer["not_before"].(string)
			notBefore, err := time.Parse(time.RFC3339, at)
			if c.waits == 0 && at != "" || c.waits > 0 && (err != nil || notBefore.Before(before.Add(c.waits)) || time.Until(notBefore) > c.waits) {
				t.Errorf("not_before %q (%v), want in %s", at, err, c.waits)
			}
			if resp, again := b.ask(t, c.body, c.headers); resp.StatusCode != 202 || again["duplicate"] != true || again["not_before"] != answer["not_before"] || len(c.queue.got) != 1 {
				t.Errorf("again: %d %v, and %d are queued", resp.StatusCode, again, len(c.queue.got))
			}
		})
	}
}

var (
	errTooLarge = &fault.Error{Code: fault.CodeBodyTooLarge, Msg: "it takes 1 MiB"}
	errSilent   = &fault.Error{Code: fault.CodeQueueUnavailable, Msg: "no answer"}
)

// with sets a message attribute.
func with(name, value string) func(*events.SQSMessage) {
	return func(rec *events.SQSMessage) {
		if rec.MessageAttributes == nil {
			rec.MessageAttributes = map[string]events.SQSMessageAttribute{}
		}
		rec.MessageAttributes[name] = events.SQSMessageAttribute{DataType: "String", StringValue: &value}
	}
}

// A message says when it was accepted; the queue says when it was sent, which for one that was
// moved here was later.
func TestTheAgeOfAMessageCountsFromItsFirstAcceptance(t *testing.T) {
	sent := func(age time.Duration) func(*events.SQSMessage) {
		return func(rec *events.SQSMessage) {
			rec.Attributes["SentTimestamp"] = fmt.Sprint(time.Now().Add(-age).UnixMilli())
		}
	}
	ago := func(name string, age time.Duration) func(*events.SQSMessage) {
		return with(name, time.Now().Add(-age).UTC().Format(time.RFC3339Nano))
	}
	for name, c := range map[string]struct {
		change []func(*events.SQSMessage)
		sent   int // of sinks with a max_age of an hour
	}{
		"sent now":                                {[]func(*events.SQSMessage){sent(0)}, 1},
		"sent long ago":                           {[]func(*events.SQSMessage){sent(2 * time.Hour)}, 0},
		"moved here now, sent long ago":           {[]func(*events.SQSMessage){sent(0), ago(queuemessage.SentAt, 2*time.Hour)}, 0},
		"moved here now, sent just now":           {[]func(*events.SQSMessage){sent(0), ago(queuemessage.SentAt, time.Minute)}, 1},
		"nobody says when":                        {nil, 1},
		"accepted long ago, without a bound then": {[]func(*events.SQSMessage){sent(0), ago(queuemessage.AcceptedAt, 2*time.Hour)}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench()
			b.target.MaxAge = time.Hour
			if failed := b.batch(t, t.Context(), record("m1", c.change...)); len(failed) != 0 || b.sink.sent != c.sent {
				t.Fatalf("%v handed back after %d sends, want none after %d", failed, b.sink.sent, c.sent)
			}
			it, err := b.queue.Find(t.Context(), "ops", "m1", "")
			if c.sent == 0 && (err != nil || it.Reason != "expired" || it.ExpiresAt.IsZero()) {
				t.Errorf("the dead letter is %+v, %v; want it expired", it, err)
			}
		})
	}
	b := newBench()
	for _, name := range []string{queuemessage.AcceptedAt, queuemessage.NotBefore, queuemessage.SentAt} {
		if failed := b.batch(t, t.Context(), record("m1", with(name, "yesterday"))); len(failed) != 1 || b.sink.sent != 0 {
			t.Errorf("%s that is no time: %v handed back after %d sends", name, failed, b.sink.sent)
		}
	}
}

func TestOnlyAMessageOfTheQueuesOwnStartsWhatWasAccepted(t *testing.T) {
	b, q := newBench(), &requests{}
	b.app.Sender.Requests = q
	if resp, _ := b.ask(t, `{"id":"m1","sink":"ops","message":{"body":"m1"}}`, map[string]string{"Prefer": "respond-async"}); resp.StatusCode != 202 {
		t.Fatal(resp)
	}
	own := func(rec *events.SQSMessage) { rec.Body = `{"id":"m1","sink":"ops","message":{"body":"m1"}}` }
	if failed := b.batch(t, t.Context(), record("other", own)); len(failed) != 0 || b.sink.sent != 0 {
		t.Errorf("somebody else's message: %v handed back after %d sends; want it answered as a duplicate", failed, b.sink.sent)
	}
	accepted := with(queuemessage.AcceptedAt, q.got[0].AcceptedAt.UTC().Format(time.RFC3339Nano))
	for range 2 {
		if failed := b.batch(t, t.Context(), record("queued", own, accepted)); len(failed) != 0 || b.sink.sent != 1 {
			t.Errorf("the queue's own: %v handed back after %d sends; want it sent once", failed, b.sink.sent)
		}
	}
}
