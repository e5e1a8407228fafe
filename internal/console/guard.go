package console

import (
	"net"
	"net/http"

	"backstop/lib/problem"
	"backstop/lib/sinks"
)

// codeForbidden is the code of requests that the console itself refuses.
const codeForbidden sinks.Code = "CONSOLE_FORBIDDEN"

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

// loopbackOnly refuses requests whose Host is not this machine: a name that an attacker
// makes resolve to 127.0.0.1 would make the attacker's page "same origin". Any port
// will do, since one may be forwarded.
func loopbackOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range securityHeaders {
			w.Header().Set(name, value)
		}
		if !isLoopback(r.Host) {
			refuse(w, http.StatusMisdirectedRequest, "the console answers to localhost, 127.0.0.1 and [::1] only")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isLoopback reports whether host, with or without a port, is a loopback address or
// localhost.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// sameOrigin refuses requests made by other sites' pages, reads too: they would be made
// with the operator's credentials.
func sameOrigin(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asWrite := *r // the protection lets every read pass
		asWrite.Method = http.MethodPost
		if protection.Check(&asWrite) != nil {
			refuse(w, http.StatusForbidden, "another site's page made this request")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func refuse(w http.ResponseWriter, status int, detail string) {
	problem.Problem{
		Type: "about:blank", Title: "The console refuses this request", Status: status, Detail: detail, Code: codeForbidden,
	}.Write(w)
}
