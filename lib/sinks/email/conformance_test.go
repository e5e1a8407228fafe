package email_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/email"
	"backstop/lib/sinks/sinktest"
)

const (
	user = "mailer"
	pass = "pa55-w0rd-s3cret"
)

var recipient = email.Recipient{Address: "ann@example.org"}

// scripted is an SMTP server that does one thing wrong. It speaks the protocol by
// hand, because a real server cannot be made to break off where it hurts.
//
// Besides sinktest's behaviours it knows "<stage> <reply>", such as "RCPT 550 no",
// where {line} in the reply stands for what the client sent, "<stage> close",
// "<stage> reset", "<stage> hang" and the replies that never end: "<stage> endless" (one
// line after the other), "<stage> wide" (one line) and "<stage> slow" (one byte at a
// time). "terse" is a server whose replies are codes alone. Stages are the commands,
// "greeting", "." (the final dot) and "handshake" (after STARTTLS was granted).
type scripted struct {
	addr string
	tls  *tls.Config // for STARTTLS
	ehlo string      // the reply to EHLO; empty: one that offers what the sink needs

	mu          sync.Mutex
	attempts    int
	accepted    []string
	heard       []string // commands
	connections int
	open        int
	changed     sync.Cond // of what mu guards
}

func newScripted(tb testing.TB, b sinktest.Behaviour) *scripted {
	tb.Helper()
	return newScriptedTLS(tb, b, nil)
}

func newScriptedTLS(tb testing.TB, b sinktest.Behaviour, protect *tls.Config) *scripted {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &scripted{addr: l.Addr().String(), tls: protect}
	s.changed.L = &s.mu
	if b == sinktest.Refuse {
		l.Close()
		return s
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.count(func() { s.connections++; s.open++ })
			wg.Go(func() {
				defer s.count(func() { s.open-- })
				defer c.Close()
				// A client that is ill-behaved must not hold the test.
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				s.serve(c, b)
			})
		}
	})
	tb.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return s
}

func (s *scripted) count(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.changed.Broadcast()
}

// closed waits until no connection is open. A client that leaves one open holds it until
// the server's patience ends.
func (s *scripted) closed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.open > 0 {
		s.changed.Wait()
	}
}

// hold says nothing until the client hangs up.
func hold(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// talk is one connection's conversation.
type talk struct {
	s             *scripted
	b             sinktest.Behaviour
	stage, action string // what is done at one stage instead of the usual reply
	c             net.Conn
	r             *textproto.Reader
}

func (s *scripted) serve(c net.Conn, b sinktest.Behaviour) {
	t := &talk{s: s, b: b, c: c, r: textproto.NewReader(bufio.NewReader(c))}
	t.stage, t.action, _ = strings.Cut(string(b), " ")
	switch b {
	case sinktest.ResetEarly:
		t.stage, t.action = "greeting", "reset"
	case sinktest.ResetLate:
		t.stage, t.action = ".", "reset"
	case sinktest.HangEarly:
		hold(c)
		return
	}
	for goesOn := t.say("greeting", "", "220 scripted ESMTP"); goesOn; goesOn = t.command() {
	}
}

// say answers at a stage, and reports whether the conversation goes on.
func (t *talk) say(at, line, reply string) bool {
	if at == t.stage {
		switch t.action {
		case "reset":
			if c, ok := t.c.(*net.TCPConn); ok {
				_ = c.SetLinger(0)
			}
			return false
		case "close":
			return false
		case "hang":
			hold(t.c)
			return false
		case "endless", "wide", "slow":
			t.s.babble(t.c, t.action)
			return false
		}
		reply = strings.ReplaceAll(strings.ReplaceAll(t.action, "{line}", line), `\r\n`, "\r\n")
	}
	if reply == "" {
		return true
	}
	if t.b == "terse" {
		reply = reply[:strings.LastIndex("\r\n"+reply, "\r\n")+3]
	}
	_, err := io.WriteString(t.c, reply+"\r\n")
	return err == nil
}

// command answers the next command, and reports whether the conversation goes on.
func (t *talk) command() bool {
	line, err := t.r.ReadLine()
	if err != nil {
		return false
	}
	t.s.count(func() { t.s.heard = append(t.s.heard, line) })
	verb, _, _ := strings.Cut(strings.ToUpper(line), " ")
	switch verb {
	case "EHLO":
		t.s.count(func() { t.s.attempts++ })
		return t.say(verb, line, t.s.offer())
	case "AUTH":
		return t.say(verb, line, "235 2.7.0 welcome")
	case "DATA":
		if !t.say(verb, line, "354 go ahead") {
			return false
		}
		return t.stage == "DATA" && !strings.HasPrefix(t.action, "3") || t.message()
	case "STARTTLS":
		if t.s.tls == nil || !t.say(verb, line, "220 2.0.0 go ahead") || !t.say("handshake", line, "") {
			return false
		}
		t.c = tls.Server(t.c, t.s.tls)
		t.r = textproto.NewReader(bufio.NewReader(t.c))
		return true
	case "QUIT":
		t.say("QUIT", line, "221 2.0.0 bye")
		return false
	}
	return t.say(verb, line, "250 2.0.0 fine")
}

// offer is the reply to EHLO.
func (s *scripted) offer() string {
	const rest = "250-AUTH PLAIN\r\n250-ENHANCEDSTATUSCODES\r\n250 8BITMIME"
	switch {
	case s.ehlo != "":
		return s.ehlo
	case s.tls != nil:
		return "250-scripted\r\n250-STARTTLS\r\n" + rest
	}
	return "250-scripted\r\n" + rest
}

// message takes the message and answers it, and reports whether the conversation goes on.
func (t *talk) message() bool {
	if t.stage == "text" { // breaks off within the message
		_, _ = t.r.ReadLine()
		return false
	}
	text, err := t.r.ReadDotBytes()
	if err != nil {
		return false
	}
	t.s.count(func() { t.s.accepted = append(t.s.accepted, string(text)) })
	switch t.b {
	case sinktest.HangLate:
		hold(t.c)
		return false
	case sinktest.Garbage:
		_, _ = io.WriteString(t.c, "\x00\x01 this is not SMTP\r\n")
		return false
	case sinktest.Drip:
		for _, ch := range "250 2.0.0 ok\r\n" {
			_, _ = io.WriteString(t.c, string(ch))
			time.Sleep(20 * time.Millisecond)
		}
		return true
	case sinktest.Endless, sinktest.Huge:
		for n := 0; n < 4<<20 || t.b == sinktest.Endless; n += 1000 {
			if _, err := io.WriteString(t.c, "250-"+strings.Repeat("x", 994)+"\r\n"); err != nil {
				return false
			}
		}
	}
	return t.say(".", "", "250 2.0.0 taken")
}

// babble writes without end, until the client has gone.
func (s *scripted) babble(c net.Conn, how string) {
	text := map[string]string{"endless": "250-" + strings.Repeat("x", 994) + "\r\n", "wide": strings.Repeat("250 and so on ", 100), "slow": "2"}[how]
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for {
		if _, err := io.WriteString(c, text); err != nil {
			return
		}
		if how != "slow" {
			continue
		}
		<-pause.C
	}
}

// lines returns the commands so far.
func (s *scripted) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.heard)
}

