package handler

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"backstop/internal/app"
	"backstop/lib/delivery"
	"backstop/lib/dlq"
	"backstop/lib/fault"
	"backstop/lib/replay"
)

func newBroken(t *testing.T) (*app.App, error) {
	t.Helper()
	a, err := app.New(context.Background())
	if err == nil {
		t.Fatal("want a broken environment")
	}
	return a, err
}

type imported struct {
	Stored, Exists, Skipped, Rejected, Failed int
	Results                                   []struct {
		Line              int
		Status, ID, Error string
		DeliveryID        string `json:"delivery_id"`
	}
}

func (f *fixture) importLines(tb testing.TB, body string) imported {
	tb.Helper()
	var got imported
	f.ask(tb, "POST", "/v1/dlq/import", body, "Content-Type", "application/x-ndjson").want(200, "").into(&got)
	return got
}

func (f *fixture) export(tb testing.TB, query string) string {
	tb.Helper()
	var all strings.Builder
	for cursor := ""; ; {
		r := f.ask(tb, "GET", "/v1/dlq/export?limit=7&"+query+"&cursor="+cursor, "").want(200, "")
		all.WriteString(r.Body.String())
		if cursor = r.Header().Get("Backstop-Next-Cursor"); cursor == "" {
			return all.String()
		}
	}
}

// everyKind fills the queue with what an export can meet.
func everyKind(t *testing.T, f *fixture) {
	t.Helper()
	for n := range 20 {
		it := item(n)
		it.At = time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC)
		it.FirstFailedAt = it.At.Add(-time.Second)
		it.Recipient = json.RawMessage(`{"url":"https://receiver.example/<b>"}`)
		it.Message.Metadata = map[string]string{"X-Tenant": "acme"}
		it.Trace = "trace"
		switch n % 4 {
		case 1:
			it.Reason = dlq.ReasonTerminal
		case 2:
			it.NotBefore = time.Now().UTC().Add(24 * time.Hour).Truncate(time.Millisecond)
		case 3:
			it.Sink, it.Origin, it.Replays = "spare", "spare~1-1", 3
		}
		f.add(t, it)
	}
}

func (f *fixture) items(tb testing.TB) []dlq.Item {
	tb.Helper()
	all, err := f.app.Queue.Items(context.Background(), "", 0)
	if err != nil {
		tb.Fatal(err)
	}
	slices.SortFunc(all, func(a, b dlq.Item) int { return strings.Compare(a.DeliveryID, b.DeliveryID) })
	return all
}

func TestAnExportImportedElsewhereIsTheSame(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			from, to := open(t), open(t)
			everyKind(t, from)
			lines := from.export(t, "")
			if got := to.importLines(t, lines); got.Stored != 20 || len(got.Results) != 20 {
				t.Fatalf("imported: %+v", got)
			}
			if diff := cmp.Diff(from.items(t), to.items(t), cmpopts.IgnoreFields(dlq.Item{}, "ID"), cmpopts.EquateApproxTime(5*time.Second)); diff != "" {
				t.Errorf("not the same: %s", diff)
			}
			// Whole, again, with another line between, and after some were replayed in vain.
			to.status.Store(503)
			if _, err := to.app.Engine.Run(t.Context(), replay.Request{}); err != nil {
				t.Fatal(err)
			}
			if got := to.importLines(t, lines+"\n\n"+lines); got.Exists != 40 || got.Stored != 0 || got.Results[20].Line != 23 {
				t.Errorf("imported again: %+v", got)
			}
			if got := from.importLines(t, from.export(t, "sink=hook")); got.Exists != 15 || got.Stored != 0 {
				t.Errorf("imported where it comes from: %+v", got)
			}
			if n := len(to.items(t)); n != 20 {
				t.Errorf("%d items, want 20", n)
			}
		})
	}
}

