package config

import (
	"cmp"
	"encoding/base64"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ownValue is what to do about a placeholder.
const ownValue = "a placeholder: put your own value here"

// placeholders notes the values that are nobody's own, but a sample's.
func (d *decoder) placeholders(path string, value any) {
	if isProse(path) {
		return
	}
	switch v := value.(type) {
	case map[string]any:
		below := func(key string) string {
			if path == "" {
				return showKey(key)
			}
			return path + "." + showKey(key)
		}
		asWritten := func(a, b string) int {
			x, y := d.position(below(a)), d.position(below(b))
			return cmp.Or(cmp.Compare(x.line, y.line), cmp.Compare(x.column, y.column), cmp.Compare(a, b))
		}
		for _, key := range slices.SortedFunc(maps.Keys(v), asWritten) {
			if path != "" || !slices.Contains(commonKeys, key) {
				d.placeholders(below(key), v[key])
			}
		}
	case []any:
		for i, item := range v {
			d.placeholders(path+"["+strconv.Itoa(i)+"]", item)
		}
	case string:
		switch {
		case isPlaceholder(v):
			d.placeholder(path, ownValue)
		case namesExample(v):
			d.placeholder(path, "an example's host, which nobody has: put your own here")
		}
	}
}

// placeholder notes one, once for each key.
func (d *decoder) placeholder(path, message string) {
	at, key := d.position(path), named(path)
	if !slices.ContainsFunc(d.notes, func(f Finding) bool {
		return f.Placeholder && f.Key == key && f.Line == at.line && f.Column == at.column
	}) {
		d.note(at, key, message)
		d.notes[len(d.notes)-1].Placeholder = true
	}
}

// isProse reports whether a path holds what people read: a document of kind http says what it is, and
// has examples.
func isProse(path string) bool {
	first, rest, nested := strings.Cut(path, ".")
	switch first {
	case "about", "notes", "source":
		return true
	case "parameters", "recipient":
		_, last, deep := strings.Cut(rest, ".")
		return nested && deep && (last == "about" || last == "example" || last == "pattern")
	}
	return false
}

// isPlaceholder reports whether a value says that it is to be replaced, as it is or in base64.
func isPlaceholder(s string) bool {
	if toBeReplaced(s) {
		return true
	}
	encoded := strings.TrimRight(strings.TrimPrefix(s, "whsec_"), "=")
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := e.DecodeString(encoded); err == nil && toBeReplaced(string(b)) {
			return true
		}
	}
	return false
}

// toBeReplaced finds "replace" with what follows it in placeholders, whatever is between them.
func toBeReplaced(s string) bool {
	const word = "replace"
	s = strings.ToLower(s)
	for {
		i := strings.Index(s, word)
		if i < 0 {
			return false
		}
		s = s[i+len(word):]
		next := strings.TrimLeft(s, "-_ /.:")
		for _, object := range []string{"me", "this", "with"} {
			if after, ok := strings.CutPrefix(next, object); ok && (after == "" || !isLower(after[0]) || strings.HasPrefix(after, word)) {
				return true
			}
		}
	}
}

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }

// namesExample reports whether a value holds a host that RFC 2606 keeps for examples.
func namesExample(s string) bool {
	s = strings.ToLower(s)
	for _, host := range []string{"example.com", "example.net", "example.org", ".example"} {
		for rest := s; ; {
			i := strings.Index(rest, host)
			if i < 0 {
				break
			}
			before, after := rest[:i], rest[i+len(host):]
			if (host[0] == '.' || before == "" || strings.ContainsRune("/@. <", rune(before[len(before)-1]))) &&
				(after == "" || strings.ContainsRune("/:?#>, \"'\n", rune(after[0]))) {
				return true
			}
			rest = after
		}
	}
	return false
}
