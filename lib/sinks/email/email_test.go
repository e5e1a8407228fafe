package email_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	"net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"github.com/google/go-cmp/cmp"

	"backstop/lib/sinks"
	"backstop/lib/sinks/email"
	"backstop/lib/sinks/sinktest"
)

// server is a real SMTP server that keeps what it takes.
type server struct {
	addr  string
	roots *x509.CertPool

	mu       sync.Mutex
	taken    []taken
	greylist map[string]bool // senders seen, when it greylists
	fault    string          // of its authentication
	refused  []string        // mechanisms that are offered and not known
	refusal  int             // the code that says so
	echo     bool            // repeats a wrong password, in base64 too
}

type taken struct {
	from, to        string
	user, mechanism string
	utf8            bool
	data            string
}

type session struct {
	s          *server
	mechanisms []string
	got        taken
}

func (s *session) Reset() { s.got = taken{user: s.got.user, mechanism: s.got.mechanism} }

func (*session) Logout() error { return nil }

func (s *session) Mail(from string, o *smtp.MailOptions) error {
	s.got.from, s.got.utf8 = from, o.UTF8
	return nil
}

func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	if s.s.greylist != nil && !s.s.greylist[to] {
		s.s.greylist[to] = true
		return &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted, come back"}
	}
	if strings.HasPrefix(to, "nobody@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user " + to}
	}
	s.got.to = to
	return nil
}

func (s *session) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	s.got.data = string(data)
	s.s.taken = append(s.s.taken, s.got)
	return nil
}

func (s *session) AuthMechanisms() []string { return s.mechanisms }

func (s *session) Auth(mechanism string) (sasl.Server, error) {
	if slices.Contains(s.s.refused, mechanism) {
		return nil, &smtp.SMTPError{Code: s.s.refusal, EnhancedCode: smtp.EnhancedCode{5, 5, 4}, Message: "not this one"}
	}
	check := func(_, u, p string) error {
		if s.s.echo && p != pass {
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "not " + p + " " + base64.StdEncoding.EncodeToString([]byte(p))}
		}
		if u != user || p != pass {
			return smtp.ErrAuthFailed
		}
		s.got.user, s.got.mechanism = u, mechanism
		return nil
	}
	return saslServer(mechanism, s.s.fault, check)
}

// certificate returns one that is valid for 127.0.0.1, and the pool that trusts it.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.TLS.Certificates[0], roots
}

// serve starts a server. mode is how it protects connections, one of the sink's own
// modes.
func serve(t *testing.T, mode string, mechanisms []string, change func(*smtp.Server, *server)) *server {
	t.Helper()
	cert, roots := certificate(t)
	s := &server{roots: roots}
	real := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) {
		return &session{s: s, mechanisms: mechanisms}, nil
	}))
	real.Domain = "mx.example.org"
	real.AllowInsecureAuth = true
	real.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	switch mode {
	case email.TLSStartTLS:
		real.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	case email.TLSImplicit:
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	}
	if change != nil {
		change(real, s)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = real.Serve(l)
	}()
	t.Cleanup(func() {
		_ = real.Close()
		<-done
	})
	s.addr = l.Addr().String()
	return s
}

