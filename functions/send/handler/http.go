package handler

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-lambda-go/events"

	"backstop/internal/app"
	"backstop/internal/problem"
	"backstop/lib/delivery"
	"backstop/lib/fault"
	"backstop/lib/retry"
)

// route is the one route of this function.
const route = "/v1/messages"

// http answers POST /v1/messages of an HTTP API.
func (h *handler) http(ctx context.Context, e httpEvent) ([]byte, error) {
	if h.broken != nil {
		return json.Marshal(problemResponse(problem.From(h.broken)))
	}
	defer h.app.Begin(ctx)()
	ctx, cancel := app.APIContext(ctx, e.RequestContext.TimeEpoch)
	defer cancel()
	return json.Marshal(h.answer(ctx, retry.NewBudget(ctx, h.app.Env.Reserve), e))
}

func (h *handler) answer(ctx context.Context, budget retry.Budget, e httpEvent) events.APIGatewayV2HTTPResponse {
	if app.RoutePath(e.RawPath, e.RequestContext.APIGatewayV2HTTPRequestContext) != route {
		return problemResponse(problem.Problem{
			Type: "about:blank", Title: "Not Found", Status: http.StatusNotFound, Code: fault.CodeNotFound,
			Detail: "this function answers POST " + route,
		})
	}
	if e.method() != http.MethodPost {
		p := problemResponse(problem.Problem{
			Type: "about:blank", Title: "Method Not Allowed", Status: http.StatusMethodNotAllowed, Code: fault.CodeMethodNotAllowed,
			Detail: route + " takes POST",
		})
		p.Headers["Allow"] = http.MethodPost
		return p
	}
	body := []byte(e.Body)
	if e.IsBase64Encoded {
		var err error
		if body, err = base64.StdEncoding.DecodeString(e.Body); err != nil {
			return problemResponse(problem.From(invalid("request: body is not base64, though isBase64Encoded says so")))
		}
	}
	r, err := parseRequest(body)
	if err == nil && r.ID == "" {
		r.ID, err = app.IdempotencyKey(app.Header(e.Headers, app.IdempotencyKeyHeader))
	}
	if err == nil {
		err = identify(&r, "")
	}
	if err != nil {
		return problemResponse(problem.From(err))
	}
	r.Trace, r.Budget, r.Async = traceFrom(ctx, e.Headers), budget, respondAsync(e.Headers)
	a, err := h.deliver(ctx, r)
	if err != nil {
		p := problem.From(err)
		p.DeliveryID = r.ID
		return problemResponse(p)
	}
	switch a.Status {
	case delivery.StatusAccepted:
		resp := jsonResponse(http.StatusAccepted, "application/json", a)
		query := url.Values{"sink": {r.Sink}, "id": {r.ID}}
		resp.Headers["Location"] = strings.TrimSuffix(e.RawPath, route) + "/v1/deliveries?" + query.Encode()
		if r.Async {
			resp.Headers["Preference-Applied"] = respondAsyncToken
		}
		return resp
	case delivery.StatusDeadLettered:
		return jsonResponse(http.StatusAccepted, "application/json", a)
	}
	return jsonResponse(http.StatusOK, "application/json", a)
}

func problemResponse(p problem.Problem) events.APIGatewayV2HTTPResponse {
	resp := jsonResponse(p.Status, problem.ContentType, p)
	for k, v := range p.Header() {
		resp.Headers[k] = v
	}
	return resp
}

func jsonResponse(status int, contentType string, body any) events.APIGatewayV2HTTPResponse {
	b, err := json.Marshal(body)
	if err != nil { // the types are ours and always encode
		status, b = http.StatusInternalServerError, []byte(`{"status":500,"code":"INTERNAL"}`)
	}
	return events.APIGatewayV2HTTPResponse{
		StatusCode: status, Body: string(b),
		Headers: map[string]string{"Content-Type": contentType, "Cache-Control": "no-store"},
	}
}
