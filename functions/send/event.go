package main

import (
	"bytes"
	"encoding/json"
	"errors"
)

// shape is what kind of event an invocation carries.
type shape string

const (
	shapeHTTP   shape = "http"
	shapeSQS    shape = "sqs"
	shapeDirect shape = "direct"
)

// shapeOf tells the shapes apart by content. Events of other AWS sources are refused
// by name, not taken for a request with unknown fields.
func shapeOf(payload []byte) (shape, error) {
	var e struct {
		Version        string          `json:"version"`
		RouteKey       json.RawMessage `json:"routeKey"`
		HTTPMethod     string          `json:"httpMethod"`
		DetailType     json.RawMessage `json:"detail-type"`
		RequestContext *struct {
			HTTP json.RawMessage `json:"http"`
			ELB  json.RawMessage `json:"elb"`
		} `json:"requestContext"`
		Records []struct {
			EventSource string `json:"eventSource"` // EventSource in SNS events; names match in any case
		} `json:"Records"`
		Sink json.RawMessage `json:"sink"`
	}
	if trimmed := bytes.TrimSpace(payload); len(trimmed) == 0 || trimmed[0] != '{' {
		return "", invalid("event: want a JSON object: an HTTP API event, an SQS event or a request with sink and message")
	}
	// A request that has fields of other types under these names is still a request:
	// its own decoder says what is wrong.
	if err := json.Unmarshal(payload, &e); err != nil {
		if _, ok := errors.AsType[*json.SyntaxError](err); ok {
			return "", jsonFault(err)
		}
		return shapeDirect, nil
	}
	switch {
	case e.Sink != nil:
		return shapeDirect, nil
	case e.RequestContext != nil && e.RequestContext.ELB != nil:
		return "", invalid("event: load balancer events are not taken; use an HTTP API (payload 2.0)")
	case e.Version == "2.0" && e.RequestContext != nil && e.RequestContext.HTTP != nil:
		return shapeHTTP, nil
	case e.HTTPMethod != "":
		return "", invalid("event: API Gateway payload 1.0 (REST API) is not taken; use an HTTP API with payload 2.0")
	case e.DetailType != nil:
		return "", invalid("event: EventBridge events are not taken; send the request itself as the target's input")
	case len(e.Records) > 0 && e.Records[0].EventSource == "aws:sqs":
		return shapeSQS, nil
	case len(e.Records) > 0:
		return "", invalid("event: records of %.40q are not taken; subscribe the SQS queue to the source instead", e.Records[0].EventSource)
	}
	return shapeDirect, nil
}
