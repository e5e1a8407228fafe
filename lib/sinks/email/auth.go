package email

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail/smtp"
)

const (
	plainName = "PLAIN"
	loginName = "LOGIN"
)

// mechanisms are the ways to log in that the sink knows, the strongest first. SCRAM
// never sends the password; the others rely on the connection's encryption.
var mechanisms = []struct {
	name string
	auth func(user, pass, host string) smtp.Auth
}{
	{"SCRAM-SHA-256", func(user, pass, _ string) smtp.Auth { return smtp.ScramSHA256Auth(user, pass) }},
	{plainName, func(user, pass, host string) smtp.Auth { return smtp.PlainAuth("", user, pass, host, false) }},
	{loginName, func(user, pass, host string) smtp.Auth { return smtp.LoginAuth(user, pass, host, false) }},
	{"CRAM-MD5", func(user, pass, _ string) smtp.Auth { return smtp.CRAMMD5Auth(user, pass) }},
}

// logIn logs in with the strongest mechanism that both sides know. One that the server
// offers and then refuses for itself, not for the password, is followed by the next;
// LOGIN is tried after PLAIN even where it was not offered: it sends the same.
func (s *Sink) logIn(c *conversation) error {
	offers := strings.Fields(strings.ToUpper(c.offers["AUTH"]))
	var known []string
	var refused error
	for _, m := range mechanisms {
		known = append(known, m.name)
		if !slices.Contains(offers, m.name) {
			continue
		}
		err := c.logIn(&login{Auth: m.auth(s.user, s.pass.Reveal(), s.host), name: m.name}, s.host)
		if !unknownMechanism(err) {
			return err
		}
		refused = err
		if m.name == plainName {
			offers = append(offers, loginName)
		}
	}
	if refused == nil {
		return &fault{"the server offers no authentication that this sink knows (" + strings.Join(known, ", ") + ")"}
	}
	return refused
}

// unknownMechanism reports whether a server declines a mechanism: it does not know it, or
// thinks it too weak (RFC 4954, 6).
func unknownMechanism(err error) bool {
	r, ok := errors.AsType[*reply](err)
	return ok && (r.code == 504 || r.code == 534)
}

// maxIterations bounds the work that a server may ask for to prove the password; usual
// are 4,096 to 100,000. Nothing could end that work before it is done.
const maxIterations = 1 << 20

// login is a mechanism that tells a server which breaks it from a lost connection, and
// that wants the server's own proof where the mechanism has one.
type login struct {
	smtp.Auth
	name   string
	proved bool
}

// Next implements smtp.Auth.
func (l *login) Next(challenge []byte, more bool) ([]byte, error) {
	if more && iterations(challenge) > maxIterations {
		return nil, &fault{"the server asks for too many iterations of " + l.name}
	}
	answer, err := l.Auth.Next(challenge, more)
	if more && err == nil && bytes.HasPrefix(challenge, []byte("v=")) {
		l.proved = true
	}
	unproved := !more && !l.proved && strings.HasPrefix(l.name, "SCRAM-")
	if err != nil || unproved { // the error's text may quote the server
		return nil, l.broken()
	}
	return answer, nil
}

func (l *login) broken() error {
	return &fault{"the server does not keep to " + l.name + ", or does not know the password itself"}
}

// iterations reads the attribute i of a SCRAM challenge; 0 without one.
func iterations(challenge []byte) int {
	for part := range bytes.SplitSeq(challenge, []byte(",")) {
		if digits, ok := bytes.CutPrefix(part, []byte("i=")); ok && bytes.HasPrefix(challenge, []byte("r=")) {
			if n, err := strconv.Atoi(string(digits)); err == nil {
				return n
			}
		}
	}
	return 0
}
