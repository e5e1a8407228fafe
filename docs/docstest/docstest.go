// Package docstest holds answers of the HTTP API against its document. It is for tests.
package docstest

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

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"backstop/docs"
	"backstop/lib/fault"
)

// Document is the parsed document. It is safe for concurrent use.
type Document struct {
	doc    *openapi3.T
	router routers.Router
}

var schemaOptions = []openapi3.SchemaValidationOption{
	openapi3.EnableJSONSchema2020(), openapi3.EnableFormatValidation(), openapi3.MultiErrors(),
}

// Load parses docs.OpenAPI. A document that is no OpenAPI 3.1, or an example that is
// not what its schema says, is an error.
func Load(ctx context.Context) (*Document, error) {
	doc, err := openapi3.NewLoader().LoadFromData(docs.OpenAPI)
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(ctx, openapi3.IsOpenAPI31OrLater(), openapi3.EnableExamplesValidation()); err != nil {
		return nil, err
	}
	doc.Servers = nil // any host will do
	router, err := gorillamux.NewRouter(doc)
	return &Document{doc: doc, router: router}, err
}

// Routes returns the documented routes, such as "GET /v1/dlq/items/{id}".
func (d *Document) Routes() map[string]bool {
	routes := map[string]bool{}
	for path, item := range d.doc.Paths.Map() {
		for method := range item.Operations() {
			routes[method+" "+path] = true
		}
	}
	return routes
}

// Answer checks an answer: that its status, headers and body are documented for the
// route. An answer to HEAD has no body. A path that is not documented must be answered with
// a NOT_FOUND problem, another method with METHOD_NOT_ALLOWED.
func (d *Document) Answer(ctx context.Context, method, target string, status int, header http.Header, body []byte) error {
	if method == http.MethodHead {
		if len(body) > 0 {
			return fmt.Errorf("an answer to HEAD has a body: %.200q", body)
		}
		if status == http.StatusNotFound || status == http.StatusMethodNotAllowed {
			return nil // whose code cannot be seen
		}
		method = http.MethodGet
	}
	if method == http.MethodOptions && status == http.StatusNoContent {
		return d.preflight(target, header, body)
	}
	// A path without its slash must not become a part of the host.
	r, err := http.NewRequestWithContext(ctx, method, "https://api.example/"+strings.TrimPrefix(target, "/"), nil)
	if err != nil {
		return err
	}
	contentType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil && len(body) > 0 {
		return fmt.Errorf("content type %q: %w", header.Get("Content-Type"), err)
	}
	if contentType == "application/problem+json" && len(body) > 0 {
		switch code, err := d.problem(status, body); {
		case err != nil:
			return err
		case code == string(fault.CodeNotFound) && status == http.StatusNotFound:
			return nil
		case code == string(fault.CodeMethodNotAllowed) && status == http.StatusMethodNotAllowed && header.Get("Allow") != "":
			return nil
		}
	}
	return d.documented(ctx, r, status, header, contentType, body)
}

// documented checks an answer to r against the document.
func (d *Document) documented(ctx context.Context, r *http.Request, status int, header http.Header, contentType string, body []byte) error {
	route, params, err := d.router.FindRoute(r)
	if err != nil {
		return fmt.Errorf("status %d of a route that is not documented: %w", status, err)
	}
	// The library knows JSON; lines of it are looked at below, and the document is itself.
	lines := contentType == "application/x-ndjson"
	err = openapi3filter.ValidateResponse(ctx, &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, Route: route, PathParams: params},
		Status:                 status, Header: header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, MultiError: true, SchemaValidationOptions: schemaOptions,
			ExcludeResponseBody: lines || contentType == "application/yaml" || len(body) == 0,
		},
	})
	if err != nil || !lines {
		return err
	}
	for line := range bytes.Lines(body) {
		if err := d.schema("Item", line); err != nil {
			return fmt.Errorf("line %.200q: %w", line, err)
		}
	}
	return nil
}

// preflight checks an answer to OPTIONS: that the path is documented, and what may be
// asked of it is said.
func (d *Document) preflight(target string, header http.Header, body []byte) error {
	if len(body) > 0 || header.Get("Content-Type") != "" {
		return fmt.Errorf("an answer 204 has a body: %q %.200q", header.Get("Content-Type"), body)
	}
	for method := range strings.SplitSeq(header.Get("Allow"), ", ") {
		r := &http.Request{Method: method, URL: &url.URL{Path: "/" + strings.TrimPrefix(target, "/")}}
		if _, _, err := d.router.FindRoute(r); err != nil && method != http.MethodHead && method != http.MethodOptions {
			return fmt.Errorf("%s %s is allowed and not documented: %w", method, target, err)
		}
	}
	if !strings.Contains(header.Get("Allow"), http.MethodOptions) {
		return fmt.Errorf("an answer to OPTIONS allows %q", header.Get("Allow"))
	}
	return nil
}

// problem checks a problem and returns its code.
func (d *Document) problem(status int, body []byte) (string, error) {
	if err := d.schema("Problem", body); err != nil {
		return "", err
	}
	var p struct {
		Status int    `json:"status"`
		Code   string `json:"code"`
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return "", err
	}
	if p.Status != status {
		return "", fmt.Errorf("the problem says %d, the answer %d", p.Status, status)
	}
	return p.Code, nil
}

func (d *Document) schema(name string, b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	ref, ok := d.doc.Components.Schemas[name]
	if !ok {
		return errors.New("the document has no schema " + name)
	}
	if err := ref.Value.VisitJSON(v, schemaOptions...); err != nil {
		return errors.New(strings.TrimSpace(err.Error()))
	}
	return nil
}

// Enum returns the values of a schema's enum.
func (d *Document) Enum(schema string) ([]string, error) {
	s := d.doc.Components.Schemas[schema]
	if s == nil {
		return nil, fmt.Errorf("no schema %s", schema)
	}
	var values []string
	for _, v := range s.Value.Enum {
		values = append(values, fmt.Sprint(v))
	}
	return values, nil
}
