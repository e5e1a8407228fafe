package httpsend

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/sinktest"
)

func post(ctx context.Context, t *testing.T, c *Client, raw string, h http.Header) (*Response, error) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c.Post(ctx, Request{URL: u, Label: "there", Header: h, Body: []byte("hello")})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"0": 0, "1": time.Second, " 120 ": 2 * time.Minute, "0007": 7 * time.Second, "86400": 24 * time.Hour,
		"86401": sinks.MaxRetryAfter, "9223372036854775807": sinks.MaxRetryAfter, "99999999999999999999": sinks.MaxRetryAfter,
		"-1": 0, "-99999999999999999999": 0, "-1.5": 0,
		"1.5": 2 * time.Second, "0.001": time.Second, "2.0": 2 * time.Second, "2.": 2 * time.Second, "99999999999999999999.5": sinks.MaxRetryAfter,
		"5, 30, 10": 30 * time.Second, "5,0.5": 5 * time.Second,
		"Fri, 02 Jan 2026 03:04:35 GMT":   30 * time.Second,
		"Friday, 02-Jan-26 03:05:05 GMT":  time.Minute,
		"Fri Jan  2 03:04:06 2026":        time.Second,
		"Fri, 02 Jan 2026 03:04:05 GMT":   0,
		"Wed, 21 Oct 2015 07:28:00 GMT":   0,
		"Fri, 2 Jan 2026 03:04:35 GMT":    30 * time.Second,
		"fri, 02 jan 2026 03:04:35 GMT":   30 * time.Second,
		"Fri, 02 Jan 2026 03:04:35 UTC":   30 * time.Second,
		"Fri, 02 Jan 2026 03:04:35 +0000": 30 * time.Second,
		"Fri, 02 Jan 2026 04:04:35 +0100": 30 * time.Second,
		"Thu, 01 Jan 2026 22:04:35 EST":   30 * time.Second,
		"Thu, 01 Jan 2026 19:04:35 PST":   30 * time.Second,
		"Fri, 02 Jan 2026 03:04:35":       30 * time.Second,
		"02 Jan 2026 03:04:35 GMT":        30 * time.Second,
		"Fri, 02 Jan 26 03:04:35 GMT":     30 * time.Second,
		"Fri, 02-Jan-2026 03:04:35 GMT":   30 * time.Second,
		"Fri Jan  2 03:04:35 UTC 2026":    30 * time.Second,
		"2026-01-02T03:04:35Z":            30 * time.Second,
		"2026-01-02T03:04:35.5Z":          30*time.Second + 500*time.Millisecond,
		"2026-01-02T04:04:35+01:00":       30 * time.Second,
		"2026-01-02T04:04:35+0100":        30 * time.Second,
		"2026-01-02T03:04:35":             30 * time.Second,
		"2026-01-02 03:04:35":             30 * time.Second,
		"2026-01-02 03:04:35Z":            30 * time.Second,
		"2026-01-02 03:04:35 +0000":       30 * time.Second,
	} {
		got, ok := RetryAfter(http.Header{"Retry-After": {value}}, now)
		if !ok || got != want {
			t.Errorf("RetryAfter(%q) = %s, %v, want %s", value, got, ok, want)
		}
	}
	for _, value := range []string{
		"", "-", "+5", ".5", ".", "1.5.2", "1,5s", "5s", "soon", "1e3", "0x10", "Fri, 99 Jan 2026 03:04:35 GMT", "Fri, 02 Jan 2026 03:04:35 XYZ", "١", ",",
	} {
		if got, ok := RetryAfter(http.Header{"Retry-After": {value}}, now); ok {
			t.Errorf("RetryAfter(%q) = %s, want none", value, got)
		}
	}
	if got, ok := RetryAfter(nil, now); ok {
		t.Errorf("RetryAfter without the header = %s, want none", got)
	}
	several := http.Header{"Retry-After": {"soon", "5", "Fri, 02 Jan 2026 03:04:35 GMT", "7"}}
	if got, ok := RetryAfter(several, now); !ok || got != 30*time.Second {
		t.Errorf("of several headers: %s, %v, want the longest, 30s", got, ok)
	}
}

