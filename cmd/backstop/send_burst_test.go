package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/spf13/cobra"

	"backstop/internal/localqueue"
	"backstop/internal/queuemessage"
)

// localQueue is a queue on this machine that counts its calls.
type localQueue struct {
	url   string
	calls atomic.Int64
	*sqs.Client
}

func newLocalQueue(t *testing.T, name string) *localQueue {
	t.Helper()
	s, err := localqueue.New(localqueue.Config{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	q := &localQueue{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") == "AmazonSQS.SendMessageBatch" {
			q.calls.Add(1)
		}
		s.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	q.url = localqueue.URL(srv.URL, name)
	q.Client = sqs.New(sqs.Options{HTTPClient: s, BaseEndpoint: &srv.URL, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")})
	return q
}

// drain takes what can be received.
func (q *localQueue) drain(t *testing.T) (all []types.Message) {
	t.Helper()
	for {
		out, err := q.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: &q.url, MaxNumberOfMessages: 10, MessageSystemAttributeNames: []types.MessageSystemAttributeName{"All"},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return all
		}
		all = append(all, out.Messages...)
	}
}

// delayed is how many messages wait for their time.
func (q *localQueue) delayed(t *testing.T) string {
	t.Helper()
	out, err := q.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: &q.url, AttributeNames: []types.QueueAttributeName{"All"}})
	if err != nil {
		t.Fatal(err)
	}
	return out.Attributes["ApproximateNumberOfMessagesDelayed"]
}

func linesFile(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "messages.ndjson")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// idOf reads the id of a request.
func idOf(t *testing.T, body string) string {
	t.Helper()
	var r struct{ ID string }
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		t.Fatal(err)
	}
	return r.ID
}

