package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"backstop/client"
)

func TestWhatCanGoWrongWithTheAPI(t *testing.T) {
	html := reply{status: 200, body: "<html>", header: http.Header{"Content-Type": {"text/html"}}}
	gateway := func(status int, message string) reply {
		return reply{status: status, body: `{"message":"` + message + `"}`, header: http.Header{"Content-Type": {"application/json"}}}
	}
	for _, c := range []struct {
		name  string
		reply reply
		code  int
		err   string
	}{
		{"expired credentials", gateway(403, "The security token included in the request is expired"), 6, "The security token included in the request is expired (HTTP 403)\nCheck who you are (aws sts get-caller-identity)"},
		{"no permission", gateway(403, "User: arn:aws:iam::123456789012:user/ann is not authorized to perform: execute-api:Invoke"), 6, "(HTTP 403)\nWho you are may not do this"},
		{"no credentials", gateway(401, "Unauthorized"), 6, "backstop: Unauthorized (HTTP 401)\n"},
		{"throttled, three times", gateway(429, "Too Many Requests"), 5, "HTTP 429"},
		{"the queue is away, three times", problem(503, "SINK_DLQ_UNAVAILABLE"), 5, "the detail (SINK_DLQ_UNAVAILABLE)\nTry again in a moment."},
		{"a defect", problem(500, "INTERNAL"), 5, "The function's log says more"},
		{"the function died", gateway(500, "Internal Server Error"), 5, "HTTP 500"},
		{"another site: 404", reply{status: 404, body: "<html>", header: html.header}, 5, "does the URL in --api or BACKSTOP_API end before /v1"},
		{"another site: a page", html, 5, `it answers "200 OK" with text/html: not Backstop's API`},
		{"another site: JSON", ok(`[1]`), 5, "the answer is not the API's"},
		{"another site: a redirect", reply{status: 302, header: http.Header{"Location": {"http://127.0.0.1:1/"}}}, 5, "not Backstop's API"},
		{"an unknown route", problem(404, "NOT_FOUND"), 3, "NOT_FOUND"},
		{"what it says is shown, not obeyed", reply{status: 400, body: `{"title":"a\u001b[2J","status":400,"code":"INVALID_ARGUMENT"}`}, 2, "a\uFFFD[2J"},
	} {
		t.Run(c.name, func(t *testing.T) {
			api := newAPI(t, c.reply)
			run(t, "sinks").want(t, c.code, "", c.err)
			want := 1
			if strings.HasSuffix(c.name, "three times") {
				want = 3 // a read that may succeed later is repeated
			}
			if n := len(api.asked()); n != want {
				t.Errorf("%d calls, want %d", n, want)
			}
		})
	}

	for after, want := range map[string]struct {
		calls int
		err   string
	}{"1": {2, "The API has too many requests (HTTP 429). Trying again in "}, "60": {1, "backstop: Too Many Requests (HTTP 429)"}} {
		t.Run("it asks to wait "+after+"s", func(t *testing.T) { // as long as somebody would, and tells them
			busy := gateway(429, "Too Many Requests")
			busy.header.Set("Retry-After", after)
			api := newAPI(t, busy, ok(`{"sinks":[`+oneSink+`],"config_age_seconds":1}`))
			r := run(t, "sinks")
			if n := len(api.asked()); n != want.calls || !strings.Contains(r.err, want.err) {
				t.Errorf("%d calls, %q; want %d, %q", n, r.err, want.calls, want.err)
			}
			if want.calls > 1 {
				r.want(t, exitDone, "mail", "")
			} else {
				r.want(t, exitUnavailable, "", "")
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		s := httptest.NewServer(nil)
		s.Close()
		run(t, "sinks", "--api", s.URL).want(t, 5, "", "the API at "+s.URL+": dial tcp")
		run(t, "sinks", "--api", s.URL).want(t, 5, "", "Name the API with --api URL or BACKSTOP_API. On this machine, 'backstop dev' starts one at\nhttp://127.0.0.1:3000.")
		// A replay whose answer is missing may have gone out.
		run(t, "dlq", "replay", "x~1-0", "--api", s.URL).want(t, 5, "", "Whether it was sent is not known")
	})
	t.Run("it hangs up", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
		t.Cleanup(s.Close)
		run(t, "sinks", "--api", s.URL).want(t, 5, "", "EOF")
	})
	t.Run("Ctrl-C while it thinks", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			cancel()
			<-r.Context().Done()
		}))
		t.Cleanup(s.Close)
		runWith(t, ctx, strings.NewReader(""), &bytes.Buffer{}, "sinks", "--api", s.URL).want(t, exitInterrupted, "", "backstop: interrupted\n")
	})
}

