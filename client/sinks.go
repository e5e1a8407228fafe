package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// SendRequest is one delivery to make.
type SendRequest struct {
	ID        string          `json:"id"`
	Sink      string          `json:"sink"`
	Recipient json.RawMessage `json:"recipient,omitempty"`
	Message   SendMessage     `json:"message"`
}

// SendMessage is what is delivered.
type SendMessage struct {
	Subject  string            `json:"subject,omitempty"`
	Body     string            `json:"body"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

// SendAnswer says that a delivery is safe: delivered or dead-lettered.
type SendAnswer struct {
	Raw
	Status     string `json:"status"`
	DeliveryID string `json:"delivery_id"`
	ItemID     string `json:"item_id"`
	Reason     string `json:"reason"`
	Attempts   int    `json:"attempts"`
	Error      string `json:"error"`
	Duplicate  bool   `json:"duplicate"`
}

// Send makes one delivery. An error means that the caller still owns it; the same
// request, with the same id, may be sent again.
func (c *Client) Send(ctx context.Context, r SendRequest) (a SendAnswer, err error) {
	err = c.call(ctx, request{method: http.MethodPost, path: []string{"messages"}, body: r}, &a)
	return a, err
}

// Delivery is what became of a delivery.
type Delivery struct {
	Raw
	Sink       string    `json:"sink"`
	DeliveryID string    `json:"delivery_id"`
	Status     string    `json:"status"`
	ItemID     string    `json:"item_id"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// Delivery tells what became of a delivery.
func (c *Client) Delivery(ctx context.Context, sink, id string) (d Delivery, err error) {
	err = c.call(ctx, request{
		method: http.MethodGet, path: []string{"deliveries"}, query: url.Values{"sink": {sink}, "id": {id}},
	}, &d)
	return d, err
}

// Sinks are all sinks that are configured or have dead letters.
type Sinks struct {
	Raw
	Sinks            []Sink `json:"sinks"`
	ConfigAgeSeconds int64  `json:"config_age_seconds"` // -1: no configuration
	ConfigError      string `json:"config_error"`
}

// Sink is one sink and its queue.
type Sink struct {
	Raw
	Name             string           `json:"name"`
	Kind             string           `json:"kind"`
	Configured       bool             `json:"configured"`
	ConfigError      string           `json:"config_error"`
	QueueError       string           `json:"queue_error"` // why Depth and Due are unknown
	Depth            int64            `json:"depth"`       // -1: unknown
	Due              int64            `json:"due"`         // -1: unknown
	Parked           int64            `json:"parked"`
	Kept             int64            `json:"kept"`
	Trimmed          int64            `json:"trimmed"`
	Paused           bool             `json:"paused"`
	States           map[string]int64 `json:"states"`
	OldestAt         time.Time        `json:"oldest_at"`
	OldestAgeSeconds int64            `json:"oldest_age_seconds"`
}

// Sinks lists the sinks.
func (c *Client) Sinks(ctx context.Context) (s Sinks, err error) {
	err = c.call(ctx, request{method: http.MethodGet, path: []string{"sinks"}}, &s)
	return s, err
}

// PauseSink stops a sink (or, with paused false, resumes it): sends go straight to the
// dead-letter queue and the schedule leaves it alone.
func (c *Client) PauseSink(ctx context.Context, name string, paused bool) (s Sink, err error) {
	action := "resume"
	if paused {
		action = "pause"
	}
	err = c.call(ctx, request{method: http.MethodPost, path: []string{"sinks", name, action}}, &s)
	return s, err
}
