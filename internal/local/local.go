// Package local is Backstop on one machine: the real functions in the local Lambda
// host, an embedded Redis, and an inbox that stands for the outside world.
package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"

	"backstop/internal/inbox"
	"backstop/internal/lambdahost"
	"backstop/internal/localqueue"
	"backstop/internal/loopback"
)

// The functions, as template.yaml names their artifacts. Queue is the send artifact
// with the queue's time-out.
const (
	Send   = "send"
	Queue  = "send-queue"
	Replay = "replay"
	DLQAPI = "dlq-api"
)

// Options configure a Stack. The zero value is usable but for Bin.
type Options struct {
	// Bin holds send/bootstrap, replay/bootstrap and dlq-api/bootstrap, built for this
	// machine.
	Bin string
	// APIAddr and InvokeAddr are where the HTTP API and the Invoke API listen. Empty: a
	// free port of 127.0.0.1.
	APIAddr, InvokeAddr string
	// Inbox configures the outside world.
	Inbox inbox.Options
	// Timeout is the time-out of Send and DLQAPI; zero: 29 s. QueueTimeout is that of
	// Queue, zero: 120 s; ReplayTimeout that of Replay, zero: 55 s.
	Timeout, QueueTimeout, ReplayTimeout time.Duration
	// RedisURL is used instead of an embedded Redis when set.
	RedisURL string
	// Queue is the queue that feeds Queue's function and takes what Send accepts. Nil: one in memory.
	Queue *RequestQueue
	// QueueAddr is where the queue in memory listens. Empty: a free port of 127.0.0.1. QueueName
	// is its name, with .fifo at its end a FIFO queue; empty: QueueName. QueueVisibility is how
	// long a message that was handed back waits there; zero: 30 s more than QueueTimeout.
	QueueAddr, QueueName string
	QueueVisibility      time.Duration
	// QueueConcurrency is how many batches of the queue are in work at a time; zero: 2.
	QueueConcurrency int
	// Journal is the folder of the functions' journal of dead letters, made where it is missing. Empty:
	// they have none. TemporaryJournal: one that Close removes.
	Journal string
	// Sinks is used as BACKSTOP_SINKS instead of the sample sinks when set.
	Sinks string
	// Samples puts sample dead letters into the embedded Redis, those that the files in
	// events/ ask for.
	Samples bool
	// Env is added to every function's environment, and wins.
	Env map[string]string
	// Output receives what the functions write, line by line. Nil discards.
	Output func(function, line string)
	// Logger reports what the host does. Nil discards.
	Logger *slog.Logger
	// Requests wraps the HTTP API, to see what is asked. Nil: nothing does.
	Requests func(http.Handler) http.Handler
}

// TemporaryJournal stands for a new folder that is removed with the stack.
const TemporaryJournal = "temporary:"

// RequestQueue is a queue of SQS, or of an emulator.
type RequestQueue struct {
	URL string
	// Client calls the queue. Region is the records' awsRegion.
	Client lambdahost.SQS
	Region string
	// Env is what Send and Queue need beside the URL, such as credentials.
	Env map[string]string
}

// Stack is a running Backstop. Close it to stop everything.
type Stack struct {
	Host  *lambdahost.Host
	Inbox *inbox.Inbox
	// Redis is the embedded server; nil with Options.RedisURL.
	Redis *miniredis.Miniredis
	// APIURL and InvokeURL have no slash at the end.
	APIURL, InvokeURL string
	// RedisURL is where the functions keep dead letters.
	RedisURL string
	// Journal is the folder of the journal; empty: there is none.
	Journal string
	// QueueURL is the queue's, and RedriveURL its redrive queue's; that is empty with Options.Queue.
	QueueURL, RedriveURL string
	// Queues are the two in memory; nil with Options.Queue.
	Queues *localqueue.Service

	stop    context.CancelFunc
	dirs    []string // removed with Close
	servers []*http.Server
	wg      sync.WaitGroup
}

// Start starts a stack that runs until ctx ends or Close.
func Start(ctx context.Context, o Options) (_ *Stack, err error) {
	s := &Stack{RedisURL: o.RedisURL}
	ctx, s.stop = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.Inbox, err = inbox.Start(ctx, o.Inbox); err != nil {
		return s, err
	}
	if o, err = o.normalize(); err != nil {
		return s, err
	}
	if o.Sinks == "" {
		if o.Sinks, err = s.writeSinks(); err != nil {
			return s, err
		}
	}
	if err := s.openJournal(o.Journal); err != nil {
		return s, err
	}
	if s.RedisURL == "" {
		if err := s.embedRedis(ctx, o.Samples); err != nil {
			return s, err
		}
	}
	invoke, err := loopback.Listen(ctx, o.InvokeAddr)
	if err != nil {
		return s, err
	}
	s.InvokeURL = "http://" + invoke.Addr().String()
	if o.Queue == nil {
		if o.Queue, err = s.startQueue(ctx, o); err != nil {
			return s, errors.Join(err, invoke.Close())
		}
	}
	s.QueueURL = o.Queue.URL
	if err := s.startHost(ctx, o); err != nil {
		return s, errors.Join(err, invoke.Close())
	}
	s.serve(invoke, s.Host.InvokeAPI())
	if err := s.startAPI(ctx, o); err != nil {
		return s, err
	}
	s.poll(ctx, o)
	return s, nil
}

