package email

import (
	"bytes"
	"encoding/json"
	"net/mail"
	"strings"
	"testing"
	"time"

	"backstop/lib/sinks"
)

// An address that is taken is one address: in the command RCPT it ends where it should,
// and in the head of the message it is the only addressee.
func FuzzRecipient(f *testing.F) {
	for _, seed := range []string{
		"ann@example.org", "Ann <ann@example.org>", `"Ann, B" <a@example.org>`, "a@b.example, c@d.example", "list: a@b.example;",
		"a@b.example\r\nRCPT TO:<c@d.example>", "a@b.example> SIZE=1", `"a b"@c.example`, `"<a>"@c.example`, `"a\"b"@c.example`, "ànn@exämple.org",
		"a@[127.0.0.1]", "a@b.example (comment)", "=?utf-8?q?a=0D=0A?= <a@b.example>", "a\x00@b.example", "\xff@b.example", "", "@", "a@", strings.Repeat("a", 400) + "@b.example",
		"a@b.example\u2028", "a\u00ad@b.example", "<a@b.example", "a@b.example>",
	} {
		f.Add(seed)
	}
	s, err := New("mail", Config{SMTPAddr: "mx.example.org:587", From: "shop@example.com"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, address string) {
		raw, err := json.Marshal(map[string]string{"address": address})
		if err != nil {
			t.Fatal(err)
		}
		to, err := s.DecodeRecipient(raw)
		if err != nil {
			if sinks.CodeOf(err) != sinks.CodeInvalidArgument {
				t.Fatalf("%q: %v, want %s", address, err, sinks.CodeInvalidArgument)
			}
			return
		}
		a, err := addressee(to)
		if err != nil {
			t.Fatalf("%q is decoded, and then %v", address, err)
		}
		path := envelope(a)
		if inner := strings.TrimSuffix(strings.TrimPrefix(path, "<"), ">"); len(inner) != len(path)-2 || strings.ContainsAny(inner, "<> \t\r\n\x00\x7f") {
			t.Errorf("%q makes the path %q", address, path)
		}
		text, err := s.compose(a, sinks.Message{ID: "d", Body: "x"}, time.Now())
		if err != nil {
			t.Fatalf("%q is taken, and then %v", address, err)
		}
		m, err := mail.ReadMessage(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%q: the message cannot be parsed: %v\n%q", address, err, text)
		}
		if got, err := m.Header.AddressList("To"); err != nil || len(got) != 1 || got[0].Address != a.Address {
			t.Errorf("%q arrives as %v (%v) in %q", address, got, err, m.Header["To"])
		}
		if len(m.Header) != 7 { // Auto-Submitted, Content-Type, Date, From, Message-ID, MIME-Version, To
			t.Errorf("%q makes %d headers: %q", address, len(m.Header), m.Header)
		}
	})
}
