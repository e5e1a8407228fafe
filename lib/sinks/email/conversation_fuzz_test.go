package email

import (
	"bufio"
	"net/mail"
	"strings"
	"testing"
	"unicode/utf8"
)

// Any input is a whole reply of one code, or none.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		"", "250\r\n", "250 ok\r\n", "250-a\r\n250-\r\n250\r\n", "250-a\r\ntext\r\n250 b\n", "250-a\r\n550 b\r\n", "220 x", "\x15\x03\x01\x00\x02\x02\x46",
		"999 x\r\n", "25\r\n", "2500 x\r\n", "250\t\r\n", "\r\n250 ok\r\n", "250-\n\n\n250-\n", "SSH-2.0-x\r\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, said string) {
		c := &conversation{in: bufio.NewReader(strings.NewReader(said))}
		r, err := c.answer()
		if err != nil {
			return
		}
		if r.code < 100 || r.code > 599 || len(r.lines) == 0 {
			t.Errorf("%q is read as %+v", said, r)
		}
		for _, l := range r.lines {
			if strings.Contains(l, "\n") {
				t.Errorf("%q: a line of the reply holds a line end: %q", said, l)
			}
		}
		if end := strings.LastIndexByte(said, '\n'); end < 0 {
			t.Errorf("%q has no end of a line, and is taken for a reply", said)
		}
	})
}

// A shown reply is short and printable, and names neither the recipient nor the password.
func FuzzShow(f *testing.F) {
	const address, pass = "pat.secret@example.com", "pa55-w0rd-s3cret"
	for _, seed := range []string{
		"", "5.1.1 <" + address + "> unknown", strings.ToUpper(address), "pat.secr", "...secret@example.com", "[[[", "pat%2Esecret=40x", pass, "\xff\x00\x1b[31m",
		strings.Repeat("pat.secret ", 600), "=?utf-8?q?pat=2Esecret?=", "&#112;at.secret", "+++===%%%", "\u202epat.secret", "pat.\u00adsecret",
	} {
		f.Add(seed)
	}
	s, err := New("mail", Config{SMTPAddr: "a:25", From: "shop@example.net", AuthUser: "u", AuthPass: pass}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		shown := s.show(&reply{code: 550, lines: strings.Split(text, "\n")}, &conversation{}, &mail.Address{Address: address})
		if !strings.HasPrefix(shown, "SMTP 550") || utf8.RuneCountInString(shown) > maxReply+len("SMTP 550 ...") || !utf8.ValidString(shown) || strings.ContainsAny(shown, "\x00\x1b\r\n\u202e") {
			t.Errorf("%q is shown as %q", text, shown)
		}
		for _, hidden := range []string{"pat.secret", "patsecret", pass} {
			if strings.Contains(strings.ToLower(shown), hidden) {
				t.Errorf("%q is shown as %q", text, shown)
			}
		}
	})
}
