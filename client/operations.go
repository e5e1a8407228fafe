package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// OperationRequest asks for a bulk operation over a filter or a list of ids.
type OperationRequest struct {
	Action string   `json:"action"` // replay or discard
	Filter *Filter  `json:"filter,omitempty"`
	IDs    []string `json:"ids,omitempty"`
	All    bool     `json:"all,omitempty"` // needed where the filter is empty
	Reason string   `json:"reason,omitempty"`
	// DryRun is set by the client's methods.
	DryRun bool `json:"dry_run,omitempty"`
}

// DryRun is what a bulk operation would do.
type DryRun struct {
	Raw
	Action   string `json:"action"`
	Count    int64  `json:"count"`
	Complete bool   `json:"complete"` // false: there may be more
	Scanned  int64  `json:"scanned"`
	Sample   []Item `json:"sample"`
}

// Operation is a bulk operation and its progress.
type Operation struct {
	Raw
	ID            string    `json:"id"`
	Action        string    `json:"action"`
	Filter        *Filter   `json:"filter"`
	IDs           []string  `json:"ids"`
	All           bool      `json:"all"`
	Reason        string    `json:"reason"`
	Actor         string    `json:"actor"`
	Status        string    `json:"status"` // queued, running, completed, canceled, failed
	CreatedAt     time.Time `json:"created_at"`
	StartedAt     time.Time `json:"started_at"`
	FinishedAt    time.Time `json:"finished_at"`
	Total         int64     `json:"total"`
	TotalComplete bool      `json:"total_complete"` // false: Total is the least
	OperationCounts
	Error string                   `json:"error"`
	Sinks map[string]OperationSink `json:"sinks"`
}

// OperationCounts are the counters of an operation.
type OperationCounts struct {
	Settled   int64 `json:"settled"` // delivered, failed and discarded ones
	Delivered int64 `json:"delivered"`
	Failed    int64 `json:"failed"` // sent in vain; they stay in the queue
	Discarded int64 `json:"discarded"`
	Skipped   int64 `json:"skipped"` // not touched
}

// OperationSink is the progress in one sink.
type OperationSink struct {
	Done bool `json:"done"`
	OperationCounts
	Waiting int64  `json:"waiting"` // held by another replay
	Error   string `json:"error"`
}

// Final reports whether the operation is over.
func (o Operation) Final() bool {
	return o.Status == "completed" || o.Status == "canceled" || o.Status == "failed"
}

// Gone is how many dead letters of a completed operation were settled by others before it
// came to them; zero where that is not known.
func (o Operation) Gone() int64 {
	if o.Status != "completed" || !o.TotalComplete {
		return 0
	}
	return max(0, o.Total-o.Settled-o.Skipped)
}

// Waiting is how many dead letters are held by other replays.
func (o Operation) Waiting() (n int64) {
	for _, s := range o.Sinks {
		n += s.Waiting
	}
	return n
}

// Operations are the newest bulk operations.
type Operations struct {
	Raw
	Operations []Operation `json:"operations"`
}

var operations = []string{"dlq", "operations"}

// DryRun says what an operation would do, and does nothing.
func (c *Client) DryRun(ctx context.Context, r OperationRequest) (d DryRun, err error) {
	r.DryRun = true
	err = c.call(ctx, request{method: http.MethodPost, path: operations, body: r}, &d)
	return d, err
}

// CreateOperation starts a bulk operation. The call may be repeated with the same key:
// it is one operation.
func (c *Client) CreateOperation(ctx context.Context, key string, r OperationRequest) (o Operation, err error) {
	r.DryRun = false
	err = c.call(ctx, request{
		method: http.MethodPost, path: operations, body: r, header: http.Header{"Idempotency-Key": {key}},
	}, &o)
	return o, err
}

// Operations lists the newest bulk operations. limit <= 0 leaves their number to the API.
func (c *Client) Operations(ctx context.Context, limit int) (o Operations, err error) {
	q := url.Values{}
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	err = c.call(ctx, request{method: http.MethodGet, path: operations, query: q}, &o)
	return o, err
}

// Operation returns one bulk operation with its progress as of now.
func (c *Client) Operation(ctx context.Context, id string) (o Operation, err error) {
	err = c.call(ctx, request{method: http.MethodGet, path: append(operations[:2:2], id)}, &o)
	return o, err
}

// CancelOperation stops a bulk operation; one that is over stays as it is.
func (c *Client) CancelOperation(ctx context.Context, id string) (o Operation, err error) {
	err = c.call(ctx, request{method: http.MethodPost, path: append(operations[:2:2], id, "cancel")}, &o)
	return o, err
}
