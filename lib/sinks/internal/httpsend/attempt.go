package httpsend

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/neterr"
	"backstop/lib/sinks/internal/sockets"
)

// maxInterim is how many interim answers (1xx) are waited through.
const maxInterim = 32

// attempt is what is known of one Post while net/http makes it, and the context that says
// so. Its hooks are called from several goroutines.
type attempt struct {
	context.Context // the caller's
	hooks           httptrace.ClientTrace

	proxy func(*http.Request) (*url.URL, error)
	https bool
	size  int // of the request's body

	conn    atomic.Pointer[line] // the connection in use; nil where it cannot be known
	sent    atomic.Int64         // bytes that conn had sent before
	http2   atomic.Bool          // conn speaks HTTP/2
	written atomic.Bool          // all of the request was written to conn
	began   atomic.Bool          // something of an answer came
	interim atomic.Int32         // how many interim answers came
	last    atomic.Int32         // the status of the last one
	short   atomic.Bool          // the process has no connection to give
	over    atomic.Bool          // an answer is there: dials under way are nobody's hurry

	mu    sync.Mutex
	ready []func() bool // ends the watch over a connection that is not ready
}

type attemptKey struct{}

// attemptOf returns the attempt that ctx was made for; every request and dial has one.
func attemptOf(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	if a == nil {
		a = &attempt{Context: ctx}
	}
	return a
}

// Value implements context.Context.
func (a *attempt) Value(key any) any {
	if key == (attemptKey{}) {
		return a
	}
	return a.Context.Value(key)
}

// line is a connection that knows how much it has sent, and whether it has ever brought
// an answer.
type line struct {
	net.Conn
	sent     atomic.Int64
	answered atomic.Bool
}

func (l *line) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	l.sent.Add(int64(n))
	return n, err
}

// dial connects. net/http goes on dialling when a request has been given up, so that the
// next one may have the connection: a dial or handshake that its peer holds up ends with
// its attempt all the same.
func (a *attempt) dial(ctx context.Context, pool *sockets.Pool, d *net.Dialer, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer a.whenGivenUp(cancel)()
	raw, err := pool.Dial(ctx, d, network, address, &a.short)
	if err != nil {
		return nil, err
	}
	if a.https { // nobody gets the connection before the handshake is over
		stop := a.whenGivenUp(func() { raw.Close() })
		a.mu.Lock()
		a.ready = append(a.ready, stop)
		a.mu.Unlock()
	}
	return &line{Conn: raw}, nil
}

// whenGivenUp calls f when the attempt ends without an answer.
func (a *attempt) whenGivenUp(f func()) (stop func() bool) {
	return context.AfterFunc(a.Context, func() {
		if !a.over.Load() {
			f()
		}
	})
}

var errInterim = errors.New("interim answers without end")

func (a *attempt) trace() *httptrace.ClientTrace {
	a.hooks = httptrace.ClientTrace{
		// A pooled connection that turns out to be dead before anything was written is
		// replaced within one attempt: what counts is the last connection.
		GotConn: func(i httptrace.GotConnInfo) {
			l, http2 := lineOf(i.Conn)
			a.conn.Store(l)
			a.http2.Store(http2)
			if l != nil {
				a.sent.Store(l.sent.Load())
			}
			a.written.Store(false)
			a.began.Store(false)
			a.interim.Store(0)
		},
		WroteRequest:         func(i httptrace.WroteRequestInfo) { a.written.Store(i.Err == nil) },
		GotFirstResponseByte: func() { a.began.Store(true) },
		Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			a.last.Store(int32(code)) //nolint:gosec // three digits
			if a.interim.Add(1) > maxInterim {
				return errInterim
			}
			return nil
		},
	}
	if a.https {
		a.hooks.TLSHandshakeDone = func(tls.ConnectionState, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			for _, stop := range a.ready {
				stop()
			}
			a.ready = nil
		}
	}
	return &a.hooks
}

