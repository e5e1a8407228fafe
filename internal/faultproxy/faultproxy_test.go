package faultproxy_test

import (
	"bufio"
	"io"
	"net"
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
	if n := len(p.Dropped()); n != 1 {
		t.Errorf("dropped %d, want 1", n)
	}
}
