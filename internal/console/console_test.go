package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"backstop/client"
	"backstop/internal/console"
	"backstop/internal/problem"
)

// upstream is an API that remembers the requests and answers with what answer says.
type upstream struct {
	*httptest.Server
	answer func(http.ResponseWriter)

	mu     sync.Mutex
	got    []*http.Request
	bodies []string
}

// requests are those that came, with their bodies.
func (u *upstream) requests() ([]*http.Request, []string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.got), slices.Clone(u.bodies)
}

func startUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{answer: func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{}`) }}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body) // one that is cut off is one that was refused
		u.mu.Lock()
		u.got, u.bodies = append(u.got, r), append(u.bodies, string(b))
		u.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		u.answer(w)
	}))
	t.Cleanup(u.Close)
	return u
}

func newConsole(t *testing.T, o console.Options) http.Handler {
	t.Helper()
	h, err := console.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// ask sends one request to a console at 127.0.0.1:3003.
func ask(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:3003"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func codeOf(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var p problem.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Header().Get("Content-Type") != problem.ContentType {
		t.Errorf("%d %q is no problem: %v", w.Code, w.Body, err)
	}
	return string(p.Code)
}

func TestOnlyLoopbackHostsAreAnswered(t *testing.T) {
	u := startUpstream(t)
	h := newConsole(t, console.Options{API: u.URL})
	for host, ok := range map[string]bool{
		"127.0.0.1:3003": true, "localhost:3003": true, "localhost": true, "[::1]:3003": true, "[::1]": true, "127.0.0.1": true, "localhost:8080": true,
		"attacker.example:3003": false, "127.0.0.1.attacker.example:3003": false, "localhost.attacker.example": false,
		"192.168.1.7:3003": false, "0.0.0.0:3003": false, "": false, "[::]:3003": false, "localhost:3003:1": false,
	} {
		for _, path := range []string{"/", "/assets/app.js", "/v1/sinks"} {
			w := ask(h, http.MethodGet, path, "", "Host", host)
			if ok && w.Code != http.StatusOK || !ok && w.Code != http.StatusMisdirectedRequest {
				t.Errorf("Host %q: GET %s answers %d", host, path, w.Code)
			}
			if !ok && codeOf(t, w) != "CONSOLE_FORBIDDEN" {
				t.Errorf("Host %q: GET %s answers %s", host, path, w.Body)
			}
		}
	}
}

func TestOtherSitesRequestsAreRefused(t *testing.T) {
	u := startUpstream(t)
	h := newConsole(t, console.Options{API: u.URL})
	for _, c := range []struct {
		name    string
		headers []string
		ok      bool
	}{
		{"a program", nil, true},
		{"the page itself", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:3003"}, true},
		{"the address bar", []string{"Sec-Fetch-Site", "none"}, true},
		{"the page, in a browser without fetch metadata", []string{"Origin", "http://127.0.0.1:3003"}, true},
		{"another site", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://attacker.example"}, false},
		{"another site, without Origin", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"another port of this machine", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:8080"}, false},
		{"another site, in a browser without fetch metadata", []string{"Origin", "https://attacker.example"}, false},
		{"a sandboxed frame", []string{"Origin", "null"}, false},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			before, _ := u.requests()
			w := ask(h, method, "/v1/dlq/items", "", c.headers...)
			after, _ := u.requests()
			if came := len(after) - len(before); c.ok != (w.Code == http.StatusOK) || c.ok != (came == 1) {
				t.Errorf("%s: %s answers %d, and the API got %d requests", c.name, method, w.Code, came)
			}
			if !c.ok && (w.Code != http.StatusForbidden || codeOf(t, w) != "CONSOLE_FORBIDDEN") {
				t.Errorf("%s: %s answers %d %s", c.name, method, w.Code, w.Body)
			}
		}
	}
}

func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	u := startUpstream(t)
	u.answer = func(w http.ResponseWriter) {
		w.Header().Set("Content-Security-Policy", "default-src *")
		w.Header().Set("Cache-Control", "public, max-age=3600")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Header().Set("Set-Cookie", "a=b")
	}
	h := newConsole(t, console.Options{API: u.URL})
	const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
		"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
	for _, path := range []string{"/", "/assets/app.css", "/v1/sinks", "/nowhere"} {
		w := ask(h, http.MethodGet, path, "")
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
			"Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
			"Access-Control-Allow-Origin": "", "Set-Cookie": "",
		} {
			if got := strings.Join(w.Header().Values(name), " | "); got != want {
				t.Errorf("GET %s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}

// The page needs nothing but what is embedded, and has no inline code or style.
func TestThePageIsSelfContained(t *testing.T) {
	h := newConsole(t, console.Options{API: "https://abc123.execute-api.eu-central-1.amazonaws.com/prod/"})
	page := ask(h, http.MethodGet, "/", "").Body.String()
	if !strings.Contains(page, "https://abc123.execute-api.eu-central-1.amazonaws.com/prod<") {
		t.Error("the page does not name its API")
	}
	if inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son\w+=|<script[^>]*>[^<]|javascript:`).FindString(page); inline != "" {
		t.Errorf("the page has inline code or style: %s", inline)
	}
	named := regexp.MustCompile(`(?:src|href)="(/[^"]*)"`).FindAllStringSubmatch(page, -1)
	types := map[string]string{"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
	outside := regexp.MustCompile(`https?://[^\s"')]*`)
	entries, err := fs.ReadDir(os.DirFS("assets"), ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "index.html" {
			named = append(named, []string{"", "/assets/" + e.Name()})
		}
	}
	if len(named) < 10 {
		t.Fatalf("only %d assets", len(named))
	}
	for _, m := range named {
		w := ask(h, http.MethodGet, m[1], "")
		ext := m[1][strings.LastIndex(m[1], ".")+1:]
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != types[ext] {
			t.Errorf("GET %s answers %d %s", m[1], w.Code, w.Header().Get("Content-Type"))
		}
		for _, u := range outside.FindAllString(w.Body.String(), -1) {
			if u != "http://www.w3.org/2000/svg" { // the name of a namespace
				t.Errorf("%s names %s", m[1], u)
			}
		}
		if ext == "js" && regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser|\.style\b`).MatchString(w.Body.String()) {
			t.Errorf("%s makes markup or code from text", m[1])
		}
		// Dead letters are not for the browser's disk.
		if ext == "js" && m[1] != "/assets/settings.js" && regexp.MustCompile(`localStorage|sessionStorage|indexedDB|\bcaches\b`).MatchString(w.Body.String()) {
			t.Errorf("%s keeps something in the browser", m[1])
		}
	}
	for _, path := range []string{"/assets/", "/assets/index.html", "/assets/nothing.js", "/assets/..%2fconsole.go", "/favicon.ico", "/index.html"} {
		if w := ask(h, http.MethodGet, path, ""); w.Code != http.StatusNotFound {
			t.Errorf("GET %s answers %d, want 404", path, w.Code)
		}
	}
	if w := ask(h, http.MethodPost, "/", ""); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST / answers %d, want 405", w.Code)
	}
}

// The proxy passes on the parts that the API needs, and nothing else: no cookie, no
// credentials of the console's own user.
func TestProxyPassesOnWhatTheAPIMustKnow(t *testing.T) {
	u := startUpstream(t)
	u.answer = func(w http.ResponseWriter) {
		w.Header().Set("ETag", `"tag"`)
		w.Header().Set("Retry-After", "5")
		w.Header().Set("X-Internal", "no")
		w.WriteHeader(http.StatusConflict)
		_, _ = io.WriteString(w, `{"code":"ITEM_LEASED"}`)
	}
	h := newConsole(t, console.Options{API: u.URL + "/prod", Transport: &client.Bearer{Token: "the-token"}})
	w := ask(h, http.MethodPost, "/v1/dlq/items/webhook-demo~1-1/replay?x=a%2Fb", `{"sink":"other"}`,
		"Content-Type", "application/json", "If-Match", `"old"`, "Idempotency-Key", "k", "Accept", "application/json",
		"Cookie", "session=secret", "Authorization", "Basic c2VjcmV0", "Origin", "http://127.0.0.1:3003", "Referer", "http://127.0.0.1:3003/", "X-Forwarded-For", "1.2.3.4", "X-Other", "1")
	if w.Code != http.StatusConflict || w.Body.String() != `{"code":"ITEM_LEASED"}` || w.Header().Get("Etag") != `"tag"` || w.Header().Get("Retry-After") != "5" || w.Header().Get("X-Internal") != "" {
		t.Errorf("the answer is %d %v %s", w.Code, w.Header(), w.Body)
	}
	requests, bodies := u.requests()
	r := requests[0]
	if got, want := r.Method+" "+r.RequestURI, "POST /prod/v1/dlq/items/webhook-demo~1-1/replay?x=a%2Fb"; got != want {
		t.Errorf("the API got %s, want %s", got, want)
	}
	if bodies[0] != `{"sink":"other"}` || "http://"+r.Host != u.URL {
		t.Errorf("the API got body %q for host %s", bodies[0], r.Host)
	}
	want := http.Header{
		"Accept": {"application/json"}, "Accept-Encoding": {"gzip"}, "Authorization": {"Bearer the-token"}, "Content-Length": {"16"}, "Content-Type": {"application/json"},
		"Idempotency-Key": {"k"}, "If-Match": {`"old"`}, "User-Agent": {"backstop-console"},
	}
	for name, values := range r.Header {
		if strings.Join(values, "|") != strings.Join(want[name], "|") {
			t.Errorf("the API got %s: %q, want %q", name, values, want[name])
		}
	}
	for name := range want {
		if r.Header.Get(name) == "" {
			t.Errorf("the API did not get %s", name)
		}
	}
}

// noCredentials is a provider whose session has ended.
type noCredentials struct{}

func (noCredentials) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{}, errors.New("the SSO session has expired")
}

func TestFailuresOnTheWayAreProblems(t *testing.T) {
	redirecting := startUpstream(t)
	redirecting.answer = func(w http.ResponseWriter) {
		w.Header().Set("Location", "https://elsewhere.example/")
		w.WriteHeader(http.StatusFound)
	}
	dropping := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer dropping.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for _, c := range []struct {
		name   string
		o      console.Options
		body   string
		status int
		code   string
		detail string
	}{
		{"nobody listens", console.Options{API: closed.URL}, "", 502, "CONSOLE_API_UNREACHABLE", "connection refused"},
		{"no answer", console.Options{API: dropping.URL}, "", 502, "CONSOLE_API_UNREACHABLE", "closed without an answer"},
		{"a redirect", console.Options{API: redirecting.URL}, "", 502, "CONSOLE_API_UNREACHABLE", "not Backstop's API"},
		{
			"no credentials",
			console.Options{API: redirecting.URL, Transport: &client.Signer{Credentials: noCredentials{}, Region: "eu-central-1"}},
			"", 502, "CONSOLE_CREDENTIALS", "the SSO session has expired",
		},
		{"too large", console.Options{API: redirecting.URL}, strings.Repeat("x", 6<<20), 413, "BODY_TOO_LARGE", "at most 5242880 bytes"},
	} {
		w := ask(newConsole(t, c.o), http.MethodPost, "/v1/dlq/items?q=ann@example.com", c.body)
		if w.Code != c.status || codeOf(t, w) != c.code || !strings.Contains(w.Body.String(), c.detail) {
			t.Errorf("%s: %d %s, want %d %s with %q", c.name, w.Code, w.Body, c.status, c.code, c.detail)
		}
		if strings.Contains(w.Body.String(), "ann@") {
			t.Errorf("%s: the problem shows the query: %s", c.name, w.Body)
		}
	}
}

// Signed requests carry a signature of what is really sent.
func TestRequestsAreSigned(t *testing.T) {
	u := startUpstream(t)
	credentials := aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "the-secret-key", SessionToken: "the-session-token"}, nil
	})
	h := newConsole(t, console.Options{API: u.URL, Transport: &client.Signer{Credentials: credentials, Region: "eu-central-1"}})
	w := ask(h, http.MethodPost, "/v1/dlq/operations", `{"action":"replay","all":true}`, "Content-Type", "application/json")
	if w.Code != http.StatusOK {
		t.Fatalf("answer %d %s", w.Code, w.Body)
	}
	requests, bodies := u.requests()
	if got := requests[0].Header.Get("Authorization"); !strings.Contains(got, "Credential=AKIDEXAMPLE/") || !strings.Contains(got, "/eu-central-1/execute-api/aws4_request") {
		t.Errorf("Authorization is %q", got)
	}
	if bodies[0] != `{"action":"replay","all":true}` {
		t.Errorf("the body is %q", bodies[0])
	}
	for name, values := range w.Header() {
		if s := strings.Join(values, " "); strings.Contains(s, "the-secret-key") || strings.Contains(s, "the-session-token") {
			t.Errorf("the answer's %s shows a secret: %s", name, s)
		}
	}
}

func TestUnusableURLsAreRefusedWithoutShowingThem(t *testing.T) {
	for _, api := range []string{"", "abc", "ftp://example.com", "https://ann:hunter2@example.com", "https://example.com?token=hunter2", "https://example.com:%zz/hunter2"} {
		if _, err := console.New(console.Options{API: api}); err == nil {
			t.Errorf("%q is taken", api)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error for %q shows a secret: %v", api, err)
		}
	}
}

func TestStartListensOnLoopbackOnly(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0", "127.0.0.1"} {
		if s, err := console.Start(t.Context(), addr, console.Options{API: "http://127.0.0.1:1"}); err == nil {
			_ = s.Close()
			t.Errorf("it listens on %s", addr)
		} else if !strings.Contains(err.Error(), addr) {
			t.Errorf("the error for %s does not name it: %v", addr, err)
		}
	}
	s, err := console.Start(t.Context(), "", console.Options{API: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Get(s.URL) //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if host, _, err := net.SplitHostPort(strings.TrimPrefix(s.URL, "http://")); err != nil || host != "127.0.0.1" || resp.StatusCode != http.StatusOK {
		t.Errorf("%s answers %d", s.URL, resp.StatusCode)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := http.Get(s.URL); err == nil { //nolint:noctx,bodyclose // it is closed
		t.Error("it still answers after Close")
	}
}
