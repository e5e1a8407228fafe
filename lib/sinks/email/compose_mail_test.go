package email_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"backstop/lib/sinks"
	"backstop/lib/sinks/email"
	"backstop/lib/sinks/sinktest"
)

// A domain has an ASCII form, which every server takes; only what stands before the @
// needs the server's consent.
func TestInternationalDomainsGoOutInPunycode(t *testing.T) {
	for _, consent := range []bool{false, true} {
		t.Run(fmt.Sprint(consent), func(t *testing.T) {
			t.Parallel()
			s := serve(t, email.TLSStartTLS, nil, func(real *smtp.Server, _ *server) { real.EnableSMTPUTF8 = consent })
			sink := s.sink(t, email.Config{From: "Späti <shop@MÜNCHEN.example>"})
			m := sinks.Message{ID: "d", Body: "x", Metadata: map[string]string{"Reply-To": "help@bücher.example"}}
			if err := sink.Send(t.Context(), email.Recipient{Address: "Ann Ö <ann@exämple.org>"}, m); err != nil {
				t.Fatal(err)
			}
			got := s.all()[0]
			if got.from != "shop@xn--mnchen-3ya.example" || got.to != "ann@xn--exmple-cua.org" || got.utf8 {
				t.Errorf("envelope from %q to %q, UTF-8 %v", got.from, got.to, got.utf8)
			}
			if strings.ContainsFunc(got.data, func(r rune) bool { return r > '~' }) {
				t.Errorf("the message is not ASCII: %q", got.data)
			}
			a := parse(t, got.data)
			for name, want := range map[string]string{
				"From": "Späti <shop@xn--mnchen-3ya.example>", "To": "Ann Ö <ann@xn--exmple-cua.org>",
				"Reply-To": "<help@xn--bcher-kva.example>", "Message-Id": "<d.mail@xn--mnchen-3ya.example>",
			} {
				if got := a.text(t, name); got != want {
					t.Errorf("%s: %s, want %s", name, got, want)
				}
			}
		})
	}
	for _, from := range []string{"shop@-ä.example", "shop@ä b.example", "shop@ä_b.example"} {
		_, err := email.New("mail", email.Config{SMTPAddr: "a:25", From: from}, nil)
		if got := sinktest.FaultyKeys(err); len(got) != 1 || got[0] != "from" {
			t.Errorf("from %q: %v, want a fault of from", from, err)
		}
	}
	s, err := email.New("mail", email.Config{SMTPAddr: "a:25", From: "ü@ä.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(email.Recipient{Address: "ann@-ä.example"}, sinks.Message{Body: "x"}); sinks.CodeOf(err) != sinks.CodeInvalidArgument {
		t.Errorf("Validate: %v, want %s", err, sinks.CodeInvalidArgument)
	}
}

// Mail systems read these headers (where answers go, how to unsubscribe) under their own
// names only.
func TestHeadersThatMailSystemsReadKeepTheirNames(t *testing.T) {
	s := serve(t, email.TLSNone, nil, nil)
	sink := s.sink(t, email.Config{TLS: email.TLSNone})
	long := "<https://example.org/u?t=" + strings.Repeat("x", 300) + ">"
	for name, c := range map[string]struct{ meta, want map[string]string }{
		"as they are": {
			map[string]string{"Reply-To": "Help Désk <help@example.org>", "List-Unsubscribe": "<mailto:u@example.org?subject=off>, " + long, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
			map[string]string{"Reply-To": "Help Désk <help@example.org>", "List-Unsubscribe": "<mailto:u@example.org?subject=off>, " + long, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
		},
		"in another case": {
			map[string]string{"reply-to": "help@example.org", "LIST-UNSUBSCRIBE": "<https://example.org/u>", "list-unsubscribe-post": " list-unsubscribe=one-click "},
			map[string]string{"Reply-To": "<help@example.org>", "List-Unsubscribe": "<https://example.org/u>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
		},
		"others stay ours": {
			map[string]string{"X-Reply-To": "anything", "Reply-To": "help@example.org", "List-Id": "<news.example.org>", "To": "x", "Bcc": "y@example.org", "Sender": "z"},
			map[string]string{"X-Reply-To": "anything", "Reply-To": "<help@example.org>", "X-List-Id": "<news.example.org>", "X-To": "x", "X-Bcc": "y@example.org", "X-Sender": "z"},
		},
	} {
		if err := sink.Send(t.Context(), recipient, sinks.Message{ID: "d", Body: "x", Metadata: c.meta}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		all := s.all()
		a := parse(t, all[len(all)-1].data)
		for header, want := range c.want {
			if got := a.text(t, header); got != want {
				t.Errorf("%s: %s: %s, want %s", name, header, got, want)
			}
		}
	}
	for _, meta := range []map[string]string{
		{"Reply-To": ""},
		{"Reply-To": "nobody"},
		{"Reply-To": "a@b.example, c@d.example"},
		{"Reply-To": "a@b.example\r\nBcc: c@d.example"},
		{"Reply-To": "ü@b.example"},
		{"Reply-To": "a@-ä.example"},
		{"Reply-To": "a@b.example", "reply-to": "a@b.example"},
		{"List-Unsubscribe": ""},
		{"List-Unsubscribe": "https://example.org/u"},
		{"List-Unsubscribe": "<javascript:alert(1)>"},
		{"List-Unsubscribe": "<https://example.org/u> now"},
		{"List-Unsubscribe": "<https://example.org/ü>"},
		{"List-Unsubscribe": "<https://example.org/a b>"},
		{"List-Unsubscribe": "<https:///u>"},
		{"List-Unsubscribe": "<mailto:>"},
		{"List-Unsubscribe": "<https://example.org/" + strings.Repeat("x", 1000) + ">"},
		{"List-Unsubscribe": "<https://example.org/u>,"},
		{"List-Unsubscribe": "<<https://example.org/u>>"},
		{"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
		{"List-Unsubscribe-Post": "yes", "List-Unsubscribe": "<https://example.org/u>"},
		{"List-Unsubscribe-Post": "List-Unsubscribe=One-Click", "List-Unsubscribe": "<mailto:u@example.org>"},
	} {
		if err := sinks.Validate(sink, recipient, sinks.Message{Body: "x", Metadata: meta}); sinks.CodeOf(err) != sinks.CodeInvalidArgument || !strings.Contains(err.Error(), "message.metadata[") {
			t.Errorf("Validate(%.200q) = %v, want %s that names the key", fmt.Sprint(meta), err, sinks.CodeInvalidArgument)
		}
	}
}

// A body without markup is a text: both parts show its lines, and what it has in angle
// brackets.
func TestABodyWithoutTagsIsAText(t *testing.T) {
	s := serve(t, email.TLSNone, nil, nil)
	sink := s.sink(t, email.Config{TLS: email.TLSNone})
	for body, want := range map[string]struct{ plain, html string }{
		"Dear <name>,\nyour order <id> is late.\n\n  Yours, <b&co>\n": {
			"Dear <name>,\nyour order <id> is late.\n\n  Yours, <b&co>", "Dear &lt;name&gt;,<br>your order &lt;id&gt; is late.<br><br>  Yours, &lt;b&amp;co&gt;",
		},
		"a\r\nb\rc": {"a\nb\nc", "a<br>b<br>c"},
		"1 < 2 && 3 > 2\nhttps://example.org/?a=1&copy=2&lt=3": {
			"1 < 2 && 3 > 2\nhttps://example.org/?a=1&copy=2&lt=3", "1 &lt; 2 &amp;&amp; 3 &gt; 2<br>https://example.org/?a=1&amp;copy=2&amp;lt=3",
		},
		"a &amp; b\n&lt;c&gt; &#8364;":                    {"a & b\n<c> €", "a &amp; b<br>&lt;c&gt; €"},
		"<title> and <b> and <time>\nand <address> \"x\"": {"<title> and <b> and <time>\nand <address> \"x\"", "&lt;title&gt; and &lt;b&gt; and &lt;time&gt;<br>and &lt;address&gt; &#34;x&#34;"},
		"ann <ann@example.org>\n<https://example.org/>":   {"ann <ann@example.org>\n<https://example.org/>", "ann &lt;ann@example.org&gt;<br>&lt;https://example.org/&gt;"},
		"List<String> a;\n</name> <my-tag x=\"1\">y</my-tag> <?php ?> <!here>": {
			"List<String> a;\n</name> <my-tag x=\"1\">y</my-tag> <?php ?> <!here>", "List&lt;String&gt; a;<br>&lt;/name&gt; &lt;my-tag x=&#34;1&#34;&gt;y&lt;/my-tag&gt; &lt;?php ?&gt; &lt;!here&gt;",
		},
		// With markup the body is HTML, and its line ends mean nothing.
		"one\ntwo<br>three <name>":             {"one two\nthree", "one\ntwo<br>three <name>"},
		"<p>one\ntwo":                          {"one two", "<p>one\ntwo"},
		"<b>one</b>\ntwo":                      {"one two", "<b>one</b>\ntwo"},
		"<a href='https://x.example'>one\ntwo": {"one two", "<a href='https://x.example'>one\ntwo"},
		"<!-- x -->one\ntwo":                   {"one two", "<!-- x -->one\ntwo"},
		"<!DOCTYPE html>one\ntwo":              {"one two", "<!DOCTYPE html>one\ntwo"},
		"<IMG SRC=x>\none\ntwo":                {"one two", "<IMG SRC=x>\none\ntwo"},
	} {
		if err := sink.Send(t.Context(), recipient, sinks.Message{ID: "d", Body: body}); err != nil {
			t.Errorf("%q: %v", body, err)
			continue
		}
		all := s.all()
		a := parse(t, all[len(all)-1].data)
		if a.plain != want.plain {
			t.Errorf("%q: plain-text part %q, want %q", body, a.plain, want.plain)
		}
		const open, end = `<div style="white-space: pre-wrap">`, `</div>`
		if html := strings.TrimSuffix(strings.TrimPrefix(a.html, open), end); html != want.html || (html == a.html) != (body == want.html) {
			t.Errorf("%q: HTML part %q, want %q", body, a.html, want.html)
		}
	}
}

// A message that is sent again is the same one: its date is that of the first attempt.
func TestTheDateIsThatOfTheFirstAttempt(t *testing.T) {
	s := serve(t, email.TLSNone, nil, nil)
	sink := s.sink(t, email.Config{TLS: email.TLSNone})
	first := time.Now().Add(-72 * time.Hour).Truncate(time.Second)
	ctx := sinks.WithFirstAttempt(t.Context(), first)
	for range 2 {
		if err := sink.Send(ctx, recipient, sinks.Message{ID: "d", Body: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	for _, got := range s.all() {
		if date, err := parse(t, got.data).header.Date(); err != nil || !date.Equal(first) {
			t.Errorf("Date %v (%v), want %v", date, err, first)
		}
	}
}
