package handler

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"backstop/lib/dlq"
)

// journaled is a queue that says of every sink what it knows of its journal.
type journaled struct {
	queue
	retired int64
	view    dlq.JournalView
}

func (q journaled) Stats(ctx context.Context, sink string) (dlq.Stats, error) {
	s, err := q.queue.Stats(ctx, sink)
	s.Retired, s.Journal = q.retired, q.view
	return s, err
}

// What waits in the journal, and what it lacks, is shown; a queue that lost dead letters says since
// when. Without a journal the counts are there, and are zero.
func TestASinkShowsItsJournal(t *testing.T) {
	f := newFixture(t)
	f.add(t, item(1))
	shown := func() map[string]any {
		t.Helper()
		var got struct{ Sinks []map[string]any }
		f.ask(t, "GET", "/v1/sinks", "").want(200, "").into(&got)
		sinks := map[string]map[string]any{}
		for _, s := range got.Sinks {
			name, _ := s["name"].(string)
			sinks[name] = s
		}
		hook := sinks["hook"]
		maps.DeleteFunc(hook, func(name string, _ any) bool {
			return !slices.Contains([]string{"retired", "spilled", "spilled_as_of", "unjournaled", "ending", "queue_lost_since"}, name)
		})
		return hook
	}
	want := func(what, text string) {
		t.Helper()
		b, err := json.Marshal(shown())
		if err != nil || string(b) != text {
			t.Errorf("%s: %s (%v), want %s", what, b, err, text)
		}
	}
	want("without a journal", `{"ending":0,"retired":0,"spilled":0,"unjournaled":0}`)
	at := time.Date(2026, 1, 1, 2, 3, 4, 0, time.UTC)
	f.read(t, journaled{f.app.Queue, 5, dlq.JournalView{
		JournalNotes: dlq.JournalNotes{Spilled: 1200, SpilledAt: at, LostAt: at.Add(time.Hour)}, Known: true, Unjournaled: 2, Ending: 3,
	}})
	want("with one", `{"ending":3,"queue_lost_since":"2026-01-01T03:03:04Z","retired":5,"spilled":1200,"spilled_as_of":"2026-01-01T02:03:04Z","unjournaled":2}`)
}
