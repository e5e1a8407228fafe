package email

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/neterr"
	"backstop/lib/sinks/internal/sockets"
)

const (
	// maxReplies is how much one connection may say to us; a usual conversation is
	// some 10 KB, certificates included.
	maxReplies = 256 << 10
	// quitTime bounds the good-bye. The message's fate is known by then.
	quitTime = time.Second
)

// line is a connection that knows whether everything written to it was accepted by
// the network, and that ends an endless peer.
type line struct {
	net.Conn
	left      int
	unwritten bool
}

var errEndless = errors.New("the server says too much")

func (l *line) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errEndless
	}
	n, err := l.Conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

func (l *line) Write(p []byte) (int, error) {
	n, err := l.Conn.Write(p)
	if err != nil {
		l.unwritten = true
	}
	return n, err
}

// protocolError is a failure that is neither a reply nor the network's.
type protocolError struct{ why string }

func (f *protocolError) Error() string { return f.why }

// transmit holds one SMTP conversation.
func (s *Sink) transmit(ctx context.Context, to *mail.Address, text []byte) error {
	raw, err := sockets.Process().Dial(ctx, &net.Dialer{}, "tcp", s.addr, nil)
	if err != nil {
		return s.failure(ctx, &conversation{}, "connect", err, "")
	}
	l := &line{Conn: raw, left: maxReplies}
	defer l.Close()
	// Closing the connection ends whatever is waited for on it, the good-bye too.
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()

	c := &conversation{}
	stage, err := s.converse(ctx, c, l, to, text)
	ended := stage == finalDot && !l.unwritten
	if err == nil || understood(err) {
		_ = l.SetDeadline(time.Now().Add(quitTime))
		_, _ = c.say("QUIT")
	}
	r, replied := errors.AsType[*reply](err)
	refused := replied && (r.class() == 4 || r.class() == 5)
	switch {
	case err == nil:
		return nil
	case ended && !refused:
		why := describe(err)
		switch {
		case replied:
			why = s.show(r, c, to)
		case ctx.Err() != nil: // which closed the connection
			why = describe(ctx.Err())
		}
		return sinks.Ambiguous(s.unavailable("the message was sent and not answered: " + why))
	case replied && r.class() == 5:
		return c.terminal(s.unavailable(stage + ": " + s.show(r, c, to)))
	case replied:
		return sinks.Transient(s.unavailable(stage + ": " + s.show(r, c, to)))
	}
	hint := ""
	if l.left == maxReplies && s.mode != TLSImplicit && (ctx.Err() != nil || s.port == portImplicit) {
		hint = "; the server said nothing: if it waits for TLS, set tls: implicit"
	}
	return s.failure(ctx, c, stage, err, hint)
}

// terminal marks a failure for good. Before the message, it was not this one that failed.
func (c *conversation) terminal(err error) error {
	if c.ready {
		return sinks.Terminal(err)
	}
	return sinks.Unreached(err)
}

// understood reports whether the server and the sink still understand each other: it has
// replied, or the sink has thought better of it.
func understood(err error) bool {
	_, replied := errors.AsType[*reply](err)
	f, own := errors.AsType[*protocolError](err)
	return replied || own && f != errTLS
}

// The stages of a conversation, as errors name them.
const (
	handshake = "TLS handshake"
	// finalDot is the stage in which the server owns the message if it got the dot.
	finalDot = "message"
)

// converse holds the conversation over l and says in which stage it ended.
func (s *Sink) converse(ctx context.Context, c *conversation, l *line, to *mail.Address, text []byte) (stage string, err error) {
	if stage, err := s.open(ctx, c, l); err != nil {
		return stage, err
	}
	c.ready = true
	return s.handOver(c, to, text)
}

