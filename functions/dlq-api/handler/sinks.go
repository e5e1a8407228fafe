package handler

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
)

// sinkView is one sink as the operator sees it.
type sinkView struct {
	Name             string              `json:"name"`
	Kind             string              `json:"kind,omitempty"`
	Configured       bool                `json:"configured"`
	ConfigError      string              `json:"config_error,omitempty"`
	QueueError       string              `json:"queue_error,omitempty"` // why Depth and Due are unknown
	Depth            int64               `json:"depth"`                 // -1: unknown
	Due              int64               `json:"due"`                   // -1: unknown
	Parked           int64               `json:"parked"`
	Kept             int64               `json:"kept"`
	Trimmed          int64               `json:"trimmed"`
	States           map[dlq.State]int64 `json:"states,omitempty"`
	Paused           bool                `json:"paused"`
	OldestAt         time.Time           `json:"oldest_at,omitzero"`
	OldestAgeSeconds int64               `json:"oldest_age_seconds"`
}

// listSinks answers with every sink that is configured or has dead letters.
func (h *api) listSinks(w http.ResponseWriter, r *http.Request) error {
	if q := readQuery(r); q.err != nil {
		return q.err
	}
	body := struct {
		Sinks            []sinkView `json:"sinks"`
		ConfigAgeSeconds int64      `json:"config_age_seconds"` // -1: no configuration
		ConfigError      string     `json:"config_error,omitempty"`
	}{Sinks: []sinkView{}, ConfigAgeSeconds: -1}

	views := map[string]*sinkView{}
	snapshot, err := h.app.Config.Get(r.Context())
	if err == nil {
		body.ConfigAgeSeconds = int64(h.app.Config.Age().Seconds())
		for _, d := range snapshot.Describe() {
			views[d.Name] = &sinkView{Name: d.Name, Kind: d.Kind, ConfigError: d.Error, Configured: true}
		}
	}
	if err = errors.Join(err, h.app.Config.LastError()); err != nil {
		body.ConfigError = err.Error()
	}
	names, err := h.queue.Sinks(r.Context())
	if err != nil {
		return err
	}
	for _, name := range names {
		if views[name] == nil {
			views[name] = &sinkView{Name: name}
		}
	}
	if err := h.fill(r.Context(), views); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(views)) {
		body.Sinks = append(body.Sinks, *views[name])
	}
	return answer(w, http.StatusOK, body)
}

// queueShare is how long one queue is asked about itself where all are: one that cannot be
// read, while its slot moves or its node is away, must not hide the others.
const queueShare = 2 * time.Second

// fill adds what the queue knows, several sinks at once. The error is that of a queue when
// none could be read.
func (h *api) fill(ctx context.Context, views map[string]*sinkView) error {
	var g errgroup.Group
	g.SetLimit(16)
	var mu sync.Mutex
	var failed error
	read := 0
	for name, v := range views {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, queueShare)
			defer cancel()
			stats, err := h.queue.Stats(ctx, name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = err
				v.QueueError, v.Depth, v.Due = problemOf(err).Detail, -1, -1
				return nil
			}
			read++
			v.set(stats)
			return nil
		})
	}
	_ = g.Wait() // its functions return nil
	if read == 0 {
		return failed
	}
	return nil
}

func (v *sinkView) set(s dlq.Stats) {
	v.Depth, v.Due, v.Parked, v.Kept, v.Trimmed = s.Depth, s.Remaining, s.Parked, s.Kept, s.Trimmed
	v.States, v.Paused, v.OldestAt = s.States, s.Paused, s.OldestAt
	if !s.OldestAt.IsZero() {
		v.OldestAgeSeconds = max(0, int64(time.Since(s.OldestAt).Seconds()))
	}
}

// pause stops or resumes a sink that is configured or has dead letters.
func (h *api) pause(paused bool) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		v := sinkView{Name: r.PathValue("name")}
		if err := fault.CheckName(v.Name); err != nil {
			return err
		}
		if err := h.known(r.Context(), &v); err != nil {
			return err
		}
		if err := h.queue.Pause(r.Context(), v.Name, paused); err != nil {
			return err
		}
		stats, err := h.queue.Stats(r.Context(), v.Name)
		if err != nil {
			return err
		}
		v.set(stats)
		h.audit(r.Context(), "sink paused or resumed", "sink", v.Name, "paused", paused)
		return answer(w, http.StatusOK, v)
	}
}

