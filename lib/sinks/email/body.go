package email

import (
	"html"
	"regexp"
	"strings"
	"sync"

	tokens "golang.org/x/net/html"
)

// bodies returns the two parts of a message: its plain text and its HTML. A body without
// markup is a text, and looks the same in both.
func bodies(body string) (text, markup string) {
	if isHTML(body) {
		return plainText(body), body
	}
	text = reference().ReplaceAllStringFunc(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(body), html.UnescapeString)
	text = strings.TrimLeft(strings.TrimRight(text, " \t\n"), "\n")
	if text == "" {
		return "", ""
	}
	// Readers that do not know the style keep the line breaks.
	return text, `<div style="white-space: pre-wrap">` + strings.ReplaceAll(html.EscapeString(text), "\n", "<br>") + `</div>`
}

// reference matches what only somebody who writes HTML writes. "&copy=2" is part of a URL.
var reference = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});`)
})

// Elements by which HTML is told from a text with words in angle brackets, such as
// "<name>" and "List<String>". alone are those whose start says enough; others, which may
// be such words ("<title>", "<time>"), need their end or an attribute's value.
var elements = sync.OnceValue(func() map[string]bool {
	const (
		alone  = "br hr wbr p li td th tr dt dd div h1 h2 h3 h4 h5 h6"
		others = "a abbr address article aside b big blockquote body button caption center cite code col colgroup del " +
			"details dfn dl em figcaption figure font footer form head header html i iframe img input ins kbd label link " +
			"main map mark meta nav ol picture pre q s samp script section small source span strike strong style sub " +
			"summary sup table tbody template tfoot thead time title tt u ul var video"
	)
	all := map[string]bool{}
	for name := range strings.FieldsSeq(others) {
		all[name] = false
	}
	for name := range strings.FieldsSeq(alone) {
		all[name] = true
	}
	return all
})

// isHTML reports whether a body has markup.
func isHTML(body string) bool {
	z := tokens.NewTokenizer(strings.NewReader(body))
	for {
		switch kind := z.Next(); kind {
		case tokens.ErrorToken:
			return false
		case tokens.DoctypeToken:
			return true
		case tokens.CommentToken:
			if strings.HasPrefix(string(z.Raw()), "<!--") {
				return true
			}
		case tokens.StartTagToken, tokens.SelfClosingTagToken, tokens.EndTagToken:
			t := z.Token()
			alone, known := elements()[t.Data]
			if !known {
				continue
			}
			if alone || kind == tokens.EndTagToken {
				return true
			}
			for _, a := range t.Attr {
				if a.Val != "" {
					return true
				}
			}
		}
	}
}
