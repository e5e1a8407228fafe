package client

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Filter selects dead letters. Zero fields select everything.
type Filter struct {
	Sink   string `json:"sink,omitempty"`
	Reason Reason `json:"reason,omitempty"`
	// State is for lists, exports and groups: an operation refuses it.
	State      State  `json:"state,omitempty"`
	DeliveryID string `json:"delivery_id,omitempty"`
	// Q is looked for, in any case, in subject, body, recipient, delivery id and last error.
	Q string `json:"q,omitempty"`
	// Meta is what the message's metadata must have, all of it, exactly.
	Meta map[string]string `json:"meta,omitempty"`
	// Fingerprint is that of a Group; give its Sink and Reason too.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Group is the ID of a Group, instead of its Reason and Fingerprint.
	Group string `json:"group,omitempty"`
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
	set("reason", string(f.Reason))
	set("state", string(f.State))
	set("delivery_id", f.DeliveryID)
	set("q", f.Q)
	for _, name := range slices.Sorted(maps.Keys(f.Meta)) {
		q.Add("meta", name+"="+f.Meta[name])
	}
	set("fingerprint", f.Fingerprint)
	set("group", f.Group)
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

// Item is a dead letter. In a list it has no recipient, and the message's beginning only. What
// the API leaves out is zero.
type Item struct {
	Raw
	// ETag changes whenever the item does; give it to a replay, discard or unpark that shall act
	// on no other version. Empty in lists.
	ETag          string          `json:"-"`
	ID            string          `json:"id"` // <sink>~<ms>-<seq>
	DeliveryID    string          `json:"delivery_id"`
	Sink          string          `json:"sink"`
	At            time.Time       `json:"at"` // when the delivery became a dead letter
	Recipient     json.RawMessage `json:"recipient"`
	Message       Message         `json:"message"`
	Attempts      int             `json:"attempts"`
	LastError     string          `json:"last_error"`
	Reason        Reason          `json:"reason"` // other programs' items may have none, or another
	FirstFailedAt time.Time       `json:"first_failed_at"`
	NotBefore     time.Time       `json:"not_before"` // the receiver asked not to be tried before
	ExpiresAt     time.Time       `json:"expires_at"` // no attempt begins then or later, but by force
	Unanswered    int             `json:"unanswered"` // attempts, those of replays too, that may have arrived though nobody said so
	AcceptedAt    time.Time       `json:"accepted_at"`
	Group         string          `json:"group"`  // the message group that it belonged to
	Origin        string          `json:"origin"` // the item whose replay ended in this one, or that this one superseded
	Trace         string          `json:"trace"`
	State         State           `json:"state"`
	NextReplayAt  time.Time       `json:"next_replay_at"` // zero: at the next tick, or not by itself (see State)
	Replays       int             `json:"replays"`        // that failed and count
	Parked        bool            `json:"parked"`         // replayed too often
	Held          bool            `json:"held"`           // a replay failed in a way that must not be repeated without a look
	SupersededBy  string          `json:"superseded_by"`  // the item that was made of it and is sent in its place; force alone sends this one
	Of            *Of             `json:"of"`             // nil: of its own sink and content
	DeliveredAt   time.Time       `json:"delivered_at"`   // a replay delivered it and it was kept
	History       []ReplayRecord  `json:"history"`        // the last 10 replays, oldest first
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

// Of is the delivery that an item is of, where it superseded another.
type Of struct {
	Sink        string `json:"sink"`
	Fingerprint string `json:"fingerprint"` // of the content that it was asked for with
}

// ReplayRecord is one replay of an item; Error is empty for one that delivered.
type ReplayRecord struct {
	At    time.Time `json:"at"`
	Error string    `json:"error"`
}

// ItemPage is a page of dead letters, newest first.
type ItemPage struct {
	Raw
	Items      []Item `json:"items"`
	NextCursor string `json:"next_cursor"` // empty at the end
	// Complete is false when the search stopped by its budget: follow NextCursor. The page may
	// even be empty then.
	Complete bool `json:"complete"`
	Scanned  int  `json:"scanned"` // entries that the call has read
}

// mostItems is the largest page.
const mostItems = 1000

// Items yields the dead letters that f selects, newest first. It reads them page by page: what
// fails meanwhile is not among them.
func (c *Client) Items(ctx context.Context, f Filter) iter.Seq2[Item, error] {
	return paged(func(cursor string) ([]Item, string, error) {
		p, err := c.ItemsPage(ctx, f, mostItems, cursor)
		return p.Items, p.NextCursor, err
	})
}

// ItemsPage reads one page. limit <= 0 leaves its size to the API (50), 1,000 is the most;
// cursor is empty for the first page, and the page's NextCursor for the next.
func (c *Client) ItemsPage(ctx context.Context, f Filter, limit int, cursor string) (p ItemPage, err error) {
	r := get("dlq", "items")
	r.query = f.page(limit, cursor)
	_, err = c.call(ctx, r, &p)
	return p, err
}

// Item returns one dead letter in full. An item that is larger than an answer can be is
// BODY_TOO_LARGE; lists show its beginning.
func (c *Client) Item(ctx context.Context, id string) (Item, error) {
	return c.item(ctx, get("dlq", "items", id), id)
}

func (c *Client) item(ctx context.Context, r request, id string) (it Item, err error) {
	r.about = func() bool { return sameItem(it.ID, id) }
	header, err := c.call(ctx, r, &it)
	it.ETag = header.Get("Etag")
	return it, err
}

// ItemOptions are the choices for an action on one dead letter. The zero value, and nil, act on
// it as it is.
type ItemOptions struct {
	// IfMatch is the ETag of the version to act on: where the item has changed since, the action
	// is PRECONDITION_FAILED. Empty: any version.
	IfMatch string
}

func (o *ItemOptions) header() http.Header {
	if o == nil || o.IfMatch == "" {
		return nil
	}
	return http.Header{"If-Match": {o.IfMatch}}
}

// Discard removes one dead letter for good; one that is gone already is no error. While a
// replay holds it, the error is ITEM_LEASED.
func (c *Client) Discard(ctx context.Context, id string, o *ItemOptions) error {
	_, err := c.call(ctx, request{method: http.MethodDelete, path: []string{"dlq", "items", id}, header: o.header()}, nil)
	return err
}

// Unpark makes one dead letter due now that is parked, waiting or scheduled, and returns it as
// it is then. While a replay holds it, the error is ITEM_LEASED.
func (c *Client) Unpark(ctx context.Context, id string, o *ItemOptions) (Item, error) {
	r := post("dlq", "items", id, "unpark")
	r.header = o.header()
	return c.item(ctx, r, id)
}

// ReplayOptions are the choices for one replay. The zero value, and nil, send the item as it is
// and remove it when it was delivered. With a Message, a Recipient or a Sink, another item is made and sent, and
// this one waits, superseded by it: see ReplayResult.SupersededBy.
type ReplayOptions struct {
	OnSuccess OnSuccess       `json:"on_success,omitempty"`
	Force     bool            `json:"force,omitempty"` // also what expired, is superseded, or was delivered already and kept
	Message   *MessageEdit    `json:"message,omitempty"`
	Recipient json.RawMessage `json:"recipient,omitempty"` // JSON, as the sink's kind has it; null: the sink's default
	Sink      string          `json:"sink,omitempty"`      // another sink to send through, which understands the recipient
	// IfMatch is the ETag of the version to replay, as in ItemOptions.
	IfMatch string `json:"-"`
}

// MessageEdit is what to change of a message. Nil fields stay as they are.
type MessageEdit struct {
	Subject  *string           `json:"subject,omitempty"`
	Body     *string           `json:"body,omitempty"`
	Metadata map[string]string `json:"metadata,omitzero"` // all of it; empty but not nil: none
}

// ReplayResult is the outcome of one replay.
type ReplayResult struct {
	Raw
	Status       ReplayStatus `json:"status"`
	ID           string       `json:"id"`
	DeliveryID   string       `json:"delivery_id"`
	Sink         string       `json:"sink"` // through which it was sent
	Attempts     int          `json:"attempts"`
	Error        string       `json:"error"`
	NextReplayAt time.Time    `json:"next_replay_at"` // zero: the schedule leaves it alone
	Replays      int          `json:"replays"`
	SupersededBy string       `json:"superseded_by"` // the item that was made and sent instead, and ID; empty: none was
}

// Replay sends one dead letter again, now. A failed send is a result, not an error. After an
// *UnreachableError it may have been sent: look at the item before you replay it again. One that makes another
// item can be repeated: it sends what it made before, unless that was delivered (ALREADY_DELIVERED).
func (c *Client) Replay(ctx context.Context, id string, o *ReplayOptions) (res ReplayResult, err error) {
	if o == nil {
		o = &ReplayOptions{}
	}
	r := post("dlq", "items", id, "replay")
	r.body, r.header = o, (&ItemOptions{IfMatch: o.IfMatch}).header()
	r.about = func() bool { return res.Status != "" && (res.SupersededBy != "" || sameItem(res.ID, id)) }
	_, err = c.call(ctx, r, &res)
	return res, err
}

// Count is the number of dead letters, in all, by sink and by state. Delivered ones that were
// kept are counted too.
type Count struct {
	Raw
	Count  int64            `json:"count"`
	Sinks  map[string]int64 `json:"sinks"`
	States map[State]int64  `json:"states"` // a state without any is missing; may lag for a while
}

// Count counts the dead letters of one sink, or of all when sink is empty.
func (c *Client) Count(ctx context.Context, sink string) (n Count, err error) {
	r := get("dlq", "count")
	r.query = Filter{Sink: sink}.page(0, "")
	_, err = c.call(ctx, r, &n)
	return n, err
}

// GroupPage are dead letters counted by cause, largest group first.
type GroupPage struct {
	Raw
	Groups     []Group `json:"groups"`
	Complete   bool    `json:"complete"`    // false: the smallest groups are left out, or NextCursor is set
	NextCursor string  `json:"next_cursor"` // where the count of a state goes on; empty at its end
	Scanned    int     `json:"scanned"`     // entries that the call has read; 0 without a state
}

// Group is a number of dead letters that failed alike. A Filter of its Sink, Reason and
// Fingerprint selects them.
type Group struct {
	ID          string `json:"id"` // short, the same as long as the group exists
	Sink        string `json:"sink"`
	Reason      Reason `json:"reason"`
	Fingerprint string `json:"fingerprint"` // the error's text with its variable parts masked
	Count       int64  `json:"count"`
	// FirstSeen and LastSeen are when the first and the newest came, those that are gone included;
	// zero where it is not known.
	FirstSeen time.Time `json:"first_seen"`
	LastSeen  time.Time `json:"last_seen"`
	// LastHour and LastDay are how many came, those that are gone included: to the next 5 minutes, and
	// the next hour, of the clock.
	LastHour int64      `json:"last_hour"`
	LastDay  int64      `json:"last_day"`
	Sample   string     `json:"sample"` // id of the newest, which may be gone; empty: not known
	Note     *GroupNote `json:"note"`   // nil without one
}

// GroupNote is what an operator noted about a group.
type GroupNote struct {
	Note         string    `json:"note"`
	Acknowledged bool      `json:"acknowledged"` // somebody knows and cares for it
	By           string    `json:"by"`           // as the authorizer knows them
	At           time.Time `json:"at"`
}

// NoteRequest is what to note about a group. The zero value takes a note away.
type NoteRequest struct {
	Note         string `json:"note"`
	Acknowledged bool   `json:"acknowledged,omitempty"`
}

// NoteGroup notes something about a group, instead of a former note.
func (c *Client) NoteGroup(ctx context.Context, id string, n NoteRequest) (g Group, err error) {
	r := post("dlq", "groups", id, "note")
	r.body = n
	r.about = func() bool { return g.ID == id }
	_, err = c.call(ctx, r, &g)
	return g, err
}

// HistogramBy is what the series of a Histogram are.
type HistogramBy string

// What the series of a Histogram can be.
const (
	BySink   HistogramBy = "sink"
	ByGroup  HistogramBy = "group"
	ByReason HistogramBy = "reason"
)

// HistogramQuery asks when dead letters came. Zero fields select everything, of the last day.
type HistogramQuery struct {
	By          HistogramBy // empty: BySink
	Interval    string      // such as 5m, 1h, 1d; empty: one that fits
	Since       time.Time
	Until       time.Time
	Sink        string
	Reason      Reason
	Fingerprint string // with its Reason
	Group       string // instead of Reason and Fingerprint
}

// Histogram tells when dead letters came.
type Histogram struct {
	Raw
	By           HistogramBy `json:"by"`
	Interval     string      `json:"interval"`
	Since        time.Time   `json:"since"`
	Until        time.Time   `json:"until"`
	Buckets      []time.Time `json:"buckets"` // when each begins
	Series       []Series    `json:"series"`  // at most 50, and one of all others
	Count        int64       `json:"count"`
	ArrivedTotal int64       `json:"arrived_total"`
	FirstSeen    time.Time   `json:"first_seen"` // zero: not known
	LastSeen     time.Time   `json:"last_seen"`
}

// Series is a sink, a group or a reason in a Histogram.
type Series struct {
	ID           string    `json:"id"` // the group's
	Sink         string    `json:"sink"`
	Reason       Reason    `json:"reason"`
	Fingerprint  string    `json:"fingerprint"`
	Other        bool      `json:"other"`   // all beyond the first 50
	Counts       []int64   `json:"counts"`  // by bucket: what came then and is still there
	Arrived      []int64   `json:"arrived"` // by bucket: all that came then
	Count        int64     `json:"count"`
	ArrivedTotal int64     `json:"arrived_total"`
	FirstSeen    time.Time `json:"first_seen"` // the first ever; zero: not known
	LastSeen     time.Time `json:"last_seen"`
}

// Histogram asks when dead letters came.
func (c *Client) Histogram(ctx context.Context, q HistogramQuery) (h Histogram, err error) {
	r := get("dlq", "histogram")
	r.query = Filter{Sink: q.Sink, Reason: q.Reason, Fingerprint: q.Fingerprint, Group: q.Group, Since: q.Since, Until: q.Until}.page(0, "")
	for name, value := range map[string]string{"by": string(q.By), "interval": q.Interval} {
		if value != "" {
			r.query.Set(name, value)
		}
	}
	_, err = c.call(ctx, r, &h)
	return h, err
}

// Groups yields dead letters counted by cause: of f's sink, state and metadata, or all where they are
// empty; f's other fields do not count. Without state and metadata, the largest group comes first, and the
// smallest are left out where there are more than 10,000. With them, the dead letters are
// searched, and a group comes again on a later page: add up the counts.
func (c *Client) Groups(ctx context.Context, f Filter) iter.Seq2[Group, error] {
	return paged(func(cursor string) ([]Group, string, error) {
		p, err := c.GroupsPage(ctx, f, cursor)
		return p.Groups, p.NextCursor, err
	})
}

// GroupsPage reads one page of Groups. cursor is empty for the first.
func (c *Client) GroupsPage(ctx context.Context, f Filter, cursor string) (p GroupPage, err error) {
	r := get("dlq", "groups")
	r.query = Filter{Sink: f.Sink, State: f.State, Meta: f.Meta}.page(0, cursor)
	_, err = c.call(ctx, r, &p)
	return p, err
}