// lineOf finds the line below a connection.
func lineOf(c net.Conn) (l *line, http2 bool) {
	for {
		switch inner := c.(type) {
		case *line:
			return inner, http2
		case *tls.Conn:
			http2 = http2 || inner.ConnectionState().NegotiatedProtocol == "h2"
			c = inner.NetConn()
		default:
			return nil, http2
		}
	}
}

// answered notes that an answer is there.
func (a *attempt) answered() {
	a.over.Store(true)
	if l := a.conn.Load(); l != nil {
		l.answered.Store(true)
	}
}

// lastWord returns the status of an interim answer after which the peer hung up: nothing
// else will come. 0: there was none.
func (a *attempt) lastWord(err error) int {
	if a.interim.Load() > 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return int(a.last.Load())
	}
	return 0
}

// errNotTaken is the failure of an HTTP/2 request that its peer has declined before it
// took it.
var errNotTaken = errors.New("the receiver refused the stream")

// rewind is Request.GetBody. net/http asks for it to repeat a request of which an HTTP/1
// connection took nothing, and one that an HTTP/2 peer has declined (REFUSED_STREAM,
// a GOAWAY below the stream, or what net/http takes for the same). Then it would repeat
// for half a minute: the Retrier decides that.
func (a *attempt) rewind(body []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		if a.http2.Load() {
			return nil, errNotTaken
		}
		return newBody(body), nil
	}
}

// taken reports whether the peer may have taken the request.
func (a *attempt) taken(err error) bool {
	if !a.written.Load() || a.refused(err) {
		return false
	}
	// net/http says that an HTTP/1 request is written before its last part leaves the
	// process.
	l := a.conn.Load()
	return l == nil || a.http2.Load() || l.sent.Load()-a.sent.Load() >= int64(max(a.size, 1))
}

// refused reports whether err says that the peer has declined the request, although it
// was written.
func (a *attempt) refused(err error) bool {
	if errors.Is(err, errNotTaken) {
		return true
	}
	if neterr.Alert(err) {
		// Over TLS 1.3 a client has written its request when it learns that its
		// certificate is refused.
		l := a.conn.Load()
		return l != nil && !l.answered.Load()
	}
	// Texts of net/http, which has no values for these. The second is a GOAWAY with an
	// error below the connection's first stream.
	text := err.Error()
	return strings.HasPrefix(text, "http2: Transport: cannot retry err [") ||
		strings.HasPrefix(text, "http2: Transport received GOAWAY from server ErrCode:")
}

// failure classifies an attempt without an answer.
func (a *attempt) failure(label string, err error) error {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.err
	}
	why := neterr.Describe(err)
	switch taken := a.taken(err); {
	case neterr.Certificate(err), neterr.Plain(err):
		return sinks.Unreached(unavailable(label, why))
	case taken && errors.Is(err, errInterim):
		return sinks.Ambiguous(unavailable(label, "the request was sent, and only interim answers came"))
	case taken && a.began.Load() && a.Err() != nil:
		return sinks.Ambiguous(unavailable(label, "the request was sent, and its answer did not end: "+why))
	case taken && a.began.Load():
		return sinks.Ambiguous(unavailable(label, "the request was sent, and its answer could not be read"))
	case taken:
		return sinks.Ambiguous(unavailable(label, "the request was sent and not answered: "+why))
	case neterr.Short(err):
		return sinks.Ours(unavailable(label, why))
	case a.short.Load():
		return sinks.Ours(unavailable(label, neterr.ErrShort.Error()))
	case a.Err() != nil:
		e := unavailable(label, "ended before the request was sent")
		e.Cause = a.Err()
		return e
	case a.refused(err) && !neterr.Alert(err):
		return sinks.Transient(unavailable(label, "the request was sent and not taken: "+errNotTaken.Error()))
	default:
		return sinks.Transient(unavailable(label, why))
	}
}
