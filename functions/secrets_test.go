package functions_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"backstop/internal/inbox"
	"backstop/internal/local"
	"backstop/internal/redistest"
	"backstop/lib/lambdahost"
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
}

// callerToken is in a URL that a caller gives: it is kept with its dead letter, and
// shown nowhere else.
const callerToken = "Zq7caller14"

// sweep collects everything that a run of the functions shows to anybody.
type sweep struct {
	mu    sync.Mutex
	texts []struct{ where, text string }
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
	o.Bin = binaries
	o.Env = maps.Clone(o.Env)
	o.Env["AWS_LAMBDA_LOG_LEVEL"] = "DEBUG"
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

// routes calls every route of the API, with every item, and replays all.
func (s swept) routes(t *testing.T, sinks []string) {
	t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, path := range []string{
		"/v1/sinks", "/v1/dlq/items", "/v1/dlq/items?limit=3&q=x", "/v1/dlq/count", "/v1/dlq/groups", "/v1/dlq/operations",
		"/v1/dlq/items?reason=config", "/v1/nothing", "/v1/dlq/items/none", "/v1/openapi.yaml", "/v1/deliveries?sink=nobody&id=none",
	} {
		s.api(t, false, "GET", path, "")
	}
	s.api(t, true, "GET", "/v1/dlq/export", "")
	list := s.api(t, false, "GET", "/v1/dlq/items?limit=500", "")
	items, _ := list.body["items"].([]any)
	if len(items) == 0 {
		t.Fatalf("no dead letters to look at: %d %s", list.status, list.raw)
	}
	s.function(t, local.Replay, []byte(`{"limit":20}`))
	limit := make(chan struct{}, 8)
	seen := map[any]bool{}
	for i, it := range items {
		m, _ := it.(map[string]any)
		id, _ := m["id"].(string)
		if seen[m["sink"]] {
			continue // one of each sink
		}
		seen[m["sink"]] = true
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			s.api(t, false, "POST", "/v1/dlq/items/"+id+"/replay", `{"on_success":"keep"}`)
			s.api(t, true, "GET", "/v1/dlq/items/"+id, "")
			if i%8 == 0 {
				s.api(t, true, "POST", "/v1/dlq/items/"+id+"/unpark", "")
			}
		})
	}
	for _, sink := range sinks[:10] {
		s.api(t, false, "GET", "/v1/deliveries?sink="+sink+"&id=m-"+sink, "")
	}
	s.api(t, false, "POST", "/v1/sinks/"+sinks[0]+"/pause", "")
	s.api(t, false, "POST", "/v1/sinks/"+sinks[0]+"/resume", "")
	s.api(t, false, "POST", "/v1/dlq/operations", `{"action":"replay","filter":{"sink":"`+sinks[0]+`"},"reason":"sweep"}`)
}

