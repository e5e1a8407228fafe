package console

import (
	"net/http"

	"backstop/internal/problem"
	"backstop/lib/fault"
)

// policy lets the page run its own scripts and styles, talk to its own server, and
// nothing else: no inline code, no frames, nothing from elsewhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// securityHeaders are on every answer. Nothing is stored: dead letters are not for the
// browser's disk.
var securityHeaders = map[string]string{
	"Cache-Control":                "no-store",
	"Content-Security-Policy":      policy,
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Referrer-Policy":              "no-referrer",
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
}

// secured puts the security headers on every answer.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range securityHeaders {
			w.Header().Set(name, value)
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers what the guard of local servers refuses, as a problem.
func refuse(w http.ResponseWriter, status int, detail string) {
	problem.Problem{
		Type: "about:blank", Title: "The console refuses this request", Status: status, Detail: detail, Code: fault.CodeConsoleForbidden,
	}.Write(w)
}
