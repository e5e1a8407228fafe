package tokens

import (
	"context"
	"encoding/base64"
	"net/http"
	"net/url"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
)

// ClientCredentialsConfig configures ClientCredentials.
type ClientCredentialsConfig struct {
	// TokenURL is the token endpoint. Required.
	TokenURL *url.URL
	// ClientID names the client. Required.
	ClientID string
	// ClientSecret is its password.
	ClientSecret sinks.Secret
	// Scope is what is asked for, separated by spaces. Empty: the endpoint's default.
	Scope string
	// Audience is sent where it is not empty: no part of the RFC, and what Auth0 and others
	// want.
	Audience string
	// SecretInBody sends id and secret as fields of the form, for endpoints that do not know
	// basic authentication.
	SecretInBody bool
}

// ClientCredentials returns a cache of tokens of the client credentials grant (RFC 6749, section
// 4.4). An error names the token endpoint by scheme and host, and says Unreached where the endpoint
// refuses the client; anything else is transient.
func ClientCredentials(client *httpsend.Client, c ClientCredentialsConfig) *Cache {
	e := endpoint{client, c.TokenURL}
	return New(func(ctx context.Context) (Token, error) {
		form := url.Values{"grant_type": {"client_credentials"}}
		header := http.Header{}
		for name, value := range map[string]string{"scope": c.Scope, "audience": c.Audience} {
			if value != "" {
				form.Set(name, value)
			}
		}
		if c.SecretInBody {
			form.Set("client_id", c.ClientID)
			form.Set("client_secret", c.ClientSecret.Reveal())
		} else {
			// Both are encoded before they are joined: section 2.3.1.
			pair := url.QueryEscape(c.ClientID) + ":" + url.QueryEscape(c.ClientSecret.Reveal())
			header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(pair)))
		}
		a, err := e.ask(ctx, header, form)
		if err != nil {
			return Token{}, err
		}
		return e.result(a)
	})
}