func TestAnswersKeepTheirConnectionUnlessTooLong(t *testing.T) {
	for size, reused := range map[int]bool{0: true, 1: true, maxBody: true, 4 << 20: false} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			server := sinktest.NewHTTPServer(t, "503", "", map[sinktest.Behaviour]http.HandlerFunc{
				"503": func(w http.ResponseWriter, _ *http.Request) {
					w.WriteHeader(http.StatusServiceUnavailable)
					_, _ = io.WriteString(w, strings.Repeat("x", size))
				},
			})
			c := NewClient(nil)
			for range 3 {
				resp, err := post(t.Context(), t, c, server.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := len(resp.Body), min(size, maxBody); got != want || resp.Whole != (size <= maxBody) {
					t.Errorf("read %d bytes, whole %v, want %d of %d", got, resp.Whole, want, size)
				}
			}
			if got := server.Connections(); (got == 1) != reused {
				t.Errorf("%d connections for 3 requests, want reuse: %v", got, reused)
			}
		})
	}
}

// A few bytes can become gigabytes: nothing asks for compression, and what is compressed
// unasked stays as it is.
// As many messages at once as a function sends by default find the connections of those before them.
func TestABatchFindsTheConnectionsOfTheOneBefore(t *testing.T) {
	const atOnce = 50
	var connections atomic.Int64
	var all sync.WaitGroup // those of a round answer together, so that each needs a connection
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		all.Done()
		all.Wait()
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	c := NewClient(nil)
	for range 3 {
		all.Add(atOnce)
		var sent sync.WaitGroup
		for range atOnce {
			sent.Go(func() {
				if _, err := post(t.Context(), t, c, srv.URL, nil); err != nil {
					t.Error(err)
				}
			})
		}
		sent.Wait()
	}
	// A few may not be back yet when the next round begins.
	if n := connections.Load(); n > atOnce+atOnce/4 {
		t.Errorf("%d connections, want about the %d of the first round", n, atOnce)
	}
}