func (s *server) all() []taken {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

func (s *server) sink(t *testing.T, c email.Config) *email.Sink {
	t.Helper()
	c.SMTPAddr = s.addr
	if c.From == "" {
		c.From = "Shop <shop@example.com>"
	}
	sink, err := email.New("mail", c, &email.Options{RootCAs: s.roots})
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

// arrived parses what the server took back.
type arrived struct {
	header      mail.Header
	plain, html string
}

func parse(t *testing.T, data string) arrived {
	t.Helper()
	for line := range strings.SplitSeq(data, "\r\n") {
		if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00") {
			t.Errorf("a line breaks RFC 5322: %.100q (%d bytes)", line, len(line))
		}
	}
	m, err := mail.ReadMessage(strings.NewReader(data))
	if err != nil {
		t.Fatalf("the message cannot be parsed: %v\n%.2000s", err, data)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("Content-Type %q, want multipart/alternative: %v", m.Header.Get("Content-Type"), err)
	}
	a := arrived{header: m.Header}
	parts := multipart.NewReader(m.Body, params["boundary"])
	for i, want := range []string{"text/plain", "text/html"} {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		kind, params, err := mime.ParseMediaType(p.Header.Get("Content-Type"))
		if err != nil || kind != want || !strings.EqualFold(params["charset"], "utf-8") {
			t.Errorf("part %d is %q, want %s in UTF-8", i, p.Header.Get("Content-Type"), want)
		}
		if enc := p.Header.Get("Content-Transfer-Encoding"); enc != "quoted-printable" {
			t.Errorf("part %d is encoded as %q", i, enc)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		if body := strings.ReplaceAll(string(text), "\r\n", "\n"); i == 0 {
			a.plain = body
		} else {
			a.html = body
		}
	}
	if _, err := parts.NextRawPart(); err != io.EOF {
		t.Errorf("more than two parts: %v", err)
	}
	return a
}

// text decodes a header as a mail reader does.
func (a arrived) text(t *testing.T, name string) string {
	t.Helper()
	values := a.header[name]
	if len(values) != 1 {
		t.Fatalf("the header %s occurs %d times: %q", name, len(values), values)
	}
	s, err := new(mime.WordDecoder).DecodeHeader(values[0])
	if err != nil {
		t.Fatalf("header %s: %v", name, err)
	}
	return s
}

func TestMessageArrivesAsItWasGiven(t *testing.T) {
	s := serve(t, email.TLSStartTLS, []string{"PLAIN"}, nil)
	sink := s.sink(t, email.Config{From: "Späti Shop <shop@example.com>", AuthUser: user, AuthPass: pass})
	m := sinks.Message{
		ID:      "order:42/7@x",
		Subject: "Überfällig: Rechnung № 42 — " + strings.Repeat("sehr lang und dringend ", 20),
		Body:    "<p>Grüße,\n<b>Ann</b> &amp; Bob</p>\n.\n..\nFrom here\n" + strings.Repeat("x", 2000) + "<p>€ = 日本語 🎉</p>",
		Metadata: map[string]string{
			"order": "42", "X-Kind": "a, b; c", "x-note": "naïve " + strings.Repeat("wörd ", 200), "long": strings.Repeat("y", 3000),
			"spaces": "  two  and\tmore   ", "empty": "", "looks-encoded": "=?utf-8?q?a?=", "quotes": `"a" <b@example.org>`,
		},
	}
	if err := sink.Send(t.Context(), email.Recipient{Address: `"Ann Ö" <ann@example.org>`}, m); err != nil {
		t.Fatal(err)
	}
	all := s.all()
	if len(all) != 1 {
		t.Fatalf("%d messages arrived, want 1", len(all))
	}
	got := all[0]
	if got.from != "shop@example.com" || got.to != "ann@example.org" || got.user != user || got.utf8 {
		t.Errorf("envelope from %q to %q by %q, UTF-8 %v", got.from, got.to, got.user, got.utf8)
	}
	a := parse(t, got.data)
	want := map[string]string{
		"From": "Späti Shop <shop@example.com>", "To": "Ann Ö <ann@example.org>", "Subject": m.Subject,
		"Message-Id": "<order%3A42/7%40x.mail@example.com>", "Mime-Version": "1.0", "Auto-Submitted": "auto-generated",
		"X-Order": "42", "X-Kind": "a, b; c", "X-Note": m.Metadata["x-note"], "X-Long": m.Metadata["long"],
		"X-Spaces": m.Metadata["spaces"], "X-Empty": "", "X-Looks-Encoded": "=?utf-8?q?a?=", "X-Quotes": `"a" <b@example.org>`,
	}
	header := map[string]string{}
	for name := range want {
		header[name] = a.text(t, name)
	}
	if diff := cmp.Diff(want, header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	names := slices.Collect(maps.Keys(a.header))
	for _, name := range names {
		if _, ok := want[name]; !ok && name != "Date" && name != "Content-Type" && name != "Received" {
			t.Errorf("a header that nobody asked for: %s: %s", name, a.header.Get(name))
		}
	}
	if date, err := a.header.Date(); err != nil || time.Since(date) > time.Minute {
		t.Errorf("Date %q: %v", a.header.Get("Date"), err)
	}
	if a.html != m.Body {
		t.Errorf("HTML part %.200q, want %.200q", a.html, m.Body)
	}
	if !strings.HasPrefix(a.plain, "Grüße, Ann & Bob") || strings.Contains(a.plain, "<") || !strings.Contains(a.plain, "€ = 日本語 🎉") {
		t.Errorf("plain-text part %.300q", a.plain)
	}
}

func TestMessageIDIsStableAndTellsSinksApart(t *testing.T) {
	s := serve(t, email.TLSNone, nil, nil)
	ids := func(name, id string) string {
		t.Helper()
		sink, err := email.New(name, email.Config{SMTPAddr: s.addr, From: "shop@example.com", TLS: email.TLSNone}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Send(t.Context(), recipient, sinks.Message{ID: id, Body: "x"}); err != nil {
			t.Fatal(err)
		}
		all := s.all()
		return parse(t, all[len(all)-1].data).text(t, "Message-Id")
	}
	if a, b := ids("one", "d-1"), ids("one", "d-1"); a != b || a != "<d-1.one@example.com>" {
		t.Errorf("two attempts: %s and %s, want the same", a, b)
	}
	if a, b := ids("one", "d-1"), ids("two", "d-1"); a == b {
		t.Errorf("two sinks: both %s", a)
	}
	if a, b := ids("one", ""), ids("one", ""); a == b {
		t.Errorf("two messages without an id: both %s", a)
	}
}

func TestFailuresOfTheConnectionsProtection(t *testing.T) {
	m := sinks.Message{ID: "d", Body: "x"}
	for name, c := range map[string]struct {
		server, sink string
		mechanisms   []string
		auth, trust  bool
		host, want   string
	}{
		"unknown authority, STARTTLS":     {email.TLSStartTLS, email.TLSStartTLS, nil, false, false, "", "STARTTLS: certificate signed by an unknown authority"},
		"unknown authority, implicit":     {email.TLSImplicit, email.TLSImplicit, nil, false, false, "", "TLS handshake: certificate signed by an unknown authority"},
		"another host":                    {email.TLSStartTLS, email.TLSStartTLS, nil, false, true, "localhost", "certificate is for another host"},
		"STARTTLS not offered":            {email.TLSNone, email.TLSStartTLS, nil, false, true, "", "STARTTLS: the server does not offer it"},
		"authentication not offered":      {email.TLSStartTLS, email.TLSStartTLS, nil, true, true, "", "AUTH: the server offers no authentication"},
		"unknown authentication is a gap": {email.TLSStartTLS, email.TLSStartTLS, []string{"XOAUTH2"}, true, true, "", "AUTH: the server offers no authentication"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, c.server, c.mechanisms, nil)
			if !c.trust {
				s.roots = nil
			}
			if c.host != "" {
				_, port, err := net.SplitHostPort(s.addr)
				if err != nil {
					t.Fatal(err)
				}
				s.addr = net.JoinHostPort(c.host, port)
			}
			config := email.Config{TLS: c.sink}
			if c.auth {
				config.AuthUser, config.AuthPass = user, pass
			}
			err := s.sink(t, config).Send(t.Context(), recipient, m)
			if err == nil || !strings.Contains(err.Error(), c.want) || sinks.IsTransient(err) || !sinks.IsUnreached(err) {
				t.Errorf("Send = %v, want terminal, and no answer: %s", err, c.want)
			}
			if got := s.all(); len(got) != 0 {
				t.Errorf("%d messages arrived", len(got))
			}
		})
	}
}

func TestGreylistingPassesOnTheNextAttempt(t *testing.T) {
	s := serve(t, email.TLSStartTLS, nil, func(_ *smtp.Server, s *server) { s.greylist = map[string]bool{} })
	sink := s.sink(t, email.Config{})
	m := sinks.Message{ID: "d", Body: "x"}
	err := sink.Send(t.Context(), recipient, m)
	if !sinks.IsTransient(err) || !strings.Contains(err.Error(), "SMTP 451 4.7.1 greylisted, come back") {
		t.Errorf("first attempt: %v, want a transient SMTP 451", err)
	}
	if err := sink.Send(t.Context(), recipient, m); err != nil {
		t.Errorf("second attempt: %v", err)
	}
}

func TestUnknownUserIsTerminalAndNotNamed(t *testing.T) {
	s := serve(t, email.TLSStartTLS, nil, nil)
	err := s.sink(t, email.Config{}).Send(t.Context(), email.Recipient{Address: "nobody@example.org"}, sinks.Message{ID: "d", Body: "x"})
	if sinks.IsTransient(err) || err == nil || !strings.Contains(err.Error(), "SMTP 550 5.1.1 no such user [recipient]") {
		t.Errorf("Send = %v, want a terminal SMTP 550 without the address", err)
	}
}

func TestMessageLargerThanTheServersLimitIsTerminal(t *testing.T) {
	s := serve(t, email.TLSStartTLS, nil, func(real *smtp.Server, _ *server) { real.MaxMessageBytes = 1000 })
	err := s.sink(t, email.Config{}).Send(t.Context(), recipient, sinks.Message{ID: "d", Body: strings.Repeat("x", 2000)})
	if err == nil || sinks.IsTransient(err) || !strings.Contains(err.Error(), "the server takes 1000") {
		t.Errorf("Send = %v, want a terminal error that names the limit", err)
	}
}

func TestInternationalAddressesNeedTheServersConsent(t *testing.T) {
	for _, consent := range []bool{true, false} {
		t.Run(fmt.Sprint(consent), func(t *testing.T) {
			s := serve(t, email.TLSStartTLS, nil, func(real *smtp.Server, _ *server) { real.EnableSMTPUTF8 = consent })
			err := s.sink(t, email.Config{}).Send(t.Context(), email.Recipient{Address: "ànn@exämple.org"}, sinks.Message{ID: "d", Body: "x"})
			got := s.all()
			switch {
			case consent && (err != nil || len(got) != 1 || got[0].to != "ànn@exämple.org" || !got[0].utf8):
				t.Errorf("Send = %v, arrived %+v", err, got)
			case !consent && (err == nil || sinks.IsTransient(err) || !strings.Contains(err.Error(), "SMTPUTF8")):
				t.Errorf("Send = %v, want a terminal error that names SMTPUTF8", err)
			}
			if consent { // and an ASCII address does not ask for it
				if err := s.sink(t, email.Config{}).Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"}); err != nil || s.all()[1].utf8 {
					t.Errorf("an ASCII address: %v, UTF-8 %v", err, s.all()[1].utf8)
				}
			}
		})
	}
}

func TestRecipients(t *testing.T) {
	s, err := email.New("mail", email.Config{SMTPAddr: "mx.example.org:587", From: "shop@example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]sinks.Recipient{
		"": nil, "null": nil,
		`{"address":"ann@example.org"}`:            recipient,
		`{"address":"Ann B. <ann@example.org>"}`:   email.Recipient{Address: "Ann B. <ann@example.org>"},
		`{"address":"ann+tag@sub.example.org"}`:    email.Recipient{Address: "ann+tag@sub.example.org"},
		`{"address":"\"Ann, B\" <a@example.org>"}`: email.Recipient{Address: `"Ann, B" <a@example.org>`},
	} {
		if got, err := s.DecodeRecipient([]byte(raw)); err != nil || got != want {
			t.Errorf("DecodeRecipient(%q) = %v, %v, want %v", raw, got, err, want)
		}
	}
	for raw, field := range map[string]string{
		`{}`: "recipient.address:", `{"address":""}`: "recipient.address:", `{"address":5}`: "recipient.address:",
		`{"address":"ann"}`: "recipient.address:", `{"address":"a@b.example, c@d.example"}`: "recipient.address: want one address",
		`{"address":"list: a@b.example, c@d.example;"}`:      "recipient.address:",
		`{"address":"a@b.example\r\nRCPT TO:<c@d.example>"}`: "recipient.address:", `{"address":"a\u0000@b.example"}`: "recipient.address:",
		`{"address":"\"a b\"@c.example"}`: "recipient.address:", `{"address":"\"<a>\"@c.example"}`: "recipient.address:",
		`{"address":"a@b.example","cc":"x"}`: "recipient.cc:", `{"Address":"a@b.example"}`: "recipient.Address:", `"a@b.example"`: "recipient:",
		`{"address":"` + strings.Repeat("a", 400) + `@b.example"}`: "recipient.address:",
	} {
		_, err := s.DecodeRecipient([]byte(raw))
		if sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), field) {
			t.Errorf("DecodeRecipient(%.80q): %v, want %s naming %s", raw, err, sinks.CodeInvalidArgument, field)
		}
	}
	for name, to := range map[string]sinks.Recipient{"none": nil, "empty": email.Recipient{}, "a string": "ann@example.org"} {
		if err := s.Validate(to, sinks.Message{Body: "x"}); sinks.CodeOf(err) != sinks.CodeInvalidArgument {
			t.Errorf("Validate with %s: %v, want %s", name, err, sinks.CodeInvalidArgument)
		}
	}
	if sinks.Deduplicates(s) {
		t.Error("Deduplicates = true: not every mail system does")
	}
}

