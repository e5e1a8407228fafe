package handler

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/akrylysov/algnhsa"
	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"backstop/internal/app"
	"backstop/internal/problem"
	"backstop/internal/strictjson"
	"backstop/lib/fault"
)

// An answer travels as a string inside a JSON document of at most 6 MB. What is
// escaped there can be six times as long; base64 is always a third longer.
const (
	maxAnswer = 4 << 20   // of any answer, in bytes
	maxText   = 700 << 10 // of an answer that is not sent in base64
)

// Content types of answers. The adapter tells by them what goes out in base64.
const (
	typeJSON      = "application/json"
	typeLargeJSON = "application/json; charset=utf-8"
	typeLines     = "application/x-ndjson"
	typeYAML      = "application/yaml"
)

// lambdaEvents turns HTTP API events into requests for an http.Handler.
type lambdaEvents struct{ lambda.Handler }

func newEvents(h http.Handler) lambdaEvents {
	return lambdaEvents{algnhsa.New(h, &algnhsa.Options{
		RequestType:        algnhsa.RequestTypeAPIGatewayV2,
		BinaryContentTypes: []string{typeLargeJSON, typeLines},
	})}
}

// Invoke implements lambda.Handler. The adapter reads an event leniently, so it gets what
// a strict reading found in it.
func (l lambdaEvents) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	var e events.APIGatewayV2HTTPRequest
	if err := strictjson.DecodePart(payload, &e); err != nil {
		return nil, refuseEvent(strictjson.Text("event", err))
	}
	if e.Version != "2.0" {
		return nil, refuseEvent("event: not one of an HTTP API, payload format 2.0")
	}
	read, err := encode(e)
	if err != nil {
		return nil, app.FunctionError(err)
	}
	answer, err := l.Handler.Invoke(ctx, read)
	if err == nil {
		return answer, nil
	}
	if _, ok := errors.AsType[url.EscapeError](err); ok {
		// The gateway decodes paths; one that still has a stray % is no route of ours.
		return answerUnrouted(e)
	}
	return nil, refuseEvent("event: not one of an HTTP API, payload format 2.0")
}

func refuseEvent(why string) error {
	return app.FunctionError(invalid("%s", why))
}

// answerUnrouted answers an event that no http.Request can be made of. An answer to HEAD
// has no body.
func answerUnrouted(e events.APIGatewayV2HTTPRequest) ([]byte, error) {
	p := noRoute()
	answer := events.APIGatewayV2HTTPResponse{StatusCode: p.Status, Headers: p.Header()}
	if e.RequestContext.HTTP.Method != http.MethodHead {
		b, err := json.Marshal(p)
		if err != nil {
			return nil, err
		}
		answer.Body = string(b)
	}
	return json.Marshal(answer)
}

func noRoute() problem.Problem {
	return httpProblem(http.StatusNotFound, fault.CodeNotFound, "no such route; GET /v1/openapi.yaml lists them")
}

// routed returns r without what a stage and a domain of one's own put in front of its
// path.
func routed(r *http.Request) *http.Request {
	e, _ := algnhsa.APIGatewayV2RequestFromContext(r.Context())
	path := app.RoutePath(r.URL.Path, e.RequestContext)
	if path == r.URL.Path {
		return r
	}
	r = r.Clone(r.Context())
	r.URL.Path, r.URL.RawPath = path, ""
	return r
}

// maxActor bounds what is kept of an identity.
const maxActor = 256

// actor is who calls, as the gateway's authorizer knows them: an IAM identity's ARN, or
// the e-mail address or subject of a token. Empty where there is no authorizer.
func actor(ctx context.Context) string {
	e, _ := algnhsa.APIGatewayV2RequestFromContext(ctx)
	a := e.RequestContext.Authorizer
	var who string
	switch {
	case a == nil:
	case a.IAM != nil:
		who = a.IAM.UserARN
	case a.JWT != nil:
		if who = a.JWT.Claims["email"]; who == "" {
			who = a.JWT.Claims["sub"]
		}
	}
	return strings.ToValidUTF8(who[:min(len(who), maxActor)], "")
}
