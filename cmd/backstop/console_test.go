package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"backstop/internal/await"
	"backstop/internal/local"
)

// serve runs a command that serves until it is stopped. It returns what the command says
// first, and a func that stops it and returns its exit code.
func serve(t *testing.T, args ...string) (output *bufio.Reader, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, w := io.Pipe()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(w)
	root.SetErr(io.Discard)
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, root, io.Discard)
		_ = w.Close()
	}()
	stop = func() int {
		cancel()
		go func() { _, _ = io.Copy(io.Discard, out) }()
		return <-code
	}
	return bufio.NewReader(out), stop
}

func getText(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestConsoleServesThePageAndTheAPIUntilItIsStopped(t *testing.T) {
	api := newAPI(t, ok(`{"sinks":[]}`))
	t.Setenv("BACKSTOP_TOKEN", "the-token")
	out, stop := serve(t, "console", "--api", api.URL, "--addr", "127.0.0.1:0", "-o", "json")
	var at struct{ URL string }
	line, err := out.ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), &at)
	}
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if code, page := getText(t, at.URL); code != http.StatusOK || !strings.Contains(page, api.URL) || strings.Contains(page, "the-token") {
		t.Errorf("the page is %d %s", code, page)
	}
	if code, body := getText(t, at.URL+"/v1/sinks"); code != http.StatusOK || body != `{"sinks":[]}` {
		t.Errorf("GET /v1/sinks is %d %s", code, body)
	}
	if asked := api.asked(); len(asked) != 1 || api.headers[0].Get("Authorization") != "Bearer the-token" {
		t.Errorf("the API was asked %q with %v", asked, api.headers)
	}
	if code := stop(); code != exitDone {
		t.Errorf("exit code %d, want %d", code, exitDone)
	}
}

func TestConsoleIsForThisMachineOnly(t *testing.T) {
	run(t, "console", "--addr", "0.0.0.0:0").want(t, exitUsage, "", "not a loopback address")
	run(t, "console", "--api", "https://ann:hunter2@example.com").want(t, exitUsage, "", "must have no user")
}

func TestDevServesTheConsole(t *testing.T) {
	out, stop := serve(t, "dev", "--bin", built(t), "--api-addr", "127.0.0.1:0", "--invoke-addr", "127.0.0.1:0", "--inbox-addr", "127.0.0.1:0",
		"--console-addr", "127.0.0.1:0", "--queue-addr", "127.0.0.1:0", "--every", "0")
	url := ""
	for url == "" {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("no console in what it says: %v", err)
		}
		if m := regexp.MustCompile(`Console\s+(http://\S+)`).FindStringSubmatch(line); m != nil {
			url = m[1]
		}
	}
	if code, body := getText(t, url+"/v1/dlq/count?sink=webhook-demo"); code != http.StatusOK || !strings.Contains(body, `"count":3`) {
		t.Errorf("the console's API answers %d %s, want the samples", code, body)
	}
	line, err := out.ReadString('\n')
	m := regexp.MustCompile(`Queue\s+(http://\S+)`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("no queue in what it says: %s%v", line, err)
	}
	stdin := strings.NewReader(`{"id":"q-1","sink":"webhook-demo","message":{"body":"by the queue"}}`)
	runWith(t, t.Context(), stdin, &bytes.Buffer{}, "send", "--queue", m[1], "--file", "-").want(t, exitDone, "1 message put on the queue", "")
	await.True(t, "the message to be delivered", func() bool {
		_, body := getText(t, url+"/v1/deliveries?sink=webhook-demo&id=q-1")
		return strings.Contains(body, `"delivered"`)
	})
	journal := ""
	for journal == "" {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("no journal in what it says: %v", err)
		}
		if m := regexp.MustCompile(`Journal\s+(/\S+)`).FindStringSubmatch(line); m != nil {
			journal = m[1]
		}
	}
	if info, err := os.Stat(journal); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 {
		t.Errorf("the journal's folder: %v, %v", info, err)
	}
	if code := stop(); code != exitDone {
		t.Errorf("exit code %d, want %d", code, exitDone)
	}
	if _, err := os.Stat(journal); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the journal of a run is there after it: %v", err)
	}
}

func TestTheJournalOfDev(t *testing.T) {
	with := func(redis string, env map[string]string) local.Options {
		return local.Options{RedisURL: redis, Env: env}
	}
	for _, c := range []struct {
		flag string
		o    local.Options
		want string
	}{
		{"", with("", nil), local.TemporaryJournal},
		{"", with("redis://r", nil), ""},
		{"kept", with("redis://r", nil), "kept"},
		{"kept", with("", nil), "kept"},
		{"off", with("", nil), ""},
		{"", with("", map[string]string{"BACKSTOP_JOURNAL": "s3://bucket/x"}), ""},
	} {
		if got := journalFolder(c.flag, c.o); got != c.want {
			t.Errorf("--journal %q with %v %v: %q, want %q", c.flag, c.o.RedisURL, c.o.Env, got, c.want)
		}
	}
}
