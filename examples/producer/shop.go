package main

import (
	"cmp"
	"encoding/json"
	"html"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"backstop/client"

	"example.org/team/producer/notify"
)

// shop answers requests of the warehouse.
type shop struct {
	backstop notify.Sender
	log      *slog.Logger
}

// order is what the warehouse says of one that left the house.
type order struct {
	ID    string `json:"id"`
	Email string `json:"email"`
}

// ServeHTTP answers 204 when every customer was told or will be. Otherwise the messages of the
// orders that it names are still the caller's: 503, which may simply be repeated, all of
// it, since the ids make repetitions harmless; or 422, which may not.
func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/shipped" {
		http.Error(w, "want POST /shipped", http.StatusNotFound)
		return
	}
	var orders []order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&orders); err != nil {
		http.Error(w, "want a list of orders: "+err.Error(), http.StatusBadRequest)
		return
	}
	messages, err := shipped(orders)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.answer(w, r, s.backstop.Send(r.Context(), messages...))
}

// shipped returns a message for each order. Its id is made of what happened, so that the
// second call for an order, whoever makes it and when, makes the same message.
func shipped(orders []order) (messages []client.SendRequest, err error) {
	for _, o := range orders {
		to, err := json.Marshal(map[string]string{"address": o.Email})
		if err != nil {
			return nil, err
		}
		messages = append(messages, client.SendRequest{
			ID:        "order-" + o.ID + "-shipped",
			Sink:      "orders",
			Recipient: json.RawMessage(to),
			Message: client.SendMessage{
				Subject: "Your order is on its way",
				Body:    "<p>Order " + html.EscapeString(o.ID) + " has left our house.</p>", // HTML, for the sink sends email
			},
		})
	}
	return messages, nil
}

func (s *shop) answer(w http.ResponseWriter, r *http.Request, back []notify.HandedBack) {
	if len(back) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	status := http.StatusUnprocessableEntity
	var after time.Duration
	ids := make([]string, len(back))
	for i, h := range back {
		s.log.ErrorContext(r.Context(), "handed back", "id", h.Message.ID, "again", h.Again, "error", h.Err)
		ids[i] = h.Message.ID
		if h.Again {
			status, after = http.StatusServiceUnavailable, max(after, h.After)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(cmp.Or(after, time.Second).Seconds()))))
	}
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(map[string][]string{"handed_back": ids}); err != nil {
		s.log.WarnContext(r.Context(), "the answer was not read", "error", err)
	}
}
