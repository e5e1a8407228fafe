package lambdahost_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"backstop/internal/lambdahost"
)

func TestAProcessIsReusedWhileItLives(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe"})
	first := invoke(t, h, "probe", `{"n":1}`)
	if got, want := string(first.Payload), `{"n":1}`; got != want || first.FunctionError != "" {
		t.Errorf("answer %s (%s), want %s", got, first.FunctionError, want)
	}
	if !first.ColdStart {
		t.Error("the first invocation was no cold start")
	}
	for range 5 {
		if next := invoke(t, h, "probe", `{}`); next.ColdStart || next.PID != first.PID {
			t.Fatalf("next invocation: cold=%v pid %d, want the warm process %d", next.ColdStart, next.PID, first.PID)
		}
	}
	if got := h.Stats("probe"); got.Invocations != 6 || got.ColdStarts != 1 || got.Errors != 0 || got.Idle != 1 {
		t.Errorf("stats %+v, want 6 invocations, 1 cold start, 1 idle process", got)
	}
}

func TestFunctionErrorsAreThePlatforms(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{},
		lambdahost.Function{Name: "probe", Concurrency: 1, Timeout: time.Minute},
		lambdahost.Function{Name: "brief", Concurrency: 1, Timeout: time.Second})
	tests := []struct {
		event     string
		errorType string
		message   string // contained
		survives  bool   // the process serves the next invocation
	}{
		{`{"do":"error"}`, "Refused", "refused by probe", true},
		{`{"do":"plain-error"}`, "errorString", "plain", true},
		{`{"do":"panic"}`, "string", "probe panics", false},
		{`{"do":"exit","code":7}`, "Runtime.ExitError", "Error: Runtime exited with error: exit status 7", false},
		{`{"do":"exit"}`, "Runtime.ExitError", "Error: Runtime exited without providing a reason", false},
		{`{"do":"hang"}`, "Sandbox.Timedout", "Error: Task timed out after 1.00 seconds", false},
		{fmt.Sprintf(`{"do":"large","size":%d}`, lambdahost.MaxResponse+1), "Function.ResponseSizeTooLarge", "6291556 bytes", false},
	}
	for _, tt := range tests {
		function := "probe"
		if tt.errorType == "Sandbox.Timedout" {
			function = "brief"
		}
		before := invoke(t, h, function, `{}`)
		res := invoke(t, h, function, tt.event)
		if res.FunctionError != "Unhandled" || res.ErrorType != tt.errorType {
			t.Errorf("%s: %q, %q, want Unhandled, %q", tt.event, res.FunctionError, res.ErrorType, tt.errorType)
		}
		body := decode[struct{ ErrorType, ErrorMessage string }](t, res.Payload)
		if body.ErrorType != tt.errorType || !strings.Contains(body.ErrorMessage, tt.message) {
			t.Errorf("%s: payload %+v, want %s with %q", tt.event, body, tt.errorType, tt.message)
		}
		if after := invoke(t, h, function, `{}`); (after.PID == before.PID) != tt.survives {
			t.Errorf("%s: process %d, then %d; want the same one: %v", tt.event, before.PID, after.PID, tt.survives)
		}
	}
	if got := h.Stats("probe"); got.Timeouts != 0 || got.Crashes != 2 || got.Errors != len(tests)-1 {
		t.Errorf("stats %+v, want no time-out, 2 crashes, %d errors", got, len(tests)-1)
	}
	if got := h.Stats("brief"); got.Timeouts != 1 || got.Crashes != 0 || got.Errors != 1 {
		t.Errorf("stats %+v, want 1 time-out, no crash, 1 error", got)
	}
}

func TestTheLargestResponsePasses(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe"})
	res := invoke(t, h, "probe", fmt.Sprintf(`{"do":"large","size":%d}`, lambdahost.MaxResponse))
	if res.FunctionError != "" || len(res.Payload) != lambdahost.MaxResponse {
		t.Errorf("%s, %d bytes, want success with %d", res.FunctionError, len(res.Payload), lambdahost.MaxResponse)
	}
}

