package bench

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

// binaries is where build puts the functions; empty until then.
var binaries string

var build = sync.OnceValue(func() error {
	var err error
	if binaries, err = os.MkdirTemp("", "backstop-bench-"); err != nil {
		return err
	}
	return local.Build(context.Background(), "..", binaries)
})

// function is a real function in the local Lambda host.
type function struct {
	host *lambdahost.Host
	name string
}

// startFunction starts a function whose one sink "ops" posts to url.
func startFunction(b *testing.B, name, url, redisURL string, env ...string) *function {
	b.Helper()
	return startFunctions(b, name, url, redisURL, setup{}, env...)
}

// setup is what a function may be started with besides. The zero value is one process, and a
// sink and a time-out by their defaults.
type setup struct {
	sink      string // more keys of the sink
	processes int
	timeout   time.Duration
	output    func(function, line string) // takes what the processes write; nil: nobody
}

// startFunctions starts a function that may have several processes.
func startFunctions(b *testing.B, name, url, redisURL string, s setup, env ...string) *function {
	b.Helper()
	ok(b, build())
	sinks := b.TempDir()
	ok(b, os.WriteFile(filepath.Join(sinks, "ops.yaml"), []byte("kind: webhook\nurl: "+url+"\n"+s.sink), 0o600))
	environment := map[string]string{
		"BACKSTOP_SINKS": "file:" + sinks, "BACKSTOP_REDIS_URL": redisURL, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_LAMBDA_LOG_FORMAT": "JSON",
	}
	for _, e := range env {
		key, value, _ := strings.Cut(e, "=")
		environment[key] = value
	}
	host, err := lambdahost.Start(context.Background(), lambdahost.Options{Output: s.output}, lambdahost.Function{
		Name: name, Path: filepath.Join(binaries, name, "bootstrap"), Env: environment, Timeout: cmp.Or(s.timeout, 55*time.Second), Concurrency: max(s.processes, 1), MemoryMB: 512,
	})
	ok(b, err)
	b.Cleanup(func() {
		if err := host.Close(); err != nil {
			b.Error(err)
		}
	})
	return &function{host, name}
}

func (f *function) invoke(b *testing.B, event []byte) lambdahost.Result {
	b.Helper()
	res, err := f.host.Invoke(context.Background(), lambdahost.Invocation{Function: f.name, Payload: event})
	ok(b, err)
	if res.FunctionError != "" {
		b.Fatalf("%s: %s", f.name, res.Payload)
	}
	return res
}

// resident is the memory of a process in MiB.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	return memoryOfProcess(b, pid, "VmRSS:")
}

// peak is the most memory that a process has had, in MiB.
func peak(b *testing.B, pid int) float64 {
	b.Helper()
	return memoryOfProcess(b, pid, "VmHWM:")
}

func memoryOfProcess(b *testing.B, pid int, key string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	ok(b, err)
	_, after, found := strings.Cut(string(status), key)
	var kib float64
	if _, err := fmt.Sscan(after, &kib); !found || err != nil {
		b.Fatalf("no %s in %s", key, status)
	}
	return kib / 1024
}