func TestValidateNamesTheField(t *testing.T) {
	s, err := email.New("mail", email.Config{SMTPAddr: "mx.example.org:587", From: "shop@example.com"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	meta := func(k, v string) sinks.Message { return sinks.Message{Metadata: map[string]string{k: v}} }
	for field, list := range map[string][]sinks.Message{
		"id ":                {{ID: "a b"}, {ID: "a\r\nb"}},
		"message.subject: ":  {{Subject: "a\nb"}, {Subject: "a\x00"}, {Subject: "a\x1b"}, {Subject: "\xff"}},
		"message.body: ":     {{Body: "a\x00b"}, {Body: "\xff"}},
		"message.metadata[":  {meta("", "x"), meta("a b", "x"), meta("a:", "x"), meta("ü", "x"), meta(strings.Repeat("k", 65), "x"), meta("a", "x\ny"), meta("a", "x\ry"), meta("a", "\x00"), meta("a", "\xff")},
		"message.metadata: ": {meta("a", strings.Repeat("x", 17<<10)), {Subject: strings.Repeat("x", 17<<10)}},
		"the same header":    {{Metadata: map[string]string{"note": "1", "X-Note": "2"}}, {Metadata: map[string]string{"x-note": "1", "X-Note": "2"}}},
	} {
		for _, m := range list {
			if err := s.Validate(recipient, m); sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), field) {
				t.Errorf("Validate(%.100q) = %v, want %s with %q", fmt.Sprint(m), err, sinks.CodeInvalidArgument, field)
			}
		}
	}
}

