package email_test

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"backstop/lib/sinks"
	"backstop/lib/sinks/email"
	"backstop/lib/sinks/sinktest"
)

// loginServer is the server's side of the mechanism LOGIN.
type loginServer struct {
	check func(identity, user, pass string) error
	user  *string
}

func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	switch {
	case response == nil:
		return []byte("Username:"), false, nil
	case l.user == nil:
		u := string(response)
		l.user = &u
		return []byte("Password:"), false, nil
	default:
		return nil, true, l.check("", *l.user, string(response))
	}
}

// cramServer is the server's side of CRAM-MD5 (RFC 2195).
type cramServer struct {
	check func(identity, user, pass string) error
	asked string
}

func (c *cramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if c.asked == "" {
		c.asked = "<1896.697170952@mx.example.org>"
		return []byte(c.asked), false, nil
	}
	mac := hmac.New(md5.New, []byte(pass))
	mac.Write([]byte(c.asked))
	if want := fmt.Sprintf("%s %x", user, mac.Sum(nil)); string(response) != want {
		return nil, true, smtp.ErrAuthFailed
	}
	return nil, true, c.check("", user, pass)
}

// scramServer is the server's side of SCRAM-SHA-256 (RFC 5802, RFC 7677), written from
// those. Its faults are those of a server that is not what it says.
type scramServer struct {
	check func(identity, user, pass string) error
	fault string // "": none

	bare, first string
	sent        int
}

const scramSalt = "0123456789abcdef"

func (s *scramServer) Next(response []byte) (challenge []byte, done bool, err error) {
	s.sent++
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	switch s.sent {
	case 1: // the client sends its first message when it is asked to
		return []byte{}, false, nil
	case 2:
		bare, ok := strings.CutPrefix(string(response), "n,,")
		name, nonce, _ := strings.Cut(bare, ",r=")
		if !ok || name != "n="+user {
			return nil, true, smtp.ErrAuthFailed
		}
		s.bare, s.first = bare, "r="+nonce+"mine,s="+base64.StdEncoding.EncodeToString([]byte(scramSalt))+",i=4096"
		switch s.fault {
		case "iterations":
			s.first = strings.Replace(s.first, "i=4096", "i=2000000000", 1)
		case "nonce":
			s.first = "r=other" + s.first[2:]
		case "nonsense":
			s.first = "what"
		}
		return []byte(s.first), false, nil
	case 3:
		salted, err := pbkdf2.Key(sha256.New, pass, []byte(scramSalt), 4096, sha256.Size)
		if err != nil {
			return nil, true, err
		}
		final, proof, _ := strings.Cut(string(response), ",p=")
		said := s.bare + "," + s.first + "," + final
		key := mac(salted, "Client Key")
		stored := sha256.Sum256(key)
		want := mac(stored[:], said)
		for i := range want {
			want[i] ^= key[i]
		}
		if proof != base64.StdEncoding.EncodeToString(want) {
			return nil, true, smtp.ErrAuthFailed
		}
		signature := base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), said))
		if s.fault == "no signature" {
			return nil, true, s.check("", user, pass)
		}
		if s.fault == "signature" {
			signature = base64.StdEncoding.EncodeToString(mac([]byte("a guess"), said))
		}
		return []byte("v=" + signature), false, nil
	default:
		return nil, true, s.check("", user, pass)
	}
}

// saslServer returns the server's side of a mechanism.
func saslServer(mechanism, fault string, check func(identity, user, pass string) error) (sasl.Server, error) {
	switch mechanism {
	case "SCRAM-SHA-256":
		return &scramServer{check: check, fault: fault}, nil
	case "PLAIN":
		return sasl.NewPlainServer(check), nil
	case "LOGIN":
		return &loginServer{check: check}, nil
	case "CRAM-MD5":
		return &cramServer{check: check}, nil
	}
	return nil, smtp.ErrAuthUnknownMechanism
}

