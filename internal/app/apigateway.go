package app

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"backstop/lib/fault"

	"github.com/aws/aws-lambda-go/events"
)

// apiLimit is how long a caller of an HTTP API is answered: the API waits 30 s, counted
// from the moment it got the request, and needs a margin for the way back.
const apiLimit = 29 * time.Second

// APIContext ends when API Gateway stops waiting for the answer, where the event says
// when it began (requestContext.timeEpoch, in ms). An event older than 30 s is a sample,
// or a clock is off: then only ctx counts.
func APIContext(ctx context.Context, epochMS int64) (context.Context, context.CancelFunc) {
	began := time.UnixMilli(epochMS)
	if age := time.Since(began); age < 0 || age > 30*time.Second {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, began.Add(apiLimit))
}

// root is what all routes begin with.
const root = "/v1"

// RoutePath returns an event's path as the routes have it: without the stage and the
// mapping key of a domain of one's own, which stand before /v1/. The gateway has matched
// the route; this only finds where it begins. A path without one comes back as it is.
func RoutePath(raw string, c events.APIGatewayV2HTTPRequestContext) string {
	before, _, ok := strings.Cut(raw, root+"/")
	if !ok || before != "" && (before[0] != '/' || before == "/" || path.Clean(before) != before) {
		return raw
	}
	// On the API's own domain the path begins with the stage. One that only begins like
	// it is of another stage; on a domain of one's own it may be the mapping key.
	own := c.DomainName == "" || strings.Contains(c.DomainName, ".execute-api.")
	first, _, _ := strings.Cut(strings.TrimPrefix(before, "/"), "/")
	if own && c.Stage != "" && first != c.Stage && strings.HasPrefix(first, c.Stage) {
		return raw
	}
	rest := raw[len(before):]
	for strings.HasPrefix(rest, root+root+"/") { // the mapping key is v1
		rest = rest[len(root):]
	}
	return rest
}

// IdempotencyKeyHeader gives a request its id where the body has none.
const IdempotencyKeyHeader = "Idempotency-Key"

// Header returns the values that an event has for a header, whatever the case of its
// name. The gateway writes names in lower case and joins repeated ones; others do not.
func Header(headers map[string]string, name string) []string {
	var values []string
	for k, v := range headers {
		if strings.EqualFold(k, name) {
			values = append(values, v)
		}
	}
	slices.Sort(values)
	return slices.Compact(values)
}

// IdempotencyKey returns the id that the header's values give a request, without the
// quotes that some clients put around it; empty when there is none. Errors are
// INVALID_ARGUMENT and name the header.
func IdempotencyKey(values []string) (string, error) {
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return "", nil
	}
	if len(values) > 1 {
		return "", &fault.Error{Code: fault.CodeInvalidArgument, Msg: IdempotencyKeyHeader + ": given twice, with different values"}
	}
	key := strings.TrimSpace(values[0])
	if n := len(key); n >= 2 && key[0] == '"' && key[n-1] == '"' {
		key = key[1 : n-1]
	}
	if err := fault.CheckID(key); err != nil {
		return "", &fault.Error{Code: fault.CodeInvalidArgument, Msg: IdempotencyKeyHeader, Cause: err}
	}
	return key, nil
}
