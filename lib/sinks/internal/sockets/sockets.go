// Package sockets bounds the connections that all sinks of a process have together, and
// makes room when the process runs out of file descriptors: a function may open 1,024,
// and what one sink holds idle must not be missing to another.
package sockets

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"backstop/internal/delay"
	"backstop/lib/sinks/internal/neterr"
)

const (
	// mostTime is how long a dial goes on when the process has no descriptor: others
	// give theirs back as they end.
	mostTime = 2 * time.Second
	// poll is how often it is tried.
	poll = 20 * time.Millisecond
)

// Pool bounds connections. It is safe for concurrent use.
type Pool struct {
	held chan struct{} // one of each connection

	mu   sync.Mutex
	idle map[*func()]struct{} // ways to close idle connections
}

// NewPool returns a Pool of at most n connections.
func NewPool(n int) *Pool {
	return &Pool{held: make(chan struct{}, n), idle: map[*func()]struct{}{}}
}

// Process returns the pool of the process: half of the descriptors that it may open.
// The rest is for its queue, look-ups, handshakes that race and files.
var Process = sync.OnceValue(func() *Pool {
	const least, most = 16, 1 << 16
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		limit.Cur = 1024
	}
	return NewPool(int(min(max(limit.Cur/2, least), most))) //nolint:gosec // at most 65,536
})

// Most is how many connections there can be at once.
func (p *Pool) Most() int { return cap(p.held) }

// OnShortage makes p call closeIdle, from any goroutine, when connections are short;
// it closes what is open and not in use. forget ends that.
func (p *Pool) OnShortage(closeIdle func()) (forget func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle[&closeIdle] = struct{}{}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.idle, &closeIdle)
	}
}

func (p *Pool) closeIdle() {
	p.mu.Lock()
	all := make([]func(), 0, len(p.idle))
	for f := range p.idle {
		all = append(all, *f)
	}
	p.mu.Unlock()
	for _, f := range all {
		f()
	}
}

// Dial dials as d does, within the bound. While connections or descriptors are short it
// closes idle ones and waits, until ctx ends or, for descriptors, for 2 seconds; short
// (nil: nobody cares) is true in the meantime. An error for which neterr.Short holds says
// that this was in vain.
func (p *Pool) Dial(ctx context.Context, d *net.Dialer, network, address string, short *atomic.Bool) (net.Conn, error) {
	if short == nil {
		short = new(atomic.Bool)
	}
	return p.dial(ctx, short, func() (net.Conn, error) { return d.DialContext(ctx, network, address) })
}

func (p *Pool) dial(ctx context.Context, short *atomic.Bool, dial func() (net.Conn, error)) (net.Conn, error) {
	if err := p.take(ctx, short); err != nil {
		return nil, err
	}
	give := sync.OnceFunc(func() { <-p.held })
	for began := time.Now(); ; {
		c, err := dial()
		if err == nil {
			short.Store(false)
			return &conn{Conn: c, give: give}, nil
		}
		if !neterr.Short(err) {
			short.Store(false)
			give()
			return nil, err
		}
		short.Store(true)
		p.closeIdle()
		if time.Since(began) >= mostTime || delay.Sleep(ctx, poll) != nil {
			give()
			return nil, err
		}
	}
}

// take waits for a place within the bound.
func (p *Pool) take(ctx context.Context, short *atomic.Bool) error {
	select {
	case p.held <- struct{}{}:
		return nil
	default:
	}
	short.Store(true)
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		p.closeIdle()
		select {
		case p.held <- struct{}{}:
			short.Store(false)
			return nil
		case <-ctx.Done():
			return neterr.ErrShort
		case <-tick.C: // a connection may have become idle
		}
	}
}

// conn gives its place back when it is closed.
type conn struct {
	net.Conn
	give func()
}

// Close closes the connection.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.give()
	return err
}
