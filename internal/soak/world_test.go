//go:build full

package soak

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// class is how the world treats a delivery.
type class struct {
	name  string
	share int // of 1,000 deliveries
	// answer decides about one request, given a random number in [0, 1).
	answer func(r float64) reply
	// blurred classes end ambiguously: the receiver took a message whose answer never
	// came, so a second copy is expected.
	blurred bool
}

type reply struct {
	status     int
	retryAfter string
	reset      bool // the connection is reset after the request was taken
	hang       bool // no answer until the client gives up; the request was taken
}

func always(r reply) func(float64) reply { return func(float64) reply { return r } }

func sometimes(p float64, r reply) func(float64) reply {
	return func(x float64) reply {
		if x < p {
			return r
		}
		return reply{status: http.StatusOK}
	}
}

var classes = []class{
	{"ok", 695, always(reply{status: 200}), false},
	{"paced", 10, always(reply{status: 200}), false}, // more than its rate
	{"flaky", 120, sometimes(0.4, reply{status: 503}), false},
	{"down", 60, always(reply{status: 503}), false},
	{"gone", 30, always(reply{status: 404}), false},
	{"invalid", 20, nil, false}, // a recipient that cannot be sent to
	{"later", 20, sometimes(0.5, reply{status: 429, retryAfter: "1"}), false},
	{"reset", 25, sometimes(0.5, reply{reset: true}), true},
	{"hang", 5, sometimes(0.3, reply{hang: true}), true},
	{"mute", 15, sometimes(0.8, reply{reset: true}), true},
}

// world is the receiver, and the truth about what arrived.
type world struct {
	url    string
	seed   uint64
	class  []uint8 // by delivery
	terms  []terms
	healed bool

	mu       sync.Mutex
	accepted []uint16            // requests answered with 200, by delivery
	taken    []uint16            // requests taken but not answered, by delivery
	seen     map[int][]time.Time // when requests came, whatever they were answered, of deliveries with terms
	rand     *rand.Rand
}

