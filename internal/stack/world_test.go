//go:build full

package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	ssmtypes "github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"backstop/internal/inbox"
	"backstop/internal/lambdahost"
	"backstop/internal/moto"
	"backstop/internal/redistest"
)

// world is a deployed stack: its queues, parameters and roles in an emulator, its
// functions in the local host with the environment and the limits of the template.
type world struct {
	stack  stack
	deploy deployment
	rec    *recorder
	aws    string // the recorder before the emulator
	moto   string // the emulator
	host   *lambdahost.Host
	api    string
	inbox  *inbox.Inbox
	redis  *redistest.Server
	ssm    *ssm.Client
	sqs    *sqs.Client // an operator's

	functions map[string]lambdahost.Function // by their ids in the template

	mu    sync.Mutex
	lines []string
}

func newWorld(t *testing.T, binaries string) *world {
	t.Helper()
	w := &world{rec: newRecorder(), functions: map[string]lambdahost.Function{}}
	emulator := moto.Start(t)
	w.moto = emulator

	var err error
	if w.inbox, err = inbox.Start(t.Context(), inbox.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.inbox.Close() })
	w.startRedis(t)
	params := map[string]string{"RedisUrl": w.redis.URL()}
	for k, v := range runParameters {
		if k != "RedisUrl" {
			params[k] = v
		}
	}
	w.stack = resolve(t, params)
	w.deploy = deploy(t, emulator, w.stack)

	w.ssm = ssm.New(ssm.Options{Region: region, BaseEndpoint: &emulator, Credentials: key("operator")})
	w.sqs = queueClient(emulator, "operator")
	w.putParameters(t)
	w.aws = w.rec.before(t, emulator)
	w.startFunctions(t, binaries)
	return w
}

// startRedis starts a server whose only user has the rights that the template gives
// the user of a created cache.
func (w *world) startRedis(t *testing.T) {
	t.Helper()
	w.redis = redistest.Start(t)
	access := text(resolve(t, createdCache).Resources["CacheUser"].Properties["AccessString"])
	args := []any{"ACL", "SETUSER", "default", "reset", ">" + redisPassword}
	for word := range strings.FieldsSeq(access) {
		args = append(args, word)
	}
	if err := w.redis.Client(t).Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("the cache user's access string: %v", err)
	}
}

func (w *world) putParameters(t *testing.T) {
	t.Helper()
	path := runParameters["SinksPath"] + "/"
	secret := runParameters["SecretsPath"] + "/receiver-key"
	for name, value := range map[string]string{
		runParameters["RedisPasswordParameter"]: redisPassword,
		secret:                                  "key-of-the-receiver",
		path + "ok":                             "kind: webhook\nurl: " + w.inbox.URL + "/ok\nheaders: {X-Key: {ssm: " + secret + "}}\n",
		path + "down":                           "kind: webhook\nurl: " + w.inbox.URL + "/down\nretry: {max_attempts: 2, base_backoff: 10ms}\n",
		path + "dead":                           "kind: webhook\nurl: " + w.inbox.URL + "/dead\nretry: {max_attempts: 1}\nreplay: {max_replays: 1}\n",
		path + "gone":                           "kind: webhook\nurl: " + w.inbox.URL + "/gone\n",
		path + "broken":                         "kind: webhook\nurl: " + w.inbox.URL + "/broken\nretry: {max_attempts: 1}\nbreaker: {least: 1}\n",
		path + "busy":                           "kind: webhook\nurl: " + w.inbox.URL + "/busy\n",
		path + "told":                           "kind: webhook\nurl: " + w.inbox.URL + "/ok\nevents: {to: ears}\n",
		path + "ears":                           "kind: webhook\nformat: raw\nurl: " + w.inbox.URL + "/ears\n",
		path + "old":                            "kind: webhook\nurl: " + w.inbox.URL + "/old\nretention: 30d\n",
	} {
		if _, err := w.ssm.PutParameter(t.Context(), &ssm.PutParameterInput{Name: &name, Value: &value, Type: ssmtypes.ParameterTypeSecureString}); err != nil {
			t.Fatal(err)
		}
	}
	for path, status := range map[string]int{"/down": 503, "/dead": 503, "/gone": 404, "/broken": 500} {
		w.inbox.HTTP.Set(path, inbox.Always(inbox.Reply{Status: status}))
	}
	w.inbox.HTTP.Set("/busy", inbox.Always(inbox.Reply{Status: 429, RetryAfter: "3600"}))
}

