package http

import (
	"context"
	"encoding/base64"
	nethttp "net/http"
	"net/url"

	"backstop/lib/sinks"
)

// auth puts who sends into the headers of a request. refused is called when the receiver answered 401.
type auth struct {
	header  func(ctx context.Context, r *signable) (nethttp.Header, error)
	refused func()
}

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
		c.add("auth", "want one of basic, bearer, sigv4, oauth2 and google")
		return auth{}
	}
	switch {
	case a.Basic != nil:
		name, password := c.static("auth.basic.username", a.Basic.Username), c.static("auth.basic.password", a.Basic.Password)
		return fixed("Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+password)))
	case a.Bearer != "":
		token := c.static("auth.bearer", a.Bearer)
		if !headerValue(token) {
			c.add("auth.bearer", "holds a control character, or white space at an end")
		}
		return fixed("Bearer " + token)
	case a.SigV4 != nil:
		service, region := c.static("auth.sigv4.service", sinks.Secret(a.SigV4.Service)), c.static("auth.sigv4.region", sinks.Secret(a.SigV4.Region))
		c.need("auth.sigv4.service", service)
		c.need("auth.sigv4.region", region)
		return auth{header: c.signed(service, region)}
	}
	return auth{}
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
