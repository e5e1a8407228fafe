package httpsend

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"backstop/lib/sinks"
)

// rawServer reads each request's head and body, writes answer and hangs up, unless
// stay says that it waits for the client to do so.
func rawServer(t *testing.T, answer string, stay bool) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accept(t, l, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(c, answer)
		if stay {
			_, _ = io.Copy(io.Discard, c)
		}
	})
	return "http://" + l.Addr().String()
}

// accept serves each connection of l until the test ends.
func accept(t *testing.T, l net.Listener, serve func(net.Conn)) {
	t.Helper()
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
}

// An answer that cannot be parsed is an answer all the same: the receiver may have taken
// the request, and the error says that it spoke.
func TestAnAnswerThatCannotBeReadWasAnAnswer(t *testing.T) {
	for name, c := range map[string]struct{ answer, want string }{
		"two Transfer-Encodings":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "its answer could not be read"},
		"a head of 70 KB":          {"HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", "its answer could not be read"},
		"not the protocol":         {"SSH-2.0-OpenSSH_9.6\r\n", "its answer could not be read"},
		"two lengths":              {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "its answer could not be read"},
		"a broken head":            {"HTTP/1.1 200 OK\r\nX-Broken", "its answer could not be read"},
		"nothing":                  {"", "the request was sent and not answered: connection closed"},
		"interim answers, no end":  {strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1000), "only interim answers came"},
		"garbage after an interim": {"HTTP/1.1 103 Early Hints\r\n\r\n\x00\x01\r\n\r\n", "its answer could not be read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := post(t.Context(), t, NewClient(nil), rawServer(t, c.answer, false), nil)
			if !sinks.IsAmbiguous(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Post = %v, want an ambiguous error that says %q", err, c.want)
			}
		})
	}
}

// The last word of a receiver is its answer, whatever comes of the connection.
func TestInterimStatusesAreAnswersAsTheLastWord(t *testing.T) {
	for answer, want := range map[string]int{
		"HTTP/1.1 100 Continue\r\n\r\n": 100,
		"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n":                    103,
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n":                101,
		"HTTP/1.1 101 Switching Protocols\r\n\r\n":                                                         101,
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nand more of it.": 101,
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n":                                  204,
	} {
		for _, stay := range []bool{false, true} {
			if stay && (want == 100 || want == 103) {
				continue // then it is not the last word
			}
			resp, err := post(t.Context(), t, NewClient(nil), rawServer(t, answer, stay), nil)
			if err != nil || resp.Status != want {
				t.Errorf("%q, stays %v: Post = %v, %v, want status %d", answer, stay, resp, err, want)
			}
		}
	}
}

// frames starts an HTTP/2 server that answers each request with what script writes.
func frames(t *testing.T, script func(f *http2.Framer, stream uint32)) (url string, o *Options) {
	t.Helper()
	ts := httptest.NewUnstartedServer(nil) // for its certificate
	ts.StartTLS()
	t.Cleanup(ts.Close)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: ts.TLS.Certificates, NextProtos: []string{"h2"}}) //nolint:gosec // the client decides
	if err != nil {
		t.Fatal(err)
	}
	accept(t, l, func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(c, c)
		_ = f.WriteSettings()
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if d, ok := frame.(*http2.DataFrame); ok && d.StreamEnded() {
				script(f, d.StreamID)
			}
		}
	})
	roots := x509.NewCertPool()
	roots.AddCert(ts.Certificate())
	return "https://" + l.Addr().String(), &Options{RootCAs: roots}
}

