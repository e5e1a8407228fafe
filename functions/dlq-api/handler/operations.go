package handler

import (
	"context"
	"net/http"
	"time"
	"unicode/utf8"

	"backstop/internal/app"
	"backstop/lib/dlq"
	"backstop/lib/replay"
)

// Bounds of an operation's texts, in characters.
const (
	maxReason    = 1000
	maxFilter    = 1000
	maxRecipient = 8000
)

// maxOperations is the most operations in a list, defaultOperations what it has unasked.
const (
	maxOperations     = 100
	defaultOperations = 20
)

// operationView is an operation as the operator sees it: without the places that the
// engine remembers.
type operationView struct {
	replay.Operation
	Sinks map[string]operationSink `json:"sinks"` // hides the embedded member
}

type operationSink struct {
	Done bool `json:"done"`
	replay.OperationCounts
	replay.JournalCounts
	Waiting      int64     `json:"waiting"` // held by another replayer, or the gate does not let them go
	WaitingUntil time.Time `json:"waiting_until,omitzero"`
	Stopped      bool      `json:"stopped,omitempty"`
	Error        string    `json:"error,omitempty"`
}

func viewOperation(op replay.Operation) operationView {
	v := operationView{Operation: op, Sinks: make(map[string]operationSink, len(op.Sinks))}
	for name, p := range op.Sinks {
		sink := operationSink{Done: p.Done, OperationCounts: p.OperationCounts, JournalCounts: p.JournalCounts, Stopped: p.Stopped, Error: p.Error}
		if !op.Status.Final() && op.Status != replay.OperationStopped {
			sink.Waiting, sink.WaitingUntil = p.Waiting+int64(len(p.Left)), p.WaitingUntil
		}
		v.Sinks[name] = sink
	}
	return v
}

// createOperation records a bulk operation, or says what it would do.
func (h *api) createOperation(w http.ResponseWriter, r *http.Request) error {
	o, err := h.readOperation(w, r)
	if err != nil {
		return err
	}
	if err := checkOperation(o); err != nil {
		return err
	}
	if o.IdempotencyKey, err = app.IdempotencyKey(r.Header.Values(app.IdempotencyKeyHeader)); err != nil {
		return err
	}
	o.Actor = actor(r.Context())
	op, err := h.engine.CreateOperation(r.Context(), o)
	if err != nil {
		return err
	}
	if o.DryRun {
		return answerDryRun(w, op)
	}
	h.audit(r.Context(), "operation created", "operation", op.ID, "action", string(op.Action), "total", op.Total, "why", op.Reason)
	h.start(r.Context(), op)
	// Relative, so that it is right behind any stage and mapping.
	w.Header().Set("Location", "operations/"+op.ID)
	return answer(w, http.StatusAccepted, viewOperation(op))
}

// readOperation reads what is asked for. A filter can name a group instead of its sink, reason and
// fingerprint.
func (h *api) readOperation(w http.ResponseWriter, r *http.Request) (o replay.OperationRequest, err error) {
	var body struct {
		replay.OperationRequest
		Filter *struct {
			replay.Filter
			Group string `json:"group,omitempty"`
		} `json:"filter,omitempty"`
	}
	if err := decode(w, r, &body); err != nil {
		return o, err
	}
	o = body.OperationRequest
	if body.Filter == nil {
		return o, nil
	}
	o.Filter = &body.Filter.Filter
	if id := body.Filter.Group; id != "" {
		err = h.group(r.Context(), id, &o.Filter.Sink, &o.Filter.Reason, &o.Filter.Fingerprint)
	}
	return o, err
}

// start begins an operation early that the schedule would begin later.
func (h *api) start(ctx context.Context, op replay.Operation) {
	if op.Status == replay.OperationQueued || op.Status == replay.OperationRunning {
		h.starter.start(ctx, op.ID)
	}
}

