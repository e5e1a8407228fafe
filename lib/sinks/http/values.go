package http

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"backstop/lib/sinks"
)

// maxRequest bounds what a message may become with its values in it, in bytes: headers, URL and
// body together.
const maxRequest = 4 << 20

// values are what the placeholders of one attempt stand for.
type values struct {
	sink       string
	parameters map[string]string
	fields     map[string]Field
	to         Recipient
	m          sinks.Message
	d          sinks.Delivery
	// judged: nothing is sent, and the delivery is not known yet.
	judged bool
	// lenient takes empty values everywhere.
	lenient bool
	preview bool // what is configured is hidden
	left    int  // of maxRequest
}

// of returns the first value of a placeholder that is not empty. An empty one is an error, unless
// p says otherwise.
func (v *values) of(p part) (string, error) {
	for _, at := range p.paths {
		value, err := v.at(at)
		if err != nil || value != "" {
			return value, err
		}
	}
	if p.opt || v.lenient {
		return "", nil
	}
	return "", invalid(v.place(p), "missing or empty, and the request needs it")
}

// place names what a placeholder reads, as the caller of the delivery knows it.
func (v *values) place(p part) string {
	var all []string
	for _, at := range p.paths {
		if _, parameter := v.parameters[at.root]; !parameter {
			all = append(all, at.field())
		}
	}
	if len(all) == 0 {
		return p.source
	}
	return strings.Join(all, " or ")
}

// field is a path as the field of a request.
func (p path) field() string {
	switch p.root {
	case "subject", "body":
		return "message." + p.root
	case "metadata":
		return fmt.Sprintf("message.metadata[%.80q]", p.key)
	case "ttl":
		return "expires_at"
	}
	return p.String()
}

func (v *values) at(p path) (string, error) {
	var value string
	switch p.root {
	case "subject":
		value = v.m.Subject
	case "body":
		value = v.m.Body
	case "metadata":
		value = v.m.Metadata[p.key]
	case "recipient":
		value = v.field(p.key)
	case "id":
		return v.id(p.key), nil
	case "time":
		return v.time().UTC().Format(time.RFC3339), nil
	case "ttl":
		return v.ttl(), nil
	case "group":
		if value = v.d.Group; value == "" && v.judged {
			value = "group"
		}
	default:
		return v.parameters[p.root], nil
	}
	if !utf8.ValidString(value) {
		return "", invalid(p.field(), "not valid UTF-8")
	}
	return value, nil
}

// field returns a field of the recipient, or its default.
func (v *values) field(name string) string {
	if value := v.to[name]; value != "" {
		return value
	}
	return v.fields[name].Default
}

// id returns the message's id in one of its forms. The derived ones name the sink too: one message
// may go through several to one receiver.
func (v *values) id(form string) string {
	switch form {
	case "hash":
		var b []byte
		for _, s := range []string{v.sink, v.m.ID} {
			b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
		}
		sum := sha256.Sum256(b)
		return hex.EncodeToString(sum[:16])
	case "uuid":
		return uuid.NewSHA1(namespace(), []byte(v.sink+"\x00"+v.m.ID)).String()
	}
	return v.m.ID
}

// namespace is that of ids as version 5 UUIDs (RFC 9562).
var namespace = sync.OnceValue(func() uuid.UUID { return uuid.NewSHA1(uuid.NameSpaceURL, []byte("urn:backstop:delivery")) })

// time is when the message was accepted, the same in every attempt.
func (v *values) time() time.Time {
	switch {
	case !v.d.AcceptedAt.IsZero():
		return v.d.AcceptedAt
	case !v.d.FirstAttempt.IsZero():
		return v.d.FirstAttempt
	}
	return time.Now()
}

// ttl is the time that the message is of use, in whole seconds, one at least; empty for one that never ends, or
// that is sent although its time is over.
func (v *values) ttl() string {
	left := time.Until(v.d.ExpiresAt)
	switch {
	case v.judged:
		return "1"
	case v.d.ExpiresAt.IsZero(), left <= 0:
		return ""
	}
	return strconv.FormatInt(max(int64(left/time.Second), 1), 10)
}

// spend counts n bytes of the request.
func (v *values) spend(n int) error {
	if v.left -= n; v.left < 0 {
		return invalid("message", fmt.Sprintf("the request would have more than %d bytes", maxRequest))
	}
	return nil
}

// matches reports whether all of s is what pattern says; an empty pattern takes everything.
func matches(pattern *regexp.Regexp, s string) bool {
	return pattern == nil || pattern.MatchString(s)
}

func compile(pattern string) (*regexp.Regexp, error) {
	if pattern == "" {
		return nil, nil
	}
	return regexp.Compile(`^(?:` + pattern + `)$`)
}

func invalid(field, why string) error {
	return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: field + ": " + why})
}
