package email

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/wneessen/go-mail/smtp"
)

// mechanisms are the ways to log in that the sink knows, the strongest first. SCRAM
// never sends the password; the others rely on the connection's encryption.
var mechanisms = []struct {
	name string
	auth func(user, pass, host string) smtp.Auth
}{
	{"SCRAM-SHA-256", func(user, pass, _ string) smtp.Auth { return smtp.ScramSHA256Auth(user, pass) }},
	{"PLAIN", func(user, pass, host string) smtp.Auth { return smtp.PlainAuth("", user, pass, host, false) }},
	{"LOGIN", func(user, pass, host string) smtp.Auth { return smtp.LoginAuth(user, pass, host, false) }},
	{"CRAM-MD5", func(user, pass, _ string) smtp.Auth { return smtp.CRAMMD5Auth(user, pass) }},
}

// auth chooses the strongest mechanism that both sides know.
func (s *Sink) auth(c *smtp.Client) (smtp.Auth, error) {
	_, offered := c.Extension("AUTH")
	offers := strings.Fields(strings.ToUpper(offered))
	var known []string
	for _, m := range mechanisms {
		if slices.Contains(offers, m.name) {
			return &login{Auth: m.auth(s.user, s.pass.Reveal(), s.host), name: m.name}, nil
		}
		known = append(known, m.name)
	}
	return nil, &fault{"the server offers no authentication that this sink knows (" + strings.Join(known, ", ") + ")"}
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
		return nil, &fault{"the server does not keep to " + l.name + ", or does not know the password itself"}
	}
	return answer, nil
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
