package functions_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/internal/inbox"
	"backstop/internal/local"
)

// received returns how often each message arrived at a path and was accepted.
func received(in *inbox.Inbox, path string) map[string]int {
	return in.HTTP.CountByID(func(a inbox.Arrival) bool { return a.Path == path && a.Accepted() })
}

// startReceiver starts an inbox for tests that need its address before their stack.
func startReceiver(t *testing.T) *inbox.Inbox {
	t.Helper()
	in, err := inbox.Start(context.Background(), inbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return in
}

// together returns the URL of a server that passes requests on to url, n at once: it holds
// each until all n are there. So n deliveries at once are in n processes, and all of these
// take part in every round.
func together(t *testing.T, n int, target string) string {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	pass := httputil.NewSingleHostReverseProxy(to)
	var mu sync.Mutex
	here, all := 0, make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		here++
		wait := all
		if here == n {
			here, all = 0, make(chan struct{})
			close(wait)
		}
		mu.Unlock()
		select {
		case <-wait:
			pass.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// A changed URL is picked up within the TTL by every process while deliveries run, and
// none is lost; nonsense in its place changes nothing.
func TestAChangedURLIsPickedUpWhileDeliveriesRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, storeURL := startParameterStore(t)
	sources := map[string]struct {
		spec string
		set  func(text string)
	}{
		"file": {"file:" + dir, func(text string) {
			next := filepath.Join(dir, "next.tmp")
			if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(next, filepath.Join(dir, "orders.yaml")); err != nil {
				t.Fatal(err)
			}
		}},
		"ssm": {"ssm:/backstop/prod/sinks/*", func(text string) { store.put("/backstop/prod/sinks/orders", text) }},
	}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const processes = 4
			in := startReceiver(t)
			base := together(t, processes, in.URL)
			source.set("kind: webhook\nurl: " + base + "/old\n")
			o := onRedis(t)
			o.Sinks = source.spec
			o.Env["BACKSTOP_SINKS_TTL"], o.Env["AWS_ENDPOINT_URL_SSM"] = "500ms", storeURL
			s := start(t, o)

			var mu sync.Mutex
			sent := 0
			round := func() map[string]bool {
				ids := map[string]bool{}
				var wg sync.WaitGroup
				for range processes {
					mu.Lock()
					sent++
					id := fmt.Sprintf("m%d", sent)
					mu.Unlock()
					ids[id] = true
					wg.Go(func() {
						if a := send(t, s, "orders", id, "x"); a.status != http.StatusOK {
							t.Errorf("%s: %d %s", id, a.status, a.raw)
						}
					})
				}
				wg.Wait()
				return ids
			}
			all := func(path string, ids map[string]bool) error {
				arrived := received(in, path)
				for id := range ids {
					if arrived[id] != 1 {
						return fmt.Errorf("%s arrived at %s %d times", id, path, arrived[id])
					}
				}
				return nil
			}
			for range 3 {
				if err := all("/old", round()); err != nil {
					t.Error(err)
				}
			}
			source.set("kind: webhook\nurl: " + base + "/new\n")
			eventually(t, "all go to the new URL", func() error { return all("/new", round()) })
			source.set("kind: webhook\nurl: [" + base + "/nonsense\n")
			for end := time.Now().Add(time.Second); time.Now().Before(end); {
				if err := all("/new", round()); err != nil {
					t.Error(err)
				}
			}

			before, after := received(in, "/old"), received(in, "/new")
			if len(before)+len(after) != sent || t.Failed() {
				t.Errorf("%d were sent, %d arrived at the old URL and %d at the new one", sent, len(before), len(after))
			}
			if n := call(t, s, "GET", "/v1/dlq/count", "").number("count"); n != 0 {
				t.Errorf("%d dead letters, want none", n)
			}
		})
	}
}

