package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"backstop/internal/await"
)

// said is what a command that goes on has written so far.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// dev runs dev with its own sinks until the test ends, and returns what it says, on both outputs.
func dev(t *testing.T, sinks string, more ...string) *said {
	t.Helper()
	out := &said{}
	root := newRoot()
	root.SetArgs(append([]string{
		"dev", "--bin", built(t), "--sinks", sinks, "--api-addr", "127.0.0.1:0", "--invoke-addr", "127.0.0.1:0",
		"--inbox-addr", "127.0.0.1:0", "--console-addr", "127.0.0.1:0", "--queue-addr", "127.0.0.1:0", "--every", "0",
	}, more...))
	root.SetOut(out)
	root.SetErr(out)
	ctx, cancel := context.WithCancel(context.Background()) //nolint:forbidigo,usetesting // it ends in the cleanup, and is waited for
	ended := make(chan int, 1)
	go func() { ended <- execute(ctx, root, out) }()
	t.Cleanup(func() {
		cancel()
		if code := <-ended; code != exitDone {
			t.Errorf("exit code %d, and it said\n%s", code, out)
		}
	})
	return out
}

// wait returns what the expression finds once it is said.
func (s *said) wait(t *testing.T, what, expression string) []string {
	t.Helper()
	re := regexp.MustCompile(expression)
	var m []string
	await.True(t, what, func() bool { m = re.FindStringSubmatch(s.String()); return m != nil })
	return m
}

func save(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// receiver answers 204, and says where it is.
func receiver(t *testing.T, seen chan<- string) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- r.URL.Path + " " + string(b)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// Dev with sinks of one's own: its first curl sends through one of them, and a file that is saved counts.
func TestDevIsForEditingSinks(t *testing.T) {
	seen := make(chan string, 10)
	url := receiver(t, seen)
	dir := t.TempDir()
	save(t, dir, "orders.yaml", "kind: webhook\nurl: "+url+"/one\n")
	out := dev(t, dir)
	first := out.wait(t, "the first curl", `(?m)^  (curl -i \S+/v1/messages -d .*)$`)[1]
	if text := out.String(); strings.Contains(text, "webhook-demo") || strings.Contains(text, "Inbox") || !strings.Contains(text, "orders    read from") {
		t.Errorf("the samples are in what it says, or orders is not:\n%s", text)
	}
	sh := func() {
		t.Helper()
		if b, err := exec.CommandContext(t.Context(), "sh", "-c", first).CombinedOutput(); err != nil || !strings.Contains(string(b), `"status":"delivered"`) { //nolint:gosec // what it says is to be tried
			t.Fatalf("%s: %v\n%s", first, err, b)
		}
	}
	sh()
	if got := <-seen; !strings.HasPrefix(got, "/one ") || !strings.Contains(got, `"body":"hello"`) {
		t.Errorf("received %s", got)
	}
	out.wait(t, "the delivery's line", `(?m)^\d\d:\d\d:\d\d  send    orders +\S+  delivered  `)

	save(t, dir, "orders.yaml", "kind: webhook\nurl: "+url+"/two\n")
	out.wait(t, "the new sinks", `sinks: read again: orders\n`)
	await.True(t, "the saved URL to count", func() bool { sh(); return strings.HasPrefix(<-seen, "/two ") })

	save(t, dir, "orders.yaml", "kind: webhook\nurll: "+url+"/three\n")
	out.wait(t, "the fault", `orders.yaml:2:1: orders: urll: unknown key; .*did you mean "url"`)
	sh()
	if got := <-seen; !strings.HasPrefix(got, "/two ") {
		t.Errorf("received %s, want what was good before", got)
	}
	if strings.Contains(out.String(), "_aws") {
		t.Errorf("metrics are in what it says:\n%s", out)
	}
}

// What is wrong is said before anything runs.
func TestDevEndsWithWhatIsWrong(t *testing.T) {
	bad, empty := t.TempDir(), t.TempDir()
	save(t, bad, "a.yaml", "kind: telegrm\n")
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--sinks", bad}, exitFailed, `did you mean "telegram"?`},
		{[]string{"--sinks", empty}, exitFailed, "backstop sink example KIND"},
		{[]string{"--sinks", filepath.Join(empty, "nowhere")}, exitFailed, "no such file"},
		{[]string{"--redis", "redis://127.0.0.1:1"}, exitFailed, "no Redis answers at 127.0.0.1:1"},
		{[]string{"--redis", "127.0.0.1"}, exitUsage, "redis://HOST:PORT"},
	} {
		r := run(t, append([]string{"dev", "--bin", built(t)}, c.args...)...)
		r.want(t, c.code, "", c.says)
		if strings.Contains(r.out, "runs on this machine") {
			t.Errorf("%v: it says that it runs:\n%s", c.args, r.out)
		}
	}
}