// normalize fills in defaults, and makes paths absolute: functions run in the folder of
// their binary.
func (o Options) normalize() (Options, error) {
	if o.Timeout <= 0 {
		o.Timeout = 29 * time.Second
	}
	if o.QueueTimeout <= 0 {
		o.QueueTimeout = 120 * time.Second
	}
	if o.ReplayTimeout <= 0 {
		o.ReplayTimeout = 55 * time.Second
	}
	if o.QueueName == "" {
		o.QueueName = QueueName
	}
	if o.QueueVisibility <= 0 {
		o.QueueVisibility = (o.QueueTimeout + 30*time.Second).Truncate(time.Second)
	}
	var err error
	if o.Bin, err = filepath.Abs(o.Bin); err != nil {
		return o, err
	}
	if path, ok := strings.CutPrefix(o.Sinks, "file:"); ok {
		if path, err = filepath.Abs(path); err != nil {
			return o, err
		}
		o.Sinks = "file:" + path
	}
	return o, nil
}

func (s *Stack) startAPI(ctx context.Context, o Options) error {
	api, err := lambdahost.NewHTTPAPI(s.Host, []lambdahost.Route{
		{Key: "POST /v1/messages", Function: Send},
		{Key: "ANY /v1/{proxy+}", Function: DLQAPI},
	}, lambdahost.HTTPOptions{Logger: o.Logger})
	if err != nil {
		return err
	}
	front, err := loopback.Listen(ctx, o.APIAddr)
	if err != nil {
		return err
	}
	s.APIURL = "http://" + front.Addr().String()
	var h http.Handler = api
	if o.Requests != nil {
		h = o.Requests(h)
	}
	s.serve(front, h)
	return nil
}

func (s *Stack) startHost(ctx context.Context, o Options) error {
	env := map[string]string{
		"BACKSTOP_SINKS":            o.Sinks,
		"BACKSTOP_REDIS_URL":        s.RedisURL,
		"BACKSTOP_LOCAL":            "true",
		"AWS_LAMBDA_LOG_FORMAT":     "JSON",
		"AWS_EC2_METADATA_DISABLED": "true",
		// So that a bulk operation starts at once, as on AWS.
		"BACKSTOP_REPLAY_FUNCTION": Replay,
		"AWS_ENDPOINT_URL_LAMBDA":  s.InvokeURL,
	}
	if strings.HasPrefix(o.Sinks, "file:") {
		// A file that is saved counts from the next request on.
		env["BACKSTOP_SINKS_TTL"] = "500ms"
	}
	if s.Journal != "" {
		env["BACKSTOP_JOURNAL"] = "file:" + s.Journal
	}
	sendEnv := maps.Clone(env)
	sendEnv["BACKSTOP_QUEUE_URL"] = s.QueueURL
	maps.Copy(sendEnv, o.Queue.Env)
	maps.Copy(env, o.Env)
	maps.Copy(sendEnv, o.Env)
	function := func(name, artifact string, timeout time.Duration) lambdahost.Function {
		return lambdahost.Function{
			Name: name, Path: filepath.Join(o.Bin, artifact, "bootstrap"), Env: env, Timeout: timeout, MemoryMB: 512,
		}
	}
	replay := function(Replay, "replay", o.ReplayTimeout)
	replay.Async = lambdahost.Async{Retries: -1, MaxAge: time.Minute} // as in template.yaml
	send, queue := function(Send, "send", o.Timeout), function(Queue, "send", o.QueueTimeout)
	send.Env, queue.Env = sendEnv, sendEnv
	var err error
	s.Host, err = lambdahost.Start(ctx, lambdahost.Options{Logger: o.Logger, Output: o.Output},
		send, queue, replay, function(DLQAPI, "dlq-api", o.Timeout))
	return err
}

// openJournal makes the folder of the journal. Its path is absolute: functions run in the folder of
// their binary. Dead letters are for their owner's eyes.
func (s *Stack) openJournal(folder string) (err error) {
	switch folder {
	case "":
		return nil
	case TemporaryJournal:
		s.Journal, err = s.makeDir("backstop-journal-*")
		return err
	}
	if s.Journal, err = filepath.Abs(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(s.Journal, 0o700); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// makeDir makes a folder that Close removes.
func (s *Stack) makeDir(pattern string) (string, error) {
	dir, err := os.MkdirTemp("", pattern)
	if err == nil {
		s.dirs = append(s.dirs, dir)
	}
	return dir, err
}

// embedRedis starts the embedded server. Its clock for expiry stands still unless it
// is moved.
func (s *Stack) embedRedis(ctx context.Context, samples bool) error {
	s.Redis = miniredis.NewMiniRedis()
	if err := s.Redis.Start(); err != nil {
		return fmt.Errorf("embedded Redis: %w", err)
	}
	s.RedisURL = "redis://" + s.Redis.Addr()
	s.wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				s.Redis.FastForward(time.Second)
			}
		}
	})
	if samples {
		return s.addSamples()
	}
	return nil
}

