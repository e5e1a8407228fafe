package email_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"backstop/lib/sinks"
	"backstop/lib/sinks/email"
	"backstop/lib/sinks/sinktest"
)

// eachByte writes every byte of s that is in set (all of them when it is empty) by a
// format.
func eachByte(s, set, format string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if set == "" || strings.IndexByte(set, c) >= 0 {
			fmt.Fprintf(&b, format, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// echoes are the ways in which servers repeat an address, or might.
var echoes = map[string]func(address, name, domain string) string{
	"as it is":      func(a, _, _ string) string { return "550 5.1.1 <" + a + ">: Recipient address rejected: User unknown" },
	"bare":          func(a, _, _ string) string { return "550 5.1.1 no such user: " + a },
	"with a path":   func(a, _, _ string) string { return "550 5.1.1 RCPT TO:<" + a + "> refused" },
	"in upper case": func(a, _, _ string) string { return "550 5.1.1 <" + strings.ToUpper(a) + "> unknown" },
	"in title case": func(_, n, d string) string {
		return "550 5.1.1 <" + strings.ToUpper(n[:1]) + n[1:] + "@" + d + "> unknown"
	},
	"the name alone":   func(_, n, _ string) string { return "550 5.1.1 " + n + " unknown" },
	"the name, dots":   func(_, n, _ string) string { return "550 5.1.1 " + n + "... User unknown" },
	"the name, upper":  func(_, n, _ string) string { return "550 5.1.1 mailbox " + strings.ToUpper(n) + ": not here" },
	"the name, quoted": func(_, n, d string) string { return `550 5.1.1 "` + n + `"@` + d + ` unknown` },
	"the name, a path": func(_, n, _ string) string { return "550 5.1.1 cannot open /var/mail/" + n + "/new" },
	"a pair":           func(_, n, _ string) string { return "550 5.1.1 user=" + n + " not known" },
	"rewritten":        func(_, n, d string) string { return "550 5.1.1 <" + n + "%" + d + "@relay.example.net> unknown" },
	"SRS": func(_, n, d string) string {
		return "550 5.1.1 SRS0=Ab1=xY=" + d + "=" + n + "@forward.example.net refused"
	},
	"another domain":    func(_, n, _ string) string { return "550 5.1.1 " + n + "@internal.lan: not found" },
	"cut in the name":   func(a, _, _ string) string { return "550 5.1.1 <" + a[:6] + "..." + "> unknown" },
	"cut in the domain": func(a, _, _ string) string { return "550 5.1.1 unknown: " + a[:len(a)-5] },
	"cut at the end":    func(a, _, _ string) string { return "550 5.1.1 unknown " + a[:7] },
	"cut at the start":  func(_, n, _ string) string { return "550 5.1.1 unknown ..." + n[4:] + "@mx" },
	"starred":           func(_, n, d string) string { return "550 5.1.1 unknown " + n[:5] + "***@" + d },
	"over two lines":    func(a, _, _ string) string { return "550-5.1.1 unknown " + a[:7] + `\r\n550 5.1.1 ` + a[7:] },
	"percent": func(a, _, _ string) string {
		return "550 5.1.1 https://mx.example.net/?e=" + eachByte(a, "@.", "%%%02X")
	},
	"percent, all":       func(a, _, _ string) string { return "550 5.1.1 e=" + eachByte(a, "", "%%%02x") },
	"percent, twice":     func(a, _, _ string) string { return "550 5.1.1 e=" + eachByte(a, "", "%%25%02X") },
	"xtext":              func(a, _, _ string) string { return "550 5.1.1 ORCPT=rfc822;" + eachByte(a, "@.", "+%02X") },
	"xtext, all":         func(a, _, _ string) string { return "550 5.1.1 ORCPT=rfc822;" + eachByte(a, "", "+%02X") },
	"quoted-printable":   func(a, _, _ string) string { return "550 5.1.1 " + eachByte(a, "@.", "=%02X") + " unknown" },
	"quoted-printable 2": func(a, _, _ string) string { return "550 5.1.1 =?utf-8?q?" + eachByte(a, "", "=%02X") + "?= unknown" },
	"entities":           func(a, _, _ string) string { return "550 5.1.1 &lt;" + eachByte(a, "@.", "&#%d;") + "&gt; unknown" },
	"backslashes":        func(a, _, _ string) string { return "550 5.1.1 " + eachByte(a, "@.", `\%c`) + " unknown" },
	"escapes":            func(a, _, _ string) string { return "550 5.1.1 " + eachByte(a, "", `\x%02x`) + " unknown" },
	"escapes, JSON":      func(a, _, _ string) string { return "550 5.1.1 " + eachByte(a, "@.", `\u%04x`) + " unknown" },
	"base64": func(a, _, _ string) string {
		return "550 5.1.1 " + base64.StdEncoding.EncodeToString([]byte(a)) + " unknown"
	},
	"an encoded word": func(a, _, _ string) string {
		return "550 5.1.1 =?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte(a)) + "?= unknown"
	},
	"punycode": func(_, n, _ string) string { return "550 5.1.1 <" + n + "@xn--exmple-cua.org> unknown" },
	"invisible": func(_, n, d string) string {
		return "550 5.1.1 " + n[:3] + "\u200b" + n[3:] + "\u00ad@" + d + " unknown"
	},
	"wide letters":     func(a, _, _ string) string { return "550 5.1.1 " + strings.Map(wide, a) + " unknown" },
	"spaced":           func(a, _, _ string) string { return "550 5.1.1 " + strings.Join(strings.Split(a, ""), " ") },
	"spelled":          func(_, n, d string) string { return "550 5.1.1 " + n + " at " + d + " unknown" },
	"without its dots": func(_, n, _ string) string { return "550 5.1.1 " + strings.ReplaceAll(n, ".", "") + " unknown" },
	"an alias":         func(string, string, string) string { return "550 5.1.1 <somebody.else@example.net> unknown" },
	"far behind":       func(a, _, _ string) string { return "550 5.1.1 " + strings.Repeat("x ", 96) + a },
}

func wide(r rune) rune {
	if r > ' ' && r <= '~' {
		return r + 0xfee0
	}
	return r
}

// A recipient that a server repeats, in any form, reaches no error's text, and so neither
// the log nor the groups of dead letters: a failure reads the same for every recipient.
func TestTheRecipientIsShownInNoForm(t *testing.T) {
	addresses := []string{"pat.secret@example.com", "sam-hidden@example.com", "kim_nobody77@example.com"}
	for name, echo := range echoes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first string
			for _, address := range addresses {
				at := strings.IndexByte(address, '@')
				server := newScripted(t, sinktest.Behaviour("RCPT "+echo(address, address[:at], address[at+1:])))
				err := sinkTo(t, server, nil).Send(t.Context(), email.Recipient{Address: address}, sinks.Message{ID: "d", Body: "x"})
				if err == nil || !strings.Contains(err.Error(), "RCPT TO: SMTP 550 5.1.1") {
					t.Fatalf("Send = %v, want SMTP 550 5.1.1", err)
				}
				text := strings.ReplaceAll(err.Error(), server.addr, "ADDR")
				for _, part := range []string{address[:at], address[:5], address[at-5 : at], "somebody"} {
					if strings.Contains(strings.ToLower(text), part) {
						t.Errorf("%q shows %q", text, part)
					}
				}
				if first == "" {
					first = text
				} else if text != first {
					t.Errorf("two recipients: %q and %q", first, text)
				}
			}
		})
	}
}

