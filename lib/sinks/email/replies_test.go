package email_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"backstop/lib/sinks"
	"backstop/lib/sinks/email"
	"backstop/lib/sinks/sinktest"
)

// sinkTo returns a sink to a scripted server that logs in over a connection in the clear.
func sinkTo(t *testing.T, s *scripted, change func(*email.Config, *email.Options)) *email.Sink {
	t.Helper()
	c := email.Config{SMTPAddr: s.addr, From: "shop@example.com", AuthUser: user, AuthPass: pass, TLS: email.TLSNone}
	var o email.Options
	if change != nil {
		change(&c, &o)
	}
	sink, err := email.New("mail", c, &o)
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

// Servers differ in what they add to a reply's code, which alone says what happened
// (RFC 5321, 4.2 and 4.3.2).
func TestRepliesAreReadByTheirCode(t *testing.T) {
	for _, b := range []sinktest.Behaviour{
		"terse",
		"greeting 220", "greeting 200 hello", "greeting 220-one\r\n220-\r\n220", "greeting 220-\r\n220",
		`EHLO 250-scripted\r\n250-auth plain\r\n250 8bitmime`, `EHLO 250-scripted\r\n250-Auth Login Plain\r\n250 Size 1000000`,
		`EHLO 250-scripted\r\n250 AUTH=PLAIN`, `EHLO 250-scripted\r\n250-AUTH=LOGIN\r\n250 AUTH PLAIN`, `EHLO 250-scripted\r\n250-AUTH PLAIN\r\n250`,
		"EHLO 250-scripted\n250 AUTH PLAIN",
		"AUTH 235", "AUTH 250 welcome", "MAIL 250", "MAIL 200 fine", "RCPT 250", "RCPT 251 forwarded", "RCPT 252 perhaps", "RCPT 299 fine",
		"DATA 354", "DATA 350 go on", "DATA 354-go\r\n354",
		". 250", ". 250 ", ". 200 ok", ". 252 queued", ". 299", `. 250-queued\r\n250`, `. 250-2.0.0\r\n250-\r\n250 as 42`, ". 250\tqueued",
		"QUIT 221", "QUIT 250 bye",
	} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			server := newScripted(t, b)
			if err := sinkTo(t, server, nil).Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"}); err != nil {
				t.Errorf("Send = %v", err)
			}
			if got := server.destination(nil).Accepted(); len(got) != 1 {
				t.Errorf("%d messages arrived", len(got))
			}
		})
	}
}

// The same holds within TLS: the terse server again, and one that writes its offers in
// lower case.
func TestRepliesAreReadByTheirCodeWithinTLS(t *testing.T) {
	cert, roots := certificate(t)
	for _, b := range []sinktest.Behaviour{
		`EHLO 250-scripted\r\n250-starttls\r\n250 auth plain`, `EHLO 250-scripted\r\n250-StartTLS\r\n250 AUTH=PLAIN`, `EHLO 250-scripted\r\n250-AUTH PLAIN\r\n250 STARTTLS`,
	} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			server := newScriptedTLS(t, b, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
			sink := sinkTo(t, server, func(c *email.Config, o *email.Options) { c.TLS, o.RootCAs = email.TLSStartTLS, roots })
			if err := sink.Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"}); err != nil {
				t.Errorf("Send = %v", err)
			}
			if got := server.destination(nil).Accepted(); len(got) != 1 {
				t.Errorf("%d messages arrived", len(got))
			}
		})
	}
}

// An offer counts in whatever case it is made.
func TestAServersLimitsCountInAnyCase(t *testing.T) {
	for b, want := range map[sinktest.Behaviour]string{
		`EHLO 250-scripted\r\n250-auth plain\r\n250 size 100`: "the server takes 100",
		`EHLO 250-scripted\r\n250-auth=plain\r\n250 Size=100`: "the server takes 100",
		`EHLO 250-scripted\r\n250-xauth\r\n250 auth-x plain`:  "AUTH: the server offers no authentication",
		`EHLO 250 scripted`:                                 "AUTH: the server offers no authentication",
		`EHLO 502 5.5.1 unknown`:                            "AUTH: the server offers no authentication",
		`EHLO 421 4.3.2 busy`:                               "EHLO: SMTP 421 4.3.2 busy",
		`greeting 220-SMTP\r\n250 mixed codes are no reply`: "greeting: the server does not speak SMTP",
		"greeting SSH-2.0-OpenSSH_9.9":                      "greeting: the server does not speak SMTP",
		"greeting HTTP/1.1 400 Bad Request":                 "greeting: the server does not speak SMTP",
		"greeting 22":                                       "greeting: the server does not speak SMTP",
		"greeting 999 no code":                              "greeting: the server does not speak SMTP",
		"MAIL 25O fine":                                     "MAIL FROM: the server does not speak SMTP",
		"DATA 250 taken already":                            "DATA: SMTP 250 taken already",
		"MAIL 150 wait":                                     "MAIL FROM: SMTP 150 wait",
		". 550":                                             "message: SMTP 550",
		"RCPT 550":                                          "RCPT TO: SMTP 550",
		"RCPT 450":                                          "RCPT TO: SMTP 450",
		`RCPT 550-\r\n550-5.1.1 no\r\n550`:                  "RCPT TO: SMTP 550 5.1.1 no",
	} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			server := newScripted(t, b)
			err := sinkTo(t, server, nil).Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"})
			if err == nil || !strings.Contains(err.Error(), want) || sinks.IsAmbiguous(err) {
				t.Errorf("Send = %v, want %q", err, want)
			}
		})
	}
}