func newWorld(tb testing.TB, n int, seed uint64) *world {
	tb.Helper()
	w := &world{seed: seed, class: make([]uint8, n), terms: make([]terms, n), seen: map[int][]time.Time{}, accepted: make([]uint16, n), taken: make([]uint16, n), rand: rand.New(rand.NewPCG(seed, 1))}
	for i := range w.class {
		if twin(i) {
			w.class[i] = w.class[i-1]
			continue
		}
		at := w.rand.IntN(1000)
		for c, k := range classes {
			if at -= k.share; at < 0 {
				w.class[i] = uint8(c)
				break
			}
		}
		w.terms[i] = newTerms(w.rand, i, w.classOf(i))
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	srv := &http.Server{Handler: w, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = srv.Serve(ln) }()
	tb.Cleanup(func() { _ = srv.Close() })
	w.url = "http://" + ln.Addr().String()
	return w
}

func (w *world) classOf(i int) class { return classes[w.class[i]] }

// twin tells whether a delivery has the id and the sink of the one before it, and other
// content.
func twin(i int) bool { return i%25 == 24 }

// id names a delivery. Its body, which says i, identifies it.
func (w *world) id(i int) string {
	if twin(i) {
		i--
	}
	return fmt.Sprintf("soak-%d-%d", w.seed, i)
}

// sharing returns the deliveries that have an id; none when it is not of this run.
func (w *world) sharing(id string) []int {
	i, ok := w.index(id)
	switch {
	case !ok:
		return nil
	case i+1 < len(w.class) && twin(i+1):
		return []int{i, i + 1}
	}
	return []int{i}
}

func (w *world) index(id string) (int, bool) {
	n, ok := strings.CutPrefix(id, fmt.Sprintf("soak-%d-", w.seed))
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(n)
	return i, err == nil && i >= 0 && i < len(w.class)
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	var sent struct {
		Body int `json:"body,string"`
	}
	err := json.NewDecoder(r.Body).Decode(&sent)
	i := sent.Body
	if err != nil || i < 0 || i >= len(w.class) || r.Header.Get("Webhook-Id") != w.id(i) {
		http.Error(rw, "whose is this?", http.StatusTeapot)
		return
	}
	at := time.Now()
	w.mu.Lock()
	if w.terms[i] != (terms{}) || wayOf(i) == later {
		w.seen[i] = append(w.seen[i], at)
	}
	a := reply{status: http.StatusOK}
	if !w.healed {
		a = w.classOf(i).answer(w.rand.Float64())
	}
	switch {
	case a.status == http.StatusOK:
		w.accepted[i]++
	case a.reset || a.hang:
		w.taken[i]++
	}
	w.mu.Unlock()
	switch {
	case a.hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case a.reset:
		panic(http.ErrAbortHandler)
	}
	if a.retryAfter != "" {
		rw.Header().Set("Retry-After", a.retryAfter)
	}
	rw.WriteHeader(a.status)
}

func (w *world) heal() {
	w.mu.Lock()
	w.healed = true
	w.mu.Unlock()
}

// arrived is how often a delivery reached the receiver.
func (w *world) arrived(i int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return int(w.accepted[i]) + int(w.taken[i])
}

const attemptTimeout = 300 * time.Millisecond

// pace is what the receiver of the class "paced" takes in a second.
func (w *world) pace() int { return max(2, len(w.class)/25_000) }

// pacing is how long it takes to take all of them.
func (w *world) pacing() time.Duration {
	n := 0
	for i := range w.class {
		if w.classOf(i).name == "paced" {
			n++
		}
	}
	return time.Duration(n) * time.Second / time.Duration(w.pace())
}

// sinks writes a configuration with a sink per class.
func (w *world) sinks(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for _, c := range classes {
		text := fmt.Sprintf("kind: webhook\nurl: %s/%s\nretry: {max_attempts: 3, base_backoff: 10ms, attempt_timeout: %s}\nreplay: {concurrency: 16}\n", w.url, c.name, attemptTimeout)
		if c.name == "paced" {
			text += fmt.Sprintf("rate: {per_second: %d}\n", w.pace())
		}
		if c.name == "mute" { // each is tried
			text += "breaker: off\n"
		}
		if err := os.WriteFile(filepath.Join(dir, c.name+".yaml"), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return "file:" + dir
}

// record is the key of a delivery's record.
func (w *world) record(i int) string {
	sum := sha256.Sum256([]byte(w.classOf(i).name + "\x00" + w.id(i)))
	return fmt.Sprintf("backstop:delivery:%x", sum[:16])
}

// request is the bare request of a delivery, with more fields.
func (w *world) request(i int, more string) string {
	c := w.classOf(i)
	recipient := "null"
	if c.name == "invalid" {
		recipient = `{"url":"ftp://nowhere"}`
	}
	return fmt.Sprintf(`{"id":%q,"sink":%q,"recipient":%s,"message":{"subject":"soak","body":"%d"}%s}`, w.id(i), c.name, recipient, i, more)
}

// journal collects what the functions logged about deliveries.
type journal struct {
	w  *world
	mu sync.Mutex
	// unguarded deliveries had an idempotency record that could not be read or written.
	unguarded map[int]bool
	// unanswered deliveries had an attempt that was sent and not answered in time.
	unanswered map[int]bool
	// refused is when a delivery was handed back because the queue could not be reached.
	refused map[int][]time.Time
	// reused deliveries were handed back because their id was used for other content.
	reused map[int]bool
	lines  int
}

func (j *journal) line(_, line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines++
	record := strings.Contains(line, "idempotency record not available")
	refused := strings.Contains(line, "SINK_DLQ_UNAVAILABLE")
	unanswered := strings.Contains(line, `"unanswered"`)
	reused := strings.Contains(line, `"reason":"ID_REUSED"`)
	if !record && !refused && !unanswered && !reused {
		return
	}
	var l struct {
		ID         string `json:"delivery_id"`
		Status     string `json:"status"`
		Unanswered int    `json:"unanswered"`
	}
	if json.Unmarshal([]byte(line), &l) != nil {
		return
	}
	for _, i := range j.w.sharing(l.ID) {
		if l.Unanswered > 0 {
			j.unanswered[i] = true
		}
		switch {
		case record:
			j.unguarded[i] = true
		case reused:
			j.reused[i] = true
		case refused && l.Status == "handed_back":
			j.refused[i] = append(j.refused[i], time.Now())
		}
	}
}