// checkOperation refuses what the engine takes but nobody means, or what would make its
// record large.
func checkOperation(o replay.OperationRequest) error {
	if o.IDs != nil && len(o.IDs) == 0 {
		return invalid("ids: an empty list; leave it out to use a filter")
	}
	if n := utf8.RuneCountInString(o.Reason); n > maxReason {
		return invalid("reason: %d characters; at most %d are kept", n, maxReason)
	}
	if n := utf8.RuneCountInString(o.Recipient); n > maxRecipient {
		return invalid("recipient: %d characters; at most %d are looked for", n, maxRecipient)
	}
	if o.Filter == nil {
		return nil
	}
	for name, text := range map[string]string{"q": o.Filter.Q, "delivery_id": o.Filter.DeliveryID, "fingerprint": o.Filter.Fingerprint} {
		if n := utf8.RuneCountInString(text); n > maxFilter {
			return invalid("filter.%s: %d characters; at most %d are looked for", name, n, maxFilter)
		}
	}
	return checkMeta("filter.meta", o.Filter.Meta)
}

// previewGroup is what a dry run knows of a group.
type previewGroup struct {
	ID          string     `json:"id"`
	Sink        string     `json:"sink"`
	Reason      dlq.Reason `json:"reason"`
	Fingerprint string     `json:"fingerprint"`
	Count       int64      `json:"count"`
}

func previewGroups(groups []dlq.Group) []previewGroup {
	views := make([]previewGroup, 0, len(groups))
	for _, g := range groups {
		views = append(views, previewGroup{g.ID(), g.Sink, g.Reason, g.Fingerprint, g.Count})
	}
	return views
}

func answerDryRun(w http.ResponseWriter, op replay.Operation) error {
	p := op.Preview
	body := struct {
		DryRun     bool                   `json:"dry_run"`
		Action     replay.OperationAction `json:"action"`
		Count      int64                  `json:"count"`
		Expired    int64                  `json:"expired"`
		Complete   bool                   `json:"complete"`
		Scanned    int64                  `json:"scanned"`
		Sample     []summary              `json:"sample"`
		LastTried  *replay.LastTried      `json:"last_tried,omitempty"`
		Looked     int64                  `json:"looked"`
		Sink       string                 `json:"sink,omitempty"` // of a redirect
		Refused    int64                  `json:"refused,omitempty"`
		Refusal    string                 `json:"refusal,omitempty"`
		BySink     map[string]int64       `json:"by_sink"`
		UpTo       map[string]string      `json:"up_to,omitempty"`
		Groups     []previewGroup         `json:"groups,omitempty"`
		MoreGroups int                    `json:"more_groups,omitempty"`
		Expect     *replay.Expect         `json:"expect,omitempty"`
		replay.JournalCounts
	}{true, op.Action, p.Count, p.Expired, p.Complete, p.Scanned, summarize(p.Sample), p.LastTried, p.Looked, op.Sink, p.Refused, p.Refusal, p.BySink, p.UpTo, previewGroups(p.Groups), p.MoreGroups, p.Expect, p.JournalCounts}
	return answer(w, http.StatusOK, body)
}

func (h *api) listOperations(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r, "limit")
	limit := q.limit(defaultOperations, maxOperations)
	if q.err != nil {
		return q.err
	}
	ops, err := h.engine.ListOperations(r.Context(), limit)
	if err != nil {
		return err
	}
	views := make([]operationView, 0, len(ops))
	for _, op := range ops {
		op.IDs = nil
		views = append(views, viewOperation(op))
	}
	return answer(w, http.StatusOK, map[string]any{"operations": views})
}

func (h *api) getOperation(w http.ResponseWriter, r *http.Request) error {
	op, err := h.engine.Operation(r.Context(), r.PathValue("op"))
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, viewOperation(op))
}

func (h *api) cancelOperation(w http.ResponseWriter, r *http.Request) error {
	op, err := h.engine.CancelOperation(r.Context(), r.PathValue("op"))
	if err != nil {
		return err
	}
	h.audit(r.Context(), "operation canceled", "operation", op.ID, "status", string(op.Status))
	return answer(w, http.StatusOK, viewOperation(op))
}

func (h *api) resumeOperation(w http.ResponseWriter, r *http.Request) error {
	op, err := h.engine.ResumeOperation(r.Context(), r.PathValue("op"))
	if err != nil {
		return err
	}
	h.audit(r.Context(), "operation resumed", "operation", op.ID, "round", op.Round)
	h.start(r.Context(), op)
	return answer(w, http.StatusOK, viewOperation(op))
}
