package sinks

import (
	"context"
	"errors"
	"net"
	"net/url"
	"regexp"
	"sync"
	"syscall"
)

// passing matches the statuses in a SINK_UNAVAILABLE message that pass with time.
var passing = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\bHTTP (429|5[0-9]{2})\b|\bSMTP 4[0-9]{2}\b`)
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
//  6. SINK_UNAVAILABLE whose message names an HTTP 429 or 5xx or an SMTP 4xx: true.
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
		return passing().MatchString(e.Msg)
	}
	return false
}
