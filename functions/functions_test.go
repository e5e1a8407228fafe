// Package functions_test runs the real function binaries in the local Lambda host.
package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/internal/await"
	"backstop/internal/lambdahost"
	"backstop/internal/local"
	"backstop/internal/redistest"
)

// binaries is where the functions are built.
var binaries string

var build = sync.OnceValue(func() error { return local.Build(context.Background(), "..", binaries) })

// built returns the folder with the functions. The first test that asks builds them: a test,
// and not TestMain, whose looks at the sources the go command would not count.
func built(t *testing.T) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return binaries
}

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "backstop-functions-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(binaries)
	defer redistest.StopShared()
	return m.Run()
}

// start starts a stack for one test; its functions' output is shown when the test
// fails.
func start(t *testing.T, o local.Options) *local.Stack {
	t.Helper()
	o.Bin = built(t)
	var log strings.Builder
	also := o.Output
	o.Output = func(f, line string) {
		fmt.Fprintf(&log, "%s | %s\n", f, line)
		if also != nil {
			also(f, line)
		}
	}
	s, err := local.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if t.Failed() {
			t.Logf("the functions said:\n%s", log.String())
		}
	})
	return s
}

// onRedis is Options for a stack of its own on the shared redis-server.
func onRedis(t *testing.T) local.Options {
	t.Helper()
	return local.Options{
		RedisURL: redistest.Shared(t).URL(),
		Env:      map[string]string{"BACKSTOP_KEY_PREFIX": redistest.Prefix()},
	}
}

func invoke(t *testing.T, s *local.Stack, function string, payload []byte) lambdahost.Result {
	t.Helper()
	res, err := s.Host.Invoke(t.Context(), lambdahost.Invocation{Function: function, Payload: payload})
	if err != nil {
		t.Fatalf("invoke %s: %v", function, err)
	}
	return res
}

func sample(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "events", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// answer is an HTTP answer with its JSON body.
type answer struct {
	status int
	header http.Header
	body   map[string]any
	raw    string
}

func (a answer) text(key string) string {
	v, _ := a.body[key].(string)
	return v
}

func (a answer) number(key string) int {
	v, ok := a.body[key].(float64)
	if !ok {
		return -1
	}
	return int(v)
}

// call calls the stack's HTTP API.
func call(t *testing.T, s *local.Stack, method, path, body string, headers ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.APIURL+path, bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(b)}
	if len(b) > 0 {
		if err := json.Unmarshal(b, &a.body); err != nil {
			t.Fatalf("%s %s: body %q: %v", method, path, b, err)
		}
	}
	return a
}

func send(t *testing.T, s *local.Stack, sink, id, body string) answer {
	t.Helper()
	return call(t, s, http.MethodPost, "/v1/messages", fmt.Sprintf(`{"id":%q,"sink":%q,"message":{"subject":"test","body":%q}}`, id, sink, body))
}

// wantProblem checks that an answer is a problem with a code.
func wantProblem(t *testing.T, what string, a answer, status int, code string) {
	t.Helper()
	if a.status != status || a.text("code") != code || a.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s: got %d %s, want a problem %d %s", what, a.status, a.raw, status, code)
	}
}

// eventually polls until check returns nil.
var eventually = await.Nil