func TestAThousandMessagesAreAHundredCalls(t *testing.T) {
	q := newLocalQueue(t, "main")
	var lines []string
	for i := range 1000 {
		id := ""
		if i%2 == 0 {
			id = fmt.Sprintf(`"id":"order-%d",`, i)
		}
		lines = append(lines, fmt.Sprintf(`{%s"sink":"mail","message":{"body":"%d"}}`, id, i))
	}
	r := run(t, "send", "--queue", q.url, "--file", linesFile(t, lines...))
	r.want(t, 0, "1000 messages put on the queue\n", "")
	if n := q.calls.Load(); n != 100 {
		t.Errorf("%d calls, want 100", n)
	}
	made := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^line (\d+): id ([0-9a-f-]{36})$`).FindAllStringSubmatch(r.out, -1) {
		made[m[2]] = true
	}
	got := q.drain(t)
	for _, m := range got {
		if id := idOf(t, *m.Body); !strings.HasPrefix(id, "order-") && !made[id] {
			t.Errorf("id %s was not printed", id)
		}
	}
	if len(got) != 1000 || len(made) != 500 {
		t.Errorf("%d messages, %d ids made; want 1000, 500", len(got), len(made))
	}
}

func TestALineSaysItsTimeAndItsOrder(t *testing.T) {
	q := newLocalQueue(t, "main")
	run(t, "send", "--queue", q.url, "--file", linesFile(t,
		`{"id":"a","sink":"mail","recipient":{"n":9007199254740993},"message":{"subject":"<b>","body":"&\uffff","metadata":{"k":"v"}},"expires_at":"2099-01-31T20:00:00+02:00","group":"g"}`,
		"", "  \r",
		`{"id":"b","sink":"mail","message":{"body":"x"},"send_after":"14m59.5s"}`,
		`{"id":"c","sink":"mail","message":{"body":"x"}}`,
	)).want(t, 0, "3 messages put on the queue\n", "")
	got := q.drain(t)
	if len(got) != 2 || q.delayed(t) != "1" {
		t.Fatalf("%d messages, %s delayed; want 2, 1", len(got), q.delayed(t))
	}
	const want = `{"id":"a","sink":"mail","recipient":{"n":9007199254740993},"message":{"subject":"<b>","body":"&\uffff","metadata":{"k":"v"}},"expires_at":"2099-01-31T18:00:00Z"}`
	if *got[0].Body != want || got[0].Attributes["MessageGroupId"] != "g" || got[1].Attributes["MessageGroupId"] != "mail" {
		t.Errorf("%s in groups %s, %s; want\n%s in g, mail", *got[0].Body, got[0].Attributes["MessageGroupId"], got[1].Attributes["MessageGroupId"], want)
	}
}

// A call has at most 1 MiB.
func TestABurstKeepsToTheSizeOfACall(t *testing.T) {
	q := newLocalQueue(t, "main")
	var lines []string
	for i := range 7 {
		lines = append(lines, fmt.Sprintf(`{"id":"%d","sink":"mail","message":{"body":"%s"}}`, i, strings.Repeat("x", 300<<10)))
	}
	run(t, "send", "--queue", q.url, "--file", linesFile(t, lines...)).want(t, 0, "7 messages put on the queue\n", "")
	if n := q.calls.Load(); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

// Each wrong line is named with its fault, and is kept; the right ones are sent. What was kept is
// sent, cured or not, by the same command.
func TestWrongLinesAreNamedAndKept(t *testing.T) {
	q := newLocalQueue(t, "main")
	wrong := []struct{ line, says string }{
		{`{"sink":"mail"`, "line"},
		{`[1]`, "line"},
		{`{"sink":"mail","message":{"body":"x"},"to":"ann"}`, `to`},
		{`{"message":{"body":"x"}}`, "sink name"},
		{`{"id":"a b","sink":"mail","message":{"body":"x"}}`, `id "a b"`},
		{`{"sink":"mail","message":{"body":""}}`, "message.body"},
		{`{"sink":"mail","message":{"body":"x"},"send_after":"16m"}`, "send_after"},
		{`{"sink":"mail","message":{"body":"x"},"send_after":"30"}`, "send_after"},
		{`{"sink":"mail","message":{"body":"x"},"expires_at":"2020-01-01T00:00:00Z"}`, "expires_at"},
		{`{"sink":"mail","message":{"body":"x"},"expires_at":"tomorrow"}`, "expires_at"},
		{`{"sink":"mail","message":{"body":"x"},"expires_at":"` + time.Now().Add(5*time.Minute).UTC().Format(time.RFC3339) + `","send_after":"10m"}`, "expires_at"},
		{`{"sink":"mail","message":{"body":"x"},"group":"a b"}`, "group"},
		{`{"sink":"mail","message":{"body":"` + strings.Repeat("x", queuemessage.MaxBytes) + `"}}`, "1048"},
	}
	lines := []string{`{"id":"first","sink":"mail","message":{"body":"x"}}`}
	for _, w := range wrong {
		lines = append(lines, w.line)
	}
	lines = append(lines, `{"id":"last","sink":"mail","message":{"body":"x"}}`)
	left := filepath.Join(t.TempDir(), "left.ndjson")
	r := run(t, "send", "--queue", q.url, "--file", linesFile(t, lines...), "--failed-to", left)
	r.want(t, exitFailed, "2 messages put on the queue\n", fmt.Sprintf("%d lines not taken", len(wrong)))
	for i, w := range wrong {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^line %d: .*%s`, i+2, regexp.QuoteMeta(w.says))).MatchString(r.err) {
			t.Errorf("line %d, %.80s: not named with %s in\n%s", i+2, w.line, w.says, r.err)
		}
	}
	b, err := os.ReadFile(left)
	if err != nil || string(b) != strings.Join(lines[1:len(lines)-1], "\n")+"\n" {
		t.Errorf("kept (%v)\n%.2000s", err, b)
	}
	if n := len(q.drain(t)); n != 2 {
		t.Errorf("%d messages in the queue, want 2", n)
	}
	run(t, "send", "--queue", q.url, "--file", left, "--failed-to", left).want(t, exitUsage, "", "--failed-to") // it would be overwritten
}

