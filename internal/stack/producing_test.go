//go:build full

package stack_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"backstop/internal/freeport"
	"backstop/internal/local"
)

const producing = "producing.md"

// front stands for API Gateway with IAM: it lets signed requests through. The first call of a
// message whose id is in away is answered 503.
type front struct {
	t     *testing.T
	creds aws.Credentials
	next  http.Handler
	away  map[string]bool
}

var signed = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/` + region + `/execute-api/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=[0-9a-f]{64}$`)

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	if !f.authentic(r, body) {
		http.Error(w, `{"message":"Forbidden"}`, http.StatusForbidden)
		return
	}
	for id := range f.away {
		if bytes.Contains(body, []byte(`"`+id+`"`)) {
			delete(f.away, id)
			w.Header().Set("Retry-After", "0")
			http.Error(w, `{"code":"SINK_DLQ_UNAVAILABLE"}`, http.StatusServiceUnavailable)
			return
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	f.next.ServeHTTP(w, r)
}

// authentic signs what came once more, with the SDK's signer, and compares.
func (f *front) authentic(r *http.Request, body []byte) bool {
	m := signed.FindStringSubmatch(r.Header.Get("Authorization"))
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if m == nil || err != nil {
		return false
	}
	again, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+r.Host+r.URL.RequestURI(), http.NoBody)
	if err != nil {
		f.t.Error(err)
		return false
	}
	for name := range strings.SplitSeq(m[1], ";") {
		if values := r.Header.Values(name); len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	hash := sha256.Sum256(body)
	if err := v4.NewSigner().SignHTTP(r.Context(), f.creds, again, hex.EncodeToString(hash[:]), "execute-api", region, at); err != nil {
		f.t.Error(err)
		return false
	}
	compact := func(s string) string { return strings.ReplaceAll(s, ", ", ",") }
	return compact(again.Header.Get("Authorization")) == compact(r.Header.Get("Authorization"))
}

// programs writes the page's Python programs into a folder, under the names that they begin with.
func programs(t *testing.T, dir string) {
	t.Helper()
	named := regexp.MustCompile("(?s)```python\n# (\\w+\\.py) .*?```")
	found := named.FindAllStringSubmatch(read(t, "docs", producing), -1)
	if len(found) != 2 {
		t.Fatalf("docs/%s has %d programs, want two", producing, len(found))
	}
	for _, m := range found {
		text := strings.TrimSuffix(strings.TrimPrefix(m[0], "```python\n"), "```")
		if err := os.WriteFile(filepath.Join(dir, m[1]), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What the page on producers shows sends, by each way, and says of each message whether it was taken.
func TestTheProducersOfThePageWork(t *testing.T) {
	t.Parallel()
	bin, sinks, dir := t.TempDir(), t.TempDir(), t.TempDir()
	if err := local.Build(t.Context(), filepath.Join("..", ".."), bin); err != nil {
		t.Fatal(err)
	}
	s, err := local.Start(context.Background(), local.Options{Bin: bin, Sinks: "file:" + sinks})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	mail := "kind: email\nsmtp_addr: " + s.Inbox.SMTPAddr + "\nfrom: Shop <shop@example.com>\ntls: none\n"
	for name, text := range map[string]string{"email-demo": mail, "orders": mail, "hook": "kind: webhook\nurl: " + s.Inbox.URL + "/hook\n"} {
		if err := os.WriteFile(filepath.Join(sinks, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	programs(t, dir)

	target, err := url.Parse(s.APIURL)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{
		t: t, creds: aws.Credentials{AccessKeyID: "AKIDPRODUCER", SecretAccessKey: "secret/+", SessionToken: "session=="},
		next: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}, away: map[string]bool{"py-2": true},
	}
	api := httptest.NewServer(f)
	t.Cleanup(api.Close)
	queue, err := url.Parse(s.QueueURL)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{
		"BACKSTOP_API=" + api.URL, "QUEUE=" + s.QueueURL, "SEND=" + local.Send,
		"AWS_ENDPOINT_URL_SQS=http://" + queue.Host, "AWS_REGION=" + region, "AWS_DEFAULT_REGION=" + region,
		"AWS_ACCESS_KEY_ID=" + f.creds.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + f.creds.SecretAccessKey, "AWS_SESSION_TOKEN=" + f.creds.SessionToken,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
	port, release, err := freeport.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	listen := fmt.Sprintf("127.0.0.1:%d", port)
	answer, producer := filepath.Join(dir, "answer.json"), filepath.Join(dir, "producer")
	// Version 1 of the AWS CLI, which tests have, does not read the endpoints of the environment; the SDKs do.
	fill := strings.NewReplacer("aws sqs", "aws --endpoint-url http://"+queue.Host+" sqs", "aws lambda", "aws --endpoint-url "+s.InvokeURL+" lambda", "answer.json", answer, "/tmp/producer", producer, "127.0.0.1:8080", listen, "python3 ", "cd "+dir+" && python3 ")
	messages := filepath.Join(dir, "messages.ndjson")
	hook := func(id string) string { return `{"id":"` + id + `","sink":"hook","message":{"body":"Grüße"}}` + "\n" }
	write := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(messages, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func(id string) (n int) {
		for _, a := range s.Inbox.HTTP.Arrivals() {
			if a.ID() == id && a.Accepted() {
				n++
			}
		}
		return n
	}
	mails := func(to string) (n int) {
		for _, m := range s.Inbox.Mail.Mails() {
			if len(m.To) == 1 && m.To[0] == to && m.Fault == "" {
				n++
			}
		}
		return n
	}

	ran := 0
	for _, line := range commands(t, "docs", producing) {
		ran++
		command := fill.Replace(line)
		switch {
		case strings.HasPrefix(line, "aws sqs "):
			shell(t, command, env...)
			eventually(t, "the mail arrives over the queue", func() bool { return mails("pat@example.com") == 1 })
		case strings.HasPrefix(line, "aws lambda "):
			if out := shell(t, command, env...); strings.Contains(out, "FunctionError") {
				t.Errorf("%s: %s", line, out)
			}
			wantIn(t, line, string(mustRead(t, answer)), `"status":"delivered"`, `"duplicate":true`)
		case strings.HasPrefix(line, "curl -sS "):
			wantIn(t, line, shell(t, command, env...), `"status":"delivered"`, `"duplicate":true`)
			refused(t, command, "Forbidden", append(env, "AWS_SECRET_ACCESS_KEY=another")...)
		case strings.Contains(line, "enqueue.py"):
			write(hook("q-1"), hook("q-2"), hook("q-3"), hook("q-4"), hook("q-5"), hook("q-6"), hook("q-7"), hook("q-8"), hook("q-9"), hook("q-10"), hook("q-11"))
			shell(t, command, env...)
			eventually(t, "both calls' messages arrive", func() bool { return arrived("q-1") == 1 && arrived("q-11") == 1 })
			refused(t, command, "q-11 ", append(env, "QUEUE="+s.QueueURL+"-missing")...)
			write(hook("q-12"), `{"id":"q-13","sink":"no/group is this","message":{"body":""}}`+"\n")
			refused(t, command, "q-13 ", env...)
			eventually(t, "what was taken beside what was refused arrives", func() bool { return arrived("q-12") == 1 })
		case strings.Contains(line, "post.py"):
			write(hook("py-1"), hook("py-2"))
			if out := shell(t, command, env...); out != "py-1 delivered\npy-2 delivered\n" || arrived("py-1") != 1 || arrived("py-2") != 1 {
				t.Errorf("%s: %q; arrived %d and %d times", line, out, arrived("py-1"), arrived("py-2"))
			}
			write(strings.Replace(hook("py-3"), "hook", "unknown", 1))
			refused(t, command, "SINK_NOT_FOUND", env...)
			refused(t, command, "Forbidden", append(env, "AWS_SECRET_ACCESS_KEY=another")...)
		case strings.HasPrefix(line, "go build "):
			shell(t, command, env...)
		case strings.HasPrefix(line, "/tmp/producer "):
			serve(t, command+" -listen "+listen, listen, env)
		case strings.HasPrefix(line, "curl -i "):
			wantIn(t, line, shell(t, command, env...), "204 No Content")
			eventually(t, "the order's mail arrives", func() bool { return mails("pat@example.com") == 2 })
		default:
			t.Errorf("%s: nothing runs this", line)
		}
	}
	if ran != 8 {
		t.Errorf("%d commands, want 8", ran)
	}
	if len(f.away) != 0 {
		t.Error("the 503 was not asked for")
	}
	if n := mails("pat@example.com"); n != 2 {
		t.Errorf("%d mails, want one for the id that came three times, and the order's", n)
	}
}

// serve starts a line's program, which ends with the test, and waits until it listens.
func serve(t *testing.T, line, listen string, env []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "exec "+line)
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", line, out.String())
		}
	})
	eventually(t, line+" listens", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listen+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		return answer.Body.Close() == nil
	})
}

func wantIn(t *testing.T, what, got string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(got, part) {
			t.Errorf("%s: %s\nwant %s in it", what, got, part)
		}
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