// startFunctions starts the four functions and the API, as the template describes them.
func (w *world) startFunctions(t *testing.T, binaries string) {
	t.Helper()
	invokeAPI := &later{}
	invokes := w.rec.before(t, invokeAPI.serve(t))
	var all []lambdahost.Function
	for id, artifact := range map[string]string{"SendFunction": "send", "QueueFunction": "send", "ReplayFunction": "replay", "DlqApiFunction": "dlq-api"} {
		p := w.stack.Resources[id].Properties
		env := w.stack.environment(id)
		for k, v := range map[string]string{
			"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": "secret", "AWS_ENDPOINT_URL_SSM": w.aws, "AWS_ENDPOINT_URL_LAMBDA": invokes,
			"AWS_EC2_METADATA_DISABLED": "true", "AWS_LAMBDA_LOG_FORMAT": text(at(p, "LoggingConfig", "LogFormat")),
		} {
			env[k] = v
		}
		env["AWS_ENDPOINT_URL_S3"] = w.aws
		if env["BACKSTOP_QUEUE_URL"] != "" {
			env["BACKSTOP_QUEUE_URL"], env["AWS_ENDPOINT_URL_SQS"] = w.queue("Messages"), w.aws
		}
		fn := lambdahost.Function{
			Name: text(w.stack.attribute(id, "Ref")), Path: filepath.Join(binaries, artifact, "bootstrap"), Env: env,
			Timeout: time.Duration(number(p["Timeout"])) * time.Second, MemoryMB: number(p["MemorySize"]),
		}
		if c, ok := w.stack.Resources[id+"EventInvokeConfig"]; ok {
			fn.Async = w.async(t, id, c.Properties)
		}
		all, w.functions[id] = append(all, fn), fn
	}
	host, err := lambdahost.Start(context.Background(), lambdahost.Options{
		Region: region, AccountID: account, Logger: slog.New(slog.DiscardHandler),
		Output: func(_, line string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.lines = append(w.lines, line)
		},
	}, all...)
	if err != nil {
		t.Fatal(err)
	}
	w.host = host
	t.Cleanup(func() { _ = host.Close() })
	invokeAPI.set(host.InvokeAPI())

	var routes []lambdahost.Route
	for _, r := range w.stack.of("AWS::ApiGatewayV2::Route") {
		integration := strings.TrimSuffix(strings.TrimPrefix(text(r.Properties["Target"]), "integrations/"), ".Ref")
		arn := text(w.stack.Resources[integration].Properties["IntegrationUri"])
		routes = append(routes, lambdahost.Route{Key: text(r.Properties["RouteKey"]), Function: arn[strings.LastIndex(arn, ":")+1:]})
	}
	api, err := lambdahost.NewHTTPAPI(host, routes, lambdahost.HTTPOptions{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api)
	t.Cleanup(srv.Close)
	w.api = srv.URL
}

// async makes the host do with failed events what the template says.
func (w *world) async(t *testing.T, id string, c object) lambdahost.Async {
	t.Helper()
	destination := text(at(c, "DestinationConfig", "OnFailure", "Destination"))
	client := queueClient(w.aws, id)
	retries := number(c["MaximumRetryAttempts"])
	if retries == 0 {
		retries = -1
	}
	return lambdahost.Async{
		Retries: retries, Backoff: time.Millisecond, MaxAge: time.Duration(number(c["MaximumEventAgeInSeconds"])) * time.Second,
		OnFailure: func(f lambdahost.Failure) {
			for queue := range w.stack.of("AWS::SQS::Queue") {
				if w.stack.attribute(queue, "Arn") == destination {
					_, _ = client.SendMessage(context.Background(), &sqs.SendMessageInput{QueueUrl: aws.String(w.queue(queue)), MessageBody: aws.String(string(f.Payload))})
				}
			}
		},
	}
}

// blind runs a tick as a stack does that finds no sink configuration: its path is empty,
// or SSM cannot be reached.
func (w *world) blind(t *testing.T) {
	t.Helper()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mute.Close() })
	for name, set := range map[string]map[string]string{
		"an empty path":    {"BACKSTOP_SINKS": "ssm:/backstop/test/nothing/*", "AWS_ENDPOINT_URL_SSM": w.moto},
		"SSM that is mute": {"BACKSTOP_REDIS_PASSWORD": redisPassword, "AWS_ENDPOINT_URL_SSM": "http://" + mute.Addr().String()},
	} {
		fn := w.functions["ReplayFunction"]
		fn.Env, fn.Timeout = maps.Clone(fn.Env), 6*time.Second
		maps.Copy(fn.Env, set)
		var mu sync.Mutex
		var lines []string
		host, err := lambdahost.Start(t.Context(), lambdahost.Options{
			Region: region, AccountID: account, Logger: slog.New(slog.DiscardHandler),
			Output: func(_, line string) {
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, line)
			},
		}, fn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := host.Invoke(t.Context(), lambdahost.Invocation{Function: fn.Name, Payload: []byte(`{"trigger":"schedule"}`)}); err != nil {
			t.Fatal(err)
		}
		if err := host.Close(); err != nil {
			t.Error(err)
		}
		if _, ok := readMetrics(t, lines)[metric{"Backstop", "ConfigMissing", "Service"}]; !ok {
			t.Errorf("%s: the tick emitted no ConfigMissing, so no alarm rings\n%s", name, strings.Join(lines, "\n"))
		}
		w.mu.Lock()
		w.lines = append(w.lines, lines...)
		w.mu.Unlock()
	}
}

