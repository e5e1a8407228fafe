//go:build full

package console_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// journalSinks is what the API says of sinks with a journal: one whose queue is full, one whose queue
// was lost, one that is well.
func journalSinks(now time.Time) string {
	row := func(name, more string) string {
		return fmt.Sprintf(`{"name":%q,"kind":"webhook","state":"ok","configured":true,"parked":0,"kept":0,"trimmed":0,"paused":false,"waiting":0,"oldest_at":%q,"oldest_age_seconds":260,"retired":0,%s}`,
			name, now.Add(-260*time.Second).UTC().Format(time.RFC3339), more)
	}
	return `{"journal":true,"config_age_seconds":12,"sinks":[` +
		row("full", fmt.Sprintf(`"depth":100000,"due":100000,"spilled":1200,"spilled_as_of":%q,"unjournaled":3,"ending":40`, now.Format(time.RFC3339))) + "," +
		row("wiped", fmt.Sprintf(`"depth":2,"due":2,"spilled":0,"unjournaled":0,"ending":0,"queue_lost_since":%q`, now.Add(-5*time.Minute-5*time.Second).UTC().Format(time.RFC3339))) + "," +
		row("well", `"depth":0,"due":0,"spilled":0,"unjournaled":0,"ending":1`) + `]}`
}

// onJournal is an operation on the journal; counts are members of its JSON, of the whole and of the sink
// wiped.
func onJournal(id, action, status, counts string) string {
	return fmt.Sprintf(`{"id":%q,"action":%q,"status":%q,"created_at":"2026-01-01T00:00:00Z","total":0,"total_complete":false,"stop_after":0,"round":1,"settled":0,"delivered":0,"failed":0,`+
		`"skipped":0,"waiting":0,%[4]s,"sinks":{"full":{"done":%[5]v,"settled":0,"delivered":0,"failed":0,"discarded":0,"skipped":0,"waiting":0},"wiped":{"done":true,"settled":0,"delivered":0,"failed":0,"skipped":0,"waiting":0,%[4]s}}}`,
		id, action, status, counts, status == "completed")
}

// What waits in the journal shows beside the queue, and a queue that was lost says what to do.
func TestTheJournalShows(t *testing.T) {
	const (
		id       = "op-0198f0c2-7d4e-7c3a-9b1e-2f6a54c1d00"
		restored = `"discarded":0,"restore":{"restored":4100,"present":900,"skipped":20,"spilled":0,"damaged":1,"full":true}`
		audited  = `"discarded":0,"audit":{"letters":5000,"queued":4990,"spilled":4,"ending":3,"unjournaled":2,"lost":3,"damaged":0}`
		erased   = `"discarded":12,"erase":{"erased":2,"versions":7,"unreadable":1,"damaged":0}`
	)
	ops := map[string]string{
		"1": onJournal(id+"1", "restore", "running", restored),
		"2": onJournal(id+"2", "audit", "completed", audited),
		"3": onJournal(id+"3", "erase", "completed", erased),
	}
	api := routes{
		"GET /v1/sinks":          says(journalSinks(time.Now())),
		"GET /v1/dlq/groups":     says(noCare),
		"GET /v1/dlq/histogram":  says(noHistogram),
		"GET /v1/dlq/items":      says(list("null")),
		"GET /v1/dlq/operations": says(`{"operations":[` + ops["1"] + "," + ops["2"] + "," + ops["3"] + `]}`),
		"GET /v1/deliveries": says(`{"sink":"full","delivery_id":"d1","status":"dead_lettered","spilled":true,"updated_at":"2026-01-01T00:00:10Z","attempts":5,"next":{"event":"return","state":"due"},` +
			`"timeline":[{"at":"2026-01-01T00:00:10Z","event":"dead_lettered","detail":"exhausted after 5 attempts: HTTP 503"},{"at":"2026-01-01T00:00:10Z","event":"spilled","detail":"the queue did not take it: it waits in the journal for room there"}]}`),
	}
	api["POST /v1/dlq/operations"] = func(w http.ResponseWriter, _ *http.Request, body string) {
		switch body {
		case `{"action":"restore","dry_run":true}`:
			_, _ = io.WriteString(w, `{"dry_run":true,"action":"restore","count":4100,"expired":0,"complete":false,"scanned":5000,"sample":[],"looked":0,"by_sink":{"wiped":4100},`+
				`"restore":{"restored":4100,"present":900,"skipped":0,"spilled":0,"damaged":0,"full":false}}`)
		case `{"action":"restore"}`:
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, ops["1"])
		default:
			t.Errorf("asked for %s", body)
		}
	}
	for n, op := range ops {
		api["GET /v1/dlq/operations/"+id+n] = says(op)
	}
	p := newTab(t, start(t, api.serve(t)).URL)
	seen := func(name string) {
		t.Helper()
		for _, v := range []struct {
			name          string
			width, height int64
			scheme        string
		}{{name, 1280, 1100, "light"}, {name + "-dark", 1280, 1100, "dark"}, {name + "-phone", 390, 1400, "light"}} {
			p.look(v.width, v.height, v.scheme)
			p.picture(v.name)
			p.accessible(v.name)
			if eval[bool](p, "document.documentElement.scrollWidth > window.innerWidth") {
				t.Errorf("%s: wider than the screen", v.name)
			}
		}
		p.look(1280, 1100, "light")
	}
	p.says("The queue lost dead letters of wiped, found 5 min ago.", "backstop dlq restore", "queue lost", "1,200 spilled", "wait in the journal for room",
		"In the journal: 3 dead letters to be written, 41 to be deleted; the schedule does it.")
	if n := strings.Count(p.text("main"), "spilled"); n != 1 {
		t.Errorf("spilled is said %d times, want once: of the sink that is full", n)
	}
	seen("journal")
	p.click("button", "Restore…")
	p.says("At least 4,100 dead letters will be brought back from the journal.", "Only 5,000 dead letters of the journal were looked at", "What is in the queue stays as it is.")
	p.look(1280, 1100, "dark")
	p.picture("journal-restore-dark")
	p.accessible("journal-restore-dark")
	p.click("button", "Restore 4,100")
	p.says("Running: 1 of 2 sinks.", "4,100 restored, 900 in the queue already")
	p.click("dialog button", "Close")
	p.look(1280, 1100, "light")

	p.goTo("#/operations")
	p.says("Restore what the queue lacks", "Audit queue and journal", "Erase a recipient's dead letters", "1 of 2 sinks", "2 of 2 sinks",
		"4,100 restored, 900 in the queue already, 20 ended meanwhile, 1 damaged", "5,000 letters, 4,990 queued", "3 lost", "12 removed from the queue, 2 from the journal alone, 7 old versions, 1 unreadable")
	seen("journal-operations")
	for n, want := range map[string][]string{
		"1": {"Running: 1 of 2 sinks.", "The queue is full: it goes on when there is room.", "1 damaged.", "In the queue already"},
		"2": {"Completed: 5,000 letters", "3 lost.", "Bring them back with backstop dlq restore.", "Unjournaled"},
		"3": {"Completed: 12 removed from the queue", "1 unreadable.", "whose they are nobody knows", "Old versions"},
	} {
		p.goTo("#/operations/" + id + n)
		p.says(want...)
		seen("journal-operation-" + n)
	}

	p.goTo("#/deliveries?sink=full&id=d1")
	p.says("waits in the journal for room in the queue", "Spilled", "it comes into the queue by itself, once there is room; then the schedule replays it")
	seen("journal-delivery")
}
