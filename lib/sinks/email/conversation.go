package email

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net"
	"net/textproto"
	"strings"

	"github.com/wneessen/go-mail/smtp"
)

// reply is what a server says to a command. As an error it is a reply of another class
// than the one that was wanted.
type reply struct {
	code  int      // 100 to 599; its first digit, the class, alone decides (RFC 5321, 4.3.2)
	lines []string // the text without code and line end; empty ones for a bare code
}

// Error names the code. Only Sink.show shows a server's text.
func (r *reply) Error() string { return "an SMTP reply of another class" }

func (r *reply) class() int { return r.code / 100 }

var (
	errForeign = errors.New("the server does not speak SMTP")
	errTLS     = &protocolError{"the server speaks TLS from the first byte: set tls: implicit"}
)

// conversation is one connection to a server, with what is known of the server so far.
//
// It reads and writes SMTP itself, because net/textproto, on which the libraries stand,
// refuses replies that are codes alone, and takes what was cut off for a whole line.
type conversation struct {
	conn    net.Conn // what is spoken over: the connection itself, later TLS over it
	in      *bufio.Reader
	out     *bufio.Writer
	private bool              // within TLS
	offers  map[string]string // the server's extensions, in upper case, with their parameters
	shown   []string          // what was sent to log in: it belongs in no error text
	ready   bool              // it has come as far as the message
}

func (c *conversation) over(conn net.Conn) {
	_, c.private = conn.(*tls.Conn)
	c.conn, c.in, c.out, c.offers = conn, bufio.NewReader(conn), bufio.NewWriter(conn), nil
}

// answer reads one reply, which may be a code alone or have many lines. What a server
// may say altogether is bounded by the connection.
func (c *conversation) answer() (*reply, error) {
	first, err := c.in.Peek(1) // what is no reply may have no line end either
	switch {
	case err != nil:
		return nil, err
	case first[0] == 0x15 || first[0] == 0x16: // the records of TLS: alert, handshake
		return nil, errTLS
	case first[0] < '1' || first[0] > '5':
		return nil, errForeign
	}
	r := &reply{}
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			return nil, err // a line without its end is none
		}
		line = strings.TrimRight(line, "\r\n")
		code, more, text := cutCode(line)
		switch {
		case r.code == 0 && code == 0, r.code != 0 && code != 0 && code != r.code:
			return nil, errForeign
		case code == 0: // text between the first and the last line, as RFC 959 has it
			more, text = true, line
		}
		r.code = max(r.code, code)
		r.lines = append(r.lines, text)
		if !more {
			return r, nil
		}
	}
}

// cutCode takes a reply's line apart. The code is 0 when it has none.
func cutCode(line string) (code int, more bool, text string) {
	if len(line) < 3 {
		return 0, false, ""
	}
	for _, d := range []byte(line[:3]) {
		if d < '0' || d > '9' {
			return 0, false, ""
		}
		code = 10*code + int(d-'0')
	}
	if code < 100 || code > 599 || len(line) > 3 && (line[3] >= '0' && line[3] <= '9') {
		return 0, false, ""
	}
	rest := line[3:]
	if rest, more = strings.CutPrefix(rest, "-"); more {
		return code, true, rest
	}
	return code, false, strings.TrimLeft(rest, " \t")
}

// say sends a line and returns the reply, whatever it is.
func (c *conversation) say(line string) (*reply, error) {
	if strings.ContainsAny(line, "\r\n") {
		return nil, &protocolError{"a command would hold a line end"}
	}
	if _, err := c.out.WriteString(line + "\r\n"); err != nil {
		return nil, err
	}
	if err := c.out.Flush(); err != nil {
		return nil, err
	}
	return c.answer()
}

// ask sends a command. A reply of another class than the wanted one is the error.
func (c *conversation) ask(class int, command string) error {
	r, err := c.say(command)
	return wanted(class, r, err)
}

func wanted(class int, r *reply, err error) error {
	if err == nil && r.class() != class {
		return r
	}
	return err
}

// hello introduces the client and learns what the server offers, in whatever case and
// form it is written: "250-auth PLAIN LOGIN", "250 AUTH=LOGIN".
func (c *conversation) hello(self string) error {
	r, err := c.say("EHLO " + self)
	c.offers = map[string]string{}
	switch {
	case err != nil:
		return err
	case r.class() == 5: // it may be older than EHLO
		return c.ask(2, "HELO "+self)
	case r.class() != 2:
		return r
	}
	for _, line := range r.lines[1:] {
		name, params := line, ""
		if i := strings.IndexAny(line, " \t="); i >= 0 {
			name, params = line[:i], line[i+1:]
		}
		name = strings.ToUpper(name)
		c.offers[name] = strings.TrimSpace(c.offers[name] + " " + strings.TrimSpace(params))
	}
	return nil
}

// protect begins TLS. Everything said before is forgotten: it may have come from anybody.
func (c *conversation) protect(ctx context.Context, config *tls.Config) error {
	if err := c.ask(2, "STARTTLS"); err != nil {
		return err
	}
	t := tls.Client(c.conn, config)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.over(t)
	return nil
}

// logIn authenticates with one mechanism.
func (c *conversation) logIn(a *login, host string) error {
	name, first, err := a.Start(&smtp.ServerInfo{Name: host, TLS: c.private, Auth: strings.Fields(c.offers["AUTH"])})
	if err != nil {
		return &protocolError{"the connection is not protected"} // New refuses such configurations
	}
	line := "AUTH " + name
	if len(first) > 0 {
		line += " " + c.credential(first)
	}
	for {
		r, err := c.say(line)
		if err != nil {
			return err
		}
		switch r.class() {
		case 2:
			_, err := a.Next([]byte(strings.Join(r.lines, "\n")), false)
			return err
		case 3:
		default:
			return r
		}
		challenge, err := base64.StdEncoding.DecodeString(strings.TrimSpace(strings.Join(r.lines, "")))
		if err != nil && a.name != loginName { // whose challenges mean nothing
			err = a.broken()
		} else {
			var answer []byte
			answer, err = a.Next(challenge, true)
			line = c.credential(answer)
		}
		if err != nil {
			_, _ = c.say("*") // ends the exchange; the reply changes nothing
			return err
		}
	}
}

// credential encodes what logs in, and remembers it.
func (c *conversation) credential(b []byte) string {
	s := base64.StdEncoding.EncodeToString(b)
	c.shown = append(c.shown, s)
	return s
}

// text sends the message up to its last line; the final dot is the next step.
func (c *conversation) text(b []byte) (end func() error, err error) {
	if err := c.ask(3, "DATA"); err != nil {
		return nil, err
	}
	w := textproto.NewWriter(c.out).DotWriter()
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	return func() error {
		if err := w.Close(); err != nil {
			return err
		}
		r, err := c.answer()
		return wanted(2, r, err)
	}, nil
}
