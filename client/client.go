// Package client calls Backstop's HTTP API (docs/openapi.yaml): it sends messages, looks at dead
// letters, and replays or discards them.
//
// Start with New, then Client.Send to send and Client.Items to look:
//
//	c, err := client.New("https://abc123.execute-api.eu-west-1.amazonaws.com", &client.Options{
//		Transport: &client.Signer{Credentials: cfg.Credentials, Region: "eu-west-1"},
//	})
//	answer, err := c.Send(ctx, client.SendRequest{ID: "order-4711-paid", Sink: "mail", Message: ...})
//
// An error of Send means that the message is still yours; anything else means that it is safe.
// Branch on fault.CodeOf(err), never on texts; errors.As finds a *ProblemError with title,
// detail, status and Retry-After.
//
// Methods that return iter.Seq2 read page after page while they are ranged over, and yield an
// error as the last pair. Their counterparts whose names end with Page read one page.
package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"backstop/lib/fault"
)

const (
	defaultTimeout  = 40 * time.Second // longer than API Gateway lets a request live (30 s)
	defaultTries    = 3
	defaultBaseWait = 200 * time.Millisecond
	defaultMaxWait  = 10 * time.Second
	// maxAnswer is more than Lambda lets a function answer (6 MB).
	maxAnswer = 16 << 20
)

// Options say how to call the API. The zero value, and nil, are usable.
type Options struct {
	// Transport sends the requests and authenticates them (Signer, Bearer). Nil:
	// http.DefaultTransport, for an API without authorization.
	Transport http.RoundTripper
	// UserAgent names the program in the requests. Empty: backstop-go.
	UserAgent string
	// Timeout bounds one try, the answer's body included. Zero: 40 s, which is longer than API
	// Gateway lets a request live. A context's end that is sooner counts.
	Timeout time.Duration
	// Tries is how often a call is made that may be repeated (see Client). Zero: 3. One: once.
	Tries int
	// BaseWait is about how long the second try waits; each further one waits twice as long,
	// with jitter. Zero: 200 ms.
	BaseWait time.Duration
	// MaxWait bounds a wait. Where the API asks for a longer one (Retry-After), the call is not
	// repeated: its error is returned, and says how long. Zero: 10 s.
	MaxWait time.Duration
	// OnRetry is told before each wait what failed and how long the wait is. Nil: nobody is.
	OnRetry func(err error, wait time.Duration)
}

// Client calls one API. It is safe for concurrent use.
//
// It repeats reads (DryRun is one) that were answered with 429, 502, 503 or 504, or not at all;
// and Send, whose delivery id makes repetitions one delivery, after anything that Repeatable
// reports. It repeats no other write. Waits have jitter, honour Retry-After, and end with the context; a
// wait that would outlast the context's deadline is not begun.
//
// Errors of its methods are *ProblemError for whatever the API refused, *UnreachableError where
// no answer of the API came, *CredentialsError where the request could not be authenticated,
// INVALID_ARGUMENT for an id that no URL can have, and the context's own. fault.CodeOf returns
// the API's code of each, and "" where the API did not speak.
type Client struct {
	base *url.URL
	http *http.Client
	o    Options
}

