package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"backstop/internal/local"
	"backstop/internal/moto"
)

// binaries is where the functions are built.
var binaries string

var build = sync.OnceValue(func() error { return local.Build(context.Background(), "../..", binaries) })

// built returns the folder with the functions. The first test that asks builds them: a test,
// and not TestMain, whose looks at the sources the go command would not count.
func built(t *testing.T) string {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	return binaries
}

// awsSecret is the secret key of the tests' AWS credentials.
const awsSecret = "not-really-secret"

// asCLI in the environment makes the test binary the command itself.
const asCLI = "BACKSTOP_TEST_AS_CLI"

func TestMain(m *testing.M) {
	if os.Getenv(asCLI) != "" {
		main()
		return
	}
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "backstop-cli-"); err != nil {
		panic(err)
	}
	defer func() { must(os.RemoveAll(binaries)) }()
	// Nothing of the developer's own environment.
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION",
		"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "BACKSTOP_API", "BACKSTOP_TOKEN",
	} {
		must(os.Unsetenv(name))
	}
	must(os.Setenv("AWS_CONFIG_FILE", os.DevNull))
	must(os.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull))
	must(os.Setenv("AWS_EC2_METADATA_DISABLED", "true"))
	defer moto.StopShared()
	return m.Run()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// result is what a command left behind.
type result struct {
	code     int
	out, err string
}

// run runs a command in this process, with no terminal.
func run(t *testing.T, args ...string) result {
	t.Helper()
	return runWith(t, t.Context(), strings.NewReader(""), &bytes.Buffer{}, args...)
}

// terminal is a stream with a person at its other end.
type terminal struct{ bytes.Buffer }

func (*terminal) IsTerminal() bool { return true }

func typed(s string) *terminal {
	var in terminal
	in.WriteString(s)
	return &in
}

// runWith runs a command with the given streams.
func runWith(t *testing.T, ctx context.Context, in io.Reader, stderr interface { //nolint:revive // t comes first
	io.Writer
	String() string
}, args ...string,
) result {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(&out)
	root.SetErr(stderr)
	code := execute(ctx, root, stderr)
	return result{code: code, out: out.String(), err: stderr.String()}
}

// want checks a result: its exit code, and texts in its outputs.
func (r result) want(t *testing.T, code int, out, err string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	if !strings.Contains(r.out, out) {
		t.Errorf("output lacks %q", out)
	}
	if !strings.Contains(r.err, err) {
		t.Errorf("standard error lacks %q", err)
	}
	if t.Failed() {
		t.Logf("output:\n%s\nstandard error:\n%s", r.out, r.err)
	}
}

// reply is an answer of the fake API. Its type is problem+json from status 400 on.
type reply struct {
	status int
	body   string
	header http.Header
}

func ok(body string) reply { return reply{status: 200, body: body} }

func problem(status int, code string) reply {
	return reply{status: status, body: fmt.Sprintf(`{"type":"urn:x","title":"Title %s","status":%d,"detail":"the detail","code":%q}`, code, status, code)}
}

// fakeAPI answers with its replies in order, the last one again and again, and keeps what
// it was asked.
type fakeAPI struct {
	*httptest.Server
	mu      sync.Mutex
	calls   []string // "METHOD path?query body"
	headers []http.Header
	replies []reply
}

func newAPI(t *testing.T, replies ...reply) *fakeAPI {
	t.Helper()
	a := &fakeAPI{replies: replies}
	a.Server = httptest.NewServer(a)
	t.Cleanup(a.Close)
	t.Setenv("BACKSTOP_API", a.URL)
	return a
}

func (a *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.calls = append(a.calls, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+string(bytes.TrimSpace(body))))
	a.headers = append(a.headers, r.Header)
	answer := a.replies[0]
	if len(a.replies) > 1 {
		a.replies = a.replies[1:]
	}
	a.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if answer.status >= 400 {
		w.Header().Set("Content-Type", "application/problem+json")
	}
	for name, values := range answer.header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.status)
	var sent struct{ ID string }
	_ = json.Unmarshal(body, &sent) // not every request has an id
	_, _ = io.WriteString(w, strings.ReplaceAll(answer.body, "$id", sent.ID))
}

// asked returns the calls so far.
func (a *fakeAPI) asked() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.calls)
}
