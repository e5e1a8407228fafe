package sinktest

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"sync"
	"testing"
	"time"

	"backstop/lib/sinks"
)

// HTTPServer is a scripted HTTP receiver on loopback.
type HTTPServer struct {
	// URL is where it listens. It is https for the behaviours that break off or hang
	// before the message is sent: over plain TCP a small request is on its way before
	// anybody can hang up.
	URL string

	mu          sync.Mutex
	attempts    int
	accepted    []string
	connections int
	open        int
	stop        chan struct{}
}

// NewHTTPServer starts a receiver that does b to every request, until tb ends. ok is
// the body of an accepting answer, which has status 200. Behaviours that are not the
// package's own are looked up in answers, whose handlers find the body read.
func NewHTTPServer(tb testing.TB, b Behaviour, ok string, answers map[Behaviour]http.HandlerFunc) *HTTPServer {
	tb.Helper()
	return NewHTTPServerWith(tb, b, http.StatusOK, ok, answers)
}

// NewHTTPServerWith is NewHTTPServer for receivers whose accepting answer has another status.
func NewHTTPServerWith(tb testing.TB, b Behaviour, status int, ok string, answers map[Behaviour]http.HandlerFunc) *HTTPServer {
	tb.Helper()
	s := &HTTPServer{stop: make(chan struct{})}
	switch b {
	case Refuse:
		l := listen(tb)
		s.URL = "http://" + l.Addr().String()
		l.Close()
		return s
	case ResetEarly, HangEarly, HangHandshake:
		s.serveRaw(tb, b)
		return s
	}
	answer, found := answers[b]
	if !found {
		answer = s.answer(tb, b, status, ok)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.count(func() { s.attempts++ })
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		text, err := httputil.DumpRequest(r, true)
		if err != nil {
			tb.Errorf("DumpRequest: %v", err)
		}
		s.count(func() { s.accepted = append(s.accepted, string(text)) })
		answer(w, r)
	}))
	server.Config.MaxHeaderBytes = 4 << 20
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.count(func() { s.connections++; s.open++ })
		case http.StateClosed, http.StateHijacked:
			s.count(func() { s.open-- })
		}
	}
	server.Start()
	s.URL = server.URL
	tb.Cleanup(func() {
		close(s.stop)
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// Destination returns the server with the sink that sends to it.
func (s *HTTPServer) Destination(sink sinks.Sink) *Destination {
	return &Destination{Sink: sink, Attempts: s.Attempts, Accepted: s.Accepted, Connections: s.Connections, Open: s.Open}
}

// Attempts counts the requests whose head was read.
func (s *HTTPServer) Attempts() int { return get(s, &s.attempts) }

// Accepted returns the requests that were read to their end.
func (s *HTTPServer) Accepted() []string { return get(s, &s.accepted) }

// Connections counts the connections that were made.
func (s *HTTPServer) Connections() int { return get(s, &s.connections) }

// Open counts the connections that are not closed.
func (s *HTTPServer) Open() int { return get(s, &s.open) }

func get[T any](s *HTTPServer, v *T) T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *v
}

func (s *HTTPServer) count(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// serveRaw accepts connections and resets them, ignores them, or begins to answer.
func (s *HTTPServer) serveRaw(tb testing.TB, b Behaviour) {
	tb.Helper()
	l := listen(tb)
	s.URL = "https://" + l.Addr().String()
	var conns []net.Conn
	var accepting, serving sync.WaitGroup
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.count(func() { s.connections++ })
			if b == ResetEarly {
				abort(c)
				continue
			}
			conns = append(conns, c)
			s.count(func() { s.open++ })
			serving.Go(func() {
				if b == HangHandshake {
					_, _ = c.Write([]byte("\x16\x03\x03\x00\x7a\x02")) // the beginning of a ServerHello
				}
				_, _ = io.Copy(io.Discard, c) // until the sink hangs up
				s.count(func() { s.open-- })
			})
		}
	})
	tb.Cleanup(func() {
		l.Close()
		accepting.Wait()
		for _, c := range conns {
			c.Close()
		}
		serving.Wait()
	})
}

