package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"backstop/internal/redistest"
)

// entry is a dead letter as it stands in the stream.
type entry struct {
	at     time.Time
	reason string
}

// readDeadLetters reads every stream, past the proxy and past our code.
func readDeadLetters(t *testing.T, server *redistest.Server, w *world) map[int][]entry {
	t.Helper()
	client := server.Client(t)
	entries := map[int][]entry{}
	for _, c := range classes {
		messages, err := client.XRange(context.Background(), "backstop:dlq:"+c.name, "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			var it struct {
				DeliveryID string `json:"delivery_id"`
				Reason     string `json:"reason"`
				Message    struct {
					Body int `json:"body,string"`
				} `json:"message"`
			}
			raw, _ := m.Values["item"].(string)
			if err := json.Unmarshal([]byte(raw), &it); err != nil {
				t.Fatalf("entry %s: %v", m.ID, err)
			}
			i := it.Message.Body
			if i < 0 || i >= len(w.class) || w.id(i) != it.DeliveryID {
				t.Fatalf("entry %s belongs to no delivery: %s", m.ID, raw)
			}
			var ms int64
			if _, err := fmt.Sscanf(m.ID, "%d-", &ms); err != nil {
				t.Fatal(err)
			}
			entries[i] = append(entries[i], entry{time.UnixMilli(ms), it.Reason})
		}
	}
	return entries
}

// result is the account of a run.
type result struct {
	accepted, delivered, deadLettered, refused int
	both, duplicates                           int
	reused, evicted                            int
	handedBackEvents, storedAndHandedBack      int
	replayed, notReplayed                      int
	reasons                                    map[string]int
	faults                                     []string
}

func (r *result) fault(format string, args ...any) {
	if len(r.faults) < 20 {
		r.faults = append(r.faults, fmt.Sprintf(format, args...))
	}
}

// reconcile holds every delivery against what arrived and what is stored.
func (s *soak) reconcile(entries map[int][]entry, drops []time.Time, restarts [][2]time.Time) *result {
	r := &result{accepted: len(s.fates), evicted: int(s.evicted.Load()), reasons: map[string]int{}}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for i, f := range s.fates {
		stored, arrived := entries[i], s.w.arrived(i)
		c := s.w.classOf(i)
		explained := c.blurred || f.killed || s.log.unguarded[i] || s.log.unanswered[i]
		r.handedBackEvents += f.handedBack
		for _, e := range stored {
			r.reasons[e.reason]++
		}
		switch {
		case len(stored) > 1:
			r.fault("%s (%s) is stored %d times", s.w.id(i), c.name, len(stored))
		case len(stored) == 1:
			r.deadLettered++
		case arrived > 0:
			r.delivered++
		case f.acked:
			r.fault("%s (%s) is LOST: acknowledged, and neither arrived nor stored", s.w.id(i), c.name)
		default:
			r.refused++
			if !f.reused && c.name != "invalid" {
				r.fault("%s (%s) was given up without a reason", s.w.id(i), c.name)
			}
			if f.reused {
				r.reused++
			}
		}
		if len(stored) > 0 && arrived > 0 {
			r.both++
			if !explained {
				r.fault("%s (%s) arrived and is stored, without a reason", s.w.id(i), c.name)
			}
		}
		if arrived > 1 {
			r.duplicates++
			if !explained {
				r.fault("%s (%s) arrived %d times, without a reason", s.w.id(i), c.name, arrived)
			}
		}
		for _, at := range s.log.refused[i] {
			if len(stored) == 0 || !stored[0].at.Before(at) {
				continue
			}
			r.storedAndHandedBack++
			if !lostBetween(stored[0].at, at, drops, restarts) {
				r.fault("%s (%s) was stored and handed back, and no reply was lost in between", s.w.id(i), c.name)
			}
		}
	}
	return r
}

// lostBetween reports whether a reply of Redis was lost in a span of time.
func lostBetween(from, to time.Time, drops []time.Time, restarts [][2]time.Time) bool {
	const slack = 100 * time.Millisecond
	from, to = from.Add(-slack), to.Add(slack)
	return slices.ContainsFunc(drops, func(at time.Time) bool { return at.After(from) && at.Before(to) }) ||
		slices.ContainsFunc(restarts, func(r [2]time.Time) bool { return r[0].Before(to) && r[1].After(from) })
}

// reconcileReplay checks that what was due has arrived and is gone, and that the rest
// is still there.
func (s *soak) reconcileReplay(t *testing.T, before, after map[int][]entry) (replayed, kept int) {
	t.Helper()
	for i, stored := range before {
		held := stored[0].reason == "terminal" || stored[0].reason == "invalid" || stored[0].reason == "ambiguous"
		switch {
		case held && len(after[i]) == 1:
			kept++
		case held:
			t.Errorf("%s (%s) must wait for an operator and is gone", s.w.id(i), stored[0].reason)
		case len(after[i]) > 0:
			t.Errorf("%s (%s) was due and is still there", s.w.id(i), stored[0].reason)
		case s.w.arrived(i) == 0:
			t.Errorf("%s (%s) is LOST: replayed and never arrived", s.w.id(i), stored[0].reason)
		default:
			replayed++
		}
	}
	return replayed, kept
}

func (r *result) print(out io.Writer, seed uint64, took time.Duration, restarts, kills, drops, runs int) {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	defer func() { _ = t.Flush() }()
	row := func(what string, n any) { _, _ = fmt.Fprintf(t, "  %s\t%v\n", what, n) }
	_, _ = fmt.Fprintf(t, "\nsoak: seed %d, %s\n\n", seed, took.Round(time.Second))
	row("deliveries accepted", r.accepted)
	row("  delivered", r.delivered)
	row("  dead-lettered", r.deadLettered)
	for _, reason := range slices.Sorted(maps.Keys(r.reasons)) {
		row("    "+reason, r.reasons[reason])
	}
	row("  refused for good (the caller's)", r.refused)
	row("    other content under a used id", r.reused)
	row("records evicted", r.evicted)
	row("handed back and sent again", r.handedBackEvents)
	row("stored and handed back, reply lost", r.storedAndHandedBack)
	row("arrived more than once, explained", r.duplicates)
	row("arrived and stored, explained", r.both)
	row("Redis restarts", restarts)
	row("processes killed", kills)
	row("Redis replies dropped", drops)
	row(fmt.Sprintf("replayed in %d runs", runs), r.replayed)
	row("left for the operator", r.notReplayed)
	lost := r.accepted - r.delivered - r.deadLettered - r.refused
	_, _ = fmt.Fprintf(t, "\nsoak: accepted=%d delivered=%d dead_lettered=%d refused=%d lost=%d unexplained=%d\n",
		r.accepted, r.delivered, r.deadLettered, r.refused, lost, len(r.faults))
}
