package email

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// plainText makes the plain-text alternative of an HTML body: the text, with line
// breaks where HTML starts a block, a dash before a list's items and a link's address
// behind it. It never fails; a body that is no HTML is its own text.
func plainText(body string) string {
	var w textWriter
	z := html.NewTokenizer(strings.NewReader(body))
	for {
		switch kind := z.Next(); kind {
		case html.ErrorToken:
			return strings.TrimSpace(w.String())
		case html.TextToken:
			if w.hidden == 0 {
				w.text(string(z.Text()))
			}
		case html.StartTagToken, html.SelfClosingTagToken, html.EndTagToken:
			w.tag(kind, z.Token())
		}
	}
}

// tag writes what a tag stands for in a text.
func (w *textWriter) tag(kind html.TokenType, t html.Token) {
	end := kind == html.EndTagToken
	switch t.DataAtom {
	case atom.Script, atom.Style, atom.Title, atom.Template, atom.Noscript:
		switch {
		case end && w.hidden == t.DataAtom:
			w.hidden = 0
		case kind == html.StartTagToken && w.hidden == 0:
			w.hidden = t.DataAtom
		}
	case atom.Br:
		w.breakLine(1)
	case atom.Li:
		w.breakLine(1)
		if !end {
			w.text("- ")
		}
	case atom.Td, atom.Th:
		w.text(" ")
	case atom.Div, atom.Tr, atom.Ul, atom.Ol, atom.Section, atom.Article, atom.Header, atom.Footer:
		w.breakLine(1)
	case atom.Pre:
		w.breakLine(2)
		w.lines = !end
	case atom.P, atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Table, atom.Blockquote, atom.Hr:
		w.breakLine(2)
	case atom.A:
		if end && w.href != "" && w.hidden == 0 {
			w.text(" <" + w.href + ">")
		}
		w.href = ""
		if !end {
			w.href = link(t.Attr)
		}
	}
}

// link returns the address that is worth showing.
func link(attrs []html.Attribute) string {
	for _, a := range attrs {
		if a.Key == "href" && (strings.HasPrefix(a.Val, "http://") || strings.HasPrefix(a.Val, "https://")) &&
			!strings.ContainsAny(a.Val, " \t\r\n<>") {
			return a.Val
		}
	}
	return ""
}

// textWriter collapses white space as HTML does and remembers the line breaks that
// are due before the next text.
type textWriter struct {
	strings.Builder
	breaks int
	space  bool
	lines  bool      // line ends count, as in <pre>
	hidden atom.Atom // the element whose content is not text, while inside it
	href   string    // of the link that is open
}

func (w *textWriter) breakLine(n int) { w.breaks, w.space = max(w.breaks, n), false }

func (w *textWriter) text(s string) {
	for _, r := range s {
		switch {
		case r == '\n' && w.lines:
			w.breakLine(1)
			continue
		case r == ' ' || r == '\t' || r == '\r' || r == '\n' || r == '\f':
			w.space = true
			continue
		}
		switch {
		case w.Len() == 0:
		case w.breaks > 0:
			w.WriteString(strings.Repeat("\n", w.breaks))
		case w.space:
			w.WriteByte(' ')
		}
		w.breaks, w.space = 0, false
		w.WriteRune(r)
	}
}