// keep takes the connection over and writes head and then piece after piece, slowly, for
// as long as the sink stays. An empty piece is silence.
func (s *HTTPServer) keep(tb testing.TB, w http.ResponseWriter, head, piece string) {
	tb.Helper()
	hijack(tb, w, func(c net.Conn) {
		s.count(func() { s.open++ }) // the server counts it no longer
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = io.Copy(io.Discard, c)
		}()
		defer func() {
			c.Close()
			<-gone
			s.count(func() { s.open-- })
		}()
		_, _ = io.WriteString(c, head)
		for {
			select {
			case <-gone:
				return
			case <-s.stop:
				return
			case <-time.After(20 * time.Millisecond): // no limit of bytes ends that soon
				_, _ = io.WriteString(c, piece)
			}
		}
	})
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// abort closes with a reset instead of a regular end.
func abort(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}

// bomb is 8 MiB of nothing, compressed.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(make([]byte, 8<<20))
	_ = z.Close() // a buffer takes everything
	return b.Bytes()
})

// answer is what the package's own behaviours answer once the request is read.
func (s *HTTPServer) answer(tb testing.TB, b Behaviour, status int, ok string) http.HandlerFunc {
	tb.Helper()
	if b == Compressed {
		bomb() // before anybody waits for it
	}
	return func(w http.ResponseWriter, r *http.Request) {
		switch b {
		case Accept:
			w.WriteHeader(status)
			_, _ = io.WriteString(w, ok)
		case ResetLate:
			hijack(tb, w, abort)
		case Garbage:
			hijack(tb, w, func(c net.Conn) {
				_, _ = io.WriteString(c, "\x00\x01\x02 this is not HTTP\r\n\r\n")
				c.Close()
			})
		case HangLate:
			select {
			case <-r.Context().Done():
			case <-s.stop:
			}
		case Drip:
			w.WriteHeader(status)
			s.drip(w, r, ok)
		case Endless:
			w.WriteHeader(status)
			s.endless(w, r)
		case Switch:
			s.keep(tb, w, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n", "")
		case EndlessHead:
			s.keep(tb, w, "HTTP/1.1 200 OK\r\n", "X-More: yes\r\n")
		case EndlessInterim:
			s.keep(tb, w, "", "HTTP/1.1 103 Early Hints\r\n\r\n")
		case Huge:
			w.WriteHeader(status)
			_, _ = w.Write(bytes.Repeat([]byte("x"), 2<<20))
		case Compressed:
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(status)
			_, _ = w.Write(bomb())
		default:
			tb.Errorf("the server knows no behaviour %q", b)
		}
	}
}

// hijack takes the connection over and has end end it.
func hijack(tb testing.TB, w http.ResponseWriter, end func(net.Conn)) {
	tb.Helper()
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		tb.Errorf("Hijack: %v", err)
		return
	}
	end(c)
}

// drip writes a whole answer in up to 25 pieces.
func (s *HTTPServer) drip(w http.ResponseWriter, r *http.Request, ok string) {
	for size := (len(ok) + 24) / 25; ok != ""; ok = ok[min(size, len(ok)):] {
		if !s.piece(w, r, ok[:min(size, len(ok))], 20*time.Millisecond) {
			return
		}
	}
}

// endless writes a body until the sink hangs up.
func (s *HTTPServer) endless(w http.ResponseWriter, r *http.Request) {
	for s.piece(w, r, "x", 5*time.Millisecond) { // no limit of bytes ends that soon
	}
}

// piece writes a part of a body and pauses, and reports whether more is wanted.
func (s *HTTPServer) piece(w http.ResponseWriter, r *http.Request, text string, pause time.Duration) bool {
	if _, err := io.WriteString(w, text); err != nil {
		return false
	}
	_ = http.NewResponseController(w).Flush()
	select {
	case <-r.Context().Done():
		return false
	case <-s.stop:
		return false
	case <-time.After(pause):
		return true
	}
}