func TestConfigFaultsAreReportedTogetherWithoutSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		raw  map[string]any
		keys []string
	}{
		"nothing":       {nil, []string{"from", "smtp_addr"}},
		"unknown key":   {map[string]any{"smtp_addr": "a:1", "from": "a@b.example", "password": pass}, []string{"password"}},
		"wrong type":    {map[string]any{"smtp_addr": 25, "auth_pass": []any{pass}}, []string{"auth_pass", "from", "smtp_addr"}},
		"everything":    {map[string]any{"smtp_addr": "mx.example.org", "from": "shop", "auth_pass": pass, "tls": "ssl"}, []string{"auth_user", "from", "smtp_addr", "tls"}},
		"ports":         {map[string]any{"smtp_addr": "mx.example.org:0", "from": "a@b.example, c@d.example", "auth_user": "u"}, []string{"auth_pass", "from", "smtp_addr"}},
		"in the clear":  {map[string]any{"smtp_addr": "mx.example.org:25", "from": "a@b.example", "auth_user": "u", "auth_pass": pass, "tls": "none"}, []string{"tls"}},
		"no host":       {map[string]any{"smtp_addr": ":25", "from": "a@b.example"}, []string{"smtp_addr"}},
		"from with CR":  {map[string]any{"smtp_addr": "a:25", "from": "a@b.example\r\n"}, []string{"from"}},
		"port too high": {map[string]any{"smtp_addr": "a:65536", "from": "a@b.example"}, []string{"smtp_addr"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := sinks.BuildSink("email", "mail", c.raw)
			if sinks.CodeOf(err) != sinks.CodeSinkConfigInvalid {
				t.Fatalf("BuildSink: %v, want %s", err, sinks.CodeSinkConfigInvalid)
			}
			if got := sinktest.FaultyKeys(err); !slices.Equal(got, c.keys) {
				t.Errorf("faults in %q, want %q: %v", got, c.keys, err)
			}
			if strings.Contains(err.Error(), pass) {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
	s, err := sinks.BuildSink("email", "mail", map[string]any{"smtp_addr": "mx.example.org:587", "from": "a@b.example", "auth_user": user, "auth_pass": pass})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v %#v", s, s); got != "email sink mail email sink mail" {
		t.Errorf("a sink prints as %q", got)
	}
}

// A port and a protection that do not go together can be meant, on a test server. A check
// of the configuration says so.
func TestPortsAndProtectionThatDoNotGoTogetherAreNoted(t *testing.T) {
	for _, c := range []struct {
		addr, tls string
		noted     bool
	}{
		{"mx.example.org:465", "", true},
		{"mx.example.org:465", email.TLSStartTLS, true},
		{"mx.example.org:465", email.TLSNone, true},
		{"mx.example.org:465", email.TLSImplicit, false},
		{"mx.example.org:587", email.TLSImplicit, true},
		{"mx.example.org:25", email.TLSImplicit, true},
		{"mx.example.org:587", "", false},
		{"mx.example.org:25", email.TLSNone, false},
		{"mx.example.org:2525", email.TLSImplicit, false},
	} {
		s, err := email.New("mail", email.Config{SMTPAddr: c.addr, From: "a@b.example", TLS: c.tls}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := sinks.Advice(s)
		if (len(got) == 1 && got[0].Key == "tls") != c.noted || len(got) > 1 {
			t.Errorf("%s with tls %q: %v, want a note: %v", c.addr, c.tls, got, c.noted)
		}
	}
}
