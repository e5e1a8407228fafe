package email

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/textproto"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/wneessen/go-mail/smtp"

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

// fault is a failure that is neither a reply nor the network's.
type fault struct{ why string }

func (f *fault) Error() string { return f.why }

// transmit holds one SMTP conversation.
func (s *Sink) transmit(ctx context.Context, to *mail.Address, text []byte) error {
	raw, err := sockets.Process().Dial(ctx, &net.Dialer{}, "tcp", s.addr, nil)
	if err != nil {
		return s.failure(ctx, "connect", err, to)
	}
	l := &line{Conn: raw, left: maxReplies}
	defer l.Close()
	// The library knows no contexts: closing the connection ends whatever it waits for.
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()

	var conn net.Conn = l
	if s.mode == TLSImplicit {
		t := tls.Client(l, s.tls)
		if err := t.HandshakeContext(ctx); err != nil {
			return s.failure(ctx, "TLS handshake", err, to)
		}
		conn = t
	}
	client, err := smtp.NewClient(conn, s.host)
	if err != nil {
		return s.failure(ctx, "greeting", err, to)
	}
	stage, err := s.converse(client, addressLiteral(raw.LocalAddr()), to, text)
	ended := stage == finalDot && !l.unwritten
	if _, replied := errors.AsType[*textproto.Error](err); err == nil || replied {
		_ = l.SetDeadline(time.Now().Add(quitTime))
		_ = client.Quit()
	}
	switch {
	case err == nil:
		return nil
	case ended && !refused(err):
		if ctx.Err() != nil {
			err = ctx.Err() // which closed the connection
		}
		return sinks.Ambiguous(s.unavailable("the message was sent and not answered: " + describe(err)))
	default:
		return s.failure(ctx, stage, err, to)
	}
}

// finalDot is the stage in which the server owns the message if it got the dot.
const finalDot = "message"

// refused reports whether err is a reply by which the server declines a message.
func refused(err error) bool {
	r, ok := errors.AsType[*textproto.Error](err)
	return ok && r.Code >= 400 && r.Code <= 599
}

// converse runs the conversation and says in which stage it ended.
func (s *Sink) converse(c *smtp.Client, self string, to *mail.Address, text []byte) (stage string, err error) {
	if err := c.Hello(self); err != nil {
		return "EHLO", err
	}
	if s.mode == TLSStartTLS {
		if ok, _ := c.Extension("STARTTLS"); !ok {
			return "STARTTLS", &fault{"the server does not offer it, and the sink requires it"}
		}
		if err := c.StartTLS(s.tls.Clone()); err != nil {
			return "STARTTLS", err
		}
	}
	if s.user != "" {
		auth, err := s.auth(c)
		if err != nil {
			return "AUTH", err
		}
		if err := c.Auth(auth); err != nil {
			return "AUTH", err
		}
	}
	if ok, size := c.Extension("SIZE"); ok {
		if limit, err := strconv.Atoi(size); err == nil && limit > 0 && len(text) > limit {
			return "SIZE", &fault{fmt.Sprintf("the message has %d bytes, the server takes %d", len(text), limit)}
		}
	}
	international := !ascii(s.from.Address) || !ascii(to.Address)
	if ok, _ := c.Extension("SMTPUTF8"); international && !ok {
		return "SMTPUTF8", &fault{"an address is not ASCII, and the server takes only such"}
	}
	c.SkipSMTPUTF8(!international)
	if err := c.Mail(envelope(s.from)); err != nil {
		return "MAIL FROM", err
	}
	if err := c.Rcpt(envelope(to)); err != nil {
		return "RCPT TO", err
	}
	w, err := c.Data()
	if err != nil {
		return "DATA", err
	}
	if _, err := w.Write(text); err != nil {
		return "DATA", err
	}
	return finalDot, w.Close()
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

// failure classifies an error of a stage before the final dot, and a reply of any
// stage. A reply wins over the context's end: the server has spoken.
func (s *Sink) failure(ctx context.Context, stage string, err error, to *mail.Address) error {
	var f *fault
	reply, replied := errors.AsType[*textproto.Error](err)
	switch {
	case replied && reply.Code >= 500 && reply.Code <= 599:
		return sinks.Terminal(s.unavailable(s.reply(stage, reply, to)))
	case replied:
		return sinks.Transient(s.unavailable(s.reply(stage, reply, to)))
	case neterr.Short(err):
		return sinks.Ours(s.unavailable(stage + ": " + describe(err)))
	case neterr.Certificate(err):
		return sinks.Terminal(s.unavailable(stage + ": " + describe(err)))
	case errors.As(err, &f):
		return sinks.Terminal(s.unavailable(stage + ": " + f.why))
	case ctx.Err() != nil:
		e := s.unavailable(stage + ": ended before the message was sent")
		e.Cause = ctx.Err()
		return e
	default:
		return sinks.Transient(s.unavailable(stage + ": " + describe(err)))
	}
}

func describe(err error) string {
	if errors.Is(err, errEndless) {
		return errEndless.Error()
	}
	return neterr.Describe(err)
}

func (s *Sink) unavailable(why string) *sinks.Error {
	return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: s.addr + ": " + why}
}

// maxReply is how much of a reply's text is shown, in characters.
const maxReply = 200

// reply shows a server's reply without what it may echo: the password, in the forms
// in which it was sent, and the addressee.
func (s *Sink) reply(stage string, r *textproto.Error, to *mail.Address) string {
	hide := []string{to.Address, "[recipient]"}
	if pass := s.pass.Reveal(); pass != "" {
		for _, form := range []string{
			pass,
			base64.StdEncoding.EncodeToString([]byte(pass)),
			base64.StdEncoding.EncodeToString([]byte("\x00" + s.user + "\x00" + pass)),
		} {
			hide = append([]string{form, s.pass.String()}, hide...)
		}
	}
	text := strings.NewReplacer(hide...).Replace(r.Msg)
	text = strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, strings.ToValidUTF8(text, "?"))
	if runes := []rune(text); len(runes) > maxReply {
		text = string(runes[:maxReply]) + "..."
	}
	return strings.TrimSpace(fmt.Sprintf("%s: SMTP %d %s", stage, r.Code, text))
}

// envelope returns an address as the commands MAIL and RCPT want it, quoted where
// its local part needs it.
func envelope(a *mail.Address) string { return (&mail.Address{Address: a.Address}).String() }

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}