// echo is a receiver that answers with everything that it was sent, in the way that
// the last part of the path names.
func echo(w http.ResponseWriter, r *http.Request) {
	dump, _ := httputil.DumpRequest(r, true)
	user, pass, _ := r.BasicAuth()
	said := fmt.Sprintf("%s %s %s %s", r.URL, user, pass, dump)
	mode := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	if code, err := strconv.Atoi(mode); err == nil {
		w.Header().Set("X-Echo", strings.Join(strings.Fields(said), " "))
		w.Header().Set("Location", r.URL.String()+"&again")
		w.Header().Set("Retry-After", r.URL.String())
		w.WriteHeader(code)
		_, _ = io.WriteString(w, said)
		return
	}
	if mode == "hang" {
		<-r.Context().Done()
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	line := strings.Join(strings.Fields(said), " ")
	for name, text := range map[string]string{
		"garbage":   said,
		"status":    "HTTP/1.1 2x0 " + line + "\r\n\r\n",
		"version":   "HTTP/" + line + " 200 OK\r\n\r\n",
		"header":    "HTTP/1.1 200 OK\r\n" + line + "\r\n\r\n",
		"length":    "HTTP/1.1 200 OK\r\nContent-Length: " + line + "\r\n\r\n",
		"encoding":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + line + "\r\n\r\n",
		"chunk":     "HTTP/1.1 500 " + line + "\r\nTransfer-Encoding: chunked\r\n\r\n" + line + "\r\n",
		"cut":       "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + said,
		"continue":  "HTTP/1.1 100 " + line + "\r\n\r\n",
		"switching": "HTTP/1.1 101 " + line + "\r\nUpgrade: " + line + "\r\n\r\n",
	} {
		if name == mode {
			_, _ = io.WriteString(conn, text)
		}
	}
}

var echoModes = []string{
	"200", "204", "301", "307", "400", "401", "403", "404", "407", "408", "410", "429", "500", "503", "hang", "garbage", "status", "version",
	"header", "length", "encoding", "chunk", "cut", "continue", "switching", "reset",
}

// faultyBlocks are configurations with secrets that cannot be used.
func faultyBlocks() []string {
	p := planted
	whole := "https://" + p["url user"] + ":" + p["url password"] + "@receiver.example/" + p["url path"] + "?k=" + p["url query"]
	signing := "whsec_" + base64.StdEncoding.EncodeToString([]byte(p["signing secret"]))
	return []string{
		"kind: webhook\nurl: [" + whole + "]\n",
		"kind: webhook\nurl: {" + p["url path"] + "}\n",
		"kind: webhook\nurl: {" + p["url path"] + ": " + p["url query"] + "}\n",
		"kind: webhook\nurl: " + strings.Replace(whole, "https", "ftp", 1) + "\n",
		"kind: webhook\nurl: " + strings.Replace(whole, "receiver.example", "receiver.example:port", 1) + "\n",
		"kind: webhook\nurl: " + strings.Replace(whole, "receiver.example", "[::1", 1) + "\n",
		"kind: webhook\nurl: \"" + strings.Replace(whole, "receiver", "\\x7f", 1) + "\"\n",
		"kind: webhook\nurl: " + strings.Replace(whole, "?k=", "%zz?k=", 1) + "\n",
		"kind: webhook\nurl " + whole + "\n",
		"kind: webhook\nurl: '" + whole + "\n",
		"kind: webhook\nurl: *" + p["url path"] + "\n",
		"kind: webhook\nurl: !" + p["url path"] + " x\n",
		"kind: webhook\nurl: {ssm: " + p["url path"] + "}\n",
		"kind: webhook\nurl: {ssm: /backstop/denied}\n",
		"kind: webhook\nurl: {ssm: /backstop/absent}\nheaders: {A: {ssm: /backstop/secret}, Host: {ssm: /backstop/secret}}\n",
		"kind: webhook\nurl: {ssm: /backstop/secret}\nformat: {ssm: /backstop/secret}\n",
		"kind: webhook\nurl: " + whole + "\nheaders: [" + p["header"] + "]\n",
		"kind: webhook\nurl: " + whole + "\nheaders: {Authorization: Bearer, " + p["header"] + "}\n",
		"kind: webhook\nurl: " + whole + "\nheaders: {Authorization: [" + p["header"] + "]}\n",
		"kind: webhook\nurl: " + whole + "\nheaders: {Host: " + p["header"] + "}\n",
		"kind: webhook\nurl: " + whole + "\nheaders: {X-A: \"a\\r\\nb" + p["header"] + "\"}\n",
		"kind: webhook\nurl: " + whole + "\nheaders: {\"Bearer " + p["header"] + "\": x}\n",
		"kind: webhook\nurl: " + whole + "\nsigning_secrets: " + signing + "\n",
		"kind: webhook\nurl: " + whole + "\nsigning_secrets: [whsec_!" + p["signing secret"] + "]\n",
		"kind: webhook\nurl: " + whole + "\nsigning_secrets: [{" + signing + "}]\n",
		"kind: webhook\nurl: " + whole + "\nformat: " + p["header"] + "\n",
		"kind: webhook\nurl: " + whole + "\non_ambiguous: " + p["header"] + "\n",
		"kind: webhook\nurl: " + whole + "\nallowed_hosts: [" + whole + "]\n",
		"kind: webhook\nurl: " + whole + "\nretry: " + p["header"] + "\n",
		"kind: webhook\nurl: " + whole + "\nretry: {base_backoff: " + p["header"] + ", max_attempts: " + p["header"] + "}\n",
		"kind: webhook\nurl: " + whole + "\nurl: " + whole + "\n",
		"kind: " + p["header"] + "\nurl: " + whole + "\n",
		"kind: webhook\nurls: " + whole + "\n",
		whole + "\n",
		"- " + whole + "\n",
		"kind: webhook\n---\nurl: " + whole + "\n",
		"kind: webhook\n\turl: " + whole + "\n",
		"kind: slack\nwebhook_url: /services/" + p["slack path"] + "\n",
		"kind: slack\nwebhook_url: hooks.slack.com/services/" + p["slack path"] + "\n",
		"kind: slack\nwebhook_url: {https://hooks.slack.com/services/" + p["slack path"] + "}\n",
		"kind: slack\nwebhook-url: https://hooks.slack.com/services/" + p["slack path"] + "\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: a@b.example\nauth_user: u\nauth_pass: [" + p["smtp password"] + "]\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: a@b.example\nauth_user: u\nauth_pass: {" + p["smtp password"] + "}\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: a@b.example\nauth_pass: " + p["smtp password"] + "\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: a@b.example\nauth_user: u\nauth_pass: " + p["smtp password"] + "\ntls: none\n",
		"kind: email\nsmtp_addr: u:" + p["smtp password"] + "@mx.example:25\nfrom: a@b.example\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: " + p["smtp password"] + "\n",
		"kind: email\nsmtp_addr: mx.example:25\nfrom: a@b.example\ntls: " + p["smtp password"] + "\n",
	}
}

// sweptSinks writes the sinks of the sweep and returns their names.
func sweptSinks(t *testing.T, dir string, receivers map[string]string) []string {
	t.Helper()
	var names []string
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	p := planted
	quick := "retry: {max_attempts: 2, base_backoff: 10ms, attempt_timeout: 400ms}\n"
	webhook := func(scheme, host, mode string) string {
		return "kind: webhook\n" + quick +
			"url: " + scheme + "://" + p["url user"] + ":" + p["url password"] + "@" + host + "/" + p["url path"] + "/" + mode + "?k=" + p["url query"] + "#f\n" +
			"headers: {Authorization: Bearer " + p["header"] + ", X-Api-Key: " + p["custom header"] + ", X-Referred: {ssm: /backstop/secret}}\n" +
			"signing_secrets: [whsec_" + base64.StdEncoding.EncodeToString([]byte(p["signing secret"])) + "]\nallow_private_recipients: true\n"
	}
	slack := func(scheme, host, mode string) string {
		return "kind: slack\n" + quick + "webhook_url: " + scheme + "://" + host + "/services/" + p["slack path"] + "/" + mode + "\n"
	}
	for _, mode := range echoModes {
		write("webhook-"+mode, webhook("http", receivers["plain"], mode))
		write("slack-"+mode, slack("http", receivers["plain"], mode))
	}
	// Without a header of its own, the URL's credentials are what is sent.
	write("webhook-basic", strings.Replace(webhook("http", receivers["plain"], "401"), "Authorization", "X-Authorization", 1))
	for what, at := range map[string][2]string{
		"bad-certificate": {"https", receivers["tls"]},
		"no-tls":          {"https", receivers["plain"]},
		"no-http":         {"http", receivers["tls"]},
		"refused":         {"http", receivers["closed"]},
		"no-host":         {"http", "nosuch.invalid:1"},
		"smtp":            {"http", receivers["smtp"]},
		"bad-proxy":       {"http", "receiver.proxied.example"},
	} {
		write("webhook-"+what, webhook(at[0], at[1], "200"))
		write("slack-"+what, slack(at[0], at[1], "200"))
	}
	email := "kind: email\n" + quick + "from: a@b.example\nauth_user: robot\nauth_pass: " + p["smtp password"] + "\n"
	write("email-mail", email+"tls: none\nsmtp_addr: "+receivers["smtp"]+"\n")
	write("email-starttls", email+"smtp_addr: "+receivers["smtp"]+"\n")
	write("email-implicit", email+"tls: implicit\nsmtp_addr: "+receivers["tls"]+"\n")
	write("email-http", email+"tls: none\nsmtp_addr: "+receivers["plain"]+"\n")
	write("email-refused", email+"tls: none\nsmtp_addr: "+receivers["closed"]+"\n")
	for i, text := range faultyBlocks() {
		write(fmt.Sprintf("faulty-%02d", i), text)
	}
	return names
}

// Unique secrets in every secret field, every failure of every kind, every fault of a
// configuration and every route: nothing that anybody can read shows one (P6).
func TestNoSecretIsShownAnywhere(t *testing.T) {
	t.Parallel()
	sw := &sweep{}
	var arrivals sync.Map
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dump, _ := httputil.DumpRequest(r, true)
		user, pass, _ := r.BasicAuth()
		arrivals.Store(string(dump)+user+pass, true)
		echo(w, r)
	})
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	plain, secure, store := httptest.NewServer(handler), httptest.NewUnstartedServer(handler), httptest.NewServer(&parameterStore{values: map[string]string{"/backstop/secret": planted["ssm reference"]}})
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	for _, s := range []*httptest.Server{plain, secure, store} {
		t.Cleanup(s.Close)
	}
	closed := freeAddr(t)
	mail, err := inbox.StartMail(context.Background(), "", inbox.MailOptions{User: "robot", Password: planted["smtp password"]})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = mail.Close() })

	server := redistest.Start(t, redistest.WithConfig("user", "robot on >"+planted["redis password"]+" ~* &* +@all"))
	dir := t.TempDir()
	host := func(u string) string { return u[strings.Index(u, "://")+3:] }
	names := sweptSinks(t, dir, map[string]string{
		"plain": host(plain.URL), "tls": host(secure.URL), "closed": closed, "smtp": mail.Addr,
	})
	s := startSwept(t, sw, local.Options{
		RedisURL: "redis://robot:" + planted["redis password"] + "@" + server.Addr,
		Sinks:    "file:" + dir,
		Timeout:  5 * time.Second, QueueTimeout: 5 * time.Second,
		Env: map[string]string{
			"AWS_ENDPOINT_URL_SSM": store.URL,
			"NO_PROXY":             "nosuch.invalid",
			"HTTP_PROXY":           "http://robot:" + planted["proxy password"] + "@" + closed,
		},
	})

	s.send(t, names, func(sink string) string { return `"id":"m-` + sink + `"` })
	s.mails(t, mail)
	s.function(t, local.Queue, batch("webhook-200", "q1"))
	s.function(t, local.Queue, []byte(strings.ReplaceAll(string(batch("webhook-404", "q1", "q2", "q3")), `\"webhook-404\",\"message\":{\"body\":\"q2`, `\"faulty-01\",\"message\":{\"body\":\"q2`)))
	s.function(t, local.Send, []byte(`{"sink":"webhook-500","message":{"body":"x"}}`))
	s.function(t, local.Send, []byte(`{"sink":"nobody","message":{"body":"x"}}`))
	s.recipients(t, plain.URL)
	s.routes(t, names)
	s.kept(t, server.Client(t))

	admin := server.Client(t)
	for _, command := range [][]any{{"ACL", "SETUSER", "robot", "resetpass", ">another"}, {"CLIENT", "KILL", "USER", "robot"}} {
		if err := admin.Do(t.Context(), command...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.unserved(t)
	server.Kill(t)
	s.unserved(t)

	sw.wantClean(t, 1000)
	var arrived bytes.Buffer
	arrivals.Range(func(k, _ any) bool {
		fmt.Fprint(&arrived, k)
		return true
	})
	for _, what := range []string{"url user", "url password", "url path", "url query", "header", "custom header", "slack path", "ssm reference"} {
		if !slices.Contains(hits(arrived.String(), planted), what) {
			t.Errorf("the %s never reached a receiver: the sweep proves nothing about it", what)
		}
	}
	if m := mail.Mails(); len(m) == 0 || m[0].User != "robot" {
		t.Error("nothing was mailed with the password: the sweep proves nothing about it")
	}
}

// send sends to every sink at once, a few at a time.
func (s swept) send(t *testing.T, names []string, id func(string) string) {
	t.Helper()
	var wg sync.WaitGroup
	limit := make(chan struct{}, 10)
	for _, sink := range names {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			recipient := ""
			if strings.HasPrefix(sink, "email-") {
				recipient = `"recipient":{"address":"c@d.example"},`
			}
			a := s.api(t, false, "POST", "/v1/messages", `{`+id(sink)+`,"sink":"`+sink+`",`+recipient+`"message":{"subject":"s","body":"b"}}`)
			if a.status != http.StatusOK && a.status != http.StatusAccepted {
				t.Errorf("%s: %d %s", sink, a.status, a.raw)
			}
			if delivered := sink == "webhook-200" || sink == "webhook-204" || sink == "email-mail" || sink == "webhook-cut"; (a.status == http.StatusOK) != delivered {
				t.Errorf("%s: %d %s; delivered is expected to be %v", sink, a.status, a.raw, delivered)
			}
		})
	}
	wg.Wait()
}

