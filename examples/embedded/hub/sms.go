package hub

import (
	"context"
	"encoding/json"

	"backstop/lib/fault"
	"backstop/lib/sinks"
)

// SMS is a sink of this server's own. It is safe for concurrent use if its Carrier is.
type SMS struct {
	// Carrier takes one text message.
	Carrier func(ctx context.Context, phone, text string) error
}

// Phone is who gets a text message.
type Phone struct {
	Number string `json:"number"`
}

// Name implements sinks.Sink.
func (SMS) Name() string { return "sms" }

// Send implements sinks.Sink.
func (s SMS) Send(ctx context.Context, to sinks.Recipient, m sinks.Message) error {
	phone, ok := to.(Phone)
	if !ok || phone.Number == "" {
		return &fault.Error{Code: fault.CodeInvalidArgument, Msg: "recipient.number: required"}
	}
	if err := s.Carrier(ctx, phone.Number, m.Body); err != nil {
		return sinks.Transient(&fault.Error{Code: fault.CodeSinkUnavailable, Msg: "the carrier did not take it"})
	}
	return nil
}

// DecodeRecipient reads a phone back from the dead-letter queue.
func (SMS) DecodeRecipient(raw []byte) (sinks.Recipient, error) {
	var phone Phone
	if err := json.Unmarshal(raw, &phone); err != nil {
		return nil, &fault.Error{Code: fault.CodeInvalidArgument, Msg: `recipient: want {"number": "..."}`}
	}
	return phone, nil
}
