package dlq

import (
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxFingerprint bounds a fingerprint, in bytes; errors are read up to four times that.
const maxFingerprint = 120

// variable matches the parts of a word that differ between failures of one kind. The
// order of the alternatives matters: the first that matches at a place wins.
var variable = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(strings.Join([]string{
		`(?P<email>[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+[A-Za-z0-9])`,
		`(?P<id>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b)`,
		`(?P<host>\[[0-9a-fA-F:.%a-z]+\]:[0-9]+|\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?::[0-9]+)?\b|\b[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*:[0-9]{2,5}\b|\b(?:[0-9a-fA-F]{1,4}:){3,7}[0-9a-fA-F]{1,4}\b)`,
		`(?P<hex>\b(?:0x[0-9a-fA-F]+|[0-9a-fA-F]{8,})\b)`,
		`(?P<n>[0-9]+(?:\.[0-9]+)*)`,
	}, "|"))
})

var masks = sync.OnceValue(func() []string {
	names := variable().SubexpNames()
	masks := make([]string, len(names))
	for i, n := range names {
		masks[i] = "<" + n + ">"
		if n == "hex" {
			masks[i] = "<id>"
		}
	}
	return masks
})

// status matches a number that tells kinds of failure apart when it follows the name of
// its protocol.
var status = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[1-5][0-9]{2}\b`) })

// Fingerprint returns what failures of one kind have in common: lastError with
// numbers, ids, hosts, addresses and quoted texts masked, white space folded, at most
// 120 bytes. HTTP and SMTP status numbers stay.
//
// Every push computes one, so the expression runs only on words with a digit or an @.
func Fingerprint(lastError string) string {
	s := strings.Join(strings.Fields(cut(lastError, 4*maxFingerprint)), " ")
	var b strings.Builder
	for len(s) > 0 {
		if q := s[0]; q == '"' || q == '\'' || q == '`' {
			if end := strings.IndexByte(s[1:], q); end >= 0 {
				b.WriteString("<text>")
				s = s[end+2:]
				continue
			}
		}
		n := 1 + strings.IndexAny(s[1:], " \"'`")
		if n == 0 {
			n = len(s)
		}
		word := s[:n]
		s = s[n:]
		if strings.ContainsAny(word, "0123456789@") {
			word = maskWord(&b, word)
		}
		b.WriteString(word)
	}
	return cut(b.String(), maxFingerprint)
}

// maskWord writes word with what differs masked, up to the last mask, and returns the
// rest. A word begins with the space before it.
func maskWord(b *strings.Builder, word string) string {
	if strings.HasPrefix(word, " ") {
		b.WriteByte(' ')
		word = word[1:]
		if before := b.String(); strings.HasSuffix(before, "HTTP ") || strings.HasSuffix(before, "SMTP ") {
			code := status().FindString(word)
			b.WriteString(code)
			word = word[len(code):]
		}
	}
	at := 0
	for _, m := range variable().FindAllStringSubmatchIndex(word, -1) {
		b.WriteString(word[at:m[0]])
		at = m[1]
		for g := 1; 2*g < len(m); g++ {
			if m[2*g] >= 0 {
				b.WriteString(masks()[g])
			}
		}
	}
	return word[at:]
}

// cut returns at most n bytes of s, in valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
