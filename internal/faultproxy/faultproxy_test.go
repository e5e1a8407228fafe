package faultproxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"backstop/internal/faultproxy"
)

// echo is a server that answers each line with itself, and counts them.
func echo(t *testing.T) (addr string, lines *atomic.Int64) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	lines = new(atomic.Int64)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					lines.Add(1)
					_, _ = io.WriteString(c, line)
				}
			}()
		}
	}()
	return ln.Addr().String(), lines
}

// ask sends a line through the proxy and reports whether its answer came.
func ask(t *testing.T, addr string) bool {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	if _, err := io.WriteString(c, "x\n"); err != nil {
		return false
	}
	_, err = bufio.NewReader(c).ReadString('\n')
	return err == nil
}

func TestFaults(t *testing.T) {
	addr, lines := echo(t)
	p, err := faultproxy.Start(t.Context(), addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, tt := range []struct {
		name          string
		faults        faultproxy.Faults
		answered, ran bool
	}{
		{"none", faultproxy.Faults{}, true, true},
		{"a dropped reply was carried out", faultproxy.Faults{DropReplies: 1}, false, true},
		{"the answer to what was named was lost", faultproxy.Faults{LoseAnswersTo: "x"}, false, true},
		{"another was named", faultproxy.Faults{LoseAnswersTo: "y"}, true, true},
		{"refused", faultproxy.Faults{Refuse: true}, false, false},
		{"held", faultproxy.Faults{Hold: true}, false, false},
		{"delayed", faultproxy.Faults{Delay: 10 * time.Millisecond}, true, true},
	} {
		p.Set(tt.faults)
		before := lines.Load()
		if got := ask(t, p.Addr); got != tt.answered {
			t.Errorf("%s: answered %v, want %v", tt.name, got, tt.answered)
		}
		if got := lines.Load() > before; got != tt.ran {
			t.Errorf("%s: carried out %v, want %v", tt.name, got, tt.ran)
		}
	}
	if n := len(p.Dropped()); n != 2 {
		t.Errorf("dropped %d, want 2", n)
	}
}

// A path that has died silently: nothing is told of it, and new connections work.
func TestSwallowedConnectionsStayOpenAndNewOnesWork(t *testing.T) {
	addr, lines := echo(t)
	p, err := faultproxy.Start(t.Context(), addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	old, err := net.Dial("tcp", p.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	r := bufio.NewReader(old)
	say := func() error {
		_ = old.SetDeadline(time.Now().Add(300 * time.Millisecond))
		if _, err := io.WriteString(old, "x\n"); err != nil {
			return err
		}
		_, err := r.ReadString('\n')
		return err
	}
	if err := say(); err != nil {
		t.Fatal(err)
	}
	if n := p.Swallow(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	for range 2 {
		if err := say(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the old connection: %v, want a time-out", err)
		}
	}
	if n := p.Swallowed(); n != 1 {
		t.Errorf("%d connections were used after that, want 1", n)
	}
	if n := lines.Load(); n != 1 {
		t.Errorf("%d lines reached the server, want 1", n)
	}
	if !ask(t, p.Addr) {
		t.Error("a new connection does not work")
	}
}
