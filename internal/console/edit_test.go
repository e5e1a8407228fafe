//go:build full

package console_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
)

const (
	oldID = "hook~1767225600000-0"
	newID = "hook~1767225700000-0"
)

// oneLetter is a dead letter in full; more are members of it.
func oneLetter(id, more string) string {
	return `{"id":"` + id + `","delivery_id":"d-1","sink":"hook","at":"2026-01-01T00:00:47Z","first_failed_at":"2026-01-01T00:00:33Z","state":"waiting","attempts":5,` +
		`"message":{"id":"d-1","subject":"Hello","body":"one\r\ntwo\r\nthree\r\n","metadata":{"tenant":"t3"}},"recipient":{"url":"https://receiver.example.org"},` +
		`"last_error":"SINK_UNAVAILABLE: HTTP 400","reason":"terminal"` + more + `}`
}

func status(code int, body string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, _ *http.Request, _ string) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

// listed is what views need besides what a test is about; more comes on top.
func listed(more routes) routes {
	out := routes{"GET /v1/sinks": says(aSink), "GET /v1/deliveries": unknown, "GET /v1/dlq/groups": says(noCare), "GET /v1/dlq/items": says(list("null")), "GET /v1/dlq/histogram": says(noHistogram)}
	maps.Copy(out, more)
	return out
}

var unknown = status(http.StatusNotFound, `{"type":"urn:x","title":"No such dead letter","status":404,"code":"SINK_DLQ_NOT_FOUND"}`)

// set types over what a field of a dialog has, as one does who selects all first.
func (p *tab) set(label, text string) {
	p.t.Helper()
	p.click("input, textarea", label)
	eval[bool](p, "(document.activeElement.select(), true)")
	p.keys(text)
}

// What is edited is shown as a difference first; only what changed is sent, with the line ends that it
// had; and the answer leads to the dead letter that was made of it.
func TestEditShowsWhatChangesAndSendsThat(t *testing.T) {
	var sent atomic.Pointer[string]
	var superseded atomic.Bool
	two := strings.Replace(aSink, `}]}`, `},{"name":"spare","kind":"webhook","configured":true,"depth":0,"due":0,"parked":0,"kept":0,"trimmed":0,"paused":false}]}`, 1)
	p := newTab(t, start(t, listed(routes{
		"GET /v1/sinks": says(two),
		"GET /v1/dlq/items/" + oldID: func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.Header().Set("ETag", `"7"`)
			more := ""
			if superseded.Load() {
				more = `,"superseded_by":"` + newID + `"`
			}
			_, _ = io.WriteString(w, oneLetter(oldID, more))
		},
		"GET /v1/dlq/items/" + newID: says(oneLetter(newID, `,"origin":"`+oldID+`"`)),
		"POST /v1/dlq/items/" + oldID + "/replay": func(w http.ResponseWriter, r *http.Request, body string) {
			sent.Store(new(r.Header.Get("If-Match") + body))
			superseded.Store(true)
			_, _ = io.WriteString(w, `{"id":"`+newID+`","status":"failed","sink":"spare","error":"SINK_UNAVAILABLE: HTTP 503","superseded_by":"`+newID+`"}`)
		},
	}).serve(t)).URL)
	p.goTo("#/items/" + oldID)
	p.click("button", "Edit and replay…")
	p.says("Another dead letter is made with these changes")
	p.accessible("the editor")
	p.click("button", "Review changes…")
	p.says("Nothing is changed.")
	p.set("Metadata (a JSON object of texts)", `{"tenant":4}`)
	p.click("button", "Review changes…")
	p.says("the value of tenant must be a text, in quotes")
	p.set("Metadata (a JSON object of texts)", `{"tenant"`)
	p.click("button", "Review changes…")
	p.says("Metadata is not JSON")
	p.set("Metadata (a JSON object of texts)", `{"tenant":"t4"}`)
	p.set("Body", "one\n2\nthree\n")
	p.choose("Send through", "spare")
	p.click("button", "Review changes…")
	p.says("What changes:")
	p.accessible("the difference")
	if got, want := eval[[]string](p, `[...document.querySelectorAll(".diff h3")].map((e) => e.innerText)`), []string{"Body", "Metadata", "Sink"}; !reflect.DeepEqual(got, want) {
		t.Errorf("changes of %q are shown, want %q", got, want)
	}
	lines := `[...document.querySelectorAll("[aria-label='Changes: Body'] .lines > *")].map((e) => e.localName + " " + e.lastChild.textContent)`
	if got, want := eval[[]string](p, lines), []string{"div one␍", "del two␍", "ins 2␍", "div three␍", "div  "}; !reflect.DeepEqual(got, want) {
		t.Errorf("the body's difference is %q, want %q", got, want)
	}
	p.click("button", "Back to editing")
	if got := eval[string](p, `document.querySelector("dialog textarea").value`); got != "one\n2\nthree\n" {
		t.Errorf("back in the editor the body is %q", got)
	}
	p.click("button", "Review changes…")
	p.click("button", "Replay edited")
	p.says("What was made of it failed, and stays in the queue.", "HTTP 503", "It is sent in this one's place: "+newID)
	body, tagged := strings.CutPrefix(*sent.Load(), `"7"`)
	var got any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"on_success": "discard", "sink": "spare", "message": map[string]any{"body": "one\r\n2\r\nthree\r\n", "metadata": map[string]any{"tenant": "t4"}}}
	if !tagged || !reflect.DeepEqual(got, want) {
		t.Errorf("sent %s, want If-Match and %v", body, want)
	}
	p.click("dialog button", "Close")
	p.says("superseded", "Another was made of it, and is sent in its place: "+newID)
	if eval[bool](p, `Boolean(document.querySelector("[data-key=edit]"))`) {
		t.Error("what is superseded is offered to be edited")
	}
	p.accessible("a superseded dead letter")
	p.click("a", newID)
	p.says("Dead letter "+newID, "Came from", oldID)
}

