package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"backstop/lib/dlq"
	"backstop/lib/journal"
	"backstop/lib/replay"
)

// journaled is a queue that says of every sink what it knows of its journal.
type journaled struct {
	queue
	retired int64
	view    dlq.JournalView
}

func (q journaled) StatsOf(ctx context.Context, sinks []string) ([]dlq.Stats, error) {
	all := make([]dlq.Stats, len(sinks))
	for i, sink := range sinks {
		var err error
		if all[i], err = q.Stats(ctx, sink); err != nil {
			return nil, err
		}
	}
	return all, nil
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

// keep puts a journal in dir beside a new, empty queue. Called again it stands for a queue that was wiped.
func (f *fixture) keep(t *testing.T, dir string) {
	t.Helper()
	store, bucket := dlq.NewMemory(dlq.WithJournal()), journal.NewFolder(dir)
	q := journal.NewQueue(store, bucket, journal.Options{Log: f.app.Log})
	f.app.Queue, f.app.Engine.Store = q, q
	f.app.Engine.Journal = &journal.Keeper{Queue: store, Bucket: bucket, Back: f.app.Engine.BringBack, Log: f.app.Log}
	f.api = newAPI(f.app, nil, nil)
}

// onJournal is an operation on the journal, or a dry run of it.
type onJournal struct {
	ID, Status, Action string
	Since              string
	Count              int
	Complete           bool
	BySink             map[string]int `json:"by_sink"`
	Discarded          int
	Restore            *struct{ Restored, Present, Skipped, Spilled, Damaged int }
	Audit              *struct{ Letters, Queued, Spilled, Ending, Unjournaled, Lost, Damaged int }
	Erase              *struct{ Erased, Versions, Unreadable, Damaged int }
	Sinks              map[string]struct {
		Done    bool
		Restore *struct{ Restored int }
	}
}

// operate asks for an operation, has it worked on, and returns it as it is then.
func (f *fixture) operate(t *testing.T, request string) (op onJournal) {
	t.Helper()
	f.ask(t, "POST", "/v1/dlq/operations", request).want(202, "").into(&op)
	if _, err := f.app.Engine.Run(t.Context(), replay.Request{Operation: op.ID}); err != nil {
		t.Fatal(err)
	}
	f.ask(t, "GET", "/v1/dlq/operations/"+op.ID, "").want(200, "").into(&op)
	if op.Status != "completed" {
		t.Errorf("%s: %+v, want it completed", request, op)
	}
	return op
}

// A queue that was wiped has everything again, and a second restore changes nothing.
func TestALostQueueIsRestored(t *testing.T) {
	f := newFixture(t)
	dir := t.TempDir()
	f.keep(t, dir)
	for n := range 3 {
		f.add(t, item(n))
	}
	f.keep(t, dir)
	var body struct{ Journal bool }
	f.ask(t, "GET", "/v1/sinks", "").want(200, "").into(&body)
	if !body.Journal {
		t.Error("that there is a journal is not shown")
	}

	var dry onJournal
	f.ask(t, "POST", "/v1/dlq/operations", `{"action":"restore","dry_run":true}`).want(200, "").into(&dry)
	if dry.Count != 3 || !dry.Complete || dry.BySink["hook"] != 3 || dry.Restore == nil || dry.Restore.Restored != 3 {
		t.Errorf("dry run: %+v, want 3 of the hook", dry)
	}
	if n, err := f.app.Queue.Count(t.Context(), ""); err != nil || n != 0 {
		t.Errorf("%d dead letters after a dry run, %v", n, err)
	}
	if op := f.operate(t, `{"action":"restore","since":"2026-01-01T00:00:00Z","reason":"INC-44"}`); op.Restore == nil || op.Restore.Restored != 3 || op.Restore.Damaged != 0 ||
		op.Since != "2026-01-01T00:00:00Z" || !op.Sinks["hook"].Done || op.Sinks["hook"].Restore.Restored != 3 {
		t.Errorf("restored: %+v, want 3 of the hook", op)
	}
	if op := f.operate(t, `{"action":"restore"}`); op.Restore.Restored != 0 || op.Restore.Present != 3 {
		t.Errorf("restored again: %+v, want all there", op.Restore)
	}
	if n, err := f.app.Queue.Count(t.Context(), "hook"); err != nil || n != 3 {
		t.Errorf("%d dead letters, %v; want 3", n, err)
	}
	if op := f.operate(t, `{"action":"audit"}`); op.Audit == nil || op.Audit.Letters != 3 || op.Audit.Queued != 3 || op.Audit.Lost != 0 || op.Audit.Damaged != 0 {
		t.Errorf("audited: %+v, want 3 in the queue", op.Audit)
	}
}

// A person's dead letters go from queue and journal, and nothing but the request names the person.
func TestAPersonIsErased(t *testing.T) {
	f := newFixture(t)
	dir := t.TempDir()
	f.keep(t, dir)
	const who, ask = "Ann@Example.com", `{"action":"erase","recipient":" ann@example.COM "`
	for n := range 4 {
		it := item(n)
		if n > 0 {
			it.Recipient = json.RawMessage(`{"url":"https://elsewhere.example","for":["` + who + `"]}`)
		}
		f.add(t, it)
	}
	var log bytes.Buffer
	f.app.Log = slog.New(slog.NewTextHandler(&log, nil))
	f.app.Engine.Log = f.app.Log
	said := func(what, text string) {
		t.Helper()
		if strings.Contains(strings.ToLower(text), strings.ToLower(who)) {
			t.Errorf("%s names the recipient: %s", what, text)
		}
	}
	r := f.ask(t, "POST", "/v1/dlq/operations", ask+`,"dry_run":true}`).want(200, "")
	var dry onJournal
	said("the dry run", r.Body.String())
	r.into(&dry)
	if dry.Count != 3 || dry.BySink["hook"] != 3 || dry.Erase == nil {
		t.Errorf("dry run: %+v, want 3", dry)
	}
	op := f.operate(t, ask+`,"reason":"request 17"}`)
	if op.Discarded != 3 || op.Erase == nil || op.Erase.Unreadable != 0 || op.Erase.Damaged != 0 {
		t.Errorf("erased: %+v, want 3", op)
	}
	for _, path := range []string{"/v1/dlq/operations", "/v1/dlq/operations/" + op.ID} {
		said(path, f.ask(t, "GET", path, "").want(200, "").Body.String())
	}
	said("the log", log.String())
	if !strings.Contains(log.String(), "operation created") {
		t.Error("the log says nothing of the operation: the test proves nothing")
	}
	f.keep(t, dir)
	if op := f.operate(t, `{"action":"restore"}`); op.Restore.Restored != 1 {
		t.Errorf("after a wipe %+v came back, want the other one's alone", op.Restore)
	}
}

// What an action does not take is named, and refused; a recipient is not repeated.
func TestWhatAnActionOnTheJournalTakes(t *testing.T) {
	f := newFixture(t)
	const who = "ann@example.com"
	refused := func(request, field string) {
		t.Helper()
		r := f.ask(t, "POST", "/v1/dlq/operations", request).want(400, "INVALID_ARGUMENT")
		var p struct{ Detail string }
		r.into(&p)
		if !strings.Contains(p.Detail, field) || strings.Contains(r.Body.String(), who) {
			t.Errorf("%s: %s; want %s named, and nobody else", request, p.Detail, field)
		}
	}
	refused(`{"action":"restore"}`, "there is no journal")
	refused(`{"action":"audit"}`, "there is no journal")
	f.keep(t, t.TempDir())
	for request, field := range map[string]string{
		`{"action":"restore","all":true}`:                                                  "all: ",
		`{"action":"restore","filter":{"sink":"hook"}}`:                                    "filter: ",
		`{"action":"restore","stop_after":3}`:                                              "stop_after: ",
		`{"action":"restore","since":"yesterday"}`:                                         "since",
		`{"action":"restore","recipient":"` + who + `"}`:                                   "recipient: ",
		`{"action":"audit","dry_run":true}`:                                                "dry_run: ",
		`{"action":"audit","since":"2026-01-01T00:00:00Z"}`:                                "since: ",
		`{"action":"replay","all":true,"since":"2026-01-01T00:00:00Z"}`:                    "since: ",
		`{"action":"discard","all":true,"recipient":"` + who + `"}`:                        "recipient: ",
		`{"action":"erase"}`:                                                               "recipient: ",
		`{"action":"erase","recipient":"  "}`:                                              "recipient: ",
		`{"action":"erase","recipient":{"address":"` + who + `"}}`:                         "recipient",
		`{"action":"erase","recipient":"` + who + `","ids":["hook~1-0"]}`:                  "ids: ",
		`{"action":"erase","recipient":"` + who + `","reason":"asked by ANN@example.com"}`: "reason: ",
		`{"action":"erase","recipient":"` + strings.Repeat("x", maxRecipient+1) + `"}`:     "recipient: ",
	} {
		refused(request, field)
	}
}
