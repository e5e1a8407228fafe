package email

import (
	"bytes"
	"io"
	"mime"
	"net/mail"
	"strings"
	"testing"
	"time"

	"backstop/lib/sinks"
)

func FuzzHeadersArriveAsTheyWere(f *testing.F) {
	for _, seed := range [][2]string{
		{"", ""},
		{"plain", "two words"},
		{"Überfällig", "日本語 🎉"},
		{" spaces  ", "a\tb"},
		{"a\r\nBcc: x@y.example", "a\x00"},
		{strings.Repeat("x", 2000), strings.Repeat("wörd ", 300)},
		{"=?utf-8?q?a?=", "=?utf-8?b?*?= x"},
		{"\xff", "\u2028"},
		{"a,b", "<a@b>"},
	} {
		f.Add(seed[0], seed[1])
	}
	s, err := New("mail", Config{SMTPAddr: "mx.example.org:587", From: "shop@example.com"}, nil)
	if err != nil {
		f.Fatal(err)
	}
	to := &mail.Address{Address: "ann@example.org"}
	f.Fuzz(func(t *testing.T, subject, value string) {
		text, err := s.compose(to, sinks.Message{ID: "d", Subject: subject, Body: "x", Metadata: map[string]string{"note": value}}, time.Now())
		if err != nil {
			if sinks.CodeOf(err) != sinks.CodeInvalidArgument {
				t.Fatalf("compose: %v, want %s", err, sinks.CodeInvalidArgument)
			}
			return
		}
		m, err := mail.ReadMessage(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("the message cannot be parsed: %v\n%q", err, text)
		}
		if _, err := io.Copy(io.Discard, m.Body); err != nil {
			t.Fatal(err)
		}
		want := 8 // Auto-Submitted, Content-Type, Date, From, Message-ID, MIME-Version, To, X-Note
		if subject != "" {
			want++
		}
		if len(m.Header) != want {
			t.Errorf("%d headers, want %d: %q", len(m.Header), want, m.Header)
		}
		for name, want := range map[string]string{"Subject": subject, "X-Note": value} {
			if got, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get(name)); err != nil || got != want {
				t.Errorf("%s = %q, %v, want %q", name, got, err, want)
			}
		}
	})
}