// A dead letter tells its way by its delivery's record where there is one, else by itself; with the time
// between its steps, and what comes.
func TestADeadLetterTellsItsWay(t *testing.T) {
	history := `,"history":[{"at":"2026-01-01T00:05:47Z","error":"SINK_UNAVAILABLE: HTTP 503"},{"at":"2026-01-01T02:05:47Z","error":"SINK_UNAVAILABLE: HTTP 500"}]`
	letter := strings.Replace(oneLetter(oldID, history+`,"next_replay_at":"2099-01-01T00:00:00Z","expires_at":"2099-02-01T00:00:00Z"`), `"waiting"`, `"scheduled"`, 1)
	var record atomic.Pointer[string] // nil: there is none
	p := newTab(t, start(t, listed(routes{
		"GET /v1/dlq/items/" + oldID: says(letter),
		"GET /v1/deliveries": func(w http.ResponseWriter, r *http.Request, body string) {
			if rec := record.Load(); rec != nil {
				_, _ = io.WriteString(w, *rec)
				return
			}
			unknown(w, r, body)
		},
	}).serve(t)).URL)
	way := func(want ...string) {
		t.Helper()
		got := eval[[]string](p, `[...document.querySelectorAll("ol.way > li > p:first-child")].map((e) => e.innerText.trim())`)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("its way is\n%q, want\n%q", got, want)
		}
	}
	p.goTo("#/items/" + oldID)
	way("First attempt failed", "Dead-lettered +14 s", "Replay failed +5 min", "Replay failed +2 h", "Next", "Expires")
	p.says("terminal after 5 attempts: SINK_UNAVAILABLE: HTTP 400", "the schedule replays it: ")

	record.Store(new(`{"sink":"hook","delivery_id":"d-1","status":"dead_lettered","item_id":"` + oldID + `","attempts":6,"next":{"event":"operator","state":"parked"},"timeline":[` +
		`{"at":"2025-12-31T23:00:00Z","event":"accepted"},{"at":"2026-01-01T00:00:31Z","event":"began"},{"at":"2026-01-01T00:00:47Z","event":"dead_lettered","detail":"terminal"},` +
		`{"at":"2026-01-01T00:00:46Z","event":"died","detail":"its lease ran out"},{"at":"2026-01-03T03:00:46Z","event":"parked"}]}`))
	p.goTo("#/nowhere")
	p.goTo("#/items/" + oldID)
	way("Accepted", "Sending began +1 h", "First attempt failed +2 s", "Dead-lettered +14 s", "Replay died", "Parked +2 d 3 h", "Next")

	record.Store(new(`{"sink":"hook","delivery_id":"d-1","status":"delivered","attempts":7,"timeline":[{"at":"2026-01-03T03:00:46Z","event":"delivered"}]}`))
	p.goTo("#/nowhere")
	p.goTo("#/items/" + oldID)
	p.says("Its delivery has a record of its own (delivered): its whole way")
	way("First attempt failed", "Dead-lettered +14 s", "Replay failed +5 min", "Replay failed +2 h", "Next", "Expires")
}

