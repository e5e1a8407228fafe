package handler

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
	"backstop/lib/retry"
)

// How much a list shows, in characters: of a body, and of a text that is short as a rule.
const (
	previewRunes = 200
	textRunes    = 1000
)

// summary is an item as a list shows it: without recipient and whole body.
type summary struct {
	dlq.Shown
	// The embedded members are hidden by these.
	Recipient omitted        `json:"recipient,omitempty"`
	Message   messageSummary `json:"message"`
}

type omitted *struct{}

type messageSummary struct {
	ID          string `json:"id,omitempty"`
	Subject     string `json:"subject,omitempty"`
	BodyBytes   int    `json:"body_bytes"`
	BodyPreview string `json:"body_preview"`
}

func summarize(items []dlq.Item) []summary {
	out, now := make([]summary, 0, len(items)), time.Now()
	for _, it := range items {
		s := summary{Shown: it.Show(now), Message: messageSummary{
			ID: it.Message.ID, Subject: first(textRunes, it.Message.Subject),
			BodyBytes: len(it.Message.Body), BodyPreview: first(previewRunes, it.Message.Body),
		}}
		s.LastError, s.Raw = first(textRunes, it.LastError), first(previewRunes, it.Raw)
		out = append(out, s)
	}
	return out
}

// first returns the first n characters of s.
func first(n int, s string) string {
	for i := range s {
		if n == 0 {
			s = s[:i]
			break
		}
		n--
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// readFilter reads the parameters of a list.
func (h *api) readFilter(r *http.Request) (dlq.Query, error) {
	q := readQuery(r, "sink", "state", "reason", "delivery_id", "q", "meta", "fingerprint", "group", "since", "until", "limit", "cursor")
	filter := dlq.Query{
		Sink: q.sink(), State: q.state(), Reason: q.reason(), DeliveryID: q.search("delivery_id"), Q: q.search("q"), Fingerprint: q.search("fingerprint"),
		Meta:  q.meta,
		Since: q.time("since"), Until: q.time("until"), Limit: q.limit(defaultPage, maxPage), Cursor: q.text("cursor"),
	}
	if q.err != nil {
		return filter, q.err
	}
	return filter, h.group(r.Context(), q.text("group"), &filter.Sink, &filter.Reason, &filter.Fingerprint)
}

// page returns a page in a form whose encoding fits into an answer. The store bounds
// pages by what it keeps; when that grows on the way, a shorter page is read. An item
// that does not even fit alone is named only, so that the list goes on behind it.
func (h *api) page(ctx context.Context, q dlq.Query, encode func(dlq.Page) ([]byte, error)) (dlq.Page, []byte, error) {
	for {
		page, err := h.queue.Page(ctx, q)
		if err != nil {
			return page, nil, err
		}
		b, err := encode(page)
		switch n := len(page.Items); {
		case err != nil || len(b) <= maxAnswer:
			return page, b, err
		case n > 1:
			q.Limit = n / 2
		default:
			it := page.Items[0]
			page.Items[0] = dlq.Item{
				ID: it.ID, Sink: it.Sink, At: it.At, Attempts: it.Attempts,
				DecodeError: fmt.Sprintf("not shown: it has %d bytes; at most %d can be sent", len(b), maxAnswer),
			}
			b, err = encode(page)
			return page, b, err
		}
	}
}

func (h *api) listItems(w http.ResponseWriter, r *http.Request) error {
	filter, err := h.readFilter(r)
	if err != nil {
		return err
	}
	_, b, err := h.page(r.Context(), filter, func(p dlq.Page) ([]byte, error) {
		return encode(map[string]any{
			"items": summarize(p.Items), "next_cursor": orNull(p.NextCursor), "complete": p.Complete, "scanned": p.Scanned,
		})
	})
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return answerJSON(w, http.StatusOK, b)
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (h *api) count(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r, "sink")
	sink := q.sink()
	if q.err != nil {
		return q.err
	}
	names := []string{sink}
	if sink == "" {
		var err error
		if names, err = h.queue.Sinks(r.Context()); err != nil {
			return err
		}
	}
	body := struct {
		Count  int64               `json:"count"`
		Sinks  map[string]int64    `json:"sinks"`
		States map[dlq.State]int64 `json:"states"`
	}{Sinks: make(map[string]int64, len(names)), States: map[dlq.State]int64{}}
	for _, name := range names {
		st, err := h.queue.Stats(r.Context(), name)
		if err != nil {
			return err
		}
		body.Sinks[name] = st.Depth
		body.Count += st.Depth
		for state, n := range st.States {
			body.States[state] += n
		}
	}
	return answer(w, http.StatusOK, body)
}

func (h *api) getItem(w http.ResponseWriter, r *http.Request) error {
	it, err := h.queue.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return answerItem(w, r, it)
}

func answerItem(w http.ResponseWriter, r *http.Request, it dlq.Item) error {
	shown := it.Show(time.Now())
	tag, err := itemTag(shown)
	if err != nil || notModified(w, r, tag) {
		return err
	}
	b, err := encode(shown)
	if err != nil {
		return err
	}
	return answerJSON(w, http.StatusOK, b)
}

// discardItem removes an item. One that is gone already counts as removed, whatever
// If-Match says: what was asked for is so.
func (h *api) discardItem(w http.ResponseWriter, r *http.Request) error {
	it, err := h.queue.Get(r.Context(), r.PathValue("id"))
	switch {
	case fault.CodeOf(err) == fault.CodeDLQNotFound:
	case err != nil:
		return err
	default:
		if err := unchanged(r, it); err != nil {
			return err
		}
		if err := h.engine.Discard(r.Context(), it); err != nil {
			return err
		}
		h.audit(r.Context(), "discarded", "item_id", it.ID, "delivery_id", it.DeliveryID, "sink", it.Sink)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// unparkItem makes an item due now.
func (h *api) unparkItem(w http.ResponseWriter, r *http.Request) error {
	it, err := h.queue.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if err := unchanged(r, it); err != nil {
		return err
	}
	if it.SupersededBy != "" {
		return invalid("item %s is superseded by %s: unpark that one", it.ID, it.SupersededBy)
	}
	if err := h.queue.Unpark(r.Context(), it.ID); err != nil {
		return err
	}
	h.audit(r.Context(), "unparked", "item_id", it.ID, "delivery_id", it.DeliveryID, "sink", it.Sink)
	now, err := h.queue.Get(r.Context(), it.ID)
	switch {
	case fault.CodeOf(err) == fault.CodeDLQNotFound: // the schedule was quick
		it.Parked, it.Held = false, false
	case err != nil:
		return err
	default:
		it = now
	}
	r.Header.Del("If-None-Match") // it is for GET
	return answerItem(w, r, it)
}

// replayItem sends one item again, now.
func (h *api) replayItem(w http.ResponseWriter, r *http.Request, budget retry.Budget) error {
	var o struct {
		OnSuccess replay.OnSuccess    `json:"on_success"`
		Force     bool                `json:"force"`
		Message   *replay.MessageEdit `json:"message"`
		Recipient json.RawMessage     `json:"recipient"`
		Sink      string              `json:"sink"`
	}
	if err := decode(w, r, &o); err != nil {
		return err
	}
	if o.Sink != "" {
		if err := fault.CheckName(o.Sink); err != nil {
			return err
		}
	}
	id := r.PathValue("id")
	if r.Header.Get("If-Match") != "" {
		it, err := h.queue.Get(r.Context(), id)
		if err != nil {
			return err
		}
		if err := unchanged(r, it); err != nil {
			return err
		}
	}
	result, err := h.engine.ReplayOne(r.Context(), id, replay.OneOptions{
		OnSuccess: o.OnSuccess, Force: o.Force, Message: o.Message, Recipient: o.Recipient, Sink: o.Sink, Budget: budget,
	})
	if err != nil {
		return err
	}
	if result.SupersededBy != "" {
		h.audit(r.Context(), "superseded by an operator", "item_id", id, "superseded_by", result.SupersededBy, "delivery_id", result.DeliveryID, "sink", result.Sink)
	}
	return answer(w, http.StatusOK, result)
}