func TestAnItemThatWasReplayedIsNotStoredTwiceWhereItStillIs(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			id := f.add(t, item(1)).ID
			f.status.Store(503)
			f.ask(t, "POST", "/v1/dlq/items/"+id+"/replay", "").want(200, "")
			lines := f.export(t, "")
			if got := f.importLines(t, lines); got.Exists != 1 {
				t.Errorf("got %+v, want that it exists: %s", got, lines)
			}
			// Given up by mistake: it comes back with its replays counted.
			f.ask(t, "DELETE", "/v1/dlq/items/"+id, "").want(204, "")
			if got := f.importLines(t, lines); got.Stored != 1 {
				t.Errorf("after the discard: %+v, want it stored", got)
			}
			if all := f.items(t); len(all) != 1 || all[0].Replays != 1 || len(all[0].History) != 0 {
				t.Errorf("it came back as %+v", all)
			}
		})
	}
}

func TestWhatTheScheduleMustLeaveAloneStaysSo(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			from, to := open(t), open(t)
			want := map[string]dlq.Action{}
			var settle []dlq.Settlement
			for n, action := range []dlq.Action{dlq.ActionPark, dlq.ActionHold, dlq.ActionPark} {
				it := item(n)
				if n == 2 {
					it.Reason = dlq.ReasonTerminal
				}
				it = from.add(t, it)
				want[it.DeliveryID] = action
				leased, err := from.app.Queue.Claim(t.Context(), dlq.Claim{Sink: it.Sink, IDs: []string{it.ID}, TTL: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				settle = append(settle, dlq.Settlement{Lease: leased[0].Lease, Action: action, Error: "HTTP 404", Charge: true})
			}
			if _, err := from.app.Queue.Settle(t.Context(), settle); err != nil {
				t.Fatal(err)
			}
			lines := from.export(t, "")
			for range 2 {
				to.importLines(t, lines)
				if _, err := to.app.Engine.Run(t.Context(), replay.Request{}); err != nil {
					t.Fatal(err)
				}
			}
			all := to.items(t)
			if len(all) != 3 || to.got.Load() != 0 {
				t.Errorf("%d items, %d sent; want 3 and none", len(all), to.got.Load())
			}
			for _, it := range all {
				if it.Parked != (want[it.DeliveryID] == dlq.ActionPark) || it.Held != (want[it.DeliveryID] == dlq.ActionHold) || it.Replays != 1 {
					t.Errorf("%s: %+v, want %s", it.DeliveryID, it, want[it.DeliveryID])
				}
				if len(it.History) != 1 || !strings.Contains(it.History[0].Error, "HTTP 404") {
					t.Errorf("%s: history %+v, want why", it.DeliveryID, it.History)
				}
			}
			// What an operator made of it since then counts.
			to.ask(t, "POST", "/v1/dlq/items/"+all[0].ID+"/unpark", "").want(200, "")
			to.importLines(t, lines)
			if it := to.items(t)[0]; it.Parked || !it.State(time.Now()).Scheduled() {
				t.Errorf("an import parked it again: %+v", it)
			}
		})
	}
}

func TestAnInterruptedImportIsFinishedByItsRepetition(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			it := item(1)
			it.Parked = true
			b, err := encode(it)
			if err != nil {
				t.Fatal(err)
			}
			// The state after the push, when the process ended there.
			pushed := it
			pushed.NotBefore = time.Now().UTC().Add(30 * time.Minute).Truncate(time.Millisecond)
			f.add(t, pushed)
			if got := f.importLines(t, string(b)); got.Exists != 1 {
				t.Errorf("got %+v", got)
			}
			if all := f.items(t); len(all) != 1 || !all[0].Parked {
				t.Errorf("got %+v, want it parked", all)
			}
		})
	}
}

