// Package client is a small typed client of Backstop's HTTP API (docs/openapi.yaml).
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	// callTimeout is longer than API Gateway lets a request live (30 s).
	callTimeout = 40 * time.Second
	// maxAnswer is more than Lambda lets a function answer (6 MB).
	maxAnswer = 16 << 20
)

// Client calls one API. It is safe for concurrent use. It repeats nothing by itself.
//
// Errors of its methods are *ProblemError for whatever the API refused,
// *UnreachableError where no answer of the API came, *CredentialsError where the
// request could not be signed, and the context's own.
type Client struct {
	base *url.URL
	http *http.Client
}

// New returns a client of the API at base, a URL that ends before /v1 and may have a
// path (the stage). transport authenticates the requests; nil means
// http.DefaultTransport.
func New(base string, transport http.RoundTripper) (*Client, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil:
		// The parser's text repeats the URL, which may hold a password.
		return nil, errors.New("the API's URL cannot be read; want one such as https://abc123.execute-api.eu-west-1.amazonaws.com")
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, errors.New("the API's URL must begin with http:// or https:// and name a host")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("the API's URL must have no user, query or fragment")
	}
	u.Path = strings.TrimSuffix(strings.TrimSuffix(u.Path, "/"), "/v1")
	u.RawPath = ""
	return &Client{base: u, http: &http.Client{
		Transport: transport,
		// The API never redirects; credentials must not travel on.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// URL returns the API's URL, without a slash at its end.
func (c *Client) URL() string { return c.base.String() }

// Raw is the JSON of an answer as it came; empty in a value that is only a part of one.
type Raw struct {
	JSON []byte `json:"-"`
}

func (r *Raw) keep(b []byte) { r.JSON = b }

// request is one call.
type request struct {
	method string
	path   []string // parts after /v1, not escaped
	query  url.Values
	header http.Header
	body   any // marshalled to JSON, unless it is []byte; nil: none
	// contentType of the body; empty: application/json.
	contentType string
}

// call sends r and decodes the answer into into; nil expects no content.
func (c *Client) call(ctx context.Context, r request, into any) error {
	_, b, err := c.send(ctx, r)
	if err != nil || into == nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return &UnreachableError{URL: c.URL(), Err: fmt.Errorf("the answer is not the API's: %w", err)}
	}
	if k, ok := into.(interface{ keep([]byte) }); ok {
		k.keep(b)
	}
	return nil
}

// send sends r and returns the answer's header and body, or the error that it stands for.
func (c *Client) send(ctx context.Context, r request) (http.Header, []byte, error) {
	body, ok := r.body.([]byte)
	if !ok && r.body != nil {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(r.body); err != nil {
			return nil, nil, err
		}
		body = b.Bytes()
	}
	u := c.base.JoinPath(append([]string{"v1"}, escaped(r.path)...)...)
	u.RawQuery = r.query.Encode()
	within, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(within, r.method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", "backstop-cli")
	req.Header.Set("Accept", "application/json, application/x-ndjson, application/problem+json")
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
		if r.contentType != "" {
			req.Header.Set("Content-Type", r.contentType)
		}
	}
	resp, err := c.http.Do(req)
	if err == nil {
		defer resp.Body.Close()
		body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	}
	if err != nil {
		return nil, nil, c.failure(ctx, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return nil, nil, problemOf(resp, body)
	}
	if resp.StatusCode >= http.StatusMultipleChoices || !expected(resp, body) {
		return nil, nil, &UnreachableError{URL: c.URL(), Err: fmt.Errorf("it answers %q with %s: not Backstop's API", resp.Status, described(resp))}
	}
	return resp.Header, body, nil
}

func escaped(parts []string) []string {
	out := make([]string, len(parts))
	for i, p := range parts {
		out[i] = url.PathEscape(p)
	}
	return out
}

// failure is the error for a call without an answer.
func (c *Client) failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if e, ok := errors.AsType[*CredentialsError](err); ok {
		return e
	}
	// Around it is the whole URL, whose query may name recipients.
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", callTimeout)
	}
	return &UnreachableError{URL: c.URL(), Err: err}
}

func mediaType(resp *http.Response) string {
	t, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

func expected(resp *http.Response, body []byte) bool {
	switch mediaType(resp) {
	case "application/json", "application/x-ndjson":
		return true
	}
	return len(body) == 0
}

func described(resp *http.Response) string {
	if t := mediaType(resp); t != "" {
		return t
	}
	return "no content type"
}
