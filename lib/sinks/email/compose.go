package email

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"maps"
	"mime"
	"net/mail"
	"net/textproto"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	gomail "github.com/wneessen/go-mail"

	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// maxHeaderBytes bounds the headers that come from a message: its subject and its
// metadata. Mail servers commonly refuse heads of more than 32 to 64 KiB.
const maxHeaderBytes = 16 << 10

// compose builds the message's text, dated so. It fails exactly when m can never be sent, as head does.
func (s *Sink) compose(to *mail.Address, m sinks.Message, date time.Time) ([]byte, error) {
	msg, err := s.head(to, m, date)
	if err != nil {
		return nil, err
	}
	text, markup := bodies(m.Body)
	msg.SetBodyString(gomail.TypeTextPlain, text)
	msg.AddAlternativeString(gomail.TypeTextHTML, markup)

	var b bytes.Buffer
	if _, err := msg.WriteTo(&b); err != nil {
		return nil, sinks.Terminal(&sinks.Error{Code: sinks.CodeInternal, Msg: "the message could not be built", Cause: err})
	}
	return b.Bytes(), nil
}

// head returns the message without its body, or why m can never be sent. Nothing is encoded yet: any text
// that passes can be a body, and a large one costs hundreds of times as much to encode as to check.
func (s *Sink) head(to *mail.Address, m sinks.Message, date time.Time) (*gomail.Msg, error) {
	if err := checkTexts(m); err != nil {
		return nil, err
	}
	msg := gomail.NewMsg(gomail.WithNoDefaultUserAgent(), gomail.WithEncoding(gomail.EncodingQP))
	msg.FromMailAddress(s.from)
	msg.ToMailAddress(to)
	msg.SetDateWithValue(date)
	msg.SetMessageIDWithValue(s.messageID(m.ID))
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no vacation replies
	if m.Subject != "" {
		msg.SetGenHeader(gomail.HeaderSubject, encodeHeader(m.Subject))
	}
	if err := addMetadata(msg, m); err != nil {
		return nil, err
	}
	return msg, nil
}

// checkTexts checks id, subject and body.
func checkTexts(m sinks.Message) error {
	if m.ID != "" {
		if err := fault.CheckID(m.ID); err != nil {
			return sinks.Terminal(err)
		}
	}
	switch {
	case !utf8.ValidString(m.Body):
		return invalid("message.body", "not valid UTF-8")
	case strings.Contains(m.Body, "\x00"):
		return invalid("message.body", "holds a NUL")
	case !headerText(m.Subject):
		return invalid("message.subject", "not valid UTF-8, or holds a control character")
	}
	return nil
}

// addMetadata checks m's metadata and adds it to msg as headers.
func addMetadata(msg *gomail.Msg, m sinks.Message) error {
	size := len(m.Subject)
	seen := map[string]bool{}
	for _, key := range slices.Sorted(maps.Keys(m.Metadata)) {
		name, value := headerName(key), m.Metadata[key]
		size += len(name) + len(value) + len(": \r\n")
		field := fmt.Sprintf("message.metadata[%.80q]", key)
		check, byName := named[textproto.CanonicalMIMEHeaderKey(key)]
		switch {
		case name == "":
			return invalid(field, "want letters, digits, '-', '_' and '.', at most 64 of them")
		case seen[name]:
			return invalid(field, "another key makes the same header, "+name)
		case !headerText(value):
			return invalid(field, "not valid UTF-8, or holds a control character")
		}
		seen[name] = true
		if !byName {
			msg.SetGenHeader(gomail.Header(name), encodeHeader(value))
			continue
		}
		checked, err := check(value)
		if err != nil {
			return invalid(field, err.Error())
		}
		if name == unsubscribePost && !offersOneClick(m.Metadata) {
			return invalid(field, "needs an https:// URI in "+listUnsubscribe)
		}
		msg.SetGenHeader(gomail.Header(name), checked)
	}
	if size > maxHeaderBytes {
		return invalid("message.metadata", fmt.Sprintf("with the subject it exceeds %d bytes", maxHeaderBytes))
	}
	return nil
}

// messageID returns <id.sink@domain>, so that one event that is sent through two
// sinks to one mailbox is not taken for a duplicate. A message without an id gets a
// fresh one.
func (s *Sink) messageID(id string) string {
	if id == "" {
		id = uuid.Must(uuid.NewV7()).String()
	}
	return idText(id) + "." + idText(s.name) + "@" + s.domain
}

// idText encodes what an atom of a Message-ID cannot hold as %XX, which no two texts
// share.
func idText(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// headerName returns the header that a metadata key makes, "" when it makes none.
func headerName(key string) string {
	if key == "" || len(key) > 64 ||
		strings.Trim(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
		return ""
	}
	name := textproto.CanonicalMIMEHeaderKey(key)
	if _, ok := named[name]; !ok && !strings.HasPrefix(name, "X-") {
		name = "X-" + name
	}
	return name
}

// headerText reports whether s can be a header's value: no line ends, no NUL, no
// other control character but the tab.
func headerText(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}

// encodeHeader writes a value so that it arrives as it is: plain where folding at
// single spaces is enough, and as encoded words (RFC 2047) otherwise, which carry any
// text of any length within the line limits.
func encodeHeader(s string) string {
	if plainHeader(s) {
		return s
	}
	const chunk = 45 // bytes, 60 characters of base64 in a word of at most 75
	var words []string
	for s != "" {
		n := min(chunk, len(s))
		for n < len(s) && !utf8.RuneStart(s[n]) {
			n--
		}
		// The Q and B encoders of mime leave ASCII alone, which would keep a long word.
		words = append(words, "=?utf-8?b?"+base64.StdEncoding.EncodeToString([]byte(s[:n]))+"?=")
		s = s[n:]
	}
	return strings.Join(words, " ")
}

func plainHeader(s string) bool {
	for word := range strings.SplitSeq(s, " ") {
		if word == "" || len(word) > 60 {
			return s == ""
		}
	}
	decoded, err := new(mime.WordDecoder).DecodeHeader(s)
	return err == nil && decoded == s && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}
