// Package email delivers messages over SMTP: one address and one connection for each
// message.
//
// Importing the package makes the kind known to configurations. In code, start with New and
// Config; each message goes to the Recipient that it is sent with. There are no attachments,
// and no messages to several addresses.
//
// The body is HTML, or text when it has no markup; both parts are made from it. Metadata
// becomes X-* headers: the key "order" is sent as X-Order, the key "X-Order" as it is;
// Reply-To, List-Unsubscribe and List-Unsubscribe-Post keep their names. The Message-ID
// is made of the delivery id, the sink's name and the sender's domain, and the date is
// that of the first attempt (sinks.WithFirstAttempt), so that both are the same in every
// attempt and replay and mail systems can recognise a message that arrives twice.
//
// A 4xx reply and a lost connection are transient, a 5xx reply and a bad certificate
// terminal. When the connection is lost after the final dot, nobody knows whether the
// server took the message (RFC 1047): that is ambiguous.
package email

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/mail"
	"strconv"
	"strings"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/recipient"
)

// Kind is the name of this kind in configurations.
const Kind = "email"

// The ways to protect the connection.
const (
	// TLSStartTLS upgrades the connection and refuses a server that cannot.
	TLSStartTLS = "starttls"
	// TLSImplicit speaks TLS from the first byte (port 465).
	TLSImplicit = "implicit"
	// TLSNone sends everything in the clear, for a relay on a trusted network.
	TLSNone = "none"
)

// portImplicit is the port on which servers speak TLS from the first byte (RFC 8314).
const portImplicit = "465"

func init() { sinks.RegisterFactory(Kind, Factory(nil)) }

// Config is the configuration of an email sink.
type Config struct {
	// SMTPAddr is the server's host and port, such as "smtp.example.org:587". Required.
	SMTPAddr string `json:"smtp_addr"`
	// From is the sender, "news@example.org" or "News <news@example.org>". Required.
	From string `json:"from"`
	// AuthUser and AuthPass log in when they are set; both or neither. A password is
	// never sent in the clear, except to the local host.
	AuthUser string       `json:"auth_user,omitempty"`
	AuthPass sinks.Secret `json:"auth_pass,omitempty"`
	// TLS is TLSStartTLS (default), TLSImplicit or TLSNone.
	TLS string `json:"tls,omitempty"`
}

// Options are settings that a configuration cannot express. The zero value, and a nil pointer,
// trust the system's certificate authorities.
type Options struct {
	// RootCAs are the certificate authorities to trust. Nil: the system's.
	RootCAs *x509.CertPool
}

// Factory returns the kind's factory. To trust other certificate authorities in every email
// sink, register it again: sinks.RegisterFactory(email.Kind, email.Factory(&email.Options{...})).
func Factory(o *Options) sinks.Factory {
	return func(name string, raw map[string]any) (sinks.Sink, error) {
		return sinks.Configure(raw, func(c Config) (*Sink, error) { return New(name, c, o) })
	}
}

// Recipient is the addressee of one message.
type Recipient struct {
	// Address is one address, "ann@example.org" or "Ann <ann@example.org>". Required.
	Address string `json:"address"`
}

// Sink sends messages through one SMTP server. It is safe for concurrent use.
type Sink struct {
	name string
	host string
	port string
	addr string
	from *mail.Address
	// domain is the sender's, in ASCII.
	domain string
	user   string
	pass   sinks.Secret
	mode   string
	tls    *tls.Config
}

var (
	_ sinks.Sink             = (*Sink)(nil)
	_ sinks.RecipientDecoder = (*Sink)(nil)
	_ sinks.Validator        = (*Sink)(nil)
	_ sinks.Adviser          = (*Sink)(nil)
	_ sinks.Previewer        = (*Sink)(nil)
)

// New returns the sink called name. All faults of c are reported together, as
// *sinks.ConfigError values. It does no I/O.
func New(name string, c Config, o *Options) (*Sink, error) {
	if o == nil {
		o = &Options{}
	}
	var faults []error
	fault := func(key, why string) { faults = append(faults, &sinks.ConfigError{Key: key, Hint: why}) }

	host, port, err := net.SplitHostPort(c.SMTPAddr)
	if n, perr := strconv.ParseUint(port, 10, 16); c.SMTPAddr == "" {
		fault("smtp_addr", "required")
	} else if err != nil || perr != nil || n == 0 || host == "" {
		faults = append(faults, &sinks.ConfigError{Key: "smtp_addr", Hint: `want host:port, such as "smtp.example.org:587"`})
	}
	from, err := parseAddress(c.From)
	if c.From == "" {
		fault("from", "required")
	} else if err != nil {
		fault("from", err.Error())
	}
	switch {
	case c.AuthUser != "" && c.AuthPass == "":
		fault("auth_pass", "required with auth_user")
	case c.AuthUser == "" && c.AuthPass != "":
		fault("auth_user", "required with auth_pass")
	}
	mode := c.TLS
	switch mode {
	case "":
		mode = TLSStartTLS
	case TLSStartTLS, TLSImplicit:
	case TLSNone:
		if c.AuthUser != "" && host != "localhost" && host != "127.0.0.1" && host != "::1" {
			fault("tls", "none would send auth_pass in the clear")
		}
	default:
		faults = append(faults, &sinks.ConfigError{Key: "tls", Hint: fmt.Sprintf("want %s, %s or %s", TLSStartTLS, TLSImplicit, TLSNone)})
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	domain, err := asciiDomain(from.Address[strings.LastIndexByte(from.Address, '@')+1:])
	if err != nil {
		return nil, &sinks.ConfigError{Key: "from", Msg: err.Error()}
	}
	return &Sink{
		name: name, host: host, port: port, addr: c.SMTPAddr, from: from, domain: domain, user: c.AuthUser, pass: c.AuthPass, mode: mode,
		tls: &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs},
	}, nil
}

