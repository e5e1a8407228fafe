package client_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"backstop/client"
	"backstop/lib/fault"
)

const (
	testKey    = "AKIDEXAMPLE"
	testSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY" // the example of AWS's documentation
)

func hash(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func mac(key []byte, s string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(s))
	return h.Sum(nil)
}

// uriEncode is the UriEncode of the SigV4 specification.
func uriEncode(s string, slash bool) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("-._~", c) >= 0, c == '/' && !slash:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})$`)

// signatureOf computes the signature of a received request by the specification, from
// what is on the wire.
func signatureOf(r *http.Request, body []byte, m []string) string {
	var query []string
	for name, values := range r.URL.Query() {
		for _, v := range values {
			query = append(query, uriEncode(name, true)+"="+uriEncode(v, true))
		}
	}
	slices.Sort(query)
	var headers strings.Builder
	for name := range strings.SplitSeq(m[5], ";") {
		v := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			v = r.Host
		case "content-length":
			v = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.TrimSpace(v))
	}
	canonical := strings.Join([]string{
		// The path on the wire is encoded once; every service but S3 encodes it again.
		r.Method, uriEncode(r.URL.EscapedPath(), false), strings.Join(query, "&"), headers.String(), m[5], hash(body),
	}, "\n")
	scope := strings.Join([]string{m[2], m[3], m[4], "aws4_request"}, "/")
	toSign := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"), scope, hash([]byte(canonical))}, "\n")
	key := mac(mac(mac(mac([]byte("AWS4"+testSecret), m[2]), m[3]), m[4]), "aws4_request")
	return hex.EncodeToString(mac(key, toSign))
}

func TestSignaturesAreTheSpecifications(t *testing.T) {
	type seen struct {
		r    *http.Request
		body []byte
	}
	requests := make(chan seen, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- seen{r, body}
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"code":"SINK_NOT_FOUND"}`)
	}))
	t.Cleanup(s.Close)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, session := range []string{"", "session-token=="} {
		c, err := client.New(s.URL+"/prod/", &client.Options{Transport: &client.Signer{
			Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, session), Region: "eu-west-1", Now: func() time.Time { return now },
		}})
		if err != nil {
			t.Fatal(err)
		}
		for name, call := range map[string]func() error{
			"plain":               func() error { _, err := c.Sinks(t.Context()); return err },
			"an id":               func() error { _, err := c.Item(t.Context(), "mail~1767225600000-0"); return err },
			"an id to be escaped": func() error { _, err := c.Item(t.Context(), "a b/ü%"); return err },
			"a query": func() error {
				_, err := c.ItemsPage(t.Context(), client.Filter{Q: "a b+c&d=ü~*", DeliveryID: "a:=+/@-", Since: now}, 5, "cur/sor==")
				return err
			},
			"a body": func() error {
				_, err := c.Send(t.Context(), client.SendRequest{ID: "a", Sink: "x", Message: client.SendMessage{Body: "<ü>"}})
				return err
			},
			"a key": func() error {
				_, err := c.CreateOperation(t.Context(), "key-1", client.OperationRequest{Action: "replay", All: true})
				return err
			},
			"lines": func() error { _, err := c.Import(t.Context(), []byte("{}\n")); return err },
		} {
			t.Run(name+session, func(t *testing.T) {
				if err := call(); fault.CodeOf(err) != fault.CodeSinkNotFound {
					t.Errorf("%v, want the server's refusal", err)
				}
				got := <-requests
				m := authorization.FindStringSubmatch(got.r.Header.Get("Authorization"))
				if m == nil {
					t.Fatalf("Authorization %q", got.r.Header.Get("Authorization"))
				}
				if m[1] != testKey || m[2] != "20260102" || m[3] != "eu-west-1" || m[4] != "execute-api" {
					t.Errorf("credential scope %v", m[1:5])
				}
				for _, must := range []string{"host", "x-amz-date"} {
					if !slices.Contains(strings.Split(m[5], ";"), must) {
						t.Errorf("%s is not signed: %s", must, m[5])
					}
				}
				if got.r.Header.Get("X-Amz-Security-Token") != session {
					t.Errorf("session token %q", got.r.Header.Get("X-Amz-Security-Token"))
				}
				if want := signatureOf(got.r, got.body, m); m[6] != want {
					t.Errorf("signature %s, want %s", m[6], want)
				}
			})
		}
	}
}

func TestNothingIsSentWithoutCredentials(t *testing.T) {
	expired := errors.New("the SSO session has expired")
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }))
	t.Cleanup(s.Close)
	c, err := client.New(s.URL, &client.Options{Transport: &client.Signer{Region: "eu-west-1", Credentials: aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, expired },
	)}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Sinks(t.Context())
	if _, ok := errors.AsType[*client.CredentialsError](err); !ok || !errors.Is(err, expired) {
		t.Errorf("got %v, want a CredentialsError", err)
	}
}

func TestATokenGoesOverHTTPSOrStaysOnThisMachine(t *testing.T) {
	for _, c := range []struct {
		url  string
		sent bool
	}{
		{"https://api.example.com/v1/sinks", true},
		{"http://127.0.0.1:3000/v1/sinks", true},
		{"http://[::1]:3000/v1/sinks", true},
		{"http://localhost:3000/v1/sinks", true},
		{"http://api.example.com/v1/sinks", false},
		{"http://10.0.0.1/v1/sinks", false},
		{"http://localhost.example.com/v1/sinks", false},
	} {
		sent := ""
		b := &client.Bearer{Token: "t1", Base: roundTripper(func(r *http.Request) (*http.Response, error) {
			sent = r.Header.Get("Authorization")
			return &http.Response{StatusCode: 204, Body: http.NoBody}, nil
		})}
		u, err := url.Parse(c.url)
		if err != nil {
			t.Fatal(err)
		}
		r := (&http.Request{Method: http.MethodGet, URL: u, Header: http.Header{}}).WithContext(t.Context())
		_, err = b.RoundTrip(r)
		if (err == nil) != c.sent || (sent == "Bearer t1") != c.sent {
			t.Errorf("%s: sent %q (%v), want sent %v", c.url, sent, err, c.sent)
		}
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s: the caller's request was changed", c.url)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
