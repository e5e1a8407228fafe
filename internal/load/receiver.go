// Package load puts many deliveries through the real functions in tests: who sends them until they
// are acknowledged, as a queue and callers of the API do, and who receives them, answers as it is
// told, and knows what arrived. A delivery is its number; its body says it.
package load

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"backstop/internal/loopback"
)

// Reply is what the receiver does with a request.
type Reply struct {
	Status     int
	RetryAfter string
	Reset      bool // the connection is reset after the request was taken
	Hang       bool // no answer until the client gives up; the request was taken
}

// Always answers every request alike.
func Always(r Reply) func(float64) Reply { return func(float64) Reply { return r } }

// Sometimes answers so with probability p, and else with 200.
func Sometimes(p float64, r Reply) func(float64) Reply {
	return func(x float64) Reply {
		if x < p {
			return r
		}
		return Reply{Status: http.StatusOK}
	}
}

// Options configure a Receiver.
type Options struct {
	// N is the number of deliveries.
	N int
	// ID returns the delivery id of a delivery. Requests that have another are refused.
	ID func(i int) string
	// Answer decides about a request, given a random number in [0, 1). It is not asked once the
	// receiver is healed.
	Answer func(i int, r float64) Reply
	// Seen is told of each request, and what it is answered, before it is. Nil: nobody is.
	Seen func(i int, at time.Time, a Reply)
	// Rand is where the random numbers come from.
	Rand *rand.Rand
}

// Receiver is the receiver of all deliveries. It is safe for concurrent use. Answer, Seen and Rand are
// used by one request at a time.
type Receiver struct {
	URL string

	o        Options
	mu       sync.Mutex
	healed   bool
	arrivals [][]time.Time // requests that were taken, by delivery
	answered []uint16      // those of them that were answered with 200
}

// NewReceiver starts a receiver, until the test's end.
func NewReceiver(tb testing.TB, o Options) *Receiver {
	tb.Helper()
	ln, err := loopback.Listen(tb.Context(), "")
	if err != nil {
		tb.Fatal(err)
	}
	r := &Receiver{URL: "http://" + ln.Addr().String(), o: o, arrivals: make([][]time.Time, o.N), answered: make([]uint16, o.N)}
	srv := &http.Server{Handler: r, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(ln) }() // ends with Close
	tb.Cleanup(func() { _ = srv.Close() })
	return r
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	var sent struct {
		Body int `json:"body,string"`
	}
	err := json.NewDecoder(req.Body).Decode(&sent)
	i := sent.Body
	if err != nil || i < 0 || i >= r.o.N || req.Header.Get("Webhook-Id") != r.o.ID(i) {
		http.Error(rw, "whose is this?", http.StatusTeapot)
		return
	}
	a := r.take(i)
	if a.Hang {
		<-req.Context().Done()
	}
	if a.Hang || a.Reset {
		panic(http.ErrAbortHandler)
	}
	if a.RetryAfter != "" {
		rw.Header().Set("Retry-After", a.RetryAfter)
	}
	rw.WriteHeader(a.Status)
}

// take decides about a request and notes it.
func (r *Receiver) take(i int) Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	a := Reply{Status: http.StatusOK}
	if !r.healed {
		a = r.o.Answer(i, r.o.Rand.Float64())
	}
	if r.o.Seen != nil {
		r.o.Seen(i, now, a)
	}
	if a.Status == http.StatusOK {
		r.answered[i]++
	}
	if a.Status == http.StatusOK || a.Reset || a.Hang {
		r.arrivals[i] = append(r.arrivals[i], now)
	}
	return a
}

// Heal makes the receiver take everything from now on.
func (r *Receiver) Heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.healed = true
}

// Arrivals returns when a delivery was taken, whether or not its sender was told.
func (r *Receiver) Arrivals(i int) []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.arrivals[i]
}

// Answered is how often the sender of a delivery was told that it has arrived.
func (r *Receiver) Answered(i int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int(r.answered[i])
}
