package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Filter selects dead letters. Zero fields select everything.
type Filter struct {
	Sink   string `json:"sink,omitempty"`
	Reason string `json:"reason,omitempty"`
	// State is for lists, exports and groups: an operation refuses it.
	State       string `json:"state,omitempty"`
	DeliveryID  string `json:"delivery_id,omitempty"`
	Q           string `json:"q,omitempty"` // looked for in texts, in any case
	Fingerprint string `json:"fingerprint,omitempty"`
	// Since and Until bound the time when the dead letter was stored: Since <= t < Until.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// page returns the query for a page. limit <= 0 leaves it to the API.
func (f Filter) page(limit int, cursor string) url.Values {
	q := url.Values{}
	set := func(name, value string) {
		if value != "" {
			q.Set(name, value)
		}
	}
	set("sink", f.Sink)
	set("reason", f.Reason)
	set("state", f.State)
	set("delivery_id", f.DeliveryID)
	set("q", f.Q)
	set("fingerprint", f.Fingerprint)
	if !f.Since.IsZero() {
		set("since", f.Since.UTC().Format(time.RFC3339Nano))
	}
	if !f.Until.IsZero() {
		set("until", f.Until.UTC().Format(time.RFC3339Nano))
	}
	if limit > 0 {
		set("limit", strconv.Itoa(limit))
	}
	set("cursor", cursor)
	return q
}

// Item is a dead letter. In a list it has no recipient, and the message's beginning
// only.
type Item struct {
	Raw
	ID            string          `json:"id"`
	DeliveryID    string          `json:"delivery_id"`
	Sink          string          `json:"sink"`
	At            time.Time       `json:"at"`
	Recipient     json.RawMessage `json:"recipient"`
	Message       Message         `json:"message"`
	Attempts      int             `json:"attempts"`
	LastError     string          `json:"last_error"`
	Reason        string          `json:"reason"`
	FirstFailedAt time.Time       `json:"first_failed_at"`
	NotBefore     time.Time       `json:"not_before"`
	Origin        string          `json:"origin"`
	Trace         string          `json:"trace"`
	State         string          `json:"state"`
	NextReplayAt  time.Time       `json:"next_replay_at"`
	Replays       int             `json:"replays"`
	Parked        bool            `json:"parked"`
	Held          bool            `json:"held"`
	DeliveredAt   time.Time       `json:"delivered_at"`
	History       []ReplayRecord  `json:"history"`
	// RawEntry and DecodeError stand for an entry that cannot be read.
	RawEntry    string `json:"raw"`
	DecodeError string `json:"decode_error"`
}

// Message is what was to be delivered. BodyBytes and BodyPreview are set in lists, Body
// and Metadata in whole items.
type Message struct {
	ID          string            `json:"id"`
	Subject     string            `json:"subject"`
	Body        string            `json:"body"`
	Metadata    map[string]string `json:"metadata"`
	BodyBytes   int               `json:"body_bytes"`
	BodyPreview string            `json:"body_preview"`
}

// ReplayRecord is one replay of an item; Error is empty for one that delivered.
type ReplayRecord struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"`
}

// Items is a page of dead letters, newest first.
type Items struct {
	Raw
	Items      []Item `json:"items"`
	NextCursor string `json:"next_cursor"` // empty at the end
	// Complete is false when the search stopped by its budget: follow NextCursor.
	Complete bool `json:"complete"`
	Scanned  int  `json:"scanned"`
}

// Items lists one page. limit <= 0 leaves its size to the API, cursor is empty for the
// first.
func (c *Client) Items(ctx context.Context, f Filter, limit int, cursor string) (p Items, err error) {
	err = c.call(ctx, request{method: http.MethodGet, path: []string{"dlq", "items"}, query: f.page(limit, cursor)}, &p)
	return p, err
}

// Item returns one dead letter in full.
func (c *Client) Item(ctx context.Context, id string) (it Item, err error) {
	err = c.call(ctx, request{method: http.MethodGet, path: []string{"dlq", "items", id}}, &it)
	return it, err
}

// Discard removes one dead letter for good; one that is gone already is no error.
func (c *Client) Discard(ctx context.Context, id string) error {
	return c.call(ctx, request{method: http.MethodDelete, path: []string{"dlq", "items", id}}, nil)
}

// Unpark makes one dead letter due now.
func (c *Client) Unpark(ctx context.Context, id string) (it Item, err error) {
	err = c.call(ctx, request{method: http.MethodPost, path: []string{"dlq", "items", id, "unpark"}}, &it)
	return it, err
}

// ReplayOptions are the choices for one replay. The zero value sends the item through
// its own sink and removes it when it was delivered.
type ReplayOptions struct {
	OnSuccess string `json:"on_success,omitempty"` // discard or keep
	Force     bool   `json:"force,omitempty"`      // also what was delivered already
	Sink      string `json:"sink,omitempty"`       // another sink to send through
}

// ReplayResult is the outcome of one replay.
type ReplayResult struct {
	Raw
	Status       string    `json:"status"` // delivered, failed or parked
	ID           string    `json:"id"`
	DeliveryID   string    `json:"delivery_id"`
	Sink         string    `json:"sink"` // through which it was sent
	Attempts     int       `json:"attempts"`
	Error        string    `json:"error"`
	NextReplayAt time.Time `json:"next_replay_at"`
	Replays      int       `json:"replays"`
}

// Replay sends one dead letter again, now. A failed send is a result, not an error.
func (c *Client) Replay(ctx context.Context, id string, o ReplayOptions) (r ReplayResult, err error) {
	err = c.call(ctx, request{method: http.MethodPost, path: []string{"dlq", "items", id, "replay"}, body: o}, &r)
	return r, err
}

// Count is the number of dead letters, in all and by sink.
type Count struct {
	Raw
	Count int64            `json:"count"`
	Sinks map[string]int64 `json:"sinks"`
}

// Count counts the dead letters of one sink, or of all when sink is empty.
func (c *Client) Count(ctx context.Context, sink string) (n Count, err error) {
	err = c.call(ctx, request{method: http.MethodGet, path: []string{"dlq", "count"}, query: Filter{Sink: sink}.page(0, "")}, &n)
	return n, err
}

// Groups are dead letters counted by cause, largest group first.
type Groups struct {
	Raw
	Groups     []Group `json:"groups"`
	Complete   bool    `json:"complete"`    // false: the smallest groups are left out, or NextCursor is set
	NextCursor string  `json:"next_cursor"` // where the count of a state goes on; empty at its end
	Scanned    int     `json:"scanned"`
}

// Group is a number of dead letters that failed alike.
type Group struct {
	ID          string `json:"id"` // short, the same as long as the group exists
	Sink        string `json:"sink"`
	Reason      string `json:"reason"`
	Fingerprint string `json:"fingerprint"`
	Count       int64  `json:"count"`
}

// Groups counts dead letters by cause: of f's sink and state, or all where they are empty.
func (c *Client) Groups(ctx context.Context, f Filter) (g Groups, err error) {
	err = c.call(ctx, request{method: http.MethodGet, path: []string{"dlq", "groups"}, query: Filter{Sink: f.Sink, State: f.State}.page(0, "")}, &g)
	return g, err
}
