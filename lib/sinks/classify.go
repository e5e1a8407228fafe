package sinks

import (
	"context"
	"errors"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"syscall"
)

// passing matches the statuses in a SINK_UNAVAILABLE message that pass with time, in the
// spellings that sinks use. A bare number is none: it may be a port, an id or a size. 550
// to 559 after "returned" are a mail server's, and for good.
var passing = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)` + strings.Join([]string{
		`\bHTTP(?:/[0-9.]+)? (?:429|5[0-9]{2})\b`,
		`\bstatus(?: ?code)?(?::? |=)(?:429|5[0-9]{2})\b`,
		`\b(?:returned|answered|replied|responded with) (?:429|50[0-9]|51[01]|52[0-9])(?:\s*$|[,;:)])`,
		`\b(?:429 Too Many Requests|500 Internal Server Error|502 Bad Gateway|503 Service (?:Temporarily )?Unavailable|504 Gateway Time-?out)\b`,
		`\bSMTP 4[0-9]{2}\b`,
		`\bSMTP\b[^:]*: 4[0-9]{2}[ -]`,
		`\b4[0-9]{2}[ -]"?4\.[0-9]{1,3}\.[0-9]{1,3}\b`, // with an enhanced code, which says the same
	}, "|"))
})

// IsTransient reports whether another attempt may cure err. The rules are tried in
// this order:
//
//  1. nil: false.
//  2. context.Canceled or context.DeadlineExceeded: false. It is for the caller to
//     tell an attempt's time-out from its own end; sinks mark time-outs themselves.
//  3. a value with Transient() bool in err's tree (the marks of this package, or
//     anybody's): its answer.
//  4. *url.Error, *net.OpError, or a net.Error that timed out: true.
//  5. ECONNREFUSED, ECONNRESET, EPIPE, ETIMEDOUT: true.
//  6. SINK_UNAVAILABLE whose message, or its cause's, names an HTTP 429 or 5xx or an SMTP
//     4xx as such ("HTTP 503", "returned 503 Service Unavailable", "451 4.4.5 ..."): true.
//  7. anything else: false.
func IsTransient(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if t, ok := errors.AsType[interface {
		error
		Transient() bool
	}](err); ok {
		return t.Transient()
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	if t, ok := errors.AsType[net.Error](err); ok && t.Timeout() {
		return true
	}
	for _, errno := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT} {
		if errors.Is(err, errno) {
			return true
		}
	}
	if e, ok := errors.AsType[*Error](err); ok && e.Code == CodeSinkUnavailable {
		return passing().MatchString(e.Error())
	}
	return false
}
