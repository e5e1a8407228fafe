package lambdahost

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// request is a request that has its route, with all that its event says.
type request struct {
	*http.Request
	id, trace string
	route     *route
	params    map[string]string
	identity  *events.APIGatewayV2HTTPRequestContextAuthorizerDescription
	body      []byte
}

// httpEvent is the event without the parts of the library's type that only mutual TLS
// fills.
type httpEvent struct {
	events.APIGatewayV2HTTPRequest
	RequestContext httpContext `json:"requestContext"`
}

type httpContext struct {
	events.APIGatewayV2HTTPRequestContext
	Authentication *struct{} `json:"authentication,omitempty"`
}

// event returns r's event in payload format 2.0.
func (a *HTTPAPI) event(r request) []byte {
	headers, cookies := r.headers()
	body, encoded := r.text()
	event := httpEvent{
		APIGatewayV2HTTPRequest: events.APIGatewayV2HTTPRequest{
			Version:               "2.0",
			RouteKey:              r.route.Key,
			RawPath:               r.URL.Path, // decoded, as API Gateway sends it in spite of the name
			RawQueryString:        r.URL.RawQuery,
			Cookies:               cookies,
			Headers:               headers,
			QueryStringParameters: joined(r.URL.Query()),
			PathParameters:        r.params,
			Body:                  body,
			IsBase64Encoded:       encoded,
		},
		RequestContext: httpContext{APIGatewayV2HTTPRequestContext: a.requestContext(r)},
	}
	// Escaping HTML would nearly double an HTML body, against a limit in bytes.
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(event); err != nil {
		panic(fmt.Sprintf("lambdahost: encoding an event: %v", err)) // an authorizer's value that is no JSON
	}
	return buf.Bytes()
}

func (a *HTTPAPI) requestContext(r request) events.APIGatewayV2HTTPRequestContext {
	now := time.Now().UTC()
	domain, _ := r.domain()
	prefix, _, _ := strings.Cut(domain, ".")
	return events.APIGatewayV2HTTPRequestContext{
		RouteKey:     r.route.Key,
		AccountID:    a.opts.AccountID,
		Stage:        a.opts.Stage,
		RequestID:    r.id,
		Authorizer:   r.identity,
		APIID:        a.opts.APIID,
		DomainName:   domain,
		DomainPrefix: prefix,
		Time:         now.Format("02/Jan/2006:15:04:05 -0700"),
		TimeEpoch:    now.UnixMilli(),
		HTTP: events.APIGatewayV2HTTPRequestContextHTTPDescription{
			Method: r.Method, Path: r.URL.Path, Protocol: r.Proto,
			SourceIP: r.sourceIP(), UserAgent: r.UserAgent(),
		},
	}
}

func (r request) sourceIP() string {
	ip, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return ip
}

func (r request) domain() (name, port string) {
	name, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		return r.Host, "80"
	}
	return name, port
}

// headers returns the headers by their names in lower case, with those that API Gateway
// adds, and the cookies apart.
func (r request) headers() (headers map[string]string, cookies []string) {
	_, port := r.domain()
	headers = map[string]string{
		"host":              r.Host,
		"content-length":    strconv.Itoa(len(r.body)),
		"x-amzn-trace-id":   r.trace,
		"x-forwarded-for":   r.sourceIP(),
		"x-forwarded-port":  port,
		"x-forwarded-proto": "http",
	}
	for name, values := range r.Header {
		switch name = strings.ToLower(name); name {
		case "cookie":
			for _, v := range values {
				cookies = append(cookies, strings.Split(v, "; ")...)
			}
		case "x-amzn-trace-id":
		case "x-forwarded-for":
			headers[name] = strings.Join(append(values, r.sourceIP()), ", ")
		default:
			headers[name] = strings.Join(values, ",")
		}
	}
	return headers, cookies
}

// joined returns nil for a request without a query.
func joined(query url.Values) map[string]string {
	var all map[string]string
	for name, values := range query {
		if all == nil {
			all = map[string]string{}
		}
		all[name] = strings.Join(values, ",")
	}
	return all
}

// text returns the body as it stands in the event, and whether that is base64.
func (r request) text() (body string, encoded bool) {
	if isText(r.Header.Get("Content-Type"), r.body) {
		return string(r.body), false
	}
	return base64.StdEncoding.EncodeToString(r.body), true
}

// isText reports whether a body is passed on as it is. API Gateway encodes everything
// but these types in base64, forms and bodies without a type too.
func isText(contentType string, body []byte) bool {
	if len(body) == 0 {
		return true
	}
	kind, _, err := mime.ParseMediaType(contentType)
	if err != nil || !utf8.Valid(body) {
		return false
	}
	switch kind {
	case "application/json", "application/xml", "application/javascript":
		return true
	}
	return strings.HasPrefix(kind, "text/")
}