func (s *scripted) destination(sink sinks.Sink) *sinktest.Destination {
	return &sinktest.Destination{
		Sink:        sink,
		Attempts:    func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.attempts },
		Accepted:    func() []string { s.mu.Lock(); defer s.mu.Unlock(); return s.accepted },
		Connections: func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.connections },
		Open:        func() int { s.mu.Lock(); defer s.mu.Unlock(); return s.open },
	}
}

func TestConformance(t *testing.T) {
	rows := []sinktest.Row{
		{Does: sinktest.Accept, Want: sinktest.Delivered},
		{Does: sinktest.Refuse, Want: sinktest.Transient, Text: "connect: connection refused"},
		{Does: sinktest.ResetEarly, Want: sinktest.Transient, Text: "connection "},
		{Does: sinktest.ResetLate, Want: sinktest.Ambiguous, Text: "the message was sent and not answered"},
		{Does: sinktest.HangEarly, Want: sinktest.Ended, Text: "greeting: ended before the message was sent"},
		{Does: sinktest.HangLate, Want: sinktest.Ambiguous, Text: "timed out"},
		{Does: sinktest.Garbage, Want: sinktest.Ambiguous},
		{Does: sinktest.Drip, Want: sinktest.Delivered},
		{Does: sinktest.Endless, Want: sinktest.Ambiguous, Text: "says too much"},
		{Does: sinktest.Huge, Want: sinktest.Ambiguous, Text: "says too much"},

		{Does: "greeting 421 4.3.2 shutting down", Want: sinktest.Transient, Text: "greeting: SMTP 421 4.3.2 shutting down"},
		{Does: "greeting 554 5.7.1 go away", Want: sinktest.Terminal, Text: "SMTP 554 5.7.1 go away"},
		{Does: "greeting hello", Want: sinktest.Transient},
		{Does: "EHLO close", Want: sinktest.Transient, Text: "EHLO: connection closed"},
		{Does: "AUTH 454 4.7.0 later", Want: sinktest.Transient, Text: "AUTH: SMTP 454 4.7.0 later"},
		{Does: "AUTH 535 5.7.8 you sent {line}", Want: sinktest.Terminal, Text: "SMTP 535 5.7.8 you sent AUTH PLAIN [redacted]"},
		{Does: "AUTH 535 5.7.8 not " + pass, Want: sinktest.Terminal, Text: "SMTP 535 5.7.8 not [redacted]"},
		{Does: "MAIL 451 4.3.0 greylisted", Want: sinktest.Transient, Text: "MAIL FROM: SMTP 451 4.3.0 greylisted"},
		{Does: "MAIL 530 5.7.0 authenticate", Want: sinktest.Terminal, Text: "MAIL FROM: SMTP 530 5.7.0"},
		{Does: "RCPT 450 4.2.0 greylisted", Want: sinktest.Transient, Text: "RCPT TO: SMTP 450 4.2.0 greylisted"},
		{Does: "RCPT 550 5.1.1 <ann@example.org> unknown", Want: sinktest.Terminal, Text: "RCPT TO: SMTP 550 5.1.1 <[recipient]> unknown"},
		{Does: `RCPT 550-5.1.1 no\r\n550 5.1.1 such user`, Want: sinktest.Terminal, Text: "SMTP 550 5.1.1 no 5.1.1 such user"},
		{Does: sinktest.Behaviour("RCPT 550 " + strings.Repeat("x", 900)), Want: sinktest.Terminal, Text: strings.Repeat("x", 200) + "..."},
		{Does: "RCPT 550 a\x00\x1b[31mb\xff", Want: sinktest.Terminal, Text: "SMTP 550 a [31mb?"},
		{Does: "RCPT reset", Want: sinktest.Transient, Text: "RCPT TO: "},
		{Does: "DATA 452 4.3.1 full", Want: sinktest.Transient, Text: "DATA: SMTP 452 4.3.1 full"},
		{Does: "DATA 554 5.7.1 no", Want: sinktest.Terminal, Text: "DATA: SMTP 554 5.7.1 no"},
		{Does: "DATA close", Want: sinktest.Transient, Text: "DATA: connection closed"},
		{Does: ". 451 4.7.1 try later", Want: sinktest.Transient, Text: "message: SMTP 451 4.7.1 try later"},
		{Does: ". 421 4.3.2 shutting down", Want: sinktest.Transient, Text: "message: SMTP 421"},
		{Does: ". 552 5.3.4 too big", Want: sinktest.Terminal, Text: "message: SMTP 552 5.3.4 too big"},
		{Does: ". 354 what", Want: sinktest.Ambiguous},
		{Does: ". close", Want: sinktest.Ambiguous, Text: "the message was sent and not answered: connection closed"},
		{Does: "QUIT close", Want: sinktest.Delivered},
		{Does: "QUIT 500 what", Want: sinktest.Delivered},
	}
	sinktest.Run(t, sinktest.Harness{
		Name: "mail",
		Open: func(tb testing.TB, b sinktest.Behaviour) *sinktest.Destination {
			tb.Helper()
			server := newScripted(tb, b)
			s, err := email.New("mail", email.Config{
				SMTPAddr: server.addr, From: "Shop <shop@example.com>", AuthUser: user, AuthPass: pass, TLS: email.TLSNone,
			}, nil)
			if err != nil {
				tb.Fatal(err)
			}
			return server.destination(s)
		},
		Recipient: recipient,
		Message: func(marker string) sinks.Message {
			return sinks.Message{Subject: "Order", Body: "<p>" + marker + "</p>", Metadata: map[string]string{"order": "42"}}
		},
		Rows: rows,
		Without: map[sinktest.Behaviour]string{
			sinktest.Compressed:     "SMTP knows no compressed replies",
			sinktest.HangHandshake:  "TestAHandshakeThatStopsEndsWithTheAttempt, with TLS",
			sinktest.Switch:         "SMTP switches no protocols",
			sinktest.EndlessHead:    "a reply has no head",
			sinktest.EndlessInterim: "SMTP has no interim replies",
		},
		Secrets: []string{pass, base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + pass))},
	})
}

