package email

import (
	"encoding/base64"
	"fmt"
	"html"
	"net/mail"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// maxReply is how much of a reply's text is shown, in characters.
	maxReply = 200
	// maxRead is how much of it is looked at, in bytes.
	maxRead = 4 << 10
)

// The marks that stand for hidden text.
const (
	redacted     = "[redacted]"
	itsRecipient = "[recipient]"
	otherAddress = "[address]"
)

// show returns a server's reply as an error may show it: the code, the enhanced code and
// the text, without what it may echo: what logs in, the recipient in whatever form, and
// other addresses than our own. One failure reads the same for every recipient.
func (s *Sink) show(r *reply, c *conversation, to *mail.Address) string {
	e := newEcho(to, s.from.Address, s.user)
	pass := s.pass.Reveal()
	e.hide(append([]string{pass, base64.StdEncoding.EncodeToString([]byte(pass))}, c.shown...)...)
	var text strings.Builder
	for i, left := 0, maxRead; i < len(r.lines) && left > 0; i++ {
		line := r.lines[i][:min(left, len(r.lines[i]))]
		left -= len(line) + 1
		text.WriteString(" " + e.clean(line))
	}
	shown := strings.Join(strings.Fields(text.String()), " ")
	if e.scattered(shown) {
		code, _, _ := strings.Cut(shown, " ")
		if !enhancedCode().MatchString(code) {
			code = ""
		}
		shown = code + " " + itsRecipient
	}
	if runes := []rune(shown); len(runes) > maxReply {
		shown = string(runes[:maxReply]) + "..."
	}
	return strings.TrimSpace(fmt.Sprintf("SMTP %d %s", r.code, strings.TrimSpace(shown)))
}

// echo finds the client's own words in a server's text.
type echo struct {
	secrets []string         // folded
	encoded []string         // those of them that are base64: known by a part
	written []*regexp.Regexp // the secrets as they are, in any case
	own     []string         // addresses that may be shown, folded
	part    string           // the recipient's address before the @, folded
	locals  []local
	whole   string // the recipient's address, squashed
}

// local is a form of the part before the recipient's @, squashed.
type local struct {
	text string
	// distinct: no word of a language, so it is found within longer words too.
	distinct bool
}

func newEcho(to *mail.Address, own ...string) *echo {
	e := &echo{whole: squash(fold(to.Address))}
	for _, a := range own {
		if strings.Contains(a, "@") {
			e.own = append(e.own, fold(a))
		}
	}
	e.part = fold(to.Address[:strings.LastIndexByte(to.Address, '@')])
	base, _, _ := strings.Cut(e.part, "+")
	for _, p := range []string{e.part, base} {
		if text := squash(p); text != "" {
			n := utf8.RuneCountInString(text)
			plain := !strings.ContainsFunc(p, func(r rune) bool { return !unicode.IsLetter(r) })
			e.locals = append(e.locals, local{text: text, distinct: n >= 8 || n >= 4 && !plain})
		}
	}
	return e
}

// hide sets the secrets.
func (e *echo) hide(secrets ...string) {
	// Longest first: a secret may contain another one.
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	for _, s := range secrets {
		if s == "" {
			continue
		}
		e.secrets = append(e.secrets, fold(s))
		e.written = append(e.written, regexp.MustCompile(`(?i)`+regexp.QuoteMeta(strings.ToValidUTF8(s, "?"))))
		if _, err := base64.StdEncoding.DecodeString(s); err == nil && len(s) >= secretPart {
			e.encoded = append(e.encoded, strings.TrimRight(fold(s), "="))
		}
	}
}

// delimiters end what can be one address.
const delimiters = "<>()[]{}\"`,; \t"

// clean returns a line without what must not be shown.
func (e *echo) clean(line string) string {
	line = html.UnescapeString(strings.ToValidUTF8(line, "?"))
	for _, s := range e.written {
		line = s.ReplaceAllLiteralString(line, redacted)
	}
	line = strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Cf, r): // invisible
			return -1
		case unicode.IsPrint(r):
			return r
		}
		return ' '
	}, line)
	var b strings.Builder
	for line != "" {
		n := strings.IndexAny(line, delimiters)
		if n < 0 {
			n = len(line)
		}
		b.WriteString(e.word(line[:n], strings.Trim(line[n:], delimiters) == ""))
		if n < len(line) {
			b.WriteByte(line[n])
			n++
		}
		line = line[n:]
	}
	return b.String()
}