// Advice names a port that does not go with the protection of the connection.
func (s *Sink) Advice() []*sinks.ConfigError {
	implicit := s.mode == TLSImplicit
	switch {
	case s.port == portImplicit && !implicit:
		return []*sinks.ConfigError{{Key: "tls", Hint: "servers speak TLS from the first byte on port 465: implicit is meant, or port 587"}}
	case (s.port == "25" || s.port == "587") && implicit:
		return []*sinks.ConfigError{{Key: "tls", Hint: "servers begin in the clear on port " + s.port + ": starttls is meant, or port 465"}}
	}
	return nil
}

// Name returns the sink's name.
func (s *Sink) Name() string { return s.name }

// Format keeps the sink's secrets out of any formatted output.
func (s *Sink) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Kind+" sink "+s.name) }

// DecodeRecipient decodes {"address": "..."} into a Recipient, and an absent one into
// nil, which Send and Validate refuse. Errors are INVALID_ARGUMENT and name the field.
func (*Sink) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	address, given, err := recipient.Decode(raw, "address")
	if err != nil || !given {
		return nil, err
	}
	r := Recipient{Address: address}
	if _, err := addressee(r); err != nil {
		return nil, err
	}
	return r, nil
}

// Validate returns nil when m can be sent to to. Errors are INVALID_ARGUMENT and name the
// field.
func (s *Sink) Validate(to sinks.Recipient, m sinks.Message) error {
	rcpt, err := addressee(to)
	if err != nil {
		return err
	}
	_, err = s.head(rcpt, m, time.Now())
	return err
}

// Preview returns the message that Send would transmit: its headers, and its body as it goes out, without
// the sender. Errors are those of Validate.
func (s *Sink) Preview(ctx context.Context, to sinks.Recipient, m sinks.Message) (sinks.Preview, error) {
	rcpt, err := addressee(to)
	if err != nil {
		return sinks.Preview{}, err
	}
	hidden := *s
	hidden.from, hidden.domain = &mail.Address{Address: "sender@hidden.invalid"}, sinks.Redacted
	text, err := hidden.compose(rcpt, m, sinks.FirstAttempt(ctx))
	if err != nil {
		return sinks.Preview{}, err
	}
	read, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return sinks.Preview{}, sinks.Terminal(&sinks.Error{Code: sinks.CodeInternal, Msg: "the message cannot be read back", Cause: err})
	}
	body, err := io.ReadAll(read.Body)
	p := sinks.Preview{URL: "smtp://" + s.addr, Header: map[string]string{}, Body: strings.ReplaceAll(string(body), "\r\n", "\n")}
	for name := range read.Header {
		p.Header[name] = read.Header.Get(name)
	}
	p.Header["From"] = sinks.Redacted
	return p, err
}

// Send delivers m once, over a connection of its own. to is a Recipient. Errors are
// INVALID_ARGUMENT, as Validate's, and SINK_UNAVAILABLE with the mark that the package's
// comment names, or around ctx's error when ctx ended before the message was sent.
func (s *Sink) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	rcpt, err := addressee(to)
	if err != nil {
		return err
	}
	text, err := s.compose(rcpt, m, sinks.FirstAttempt(ctx))
	if err != nil {
		return err
	}
	if sinks.ForwardOf(ctx) != nil {
		return s.forward(ctx, rcpt, text)
	}
	return s.transmit(ctx, rcpt, text)
}

func addressee(to sinks.Recipient) (*mail.Address, error) {
	switch r := to.(type) {
	case nil:
		return nil, invalid("recipient", `required, {"address": "..."}`)
	case Recipient:
		if r.Address == "" {
			return nil, invalid("recipient.address", "required")
		}
		a, err := parseAddress(r.Address)
		if err != nil {
			return nil, invalid("recipient.address", err.Error())
		}
		return a, nil
	default:
		return nil, invalid("recipient", fmt.Sprintf("want an email.Recipient, got %T", to))
	}
}

// maxAddress is the longest address that SMTP transports (RFC 5321, 4.5.3.1), with
// room for a display name.
const maxAddress = 256 + 128

// parseAddress reads exactly one address. An international domain becomes its ASCII form
// where that makes the address ASCII. Its errors do not quote it.
func parseAddress(text string) (*mail.Address, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		return nil, errors.New("holds a control character or is not valid UTF-8")
	}
	if len(text) > maxAddress {
		return nil, fmt.Errorf("longer than %d bytes", maxAddress)
	}
	if list, err := mail.ParseAddressList(text); err == nil && len(list) > 1 {
		return nil, errors.New("want one address, not a list")
	}
	a, err := mail.ParseAddress(text)
	if err != nil {
		return nil, errors.New("not an address")
	}
	if strings.ContainsFunc(a.Address, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '<' || r == '>' }) {
		return nil, errors.New("not an address that can be mailed to")
	}
	at := strings.LastIndexByte(a.Address, '@')
	domain, err := asciiDomain(a.Address[at+1:])
	if err != nil {
		return nil, err
	}
	if ascii(a.Address[:at]) { // else it goes out as it is, with the server's consent
		a.Address = a.Address[:at+1] + domain
	}
	return a, nil
}

func invalid(field, why string) error {
	return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: field + ": " + why})
}
