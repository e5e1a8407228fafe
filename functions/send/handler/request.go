package handler

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"

	"backstop/internal/app"
	"backstop/internal/strictjson"
	"backstop/internal/terms"
	"backstop/lib/delivery"
	"backstop/lib/fault"
	"backstop/lib/sinks"
)

func invalid(format string, args ...any) error {
	return &fault.Error{Code: fault.CodeInvalidArgument, Msg: fmt.Sprintf(format, args...)}
}

// parseRequest reads the bare request, the same in every shape of event, strictly. What it
// refuses cannot be kept as a dead letter, because it names no sink or no delivery.
func parseRequest(raw []byte) (delivery.Request, error) {
	var in struct {
		ID        string          `json:"id"`
		Sink      string          `json:"sink"`
		Recipient json.RawMessage `json:"recipient"`
		Message   struct {
			Subject  string            `json:"subject"`
			Body     string            `json:"body"`
			Metadata map[string]string `json:"metadata"`
		} `json:"message"`
		ExpiresAt json.RawMessage `json:"expires_at"`
		SendAfter json.RawMessage `json:"send_after"`
		Group     json.RawMessage `json:"group"`
	}
	if err := strictjson.Decode(raw, &in); err != nil {
		return delivery.Request{}, invalid("%s", strictjson.Text("request", err))
	}
	if in.Sink == "" {
		return delivery.Request{}, invalid("sink: missing; name the sink to send through")
	}
	if err := fault.CheckName(in.Sink); err != nil {
		return delivery.Request{}, err
	}
	if in.ID != "" {
		if err := fault.CheckID(in.ID); err != nil {
			return delivery.Request{}, err
		}
	}
	r := delivery.Request{
		ID: in.ID, Sink: in.Sink, Recipient: in.Recipient,
		Message: sinks.Message{Subject: in.Message.Subject, Body: in.Message.Body, Metadata: in.Message.Metadata},
	}
	var err error
	if r.ExpiresAt, err = term("expires_at", in.ExpiresAt, terms.TimeForm, terms.ExpiresAt); err != nil {
		return delivery.Request{}, err
	}
	if r.SendAfter, err = term("send_after", in.SendAfter, terms.DelayForm, terms.SendAfter); err != nil {
		return delivery.Request{}, err
	}
	if r.Group, err = term("group", in.Group, terms.GroupForm, terms.Group); err != nil {
		return delivery.Request{}, err
	}
	return r, nil
}

// term reads a field whose text has a form of its own. null stands for an absent one, as
// everywhere in a request.
func term[T any](field string, raw json.RawMessage, form string, read func(string) (T, error)) (t T, err error) {
	if raw == nil || string(raw) == "null" {
		return t, nil
	}
	var text string
	if err := strictjson.Decode(raw, &text); err != nil {
		return t, invalid("%s: %s", strictjson.Text(field, err), form)
	}
	return read(text)
}

// identify gives the request its delivery id: its own, else the fallback of its
// transport (the Idempotency-Key header, the SQS message id, the invocation's request
// id), else a new UUIDv7.
func identify(r *delivery.Request, fallback string) error {
	switch {
	case r.ID != "":
	case fallback != "":
		if err := fault.CheckID(fallback); err != nil {
			return err
		}
		r.ID = fallback
	default:
		r.ID, r.Fresh = uuid.Must(uuid.NewV7()).String(), true
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