// Each mechanism logs in over each protection, and a wrong password is refused by the
// server in its own words.
func TestConnectionsAreProtectedAndLoggedIn(t *testing.T) {
	for _, mode := range []string{email.TLSStartTLS, email.TLSImplicit, email.TLSNone} { // none: to the local host only
		for _, mechanism := range []string{"SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"} {
			t.Run(mode+" and "+mechanism, func(t *testing.T) {
				t.Parallel()
				s := serve(t, mode, []string{"XOAUTH2", mechanism}, nil)
				sink := s.sink(t, email.Config{AuthUser: user, AuthPass: pass, TLS: mode})
				if err := sink.Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"}); err != nil {
					t.Fatal(err)
				}
				if got := s.all(); len(got) != 1 || got[0].user != user || got[0].mechanism != mechanism {
					t.Errorf("the server took %d messages, %+v", len(got), got)
				}
				wrong := s.sink(t, email.Config{AuthUser: user, AuthPass: "wr0ng-s3cret", TLS: mode})
				err := wrong.Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"})
				if err == nil || sinks.IsTransient(err) || !strings.Contains(err.Error(), "AUTH: SMTP 5") || strings.Contains(err.Error(), "wr0ng") {
					t.Errorf("with a wrong password: %v, want a terminal SMTP 5xx", err)
				}
				if got := s.all(); len(got) != 1 {
					t.Errorf("%d messages arrived with a wrong password", len(got)-1)
				}
			})
		}
	}
}

func TestTheStrongestMechanismIsUsed(t *testing.T) {
	all := []string{"CRAM-MD5", "LOGIN", "XOAUTH2", "PLAIN", "SCRAM-SHA-256"}
	for _, want := range []string{"SCRAM-SHA-256", "PLAIN", "LOGIN", "CRAM-MD5"} {
		s := serve(t, email.TLSStartTLS, all, nil)
		if err := s.sink(t, email.Config{AuthUser: user, AuthPass: pass}).Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"}); err != nil {
			t.Fatal(err)
		}
		if got := s.all(); len(got) != 1 || got[0].mechanism != want {
			t.Errorf("of %q: %+v, want %s", all, got, want)
		}
		all = slices.DeleteFunc(slices.Clone(all), func(m string) bool { return m == want })
	}
}

// A server that cannot prove that it knows the password gets no message, and cannot
// make the sink compute for ever.
func TestAServerThatBreaksTheMechanismGetsNoMessage(t *testing.T) {
	for fault, want := range map[string]string{
		"signature": "does not know the password itself", "no signature": "does not know the password itself", "nonce": "does not keep to SCRAM-SHA-256",
		"nonsense": "does not keep to SCRAM-SHA-256", "iterations": "too many iterations",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := serve(t, email.TLSStartTLS, []string{"SCRAM-SHA-256"}, func(_ *smtp.Server, s *server) { s.fault = fault })
			err := s.sink(t, email.Config{AuthUser: user, AuthPass: pass}).Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"})
			if err == nil || sinks.IsTransient(err) || sinks.IsAmbiguous(err) || !strings.Contains(err.Error(), "AUTH: ") || !strings.Contains(err.Error(), want) {
				t.Errorf("Send = %v, want a terminal error: %s", err, want)
			}
			if got := s.all(); len(got) != 0 {
				t.Errorf("%d messages arrived", len(got))
			}
		})
	}
}

// Somebody in between who takes STARTTLS out of the server's offer, or refuses it, must
// see neither a login nor a message.
func TestNothingIsSentBeforeTheConnectionIsEncrypted(t *testing.T) {
	for name, behaviour := range map[string]sinktest.Behaviour{
		"not offered": sinktest.Accept,
		"refused":     `EHLO 250-scripted\r\n250-AUTH PLAIN LOGIN CRAM-MD5 SCRAM-SHA-256\r\n250 STARTTLS`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := newScripted(t, behaviour)
			s, err := email.New("mail", email.Config{SMTPAddr: server.addr, From: "shop@example.com", AuthUser: user, AuthPass: pass}, nil)
			if err != nil {
				t.Fatal(err)
			}
			err = s.Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"})
			if err == nil || !strings.Contains(err.Error(), "STARTTLS") {
				t.Errorf("Send = %v, want an error that names STARTTLS", err)
			}
			for _, line := range server.lines() {
				if verb, _, _ := strings.Cut(line, " "); verb != "EHLO" && verb != "STARTTLS" && verb != "QUIT" {
					t.Errorf("in the clear: %q", line)
				}
			}
			if len(server.lines()) == 0 {
				t.Error("the server heard nothing: the test proves nothing")
			}
		})
	}
}
