package config

import (
	"slices"
	"strconv"
	"strings"

	"backstop/lib/sinks"
)

// redactor replaces configured values in texts that this package did not write: a
// factory should not quote a secret, and the standard library's errors quote whatever
// they could not parse.
type redactor struct {
	values []string
}

// The shortest texts that are replaced. Below them, replacing would rather mangle
// messages than protect anything.
const (
	shortestReferred = 4 // values that came from a parameter of their own
	shortestLiteral  = 8 // values that stand in the block
)

func (r *redactor) add(value string, shortest int) {
	if len(value) < shortest {
		return
	}
	r.values = append(r.values, value)
	quoted := strconv.Quote(value)
	if quoted = quoted[1 : len(quoted)-1]; quoted != value {
		r.values = append(r.values, quoted)
	}
}

func (r *redactor) clean(text string) string {
	// Longest first: a value may contain another one.
	slices.SortFunc(r.values, func(a, b string) int { return len(b) - len(a) })
	for _, v := range r.values {
		text = strings.ReplaceAll(text, v, "[redacted]")
	}
	return sinks.SafeText(text)
}
