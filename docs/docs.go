// Package docs holds the API's document, so that the function that answers the API can
// serve it.
package docs

import _ "embed" // the document

// OpenAPI is openapi.yaml: every route, schema and error of the HTTP API.
//
//go:embed openapi.yaml
var OpenAPI []byte
