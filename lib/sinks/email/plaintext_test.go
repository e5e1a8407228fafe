package email

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPlainText(t *testing.T) {
	for _, c := range []struct{ html, want string }{
		{"", ""},
		{"just text", "just text"},
		{"  white \n\t space  ", "white space"},
		{"a &amp; b &lt;c&gt; &euro; &#8364; &nbsp;d", "a & b <c> € € \u00a0d"},
		{"<p>one</p><p>two</p>", "one\n\ntwo"},
		{"one<br>two<br/>three", "one\ntwo\nthree"},
		{"<h1>Title</h1>text", "Title\n\ntext"},
		{"<ul><li>a</li><li>b</li></ul>after", "- a\n- b\nafter"},
		{"<div>a</div><div>b</div>", "a\nb"},
		{"<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"},
		{"<pre>one\n  two</pre>three\nfour", "one\ntwo\n\nthree four"},
		{`<a href="https://x.example/?a=1&amp;b=2">see</a> it`, "see <https://x.example/?a=1&b=2> it"},
		{`<a href="javascript:alert(1)">see</a>`, "see"},
		{`<a href="/relative">see</a>`, "see"},
		{"<b>bold</b> and <i>it</i>alic", "bold and italic"},
		{"<head><title>t</title><style>p{}</style></head><body><script>x()</script>text</body>", "text"},
		{"<head><style>p{}</style><p>an unclosed head", "an unclosed head"},
		{"a<!-- comment -->b", "ab"},
		{"a < b and c > d", "a < b and c > d"},
		{"<p>broken <b>markup", "broken markup"},
		{"</p></p></a></style>x", "x"},
		{"日本語 <b>テ</b>キスト", "日本語 テキスト"},
	} {
		if got := plainText(c.html); got != c.want {
			t.Errorf("plainText(%q) = %q, want %q", c.html, got, c.want)
		}
	}
}

func FuzzPlainText(f *testing.F) {
	for _, seed := range []string{"<p>a</p>", "<a href='http://x'>y", "<script>", "&#x110000;", "<<>>", "<li><pre>\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := plainText(s)
		if utf8.ValidString(s) && !utf8.ValidString(got) {
			t.Errorf("plainText(%q) = %q is not valid UTF-8", s, got)
		}
		if got != strings.TrimSpace(got) {
			t.Errorf("plainText(%q) = %q has white space at an end", s, got)
		}
	})
}
