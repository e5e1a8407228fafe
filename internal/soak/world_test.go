//go:build full

package soak

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"backstop/internal/conform"
	"backstop/internal/load"
	"backstop/internal/redisconn"
	"backstop/lib/delivery"
)

// class is how the world treats a delivery.
type class struct {
	name  string
	share int // of 1,000 deliveries
	// answer decides about one request, given a random number in [0, 1).
	answer func(r float64) load.Reply
	// blurred classes end ambiguously: the receiver took a message whose answer never
	// came, so a second copy is expected.
	blurred bool
}

// shards is over how many queues the dead letters of a class are.
func (c class) shards() int {
	switch c.name {
	case "flaky", "down", "later", "mute":
		return 3
	}
	return 1
}

// queues are those of a class, by the names that they have in Redis.
func (c class) queues() []string {
	all := []string{c.name}
	for s := 1; s < c.shards(); s++ {
		all = append(all, fmt.Sprintf("%s~%d", c.name, s))
	}
	return all
}

var classes = []class{
	{"ok", 655, load.Always(load.Reply{Status: 200}), false},
	{"paced", 10, load.Always(load.Reply{Status: 200}), false}, // more than its rate
	{"flaky", 120, load.Sometimes(0.4, load.Reply{Status: 503}), false},
	{"down", 100, load.Always(load.Reply{Status: 503}), false},
	{"gone", 30, load.Always(load.Reply{Status: 404}), false},
	{"invalid", 20, nil, false}, // a recipient that cannot be sent to
	{"later", 20, load.Sometimes(0.5, load.Reply{Status: 429, RetryAfter: "1"}), false},
	{"reset", 25, load.Sometimes(0.5, load.Reply{Reset: true}), true},
	{"hang", 5, load.Sometimes(0.3, load.Reply{Hang: true}), true},
	{"mute", 15, load.Sometimes(0.8, load.Reply{Reset: true}), true},
}

// world is the receiver, and the truth about what arrived.
type world struct {
	*load.Receiver
	seed  uint64
	class []uint8 // by delivery
	terms []terms

	seen map[int][]time.Time    // when requests came, whatever they were answered, of deliveries with terms
	also atomic.Pointer[func()] // is told of each request too, before it is answered; nil: nothing is

	checker *conform.Checker
}

func newWorld(tb testing.TB, n int, seed uint64) *world {
	tb.Helper()
	w := &world{seed: seed, class: make([]uint8, n), terms: make([]terms, n), seen: map[int][]time.Time{}}
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range w.class {
		if twin(i) {
			w.class[i] = w.class[i-1]
			continue
		}
		at := r.IntN(1000)
		for c, k := range classes {
			if at -= k.share; at < 0 {
				w.class[i] = uint8(c)
				break
			}
		}
		w.terms[i] = newTerms(r, i, w.classOf(i))
	}
	w.Receiver = load.NewReceiver(tb, load.Options{N: n, ID: w.id, Answer: w.answer, Seen: w.see, Rand: r})
	w.checker = w.newChecker(tb)
	return w
}

func (w *world) answer(i int, r float64) load.Reply { return w.classOf(i).answer(r) }

func (w *world) see(i int, at time.Time, a load.Reply) {
	w.checker.Arrived(w.unit(i), contentOf(i), at, a.Status == http.StatusOK || a.Reset || a.Hang, a.Status == http.StatusOK)
	if w.terms[i] != (terms{}) || wayOf(i) == later {
		w.seen[i] = append(w.seen[i], at)
	}
	if tell := w.also.Load(); tell != nil {
		(*tell)()
	}
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
		text := fmt.Sprintf("kind: webhook\nurl: %s/%s\nretry: {max_attempts: 3, base_backoff: 10ms, attempt_timeout: %s}\nreplay: {concurrency: 16}\n", w.URL, c.name, attemptTimeout)
		if c.name == "paced" {
			text += fmt.Sprintf("rate: {per_second: %d}\n", w.pace())
		}
		if c.name == "mute" { // each is tried
			text += "breaker: off\n"
		}
		if n := c.shards(); n > 1 {
			text += fmt.Sprintf("shards: %d\n", n)
		}
		if err := os.WriteFile(filepath.Join(dir, c.name+".yaml"), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return "file:" + dir
}

// record names where a delivery's record is: its own key, the buckets, and its field in these.
func (w *world) record(i int) (keys []string, field string) {
	return redisconn.New(nil, redisconn.DefaultPrefix, "").Keys.Record(w.classOf(i).name, w.id(i), delivery.DefaultTTL, "")
}

// What is sent: nothing can be sent to nowhere.
const (
	nowhere = `{"url":"ftp://nowhere"}`
	subject = "soak"
)

// request is the bare request of a delivery, with more fields.
func (w *world) request(i int, more string) string {
	c := w.classOf(i)
	recipient := "null"
	if c.name == "invalid" {
		recipient = nowhere
	}
	return fmt.Sprintf(`{"id":%q,"sink":%q,"recipient":%s,"message":{"subject":%q,"body":"%d"}%s}`, w.id(i), c.name, recipient, subject, i, more)
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
			j.w.checker.Blind(j.w.unit(i))
		case reused:
			j.reused[i] = true
		case refused && l.Status == "handed_back":
			j.refused[i] = append(j.refused[i], time.Now())
		}
	}
}
