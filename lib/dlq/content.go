package dlq

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ContentFingerprint identifies the content of a dead letter: two of one delivery with
// the same fingerprint are the same dead letter, others are not. It is 22 characters of
// base64url.
//
// The recipient counts as the JSON that it is: white space, the order of an object's keys
// and the spelling of a string do not matter, a number counts as written (1.0 is not 1),
// and a key that is given twice counts twice, in the order given. Empty is null. A
// recipient that is no JSON counts as the string that Push makes of it. Subject, body and
// metadata count byte by byte, invalid UTF-8 too; nil metadata is empty metadata.
//
// Compare fingerprints of what was pushed: a sink that decodes its recipient may have
// changed its JSON.
func ContentFingerprint(recipient json.RawMessage, subject, body string, metadata map[string]string) string {
	h := sha256.New()
	writePart(h, canonicalJSON(recipient))
	writePart(h, []byte(subject))
	writePart(h, []byte(body))
	keys := make([]string, 0, len(metadata))
	for k := range metadata {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		writePart(h, []byte(k))
		writePart(h, []byte(metadata[k]))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// contentOf is ContentFingerprint of an item.
func contentOf(it Item) string {
	return ContentFingerprint(it.Recipient, it.Message.Subject, it.Message.Body, it.Message.Metadata)
}

// unreadable is the fingerprint of an entry that cannot be read: no content has it.
const unreadable = "?"

// fingerprint is the content's, as it was pushed where the entry tells it.
func (e entry) fingerprint() string {
	if e.content != "" {
		return e.content
	}
	it := e.pushed()
	if it.DecodeError != "" {
		return unreadable
	}
	return contentOf(it)
}

// writePart writes p so that no two sequences of parts are the same bytes. A hash does not
// fail to be written to.
func writePart(h io.Writer, p []byte) {
	_, _ = h.Write(append(strconv.AppendInt(nil, int64(len(p)), 10), ':'))
	_, _ = h.Write(p)
}

// canonicalJSON returns bytes that are the same exactly for the same JSON. Each value is
// a letter for its kind, the length of what follows, and its content.
func canonicalJSON(raw []byte) []byte {
	if len(raw) == 0 {
		return canonical('z', nil)
	}
	if !json.Valid(raw) {
		return canonical('s', raw)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	c := canonicalizer{raw: raw, dec: dec}
	return c.value(c.next())
}

func canonical(kind byte, content []byte) []byte {
	b := strconv.AppendInt([]byte{kind}, int64(len(content)), 10)
	return append(append(b, ':'), content...)
}

// canonicalizer reads valid JSON.
type canonicalizer struct {
	raw []byte
	dec *json.Decoder
	at  int64 // end of the last token
}

// next returns a token and how it is written.
func (c *canonicalizer) next() (json.Token, []byte) {
	t, err := c.dec.Token()
	if err != nil {
		return nil, nil // not in valid JSON
	}
	from := c.at
	c.at = c.dec.InputOffset()
	return t, bytes.TrimLeft(c.raw[from:c.at], " \t\r\n,:")
}

func (c *canonicalizer) value(t json.Token, written []byte) []byte {
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			return c.array()
		}
		return c.object()
	case string:
		if strings.ContainsRune(t, utf8.RuneError) {
			// Different invalid texts decode to it: as it is written.
			return canonical('r', written)
		}
		return canonical('s', []byte(t))
	case nil:
		return canonical('z', nil)
	}
	return canonical('n', written) // a number, true or false
}

func (c *canonicalizer) array() []byte {
	var all []byte
	for c.dec.More() {
		all = append(all, c.value(c.next())...)
	}
	c.next()
	return canonical('a', all)
}

func (c *canonicalizer) object() []byte {
	type member struct{ key, value []byte }
	var members []member
	for c.dec.More() {
		key := c.value(c.next())
		members = append(members, member{key, c.value(c.next())})
	}
	c.next()
	slices.SortStableFunc(members, func(a, b member) int { return cmp.Compare(string(a.key), string(b.key)) })
	var all []byte
	for _, m := range members {
		all = append(append(all, m.key...), m.value...)
	}
	return canonical('o', all)
}
