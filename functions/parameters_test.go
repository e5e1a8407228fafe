package functions_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"backstop/internal/freeport"
)

// parameterStore answers like SSM Parameter Store over HTTP: SecureStrings, as their text only for
// who asks for it. Parameters with "denied" in their name are refused.
type parameterStore struct {
	mu     sync.Mutex
	values map[string]string
}

func (p *parameterStore) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	type parameter struct{ Name, Value string }
	var in struct {
		Name, Path string
		Names      []string

		WithDecryption bool
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if strings.Contains(in.Name+in.Path+strings.Join(in.Names, " "), "denied") {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"AccessDeniedException","message":"not for you"}`)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	found, missing := []parameter{}, []string{}
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		if name == in.Name || path.Dir(name) == in.Path || slices.Contains(in.Names, name) {
			value := p.values[name]
			if !in.WithDecryption {
				value = "the ciphertext of " + name
			}
			found = append(found, parameter{name, value})
		}
	}
	for _, name := range in.Names {
		if _, ok := p.values[name]; !ok {
			missing = append(missing, name)
		}
	}
	switch {
	case in.Name == "":
		_ = json.NewEncoder(w).Encode(map[string]any{"Parameters": found, "InvalidParameters": missing})
	case len(found) == 0:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"ParameterNotFound"}`)
	default:
		_ = json.NewEncoder(w).Encode(map[string]any{"Parameter": found[0]})
	}
}

// startParameterStore starts an empty store that ends with the test, and returns its URL.
func startParameterStore(t *testing.T) (*parameterStore, string) {
	t.Helper()
	p := &parameterStore{values: map[string]string{}}
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	return p, s.URL
}

// put writes a parameter.
func (p *parameterStore) put(name, value string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.values[name] = value
}

// freeAddr is an address of loopback where nobody listens until the test ends, unless it does itself.
func freeAddr(t *testing.T) string {
	t.Helper()
	port, release, err := freeport.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return fmt.Sprintf("127.0.0.1:%d", port)
}
