package email

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"backstop/lib/sinks"
)

// A message is judged without being built: what passes can be built, and what does not is refused in the same words.
func FuzzValidateJudgesAsComposeDoes(f *testing.F) {
	for _, seed := range [][5]string{
		{"d-1", "Invoice", "<p>Dear reader</p>", "note", "a"},
		{"", "", "", "", ""},
		{"d 1", "\r\nBcc: x@y.example", "\x00", "List-Unsubscribe-Post", "List-Unsubscribe=One-Click"},
		{"d-1", "\xff", "a\xffb", "Reply-To", "nobody"},
		{"d-1", "日本語", "<p <b>&nbsp;&#0;&#x110000;</p", "List-Unsubscribe", "<https://x.example/u>"},
		{"d-1", "", "\u2028 &amp; <script>", "X-Note", strings.Repeat("x", maxHeaderBytes)},
		{"d-1", strings.Repeat("wörd ", 300), strings.Repeat("x", 2000) + "\r\r\n.\n", "From", "eve@example.org"},
		{strings.Repeat("i", 300), "", "x", strings.Repeat("k", 65), "\x7f"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3], seed[4])
	}
	s, err := New("mail", Config{SMTPAddr: "mx.example.org:587", From: "shop@example.com"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, id, subject, body, key, value string) {
		for _, m := range []sinks.Message{
			{ID: id, Subject: subject, Body: body},
			{ID: id, Subject: subject, Body: body, Metadata: map[string]string{key: value}},
		} {
			to := Recipient{Address: "ann@example.org"}
			rcpt, err := addressee(to)
			if err != nil {
				t.Fatal(err)
			}
			_, composed := s.compose(rcpt, m, time.Now())
			if judged := s.Validate(to, m); fmt.Sprint(judged) != fmt.Sprint(composed) || sinks.CodeOf(judged) != sinks.CodeOf(composed) {
				t.Errorf("Validate: %v, compose: %v; want the same", judged, composed)
			}
		}
	})
}

// BenchmarkValidate judges a message of 190 KB.
func BenchmarkValidate(b *testing.B) {
	s, err := New("mail", Config{SMTPAddr: "mx.example.org:587", From: "shop@example.com"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	for name, body := range map[string]string{"html": "<p>", "text": ""} {
		m := sinks.Message{ID: "m-1", Subject: "Invoice", Body: body + strings.Repeat("Dear reader, this is a line of text.\n", 190<<10/37)}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Validate(Recipient{Address: "b@example.org"}, m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