func TestAnswersAreNeverInflated(t *testing.T) {
	server := sinktest.NewHTTPServer(t, sinktest.Compressed, "", nil)
	resp, err := post(t.Context(), t, NewClient(nil), server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(resp.Body, []byte("\x1f\x8b")) || !resp.Whole {
		t.Errorf("the body begins with %x, whole %v, want gzip's mark and all of it", resp.Body[:min(2, len(resp.Body))], resp.Whole)
	}
	if sent := server.Accepted(); len(sent) != 1 || strings.Contains(sent[0], "Accept-Encoding") {
		t.Errorf("the request asks for compression: %q", sent)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	server := sinktest.NewHTTPServer(t, "307", "", map[sinktest.Behaviour]http.HandlerFunc{
		"307": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
	})
	resp, err := post(t.Context(), t, NewClient(nil), server.URL, nil)
	if err != nil || resp.Status != http.StatusTemporaryRedirect {
		t.Errorf("Post = %v, %v, want status 307", resp, err)
	}
	if got := server.Attempts(); got != 1 {
		t.Errorf("%d requests, want 1", got)
	}
}

// A request on a pooled connection that breaks after it was read must not be repeated,
// not even when its headers call it repeatable.
func TestAWrittenRequestIsNeverRepeated(t *testing.T) {
	for _, name := range []string{"X-Nothing", "Idempotency-Key", "X-Idempotency-Key"} {
		t.Run(name, func(t *testing.T) {
			served := 0
			server := sinktest.NewHTTPServer(t, "once", "", map[sinktest.Behaviour]http.HandlerFunc{
				"once": func(w http.ResponseWriter, _ *http.Request) {
					if served++; served == 1 {
						return
					}
					conn, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Errorf("Hijack: %v", err)
						return
					}
					conn.Close()
				},
			})
			c := NewClient(nil)
			h := http.Header{name: {"k"}}
			if _, err := post(t.Context(), t, c, server.URL, h); err != nil {
				t.Fatal(err)
			}
			if _, err := post(t.Context(), t, c, server.URL, h); !sinks.IsAmbiguous(err) {
				t.Errorf("Post = %v, want an ambiguous error", err)
			}
			if got := server.Attempts(); got != 2 {
				t.Errorf("the server saw %d requests of 2", got)
			}
		})
	}
}

// guardFunc is a guard that no two clients share.
type guardFunc func(netip.AddrPort) error

func (f guardFunc) CheckAddr(a netip.AddrPort) error { return f(a) }

func TestGuardsErrorComesBackAsItIs(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	refused := errors.New("refused")
	var asked []netip.AddrPort
	c := NewClient(&Options{Guard: guardFunc(func(a netip.AddrPort) error { asked = append(asked, a); return refused })})
	_, err := post(t.Context(), t, c, server.URL, nil)
	if err != refused { //nolint:errorlint // exactly this one
		t.Errorf("Post = %v, want the guard's own error", err)
	}
	if want := strings.TrimPrefix(server.URL, "http://"); len(asked) != 1 || asked[0].String() != want {
		t.Errorf("the guard was asked about %v, want %s", asked, want)
	}
}

func TestErrorsHoldNothingOfURLAndPeer(t *testing.T) {
	const secret = "s3cret"
	for _, raw := range []string{
		"http://user:" + secret + "@127.0.0.1:1/" + secret + "?" + secret,
		"http://" + secret + ".invalid/" + secret,
		"http://[::1]:1/" + secret,
		"ftp://127.0.0.1/" + secret,
	} {
		_, err := post(t.Context(), t, NewClient(nil), raw, http.Header{"X-" + secret: {secret + "\n"}})
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
			t.Errorf("Post(%s) = %#v, want an error without the secret", raw, err)
		}
	}
}

func TestTimeOutsOfTheClientDoNotWrapTheContextsEnd(t *testing.T) {
	server := sinktest.NewHTTPServer(t, sinktest.HangEarly, "", nil)
	c := NewClient(&Options{RootCAs: x509.NewCertPool()}) // whose transport is its own
	c.transport.TLSHandshakeTimeout = 50 * time.Millisecond
	_, err := post(t.Context(), t, c, server.URL, nil)
	if !sinks.IsTransient(err) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "timed out") {
		t.Errorf("Post = %v, want a transient time-out", err)
	}
}

func TestHTTP2TellsWrittenRequestsToo(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the request came over %s", r.Proto)
		}
		if r.Header.Get("X-Do") == "hang without reading" {
			<-hang
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.Header.Get("X-Do") {
		case "abort":
			panic(http.ErrAbortHandler)
		case "hang":
			<-hang
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	defer close(hang)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c := NewClient(&Options{RootCAs: roots})
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		do   string
		size int
		is   func(error) bool
	}{
		{"answer", 5, func(err error) bool { return err == nil }},
		{"abort", 5, sinks.IsAmbiguous},
		{"hang", 5, sinks.IsAmbiguous},
		{"hang without reading", 8 << 20, func(err error) bool { return errors.Is(err, context.DeadlineExceeded) && !sinks.IsAmbiguous(err) }},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if strings.HasPrefix(want.do, "hang") {
			cancel()
			ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
		}
		_, err := c.Post(ctx, Request{URL: u, Label: "there", Header: http.Header{"X-Do": {want.do}}, Body: make([]byte, want.size)})
		if !want.is(err) {
			t.Errorf("%s: Post = %v", want.do, err)
		}
		cancel()
	}
}
