package functions_test

import (
	"crypto/tls"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"backstop/internal/local"
	"backstop/internal/redistest"
)

// parrot starts a server that says back what it was sent. With secure it does so over TLS;
// certificate is then the file to trust it by.
func parrot(t *testing.T, secure bool) (addr, certificate string) {
	t.Helper()
	if !secure {
		return redistest.Parrot(t, nil), ""
	}
	known := httptest.NewTLSServer(nil) // its certificate is for 127.0.0.1
	defer known.Close()
	return redistest.Parrot(t, &tls.Config{Certificates: known.TLS.Certificates, MinVersion: tls.VersionTLS12}), trust(t, known)
}

// trust writes a server's certificate into a file for SSL_CERT_FILE.
func trust(t *testing.T, s *httptest.Server) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Secrets in the environment stay secret when it is wrong, and when what it names does
// not answer as it should.
func TestNoFaultOfTheEnvironmentShowsASecret(t *testing.T) {
	t.Parallel()
	pass, typo := planted["redis password"], planted["environment typo"]
	talking, _ := parrot(t, false)
	secure, certificate := parrot(t, true)
	quoting := httptest.NewServer(http.HandlerFunc(quote))
	t.Cleanup(quoting.Close)
	server := redistest.Shared(t)
	dir := t.TempDir()
	sweptSinks(t, dir, map[string]string{"plain": "127.0.0.1:9", "tls": "127.0.0.1:9", "closed": "127.0.0.1:9", "smtp": "127.0.0.1:9"})
	store := httptest.NewServer(&parameterStore{})
	t.Cleanup(store.Close)
	for name, env := range map[string]map[string]string{
		"URL with a space":           {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@ho st:1"},
		"URL with a bad port":        {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@host:port"},
		"URL of HTTP":                {"BACKSTOP_REDIS_URL": "http://:" + pass + "@host:1"},
		"URL without host":           {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@"},
		"URL without scheme":         {"BACKSTOP_REDIS_URL": ":" + pass + "@host:1"},
		"URL with a bad database":    {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@127.0.0.1:1/" + typo},
		"URL with an unknown option": {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@127.0.0.1:1/0?" + typo + "=1"},
		"URL with a bad option":      {"BACKSTOP_REDIS_URL": "redis://:" + pass + "@127.0.0.1:1/0?db=" + typo},
		"password in every field":    {"BACKSTOP_REDIS_PASSWORD": pass, "BACKSTOP_REDIS_IAM_USER": "u", "BACKSTOP_REDIS_IAM_CACHE": "serverless:c"},
		"wrong password":             {"BACKSTOP_REDIS_URL": "redis://" + server.Addr, "BACKSTOP_REDIS_PASSWORD": pass},
		"password to a parrot":       {"BACKSTOP_REDIS_URL": "redis://robot:" + pass + "@" + talking},
		"password to a parrot, apart": {
			"BACKSTOP_REDIS_URL": "redis://" + talking, "BACKSTOP_REDIS_PASSWORD": pass,
		},
		"TLS to a parrot":     {"BACKSTOP_REDIS_URL": "rediss://robot:" + pass + "@" + talking},
		"refused parameter":   {"BACKSTOP_REDIS_URL": "redis://" + server.Addr, "BACKSTOP_REDIS_PASSWORD": "ssm:/backstop/denied"},
		"password for a path": {"BACKSTOP_REDIS_URL": "redis://" + server.Addr, "BACKSTOP_REDIS_PASSWORD": "ssm:/" + pass + "!"},
		"proxy with a space":  {"HTTP_PROXY": "http://robot:" + planted["proxy password"] + "@pro xy"},
		"token to a parrot": {
			"BACKSTOP_REDIS_URL": "rediss://" + secure, "SSL_CERT_FILE": certificate, "BACKSTOP_REDIS_IAM_USER": "robot", "BACKSTOP_REDIS_IAM_CACHE": "serverless:c",
		},
		"sinks from an SSM that quotes":    {"BACKSTOP_SINKS": "ssm:/backstop/prod/sinks/*", "AWS_ENDPOINT_URL_SSM": quoting.URL},
		"document of an SSM that quotes":   {"BACKSTOP_SINKS": "ssm:/backstop/prod/sinks", "AWS_ENDPOINT_URL_SSM": quoting.URL},
		"references to an SSM that quotes": {"AWS_ENDPOINT_URL_SSM": quoting.URL},
		"password from an SSM that quotes": {
			"BACKSTOP_REDIS_URL": "redis://" + server.Addr, "BACKSTOP_REDIS_PASSWORD": "ssm:/backstop/prod/redis", "AWS_ENDPOINT_URL_SSM": quoting.URL,
		},
		"a Lambda that quotes":   {"AWS_ENDPOINT_URL_LAMBDA": quoting.URL},
		"sinks that are no path": {"BACKSTOP_SINKS": "ssm:/backstop/denied/*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sw := &sweep{}
			o := local.Options{Sinks: "file:" + dir, RedisURL: server.URL(), Timeout: 3 * time.Second, QueueTimeout: 3 * time.Second, Env: map[string]string{
				"AWS_ENDPOINT_URL_SSM": store.URL, "BACKSTOP_KEY_PREFIX": redistest.Prefix(), "AWS_MAX_ATTEMPTS": "1",
			}}
			maps.Copy(o.Env, env)
			s := startSwept(t, sw, o)
			s.unserved(t)
			sw.wantClean(t, 7)
		})
	}
}
