package functions_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	// What the binaries are made of: the go command repeats this test when any of it changed.
	_ "backstop/bundle"

	_ "example.org/team/bundle/kinds"
)

// timeout is the functions' on the platform.
const timeout = 29 * time.Second

// function is one process of a function and what Lambda is for it: the Runtime API
// (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html), one invocation at a time.
type function struct {
	name    string
	events  chan string
	answers chan answer
	exited  chan struct{}
}

type answer struct {
	payload string
	failed  bool
}

// start runs the function's binary until the test ends, and shows what it wrote if the
// test failed.
func start(t *testing.T, name string, env ...string) *function {
	t.Helper()
	f := &function{name: name, events: make(chan string), answers: make(chan answer, 1), exited: make(chan struct{})}
	api := httptest.NewServer(f.runtimeAPI())
	t.Cleanup(api.Close)

	var output bytes.Buffer
	c := exec.Command(filepath.Join(binaries, name, "bootstrap"))
	c.Env = append(env, "AWS_LAMBDA_RUNTIME_API="+api.Listener.Addr().String(), "AWS_LAMBDA_FUNCTION_NAME="+name)
	c.Stdout, c.Stderr = &output, &output
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var ended error
	go func() {
		defer close(f.exited)
		ended = c.Wait()
	}()
	t.Cleanup(func() {
		if err := c.Process.Kill(); err != nil {
			t.Errorf("%s: %v", name, err) // it ended by itself
		}
		<-f.exited
		if t.Failed() {
			t.Logf("%s: %v; it wrote:\n%s", name, ended, output.String())
		}
	})
	return f
}

func (f *function) runtimeAPI() http.Handler {
	const invocation = "/2018-06-01/runtime/invocation/"
	var n atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+invocation+"next", func(w http.ResponseWriter, r *http.Request) {
		select {
		case payload := <-f.events:
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", fmt.Sprintf("request-%d", n.Add(1)))
			w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(time.Now().Add(timeout).UnixMilli(), 10))
			w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:123456789012:function:"+f.name)
			_, _ = io.WriteString(w, payload)
		case <-r.Context().Done():
		}
	})
	answers := func(failed bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			payload, err := io.ReadAll(r.Body)
			if err != nil {
				return // the process ended in its answer: invoke sees that
			}
			w.WriteHeader(http.StatusAccepted)
			f.answers <- answer{payload: string(payload), failed: failed}
		}
	}
	mux.HandleFunc("POST "+invocation+"{id}/response", answers(false))
	mux.HandleFunc("POST "+invocation+"{id}/error", answers(true))
	return mux
}

// invoke returns the function's answer to an event.
func (f *function) invoke(t *testing.T, event string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*timeout)
	defer cancel()
	select {
	case f.events <- event:
	case <-f.exited:
		t.Fatalf("%s ended", f.name)
	case <-ctx.Done():
		t.Fatalf("%s asks for no event", f.name)
	}
	select {
	case a := <-f.answers:
		if a.failed {
			t.Fatalf("%s failed: %s", f.name, a.payload)
		}
		return a.payload
	case <-f.exited:
		t.Fatalf("%s ended without an answer", f.name)
	case <-ctx.Done():
		t.Fatalf("%s did not answer", f.name)
	}
	return ""
}

// binaries is where TestMain built the functions.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "bundle-")
	if err == nil {
		defer os.RemoveAll(dir)
		binaries = dir
		var out []byte
		if out, err = exec.Command("make", "-C", "..", "local", "OUT="+dir).CombinedOutput(); err != nil {
			err = fmt.Errorf("%w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the functions:", err)
		return 1
	}
	return m.Run()
}