func TestADeliveredItemIsNotImported(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			from, to := open(t), open(t)
			id := from.add(t, item(1)).ID
			before := from.export(t, "")
			from.ask(t, "POST", "/v1/dlq/items/"+id+"/replay", `{"on_success":"keep"}`).want(200, "")
			if got := to.importLines(t, from.export(t, "")); got.Skipped != 1 {
				t.Errorf("got %+v, want it skipped", got)
			}
			if got := from.importLines(t, before); got.Exists != 1 {
				t.Errorf("an old export, while it is kept: %+v, want that it exists", got)
			}

			// The record knows of a delivery that left nothing else.
			told := func(it dlq.Item, s delivery.Status) {
				t.Helper()
				if _, err := to.app.Records.Update(t.Context(), delivery.ChangeOf(it, s)); err != nil {
					t.Fatal(err)
				}
			}
			other := item(1)
			other.Sink, other.Message.Body = "spare", "other content"
			told(other, delivery.StatusDelivered)
			told(item(1), delivery.StatusDelivered)
			if got := to.importLines(t, before); got.Skipped != 1 {
				t.Errorf("got %+v, want it skipped for its record", got)
			}
			// One that was discarded is a dead letter again, and the record says so.
			elsewhere := item(1)
			elsewhere.Sink = "spare" // where the same id was delivered with other content
			told(elsewhere, delivery.StatusDiscarded)
			b, err := encode(elsewhere)
			if err != nil {
				t.Fatal(err)
			}
			if got := to.importLines(t, string(b)); got.Stored != 1 {
				t.Errorf("got %+v, want it stored, for what was delivered is other content", got)
			}
			to = open(t)
			told(item(1), delivery.StatusDiscarded)
			if got := to.importLines(t, before); got.Stored != 1 {
				t.Errorf("got %+v, want it stored", got)
			}
			var rec struct{ Status string }
			to.ask(t, "GET", "/v1/deliveries?sink=hook&id=d1", "").want(200, "").into(&rec)
			if rec.Status != "dead_lettered" {
				t.Errorf("the record says %s", rec.Status)
			}
		})
	}
}

// An import is repeated while the schedule works on what it stored before: nothing is sent
// twice, and what became of each is known.
func TestARepeatedImportSkipsWhatWasReplayedMeanwhile(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			from, to := open(t), open(t)
			for n := range 3 {
				from.add(t, item(n))
			}
			lines := from.export(t, "")
			if got := to.importLines(t, lines); got.Stored != 3 {
				t.Fatalf("got %+v", got)
			}
			status := func(id string) string {
				var rec struct{ Status string }
				to.ask(t, "GET", "/v1/deliveries?sink=hook&id="+id, "").want(200, "").into(&rec)
				return rec.Status
			}
			if got := status("d0"); got != "dead_lettered" {
				t.Errorf("imported: %s", got)
			}
			to.ask(t, "DELETE", "/v1/dlq/items/"+to.items(t)[2].ID, "").want(204, "")
			if got := status("d2"); got != "discarded" {
				t.Errorf("discarded: %s", got)
			}
			if _, err := to.app.Engine.Run(t.Context(), replay.Request{}); err != nil {
				t.Fatal(err)
			}
			if got := status("d0"); got != "delivered" {
				t.Errorf("replayed: %s", got)
			}
			if got := to.importLines(t, lines); got.Skipped != 2 || got.Stored != 1 {
				t.Errorf("again: %+v, want two skipped, and the discarded one back", got)
			}
			// A dead letter that is gone without a word is not said to be there.
			again := item(7)
			to.add(t, again)
			if _, err := to.app.Records.Update(t.Context(), delivery.ChangeOf(again, delivery.StatusDeadLettered)); err != nil {
				t.Fatal(err)
			}
			if got := status("d7"); got != "dead_lettered" {
				t.Errorf("while it is there: %s", got)
			}
			for _, it := range to.items(t) {
				if it.DeliveryID == "d7" {
					if err := to.app.Queue.Discard(t.Context(), it.ID); err != nil {
						t.Fatal(err)
					}
				}
			}
			to.ask(t, "GET", "/v1/deliveries?sink=hook&id=d7", "").want(404, "SINK_DLQ_NOT_FOUND")

			if _, err := to.app.Engine.Run(t.Context(), replay.Request{}); err != nil {
				t.Fatal(err)
			}
			if n := to.got.Load(); n != 3 {
				t.Errorf("%d messages were sent, want 3", n)
			}
		})
	}
}

// replaying is a queue in which a replay ends between an import's look and its push.
type replaying struct {
	dlq.Store
	before func()
}

func (r replaying) AddBatch(ctx context.Context, items []dlq.Item) ([]dlq.Item, []error) {
	r.before()
	return r.Store.AddBatch(ctx, items)
}

