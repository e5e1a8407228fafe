package redistest

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"testing"
)

// Parrot starts a server that says back what it was sent, as a Redis without AUTH quotes
// the arguments of a command that it does not know. With a configuration it speaks TLS.
func Parrot(tb testing.TB, secure *tls.Config) (addr string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	addr = l.Addr().String()
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go parrot(c)
		}
	}()
	return addr
}

func parrot(c net.Conn) {
	defer func() { _ = c.Close() }()
	buf := make([]byte, 4096)
	for n, err := c.Read(buf); err == nil; n, err = c.Read(buf) {
		_, _ = fmt.Fprintf(c, "-ERR unknown command, with args beginning with: %s\r\n", strings.Join(strings.Fields(string(buf[:n])), " "))
	}
}
