package handler

import (
	"net/http"

	"backstop/internal/observe"
	"backstop/lib/delivery"
	"backstop/lib/fault"
)

// readKey reads which delivery is asked about.
func readKey(r *http.Request) (delivery.Key, error) {
	q := readQuery(r, "sink", "id")
	k := delivery.Key{Sink: q.sink(), ID: q.text("id")}
	for _, name := range []string{"sink", "id"} {
		if q.err == nil && q.text(name) == "" {
			q.fail(invalid("%s is missing: one id sent to two sinks is two deliveries, so both are needed", name))
		}
	}
	if q.err == nil {
		q.err = fault.CheckID(k.ID)
	}
	return k, q.err
}

// getDelivery tells the way of a delivery.
func (h *api) getDelivery(w http.ResponseWriter, r *http.Request) error {
	k, err := readKey(r)
	if err != nil {
		return err
	}
	way, err := (&delivery.Tracker{Records: h.records, Letters: h.queue}).Track(r.Context(), k)
	if err != nil {
		return err
	}
	return answer(w, http.StatusOK, way)
}

// cancelDelivery takes a delivery back that was not sent yet, known or not: its message may be
// on its way in a queue. Sinks are checked, for a misspelled one would look as if it were
// canceled.
func (h *api) cancelDelivery(w http.ResponseWriter, r *http.Request) error {
	k, err := readKey(r)
	if err != nil {
		return err
	}
	if err := h.known(r.Context(), &sinkView{Name: k.Sink}); err != nil {
		return err
	}
	c, err := h.app.Canceler.Cancel(r.Context(), k)
	if err != nil {
		return err
	}
	if !c.Before {
		h.app.Metrics.Add(observe.Canceled, k.Sink, 1)
	}
	h.audit(r.Context(), "canceled", "delivery_id", k.ID, "sink", k.Sink,
		"known", c.Known, "may_have_arrived", c.MayHaveArrived, "before", c.Before)
	return answer(w, http.StatusOK, c)
}