func TestAReplayThatEndsDuringAnImportIsNotUndone(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			queue := f.app.Queue
			stored := f.add(t, item(1))
			lines := f.export(t, "")
			f.app.Engine.Store = replaying{queue, func() {
				if _, err := f.app.Engine.Run(context.Background(), replay.Request{}); err != nil {
					t.Error(err)
				}
			}}
			lines = strings.ReplaceAll(lines, stored.ID, "hook~1-1") // an older export's id
			if got := f.importLines(t, lines); got.Skipped != 1 || got.Stored != 0 {
				t.Errorf("got %+v, want it skipped", got)
			}
			if n := len(f.items(t)); n != 0 || f.got.Load() != 1 {
				t.Errorf("%d items are left, %d were sent; want none and one", n, f.got.Load())
			}
		})
	}
}

// Two lines of one delivery id and other content are two dead letters.
func TestLinesOfOneIDAndOtherContentAreBothStored(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			one, two := item(1), item(1)
			two.Message.Body = "other content"
			var lines string
			for _, it := range []dlq.Item{one, two, one} {
				b, err := encode(it)
				if err != nil {
					t.Fatal(err)
				}
				lines += string(b)
			}
			if got := f.importLines(t, lines); got.Stored != 2 || got.Exists != 1 {
				t.Errorf("got %+v, want two stored and the third there", got)
			}
			if all := f.items(t); len(all) != 2 || all[0].Message.Body == all[1].Message.Body {
				t.Errorf("stored %+v", all)
			}
		})
	}
}

