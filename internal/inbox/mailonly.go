package inbox

import (
	"bytes"
	"io"
	"net"
	"net/http"
)

// mailOnly is a listener whose connections end when a client begins as a browser does.
// A web page can post to any port; a mail server that skips the lines of the request
// would take those of the body for commands.
type mailOnly struct{ net.Listener }

// Accept waits for the next connection.
func (l mailOnly) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok {
		conn = &mailConn{TCPConn: tcp}
	}
	return conn, err
}

// maxFirstLine is how much is read to know a client's first line, in bytes.
const maxFirstLine = 512

// mailConn looks at its client's first line before it hands it on.
type mailConn struct {
	*net.TCPConn

	first  []byte // read and not handed on yet
	judged bool
}

// Read returns io.EOF for a client that speaks HTTP.
func (c *mailConn) Read(b []byte) (int, error) {
	if !c.judged {
		if err := c.judge(); err != nil {
			return 0, err
		}
	}
	if len(c.first) > 0 {
		n := copy(b, c.first)
		c.first = c.first[n:]
		return n, nil
	}
	return c.TCPConn.Read(b)
}

func (c *mailConn) judge() error {
	buf := make([]byte, maxFirstLine)
	for len(c.first) < maxFirstLine && !bytes.Contains(c.first, []byte("\n")) {
		n, err := c.TCPConn.Read(buf[:maxFirstLine-len(c.first)])
		c.first = append(c.first, buf[:n]...)
		if err != nil && n == 0 {
			return err
		}
	}
	c.judged = true
	verb, _, _ := bytes.Cut(c.first, []byte(" "))
	switch string(verb) {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		c.first = nil
		return io.EOF
	}
	return nil
}