// mails makes the mail server refuse at every stage, echoing what it was sent.
func (s swept) mails(t *testing.T, mail *inbox.MailServer) {
	t.Helper()
	pass := planted["smtp password"]
	plainAuth := base64.StdEncoding.EncodeToString([]byte("\x00robot\x00" + pass))
	n := 0
	for _, stage := range []inbox.Stage{inbox.StageAuth, inbox.StageFrom, inbox.StageTo, inbox.StageData} {
		for _, reply := range []inbox.Reply{
			{Status: 454, Body: "not now: " + pass},
			{Status: 535, Body: "AUTH PLAIN " + plainAuth + " is wrong"},
			{Status: 550, Body: pass + plainAuth},
			{Fault: inbox.Drop},
			{Fault: inbox.Reset},
			{Fault: inbox.Hang},
		} {
			n++
			mail.Set(stage, inbox.Always(reply))
			a := s.api(t, false, "POST", "/v1/messages", fmt.Sprintf(`{"id":"mail-%d","sink":"email-mail","recipient":{"address":"c@d.example"},"message":{"body":"b"}}`, n))
			if a.status != http.StatusAccepted {
				t.Errorf("mail at stage %s with %v: %d %s", stage, reply, a.status, a.raw)
			}
			mail.Heal()
		}
	}
}

