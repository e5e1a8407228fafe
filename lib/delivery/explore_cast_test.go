package delivery_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/replay"
)

var replayOptions = replay.OneOptions{}

// cast is who plays, and on what.
type cast struct {
	name    string
	actors  []string
	letter  mode          // how its first attempt failed, which left a dead letter; empty: there is none
	queued  bool          // that attempt was of a message of the queue for later
	expires time.Duration // 0: never
	faults  int           // in a short test
	full    int           // in a full one
	// told must have been told in some run, or the cast shows nothing.
	told []string
}

// parts are what actors do, by the first word of their name.
var parts = map[string]struct {
	run   func(*actor)
	first thing
	ready func(*world) bool
}{
	"acceptor": {accepts, records, nil},
	"sender":   {delivers, records, nil},
	"canceler": {cancels, records, nil},
	"arrival":  {receives, everything, func(w *world) bool { return len(w.queue) > 0 }},
	"replay":   {replays, letters, func(w *world) bool { return w.hasLetter() }},
}

func (w *world) hasLetter() bool {
	n, err := w.letters.Count(context.Background(), "ops")
	return err == nil && n > 0
}

// prepare sets the stage. It is called in a bubble.
func (c cast) prepare(w *world) {
	w.stage = stage{records: delivery.NewMemory(0), letters: dlq.NewMemory()}
	if c.expires > 0 {
		w.expires = w.began.Add(c.expires)
	}
	if c.letter != "" {
		a := &actor{name: "before", w: w, free: true, sends: c.letter}
		a.within(func(ctx context.Context) {
			r := w.request()
			if r.Queued = c.queued; r.Queued {
				r.AcceptedAt = w.began
			}
			answer, err := a.sender().Deliver(ctx, r)
			w.tell(a, answer, err)
		})
	}
	w.noted = c.queued
	for _, name := range c.actors {
		p := parts[strings.Fields(name)[0]]
		a := &actor{name: name, w: w, run: p.run, first: p.first}
		if p.ready != nil {
			a.ready = func() bool { return p.ready(w) }
		}
		w.actors = append(w.actors, a)
	}
}

// Casts of processes run in every order of their calls, with as many faults as a short test has
// time for: replies that are lost, calls that never arrive, processes that die, and leases and
// messages whose time is over. TestEveryOrderOfStepsWithMoreFaults takes minutes.
func TestEveryOrderOfSteps(t *testing.T) {
	for _, c := range casts {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.play(t, c.faults)
		})
	}
}

// play runs every schedule with at most so many faults.
func (c cast) play(t *testing.T, most int) {
	t.Helper()
	began := time.Now()
	e := &explorer{faults: most, seen: map[string]int{}}
	for more := true; more; more = e.another() {
		var w *world
		synctest.Test(t, func(t *testing.T) { w = e.explore(t, c) })
		if len(w.broken) > 0 {
			t.Fatalf("%s\nafter\n  %s\nrecord %v, told %+v, canceled %s", strings.Join(w.broken, "\n"), show(w.made), w.statuses, w.told, showCancels(w.asked))
		}
		w.tally(e.seen)
	}
	t.Logf("%d faults: %d schedules of up to %d steps in %v (%d given up as the same), told %v",
		most, e.runs, e.longest, time.Since(began).Round(time.Millisecond), e.cut, counts(e.seen))
	for _, want := range c.told {
		if e.seen[want] == 0 {
			t.Errorf("no schedule told %q: the cast shows too little", want)
		}
	}
}

func counts(m map[string]int) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "\n  %s: %d", k, m[k])
	}
	return b.String()
}

func show(made []choice) string {
	var s []string
	for _, c := range made {
		s = append(s, c.String())
	}
	return strings.Join(s, "\n  ")
}

func showCancels(all []*cancel) string {
	var s []string
	for _, c := range all {
		s = append(s, fmt.Sprintf("%+v", *c))
	}
	return strings.Join(s, "; ")
}

var casts = []cast{
	{
		name: "accepted, arrives, canceled", actors: []string{"acceptor", "arrival", "canceler"}, faults: 1, full: 2,
		told: []string{"answer accepted", "answer canceled", "answer delivered", "cancel ALREADY_DELIVERED", "cancel DELIVERY_IN_PROGRESS", "canceled", "canceled, may have arrived"},
	},
	{
		name: "accepted, expires, arrives, canceled", actors: []string{"acceptor", "arrival", "canceler"}, expires: 20 * time.Second, full: 1,
		told: []string{"answer accepted", "answer dead_lettered", "canceled"},
	},
	{
		name: "accepted, arrives twice, canceled", actors: []string{"acceptor", "arrival", "arrival 2", "canceler"},
		told: []string{"answer accepted", "answer DELIVERY_IN_PROGRESS", "canceled"},
	},
	{
		name: "accepted twice, arrives, canceled", actors: []string{"acceptor", "acceptor 2", "arrival", "canceler"},
		told: []string{"answer accepted", "answer DELIVERY_IN_PROGRESS", "canceled"},
	},
	{
		name: "accepted, arrives, canceled twice", actors: []string{"acceptor", "arrival", "canceler", "canceler 2"},
		told: []string{"answer accepted", "canceled"},
	},
	{
		name: "sent at once, twice, canceled", actors: []string{"sender", "sender 2", "canceler"}, faults: 1,
		told: []string{"answer delivered", "answer dead_lettered", "answer canceled", "answer DELIVERY_IN_PROGRESS", "cancel ALREADY_DELIVERED", "canceled", "canceled, may have arrived"},
	},
	{
		name: "sent at once, expires, taken over, canceled", actors: []string{"sender", "sender 2", "canceler"}, expires: 20 * time.Second,
		told: []string{"answer delivered", "answer INVALID_ARGUMENT", "canceled"},
	},
	{
		name: "dead letter replayed, canceled", actors: []string{"replay", "canceler"}, letter: refusing, faults: 1, full: 2,
		told: []string{"canceled", "canceled, may have arrived", "cancel ITEM_LEASED", "cancel ALREADY_DELIVERED", "replay"},
	},
	{
		name: "dead letter expires, replayed, canceled", actors: []string{"replay", "canceler"}, letter: refusing, expires: 20 * time.Second, full: 1,
		told: []string{"canceled", "cancel ITEM_LEASED", "cancel ALREADY_DELIVERED", "replay", "replay INVALID_ARGUMENT"},
	},
	{
		name: "dead letter of the queue replayed, canceled twice", actors: []string{"replay", "canceler", "canceler 2"}, letter: refusing, queued: true,
		told: []string{"canceled", "cancel ITEM_LEASED", "cancel ALREADY_DELIVERED", "replay"},
	},
	{
		name: "ambiguous dead letter replayed, sent again, canceled", actors: []string{"replay", "sender", "canceler"}, letter: ambiguous, full: 1,
		told: []string{"canceled, may have arrived", "cancel ITEM_LEASED", "cancel ALREADY_DELIVERED", "replay"},
	},
	{
		name: "dead letter replayed twice, canceled", actors: []string{"replay", "replay 2", "canceler"}, letter: refusing,
		told: []string{"canceled", "cancel ITEM_LEASED", "cancel ALREADY_DELIVERED", "replay"},
	},
}
