package httpsend

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"backstop/internal/await"
	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/sockets"
	"backstop/lib/sinks/sinktest"
)

type anyAddress struct{ class string }

func (anyAddress) CheckAddr(netip.AddrPort) error { return nil }

func TestClientsShareWhatMayBeShared(t *testing.T) {
	server := sinktest.NewHTTPServer(t, sinktest.Accept, "ok", nil)
	roots := x509.NewCertPool() // which no other test has
	send := func(o *Options) {
		t.Helper()
		if _, err := post(t.Context(), t, NewClient(o), server.URL, nil); err != nil {
			t.Fatal(err)
		}
	}
	send(&Options{RootCAs: roots})
	send(&Options{RootCAs: roots})
	if got := server.Connections(); got != 1 {
		t.Errorf("%d connections for two equal clients, want 1", got)
	}
	send(&Options{RootCAs: roots, Guard: anyAddress{"a"}})
	send(&Options{RootCAs: roots, Guard: anyAddress{"a"}})
	if got := server.Connections(); got != 2 {
		t.Errorf("%d connections, want 2: what a guard has not seen must not be used behind it", got)
	}
	send(&Options{RootCAs: roots, Guard: anyAddress{"b"}})
	send(&Options{RootCAs: x509.NewCertPool()})
	send(&Options{RootCAs: roots, Guard: guardFunc(func(netip.AddrPort) error { return nil })})
	if got := server.Connections(); got != 5 {
		t.Errorf("%d connections, want 5: another guard, other authorities, a guard that is equal to none", got)
	}
	send(&Options{RootCAs: roots, Pool: "a"})
	send(&Options{RootCAs: roots, Pool: "b"})
	send(&Options{RootCAs: roots, Pool: "a"})
	if got := server.Connections(); got != 7 {
		t.Errorf("%d connections, want 7: one for each pool", got)
	}
}

// A proxy belongs to the client, the connections through it to all.
func TestClientsThatShareKeepTheirProxies(t *testing.T) {
	seen := make(chan string, 10)
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.URL.String() }))
	defer proxy.Close()
	server := sinktest.NewHTTPServer(t, sinktest.Accept, "ok", nil)
	roots := x509.NewCertPool()
	through, err := http.NewRequestWithContext(t.Context(), http.MethodGet, proxy.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	proxied := NewClient(&Options{RootCAs: roots, Proxy: http.ProxyURL(through.URL)})
	direct := NewClient(&Options{RootCAs: roots})
	for _, c := range []*Client{proxied, direct, proxied} {
		if _, err := post(t.Context(), t, c, server.URL+"/x", nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 2 || <-seen != server.URL+"/x" || server.Attempts() != 1 {
		t.Errorf("the proxy saw %d requests, the server %d, want 2 and 1", len(seen), server.Attempts())
	}
}

// Sinks that were replaced leave no connections behind.
func TestConnectionsCloseWhenTheLastClientIsGone(t *testing.T) {
	server := sinktest.NewHTTPServer(t, sinktest.Accept, "ok", nil)
	key := sharing{guard: anyAddress{t.Name()}}
	for range 2 {
		if _, err := post(t.Context(), t, NewClient(&Options{Guard: key.guard}), server.URL, nil); err != nil {
			t.Fatal(err)
		}
	}
	known := func() bool {
		shared.Lock()
		defer shared.Unlock()
		_, ok := shared.of[key]
		return ok
	}
	start := time.Now()
	await.Nil(t, "the connections are closed", func() error {
		runtime.GC()
		if server.Open() > 0 || known() {
			return fmt.Errorf("%d connections are open, the transport is known: %v", server.Open(), known())
		}
		return nil
	})
	if took := time.Since(start); took > idleTime/2 {
		t.Errorf("closed after %s: they may have been idle for too long", took)
	}
}

// A request that had to wait for a connection until its time was over says whose fault
// that was.
func TestARequestWithoutAConnectionIsOurs(t *testing.T) {
	hang := sinktest.NewHTTPServer(t, sinktest.HangLate, "", nil)
	server := sinktest.NewHTTPServer(t, sinktest.Accept, "ok", nil)
	c := &Client{transport: newTransport(&Options{}, sockets.NewPool(1))}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	held := make(chan error, 1)
	go func() {
		_, err := post(ctx, t, c, hang.URL, nil)
		held <- err
	}()
	for len(hang.Accepted()) == 0 {
		runtime.Gosched()
	}
	waiting, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer stop()
	_, err := post(waiting, t, c, server.URL, nil)
	if !sinks.IsOurs(err) || !sinks.IsTransient(err) || !strings.Contains(err.Error(), "no connection was free in this process") {
		t.Errorf("Post = %v, want a failure that is ours", err)
	}
	cancel()
	if err := <-held; !sinks.IsAmbiguous(err) || sinks.IsOurs(err) {
		t.Errorf("the other Post = %v, want an ambiguous error", err)
	}
	if _, err := post(t.Context(), t, c, server.URL, nil); err != nil {
		t.Errorf("with a connection again: %v", err)
	}
}
