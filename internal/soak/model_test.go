//go:build full

package soak

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"

	"backstop/internal/conform"
	"backstop/internal/local"
	"backstop/internal/localqueue"
	"backstop/lib/dlq"
)

// newChecker has the run asked of the model.
func (w *world) newChecker(tb testing.TB) *conform.Checker {
	tb.Helper()
	records := make(map[string]int, len(w.class))
	for i := range w.class {
		if !twin(i) {
			keys, _ := w.record(i)
			records[keys[0]] = i
		}
	}
	return conform.New(conform.Options{
		N:      len(w.class),
		Name:   func(i int) string { return fmt.Sprintf("%s (%s)", w.id(i), w.classOf(i).name) },
		Record: func(key string) (int, bool) { i, ok := records[key]; return i, ok },
		Delivery: func(sink, id, body string) (i, content int, ok bool) {
			i, err := strconv.Atoi(body)
			if err != nil || i < 0 || i >= len(w.class) || w.id(i) != id || w.classOf(i).name != sink {
				return 0, 0, false
			}
			return w.unit(i), contentOf(i), true
		},
		Shard: func(i int) int { return dlq.Shard(w.id(i), w.classOf(i).shards()) },
		Fingerprints: func(i int) (all []string) {
			for _, i := range w.sharing(w.id(i)) {
				all = append(all, w.fingerprint(i))
			}
			return all
		},
		Failed: func(text string) {
			tb.Error(text)
			_, _ = fmt.Fprintln(os.Stdout, text) // at once
		},
	})
}

// unit is the first delivery of an id, and contentOf which of its contents a delivery has.
func (w *world) unit(i int) int { return i - contentOf(i) }

func contentOf(i int) int {
	if twin(i) {
		return 1
	}
	return 0
}

func (w *world) fingerprint(i int) string {
	var recipient json.RawMessage
	if w.classOf(i).name == "invalid" {
		recipient = json.RawMessage(nowhere)
	}
	return dlq.ContentFingerprint(recipient, subject, strconv.Itoa(i), nil)
}

// message is something that happened in the stack's queue.
func (w *world) message(e localqueue.Event) {
	var body struct{ ID string }
	if json.Unmarshal([]byte(e.Body), &body) != nil || e.Queue != local.QueueName {
		return
	}
	for _, i := range w.sharing(body.ID) {
		switch e.What {
		case localqueue.Sent:
			w.checker.Message(i, 1)
		case localqueue.Received:
			w.checker.Received(i)
		case localqueue.Deleted:
			w.checker.Message(i, -1)
		}
	}
}