// recipients sends to URLs that callers give.
func (s swept) recipients(t *testing.T, receiver string) {
	t.Helper()
	for i, u := range []string{
		receiver + "/404?t=" + callerToken, receiver + "/307?t=" + callerToken, receiver + "/garbage?t=" + callerToken, "http://nosuch.invalid/?t=" + callerToken,
		"http://u:" + callerToken + "@receiver.example/", "http://169.254.169.254/?t=" + callerToken, "ftp://receiver.example/?t=" + callerToken,
		"http://receiver.example:22/?t=" + callerToken, "http://[::1/?t=" + callerToken, "https://" + receiver[7:] + "/200?t=" + callerToken,
	} {
		body := fmt.Sprintf(`"sink":"webhook-404","recipient":{"url":%q},"message":{"body":"b"}`, u)
		s.api(t, false, "POST", "/v1/messages", fmt.Sprintf(`{"id":"r-%d",%s}`, i, body))
		record, _ := json.Marshal(fmt.Sprintf(`{"id":"rq-%d",%s}`, i, body))
		s.function(t, local.Queue, []byte(`{"Records":[{"messageId":"1","body":`+string(record)+`,"eventSource":"aws:sqs"}]}`))
	}
}

// unserved calls the functions while they cannot use Redis.
func (s swept) unserved(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, sink := range []string{"webhook-404", "faulty-00", "nobody"} {
		wg.Go(func() { s.api(t, false, "POST", "/v1/messages", `{"sink":"`+sink+`","message":{"body":"x"}}`) })
	}
	for _, path := range []string{"/v1/sinks", "/v1/dlq/items", "/v1/deliveries?sink=webhook-404&id=x"} {
		wg.Go(func() { s.api(t, false, "GET", path, "") })
	}
	wg.Go(func() { s.function(t, local.Queue, batch("webhook-404", "q9")) })
}

