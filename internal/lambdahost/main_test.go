package lambdahost_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"backstop/internal/await"
	"backstop/internal/lambdahost"
)

// probe is the bootstrap built from testdata/probe.
var probe string

// TestMain builds the probe once. In a child process of TestProcessesDieWithTheHost it
// is the host to be killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("LAMBDAHOST_TEST_HOST"); path != "" {
		hostToBeKilled(path)
	}
	dir, err := os.MkdirTemp("", "lambdahost")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	probe = filepath.Join(dir, "bootstrap")
	build := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", probe, "./testdata/probe")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build ./testdata/probe: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

func startHost(t *testing.T, o lambdahost.Options, functions ...lambdahost.Function) *lambdahost.Host {
	t.Helper()
	for i := range functions {
		functions[i].Path = probe
	}
	h, err := lambdahost.Start(t.Context(), o, functions...)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func invoke(t *testing.T, h lambdahost.Invoker, function, payload string) lambdahost.Result {
	t.Helper()
	res, err := h.Invoke(t.Context(), lambdahost.Invocation{Function: function, Payload: []byte(payload)})
	if err != nil {
		t.Fatalf("Invoke(%s): %v", payload, err)
	}
	return res
}

func decode[T any](t *testing.T, data []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatalf("%.200s: %v", data, err)
	}
	return v
}

// eventually polls until a condition holds.
var eventually = await.True

// lines collects what functions print.
type lines struct {
	mu  sync.Mutex
	got []string
}

func (l *lines) add(function, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got = append(l.got, function+": "+line)
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.got...)
}
