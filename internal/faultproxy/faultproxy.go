// Package faultproxy stands between a client and a TCP server in tests and loses, holds
// or delays what passes. Other than general proxies it can lose a reply after the
// server has carried out the request, which is what makes a retried write dangerous.
package faultproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Faults is what the proxy does. The zero value passes everything on.
type Faults struct {
	// Refuse resets new connections, and those that are open.
	Refuse bool
	// Hold passes nothing on, in either direction, and keeps connections open.
	Hold bool
	// Delay holds each chunk of an answer back.
	Delay time.Duration
	// DropReplies is the probability with which an answer is lost: the server has
	// carried out the request, and the client's connection is reset.
	DropReplies float64
	// LoseAnswersTo loses the answers to requests in which this text stands, as DropReplies does. Empty: to
	// none.
	LoseAnswersTo string
}

// Proxy is a running proxy. It is safe for concurrent use.
type Proxy struct {
	// Addr is where clients connect, host:port.
	Addr string

	target string
	ln     net.Listener
	wg     sync.WaitGroup

	told  func([]Call) // nil: nobody is told of calls
	order sync.Mutex   // held while told's calls are executed

	mu      sync.Mutex
	dropped []time.Time
	faults  Faults
	changed chan struct{} // closed at every change
	rand    *rand.Rand
	conns   map[net.Conn]struct{}
	lost    map[net.Conn]struct{} // of conns: every byte from them is lost
	tried   map[net.Conn]struct{} // clients' connections that something was lost on
}

// Start starts a proxy to target on a free loopback port. Which replies it drops depends
// on seed and on the order in which they pass.
func Start(ctx context.Context, target string, seed uint64) (*Proxy, error) {
	return start(ctx, target, seed, nil)
}

func start(ctx context.Context, target string, seed uint64, told func([]Call)) (*Proxy, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p := &Proxy{
		Addr: ln.Addr().String(), target: target, ln: ln, changed: make(chan struct{}),
		rand: rand.New(rand.NewPCG(seed, seed)), conns: map[net.Conn]struct{}{}, lost: map[net.Conn]struct{}{},
		tried: map[net.Conn]struct{}{}, told: told,
	}
	p.wg.Go(func() { p.accept(ctx) })
	return p, nil
}

// Set changes what the proxy does from now on.
func (p *Proxy) Set(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
	close(p.changed)
	p.changed = make(chan struct{})
	if f.Refuse {
		for c := range p.conns {
			reset(c)
		}
	}
}

// Swallow loses from now on whatever comes over the connections that are open, in both
// directions, and keeps them open: a path that has died silently. New connections work.
// It returns how many clients' connections that are.
func (p *Proxy) Swallow() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		p.lost[c] = struct{}{}
	}
	return len(p.conns) / 2
}

// Open returns how many clients' connections are open and work.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return (len(p.conns) - len(p.lost)) / 2
}

// Swallowed returns over how many connections a client has sent something that was
// swallowed: how often it trusted a dead one.
func (p *Proxy) Swallowed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.tried)
}

// Dropped returns when replies were lost so far.
func (p *Proxy) Dropped() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.dropped)
}

// Close ends the proxy and all connections.
func (p *Proxy) Close() error {
	err := p.ln.Close()
	p.Set(Faults{Refuse: true})
	p.wg.Wait()
	return err
}

func (p *Proxy) accept(ctx context.Context) {
	for {
		client, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.serve(ctx, client) })
	}
}

// keep registers a connection, unless connections are refused now.
func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.Refuse {
		reset(c)
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *Proxy) forget(c net.Conn) {
	p.mu.Lock()
	delete(p.conns, c)
	delete(p.lost, c)
	p.mu.Unlock()
	_ = c.Close()
}

func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	if !p.keep(client) {
		return
	}
	defer p.forget(client)
	server, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	if !p.keep(server) {
		return
	}
	defer p.forget(server)
	if p.told != nil {
		p.converse(client, server)
		reset(client)
		return
	}

	done := make(chan struct{}, 2)
	var named atomic.Bool // a request was passed on whose answer is to be lost
	go func() {
		p.pump(server, client, false, &named)
		done <- struct{}{}
	}()
	go func() {
		p.pump(client, server, true, &named)
		done <- struct{}{}
	}()
	<-done
	reset(client)
	_ = server.Close()
	<-done
}

var (
	errDropped   = errors.New("reply dropped")
	errSwallowed = errors.New("chunk swallowed")
)

// pump passes chunks from src to dst. Loopback answers of a request that was sent alone
// come in one chunk, so losing a chunk loses a reply.
func (p *Proxy) pump(dst io.Writer, src net.Conn, reply bool, named *atomic.Bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if text := p.loses(); !reply && text != "" && bytes.Contains(buf[:n], []byte(text)) {
				named.Store(true)
			}
			err := p.pass(src, reply, named.Load())
			if errors.Is(err, errSwallowed) {
				continue // nothing ends: the reader waits for ever
			}
			if err != nil {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// loses returns the text of requests whose answers are lost.
func (p *Proxy) loses() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults.LoseAnswersTo
}

// pass waits until a chunk may pass, or reports that it is lost: one that answers a request which was
// named among others.
func (p *Proxy) pass(src net.Conn, reply, named bool) error {
	for {
		p.mu.Lock()
		f, changed := p.faults, p.changed
		_, open := p.conns[src]
		_, swallow := p.lost[src]
		if swallow && !reply {
			p.tried[src] = struct{}{}
		}
		drop := !f.Hold && reply && (f.LoseAnswersTo != "" && named || f.DropReplies > 0 && p.rand.Float64() < f.DropReplies)
		if drop {
			p.dropped = append(p.dropped, time.Now())
		}
		p.mu.Unlock()
		switch {
		case f.Refuse || !open:
			return net.ErrClosed
		case swallow:
			return errSwallowed
		case f.Hold:
			<-changed
			continue
		case drop:
			return errDropped
		}
		if reply && f.Delay > 0 {
			select {
			case <-time.After(f.Delay):
			case <-changed:
				continue
			}
		}
		return nil
	}
}

// reset closes a connection without a graceful end.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
