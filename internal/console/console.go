// Package console is the operator's page over Backstop's HTTP API: what failed, where and
// why, and replay, discard and unpark of one dead letter, a selection, a cause or a filter.
//
// The page is served on loopback, with everything it needs embedded. Its server passes
// /v1/* on to the API and authenticates there, so the page itself holds no credentials.
// It knows the API's contract (docs/openapi.yaml) and nothing else of Backstop.
package console

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/url"
	"path"

	"backstop/client"
	"backstop/internal/loopback"
)

//go:embed assets
var assets embed.FS

// shell is the page; what it shows is made by assets/app.js.
var shell = template.Must(template.ParseFS(assets, "assets/index.html"))

// contentTypes are those of the assets, independent of this machine's tables.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// Options configure a console.
type Options struct {
	// API is the URL of Backstop's API, which ends before /v1 and may have a path (the
	// stage). It must hold no user, query or fragment.
	API string
	// Transport authenticates the requests to the API (client.Signer,
	// client.Bearer). Nil: http.DefaultTransport, for an API without authorization.
	Transport http.RoundTripper
}

// New returns the console's handler. Serve it on loopback only (see Start): whoever
// reaches it acts with the credentials of Options.Transport. It refuses requests that
// name another host than loopback (DNS rebinding) and requests that another site's page
// makes. An error means that Options.API is unusable; its text holds no secret.
func New(o Options) (http.Handler, error) {
	c, err := client.New(o.API, nil) // the same rules for the URL as the CLI's
	if err != nil {
		return nil, err
	}
	api, err := url.Parse(c.URL())
	if err != nil {
		return nil, err
	}
	page, err := shellFor(c.URL())
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	mux.HandleFunc("GET /assets/{name}", serveAsset)
	// The page itself may be opened from anywhere: it is the same for everybody.
	mux.Handle("/v1/", loopback.SameOrigin(newProxy(api, o.Transport), refuse))
	return secured(loopback.Hosts(mux, refuse)), nil
}

// shellFor returns the page for an API. It names all modules, so that the browser fetches them at once,
// instead of each when it has read what imports it.
func shellFor(api string) ([]byte, error) {
	modules, err := fs.Glob(assets, "assets/*.js")
	if err != nil {
		return nil, err
	}
	for i, m := range modules {
		modules[i] = path.Base(m)
	}
	var page bytes.Buffer
	err = shell.Execute(&page, struct {
		API     string
		Modules []string
	}{api, modules})
	return page.Bytes(), err
}

func serveAsset(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	contentType, ok := contentTypes[path.Ext(name)]
	b, err := assets.ReadFile("assets/" + name)
	if !ok || err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(b) //nolint:gosec // ours, embedded
}
