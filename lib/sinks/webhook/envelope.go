package webhook

import (
	"bytes"
	"maps"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"backstop/lib/sinks"
)

// envelope writes {"subject","body","metadata"} of a message that can be sent. Receivers verify a signature over
// these bytes and may compare attempts, so they are what encoding/json makes of them without escaping HTML, whatever
// writes them: names of metadata sorted, no metadata an empty object.
func envelope(m sinks.Message) []byte {
	b := make([]byte, 0, len(m.Subject)+len(m.Body)+len(m.Body)/8+64)
	b = appendText(append(b, `{"subject":`...), m.Subject)
	b = appendText(append(b, `,"body":`...), m.Body)
	b = append(b, `,"metadata":{`...)
	for i, name := range slices.Sorted(maps.Keys(m.Metadata)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendText(b, name), ':')
		b = appendText(b, m.Metadata[name])
	}
	return append(b, `}}`...)
}

// appendText appends a JSON string of s, which is valid UTF-8.
func appendText(b []byte, s string) []byte {
	at := len(b)
	b, _ = jsontext.AppendQuote(b, s) // it fails for what is not UTF-8 alone
	for _, end := range lineEnds {
		if bytes.Contains(b[at:], end.plain) {
			b = append(b[:at], bytes.ReplaceAll(b[at:], end.plain, end.escaped)...)
		}
	}
	return b
}

// lineEnds are the line ends of JavaScript that JSON need not escape and encoding/json does.
var lineEnds = []struct{ plain, escaped []byte }{
	{[]byte("\u2028"), []byte(`\u2028`)},
	{[]byte("\u2029"), []byte(`\u2029`)},
}
