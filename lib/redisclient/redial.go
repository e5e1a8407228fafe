package redisclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// keepAlive finds dead connections where nothing is asked for; it is the client
// library's own.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}

// hot is how long after its last answer a connection counts as one that works.
const hot = 100 * time.Millisecond

// redialer makes the connections of one client and finds out when the path that they
// take has died silently: packets vanish, and neither FIN nor RST tells of it. That is
// what a process meets that was frozen behind a NAT, and no health check of a pool sees
// it. When a question gets no answer in time, no connection is used again that was there
// before the question was asked and has said nothing since; the pool dials anew instead.
// A dead path so costs one time-out, not one for each connection.
//
// It serves all nodes of a cluster: they are behind the same path. The zero value is
// usable: no TLS, and no limits but the context's. It is safe for concurrent use.
type redialer struct {
	// TLS is used for every connection; nil: none.
	TLS *tls.Config
	// Timeout bounds a dial, the TLS handshake included. Zero: no limit.
	Timeout time.Duration
	// Patience bounds the wait for the first byte of an answer on a connection that has
	// been silent for a while. A new connection has the whole time-out. Zero: no limit.
	Patience time.Duration

	// Events are numbered, not timed: the clocks of a frozen process are no guide.
	events  atomic.Int64
	suspect atomic.Int64 // what has answered last before this event is not trusted

	mu   sync.Mutex
	open map[*connection]struct{}
}

var errSuspect = fmt.Errorf("connection given up, like all that were open when Redis did not answer in time: %w", io.EOF)

// Dial connects to a server, for the client's Dialer.
func (r *redialer) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	raw, err := (&net.Dialer{KeepAliveConfig: keepAlive}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if r.TLS == nil {
		return r.watch(raw, raw), nil
	}
	secure := tls.Client(raw, r.serverName(addr))
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return r.watch(secure, raw), nil
}

// watch returns a connection that has just been made.
func (r *redialer) watch(c, raw net.Conn) *connection {
	w := &connection{Conn: c, raw: raw, dialer: r}
	w.answered()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		r.open = map[*connection]struct{}{}
	}
	r.open[w] = struct{}{}
	return w
}

// HangUp closes all connections. A later call gets a new one.
func (r *redialer) HangUp() {
	r.suspect.Store(r.events.Add(1))
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.open {
		_ = c.raw.Close() // the client closes it again once it meets it
	}
	clear(r.open)
}

// serverName returns the TLS configuration for a server.
func (r *redialer) serverName(addr string) *tls.Config {
	if r.TLS.ServerName != "" || r.TLS.InsecureSkipVerify {
		return r.TLS
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	named := r.TLS.Clone()
	named.ServerName = host
	return named
}

// connection is one connection, used by one call at a time.
type connection struct {
	net.Conn // TLS or raw
	raw      net.Conn
	dialer   *redialer

	said    atomic.Int64 // the event of its last answer
	saidAt  time.Time    // wall clock
	asked   int64        // the event of the question under way; 0: none
	silent  bool         // it had been silent before that question
	readEnd time.Time    // as the client set it
	wrote   time.Time    // the end set for writing
}

func (c *connection) answered() {
	c.said.Store(c.dialer.events.Add(1))
	c.saidAt, c.asked, c.silent = time.Now().Round(0), 0, false
}

func (c *connection) trusted() bool { return c.said.Load() >= c.dialer.suspect.Load() }

// silence notes that a question got no answer in time.
func (c *connection) silence() {
	for {
		last := c.dialer.suspect.Load()
		if c.asked <= last || c.dialer.suspect.CompareAndSwap(last, c.asked) {
			return
		}
	}
}

// Read implements net.Conn.
func (c *connection) Read(b []byte) (int, error) {
	if !c.trusted() {
		return 0, errSuspect
	}
	end := c.readEnd
	if c.silent && c.dialer.Patience > 0 {
		if soon := time.Now().Add(c.dialer.Patience); end.IsZero() || soon.Before(end) {
			end = soon
			if err := c.Conn.SetReadDeadline(end); err != nil {
				return 0, err
			}
		}
	}
	late := !end.IsZero() && !time.Now().Before(end) // no time was left to wait in
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.answered()
		if !end.Equal(c.readEnd) {
			err = errors.Join(err, c.Conn.SetReadDeadline(c.readEnd))
		}
	} else if !late && c.asked > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		c.silence()
	}
	return n, err
}

// Write implements net.Conn.
func (c *connection) Write(b []byte) (int, error) {
	if !c.trusted() {
		return 0, errSuspect
	}
	if c.asked == 0 {
		c.asked = c.dialer.events.Add(1)
		idle := time.Now().Round(0).Sub(c.saidAt)
		c.silent = idle < 0 || idle > hot
	}
	late := !c.wrote.IsZero() && !time.Now().Before(c.wrote)
	n, err := c.Conn.Write(b)
	if !late && n < len(b) && errors.Is(err, os.ErrDeadlineExceeded) {
		c.silence()
	}
	return n, err
}

// Close implements net.Conn. TLS says goodbye, but not on a path that may be dead, where
// it would wait for room in the buffer.
func (c *connection) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.open, c)
	c.dialer.mu.Unlock()
	if c.asked > 0 || !c.trusted() {
		return c.raw.Close()
	}
	return c.Conn.Close()
}

// SetDeadline implements net.Conn.
func (c *connection) SetDeadline(t time.Time) error {
	c.readEnd, c.wrote = t, t
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *connection) SetReadDeadline(t time.Time) error {
	c.readEnd = t
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *connection) SetWriteDeadline(t time.Time) error {
	c.wrote = t
	return c.Conn.SetWriteDeadline(t)
}

// SyscallConn implements syscall.Conn: the pool asks for it before it uses a connection
// again, and takes an error for a connection that is no good.
func (c *connection) SyscallConn() (syscall.RawConn, error) {
	if !c.trusted() {
		return nil, errSuspect
	}
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return unseen{}, nil
}

// unseen stands for the socket of a connection over TLS: bytes that wait there need not be an
// answer, so that the pool must not look.
type unseen struct{}

func (unseen) Control(func(uintptr)) error    { return nil }
func (unseen) Read(func(uintptr) bool) error  { return nil }
func (unseen) Write(func(uintptr) bool) error { return nil }