// What is copied is said, and is a line that a shell takes.
func TestCopies(t *testing.T) {
	api := listed(routes{
		"GET /v1/dlq/items/" + oldID: says(strings.Replace(oneLetter(oldID, ""), `"d-1"`, `"it's"`, 1)),
	}).serve(t)
	p := newTab(t, start(t, api).URL)
	p.goTo("#/items/" + oldID)
	eval[bool](p, `(navigator.clipboard.writeText = async (text) => { window.copied = text; }, true)`)
	for name, want := range map[string]string{
		"id": oldID, "delivery id": "it's", "body": "one\r\ntwo\r\nthree\r\n",
		"as curl":     "curl -sS " + api + "/v1/dlq/items/" + oldID,
		"as CLI line": "backstop dlq show " + oldID + " --api " + api,
	} {
		p.click("button", "Copy "+name)
		p.wait("the word copied", `[...document.querySelectorAll("button.copied")].some((e) => e.getAttribute("aria-label") === "Copy `+name+`" && e.innerText === "copied")`)
		if got := eval[string](p, "window.copied"); got != want {
			t.Errorf("%s: copied %q, want %q", name, got, want)
		}
	}
	p.click("button", "Replay…")
	p.click("input", "Keep it, marked as delivered")
	for name, want := range map[string]string{
		"as curl":     "curl -sS " + api + "/v1/dlq/items/" + oldID + `/replay --json '{"on_success":"keep"}'`,
		"as CLI line": "backstop dlq replay " + oldID + " --on-success keep --api " + api,
	} {
		p.click("button", "Copy "+name)
		if got := eval[string](p, "window.copied"); got != want {
			t.Errorf("%s: copied %q, want %q", name, got, want)
		}
	}
}

// A filter by metadata is a list of keys and values, each of which can be taken away; a refusal leaves
// the filter where it can be put right.
func TestFilterByMetadata(t *testing.T) {
	var asked atomic.Pointer[[]string]
	p := newTab(t, start(t, listed(routes{
		"GET /v1/dlq/items": func(w http.ResponseWriter, r *http.Request, _ string) {
			asked.Store(new(r.URL.Query()["meta"]))
			if r.URL.Query().Get("group") == "bad" {
				status(http.StatusBadRequest, `{"type":"urn:x","title":"The request is wrong","status":400,"detail":"no group has this id","code":"INVALID_ARGUMENT"}`)(w, r, "")
				return
			}
			_, _ = io.WriteString(w, list("null", aLetter("1-0", "2026-01-01T00:00:00Z")))
		},
		"POST /v1/dlq/operations": func(w http.ResponseWriter, _ *http.Request, body string) {
			if want := `"filter":{"meta":{"tenant":"t=3","shop":"a b"}}`; !strings.Contains(body, want) {
				t.Errorf("the operation is %s, want %s in it", body, want)
			}
			_, _ = io.WriteString(w, dry)
		},
	}).serve(t)).URL)
	p.goTo("#/items")
	p.click("summary", "Metadata, delivery id, time, cause")
	p.typeIn("Metadata", "tenant=t=3\r")
	p.at("#/items?meta=tenant%3Dt%3D3")
	p.typeIn("Metadata", "shop=a b\r")
	p.at("#/items?meta=tenant%3Dt%3D3&meta=shop%3Da+b")
	if got, want := *asked.Load(), []string{"tenant=t=3", "shop=a b"}; !reflect.DeepEqual(got, want) {
		t.Errorf("asked for %q, want %q", got, want)
	}
	p.click("button", "Replay all…")
	p.says("2 dead letters will be sent again.", "metadata tenant=t=3, shop=a b")
	p.click("dialog button", "Cancel")
	p.click("a.chip", "Remove the filter metadata tenant=t=3 ×")
	p.at("#/items?meta=shop%3Da+b")

	p.goTo("#/items?group=bad")
	p.says("no group has this id")
	p.click("a.chip", "Remove the filter group bad ×")
	p.at("#/items")
	p.says("1 dead letter, newest first.")
}
