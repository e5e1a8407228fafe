package loopback_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"backstop/internal/loopback"
)

func ok(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

// ask sends a request to a server at 127.0.0.1:3000.
func ask(h http.Handler, method string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", nil)
	r.Host = "127.0.0.1:3000"
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestOnlyThisMachinesNamesAreAnswered(t *testing.T) {
	h := loopback.Guard(http.HandlerFunc(ok))
	for host, want := range map[string]int{
		"127.0.0.1:3000": 200, "127.8.8.8": 200, "localhost:3000": 200, "LOCALHOST": 200, "localhost.": 200, "[::1]:3000": 200, "[::1]": 200, "localhost:8080": 200,
		"attacker.example:3000": 421, "127.0.0.1.attacker.example:3000": 421, "localhost.attacker.example": 421, "192.168.1.7:3000": 421,
		"0.0.0.0:3000": 421, "": 421, "[::]:3000": 421, "localhost:3000:1": 421,
	} {
		if w := ask(h, http.MethodGet, "Host", host); w.Code != want {
			t.Errorf("Host %q: %d, want %d", host, w.Code, want)
		}
	}
}

func TestOtherSitesPagesAreRefused(t *testing.T) {
	h := loopback.Guard(http.HandlerFunc(ok))
	for _, c := range []struct {
		name    string
		headers []string
		want    int
	}{
		{"a program", nil, 200},
		{"a program that names itself", []string{"User-Agent", "aws-cli/2.31", "Accept", "*/*"}, 200},
		{"the address bar", []string{"Sec-Fetch-Site", "none"}, 200},
		{"a page of this server", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://127.0.0.1:3000"}, 200},
		{"a page of this server, in a browser without fetch metadata", []string{"Origin", "http://127.0.0.1:3000"}, 200},
		{"another site", []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://attacker.example"}, 403},
		{"another site, without Origin", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another port of this machine", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://127.0.0.1:8080"}, 403},
		{"another site, in a browser without fetch metadata", []string{"Origin", "https://attacker.example"}, 403},
		{"a sandboxed frame", []string{"Origin", "null"}, 403},
		{"a file", []string{"Origin", "file://"}, 403},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPost, http.MethodPut, http.MethodDelete} {
			if w := ask(h, method, c.headers...); w.Code != c.want {
				t.Errorf("%s: %s answers %d, want %d", c.name, method, w.Code, c.want)
			}
		}
	}
}

// The default refusal says why, in the shape of API Gateway and Lambda; a server may
// have a shape of its own.
func TestARefusalSaysWhy(t *testing.T) {
	w := ask(loopback.Guard(http.HandlerFunc(ok)), http.MethodGet, "Host", "attacker.example")
	if w.Header().Get("Content-Type") != "application/json" || !strings.HasPrefix(w.Body.String(), `{"message":"`) || !strings.Contains(w.Body.String(), "localhost") {
		t.Errorf("%s %s", w.Header().Get("Content-Type"), w.Body)
	}
	if strings.Contains(w.Body.String(), "attacker") {
		t.Errorf("%s repeats what the request says", w.Body)
	}
	own := func(w http.ResponseWriter, status int, reason string) { http.Error(w, reason, status+1) }
	if w := ask(loopback.Hosts(http.HandlerFunc(ok), own), http.MethodGet, "Host", "attacker.example"); w.Code != 422 {
		t.Errorf("Hosts answers %d, want its caller's 422", w.Code)
	}
	if w := ask(loopback.SameOrigin(http.HandlerFunc(ok), own), http.MethodGet, "Origin", "null"); w.Code != 404 {
		t.Errorf("SameOrigin answers %d, want its caller's 404", w.Code)
	}
}