// Text that names no one stays: an operator needs it.
func TestAServersTextIsShown(t *testing.T) {
	for to, texts := range map[string]map[string]string{
		"pat.secret@example.com": {
			"451 4.7.1 Greylisted, come back in 300 seconds":                                                                                   "",
			"550 5.7.26 Unauthenticated email from example.com is not accepted (DMARC)":                                                        "",
			"554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.example.net; https://www.example.net/query/ip/192.0.2.7": "",
			"553 5.7.1 <shop@example.com>: Sender address rejected: not owned by user":                                                         "",
			"550 pattern secretary separate":                                                                                                   "",
			"550 5.1.1 <shop@example.com>, <b@example.net> no":                                                                                 "550 5.1.1 <shop@example.com>, <[address]> no",
			"552 5.3.4 5.3.4 size=40 is 12.5% too much + 3":                                                                                    "",
		},
		"a@b.example":      {"550 5.1.1 no mail can go to b.example, Abel": ""},
		"ann@b.example":    {"550 5.1.1 cannot deliver, annual plan": "", "550 5.1.1 ann: cannot": "550 5.1.1 [recipient]: cannot"},
		"user@b.example":   {"550 5.1.1 users, superuser": ""},
		"55@b.example":     {"550 5.5.5 5.1.1 code 550": ""},
		"__@b.example":     {"550 5.1.1 __ no __@b.example": "550 5.1.1 [recipient] no [recipient]"},
		"x+news@b.example": {"550 5.1.1 news for x": "550 5.1.1 news for [recipient]"},
	} {
		for text, want := range texts {
			t.Run(to+" "+text, func(t *testing.T) {
				t.Parallel()
				if want == "" {
					want = text
				}
				err := sinkTo(t, newScripted(t, sinktest.Behaviour("RCPT "+text)), nil).Send(t.Context(), email.Recipient{Address: to}, sinks.Message{ID: "d", Body: "x"})
				if err == nil || !strings.HasSuffix(err.Error(), ": RCPT TO: SMTP "+want) {
					t.Errorf("Send = %v, want SMTP %s", err, want)
				}
			})
		}
	}
}