// kept reads everything that Redis holds.
func (s swept) kept(t *testing.T, c redis.UniversalClient) {
	t.Helper()
	keys := c.Scan(t.Context(), 0, "*", 1000).Iterator()
	n := 0
	for keys.Next(t.Context()) {
		n++
		key := keys.Val()
		kind, err := c.Type(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		read := map[string][]any{
			"string": {"GET", key}, "hash": {"HGETALL", key}, "set": {"SMEMBERS", key}, "zset": {"ZRANGE", key, 0, -1}, "stream": {"XRANGE", key, "-", "+"}, "list": {"LRANGE", key, 0, -1},
		}[kind]
		if read == nil {
			t.Fatalf("%s is a %q", key, kind)
		}
		value, err := c.Do(t.Context(), read...).Result()
		if err != nil {
			t.Fatal(err)
		}
		s.add("kept: "+key, fmt.Sprint(value))
	}
	if err := keys.Err(); err != nil || n < 50 {
		t.Errorf("%d keys in Redis (%v), want those of every sink", n, err)
	}
}

// A server that is not what it should be may say back what it was sent: a Redis without
// AUTH quotes the arguments of a command that it does not know.
func parrot(t *testing.T) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for n, err := c.Read(buf); err == nil; n, err = c.Read(buf) {
					_, _ = fmt.Fprintf(c, "-ERR unknown command, with args beginning with: %s\r\n", strings.Join(strings.Fields(string(buf[:n])), " "))
				}
			}()
		}
	}()
	return l.Addr().String()
}

