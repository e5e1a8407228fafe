//go:build full

package wipe

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
	"testing"
	"time"

	"backstop/internal/load"
)

// class is how the receiver treats the deliveries of a sink.
type class struct {
	name         string
	share        int    // of 1,000 deliveries
	more, replay string // more of its configuration, and of how it is replayed
}

// One in twenty deliveries fails at first. What waits for an operator in the end has room in the queue.
var classes = []class{
	{"ok", 900, "", ""},
	{"flaky", 40, "breaker: off", ""}, // three in ten requests fail
	// Down for a tenth of the run, then up for one, and so on.
	{"waves", 44, "breaker: {probe_every: 1s, least: 5}", ""},
	{"down", 10, "breaker: off", ""},                 // until it is healed
	{"stuck", 2, "breaker: off", ", max_replays: 1"}, // likewise, and parked by its first replay
	{"turned", 2, "breaker: off", ""},                // down at first, then it takes none: held by its first replay
	{"gone", 2, "", ""},                              // takes none: never due
}

// room is how many dead letters of a sink Redis takes: fewer than fail.
func room(n int) int { return max(8, n/400) }

// world is the receiver, and what the functions said.
type world struct {
	*load.Receiver
	seed     uint64
	class    []uint8 // by delivery
	requests map[int]int
	progress func() float64
}

func newWorld(tb testing.TB, n int, seed uint64) *world {
	tb.Helper()
	w := &world{seed: seed, class: make([]uint8, n), requests: map[int]int{}, progress: func() float64 { return 0 }}
	r := rand.New(rand.NewPCG(seed, 1))
	for from := 0; from < n; from += 1000 { // the shares are exact: what an operator decides about must fit
		var thousand []uint8
		for c, k := range classes {
			for range k.share {
				thousand = append(thousand, uint8(c))
			}
		}
		r.Shuffle(len(thousand), func(i, j int) { thousand[i], thousand[j] = thousand[j], thousand[i] })
		copy(w.class[from:], thousand)
	}
	w.Receiver = load.NewReceiver(tb, load.Options{N: n, ID: w.id, Answer: w.answer, Rand: r})
	return w
}

func (w *world) classOf(i int) class { return classes[w.class[i]] }

func (w *world) id(i int) string { return fmt.Sprintf("wipe-%d-%d", w.seed, i) }

// index is the delivery of an id.
func (w *world) index(id string) (int, bool) {
	text, ok := strings.CutPrefix(id, fmt.Sprintf("wipe-%d-", w.seed))
	i, err := strconv.Atoi(text)
	return i, ok && err == nil && i >= 0 && i < len(w.class)
}

func (w *world) answer(i int, r float64) load.Reply {
	status := http.StatusOK
	w.requests[i]++
	switch w.classOf(i).name {
	case "flaky":
		if r < 0.3 {
			status = http.StatusServiceUnavailable
		}
	case "waves":
		if int(w.progress()*10)%2 == 0 {
			status = http.StatusServiceUnavailable
		}
	case "down", "stuck":
		status = http.StatusServiceUnavailable
	case "gone":
		status = http.StatusNotFound
	case "turned":
		if status = http.StatusServiceUnavailable; w.requests[i] > 1 {
			status = http.StatusNotFound
		}
	}
	return load.Reply{Status: status}
}

// sinks writes a configuration with a sink per class.
func (w *world) sinks(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	for _, c := range classes {
		text := fmt.Sprintf("kind: webhook\nurl: %s/%s\nretry: {max_attempts: 1, attempt_timeout: 2s}\n"+
			"replay: {concurrency: 8, base_delay: 100ms, max_delay: 1s%s}\n%s\n", w.URL, c.name, c.replay, c.more)
		if err := os.WriteFile(filepath.Join(dir, c.name+".yaml"), []byte(text), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	return "file:" + dir
}

// request is the bare request of a delivery.
func (w *world) request(i int) string {
	return fmt.Sprintf(`{"id":%q,"sink":%q,"message":{"subject":"wipe","body":"%d"}}`, w.id(i), w.classOf(i).name, i)
}

// log collects what the functions said of deliveries.
type log struct {
	w  *world
	mu sync.Mutex
	// As in history, by delivery.
	unsure, unguarded, unrecorded, recorded map[int][]time.Time
	// failed counts warnings by their message.
	failed map[string]int
	// last are the newest warnings that are about no single delivery, for whoever looks into a failure.
	last []string
}

func newLog(w *world) *log {
	return &log{
		w: w, unsure: map[int][]time.Time{}, unguarded: map[int][]time.Time{}, unrecorded: map[int][]time.Time{}, recorded: map[int][]time.Time{},
		failed: map[string]int{},
	}
}

func (l *log) line(function, text string) {
	warns := strings.Contains(text, `"level":"WARN"`) || strings.Contains(text, `"level":"ERROR"`)
	if !warns && !strings.Contains(text, `"delivery_id"`) {
		return
	}
	var line struct {
		Message string `json:"message"`
		ID      string `json:"delivery_id"`
		Status  string `json:"status"`
		Reason  string `json:"reason"`
	}
	if json.Unmarshal([]byte(text), &line) != nil {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if warns {
		l.failed[line.Message]++
	}
	if warns && line.ID == "" { // those of deliveries are told with them
		if l.last = append(l.last, function+" | "+text); len(l.last) > 50 {
			l.last = l.last[1:]
		}
	}
	i, ok := l.w.index(line.ID)
	if !ok {
		return
	}
	note := func(m map[int][]time.Time) { m[i] = append(m[i], now) }
	switch {
	case strings.Contains(line.Message, "idempotency record not available"):
		note(l.unguarded)
	case line.Message == "replay not recorded":
		note(l.unrecorded)
	case line.Status == "delivered" && (line.Message == "delivery" || line.Message == "replay"):
		note(l.recorded)
	case line.Status == "handed_back" && line.Reason == "SINK_DLQ_UNAVAILABLE":
		note(l.unsure)
	}
}
