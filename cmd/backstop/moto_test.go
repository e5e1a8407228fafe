//go:build full

package main

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"backstop/internal/moto"
)

const motoRegion = "eu-west-1"

// useMoto points the AWS SDK at the emulator, for the commands and for the returned
// configuration.
func useMoto(t *testing.T) aws.Config {
	t.Helper()
	url := moto.Shared(t)
	t.Setenv("AWS_ENDPOINT_URL", url)
	t.Setenv("AWS_REGION", motoRegion)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", awsSecret)
	return aws.Config{
		Region: motoRegion, BaseEndpoint: aws.String(url),
		Credentials: credentials.NewStaticCredentialsProvider("AKIDTEST", awsSecret, ""),
	}
}

func TestConfigPushAndCheckAgainstParameters(t *testing.T) {
	c := ssm.NewFromConfig(useMoto(t))
	dir := folder(t, map[string]string{"a.yaml": hook("a"), "b.yaml": hook("b"), "c.yaml": hook("c")})
	push := func(args ...string) result {
		t.Helper()
		r := run(t, append([]string{"config", "push", dir}, args...)...)
		r.noSecret(t)
		return r
	}
	stored := func() map[string]string {
		t.Helper()
		out, err := c.GetParametersByPath(t.Context(), &ssm.GetParametersByPathInput{Path: aws.String("/prod/sinks"), WithDecryption: aws.Bool(true)})
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, p := range out.Parameters {
			all[*p.Name] = *p.Value
			if p.Type != types.ParameterTypeSecureString {
				t.Errorf("%s is a %s", *p.Name, p.Type)
			}
		}
		return all
	}
	write := func(name, value string) {
		t.Helper()
		_, err := c.PutParameter(t.Context(), &ssm.PutParameterInput{
			Name: &name, Value: &value, Type: types.ParameterTypeSecureString, Overwrite: aws.Bool(true), KeyId: aws.String("alias/own"),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	write("/prod/sinks/a", hook("a"))
	write("/prod/sinks/b", hook("old"))
	write("/prod/sinks/gone", hook("gone"))
	write("/prod/sinks/deeper/x", hook("x")) // not directly under the path: not ours

	difference := "/prod/sinks/a     unchanged\n/prod/sinks/b     changed\n/prod/sinks/c     new\n/prod/sinks/gone  extra"
	push("ssm:/prod/sinks", "--dry-run").want(t, 0, difference+"\n", "")
	push("ssm:/prod/sinks").want(t, exitUsage, difference+"\n", "--yes")
	if got := stored(); got["/prod/sinks/b"] != hook("old") || len(got) != 3 {
		t.Errorf("a push that was not confirmed wrote %v", slices.Sorted(maps.Keys(got)))
	}

	var stderr terminal
	r := runWith(t, t.Context(), typed("y\n"), &stderr, "config", "push", dir, "ssm:/prod/sinks/*")
	r.noSecret(t)
	r.want(t, 0, "wrote /prod/sinks/b\nwrote /prod/sinks/c\n", "Write 2 parameters under /prod/sinks? [y/N] ")
	want := map[string]string{"/prod/sinks/a": hook("a"), "/prod/sinks/b": hook("b"), "/prod/sinks/c": hook("c"), "/prod/sinks/gone": hook("gone")}
	if got := stored(); !maps.Equal(got, want) {
		t.Errorf("stored %v, want %v", got, want)
	}
	described, err := c.DescribeParameters(t.Context(), &ssm.DescribeParametersInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range described.Parameters {
		if *p.Name == "/prod/sinks/b" && aws.ToString(p.KeyId) != "alias/own" {
			t.Errorf("a changed parameter moved to key %q", aws.ToString(p.KeyId))
		}
	}

	push("ssm:/prod/sinks", "--prune", "--yes").want(t, 0, "deleted /prod/sinks/gone\n", "")
	delete(want, "/prod/sinks/gone")
	if got := stored(); !maps.Equal(got, want) {
		t.Errorf("after pruning %v, want %v", got, want)
	}
	push("ssm:/prod/sinks").want(t, 0, "unchanged", "") // nothing to do, nothing to ask

	t.Run("what was pushed is valid", func(t *testing.T) {
		run(t, "config", "check", "ssm:/prod/sinks/*").want(t, 0, "ssm:/prod/sinks/*: no faults", "")
		run(t, "config", "check", "ssm:/prod/sinks").want(t, exitNotFound, "", "write 'ssm:/prod/sinks/*'")
	})
	t.Run("a fault ends the push", func(t *testing.T) {
		bad := folder(t, map[string]string{"a.yaml": "kind: webhok\nurl: https://" + planted + "\n"})
		r := run(t, "config", "push", bad, "ssm:/prod/sinks", "--yes")
		r.noSecret(t)
		r.want(t, 1, `did you mean "webhook"?`, "1 fault found")
		if got := stored(); !maps.Equal(got, want) {
			t.Errorf("a faulty push changed the parameters")
		}
	})
	t.Run("a parameter that is not encrypted is refused", func(t *testing.T) {
		if _, err := c.PutParameter(t.Context(), &ssm.PutParameterInput{Name: aws.String("/open/sinks/a"), Value: aws.String("x"), Type: types.ParameterTypeString}); err != nil {
			t.Fatal(err)
		}
		push("ssm:/open/sinks", "--yes").want(t, 1, "", "/open/sinks/a is a String, not encrypted")
	})
	t.Run("one document", func(t *testing.T) {
		file := filepath.Join(folder(t, map[string]string{"all.yaml": "sinks:\n  a: {kind: webhook, url: \"https://" + planted + ".acme.test\"}\n"}), "all.yaml")
		for _, want := range []string{"new", "unchanged"} {
			r := run(t, "config", "push", file, "ssm:/one/document", "--yes")
			r.noSecret(t)
			r.want(t, 0, "/one/document  "+want, "")
		}
		run(t, "config", "check", "ssm:/one/document").want(t, 0, "no faults", "")
		run(t, "config", "push", file, "ssm:/one/document/*").want(t, exitUsage, "", "name one parameter, ssm:/one/document")
	})
	t.Run("too long for a parameter", func(t *testing.T) {
		long := folder(t, map[string]string{"a.yaml": hook("a") + "# " + strings.Repeat("x", 9000)})
		run(t, "config", "push", long, "ssm:/prod/sinks", "--yes").want(t, exitUsage, "", "a parameter holds 8192")
	})
}

func newQueue(t *testing.T, c *sqs.Client, name string) string {
	t.Helper()
	in := &sqs.CreateQueueInput{QueueName: &name}
	if strings.HasSuffix(name, ".fifo") {
		in.Attributes = map[string]string{"FifoQueue": "true"}
	}
	out, err := c.CreateQueue(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.QueueUrl
}

func put(t *testing.T, c *sqs.Client, queue, body, group string) string {
	t.Helper()
	in := &sqs.SendMessageInput{
		QueueUrl: &queue, MessageBody: &body,
		MessageAttributes: map[string]sqstypes.MessageAttributeValue{"tenant": {DataType: aws.String("String"), StringValue: aws.String("acme")}},
	}
	if group != "" {
		in.MessageGroupId = &group
	}
	if strings.HasSuffix(queue, ".fifo") {
		in.MessageDeduplicationId = aws.String("dedup-" + body)
	}
	out, err := c.SendMessage(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.MessageId
}

// drain takes all messages of a queue.
func drain(t *testing.T, c *sqs.Client, queue string) []sqstypes.Message {
	t.Helper()
	var all []sqstypes.Message
	for {
		out, err := c.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: &queue, MaxNumberOfMessages: 10, MessageAttributeNames: []string{"All"},
			MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{sqstypes.MessageSystemAttributeNameAll},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 0 {
			return all
		}
		for _, m := range out.Messages {
			all = append(all, m)
			if _, err := c.DeleteMessage(t.Context(), &sqs.DeleteMessageInput{QueueUrl: &queue, ReceiptHandle: m.ReceiptHandle}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRedriveAgainstAQueue(t *testing.T) {
	c := sqs.NewFromConfig(useMoto(t))
	from, to := newQueue(t, c, "redrive"), newQueue(t, c, "main")
	noID := put(t, c, from, `{"sink":"mail","message":{"body":"a"}}`, "")
	put(t, c, from, `{"id":"order-1","sink":"mail","message":{"body":"b"}}`, "mail") // a standard queue is fair to groups
	put(t, c, from, "no request \x1b[31m at all", "")

	t.Run("list shows and gives back", func(t *testing.T) {
		for range 2 { // the second sees the same
			r := run(t, "redrive", "list", "--redrive-queue", from)
			r.want(t, 0, noID, "")
			for _, want := range []string{"MESSAGE ID", "order-1", "no request \uFFFD[31m at all", "mail"} {
				if !strings.Contains(r.out, want) {
					t.Errorf("output lacks %q:\n%s", want, r.out)
				}
			}
		}
		r := run(t, "redrive", "list", "--redrive-queue", from, "--limit", "2", "-o", "json")
		var got struct {
			Total    int64 `json:"approximate_total"`
			Messages []redriven
		}
		if err := json.Unmarshal([]byte(r.out), &got); err != nil || got.Total != 3 || len(got.Messages) != 2 || got.Messages[0].SentAt.IsZero() || got.Messages[0].Receives < 1 {
			t.Errorf("JSON %s (%v), want 2 of 3 messages", r.out, err)
		}
	})
	t.Run("a dry run sends nothing", func(t *testing.T) {
		run(t, "redrive", "send", "--redrive-queue", from, "--queue", to, "--dry-run").want(t, 0, "Would send back about 3 messages.", "")
		run(t, "redrive", "send", "--redrive-queue", from, "--queue", to).want(t, exitUsage, "", "--yes")
	})
	t.Run("send moves all", func(t *testing.T) {
		run(t, "redrive", "send", "--redrive-queue", from, "--queue", to, "--yes", "--max", "1").want(t, 0, "1 message sent back\n", "")
		run(t, "redrive", "send", "--redrive-queue", from, "--queue", to, "--yes").want(t, 0, "2 messages sent back\n", "")
		run(t, "redrive", "send", "--redrive-queue", from, "--queue", to, "--yes").want(t, 0, "0 messages sent back\n", "")
		run(t, "redrive", "send", "--redrive-queue", from, "--queue", to).want(t, 0, "", "The redrive queue is empty.\n")
		var bodies, groups []string
		for _, m := range drain(t, c, to) {
			bodies = append(bodies, *m.Body)
			if group := m.Attributes["MessageGroupId"]; group != "" {
				groups = append(groups, group)
			}
			if v := m.MessageAttributes["tenant"].StringValue; aws.ToString(v) != "acme" {
				t.Errorf("attribute %v of %s, want it kept", v, *m.Body)
			}
		}
		slices.Sort(bodies)
		want := []string{"no request \x1b[31m at all", `{"id":"order-1","sink":"mail","message":{"body":"b"}}`, `{"sink":"mail","message":{"body":"a"},"id":"` + noID + `"}`}
		if !slices.Equal(bodies, want) {
			t.Errorf("the main queue has\n%q, want\n%q", bodies, want)
		}
		if !slices.Equal(groups, []string{"mail"}) {
			t.Errorf("groups %q, want the one that there was", groups)
		}
		if left := drain(t, c, from); len(left) > 0 {
			t.Errorf("%d messages are still in the redrive queue", len(left))
		}
	})
	t.Run("a FIFO queue keeps groups and order", func(t *testing.T) {
		from, to := newQueue(t, c, "redrive.fifo"), newQueue(t, c, "main.fifo")
		for _, id := range []string{"1", "2", "3"} {
			put(t, c, from, `{"id":"`+id+`","sink":"mail"}`, "group-7")
		}
		run(t, "redrive", "send", "--redrive-queue", from, "--queue", to, "--yes").want(t, 0, "3 messages sent back\n", "")
		var got []string
		for _, m := range drain(t, c, to) {
			got = append(got, *m.Body+" "+m.Attributes["MessageGroupId"])
			if id := m.Attributes["MessageDeduplicationId"]; !strings.HasPrefix(id, "redrive-") {
				t.Errorf("deduplication id %q; the message's own would drop it", id)
			}
		}
		want := []string{`{"id":"1","sink":"mail"} group-7`, `{"id":"2","sink":"mail"} group-7`, `{"id":"3","sink":"mail"} group-7`}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
	t.Run("a queue that is not there", func(t *testing.T) {
		run(t, "redrive", "list", "--redrive-queue", from+"-nowhere").want(t, exitNotFound, "", "backstop:")
	})
	t.Run("no credentials", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		run(t, "redrive", "list", "--redrive-queue", "https://sqs.eu-west-1.amazonaws.com/123456789012/redrive").want(t, exitUnauthorized, "", "aws sso login")
		run(t, "redrive", "list", "--redrive-queue", from).want(t, 0, "", "The redrive queue is empty.\n") // on this machine
	})
}