// A message that was not handed over whole cannot have been taken: that is no
// ambiguous outcome, however late it happens.
func TestConnectionLostWithinTheMessageIsTransient(t *testing.T) {
	server := newScripted(t, "text close")
	s, err := email.New("mail", email.Config{SMTPAddr: server.addr, From: "shop@example.com", TLS: email.TLSNone}, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Send(t.Context(), recipient, sinks.Message{ID: "d", Body: strings.Repeat("more than the network buffers ", 150_000)})
	if !sinks.IsTransient(err) || sinks.IsAmbiguous(err) {
		t.Errorf("Send = %v, want a transient error", err)
	}
}

// A deadline that passes within the conversation is the context's end: the server has
// nothing that it could have taken.
func TestDeadlineBeforeTheFinalDotIsTheContextsEnd(t *testing.T) {
	for _, stage := range []sinktest.Behaviour{"EHLO hang", "AUTH hang", "MAIL hang", "RCPT hang", "DATA hang"} {
		t.Run(string(stage), func(t *testing.T) {
			t.Parallel()
			server := newScripted(t, stage)
			s, err := email.New("mail", email.Config{
				SMTPAddr: server.addr, From: "shop@example.com", AuthUser: user, AuthPass: pass, TLS: email.TLSNone,
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err = s.Send(ctx, recipient, sinks.Message{ID: "d", Body: "x"})
			if !errors.Is(err, context.DeadlineExceeded) || sinks.IsAmbiguous(err) {
				t.Errorf("Send = %v, want an error that wraps context.DeadlineExceeded", err)
			}
		})
	}
}
