package loopback

import (
	"context"
	"net"
)

// Listen listens on addr, host:port. Empty: a free port of 127.0.0.1.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	return (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
}
