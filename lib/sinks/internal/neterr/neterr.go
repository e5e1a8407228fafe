// Package neterr names network failures for the sinks' error texts.
//
// The texts of net, crypto/tls and net/http hold URLs, proxy credentials and what
// the peer sent, and their errors satisfy errors.Is(err, context.DeadlineExceeded)
// for any time-out. Sinks therefore keep a name of the failure and drop the cause.
package neterr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Certificate reports whether err says that the peer's certificate is not valid,
// which no further attempt can cure.
func Certificate(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}

// Plain reports whether err says that the peer answered TLS with plain HTTP, which no
// further attempt can cure.
func Plain(err error) bool {
	record, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok && string(record.RecordHeader[:]) == "HTTP/"
}

// ErrShort says that all connections that the process may have were in use.
var ErrShort = errors.New("no connection was free in this process")

// Short reports whether err says that this process could not open what it needed: whoever
// was to be called had no part in it.
func Short(err error) bool {
	if errors.Is(err, ErrShort) || noDescriptor(err) {
		return true
	}
	dns, ok := errors.AsType[*net.DNSError](err) // which keeps the text only
	return ok && strings.Contains(dns.Err, syscall.EMFILE.Error())
}

func noDescriptor(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Alert reports whether err is a TLS alert of the peer.
func Alert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// Describe names the failure in a few words of its own. It holds nothing that the
// peer sent and no part of a URL.
func Describe(err error) string {
	var (
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		invalid  x509.CertificateInvalidError
		dns      *net.DNSError
		record   tls.RecordHeaderError
		op       *net.OpError
	)
	switch {
	case errors.Is(err, ErrShort):
		return ErrShort.Error()
	case Short(err):
		return "no file descriptor was free in this process"
	case errors.As(err, &unknown):
		return "certificate signed by an unknown authority"
	case errors.As(err, &hostname):
		return "certificate is for another host"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "certificate has expired or is not yet valid"
	case Certificate(err):
		return "certificate is not valid"
	case errors.As(err, &record):
		return "the peer does not speak TLS"
	case errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error"): // crypto/tls's alerts
		return "TLS handshake refused"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host"
	case errors.As(err, &dns):
		return "name look-up failed"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case timeout(err):
		return "timed out"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "connection closed"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "host unreachable"
	default:
		return "the connection failed or the answer could not be read"
	}
}

func timeout(err error) bool {
	var t net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &t) && t.Timeout()
}
