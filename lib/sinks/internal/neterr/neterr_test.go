package neterr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"syscall"
	"testing"
)

func TestDescribeNamesFailuresWithoutTheirTexts(t *testing.T) {
	dial := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	for _, c := range []struct {
		err  error
		want string
		cert bool
	}{
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), "connection refused", false},
		{&url.Error{Op: "Post", URL: "secret", Err: dial(syscall.ECONNRESET)}, "connection reset", false},
		{dial(syscall.EPIPE), "connection reset", false},
		{dial(syscall.EHOSTUNREACH), "host unreachable", false},
		{dial(&net.DNSError{Name: "secret", IsNotFound: true}), "no such host", false},
		{dial(&net.DNSError{Name: "secret", IsTimeout: true}), "name look-up failed", false},
		{dial(os.ErrDeadlineExceeded), "timed out", false},
		{dial(syscall.ETIMEDOUT), "timed out", false},
		{context.DeadlineExceeded, "timed out", false},
		{fmt.Errorf("x: %w", context.Canceled), "canceled", false},
		{io.EOF, "connection closed", false},
		{io.ErrUnexpectedEOF, "connection closed", false},
		{net.ErrClosed, "connection closed", false},
		{tls.RecordHeaderError{Msg: "secret"}, "the peer does not speak TLS", false},
		{&net.OpError{Op: "remote error", Err: errors.New("secret")}, "TLS handshake refused", false},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}, "certificate signed by an unknown authority", true},
		{&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "secret"}}, "certificate is for another host", true},
		{x509.CertificateInvalidError{Reason: x509.Expired}, "certificate has expired or is not yet valid", true},
		{x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, "certificate is not valid", true},
		{&tls.CertificateVerificationError{Err: errors.New("secret")}, "certificate is not valid", true},
		{dial(os.NewSyscallError("socket", syscall.EMFILE)), "no file descriptor was free in this process", false},
		{dial(syscall.ENFILE), "no file descriptor was free in this process", false},
		{&net.DNSError{Err: "dial udp 10.0.0.2:53: socket: too many open files", Name: "secret"}, "no file descriptor was free in this process", false},
		{fmt.Errorf("x: %w", ErrShort), "no connection was free in this process", false},
		{errors.New("secret"), "the connection failed or the answer could not be read", false},
	} {
		if got := Describe(c.err); got != c.want {
			t.Errorf("Describe(%#v) = %q, want %q", c.err, got, c.want)
		}
		if got := Certificate(c.err); got != c.cert {
			t.Errorf("Certificate(%#v) = %v, want %v", c.err, got, c.cert)
		}
	}
}