func TestTheFunctionSeesWhatThePlatformTellsIt(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{Region: "eu-west-1", AccountID: "111122223333"},
		lambdahost.Function{Name: "probe", Timeout: 7 * time.Second, MemoryMB: 256, Env: map[string]string{"MINE": "1", "AWS_ACCESS_KEY_ID": "given"}})

	before := time.Now()
	res, err := h.Invoke(t.Context(), lambdahost.Invocation{
		Function: "probe", Payload: []byte(`{"do":"context"}`), RequestID: "req-1",
		TraceID: "Root=1-2-3", ClientContext: []byte(`{"custom":{"k":"v"}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	got := decode[struct {
		RequestID string `json:"request_id"`
		ARN       string
		Trace     string
		Client    map[string]string
		Deadline  int64
		PID       int
	}](t, res.Payload)
	if got.RequestID != "req-1" || got.Trace != "Root=1-2-3" || got.Client["k"] != "v" || got.PID != res.PID {
		t.Errorf("context %+v", got)
	}
	if want := "arn:aws:lambda:eu-west-1:111122223333:function:probe"; got.ARN != want {
		t.Errorf("arn %s, want %s", got.ARN, want)
	}
	if d := time.UnixMilli(got.Deadline).Sub(before); d < 7*time.Second-time.Millisecond || d > 17*time.Second {
		t.Errorf("the deadline is %v after the call, want the timeout of 7 s plus the start", d)
	}

	env := decode[map[string]string](t, invoke(t, h, "probe", `{"do":"env"}`).Payload)
	for k, want := range map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME": "probe", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1", "_HANDLER": "bootstrap", "LAMBDA_TASK_ROOT": filepath.Dir(probe),
		"MINE": "1", "AWS_ACCESS_KEY_ID": "given", "TZ": ":UTC",
	} {
		if env[k] != want {
			t.Errorf("%s=%q, want %q", k, env[k], want)
		}
	}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		if inherited, ok := env[k]; ok && inherited == v && !slices.Contains([]string{"PATH", "HOME", "TMPDIR", "LANG", "TZ", "AWS_REGION"}, k) {
			t.Errorf("%s is inherited from the parent", k)
		}
	}
}

func TestOutputIsPassedOnBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	var out lines
	h := startHost(t, lambdahost.Options{Output: out.add}, lambdahost.Function{Name: "probe"})
	for range 20 {
		invoke(t, h, "probe", `{"print":"one\n\nwithout an end"}`)
	}
	want := slices.Repeat([]string{"probe: one", "probe: ", "probe: without an end"}, 20)
	if got := out.all(); !slices.Equal(got, want) {
		t.Errorf("output %q, want %q", got, want)
	}
}

func TestOutputOfADyingProcessIsComplete(t *testing.T) {
	t.Parallel()
	var out lines
	h := startHost(t, lambdahost.Options{Output: out.add}, lambdahost.Function{Name: "probe"})
	invoke(t, h, "probe", `{"do":"exit","code":1,"print":"last words"}`)
	if got := out.all(); !slices.Equal(got, []string{"probe: last words"}) {
		t.Errorf("output %q, want the last words", got)
	}
}

func TestTheLogTailIsTheLastFourKilobytesOfTheInvocation(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe"})
	invoke(t, h, "probe", `{"print":"earlier\n"}`)
	short := invoke(t, h, "probe", `{"print":"hello\n"}`)
	if got := string(short.LogTail); strings.Contains(got, "earlier") ||
		!strings.HasPrefix(got, "START RequestId: "+short.RequestID+" Version: $LATEST\nhello\nEND RequestId: ") {
		t.Errorf("tail %q", got)
	}
	long := invoke(t, h, "probe", `{"print":"`+strings.Repeat("x", 10_000)+`"}`)
	if len(long.LogTail) != 4096 || !strings.Contains(string(long.LogTail), "REPORT RequestId: "+long.RequestID) {
		t.Errorf("tail of %d bytes, want the last 4096 with the report", len(long.LogTail))
	}
}

func TestConcurrencyIsBoundedAndTheRestWaits(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe", Concurrency: 2, Timeout: 20 * time.Second})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() { invoke(t, h, "probe", `{"do":"slow","for":50000000}`) })
	}
	wg.Wait()
	if got := h.Stats("probe"); got.ColdStarts > 2 || got.Invocations != 6 || got.Throttled != 0 {
		t.Errorf("stats %+v, want 6 invocations in at most 2 processes", got)
	}
}

func TestABusyFunctionThrottles(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{QueueWait: -1}, lambdahost.Function{Name: "probe", Concurrency: 1, Timeout: time.Minute})
	go func() {
		_, _ = h.Invoke(context.WithoutCancel(t.Context()), lambdahost.Invocation{Function: "probe", Payload: []byte(`{"do":"hang"}`)})
	}()
	eventually(t, "one busy process", func() bool { return h.Stats("probe").Busy == 1 })
	_, err := h.Invoke(t.Context(), lambdahost.Invocation{Function: "probe"})
	if e, ok := errors.AsType[*lambdahost.APIError](err); !ok || e.Type != "TooManyRequestsException" {
		t.Errorf("error %v, want TooManyRequestsException", err)
	}
	if got := h.Stats("probe").Throttled; got != 1 {
		t.Errorf("throttled %d, want 1", got)
	}
}

func TestKillHitsABusyProcessAndTheNextOneIsFresh(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe", Timeout: time.Minute})
	if idle := invoke(t, h, "probe", `{}`); h.Kill("probe") || h.Kill("unknown") || idle.FunctionError != "" {
		t.Error("Kill hit an idle process")
	}
	result := make(chan lambdahost.Result, 1)
	go func() {
		res, _ := h.Invoke(context.WithoutCancel(t.Context()), lambdahost.Invocation{Function: "probe", Payload: []byte(`{"do":"hang"}`)})
		result <- res
	}()
	eventually(t, "a busy process was killed", func() bool { return h.Kill("probe") })
	res := <-result
	if res.ErrorType != "Runtime.ExitError" || !strings.Contains(string(res.Payload), "signal: killed") {
		t.Errorf("%s %s, want Runtime.ExitError by a signal", res.ErrorType, res.Payload)
	}
	if next := invoke(t, h, "probe", `{}`); !next.ColdStart {
		t.Error("the invocation after a kill was no cold start")
	}
	if got := h.Stats("probe"); got.Kills != 1 || got.Crashes != 1 || got.Timeouts != 0 {
		t.Errorf("stats %+v, want 1 kill, 1 crash, no time-out", got)
	}
}

func TestInitFailuresAreAnswered(t *testing.T) {
	t.Parallel()
	tests := []struct {
		init, errorType, message string
		timeout                  time.Duration
	}{
		{"exit", "Runtime.ExitError", "Runtime exited with error: exit status 3", 0},
		{"hang", "Sandbox.Timedout", "Init timed out after 0.20 seconds", 200 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.init, func(t *testing.T) {
			var out lines
			h := startHost(t, lambdahost.Options{InitTimeout: tt.timeout, Output: out.add},
				lambdahost.Function{Name: "probe", Env: map[string]string{"PROBE_INIT": tt.init}})
			res := invoke(t, h, "probe", `{}`)
			if res.ErrorType != tt.errorType || !strings.Contains(string(res.Payload), tt.message) {
				t.Errorf("%s %s, want %s: %s", res.ErrorType, res.Payload, tt.errorType, tt.message)
			}
			if s := h.Stats("probe"); s.Busy+s.Idle != 0 || s.Errors != 1 {
				t.Errorf("stats %+v, want no process and 1 error", s)
			}
			if tt.init == "exit" && !slices.Contains(out.all(), "probe: no configuration") {
				t.Errorf("output %q, want the reason that the function printed", out.all())
			}
		})
	}
}

func TestAFunctionRunsOnWhenItsCallerGoes(t *testing.T) {
	t.Parallel()
	var out lines
	h := startHost(t, lambdahost.Options{Output: out.add}, lambdahost.Function{Name: "probe", Concurrency: 1})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		eventually(t, "a busy process", func() bool { return h.Stats("probe").Busy == 1 })
		cancel()
	}()
	_, err := h.Invoke(ctx, lambdahost.Invocation{Function: "probe", Payload: []byte(`{"do":"slow","for":200000000}`)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	eventually(t, "the invocation ended", func() bool { return h.Stats("probe").Invocations == 1 })
	if got := h.Stats("probe"); got.Errors != 0 {
		t.Errorf("stats %+v, want the abandoned invocation to succeed", got)
	}
}

func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe", Timeout: time.Minute})
	pid := invoke(t, h, "probe", `{"do":"child"}`).PID
	result := make(chan lambdahost.Result, 1)
	go func() {
		res, _ := h.Invoke(context.WithoutCancel(t.Context()), lambdahost.Invocation{Function: "probe", Payload: []byte(`{"do":"hang"}`)})
		result <- res
	}()
	eventually(t, "a busy process", func() bool { return h.Stats("probe").Busy == 1 })
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if res := <-result; res.ErrorType != "Runtime.ExitError" {
		t.Errorf("the running invocation ended with %q, want Runtime.ExitError", res.ErrorType)
	}
	eventually(t, "the process group is gone", func() bool { return !groupAlive(pid) })
	if _, err := h.Invoke(t.Context(), lambdahost.Invocation{Function: "probe"}); err == nil {
		t.Error("a closed host took an invocation")
	}
	if err := h.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func TestSIGTERMReachesWhoRegisteredForIt(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "flushed")
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe", Env: map[string]string{"PROBE_SIGTERM": file}})
	invoke(t, h, "probe", `{}`)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "flushed" {
		t.Errorf("%q, %v: the SIGTERM handler did not run", got, err)
	}
}

func TestAFunctionsChildrenDieWithIt(t *testing.T) {
	t.Parallel()
	h := startHost(t, lambdahost.Options{}, lambdahost.Function{Name: "probe"})
	pid := invoke(t, h, "probe", `{"do":"child"}`).PID
	invoke(t, h, "probe", `{"do":"exit","code":1}`)
	eventually(t, "the process group is gone", func() bool { return !groupAlive(pid) })
}

// groupAlive reports whether a process group has a member that is not a zombie.
func groupAlive(pgid int) bool {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		stat, _ := os.ReadFile(name)
		_, rest, _ := strings.Cut(string(stat), ") ")
		var state string
		var ppid, group int
		if n, _ := fmt.Sscan(rest, &state, &ppid, &group); n == 3 && group == pgid && state != "Z" {
			return true
		}
	}
	return false
}

func TestProcessesDieWithTheHost(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "LAMBDAHOST_TEST_HOST="+probe)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscanln(bufio.NewReader(stdout), &pid); err != nil {
		t.Fatalf("the child host told no pid: %v", err)
	}
	if !groupAlive(pid) {
		t.Errorf("process %d does not live", pid)
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()
	eventually(t, "the function process is gone", func() bool { return !groupAlive(pid) })
}

// hostToBeKilled runs a host in a child process, prints the pid of its function's
// process and waits for its death.
func hostToBeKilled(path string) {
	h, err := lambdahost.Start(context.Background(), lambdahost.Options{}, lambdahost.Function{Name: "probe", Path: path})
	if err != nil {
		panic(err)
	}
	res, err := h.Invoke(context.Background(), lambdahost.Invocation{Function: "probe"})
	if err != nil {
		panic(err)
	}
	_, _ = fmt.Fprintln(os.Stdout, res.PID)
	time.Sleep(time.Minute)
	os.Exit(1)
}

func TestStartReportsAllFaultsTogether(t *testing.T) {
	t.Parallel()
	_, err := lambdahost.Start(t.Context(), lambdahost.Options{},
		lambdahost.Function{Name: "a b", Path: probe},
		lambdahost.Function{Name: "gone", Path: "/nonexistent/bootstrap"},
		lambdahost.Function{Name: "plain", Path: "host_test.go"},
		lambdahost.Function{Name: "slow", Path: probe, Timeout: time.Hour, Concurrency: -1, MemoryMB: -1},
		lambdahost.Function{Name: "twice", Path: probe}, lambdahost.Function{Name: "twice", Path: probe})
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`function "a b": the name does not match`, `function "gone": stat /nonexistent/bootstrap`, "(is it built?)",
		`host_test.go is not an executable`, `function "slow": timeout 1h0m0s`, "concurrency -1", "memory -1",
		`function "twice" is given twice`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q:\n%v", want, err)
		}
	}
}