// A server that refuses everybody before it knows of a message has not judged this one: it
// counts as an answer only from the message on.
func TestARefusalBeforeTheMessageIsNoAnswer(t *testing.T) {
	for b, unreached := range map[sinktest.Behaviour]bool{
		"greeting 554 no service here":                        true,
		"AUTH 535 5.7.8 no":                                   true,
		`EHLO 250 scripted`:                                   true, // no way to log in
		`EHLO 250-scripted\r\n250-auth plain\r\n250 size 100`: false,
		"MAIL 550 no":                                         false,
		"RCPT 550 5.1.1 no such user":                         false,
		". 554 no":                                            false,
		"greeting 421 busy":                                   false, // it may pass
	} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			err := sinkTo(t, newScripted(t, b), nil).Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"})
			if err == nil || sinks.IsUnreached(err) != unreached {
				t.Errorf("Send = %v, unreached %v, want %v", err, sinks.IsUnreached(err), unreached)
			}
		})
	}
}

// A server that offers more than it knows says 504, or 534 for a mechanism that it
// thinks too weak: the next one is tried over the same connection. LOGIN sends what PLAIN
// sends, so it is tried after it even where it was not offered.
func TestARefusedMechanismIsFollowedByTheNext(t *testing.T) {
	for _, c := range []struct {
		offered, refused []string
		code             int
		want             string
	}{
		{[]string{"PLAIN", "LOGIN"}, []string{"PLAIN"}, 504, "LOGIN"},
		{[]string{"PLAIN"}, []string{"PLAIN"}, 504, "LOGIN"},
		{[]string{"SCRAM-SHA-256", "PLAIN", "LOGIN"}, []string{"SCRAM-SHA-256", "PLAIN"}, 504, "LOGIN"},
		{[]string{"SCRAM-SHA-256", "CRAM-MD5"}, []string{"SCRAM-SHA-256"}, 534, "CRAM-MD5"},
		{[]string{"PLAIN", "LOGIN"}, []string{"PLAIN", "LOGIN"}, 504, ""},
		{[]string{"PLAIN", "LOGIN"}, []string{"PLAIN"}, 535, ""}, // the password is wrong: no second guess
	} {
		t.Run(fmt.Sprintf("%v without %v %d", c.offered, c.refused, c.code), func(t *testing.T) {
			t.Parallel()
			s := serve(t, email.TLSStartTLS, c.offered, func(_ *smtp.Server, s *server) { s.refused, s.refusal = c.refused, c.code })
			err := s.sink(t, email.Config{AuthUser: user, AuthPass: pass}).Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"})
			got := s.all()
			switch {
			case c.want == "" && (err == nil || sinks.IsTransient(err) || !strings.Contains(err.Error(), fmt.Sprintf("AUTH: SMTP %d", c.code)) || len(got) != 0):
				t.Errorf("Send = %v, want a terminal SMTP %d", err, c.code)
			case c.want != "" && (err != nil || len(got) != 1 || got[0].mechanism != c.want):
				t.Errorf("Send = %v, arrived %+v, want a login with %s", err, got, c.want)
			}
		})
	}
}

