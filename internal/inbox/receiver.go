package inbox

import (
	"cmp"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxBody bounds what the receiver reads of a request, in bytes.
const maxBody = 16 << 20

// Arrival is one request that reached the receiver.
type Arrival struct {
	At     time.Time   `json:"at"`
	Method string      `json:"method"`
	Path   string      `json:"path"`
	Header http.Header `json:"header"`
	Body   string      `json:"body"`
	// Status is the status it was answered with; 0 for a Fault.
	Status int   `json:"status"`
	Fault  Fault `json:"fault,omitempty"`
}

// ID is the arrival's webhook-id; empty when it has none.
func (a Arrival) ID() string { return a.Header.Get("Webhook-Id") }

// Accepted reports whether the arrival was answered with success.
func (a Arrival) Accepted() bool { return a.Status >= 200 && a.Status < 300 }

// Receiver is an HTTP handler that records every request, whatever its path, and
// answers by the path's script. Where there is none, the service answers that the path
// belongs to (PathTelegram and the others), or 200 "ok". It is safe for concurrent use.
type Receiver struct {
	providers providers

	closed    chan struct{}
	closeOnce sync.Once

	mu       sync.Mutex
	scripts  map[string]*scripted
	arrivals []Arrival
}

// NewReceiver returns a receiver without scripts.
func NewReceiver() *Receiver {
	return &Receiver{closed: make(chan struct{}), scripts: map[string]*scripted{}}
}

// Set scripts a path, from its next request on.
func (r *Receiver) Set(path string, s Script) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scripts[path] = &scripted{script: s}
}

// Heal removes a path's script. Requests that hang stay as they are.
func (r *Receiver) Heal(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.scripts, path)
}

// Broken returns the paths that have a script, sorted.
func (r *Receiver) Broken() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.scripts))
}

// Arrivals returns what arrived so far, oldest first.
func (r *Receiver) Arrivals() []Arrival {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.arrivals)
}

// CountByID counts the arrivals that keep wants (nil: all) by their webhook-id;
// arrivals without one are counted under "". CountByID(Arrival.Accepted) counts
// deliveries.
func (r *Receiver) CountByID(keep func(Arrival) bool) map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := map[string]int{}
	for _, a := range r.arrivals {
		if keep == nil || keep(a) {
			counts[a.ID()]++
		}
	}
	return counts
}

// Close ends hanging and dripping requests, now and from now on.
func (r *Receiver) Close() { r.closeOnce.Do(func() { close(r.closed) }) }

// ServeHTTP records the request, then answers.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, maxBody))
	if err != nil {
		return // it never arrived
	}
	reply := r.record(req.Host, Arrival{
		At: time.Now().UTC(), Method: req.Method, Path: req.URL.Path, Header: req.Header.Clone(), Body: string(body),
	})
	switch reply.Fault {
	case Hang:
		wait[struct{}](r, req, nil)
		panic(http.ErrAbortHandler)
	case Drip:
		r.drip(w, req, cmp.Or(reply.Status, http.StatusOK))
	case Reset, Drop:
		hangUp(w, reply.Fault == Reset)
	default:
		if reply.Wait != nil && !wait(r, req, reply.Wait) {
			panic(http.ErrAbortHandler)
		}
		if reply.RetryAfter != "" {
			w.Header().Set("Retry-After", reply.RetryAfter)
		}
		if reply.ContentType != "" {
			w.Header().Set("Content-Type", reply.ContentType)
		}
		w.WriteHeader(reply.Status)
		_, _ = io.Copy(w, strings.NewReader(reply.Body))
	}
}

// record adds the arrival, which was sent to host, with its reply.
func (r *Receiver) record(host string, a Arrival) Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	reply := r.scripts[a.Path].next()
	if reply == (Reply{}) {
		reply = r.providers.reply(a, host)
	}
	if reply.Fault == "" {
		if reply.Status == 0 {
			reply.Status = http.StatusOK
		}
		if reply.Body == "" {
			reply.Body = "ok"
		}
	}
	a.Fault = reply.Fault
	if reply.Fault == "" {
		a.Status = reply.Status
	}
	r.arrivals = append(r.arrivals, a)
	return reply
}

// wait returns false when the client has gone or the receiver is closed, and true
// when there is something to receive first.
func wait[T any](r *Receiver, req *http.Request, c <-chan T) bool {
	select {
	case <-c:
		return true
	case <-req.Context().Done():
	case <-r.closed:
	}
	return false
}

func (r *Receiver) drip(w http.ResponseWriter, req *http.Request, status int) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	w.WriteHeader(status)
	for {
		_, _ = w.Write([]byte("."))
		if http.NewResponseController(w).Flush() != nil || !wait(r, req, ticker.C) {
			panic(http.ErrAbortHandler)
		}
	}
}

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter, reset bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: a stream reset
	}
	closeConn(conn, reset)
}

func closeConn(conn net.Conn, reset bool) {
	if tcp, ok := conn.(interface{ SetLinger(sec int) error }); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