// New returns a client of the API at base, a URL that ends before /v1 and may have a path (the
// stage). It does no I/O. The error says what is wrong with the URL and does not repeat it.
func New(base string, o *Options) (*Client, error) {
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
	c := &Client{base: u}
	if o != nil {
		c.o = *o
	}
	c.o.UserAgent = cmp.Or(c.o.UserAgent, "backstop-go")
	c.o.Timeout = cmp.Or(c.o.Timeout, defaultTimeout)
	c.o.Tries = cmp.Or(c.o.Tries, defaultTries)
	c.o.BaseWait = cmp.Or(c.o.BaseWait, defaultBaseWait)
	c.o.MaxWait = cmp.Or(c.o.MaxWait, defaultMaxWait)
	if c.o.Timeout < 0 || c.o.Tries < 0 || c.o.BaseWait < 0 || c.o.MaxWait < 0 {
		return nil, errors.New("the client's time-out, tries and waits cannot be negative")
	}
	c.http = &http.Client{
		Transport: c.o.Transport,
		// The API never redirects; credentials must not travel on.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// URL returns the API's URL, without a slash at its end.
func (c *Client) URL() string { return c.base.String() }

// Raw is the JSON of an answer as it came, with what this package does not know; nil in a value
// that is only a part of an answer.
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
	// again reports whether the call may be made again after an error; nil: never.
	again func(error) bool
	// about reports whether the answer, decoded by then, is about this request. Every write has
	// one: another server may answer everybody with JSON, and has done nothing. Nil: a read, or
	// an answer without content.
	about func() bool
}

// get is a read.
func get(path ...string) request { return request{method: http.MethodGet, path: path, again: passing} }

func post(path ...string) request { return request{method: http.MethodPost, path: path} }

var errStranger = errors.New("its answer is not about the request: not Backstop's API")

// call makes a call and decodes its answer into into; nil expects no content.
func (c *Client) call(ctx context.Context, r request, into any) (http.Header, error) {
	header, b, err := c.send(ctx, r)
	if err != nil || into == nil && len(b) == 0 {
		return header, err
	}
	if into == nil {
		return header, c.stranger(errStranger)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return header, c.stranger(fmt.Errorf("the answer is not the API's: %w", err))
	}
	if k, ok := into.(interface{ keep([]byte) }); ok {
		k.keep(b)
	}
	if r.about != nil && !r.about() {
		return header, c.stranger(errStranger)
	}
	return header, nil
}

// sameItem reports whether an answer's id is that of the item that was asked for, which may be
// without its sink.
func sameItem(answered, asked string) bool {
	return answered == asked || strings.HasSuffix(answered, "~"+asked)
}

// send makes a call, again where it may be, and returns the answer's header and body, or the
// error that it stands for.
func (c *Client) send(ctx context.Context, r request) (http.Header, []byte, error) {
	for _, part := range r.path {
		if part == "" || part == "." || part == ".." { // which would be another route
			return nil, nil, &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf("%q cannot be an id or a name", part)}
		}
	}
	body, ok := r.body.([]byte)
	if !ok && r.body != nil {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(r.body); err != nil {
			return nil, nil, &fault.Error{Code: fault.CodeInvalidArgument, Msg: "the request cannot be written as JSON", Cause: err}
		}
		body = b.Bytes()
	}
	return c.repeat(ctx, r.again, func() (http.Header, []byte, error) { return c.try(ctx, r, body) })
}

// try makes a call once.
func (c *Client) try(ctx context.Context, r request, body []byte) (http.Header, []byte, error) {
	u := c.base.JoinPath(append([]string{"v1"}, escaped(r.path)...)...)
	u.RawQuery = r.query.Encode()
	within, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(within, r.method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", c.o.UserAgent)
	req.Header.Set("Accept", "application/json, application/x-ndjson, application/problem+json, application/yaml")
	if len(body) > 0 {
		req.Header.Set("Content-Type", cmp.Or(r.contentType, "application/json"))
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
		return nil, nil, c.stranger(fmt.Errorf("it answers %q with %s: not Backstop's API", resp.Status, described(resp)))
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
		err = fmt.Errorf("no answer within %s", c.o.Timeout)
	}
	_, stranger := errors.AsType[*tls.CertificateVerificationError](err)
	return &UnreachableError{URL: c.URL(), Err: err, lasting: stranger || errors.Is(err, errInTheClear)}
}

// stranger is the error for an answer that is not the API's: another try would get the same.
func (c *Client) stranger(err error) error {
	return &UnreachableError{URL: c.URL(), Err: err, lasting: true}
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
	case "application/json", "application/x-ndjson", "application/yaml":
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
