package handler

import (
	"net/http"
	"sync"

	"backstop/docs"
)

var documentTag = sync.OnceValue(func() string { return entityTag(docs.OpenAPI) })

// getDocument answers with the API's own document.
func getDocument(w http.ResponseWriter, r *http.Request) error {
	if !notModified(w, r, documentTag()) {
		write(w, http.StatusOK, typeYAML, docs.OpenAPI)
	}
	return nil
}