func TestBurstOnAFIFOQueue(t *testing.T) {
	q := newLocalQueue(t, "main.fifo")
	file := linesFile(t,
		`{"id":"1","sink":"mail","message":{"body":"x"}}`,
		`{"id":"2","sink":"mail","message":{"body":"x"},"send_after":"1s"}`,
		`{"id":"3","sink":"mail","message":{"body":"x"},"group":"g"}`)
	for range 2 { // the second time SQS knows them
		run(t, "send", "--queue", q.url, "--file", file).want(t, exitFailed, "2 messages put on the queue\n", "line 2: send_after: a FIFO queue delays no single message")
	}
	if n := len(q.drain(t)); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

func TestBurstFromStandardInput(t *testing.T) {
	q := newLocalQueue(t, "main")
	var stdout, stderr bytes.Buffer
	root := newRoot()
	root.SetArgs([]string{"send", "--queue", q.url, "--file", "-"})
	root.SetIn(strings.NewReader(`{"sink":"mail","message":{"body":"x"}}`))
	root.SetOut(&stdout)
	root.SetErr(&stderr)
	if err := root.ExecuteContext(t.Context()); err != nil || !strings.Contains(stdout.String(), "1 message put on the queue\n") {
		t.Errorf("%v, %s", err, &stdout)
	}
	if n := len(q.drain(t)); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}

func TestFlagsOfABurst(t *testing.T) {
	for args, want := range map[string]string{
		"--file x": "go together", "--queue http://127.0.0.1:1/1/q": "go together", "--failed-to x": "go together",
		"--file x --queue http://127.0.0.1:1/1/q --sink a":  "leave the flags of a single message out",
		"--file nowhere --queue http://127.0.0.1:1/1/q":     "--file",
		"--file nowhere --queue arn":                        "--queue",
		"--file - --queue http://127.0.0.1:1/1/q --tries 0": "--tries",
		"--file - --queue http://127.0.0.1:1/1/q -o json":   "json",
	} {
		run(t, append([]string{"send"}, strings.Fields(args)...)...).want(t, exitUsage, "", want)
	}
}

// scripted answers each call with the next of its answers, then takes everything.
type scripted struct {
	answers []func(*sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error)
	calls   [][]string // bodies' ids
	t       *testing.T
	onCall  func()
}

func (s *scripted) SendMessageBatch(ctx context.Context, in *sqs.SendMessageBatchInput, _ ...func(*sqs.Options)) (*sqs.SendMessageBatchOutput, error) {
	if s.onCall != nil {
		s.onCall()
	}
	if ctx.Err() != nil {
		s.t.Error("a call is cut in half")
	}
	var ids []string
	for _, e := range in.Entries {
		ids = append(ids, idOf(s.t, *e.MessageBody))
	}
	s.calls = append(s.calls, ids)
	if n := len(s.calls); n <= len(s.answers) && s.answers[n-1] != nil {
		return s.answers[n-1](in)
	}
	return takeBut(nil)(in)
}

// takeBut refuses the entries of these indexes, for good or for now.
func takeBut(refused map[int]bool) func(*sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error) {
	return func(in *sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error) {
		out := &sqs.SendMessageBatchOutput{}
		for i, e := range in.Entries {
			if sender, bad := refused[i]; bad {
				out.Failed = append(out.Failed, types.BatchResultErrorEntry{Id: e.Id, Code: aws.String("Code"), Message: aws.String("why"), SenderFault: sender})
			} else {
				out.Successful = append(out.Successful, types.SendMessageBatchResultEntry{Id: e.Id, MessageId: aws.String("m")})
			}
		}
		return out, nil
	}
}

type closer struct{ bytes.Buffer }

func (*closer) Close() error { return nil }

// Whatever the queue answers, each line is on the queue or named and kept.
func TestWhatTheQueueDoesNotTakeIsExactlyWhatIsLeft(t *testing.T) {
	const sender, passing = true, false
	away := errors.New("away")
	for _, c := range []struct {
		name    string
		fifo    bool
		cancel  int // before this call
		answers []func(*sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error)
		calls   string
		left    string // ids
		err     error
	}{
		{name: "all is well", calls: "[[0 1 2 3 4 5 6 7 8 9] [10 11 12]]"},
		{
			name: "refused for now, then taken", answers: []func(*sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error){takeBut(map[int]bool{2: passing, 5: sender})},
			calls: "[[0 1 2 3 4 5 6 7 8 9] [2] [10 11 12]]", left: "[5]",
		},
		{
			name: "refused for now, each time", answers: slices.Repeat([]func(*sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error){takeBut(map[int]bool{0: passing})}, 3),
			calls: "[[0 1 2 3 4 5 6 7 8 9] [0] [0] [10 11 12]]", left: "[0]",
		},
		{
			name: "an answer without names", calls: "[[0 1 2 3 4 5 6 7 8 9] [0 1 2 3 4 5 6 7 8 9] [10 11 12]]",
			answers: []func(*sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error){func(*sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error) {
				return &sqs.SendMessageBatchOutput{}, nil
			}},
		},
		{
			name: "no answer", calls: "[[0 1 2 3 4 5 6 7 8 9]]", left: "[0 1 2 3 4 5 6 7 8 9 10 11 12]", err: away,
			answers: []func(*sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error){func(*sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error) {
				return nil, away
			}},
		},
		{name: "stopped by its user", cancel: 1, calls: "[[0 1 2 3 4 5 6 7 8 9]]", left: "[10 11 12]", err: context.Canceled},
		{
			name: "FIFO: nothing overtakes", fifo: true, calls: "[[0 1 2 3 4 5 6 7 8 9]]", left: "[3 10 11 12]",
			answers: []func(*sqs.SendMessageBatchInput) (*sqs.SendMessageBatchOutput, error){takeBut(map[int]bool{3: passing})},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			q := &scripted{answers: c.answers, t: t}
			if c.cancel == 1 {
				q.onCall = cancel
			}
			cmd := &cobra.Command{}
			var notes bytes.Buffer
			cmd.SetOut(io.Discard)
			cmd.SetErr(&notes)
			kept := &closer{}
			b := &burst{c: cmd, queue: q, fifo: c.fifo, tries: 3, line: newProgress(cmd, ""), failed: kept}
			var lines []string
			for i := range 13 {
				lines = append(lines, fmt.Sprintf(`{"id":"%d","sink":"mail","message":{"body":"x"},"group":"g"}`, i))
			}
			err := b.run(ctx, strings.NewReader(strings.Join(lines, "\n")))
			if c.err != nil && !errors.Is(err, c.err) || c.err == nil && err != nil && !c.fifo {
				t.Errorf("%s: %v, want %v", c.name, err, c.err)
			}
			left := []string{}
			for line := range strings.Lines(kept.String()) {
				left = append(left, idOf(t, line))
				if !strings.Contains(line, `"group":"g"`) {
					t.Errorf("%s: the kept line has lost its group: %s", c.name, line)
				}
			}
			if want := c.left; fmt.Sprint(left) != want && (want != "" || len(left) > 0) {
				t.Errorf("%s: left %v, want %s", c.name, left, want)
			}
			if fmt.Sprint(q.calls) != c.calls || b.taken+b.left != 13 || b.left != len(left) {
				t.Errorf("%s: calls %v, %d taken, %d left; want %s", c.name, q.calls, b.taken, b.left, c.calls)
			}
			for _, id := range left {
				if !strings.Contains(notes.String(), "(id "+id+")") {
					t.Errorf("%s: %s is not named in\n%s", c.name, id, &notes)
				}
			}
		})
	}
}
