package client

import (
	"context"
	"net/url"
	"time"

	"github.com/google/uuid"
)

// SendRequest is one delivery to make.
type SendRequest struct {
	// ID identifies the delivery across attempts, repetitions and replays, and receivers get it
	// to drop duplicates: letters, digits and _:=+/@-, at most 128. Take one that your program
	// finds again, such as the event's. Empty: Send makes one (UUIDv7) for this call.
	ID   string `json:"id"`
	Sink string `json:"sink"`
	// Recipient depends on the sink's kind and is written as JSON: map[string]string{"address":
	// "..."} for email, {"url": "..."} for a webhook. Nil: the sink's own.
	Recipient any         `json:"recipient,omitempty"`
	Message   SendMessage `json:"message"`
}

// SendMessage is what is delivered.
type SendMessage struct {
	Subject  string            `json:"subject,omitempty"`
	Body     string            `json:"body"`               // HTML for email, mrkdwn for Slack, text or JSON for a webhook
	Metadata map[string]string `json:"metadata,omitempty"` // email X- headers, webhook headers, Slack blocks
}

// SendAnswer says that a delivery is safe: delivered, or kept as a dead letter.
type SendAnswer struct {
	Raw
	Status     DeliveryStatus `json:"status"`
	DeliveryID string         `json:"delivery_id"`
	ItemID     string         `json:"item_id"`   // the dead letter's
	Reason     Reason         `json:"reason"`    // the dead letter's
	Attempts   int            `json:"attempts"`  // really made
	Error      string         `json:"error"`     // the last attempt's
	Duplicate  bool           `json:"duplicate"` // it was finished before; nothing was sent now
}

// Send makes one delivery. An answer says that it is safe; an error, that the caller still owns
// it. The same id with the same content is sent once, for as long as deliveries are remembered
// (24 h by default): a repetition gets the first answer again, with Duplicate set. With other
// content the id is ID_REUSED.
//
// So Send repeats itself, as Options say, when no answer came or the API handed the message back
// (see Repeatable). After an error the answer holds the DeliveryID alone, made or given: with it
// the message can be sent again later, and Delivery tells what became of it.
func (c *Client) Send(ctx context.Context, r SendRequest) (a SendAnswer, err error) {
	if r.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return a, err
		}
		r.ID = id.String()
	}
	call := post("messages")
	call.body, call.again = r, Repeatable
	call.about = func() bool { return a.Status != "" && a.DeliveryID == r.ID }
	if _, err = c.call(ctx, call, &a); err != nil {
		return SendAnswer{DeliveryID: r.ID}, err
	}
	return a, nil
}

// Delivery is what became of a delivery.
type Delivery struct {
	Raw
	Sink       string         `json:"sink"`
	DeliveryID string         `json:"delivery_id"`
	Status     DeliveryStatus `json:"status"`
	ItemID     string         `json:"item_id"`    // the dead letter's
	UpdatedAt  time.Time      `json:"updated_at"` // since when; in progress: when it began
}

// Delivery tells what became of the delivery id to sink. One that was never accepted, or
// finished too long ago, is SINK_DLQ_NOT_FOUND.
func (c *Client) Delivery(ctx context.Context, sink, id string) (d Delivery, err error) {
	r := get("deliveries")
	r.query = url.Values{"sink": {sink}, "id": {id}}
	_, err = c.call(ctx, r, &d)
	return d, err
}
