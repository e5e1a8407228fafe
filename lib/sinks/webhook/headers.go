package webhook

import (
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/http/httpguts"

	"backstop/lib/sinks"
)

// maxHeaderBytes bounds the headers that come from a message's metadata. Servers
// commonly refuse a head of more than 8 to 32 KiB.
const maxHeaderBytes = 16 << 10

func validName(name string) bool { return httpguts.ValidHeaderFieldName(name) }

// validValue also refuses what net/http would trim: a value arrives as it was given.
func validValue(value string) bool {
	return httpguts.ValidHeaderFieldValue(value) && value == textproto.TrimString(value)
}

// ownHeader reports whether a header, in canonical form, belongs to HTTP or to the
// sink and can be set by nobody else.
func ownHeader(name string) bool {
	switch name {
	case "Accept-Encoding", "Connection", "Expect", "Host", "Http2-Settings", "Keep-Alive", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade":
		return true
	}
	return hasPrefix(name, "Content-", "Proxy-", "Webhook-")
}

// closedToMetadata reports whether a header may be set by the operator only: what
// authenticates a request or says where it came from.
func closedToMetadata(name string) bool {
	switch name {
	case "Authorization", "Cookie", "Cookie2", "Forwarded", "Set-Cookie", "Via", "Www-Authenticate", "X-Real-Ip":
		return true
	}
	return ownHeader(name) || hasPrefix(name, "X-Forwarded-")
}

func hasPrefix(name string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// metadataHeader turns a message's metadata into headers, each key and value as it
// is. The operator's own headers cannot be set by a message.
func (s *Sink) metadataHeader(metadata map[string]string) (http.Header, error) {
	h := make(http.Header, len(metadata)+6)
	size := 0
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		value, canonical := metadata[name], http.CanonicalHeaderKey(name)
		size += len(name) + len(value) + len(": \r\n")
		switch {
		case size > maxHeaderBytes:
			return nil, invalid("message.metadata", fmt.Sprintf("as headers it exceeds %d bytes", maxHeaderBytes))
		case !validName(name):
			return nil, invalid(metadataKey(name), "not a header name")
		case closedToMetadata(canonical), s.headers[canonical] != nil:
			return nil, invalid(metadataKey(name), "this header cannot be set by a message")
		case h[canonical] != nil:
			return nil, invalid(metadataKey(name), "given twice in different capitalization")
		case !validValue(value), !utf8.ValidString(value):
			return nil, invalid(metadataKey(name), "the value is not valid UTF-8, holds a control character, or has white space at an end")
		}
		h[canonical] = []string{value}
	}
	return h, nil
}

func metadataKey(name string) string { return fmt.Sprintf("message.metadata[%.80q]", name) }

func invalid(field, why string) error {
	return sinks.Terminal(&sinks.Error{Code: sinks.CodeInvalidArgument, Msg: field + ": " + why})
}
