package lambdahost

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Route sends requests to a function.
type Route struct {
	// Key is "METHOD /path" or "ANY /path", or "$default" for requests that no
	// other route matches. A path segment may be a variable, {name}; the last one may be greedy,
	// {name+}: one or more segments.
	Key string
	// Function is the name of the function.
	Function string
}

type route struct {
	Route
	method   string // "ANY" for all
	segments []string
}

var (
	routeMethods = []string{
		"ANY", http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
		http.MethodPatch, http.MethodDelete, http.MethodOptions,
	}
	routeSegment = regexp.MustCompile(`^(\{[A-Za-z0-9._-]+\+?\}|[^{}]*)$`)
)

const defaultRoute = "$default"

// routes is a table, most specific route first.
type routes []route

func parseRoutes(list []Route) (routes, error) {
	var table routes
	var errs []error
	seen := map[string]bool{}
	for _, r := range list {
		parsed, err := parseRoute(r)
		if err == nil && seen[r.Key] {
			err = errors.New("is given twice")
		}
		seen[r.Key] = true
		if err != nil {
			errs = append(errs, fmt.Errorf("route %q: %w", r.Key, err))
		}
		table = append(table, parsed)
	}
	slices.SortStableFunc(table, compareRoutes)
	return table, errors.Join(errs...)
}

func parseRoute(r Route) (route, error) {
	if r.Function == "" {
		return route{}, errors.New("has no function")
	}
	if r.Key == defaultRoute {
		return route{Route: r, method: "ANY", segments: []string{"{" + defaultRoute + "+}"}}, nil
	}
	method, path, ok := strings.Cut(r.Key, " ")
	if !ok || !slices.Contains(routeMethods, method) || !strings.HasPrefix(path, "/") {
		return route{}, fmt.Errorf(`is not $default or "METHOD /path" with a method of %s`, strings.Join(routeMethods, ", "))
	}
	segments := splitPath(path)
	for i, s := range segments {
		if !routeSegment.MatchString(s) {
			return route{}, fmt.Errorf("segment %q is neither text nor {name} nor {name+}", s)
		}
		if isGreedy(s) && i < len(segments)-1 {
			return route{}, fmt.Errorf("%s is greedy, but not last", s)
		}
	}
	return route{Route: r, method: method, segments: segments}, nil
}

// compareRoutes orders by specificity: segment by segment text before {name} before
// {name+}, then a method before ANY; $default is last.
func compareRoutes(a, b route) int {
	if (a.Key == defaultRoute) != (b.Key == defaultRoute) {
		if a.Key == defaultRoute {
			return 1
		}
		return -1
	}
	for i := range min(len(a.segments), len(b.segments)) {
		if c := rank(a.segments[i]) - rank(b.segments[i]); c != 0 {
			return c
		}
	}
	switch {
	case a.method != "ANY" && b.method == "ANY":
		return -1
	case a.method == "ANY" && b.method != "ANY":
		return 1
	}
	return 0
}

func rank(segment string) int {
	switch {
	case isGreedy(segment):
		return 2
	case strings.HasPrefix(segment, "{"):
		return 1
	}
	return 0
}

func isGreedy(segment string) bool { return strings.HasSuffix(segment, "+}") }

// match finds the route for a decoded path and its path parameters; nil: none.
func (t routes) match(method, path string) (*route, map[string]string) {
	segments := splitPath(path)
	for i := range t {
		r := &t[i]
		if r.Key == defaultRoute {
			return r, nil
		}
		if r.method != "ANY" && r.method != method {
			continue
		}
		if params, ok := r.params(segments); ok {
			return r, params
		}
	}
	return nil, nil
}

func (r *route) params(segments []string) (map[string]string, bool) {
	var params map[string]string
	set := func(name, value string) {
		if params == nil {
			params = map[string]string{}
		}
		params[strings.Trim(name, "{}+")] = value
	}
	for i, want := range r.segments {
		switch {
		case i >= len(segments):
			return nil, false
		case isGreedy(want):
			rest := strings.Join(segments[i:], "/")
			set(want, rest)
			return params, rest != ""
		case strings.HasPrefix(want, "{"):
			if segments[i] == "" {
				return nil, false
			}
			set(want, segments[i])
		case want != segments[i]:
			return nil, false
		}
	}
	return params, len(segments) == len(r.segments)
}

func splitPath(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }
