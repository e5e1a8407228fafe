package redistest

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"backstop/internal/loopback"
)

const (
	certFile = "tls.crt"
	keyFile  = "tls.key"
)

// makeCertificate writes a self-signed certificate for 127.0.0.1 into dir and returns
// the client configuration that trusts it alone.
func makeCertificate(tb testing.TB, dir string) *tls.Config {
	tb.Helper()
	cert, certPEM, err := loopback.Certificate()
	if err != nil {
		tb.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		tb.Fatal(err)
	}
	for name, b := range map[string][]byte{certFile: certPEM, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}