// serve serves this machine only: no web page of another site gets through.
func (s *Stack) serve(ln net.Listener, h http.Handler) {
	srv := &http.Server{Handler: loopback.Guard(h), ReadHeaderTimeout: 10 * time.Second}
	s.servers = append(s.servers, srv)
	s.wg.Go(func() { _ = srv.Serve(ln) }) // ends with Close
}

// Close stops everything. It may be called more than once.
func (s *Stack) Close() error {
	s.stop()
	var errs []error
	for _, srv := range s.servers {
		errs = append(errs, srv.Close())
	}
	if s.Host != nil {
		errs = append(errs, s.Host.Close())
	}
	if s.Inbox != nil {
		errs = append(errs, s.Inbox.Close())
	}
	s.wg.Wait()
	if s.Redis != nil {
		s.Redis.Close()
	}
	for _, dir := range s.dirs {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// Paths of the inbox that the sample sinks post to.
const (
	PathOK    = "/hooks/ok"
	PathFlaky = "/hooks/flaky"
	PathDown  = "/hooks/down"
	PathGone  = "/hooks/gone"
	PathHang  = "/hooks/hang"
	PathSlack = "/slack"
)

// sampleSinks are the sinks of a local run: one that works of several kinds, each at a service
// that the inbox stands for, and webhooks that fail in different ways.
var sampleSinks = map[string]string{
	"webhook-demo":  "kind: webhook\nurl: {inbox}" + PathOK + "\n",
	"webhook-flaky": "kind: webhook\nurl: {inbox}" + PathFlaky + "\nretry: {base_backoff: 200ms}\n",
	"webhook-down":  "kind: webhook\nurl: {inbox}" + PathDown + "\nretry: {max_attempts: 2, base_backoff: 200ms}\n",
	"webhook-gone":  "kind: webhook\nurl: {inbox}" + PathGone + "\n",
	"webhook-hang":  "kind: webhook\nurl: {inbox}" + PathHang + "\nretry: {attempt_timeout: 2s}\n",
	"slack-demo":    "kind: slack\nwebhook_url: {inbox}" + PathSlack + "\n",
	"email-demo":    "kind: email\nsmtp_addr: {smtp}\nfrom: Backstop <backstop@example.com>\ntls: none\n",

	"telegram-demo":  "kind: telegram\nbase_url: {inbox}\ntoken: " + inbox.TelegramToken + "\nchat_id: \"77\"\n",
	"pagerduty-demo": "kind: pagerduty\nbase_url: {inbox}\nrouting_key: " + inbox.PagerDutyKey + "\n",
	"fcm-demo":       "kind: fcm\nbase_url: {inbox}\ntoken: a-device\nservice_account: '{account}'\n",
}

func (s *Stack) writeSinks() (string, error) {
	dir, err := s.makeDir("backstop-sinks-*")
	if err != nil {
		return "", err
	}
	account, err := s.Inbox.ServiceAccount()
	if err != nil {
		return "", fmt.Errorf("service account: %w", err)
	}
	fill := strings.NewReplacer("{inbox}", s.Inbox.URL, "{smtp}", s.Inbox.SMTPAddr, "{account}", account)
	for name, text := range sampleSinks {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(fill.Replace(text)), 0o600); err != nil {
			return "", err
		}
	}
	s.Inbox.HTTP.Set(PathFlaky, inbox.Times(2, inbox.Reply{Status: http.StatusServiceUnavailable}))
	s.Inbox.HTTP.Set(PathDown, inbox.Always(inbox.Reply{Status: http.StatusServiceUnavailable}))
	s.Inbox.HTTP.Set(PathGone, inbox.Always(inbox.Reply{Status: http.StatusNotFound}))
	s.Inbox.HTTP.Set(PathHang, inbox.Always(inbox.Reply{Fault: inbox.Hang}))
	return "file:" + dir, nil
}

// addSamples stores three dead letters as any other program would that knows the
// layout: a stream entry with the field "item".
func (s *Stack) addSamples() error {
	const sink, prefix = "webhook-demo", "backstop"
	for n := range 3 {
		ms := int64(1767225600000 + n*1000)
		item := fmt.Sprintf(`{"delivery_id":"sample-%[1]d","sink":%[2]q,"at":%[3]q,"recipient":null,`+
			`"message":{"id":"sample-%[1]d","subject":"Sample %[1]d","body":"A dead letter to try things on."},`+
			`"attempts":5,"last_error":"SINK_UNAVAILABLE: HTTP 503","reason":"exhausted"}`,
			n+1, sink, time.UnixMilli(ms).UTC().Format(time.RFC3339))
		if _, err := s.Redis.XAdd(prefix+":dlq:"+sink, fmt.Sprintf("%d-0", ms), []string{"item", item}); err != nil {
			return fmt.Errorf("sample dead letters: %w", err)
		}
	}
	_, err := s.Redis.SAdd(prefix+":sinks", sink)
	return err
}