// No server can make Send outlive its context, neither by its words nor by its slowness,
// and a reply without end is not read for ever. A message that was taken is delivered,
// whatever follows.
func TestNothingThatAServerSaysOutlivesTheAttempt(t *testing.T) {
	cert, roots := certificate(t)
	within := map[string]string{"greeting": "", "EHLO": "", "AUTH": "", "MAIL": "", "RCPT": "", "DATA": "", ".": "ambiguous", "QUIT": "delivered", "STARTTLS": "", "handshake": ""}
	for stage, want := range within {
		for _, how := range []string{"endless", "wide", "slow", "hang"} {
			t.Run(stage+" "+how, func(t *testing.T) {
				t.Parallel()
				var protect *tls.Config
				change := func(*email.Config, *email.Options) {}
				script := stage + " " + how
				if stage == "STARTTLS" || stage == "handshake" {
					protect = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
					change = func(c *email.Config, o *email.Options) { c.TLS, o.RootCAs = email.TLSStartTLS, roots }
				}
				server := newScriptedTLS(t, sinktest.Behaviour(script), protect)
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				defer cancel()
				ended := make(chan error, 1)
				go func() {
					ended <- sinkTo(t, server, change).Send(ctx, recipient, sinks.Message{ID: "d", Body: "x"})
				}()
				var err error
				select {
				case err = <-ended:
				case <-time.After(10 * time.Second):
					t.Fatal("Send outlives its context")
				}
				switch want {
				case "ambiguous":
					if !sinks.IsAmbiguous(err) {
						t.Errorf("Send = %v, want an ambiguous error", err)
					}
				case "delivered":
					if err != nil {
						t.Errorf("Send = %v, want a delivery", err)
					}
				default:
					if err == nil || sinks.IsAmbiguous(err) || !sinks.IsTransient(err) && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("Send = %v, want the context's end or a transient error", err)
					}
				}
				server.closed() // and with it what could be read from it
			})
		}
	}
}

// The same before the first word, where TLS comes first: nothing comes, or a part of what
// should.
func TestAHandshakeThatStopsEndsWithTheAttempt(t *testing.T) {
	for _, b := range []sinktest.Behaviour{"greeting hang", "greeting \x16\x03\x03\x40\x00\x02"} {
		t.Run(string(b), func(t *testing.T) {
			t.Parallel()
			server := newScripted(t, b)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := sinkTo(t, server, func(c *email.Config, _ *email.Options) { c.TLS = email.TLSImplicit }).Send(ctx, recipient, sinks.Message{ID: "d", Body: "x"})
			if !errors.Is(err, context.DeadlineExceeded) || sinks.IsAmbiguous(err) || !strings.Contains(err.Error(), "TLS handshake: ended before") {
				t.Errorf("Send = %v, want the context's end", err)
			}
			server.closed()
		})
	}
}

// A port that waits for TLS says nothing, and a port that does not says SMTP: both are
// one wrong key in the configuration.
func TestTheOtherKindOfTLSIsNamed(t *testing.T) {
	m := sinks.Message{ID: "d", Body: "x"}
	for _, mode := range []string{email.TLSStartTLS, email.TLSNone} {
		t.Run(mode+" meets implicit", func(t *testing.T) {
			t.Parallel()
			s := serve(t, email.TLSImplicit, nil, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := s.sink(t, email.Config{TLS: mode}).Send(ctx, recipient, m)
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "tls: implicit") {
				t.Errorf("Send = %v, want the context's end and %q", err, "tls: implicit")
			}
		})
		t.Run(mode+" meets an alert", func(t *testing.T) {
			t.Parallel()
			server := newScripted(t, "greeting \x15\x03\x01\x00\x02\x02\x46")
			err := sinkTo(t, server, func(c *email.Config, _ *email.Options) { c.TLS = mode }).Send(t.Context(), recipient, m)
			if err == nil || sinks.IsTransient(err) || !strings.Contains(err.Error(), "tls: implicit") {
				t.Errorf("Send = %v, want a terminal error that says %q", err, "tls: implicit")
			}
		})
	}
	t.Run("implicit meets starttls", func(t *testing.T) {
		t.Parallel()
		s := serve(t, email.TLSStartTLS, nil, nil)
		err := s.sink(t, email.Config{TLS: email.TLSImplicit}).Send(t.Context(), recipient, m)
		if err == nil || sinks.IsTransient(err) || !strings.Contains(err.Error(), "tls: starttls") {
			t.Errorf("Send = %v, want a terminal error that says %q", err, "tls: starttls")
		}
	})
}

// Words in the clear before TLS began may come from somebody in between: they are not
// taken for words within TLS.
func TestWhatIsSaidBeforeTLSIsForgotten(t *testing.T) {
	cert, roots := certificate(t)
	server := newScriptedTLS(t, `STARTTLS 220 go\r\n250-injected\r\n250 AUTH PLAIN`, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	server.ehlo = "250-scripted\r\n250 STARTTLS"
	sink := sinkTo(t, server, func(c *email.Config, o *email.Options) { c.TLS, o.RootCAs = email.TLSStartTLS, roots })
	err := sink.Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"})
	if err == nil || !strings.Contains(err.Error(), "AUTH: the server offers no authentication") && !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("Send = %v, want an error: what was injected offered the login", err)
	}
}
