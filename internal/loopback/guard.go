// Package loopback guards the servers that run on a developer's or an operator's machine:
// every local server stands behind it. A web page of another site can reach them through
// the browser; such a page must neither send nor read.
package loopback

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
)

// Refuse answers a request that a guard refuses, with the status and the reason given.
// The reason repeats nothing of the request.
type Refuse func(w http.ResponseWriter, status int, reason string)

// Guard lets only requests through that name this machine (see Hosts) and that no other
// site's page made (see SameOrigin). It refuses with {"message": "..."}, as API Gateway
// and Lambda do. Programs such as curl, the AWS CLI and SDKs pass: they name the
// address that they call and send neither Origin nor Sec-Fetch-Site.
func Guard(next http.Handler) http.Handler {
	return Hosts(SameOrigin(next, nil), nil)
}

// Hosts refuses requests whose Host is not this machine with 421: a name that an
// attacker makes resolve to 127.0.0.1 would make the attacker's page "same origin" (DNS
// rebinding). Any port will do, since one may be forwarded. Refuse may be nil: as Guard.
func Hosts(next http.Handler, refuse Refuse) http.Handler {
	if refuse == nil {
		refuse = message
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !IsLocal(r.Host) {
			refuse(w, http.StatusMisdirectedRequest, "this server answers to localhost, 127.0.0.1 and [::1] only")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// SameOrigin refuses requests that another origin's page made with 403, reads too: they
// would be made with the rights of whoever runs the server. Refuse may be nil: as Guard.
func SameOrigin(next http.Handler, refuse Refuse) http.Handler {
	if refuse == nil {
		refuse = message
	}
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

// IsLocal reports whether host, with or without a port, is a loopback address or
// localhost.
func IsLocal(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	ip := net.ParseIP(host)
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") || ip != nil && ip.IsLoopback()
}

func message(w http.ResponseWriter, status int, reason string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": reason}) // the client's loss
}