func TestTheLinesOfDev(t *testing.T) {
	for line, want := range map[string]string{
		`{"timestamp":"2026-01-01T00:00:00Z","level":"INFO","message":"delivery","sink":"ops","delivery_id":"d","status":"delivered","attempts":1,"elapsed_ms":12}`:                                    "send    ops             d  delivered  12ms",
		`{"level":"INFO","message":"delivery","sink":"ops","delivery_id":"d","status":"dead_lettered","reason":"exhausted","code":"SINK_UNAVAILABLE","attempts":5,"elapsed_ms":1200,"duplicate":true}`: "send    ops             d  dead_lettered  exhausted  SINK_UNAVAILABLE  5 attempts  duplicate  1.2s",
		`{"level":"INFO","message":"replay","sink":"ops","delivery_id":"d","status":"delivered","reason":"","attempts":1,"elapsed_ms":3}`:                                                              "replay  ops             d  delivered  3ms",
		`{"level":"WARN","message":"event pending","sink":"ops","to":"audit","requestId":"r","service":"backstop"}`:                                                                                    "api     WARN event pending sink=ops to=audit",
		`{"_aws":{},"Delivered":1}`:                           "",
		`{"level":"INFO","message":"started"}`:                "",
		`{"level":"INFO","message":"replay run","claimed":0}`: "",
		"panic: \x1b[31mred":                                  "api     panic: \ufffd[31mred",
	} {
		var b bytes.Buffer
		(&devLines{w: &b}).function("dlq-api", line)
		_, got, _ := strings.Cut(strings.TrimSuffix(b.String(), "\n"), "  ")
		if got != want {
			t.Errorf("%s\n got %q\nwant %q", line, got, want)
		}
	}
}

// With --forward-to everything goes to one URL: a request as it is, a mail as a mail, and what a recipient's own URL would get.
func TestDevForwardsEverything(t *testing.T) {
	type got struct{ method, contentType, from, authorization, body string }
	seen := make(chan got, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		seen <- got{r.Method, r.Header.Get("Content-Type"), r.Header.Get("Backstop-Forwarded-For"), r.Header.Get("Authorization"), string(b)}
	}))
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	save(t, dir, "hook.yaml", "kind: webhook\nurl: https://partner.invalid/hook\nheaders: {Authorization: Bearer hush}\n")
	save(t, dir, "mail.yaml", "kind: email\nsmtp_addr: mail.invalid:587\nfrom: shop@shop.invalid\n")
	save(t, dir, "queue.yaml", "kind: sqs\nregion: eu-west-1\nqueue_url: https://sqs.eu-west-1.amazonaws.com/123456789012/orders\n")
	out := dev(t, dir, "--forward-to", srv.URL+"/all")
	api := out.wait(t, "the API", `HTTP API +(http://\S+)`)[1]
	for _, c := range []struct {
		args []string
		want got
		has  string
	}{
		{[]string{"--sink", "hook", "--body", "hello"}, got{"POST", "application/json", "https://partner.invalid", "", ""}, `"body":"hello"`},
		{[]string{"--sink", "hook", "--to", "https://example.com/other", "--body", "elsewhere"}, got{"POST", "application/json", "https://example.com", "", ""}, `"body":"elsewhere"`},
		{[]string{"--sink", "mail", "--to", "ann@example.com", "--subject", "Hi", "--body", "hello"}, got{"POST", "message/rfc822", "smtp://mail.invalid:587", "", ""}, "Subject: Hi\r\n"},
		{[]string{"--sink", "queue", "--body", "hello"}, got{"POST", "application/x-amz-json-1.0", "https://sqs.eu-west-1.amazonaws.com", "", ""}, "hello"},
	} {
		run(t, append([]string{"send", "--api", api}, c.args...)...).want(t, exitDone, "delivered", "")
		g := <-seen
		if !strings.Contains(g.body, c.has) {
			t.Errorf("%v: got %s, want %s in it", c.args, g.body, c.has)
		}
		if g.body = ""; g != c.want {
			t.Errorf("%v: got %+v, want %+v", c.args, g, c.want)
		}
	}
	// The guard stands.
	run(t, "send", "--api", api, "--sink", "hook", "--to", "http://10.0.0.1/", "--body", "x").want(t, exitUsage, "", "not public")
	if len(seen) != 0 {
		t.Errorf("%d more came", len(seen))
	}
	run(t, "dev", "--bin", built(t), "--forward-to", "localhost:80").want(t, exitUsage, "", "want http://HOST:PORT/PATH")
}
