package functions_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/internal/lambdahost"
	"backstop/internal/local"
)

// The secrets of the sweep, by the field that holds them. Each is found by its text, so
// none is part of another.
var planted = map[string]string{
	"url user":         "Zq7urluser01",
	"url password":     "Zq7urlpass02",
	"url path":         "Zq7urlpath03",
	"url query":        "Zq7urlquery04",
	"header":           "Zq7header05",
	"custom header":    "Zq7xheader06",
	"signing secret":   "Zq7signing07aaaaaaaaaaaaaaaaaaaa",
	"slack path":       "Zq7slackpath08",
	"smtp password":    "Zq7smtppass09",
	"ssm reference":    "Zq7reference10",
	"proxy password":   "Zq7proxypass11",
	"redis password":   "Zq7redispass12",
	"environment typo": "Zq7envtypo13",
	"AWS secret key":   "Zq7awssecret15",
	"AWS session":      "Zq7awssession16",
	"API token":        "Zq7apitoken17",
	"API password":     "Zq7apipass18",
	"credentials file": "Zq7credfile19",
	// Whose dead letters were erased. There is no trace of the person afterwards.
	"erased person": "Zq7erased20",
}

// callerToken is in a URL that a caller gives: it is kept with its dead letter, and
// shown nowhere else.
const callerToken = "Zq7caller14"

// sweep collects everything that a run of the functions shows to anybody.
type sweep struct {
	mu     sync.Mutex
	texts  []struct{ where, text string }
	called []string // "METHOD path"
}

func (s *sweep) add(where, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts = append(s.texts, struct{ where, text string }{where, text})
}

// forms are the ways in which a secret may be written, all in lower case.
func forms(secret string) []string {
	out := []string{secret, hex.EncodeToString([]byte(secret)), url.QueryEscape(secret)}
	for lead := range 3 { // the positions of a text within base64
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", lead) + secret))
		out = append(out, encoded[4*((lead+2)/3):len(encoded)-4])
	}
	for i := range out {
		out[i] = strings.ToLower(out[i])
	}
	return out
}

// hits names the secrets that a text shows.
func hits(text string, secrets map[string]string) []string {
	text = strings.ToLower(text)
	var out []string
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		if slices.ContainsFunc(forms(secrets[name]), func(form string) bool { return strings.Contains(text, form) }) {
			out = append(out, name)
		}
	}
	return out
}

// wantClean fails for every text that shows a secret.
func (s *sweep) wantClean(t *testing.T, atLeast int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.texts) < atLeast {
		t.Errorf("only %d texts were swept, want at least %d: the run did not do what it should", len(s.texts), atLeast)
	}
	for _, x := range s.texts {
		secrets := planted
		if !strings.HasPrefix(x.where, "kept: ") {
			secrets = maps.Clone(planted)
			secrets["caller's URL"] = callerToken
		}
		if found := hits(x.text, secrets); len(found) > 0 {
			t.Errorf("%s shows %q:\n%.2000s", x.where, found, x.text)
		}
	}
}

// wantEveryRoute fails for each route of the API's description that was not called.
func (s *sweep) wantEveryRoute(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile("../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parameter, routes, path := regexp.MustCompile(`\\\{[a-z]+\\\}`), 0, ""
	for line := range strings.Lines(string(page)) {
		if m := regexp.MustCompile(`^  (/\S+):`).FindStringSubmatch(line); m != nil {
			path = m[1]
		}
		m := regexp.MustCompile(`^    (get|post|put|patch|delete):`).FindStringSubmatch(line)
		if m == nil {
			continue
		}
		routes++
		route := regexp.MustCompile("^" + strings.ToUpper(m[1]) + " " + parameter.ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")
		if !slices.ContainsFunc(s.called, route.MatchString) {
			t.Errorf("%s %s was not called", strings.ToUpper(m[1]), path)
		}
	}
	if routes < 21 {
		t.Errorf("the description has %d routes: it was not read right", routes)
	}
}

func TestTheSweepFindsWhatItLooksFor(t *testing.T) {
	secret := "Zq7header05"
	for _, text := range []string{
		secret, "Bearer " + secret + ".", strings.ToUpper(secret), hex.EncodeToString([]byte("a" + secret)),
		base64.StdEncoding.EncodeToString([]byte("user:" + secret)), base64.StdEncoding.EncodeToString([]byte("\x00u\x00" + secret + "12")),
		base64.StdEncoding.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte("abcd" + secret)),
	} {
		if got := hits(text, planted); !slices.Equal(got, []string{"header"}) {
			t.Errorf("hits(%q) = %q, want the header", text, got)
		}
	}
	if got := hits("[redacted] https://receiver.example", planted); got != nil {
		t.Errorf("hits in a clean text: %q", got)
	}
}

// swept is a stack whose every output is collected.
type swept struct {
	*sweep
	*local.Stack
}

// startSwept starts a stack with all logging on; its output goes to the sweep.
func startSwept(t *testing.T, sw *sweep, o local.Options) swept {
	t.Helper()
	o.Bin = built(t)
	o.Env = maps.Clone(o.Env)
	o.Env["AWS_LAMBDA_LOG_LEVEL"] = "DEBUG"
	o.Env["AWS_ACCESS_KEY_ID"], o.Env["AWS_SECRET_ACCESS_KEY"], o.Env["AWS_SESSION_TOKEN"] = "AKIDSWEEP", planted["AWS secret key"], planted["AWS session"]
	o.Output = func(f, line string) { sw.add("output of "+f, line) }
	o.Logger = slog.New(slog.NewTextHandler(writer(func(b []byte) { sw.add("log of the host", string(b)) }), nil))
	s, err := local.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return swept{sw, s}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) {
	w(b)
	return len(b), nil
}

// api calls the HTTP API and sweeps the answer. kept says that it may show what a
// caller sent: a dead letter in full.
func (s swept) api(t *testing.T, kept bool, method, path, body string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.APIURL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if path == "/v1/dlq/import" {
		req.Header.Set("Content-Type", "application/x-ndjson")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return answer{}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.called = append(s.called, method+" "+req.URL.Path)
	s.mu.Unlock()
	where := "answer to " + method + " " + path
	if kept {
		where = "kept: " + where
	}
	s.add(where, fmt.Sprint(resp.StatusCode, resp.Header, string(b)))
	a := answer{status: resp.StatusCode, header: resp.Header, raw: string(b)}
	_ = json.Unmarshal(b, &a.body) // not every answer is JSON
	return a
}

// function invokes a function directly and sweeps what it answers.
func (s swept) function(t *testing.T, name string, payload []byte) {
	t.Helper()
	res, err := s.Host.Invoke(t.Context(), lambdahost.Invocation{Function: name, Payload: payload})
	if err != nil {
		t.Errorf("invoke %s: %v", name, err)
	}
	s.add("result of "+name, fmt.Sprint(string(res.Payload), res.FunctionError, res.ErrorType))
}