// poll runs the event source mapping for the rest of the test.
func (w *world) poll(t *testing.T) {
	t.Helper()
	source := w.stack.Resources["QueueFunctionMessages"].Properties
	p := &lambdahost.Poller{
		Invoker: w.host, Function: text(source["FunctionName"]), Client: queueClient(w.aws, "QueueFunction"),
		QueueURL: w.queue("Messages"), QueueARN: text(source["EventSourceArn"]), Region: region,
		BatchSize: number(source["BatchSize"]), MaxConcurrency: 2, Wait: time.Second,
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (w *world) queue(id string) string { return w.deploy.Resources[id].ID }

// attributes reads a queue back from SQS.
func (w *world) attributes(t *testing.T, id string) map[string]string {
	t.Helper()
	out, err := w.sqs.GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(w.queue(id)), AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Attributes
}

// waiting is how many messages a queue holds.
func (w *world) waiting(t *testing.T, id string) int {
	t.Helper()
	return number(w.attributes(t, id)["ApproximateNumberOfMessages"])
}

func (w *world) enqueue(t *testing.T, body string) {
	t.Helper()
	if _, err := w.sqs.SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: aws.String(w.queue("Messages")), MessageBody: &body}); err != nil {
		t.Fatal(err)
	}
}

func (w *world) invoke(t *testing.T, function, payload string) lambdahost.Result {
	t.Helper()
	res, err := w.host.Invoke(t.Context(), lambdahost.Invocation{Function: text(w.stack.attribute(function, "Ref")), Payload: []byte(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// tick is one run of the schedule.
func (w *world) tick(t *testing.T) map[string]any {
	t.Helper()
	input := text(at(w.stack.Resources["ReplayFunctionTick"].Properties, "Target", "Input"))
	res := w.invoke(t, "ReplayFunction", strings.ReplaceAll(input, "<aws.scheduler.scheduled-time>", "2026-01-01T00:00:00Z"))
	if res.FunctionError != "" {
		t.Fatalf("tick: %s", res.Payload)
	}
	var summary map[string]any
	if err := json.Unmarshal(res.Payload, &summary); err != nil {
		t.Fatal(err)
	}
	return summary
}

// http calls the API; headers are names and values in turn.
func (w *world) http(t *testing.T, method, path, body string, headers ...string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequest(method, w.api+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	_ = json.Unmarshal(b, &out) // some answers have no body
	return resp.StatusCode, out
}

func (w *world) count(t *testing.T, sink string) int {
	t.Helper()
	_, out := w.http(t, "GET", "/v1/dlq/count?sink="+sink, "")
	return number(out["count"])
}

// arrived is how often a message reached its receiver with success.
func (w *world) arrived(id string) int {
	n := 0
	for _, a := range w.inbox.HTTP.Arrivals() {
		if a.ID() == id && a.Accepted() {
			n++
		}
	}
	return n
}

func (w *world) output() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.lines...)
}

// later is a handler that is known only after its address is.
type later struct {
	mu sync.Mutex
	h  http.Handler
}

func (l *later) serve(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		h := l.h
		l.mu.Unlock()
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func (l *later) set(h http.Handler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.h = h
}

func key(id string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: id, SecretAccessKey: "secret"}, nil
	})
}

func queueClient(endpoint, id string) *sqs.Client {
	return sqs.New(sqs.Options{Region: region, BaseEndpoint: &endpoint, Credentials: key(id)})
}

// objects counts those of the journal below a folder.
func (w *world) objects(t *testing.T, folder string) int {
	t.Helper()
	client := s3.New(s3.Options{Region: region, BaseEndpoint: &w.moto, UsePathStyle: true, Credentials: key("operator")})
	prefix := "backstop/" + folder
	out, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String(text(w.stack.attribute("Bucket", "Ref"))), Prefix: &prefix})
	if err != nil {
		t.Fatal(err)
	}
	return len(out.Contents)
}

