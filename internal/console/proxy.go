package console

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"backstop/client"
	"backstop/internal/problem"
	"backstop/lib/fault"
)

const (
	// callTimeout is longer than API Gateway lets a request live (30 s).
	callTimeout = 40 * time.Second
	// maxRequest is more than the API takes, in bytes.
	maxRequest = 5 << 20
)

// The header fields that are passed on. Everything else stops here: cookies, which other
// programs on this host set, and whatever authenticates the console's own user.
var (
	forwarded = []string{"Accept", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match"}
	returned  = []string{
		"Allow", "Backstop-Next-Cursor", "Content-Encoding", "Content-Length", "Content-Type", "Etag", "Location", "Retry-After",
	}
)

// errRedirected is an answer that Backstop never gives.
var errRedirected = errors.New("it redirects: not Backstop's API")

// newProxy passes requests on to the API, authenticated by transport.
func newProxy(api *url.URL, transport http.RoundTripper) http.Handler {
	p := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(api)
			r.Out.Header = only(r.Out.Header, forwarded)
			r.Out.Header.Set("User-Agent", "backstop-console")
		},
		ModifyResponse: func(resp *http.Response) error {
			if s := resp.StatusCode; s >= 300 && s < 400 && s != http.StatusNotModified || s < 200 {
				return errRedirected
			}
			resp.Header = only(resp.Header, returned)
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) { failure(api, err).Write(w) },
		ErrorLog:     slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug), // the page shows what failed
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Body = http.MaxBytesReader(w, r.Body, maxRequest)
		p.ServeHTTP(w, r)
	})
}

// only returns the named fields of h.
func only(h http.Header, names []string) http.Header {
	out := http.Header{}
	for _, name := range names {
		if values := h.Values(name); len(values) > 0 {
			out[name] = values
		}
	}
	return out
}

// failure is the problem for a request that got no answer of the API's.
func failure(api *url.URL, err error) problem.Problem {
	p := problem.Problem{
		Type: "about:blank", Title: "The API cannot be reached", Status: http.StatusBadGateway, Code: fault.CodeConsoleUnreachable,
	}
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		p.Title, p.Status, p.Code = "The request is too large", http.StatusRequestEntityTooLarge, fault.CodeBodyTooLarge
		p.Detail = fmt.Sprintf("at most %d bytes can be sent", e.Limit)
		return p
	}
	if e, ok := errors.AsType[*client.CredentialsError](err); ok {
		p.Title, p.Code, p.Detail = "No usable AWS credentials", fault.CodeConsoleCredentials, e.Err.Error()
		return p
	}
	// Around the cause is the whole URL, whose query may name recipients.
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		p.Status, err = http.StatusGatewayTimeout, fmt.Errorf("no answer within %s", callTimeout)
	case errors.Is(err, io.EOF):
		err = errors.New("the connection was closed without an answer")
	}
	p.Detail = fmt.Sprintf("%s: %v", api, err)
	return p
}