// A refusal before the peer takes the body decides.
func TestHTTP2TellsWhatWasNotTaken(t *testing.T) {
	for name, c := range map[string]struct {
		script    func(f *http2.Framer, stream uint32)
		ambiguous bool
	}{
		"REFUSED_STREAM":                       {func(f *http2.Framer, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeRefusedStream) }, false},
		"GOAWAY below the stream":              {func(f *http2.Framer, _ uint32) { _ = f.WriteGoAway(0, http2.ErrCodeNo, nil) }, false},
		"GOAWAY with an error below the first": {func(f *http2.Framer, _ uint32) { _ = f.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("s3cret")) }, false},
		"INTERNAL_ERROR":                       {func(f *http2.Framer, s uint32) { _ = f.WriteRSTStream(s, http2.ErrCodeInternal) }, true},
		"GOAWAY above the stream": {func(f *http2.Framer, s uint32) {
			_ = f.WriteGoAway(s, http2.ErrCodeInternal, []byte("s3cret"))
			_ = f.WriteRSTStream(s, http2.ErrCodeCancel)
		}, true},
		"a head that cannot be read": {func(f *http2.Framer, s uint32) {
			var head strings.Builder
			e := hpack.NewEncoder(&head)
			_ = e.WriteField(hpack.HeaderField{Name: ":status", Value: "s3cret"})
			_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: s, BlockFragment: []byte(head.String()), EndHeaders: true, EndStream: true})
		}, true},
	} {
		for _, header := range []string{"X-Nothing", "Idempotency-Key"} {
			t.Run(name+"/"+header, func(t *testing.T) {
				seen := make(chan uint32, 100)
				url, o := frames(t, func(f *http2.Framer, s uint32) { seen <- s; c.script(f, s) })
				_, err := post(t.Context(), t, NewClient(o), url, http.Header{header: {"k"}})
				switch {
				case c.ambiguous && !sinks.IsAmbiguous(err):
					t.Errorf("Post = %v, want an ambiguous error", err)
				case !c.ambiguous && (sinks.IsAmbiguous(err) || !sinks.IsTransient(err) || !strings.Contains(err.Error(), "the request was sent and not taken")):
					t.Errorf("Post = %v, want a transient error: the request was not taken", err)
				case strings.Contains(err.Error(), "s3cret"):
					t.Errorf("the error shows what the peer said: %v", err)
				}
				if len(seen) != 1 {
					t.Errorf("the receiver saw %d requests, want 1: repeating is the Retrier's", len(seen))
				}
			})
		}
	}
}

// Over TLS 1.3 the client has written its request when it learns that the server does not
// want its certificate, or that it wanted one.
func TestARefusedClientCertificateIsNotAmbiguous(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, h2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, HTTP/2 %v", tls.VersionName(version), h2), func(t *testing.T) {
				server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
					t.Error("the handler was called")
				}))
				server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
				server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, MaxVersion: version} //nolint:gosec // on purpose
				server.EnableHTTP2 = h2
				server.StartTLS()
				defer server.Close()
				roots := x509.NewCertPool()
				roots.AddCert(server.Certificate())
				c := NewClient(&Options{RootCAs: roots})
				for range 20 { // now the alert comes first, now the end of the connection
					_, err := post(t.Context(), t, c, server.URL, nil)
					if sinks.IsAmbiguous(err) || !sinks.IsTransient(err) {
						t.Fatalf("Post = %v, want a transient error: the handshake was refused", err)
					}
				}
			})
		}
	}
}

// net/http goes on with a dial whose request was given up. The dial must end with its
// attempt, or descriptors run out.
func TestADialEndsWithItsAttempt(t *testing.T) {
	for name, part := range map[string]string{"silence": "", "a part of the handshake": "\x16\x03\x03\x00\x7a\x02"} {
		t.Run(name, func(t *testing.T) {
			l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			c := NewClient(&Options{RootCAs: x509.NewCertPool()})
			c.transport.TLSHandshakeTimeout = time.Hour
			ctx, cancel := context.WithCancel(t.Context())
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				_, _ = io.WriteString(conn, part)
				cancel()
				_, _ = io.Copy(io.Discard, conn)
			}()
			_, err = post(ctx, t, c, "https://"+l.Addr().String(), nil)
			if sinks.IsAmbiguous(err) || err == nil {
				t.Errorf("Post = %v, want the context's end", err)
			}
			<-gone
		})
	}
}
