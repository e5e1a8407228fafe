package client

import (
	"context"
	"net/http"
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
	// ExpiresAt is from when on the message is worthless: no attempt begins then or later. Zero:
	// never, but for the sink's max_age.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// SendAfter is how long it waits in the queue before it is sent, such as "30s": more than 0,
	// at most "15m", rounded up to whole seconds. It is answered DeliveryAccepted. Empty: it is
	// sent at once.
	SendAfter string `json:"send_after,omitempty"`
	// Group is what is kept in order where the queue is FIFO, and gets a fair share of any other:
	// 1 to 128 ASCII letters, digits and punctuation. Empty: the sink's name.
	Group string `json:"group,omitempty"`
	// Async asks to be answered once the message is in the queue (DeliveryAccepted), without
	// waiting for its delivery. A stack without a queue, and a message that does not fit it, leave
	// the wish out: look at the answer's Status.
	Async bool `json:"-"`
}

// SendMessage is what is delivered.
type SendMessage struct {
	Subject  string            `json:"subject,omitempty"`
	Body     string            `json:"body"`               // HTML for email, mrkdwn for Slack, text or JSON for a webhook
	Metadata map[string]string `json:"metadata,omitempty"` // email X- headers, webhook headers, Slack blocks
}

// SendAnswer says that a delivery is safe: delivered, kept as a dead letter, or in the queue; or
// that it was given up before (DeliveryDiscarded, DeliveryCanceled).
type SendAnswer struct {
	Raw
	Status     DeliveryStatus `json:"status"`
	DeliveryID string         `json:"delivery_id"`
	ItemID     string         `json:"item_id"`   // the dead letter's
	Spilled    bool           `json:"spilled"`   // the journal keeps the dead letter until the queue has room; it has no ItemID yet
	Reason     Reason         `json:"reason"`    // the dead letter's
	Attempts   int            `json:"attempts"`  // really made
	Error      string         `json:"error"`     // the last attempt's
	Duplicate  bool           `json:"duplicate"` // it was finished, accepted or canceled before; nothing was sent now
	// NotBefore is, of what was accepted for later, when it is sent at the earliest.
	NotBefore time.Time `json:"not_before"`
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
	if r.Async {
		call.header = http.Header{"Prefer": {"respond-async"}}
	}
	call.about = func() bool { return a.Status != "" && a.DeliveryID == r.ID }
	if _, err = c.call(ctx, call, &a); err != nil {
		return SendAnswer{DeliveryID: r.ID}, err
	}
	return a, nil
}

// Delivery is what became of a delivery, and what is known of its way.
type Delivery struct {
	Raw
	Sink       string         `json:"sink"`
	DeliveryID string         `json:"delivery_id"`
	Status     DeliveryStatus `json:"status"`
	ItemID     string         `json:"item_id"`     // the dead letter's
	Spilled    bool           `json:"spilled"`     // the dead letter waits in the journal for room in the queue; it has no ItemID yet
	UpdatedAt  time.Time      `json:"updated_at"`  // since when Status holds
	AcceptedAt time.Time      `json:"accepted_at"` // zero: it was not accepted for later
	NotBefore  time.Time      `json:"not_before"`  // it is not sent before
	ExpiresAt  time.Time      `json:"expires_at"`  // no attempt begins then or later
	// Attempts are those that are known, replays included. Those of a sender that died are not.
	Attempts int `json:"attempts"`
	// MayHaveArrived says that an attempt was made to which nobody answered. What was delivered
	// has arrived, and does not say so.
	MayHaveArrived bool `json:"may_have_arrived"`
	// Event is "pending" while an event of one of its fates is not known to be sent or kept. Empty: none is.
	Event string `json:"event"`
	// Next is what comes. Nil: nothing, or nothing that is known.
	Next     *DeliveryNext   `json:"next"`
	Timeline []DeliveryEvent `json:"timeline"` // oldest first; only what has a time
}

// DeliveryEvent is one step on a delivery's way.
type DeliveryEvent struct {
	At time.Time `json:"at"`
	// Event says what happened: a DeliveryStatus, or waiting, began, failed, died, held, parked,
	// imported, spilled. Others may be added.
	Event  string `json:"event"`
	Detail string `json:"detail"` // more about it, such as the reason of a dead letter
}

// DeliveryNext is what comes for a delivery.
type DeliveryNext struct {
	Event NextEvent `json:"event"`
	At    time.Time `json:"at"`    // zero: as soon as can be, or whenever somebody decides
	State State     `json:"state"` // the dead letter's; empty: there is none
}

// Delivery tells what became of the delivery id to sink, and its way. One that was never
// accepted, or finished too long ago, is SINK_DLQ_NOT_FOUND.
func (c *Client) Delivery(ctx context.Context, sink, id string) (d Delivery, err error) {
	r := get("deliveries")
	r.query = url.Values{"sink": {sink}, "id": {id}}
	_, err = c.call(ctx, r, &d)
	return d, err
}

// Cancellation says that no attempt of a delivery begins any more.
type Cancellation struct {
	Raw
	Status     DeliveryStatus `json:"status"` // DeliveryCanceled
	DeliveryID string         `json:"delivery_id"`
	// Known says whether anything was known of it. What is on its way in a queue of your own is
	// not, and a misspelled id neither.
	Known    bool `json:"known"`
	Attempts int  `json:"attempts"` // made before, as far as they are known
	// MayHaveArrived says that an attempt was made to which nobody answered.
	MayHaveArrived bool `json:"may_have_arrived"`
}

// Cancel takes the delivery id to sink back. No error means that no attempt of it begins any
// more, wherever it waits, and that whatever comes under its id is answered DeliveryCanceled.
// There is no way back: send the message under another id.
//
// Errors mean that it was not canceled: ALREADY_DELIVERED, for good; DELIVERY_IN_PROGRESS and
// ITEM_LEASED, while somebody sends it. After SINK_DLQ_UNAVAILABLE, or without an answer, it may be
// canceled: ask again. Cancel can be repeated, and does so itself, as Options say, when asking again
// may help (see Repeatable).
func (c *Client) Cancel(ctx context.Context, sink, id string) (a Cancellation, err error) {
	r := request{method: http.MethodDelete, path: []string{"deliveries"}, query: url.Values{"sink": {sink}, "id": {id}}, again: Repeatable}
	r.about = func() bool { return a.Status == DeliveryCanceled && a.DeliveryID == id }
	_, err = c.call(ctx, r, &a)
	return a, err
}