func TestCtrlCEndsAQuestion(t *testing.T) {
	newAPI(t, dryRun(3))
	ctx, cancel := context.WithCancel(t.Context())
	in := &silentTerminal{asked: cancel, end: make(chan struct{})}
	defer close(in.end)
	runWith(t, ctx, in, &bytes.Buffer{}, bulkArgs...).want(t, exitInterrupted, "", "backstop: interrupted\n")
}

// silentTerminal is a terminal at which nobody types.
type silentTerminal struct {
	asked func()
	end   chan struct{}
}

func (w *silentTerminal) IsTerminal() bool { return true }

func (w *silentTerminal) Read([]byte) (int, error) {
	w.asked()
	<-w.end
	return 0, syscall.EINTR
}

func TestWhoSignsAndWhoDoesNot(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
	t.Setenv("AWS_SECRET_ACCESS_KEY", awsSecret)
	t.Setenv("AWS_SESSION_TOKEN", "session-token")
	t.Setenv("AWS_REGION", "us-west-2")
	const gateway = "https://abc123.execute-api.eu-central-1.amazonaws.com/prod"
	for _, c := range []struct {
		name, base string
		conn       connection
		token      string // BACKSTOP_TOKEN
		want       string // region of the signature, "bearer" or "none"
	}{
		{name: "API Gateway", base: gateway, want: "eu-central-1"},
		{name: "API Gateway in a VPC", base: "https://abc123-vpce-0f.execute-api.eu-central-1.amazonaws.com", want: "eu-central-1"},
		{name: "API Gateway in China", base: "https://abc123.execute-api.cn-north-1.amazonaws.com.cn", want: "cn-north-1"},
		{name: "API Gateway, unsigned", base: gateway, conn: connection{noSign: true}, want: "none"},
		{name: "API Gateway with a token", base: gateway, token: "jwt", want: "bearer"},
		{name: "API Gateway, signed in spite of a token", base: gateway, conn: connection{sign: true}, token: "jwt", want: "eu-central-1"},
		{name: "this machine", base: defaultAPI, want: "none"},
		{name: "a custom domain", base: "https://backstop.example.com", want: "none"},
		{name: "a custom domain, signed", base: "https://backstop.example.com", conn: connection{sign: true}, want: "us-west-2"},
		{name: "a host that only sounds like it", base: "https://my-execute-api.example.com", want: "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("BACKSTOP_TOKEN", c.token)
			got := "none"
			transport, err := c.conn.transport(t.Context(), c.base)
			switch tr := transport.(type) {
			case *client.Signer:
				got = tr.Region
			case *client.Bearer:
				got = "bearer"
			}
			if err != nil || got != c.want {
				t.Errorf("got %s (%v), want %s", got, err, c.want)
			}
		})
	}

	t.Run("a signed request", func(t *testing.T) {
		api := newAPI(t, ok(`{"sinks":[]}`))
		r := run(t, "sinks", "--sign")
		r.want(t, 0, "", "")
		h := api.headers[0]
		if auth := h.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIDTEST/") || !strings.Contains(auth, "/us-west-2/execute-api/aws4_request") ||
			h.Get("X-Amz-Date") == "" || h.Get("X-Amz-Security-Token") != "session-token" {
			t.Errorf("headers %v", h)
		}
	})
	t.Run("a token", func(t *testing.T) {
		api := newAPI(t, ok(`{"sinks":[]}`))
		run(t, "sinks", "--token", "jwt-1").want(t, 0, "", "")
		if got := api.headers[0].Get("Authorization"); got != "Bearer jwt-1" {
			t.Errorf("Authorization %q", got)
		}
		run(t, "sinks", "--token", "jwt-1", "--api", "http://192.0.2.1").want(t, 5, "", "a token is only sent over https")
	})
	t.Run("no credentials", func(t *testing.T) {
		t.Setenv("AWS_ACCESS_KEY_ID", "")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "")
		api := newAPI(t, ok(`{"sinks":[]}`))
		run(t, "sinks", "--sign").want(t, exitUnauthorized, "", "no AWS credentials were found")
		if n := len(api.asked()); n > 0 {
			t.Errorf("%d calls, want none", n)
		}
	})
	t.Run("no region", func(t *testing.T) {
		t.Setenv("AWS_REGION", "")
		newAPI(t, ok(`{"sinks":[]}`))
		run(t, "sinks", "--sign").want(t, exitUsage, "", "set AWS_REGION")
	})
}

// command is the command itself, as a process.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return commandContext(t.Context(), args...)
}

func commandContext(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(os.Environ(), asCLI+"=1")
	return c
}