// known fills in v's configuration; SINK_NOT_FOUND when the sink is neither configured
// nor has dead letters.
func (h *api) known(ctx context.Context, v *sinkView) error {
	s, err := h.app.Config.Sink(ctx, v.Name)
	if err == nil {
		v.Configured, v.Kind = true, s.Kind
		if s.Err != nil {
			v.ConfigError = s.Err.Error()
		}
		return nil
	}
	names, qerr := h.queue.Sinks(ctx)
	if qerr != nil {
		return qerr
	}
	if slices.Contains(names, v.Name) {
		return nil
	}
	return err
}

// getDelivery tells what became of a delivery.
func (h *api) getDelivery(w http.ResponseWriter, r *http.Request) error {
	q := readQuery(r, "sink", "id")
	key := delivery.Key{Sink: q.sink(), ID: q.text("id")}
	if q.err == nil && (key.Sink == "" || key.ID == "") {
		q.fail(invalid("sink and id are both needed: one id sent to two sinks is two deliveries"))
	}
	if q.err == nil {
		q.err = fault.CheckID(key.ID)
	}
	if q.err != nil {
		return q.err
	}
	rec, known, err := h.records.Get(r.Context(), key)
	if err != nil {
		return &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "records", Cause: err}
	}
	body := struct {
		Sink      string          `json:"sink"`
		ID        string          `json:"delivery_id"`
		Status    delivery.Status `json:"status"`
		ItemID    string          `json:"item_id,omitempty"`
		UpdatedAt time.Time       `json:"updated_at,omitzero"`
	}{rec.Sink, rec.ID, rec.Status, rec.ItemID, rec.UpdatedAt}
	if !known || rec.Status == delivery.StatusDeadLettered {
		// A record is a hint: it may have expired before its dead letter was settled, and the dead
		// letter may be gone, or stored anew, without it.
		it, err := h.letterOf(r.Context(), key, rec.ItemID)
		if err != nil && known && fault.CodeOf(err) == fault.CodeDLQNotFound {
			return &fault.Error{Code: fault.CodeDLQNotFound, Msg: fmt.Sprintf(
				"it was dead-lettered at %s as %s, which is not there any more (trimmed, lost, or removed by others); a resend starts it anew",
				rec.UpdatedAt.Format(time.RFC3339), rec.ItemID)}
		}
		if err != nil {
			return err
		}
		body.Sink, body.ID, body.Status, body.ItemID, body.UpdatedAt = key.Sink, key.ID, delivery.StatusDeadLettered, it.ID, it.At
		if !it.DeliveredAt.IsZero() {
			body.Status, body.UpdatedAt = delivery.StatusDelivered, it.DeliveredAt
		}
	}
	return answer(w, http.StatusOK, body)
}

// letterOf returns the dead letter of a delivery, which may have the given id, and one that
// was kept after it was delivered too, as far as a search finds it.
func (h *api) letterOf(ctx context.Context, key delivery.Key, id string) (dlq.Item, error) {
	if id != "" {
		it, err := h.queue.Get(ctx, id)
		if err == nil && it.DeliveryID == key.ID || err != nil && fault.CodeOf(err) != fault.CodeDLQNotFound {
			return it, err
		}
	}
	it, err := h.queue.Find(ctx, key.Sink, key.ID, "")
	if fault.CodeOf(err) != fault.CodeDLQNotFound {
		return it, err
	}
	page, err := h.queue.Page(ctx, dlq.Query{Sink: key.Sink, DeliveryID: key.ID, Limit: 1})
	if err != nil {
		return it, err
	}
	if len(page.Items) == 0 {
		return it, &fault.Error{Code: fault.CodeDLQNotFound, Msg: "nothing is known of this delivery: it was never accepted, or finished too long ago"}
	}
	return page.Items[0], nil
}
