package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"backstop/internal/strictjson"
	"backstop/lib/app"
	"backstop/lib/fault"
	"backstop/lib/retry"
	"backstop/lib/sinks"
)

// request is the bare request, the same in every shape of event.
type request struct {
	ID        string          `json:"id"`
	Sink      string          `json:"sink"`
	Recipient json.RawMessage `json:"recipient"`
	Message   struct {
		Subject  string            `json:"subject"`
		Body     string            `json:"body"`
		Metadata map[string]string `json:"metadata"`
	} `json:"message"`

	// fresh says that the id was made for this request, so nobody can have used it.
	fresh bool
	// comesAgain says that a queue will hand the request out again in its order if it is
	// handed back.
	comesAgain bool
	trace      string
	budget     retry.Budget
}

func invalid(format string, args ...any) error {
	return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf(format, args...)}
}

// parseRequest reads the bare request strictly. What it refuses cannot be kept as a
// dead letter, because it names no sink or no delivery.
func parseRequest(raw []byte) (request, error) {
	var r request
	if err := strictjson.Decode(raw, &r); err != nil {
		return request{}, invalid("%s", strictjson.Text("request", err))
	}
	if r.Sink == "" {
		return request{}, invalid("sink: missing; name the sink to send through")
	}
	if err := fault.CheckName(r.Sink); err != nil {
		return request{}, err
	}
	if r.ID != "" {
		if err := fault.CheckID(r.ID); err != nil {
			return request{}, err
		}
	}
	return r, nil
}

// message is the request as the sink sees it.
func (r request) message() sinks.Message {
	return sinks.Message{ID: r.ID, Subject: r.Message.Subject, Body: r.Message.Body, Metadata: r.Message.Metadata}
}

// size counts what would be kept of the request.
func (r request) size() int {
	n := len(r.Recipient) + len(r.Message.Subject) + len(r.Message.Body)
	for k, v := range r.Message.Metadata {
		n += len(k) + len(v)
	}
	return n
}

// check decides whether the request can be sent through s at all, and decodes its
// recipient.
func (r request) check(s sinks.Sink, limit int) (sinks.Recipient, error) {
	if n := r.size(); n > limit {
		return nil, &fault.Error{Code: fault.CodeBodyTooLarge, Msg: fmt.Sprintf("message: %d bytes with subject, metadata and recipient; at most %d are taken", n, limit)}
	}
	if r.Message.Body == "" {
		return nil, invalid("message.body: missing or empty")
	}
	to, err := sinks.DecodeRecipient(s, r.Recipient)
	if err != nil {
		return nil, err
	}
	return to, sinks.Validate(s, to, r.message())
}

// identify gives the request its delivery id: its own, else the fallback of its
// transport (the Idempotency-Key header, the SQS message id, the invocation's request
// id), else a new UUIDv7.
func (r *request) identify(fallback string) error {
	switch {
	case r.ID != "":
	case fallback != "":
		if err := fault.CheckID(fallback); err != nil {
			return err
		}
		r.ID = fallback
	default:
		r.ID, r.fresh = uuid.Must(uuid.NewV7()).String(), true
	}
	return nil
}

// traceFrom returns the caller's trace header: W3C first, then X-Ray's, then what the
// platform gave the invocation.
func traceFrom(ctx context.Context, headers map[string]string) string {
	for _, name := range []string{"traceparent", "x-amzn-trace-id"} {
		for _, v := range app.Header(headers, name) {
			if v != "" && len(v) <= 512 {
				return v
			}
		}
	}
	v, _ := ctx.Value("x-amzn-trace-id").(string) // set by aws-lambda-go
	return v
}
