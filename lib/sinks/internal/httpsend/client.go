// Package httpsend makes single, classified HTTP attempts: what the sinks that post
// over HTTP share. It follows no redirects, never repeats a request that may have
// been received, and tells a request that was never sent from one that was sent and
// not answered.
package httpsend

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/neterr"
)

const (
	// maxBody is how much of an answer is read. A longer one costs its connection.
	maxBody = 64 << 10
	// bodyTime bounds the reading of an answer's body. The status has been seen by
	// then, so a body that drips or never ends must not hold the sender.
	bodyTime = 2 * time.Second
	// idleTime is shorter than the idle time-out of the usual servers and load
	// balancers (60 s and more): a process that was frozen meanwhile then drops the
	// connection instead of writing a request into one that its peer has left.
	idleTime = 30 * time.Second
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
	Guard func(netip.AddrPort) error
	// Resolver looks names up. Nil: net.DefaultResolver.
	Resolver *net.Resolver
}

// Client posts over a pool of connections of its own. It is safe for concurrent use.
//
// It uses the transport itself: what http.Client adds is redirects, which are never
// followed, and cookies.
type Client struct{ transport *http.Transport }

// NewClient returns a client. It connects to nothing.
func NewClient(o *Options) *Client {
	if o == nil {
		o = &Options{}
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, Resolver: o.Resolver}
	if o.Guard != nil {
		dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			ap, err := netip.ParseAddrPort(address)
			if err == nil {
				err = o.Guard(ap)
			}
			if err != nil {
				return &refusal{err}
			}
			return nil
		}
	}
	return &Client{&http.Transport{
		Proxy:                  o.Proxy,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // an answer is at most a word: never inflate one
		MaxIdleConns:           128,
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        idleTime,
		MaxResponseHeaderBytes: 64 << 10,
	}}
}

// Request is one POST.
type Request struct {
	URL *url.URL
	// Label names the destination in errors. It must hold no secret.
	Label string
	// Header has canonical names, and is Post's from then on. Nil: none.
	Header http.Header
	Body   []byte
}

// Response is an answer whose status was received.
type Response struct {
	Status int
	Header http.Header
	// Body is the body's beginning, at most 64 KiB.
	Body []byte
	// Whole is false when the body is longer, broken off, or slower than 2 seconds.
	Whole bool
}

// Post sends r once. An error means that no status came back; it is coded
// SINK_UNAVAILABLE and marked:
//
//   - Terminal: the certificate is not valid, or the peer does not speak TLS;
//   - Ambiguous: the request was fully written, so it may have been taken;
//   - not marked, wrapping ctx.Err(): ctx ended before the request was written;
//   - Transient: anything else; it never wraps context.DeadlineExceeded.
//
// An address that the Guard refused is the Guard's own error. No text comes from the
// peer or from the URL.
func (c *Client) Post(ctx context.Context, r Request) (*Response, error) {
	var written atomic.Bool
	trace := &httptrace.ClientTrace{
		// A pooled connection that turns out to be dead before anything was written is
		// replaced within one attempt: what counts is the last connection.
		GotConn:      func(httptrace.GotConnInfo) { written.Store(false) },
		WroteRequest: func(i httptrace.WroteRequestInfo) { written.Store(i.Err == nil) },
	}
	sending, stop := context.WithCancel(httptrace.WithClientTrace(ctx, trace))
	defer stop()
	req, err := http.NewRequestWithContext(sending, http.MethodPost, "", bytes.NewReader(r.Body))
	if err != nil {
		return nil, sinks.Terminal(unavailable(r.Label, "not a request that can be sent"))
	}
	req.URL, req.Host = r.URL, r.URL.Host
	if r.Header != nil {
		req.Header = r.Header
	}
	if repeatable(req.Header) {
		// With one of these headers net/http would repeat a request that was written
		// and not answered. The Retrier decides that.
		req.GetBody = nil
	}

	if u := r.URL.User; u != nil && req.Header["Authorization"] == nil {
		password, _ := u.Password()
		req.SetBasicAuth(u.Username(), password)
	}

	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, failure(ctx, r.Label, err, written.Load())
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		// The body is the connection itself, and no context ends a read of it.
		return &Response{Status: resp.StatusCode, Header: resp.Header, Whole: true}, nil
	}
	slow := time.AfterFunc(bodyTime, stop)
	defer slow.Stop()
	body, err := io.ReadAll(&io.LimitedReader{R: resp.Body, N: maxBody + 1})
	out := &Response{Status: resp.StatusCode, Header: resp.Header, Body: body, Whole: err == nil && len(body) <= maxBody}
	out.Body = body[:min(len(body), maxBody)]
	return out, nil
}

func repeatable(h http.Header) bool {
	return h["Idempotency-Key"] != nil || h["X-Idempotency-Key"] != nil
}

// refusal carries a Guard's error through net/http.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

func failure(ctx context.Context, label string, err error, written bool) error {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.err
	}
	why := neterr.Describe(err)
	switch {
	case neterr.Certificate(err), neterr.Plain(err):
		return sinks.Terminal(unavailable(label, why))
	case written:
		return sinks.Ambiguous(unavailable(label, "the request was sent and not answered: "+why))
	case ctx.Err() != nil:
		e := unavailable(label, "ended before the request was sent")
		e.Cause = ctx.Err()
		return e
	default:
		return sinks.Transient(unavailable(label, why))
	}
}

func unavailable(label, why string) *sinks.Error {
	return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: fmt.Sprintf("POST %s: %s", label, why)}
}
