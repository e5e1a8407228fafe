package fcm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"backstop/internal/strictjson"
	"backstop/lib/sinks"
)

// Recipient is where a message goes: exactly one of the three.
type Recipient struct {
	// Token is the registration token of an app on one device.
	Token string `json:"token,omitempty"`
	// Topic is a topic's name, without "/topics/".
	Topic string `json:"topic,omitempty"`
	// Condition combines topics: "'news' in topics && 'sports' in topics".
	Condition string `json:"condition,omitempty"`
}

// Format keeps the device's token out of any formatted output.
func (r Recipient) Format(f fmt.State, _ rune) {
	switch {
	case r.Token != "":
		_, _ = io.WriteString(f, "a device")
	case r.Topic != "":
		_, _ = io.WriteString(f, "topic "+r.Topic)
	default:
		_, _ = io.WriteString(f, "condition "+r.Condition)
	}
}

var (
	topics = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.~%-]+$`) })
	device = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_:.~%-]+$`) })
)

// maxAddress bounds a recipient's value, which FCM has not written down: far more than any token.
const maxAddress = 4096

// fault returns what is wrong with r, and where: with none of the three, or with several, nowhere
// else.
func (r Recipient) fault() (field, why string) {
	given := 0
	for _, v := range []string{r.Token, r.Topic, r.Condition} {
		if v != "" {
			given++
		}
	}
	switch {
	case given != 1:
		return "", "want one of token, topic and condition"
	case r.Token != "" && (!device().MatchString(r.Token) || len(r.Token) > maxAddress):
		return "token", "not a registration token"
	case strings.HasPrefix(r.Topic, "/topics/"):
		return "topic", `want the name alone, without "/topics/"`
	case r.Topic != "" && (!topics().MatchString(r.Topic) || len(r.Topic) > maxAddress):
		return "topic", "want letters, digits and any of -_.~%"
	case !utf8.ValidString(r.Condition) || len(r.Condition) > maxAddress:
		return "condition", fmt.Sprintf("want at most %d bytes of UTF-8", maxAddress)
	}
	return "", ""
}

// DecodeRecipient decodes {"token": "..."}, {"topic": "..."} or {"condition": "..."} into a
// Recipient. An absent one is nil, the sink's default. Errors are INVALID_ARGUMENT and name the
// field.
func (*Sink) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	if text := bytes.TrimSpace(raw); len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	var r Recipient
	if err := strictjson.Decode(raw, &r); err != nil {
		if fault, ok := errors.AsType[*strictjson.Error](err); ok && fault.Field != "" {
			return nil, invalid("recipient."+fault.Field, fault.Msg)
		}
		return nil, invalid("recipient", `want {"token": "..."}, {"topic": "..."} or {"condition": "..."}`)
	}
	if field, why := r.fault(); why != "" {
		return nil, invalid(strings.TrimSuffix("recipient."+field, "."), why)
	}
	return r, nil
}

// recipient returns where a message to to goes.
func (s *Sink) recipient(to sinks.Recipient) (Recipient, error) {
	r, ok := to.(Recipient)
	switch {
	case to == nil && s.to == Recipient{}:
		return r, invalid("recipient", "required: the sink has no default")
	case to == nil:
		return s.to, nil
	case !ok:
		return r, invalid("recipient", fmt.Sprintf("a %T, want an fcm.Recipient", to))
	}
	if field, why := r.fault(); why != "" {
		return r, invalid(strings.TrimSuffix("recipient."+field, "."), why)
	}
	return r, nil
}
