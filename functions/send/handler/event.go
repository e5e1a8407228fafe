package handler

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"

	"github.com/aws/aws-lambda-go/events"

	"backstop/internal/strictjson"
)

// shape is what kind of event an invocation carries.
type shape string

const (
	shapeHTTP   shape = "http"
	shapeSQS    shape = "sqs"
	shapeDirect shape = "direct"
)

// httpEvent is what is read of an HTTP API event.
type httpEvent struct {
	Version         string            `json:"version"`
	RawPath         string            `json:"rawPath"`
	Headers         map[string]string `json:"headers"`
	Body            string            `json:"body"`
	IsBase64Encoded bool              `json:"isBase64Encoded"`
	RequestContext  requestContext    `json:"requestContext"`
	// Sink is in no such event: it tells a request.
	Sink json.RawMessage `json:"sink"`
}

type requestContext struct {
	events.APIGatewayV2HTTPRequestContext
	HTTP *events.APIGatewayV2HTTPRequestContextHTTPDescription `json:"http"`
	ELB  json.RawMessage                                       `json:"elb"`
}

// method is empty where the event has none.
func (e httpEvent) method() string {
	if e.RequestContext.HTTP == nil {
		return ""
	}
	return e.RequestContext.HTTP.Method
}

// readHTTP reads an HTTP API event at once, for its body is most of it. False: it is
// another event, or one that shapeOf and its decoder find fault with.
func readHTTP(payload []byte) (e httpEvent, ok bool) {
	if !bytes.Contains(payload, []byte(`"rawPath"`)) {
		return e, false
	}
	err := strictjson.DecodePart(payload, &e)
	return e, err == nil && e.Sink == nil && e.Version == "2.0" && e.RequestContext.HTTP != nil && e.RequestContext.ELB == nil
}

// shapeOf tells the shapes apart by content. Events of other AWS sources are refused
// by name, not taken for a request with unknown fields.
func shapeOf(payload []byte) (shape, error) {
	var e struct {
		Version        string          `json:"version"`
		HTTPMethod     string          `json:"httpMethod"`
		DetailType     json.RawMessage `json:"detail-type"`
		RequestContext *struct {
			HTTP json.RawMessage `json:"http"`
			ELB  json.RawMessage `json:"elb"`
		} `json:"requestContext"`
		Records *[]source       `json:"Records"`
		Sink    json.RawMessage `json:"sink"`
	}
	if trimmed := bytes.TrimSpace(payload); len(trimmed) == 0 || trimmed[0] != '{' {
		return "", invalid("event: want a JSON object: an HTTP API event, an SQS event or a request with sink and message")
	}
	if err := strictjson.DecodePart(payload, &e); err != nil {
		if fault, ok := errors.AsType[*strictjson.Error](err); ok && fault.Syntax {
			return "", invalid("%s", strictjson.Text("event", err))
		}
		// A request that has fields of other types under these names is still a request:
		// its own decoder says what is wrong.
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
		return "", invalid("event: %s", eventBridgeCure)
	case e.Records == nil:
		return shapeDirect, nil
	case len(*e.Records) == 0: // only SQS is asked for batches, and this one is done
		return shapeSQS, nil
	}
	switch from := (*e.Records)[0].name(); from {
	case "aws:sqs":
		return shapeSQS, nil
	case "aws:sns":
		return "", invalid("event: SNS events are not taken; subscribe the SQS queue to the topic instead, and switch on raw message delivery")
	default:
		return "", invalid("event: records of %.40q are not taken; want an SQS event whose records hold requests", from)
	}
}

// source is where a record comes from. SNS writes it in a case of its own.
type source struct {
	EventSource    string `json:"eventSource"`
	SNSEventSource string `json:"EventSource"`
}

func (s source) name() string { return cmp.Or(s.EventSource, s.SNSEventSource) }

const eventBridgeCure = "an EventBridge event is not taken; set the target's input path to $.detail and put the request there"

// envelope tells what another service wrapped around a request that was found in a
// queue, and how to have it unwrapped. Nil: nothing that is known here.
func envelope(body string) error {
	var e struct {
		Type       string          `json:"Type"`
		TopicArn   string          `json:"TopicArn"`
		DetailType json.RawMessage `json:"detail-type"`
		Detail     json.RawMessage `json:"detail"`
		Event      string          `json:"Event"`
		Records    []source        `json:"Records"`
	}
	if err := strictjson.DecodePart([]byte(body), &e); err != nil {
		return nil //nolint:nilerr // nothing that is known here
	}
	switch {
	case e.TopicArn != "" && e.Type == "Notification":
		return invalid("body: an SNS notification is not taken; switch on raw message delivery of the queue's subscription")
	case e.TopicArn != "":
		return invalid("body: an SNS message of type %.40q is not taken; confirm the subscription, and switch on raw message delivery", e.Type)
	case e.DetailType != nil && e.Detail != nil:
		return invalid("body: %s", eventBridgeCure)
	case e.Event == "s3:TestEvent":
		return invalid("body: an S3 test event is not taken; send the bucket's notifications to another queue, for they are no requests")
	case len(e.Records) > 0:
		return invalid("body: an event with records of %.40q is not taken; a record of this queue holds one request", e.Records[0].name())
	}
	return nil
}
