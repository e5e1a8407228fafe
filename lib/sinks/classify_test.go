package sinks_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"os"
	"syscall"
	"testing"

	"backstop/lib/sinks"
)

// opinion is an error of somebody else's that knows whether it passes.
type opinion bool

func (o opinion) Error() string   { return "opinion" }
func (o opinion) Transient() bool { return bool(o) }

func unavailable(msg string) error {
	return &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: msg}
}

func TestIsTransient(t *testing.T) {
	for _, c := range []struct {
		rule int
		name string
		err  error
		want bool
	}{
		{1, "nil", nil, false},
		{2, "canceled", context.Canceled, false},
		{2, "deadline exceeded", fmt.Errorf("x: %w", context.DeadlineExceeded), false},
		{2, "deadline exceeded before a mark", sinks.Transient(context.DeadlineExceeded), false},
		{2, "deadline exceeded before url.Error", &url.Error{Op: "Post", URL: "u", Err: context.DeadlineExceeded}, false},
		{2, "canceled in a joined error", errors.Join(io.EOF, context.Canceled), false},
		{3, "marked transient", sinks.Transient(io.EOF), true},
		{3, "marked terminal", sinks.Terminal(syscall.ECONNREFUSED), false},
		{3, "marked ambiguous", sinks.Ambiguous(syscall.ECONNRESET), false},
		{3, "somebody's opinion: yes", fmt.Errorf("x: %w", opinion(true)), true},
		{3, "somebody's opinion: no", &url.Error{Op: "Post", URL: "u", Err: opinion(false)}, false},
		{4, "url.Error", &url.Error{Op: "Post", URL: "u", Err: io.EOF}, true},
		{4, "url.Error with a bad certificate, unmarked", &url.Error{Op: "Post", URL: "u", Err: &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}}, true},
		{4, "net.OpError", &net.OpError{Op: "dial", Err: errors.New("no route")}, true},
		{4, "net.Error, timed out", &net.DNSError{IsTimeout: true}, true},
		{4, "net.Error, not timed out", &net.DNSError{IsNotFound: true}, false},
		{4, "os deadline", os.ErrDeadlineExceeded, true},
		{5, "connection refused", fmt.Errorf("x: %w", syscall.ECONNREFUSED), true},
		{5, "connection reset", os.NewSyscallError("read", syscall.ECONNRESET), true},
		{5, "broken pipe", syscall.EPIPE, true},
		{5, "timed out", syscall.ETIMEDOUT, true},
		{6, "HTTP 429", unavailable("POST https://x: HTTP 429 Too Many Requests"), true},
		{6, "HTTP 500", unavailable("HTTP 500"), true},
		{6, "HTTP 599", unavailable("HTTP 599"), true},
		{6, "HTTP 404", unavailable("HTTP 404"), false},
		{6, "HTTP 5000", unavailable("HTTP 5000"), false},
		{6, "HTTP 50", unavailable("HTTP 50"), false},
		{6, "XHTTP 500", unavailable("XHTTP 500"), false},
		{6, "SMTP 451", unavailable("RCPT TO: SMTP 451 4.7.1 greylisted"), true},
		{6, "SMTP 550", unavailable("SMTP 550 5.1.1 unknown"), false},
		{6, "no status", unavailable("something else"), false},
		{6, "a code and its own phrase", unavailable("webhook returned 503 Service Unavailable"), true},
		{6, "429 and its phrase", unavailable("429 Too Many Requests"), true},
		{6, "a phrase in lower case", unavailable("chat: 502 bad gateway"), true},
		{6, "nginx's phrases", unavailable("503 Service Temporarily Unavailable"), true},
		{6, "nginx's 504", unavailable("got 504 Gateway Time-out"), true},
		{6, "HTTP/1.1", unavailable("HTTP/1.1 500 Internal Server Error"), true},
		{6, "a status", unavailable("unexpected status code: 503"), true},
		{6, "a status, quoted otherwise", unavailable("bad response (status=429)"), true},
		{6, "a status and its phrase", unavailable("status 500 Internal Server Error"), true},
		{6, "returned and nothing more", unavailable("webhook returned 503"), true},
		{6, "returned a status", unavailable("endpoint returned status 502: <html>"), true},
		{6, "an SMTP reply with its enhanced code", unavailable("451 4.4.5 Temporary error"), true},
		{6, "an SMTP reply of net/smtp", unavailable("smtp send: 451 4.4.5 Temporary error"), true},
		{6, "an SMTP reply of several lines", unavailable("RCPT TO: 421-4.7.0 try again later"), true},
		{6, "an SMTP reply without an enhanced code", unavailable("smtp send: 450 mailbox busy"), true},
		{6, "the status is in the cause", &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "smtp send", Cause: &textproto.Error{Code: 451, Msg: "4.4.5 Temporary error"}}, true},
		{6, "the HTTP status is in the cause", &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "webhook", Cause: errors.New("returned 503 Service Unavailable")}, true},
		{6, "a port", unavailable("dial port 503"), false},
		{6, "an address", unavailable("no answer from 10.0.0.1:503"), false},
		{6, "an id", unavailable("message id 451"), false},
		{6, "a time", unavailable("took 503 ms"), false},
		{6, "a line", unavailable("line 429"), false},
		{6, "rows", unavailable("returned 503 rows"), false},
		{6, "a size", unavailable("returned 503.5 KB"), false},
		{6, "another phrase", unavailable("503 Elm Street"), false},
		{6, "an SMTP reply for good", unavailable("550 5.1.1 unknown user"), false},
		{6, "an SMTP reply for good that names a temporary one", unavailable("smtp send: 552 4.2.2 mailbox full"), false},
		{6, "returned by an SMTP server", unavailable("server returned 550: no such user"), false},
		{6, "other HTTP 4xx", unavailable("webhook returned 404 Not Found"), false},
		{6, "HTTP 451", unavailable("webhook returned 451 Unavailable For Legal Reasons"), false},
		{6, "an HTTP 4xx as a status", unavailable("unexpected status code: 410"), false},
		{6, "an enhanced code of another class", unavailable("451 5.7.1 refused"), false},
		{6, "a version", unavailable("client 4.4.5"), false},
		{6, "another code", &sinks.Error{Code: sinks.CodeInternal, Msg: "HTTP 503"}, false},
		{6, "the cause passes", &sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "x", Cause: syscall.ECONNREFUSED}, true},
		{7, "EOF", io.EOF, false},
		{7, "any other", errors.New("no"), false},
	} {
		if got := sinks.IsTransient(c.err); got != c.want {
			t.Errorf("rule %d, %s: IsTransient(%v) = %v, want %v", c.rule, c.name, c.err, got, c.want)
		}
	}
}