// receive takes a message of a queue and checks its body.
func (w *world) receive(t *testing.T, id, body string) sqstypes.Message {
	t.Helper()
	var got sqstypes.Message
	eventually(t, "a message in "+id, func() bool {
		out, err := w.sqs.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{
			QueueUrl: aws.String(w.queue(id)), MessageSystemAttributeNames: []sqstypes.MessageSystemAttributeName{sqstypes.MessageSystemAttributeNameAll},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Messages) == 1 {
			got = out.Messages[0]
		}
		return len(out.Messages) == 1
	})
	if aws.ToString(got.Body) != body {
		t.Errorf("%s holds %q, want %q", id, aws.ToString(got.Body), body)
	}
	return got
}

// checkQueues reads the queues back from SQS.
func (w *world) checkQueues(t *testing.T) {
	for id, q := range w.stack.of("AWS::SQS::Queue") {
		got := w.attributes(t, id)
		want := map[string]string{
			"SqsManagedSseEnabled": "true", "MessageRetentionPeriod": plain(q.Properties["MessageRetentionPeriod"]),
			"VisibilityTimeout": "30", "QueueArn": text(w.stack.attribute(id, "Arn")),
		}
		if id == "Messages" {
			want["VisibilityTimeout"] = "720"
		}
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %s is %q, want %q", id, k, got[k], v)
			}
		}
		if id == "Messages" {
			var redrive object
			if err := json.Unmarshal([]byte(got["RedrivePolicy"]), &redrive); err != nil {
				t.Error(err)
			}
			if number(redrive["maxReceiveCount"]) != 5 || redrive["deadLetterTargetArn"] != w.stack.attribute("Redrive", "Arn") {
				t.Errorf("redrive %v", redrive)
			}
		}
	}
}

// checkParameters reads the sinks back from SSM, as the functions do.
func (w *world) checkParameters(t *testing.T) {
	out, err := w.ssm.GetParametersByPath(t.Context(), &ssm.GetParametersByPathInput{Path: aws.String(runParameters["SinksPath"])})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Parameters) != 9 {
		t.Errorf("%d sinks, want 9", len(out.Parameters))
	}
	for _, p := range out.Parameters {
		if p.Type != ssmtypes.ParameterTypeSecureString || !strings.HasPrefix(aws.ToString(p.Value), "kms:") {
			t.Errorf("%s can be read without decryption", aws.ToString(p.Name))
		}
	}
}
