package inbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/mail"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"backstop/internal/loopback"
)

// MailOptions configure a MailServer. The zero value accepts plain connections without
// authentication.
type MailOptions struct {
	// TLS offers STARTTLS with a self-made certificate for 127.0.0.1 and localhost
	// (see MailServer.CertPEM).
	TLS bool
	// User and Password are required by AUTH PLAIN when User is not empty; with TLS
	// only after STARTTLS.
	User, Password string
}

// Mail is one message that the server accepted or, with its Drop or Reset script,
// read in full.
type Mail struct {
	At      time.Time `json:"at"`
	From    string    `json:"from"`
	To      []string  `json:"to"`
	Subject string    `json:"subject"` // decoded
	Data    string    `json:"data"`    // header and body as sent
	TLS     bool      `json:"tls"`
	User    string    `json:"user,omitempty"` // as authenticated
	Fault   Fault     `json:"fault,omitempty"`
}

// Stage is where in a mail transaction a script applies.
type Stage string

// The stages. StageData is the answer to the final dot.
const (
	StageAuth Stage = "auth"
	StageFrom Stage = "mail"
	StageTo   Stage = "rcpt"
	StageData Stage = "data"
)

// MailServer is an SMTP server that records what arrives. It is safe for concurrent
// use.
type MailServer struct {
	// Addr is the server's host:port.
	Addr string
	// CertPEM is the certificate to trust; nil without TLS.
	CertPEM []byte

	opts   MailOptions
	ln     net.Listener
	srv    *smtp.Server
	closed chan struct{}
	done   chan struct{}

	mu      sync.Mutex
	scripts map[Stage]*scripted
	mails   []Mail
}

// StartMail listens on addr (empty: a free port of 127.0.0.1) and serves until Close.
func StartMail(ctx context.Context, addr string, o MailOptions) (*MailServer, error) {
	m := &MailServer{opts: o, closed: make(chan struct{}), done: make(chan struct{}), scripts: map[Stage]*scripted{}}
	m.srv = smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &session{server: m, conn: c}, nil
	}))
	m.srv.Domain = "inbox.localhost"
	m.srv.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	m.srv.AllowInsecureAuth = !o.TLS
	if o.TLS {
		cert, pem, err := loopback.Certificate()
		if err != nil {
			return nil, err
		}
		m.CertPEM = pem
		m.srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	}
	ln, err := loopback.Listen(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("inbox: %w", err)
	}
	m.ln, m.Addr = mailOnly{ln}, ln.Addr().String()
	go func() {
		defer close(m.done)
		_ = m.srv.Serve(m.ln) // ends with Close
	}()
	return m, nil
}

// Set scripts a stage, from its next command on. Reply.Status is the SMTP code.
func (m *MailServer) Set(stage Stage, s Script) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scripts[stage] = &scripted{script: s}
}

// Heal removes all scripts.
func (m *MailServer) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.scripts)
}

// Mails returns what arrived so far, oldest first.
func (m *MailServer) Mails() []Mail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mails)
}

// Close stops the server and its connections.
func (m *MailServer) Close() error {
	close(m.closed)
	_ = m.ln.Close() // srv forgets it when Serve has not begun yet
	err := m.srv.Close()
	<-m.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// reply carries out the stage's script: nil to go on, else what to answer.
func (m *MailServer) reply(stage Stage, conn *smtp.Conn, record func(Fault)) error {
	m.mu.Lock()
	r := m.scripts[stage].next()
	if record != nil && (r.Status == 0 || r.Fault != "") {
		record(r.Fault)
	}
	m.mu.Unlock()
	switch r.Fault {
	case Hang:
		<-m.closed
		return errHungUp
	case Drop, Reset:
		closeConn(conn.Conn(), r.Fault == Reset)
		return errHungUp
	}
	if r.Status == 0 {
		return nil
	}
	return &smtp.SMTPError{Code: r.Status, EnhancedCode: smtp.EnhancedCode{r.Status / 100, 0, 0}, Message: r.Body}
}

// errHungUp is answered to nobody: the connection is closed.
var errHungUp = errors.New("inbox: hung up")

// session is one client's connection.
type session struct {
	server *MailServer
	conn   *smtp.Conn
	user   string
	from   string
	to     []string
}

func (s *session) AuthMechanisms() []string {
	if s.server.opts.User == "" {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if err := s.server.reply(StageAuth, s.conn, nil); err != nil {
			return err
		}
		if user != s.server.opts.User || password != s.server.opts.Password {
			return smtp.ErrAuthFailed
		}
		s.user = user
		return nil
	}), nil
}

func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.server.opts.User != "" && s.user == "" {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return s.server.reply(StageFrom, s.conn, nil)
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	if err := s.server.reply(StageTo, s.conn, nil); err != nil {
		return err
	}
	s.to = append(s.to, to)
	return nil
}

func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	_, secure := s.conn.TLSConnectionState()
	return s.server.reply(StageData, s.conn, func(f Fault) {
		s.server.mails = append(s.server.mails, Mail{
			At: time.Now().UTC(), From: s.from, To: slices.Clone(s.to), Subject: subject(data), Data: string(data), TLS: secure, User: s.user, Fault: f,
		})
	})
}

func (s *session) Reset()        { s.from, s.to = "", nil }
func (s *session) Logout() error { return nil }

// subject reads a message's Subject; empty when it has none that can be read.
func subject(data []byte) string {
	msg, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		return ""
	}
	text, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	if err != nil {
		return msg.Header.Get("Subject")
	}
	return text
}
