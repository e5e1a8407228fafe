package handler

import (
	"strings"

	"backstop/internal/app"
)

// respondAsyncToken is the preference, as RFC 7240 spells it.
const respondAsyncToken = "respond-async"

// respondAsync reports whether the caller would rather be answered at once than wait for the
// delivery: the preference respond-async of RFC 7240 in its Prefer headers. Other preferences,
// wait among them, and parameters are left out, and so is what is not well-formed: a
// preference is never a reason to refuse a request.
func respondAsync(headers map[string]string) bool {
	for _, value := range app.Header(headers, "Prefer") {
		for _, preference := range splitUnquoted(value, ',') {
			name, value, _ := strings.Cut(splitUnquoted(preference, ';')[0], "=")
			if strings.EqualFold(strings.Trim(name, " \t"), respondAsyncToken) {
				// Of several only the first counts. It has no value; an empty one is none.
				value = strings.Trim(value, " \t")
				return value == "" || value == `""`
			}
		}
	}
	return false
}

// splitUnquoted cuts s at every separator that stands in no quoted string. It has at least
// one part.
func splitUnquoted(s string, separator byte) []string {
	var parts []string
	start, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++ // what follows stands for itself
		case !quoted && c == separator:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}