var enhancedCode = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[245]\.[0-9]{1,3}\.[0-9]{1,3}$`) })

// punctuation may stand around a word without being part of it.
const punctuation = ".:!?*'|\\/=-_…"

// word returns a word, or what stands for it. The last one of a line may be cut off.
func (e *echo) word(w string, last bool) string {
	core := strings.TrimLeft(w, punctuation)
	before := w[:len(w)-len(core)]
	core = strings.TrimRight(core, punctuation)
	after := w[len(before)+len(core):]
	if enhancedCode().MatchString(core) || core == strings.Trim(redacted, "[]") {
		return w
	}
	cutStart, cutEnd := isCut(before), last || isCut(after)
	stands := ""
	for i, v := range slices.Concat(forms(w), forms(core)) {
		switch {
		case e.secret(v):
			stands = redacted
		case stands == redacted, stands == itsRecipient:
		case e.names(v, cutStart, cutEnd):
			stands = itsRecipient
		case stands == "" && isAddress(v, i > 0) && !slices.ContainsFunc(e.own, func(own string) bool { return strings.Contains(v, own) }):
			stands = otherAddress
		}
	}
	if stands == "" {
		return w
	}
	// Of what stood around it only what cannot be a part of it.
	keep := func(s string) string {
		return strings.Map(func(r rune) rune {
			if strings.ContainsRune(".:!?'…", r) {
				return r
			}
			return -1
		}, s)
	}
	return keep(before) + stands + keep(after)
}

// isCut reports whether what stands around a word says that the word goes on.
func isCut(s string) bool { return strings.ContainsAny(s, "*…") || strings.Contains(s, "..") }

// secretPart is how much of an encoded secret is known as a part of it.
const secretPart = 8

// secret reports whether v, a word's form, holds a secret, or a part of an encoded one.
func (e *echo) secret(v string) bool {
	if slices.ContainsFunc(e.secrets, func(s string) bool { return strings.Contains(v, s) }) {
		return true
	}
	for _, s := range e.encoded {
		for i := 0; i+secretPart <= len(s); i++ {
			if strings.Contains(v, s[i:i+secretPart]) {
				return true
			}
		}
	}
	return false
}

// names reports whether v, a word's form, names the recipient.
func (e *echo) names(v string, cutStart, cutEnd bool) bool {
	s := squash(v)
	if s == "" || v == e.part {
		return v == e.part
	}
	const least = 4 // characters that are left of an address that was cut
	if n := utf8.RuneCountInString(s); n >= least && (cutEnd && strings.HasPrefix(e.whole, s) || cutStart && strings.HasSuffix(e.whole, s)) {
		return true
	}
	for _, l := range e.locals {
		if s == l.text || l.distinct && strings.Contains(s, l.text) {
			return true
		}
		is := func(part string) bool { return squash(part) == l.text }
		if slices.ContainsFunc(strings.FieldsFunc(v, func(r rune) bool { return strings.ContainsRune(":=/|\\!%&?#'@", r) }), is) ||
			slices.ContainsFunc(strings.FieldsFunc(v, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }), is) {
			return true
		}
	}
	return false
}

// scattered reports whether the recipient can still be read in text over its words.
func (e *echo) scattered(text string) bool {
	s := squash(fold(text))
	return e.whole != "" && strings.Contains(s, e.whole) ||
		slices.ContainsFunc(e.locals, func(l local) bool { return l.distinct && len(l.text) >= 6 && strings.Contains(s, l.text) })
}

// isAddress reports whether v holds an address; decoded text must look like one.
func isAddress(v string, decoded bool) bool {
	_, domain, ok := strings.Cut(v, "@")
	return ok && (!decoded || strings.Contains(domain, "."))
}

// forms returns what a word may stand for, folded, itself first: the encodings that
// servers are known to echo in.
func forms(word string) []string {
	out := []string{fold(word)}
	add := func(v string) {
		if v != word && utf8.ValidString(v) {
			out = append(out, fold(v))
		}
	}
	percent := unhex(word, "%")
	add(percent)
	add(unhex(percent, "%"))
	add(unhex(word, "+"))                 // xtext, RFC 3461
	add(unhex(word, "="))                 // quoted-printable
	add(unhex(unhex(word, `\x`), `\u00`)) // as programs quote
	for _, part := range strings.FieldsFunc(word, func(r rune) bool { return strings.ContainsRune("?=:", r) }) {
		if len(part) < secretPart {
			continue
		}
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if b, err := encoding.DecodeString(part); err == nil {
				add(string(b))
			}
		}
	}
	return out
}

// unhex replaces a mark and two hexadecimal digits by the byte that they stand for.
func unhex(s, mark string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(s, mark)
		b.WriteString(before)
		if !found {
			return b.String()
		}
		n, err := uint64(0), error(strconv.ErrSyntax)
		if len(rest) >= 2 {
			n, err = strconv.ParseUint(rest[:2], 16, 8)
		}
		if err != nil {
			b.WriteString(mark)
			s = rest
			continue
		}
		b.WriteByte(byte(n))
		s = rest[2:]
	}
}

// fold returns s so that texts that differ in case or in the forms of their characters
// are the same.
func fold(s string) string { return norm.NFKC.String(strings.ToLower(norm.NFKC.String(s))) }

// squash keeps the letters and digits of s.
func squash(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) {
			return r
		}
		return -1
	}, s)
}
