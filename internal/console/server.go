package console

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"backstop/internal/loopback"
)

// Server is a running console.
type Server struct {
	// URL is where the page is, without a slash at the end.
	URL string

	http *http.Server
	wg   sync.WaitGroup
}

// ErrNotLoopback is the refusal to offer the console to others.
var ErrNotLoopback = errors.New("not a loopback address; anyone who reaches the console acts with your credentials: use one such as 127.0.0.1:3003")

// Start serves a console at addr, host:port on loopback (port 0: a free one; empty:
// 127.0.0.1:0), until Close. Any other address is ErrNotLoopback.
func Start(ctx context.Context, addr string, o Options) (*Server, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	if host, _, err := net.SplitHostPort(addr); err != nil || host == "" || !loopback.IsLocal(host) {
		return nil, fmt.Errorf("console: %s: %w", addr, ErrNotLoopback)
	}
	handler, err := New(o)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	if a, ok := ln.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() { // what localhost resolves to is up to this machine
		_ = ln.Close()
		return nil, fmt.Errorf("console: %s: %w", addr, ErrNotLoopback)
	}
	s := &Server{
		URL: "http://" + ln.Addr().String(),
		http: &http.Server{
			Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		},
	}
	s.wg.Go(func() { _ = s.http.Serve(ln) }) // ends with Close
	return s, nil
}

// Close stops the console, requests under way too.
func (s *Server) Close() error {
	err := s.http.Close()
	s.wg.Wait()
	return err
}
