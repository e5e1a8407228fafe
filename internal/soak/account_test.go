//go:build full

package soak

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"backstop/internal/load"
	"backstop/internal/locals3"
	"backstop/internal/redistest"
	"backstop/lib/dlq"
)

// entry is a dead letter as it stands in the stream.
type entry struct {
	id      string // as the API names it; empty where it is spilled
	at      time.Time
	reason  string
	expires time.Time
	spilled bool // the journal has it, and the queue does not
	waits   bool // for the schedule to mark it as expired, or for its expiry
}

// deadLetters reads every stream, past the proxy and past our code, and what the journal has for the queue.
func (s *soak) deadLetters(t *testing.T, server *redistest.Server) map[int][]entry {
	t.Helper()
	client := server.Client(t)
	entries := map[int][]entry{}
	for _, queue := range queues() {
		messages, err := client.XRange(context.Background(), "backstop:dlq:"+queue, "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		unmarked, err := client.ZRange(context.Background(), "{backstop:dlq:"+queue+"}:expires", 0, -1).Result()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range messages {
			raw, _ := m.Values["item"].(string)
			i, e := s.read(t, raw)
			var ms int64
			if _, err := fmt.Sscanf(m.ID, "%d-", &ms); err != nil {
				t.Fatal(err)
			}
			e.id, e.at, e.waits = dlq.ID{Sink: s.w.classOf(i).name, Native: m.ID}.String(), time.UnixMilli(ms), slices.Contains(unmarked, m.ID)
			entries[i] = append(entries[i], e)
		}
	}
	for _, l := range s.spilled() {
		for text := range strings.SplitSeq(strings.TrimSuffix(string(l.Body), "\n"), "\n") {
			if text == "null" {
				continue
			}
			// What the queue has as well is one, and what was canceled meanwhile does not come back.
			if i, e := s.read(t, text); len(entries[i]) == 0 && s.told[i].canceled.IsZero() {
				e.at, e.spilled, e.waits = l.From, true, e.reason != "expired"
				entries[i] = append(entries[i], e)
			}
		}
	}
	return entries
}

// read reads a dead letter, but for what is not in it.
func (s *soak) read(t *testing.T, text string) (int, entry) {
	t.Helper()
	var it struct {
		DeliveryID string    `json:"delivery_id"`
		Reason     string    `json:"reason"`
		ExpiresAt  time.Time `json:"expires_at"`
		Message    struct {
			Body int `json:"body,string"`
		} `json:"message"`
	}
	if err := json.Unmarshal([]byte(text), &it); err != nil {
		t.Fatalf("dead letter %s: %v", text, err)
	}
	i := it.Message.Body
	if i < 0 || i >= len(s.w.class) || s.w.id(i) != it.DeliveryID {
		t.Fatalf("a dead letter belongs to no delivery: %s", text)
	}
	return i, entry{reason: it.Reason, expires: it.ExpiresAt}
}

// spilled are the objects that the queue is still to take.
func (s *soak) spilled() []locals3.Life {
	return slices.DeleteFunc(s.bucket.Lives("journal", journalFolder+"/spill/"), func(l locals3.Life) bool { return !l.Until.IsZero() })
}

// result is the account of a run.
type result struct {
	accepted, delivered, deadLettered, refused int
	both, duplicates                           int
	reused, evicted                            int
	handedBackEvents, storedAndHandedBack      int
	replayed, notReplayed                      int
	acceptedAsync, returned                    int
	canceled, mayHaveArrived, already, missed  int
	expired                                    int // dead letters whose time was over
	marked, saidMarked                         int // those of them that the schedule marked; that it says it marked
	dropped                                    int // dead letters of canceled ones
	replaysKilled                              int
	refusedLate                                int // refused: their time was over
	late                                       int // requests that came after the expiry, and had begun before
	latest                                     time.Duration
	evictedWaiting                             int
	spills                                     int // dead letters that the journal had and the queue did not
	ordered                                    map[order]int
	apiKilled                                  int // processes of dlq-api
	bucket                                     *load.Bucket
	reasons                                    map[string]int
	faults                                     []string
}

// due is how many dead letters the schedule replays, if none of them expires first.
func (r *result) due() int {
	n := 0
	for reason, of := range r.reasons {
		if !held(reason) {
			n += of
		}
	}
	return n
}

// held reports whether a dead letter stays: an operator must decide, or its time is over.
func held(reason string) bool {
	return reason == "terminal" || reason == "invalid" || reason == "ambiguous" || reason == "expired"
}

func (r *result) fault(format string, args ...any) {
	if len(r.faults) < 20 {
		r.faults = append(r.faults, fmt.Sprintf(format, args...))
	}
}

