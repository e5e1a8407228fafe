package sockets

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/sinks/internal/neterr"
)

// end is a connection without a peer.
type end struct{ net.Conn }

func (end) Close() error { return nil }

func connect() (net.Conn, error) { return end{}, nil }

var errFull = &net.OpError{Op: "dial", Err: syscall.EMFILE}

func TestTheBoundHoldsAndIdleConnectionsMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(2)
		var mu sync.Mutex
		var idle []net.Conn
		asked := 0
		p.OnShortage(func() {
			mu.Lock()
			defer mu.Unlock()
			asked++
			for _, c := range idle {
				c.Close()
			}
			idle = nil
		})
		leave := func(c net.Conn) {
			mu.Lock()
			defer mu.Unlock()
			idle = append(idle, c)
		}
		var short atomic.Bool
		dial := func() net.Conn {
			c, err := p.dial(t.Context(), &short, connect)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		first, second := dial(), dial()
		if asked != 0 {
			t.Errorf("idle connections were closed %d times below the bound", asked)
		}
		leave(first)
		third := dial()
		if asked == 0 || short.Load() {
			t.Errorf("asked %d times, short %v, want the idle connection closed and no shortage left", asked, short.Load())
		}

		// Nobody is idle: the next one waits until somebody is.
		var done atomic.Bool
		go func() {
			dial().Close()
			done.Store(true)
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if done.Load() || !short.Load() {
			t.Errorf("a third connection beside two in use: %v, short %v", done.Load(), short.Load())
		}
		leave(second)
		time.Sleep(time.Second)
		synctest.Wait()
		if !done.Load() {
			t.Error("a connection that became idle made no room")
		}
		third.Close()
		third.Close() // gives its place back once
		if n := len(p.held); n != 0 {
			t.Errorf("%d places are held, want none", n)
		}
	})
}

func TestAWaitThatEndsIsOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(1)
		if _, err := p.dial(t.Context(), new(atomic.Bool), connect); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var short atomic.Bool
		_, err := p.dial(ctx, &short, connect)
		if !neterr.Short(err) || !short.Load() {
			t.Errorf("dial = %v, short %v, want an error that says what was missing", err, short.Load())
		}
	})
}

func TestADialWithoutADescriptorIsMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(5)
		closed := 0
		forget := p.OnShortage(func() { closed++ })
		tries := 0
		_, err := p.dial(t.Context(), new(atomic.Bool), func() (net.Conn, error) {
			if tries++; tries < 4 {
				return nil, errFull
			}
			return end{}, nil
		})
		if err != nil || closed != 3 {
			t.Errorf("dial = %v after %d tries, idle connections closed %d times", err, tries, closed)
		}
		forget()
		began := time.Now()
		_, err = p.dial(t.Context(), new(atomic.Bool), func() (net.Conn, error) { return nil, errFull })
		if took := time.Since(began); !neterr.Short(err) || took < mostTime || took > mostTime+time.Second {
			t.Errorf("dial = %v after %s, want the shortage after %s", err, took, mostTime)
		}
		refused := errors.New("refused")
		if _, err = p.dial(t.Context(), new(atomic.Bool), func() (net.Conn, error) { return nil, refused }); err != refused { //nolint:errorlint // exactly this one
			t.Errorf("dial = %v, want the dial's own error", err)
		}
		if closed != 3 || len(p.held) != 1 {
			t.Errorf("closed %d times, %d places held, want 3 and 1", closed, len(p.held))
		}
	})
}