// What was due oldest first still is, though an export is newest first.
func TestAnImportKeepsTheOrder(t *testing.T) {
	for name, open := range backends {
		t.Run(name, func(t *testing.T) {
			from, to := open(t), open(t)
			var want []string
			for n := range 20 {
				want = append(want, from.add(t, item(n)).DeliveryID)
			}
			to.importLines(t, from.export(t, ""))
			leased, err := to.app.Queue.Claim(t.Context(), dlq.Claim{Sink: "hook", Limit: 50, TTL: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range leased {
				got = append(got, l.Item.DeliveryID)
			}
			if !slices.Equal(got, want) {
				t.Errorf("due: %v, want %v", got, want)
			}
		})
	}
}

func TestBadLinesAreRejectedByNameAndTheOthersStored(t *testing.T) {
	f := newFixture(t)
	good, err := encode(item(1))
	if err != nil {
		t.Fatal(err)
	}
	lines := []struct{ text, names string }{
		{`{`, "line"},
		{`7`, "line"},
		{`{}`, "sink"},
		{`{"sink":"A b","message":{"body":"x"}}`, "A b"},
		{`{"sink":"hook"}`, "message"},
		{`{"sink":"hook","message":{"body":"x"},"replays":-1}`, "replays"},
		{`{"sink":"hook","message":{"body":"x"},"colour":"red"}`, "colour"},
		{`{"sink":"hook","message":{"body":7}}`, "body"},
		{`{"sink":"hook","at":"today","message":{"body":"x"}}`, "at: want a time"},
		{`{"sink":"hook","message":{"body":"x"}} {}`, "more follows"},
		{`{"sink":"hook","message":{"body":""},"raw":"{","decode_error":"no"}`, "decode_error"},
	}
	var body bytes.Buffer
	for _, l := range lines {
		fmt.Fprintln(&body, l.text)
	}
	body.Write(good)
	got := f.importLines(t, body.String())
	if got.Rejected != len(lines) || got.Stored != 1 {
		t.Errorf("got %+v", got)
	}
	for i, l := range lines {
		if r := got.Results[i]; r.Status != "rejected" || r.Line != i+1 || !strings.Contains(r.Error, l.names) {
			t.Errorf("%s: %+v, want it rejected by %q", l.text, r, l.names)
		}
	}
	if n := len(f.items(t)); n != 1 {
		t.Errorf("%d items, want 1", n)
	}
	f.ask(t, "POST", "/v1/dlq/import", strings.Repeat("{}\n", 1001)).want(400, "INVALID_ARGUMENT")
	f.ask(t, "POST", "/v1/dlq/import", strings.Repeat(" ", 4<<20+1)).want(413, "BODY_TOO_LARGE")
	if got := f.importLines(t, "\n \n"); len(got.Results) != 0 {
		t.Errorf("an empty import: %+v", got)
	}
}

// failing is a queue that cannot be reached.
type failing struct{ dlq.Store }

var errDown = &fault.Error{Code: fault.CodeDLQUnavailable, Msg: "down"}

func (failing) AddBatch(_ context.Context, items []dlq.Item) ([]dlq.Item, []error) {
	errs := make([]error, len(items))
	for i := range errs {
		errs[i] = errDown
	}
	return make([]dlq.Item, len(items)), errs
}

func TestAnImportThatStoresNothingIsAProblem(t *testing.T) {
	f := newFixture(t)
	b, err := encode(item(1))
	if err != nil {
		t.Fatal(err)
	}
	f.app.Engine.Store = failing{f.app.Queue}
	f.ask(t, "POST", "/v1/dlq/import", string(b)).want(503, "SINK_DLQ_UNAVAILABLE")
	if got := f.importLines(t, string(b)+"{}\n"); got.Failed != 1 || got.Rejected != 1 {
		t.Errorf("got %+v, want one failed and one rejected", got)
	}
}

// A line is read as it is written, or refused by the name of the field; numbers that no
// export has are not taken.
func TestAnImportLineIsReadStrictly(t *testing.T) {
	f := newFixture(t)
	const ok = `{"sink":"hook","message":{"body":"x"}}`
	for line, says := range map[string]string{
		`{"sink":"hook","SINK":"spare","message":{"body":"x"}}`:                    "SINK: unknown field; write it as sink",
		`{"sink":"hook","sink":"spare","message":{"body":"x"}}`:                    "sink: given twice",
		`{"sink":"hook","message":{"body":"x","Body":"y"}}`:                        "message.Body: unknown field; write it as body",
		`{"sink":"hook","Message":{"body":"x"}}`:                                   "Message: unknown field; write it as message",
		`{"sink":"hook","message":{"body":"x"},"recipient":{"url":"a","url":"b"}}`: "recipient.url: given twice",
		"{\"sink\":\"hook\",\"message\":{\"body\":\"caf\xe9\"}}":                   "message.body: not valid UTF-8",
		"{\"sink\":\"hook\",\"message\":{\"body\":\"x\"},\"recipient\":\"\xe9\"}":  "recipient: not valid UTF-8",
		`{"sink":"hook","message":{"body":"x"},"replays":9223372036854775807}`:     "replays",
		`{"sink":"hook","message":{"body":"x"},"replays":1000001}`:                 "replays",
		`{"sink":"hook","message":{"body":"x"},"replays":-1}`:                      "replays",
		`{"sink":"hook","message":{"body":"x"},"attempts":9223372036854775807}`:    "attempts",
		`{"sink":"hook","message":{"body":"x"},"attempts":-1}`:                     "attempts",
		`{"sink":"hook","message":{"body":"x"},"replays":"1"}`:                     "replays: want a whole number, got a string",
		`{"sink":"hook","message":"x"}`:                                            "message: want an object, got a string",
		`{"sink":"hook","message":{"body":"x"},"at":"yesterday"}`:                  "at: want a time such as",
		`{"sink":"hook"} {"sink":"hook"}`:                                          "line: more follows",
		`[]`:                                                                       "line: want an object, got an array",
	} {
		got := f.importLines(t, ok+"\n"+line+"\n")
		if got.Rejected != 1 || len(got.Results) != 2 || !strings.Contains(got.Results[1].Error, says) {
			t.Errorf("%s: %+v, want it rejected with %q", line, got, says)
		}
	}
	if got := f.importLines(t, `{"sink":"hook","delivery_id":"often","message":{"body":"x"},"replays":1000000,"attempts":1000000}`); got.Stored != 1 {
		t.Errorf("the largest numbers: %+v, want it stored", got)
	}
}
