package main

import (
	"net/http"
	"unicode/utf8"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
	"backstop/lib/sinks"
)

// previewRunes is how much of a body a list shows.
const previewRunes = 200

// summary is an item as a list shows it: without recipient and whole body.
type summary struct {
	dlq.Item
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

func summarize(it dlq.Item) summary {
	return summary{Item: it, Message: messageSummary{
		ID: it.Message.ID, Subject: it.Message.Subject,
		BodyBytes: len(it.Message.Body), BodyPreview: preview(it.Message.Body),
	}}
}

// preview returns the first characters of s.
func preview(s string) string {
	n := 0
	for i := range s {
		if n == previewRunes {
			return s[:i]
		}
		n++
	}
	if !utf8.ValidString(s) {
		return ""
	}
	return s
}

func (h *api) listItems(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r, "sink", "reason", "delivery_id", "q", "fingerprint", "since", "until", "limit", "cursor")
	filter := dlq.Query{
		Sink: q.sink(), Reason: q.reason(), DeliveryID: q.text("delivery_id"), Q: q.text("q"), Fingerprint: q.text("fingerprint"),
		Since: q.time("since"), Until: q.time("until"), Limit: q.limit(50), Cursor: q.text("cursor"),
	}
	if q.err != nil {
		return q.err
	}
	page, err := h.app.Queue.Page(r.Context(), filter)
	if err != nil {
		return err
	}
	items := make([]summary, 0, len(page.Items))
	for _, it := range page.Items {
		items = append(items, summarize(it))
	}
	return answer(w, http.StatusOK, map[string]any{
		"items": items, "next_cursor": orNull(page.NextCursor), "complete": page.Complete, "scanned": page.Scanned,
	})
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
		if names, err = h.app.Queue.Sinks(r.Context()); err != nil {
			return err
		}
	}
	body := struct {
		Count int64            `json:"count"`
		Sinks map[string]int64 `json:"sinks"`
	}{Sinks: make(map[string]int64, len(names))}
	for _, name := range names {
		n, err := h.app.Queue.Count(r.Context(), name)
		if err != nil {
			return err
		}
		body.Sinks[name] = n
		body.Count += n
	}
	return answer(w, http.StatusOK, body)
}

func (h *api) groups(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r, "sink")
	sink := q.sink()
	if q.err != nil {
		return q.err
	}
	groups, err := h.app.Queue.Groups(r.Context(), sink)
	if err != nil {
		return err
	}
	if groups == nil {
		groups = []dlq.Group{}
	}
	// Groups are counters kept by the store: nothing is scanned, and all are here.
	return answer(w, http.StatusOK, map[string]any{"groups": groups, "next_cursor": nil, "complete": true, "scanned": 0})
}

func (h *api) getItem(w http.ResponseWriter, r *http.Request) error {
	it, err := h.app.Queue.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, it)
}

// discardItem removes an item. One that is gone already counts as removed.
func (h *api) discardItem(w http.ResponseWriter, r *http.Request) error {
	it, err := h.app.Queue.Get(r.Context(), r.PathValue("id"))
	switch {
	case sinks.CodeOf(err) == sinks.CodeDLQNotFound:
	case err != nil:
		return err
	default:
		if err := h.app.Queue.Discard(r.Context(), it.ID); err != nil {
			return err
		}
		h.noteDiscarded(r, it)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// noteDiscarded updates the delivery's record; the item is gone whether or not that
// works.
func (h *api) noteDiscarded(r *http.Request, it dlq.Item) {
	h.app.Log.InfoContext(r.Context(), "discarded", "item_id", it.ID, "delivery_id", it.DeliveryID, "sink", it.Sink)
	if it.DeliveryID == "" || !it.DeliveredAt.IsZero() {
		return
	}
	err := h.app.Records.Update(r.Context(), delivery.Key{Sink: it.Sink, ID: it.DeliveryID}, delivery.StatusDiscarded)
	if err != nil {
		h.app.Log.WarnContext(r.Context(), "idempotency record not updated", "delivery_id", it.DeliveryID, "error", err.Error())
	}
}

// replayItem sends one item again, now.
func (h *api) replayItem(w http.ResponseWriter, r *http.Request) error {
	var o struct {
		OnSuccess replay.OnSuccess `json:"on_success"`
		Force     bool             `json:"force"`
		Sink      string           `json:"sink"`
	}
	if err := decode(r, &o); err != nil {
		return err
	}
	if o.Sink != "" {
		if err := sinks.CheckName(o.Sink); err != nil {
			return err
		}
	}
	result, err := h.app.Engine.ReplayOne(r.Context(), r.PathValue("id"), replay.OneOptions{OnSuccess: o.OnSuccess, Force: o.Force, Sink: o.Sink})
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, result)
}