// A function that starts while SSM is away hands everything back, within its time, and
// recovers by itself, in the same process.
func TestAFunctionThatStartsWithoutSSMRecoversByItself(t *testing.T) {
	t.Parallel()
	for name, silent := range map[string]bool{"nobody listens": false, "it never answers": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := startReceiver(t)
			addr := freeAddr(t)
			if silent {
				l, err := net.Listen("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			o := onRedis(t)
			o.Sinks, o.Timeout = "ssm:/backstop/prod/sinks/*", 5*time.Second
			o.Env["AWS_ENDPOINT_URL_SSM"] = "http://" + addr
			store := &parameterStore{values: map[string]string{"/backstop/prod/sinks/orders": "kind: webhook\nurl: " + in.URL + "/hook\n"}}
			s := start(t, o)

			a := send(t, s, "orders", "m1", "x")
			wantProblem(t, "HTTP", a, http.StatusServiceUnavailable, "SINK_CONFIG_INVALID")
			if a.header.Get("Retry-After") == "" || !strings.Contains(a.raw, "ssm:/backstop/prod/sinks/*") {
				t.Errorf("the problem has no Retry-After, or does not name the source: %v %s", a.header, a.raw)
			}
			if silent {
				return
			}
			failures("q1")(t, invoke(t, s, local.Queue, batch("orders", "q1")).Payload)

			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: store, ReadHeaderTimeout: time.Second}
			defer func() { _ = server.Close() }()
			go func() { _ = server.Serve(l) }() // ends with Close
			eventually(t, "the function recovers", func() error {
				if a := send(t, s, "orders", "m1", "x"); a.status != http.StatusOK {
					return fmt.Errorf("%d %s", a.status, a.raw)
				}
				return nil
			})
			if st := s.Host.Stats(local.Send); st.ColdStarts != 1 || st.Crashes != 0 || st.Timeouts != 0 {
				t.Errorf("%d processes started, %d crashed, %d passed their deadline, want the first one to recover", st.ColdStarts, st.Crashes, st.Timeouts)
			}
			if n := received(in, "/hook")["m1"]; n != 1 {
				t.Errorf("the message arrived %d times", n)
			}
		})
	}
}

// The proxy of the standard variables takes the sinks' own requests, http and https; a
// recipient's URL never uses it, or the address guard would not see its target.
func TestTheProxyTakesTheSinksOwnRequestsOnly(t *testing.T) {
	t.Parallel()
	in := startReceiver(t)
	secure := httptest.NewTLSServer(in.HTTP) // its certificate is for example.com
	t.Cleanup(secure.Close)
	trusted := trust(t, secure)
	var mu sync.Mutex
	asked := map[string]string{} // host: credentials
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.Host] = r.Header.Get("Proxy-Authorization")
		mu.Unlock()
		if r.Method != http.MethodConnect {
			in.HTTP.ServeHTTP(w, r)
			return
		}
		tunnel(t, w, secure.Listener.Addr().String())
	}))
	t.Cleanup(proxy.Close)

	dir := t.TempDir()
	for name, text := range map[string]string{
		"plain":  "kind: webhook\nurl: http://receiver.invalid/plain\nretry: {max_attempts: 1}\n",
		"secure": "kind: webhook\nurl: https://example.com/secure\nretry: {max_attempts: 1}\n",
		"slack":  "kind: slack\nwebhook_url: https://example.com/slack\nretry: {max_attempts: 1}\n",
		"direct": "kind: webhook\nurl: http://direct.invalid/x\nretry: {max_attempts: 1}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := onRedis(t)
	o.Sinks = "file:" + dir
	address := strings.Replace(proxy.URL, "http://", "http://robot:sesame@", 1)
	o.Env["HTTP_PROXY"], o.Env["https_proxy"], o.Env["NO_PROXY"], o.Env["SSL_CERT_FILE"] = address, address, "direct.invalid", trusted
	s := start(t, o)
	for sink, path := range map[string]string{"plain": "/plain", "secure": "/secure", "slack": "/slack"} {
		a := send(t, s, sink, "m1", "x")
		arrived := 0
		for _, x := range in.HTTP.Arrivals() {
			if x.Path == path {
				arrived++
			}
		}
		if a.status != http.StatusOK || arrived != 1 {
			t.Errorf("%s: %d %s, and %d requests arrived through the proxy", sink, a.status, a.raw, arrived)
		}
	}
	for what, body := range map[string]string{
		"a host of NO_PROXY": `{"sink":"direct","message":{"body":"x"}}`,
		"a recipient's URL":  `{"sink":"plain","recipient":{"url":"http://recipient.invalid/x"},"message":{"body":"x"}}`,
	} {
		if a := call(t, s, http.MethodPost, "/v1/messages", body); a.status != http.StatusAccepted || !strings.Contains(a.raw, "no such host") {
			t.Errorf("%s: %d %s, want it looked up and not found", what, a.status, a.raw)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	const credentials = "Basic cm9ib3Q6c2VzYW1l" // robot:sesame
	if len(asked) != 2 || asked["receiver.invalid"] != credentials || asked["example.com:443"] != credentials {
		t.Errorf("the proxy was asked for %v, want receiver.invalid and example.com:443 only, with its credentials", asked)
	}
}

// tunnel carries a CONNECT request to addr.
func tunnel(t *testing.T, w http.ResponseWriter, addr string) {
	t.Helper()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer server.Close()
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	_, _ = io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}
