package journal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"

	"backstop/internal/locals3"
	"backstop/lib/journal"
)

func TestWhereRequestsGo(t *testing.T) {
	for endpoint, want := range map[string]string{
		"": "https://letters.s3.eu-west-1.amazonaws.com/p/a", "http://127.0.0.1:9000": "http://127.0.0.1:9000/letters/p/a",
		"http://localhost:9000": "http://localhost:9000/letters/p/a", "http://[::1]:9000": "http://[::1]:9000/letters/p/a",
		"http://minio:9000": "http://minio:9000/letters/p/a", "https://s3.example.com": "https://s3.example.com/letters/p/a",
		"https://bucket.vpce-1a.s3.eu-west-1.vpce.amazonaws.com": "https://letters.bucket.vpce-1a.s3.eu-west-1.vpce.amazonaws.com/p/a",
	} {
		o := at(endpoint)
		client := &recorded{}
		load := o.AWS
		loads := 0
		o.AWS = func() (aws.Config, error) {
			loads++
			cfg, err := load()
			cfg.HTTPClient = client
			if endpoint == "" {
				cfg.BaseEndpoint = nil
			}
			return cfg, err
		}
		b := journal.NewS3("letters", "p/", o)
		if loads != 0 {
			t.Error("AWS was loaded before the first call")
		}
		if err := errors.Join(b.Put(t.Context(), "a", []byte("x")), b.Replace(t.Context(), "a", `"t"`, []byte("x"))); err != nil {
			t.Fatal(err)
		}
		if loads != 1 {
			t.Errorf("AWS was loaded %d times", loads)
		}
		for i, r := range client.requests {
			r.URL.RawQuery = ""
			if r.URL.String() != want {
				t.Errorf("endpoint %q: asked %s, want %s", endpoint, r.URL, want)
			}
			condition := [2]string{r.Header.Get("If-None-Match"), r.Header.Get("If-Match")}
			if condition != [][2]string{{"*", ""}, {"", `"t"`}}[i] {
				t.Errorf("conditions %q", condition)
			}
			// What old endpoints and emulators do not know is left out.
			for name := range r.Header {
				if strings.HasPrefix(name, "X-Amz-Checksum") || strings.HasPrefix(name, "X-Amz-Sdk-Checksum") || name == "X-Amz-Trailer" || name == "Content-Encoding" {
					t.Errorf("header %s", name)
				}
			}
			if got := r.Header.Get("X-Amz-Content-Sha256"); strings.HasPrefix(got, "STREAMING") {
				t.Errorf("the body is sent as %q", got)
			}
		}
	}
}

func TestTheEndpointMayBeThatOfTheEnvironment(t *testing.T) {
	small := locals3.New("letters")
	u, err := url.Parse(served(t, small))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_S3": "http://localhost:" + u.Port(), "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
		"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
	b, err := journal.Open("s3://letters/p", journal.S3Options{AWS: func() (aws.Config, error) { return awsconfig.LoadDefaultConfig(t.Context()) }})
	if err != nil {
		t.Fatal(err)
	}
	put(t, b, "a")
	if got := small.Names("letters", ""); !slices.Equal(got, []string{"p/a"}) {
		t.Errorf("S3 has %q", got)
	}
	if _, err := journal.Open("s3:letters", journal.S3Options{}); err == nil {
		t.Error("a bad location was opened")
	}
}

func TestWithoutCredentialsNothingIsAsked(t *testing.T) {
	h, requests := always(t, answer{status: 500})
	o := at(served(t, h))
	load := o.AWS
	o.AWS = func() (aws.Config, error) {
		cfg, err := load()
		cfg.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("no role found")
		})
		return cfg, err
	}
	if err := journal.NewS3("letters", "", o).Put(t.Context(), "a", nil); err == nil || !strings.Contains(err.Error(), "no AWS credentials") || !strings.Contains(err.Error(), "no role found") {
		t.Errorf("got %v", err)
	}
	for want, o := range map[string]journal.S3Options{
		"AWS configuration: no AWS configuration was given": {},
		"AWS configuration: bad profile":                    {AWS: func() (aws.Config, error) { return aws.Config{}, errors.New("bad profile") }},
	} {
		if err := journal.NewS3("letters", "", o).Put(t.Context(), "a", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if requests.Load() != 0 {
		t.Errorf("%d requests", requests.Load())
	}
}

func TestAForeignCertificateIsToldAtOnce(t *testing.T) {
	s := httptest.NewUnstartedServer(locals3.New("letters"))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	var dials atomic.Int64
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			dials.Add(1)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	err := journal.NewS3("letters", "", at(s.URL)).Put(t.Context(), "a", nil)
	if err == nil || !strings.Contains(err.Error(), "check the endpoint, and the certificate authorities that are trusted (AWS_CA_BUNDLE)") || dials.Load() > 1 {
		t.Errorf("after %d connections: %v", dials.Load(), err)
	}
}

// As many connections are kept as calls are made at once.
func TestConnectionsAreKept(t *testing.T) {
	const calls = 20
	small := locals3.New("letters")
	var arrived sync.WaitGroup
	var conns atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Done()
		arrived.Wait() // all are under way at once
		small.ServeHTTP(w, r)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	o := at(s.URL)
	o.Connections = calls
	b := journal.NewS3("letters", "", o)
	for round := range 3 {
		arrived.Add(calls)
		var wg sync.WaitGroup
		for i := range calls {
			wg.Go(func() {
				if err := b.Put(t.Context(), fmt.Sprintf("%d/%d", round, i), nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	// The transport may dial one more than it needs, when another connection comes free first.
	if got := conns.Load(); got > calls+calls/2 {
		t.Errorf("%d connections for %d calls at once, three times", got, calls)
	}
}
