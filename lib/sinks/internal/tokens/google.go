package tokens

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
)

// googleTokens is where Google's tokens come from, unless the key file says otherwise.
const googleTokens = "https://oauth2.googleapis.com/token" //nolint:gosec // an address

const (
	// assertionLife is the longest that Google allows.
	assertionLife = time.Hour
	// early dates assertions back, for clocks that differ a little.
	early = 10 * time.Second
	// maxSkew is a difference of clocks that no assertion is refused for.
	maxSkew = 30 * time.Second
)

// account is what is read of a service account's key file.
type account struct {
	Type         string `json:"type"`
	ProjectID    string `json:"project_id"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	ClientEmail  string `json:"client_email"`
	TokenURI     string `json:"token_uri"`
}

// ProjectID returns the project of a service account's key file; empty where there is none.
func ProjectID(credentials sinks.Secret) string {
	a, err := readAccount(credentials)
	if err != nil {
		return ""
	}
	return a.ProjectID
}

// ServiceAccount returns a cache of tokens for scope of a Google service account, whose JSON key
// file credentials is: an assertion signed with its key is exchanged for a token (RFC 7523).
// tokenURL is asked instead of the file's token_uri; nil: that, or Google's. An error says what is
// wrong with the file, and shows nothing of it. It does no I/O.
//
// Where this process's clock is wrong, the endpoint's own date counts: the assertion is signed once
// more.
func ServiceAccount(client *httpsend.Client, credentials sinks.Secret, scope string, tokenURL *url.URL) (*Cache, error) {
	file, err := readAccount(credentials)
	if err != nil {
		return nil, err
	}
	key, err := rsaKey(file.PrivateKey)
	switch {
	case err != nil:
		return nil, err
	case file.ClientEmail == "":
		return nil, errors.New("client_email: required")
	}
	audience := cmp.Or(file.TokenURI, googleTokens)
	own, err := url.Parse(audience)
	if err != nil || own.Hostname() == "" || own.Scheme != "http" && own.Scheme != "https" {
		return nil, errors.New("token_uri: not an http or https URL")
	}
	e := endpoint{client, cmp.Or(tokenURL, own)}
	var skew atomic.Int64 // how much the endpoint's clock is before this one's
	return New(func(ctx context.Context) (Token, error) {
		assert := func() (*answer, error) {
			now := time.Now().Add(time.Duration(skew.Load()) - early)
			assertion, err := SignRS256(key, file.PrivateKeyID, map[string]any{
				"iss": file.ClientEmail, "scope": scope, "aud": audience, "iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
			})
			if err != nil {
				return nil, sinks.Terminal(&sinks.Error{Code: sinks.CodeInternal, Msg: "token endpoint: the assertion cannot be signed"})
			}
			return e.ask(ctx, nil, url.Values{
				"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {assertion},
			})
		}
		a, err := assert()
		if err == nil && a.word == "invalid_grant" {
			if date, bad := http.ParseTime(a.Header.Get("Date")); bad == nil {
				off := time.Until(date)
				if (off - time.Duration(skew.Load())).Abs() > maxSkew {
					skew.Store(int64(off))
					a, err = assert()
				}
			}
		}
		if err != nil {
			return Token{}, err
		}
		return e.result(a)
	}), nil
}

func readAccount(credentials sinks.Secret) (*account, error) {
	var a account
	switch err := json.Unmarshal([]byte(credentials.Reveal()), &a); {
	case credentials == "":
		return nil, errors.New("required")
	case err != nil: // its text would quote the file
		return nil, errors.New("not the JSON of a service account's key file")
	case a.Type != "service_account":
		return nil, errors.New(`type: want "service_account"`)
	}
	return &a, nil
}

func rsaKey(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("private_key: not a PEM block")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if key, ok := parsed.(*rsa.PrivateKey); ok && err == nil {
		return key, nil
	}
	return nil, errors.New("private_key: not an RSA key")
}
