// Package httpsend makes single, classified HTTP attempts: what the sinks that post
// over HTTP share. It follows no redirects, never repeats a request that may have
// been received, and tells a request that was never sent from one that was sent and
// not answered. Nothing that a receiver does holds an attempt past its context.
package httpsend

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/sockets"
)

const (
	// maxBody is how much of an answer is read. A longer one costs its connection.
	maxBody = 64 << 10
	// bodyTime bounds the reading of an answer's body. The status has been seen by
	// then, so a body that drips or never ends must not hold the sender.
	bodyTime = 2 * time.Second
)

// Options configures a Client. The zero value, and a nil pointer, connect directly
// and trust the system's certificate authorities.
type Options struct {
	// Proxy selects the proxy of a request, as http.Transport.Proxy does. Nil: none.
	Proxy func(*http.Request) (*url.URL, error)
	// RootCAs are the certificate authorities to trust. Nil: the system's.
	RootCAs *x509.CertPool
	// Guard is asked about every address just before it is dialled, when no later
	// look-up can change it. Its error refuses the address and is returned by Post as
	// it is. Nil: every address is allowed.
	Guard Guard
	// Resolver looks names up. Nil: net.DefaultResolver.
	Resolver *net.Resolver
	// Pool keeps connections apart: those of clients with another one are not used. Receivers that
	// take one client's credentials only, for as long as a connection lasts, need it. Empty: the
	// pool of all others.
	Pool string
}

// Guard decides which addresses may be connected to. Clients with equal guards share
// their connections; one that cannot be compared is equal to none.
type Guard interface {
	CheckAddr(netip.AddrPort) error
}

// Client posts. It is safe for concurrent use.
//
// Clients share their connections, by root CAs, guard, resolver and pool, and all of a process
// together have a bound (see sockets). A connection that nobody uses is closed after 30
// seconds.
//
// It uses the transport itself: what http.Client adds is redirects, which are never
// followed, and cookies.
type Client struct {
	transport *transport
	proxy     func(*http.Request) (*url.URL, error)
}

// NewClient returns a client. It connects to nothing.
func NewClient(o *Options) *Client {
	if o == nil {
		o = &Options{}
	}
	return &Client{o.transport(), o.Proxy}
}

// Request is one request with a body.
type Request struct {
	// Method is POST where it is empty.
	Method string
	URL    *url.URL
	// Label names the destination in errors. It must hold no secret.
	Label string
	// Header has canonical names, and is Post's from then on. Nil: none.
	Header http.Header
	Body   []byte
}

// Response is an answer whose status was received.
type Response struct {
	Forwarded bool // it is the answer of where everything is forwarded to (sinks.WithForward)
	Status    int
	Header    http.Header
	// Body is the body's beginning, at most 64 KiB.
	Body []byte
	// Whole is false when the body is longer, broken off, or slower than 2 seconds.
	Whole bool

	method string // of the request
}

// Post sends r once. The header traceparent makes it a child of the caller's trace, where there is one
// (sinks.Delivery). An error means that no status came back; it is coded
// SINK_UNAVAILABLE and marked:
//
//   - Unreached: the certificate is not valid, or the peer does not speak TLS;
//   - Ambiguous: the request was fully written, so it may have been taken, and no answer
//     came, or one that could not be read;
//   - Ours: the process had no connection or descriptor left;
//   - not marked, wrapping ctx.Err(): ctx ended before the request was written;
//   - Transient: anything else; it never wraps context.DeadlineExceeded.
//
// An address that the Guard refused is the Guard's own error. No text comes from the
// peer or from the URL. An interim answer (1xx) after which the peer hangs up, and 101,
// are answers.
func (c *Client) Post(ctx context.Context, r Request) (*Response, error) {
	r.Method = cmp.Or(r.Method, http.MethodPost)
	over, proxy := c.transport, c.proxy
	if to := sinks.ForwardOf(ctx); to != nil {
		r, over, proxy = r.forwarded(to), forwards(), nil
	}
	a := &attempt{Context: ctx, proxy: proxy, https: r.URL.Scheme == "https", size: len(r.Body)}
	sending, stop := context.WithCancel(a)
	defer stop()
	resp, err := over.RoundTrip(a.request(httptrace.WithClientTrace(sending, a.trace()), r))
	if err != nil {
		if status := a.lastWord(err); status != 0 {
			return &Response{Status: status, Whole: true, method: r.Method}, nil
		}
		return nil, a.failure(r.Method+" "+r.Label, err)
	}
	a.answered()
	defer resp.Body.Close()
	out := &Response{Status: resp.StatusCode, Header: resp.Header, method: r.Method, Forwarded: over != c.transport}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// The body is the connection itself, and no context ends a read of it.
		out.Whole = true
		return out, nil
	}
	slow := time.AfterFunc(bodyTime, stop)
	defer slow.Stop()
	body, err := io.ReadAll(&io.LimitedReader{R: resp.Body, N: maxBody + 1})
	out.Body, out.Whole = body[:min(len(body), maxBody)], err == nil && len(body) <= maxBody
	return out, nil
}

// forwards is the transport to where everything is forwarded (sinks.WithForward), and to nowhere else.
var forwards = sync.OnceValue(func() *transport { return newTransport(&Options{}, sockets.Process()) })

// forwarded is r as it is sent to another URL. Headers are not shared: they may be the sink's own.
func (r Request) forwarded(to *url.URL) Request {
	h := r.Header.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Del("Authorization")
	h.Set("Backstop-Forwarded-For", r.URL.Scheme+"://"+r.URL.Host)
	r.Header, r.URL, r.Label = h, to, to.Scheme+"://"+to.Host
	return r
}

// request makes r a request under ctx. http.NewRequest would parse an address and make
// headers and a GetBody of its own, all for nothing.
func (a *attempt) request(ctx context.Context, r Request) *http.Request {
	req := (&http.Request{
		Method: r.Method, URL: r.URL, Host: r.URL.Host, Header: r.Header, Body: newBody(r.Body), ContentLength: int64(len(r.Body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if req.Header == nil {
		req.Header = http.Header{}
	}
	if parent := traceparent(sinks.DeliveryOf(ctx).Trace); parent != "" && req.Header["Traceparent"] == nil {
		req.Header["Traceparent"] = []string{parent}
	}
	if !repeatable(req.Header) {
		// With one of these headers net/http would repeat a request that was written
		// and not answered. The Retrier decides that.
		req.GetBody = a.rewind(r.Body)
	}
	if u := r.URL.User; u != nil && req.Header["Authorization"] == nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}
	return req
}

// newBody returns b in the types by which net/http knows that it can be sent at once with
// the headers.
func newBody(b []byte) io.ReadCloser {
	if len(b) == 0 {
		return http.NoBody
	}
	return io.NopCloser(bytes.NewReader(b))
}

func repeatable(h http.Header) bool {
	return h["Idempotency-Key"] != nil || h["X-Idempotency-Key"] != nil
}

// unavailable is the error of a request, named as method and destination.
func unavailable(label, why string) *sinks.Error {
	return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: label + ": " + why}
}
