package lambdahost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Function describes one function.
type Function struct {
	// Name is 1 to 64 letters, digits, hyphens and underscores.
	Name string
	// Path is the executable (bootstrap) that speaks the Lambda Runtime API. Its folder
	// is LAMBDA_TASK_ROOT and, as on the platform, the process's working directory.
	Path string
	// Env is the function's own environment. It wins over what the host sets.
	Env map[string]string
	// Timeout is the time for one invocation, after init. Zero: 3 s; at most 15 min.
	Timeout time.Duration
	// Concurrency is the most processes at a time. Zero: 10.
	Concurrency int
	// MemoryMB is told to the function and not enforced. Zero: 128.
	MemoryMB int
	// Async says how asynchronous invocations are retried and kept.
	Async Async
}

// Async is a function's configuration for asynchronous invocations (the platform's
// EventInvokeConfig and on-failure destination).
type Async struct {
	// Retries is how often an event is tried again after a function error. Zero: 2, as
	// on the platform. Negative: never.
	Retries int
	// Backoff is the wait before the first retry; it doubles with each. Zero: 100 ms
	// (the platform waits one minute, then two).
	Backoff time.Duration
	// MaxAge is how long an event may wait for a free process or a retry. Zero: 6 h.
	MaxAge time.Duration
	// OnFailure receives each event that could not be processed. It runs on a
	// goroutine of its own. Nil: such events are only counted and logged.
	OnFailure func(Failure)
}

// Failure is an asynchronous event that the host gave up on.
type Failure struct {
	Function  string
	RequestID string // the same for all attempts
	Payload   []byte // the event as it was sent
	Condition Condition
	Attempts  int    // attempts made; 0 when none could start
	Last      Result // of the last attempt; zero when there was none
}

// Condition says why the host gave up on an asynchronous event.
type Condition string

// The conditions.
const (
	RetriesExhausted Condition = "RetriesExhausted" // the last allowed attempt failed
	EventAgeExceeded Condition = "EventAgeExceeded" // it waited longer than MaxAge
	HostClosed       Condition = "HostClosed"       // the host was closed first
)

var functionName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

func (fn Function) normalize() Function {
	if abs, err := filepath.Abs(fn.Path); err == nil {
		fn.Path = abs
	}
	if fn.Timeout == 0 {
		fn.Timeout = 3 * time.Second
	}
	if fn.Concurrency == 0 {
		fn.Concurrency = 10
	}
	if fn.MemoryMB == 0 {
		fn.MemoryMB = 128
	}
	switch {
	case fn.Async.Retries == 0:
		fn.Async.Retries = 2
	case fn.Async.Retries < 0:
		fn.Async.Retries = 0
	}
	if fn.Async.Backoff == 0 {
		fn.Async.Backoff = 100 * time.Millisecond
	}
	if fn.Async.MaxAge == 0 {
		fn.Async.MaxAge = 6 * time.Hour
	}
	return fn
}

func (fn Function) validate() error {
	var errs []error
	fault := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("function %q: "+format, append([]any{fn.Name}, args...)...))
	}
	if !functionName.MatchString(fn.Name) {
		fault("the name does not match %s", functionName)
	}
	if fn.Timeout < time.Millisecond || fn.Timeout > 15*time.Minute {
		fault("timeout %v is not between 1ms and 15m", fn.Timeout)
	}
	if fn.Concurrency < 0 {
		fault("concurrency %d is negative", fn.Concurrency)
	}
	if fn.MemoryMB < 0 {
		fault("memory %d MB is negative", fn.MemoryMB)
	}
	switch info, err := os.Stat(fn.Path); {
	case err != nil:
		fault("%w (is it built?)", err)
	case info.IsDir() || info.Mode()&0o111 == 0:
		fault("%s is not an executable file", fn.Path)
	}
	return errors.Join(errs...)
}

// environ is the whole environment of a process: nothing is inherited from the
// parent, so that a function sees here what it would see on the platform. The
// credentials are placeholders, and HOME is a place without a developer's own AWS
// configuration.
func (fn Function) environ(o Options, runtimeAPI, stream string) []string {
	env := map[string]string{
		"AWS_LAMBDA_RUNTIME_API":          runtimeAPI,
		"AWS_LAMBDA_FUNCTION_NAME":        fn.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     latest,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": fmt.Sprint(fn.MemoryMB),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + fn.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      stream,
		"AWS_REGION":                      o.Region,
		"AWS_DEFAULT_REGION":              o.Region,
		"AWS_ACCESS_KEY_ID":               "local",
		"AWS_SECRET_ACCESS_KEY":           "local",
		"LAMBDA_TASK_ROOT":                filepath.Dir(fn.Path),
		"LAMBDA_RUNTIME_DIR":              filepath.Dir(fn.Path),
		"_HANDLER":                        filepath.Base(fn.Path),
		"LANG":                            "en_US.UTF-8",
		"TZ":                              ":UTC",
		"PATH":                            "/usr/local/bin:/usr/bin:/bin:/opt/bin",
		"HOME":                            os.TempDir(),
		"TMPDIR":                          os.TempDir(),
	}
	for k, v := range fn.Env {
		env[k] = v
	}
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	return list
}