// A server may repeat what it was given to log in, whole or cut, in its own words or
// encodings, at once or later.
func TestWhatLogsInIsShownInNoForm(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte(pass))
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + pass))
	for _, b := range []string{
		"AUTH 535 5.7.8 you sent " + encoded, "AUTH 535 5.7.8 you sent '" + plain + "'", "AUTH 535 5.7.8 you sent " + strings.ToUpper(plain),
		"AUTH 535 5.7.8 you sent " + plain[:len(plain)-6] + "...", "AUTH 535 5.7.8 ... " + plain[8:], "AUTH 535 5.7.8 " + strings.TrimRight(encoded, "="),
		"AUTH 535 5.7.8 you sent " + strings.ToUpper(encoded), "AUTH 535 5.7.8 you sent " + encoded[:len(encoded)-6] + "...",
		"AUTH 535 5.7.8 you sent " + strings.ToUpper(pass), "AUTH 535 5.7.8 pass=" + eachByte(pass, "", "%%%02X"), "AUTH 535 5.7.8 " + eachByte(pass, "", "=%02X"),
		"AUTH 535 5.7.8 {line}", "AUTH 535-5.7.8 {line}\\r\\n535 {line}",
		"AUTH 535 " + base64.StdEncoding.EncodeToString([]byte(user+"\x00"+user+"\x00"+pass)),
		"MAIL 550 5.7.1 " + encoded + " may not send", "RCPT 550 5.7.1 " + plain, ". 550 5.7.1 " + pass, ". 354 " + pass,
	} {
		t.Run(b, func(t *testing.T) {
			t.Parallel()
			err := sinkTo(t, newScripted(t, sinktest.Behaviour(b)), nil).Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"})
			if err == nil || !strings.Contains(err.Error(), "[redacted]") {
				t.Fatalf("Send = %v, want an error with [redacted]", err)
			}
			for _, secret := range []string{pass, encoded[:10], plain[:12], plain[len(plain)-12:], "pa55"} {
				if strings.Contains(strings.ToLower(err.Error()), strings.ToLower(secret)) {
					t.Errorf("%v shows a part of what logs in, %s", err, secret)
				}
			}
		})
	}
}

// LOGIN sends the password in a line of its own.
func TestALoginsPasswordIsNotShown(t *testing.T) {
	for _, mechanism := range []string{"PLAIN", "LOGIN"} {
		s := serve(t, email.TLSStartTLS, []string{mechanism}, func(_ *smtp.Server, s *server) { s.echo = true })
		err := s.sink(t, email.Config{AuthUser: user, AuthPass: "wr0ng-s3cret"}).Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x"})
		if err == nil || !strings.Contains(err.Error(), "AUTH: SMTP 5") || strings.Contains(err.Error(), base64.StdEncoding.EncodeToString([]byte("wr0ng-s3cret"))) ||
			strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%s: %v, want a refusal without the password", mechanism, err)
		}
	}
}