// Secrets in the environment stay secret when it is wrong, and when what it names does
// not answer as it should.
func TestNoFaultOfTheEnvironmentShowsASecret(t *testing.T) {
	t.Parallel()
	pass, typo := planted["redis password"], planted["environment typo"]
	talking := parrot(t)
	server := redistest.Shared(t)
	dir := t.TempDir()
	sweptSinks(t, dir, map[string]string{"plain": "127.0.0.1:9", "tls": "127.0.0.1:9", "closed": "127.0.0.1:9", "smtp": "127.0.0.1:9"})
	store := httptest.NewServer(&parameterStore{})
	t.Cleanup(store.Close)
	for name, env := range map[string]map[string]string{
		"URL with a space":           {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@ho st:1"},
		"URL with a bad port":        {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@host:port"},
		"URL of HTTP":                {"BACKSTOP_REDIS_URL": "http://:" + pass + "@host:1"},
		"URL without host":           {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@"},
		"URL without scheme":         {"BACKSTOP_REDIS_URL": ":" + pass + "@host:1"},
		"URL with a bad database":    {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@127.0.0.1:1/" + typo},
		"URL with an unknown option": {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@127.0.0.1:1/0?" + typo + "=1"},
		"URL with a bad option":      {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@127.0.0.1:1/0?db=" + typo},
		"password in every field":    {"BACKSTOP_REDIS_PASSWORD": pass, "BACKSTOP_REDIS_IAM_USER": "u", "BACKSTOP_REDIS_IAM_CACHE": "serverless:c"},
		"wrong password":             {"BACKSTOP_REDIS_URL": "redis://" + server.Addr, "BACKSTOP_REDIS_PASSWORD": pass},
		"password to a parrot":       {"BACKSTOP_REDIS_URL": "redis://robot:" + pass + "@" + talking},
		"password to a parrot, apart": {
			"BACKSTOP_REDIS_URL": "redis://" + talking, "BACKSTOP_REDIS_PASSWORD": pass,
		},
		"TLS to a parrot":        {"BACKSTOP_REDIS_URL": "rediss://robot:" + pass + "@" + talking},
		"refused parameter":      {"BACKSTOP_REDIS_URL": "redis://" + server.Addr, "BACKSTOP_REDIS_PASSWORD": "ssm:/backstop/denied"},
		"password for a path":    {"BACKSTOP_REDIS_URL": "redis://" + server.Addr, "BACKSTOP_REDIS_PASSWORD": "ssm:/" + pass + "!"},
		"proxy with a space":     {"HTTP_PROXY": "http://robot:" + planted["proxy password"] + "@pro xy"},
		"sinks that are no path": {"BACKSTOP_SINKS": "ssm:/backstop/denied/*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sw := &sweep{}
			o := local.Options{Sinks: "file:" + dir, RedisURL: server.URL(), Timeout: 3 * time.Second, QueueTimeout: 3 * time.Second, Env: map[string]string{
				"AWS_ENDPOINT_URL_SSM": store.URL, "BACKSTOP_KEY_PREFIX": redistest.Prefix(), "AWS_MAX_ATTEMPTS": "1",
			}}
			maps.Copy(o.Env, env)
			s := startSwept(t, sw, o)
			s.unserved(t)
			sw.wantClean(t, 7)
		})
	}
}