func TestAReaderThatHasSeenEnoughIsNoError(t *testing.T) {
	page := `{"items":[` + strings.TrimSuffix(strings.Repeat(oneRow+",", 900), ",") + `],"next_cursor":null}`
	for _, args := range [][]string{{"dlq", "list", "--limit", "900"}, {"dlq", "list", "--limit", "900", "-o", "json"}, {"dlq", "export"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			newAPI(t, reply{status: 200, body: page + "\n"})
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			r.Close() // as head does after its first line
			c := command(t, args...)
			var stderr bytes.Buffer
			c.Stdout, c.Stderr = w, &stderr
			_ = c.Run() // a signal (SIGPIPE), as for any other program at the head of a pipe
			w.Close()
			if strings.Contains(stderr.String(), "backstop:") {
				t.Errorf("standard error: %s", stderr.String())
			}
			if code := c.ProcessState.ExitCode(); code > 0 {
				t.Errorf("exit code %d, want 0 or the signal", code)
			}
		})
	}
	t.Run("where the signal is missing", func(t *testing.T) {
		newAPI(t, ok(page))
		root := newRoot()
		var stderr bytes.Buffer
		root.SetArgs([]string{"dlq", "list"})
		root.SetOut(brokenPipe{})
		root.SetErr(&stderr)
		if code := execute(t.Context(), root, &stderr); code != 0 || stderr.Len() > 0 {
			t.Errorf("exit code %d, standard error %q", code, stderr.String())
		}
	})
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) {
	return 0, &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}
}

func TestCtrlCStopsTheProcessWith130(t *testing.T) {
	for _, c := range []struct {
		args    []string
		replies []reply // the last one for ever
	}{
		{[]string{"dlq", "operations", "wait", "op-1"}, []reply{operation("running", 1, 0)}},
		{append(slices.Clone(bulkArgs), "--yes"), []reply{dryRun(3), created(), operation("running", 1, 0)}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			api := newAPI(t, c.replies...)
			p := command(t, c.args...)
			var stderr bytes.Buffer
			p.Stderr = &stderr
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			tick := time.NewTicker(5 * time.Millisecond)
			defer tick.Stop()
			for end := time.Now().Add(20 * time.Second); len(api.asked()) < len(c.replies)+1; <-tick.C {
				if time.Now().After(end) {
					t.Fatal("no second poll within 20 s")
				}
			}
			if err := p.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			_ = p.Wait() // the exit code says it
			if code := p.ProcessState.ExitCode(); code != exitInterrupted {
				t.Errorf("exit code %d, want %d", code, exitInterrupted)
			}
			for _, next := range []string{"The operation goes on without you.", "backstop dlq operations wait op-1\n", "backstop dlq operations cancel op-1\n"} {
				if !strings.Contains(stderr.String(), next) {
					t.Errorf("standard error lacks %q:\n%s", next, stderr.String())
				}
			}
		})
	}
}

// An operator's session has expired: API Gateway refuses the signed request.
func TestExpiredCredentialsAreNamedAndNothingIsRepeated(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "ASIAEXPIRED")
	t.Setenv("AWS_SECRET_ACCESS_KEY", awsSecret)
	t.Setenv("AWS_SESSION_TOKEN", "session-token")
	t.Setenv("AWS_REGION", "eu-central-1")
	expired := reply{
		status: 403, body: `{"message":"The security token included in the request is expired"}`,
		header: http.Header{"Content-Type": {"application/json"}, "X-Amzn-Errortype": {"ExpiredTokenException"}},
	}
	for _, args := range [][]string{
		{"sinks"},
		{"send", "--sink", "mail", "--body", "x", "--id", "d1"},
		{"dlq", "replay", "mail~1-0"},
		{"dlq", "replay", "--sink", "mail", "--yes"},
		{"dlq", "operations", "wait", "op-1"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			api := newAPI(t, expired)
			r := run(t, append(args, "--sign")...)
			r.want(t, exitUnauthorized, "", "The security token included in the request is expired (HTTP 403)")
			r.want(t, exitUnauthorized, "", "renew the credentials (aws sso login)")
			if n := len(api.asked()); n != 1 {
				t.Errorf("%d calls, want 1", n)
			}
			h := api.headers[0]
			if auth := h.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=ASIAEXPIRED/") || h.Get("X-Amz-Security-Token") != "session-token" {
				t.Errorf("the request was not signed: %v", h)
			}
			for _, secret := range []string{awsSecret, "session-token", "AWS4-HMAC"} {
				if strings.Contains(r.out+r.err, secret) {
					t.Errorf("%q is shown:\n%s%s", secret, r.out, r.err)
				}
			}
		})
	}
}
