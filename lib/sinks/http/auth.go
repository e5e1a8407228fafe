package http

import (
	"context"
	"encoding/base64"
	nethttp "net/http"
	"net/url"
	"strings"

	"backstop/lib/sinks"
	"backstop/lib/sinks/internal/httpsend"
	"backstop/lib/sinks/internal/tokens"
)

// auth puts who sends into the headers of a request; nil: nobody says.
type auth struct {
	header func(ctx context.Context, r *signable) (nethttp.Header, error)
	tokens *tokens.Cache // nil: none are fetched
}

// refused forgets the token that a request was refused with. It reports whether another one may be
// taken.
func (a auth) refused(h nethttp.Header) (again bool) {
	return a.tokens != nil && a.tokens.Drop(strings.TrimPrefix(h.Get("Authorization"), bearer))
}

const bearer = "Bearer "

// signable is what a signature covers.
type signable struct {
	method string
	url    *url.URL
	header nethttp.Header
	body   []byte
}

// authorization compiles the block auth.
func (c *compiler) authorization(a Auth) auth {
	given := 0
	for _, there := range []bool{a.Basic != nil, a.Bearer != "", a.SigV4 != nil, a.OAuth2 != nil, a.Google != nil} {
		if there {
			given++
		}
	}
	if given > 1 {
		c.own("auth", "want one of basic, bearer, sigv4, oauth2 and google")
		return auth{}
	}
	switch {
	case a.Basic != nil:
		name, password := c.static("auth.basic.username", a.Basic.Username), c.static("auth.basic.password", a.Basic.Password)
		return fixed("Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password)))
	case a.Bearer != "":
		token := c.static("auth.bearer", a.Bearer)
		if !headerValue(token) {
			c.own("auth.bearer", "holds a control character, or white space at an end")
		}
		return fixed(bearer + token)
	case a.SigV4 != nil:
		service, region := c.static("auth.sigv4.service", sinks.Secret(a.SigV4.Service)), c.static("auth.sigv4.region", sinks.Secret(a.SigV4.Region))
		c.need("auth.sigv4.service", service)
		c.need("auth.sigv4.region", region)
		return auth{header: c.signed(service, region)}
	case a.OAuth2 != nil:
		config := tokens.ClientCredentialsConfig{
			TokenURL: c.endpoint("auth.oauth2.token_url", a.OAuth2.TokenURL), ClientID: c.static("auth.oauth2.client_id", a.OAuth2.ClientID),
			ClientSecret: sinks.Secret(c.static("auth.oauth2.client_secret", a.OAuth2.ClientSecret)),
			Scope:        c.static("auth.oauth2.scope", sinks.Secret(a.OAuth2.Scope)), Audience: c.static("auth.oauth2.audience", sinks.Secret(a.OAuth2.Audience)),
			SecretInBody: a.OAuth2.SecretInBody,
		}
		c.need("auth.oauth2.client_id", config.ClientID)
		return fetched(tokens.ClientCredentials(c.client(), config))
	case a.Google != nil:
		var endpoint *url.URL
		if a.Google.TokenURL != "" {
			endpoint = c.endpoint("auth.google.token_url", a.Google.TokenURL)
		}
		credentials, scope := c.static("auth.google.credentials", a.Google.Credentials), c.static("auth.google.scope", sinks.Secret(a.Google.Scope))
		c.need("auth.google.scope", scope)
		cache, err := tokens.ServiceAccount(c.client(), sinks.Secret(credentials), scope, endpoint)
		if err != nil {
			c.own("auth.google.credentials", err.Error())
			return auth{}
		}
		return fetched(cache)
	}
	return auth{}
}

// endpoint is where tokens are.
func (c *compiler) endpoint(key string, s sinks.Secret) *url.URL {
	raw := c.static(key, s)
	if raw == "" {
		c.own(key, "required")
		return nil
	}
	if _, err := webURL(raw); err != nil {
		c.within(key, err)
		return nil
	}
	u, err := url.Parse(raw)
	if err != nil {
		c.own(key, "not an http or https URL")
	}
	return u
}

// client talks to token endpoints.
func (c *compiler) client() *httpsend.Client {
	return httpsend.NewClient(&httpsend.Options{Proxy: c.options.Proxy, RootCAs: c.options.RootCAs})
}

// fetched is for a token that has to be fetched first.
func fetched(cache *tokens.Cache) auth {
	return auth{tokens: cache, header: func(ctx context.Context, _ *signable) (nethttp.Header, error) {
		token, err := cache.Get(ctx)
		if err != nil {
			return nil, err
		}
		if !headerValue(token) {
			return nil, sinks.Transient(&sinks.Error{Code: sinks.CodeSinkUnavailable, Msg: "the token endpoint gave a token that is no header value"})
		}
		return nethttp.Header{"Authorization": {bearer + token}}, nil
	}}
}

func fixed(value string) auth {
	h := nethttp.Header{"Authorization": {value}}
	return auth{header: func(context.Context, *signable) (nethttp.Header, error) { return h, nil }}
}

// signed returns what signs by Options.Sign.
func (c *compiler) signed(service, region string) func(context.Context, *signable) (nethttp.Header, error) {
	sign := c.options.Sign
	return func(ctx context.Context, r *signable) (nethttp.Header, error) {
		if sign == nil {
			return nil, sinks.Terminal(&sinks.Error{Code: sinks.CodeSinkConfigInvalid, Msg: "auth.sigv4: this program signs nothing for AWS (http.Options.Sign)"})
		}
		req := (&nethttp.Request{Method: r.method, URL: r.url, Host: r.url.Host, Header: r.header.Clone(), ContentLength: int64(len(r.body))}).WithContext(ctx)
		if err := sign(ctx, req, r.body, service, region); err != nil {
			return nil, err
		}
		out := nethttp.Header{}
		for name, values := range req.Header {
			if r.header[name] == nil {
				out[name] = values
			}
		}
		return out, nil
	}
}