// reconcile holds every delivery against what arrived and what is stored.
func (s *soak) reconcile(entries map[int][]entry, died map[int]bool, drops []time.Time, restarts [][2]time.Time) *result {
	r := &result{bucket: s.bucket, accepted: len(s.fates), evicted: int(s.evicted.Load()), evictedWaiting: int(s.evictedWaiting.Load()), reasons: map[string]int{}}
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for i, f := range s.fates {
		stored, arrived := entries[i], len(s.w.Arrivals(i))
		c := s.w.classOf(i)
		told := s.told[i]
		explained := c.blurred || f.killed || died[i] || s.log.unguarded[i] || s.log.unanswered[i]
		if f.acked && wayOf(i).accepted() {
			r.acceptedAsync++
		}
		r.handedBackEvents += f.handedBack
		for _, e := range stored {
			if r.reasons[e.reason]++; e.spilled {
				r.spills++
			}
		}
		switch {
		case len(stored) > 1:
			r.fault("%s (%s) is stored %d times", s.w.id(i), c.name, len(stored))
		case len(stored) == 1:
			r.deadLettered++
			if !told.canceled.IsZero() && !s.log.unguarded[i] {
				r.fault("%s (%s) was canceled, and is stored", s.w.id(i), c.name)
			}
		case !told.canceled.IsZero():
			r.canceled++
		case arrived > 0:
			r.delivered++
		case told.returned:
			r.returned++
		case f.acked:
			r.fault("%s (%s) is LOST: acknowledged, and neither arrived nor stored", s.w.id(i), c.name)
		default:
			r.refused++
			if told.late {
				r.refusedLate++
			}
			if !f.reused && !told.late && c.name != "invalid" {
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

// reconcileReplay checks that what was due has arrived and is gone, that what has expired is
// marked once, and that the rest is still there.
func (s *soak) reconcileReplay(t *testing.T, r *result, before, after map[int][]entry) {
	t.Helper()
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for i, stored := range before {
		it := stored[0]
		switch {
		case it.reason == "expired" && len(after[i]) == 1:
			r.expired++
		case !it.expires.IsZero() && it.expires.Before(time.Now()) && len(after[i]) == 1:
			r.expired++
			if r.marked++; !it.waits || after[i][0].waits {
				t.Errorf("%s (%s) is past its expiry: waits for its mark before the replays: %t, after them: %t", s.w.id(i), it.reason, it.waits, after[i][0].waits)
			}
		case held(it.reason) && len(after[i]) == 1: // for the operator
		case held(it.reason):
			t.Errorf("%s (%s) must wait for an operator and is gone", s.w.id(i), it.reason)
		case len(after[i]) > 0:
			t.Errorf("%s (%s) was due and is still there", s.w.id(i), it.reason)
		case len(s.w.Arrivals(i)) == 0 && s.log.unguarded[i] && !s.told[i].canceled.IsZero():
			r.dropped++ // it was canceled when somebody without its record stored it
		case len(s.w.Arrivals(i)) == 0:
			t.Errorf("%s (%s) is LOST: replayed and never arrived\n%s", s.w.id(i), it.reason, s.w.checker.History(s.w.unit(i)))
		default:
			r.replayed++
		}
	}
	if r.saidMarked > r.marked || r.saidMarked < r.marked && r.replaysKilled == 0 { // a killed one says nothing
		t.Errorf("%d dead letters were marked as expired, and the schedule counted %d", r.marked, r.saidMarked)
	}
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
	row("    their time was over", r.refusedLate)
	row("  canceled", r.canceled)
	row("    may have arrived", r.mayHaveArrived)
	row("    sent all the same, their records not available", r.missed)
	row("  given up by the queue", r.returned)
	row("accepted for later", r.acceptedAsync)
	row("canceled too late (ALREADY_DELIVERED)", r.already)
	row(fmt.Sprintf("began before their expiry, came within %s after", latest), r.late)
	row("  the latest", r.latest)
	row("records of accepted or canceled ones evicted", r.evictedWaiting)
	row("records evicted", r.evicted)
	row("dead letters spilled before the replays", r.spills)
	row("requests to the journal: slow by a second", r.bucket.Slow.Load())
	row("  failed", r.bucket.Failed.Load())
	row("  carried out without an answer", r.bucket.Cut.Load())
	row("handed back and sent again", r.handedBackEvents)
	row("stored and handed back, reply lost", r.storedAndHandedBack)
	row("arrived more than once, explained", r.duplicates)
	row("arrived and stored, explained", r.both)
	row("Redis restarts", restarts)
	row("processes killed", kills)
	row("Redis replies dropped", drops)
	row(fmt.Sprintf("replayed in %d runs, of which %d were killed", runs, r.replaysKilled), r.replayed)
	row("canceled before they were stored, and removed", r.dropped)
	for o := replayed; o <= inBulk; o++ {
		row("ordered by an operator: "+o.String(), r.ordered[o])
	}
	row("  processes of dlq-api killed meanwhile", r.apiKilled)
	row("left for the operator", r.notReplayed)
	row("expired among the dead letters", r.expired)
	row("  marked by the schedule", r.marked)
	lost := r.accepted - r.delivered - r.deadLettered - r.refused - r.canceled - r.returned
	_, _ = fmt.Fprintf(t, "\nsoak: accepted=%d delivered=%d dead_lettered=%d refused=%d canceled=%d handed_back=%d expired=%d accepted_async=%d lost=%d unexplained=%d\n",
		r.accepted, r.delivered, r.deadLettered, r.refused, r.canceled, r.returned, r.expired, r.acceptedAsync, lost, len(r.faults))
}
