package httpsend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"runtime"
	"sync"
	"syscall"
	"time"
	"weak"

	"backstop/lib/sinks/internal/sockets"
)

const (
	// idleTime is shorter than the idle time-out of the usual servers and load
	// balancers (60 s and more): a process that was frozen meanwhile then drops the
	// connection instead of writing a request into one that its peer has left.
	idleTime = 30 * time.Second
	// maxHead is how much of an answer's head is read.
	maxHead = 64 << 10
)

// transport is a pool of connections that clients share.
type transport struct{ *http.Transport }

// sharing holds what clients that share a transport have in common. Clients that differ in
// one of these never meet on one connection.
type sharing struct {
	rootCAs  *x509.CertPool
	guard    Guard
	resolver *net.Resolver
	pool     string
}

// shared are the transports in use. A transport that the last client has left is closed
// and forgotten by the garbage collector.
var shared = struct {
	sync.Mutex
	of map[sharing]weak.Pointer[transport]
}{of: map[sharing]weak.Pointer[transport]{}}

func (o *Options) transport() *transport {
	key := sharing{o.RootCAs, o.Guard, o.Resolver, o.Pool}
	if o.Guard != nil && !reflect.TypeOf(o.Guard).Comparable() {
		return newTransport(o, sockets.Process())
	}
	shared.Lock()
	defer shared.Unlock()
	if t := shared.of[key].Value(); t != nil {
		return t
	}
	t := newTransport(o, sockets.Process())
	shared.of[key] = weak.Make(t)
	runtime.AddCleanup(t, func(key sharing) {
		shared.Lock()
		defer shared.Unlock()
		if shared.of[key].Value() == nil { // and not another one by now
			delete(shared.of, key)
		}
	}, key)
	return t
}

// newTransport returns a transport whose connections count in pool.
func newTransport(o *Options, pool *sockets.Pool) *transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, Resolver: o.Resolver}
	if guard := o.Guard; guard != nil {
		dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err == nil {
				err = guard.CheckAddr(ap)
			}
			if err != nil {
				return &refusal{err}
			}
			return nil
		}
	}
	idle := min(128, max(pool.Most()/4, 1))
	inner := &http.Transport{
		Proxy: func(r *http.Request) (*url.URL, error) {
			if proxy := attemptOf(r.Context()).proxy; proxy != nil {
				return proxy(r)
			}
			return nil, nil
		},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return attemptOf(ctx).dial(ctx, pool, dialer, network, address)
		},
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // an answer is at most a word: never inflate one
		MaxIdleConns:           idle,
		MaxIdleConnsPerHost:    idle, // most processes send to one: a batch must find its connections again
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: maxHead,
	}
	t := &transport{inner}
	forget := pool.OnShortage(inner.CloseIdleConnections)
	runtime.AddCleanup(t, func(inner *http.Transport) {
		forget()
		inner.CloseIdleConnections()
	}, inner)
	return t
}

// refusal carries a Guard's error through net/http.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