// open begins the conversation: greeting, encryption and login.
func (s *Sink) open(ctx context.Context, c *conversation, l *line) (stage string, err error) {
	c.over(l)
	if s.mode == TLSImplicit {
		t := tls.Client(l, s.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			return handshake, err
		}
		c.over(t)
	}
	greeting, err := c.answer()
	if err := wanted(2, greeting, err); err != nil {
		return "greeting", err
	}
	self := addressLiteral(l.LocalAddr())
	if err := c.hello(self); err != nil {
		return "EHLO", err
	}
	if s.mode == TLSStartTLS {
		if _, ok := c.offers["STARTTLS"]; !ok {
			return "STARTTLS", &protocolError{"the server does not offer it, and the sink requires it"}
		}
		if err := c.protect(ctx, s.tls.Clone()); err != nil {
			return "STARTTLS", err
		}
		if err := c.hello(self); err != nil {
			return "EHLO", err
		}
	}
	if s.user != "" {
		if err := s.logIn(c); err != nil {
			return "AUTH", err
		}
	}
	return "", nil
}

// handOver gives the message to the server, which owns it once finalDot succeeded.
func (s *Sink) handOver(c *conversation, to *mail.Address, text []byte) (stage string, err error) {
	if limit, err := strconv.Atoi(c.offers["SIZE"]); err == nil && limit > 0 && len(text) > limit {
		return "SIZE", &protocolError{fmt.Sprintf("the message has %d bytes, the server takes %d", len(text), limit)}
	}
	from := "MAIL FROM:" + envelope(s.from)
	if !ascii(s.from.Address) || !ascii(to.Address) {
		if _, ok := c.offers["SMTPUTF8"]; !ok {
			return "SMTPUTF8", &protocolError{"an address is not ASCII, and the server takes only such"}
		}
		from += " SMTPUTF8 BODY=8BITMIME" // the head holds the address as it is
	}
	if err := c.ask(2, from); err != nil {
		return "MAIL FROM", err
	}
	if err := c.ask(2, "RCPT TO:"+envelope(to)); err != nil {
		return "RCPT TO", err
	}
	end, err := c.text(text)
	if err != nil {
		return "DATA", err
	}
	return finalDot, end()
}

// addressLiteral is how a client without a name of its own introduces itself (RFC
// 5321, 4.1.4).
func addressLiteral(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return "localhost"
	}
	ip := ap.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return "[" + ip.String() + "]"
	}
	return "[IPv6:" + ip.String() + "]"
}

// failure classifies an error of a stage before the final dot that is not a reply. hint
// is what may have led to it.
func (s *Sink) failure(ctx context.Context, c *conversation, stage string, err error, hint string) error {
	record, notTLS := errors.AsType[tls.RecordHeaderError](err)
	f, own := errors.AsType[*protocolError](err)
	switch {
	case stage == handshake && notTLS && string(record.RecordHeader[:2]) == "22":
		return c.terminal(s.unavailable(stage + ": the server greets in the clear: set tls: starttls"))
	case neterr.Short(err):
		return sinks.Ours(s.unavailable(stage + ": " + describe(err)))
	case neterr.Certificate(err):
		return c.terminal(s.unavailable(stage + ": " + describe(err)))
	case own:
		return c.terminal(s.unavailable(stage + ": " + f.why))
	case ctx.Err() != nil:
		e := s.unavailable(stage + ": ended before the message was sent" + hint)
		e.Cause = ctx.Err()
		return e
	default:
		return sinks.Transient(s.unavailable(stage + ": " + describe(err) + hint))
	}
}

// describe names a failure that is not a reply.
func describe(err error) string {
	for _, own := range []error{errEndless, errForeign, errTLS} {
		if errors.Is(err, own) {
			return own.Error()
		}
	}
	return neterr.Describe(err)
}

func (s *Sink) unavailable(why string) *sinks.Error {
	return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: s.addr + ": " + why}
}

// envelope returns an address as the commands MAIL and RCPT want it, quoted where
// its local part needs it.
func envelope(a *mail.Address) string { return (&mail.Address{Address: a.Address}).String() }

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}
